"""Lab 07's app: its routes, readers of its live log, and what keeps clients waiting.

A check of many clients first asks for the same with one client alone. Sizes are in bytes, times in
seconds.
"""

from __future__ import annotations

import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Literal, NoReturn

from streamlab.checks.connection import Connection
from streamlab.checks.evidence import shown, state_of
from streamlab.checks.exchange import connected, request_for
from streamlab.checks.observe import at_work
from streamlab.checks.outcome import fail, promise
from streamlab.files import KiB, MiB, same_length
from streamlab.http.answer import AnswerSoFar, RawAnswer
from streamlab.process import proc
from streamlab.process.patience import Deadline, PatientSocket
from streamlab.process.proc import threads_of
from streamlab.process.server import Server, out_of_memory

VIDEO = "video/mp4"
REPORT = "/report.csv"
REPORT_HEAD = "number,square,cube\r\n"
ENDLESS = 10**12
"""Rows of a report so long that no client waits for its end."""
ENDLESS_REPORT = f"{REPORT}?rows={ENDLESS}"
LOG = "/log"
LOG_NAME = "river.log"

GZIP = "Accept-Encoding: gzip, deflate, br"
FEW_THREADS = 32
"""The fewest threads of a full pool: Starlette's has 40, asyncio's own has fewer."""
SLOW_TURN = 1.0
"""Seconds after which an event loop counts as stuck if it has not answered a request."""
PROMPT = 5.0
"""Seconds after which an answer is late that had to come at once."""
EACH = 4 * MiB
"""Bytes that a server may hold for each client that waits."""
SLACK = 16 * MiB
"""Bytes that it may hold besides, for what Python and the C library keep."""


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


@contextmanager
def asked_connection(
    server: Server, request: bytes, patience: float = PROMPT
) -> Iterator[socket.socket]:
    """A connection over which `request` has been sent; the check fails if there is none."""
    with ExitStack() as stack:
        try:
            sock = stack.enter_context(connected(server, patience))
            sock.sendall(request)
        except OSError as error:
            first = request.partition(b"\r\n")[0].decode("latin-1")
            cause = "elsewhere" if server.running else "died"
            end_check(cause, server, f"{first}: nothing could be sent to {server.url}: {error}")
        yield sock


def expect_video_head(
    connection: Connection, answer: RawAnswer, size: int, method: str = "GET"
) -> None:
    """The check fails unless a head has the two headers of a video, each once."""
    with promise("head" if method == "HEAD" else "video-type"):
        kinds = all_of(answer, "content-type")
        if [each.partition(";")[0].strip().lower() for each in kinds] != [VIDEO]:
            came = " and ".join(kinds) or "none"
            connection.fault(
                "wrong_type", f"Content-Type should be {VIDEO}, and is {came}", answer.raw
            )
    with promise("head" if method == "HEAD" else "video-length"):
        lengths = all_of(answer, "content-length")
        if lengths != [str(size)]:
            came = " and ".join(lengths) or "none"
            connection.fault(
                "no_length", f"Content-Length should be {size}, and is {came}", answer.raw
            )


def all_of(answer: RawAnswer, name: str) -> list[str]:
    """The values of all header lines of a name (in lower case)."""
    return [value for key, value in answer.headers if key.lower() == name]


def why_no_answer(server: Server) -> tuple[str, str]:
    """Why a request is not answered beside others: the cause, and what was seen, in words.

    A path without a route is answered in the event loop, without a thread. If a thread pool is
    full, all routes that need a thread wait, and not only one.
    """
    looks = []
    for _ in range(20):
        looks.append(at_work(server))
        time.sleep(0.02)
    seconds = _answers(server, "/no-such-route")
    if seconds is None or seconds > SLOW_TURN:
        late = "not answered either" if seconds is None else f"answered after {seconds:.1f} s"
        told = f". The event loop does not turn: GET /no-such-route is {late}"
        if sum(looks) > 0.8 * len(looks):
            return "never_waits", f"{told}, and the server is at work all the time"
        return "blocks", f"{told}, and the server waits for something"
    told = ". The event loop turns: GET /no-such-route is answered"
    for path in (f"{REPORT}?rows=1", server.path_of("no-such-film.mp4")):
        if _answers(server, path) is not None:
            return "one_at_a_time", f"{told}, and so is GET {path}"
    threads = threads_of(server.supervisor_pid)
    cause = "pool_full" if threads > FEW_THREADS else "one_at_a_time"
    return cause, f"{told}, and no other route is. The server has {threads} threads"


def _answers(server: Server, path: str) -> float | None:
    """Seconds until a request has any answer; None if it has none in time."""
    waiting = Deadline(PROMPT)
    with suppress(OSError), connected(server, PROMPT) as sock:
        sock.sendall(request_for(path))
        if sock.recv(KiB):
            return waiting.spent
    return None


def report_of(rows: int) -> bytes:
    """The right report."""
    lines = (f"{number},{number**2},{number**3}\r\n" for number in range(1, rows + 1))
    return (REPORT_HEAD + "".join(lines)).encode()


def parting(body: bytes, wanted: bytes) -> str:
    """Where a body begins to differ from the wanted one, with both texts from there on."""
    same = same_length(body, wanted)
    begin = max(0, same - 30)
    return (
        f"From byte {begin} on it reads\n\n{shown(body[begin:], 60)}\n\nand should read\n\n"
        f"{shown(wanted[begin:], 60)}\n\nThe first {same} bytes are right"
    )


def without_gzip(body: bytes, coding: str | None, most: int) -> bytes:
    """A body without its gzip coding, as far as it has come; no more than `most` bytes, and one.

    A few KiB of gzip become a GiB: nobody needs more than shows that it is too much.
    """
    if (coding or "identity").lower() != "gzip":
        return body
    with suppress(zlib.error):
        return zlib.decompressobj(wbits=31).decompress(body, most + 1)
    return b"what came says Content-Encoding: gzip, and is none"


class Log:
    """The log file that a server has to follow, and what has been written to it."""

    def __init__(self, server: Server, rng: Random, lines: int = 5) -> None:
        self.path = server.root / LOG_NAME
        self.content = b""
        self.path.touch()
        self.write(
            *(rng.randbytes(rng.randrange(5, 40)).hex().encode() + b"\n" for _ in range(lines))
        )

    def write(self, *lines: bytes) -> None:
        """Append whole lines, as a program does that writes a log."""
        with self.path.open("ab", buffering=0) as file:
            file.write(b"".join(lines))
        self.content += b"".join(lines)


@dataclass(frozen=True)
class Shortfall:
    """Why an answer is wrong, in one word and in a sentence."""

    kind: Literal["status", "bytes", "ended", "late", "malformed", "nothing"]
    text: str

    def cause(self, late: str, ended: str = "cut_short") -> str:
        """The cause by this lab's names: `late` if it did not come in time, else `ended`."""
        causes = {
            "status": "wrong_status",
            "bytes": "wrong_bytes",
            "ended": ended,
            "late": late,
            "malformed": "malformed",
            "nothing": "no_answer",
        }
        return causes[self.kind]


def shortfall(
    so_far: AnswerSoFar, content: bytes, *, whole: bool = False, seconds: float = 0
) -> Shortfall | None:
    """Why the bytes of an answer are wrong; None if they are right.

    They must begin with `content`; with `whole`, they must be that and end. What is still missing
    counts as `late`, after these seconds.
    """
    answer, closed = so_far.answer(), so_far.closed
    raw = answer.raw
    if b"\r\n\r\n" in raw and answer.problem and answer.fault == "malformed":
        return Shortfall("malformed", f"{answer.problem}:\n\n{shown(raw)}\n\n")
    if answer.status not in (0, 200):
        return Shortfall("status", f"status {answer.status} came:\n\n{shown(raw)}\n\n")
    body = without_gzip(answer.body, answer.header("content-encoding"), len(content))
    if not content.startswith(body[: len(content)]) or (whole and len(body) > len(content)):
        told = f"the answer is not what it should be. {parting(body, content)}"
        return Shortfall("bytes", told)
    if len(body) >= len(content) and (answer.ended or not whole):
        return None
    came = f"{len(body)} of {len(content)} bytes have come"
    if not raw and closed:
        return Shortfall("nothing", "the connection was closed, and nothing came")
    if answer.ended or closed:
        return Shortfall("ended", f"{came}, and that was the end of the answer")
    if len(body) >= len(content):
        came = f"all {came}, but no end of the answer,"
    return Shortfall("late", f"{came} in {seconds:g} s")


class Watcher:
    """A client that reads an answer step by step. A context manager: at its end it leaves.

    `buffer` is the client's receive buffer (`SO_RCVBUF`), and `segment` the largest segment that it
    accepts (`TCP_MAXSEG`, tcp(7)), both in bytes; 0 leaves the choice to the kernel. The server's
    kernel chooses its own buffer by the segment.
    """

    def __init__(
        self,
        server: Server,
        path: str = LOG,
        *headers: str,
        buffer: int = 0,
        segment: int = 0,
    ) -> None:
        self._server = server
        self._request = request_for(path, *headers)
        self._buffer = buffer
        self._segment = segment
        self._so_far = AnswerSoFar()

    def __enter__(self) -> Watcher:
        port = int(self._server.url.rpartition(":")[2])
        self._server.mark()
        self._sock = PatientSocket()
        if self._buffer:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        if self._segment:
            with suppress(OSError):  # not every system allows this
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, self._segment)
        with suppress(OSError):
            self._sock.settimeout(PROMPT)
            self._sock.connect(("127.0.0.1", port))
            self._sock.sendall(self._request)
        return self

    def __exit__(self, *exc: object) -> None:
        self._sock.close()

    def unread(self) -> int | None:
        """Bytes that wait for this client in the server's kernel; None where unknown."""
        with suppress(OSError):
            return proc.unread(self._sock.getsockname(), self._sock.getpeername())
        return None

    def sees(
        self, content: bytes, patience: float = PROMPT, *, whole: bool = False
    ) -> Shortfall | None:
        """Wait for an answer that begins with `content`; why it does not come, or None.

        With `whole`, the answer must end there.
        """
        deadline = Deadline(patience)
        while True:
            problem = shortfall(self._so_far, content, whole=whole, seconds=patience)
            if problem is None or problem.kind != "late" or (left := deadline.left) <= 0:
                return problem
            self._sock.settimeout(left)
            try:
                self._so_far.take(self._sock.recv(256 * KiB))
            except TimeoutError:
                continue
            except OSError:
                self._so_far.close()

    @property
    def silent(self) -> bool:
        """Whether the connection is open and nothing has come, not even a status."""
        return not self._so_far.raw and not self._so_far.closed

    @property
    def status(self) -> int:
        """The status of the answer; 0 if none has come."""
        return self._so_far.status

    def headers(self, name: str) -> list[str]:
        """The values of a header of the answer (its name in lower case)."""
        return all_of(self._so_far.answer(), name)
