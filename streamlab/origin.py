"""An HTTP server that answers to order, also wrongly: what clients and proxies are tried against.

    with Origin() as origin:
        url = origin.put("/river.bin", Answer(bytes(1000), stop=600))

A client of `url` is promised 1000 bytes, gets 600, and finds the connection closed. What was asked
for, how much of it has gone out, and when the client left, stands in `origin.exchanges`. By hand:
`python -m streamlab.origin` serves an answer of every kind until it is interrupted.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import select
import socket
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from streamlab.environment import taken
from streamlab.errors import ServerError
from streamlab.files import GiB, KiB, MiB

Framing = Literal["length", "chunked", "close"]
"""How a body's end is told (RFC 9112, section 6.3): by Content-Length, by chunked coding, or by
closing the connection."""

PATIENCE = 30.0
"""Seconds that a client may keep the origin waiting before it is given up."""
_STEP = 256 * KiB


@dataclass(frozen=True)
class Answer:
    """What a path is answered with. Sizes are in bytes of the body as it is sent."""

    body: bytes | Path = b""
    status: int = 200
    """0: the connection is closed without a word."""
    framing: Framing = "length"
    """A client that speaks HTTP/1.0 gets `length` for `chunked`, which it does not know."""
    stop: int | None = None
    """Bytes after which the connection is closed, whatever was promised; None: all are sent."""
    reset: bool = False
    """Whether it ends in a reset (RST) and not in an orderly close (FIN)."""
    stall: bool = False
    """Whether after `stop` bytes nothing happens any more, until the client leaves. With status 0
    that is so from the beginning."""
    last_chunk: bool = True
    """Whether a chunked body gets its last, empty chunk, by which the client knows the end."""
    odd_chunks: bool = False
    """Whether a chunked body has all that RFC 9112, section 7.1 allows: a size in large and small
    letters and with zeros in front, extensions, and trailers after the last chunk."""
    headers: tuple[tuple[str, str], ...] = ()
    """More headers; a Content-Type among them takes the place of the usual one."""
    delay: float = 0.0
    """Seconds before the head."""
    one_chunk: bool = False
    """Whether a chunked body is a single chunk, however large it is."""
    piece: int | None = None
    """Bytes that are sent at a time; None: a few at first, then many."""
    pause: float = 0.0
    """Seconds before each piece but the first."""
    wire: bytes | None = None
    """These bytes in place of a head and a body, whatever they are; then the connection is closed,
    or is reset, or nothing happens any more."""

    @property
    def size(self) -> int:
        return self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)


@dataclass
class Exchange:
    """A request, and what has become of its answer so far."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    """As they came, their names in lower case."""
    version: str = "HTTP/1.1"
    """The version of HTTP that the client speaks."""
    sent: int = 0
    """Bytes of body that the kernel has taken."""
    paused: float = 0.0
    """Its longest pause so far, in seconds: on a busy machine it is longer than was ordered."""
    left: bool = False
    """Whether the client was gone before it had all."""
    ended: float | None = None
    """When it was over, or its client seen to be gone (`time.monotonic()`); None: it goes on."""

    def header(self, name: str) -> str | None:
        """The value of a header, its name in lower case; None if it is not there."""
        return next((value for key, value in self.headers if key == name), None)


Order = Answer | Callable[[Exchange], Answer]
"""An answer, or what makes one for a request."""


@dataclass
class Origin:
    """A server in threads of this process, on a free port of 127.0.0.1.

    Used as a context manager: its end closes all connections and waits for the threads.
    """

    port: int = 0
    send_buffer: int | None = None
    """What the kernel may hold of an answer on its way (`SO_SNDBUF`, bytes); None: the usual."""
    patience: float = PATIENCE
    """Seconds that a client may keep it waiting before it is given up."""
    answers: dict[str, Order] = field(default_factory=dict)
    """By path. Any other path is a 404."""
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes of body that the kernel has taken, by path, over all requests."""
    exchanges: list[Exchange] = field(default_factory=list)
    """All requests, in the order they came."""

    def __enter__(self) -> Origin:
        try:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        except OSError as error:
            raise ServerError(taken(self.port, error)) from error
        if self.send_buffer is not None:  # each connection inherits it
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._deaf, self._fillers = threading.Event(), list[socket.socket]()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def refuse(self) -> None:
        """From now on nobody listens here: who comes is refused. Who is here goes on."""
        with suppress(OSError):  # wakes the thread that waits in accept
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()

    def deafen(self) -> bool:
        """From now on who comes is neither accepted nor refused; whether that worked.

        The queue of connections that wait to be accepted is made short, and filled: Linux answers
        nobody then (listen(2), tcp(7)). Who is here goes on.
        """
        self._listener.listen(0)
        self._deaf.set()
        # The thread that accepts waits for one more.
        self._fillers.append(socket.create_connection(("127.0.0.1", self.port)))
        self._threads[0].join()
        for _ in range(16):
            sock = socket.socket()
            self._fillers.append(sock)
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(("127.0.0.1", self.port))
            if not select.select([], [sock], [], 0.3)[1]:
                return True
        return False

    def __exit__(self, *exc: object) -> None:
        self.refuse()
        for sock in self._fillers:
            sock.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def asked(self) -> list[str]:
        """The path of each request, in the order they came."""
        return [exchange.path for exchange in self.exchanges]

    def put(self, path: str, answer: Order) -> str:
        """Answer requests for `path` so from now on; returns its URL."""
        self.sent[path] = 0
        self.answers[path] = answer
        return self.url + path

    def _accept(self) -> None:
        while not self._deaf.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(self.patience)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._answer(connection)
        except (OSError, ValueError):
            pass  # the client has left, or sent no request
        finally:
            with self._lock:
                self._open.discard(connection)
                connection.close()

    def _answer(self, connection: socket.socket) -> None:
        exchange = _read_request(connection)
        self.exchanges.append(exchange)
        try:
            order = self.answers.get(exchange.path, Answer(b"no such file\n", 404))
            answer = order(exchange) if callable(order) else order
            _wait(connection, answer.delay)
            if answer.wire is not None:
                connection.sendall(answer.wire)
                exchange.sent = len(answer.wire)
            elif answer.status:
                self._send(connection, exchange, answer)
            if answer.stall:
                _wait(connection, None)
            if answer.reset:
                # With this option and no time to linger, close() sends RST (socket(7), SO_LINGER).
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except OSError:
            exchange.left = True
            raise
        finally:
            exchange.ended = time.monotonic()

    def _send(self, connection: socket.socket, exchange: Exchange, answer: Answer) -> None:
        framing = answer.framing
        if framing == "chunked" and exchange.version != "HTTP/1.1":
            framing = "length"
        connection.sendall(_head(answer, framing))
        # By RFC 9110, sections 9.3.2 and 15.4.5, these have no body.
        if exchange.method != "HEAD" and answer.status != 304:
            self._send_body(connection, exchange, answer, framing)

    def _send_body(
        self, connection: socket.socket, exchange: Exchange, answer: Answer, framing: Framing
    ) -> None:
        left = answer.size if answer.stop is None else answer.stop
        cutting = answer.stop is not None and not answer.stall
        with _opened(answer.body) as file:
            for number, size in enumerate(_steps(left, answer.piece)):
                if number:
                    began = time.monotonic()
                    try:
                        _wait(connection, answer.pause)
                    finally:
                        exchange.paused = max(exchange.paused, time.monotonic() - began)
                left -= size
                cut = cutting and left == 0
                if framing == "chunked" and not (answer.one_chunk and number):
                    # A body that is cut short is cut inside a chunk: one byte of it never comes.
                    length = answer.size if answer.one_chunk else size + cut
                    connection.sendall(_chunk_line(length, number, answer.odd_chunks))
                _send(connection, file, size)
                with self._lock:
                    exchange.sent += size
                    self.sent[exchange.path] = self.sent.get(exchange.path, 0) + size
                if framing == "chunked" and not cut and not (answer.one_chunk and left):
                    connection.sendall(b"\r\n")
        if framing == "chunked" and answer.last_chunk and answer.stop is None:
            trailers = b"X-Trailer: 0\r\nX-Other: one, two\r\n" if answer.odd_chunks else b""
            connection.sendall(b"0\r\n" + trailers + b"\r\n")


def _chunk_line(size: int, number: int, odd: bool) -> bytes:
    """The line before the data of a chunk (RFC 9112, section 7.1)."""
    if not odd:
        return b"%x\r\n" % size
    forms = (b"%04X;last=no\r\n", b'%x;note="0;1;a";last\r\n', b"00%x\r\n")
    return forms[number % 3] % size


def _read_request(connection: socket.socket) -> Exchange:
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(64 * KiB)
        if not more or len(head) > 64 * KiB:
            raise ValueError("no request came")
        head += more
    line, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, path, version = line.split(" ")
    pairs = (each.partition(":") for each in lines)
    return Exchange(method, path, [(k.lower(), v.strip()) for k, _, v in pairs], version)


def _wait(connection: socket.socket, seconds: float | None) -> None:
    """Let some seconds pass, or all (None); raises `ConnectionError` once the client has left."""
    if seconds == 0:
        return
    patience = connection.gettimeout()
    connection.settimeout(seconds)
    try:
        connection.recv(1)  # nothing is due any more: it is the end, or a reset
    except TimeoutError:
        connection.settimeout(patience)
        return
    raise ConnectionAbortedError("the client has left")


def _head(answer: Answer, framing: Framing) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} As Ordered"]
    if all(name.lower() != "content-type" for name, _ in answer.headers):
        lines.append("Content-Type: application/octet-stream")
    if answer.status == 304:
        pass  # nothing is told of a body that does not come
    elif framing == "length":
        # Where chunks are not known, a byte that never comes stands for the missing last chunk.
        lines.append(f"Content-Length: {answer.size + (not answer.last_chunk)}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
    lines += [f"{name}: {value}" for name, value in answer.headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


def _opened(body: bytes | Path) -> BinaryIO:
    return io.BytesIO(body) if isinstance(body, bytes) else body.open("rb")


def _steps(size: int, piece: int | None) -> Iterator[int]:
    """The sizes of the pieces that a body is sent in: a small one, many large ones, the rest."""
    step = piece or 1000
    while size > 0:
        yield min(step, size)
        size -= step
        step = piece or _STEP


def _send(connection: socket.socket, file: BinaryIO, size: int) -> None:
    if isinstance(file, io.BytesIO):
        connection.sendall(file.read(size))
    else:
        connection.sendfile(file, file.tell(), size)


# A gzip bomb


@dataclass(frozen=True)
class Bomb:
    """A body in gzip that becomes `count` times `block` when it is decoded."""

    block: bytes
    count: int

    @property
    def size(self) -> int:
        """Bytes of it decoded."""
        return len(self.block) * self.count

    def packed(self) -> bytes:
        """The body as it is sent (RFC 1952): one deflate stream, the same piece over and over."""
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        # After a full flush a piece stands on a byte, and refers to nothing before it.
        piece = deflate.compress(self.block) + deflate.flush(zlib.Z_FULL_FLUSH)
        check = 0
        for _ in range(self.count):
            check = zlib.crc32(self.block, check)
        head = gzip.compress(b"", mtime=0)[:10]
        last = b"\x03\x00"  # an empty block, marked as the last one
        return head + piece * self.count + last + struct.pack("<II", check, self.size % 2**32)


def block_of(source: random.Random, size: int = MiB) -> bytes:
    """Bytes that shrink to a hundredth or less: a few random ones, and zeros."""
    return source.randbytes(4 * KiB) + bytes(size - 4 * KiB)


# By hand


def _samples() -> dict[str, tuple[str, Callable[[], Answer]]]:
    """An answer of every kind, by path, each with what it is."""
    river = random.Random(0).randbytes(5 * MiB)
    cut = len(river) * 6 // 10
    packed = gzip.compress(river[: 64 * KiB] * 16, mtime=0)
    return {
        "/length": ("5 MiB, told by Content-Length", lambda: Answer(river)),
        "/chunked": ("the same in chunked coding", lambda: Answer(river, framing="chunked")),
        "/close": ("the same, ended by closing", lambda: Answer(river, framing="close")),
        "/empty": ("a body of 0 bytes", lambda: Answer(b"")),
        "/cut": ("60 % of what Content-Length says", lambda: Answer(river, stop=cut)),
        "/cut-chunked": (
            "60 % of it, cut inside a chunk",
            lambda: Answer(river, framing="chunked", stop=cut),
        ),
        "/no-last-chunk": (
            "all of it, but no last chunk",
            lambda: Answer(river, framing="chunked", last_chunk=False),
        ),
        "/reset": ("60 %, then a reset", lambda: Answer(river, stop=cut, reset=True)),
        "/silent": ("closed without an answer", lambda: Answer(status=0)),
        "/stall": ("60 %, and then nothing", lambda: Answer(river, stop=cut, stall=True)),
        "/never": ("no answer, ever", lambda: Answer(status=0, stall=True)),
        "/trickle": (
            "a line every half a second, 20 times",
            lambda: Answer(b"one more sip\n" * 20, framing="chunked", piece=13, pause=0.5),
        ),
        "/redirect": (
            "a redirection to /404",
            lambda: Answer(b"", 302, headers=(("Location", "/404"),)),
        ),
        "/hop": (
            "with headers for the next hop alone, and a cookie",
            lambda: Answer(
                river[: 64 * KiB],
                headers=(
                    ("Connection", "X-Hop"),
                    ("X-Hop", "for the next hop"),
                    ("Keep-Alive", "timeout=77"),
                    ("Set-Cookie", "session=1"),
                ),
            ),
        ),
        "/twice": (
            "a text, with two lines of one header, and a name that is not ASCII",
            lambda: Answer(
                b"two\r\nlines\r\n",
                headers=(
                    ("Content-Type", "text/csv"),
                    ("Link", '</a>; rel="next"'),
                    ("Link", '</b>; rel="last"'),
                    ("X-Name", "Fluß.csv".encode().decode("latin-1")),
                ),
            ),
        ),
        "/odd-chunks": (
            "64 KiB in chunks with extensions, and a trailer",
            lambda: Answer(river[: 64 * KiB], framing="chunked", odd_chunks=True),
        ),
        "/half-head": (
            "the first half of a head, and then nothing",
            lambda: Answer(wire=b"HTTP/1.1 200 As Ordered\r\nContent-Le", stall=True),
        ),
        "/404": ("an error, with a body", lambda: Answer(b"no such file\n", 404)),
        "/500": ("an error, with a body", lambda: Answer(b"it broke\n", 500)),
        "/gzip": (
            "1 MiB in gzip, though nobody asked for it",
            lambda: Answer(packed, headers=(("Content-Encoding", "gzip"),)),
        ),
        "/bomb": (
            "4 MB in gzip that become 600 MiB",
            lambda: Answer(
                Bomb(block_of(random.Random(0)), 600).packed(),
                headers=(("Content-Encoding", "gzip"),),
            ),
        ),
    }


def main() -> None:
    """Serve an answer of every kind until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m streamlab.origin", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="port to listen on (0: any free one)")
    parser.add_argument("--river", type=Path, help="a file of yours, to serve as /river")
    options = parser.parse_args()
    try:
        _serve_samples(options)
    except ServerError as error:
        raise SystemExit(str(error)) from None


def _serve_samples(options: argparse.Namespace) -> None:
    """Serve what the command line says until interrupted."""
    with Origin(options.port) as origin, tempfile.TemporaryDirectory() as scratch:
        samples = {path: (what, make()) for path, (what, make) in _samples().items()}
        if options.river is None:
            zeros = Path(scratch) / "river"
            with zeros.open("wb") as file:
                file.truncate(GiB)
            samples["/river"] = "1 GiB of zeros", Answer(zeros)
        else:
            samples["/river"] = os.fspath(options.river), Answer(options.river)
        for path, (_, answer) in samples.items():
            origin.put(path, answer)
            origin.put(f"/v1/files{path}/content", answer)
            origin.put(f"/v1/files{path}", _metadata(path, answer))
        # Not before it has them all: who reads this may ask at once.
        print(f"listening on {origin.url}", flush=True)
        for path, (what, _) in samples.items():
            print(f"    {path:<16} {what}", flush=True)
        print("and the same as files of an API: /v1/files/length/content", flush=True)
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


def _metadata(path: str, answer: Answer) -> Answer:
    """What the API of files says of one."""
    content = {"id": path[1:], "object": "file", "bytes": answer.size}
    return Answer(json.dumps(content).encode(), headers=(("Content-Type", "application/json"),))


if __name__ == "__main__":
    main()
