# SPDX-License-Identifier: GPL-2.0-or-later
"""What is different from one architecture to the other: the emulated machine,
its kernel's command line, and where programs for it come from."""
import ctypes
import functools
import os
import resource
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
REPO = os.path.dirname(HERE)
KIB = 1 << 10
# How much QEMU's heap grows by: more than a run takes.
HEAP_STEP = {"MALLOC_TOP_PAD_": str(64 << 20)}


@functools.lru_cache(maxsize=None)
def can_lock_memory():
    """As much as one likes: tried, because what is a privilege differs in containers."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY:
        return True
    size = ctypes.c_size_t(limit + (64 << 10))
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    memory = ctypes.c_void_p(libc.malloc(size) if limit < 1 << 30 else None)
    locked = bool(memory) and libc.mlock(memory, size) == 0
    libc.munlock(memory, size)
    libc.free(memory)
    return locked


def memory_ahead():
    """All memory before the guest runs, as a machine has it, and not found page by page in a
    blackout: the guest's, and where it can be locked also what QEMU needs for itself."""
    return ["-mem-prealloc"] + (["-overcommit", "mem-lock=on"] if can_lock_memory() else [])


class Missing(Exception):
    """Something that the run needs is not there."""


def output(*command, **options):
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **options
    )
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip()
        raise Missing(f"{' '.join(command[:4])} …: {text or done.returncode}")
    return done.stdout


def need(name):
    """A program of this machine."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise Missing(f"{name} is not installed: scripts/deps installs it")
    return path


def size_bytes(text):
    """2304M, as the kernel reads it."""
    units = {"K": 10, "M": 20, "G": 30}
    return int(text[:-1]) << units[text[-1]] if text[-1] in units else int(text, 0)


class Platform:
    """For another architecture than this machine's programs are those of
    scripts/sysroot, and the compiler is Debian's cross compiler."""

    name = machine = title = console = region = ""
    kexec = ""  # how kexec-tools loads a kernel that is checked by no digest
    timeout = 300  # seconds for one reboot, with what it copies
    modules = []
    first_words = "nokaslr"  # for the first kernel, which is not measured: see README.md

    def __init__(self):
        self.foreign = os.uname().machine != self.machine
        self.sysroot = None
        if self.foreign:
            self.sysroot = output(f"{REPO}/scripts/sysroot", self.name).decode().strip()
        variant = f"{self.name}-release" if self.foreign else "release"
        self.fastboot = os.environ.get("FASTBOOT_BIN") or f"{REPO}/build/{variant}/fastboot"
        self.build = f"make ARCH={self.name}" if self.foreign else "make"

    def kernel_name(self, series):
        """As scripts/kernel calls it."""
        return f"{self.name}-{series}" if self.foreign else series

    def program(self, name):
        """One that goes into the guest."""
        if not self.sysroot:
            return need(name)
        folders = [f"{self.sysroot}/{f}" for f in ("bin", "usr/bin", "sbin", "usr/sbin")]
        path = shutil.which(name, path=":".join(folders))
        if not path:
            raise Missing(f"{name} is not in {self.sysroot}: scripts/sysroot lists its packages")
        return path

    def libraries(self, path):
        """[(where, where in the guest)]"""
        option = ["--sysroot", self.sysroot] if self.sysroot else []
        lines = output(f"{REPO}/scripts/libraries", *option, path).decode().splitlines()
        return [line.split() for line in lines]

    def compile_static(self, sources, to):
        cc = [f"{self.machine}-linux-gnu-gcc"] if self.foreign else os.environ.get("CC", "cc").split()
        output(*cc, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-static", "-pthread",
               "-s", "-o", to, *(os.path.join(REPO, source) for source in sources))
        return to

    def counter_khz(self, out):
        """Of the counter that the guest's programs read."""
        raise NotImplementedError

    def words(self, khz, region):
        """Of the kernel command line."""
        raise NotImplementedError

    def command(self, out, region):
        """The emulator and the machine."""
        raise NotImplementedError


class X86(Platform):
    name, machine, console, region = "x86_64", "x86_64", "ttyS0", "2560M!4G"
    kexec = "-c -i"
    title = "QEMU q35, TCG, 2 CPUs, 8 GiB"
    modules = ["nd_e820"]
    # Without the last 256 MiB of the memory: the next kernel begins there.
    first_words = "nokaslr memmap=256M$0x270000000"

    def counter_khz(self, out):
        return int(output(self.compile_static(["kernel/measure.c"], f"{out}/measure"), "-f"))

    def words(self, khz, region):
        return f"lpj=4600000 tsc=reliable no_timer_check tsc_early_khz={khz} " \
            f"page_alloc.shuffle=1 libnvdimm.pagemap=0 memmap={region}"

    def command(self, out, region):
        return [need("qemu-system-x86_64"), "-accel", "tcg,thread=multi", "-cpu", "max,-erms,-fsrm",
                "-M", "q35", "-smp", "2", "-m", "8G", "-nodefaults", "-nographic"]


class Arm64(Platform):
    name, machine, console, region = "arm64", "aarch64", "ttyAMA0", "2304M!6912M"
    kexec = "-a -i"  # kexec_file_load, which makes none here, where the kernel has it
    timeout = 1200  # emulated on x86-64 it copies 2 GiB by hand in minutes
    title = "QEMU virt, TCG, 2 CPUs, 8 GiB"
    modules = ["of_pmem"]
    RAM = 1 << 30  # where it starts

    def counter_khz(self, out):
        return 62500  # CNTFRQ_EL0: GTIMER_SCALE, 16 ns, in QEMU's target/arm/cpu.h

    def words(self, khz, region):
        return f"libnvdimm.pagemap=0 mem={(size_bytes(region.split('!')[1]) - self.RAM) // KIB}K"

    def command(self, out, region):
        # As in scripts/vm.
        machine = [need("qemu-system-aarch64"), "-accel", "tcg,thread=multi",
                   "-cpu", "max,pauth-impdef=on,lpa2=off",
                   "-M", "virt", "-smp", "2", "-m", "8G", "-nodefaults", "-nographic"]
        output(f"{REPO}/scripts/vm-device-tree", region, f"{out}/region", *machine)
        return machine + ["-dtb", f"{out}/region.dtb"]


PLATFORMS = {p.name: p for p in (X86, Arm64)}


def native():
    """The name of this machine's, or x86_64."""
    return next((n for n, p in PLATFORMS.items() if p.machine == os.uname().machine), "x86_64")
