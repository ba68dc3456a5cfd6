"""How much of a body the kernel takes from a server whose client does not read.

It depends on settings that every system chooses for itself (tcp(7): `tcp_rmem`, `tcp_wmem`,
`tcp_mem`), on the size of a segment, and on how short of memory the kernel is. A container may not
show these settings, so the amount is measured over loopback.
"""

from __future__ import annotations

import selectors
import socket
from contextlib import ExitStack, suppress
from functools import cache

from streamlab.files import KiB
from streamlab.http.clients import FIRST, receive_buffer

PIECE = 64 * KiB
"""Bytes that the sending side hands over at a time."""
QUIET = 0.25
"""Seconds in which no connection takes anything more: then all of them are full. An acknowledgement
that the kernel holds back is late by 0.2 s at most (Linux, `TCP_DELACK_MAX`)."""
ENDLESS = 1 << 30
"""Bytes that no kernel takes for a client that does not read."""


@cache
def connection_buffer(
    clients: int = 1,
    *,
    send_buffer: int | None = None,
    window: int | None = None,
    segment: int | None = None,
    first: int = FIRST,
) -> int:
    """How many bytes of a body the kernel takes for a client that reads `first` bytes and stops.

    `clients` clients are connected at the same moment, and the result is the least that is taken
    for any of them. `send_buffer` is the server's `SO_SNDBUF` in bytes (None: the kernel chooses),
    `window` the client's `SO_RCVBUF` (None: that of a crowd of `clients`), and `segment` the
    largest segment that the client accepts (`TCP_MAXSEG`, bytes). The result is in bytes, and is
    kept for as long as this process lives.
    """
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        if send_buffer is not None:  # each connection inherits it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        sent: dict[socket.socket, int] = {}
        for _ in range(clients):
            client = stack.enter_context(socket.socket())
            buffer = receive_buffer(clients) if window is None else window
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            if segment is not None:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
            client.connect(listener.getsockname())
            server = stack.enter_context(listener.accept()[0])
            _read(client, server, first)
            server.setblocking(False)
            sent[server] = 0
            selector.register(server, selectors.EVENT_WRITE)
        _fill(selector, sent)
        return min(sent.values())


def _read(client: socket.socket, server: socket.socket, size: int) -> None:
    """Let the client read the first bytes, as they come."""
    while size > 0:
        server.sendall(bytes(min(PIECE, size)))
        piece = min(PIECE, size)
        size -= piece
        while piece > 0:
            piece -= len(client.recv(piece))


def _fill(selector: selectors.BaseSelector, sent: dict[socket.socket, int]) -> None:
    """Send for as long as the kernel says that a connection takes more."""
    piece = bytes(PIECE)
    while ready := selector.select(QUIET):
        for key, _ in ready:
            server = key.fileobj
            assert isinstance(server, socket.socket)
            with suppress(BlockingIOError):
                while sent[server] < ENDLESS:
                    sent[server] += server.send(piece)
            if sent[server] >= ENDLESS:
                selector.unregister(server)
