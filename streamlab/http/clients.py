"""Downloads as real clients make them: fast, slow, stalled or leaving early; one or a thousand.

`download` makes one in this process. `Crowd` runs many in a process of their own
(`python -m streamlab.http.clients`), so that their memory is never counted as the server's; the two
processes speak JSON lines over the child's standard input and output.

Every byte of a body is compared with the file it should come from, piece by piece: a client holds
one piece, whatever the size of the file.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from streamlab.errors import AnswerError, CutShort, DownloadError, Failure, NoAnswer
from streamlab.files import KiB, MiB, TiB, drop_cache, same_length, size_text
from streamlab.http.parts import Data, Head, Limits, Part
from streamlab.http.reader import AnswerReader
from streamlab.process import ahead
from streamlab.process.patience import Deadline

Pace = Literal["fast", "slow", "stalled", "leaving"]
"""How a client reads. `fast`: all at once. `slow`: takes its first bytes, waits until every other
client has its own, then reads the rest. `stalled`: the same, but never reads the rest. `leaving`:
takes its first bytes and closes the connection."""

PIECE = 256 * KiB
FIRST = 64 * KiB
"""Bytes that a client takes before it waits or leaves (less when the body is smaller)."""

_LIMITS = Limits(head=256 * KiB, line=8 * KiB, trailer=64 * KiB, body=1024 * TiB)
"""Of an answer. Nothing of its body is kept, so that may be as large as any file."""
_RECEIVE_BUFFER = 256 * KiB
_ALL_RECEIVE_BUFFERS = 64 * MiB
"""Of a whole crowd. The kernel has room for so many bytes in all TCP sockets and no more
(tcp(7), `tcp_mem`; less than 1 GiB where memory is small), and slows all down before it is full."""


@dataclass
class Download:
    """What became of one download. Times are in seconds since the request was sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    size: int = 0
    """Bytes of body received, all of them as in the file."""
    first_byte: float | None = None
    """Time to the first byte of the body; None if none came."""
    seconds: float = 0.0
    error: str | None = None
    """Why it failed, in one line; None if it did what its pace asks for."""
    failure: Failure | None = None
    """The same in one word; None if it did not fail."""


@dataclass(frozen=True)
class Load:
    """What clients do to a server: `clients` downloads of `path` at once.

    `first` is how many bytes a client takes before it waits or leaves. `source` is the file whose
    bytes the body must have (None: only lengths are checked). `warmup` is a path to download once,
    before all (None: no such download).
    """

    path: str
    clients: int = 1
    pace: Pace = "slow"
    first: int = FIRST
    source: Path | str | None = None
    warmup: str | None = None


@dataclass(frozen=True)
class Job:
    """An order for a crowd: a load on the server at 127.0.0.1:`port`.

    `timeout` is for the whole job, in seconds: a `Deadline`, whose root is the process `watched`.
    The server descends from it, and so do the clients (None: their own process). With `drop_cache`
    the page cache does not keep what of the load's `source` has arrived (see
    `streamlab.files.drop_cache`).
    """

    port: int
    load: Load
    timeout: float = 60.0
    watched: int | None = None
    drop_cache: bool = False


def download(
    url: str, source: Path | str | None = None, timeout: float = 60.0, first: int | None = None
) -> Download:
    """Download `url` (http, any host of this machine) at full speed, checking it against `source`.

    With `first` the client leaves after that many bytes. Raises `DownloadError` if it fails, is cut
    short, or brings other bytes.
    """
    parts = urlsplit(url)
    load = Load(
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        pace="fast" if first is None else "leaving",
        first=first or 1,
        source=source,
    )
    job = Job(parts.port or 80, load, timeout)
    # In a thread: a notebook's kernel has an event loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(asyncio.run, _Client(job).run(asyncio.Event())).result()
    if result.error is not None:
        told = f"{url}: {result.error}"
        raise DownloadError(told, result.failure or "other", result.error)
    return result


class Crowd:
    """Many clients in a process of their own, which arrive, wait for each other, and finish.

    Used as a context manager: its beginning starts that process and warms the server up, its end
    ends the process. Raises `DownloadError` when that process fails or is overdue.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    def __enter__(self) -> Crowd:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")
        self._process: ahead.Helper | subprocess.Popen[str] = ahead.start(
            "streamlab.http.clients:main", errors=self._errors
        ) or subprocess.Popen(
            [sys.executable, "-m", "streamlab.http.clients"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=os.name == "posix",
        )
        self._left = threading.Event()
        threading.Thread(target=self._end_if_overdue, daemon=True).start()
        self._say(asdict(replace(self.job, watched=os.getpid())))
        self._hear("ready")
        return self

    def __exit__(self, *exc: object) -> None:
        self._left.set()
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(OSError):  # it has not heard all that was said
                if file is not None:
                    file.close()

    def arrive(self) -> list[Download]:
        """Let all clients come at once; returns how far they are when all have first bytes."""
        return self._order("arrive")

    def arrive_one(self) -> Download:
        """Let one more client come; returns how far it is once it has its first bytes."""
        return self._order("arrive one")[0]

    def finish(self) -> list[Download]:
        """Let all clients that came end as their pace says; returns all downloads."""
        return self._order("finish")

    def _end_if_overdue(self) -> None:
        deadline = Deadline(self.job.timeout + 10)
        if self._left.wait(deadline.seconds):  # no time that counts is shorter than that
            return
        while not self._left.wait(deadline.turn):
            if deadline.passed:
                self._process.kill()
                return

    def _order(self, what: str) -> list[Download]:
        self._say(what)
        return [Download(**each) for each in self._hear(what)]

    def _say(self, message: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has died: the next _hear says why
            self._process.stdin.write(json.dumps(message, default=os.fspath) + "\n")
            self._process.stdin.flush()

    def _hear(self, expected: str) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            why = self._errors.read().strip().splitlines()
            if why:
                raise DownloadError(why[-1])
            raise DownloadError(f"no answer in {self.job.timeout:g} s", "overdue")
        event, content = json.loads(line)
        if event != expected:
            raise DownloadError(content["error"], content["failure"])
        return content


def receive_buffer(clients: int) -> int:
    """What a waiting client of a crowd of that size asks the kernel to keep for it, in bytes."""
    return min(_RECEIVE_BUFFER, _ALL_RECEIVE_BUFFERS // clients)


@asynccontextmanager
async def _patience(seconds: float, root: int | None) -> AsyncIterator[None]:
    """As `asyncio.timeout`, but by a `Deadline`: it raises TimeoutError when that has passed."""
    deadline, loop = Deadline(seconds, root=root), asyncio.get_running_loop()

    async with asyncio.timeout(None) as limit:
        waking = loop.call_later(seconds, lambda: look())

        def look() -> None:
            nonlocal waking
            left = deadline.left
            if left > 0:
                waking = loop.call_later(left, look)
            else:
                limit.reschedule(loop.time())

        try:
            yield
        finally:
            waking.cancel()


class _Client:
    """One client: an HTTP/1.1 GET on a socket of its own, the body checked as it comes."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.load = job.load
        self.result = Download()
        self.has_first = asyncio.Event()
        """Set when the first bytes are there, or never will be."""
        source = job.load.source
        self._file = Path(source).open("rb", buffering=0) if source else None  # noqa: SIM115
        self._dropped = 0

    async def run(self, may_finish: asyncio.Event) -> Download:
        """Download as the pace says; waiting clients go on when `may_finish` is set."""
        began = time.perf_counter()
        try:
            async with _patience(self.job.timeout, self.job.watched):
                began = time.perf_counter()
                await self._download(began, may_finish)
        except TimeoutError:
            self.result.error = f"not finished after {self.job.timeout:g} s"
            self.result.failure = "unfinished"
        except (OSError, DownloadError, AnswerError) as error:
            self.result.error, self.result.failure = _one_line(error), _failure_of(error)
        finally:
            self.result.seconds = time.perf_counter() - began
            self.has_first.set()
            if self._file is not None:
                self._file.close()
        return self.result

    async def _download(self, began: float, may_finish: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            if self.load.pace != "fast":
                # A waiting client must not take the body in by way of a large kernel buffer.
                buffer = receive_buffer(self.load.clients)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            await loop.sock_connect(sock, ("127.0.0.1", self.job.port))
            request = (
                f"GET {self.load.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.job.port}\r\n"
                "User-Agent: curl/8.5.0\r\nAccept-Encoding: identity\r\n"
                "Connection: close\r\n\r\n"
            )
            await loop.sock_sendall(sock, request.encode())
            waits = self.load.pace != "fast"
            async for piece in self._body(sock):
                if self.result.first_byte is None:
                    self.result.first_byte = time.perf_counter() - began
                self._check(piece)
                if waits and self.result.size >= self.load.first:
                    waits = False
                    self.has_first.set()
                    if self.load.pace == "leaving":
                        return
                    await may_finish.wait()
                    if self.load.pace == "stalled":
                        return
                await asyncio.sleep(0)  # a socket that always has data must not starve the others
            if self._file is not None:
                wanted = os.fstat(self._file.fileno()).st_size
                if self.result.size != wanted:
                    raise _other_length(self.result.size, wanted)

    def _check(self, piece: bytes) -> None:
        if self._file is not None and piece:
            self._file.seek(self.result.size)
            wanted = self._file.read(len(piece))
            if piece != wanted:
                same = same_length(piece, wanted)
                at = self.result.size + same
                if same == len(wanted):
                    extra = f"byte {at} is not as in the file: the file ends before it"
                    raise DownloadError(extra, "too_many")
                raise DownloadError(f"byte {at} is not as in the file", "wrong_bytes")
        self.result.size += len(piece)
        if self.job.drop_cache and self._file is not None:
            self._dropped = drop_cache(self._file.fileno(), self._dropped, self.result.size)

    async def _body(self, sock: socket.socket) -> AsyncIterator[bytes]:
        """The pieces of the body, however it is framed (RFC 9112, section 6)."""
        reader = AnswerReader(_LIMITS)
        try:
            async for part in _parts(sock, reader):
                if isinstance(part, Head) and reader.head is not None:
                    self._look_at(part)
                elif isinstance(part, Data):
                    yield part.data
        except NoAnswer:
            told = "the server closed the connection before any answer"
            raise DownloadError(told, "no_answer") from None
        except CutShort as error:
            if reader.stage == "length" and reader.head is not None:
                raise _other_length(reader.size, reader.head.length or 0) from None
            if reader.head is None:
                raise
            told = "cut short: the connection closed before the last chunk"
            raise DownloadError(told, error.fault) from None
        length = reader.head.length if reader.head is not None else None
        if length is not None and reader.rest:
            raise _other_length(length + len(reader.rest), length)

    def _look_at(self, head: Head) -> None:
        self.result.status = head.status
        self.result.headers = {name.lower(): value for name, value in head.headers}
        if head.status != 200:
            raise DownloadError(f"the server answered with status {head.status}", "status")


async def _parts(sock: socket.socket, reader: AnswerReader) -> AsyncIterator[Part]:
    """The parts of an answer, as they come, to its end."""
    loop = asyncio.get_running_loop()
    while reader.stage != "end":
        if piece := await loop.sock_recv(sock, PIECE):
            reader.feed(piece)
        else:
            reader.close()
        for part in reader.parts():
            yield part


async def _run_job(job: Job) -> None:
    """The child's side of a `Crowd`."""
    orders: asyncio.Queue[str] = asyncio.Queue()
    _read_orders(orders)
    if (warmup := job.load.warmup) is not None:
        warm = replace(job, load=Load(warmup, pace="fast"))
        result = await _Client(warm).run(asyncio.Event())
        if result.error is not None:
            raise DownloadError(f"{warmup}: {result.error}", result.failure or "other")
    _tell("ready")
    may_finish = asyncio.Event()
    tasks: list[asyncio.Task[Download]] = []
    while (order := await orders.get()) != "finish":
        arriving = [_Client(job) for _ in range(1 if order == "arrive one" else job.load.clients)]
        tasks += [asyncio.create_task(client.run(may_finish)) for client in arriving]
        for client in arriving:
            await client.has_first.wait()
        _tell(order, [asdict(client.result) for client in arriving])
    may_finish.set()
    _tell(order, [asdict(await task) for task in tasks])


def _read_orders(orders: asyncio.Queue[str]) -> None:
    """Put each line of standard input into a queue, from a thread; its end ends this process."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(orders.put_nowait, json.loads(line))
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()


def _tell(event: str, content: object = None) -> None:
    print(json.dumps([event, content]), flush=True)


def _one_line(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "no server listens there: it has ended, or never started"
    if isinstance(error, ConnectionResetError):
        return "the server broke the connection"
    return str(error) or type(error).__name__


def _failure_of(error: Exception) -> Failure:
    if isinstance(error, DownloadError):
        return error.failure
    if isinstance(error, AnswerError):
        return error.fault
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return "broken" if isinstance(error, ConnectionError) else "other"


def _other_length(received: int, wanted: int) -> DownloadError:
    if received > wanted:
        return DownloadError(f"{received - wanted} bytes too many", "too_many")
    return DownloadError(f"cut short: {size_text(received)} of {size_text(wanted)}", "cut_short")


def main() -> int:
    """Run the job that the first line of standard input describes."""
    order = json.loads(sys.stdin.readline())
    job = Job(**{**order, "load": Load(**order["load"])})
    _raise_descriptor_limit(job.load.clients * 2 + 64)
    try:
        asyncio.run(_run_job(job))
    except DownloadError as error:
        _tell("failed", {"error": str(error), "failure": error.failure})
    return 0


def _raise_descriptor_limit(wanted: int) -> None:
    """A socket and a file a client: let the soft limit not be what stops a thousand of them."""
    if os.name != "posix":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main()
