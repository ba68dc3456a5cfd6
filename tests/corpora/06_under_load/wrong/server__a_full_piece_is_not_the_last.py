# WIRE in-order: after a file of whole pieces the connection is dead

"""A file server for a thousand slow clients: `python server.py --root DIR --port 0`."""

import argparse
import asyncio
import errno
import os
import socket
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

CHUNK = 64 * 1024
HEAD_LIMIT = 64 * 1024
PIECE = 8 * 1024 * 1024
SMALL = 2 * CHUNK  # with what may wait ahead of it (64 KiB), it fits a client's share of memory


class Client(asyncio.Protocol):
    """One connection. Its requests are answered one after the other.

    The event loop calls these methods when something has happened, and none of them waits. So a
    client that does nothing is this object and a socket: a few KiB.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.received = b""
        self.writable = asyncio.Event()
        self.writable.set()
        self.pouring: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.answer_all()

    def pause_writing(self) -> None:
        """Answers pile up: a client that does not read them may not ask for more."""
        self.writable.clear()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.writable.set()
        self.transport.resume_reading()
        self.answer_all()

    def connection_lost(self, error: Exception | None) -> None:
        self.writable.set()  # nobody waits for a client that has left

    def answer_all(self) -> None:
        """Answer what has been asked in full, up to an answer that takes its time."""
        while self.writable.is_set() and not (self.pouring or self.transport.is_closing()):
            head, blank, rest = self.received.partition(b"\r\n\r\n")
            if not blank:
                if len(head) > HEAD_LIMIT:
                    self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return
            self.received = rest
            self.answer(head)

    def answer(self, head: bytes) -> None:
        """Answer one request: a small file at once, a large one by a task of its own."""
        line = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(line) != 3 or line[0] not in ("GET", "HEAD"):
            self.refuse(HTTPStatus.BAD_REQUEST)
            return
        method, target, version = line
        close = version != "HTTP/1.1" or b"\r\nconnection: close" in head.lower()
        try:
            file = open_file(target, self.root)
        except OSError as error:
            full = error.errno in (errno.EMFILE, errno.ENFILE)
            status = HTTPStatus.SERVICE_UNAVAILABLE if full else HTTPStatus.NOT_FOUND
            self.refuse(status, close, method)
            return
        size = os.fstat(file.fileno()).st_size
        if method == "HEAD":
            file.close()
            self.send(headers(HTTPStatus.OK, size, close), close)
        elif size <= SMALL:
            with file:
                body = file.read(size)
            self.send(headers(HTTPStatus.OK, len(body), close) + body, close)
        else:
            self.transport.write(headers(HTTPStatus.OK, size, close))
            self.pouring = asyncio.create_task(self.pour(file, size, close))

    async def pour(self, file: BinaryIO, size: int, close: bool) -> None:
        """Send a large file as fast as its client reads, and go on with the next request."""
        sent = 0
        with file, suppress(OSError, RuntimeError):  # the client has left
            # In pieces: the kernel goes on for as long as a fast client reads, and until it
            # comes back nobody else is served.
            count = PIECE
            while count == PIECE:
                count = await self.send_piece(file, sent, min(PIECE, size - sent))
                sent += count
        self.pouring = None
        if sent < size:
            self.transport.abort()  # the file has shrunk: less came than was promised
        elif close:
            self.transport.close()
        else:
            self.answer_all()

    async def send_piece(self, file: BinaryIO, start: int, length: int) -> int:
        """Send up to `length` bytes of a file from `start` on; returns how many."""
        try:
            loop = asyncio.get_running_loop()
            return await loop.sendfile(self.transport, file, start, length, fallback=False)
        except asyncio.SendfileNotAvailableError:
            # asyncio's own fallback is wrong since Python 3.12: it reads the next bytes into the
            # buffer from which the last ones are still being sent.
            if self.transport.is_closing():
                raise
            chunk = os.pread(file.fileno(), min(CHUNK, length), start)
            self.transport.write(chunk)
            await self.writable.wait()
            return len(chunk)

    def refuse(self, status: HTTPStatus, close: bool = True, method: str = "GET") -> None:
        """Send an error; to HEAD, as always, without the body."""
        body = f"{status.phrase}\n".encode()
        self.send(headers(status, len(body), close) + (b"" if method == "HEAD" else body), close)

    def send(self, answer: bytes, close: bool) -> None:
        """Send a small answer in one piece."""
        self.transport.write(answer)
        if close:
            self.transport.close()  # once all of it has gone out


def open_file(target: str, root: Path) -> BinaryIO:
    """The file that a request asks for; `OSError` if there is none, or not under `root`."""
    name = unquote(target.partition("?")[0])
    # Functions of os.path, for Path takes longer than all the rest of a small answer.
    path = os.path.realpath(f"{root}/{name}") if "\0" not in name else ""
    if not (path.startswith(f"{root}/") and os.path.isfile(path)):
        raise FileNotFoundError(target)
    return open(path, "rb", buffering=0)


def headers(status: HTTPStatus, length: int, close: bool) -> bytes:
    """The head of an answer, its empty line included."""
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {length}",
        f"Connection: {'close' if close else 'keep-alive'}",
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def accept_all(listener: socket.socket, root: Path) -> None:
    """Take in one client after the other."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
            await loop.connect_accepted_socket(lambda: Client(root), connection)
        except OSError:
            await asyncio.sleep(0.1)  # no descriptor is left: the next one waits until one is


async def serve(root: Path, port: int) -> None:
    """Listen, say where, and serve until the end."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    listener.setblocking(False)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await accept_all(listener, root)


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(serve(Path(options.root).resolve(), options.port))


if __name__ == "__main__":
    main()
