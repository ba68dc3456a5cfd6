# one thread and a selector: a generator for each client, resumed when its socket has room

import argparse
import selectors
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024


def find_file(head, root):
    words = head.split(b"\r\n")[0].split(b" ")
    if len(words) != 3:
        return None
    path = (root / unquote(words[1].decode("latin-1")).lstrip("/")).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def headers(size):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size


def talk(connection, root):
    """Yield the event to wait for, until this client has its answer."""
    head = b""
    while b"\r\n\r\n" not in head:
        yield selectors.EVENT_READ
        piece = connection.recv(4096)
        if not piece:
            return
        head += piece
    path = find_file(head, root)
    if path is None:
        yield selectors.EVENT_WRITE
        connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return
    with path.open("rb") as file:
        left = headers(path.stat().st_size)
        while left := left or file.read(CHUNK):
            yield selectors.EVENT_WRITE
            with suppress(BlockingIOError):
                left = left[connection.send(left) :]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            connection, answer = key.fileobj, key.data
            if connection is listener:
                connection, _ = listener.accept()
                connection.setblocking(False)
                answer = talk(connection, root)
                waiting.register(connection, next(answer), answer)
                continue
            try:
                waiting.modify(connection, next(answer), answer)
            except (OSError, StopIteration):
                answer.close()
                waiting.unregister(connection)
                connection.close()


if __name__ == "__main__":
    main()
