# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest: its initramfs, its disk of tools, and the emulator that runs it."""
import fcntl
import os
import shutil
import subprocess
import tempfile
import time

from platforms import HEAP_STEP, HERE, Missing, memory_ahead, need, output

CACHE = os.environ.get("FASTBOOT_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fastboot"
)
# Loaded before the application, and behind its back. What is built in, or not
# there because it is built in elsewhere, is left out.
EARLY_MODULES = ["virtio_pci", "nd_pmem"]  # and the platform's
CHANNEL_MODULES = ["virtio_console"]
TOOL_MODULES = ["virtio_blk", "erofs"]
LATE_MODULES = ["nd_btt", "dax_pmem", "device_dax", "kmem", "overlay"]
TOOLS = ["dash", "busybox", "dd", "tar", "ndctl", "daxctl", "kexec", "kmod"]
APPLETS = ["cat", "cut", "date", "echo", "find", "grep", "head", "ls", "mkdir", "mount"]
APPLETS += ["mv", "ps", "reboot", "rm", "sed", "seq", "sleep", "sync", "truncate"]
APPLETS += ["umount", "uname", "wc", "dmesg", "kill", "true", "printf"]

CONFIGURATION = """\
[state bench]
path = /state
[kexec]
kernel = /t/boot/vmlinuz
initrd = /t/boot/initrd
[restore]
mode = lazy
[hooks]
quiesce = /bin/quiesce
resume = /bin/resume
"""


# --- what goes into the guest ---------------------------------------------------


def copy(path, to):
    os.makedirs(os.path.dirname(to), exist_ok=True)
    shutil.copy(os.path.realpath(path), to)


def release_of(kernel):
    base = os.path.join(kernel, "lib/modules")
    names = sorted(os.listdir(base)) if os.path.isdir(base) else []
    return names[0] if names else None


def module_files(kernel, names):
    """The modules and what they need, each behind what it needs."""
    release, files = release_of(kernel), []
    for name in names if release else []:
        with tempfile.TemporaryDirectory() as none:
            done = subprocess.run(
                [need("modprobe"), "-C", none, "-d", kernel, "-S", release, "--show-depends", name],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        for line in done.stdout.decode().splitlines():
            words = line.split()
            if words and words[0] == "insmod" and words[1] not in files:
                files.append(words[1])
    return files


def unpack_module(path, to):
    os.makedirs(os.path.dirname(to), exist_ok=True)
    tools = {".xz": ["xz", "-dc"], ".zst": ["zstd", "-qdc"]}
    command = tools.get(os.path.splitext(path)[1], ["cat"])
    with open(to, "wb") as f:
        subprocess.run(command + [path], stdout=f, check=True)


def plain_name(path):
    """nd_pmem.ko.xz -> nd_pmem.ko"""
    return os.path.basename(path).split(".ko")[0] + ".ko"


def list_modules(root, kernel, name, modules):
    os.makedirs(f"{root}/bench", exist_ok=True)
    with open(f"{root}/bench/{name}", "w", encoding="utf-8") as f:
        for path in module_files(kernel, modules):
            to = f"/bench/{plain_name(path)}"
            unpack_module(path, root + to)
            f.write(to + "\n")


def archive(root, to, front=None):
    names = subprocess.run(["find", ".", "-print0"], cwd=root, stdout=subprocess.PIPE, check=True)
    cpio = output("cpio", "-0", "-o", "-H", "newc", "--quiet", "-R", "0:0",
                  cwd=root, input=b"\0".join(sorted(names.stdout.split(b"\0")[:-1])) + b"\0")
    packed = output("lz4", "-l", "-9", "-q", "-c", input=cpio)
    with open(to, "wb") as f:
        if front:
            with open(front, "rb") as other:
                shutil.copyfileobj(other, f)
            f.write(b"\0" * (-f.tell() % 4))
        f.write(packed)


class Images:
    """What the guest boots from, in `out`: vmlinuz, initrd, tools.erofs."""

    def __init__(self, out, kernel, platform, initrd=None):
        self.out, self.kernel, self.platform = out, kernel, platform
        self.fastboot = platform.fastboot
        self.early = platform.modules + EARLY_MODULES
        self.vmlinuz = os.path.join(kernel, "vmlinuz")
        if not os.access(self.vmlinuz, os.R_OK):
            raise Missing(f"{kernel}: there is no vmlinuz in it")
        for program in (self.fastboot, f"{self.fastboot}-init"):
            if not os.access(program, os.X_OK):
                raise Missing(f"{program} is not built: {platform.build}")
        self.initrd = os.path.join(out, "initrd")
        self.tools = os.path.join(out, "tools.erofs")
        self.khz = platform.counter_khz(out)
        program = platform.compile_static(["bench/guest.c", "bench/state.c"], f"{out}/guest")
        with tempfile.TemporaryDirectory() as tmp:
            self.make_initrd(f"{tmp}/initrd", program, initrd)
            self.make_tools(f"{tmp}/tools")

    def make_initrd(self, root, program, front):
        for name in ("bin", "dev", "proc", "sys", "run", "etc", "t", "root", "tmp"):
            os.makedirs(f"{root}/{name}")
        for name in ("lib", "lib64", "usr", "sbin"):
            os.symlink(f"t/{name}", f"{root}/{name}")
        os.symlink("../t/bin/sh", f"{root}/bin/sh")
        copy(program, f"{root}/bin/bench")
        copy(f"{self.fastboot}-init", f"{root}/bin/fastboot-init")
        for name in ("quiesce", "resume"):
            os.symlink("bench", f"{root}/bin/{name}")
        os.makedirs(f"{root}/bench")
        os.symlink("../bin/bench", f"{root}/bench/init")
        with open(f"{root}/etc/fastboot.conf", "w", encoding="utf-8") as f:
            f.write(CONFIGURATION)
        list_modules(root, self.kernel, "modules", self.early)
        self.has_early_modules = os.path.getsize(f"{root}/bench/modules") > 0
        list_modules(root, self.kernel, "modules.channel", CHANNEL_MODULES)
        list_modules(root, self.kernel, "modules.tools", TOOL_MODULES)
        archive(root, self.initrd, front)

    def put(self, root, path, to):
        """A program with the libraries it needs, where it looks for them."""
        copy(path, root + to)
        for library, where in self.platform.libraries(path):
            if not os.path.exists(root + where):
                copy(library, root + where)

    def make_tools(self, root):
        os.makedirs(f"{root}/bin")
        os.symlink("bin", f"{root}/sbin")
        for name in TOOLS:
            self.put(root, self.platform.program(name), f"/bin/{name}")
        os.symlink("dash", f"{root}/bin/sh")
        os.symlink("kmod", f"{root}/bin/modprobe")
        for name in APPLETS:
            os.symlink("busybox", f"{root}/bin/{name}")
        self.put(root, self.fastboot, "/bin/fastboot")
        copy(os.path.join(HERE, "by-hand"), f"{root}/bin/by-hand")
        os.chmod(f"{root}/bin/by-hand", 0o755)
        copy(self.vmlinuz, f"{root}/boot/vmlinuz")
        copy(self.initrd, f"{root}/boot/initrd")
        self.put_modules(root)
        if os.path.exists(self.tools):
            os.unlink(self.tools)
        output(need("mkfs.erofs"), "-x-1", self.tools, root)

    def put_modules(self, root):
        release = release_of(self.kernel)
        if not release:
            return
        base = f"{self.kernel}/lib/modules/{release}/"
        for path in module_files(self.kernel, self.early + CHANNEL_MODULES + TOOL_MODULES + LATE_MODULES):
            inside = os.path.dirname(path.split(f"lib/modules/{release}/", 1)[1])
            unpack_module(path, f"{root}/lib/modules/{release}/{inside}/{plain_name(path)}")
        for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            if os.path.exists(base + name):
                copy(base + name, f"{root}/lib/modules/{release}/{name}")
        os.makedirs(f"{root}/lib/modules/{release}", exist_ok=True)
        output(need("depmod"), "-b", root, release)


# --- the emulator -----------------------------------------------------------------


def take_slot(say):
    """One of the machine's slots for guests, as scripts/vm takes them. The
    descriptor holds it."""
    slots = int(os.environ.get("FASTBOOT_VM_SLOTS", "2"))
    os.makedirs(f"{CACHE}/slots", exist_ok=True)
    said = False
    while True:
        for n in range(1, slots + 1):
            fd = os.open(f"{CACHE}/slots/{n}", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                os.close(fd)
        if not said:
            say(f"waiting: all {slots} slots for guests are taken")
            said = True
        time.sleep(1)


def line_with(text, signs):
    for sign in signs:
        at = text.find(sign)
        if at >= 0:
            return text[at:].strip().split("\n", 1)[0].strip()
    return None


class Guest:
    """One emulated machine. Once started it goes on through resets and kexecs."""

    def __init__(self, images, out, region):
        self.images, self.out = images, out
        self.machine = images.platform.command(out, region)
        self.sockets = tempfile.mkdtemp(prefix="fastboot-bench.")
        self.console = os.path.join(out, "console.log")
        self.started = 0
        self.process = None

    def command(self, line):
        app, control = f"{self.sockets}/app", f"{self.sockets}/control"
        return self.machine + memory_ahead() + [
            "-kernel", self.images.vmlinuz, "-initrd", self.images.initrd,
            "-append", line,
            "-chardev", f"file,id=con,path={self.console}", "-serial", "chardev:con",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=app,path={app},server=on,wait=off",
            "-device", "virtserialport,chardev=app,name=bench.app",
            "-chardev", f"socket,id=control,path={control},server=on,wait=off",
            "-device", "virtserialport,chardev=control,name=bench.control",
            "-blockdev", f"driver=file,filename={self.images.tools},node-name=tools,read-only=on",
            "-device", "virtio-blk-pci,drive=tools",
        ]

    def start(self, line):
        """With this kernel command line. Returns the paths of the sockets."""
        if os.path.exists(self.console):
            os.replace(self.console, f"{self.console}.{self.started}")
        self.started += 1
        log = open(os.path.join(self.out, "qemu.log"), "ab")  # pylint: disable=consider-using-with
        with log:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                self.command(line), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **HEAP_STEP})
        paths = [f"{self.sockets}/app", f"{self.sockets}/control"]
        deadline = time.monotonic() + 20
        while not all(os.path.exists(p) for p in paths):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Missing(f"QEMU does not start: see {self.out}/qemu.log")
            time.sleep(0.01)
        return paths

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        for name in ("app", "control"):
            if os.path.exists(f"{self.sockets}/{name}"):
                os.unlink(f"{self.sockets}/{name}")

    def close(self):
        self.stop()
        shutil.rmtree(self.sockets, ignore_errors=True)

    def console_text(self):
        try:
            with open(self.console, "r", encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def lost(self):
        """Why this guest is no more, or None."""
        if self.process.poll() is not None:
            return f"the emulator ended with status {self.process.returncode}"
        text = self.console_text()
        # QEMU's TCG now and then runs a stale breakpoint: see scripts/vm.
        return line_with(text, ("Oops: int3", "Kernel panic", "Oops:", "\nguest: "))

    def complaint(self):
        """What bench/guest.c had to say: no fault of the emulator's."""
        return line_with(self.console_text(), ("\nguest: ",))

    def stamps(self):
        """{name: counter}, the last of each that the console has."""
        found = {}
        for line in self.console_text().splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "bench:" and words[2].isdigit():
                found[words[1]] = int(words[2])
        return found

    def cpu_ticks(self):
        """Clock ticks of processor time that the emulator has used."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
