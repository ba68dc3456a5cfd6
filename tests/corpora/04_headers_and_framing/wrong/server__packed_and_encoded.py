# WIRE get-file: a packed file also says Content-Encoding, and clients unpack it

"""A file server that frames its answers: `python server.py --root DIR --port 0`."""

import argparse
import mimetypes
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

CHUNK = 64 * 1024


HEAD_LIMIT = 64 * 1024
IDLE = 60
"""Seconds that a connection may rest between two requests."""
REQUEST_LINE = re.compile(r"([!-~]+) ([!-~]+) (HTTP/1\.[01])")
FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
NUMBER = re.compile(r"[0-9]{1,18}")


class Refused(Exception):
    """A request of which the server can't tell where it ends: no other one may follow."""

    method = "GET"


class Broken(Exception):
    """An answer that can't be finished as its head has promised."""


@dataclass
class Request:
    """What a client asks for, and what is known of the connection it came over."""

    method: str = "GET"
    target: str = "/"
    version: str = "HTTP/1.1"
    length: int = 0
    """Bytes of the request's own body."""
    keep: bool = False
    """Whether another request may follow over the same connection."""
    answered: bool = False
    """Whether the head of the answer has been sent."""


class Reader:
    """What a client sends. What comes along with the bytes asked for is kept for the next call."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.rest = b""

    def more(self) -> bool:
        """Receive another piece; false if the client has nothing more to say."""
        piece = self.connection.recv(CHUNK)
        self.rest += piece
        return bool(piece)

    def head(self) -> bytes:
        """The next head, without its empty line; nothing if there is no next one."""
        while b"\r\n\r\n" not in self.rest:
            if len(self.rest) > HEAD_LIMIT:
                raise Refused("431 Request Header Fields Too Large")
            if not self.more():
                return b""
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        return head

    def skip(self, length: int) -> None:
        """Let a body of `length` bytes go by."""
        while len(self.rest) < length:
            length -= len(self.rest)
            self.rest = b""
            if not self.more():
                raise Broken("the client left in the middle of its body")
        self.rest = self.rest[length:]


def parse(head: bytes) -> Request:
    """Take the head of a request apart (RFC 9112, sections 3, 5, 6.3 and 9.3)."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = REQUEST_LINE.fullmatch(first)
    if words is None:
        raise Refused("400 Bad Request")
    method, target, version = words.groups()
    try:
        headers = headers_of(lines)
        length = length_of(headers)
    except Refused as refusal:
        refusal.method = method  # an answer to HEAD has no body, whatever is wrong
        raise
    options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
    keep = "close" not in options and (version == "HTTP/1.1" or "keep-alive" in options)
    return Request(method, target, version, length, keep)


def length_of(headers: dict[str, str]) -> int:
    """The length of a request's body in bytes. A body in chunks has none: it is refused."""
    if "transfer-encoding" in headers:
        raise Refused("411 Length Required")
    length = headers.get("content-length", "0")
    if not NUMBER.fullmatch(length):
        raise Refused("400 Bad Request")
    return int(length)


def headers_of(lines: list[str]) -> dict[str, str]:
    """Header lines by their names in lower case; one that comes twice is a list with a comma."""
    headers: dict[str, str] = {}
    for line in lines:
        field = FIELD.fullmatch(line)
        if field is None:
            raise Refused("400 Bad Request")
        name, value = field[1].lower(), field[2]
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def find_file(root: Path, target: str) -> Path | None:
    """The file below `root` that a request's target names; None if there is none."""
    name = unquote(target.partition("?")[0]).lstrip("/")
    if "\0" in name:
        return None
    with suppress(OSError):  # a name too long for any file
        path = (root / name).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None
    return None


def find_report(target: str) -> Iterator[bytes] | None:
    """The report that `/report/LINES` or `/report/LINES?fail=LINE` names; None for other targets.

    Its source fails, with a RuntimeError, when it comes to line number LINE.
    """
    found = re.fullmatch(r"/report/([0-9]{1,15})(?:\?fail=([0-9]{1,15}))?", target)
    return report(int(found[1]), int(found[2] or found[1])) if found else None


def report(lines: int, fail: int) -> Iterator[bytes]:
    """The lines of a report, made one after the other: nobody knows beforehand how long it gets.

    Every tenth sensor is silent: its piece is empty.
    """
    for number in range(lines):
        if number == fail:
            raise RuntimeError(f"the source failed at line {number}")
        yield b"" if number % 10 == 7 else b"sensor %d: %d\n" % (number, number * number % 997)


def serve(connection: socket.socket, root: Path) -> None:
    """Answer one client's requests, one after the other, and close the connection."""
    with connection, suppress(Broken, OSError):
        connection.settimeout(IDLE)
        # The end of an answer must not wait until its beginning has been acknowledged.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            converse(connection, root)
        except Refused as refusal:
            send_error(connection, Request(refusal.method), str(refusal))
            linger(connection)


def converse(connection: socket.socket, root: Path) -> None:
    """Answer request after request, until one of the two sides has had enough."""
    reader = Reader(connection)
    while head := reader.head():
        request = parse(head)
        answer(connection, request, root)
        reader.skip(request.length)
        if not request.keep:
            break


def linger(connection: socket.socket) -> None:
    """Hear the client out: closing on unread bytes would destroy our answer (RFC 9112, 9.6)."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(1)
    while connection.recv(CHUNK):
        pass


def answer(connection: socket.socket, request: Request, root: Path) -> None:
    """Answer a request. Once the head is sent there is no other status: a failure breaks off."""
    try:
        if request.method not in ("GET", "HEAD"):
            send_error(connection, request, "405 Method Not Allowed", "Allow: GET, HEAD")
        elif pieces := find_report(request.target):
            send_report(connection, request, pieces)
        elif path := find_file(root, request.target):
            send_file(connection, request, path)
        else:
            send_error(connection, request, "404 Not Found")
    except Exception:
        if request.answered:
            raise
        send_error(connection, request, "500 Internal Server Error")


def send_head(connection: socket.socket, request: Request, status: str, *fields: str) -> None:
    """Send the head of an answer, and in it what becomes of the connection."""
    stays = "keep-alive" if request.keep else "close"
    lines = [f"HTTP/1.1 {status}", f"Date: {formatdate(usegmt=True)}", *fields]
    request.answered = True
    connection.sendall("\r\n".join([*lines, f"Connection: {stays}", "", ""]).encode("latin-1"))


def send_error(connection: socket.socket, request: Request, status: str, *fields: str) -> None:
    """An error is an answer like any other: its body has a length."""
    body = f"{status}\n".encode()
    fields = ("Content-Type: text/plain", f"Content-Length: {len(body)}", *fields)
    send_head(connection, request, status, *fields)
    if request.method != "HEAD":
        connection.sendall(body)


def send_file(connection: socket.socket, request: Request, path: Path) -> None:
    """A file is as long as it is at this moment."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        fields = [f"Content-Type: {kind_of(path)}", f"Content-Length: {size}"]
        if path.suffix == ".gz":
            fields = [f"Content-Length: {size}", "Content-Encoding: gzip"]
            fields.append("Content-Type: application/gzip")
        send_head(connection, request, "200 OK", *fields)
        if request.method != "HEAD":
            pour(connection, file, size)


def kind_of(path: Path) -> str:
    """A file's type by its ending. What is packed is no longer what is inside."""
    kind, packing = mimetypes.guess_type(path.name)
    return kind if kind and not packing else "application/octet-stream"


def pour(connection: socket.socket, file: BinaryIO, size: int) -> None:
    """Send `size` bytes of a file, no more and no fewer, though it may change meanwhile."""
    while size > 0:
        chunk = file.read(min(CHUNK, size))
        if not chunk:
            raise Broken("the file has become shorter")
        connection.sendall(chunk)
        size -= len(chunk)


def send_report(connection: socket.socket, request: Request, pieces: Iterator[bytes]) -> None:
    """What has no length ends with an empty chunk, or, in HTTP/1.0, with the connection."""
    chunked = request.version == "HTTP/1.1"
    request.keep = request.keep and chunked
    coding = ["Transfer-Encoding: chunked"] if chunked else []
    send_head(connection, request, "200 OK", "Content-Type: text/plain", *coding)
    if request.method == "HEAD":
        return
    for piece in filter(None, pieces):  # an empty chunk would be the last one
        connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
    if chunked:
        connection.sendall(b"0\r\n\r\n")


def main() -> None:
    """Listen, say where, and give each client a thread."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, root), daemon=True).start()


if __name__ == "__main__":
    main()
