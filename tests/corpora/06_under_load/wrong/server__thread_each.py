# CROWD threads: lab 02's server, a thread for each client

import argparse
import socket
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024


def find_file(target, root):
    path = (root / unquote(target).lstrip("/")).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def headers(status, size):
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()


def answer(connection, root):
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 65536:
        if not (piece := connection.recv(4096)):
            return
        head += piece
    method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
    path = find_file(target, root)
    if path is None:
        connection.sendall(headers("404 Not Found", 0))
        return
    connection.sendall(headers("200 OK", path.stat().st_size))
    if method == "GET":
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                connection.sendall(chunk)


def serve(connection, root):
    with suppress(OSError), connection:
        answer(connection, root)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, root), daemon=True).start()


if __name__ == "__main__":
    main()
