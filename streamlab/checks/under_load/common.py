"""Lab 06: a thousand clients, which are sockets of the checking process, in one thread.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count as numbers
from itertools import islice
from typing import NoReturn, Self, TypeVar

from streamlab.checks.evidence import cause_of, curl, state_of
from streamlab.checks.exchange import request_for
from streamlab.checks.observe import wait_until_idle
from streamlab.checks.outcome import CouldNotRun, fail
from streamlab.checks.probes.common import CHUNK
from streamlab.checks.waits import CROWD
from streamlab.errors import AnswerError, CutShort, DownloadError, NoAnswer
from streamlab.files import KiB, MiB, SampleFile, TiB, size_text
from streamlab.http.parts import Data, Head, Limits
from streamlab.http.reader import AnswerReader
from streamlab.process.patience import Deadline
from streamlab.process.server import Server

Launch = Callable[..., Server]
Socket = TypeVar("Socket", bound=socket.socket)
CLIENTS = 1000
FIRST = 16 * KiB
"""Bytes that a client takes before it waits."""
WAVE = 50
"""How many clients come at the same moment. asyncio lets 100 queue, and a client that finds the
queue full tries again after 1, 3 and 7 seconds: that would test the length of the queue."""

SILENCE = 5.0
"""Seconds without a byte after which a client has waited too long."""
WINDOW = 8 * KiB
_PACKET = 1460

_LIMITS = Limits(head=1 * MiB, line=8 * KiB, trailer=64 * KiB, body=1 * TiB)
"""The limits of an answer; its body is not kept."""
_MOST = 16 * MiB
"""The most that any client takes of a file."""


# Clients


def make_room(clients: int = CLIENTS) -> None:
    """Let this process, and the servers it starts, have a descriptor for each client and more.

    Raises `CouldNotRun` if the hard limit does not allow that (setrlimit(2), `RLIMIT_NOFILE`).
    """
    if sys.platform == "win32":
        raise CouldNotRun("this check needs a system with limits on descriptors, such as Linux")
    import resource

    wanted = 2 * clients + 200  # a server has a socket and a file for each
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise CouldNotRun(
            f"a process of this machine may have {hard} descriptors, and the check needs {wanted}: "
            f"your program is not at fault. Raise the hard limit (ulimit -Hn), or ask the "
            "machine's administrator to"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


ALL, BEGINNING, REST = slice(None), slice(30), slice(30, None)
"""Parts of a request."""


def far_away(sock: Socket) -> Socket:
    """Make a socket like that of a remote client: short packets, a small window.

    On loopback packets have 64 KiB, and the kernel would keep 2.3 MiB for each client that waits.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
    with suppress(OSError, AttributeError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _PACKET)
    return sock


class WaitingClient:
    """A client that takes a part of a file and waits until it has to take more."""

    def __init__(self, port: int, file: SampleFile, content: bytes) -> None:
        self.file = file
        self.content = content
        self.reader = AnswerReader(_LIMITS)
        self.asked = False
        self.waits = Deadline(SILENCE)
        """The time by which a byte must have come; it starts again with each piece."""
        self.sock = far_away(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        self.sock.setblocking(False)
        self.sock.connect_ex(("127.0.0.1", port))

    def ask(self, part: slice = ALL) -> None:
        """Send the request, or a part of it, once connected; `OSError` if the connection failed."""
        if error := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        self.sock.sendall(request_for(self.file.url)[part])
        self.asked = True

    def take(self, goal: int) -> bool:
        """Read what has come; whether `goal` bytes of the body, or all of it, have come so far.

        Raises `DownloadError` if it is not the file, or if nothing more will come.
        """
        if piece := self.sock.recv(CHUNK):
            self.reader.feed(piece)
        else:
            self.reader.close()
        try:
            self._look()
        except NoAnswer:
            told = "the server closed the connection before any answer"
            raise DownloadError(told, "no_answer") from None
        except CutShort as error:
            if self.reader.head is None:
                raise _wrong_form(error) from None
            raise self._cut_short() from None
        except AnswerError as error:
            raise _wrong_form(error) from None
        goal = min(goal, self.file.size)
        if not piece and self.reader.size < goal:
            raise self._cut_short()
        return self.reader.size >= goal

    def _look(self) -> None:
        """Compare what has come with the file."""
        for part in self.reader.parts():
            if isinstance(part, Head) and self.reader.head and part.status != 200:
                raise DownloadError(f"the server answered with status {part.status}", "status")
            if isinstance(part, Data):
                before = self.reader.size - len(part.data)
                if part.data != self.content[before : self.reader.size]:
                    raise DownloadError("what came is not as in the file", "wrong_bytes")
        if self.reader.stage == "end" and (surplus := self.reader.rest):
            told = f"the answer has not the right form: {len(surplus)} bytes follow its end"
            raise DownloadError(told, "malformed")

    def _cut_short(self) -> DownloadError:
        came = f"{size_text(self.reader.size)} of {size_text(self.file.size)}"
        return DownloadError(f"cut short: {came}", "cut_short")


def _wrong_form(error: AnswerError) -> DownloadError:
    return DownloadError(f"the answer has not the right form: {error}", "malformed")


class WaitingClients:
    """Many clients of some files, in turn. A context manager: at its end they leave.

    A client that waits for `SILENCE` seconds without a byte has failed. All of them have failed if
    they are not finished in time.
    """

    def __init__(self, server: Server, *files: SampleFile) -> None:
        server.mark()
        self.port = int(server.url.rpartition(":")[2])
        self.files: list[tuple[SampleFile, bytes]] = []
        for file in files:
            with file.path.open("rb") as source:
                self.files.append((file, source.read(_MOST)))
        self.here: list[WaitingClient] = []
        self._came = numbers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.disconnect(len(self.here))

    @property
    def file(self) -> SampleFile:
        """The first one of the files."""
        return self.files[0][0]

    def connect(
        self,
        count: int,
        first: int = FIRST,
        at_once: int = WAVE,
        within: Deadline | float = CROWD,
    ) -> DownloadError | None:
        """Let `count` more clients take their first bytes; returns why one could not, or None."""
        return self._read((self._client() for _ in range(count)), first, at_once, within)

    def read_on(
        self, size: int, count: int | None = None, within: Deadline | float = CROWD
    ) -> DownloadError | None:
        """Let all clients, or the last `count`, read until each has `size` bytes.

        Returns why one could not, or None.
        """
        return self._read(self.here[-(count or 0) :], size, WAVE, within)

    def send_partial(self, count: int, patience: float = 2) -> None:
        """`count` more clients come and send half a request; some may not get a connection."""
        with selectors.DefaultSelector() as selector:
            for _ in range(count):
                client = self._client()
                selector.register(client.sock, selectors.EVENT_WRITE, client)
            deadline = Deadline(patience)
            while selector.get_map() and not deadline.passed:
                for key, _ in selector.select(0.1):
                    selector.unregister(key.fileobj)
                    with suppress(OSError):
                        key.data.ask(BEGINNING)

    def disconnect(self, count: int, *, reset: bool = False) -> None:
        """The first `count` clients close their connections, or reset them."""
        for client in self.here[:count]:
            if reset:  # closing sends RST (socket(7), SO_LINGER)
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sock.close()
        del self.here[:count]

    def _client(self) -> WaitingClient:
        file, content = self.files[next(self._came) % len(self.files)]
        client = WaitingClient(self.port, file, content)
        self.here.append(client)
        return client

    def _read(
        self, waiting: Iterable[WaitingClient], goal: int, at_once: int, within: Deadline | float
    ) -> DownloadError | None:
        waiting = iter(waiting)
        deadline = within if isinstance(within, Deadline) else Deadline(within)
        look = time.monotonic()
        with selectors.DefaultSelector() as selector:
            while True:
                for client in islice(waiting, at_once - len(selector.get_map())):
                    event = selectors.EVENT_READ if client.asked else selectors.EVENT_WRITE
                    client.waits = Deadline(SILENCE)
                    selector.register(client.sock, event, client)
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
                    client = key.data
                    client.waits = Deadline(SILENCE)
                    try:
                        if not client.asked:
                            client.ask()
                            selector.modify(client.sock, selectors.EVENT_READ, client)
                        elif client.take(goal):
                            selector.unregister(client.sock)
                    except BlockingIOError:
                        continue
                    except (OSError, DownloadError) as error:
                        return _reason(error)


def _overdue(selector: selectors.BaseSelector) -> bool:
    """Whether a client has waited for too long, and nothing has come."""
    late = [key.data for key in selector.get_map().values() if key.data.waits.passed]
    if not late:
        return False
    # If this process has not looked for long, it can't tell that there was silence.
    there = [key.data for key, _ in selector.select(0)]
    return any(client not in there for client in late)


def _reason(error: OSError | DownloadError) -> DownloadError:
    if isinstance(error, DownloadError):
        return error
    if isinstance(error, ConnectionRefusedError):
        return DownloadError("no server listens there: it has ended", "refused")
    return DownloadError("the server broke the connection", "broken")


def alone(server: Server, *files: SampleFile) -> None:
    """One client alone takes the first bytes of each file, waits a moment, and gets more.

    If that fails, it is the cause, and the question of a check with many clients stays open.
    """
    for file in files:
        more = min(file.size, MiB)
        summary = f"While there was no other client, one took {size_text(FIRST)} of {file.url} "
        summary += f"({size_text(file.size)})"
        with WaitingClients(server, file) as one:
            if not (problem := one.connect(1)):
                wait_until_idle(server)
                summary += f", waited a moment, and read on until it had {size_text(more)}"
                problem = one.read_on(more)
        if problem:
            line = curl(server, file.url, "--limit-rate 1M -o got")
            fail(
                cause_for_client(problem, server), f"{summary}: {problem}.{state_of(server)}", line
            )


def cause_for_client(problem: DownloadError, server: Server, silent: str = "no_end") -> str:
    """The cause that a client's failure points to; `silent` if the server did nothing."""
    if problem.failure in ("unfinished", "overdue"):
        return silent
    time.sleep(0.2)  # a server may close a connection first and write its error afterwards
    return cause_of(problem.failure, server)


def fail_for_client(
    server: Server, problem: DownloadError, summary: str, cause: str, line: str, trace: str = ""
) -> NoReturn:
    """End a check because of a client's failure. `cause` is why a server might do nothing."""
    found = cause_for_client(problem, server, cause)
    trace = f"\n{trace}" if trace else ""
    fail(found, f"{summary}: {problem}.{trace}{state_of(server)}", line)
