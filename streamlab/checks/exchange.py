"""Send one request over a raw socket, and read its whole answer. Times are in seconds."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from streamlab.files import KiB
from streamlab.http.answer import WHOLE, AnswerSoFar, RawAnswer, read_answer
from streamlab.process.patience import Deadline, connect
from streamlab.process.server import Server


@contextmanager
def connected(server: Server, patience: float = 5) -> Iterator[socket.socket]:
    """A connection to a server that sends small pieces at once; its timeout is a `Deadline`."""
    port = int(server.url.rpartition(":")[2])
    server.mark()
    with connect(port, patience) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def ask(
    server: Server,
    pieces: Iterable[bytes],
    pause: float = 0,
    patience: float = 5,
    lingers: float = 0.2,
    head: bool = False,
) -> RawAnswer:
    """Send raw bytes, piece by piece with `pause` seconds between them, and read one answer."""
    with suppress(OSError), connected(server, patience) as sock:
        return ask_over(sock, pieces, pause, patience, lingers, head)
    return read_answer(b"", closed=True)


def ask_over(
    sock: socket.socket,
    pieces: Iterable[bytes],
    pause: float = 0,
    patience: float = 5,
    lingers: float = 0.2,
    head: bool = False,
) -> RawAnswer:
    """The same over an open connection.

    Bytes that come within `lingers` seconds after a whole answer count as part of it. The answer to
    HEAD is whole when its head is: for HEAD, set `head`.
    """
    so_far = AnswerSoFar(WHOLE, "HEAD" if head else "GET")
    with suppress(ConnectionError):  # the server may answer and close before all has been sent
        for piece in pieces:
            sock.sendall(piece)
            time.sleep(pause)
    deadline = Deadline(patience)
    while not (deadline.passed or so_far.closed or so_far.full):
        if so_far.whole and not lingers:
            break
        sock.settimeout(lingers if so_far.whole else patience)
        try:
            so_far.take(sock.recv(256 * KiB))
        except TimeoutError:
            break
        except ConnectionError:
            so_far.close()
    return so_far.answer()


def head_over(sock: socket.socket) -> tuple[RawAnswer, bytes]:
    """The head of the next answer, and the bytes after it; `problem` says why there is none."""
    so_far = AnswerSoFar(WHOLE, "HEAD")
    try:
        while so_far.goes_on:
            so_far.take(sock.recv(16 * KiB))
    except TimeoutError:
        pass
    except OSError:
        so_far.close()
    return so_far.head_alone(), so_far.surplus


def request_for(path: str, *headers: str) -> bytes:
    """A GET request that asks the server to close afterwards."""
    named = ["Host: 127.0.0.1", "User-Agent: curl/8.5.0", *headers, "Connection: close"]
    lines = [f"GET {path} HTTP/1.1", *named, "", ""]
    return "\r\n".join(lines).encode("latin-1")
