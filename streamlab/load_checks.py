"""What lab 06 asks of a file server: that a thousand clients at once cost it next to nothing.

Each function is one check, promise by promise (see the lab's contract.toml). What this lab's text
has in common with lab 02's is in `streamlab.loop_checks`. The clients are sockets of the checking
process, all in one thread. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import os
import selectors
import shlex
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count as numbers
from itertools import islice
from random import Random
from typing import NoReturn, Self, TypeVar

import psutil
from hypothesis import strategies as st

from streamlab import loop_checks
from streamlab import request_forms as forms
from streamlab.checks import (
    CHUNK,
    RawAnswer,
    Trace,
    ask,
    at_work,
    busy_at_rest,
    by_hand,
    cause_of,
    comes_to_rest,
    connected,
    cpu_seconds,
    curl,
    dense_file,
    expect_answer,
    held_by,
    literal,
    log_of,
    most_held,
    name_of,
    read_answer,
    reading_stops,
    request_for,
    right_alone,
    shown,
    state_of,
    traced,
    warm_up,
)
from streamlab.errors import DownloadError
from streamlab.examples import for_all
from streamlab.files import GiB, KiB, MiB, SampleFile, random_file, size_text, sparse_file
from streamlab.memory import descriptors, group_members, threads_of
from streamlab.patience import Deadline, PatientSocket, settled
from streamlab.server import Cup, Server
from streamlab.talk import Talk, Wanted, options_of, talking
from streamlab.testing import CheckFailed, CouldNotRun, fail, note, promise

Launch = Callable[..., Server]
Socket = TypeVar("Socket", bound=socket.socket)

CLIENTS = 1000
EACH = 256 * KiB
"""What a server may hold for a client who waits."""
SLACK = 16 * MiB
"""What it may hold besides, and what nobody can tell from what Python itself takes."""
THREADS = 40
"""How many threads more than when idle: asyncio's own pool has at most 32."""
FIRST = 16 * KiB
"""What a client takes before it waits."""
WAVE = 50
"""How many clients come at the same moment. asyncio lets 100 queue, and a client that finds the
queue full tries again after 1, 3 and 7 seconds: that would test the length of the queue."""
PATIENCE = 20.0
"""Seconds in which a thousand clients must have their first bytes."""
SILENCE = 5.0
"""Seconds without a byte that no client need wait."""
NEWCOMERS = 100
PROMPT = 10.0
"""Seconds in which as many newcomers as that, one after the other, must have their answers."""
UNREAD = 24 * MiB
"""What a server may hold for a client who asks and never reads, or whose head has no end."""
PAUSE = 10.0
"""Seconds for which a client may stop reading."""
FEW = 64
"""Descriptors of a server that is to run out of them."""
RECOVERY = 6.0
"""Seconds after which it must take clients in again; asyncio waits one before it tries."""
LEFTOVERS = 10
"""Descriptors more than before that are nobody's leak: a pool of threads, a log."""

_WINDOW = 8 * KiB
_PACKET = 1460
_MOST = 16 * MiB
"""What a client of this room ever takes of a file."""


# Clients


def make_room(clients: int = CLIENTS) -> None:
    """Let this process, and the servers it starts, have the descriptors that clients need.

    Raises `CouldNotRun` where the hard limit does not allow that.
    """
    if sys.platform == "win32":
        raise CouldNotRun("this check needs a system with limits on descriptors, such as Linux")
    import resource

    wanted = 2 * clients + 200  # a server has a socket and a file for each
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise CouldNotRun(
            f"a process of this machine may have {hard} descriptors, and the check needs {wanted}: "
            f"that is no fault of your program. Raise the hard limit (ulimit -Hn), or ask whoever "
            "runs this machine to"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


ALL, BEGINNING, REST = slice(None), slice(30), slice(30, None)
"""Parts of a request."""


def _far_away(sock: Socket) -> Socket:
    """A socket as of a client far away: short packets, a small window.

    Between two programs of one machine packets have 64 KiB, and the kernel would keep 2.3 MiB for
    each client who waits.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
    with suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _PACKET)
    return sock


class Guest:
    """A client who takes a part of a file and then waits, until it is to take more."""

    def __init__(self, port: int, file: SampleFile, content: bytes) -> None:
        self.file = file
        self.content = content
        self.raw = bytearray()
        self.asked = False
        self.waits = Deadline(SILENCE)
        """Until when something must have come; it begins anew with each piece."""
        self.sock = _far_away(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        self.sock.setblocking(False)
        self.sock.connect_ex(("127.0.0.1", port))

    def ask(self, part: slice = ALL) -> None:
        """Send the request, or a part, once the connection is there; `OSError` if it is not."""
        if error := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        self.sock.sendall(request_for(self.file.url)[part])
        self.asked = True

    def take(self, goal: int) -> bool:
        """Read what is there; whether `goal` bytes of the body, or all of it, have come so far.

        Raises `DownloadError` if it is not the file, or nothing more will come.
        """
        piece = self.sock.recv(CHUNK)
        self.raw += piece
        if piece and (4 * KiB < len(self.raw) < goal or b"\r\n\r\n" not in self.raw):
            return False
        if not self.raw:
            raise DownloadError("the server closed the connection before any answer", "no_answer")
        answer = read_answer(bytes(self.raw), closed=False)
        if answer.problem:
            raise DownloadError(f"the answer has not the right form: {answer.problem}", "malformed")
        if answer.status != 200:
            raise DownloadError(f"the server answered with status {answer.status}", "status")
        if answer.body != self.content[: len(answer.body)]:
            raise DownloadError("what came is not as in the file", "wrong_bytes")
        goal = min(goal, self.file.size)
        if not piece and len(answer.body) < goal:
            came = f"{size_text(len(answer.body))} of {size_text(self.file.size)}"
            raise DownloadError(f"cut short: {came}", "cut_short")
        return len(answer.body) >= goal


class Guests:
    """Many clients of some files, who take turns. Used as a context manager: at its end they leave.

    Who has to wait for `SILENCE` without a byte has failed, and so has the whole if it is not
    through in time.
    """

    def __init__(self, server: Server, *files: SampleFile) -> None:
        server.mark()
        self.port = int(server.url.rpartition(":")[2])
        self.files: list[tuple[SampleFile, bytes]] = []
        for file in files:
            with file.path.open("rb") as source:
                self.files.append((file, source.read(_MOST)))
        self.here: list[Guest] = []
        self._came = numbers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.leave(len(self.here))

    @property
    def file(self) -> SampleFile:
        """The first one of the files."""
        return self.files[0][0]

    def come(
        self,
        count: int,
        first: int = FIRST,
        at_once: int = WAVE,
        within: Deadline | float = PATIENCE,
    ) -> DownloadError | None:
        """So many more come and take their first bytes; returns why one could not."""
        return self._read((self._guest() for _ in range(count)), first, at_once, within)

    def read_on(
        self, size: int, count: int | None = None, within: Deadline | float = PATIENCE
    ) -> DownloadError | None:
        """Those who are here, or the last `count` of them, read until each has `size` bytes."""
        return self._read(self.here[-(count or 0) :], size, WAVE, within)

    def knock(self, count: int, patience: float = 2) -> None:
        """So many more come and send half a request; some may not get as far as that."""
        with selectors.DefaultSelector() as selector:
            for _ in range(count):
                guest = self._guest()
                selector.register(guest.sock, selectors.EVENT_WRITE, guest)
            deadline = Deadline(patience)
            while selector.get_map() and not deadline.passed:
                for key, _ in selector.select(0.1):
                    selector.unregister(key.fileobj)
                    with suppress(OSError):
                        key.data.ask(BEGINNING)

    def leave(self, count: int, *, reset: bool = False) -> None:
        """The first `count` of those who are here close their connections, or reset them."""
        for guest in self.here[:count]:
            if reset:  # closing sends RST (socket(7), SO_LINGER)
                guest.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            guest.sock.close()
        del self.here[:count]

    def _guest(self) -> Guest:
        file, content = self.files[next(self._came) % len(self.files)]
        guest = Guest(self.port, file, content)
        self.here.append(guest)
        return guest

    def _read(
        self, guests: Iterable[Guest], goal: int, at_once: int, within: Deadline | float
    ) -> DownloadError | None:
        waiting = iter(guests)
        deadline = within if isinstance(within, Deadline) else Deadline(within)
        look = time.monotonic()
        with selectors.DefaultSelector() as selector:
            while True:
                for guest in islice(waiting, at_once - len(selector.get_map())):
                    event = selectors.EVENT_READ if guest.asked else selectors.EVENT_WRITE
                    guest.waits = Deadline(SILENCE)
                    selector.register(guest.sock, event, guest)
                if not selector.get_map():
                    return None
                ready = selector.select(deadline.turn)
                if deadline.passed:
                    told = f"time was up after {deadline.seconds:g} s"
                    return DownloadError(told, "unfinished")
                if time.monotonic() > look + 0.2:
                    look = time.monotonic()
                    if _overdue(selector):
                        told = f"for {SILENCE:g} s it got nothing"
                        return DownloadError(told, "overdue")
                for key, _ in ready:
                    guest = key.data
                    guest.waits = Deadline(SILENCE)
                    try:
                        if not guest.asked:
                            guest.ask()
                            selector.modify(guest.sock, selectors.EVENT_READ, guest)
                        elif guest.take(goal):
                            selector.unregister(guest.sock)
                    except BlockingIOError:
                        continue
                    except (OSError, DownloadError) as error:
                        return _reason(error)


def _overdue(selector: selectors.BaseSelector) -> bool:
    """Whether somebody has waited for too long, and there is still nothing."""
    late = [key.data for key in selector.get_map().values() if key.data.waits.passed]
    if not late:
        return False
    # Who has not looked for long can't tell that there was silence.
    there = [key.data for key, _ in selector.select(0)]
    return any(guest not in there for guest in late)


def _reason(error: OSError | DownloadError) -> DownloadError:
    if isinstance(error, DownloadError):
        return error
    if isinstance(error, ConnectionRefusedError):
        return DownloadError("no server listens there: it has ended", "refused")
    return DownloadError("the server broke the connection", "broken")


# What a server has


@dataclass(frozen=True)
class Idle:
    """What a server has when it has answered one small request, and no client is there."""

    private: int
    threads: int
    """Those it had before that request: a pool may have grown with it."""
    descriptors: int


def idle(server: Server, draw: Random) -> Idle:
    """Warm a server up and see what it has."""
    threads = threads_of(server.keeper)
    warm_up(server, draw)
    return Idle(
        private=held_by(server),
        threads=threads,
        descriptors=len(descriptors(server.keeper)),
    )


def processes_of(server: Server) -> int:
    """How many processes a program has; its keeper and a sandbox around it do not count."""
    count = 0
    for member in group_members(server.keeper):
        with suppress(psutil.Error):
            count += member != server.keeper and psutil.Process(member).name() != "bwrap"
    return count


def alone(server: Server, *files: SampleFile) -> None:
    """A client takes the first bytes of each file, waits a moment, and gets more of it.

    No other client is there. What is wrong here is the cause, and the question of a check that
    asks for more stays open.
    """
    for file in files:
        more = min(file.size, MiB)
        story = f"With no other client there, one took {size_text(FIRST)} of {file.url} "
        story += f"({size_text(file.size)})"
        with Guests(server, file) as one:
            if not (problem := one.come(1)):
                comes_to_rest(server)
                story += f", waited a moment, and read on until it had {size_text(more)}"
                problem = one.read_on(more)
        if problem:
            line = curl(server, file.url, "--limit-rate 1M -o got")
            fail(_cause(problem, server), f"{story}: {problem}.{state_of(server)}", line)


def _cause(problem: DownloadError, server: Server, silent: str = "no_end") -> str:
    """The cause that a client's failure points to; `silent` where the server did nothing."""
    if problem.failure in ("unfinished", "overdue"):
        return silent
    time.sleep(0.2)  # a server may close a connection first, and write of its error then
    return cause_of(problem.failure, server)


def _fail(
    server: Server, problem: DownloadError, story: str, cause: str, line: str, trace: str = ""
) -> NoReturn:
    """End a check because of what a client met with; `cause` is why a server might do nothing."""
    found = _cause(problem, server, cause)
    trace = f"\n{trace}" if trace else ""
    fail(found, f"{story}: {problem}.{trace}{state_of(server)}", line)


def _crowd_line(server: Server, file: SampleFile, count: int = CLIENTS) -> str:
    """A command for so many clients who wait."""
    return (
        f"for i in $(seq {count}); do {curl(server, file.url, '--limit-rate 1 -o /dev/null')} & "
        "done  # the server has to be started after ulimit -n 4096"
    )


def _expect_slim(
    server: Server, before: Idle, count: int, story: str, line: str, trace: Trace | None = None
) -> None:
    """With so many clients waiting, there is one process, and there are few threads."""
    processes = processes_of(server)
    threads = threads_of(server.keeper) - before.threads
    held, allowed = held_by(server) - before.private, SLACK + count * EACH
    if processes > 1:
        cause = "process_each" if processes > count / 2 > 1 else "processes"
        fail(cause, f"{story}. The server had {processes} processes.{log_of(server)}", line)
    if threads > THREADS:
        fail(
            "thread_each",
            f"{story}. The server had {threads} threads more than without any; {THREADS} are "
            f"allowed.{log_of(server)}",
            line,
        )
    if held > allowed:
        drawn = f"\n{trace.line}" if trace else ""
        fail(
            "holds_much",
            f"{story}. The server held {size_text(held)} more than when idle, "
            f"{size_text(held / count)} for each; {size_text(allowed)} are allowed: "
            f"{size_text(EACH)} for each, and {size_text(SLACK)}.{drawn}{log_of(server)}",
            line,
        )


# CROWD


def thousand_wait(server: Server, draw: Random) -> None:
    """A thousand clients have their first bytes and wait: no threads, little memory, no work."""
    make_room()
    with promise("first-bytes"):
        before = idle(server, draw)
        # A file that is small enough to be read whole is more than what a client may cost.
        files = [
            dense_file(draw.randrange(*sizes), name_of(draw), server.root, draw)
            for sizes in ((6 * MiB, 9 * MiB), (768 * KiB, 1000 * KiB))
        ]
        alone(server, *files)
    line = _crowd_line(server, files[0])
    with traced(server) as trace, Guests(server, *files) as guests:
        deadline = Deadline(PATIENCE)
        for count in (16, 100, 400, CLIENTS):
            problem = guests.come(count - len(guests.here), within=deadline)
            story = (
                f"{len(guests.here)} clients asked for {files[0].url} "
                f"({size_text(files[0].size)}) and {files[1].url} ({size_text(files[1].size)}), "
                f"took their first {size_text(FIRST)} and waited"
            )
            with _slim():
                _expect_slim(server, before, count, story, line, trace)
            for name, failed in (
                ("first-bytes", problem and problem.failure != "unfinished"),
                ("thousand", problem),
            ):
                with promise(name):
                    if failed and problem:
                        told = f"{story}; one did not get so far"
                        _fail(server, problem, told, "blocks", line, trace.line)
        with _slim():
            most_held(server, before.private + SLACK + CLIENTS * EACH)
            _expect_slim(server, before, CLIENTS, story, line, trace)
        with promise("waits-without-cpu"):
            _expect_rest(server, 0.7, f"{story}. While nothing moved", line)


def _slim(memory: str = "memory") -> AbstractContextManager[None]:
    """The promises about what a server has while clients wait; `memory` is the one on memory."""
    return promise(memory, thread_each="threads", process_each="process", processes="process")


def _expect_rest(server: Server, seconds: float, story: str, line: str) -> None:
    """A server that has nothing to do uses no CPU."""
    if busy := busy_at_rest(server, seconds):
        fail("busy_loop", f"{story}, the server {busy}.{log_of(server)}", line)


# LIVE


def newcomers_are_answered(server: Server, draw: Random) -> None:
    """While a thousand wait, and huge files are on their way, newcomers get their answers."""
    small = random_file(draw.randrange(3000, 5000), name_of(draw), server.root)
    huge = sparse_file(draw.randrange(200, 300) * GiB, name_of(draw), server.root, 4)
    with promise("newcomers"):
        before = idle(server, draw)
        right_alone(server, small, small.size)
        right_alone(server, huge, FIRST)
    any_size = "memory-any-size"
    with (
        _thousand(server, draw, "newcomers", before, any_size) as (guests, story),
        ExitStack() as others,
    ):
        line = f"{_crowd_line(server, guests.file)}\n{curl(server, small.url)}"
        with promise(any_size):
            _expect_slim(server, before, CLIENTS, story, line)
        for part in (ALL, BEGINNING):
            with suppress(OSError):
                others.enter_context(connected(server)).sendall(request_for(huge.url)[part])
        story += f"; one had asked for {size_text(huge.size)}, and one had sent half a request"
        for name, count, at_once, how in (
            ("newcomers", NEWCOMERS, 1, "one after the other"),
            ("newcomers-at-once", WAVE, WAVE, "at the same moment"),
        ):
            with promise(name):
                _are_served(server, small, count, at_once, f"{story}. Then {count} came, {how},")
        reader = others.enter_context(_reads_all_the_time(server, huge))
        story += f"; and one reads {size_text(huge.size)} all the time"
        with promise("steady-reader"):
            _are_served(server, small, 10, 1, f"{story}. Then 10 came, one after the other,")
            if not reader.is_alive():
                told = f"{story}. That one did not get more than a part.{state_of(server)}"
                fail("cut_short", told, curl(server, huge.url, "--limit-rate 20M"))


def _are_served(server: Server, small: SampleFile, count: int, at_once: int, story: str) -> None:
    """So many newcomers get a small file."""
    with Guests(server, small) as newcomers:
        problem = newcomers.come(count, small.size, at_once, PROMPT)
        served = sum(len(guest.raw) > small.size for guest in newcomers.here)
    if problem:
        told = f"{story} for a file of {small.size} bytes, which one alone had got; {served} of "
        told += "them got it, and then one did not"
        _fail(server, problem, told, "blocks", curl(server, small.url))


@contextmanager
def _reads_all_the_time(server: Server, file: SampleFile) -> Iterator[threading.Thread]:
    """A client who reads without a pause, as over a line of 20 MiB a second.

    It has got more than any buffer holds before the `with` begins, or has not got that in time.
    """
    end, well_into_it = threading.Event(), threading.Event()
    buffer = bytearray(512 * KiB)

    def read() -> None:
        received = 0
        with suppress(OSError), connected(server, 2 * PROMPT) as sock:
            sock.sendall(request_for(file.url))
            while not end.is_set() and (came := sock.recv_into(buffer)):
                received += came
                if received > 16 * MiB:
                    well_into_it.set()
                end.wait(0.02)
        well_into_it.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        deadline = Deadline(PROMPT)
        while not well_into_it.wait(deadline.turn) and not deadline.passed:
            pass
        yield reader
    finally:
        end.set()
        reader.join()


@contextmanager
def _thousand(
    server: Server, draw: Random, name: str, before: Idle, memory: str = "memory"
) -> Iterator[tuple[Guests, str]]:
    """A thousand clients who wait in the beginning of a huge file, and their story.

    `name` is the promise that is broken where they can't be had, `memory` where they cost too much.
    """
    make_room()
    size = draw.randrange(20, 30) * GiB  # a thousand maps of it have room in an address space
    file = sparse_file(size, name_of(draw), server.root, 4, draw.randrange(99))
    with file.path.open("r+b") as target:
        target.write(draw.randbytes(2 * MiB))
    with promise(name):
        alone(server, file)
    with Guests(server, file) as guests:
        deadline = Deadline(PATIENCE)
        for count in (100, CLIENTS):
            problem = guests.come(count - len(guests.here), within=deadline)
            story = f"{len(guests.here)} clients asked for {file.url} ({size_text(file.size)})"
            if problem or count < CLIENTS:
                with _slim(memory):
                    _expect_slim(server, before, count, story, _crowd_line(server, file))
            if problem:
                story += "; one did not get its first bytes"
                with promise(name):
                    _fail(server, problem, story, "blocks", _crowd_line(server, file))
        yield guests, f"{story}, took {size_text(FIRST)} and waited"


# STALL


def who_stops_and_goes_on(launch: Launch, draw: Random) -> None:
    """Reading and answering stop with the client. One who goes on in time gets every byte."""
    make_room(100)
    with promise("slow"):
        slow = launch()
        warm_up(slow, draw)
    with _slow_ones(slow, draw):  # the other probes are done while they wait
        server = launch()
        with promise("reading-stops", busy_loop="waits-without-cpu"):
            reading_stops(server, draw)
        asks_and_never_reads(server, draw)


@contextmanager
def _slow_ones(server: Server, draw: Random, clients: int = 10) -> Iterator[None]:
    """Clients who stop reading, once or often, for nearly `PAUSE` in all; then they read on.

    They wait while other things are done; how it went is told at the end.
    """
    file = random_file(draw.randrange(1500 * KiB, 2 * MiB), name_of(draw), server.root)
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


class _Slow(Guests):
    """Clients who stop reading so many times, for as long each time as fits into `PAUSE` in all."""

    def __init__(self, server: Server, file: SampleFile, times: int, stop: threading.Event) -> None:
        super().__init__(server, file)
        self.server = server
        self.pause = (PAUSE - 1) / times
        self.times = times
        self.stop = stop
        self.problem: DownloadError | None = None
        self.longest = 0.0
        """The longest pause, in seconds of the clock on the wall."""
        self.thread = threading.Thread(target=self._go_on, daemon=True)

    def begin(self, clients: int) -> None:
        """Take the first bytes, and stop."""
        self.since = time.monotonic()
        self.story = f"{clients} clients took {size_text(FIRST)} of {self.file.url} "
        self.story += f"({size_text(self.file.size)})"
        if problem := self.come(clients):
            _fail(self.server, problem, self.story, "blocks", self._line)
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
        """End the check if a client was not served to the end."""
        if self.problem is None:
            return
        if self.longest > PAUSE:
            note(f"Left out: a pause of {self.longest:.0f} s, on a busy machine, says nothing.")
            return
        cause = _cause(self.problem, self.server, "blocks")
        if self.problem.failure in ("cut_short", "broken") and self.server.running:
            cause = "gives_up"
        again = f" {self.turn} times" if self.times > 1 else ""
        fail(
            cause,
            f"{self.story}, and stopped for {self.pause:.1f} s{again}. Then they read on: "
            f"{self.problem}. A client that had waited a moment only got the whole file."
            f"{state_of(self.server)}",
            self._line,
        )

    @property
    def _line(self) -> str:
        slow = curl(self.server, self.file.url, "--limit-rate 100k -o got")
        return f"{slow} & sleep 1; kill -STOP $!; sleep {PAUSE - 1:g}; kill -CONT $!; wait $!"


def asks_and_never_reads(server: Server, draw: Random) -> None:
    """A client who asks on and on, and reads nothing, costs little; so does a head with no end."""
    small = random_file(CHUNK - draw.randrange(5000), name_of(draw), server.root)
    large = sparse_file(draw.randrange(200, 300) * GiB, name_of(draw), server.root, 4)
    file, river = Wanted(server.path_of(small), None), Wanted(server.path_of(large), None)
    missing = Wanted(server.path_of(name_of(draw)), None)
    padding = forms.padding(15 * KiB, 1)
    with promise("unread"):
        before = held_by(server)
        for request, most in (
            (file.request(), 4000),
            (river.request(*padding), 4000),
            (missing.request(), 200_000),
            (file.request(method="HEAD"), 200_000),
        ):
            told = "A client sent requests over one connection, and read no answer"
            _sends_on(server, before, b"", request, most, told, "no_backpressure")
    with promise("endless-head"):
        head = file.request()[:-2]
        for beginning, block, what in (
            (head, b"X-Padding: %s\r\n" % (b"x" * 1000), "header lines"),
            (head + b"X-Long: ", b"x" * 1000, "one header line"),
        ):
            told = f"A client sent a head that has no end ({what})"
            _sends_on(server, before, beginning, block, 64 * KiB, told, "no_limit")


def _sends_on(
    server: Server, before: int, beginning: bytes, unit: bytes, most: int, story: str, cause: str
) -> None:
    """A client sends `unit` up to `most` times and never reads; `UNREAD` more may be held."""
    server.mark()
    block = memoryview(unit * (1 + CHUNK // len(unit)))
    left = memoryview(beginning + bytes(block))
    sent = 0
    client = _far_away(PatientSocket(socket.AF_INET, socket.SOCK_STREAM))
    with traced(server) as trace, suppress(ConnectionError), client as sock:
        sock.settimeout(0.3)
        sock.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        deadline, look = Deadline(PATIENCE), time.monotonic()
        while sent < most * len(unit) and not deadline.passed:
            try:
                took = sock.send(left)
                sent += took
                left = left[took:] or block
            except TimeoutError:
                if not at_work(server):  # it takes no more of them: that is right
                    break
            if time.monotonic() > look + 0.1:
                look = time.monotonic()
                if held_by(server) > before + UNREAD:
                    break
        held = most_held(server, before + UNREAD) - before
        if held > UNREAD:
            many = f"{sent // len(unit)} times" if len(unit) < sent else "once"
            fail(
                cause,
                f"{story}:\n\n{shown(beginning + unit, 200)}\n\nThe last part was taken {many}, "
                f"{size_text(sent)} in all. The server held {size_text(held)} more than before; "
                f"{size_text(UNREAD)} are allowed.\n{trace.line}{log_of(server)}",
                _sending_line(beginning, unit, most),
            )
    if not server.running:
        told = f"{story}, {size_text(sent)} in all.{state_of(server)}"
        fail(cause_of("refused", server), told, _sending_line(beginning, unit, most))


def _sending_line(beginning: bytes, unit: bytes, most: int) -> str:
    """A command that sends on and on, and never reads."""
    program = (
        'import socket; s = socket.create_connection(("127.0.0.1", PORT)); s.settimeout(5); '
        f"s.sendall({literal(beginning)}); "
        f"[s.sendall({literal(unit)}) for _ in range({most})]"
    )
    return f"python3 -c {shlex.quote(program)}"


# DROP


def half_of_them_leave(server: Server, draw: Random) -> None:
    """When clients vanish, what they had comes back, and the others do not notice."""
    small = random_file(draw.randrange(3000, 5000), name_of(draw), server.root)
    large = dense_file(draw.randrange(3 * MiB, 5 * MiB), name_of(draw), server.root, draw)
    with promise("leave"):
        before = idle(server, draw)
        # What a server keeps of its first clients, for the next ones, it has before and after.
        _come_and_go(server, small, large, draw)
        fewest = settled(lambda: len(descriptors(server.keeper)))
        if not server.running:
            fail(
                "dies_on_drop",
                "Clients came one after another and left: some with a whole answer, some in the "
                "middle of one, some in the middle of their request."
                f"{state_of(server)}",
                f"{_crowd_line(server, large, 60)}  # and then: kill $(jobs -p)",
            )
    with _thousand(server, draw, "leave", before) as (guests, story):
        line = f"{_crowd_line(server, guests.file)}  # and then: kill $(jobs -p)"
        half = CLIENTS // 2
        most = len(descriptors(server.keeper))
        guests.leave(half // 2)
        guests.leave(half // 2, reset=True)
        story += f"; then {half} of them closed their connections, half of these by a reset"
        with promise("leave"):
            back = most - (most - fewest) * half // CLIENTS
            _expect_back(server, fewest, most, back, story, line)
        with promise("others-notice-nothing"):
            _read_on(server, guests, story, line)
        with promise("leave-without-cpu"):
            _comes_to_rest(server, f"{story}. 5 s later, while the others waited", line)
        guests.leave(len(guests.here))
        story += ", and then the others"
        with promise("leave"):
            _expect_back(server, fewest, most, fewest, story, line)
            _leave_in_flight(server, draw)
            story += ". Then 20 came who left while bytes were on their way"
            _expect_back(server, fewest, most, fewest, story, line)
            with Guests(server, guests.file) as last:
                if problem := last.come(1):
                    told = f"{story}, and then a new one, who did not get its first bytes"
                    _fail(server, problem, told, "serves_nobody", line)
    with promise("leave-otherwise"):
        # What the first ones left behind may have been collected as garbage since.
        fewest = min(fewest, settled(lambda: len(descriptors(server.keeper))))
        _come_and_go(server, small, large, draw)
        story += ". Then some came who left with a whole answer, or in the middle of their request"
        _expect_back(server, fewest, most, fewest, story, line)
    with promise("leave-without-cpu"):
        _comes_to_rest(server, f"{story}. 5 s later, with nobody there", line)


def _comes_to_rest(server: Server, story: str, line: str) -> None:
    """5 seconds after clients have left, a server uses no CPU; until then it may put away things.

    It may also still fill the windows of those who have just read on.
    """
    deadline = Deadline(5)
    while busy_at_rest(server, 0.5) and not deadline.passed:
        pass
    if deadline.passed:
        _expect_rest(server, 0.5, story, line)


def _come_and_go(
    server: Server, small: SampleFile, large: SampleFile, draw: Random, each: int = 60
) -> None:
    """Clients come who leave with a whole answer, and in the middle of one, and of a request.

    It ends with the first who gets none: others would have to wait in vain.
    """
    with Guests(server, large) as some, Guests(server, small) as others:
        if some.come(each):
            return
        others.knock(each)
    wanted = Wanted(server.path_of(small), None)
    missing = Wanted(server.path_of(name_of(draw)), None)
    for method, what in (("GET", wanted), ("HEAD", wanted), ("GET", missing), ("HEAD", missing)):
        for _ in range(each):
            request = what.request("Connection: close", method=method)
            # Another check asks whether the server closes the connection.
            if not ask(server, [request], lingers=0, head=method == "HEAD").status:
                return


def _read_on(server: Server, guests: Guests, story: str, line: str, size: int = MiB // 2) -> None:
    """All who are still there get more of their file."""
    for guest in guests.here:  # they are in a hurry now
        guest.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * _WINDOW)
    if problem := guests.read_on(size):
        cause = _cause(problem, server, "serves_nobody")
        if problem.failure in ("cut_short", "broken", "refused", "no_answer"):
            cause = cause if cause == "whole_file" else "drops_others"
            if not server.running and cause == "drops_others":
                cause = "dies_on_drop"
        told = f"{story}, and the other {len(guests.here)} read on until they had {size_text(size)}"
        fail(cause, f"{told}. One of them did not get that: {problem}.{state_of(server)}", line)


def _leave_in_flight(server: Server, draw: Random, clients: int = 20) -> None:
    """Clients who read as fast as they can, or not at all, close their connections, in turn."""
    # Whoever reads on for nobody has enough to do with it.
    huge = sparse_file(draw.randrange(400, 600) * GiB, name_of(draw), server.root, 4)
    with suppress(OSError):  # the one who comes after them will tell
        for number in range(clients):
            with connected(server, patience=2) as sock:
                sock.sendall(request_for(huge.url))
                # A server may see the one in the midst of sending, the other before its first byte.
                left = number % 2 * 2 * MiB
                while left > 0 and (piece := sock.recv(CHUNK)):
                    left -= len(piece)


def _expect_back(
    server: Server, before: int, most: int, wanted: int, story: str, line: str
) -> None:
    """The descriptors of those who have left are free: no more are there than `wanted`."""
    deadline = Deadline(5)
    while (now := len(descriptors(server.keeper))) > wanted + LEFTOVERS and not deadline.passed:
        time.sleep(0.1)
    if not server.running:
        cause = cause_of("refused", server)
        cause = "dies_on_drop" if cause == "died" else cause
        fail(cause, f"{story}.{state_of(server)}", line)
    if now > wanted + LEFTOVERS:
        fail(
            "leaks",
            f"{story}. The server had {before} descriptors when nobody was there, {most} with a "
            f"thousand clients, and 5 s later {now}; it should be {wanted + LEFTOVERS} at most."
            f"{log_of(server)}",
            line,
        )


# FULL


def descriptors_run_out(launch: Launch, limits: Cup, draw: Random) -> None:
    """More clients come than there are descriptors for: nothing ends, nothing spins."""
    make_room(200)
    surplus, few = 90, 5
    with promise("full-lives"):
        server = launch(cup=replace(limits, nproc=None, nofile=FEW))
        warm_up(server, draw)
        large = dense_file(draw.randrange(3 * MiB, 5 * MiB), name_of(draw), server.root, draw)
        small = random_file(draw.randrange(3000, 5000), name_of(draw), server.root)
        alone(server, large)
    line = f"ulimit -n {FEW}; python server.py --root files --port 8000  # then a hundred clients"
    story = f"With {FEW} descriptors for the server, 8 clients took {size_text(FIRST)} of "
    story += f"{large.url} ({size_text(large.size)}) and waited"
    with Guests(server, large) as early, Guests(server, large) as late:
        with promise("full-serves"):
            if problem := early.come(8):
                _fail(server, problem, story, "blocks", line)
        late.knock(few)
        with promise("full-rests"):
            if awake := _awake(server, 0.5):
                told = f"{story}, and {few} sent half a request: there are descriptors enough"
                fail("busy_loop", f"{told}. {awake}{log_of(server)}", line)
        late.knock(surplus - few)
        full = _until_full(server)
        for guest in late.here[:10]:  # some of those who got in go on, and there is no file to open
            with suppress(OSError):
                guest.sock.sendall(request_for(large.url)[REST])
        story += f", {surplus} more came and sent half a request, and 10 of them the rest"
        awake = _awake(server, 0.8)
        with promise("full-lives"):
            if not server.running:
                cause = cause_of("refused", server)
                cause = "dies_when_full" if cause == "died" else cause
                fail(cause, f"{story}.{state_of(server)}", line)
        with promise("full-rests"):
            if awake:
                fail("spins_when_full", f"{story}. {awake}{log_of(server)}", line)
        with promise("full-refuses"):
            for guest in late.here[:10]:
                _is_refused_honestly(server, guest, story, line)
        _until_full(server, full)  # those who were refused have made room for others
        with promise("full-serves", dies_when_full="full-lives"):
            if problem := early.read_on(large.size):
                story += f". Then the 8 read on, and one of them did not get all: {problem}"
                cause = _cause(problem, server, "cuts_when_full")
                if cause in ("cut_short", "died"):
                    cause = "cuts_when_full" if server.running else "dies_when_full"
                fail(cause, f"{story}.{state_of(server)}", line)
        late.leave(surplus)
        early.leave(8)
    with promise("full-recovers"):
        if problem := _recovers(server, small):
            story += f". All left. A new client, who came {RECOVERY:g} s later, got no file: "
            cause = _cause(problem, server, "stuck_when_full")
            cause = "stuck_when_full" if cause in ("no_answer", "cut_short") else cause
            fail(cause, f"{story}{problem}.{state_of(server)}", line)


def _until_full(server: Server, enough: int = FEW) -> int:
    """Wait until a server has so many descriptors, or takes no more clients; how many it has.

    asyncio tries again to accept a second after it had none left.
    """
    deadline = Deadline(1.5)
    while (now := len(descriptors(server.keeper))) < enough and not deadline.passed:
        time.sleep(0.02)
    return now


def _is_refused_honestly(server: Server, guest: Guest, story: str, line: str) -> None:
    """Who asked when no descriptor was left has nothing, a part of the file, or a 5xx."""
    raw = bytearray()
    with suppress(OSError):
        while piece := guest.sock.recv(CHUNK):
            raw += piece
    answer = read_answer(bytes(raw), closed=False)
    if not answer.status or b"\r\n\r\n" not in raw:
        return
    came = f"{story}. One of the 10 got:\n\n{shown(answer.raw)}\n\n"
    if answer.status == 200 and answer.body == guest.content[: len(answer.body)]:
        return
    if answer.status == 200:
        fail("wrong_bytes", f"{came}That is not the file.{log_of(server)}", line)
    if not 500 <= answer.status <= 599:
        fail("denies_file", f"{came}The file is there.{log_of(server)}", line)


def _recovers(server: Server, small: SampleFile) -> DownloadError | None:
    """Why a client who comes some time after all have left gets no answer; nothing if one does.

    Some try earlier, so that nobody has to wait for that time.
    """
    deadline = Deadline(RECOVERY)
    while True:
        last = deadline.passed
        with Guests(server, small) as newcomers:
            problem = newcomers.come(1, small.size, 1, SILENCE if last else 1)
        if not problem or last:
            return problem
        time.sleep(0.2)


def _awake(server: Server, seconds: float) -> str:
    """How much a server works, if it never rests in all that time; else nothing.

    A process that always has something to do is ready to run each time one looks, however small
    its share of a busy machine is. Who only tells a hundred times that accept has failed, as
    asyncio does, is soon through.
    """
    before, began = cpu_seconds(server), time.monotonic()
    ready = looks = 0
    while True:
        ready += at_work(server)
        looks += 1
        time.sleep(0.02)
        passed, spent = time.monotonic() - began, cpu_seconds(server) - before
        always, late = ready > 0.9 * looks, passed > seconds + 5
        if passed > seconds and always and spent > (0.1 if late else 0.5):
            return f"It was at work in {ready} of {looks} looks, for {spent:.1f} s of CPU time."
        if late or (passed > seconds and not always):
            return ""


# WIRE


def to_the_letter(launch: Launch, draw: Random) -> None:
    """Answers are HTTP, HEAD included; connections are kept or closed as is said."""
    loop_checks.to_the_letter(launch, draw)
    server = launch()
    loop_checks.heads_are_read(server, draw)
    heads_have_no_body(server, draw)
    connections_keep_their_word(server, draw)
    what_is_no_request_does_no_harm(server, draw)


def heads_have_no_body(server: Server, draw: Random) -> None:
    """HEAD gets the status and the headers that GET gets, and no body."""
    huge = sparse_file(draw.randrange(280, 320) * GiB, name_of(draw), server.root, 4)
    small = random_file(draw.randrange(3000, 5000), name_of(draw), server.root)
    empty = random_file(0, name_of(draw), server.root)
    medium = random_file(draw.randrange(200, 300) * KiB, name_of(draw), server.root)
    (server.root / "folder").mkdir(exist_ok=True)
    for name, path, status in (
        ("head-method", server.path_of(small), 200),
        ("head-method", server.path_of(empty), 200),
        ("head-method", server.path_of(medium), 200),
        ("head-huge", server.path_of(huge), 200),
        ("head-of-nothing", server.path_of(name_of(draw)), 404),
        ("head-of-nothing", server.path_of("folder"), 404),
    ):
        with promise(name):
            _head_without_body(server, path, status)


def _head_without_body(server: Server, path: str, status: int) -> None:
    get = _beginning(server, request_for(path))
    raw, silent = b"", "no_answer"
    try:
        with connected(server) as sock:
            sock.sendall(request_for(path).replace(b"GET", b"HEAD", 1))
            while len(raw) < MiB and (more := sock.recv(CHUNK)):
                raw += more
                if b"\r\n\r\n" in raw:
                    sock.settimeout(0.3)
    except TimeoutError:
        silent = "no_end"
    except OSError:
        pass  # what has come tells
    story = f"Sent HEAD {path}. Came back:\n\n{shown(raw)}\n\n"
    line = curl(server, path, "-I")
    head, blank, body = raw.partition(b"\r\n\r\n")
    answer = read_answer(head + blank, closed=False)
    if not raw:
        fail(silent, f"Sent HEAD {path}, and nothing came back.{state_of(server)}", line)
    if not blank or answer.problem:
        fail("malformed", f"{story}{answer.problem or 'No head'}.{state_of(server)}", line)
    if body:
        fail("head_with_body", f"{story}{len(body)} bytes or more follow the head.", line)
    if answer.status != status and not (status == 404 and 400 <= answer.status < 500):
        right = "from 400 to 499" if status == 404 else status
        fail("wrong_status", f"{story}The status should be {right}.{state_of(server)}", line)
    for name in ("Content-Length", "Content-Type") if status == 200 else ():
        said, wanted = answer.header(name.lower()), get.header(name.lower())
        if said != wanted:
            told = f"To GET the server says {name}: {wanted}, and to HEAD {said}."
            fail("head_differs", f"{story}{told}{log_of(server)}", line)


def _beginning(server: Server, request: bytes) -> RawAnswer:
    """The head of an answer, however long the rest is."""
    raw = b""
    with suppress(OSError), connected(server) as sock:
        sock.sendall(request)
        while b"\r\n\r\n" not in raw and (more := sock.recv(4 * KiB)):
            raw += more
    head, blank, _ = raw.partition(b"\r\n\r\n")
    return read_answer(head + blank, closed=False)


RENAMED = {"not_found": "wrong_status", "bad_chunks": "malformed", "empty_chunk": "out_of_step"}
"""This lab's names for what a conversation finds."""


def connections_keep_their_word(server: Server, draw: Random) -> None:
    """A connection ends when the client asks, or when the server says so; else it goes on."""
    sizes = [0, draw.randrange(500, 900), draw.randrange(40, 60) * KiB, 128 * KiB]
    sizes += [draw.randrange(200, 300) * KiB, draw.randrange(MiB, 2 * MiB)]
    files = [Wanted(f"/{name_of(draw)}", draw.randbytes(size)) for size in sizes]
    for wanted in files:
        (server.root / wanted.path[1:]).write_bytes(wanted.body or b"")
    (server.root / "folder").mkdir(exist_ok=True)
    missing = [Wanted(f"/{name_of(draw)}", None, 404), Wanted("/folder", None, 404)]
    after = files[1]
    for wanted in (*files, *missing):
        for method in ("GET", "HEAD"):
            with promise("close-asked"), talking(server, RENAMED) as talk:
                talk.ask(wanted, "Connection: close", method=method)
                talk.ends("stays_open", "The request said Connection: close")
            with _says_close(), talking(server, RENAMED) as talk:
                if _goes_on(talk, talk.ask(wanted, method=method), method):
                    _ask_and_part(talk, after)
    with _says_close(), talking(server, RENAMED) as talk:
        if not _goes_on(talk, talk.ask(after), "GET"):
            with promise("in-order"):
                return  # one who closes has no next request
    # After an error a server may close, and that may cost answers which are still on their way.
    requests = st.tuples(st.sampled_from(["GET", "GET", "HEAD"]), st.sampled_from(files[:-1]))
    last = st.lists(st.tuples(st.just("GET"), st.sampled_from(missing)), max_size=1)
    course = st.builds(list.__add__, st.lists(requests, min_size=2, max_size=6), last)
    heaps = st.tuples(course, forms.cuts(2))
    with promise("in-order", closes="says-close", stays_open="close-asked"):
        for_all(heaps, draw, lambda heap: _heap(server, after, *heap), examples=30)
        _ever_more(server, after, draw.randrange(1100, 1200))


def _says_close() -> AbstractContextManager[None]:
    """A connection goes on unless an answer says close; it ends when its client asks for that."""
    return promise("says-close", stays_open="close-asked")


def _goes_on(talk: Talk, answer: RawAnswer, method: str) -> bool:
    """Whether another request may follow; else the connection has to end now (RFC 9112, 9.3)."""
    told = options_of(answer)
    old = answer.raw.startswith(b"HTTP/1.0") and "keep-alive" not in told
    if "close" in told or old:
        talk.ends("stays_open", "The answer says that it is the connection's last one")
        return False
    framed = answer.header("content-length") or answer.header("transfer-encoding")
    return method == "HEAD" or framed is not None


def _ask_and_part(talk: Talk, wanted: Wanted) -> None:
    talk.ask(wanted, "Connection: close")
    talk.ends("stays_open", "The request said Connection: close")


def _heap(
    server: Server, after: Wanted, course: Sequence[tuple[str, Wanted]], places: Sequence[float]
) -> None:
    """Several requests at once, cut anywhere, are answered in their order (RFC 9112, 9.3.2)."""
    raw = b"".join(wanted.request(method=method) for method, wanted in course)
    pieces = forms.cut(raw, places)
    with talking(server, RENAMED) as talk:
        how = f"{len(course)} requests in {len(pieces)} pieces"
        talk.say(*pieces, pause=0.01 if len(pieces) > 1 else 0, how=how)
        for method, wanted in course:
            if not _goes_on(talk, talk.expect(wanted, method, "lost_request"), method):
                return
        _ask_and_part(talk, after)


def _ever_more(server: Server, wanted: Wanted, number: int, at_once: int = 25) -> None:
    """More requests over one connection than any limit that servers have is likely to be."""
    with talking(server, RENAMED) as talk:
        talk.note(f"{number} requests, {at_once} at a time")
        for _ in range(0, number, at_once):
            talk.say_again(wanted.request(), at_once)
            for _ in range(at_once):
                if not _goes_on(talk, talk.expect(wanted), "GET"):
                    return


def what_is_no_request_does_no_harm(server: Server, draw: Random) -> None:
    """After bytes that are no request, whatever the server makes of them, others are served."""
    small = random_file(draw.randrange(3000, 5000), name_of(draw), server.root)
    path = server.path_of(small)
    content = small.path.read_bytes()
    hello = bytes.fromhex("16030100700100006c0303") + draw.randbytes(100)  # of TLS

    def goes_on(raw: bytes) -> None:
        with suppress(OSError), connected(server, 1) as sock:
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(CHUNK):
                pass
        try:
            expect_answer(server, path, 200, content)
        except CheckFailed as failure:
            failure.evidence = (
                f"A client sent what is no request:\n\n{shown(raw)}\n\nAfter that a request "
                f"like one that was answered right before:\n\n{failure.evidence}"
            )
            failure.curl = by_hand([raw])
            raise

    with promise("no-request"):
        expect_answer(server, path, 200, content)
        known = [f"{line}\r\n\r\n".encode() for line in forms.bad_request_lines(path)]
        known += [hello, b"\r\n\r\n", b"\0\xff\r\n\r\n", b" \r\n\r\n"]
        for raw in draw.sample(known, len(known)):
            goes_on(raw)
