# Threads and sockets without a framework: each wait of a thread has a limit.
"""A download service with a thread for each client: `python server.py --root DIR --port 8000`."""

import argparse
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

CHUNK = 32 * 1024
HEAD_SECONDS = 3
STALL_SECONDS = 3
GRACE_SECONDS = 4
DOWNLOADS = 100
ACCEL_PREFIX = os.environ.get("ACCEL_PREFIX", "")

places = threading.BoundedSemaphore(DOWNLOADS)
ending = threading.Event()


def read_head(client: socket.socket) -> bytes:
    """A whole head; TimeoutError if it is not there in time, and nothing if the client left."""
    head, until = b"", time.monotonic() + HEAD_SECONDS
    while b"\r\n\r\n" not in head:
        client.settimeout(max(0.001, until - time.monotonic()))
        if not (piece := client.recv(4096)) or len(head) > 65536:
            return b""
        head += piece
    return head


def send(client: socket.socket, data: bytes) -> None:
    """Send all; TimeoutError if the client takes nothing for too long."""
    client.settimeout(STALL_SECONDS)
    while data:
        data = data[client.send(data) :]


def answer(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """The head of an answer, and a small body."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def find(name: str, root: Path) -> Path | None:
    """The file of that name in the root; None if there is none."""
    if "/" in name or "\0" in name:
        return None
    path = root / name
    inside = os.path.isfile(path) and path.resolve().is_relative_to(root)
    return path if inside else None


def download(client: socket.socket, name: str, root: Path) -> None:
    """Send a file, or leave that to nginx."""
    path = find(name, root)
    if path is None:
        send(client, answer("404 Not Found", b"no such file\n"))
    elif ACCEL_PREFIX:
        send(client, answer("200 OK", b"", f"X-Accel-Redirect: {ACCEL_PREFIX}{quote(name)}"))
    else:
        with path.open("rb") as file:
            send(client, answer("200 OK", length=os.fstat(file.fileno()).st_size))
            while chunk := file.read(CHUNK):
                send(client, chunk)


def serve(client: socket.socket, root: Path) -> None:
    """Answer one request after the other."""
    # A small buffer, so that a send ends as often as the client reads; and at the end no wait.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK)
    with client, suppress(OSError):
        while head := read_head(client):
            line = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
            name = unquote(line[1]).removeprefix("/files/")
            if line[0] != "GET":
                send(client, answer("405 Method Not Allowed", b"", "Connection: close"))
                return
            if line[1] == "/health":
                send(client, answer("200 OK", b"ok\n"))
            elif not line[1].startswith("/files/"):
                send(client, answer("404 Not Found"))
            elif not places.acquire(blocking=False):
                send(client, answer("503 Service Unavailable", b"", "Retry-After: 7"))
            else:
                try:
                    download(client, name, root)
                finally:
                    places.release()
            if ending.is_set() or b"connection: close" in head.lower():
                return


def under_way() -> bool:
    """Whether a place is taken."""
    taken = [places.acquire(blocking=False) for _ in range(DOWNLOADS)]
    for _ in range(sum(taken)):
        places.release()
    return not all(taken)


def end(listener: socket.socket) -> None:
    """Take no more clients, wait for the downloads, and end the program."""
    ending.set()
    listener.close()
    until = time.monotonic() + GRACE_SECONDS
    while under_way() and time.monotonic() < until:
        time.sleep(0.05)
    os._exit(0)


def main() -> None:
    """Read the command line, listen, say where, and serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    threading.stack_size(256 * 1024)
    listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    signal.signal(signal.SIGTERM, lambda number, frame: end(listener))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client, root), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
