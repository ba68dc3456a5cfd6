"""Slow clients, and what the kernel keeps of a connection after its program has closed it."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streamlab import KiB, MiB, settled
from streamlab.http.slow import SlowClients, at_door
from streamlab.process.memory import deleted_files, orphans
from streamlab.process.server import Server

pytestmark = pytest.mark.needs("linux")


@contextmanager
def door() -> Iterator[tuple[socket.socket, Server]]:
    """A listening socket of this process, and what clients take for its server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield listener, cast("Any", SimpleNamespace(url=url, pid=os.getpid()))


def test_a_dripping_head_never_ends() -> None:
    """Bytes of it come again and again, and never the empty line."""
    with door() as (listener, server), SlowClients(server, "/a", 1, "drips"):
        taken, _ = listener.accept()
        with taken:
            taken.settimeout(10)
            head = b""
            while head.count(b"x") < 3:
                head += taken.recv(1)
        assert head.startswith(b"GET /a HTTP/1.1\r\n")
        assert b"\r\n\r\n" not in head


@pytest.mark.parametrize(("how", "reads"), [("sips", True), ("stalls", False)])
def test_who_sips_reads_on(how: Any, reads: bool) -> None:
    """A sipping client makes room again and again, a stalled one never does."""
    with door() as (listener, server), SlowClients(server, "/a", 1, how, rate=4 * MiB):
        taken, _ = listener.accept()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KiB)
        taken.settimeout(2)
        sent = 0
        with taken:
            try:
                while sent < 4 * MiB:
                    sent += taken.send(bytes(64 * KiB))
            except TimeoutError:
                assert not reads
        assert (sent >= 4 * MiB) == reads


def test_the_door_is_counted() -> None:
    """Each connection is a socket more."""
    with door() as (listener, server):
        before = at_door(server)
        with SlowClients(server, "/a", 3, "stalls"):
            taken = [listener.accept()[0] for _ in range(3)]
            assert at_door(server) == before + 6  # both ends are in this process
            for each in taken:
                each.close()
        assert at_door(server) == before


@pytest.mark.parametrize(("reset", "kept"), [(False, 1), (True, 0)])
def test_orphans(reset: bool, kept: int) -> None:
    """A closed connection whose client does not read stays in the kernel, unless it is reset."""
    with door() as (listener, server), SlowClients(server, "/a", 1, "stalls"):
        taken, address = listener.accept()
        assert address
        taken.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                taken.send(bytes(64 * KiB))
        port = listener.getsockname()[1]
        assert orphans(port) == []
        if reset:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        taken.recv(4096)  # with bytes that nobody has read, closing would be a reset
        taken.close()
        assert settled(lambda: len(orphans(port))) == kept
        assert all(size > 1 * KiB for size in orphans(port))


def test_a_file_without_a_name_is_found() -> None:
    """Open and deleted, it still has its size; closed, it is gone."""
    before = sum(deleted_files(os.getpid()))
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(bytes(1 * MiB))
        file.flush()
        assert sum(deleted_files(os.getpid())) == before
        os.unlink(file.name)
        assert sum(deleted_files(os.getpid())) == before + 1 * MiB
    assert sum(deleted_files(os.getpid())) == before
