# DROP has-its-answer: a folder is opened to see what it is, refused, and never closed

import argparse
import os
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 65536:
        piece = connection.recv(4096)
        if not piece:
            break
        head += piece
    return head


def find_file(head, root):
    words = head.split(b"\r\n")[0].split(b" ")
    if len(words) != 3:
        return None
    path = (root / unquote(words[1].decode("latin-1")).lstrip("/")).resolve()
    if not path.is_relative_to(root) or not path.exists():
        return None
    handle = os.open(path, os.O_RDONLY)
    return handle if stat.S_ISREG(os.fstat(handle).st_mode) else None


def headers(size):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size


def send_file(connection, handle):
    with open(handle, "rb") as file:
        connection.sendall(headers(os.fstat(handle).st_size))
        while chunk := file.read(CHUNK):
            connection.sendall(chunk)


def answer(connection, root):
    handle = find_file(read_head(connection), root)
    if handle is None:
        connection.sendall(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    else:
        send_file(connection, handle)


def serve(connection, root):
    with suppress(OSError), connection:
        answer(connection, root)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, root), daemon=True).start()


if __name__ == "__main__":
    main()
