"""What lab 06 checks a server for: that a thousand clients at once cost it next to nothing.

Each function is one kind of check, as in `streamlab.checks`. The clients are sockets of the
checking process, all in one thread. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import NoReturn

from streamlab.checks import (
    CHUNK,
    Trace,
    at_work,
    busy_at_rest,
    cause_of,
    comes_to_rest,
    connected,
    cpu_seconds,
    curl,
    dense_file,
    held_by,
    log_of,
    most_held,
    name_of,
    read_answer,
    reading_stops,
    request_for,
    shown,
    split_requests,
    state_of,
    traced,
    warm_up,
    well_formed,
)
from streamlab.errors import DownloadError
from streamlab.files import GiB, KiB, MiB, SampleFile, random_file, size_text, sparse_file
from streamlab.memory import descriptors, group_members, threads_of
from streamlab.server import Cup, Server
from streamlab.testing import CouldNotRun, fail

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
"""Seconds without a byte for any of them after which nobody need wait any longer."""
NEWCOMERS = 100
PROMPT = 10.0
"""Seconds in which as many newcomers as that, one after the other, must have their answers."""
FEW = 64
"""Descriptors of a server that is to run out of them."""
RECOVERY = 6.0
"""Seconds after which it must take clients in again; asyncio waits one before it tries."""

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


class Guest:
    """A client who takes a part of a file and then waits, until it is to take more."""

    def __init__(self, port: int, file: SampleFile, content: bytes) -> None:
        self.file = file
        self.content = content
        self.raw = bytearray()
        self.asked = False
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        # As a client far away: short packets, a small window. Between two programs of one machine
        # packets have 64 KiB, and the kernel would keep 2.3 MiB for each client who waits.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
        with suppress(OSError, AttributeError):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _PACKET)
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
            raise DownloadError("the server closed the connection before any answer")
        answer = read_answer(bytes(self.raw), closed=False)
        if answer.problem:
            raise DownloadError(f"{_MALFORMED}: {answer.problem}")
        if answer.status != 200:
            raise DownloadError(f"the server answered with status {answer.status}")
        if answer.body != self.content[: len(answer.body)]:
            raise DownloadError("what came is not as in the file")
        goal = min(goal, self.file.size)
        if not piece and len(answer.body) < goal:
            came = f"{size_text(len(answer.body))} of {size_text(self.file.size)}"
            raise DownloadError(f"cut short: {came}")
        return len(answer.body) >= goal


_MALFORMED = "the answer has not the right form"


class Guests:
    """Many clients of one file. Used as a context manager: at its end they all leave."""

    def __init__(self, server: Server, file: SampleFile) -> None:
        self.port = int(server.url.rpartition(":")[2])
        self.file = file
        with file.path.open("rb") as source:
            self.content = source.read(_MOST)
        self.here: list[Guest] = []

    def __enter__(self) -> Guests:
        return self

    def __exit__(self, *exc: object) -> None:
        self.leave(len(self.here))

    def come(
        self, count: int, first: int = FIRST, at_once: int = WAVE, patience: float = PATIENCE
    ) -> str:
        """So many more come and take their first bytes; returns why one could not, or nothing."""
        return self._read((self._guest() for _ in range(count)), first, at_once, patience)

    def read_on(self, size: int, count: int | None = None, patience: float = PATIENCE) -> str:
        """Those who are here, or the last `count` of them, read until each has `size` bytes."""
        return self._read(self.here[-(count or 0) :], size, WAVE, patience)

    def knock(self, count: int, patience: float = 2) -> None:
        """So many more come and send half a request; some may not get as far as that."""
        with selectors.DefaultSelector() as selector:
            for _ in range(count):
                guest = self._guest()
                selector.register(guest.sock, selectors.EVENT_WRITE, guest)
            deadline = time.monotonic() + patience
            while selector.get_map() and time.monotonic() < deadline:
                for key, _ in selector.select(0.1):
                    selector.unregister(key.fileobj)
                    with suppress(OSError):
                        key.data.ask(BEGINNING)

    def leave(self, count: int) -> None:
        """The first `count` of those who are here close their connections."""
        for guest in self.here[:count]:
            guest.sock.close()
        del self.here[:count]

    def _guest(self) -> Guest:
        guest = Guest(self.port, self.file, self.content)
        self.here.append(guest)
        return guest

    def _read(self, guests: Iterable[Guest], goal: int, at_once: int, patience: float) -> str:
        waiting = iter(guests)
        began = heard = time.monotonic()
        with selectors.DefaultSelector() as selector:
            while True:
                for guest in islice(waiting, at_once - len(selector.get_map())):
                    event = selectors.EVENT_READ if guest.asked else selectors.EVENT_WRITE
                    selector.register(guest.sock, event, guest)
                if not selector.get_map():
                    return ""
                ready = selector.select(1)
                now = time.monotonic()
                # Who has not looked for long can't tell that there was silence.
                if now > began + patience or (not ready and now > heard + SILENCE):
                    return f"not finished after {now - began:.0f} s"
                for key, _ in ready:
                    guest, heard = key.data, now
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


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "no server listens there: it has ended"
    return "the server broke the connection" if isinstance(error, OSError) else str(error)


# What a server has


@dataclass(frozen=True)
class Idle:
    """What a server has when it has answered one small request, and nobody is there."""

    private: int
    threads: int
    processes: int
    descriptors: int


def idle(server: Server, draw: Random) -> Idle:
    """Warm a server up and see what it has."""
    warm_up(server, draw)
    return Idle(
        private=held_by(server),
        threads=threads_of(server.keeper),
        processes=len(group_members(server.keeper)),
        descriptors=len(descriptors(server.keeper)),
    )


def _fail(server: Server, problem: str, story: str, cause: str, trace: str = "") -> NoReturn:
    """End a check because of what a client met with; `cause` is why a server might do nothing."""
    time.sleep(0.2)  # a server may close a connection first, and write of its error then
    found = "malformed" if _MALFORMED in problem else cause_of(problem, server)
    if found == "no_end":
        found = cause
    if "start new thread" in server.log():
        found = "thread_each"
    trace = f"\n{trace}" if trace else ""
    fail(found, f"{story}: {problem}.{trace}{state_of(server)}", _THOUSAND)


_THOUSAND = (
    "for i in $(seq 1000); do curl -sS --limit-rate 1 -o /dev/null http://127.0.0.1:PORT/NAME & "
    "done  # the server has to be started after ulimit -n 4096"
)


def _expect_slim(server: Server, before: Idle, count: int, story: str, trace: Trace) -> None:
    """With so many clients waiting, there are no more processes, few threads, little memory."""
    processes = len(group_members(server.keeper)) - before.processes
    threads = threads_of(server.keeper) - before.threads
    held, allowed = held_by(server) - before.private, SLACK + count * EACH
    if processes > 3:
        fail(
            "process_each",
            f"{story}. The server had {processes} processes more than when idle.{log_of(server)}",
            _THOUSAND,
        )
    if threads > THREADS:
        fail(
            "thread_each",
            f"{story}. The server had {threads} threads more than when idle; {THREADS} are "
            f"allowed.{log_of(server)}",
            _THOUSAND,
        )
    if held > allowed:
        fail(
            "holds_much",
            f"{story}. The server held {size_text(held)} more than when idle, "
            f"{size_text(held / count)} for each; {size_text(allowed)} are allowed: "
            f"{size_text(EACH)} for each, and {size_text(SLACK)}.\n{trace.line}{log_of(server)}",
            _THOUSAND,
        )


# CROWD


def thousand_wait(server: Server, draw: Random) -> None:
    """A thousand clients have their first bytes and wait: no threads, little memory, no work."""
    make_room()
    before = idle(server, draw)
    file = dense_file(draw.randrange(6 * MiB, 9 * MiB), name_of(draw), server.root, draw)
    with traced(server) as trace, Guests(server, file) as guests:
        for count in (16, 100, 400, CLIENTS):
            problem = guests.come(count - len(guests.here))
            story = (
                f"{len(guests.here)} clients asked for {file.url} ({size_text(file.size)}), took "
                f"their first {size_text(FIRST)} and waited"
            )
            _expect_slim(server, before, count, story, trace)
            if problem:
                _fail(server, problem, f"{story}; one did not get so far", "blocks", trace.line)
        most_held(server, before.private + SLACK + CLIENTS * EACH)
        _expect_slim(server, before, CLIENTS, story, trace)
        if busy := busy_at_rest(server, 0.7):
            fail(
                "busy_loop",
                f"{story}. While nothing moved, the server {busy}.{log_of(server)}",
                _THOUSAND,
            )


# LIVE


def newcomers_are_answered(server: Server, draw: Random) -> None:
    """While a thousand wait, and huge files are on their way, newcomers get their answers."""
    with _thousand(server, draw) as (_, story), ExitStack() as others:
        huge = sparse_file(draw.randrange(200, 300) * GiB, name_of(draw), server.root, 4)
        for part in (ALL, BEGINNING):
            with suppress(OSError):
                others.enter_context(connected(server)).sendall(request_for(huge.url)[part])
        small = random_file(draw.randrange(3000, 5000), name_of(draw), server.root)
        story += f"; one had asked for {size_text(huge.size)}, and one had sent half a request"
        for count, at_once, how in (
            (NEWCOMERS, 1, "one after the other"),
            (WAVE, WAVE, "at the same moment"),
        ):
            with Guests(server, small) as newcomers:
                problem = newcomers.come(count, small.size, at_once, PROMPT)
            if problem:
                served = sum(len(guest.raw) > small.size for guest in newcomers.here)
                _fail(
                    server,
                    problem,
                    f"{story}. Then {count} clients came, {how}, for a file of {small.size} bytes; "
                    f"{served} of them got it, and then one did not",
                    "blocks",
                )


@contextmanager
def _thousand(server: Server, draw: Random) -> Iterator[tuple[Guests, str]]:
    """A thousand clients who wait in the beginning of a huge file, and their story."""
    make_room()
    size = draw.randrange(20, 30) * GiB  # a thousand maps of it have room in an address space
    file = sparse_file(size, name_of(draw), server.root, 4, draw.randrange(99))
    with file.path.open("r+b") as target:
        target.write(draw.randbytes(2 * MiB))
    with Guests(server, file) as guests:
        problem = guests.come(CLIENTS)
        story = f"{CLIENTS} clients asked for {file.url} ({size_text(file.size)}) "
        if problem:
            story += f"and {len(guests.here)} of them had come so far, when one got nothing"
            _fail(server, problem, story, "blocks")
        yield guests, story + f"took {size_text(FIRST)} and waited"


# STALL


def sources_stop(server: Server, draw: Random) -> None:
    """Reading stops with the client, also with one who goes on asking and never reads."""
    reading_stops(server, draw)
    before = held_by(server)
    file = random_file(CHUNK - draw.randrange(5000), name_of(draw), server.root)
    request = request_for(file.url).replace(b"Connection: close\r\n", b"")
    count = 4000
    left = memoryview(request * count)
    with traced(server) as trace, suppress(ConnectionError), connected(server) as sock:
        sock.settimeout(0.3)
        deadline = time.monotonic() + PATIENCE
        while left and time.monotonic() < deadline:
            try:
                left = left[sock.send(left[:CHUNK]) :]
            except TimeoutError:
                if not at_work(server):  # it takes no more of them: that is right
                    break
        asked = count - len(left) // len(request)
        allowed = SLACK + 8 * MiB
        held = most_held(server, before + allowed) - before
        if held > allowed:
            fail(
                "no_backpressure",
                f"A client sent {asked} requests for {file.url} ({file.size} bytes) over one "
                f"connection, and read no answer. The server held {size_text(held)} more than "
                f"before; {size_text(allowed)} are allowed.\n{trace.line}{log_of(server)}",
            )


# SLOW


def slow_ones_get_all(server: Server, draw: Random, clients: int = 40, pause: float = 0.8) -> None:
    """Clients who wait in the middle of a file, twice, still get every byte of it."""
    make_room(clients)
    file = random_file(draw.randrange(1500 * KiB, 2 * MiB), name_of(draw), server.root)
    story = f"{clients} clients asked for {file.url} ({size_text(file.size)})"
    with Guests(server, file) as guests:
        problem = guests.come(clients)
        for size in (MiB, file.size):
            if problem:
                _fail(server, problem, story, "blocks")
            comes_to_rest(server)
            time.sleep(pause)
            comes_to_rest(server)  # if somebody's time was up meanwhile, it knows now
            story += f", waited {pause:g} s, read on until they had {size_text(size)}"
            problem = guests.read_on(size)
    if problem:
        _fail(server, problem, story, "blocks")


# DROP


def half_of_them_leave(server: Server, draw: Random, slack: int = 25) -> None:
    """When clients vanish, what they had comes back, and the others do not notice."""
    before = idle(server, draw)
    with _thousand(server, draw) as (guests, story):
        half = CLIENTS // 2
        most = len(descriptors(server.keeper))
        guests.leave(half)
        story += f"; then {half} of them closed their connections"
        _expect_back(server, before.descriptors, most, half, slack, story)
        if problem := guests.read_on(MiB, WAVE):
            late = cause_of(problem, server) == "no_end"
            cause = "serves_nobody" if late else "dies_on_drop"
            if _MALFORMED in problem:
                cause = "malformed"
            story += f", and {WAVE} others read on until they had 1 MiB: {problem}"
            fail(cause, f"{story}.{state_of(server)}", _THOUSAND)
        guests.leave(len(guests.here))
        story += ", and then the others"
        _expect_back(server, before.descriptors, most, CLIENTS, slack, story)
        _leave_in_flight(server, draw)
        story += ". Then 20 came who left while bytes were on their way, and then a new one"
        with Guests(server, guests.file) as last:
            if problem := last.come(1):
                _fail(server, problem, story, "serves_nobody")
    if busy := busy_at_rest(server, 0.5):
        fail("busy_loop", f"{story}. The server still {busy}.{log_of(server)}")


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


def _expect_back(server: Server, before: int, most: int, gone: int, slack: int, story: str) -> None:
    """Of the descriptors that a thousand clients took, the share of those who left is free."""
    wanted = most - (most - before) * gone // CLIENTS + slack
    deadline = time.monotonic() + 5
    while (now := len(descriptors(server.keeper))) > wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    if not server.running:
        fail("dies_on_drop", f"{story}.{state_of(server)}", _THOUSAND)
    if now > wanted:
        fail(
            "leaks",
            f"{story}. The server had {before} descriptors when idle, {most} with a thousand "
            f"clients, and 5 s later {now}; it should be {wanted} at most.{log_of(server)}",
            _THOUSAND,
        )


# FULL


def descriptors_run_out(launch: Callable[..., Server], limits: Cup, draw: Random) -> None:
    """More clients come than there are descriptors for: nothing ends, nothing spins."""
    make_room(200)
    server = launch(cup=replace(limits, nproc=None, nofile=FEW))
    warm_up(server, draw)
    large = dense_file(draw.randrange(3 * MiB, 5 * MiB), name_of(draw), server.root, draw)
    small = random_file(draw.randrange(3000, 5000), name_of(draw), server.root)
    surplus = 90
    story = f"With {FEW} descriptors for the server, 8 clients took {size_text(FIRST)} of "
    story += f"{large.url} ({size_text(large.size)}) and waited"
    with Guests(server, large) as early, Guests(server, large) as late:
        if problem := early.come(8):
            _fail(server, problem, story, "blocks")
        late.knock(surplus)
        for guest in late.here[:10]:  # some of those who got in go on, and there is no file to open
            with suppress(OSError):
                guest.sock.sendall(request_for(large.url)[REST])
        story += f", {surplus} more came and sent half a request, and 10 of them the rest"
        awake = _awake(server, 0.8)
        if not server.running:
            fail("dies_when_full", f"{story}.{state_of(server)}", _SHORT_OF)
        if awake:
            fail("spins_when_full", f"{story}. {awake}{log_of(server)}", _SHORT_OF)
        if problem := early.read_on(large.size):
            story += f". Then the 8 read on: {problem}"
            found = cause_of(problem, server)
            cause = "no_end" if found == "no_end" else "dies_when_full"
            fail(cause, f"{story}.{state_of(server)}", _SHORT_OF)
        late.leave(surplus)
        early.leave(8)
    if problem := _recovers(server, small):
        story += f". All left, and {RECOVERY:g} s later a new client still had no answer: {problem}"
        fail("stuck_when_full", f"{story}.{state_of(server)}", _SHORT_OF)


def _recovers(server: Server, small: SampleFile) -> str:
    """Why a server still does not answer some time after all have left; nothing if it does."""
    deadline = time.monotonic() + RECOVERY
    while True:
        left = deadline - time.monotonic()
        with Guests(server, small) as newcomers:
            problem = newcomers.come(3, small.size, 1, max(left, 1))
        if not problem or left < 0:
            return problem
        time.sleep(0.2)


_SHORT_OF = "ulimit -n 64; python server.py --root files --port 8000  # then a hundred clients"


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


def heads_have_no_body(server: Server, draw: Random) -> None:
    """HEAD gets the status and the length that GET gets, and no body."""
    huge = sparse_file(draw.randrange(200, 300) * GiB, name_of(draw), server.root, 4)
    small = random_file(draw.randrange(3000, 5000), name_of(draw), server.root)
    for path, status, size in (
        (server.path_of(small), 200, small.size),
        (server.path_of(huge), 200, huge.size),
        (server.path_of(name_of(draw)), 404, None),
    ):
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
            wanted = "from 400 to 499" if status == 404 else status
            fail("wrong_status", f"{story}The status should be {wanted}.{state_of(server)}", line)
        length = answer.header("content-length")
        if size is not None and length not in (None, str(size)):
            fail("malformed", f"{story}Content-Length should be {size}, or not be there.", line)


def to_the_letter(server: Server, draw: Random) -> None:
    """Answers are HTTP, HEAD included, and requests may come in pieces."""
    well_formed(server, draw)
    heads_have_no_body(server, draw)
    split_requests(server, draw)
