"""A file server on bare sockets: `python server.py --root DIR --port 0`."""

import argparse
import socket
import threading
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024


def answer(connection: socket.socket, root: Path) -> None:
    """Read one request from `connection` and send the answer."""
    # TODO: read the whole request, find the file below `root`, and send it in chunks
    request = connection.recv(65536)
    print("asked:", request)
    connection.sendall(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n")


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
        # TODO: one client must not wait for another, and none may end this loop
        answer(connection, root)
        connection.close()


if __name__ == "__main__":
    main()
