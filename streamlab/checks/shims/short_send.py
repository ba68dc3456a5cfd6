"""Make each call on a socket send little, as POSIX allows (send(2), write(2), sendfile(2)).

A call sends half of its bytes, so the last call of a body falls short too.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable

MOST = 4096
"""The most bytes that a call sends."""

Data = bytes | bytearray | memoryview


def part(size: int) -> int:
    """How many of `size` bytes a call sends."""
    return max(1, min(size // 2, MOST)) if size else 0


def beginning(data: Data) -> memoryview:
    """The part of `data` that a call sends."""
    data = memoryview(data).cast("B")
    return data[: part(len(data))]


def install() -> None:
    """Change the sockets of this process."""
    whole_send, whole_sendmsg = socket.socket.send, socket.socket.sendmsg
    whole_write = os.write

    def send(self: socket.socket, data: Data, *flags: int) -> int:
        return whole_send(self, beginning(data), *flags)

    def sendmsg(self: socket.socket, buffers: Iterable[Data], *more: object) -> int:
        return whole_sendmsg(self, [beginning(b"".join(buffers))], *more)  # type: ignore[arg-type]

    def write(descriptor: int, data: Data) -> int:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        return whole_write(descriptor, beginning(data) if is_socket else data)

    socket.socket.send = send  # type: ignore[method-assign, assignment]
    socket.socket.sendmsg = sendmsg  # type: ignore[method-assign, assignment]
    os.write = write  # type: ignore[assignment]
    if hasattr(os, "sendfile"):
        whole_sendfile = os.sendfile

        def sendfile(out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
            return whole_sendfile(out_fd, in_fd, offset, part(count))

        os.sendfile = sendfile


if __name__ == "sitecustomize":
    install()
