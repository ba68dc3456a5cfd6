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


def answer(connection: socket.socket, head: bytes, root: str) -> bool:
    """Answer one request, its head given; whether the connection can be used for another one."""
    # TODO: a file of at most THRESHOLD bytes goes out in one piece, a larger one is streamed
    print("asked:", head)
    connection.sendall(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n")
    return False


def serve(connection: socket.socket, root: str) -> None:
    """Answer the requests of one client, who may leave at any time."""
    # TODO: read whole heads, and go on as long as the connection can be used
    with connection:
        answer(connection, connection.recv(65536), root)


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
