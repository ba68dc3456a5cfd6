"""Downloads as real clients make them: fast, slow, stalled or leaving early; one or a thousand.

`download` makes one in this process. `Crowd` runs many in a process of their own
(`python -m streamlab.clients`), so that their memory is never counted as the server's; the two
processes speak JSON lines over the child's standard input and output.

Every byte of a body is compared with the file it should come from, piece by piece: a client holds
one piece, whatever the size of the file.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import string
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from streamlab.errors import DownloadError, Failure
from streamlab.files import KiB, MiB, size_text
from streamlab.patience import Deadline

Pace = Literal["fast", "slow", "stalled", "leaving"]
"""How a client reads. `fast`: all at once. `slow`: takes its first bytes, waits until every other
client has its own, then reads the rest. `stalled`: the same, but never reads the rest. `leaving`:
takes its first bytes and closes the connection."""

PIECE = 256 * KiB
FIRST = 64 * KiB
"""Bytes that a client takes before it waits or leaves (less when the body is smaller)."""

_HEAD_LIMIT = 64 * KiB
_LONGEST_NUMBER = 30
"""Digits: Python refuses to read thousands of them."""
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
class Job:
    """An order for a crowd: `clients` downloads of `path` from 127.0.0.1:`port`.

    `source` is the file whose bytes the body must have (None: only lengths are checked). `first` is
    in bytes. `warmup` is a path to download once, before all. `timeout` is for the whole job, in
    seconds: a `Deadline`, whose root is the process `watched`. The server descends from it, and so
    do the clients (0: their own process).
    """

    port: int
    path: str
    clients: int = 1
    pace: Pace = "slow"
    source: str | None = None
    warmup: str | None = None
    first: int = FIRST
    timeout: float = 60.0
    watched: int = 0


def download(
    url: str, source: Path | str | None = None, timeout: float = 60.0, first: int | None = None
) -> Download:
    """Download `url` (http, any host of this machine) at full speed, checking it against `source`.

    With `first` the client leaves after that many bytes. Raises `DownloadError` if it fails, is cut
    short, or brings other bytes.
    """
    parts = urlsplit(url)
    job = Job(
        port=parts.port or 80,
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        pace="fast" if first is None else "leaving",
        first=first or 1,
        source=str(source) if source is not None else None,
        timeout=timeout,
    )
    # In a thread: a notebook's kernel has an event loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(asyncio.run, _Client(job).run(asyncio.Event())).result()
    if result.error is not None:
        raise DownloadError(f"{url}: {result.error}", result.failure or "other")
    return result


class Crowd:
    """Many clients in a process of their own, who arrive, wait for each other, and finish.

    Used as a context manager: its beginning starts that process and warms the server up, its end
    ends the process. Raises `DownloadError` when that process fails or is overdue.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    def __enter__(self) -> Crowd:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "streamlab.clients"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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
        self._process.communicate()

    def arrive(self) -> list[Download]:
        """Let all clients come at once; returns how far they are when all have first bytes."""
        return self._order("arrive")

    def arrive_one(self) -> Download:
        """Let one more client come; returns how far it is once it has its first bytes."""
        return self._order("arrive one")[0]

    def finish(self) -> list[Download]:
        """Let all who came end as their pace says; returns all downloads."""
        return self._order("finish")

    def _end_if_overdue(self) -> None:
        deadline = Deadline(self.job.timeout + 10)
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
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _hear(self, expected: str) -> Any:
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            why = self._process.stderr.read().strip().splitlines()
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
async def _patience(seconds: float, root: int) -> AsyncIterator[None]:
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
        self.result = Download()
        self.has_first = asyncio.Event()
        """Set when the first bytes are there, or never will be."""
        self._file = Path(job.source).open("rb", buffering=0) if job.source else None  # noqa: SIM115

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
        except (OSError, DownloadError) as error:
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
            if self.job.pace != "fast":
                # A waiting client must not take the body in by way of a large kernel buffer.
                buffer = receive_buffer(self.job.clients)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            await loop.sock_connect(sock, ("127.0.0.1", self.job.port))
            request = (
                f"GET {self.job.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.job.port}\r\n"
                "User-Agent: curl/8.5.0\r\nAccept-Encoding: identity\r\n"
                "Connection: close\r\n\r\n"
            )
            await loop.sock_sendall(sock, request.encode())
            waits = self.job.pace != "fast"
            async for piece in self._body(sock):
                if self.result.first_byte is None:
                    self.result.first_byte = time.perf_counter() - began
                self._check(piece)
                if waits and self.result.size >= self.job.first:
                    waits = False
                    self.has_first.set()
                    if self.job.pace == "leaving":
                        return
                    await may_finish.wait()
                    if self.job.pace == "stalled":
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
                same = next(
                    (i for i, (a, b) in enumerate(zip(piece, wanted, strict=False)) if a != b),
                    len(wanted),
                )
                at = self.result.size + same
                if same == len(wanted):
                    extra = f"byte {at} is not as in the file: the file ends before it"
                    raise DownloadError(extra, "too_many")
                raise DownloadError(f"byte {at} is not as in the file", "wrong_bytes")
        self.result.size += len(piece)

    async def _body(self, sock: socket.socket) -> AsyncIterator[bytes]:
        """The pieces of the body, however it is framed (RFC 9112, section 6)."""
        loop = asyncio.get_running_loop()
        head = b""
        while b"\r\n\r\n" not in head:
            more = await loop.sock_recv(sock, PIECE)
            if not (more or head):
                raise DownloadError(
                    "the server closed the connection before any answer", "no_answer"
                )
            head += more
            if not more or len(head) > _HEAD_LIMIT + PIECE:
                raise DownloadError(
                    f"{size_text(len(head))} came, but no empty line that ends the headers: "
                    "the head's lines must end in CR LF",
                    "malformed",
                )
        head, _, rest = head.partition(b"\r\n\r\n")
        self._read_head(head)
        headers = self.result.headers
        if self.result.status != 200:
            raise DownloadError(f"the server answered with status {self.result.status}", "status")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            async for piece in _unchunked(sock, rest):
                yield piece
            return
        length = None
        if "content-length" in headers:
            length = _number(headers["content-length"], 10, "Content-Length")
        received = 0
        while length is None or received < length:
            piece = rest or await loop.sock_recv(sock, PIECE)
            rest = b""
            if not piece:
                break
            received += len(piece)
            yield piece
        if length is not None and received != length:
            raise _other_length(received, length)

    def _read_head(self, head: bytes) -> None:
        status_line, *lines = head.decode("latin-1").split("\r\n")
        parts = status_line.split(" ", 2)
        if not parts[0].startswith("HTTP/") or len(parts) < 2 or not parts[1].isdecimal():
            raise DownloadError(
                f"the answer begins with {status_line[:60]!r}, not with HTTP/1.1", "malformed"
            )
        self.result.status = _number(parts[1], 10, "the status")
        pairs = (line.partition(":") for line in lines)
        self.result.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _unchunked(sock: socket.socket, rest: bytes) -> AsyncIterator[bytes]:
    """The data of a chunked body (RFC 9112, section 7.1), of which `rest` has come already."""
    loop = asyncio.get_running_loop()
    buffer = bytearray(rest)

    async def more() -> None:
        piece = await loop.sock_recv(sock, PIECE)
        if not piece:
            raise DownloadError(
                "cut short: the connection closed before the last chunk", "cut_short"
            )
        buffer.extend(piece)

    while True:
        while b"\r\n" not in buffer:
            if len(buffer) > _HEAD_LIMIT:
                raise DownloadError("no CR LF ends the line of a chunk's size", "malformed")
            await more()
        line, _, _ = buffer.partition(b"\r\n")
        left = _number(line.split(b";")[0].strip().decode("latin-1"), 16, "a chunk's size")
        del buffer[: len(line) + 2]
        if left == 0:
            return
        while left:
            if not buffer:
                await more()
            piece = bytes(buffer[:left])
            del buffer[: len(piece)]
            left -= len(piece)
            yield piece
        while len(buffer) < 2:
            await more()
        if buffer[:2] != b"\r\n":
            raise DownloadError("a chunk is longer than its size line says", "malformed")
        del buffer[:2]


async def _run_job(job: Job) -> None:
    """The child's side of a `Crowd`."""
    orders: asyncio.Queue[str] = asyncio.Queue()
    _read_orders(orders)
    if job.warmup is not None:
        warm = Job(
            port=job.port, path=job.warmup, pace="fast", timeout=job.timeout, watched=job.watched
        )
        result = await _Client(warm).run(asyncio.Event())
        if result.error is not None:
            raise DownloadError(f"{job.warmup}: {result.error}", result.failure or "other")
    _tell("ready")
    may_finish = asyncio.Event()
    tasks: list[asyncio.Task[Download]] = []
    while (order := await orders.get()) != "finish":
        arriving = [_Client(job) for _ in range(1 if order == "arrive one" else job.clients)]
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
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    return "broken" if isinstance(error, ConnectionError) else "other"


def _number(text: str, base: int, what: str) -> int:
    digits = string.hexdigits if base == 16 else string.digits
    if not text or text.strip(digits) or len(text) > _LONGEST_NUMBER:
        raise DownloadError(f"{what} is {text[:60]!r}, which is no number", "malformed")
    return int(text, base)


def _other_length(received: int, wanted: int) -> DownloadError:
    if received > wanted:
        return DownloadError(f"{received - wanted} bytes too many", "too_many")
    return DownloadError(f"cut short: {size_text(received)} of {size_text(wanted)}", "cut_short")


def main() -> None:
    """Run the job that the first line of standard input describes."""
    job = Job(**json.loads(sys.stdin.readline()))
    _raise_descriptor_limit(job.clients * 2 + 64)
    try:
        asyncio.run(_run_job(job))
    except DownloadError as error:
        _tell("failed", {"error": str(error), "failure": error.failure})


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
