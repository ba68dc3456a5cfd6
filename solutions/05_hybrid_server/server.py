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
# BEGIN SOLUTION
HEAD_LIMIT = 64 * 1024
KEEPING = "public, max-age=3600"
# What ends a connection after the answer; a request with a body we don't read, so it ends one too.
LAST = re.compile(
    rb"^(?:connection:[^\r\n]*close|content-length:|transfer-encoding:)",
    re.IGNORECASE | re.MULTILINE,
)
# END SOLUTION


def answer(connection: socket.socket, head: bytes, root: str) -> bool:
    """Answer one request, its head given; whether the connection can be used for another one."""
    # BEGIN SOLUTION
    # BEGIN STUB
    # print("asked:", head)
    # connection.sendall(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n")
    # return False
    # END STUB
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or words[0] not in ("GET", "HEAD"):
        return refuse(connection, "501 Not Implemented")
    method, target, version = words
    keep = version == "HTTP/1.1" and not LAST.search(head)
    try:
        file = open_file(root, unquote(target.partition("?")[0]))
    except FileNotFoundError:
        return refuse(connection, "404 Not Found", method, keep)
    except OSError:
        return refuse(connection, "500 Internal Server Error", method, keep)
    with file:
        # Of the open file, not of its name: that may be another file's by now.
        size = os.fstat(file.fileno()).st_size
        if method == "HEAD":
            connection.sendall(headers("200 OK", type_of(target), size, keep, KEEPING))
            return keep
        if size <= THRESHOLD:
            body = file.read(size)
            top = headers("200 OK", type_of(target), len(body), keep, KEEPING)
            connection.sendall(top + body)
            return keep
        connection.sendall(headers("200 OK", type_of(target), size, keep, KEEPING))
        # Never past the length that was told; if the file has shrunk, only a broken connection
        # tells the client that something is missing.
        return connection.sendfile(file, count=size) == size and keep
    # END SOLUTION


# BEGIN SOLUTION
def open_file(root: str, name: str) -> FileIO:
    """The file of that name below `root`, opened; an OSError if there is none or it fails."""
    path = os.path.join(root, name.lstrip("/"))
    if ".." in name.split("/") or not os.path.isfile(path):
        raise FileNotFoundError(name)
    return open(path, "rb", buffering=0)


def type_of(target: str) -> str:
    """The Content-Type that goes with the ending of a name."""
    ending = os.path.splitext(target.partition("?")[0])[1]
    return TYPES.get(ending.lower(), OTHER_TYPE)


def headers(status: str, kind: str, length: int, keep: bool, keeping: str) -> bytes:
    """The head of an answer, its empty line included."""
    return (
        f"HTTP/1.1 {status}\r\n"
        f"Content-Type: {kind}\r\n"
        f"Content-Length: {length}\r\n"
        f"Cache-Control: {keeping}\r\n"
        f"Date: {date_of(int(time.time()))}\r\n"
        "Server: hybrid\r\n"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    ).encode("latin-1")


@lru_cache(maxsize=1)
def date_of(second: int) -> str:
    """A time as HTTP writes it; it is the same for all answers of a second."""
    return formatdate(second, usegmt=True)


def refuse(connection: socket.socket, status: str, method: str = "GET", keep: bool = False) -> bool:
    """Answer with an error and a body that says so; nobody should keep it."""
    body = f"{status}\n".encode()
    top = headers(status, "text/plain", len(body), keep, "no-store")
    connection.sendall(top if method == "HEAD" else top + body)
    return keep


# END SOLUTION
def serve(connection: socket.socket, root: str) -> None:
    """Answer the requests of one client, who may leave at any time."""
    # BEGIN SOLUTION
    # BEGIN STUB
    # with connection:
    #     answer(connection, connection.recv(65536), root)
    # END STUB
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
    # END SOLUTION


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
