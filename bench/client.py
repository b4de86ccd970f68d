# SPDX-License-Identifier: GPL-2.0-or-later
"""The client: asks the application in the guest for random pieces of its state,
many times a second, checks each answer, and so sees from outside when the
application last answered and when it answers again.

One loop serves both channels to the guest, so that questions go on whatever
else is done. Times are time.monotonic(), in seconds.
"""
import collections
import json
import random
import select
import socket
import struct
import time
import zlib

BLOCK = 4096
TABLE = 65536
PERIOD = 0.004  # seconds from one question to the next
PIECE_MAX = 512
MASK = (1 << 64) - 1

REQUEST = struct.Struct("<IIIIQQ")  # bench/guest.c: struct request
ANSWER = struct.Struct("<IIIIIIQ")  # and struct answer, without the piece
REQUEST_MAGIC = 0x71657266
ANSWER_MAGIC = 0x736E6166


class GuestLost(Exception):
    """The guest does not answer any more, or its kernel died."""


class CommandFailed(Exception):
    """A command in the guest ended with a status other than 0."""


def mix(x):
    """splitmix64, as in bench/guest.c."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def table():
    return b"".join(struct.pack("<Q", mix(i)) for i in range((TABLE + BLOCK) // 8))


CONTENTS = table()


class State(collections.namedtuple("State", "size files generation changed")):
    """What the application has: see the top of bench/guest.c. `changed` bytes
    from the start on are of the next generation."""

    def file_size(self, file):
        each, odd = self.size // self.files, file % 16 * 8
        return each if self.files == 1 or each <= odd else each - odd

    def generation_of(self, file, block):
        at = self.size // self.files * file + block * BLOCK
        return self.generation + (at < self.changed)

    def words(self, directory):
        """The arguments of `bench app`."""
        return f"{directory},{self.size},{self.files},{self.generation},{self.changed}"


def piece(file, offset, length, generation):
    """What the state has there; within one block."""
    number = file << 32 | offset // BLOCK
    at = mix((number ^ generation << 56) & MASK) % TABLE & ~7
    head = struct.pack("<QQ", number, generation)
    start = offset % BLOCK
    return (head + CONTENTS[at + 16 : at + BLOCK])[start : start + length]


class Clock:
    """Ties the guest's counter to time.monotonic(): of all answers the one that
    was least delayed on its way says how they are related."""

    def __init__(self, hz):
        self.hz = hz
        self.samples = collections.deque(maxlen=500)

    def add(self, received, counter):
        self.samples.append((received, counter))

    def when(self, counter):
        offset = min(received - c / self.hz for received, c in self.samples)
        return counter / self.hz + offset


class Client:
    """`lost()` says why there is no guest any more, or None."""

    def __init__(self, app_path, control_path, hz, lost):
        self.app = connect(app_path)
        self.control = connect(control_path)
        self.hz = hz
        self.lost = lost
        self.random = random.Random(1)
        self.state = State(256 << 20, 1000, 1, 0)
        self.changing = None  # the instance under which the state changes
        self.asked = {}
        self.next_id = 1
        self.next_time = time.monotonic()
        self.rest = b""  # of a question that went out in part
        self.app_bytes = b""
        self.control_bytes = b""
        self.ready = 0  # how often the guest said that it is up
        self.answers = 0
        self.wrong = []
        self.instance = None
        self.first = self.last = None  # answers of this instance
        self.before = None  # (last answer, clock) of the instance before
        self.clock = Clock(hz)

    def close(self):
        self.app.close()
        self.control.close()

    # --- the loop ---------------------------------------------------------

    def run(self, until, seconds, what):
        """Ask on until `until()` is true; GuestLost after `seconds`."""
        poll = select.poll()
        poll.register(self.app, select.POLLIN)
        poll.register(self.control, select.POLLIN)
        deadline = time.monotonic() + seconds
        look = 0
        while not until():
            now = time.monotonic()
            if now >= look:
                look = now + 0.2
                why = self.lost()
                if why or now > deadline:
                    raise GuestLost(why or f"{what}: nothing after {seconds} s")
            if now >= self.next_time:
                self.ask(now)
            wait = max(0.0, self.next_time - time.monotonic())
            for fd, _ in poll.poll(wait * 1000):
                if fd == self.app.fileno():
                    self.read_app()
                else:
                    self.read_control()

    def expect(self, state):
        """From now on the application has this; earlier questions don't count."""
        self.state = state
        self.asked.clear()

    # --- questions and answers ----------------------------------------------

    def ask(self, now):
        self.next_time = max(self.next_time + PERIOD, now)
        if self.rest:
            self.rest = self.rest[send(self.app, self.rest) :]
            return
        file = self.random.randrange(self.state.files)
        offset = self.random.randrange(max(1, self.state.file_size(file)))
        length = min(
            self.random.randint(1, PIECE_MAX),
            BLOCK - offset % BLOCK,
            self.state.file_size(file) - offset,
        )
        question = REQUEST.pack(REQUEST_MAGIC, self.next_id, file, length, offset, 0)
        sent = send(self.app, question)
        # While nobody listens questions wait in the socket until it is full.
        if sent:
            self.asked[self.next_id] = (self.state, file, offset, length)
            self.next_id += 1
            self.rest = question[sent:]

    def read_app(self):
        self.app_bytes += receive(self.app)
        now = time.monotonic()
        while len(self.app_bytes) >= ANSWER.size:
            fields = ANSWER.unpack_from(self.app_bytes)
            magic, _, _, length = fields[:4]
            if magic != ANSWER_MAGIC:
                self.app_bytes = self.app_bytes[1:]
                continue
            if len(self.app_bytes) < ANSWER.size + length:
                return
            data = self.app_bytes[ANSWER.size : ANSWER.size + length]
            self.app_bytes = self.app_bytes[ANSWER.size + length :]
            self.on_answer(now, fields, data)

    def on_answer(self, now, fields, data):
        _, number, error, _, crc, instance, counter = fields
        asked = self.asked.pop(number, None)
        if asked:
            self.check(asked, error, crc, data, instance)
        # Answers come in the order of the questions.
        for old in [n for n in self.asked if n < number]:
            del self.asked[old]
        if instance != self.instance:
            self.before = (self.last, self.clock)
            self.instance, self.first = instance, now
            self.clock = Clock(self.hz)
        self.last = now
        self.answers += 1
        self.clock.add(now, counter)

    def check(self, asked, error, crc, data, instance):
        state, file, offset, length = asked
        generation = state.generation_of(file, offset // BLOCK)
        right = {generation}
        if self.changing is not None and instance == self.changing:
            right.add(state.generation)
        if (
            error
            or zlib.crc32(data) != crc
            or data not in [piece(file, offset, length, g) for g in right]
        ):
            self.wrong.append(
                f"file {file}, offset {offset}, {length} bytes, generation "
                f"{generation}: error {error}, got {data[:24].hex()}"
            )

    # --- commands ---------------------------------------------------------------

    def read_control(self):
        self.control_bytes += receive(self.control)
        while b"\n@ready\n" in self.control_bytes:
            # What an earlier boot had left to say goes with it.
            self.control_bytes = self.control_bytes.split(b"\n@ready\n", 1)[1]
            self.ready += 1

    def reply(self):
        """(status, text) once all of it is there."""
        head, newline, rest = self.control_bytes.partition(b"\n")
        if not newline:
            return None
        status, length = (int(word) for word in head.split())
        if len(rest) < length:
            return None
        return status, rest[:length].decode(errors="replace")

    def send_command(self, command):
        self.control_bytes = b""
        self.control.setblocking(True)
        self.control.sendall(command.encode() + b"\n")
        self.control.setblocking(False)

    def command(self, command, seconds=300):
        """What it printed; CommandFailed with that."""
        self.send_command(command)
        self.run(lambda: self.reply() is not None, seconds, command)
        status, text = self.reply()
        self.control_bytes = b""
        if status:
            raise CommandFailed(f"'{command}' ended with status {status}: {text.strip()}")
        return text

    def json(self, command):
        return json.loads(self.command(command))

    def answering(self, seconds=60):
        """Wait for an answer to a question that is asked from now on."""
        wanted = self.next_id
        self.asked.clear()
        self.run(lambda: self.next_id > wanted + 1, seconds, "asking")
        seen = self.answers
        self.run(lambda: self.answers > seen + 1, seconds, "the application")

    def reboot(self, command, seconds):
        """Give a command that reboots; wait for the first answer and for the
        agent. Returns the time at which the command was given."""
        given, boots, instance = time.monotonic(), self.ready, self.instance
        self.send_command(command)
        self.run(
            lambda: (self.ready > boots and self.instance != instance)
            or (self.ready == boots and self.reply() is not None),
            seconds,
            command.split(";")[-1].strip(),
        )
        if self.ready == boots:
            status, text = self.reply()
            raise CommandFailed(f"'{command}' came back, status {status}: {text.strip()}")
        return given


def connect(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect(path)
    s.setblocking(False)
    return s


def send(s, data):
    try:
        return s.send(data)
    except BlockingIOError:
        return 0
    except OSError as e:
        raise GuestLost(f"the emulator has closed the channel: {e}") from e


def receive(s):
    try:
        data = s.recv(65536)
    except BlockingIOError:
        return b""
    except OSError as e:
        raise GuestLost(f"the emulator has closed the channel: {e}") from e
    if not data:
        raise GuestLost("the emulator has closed the channel")
    return data
