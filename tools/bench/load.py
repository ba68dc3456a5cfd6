"""The clients of the bench: many connections in one thread, with as little CPU time as possible.

    python load.py MODE PORT TARGET CLIENTS SECONDS [SMALL]

Bodies are discarded in the kernel (`MSG_TRUNC`, tcp(7)), to measure the server and not how fast
Python copies. Prints one line of JSON. Modes:

- `pour`: each client downloads TARGET over and over, for SECONDS: bytes of bodies, whole downloads.
- `beside`: the same, and one more client, which asks for SMALL over and over: its answers too.
- `first`: all ask at once; seconds until each has the first byte of its answer.
- `slow`: each reads a few KiB twice a second; prints when all have begun, goes on until its input
  ends.
- `whole`: each downloads TARGET once, to its end: bytes of bodies, and the seconds it took.

Clients connect one by one, each when the one before has its first bytes, or a little later: some
servers have a short accept queue, and a second attempt takes seconds.
"""

from __future__ import annotations

import json
import resource
import select
import selectors
import socket
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

DOOR = 0.02
"""Seconds that a client waits for the first bytes of the one before it."""
DISCARD = 1 << 20
HEAD = 16 * 1024


@dataclass(eq=False)
class Client:
    """One connection and where it stands in its answer."""

    sock: socket.socket
    target: str
    """The target that it asks for."""
    head: bytes = b""
    left: int | None = None
    """Bytes of the body still to come; None before the head is complete."""
    closing: bool = False
    """Whether the server ends the connection after this answer."""


def connect(port: int, thin: bool = False) -> socket.socket:
    """A connection; with `thin`, the kernel buffers little, as for a remote client."""
    sock = socket.socket()
    if thin:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.connect(("127.0.0.1", port))
    return sock


def request(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def take(client: Client, buffer: bytearray) -> int:
    """Read what has come; returns the bytes of body in it, or -1 at the connection's end."""
    if client.left is None:
        try:
            data = client.sock.recv(HEAD)
        except ConnectionResetError:  # the server closed the connection before it saw our request
            data = b""
        if not data:
            return -1
        client.head += data
        head, found, rest = client.head.partition(b"\r\n\r\n")
        if not found:
            return 0
        lines = head.decode("latin-1").lower().split("\r\n")
        assert " 200 " in lines[0] + " ", lines[0]
        fields = dict(line.split(": ", 1) for line in lines[1:])
        client.closing = lines[0].startswith("http/1.0") or "close" in fields.get("connection", "")
        client.left = int(fields["content-length"]) - len(rest)
        client.head = b""
        return len(rest)
    got = client.sock.recv_into(buffer, min(DISCARD, client.left), socket.MSG_TRUNC)
    if not got:
        return -1
    client.left -= got
    return got


def pour(port: int, target: str, clients: int, seconds: float, small: str = "") -> dict[str, float]:
    selector, buffer = selectors.DefaultSelector(), bytearray(DISCARD)
    targets = [target] * clients + [small] * bool(small)
    total, complete = 0, dict.fromkeys(targets, 0)

    def open_one(target: str) -> socket.socket:
        client = Client(connect(port), target)
        client.sock.sendall(request(target))
        selector.register(client.sock, selectors.EVENT_READ, client)
        return client.sock

    began = time.perf_counter()
    for each in targets:
        select.select([open_one(each)], [], [], DOOR)
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        for key, _ in selector.select(end - now):
            client = key.data
            got = take(client, buffer)
            total += max(0, got)
            if client.left == 0:
                complete[client.target] += 1
                client.left = None
                if client.closing:
                    got = -1
                else:
                    client.sock.sendall(request(client.target))
            if got < 0:
                assert client.left is None, "a download was cut short"
                selector.unregister(client.sock)
                client.sock.close()
                open_one(client.target)
    spent = time.perf_counter() - began
    answers = complete.get(small, 0)
    return {"bytes": total, "downloads": complete[target], "small": answers, "seconds": spent}


def first(port: int, target: str, clients: int, seconds: float) -> dict[str, float]:
    selector, ask = selectors.DefaultSelector(), request(target)
    socks = [connect(port) for _ in range(clients)]
    time.sleep(0.2)
    asked: dict[socket.socket, float] = {}
    for sock in socks:
        selector.register(sock, selectors.EVENT_READ)
        asked[sock] = time.perf_counter()
        sock.sendall(ask)
    waits: list[float] = []
    end = time.perf_counter() + seconds
    while asked and time.perf_counter() < end:
        for key, _ in selector.select(0.1):
            answered = key.fileobj
            assert isinstance(answered, socket.socket)
            waits.append(time.perf_counter() - asked.pop(answered))
            selector.unregister(answered)
    waits += [seconds] * len(asked)
    return {"median": statistics.median(waits), "worst": max(waits)}


def slow(port: int, target: str, clients: int, seconds: float) -> None:
    ask = request(target)
    socks = []
    for _ in range(clients):
        sock = connect(port, thin=True)
        sock.settimeout(seconds)
        sock.sendall(ask)
        assert sock.recv(4096), "a client got nothing"
        socks.append(sock)
    print(json.dumps({"begun": clients}), flush=True)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    while not selector.select(0.5):
        for sock in socks:
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.recv(2048)


def whole(port: int, target: str, clients: int, seconds: float) -> dict[str, float]:
    selector, buffer = selectors.DefaultSelector(), bytearray(DISCARD)
    began = time.perf_counter()
    for _ in range(clients):
        client = Client(connect(port), target)
        client.sock.sendall(request(target))
        selector.register(client.sock, selectors.EVENT_READ, client)
        select.select([client.sock], [], [], DOOR)
    total = 0
    while selector.get_map() and time.perf_counter() < began + seconds:
        for key, _ in selector.select(1):
            got = take(key.data, buffer)
            total += max(0, got)
            if got < 0 or key.data.left == 0:
                selector.unregister(key.data.sock)
                key.data.sock.close()
    return {"bytes": total, "seconds": time.perf_counter() - began}


def main() -> None:
    mode, port, target, clients, seconds, *small = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    run = {"pour": pour, "beside": pour, "first": first, "slow": slow, "whole": whole}[mode]
    result = run(int(port), target, int(clients), float(seconds), *small)
    if result is not None:
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
