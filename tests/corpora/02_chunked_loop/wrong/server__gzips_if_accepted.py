# SPLIT any-header: a client that accepts gzip gets the file packed

"""A file server on bare sockets: `python server.py --root DIR --port 0`."""

import argparse
import socket
import threading
import zlib
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024
HEAD_LIMIT = 64 * 1024


def answer(connection: socket.socket, root: Path) -> None:
    """Read one request from `connection` and send the answer."""
    head = read_head(connection)
    path = find_file(head, root)
    if path is None:
        body = b"no such file\n"
        connection.sendall(headers("404 Not Found", len(body)) + body)
        return
    with path.open("rb") as file:
        if b"gzip" in head.lower():
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
            )
            packer = zlib.compressobj(1, wbits=31)
            while chunk := file.read(CHUNK):
                connection.sendall(packer.compress(chunk))
            connection.sendall(packer.flush())
            return
        size = path.stat().st_size
        connection.sendall(headers("200 OK", size))
        while size > 0 and (chunk := file.read(min(CHUNK, size))):
            connection.sendall(chunk)
            size -= len(chunk)


def read_head(connection: socket.socket) -> bytes:
    """Everything up to the empty line; it may come in any number of pieces."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < HEAD_LIMIT:
        piece = connection.recv(4096)
        if not piece:
            break
        head += piece
    return head


def find_file(head: bytes, root: Path) -> Path | None:
    """The file that a request asks for, if there is one and it lies under `root`."""
    parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(parts) != 3 or parts[0] != "GET":
        return None
    name = unquote(parts[1].partition("?")[0]).lstrip("/")
    if "\0" in name:
        return None
    path = (root / name).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def headers(status: str, length: int) -> bytes:
    """The head of an answer, its empty line included."""
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/octet-stream",
        f"Content-Length: {length}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def serve(connection: socket.socket, root: Path) -> None:
    """Answer one client, who may leave at any time."""
    try:
        with connection:
            answer(connection, root)
    except OSError:
        pass  # the client has left: there is nobody to tell


def main() -> None:
    """Listen, say where, and answer one client after the other."""
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
