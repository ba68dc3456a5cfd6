"""Clients that keep a server busy for as little as possible: by a slow head, or by slow reading.

    with SlowClients(server, "/film.mp4", 20, "sips"):
        ...

They run in a thread of this process, and cost it next to nothing. What the server does about them
is seen at the server: by its descriptors, or by `at_door`.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Literal

from streamlab.files import KiB
from streamlab.process.proc import group_members, open_files
from streamlab.process.server import Server

How = Literal["stalls", "sips", "drips"]
"""What a slow client does. `stalls`: it asks, and reads nothing. `sips`: it asks, and reads a
little at a time. `drips`: it sends the head a byte at a time, and never its end."""

SIP = 32 * KiB
"""Bytes that a client reads at a time, at most."""
PAUSE = 0.1
"""Seconds between two sips, or two bytes of a head."""
RECEIVE_BUFFER = 64 * KiB
"""What each asks the kernel to keep for it (SO_RCVBUF, socket(7))."""


class SlowClients:
    """`clients` clients that come one after the other when a `with` block begins, and stay.

    A sipping client reads at most `rate` bytes a second.
    """

    def __init__(
        self, server: Server, path: str, clients: int, how: How, rate: int = 10 * SIP
    ) -> None:
        self.server = server
        self.path = path
        self.clients = clients
        self.how = how
        self._sip = int(rate * PAUSE)
        self._sockets: list[socket.socket] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> SlowClients:
        port = int(self.server.url.rpartition(":")[2])
        head = f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode()
        for _ in range(self.clients):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            client.connect(("127.0.0.1", port))
            client.sendall(head + (b"X-Slow: " if self.how == "drips" else b"\r\n"))
            client.setblocking(False)
            self._sockets.append(client)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        for client in self._sockets:
            client.close()

    def _run(self) -> None:
        began = time.monotonic()
        while not self._over.wait(PAUSE) and self.how != "stalls":
            for client in self._sockets:
                with suppress(OSError):  # nothing there, or the server has closed it
                    if self.how == "drips":
                        client.send(b"x")
                    else:
                        client.recv(self._sip)
        self.seconds = time.monotonic() - began


def at_door(server: Server) -> int:
    """How many sockets a server's processes have open, those that listen included (Linux)."""
    members = group_members(server.pid)
    found = [each for member in members for each in open_files(member)]
    return len({each for each in found if each.startswith("socket:")})
