"""Lab 06: clients that stop reading and go on, and one that never reads."""

from __future__ import annotations

import shlex
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from random import Random

from streamlab.checks import request_forms
from streamlab.checks.connection import Wanted
from streamlab.checks.evidence import cause_of, curl, literal, log_of, shown, state_of
from streamlab.checks.observe import at_work, held_by, peak_memory, traced
from streamlab.checks.outcome import fail, note, promise
from streamlab.checks.probes.common import CHUNK, name_of, warm_up
from streamlab.checks.probes.waiting import reading_stops
from streamlab.checks.under_load.common import (
    FIRST,
    Launch,
    WaitingClients,
    alone,
    cause_for_client,
    fail_for_client,
    far_away,
    make_room,
)
from streamlab.checks.waits import CROWD
from streamlab.errors import DownloadError
from streamlab.files import GiB, KiB, MiB, SampleFile, random_file, size_text, sparse_file
from streamlab.process.patience import Deadline, PatientSocket
from streamlab.process.server import Server

UNREAD = 24 * MiB
"""Bytes that a server may hold for a client that asks and never reads, or that sends a head without
end."""
PAUSE = 10.0
"""Seconds for which a client may stop reading."""


# STALL


def who_stops_and_goes_on(launch: Launch, rng: Random) -> None:
    """The server stops when the client does. A client that reads on gets every byte."""
    make_room(100)
    with promise("slow"):
        slow = launch()
        warm_up(slow, rng)
    with _slow_ones(slow, rng):  # the other probes run while they wait
        server = launch()
        with promise("reading-stops", busy_loop="waits-without-cpu"):
            reading_stops(server, rng)
        asks_and_never_reads(server, rng)


@contextmanager
def _slow_ones(server: Server, rng: Random, clients: int = 10) -> Iterator[None]:
    """Clients that stop reading, once or often, for nearly `PAUSE` in all; then they read on.

    Other probes run while they wait. At the end, the check fails if they were not served.
    """
    file = random_file(rng.randrange(1500 * KiB, 2 * MiB), name_of(rng), server.root)
    with promise("slow"):
        alone(server, file)
    stop = threading.Event()
    with ExitStack() as stack:
        slow = [stack.enter_context(_Slow(server, file, times, stop)) for times in (1, 3, 12)]
        with promise("slow"):
            for each in slow:
                each.begin(clients)
        try:
            yield
            for each in slow:
                each.thread.join()
        finally:
            stop.set()
        with promise("slow"):
            for each in slow:
                each.tell()


class _Slow(WaitingClients):
    """Clients that stop reading `times` times, each time as long as fits into `PAUSE` in all."""

    def __init__(self, server: Server, file: SampleFile, times: int, stop: threading.Event) -> None:
        super().__init__(server, file)
        self.server = server
        self.pause = (PAUSE - 1) / times
        self.times = times
        self.stop = stop
        self.problem: DownloadError | None = None
        self.longest = 0.0
        """The longest pause, in seconds by the clock on the wall."""
        self.thread = threading.Thread(target=self._go_on, daemon=True)

    def begin(self, clients: int) -> None:
        """Take the first bytes, and stop."""
        self.since = time.monotonic()
        self.summary = f"{clients} clients took {size_text(FIRST)} of {self.file.url} "
        self.summary += f"({size_text(self.file.size)})"
        if problem := self.connect(clients):
            fail_for_client(self.server, problem, self.summary, "blocks", self._line)
        self.thread.start()

    def _go_on(self) -> None:
        for turn in range(1, self.times + 1):
            if self.stop.wait(max(0.0, self.since + self.pause - time.monotonic())):
                return
            self.longest = max(self.longest, time.monotonic() - self.since)
            self.since = time.monotonic()
            if problem := self.read_on(self.file.size * turn // self.times):
                self.problem = problem
                self.turn = turn
                return

    def tell(self) -> None:
        """The check fails if a client was not served to the end."""
        if self.problem is None:
            return
        if self.longest > PAUSE:
            note(f"Left out: a pause of {self.longest:.0f} s, on a busy machine, says nothing.")
            return
        cause = cause_for_client(self.problem, self.server, "blocks")
        if self.problem.failure in ("cut_short", "broken") and self.server.running:
            cause = "gives_up"
        again = f" {self.turn} times" if self.times > 1 else ""
        fail(
            cause,
            f"{self.summary}, and stopped for {self.pause:.1f} s{again}. Then they read on: "
            f"{self.problem}. A client that had waited a moment only got the whole file."
            f"{state_of(self.server)}",
            self._line,
        )

    @property
    def _line(self) -> str:
        slow = curl(self.server, self.file.url, "--limit-rate 100k -o got")
        return f"{slow} & sleep 1; kill -STOP $!; sleep {PAUSE - 1:g}; kill -CONT $!; wait $!"


@dataclass(frozen=True)
class _Endless:
    """What a client sends on and on, without ever reading."""

    beginning: bytes
    """Sent once."""
    unit: bytes
    """Sent after it, again and again."""
    most: int
    """How often it is sent at the most, if the server takes so many."""
    summary: str
    """What the client does, as a sentence without its end."""
    cause: str
    """The cause if the server holds too much of it."""

    @property
    def line(self) -> str:
        """A command that sends the same, and never reads."""
        program = (
            'import socket; s = socket.create_connection(("127.0.0.1", PORT)); s.settimeout(5); '
            f"s.sendall({literal(self.beginning)}); "
            f"[s.sendall({literal(self.unit)}) for _ in range({self.most})]"
        )
        return f"python3 -c {shlex.quote(program)}"


def asks_and_never_reads(server: Server, rng: Random) -> None:
    """A client that asks and never reads costs little; so does an endless head."""
    small = random_file(CHUNK - rng.randrange(5000), name_of(rng), server.root)
    large = sparse_file(rng.randrange(200, 300) * GiB, name_of(rng), server.root, 4)
    file, river = Wanted(server.path_of(small), None), Wanted(server.path_of(large), None)
    missing = Wanted(server.path_of(name_of(rng)), None)
    padding = request_forms.padding(15 * KiB, 1)
    with promise("unread"):
        before = held_by(server)
        for request, most in (
            (file.request(), 4000),
            (file.request(*padding), 4000),
            (river.request(*padding), 4000),
            (missing.request(), 200_000),
            (file.request(method="HEAD"), 200_000),
        ):
            told = "A client sent requests over one connection, and read no answer"
            _sends_on(server, before, _Endless(b"", request, most, told, "no_backpressure"))
    with promise("endless-head"):
        head = file.request()[:-2]
        for beginning, block, what in (
            (head, b"X-Padding: %s\r\n" % (b"x" * 1000), "header lines"),
            (head + b"X-Long: ", b"x" * 1000, "one header line"),
        ):
            told = f"A client sent a head that has no end ({what})"
            _sends_on(server, before, _Endless(beginning, block, 64 * KiB, told, "no_limit"))


def _sends_on(server: Server, before: int, endless: _Endless) -> None:
    """Send without reading; the server may hold `UNREAD` bytes more than `before`."""
    beginning, unit = endless.beginning, endless.unit
    server.mark()
    block = memoryview(unit * (1 + CHUNK // len(unit)))
    left = memoryview(beginning + bytes(block))
    sent = 0
    client = far_away(PatientSocket(socket.AF_INET, socket.SOCK_STREAM))
    with traced(server) as trace, suppress(ConnectionError), client as sock:
        sock.settimeout(0.3)
        sock.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        deadline, look = Deadline(CROWD), time.monotonic()
        while sent < endless.most * len(unit) and not deadline.passed:
            try:
                took = sock.send(left)
                sent += took
                left = left[took:] or block
            except TimeoutError:
                if not at_work(server):  # it accepts no more of them, which is right
                    break
            if time.monotonic() > look + 0.1:
                look = time.monotonic()
                if held_by(server) > before + UNREAD:
                    break
        held = peak_memory(server, before + UNREAD) - before
        if held > UNREAD:
            many = f"{sent // len(unit)} times" if len(unit) < sent else "once"
            fail(
                endless.cause,
                f"{endless.summary}:\n\n{shown(beginning + unit, 200)}\n\nThe last part was taken "
                f"{many}, {size_text(sent)} in all. The server held {size_text(held)} more than "
                f"before; {size_text(UNREAD)} are allowed.\n{trace.line}{log_of(server)}",
                endless.line,
            )
    if not server.running:
        told = f"{endless.summary}, {size_text(sent)} in all.{state_of(server)}"
        fail(cause_of("refused", server), told, endless.line)
