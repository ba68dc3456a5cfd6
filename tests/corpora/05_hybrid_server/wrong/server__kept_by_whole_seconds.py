# RACE changed-between: bodies are kept by inode, size and whole seconds

"""A hybrid file server on bare sockets: `python server.py --root DIR --port 0`."""

import argparse
import os
import re
import socket
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from functools import lru_cache
from io import FileIO
from urllib.parse import unquote

THRESHOLD = 1024 * 1024  # a file of at most this many bytes is small
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".txt": "text/plain",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".pdf": "application/pdf",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".zip": "application/zip",
}
OTHER_TYPE = "application/octet-stream"
HEAD_LIMIT = 64 * 1024
AN_HOUR = "public, max-age=3600"
# A request with such a header is the last one of its connection. Bodies of requests are not read.
LAST = re.compile(
    rb"^(?:connection:[^\r\n]*close|content-length:|transfer-encoding:)",
    re.IGNORECASE | re.MULTILINE,
)


def answer(connection: socket.socket, head: bytes, root: str) -> bool:
    """Answer one request, its head given; whether the connection can be used for another one."""
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3:
        return refuse(connection, "400 Bad Request")
    method, target, version = words
    if method not in ("GET", "HEAD"):
        return refuse(connection, "501 Not Implemented")
    keep = version == "HTTP/1.1" and not LAST.search(head)
    name = unquote(target.partition("?")[0])
    try:
        file = open_file(root, name)
    except FileNotFoundError:
        return refuse(connection, "404 Not Found", keep, method)
    except OSError:
        return refuse(connection, "500 Internal Server Error", keep, method)
    with file:
        # The size of the open file, not of its name: that may be another file's by now.
        size = os.fstat(file.fileno()).st_size
        if size <= THRESHOLD and method == "GET":
            body = kept(file, size)
            connection.sendall(headers("200 OK", type_of(name), len(body), AN_HOUR, keep) + body)
            return keep
        connection.sendall(headers("200 OK", type_of(name), size, AN_HOUR, keep))
        if method == "HEAD":
            return keep
        # Never past the length that was told. If the file has shrunk, only a broken connection
        # tells the client that something is missing.
        return connection.sendfile(file, count=size) == size and keep


def open_file(root: str, name: str) -> FileIO:
    """The file of that name below `root`, opened; an OSError if there is none or it fails."""
    path = os.path.join(root, name.lstrip("/"))
    if ".." in name.split("/") or not os.path.isfile(path):
        raise FileNotFoundError(name)
    return open(path, "rb", buffering=0)


BODIES: dict[tuple, bytes] = {}
LOCK = threading.Lock()


def kept(file: FileIO, size: int) -> bytes:
    """The body of a small file, from memory if it has not changed."""
    found = os.fstat(file.fileno())
    key = (found.st_dev, found.st_ino, found.st_size, int(found.st_mtime), int(found.st_ctime))
    with LOCK:
        body = BODIES.get(key)
    if body is None:
        body = file.read(size)
        with LOCK:
            if sum(map(len, BODIES.values())) + len(body) > 48 << 20:
                BODIES.clear()
            BODIES[key] = body
    return body


def type_of(name: str) -> str:
    """The Content-Type that goes with the ending of a name."""
    return TYPES.get(os.path.splitext(name)[1].lower(), OTHER_TYPE)


def headers(status: str, kind: str, length: int, cache: str, keep: bool) -> bytes:
    """The head of an answer, its empty line included."""
    return (
        f"HTTP/1.1 {status}\r\n"
        f"Content-Type: {kind}\r\n"
        f"Content-Length: {length}\r\n"
        f"Cache-Control: {cache}\r\n"
        f"Date: {date_of(int(time.time()))}\r\n"
        "Server: hybrid\r\n"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    ).encode("latin-1")


@lru_cache(maxsize=1)
def date_of(second: int) -> str:
    """A time as HTTP writes it; it is the same for all answers of a second."""
    return formatdate(second, usegmt=True)


def refuse(connection: socket.socket, status: str, keep: bool = False, method: str = "GET") -> bool:
    """Answer with an error, and a body that says so; nobody should keep it."""
    body = f"{status}\n".encode()
    top = headers(status, "text/plain", len(body), "no-store", keep)
    connection.sendall(top if method == "HEAD" else top + body)
    return keep


def serve(connection: socket.socket, root: str) -> None:
    """Answer the requests of one client, who may leave at any time."""
    with suppress(OSError), connection:
        # A head and the end of a file go out at once, however small they are.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        came = b""
        while len(came) < HEAD_LIMIT and (piece := connection.recv(HEAD_LIMIT)):
            came += piece
            while b"\r\n\r\n" in came:
                head, _, came = came.partition(b"\r\n\r\n")
                if not answer(connection, head, root):
                    return


def main() -> None:
    """Listen, say where, and give each client a thread."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    root = os.path.realpath(options.root)
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, root), daemon=True).start()


if __name__ == "__main__":
    main()
