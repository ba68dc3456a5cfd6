# HOLD: a client that pauses for a tenth of a second is thrown out

import argparse
import socket
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
    return path if path.is_relative_to(root) and path.is_file() else None


def headers(size):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size


def send_file(connection, path):
    connection.sendall(headers(path.stat().st_size))
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            connection.sendall(chunk)


def answer(connection, root):
    path = find_file(read_head(connection), root)
    if path is None:
        connection.sendall(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    else:
        send_file(connection, path)


def serve(connection, root):
    connection.settimeout(0.1)
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
