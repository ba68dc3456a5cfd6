"""The server: it gives each path the answer that was put there, and keeps what it saw.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import io
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from streamlab.environment import taken
from streamlab.errors import ServerError
from streamlab.files import KiB, MiB

Framing = Literal["length", "chunked", "close"]
"""How the end of a body is marked (RFC 9112, section 6.3): by Content-Length, by chunked coding, or
by closing the connection."""


CLIENT_SILENCE = 30.0
"""Seconds without progress after which the origin gives a client up. No check pauses as long, so a
check ends first, and says what is wrong."""


MOST_CONNECTIONS = 256
"""How many clients an origin serves at once. Who comes then is sent away, by an orderly close."""
MOST_LINES = 200
"""How many header lines a request may have."""
MOST_KEPT = 32 * MiB
"""What an origin keeps of all requests together, in bytes. After that nobody is answered."""

_LONGEST_HEAD = 64 * KiB
_PER_REQUEST, _PER_LINE = 1 * KiB, 200
"""What Python needs besides for a request, and for a line of it, in bytes."""
_STEP = 256 * KiB


@dataclass(frozen=True)
class Answer:
    """The answer to a path. Sizes are in bytes of the body as it is sent."""

    body: bytes | Path = b""
    status: int = 200
    """0: the connection is closed without an answer."""
    framing: Framing = "length"
    """A client that speaks HTTP/1.0 gets `length` for `chunked`, which it does not know."""
    stop: int | None = None
    """Bytes of the body after which the connection is closed, whatever the head says; None: all."""
    reset: bool = False
    """Whether the connection ends in a reset (RST) and not in an orderly close (FIN)."""
    stall: bool = False
    """Whether nothing more happens after `stop` bytes, until the client leaves. With status 0
    nothing happens from the beginning."""
    last_chunk: bool = True
    """Whether a chunked body gets its last, empty chunk, which marks the end."""
    odd_chunks: bool = False
    """Whether a chunked body uses all that RFC 9112, section 7.1 allows: sizes in both cases and
    with leading zeros, extensions, and trailers after the last chunk."""
    headers: tuple[tuple[str, str], ...] = ()
    """More headers; a Content-Type here replaces the usual one."""
    delay: float = 0.0
    """Seconds before the head."""
    one_chunk: bool = False
    """Whether a chunked body is a single chunk, however large it is."""
    piece: int | None = None
    """Bytes of each piece that is sent; None: a few at first, then many."""
    pause: float = 0.0
    """Seconds before each piece but the first."""
    wire: bytes | None = None
    """Bytes that are sent instead of a head and a body; after them `reset` and `stall` count as
    usual."""

    @property
    def size(self) -> int:
        return self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)


@dataclass
class Exchange:
    """A request, and the state of its answer."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    """The headers as they came, their names in lower case."""
    version: str = "HTTP/1.1"
    """The version of HTTP that the client speaks."""
    sent: int = 0
    """Bytes of the body that the kernel has taken."""
    paused: float = 0.0
    """The longest pause so far, in seconds: on a busy machine it is longer than `pause`."""
    left: bool = False
    """Whether the client left before it had the whole answer."""
    ended: float | None = None
    """When it was over, or its client was seen to leave (`time.monotonic()`); None: it goes on."""

    def header(self, name: str) -> str | None:
        """The value of a header, its name in lower case; None if it is not there."""
        return next((value for key, value in self.headers if key == name), None)


Order = Answer | Callable[[Exchange], Answer]
"""An answer, or a function that makes one for a request."""


@dataclass
class Origin:
    """A server in threads of this process, on a free port of 127.0.0.1.

    Used as a context manager, it closes all connections at the end and waits for the threads.
    """

    port: int = 0
    send_buffer: int | None = None
    """The send buffer of each connection (`SO_SNDBUF`, bytes); None: as the kernel chooses."""
    patience: float = CLIENT_SILENCE
    """Seconds without progress after which it gives a client up."""
    answers: dict[str, Order] = field(default_factory=dict)
    """The answers, by path. Any other path is a 404."""
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes of bodies that the kernel has taken, by path, over all requests."""
    exchanges: list[Exchange] = field(default_factory=list)
    """All requests, in the order in which they came."""

    def __enter__(self) -> Origin:
        try:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        except OSError as error:
            raise ServerError(taken(self.port, error)) from error
        if self.send_buffer is not None:  # each connection inherits it
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._serving: set[threading.Thread] = set()
        self._kept = 0
        self._deaf, self._fillers = threading.Event(), list[socket.socket]()
        self._lock = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def refuse(self) -> None:
        """Stop listening: new connections are refused, and those that exist go on."""
        with suppress(OSError):  # wakes the thread that waits in accept
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()

    def stop_accepting(self) -> bool:
        """Stop accepting: new connections wait in the queue; returns whether that worked.

        The queue of connections that wait to be accepted is made short, and filled: then Linux does
        not answer new ones (listen(2), tcp(7)). Connections that exist go on.
        """
        self._listener.listen(0)
        self._deaf.set()
        # The thread that accepts connections waits for one more.
        self._fillers.append(socket.create_connection(("127.0.0.1", self.port)))
        self._accepting.join()
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
            serving = list(self._serving)
        for thread in serving:
            thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def asked(self) -> list[str]:
        """The path of each request, in the order in which they came."""
        return [exchange.path for exchange in self.exchanges]

    def put(self, path: str, answer: Order) -> str:
        """Answer requests for `path` with `answer` from now on; returns the URL of the path."""
        self.sent[path] = 0
        self.answers[path] = answer
        return self.url + path

    def _accept(self) -> None:
        while not self._deaf.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            with self._lock:
                full = len(self._open) >= MOST_CONNECTIONS or self._kept > MOST_KEPT
                if not full:
                    self._open.add(connection)
                    self._serving.add(thread)
            try:
                if not full:
                    thread.start()
                    continue
            except RuntimeError:  # this process may have no more threads
                with self._lock:
                    self._open.discard(connection)
                    self._serving.discard(thread)
            connection.close()

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
                self._serving.discard(threading.current_thread())
                connection.close()

    def _keep(self, exchange: Exchange, size: int) -> None:
        """Remember a request, whose head has so many bytes; `ValueError` where that is too much."""
        with self._lock:
            self._kept += size + _PER_REQUEST + _PER_LINE * len(exchange.headers)
            if self._kept > MOST_KEPT:
                raise ValueError("too many requests came")
            self.exchanges.append(exchange)

    def _answer(self, connection: socket.socket) -> None:
        exchange, size = _read_request(connection)
        self._keep(exchange, size)
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
                    # A body that is cut short ends inside a chunk, whose last byte never comes.
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
            last = b'000;last="yes"\r\n' if answer.odd_chunks else b"0\r\n"
            connection.sendall(last + trailers + b"\r\n")


def _chunk_line(size: int, number: int, odd: bool) -> bytes:
    """The line before the data of a chunk (RFC 9112, section 7.1)."""
    if not odd:
        return b"%x\r\n" % size
    forms = (b"%04X;last=no\r\n", b'%x;note="0;1;a";last\r\n', b"00%x\r\n")
    return forms[number % 3] % size


def _read_request(connection: socket.socket) -> tuple[Exchange, int]:
    """The next request, and the size of its head in bytes; `ValueError` if it is none."""
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(_LONGEST_HEAD)
        head += more
        if not more or len(head) > _LONGEST_HEAD:
            raise ValueError("no request came")
    line, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, path, version = line.split(" ")
    if len(lines) > MOST_LINES:
        raise ValueError("the request has too many header lines")
    pairs = (each.partition(":") for each in lines)
    exchange = Exchange(method, path, [(k.lower(), v.strip()) for k, _, v in pairs], version)
    return exchange, len(head)


def _wait(connection: socket.socket, seconds: float | None) -> None:
    """Wait for some seconds, or for ever (None).

    Raises `ConnectionError` once the client has left.
    """
    if seconds == 0:
        return
    patience = connection.gettimeout()
    connection.settimeout(seconds)
    try:
        connection.recv(1)  # nothing more is to be sent: the end, or a reset
    except TimeoutError:
        connection.settimeout(patience)
        return
    raise ConnectionAbortedError("the client has left")


def _head(answer: Answer, framing: Framing) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} As Ordered"]
    if all(name.lower() != "content-type" for name, _ in answer.headers):
        lines.append("Content-Type: application/octet-stream")
    if answer.status == 304:
        pass  # no header about a body that does not come
    elif framing == "length":
        # For a client without chunks, a byte that never comes stands for the missing last chunk.
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
