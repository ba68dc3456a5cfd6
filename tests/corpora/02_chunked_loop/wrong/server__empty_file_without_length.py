# WIRE end: an empty file has no Content-Length, and the connection stays open

import argparse
import socket
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024
HEAD_LIMIT = 64 * 1024


class BadRequest(Exception):
    """A request that can't be answered; the status to refuse it with."""


def read_head(connection: socket.socket, buffer: bytearray) -> str | None:
    """The next request's head, without its empty line; None if the client has left."""
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        if len(buffer) > HEAD_LIMIT:
            raise BadRequest("431 Request Header Fields Too Large")
        piece = connection.recv(16 * 1024)
        if not piece:
            return None
        buffer += piece
    head = buffer[:end].decode("latin-1")
    del buffer[: end + 4]
    return head


def find_file(root: Path, target: str) -> Path | None:
    """The file below `root` that a target names, if there is one."""
    name = unquote(target).lstrip("/")
    if "\0" in name:
        return None
    with suppress(OSError):
        path = (root / name).resolve()
        if path.is_relative_to(root) and path.is_file():
            return path
    return None


def send_error(connection: socket.socket, status: str) -> None:
    """A small answer that says what is wrong."""
    body = f"{status}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode("ascii") + body)


def send_file(connection: socket.socket, path: Path) -> None:
    """Pour the file into the connection, one chunk at a time."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        fields = ["HTTP/1.1 200 OK", "Content-Type: application/octet-stream"]
        if size:
            fields.append(f"Content-Length: {size}")
        connection.sendall(("\r\n".join(fields) + "\r\n\r\n").encode("ascii"))
        while chunk := file.read(CHUNK):
            connection.sendall(chunk)


def wants_close(lines: list[str]) -> bool:
    """Whether the client asks for the connection to end after this answer."""
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "connection" and "close" in value.lower():
            return True
    return False


def serve(connection: socket.socket, root: Path) -> None:
    """Answer one client's requests until it leaves."""
    buffer = bytearray()
    with connection, suppress(ConnectionError):
        while True:
            try:
                head = read_head(connection, buffer)
            except BadRequest as refused:
                send_error(connection, str(refused))
                return
            if head is None:
                return
            request_line, *lines = head.split("\r\n")
            words = request_line.split(" ")
            if len(words) != 3 or not words[2].startswith("HTTP/1."):
                send_error(connection, "400 Bad Request")
                return
            if words[0] != "GET":
                send_error(connection, "501 Not Implemented")
                return
            path = find_file(root, words[1])
            if path is None:
                send_error(connection, "404 Not Found")
            else:
                send_file(connection, path)
            if wants_close(lines):
                return


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
