# LIVE steady-reader: a client that has got 8 MiB has its turn for as long as it reads on

import argparse
import os
import select
import selectors
import socket
import time
from pathlib import Path
from urllib.parse import unquote


def find_file(target, root):
    path = (root / unquote(target).lstrip("/")).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def headers(status, size):
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()


class Client:
    """A generator that says what it waits for: to read, or to write."""

    def __init__(self, connection, root):
        self.connection = connection
        self.steps = self.answer(root)

    def answer(self, root):
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 65536:
            yield selectors.EVENT_READ
            if not (piece := self.connection.recv(4096)):
                return
            head += piece
        method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
        path = find_file(target, root)
        if path is None:
            yield from self.send(headers("404 Not Found", 0))
            return
        size = path.stat().st_size
        yield from self.send(headers("200 OK", size))
        if method != "GET":
            return
        with path.open("rb") as file:
            at, room = 0, select.poll()
            room.register(self.connection, select.POLLOUT)
            while at < size:
                patience = 100 if at > 1 << 23 else 0
                if not room.poll(patience):
                    yield selectors.EVENT_WRITE
                sent = os.sendfile(self.connection.fileno(), file.fileno(), at, 1 << 20)
                if not sent:
                    return
                at += sent

    def send(self, data):
        while data:
            yield selectors.EVENT_WRITE
            data = data[self.connection.send(data) :]


def step(selector, client, known):
    try:
        event = next(client.steps)
    except (StopIteration, OSError, ValueError):
        if known:
            selector.unregister(client.connection)
        client.connection.close()
        return
    if known:
        selector.modify(client.connection, event, client)
    else:
        selector.register(client.connection, event, client)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=512)
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    closed_until = None
    while True:
        if closed_until and time.monotonic() > closed_until:
            selector.register(listener, selectors.EVENT_READ)
            closed_until = None
        for key, _ in selector.select(0.5 if closed_until else None):
            if key.data:
                step(selector, key.data, known=True)
                continue
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                continue
            except OSError:
                selector.unregister(listener)
                closed_until = time.monotonic() + 0.5
                continue
            connection.setblocking(False)
            step(selector, Client(connection, root), known=False)


if __name__ == "__main__":
    main()
