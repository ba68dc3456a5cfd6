"""Make each call on a socket receive little, as POSIX allows (recv(2))."""

from __future__ import annotations

import socket

MOST = 16
"""The most bytes that a call returns: fewer than a request line has. A program that reads once does
not have the path."""


def install() -> None:
    """Change the sockets of this process."""
    whole_recv, whole_recv_into = socket.socket.recv, socket.socket.recv_into

    def recv(self: socket.socket, size: int, *flags: int) -> bytes:
        return whole_recv(self, min(size, MOST), *flags)

    def recv_into(
        self: socket.socket, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0
    ) -> int:
        size = nbytes or memoryview(buffer).nbytes
        return whole_recv_into(self, buffer, min(size, MOST), flags)

    socket.socket.recv = recv  # type: ignore[method-assign, assignment]
    socket.socket.recv_into = recv_into  # type: ignore[method-assign, assignment]


if __name__ == "sitecustomize":
    install()
