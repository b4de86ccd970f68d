# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways to reboot, each measured by the client, and the rounds of them."""
import os
import time

from client import Client, CommandFailed, GuestLost, State
from guest import Guest

WAYS = ("cold", "kexec", "hand", "fastboot")
PHASES = ("stop", "save", "switch", "kernel", "restore", "application")
TRIES = 4
BUSY_PERCENT = 15  # of one processor, used by others while a round ran
MIB = 1 << 20
FIRST = "/bench/init"  # process 1
BEGAN, VISIBLE, LEFT = 5, 15, 19  # phases of /run/fastboot/timeline


class Failed(Exception):
    """A way did not do what it must: wrong data, or a command that failed."""


class Cell:
    """What one line of the results is about."""

    def __init__(self, way, size, files, changed=0):
        self.way, self.size, self.files, self.changed = way, size, files, changed

    @property
    def stateless(self):
        return self.way in ("cold", "kexec")

    def key(self):
        if self.stateless:
            return self.way
        text = f"{self.way} {self.size // MIB} MiB {self.files} files"
        return text + (f" {self.changed // MIB} MiB changed" if self.changed else "")


class Processors:
    """Who used the machine's processors between two moments."""

    def __init__(self, guest):
        self.guest = guest
        self.begin = self.now()

    def now(self):
        with open("/proc/stat", encoding="ascii") as f:
            user, nice, system, _, _, irq, soft, steal = map(int, f.readline().split()[1:9])
        own = os.times()
        ticks = os.sysconf("SC_CLK_TCK")
        mine = (own.user + own.system + own.children_user + own.children_system) * ticks
        return (time.monotonic() * ticks, user + nice + system + irq + soft + steal,
                mine + self.guest.cpu_ticks())

    def others_percent(self):
        """Of one processor."""
        passed, busy, ours = (b - a for a, b in zip(self.begin, self.now()))
        return round(max(0.0, 100.0 * (busy - ours) / max(1.0, passed)), 1)


def kernel_line(settings, platform, khz):
    line = f"console={platform.console} panic=-1 quiet swiotlb=512"
    line += f" {platform.words(khz, settings.region)}"
    return f"{line} rdinit={FIRST} rdinit_early {settings.append}".strip()


class Machine:
    """
    A guest with its client, a new one for each measurement: QEMU keeps the code that it
    has translated, and a kernel that writes to memory where an earlier one had code
    waits for 10 to 20 µs for each block of it, 0.7 s for all of a kernel's. After a few
    reboots of one guest such code is all over its memory. No real machine has that.
    """

    def __init__(self, settings, images, say):
        self.settings, self.images, self.say = settings, images, say
        self.line = kernel_line(settings, images.platform, images.khz)
        self.guest = Guest(images, settings.out, settings.region)
        self.client = None
        self.lost = 0
        self.generation = 0
        self.answers = 0

    def start(self, cell):
        line = f"{self.line} bench.way=none"
        if cell.way != "cold":
            # The first kernel out of the next one's way. `cold` boots this line again,
            # and so elsewhere.
            line += f" {self.images.platform.first_words}"
        app, control = self.guest.start(line)
        self.client = Client(app, control, self.images.khz * 1000, self.guest.lost)
        self.client.run(lambda: self.client.ready and self.client.answers, 120, "the first boot")

    def stop(self):
        if self.client:
            self.answers += self.client.answers
            self.client.close()
            self.client = None
        self.guest.stop()

    def close(self):
        self.stop()
        self.guest.close()

    # --- before -------------------------------------------------------------------

    def has_fastboot_state(self):
        text = self.client.command("cat /run/fastboot/restore.json 2>/dev/null || true")
        return '"filling"' in text

    def without_state(self):
        """The application, answering out of nothing."""
        c = self.client
        c.command("bench quiesce")
        c.expect(State(256 * MIB, 1000, 1, 0))
        c.command(f"bench start {c.state.words('-')}")
        c.answering()

    def with_state(self, cell):
        """The region hot-added, then the state filled: both are in use."""
        c = self.client
        self.generation += 1
        state = State(cell.size, cell.files, self.generation % 250 + 1, 0)
        words = state.words("/state").replace(",", " ")
        c.command("bench quiesce")
        c.command("by-hand add" if cell.way == "hand" else "fastboot hotadd")
        c.command(f"mount -t tmpfs -o {self.tmpfs(False)} state /state && bench fill {words}",
                  self.settings.timeout)
        c.expect(state)
        c.command(f"bench start {state.words('/state')}")
        c.answering()

    @staticmethod
    def tmpfs(whole_pages):
        """`tar` writes files that grow: only huge=always gives them huge pages."""
        return f"size=90%,huge={'always' if whole_pages else 'within_size'}"

    def next_line(self, cell, state):
        """The next kernel's command line."""
        line = self.line
        if cell.stateless:
            return f"{line} bench.way=none bench.app={state.words('-')}"
        line += f" bench.way={cell.way} bench.app={state.words('/state')}"
        if cell.way == "hand":
            line += f" bench.tmpfs={self.tmpfs(cell.size // cell.files >= MIB)}"
            if cell.files == 1:
                line += f" bench.one={cell.size}"
        elif not self.images.has_early_modules:
            line += f" rdinit=/bin/fastboot-init fastboot.init={FIRST} fastboot.wait=no"
        return line

    # --- the ways ---------------------------------------------------------------------

    def leave_command(self, cell):
        """Prepares what can be prepared; returns the command that reboots."""
        c = self.client
        line = self.next_line(cell, c.state)
        # Whatever is read from the disk of tools is read before.
        c.command("cat /t/boot/vmlinuz /t/boot/initrd /t/bin/* /t/lib/*/* >/dev/null 2>&1 || true")
        if cell.way == "cold":
            return "bench quiesce; bench stamp leave; exec reboot -f"
        if cell.way == "kexec":
            c.command(f"kexec {self.images.platform.kexec} -l --initrd=/t/boot/initrd "
                      f"--command-line='{line}' /t/boot/vmlinuz")
            return "bench quiesce; bench stamp leave; exec kexec -e -x"
        if cell.way == "hand":
            return f"by-hand leave '{line}'"
        return f"fastboot reboot --now --command-line '{line}' >/run/bench/reboot.log 2>&1; " \
               "s=$?; cat /run/bench/reboot.log; exit $s"

    def change_before_quiesce(self, cell):
        c = self.client
        if not cell.changed:
            return
        c.changing = c.instance
        c.expect(c.state._replace(changed=cell.changed))
        c.command(f"echo {c.state.words('/state').replace(',', ' ')} >/run/bench/change")

    def memcpy_ms(self, cell):
        return int(self.client.command(f"bench memcpy {cell.changed // MIB}")) / 1000

    def verify(self, cell):
        """All of the state, not only what the client asked for."""
        c = self.client
        if cell.way == "fastboot":
            self.wait_drained()
        c.command(f"bench verify {c.state.words('/state').replace(',', ' ')}",
                  self.settings.timeout)

    def wait_drained(self):
        deadline = time.monotonic() + self.settings.timeout
        while self.has_fastboot_state():
            if time.monotonic() > deadline:
                raise Failed("the lazy restore does not end")
            time.sleep(0.2)

    def measure(self, cell):
        """One reboot; a dict for the results."""
        c = self.client
        memcpy = self.memcpy_ms(cell) if cell.changed else None
        if cell.stateless:
            self.without_state()
        else:
            self.with_state(cell)
        command = self.leave_command(cell)
        self.change_before_quiesce(cell)
        processors = Processors(self.guest)
        given = c.reboot(command, self.settings.timeout)
        others = processors.others_percent()
        last, old_clock = c.before
        first = c.first
        c.answering()
        own = self.timeline() if cell.way == "fastboot" else {}
        phases = self.phases(cell, own, last, first, old_clock)
        if not cell.stateless:
            self.verify(cell)
        if c.wrong:
            raise Failed(f"wrong answers: {'; '.join(c.wrong[:3])}")
        return {
            "way": cell.way, "size": 0 if cell.stateless else cell.size,
            "files": 0 if cell.stateless else cell.files, "changed": cell.changed,
            "blackout_ms": 1000 * (first - last), "whole_ms": 1000 * (first - given),
            "phases_ms": phases, "own_ms": self.own_ms(own), "memcpy_ms": memcpy,
            "others_percent": others, "busy": others > BUSY_PERCENT,
        }

    # --- what the guest says of the time between ------------------------------------------

    def phases(self, cell, own, last, first, old_clock):
        """{phase: ms}; a phase whose end is not known is part of the next."""
        old = {name: old_clock.when(counter) for name, counter in self.guest.stamps().items()}
        if LEFT in own:
            old["leave"] = old_clock.when(own[LEFT])
        new = self.stamps_after()
        ends = [old.get("stopped"), old.get("leave"), new.get("kernel"), new.get("run"),
                new.get("state"), first]
        result, begin = {}, last
        for name, end in zip(PHASES, ends):
            if end is not None and end <= first:
                # A late client may see the last answer after the end.
                result[name] = round(1000 * max(0.0, end - begin), 1)
                begin = max(begin, end)
        return result

    def timeline(self):
        """{phase: counter} of /run/fastboot/timeline: see SPEC.md."""
        stamps = {}
        for line in self.client.command("cat /run/fastboot/timeline").splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "stamp":
                stamps.setdefault(int(words[1]), int(words[2]))
        return stamps

    def own_ms(self, stamps):
        """The program's own figure: until a program can see the state."""
        if BEGAN not in stamps or VISIBLE not in stamps:
            return None
        return (stamps[VISIBLE] - stamps[BEGAN]) / self.images.khz

    def stamps_after(self):
        clock, text = self.client.clock, self.client.command("cat /run/bench/stamps; bench clock")
        stamps, log = {}, {}
        for line in text.splitlines():
            words = line.split()
            if len(words) == 3 and words[0] == "bench:":
                stamps[words[1]] = clock.when(int(words[2]))
            elif len(words) == 2:
                log[words[0]] = int(words[1])
        if "mark_counter" in log:
            stamps["kernel"] = clock.when(log["mark_counter"]) - log["mark_usec"] / 1e6
            if "init_usec" in log:
                stamps["run"] = stamps["kernel"] + log["init_usec"] / 1e6
        return stamps


def cells_of(settings, number):
    """One round's, in order."""
    by_hand = "hand" in settings.ways and number <= settings.hand_rounds
    cells = [Cell(way, 256 * MIB, 1000) for way in ("cold", "kexec") if way in settings.ways]
    for at, (size, files) in enumerate(settings.states):
        if by_hand and (at == 0 or settings.full):
            cells.append(Cell("hand", size, files))
        if "fastboot" in settings.ways:
            cells.append(Cell("fastboot", size, files))
            if at == 0 and settings.changed:
                cells.append(Cell("fastboot", size, files, settings.changed))
    return cells


def run_cell(machine, cell, result):
    """Again when the emulator loses the guest: that says nothing of the way."""
    for attempt in range(TRIES):
        try:
            machine.start(cell)
            record = machine.measure(cell)
            machine.stop()
            return record
        except GuestLost as e:
            complaint = machine.guest.complaint()
            machine.stop()
            if complaint:
                raise Failed(f"{cell.key()}: {complaint}") from e
            machine.lost += 1
            result.say(f"{cell.key()}: the guest was lost ({e}); once more")
            if attempt == TRIES - 1:
                raise Failed(f"{cell.key()}: the guest was lost {TRIES} times: {e}") from e
        except CommandFailed as e:
            raise Failed(f"{cell.key()}: {e}") from e
    return None


def run_rounds(settings, machine, result):
    for number in range(1, settings.rounds + 1):
        cells = cells_of(settings, number)
        for at, cell in enumerate(cells):
            result.progress(number, at, len(cells), cell.key())
            record = run_cell(machine, cell, result)
            record["round"] = number
            record["key"] = cell.key()
            result.add(record)
