# ERROR length-digits: isdigit says yes to a raised two, int says no, and the thread ends

import argparse
import mimetypes
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

CHUNK = 64 * 1024
HEAD = 64 * 1024  # bytes that the head of a request may have
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


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


class Refused(Exception):
    """A request that is not answered as it asks: a status, and whether its end is known."""

    def __init__(self, status: str, *, close: bool = True, allow: str = "") -> None:
        super().__init__(status)
        self.status, self.close, self.allow = status, close, allow


class Left(Exception):
    """The client has gone."""


class Reader:
    """What a client sends, with a buffer for what has come too early."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = bytearray()

    def more(self) -> None:
        """Wait for another piece."""
        piece = self.connection.recv(CHUNK)
        if not piece:
            raise Left
        self.buffer += piece

    def line(self, limit: int = HEAD) -> bytes:
        """The next line, without its end."""
        searched = 0
        while (end := self.buffer.find(b"\n", searched)) < 0:
            searched = len(self.buffer)
            if searched > limit:
                raise Refused("431 Request Header Fields Too Large")
            self.more()
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line.removesuffix(b"\r")

    def skip(self, count: int) -> None:
        """Throw so many bytes away."""
        while count > len(self.buffer):
            count -= len(self.buffer)
            self.buffer.clear()
            self.more()
        del self.buffer[:count]


class Request:
    """The head of one request, and what it means for the connection."""

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.method = line.partition(b" ")[0]
        self.target = ""
        self.old = False
        self.fields: list[tuple[bytes, bytes]] = []

    def read_line(self) -> None:
        """Take the request line apart."""
        found = re.fullmatch(rb"(%b) ([!-~]+) HTTP/([0-9])\.([0-9])" % TOKEN, self.line)
        if not found:
            raise Refused("400 Bad Request")
        if found[3] != b"1":
            raise Refused("505 HTTP Version Not Supported")
        self.target = found[2].decode("ascii")
        self.old = found[4] == b"0"

    def add(self, line: bytes) -> None:
        """Take one header line apart."""
        found = re.fullmatch(rb"(%b):[ \t]*(.*?)[ \t]*" % TOKEN, line)
        if not found:
            raise Refused("400 Bad Request")
        self.fields.append((found[1].lower(), found[2]))

    def values(self, name: bytes) -> list[bytes]:
        """All values of a field."""
        return [value for other, value in self.fields if other == name]

    def options(self) -> set[bytes]:
        """What the client wants of the connection."""
        values = self.values(b"connection")
        return {option.strip().lower() for value in values for option in value.split(b",")}

    def stays(self) -> bool:
        """Whether the connection stays open after the answer, as far as the client is concerned."""
        options = self.options()
        return b"close" not in options and (not self.old or b"keep-alive" in options)

    def length(self) -> int:
        """The length of the body as the client says it."""
        lengths = set(self.values(b"content-length"))
        if not lengths:
            return 0
        value = lengths.pop().decode("latin-1")
        if lengths or not value.isdigit() or len(value) > 18:
            raise Refused("400 Bad Request")
        return int(value)

    def skip_body(self, reader: Reader) -> None:
        """Throw the body away."""
        length = self.length()
        codings = b",".join(self.values(b"transfer-encoding")).lower()
        if not codings:
            reader.skip(length)
            return
        if codings != b"chunked" or self.values(b"content-length") or self.old:
            raise Refused("400 Bad Request")
        while True:
            found = re.fullmatch(rb"([0-9a-fA-F]{1,15})[ \t]*(;.*)?", reader.line())
            if not found:
                raise Refused("400 Bad Request")
            size = int(found[1], 16)
            if size == 0:
                break
            reader.skip(size)
            if reader.line():
                raise Refused("400 Bad Request")
        trailer = 0
        while line := reader.line():
            trailer += len(line)
            if trailer > HEAD:
                raise Refused("431 Request Header Fields Too Large")


def read_request(reader: Reader) -> Request:
    """The next request, of which only the first line is read."""
    line = reader.line()
    while not line:
        line = reader.line()
    return Request(line)


def read_fields(reader: Reader, request: Request) -> None:
    """The rest of the head."""
    left = HEAD - len(request.line)
    lines = []
    while line := reader.line():
        lines.append(line)
        left -= len(line) + 2
        if left < 0:
            raise Refused("431 Request Header Fields Too Large")
    request.read_line()
    for line in lines:
        request.add(line)


def head(status: str, request: Request | None, stays: bool, *fields: str) -> bytes:
    """The head of an answer."""
    lines = [f"HTTP/1.1 {status}", f"Date: {formatdate(usegmt=True)}", *fields]
    if not stays:
        lines.append("Connection: close")
    elif request and request.old:
        lines.append("Connection: keep-alive")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def content_type(path: Path) -> str:
    """What kind of file it is."""
    kind, packed = mimetypes.guess_type(path.name)
    if packed:
        return "application/gzip" if packed == "gzip" else "application/octet-stream"
    return kind or "application/octet-stream"


def send_file(connection: socket.socket, request: Request, file: BinaryIO, path: Path) -> bool:
    """Answer with a file; whether the connection can go on."""
    size = os.fstat(file.fileno()).st_size
    stays = request.stays()
    connection.sendall(
        head(
            "200 OK",
            request,
            stays,
            f"Content-Type: {content_type(path)}",
            f"Content-Length: {size}",
        )
    )
    if request.method == b"HEAD":
        return stays
    while size:
        chunk = file.read(min(CHUNK, size))
        if not chunk:
            return False  # it has shrunk: the client has to see that something is missing
        connection.sendall(chunk)
        size -= len(chunk)
    return stays


def send_report(connection: socket.socket, request: Request, pieces: Iterator[bytes]) -> bool:
    """Answer with a report; whether the connection can go on."""
    if request.old:
        connection.sendall(head("200 OK", request, False, "Content-Type: text/plain"))
        if request.method != b"HEAD":
            for piece in pieces:
                connection.sendall(piece)
        return False
    stays = request.stays()
    connection.sendall(
        head("200 OK", request, stays, "Content-Type: text/plain", "Transfer-Encoding: chunked")
    )
    if request.method == b"HEAD":
        return stays
    try:
        for piece in pieces:
            if piece:
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
    except RuntimeError:
        return False
    connection.sendall(b"0\r\n\r\n")
    return stays


def respond(connection: socket.socket, request: Request, root: Path) -> bool:
    """Answer a request that is understood; whether the connection can go on."""
    if request.method not in (b"GET", b"HEAD"):
        raise Refused("405 Method Not Allowed", close=False, allow="GET, HEAD")
    if pieces := find_report(request.target):
        return send_report(connection, request, pieces)
    path = find_file(root, request.target)
    if path is None:
        raise Refused("404 Not Found", close=False)
    try:
        file = path.open("rb")
    except OSError:
        raise Refused("404 Not Found", close=False) from None
    with file:
        return send_file(connection, request, file, path)


def refuse(connection: socket.socket, request: Request | None, refused: Refused) -> bool:
    """Say what is wrong; whether the connection can go on."""
    stays = not refused.close and request is not None and request.stays()
    body = refused.status.encode("ascii") + b"\n"
    fields = ["Content-Type: text/plain", f"Content-Length: {len(body)}"]
    if refused.allow:
        fields.append(f"Allow: {refused.allow}")
    if request and request.method == b"HEAD":
        body = b""
    connection.sendall(head(refused.status, request, stays, *fields) + body)
    return stays


def linger(connection: socket.socket) -> None:
    """Let the client read its last answer before the connection goes."""
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(1)
    for _ in range(64):
        if not connection.recv(CHUNK):
            break


def serve(connection: socket.socket, root: Path) -> None:
    """Answer one client's requests, one after the other, and close the connection."""
    with connection, suppress(OSError, Left):
        reader = Reader(connection)
        stays = True
        while stays:
            request = None
            try:
                request = read_request(reader)
                read_fields(reader, request)
                request.skip_body(reader)
                stays = respond(connection, request, root)
            except Refused as refused:
                stays = refuse(connection, request, refused)
        linger(connection)


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
