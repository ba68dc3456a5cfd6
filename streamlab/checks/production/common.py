"""Lab 10's clients: each does a little at each turn, so one loop plays all of them at once.

    play([stalled, steady, *trickling], until=lambda: steady.done, within=Deadline(6))

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from random import Random
from typing import NoReturn, Protocol, Self

import psutil

from streamlab.checks.evidence import cause_of, curl, shown, state_of
from streamlab.checks.exchange import ask, request_for
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import expect_download, name_of
from streamlab.errors import AnswerError, CutShort, DownloadError, NoAnswer
from streamlab.files import KiB, SampleFile, TiB, random_file, size_text
from streamlab.http.answer import read_answer
from streamlab.http.parts import Data, Head, Limits
from streamlab.http.reader import AnswerReader
from streamlab.process.patience import Deadline
from streamlab.process.proc import group_members
from streamlab.process.server import Server, out_of_memory

SOONER, LATER = 1.0, 3.0
"""What the text allows around each of its limits: a second less, and three seconds more."""
HEAD = 3.0
"""Seconds that a head has, in all."""
STALL = 3.0
"""Seconds after which a client is given up that does not read."""
GRACE = 4.0
"""Seconds that a download under way has after SIGTERM."""
AT_ONCE = 3.0
"""Seconds within which something happens that the text says happens at once."""
PLACES = 100
"""Downloads at once."""
RATE = 200 * KiB
"""Bytes a second: a client that reads that much gets its whole file."""
HEALTH = "/health"

PIECE = 64 * KiB
TURN = 0.05
"""Seconds between two turns of all clients."""
_LATE = 1.0
"""Seconds between two turns of a client after which its pace is not the one that was meant."""
_LIMITS = Limits(head=64 * KiB, line=8 * KiB, trailer=8 * KiB, body=TiB)


class Actor(Protocol):
    """A client that does what is due at each turn."""

    def turn(self) -> None: ...


def play(actors: Iterable[Actor], until: Callable[[], object], within: Deadline) -> None:
    """Let all clients take turns until something is true, or the time is up."""
    actors = list(actors)
    while True:
        for actor in actors:
            actor.turn()
        if until() or within.passed:
            return
        time.sleep(TURN)


def end_check(cause: str, server: Server, summary: str, command: str = "") -> NoReturn:
    """End a check. If the server has ended, or has no memory, that is the cause instead."""
    time.sleep(0.1)  # a server may close a connection first and write its error afterwards
    if server.output_limit is not None:
        cause = "too_much_output"
    elif out_of_memory(server.log()):
        cause = "whole_file"
    elif not server.running:
        cause = "died"
    fail(cause, f"{summary}.{state_of(server)}", command)


def far_away(sock: socket.socket) -> None:
    """Make a socket like that of a remote client: short packets, a small window.

    On loopback packets have 64 KiB, and the kernel would take megabytes for each client.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * KiB)
    with suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)


class Client:
    """A connection to the server, which never waits. `OSError` if there is none."""

    def __init__(self, server: Server, *, far: bool = False) -> None:
        server.mark()
        self.server = server
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if far:
            far_away(self.sock)
        self.sock.setblocking(False)
        self.closed = False
        """Whether the server has closed the connection."""
        self.sock.connect_ex(("127.0.0.1", int(server.url.rpartition(":")[2])))
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.leave()

    @property
    def port(self) -> int:
        """The client's own port, by which the server knows the connection."""
        return int(self.sock.getsockname()[1])

    def say(self, data: bytes) -> bool:
        """Send a few bytes; whether the kernel took them all."""
        try:
            return self.sock.send(data) == len(data)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self.closed = True
            return False

    def hear(self, most: int = PIECE) -> bytes:
        """What has come, up to `most` bytes; nothing if nothing has."""
        try:
            piece = self.sock.recv(most)
        except (BlockingIOError, InterruptedError):
            return b""
        except OSError as error:
            self.closed = True
            raise DownloadError("the server broke the connection", "broken") from error
        self.closed = self.closed or not piece
        return piece

    def leave(self, *, reset: bool = False) -> None:
        """Close the connection, or reset it."""
        if reset:  # closing sends RST (socket(7), SO_LINGER)
            linger = b"\1\0\0\0\0\0\0\0"
            with suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()


class Sender(Client):
    """A client that sends a head byte by byte, over `seconds`, and then no more.

    With `endless`, more headers follow, a byte at each turn. With `first` it has an answer to
    another request first, and sends the head over the same connection.
    """

    def __init__(
        self,
        server: Server,
        head: bytes,
        seconds: float = 0,
        *,
        endless: bool = False,
        first: bytes = b"",
    ) -> None:
        super().__init__(server)
        self.head, self.seconds, self.endless = head, seconds, endless
        self.first = first
        self.came = b""
        self.sent = 0
        self.took: float | None = None
        """Seconds from the connection to the last byte of the head; None before that."""
        if first:
            self.say(first)

    @property
    def status(self) -> int:
        """The status of the answer; 0 if none has come."""
        return read_answer(self.came, closed=True).status

    def is_answered(self) -> bool:
        """Whether something came, or the connection was closed."""
        return bool(self.came) or self.closed

    def turn(self) -> None:
        """Send what is due, and take what has come."""
        try:
            self.came += self.hear()
        except DownloadError:
            return
        if self.first:
            if not self.came:
                return
            self.first, self.came = b"", b""
            self.began = time.monotonic()
        due = len(self.head)
        if self.seconds:
            due = min(due, int(due * (time.monotonic() - self.began) / self.seconds))
        if self.sent < due and self.say(self.head[self.sent : due]):
            self.sent = due
            if due == len(self.head) and not self.endless:
                self.took = time.monotonic() - self.began
        elif self.sent == len(self.head) and self.endless:
            self.say(b"a")


class Download(Client):
    """A client of a file, which takes what it is told to and compares it.

    It reads `rate` bytes a second, if that is given, beginning at the call of `starts`; else it
    reads on until it has `goal` bytes. `problem` says what has gone wrong.
    """

    def __init__(
        self, server: Server, file: SampleFile, *, far: bool = False, rate: float = 0, goal: int = 0
    ) -> None:
        super().__init__(server, far=far)
        self.file, self.rate, self.goal = file, rate, goal
        self.path = server.path_of(file)
        self.request = request_for(self.path)
        self.reader = AnswerReader(_LIMITS)
        self.problem: DownloadError | None = None
        self.late = False
        """Whether the checking process itself came too late to keep to the pace."""
        self._asked = False
        self._source = file.path.open("rb", buffering=0)
        self.starts()

    def starts(self) -> None:
        """The pace begins now, with what has come so far."""
        self._since, self._had, self._looked = time.monotonic(), self.size, time.monotonic()

    @property
    def status(self) -> int:
        """The status of the answer; 0 if none has come."""
        return self.reader.status

    @property
    def size(self) -> int:
        """The bytes of the body that have come."""
        return self.reader.size

    @property
    def whole(self) -> bool:
        """Whether the whole file has come."""
        return self.reader.stage == "end" and self.size == self.file.size

    @property
    def has_goal(self) -> bool:
        """Whether it has as much as it wanted, or never will."""
        return self.problem is not None or self.size >= min(self.goal, self.file.size)

    def has_begun(self) -> bool:
        """Whether the first bytes of the file are there, or never will be."""
        return self.size > 0 or self.problem is not None

    def turn(self) -> None:
        """Read what is due."""
        if not self._asked:
            self._asked = self.say(self.request)
        now = time.monotonic()
        self.late = self.late or bool(self.rate and now > self._looked + _LATE)
        self._looked = now
        due = self._had + int(self.rate * (now - self._since)) if self.rate else self.goal
        if not self.status:
            due = max(due, 1)
        while self.size < due and self.problem is None and self.reader.stage != "end":
            if not self._receive(min(256 * KiB, due - self.size) + 512 * (not self.status)):
                return

    def _receive(self, most: int) -> bool:
        """Take what has come; whether there was something."""
        try:
            piece = self.hear(most)
            if not piece and not self.closed:
                return False
            if piece:
                self.reader.feed(piece)
            else:
                self.reader.close()
            for part in self.reader.parts():
                self._look_at(part)
        except NoAnswer:
            told = "the server closed the connection before any answer"
            self.problem = DownloadError(told, "no_answer")
        except CutShort:
            came = f"{size_text(self.size)} of {size_text(self.file.size)}"
            self.problem = DownloadError(f"cut short: {came}", "cut_short")
        except AnswerError as error:
            self.problem = DownloadError(f"the answer has not the right form: {error}", "malformed")
        except DownloadError as error:
            came = f"{size_text(self.size)} of {size_text(self.file.size)}"
            self.problem = DownloadError(f"{error} after {came}", error.failure)
        return True

    def _look_at(self, part: object) -> None:
        if isinstance(part, Head) and part.status != 200:
            raise DownloadError(f"the server answered with status {part.status}", "status")
        if isinstance(part, Data):
            at = self.size - len(part.data)
            if os.pread(self._source.fileno(), len(part.data), at) != part.data:
                raise DownloadError("what came is not as in the file", "wrong_bytes")

    def header(self, name: str) -> str | None:
        """The value of a header of the answer (its name in lower case); None if it is missing."""
        values = [value for key, value in self.reader.headers if key.lower() == name]
        return values[0] if values else None

    def leave(self, *, reset: bool = False) -> None:
        super().leave(reset=reset)
        self._source.close()


def programs(server: Server) -> list[int]:
    """The processes of a program, its first one first: without the supervisor and the sandbox."""
    found = []
    for pid in group_members(server.supervisor_pid):
        with suppress(psutil.Error):
            if pid != server.supervisor_pid and psutil.Process(pid).name() != "bwrap":
                found.append(pid)
    return found


def held_ports(server: Server) -> set[int]:
    """The ports of the clients whose connections the program still has a descriptor for."""
    ports = set()
    for pid in programs(server):
        with suppress(psutil.Error, OSError):
            for each in psutil.Process(pid).net_connections("tcp"):
                if each.raddr:
                    ports.add(each.raddr.port)
    return ports


def still_held(server: Server, some: Sequence[Client], within: Deadline) -> list[Client]:
    """Those of some clients that the program has not given up when the time is up."""
    while left := _held_among(server, some):
        if within.passed:
            return _held_among(server, some)
        time.sleep(2 * TURN)
    return left


def _held_among(server: Server, some: Sequence[Client]) -> list[Client]:
    ports = held_ports(server)
    return [client for client in some if client.port in ports]


def expect_health(server: Server, promised: str, summary: str) -> None:
    """`GET /health` is answered at once, with status 200."""
    with promise(promised):
        answer = ask(server, [request_for(HEALTH)], patience=AT_ONCE, lingers=0)
        if answer.status == 200:
            return
        line = curl(server, HEALTH, f"-i --max-time {AT_ONCE:g}")
        if answer.raw:
            told = f"{summary}. Then GET {HEALTH} had this answer:\n\n{shown(answer.raw)}\n\n"
            end_check("health_refused", server, f"{told}The status should be 200", line)
        told = f"{summary}. Then GET {HEALTH} was not answered within {AT_ONCE:g} s"
        end_check("others_wait", server, told, line)


def first_of_all(server: Server, rng: Random) -> SampleFile:
    """One small file arrives; else that is what is wrong, and nothing later."""
    with promise("file"):
        small = random_file(
            rng.randrange(3000, 90_000), name_of(rng), server.root, rng.randrange(2**32)
        )
        expect_download(server, small, "with no other client there")
    return small


def fail_for(
    server: Server, client: Download, cause: str, summary: str, command: str = ""
) -> NoReturn:
    """End a check because of what a client has seen: `cause` if it was cut short, or left waiting.

    Bytes or a status that are wrong are a cause of their own.
    """
    problem = client.problem or DownloadError("no more came", "unfinished")
    if problem.failure in ("wrong_bytes", "too_many", "malformed", "status"):
        cause = cause_of(problem.failure, server)
    end_check(cause, server, f"{summary}: {problem}", command)
