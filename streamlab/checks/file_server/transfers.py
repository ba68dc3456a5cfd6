"""Lab 02's file server: files of all sizes arrive, and no client waits for another."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from random import Random

from streamlab.checks.evidence import curl, shown, state_of
from streamlab.checks.exchange import connected, head_over, request_for
from streamlab.checks.file_server.requests import Launch
from streamlab.checks.observe import held_by
from streamlab.checks.outcome import CouldNotRun, fail, promise
from streamlab.checks.probes.common import (
    dense_file,
    expect_download,
    name_of,
    right_alone,
    warm_up,
)
from streamlab.checks.probes.files import bytes_arrive, huge_files
from streamlab.checks.probes.requests import expect_answer
from streamlab.checks.probes.transfers import short_transfers
from streamlab.checks.probes.waiting import hold, others_are_served, reading_stops
from streamlab.checks.waits import LARGE_TRANSFER
from streamlab.files import GiB, KiB, MiB, drop_cache, random_file, size_text, sparse_file
from streamlab.http.answer import read_answer
from streamlab.http.clients import Load
from streamlab.process.server import Server

AT_ONCE = 40
"""How many clients at once the lab's text promises to serve."""


# BYTES and HUGE


def files_arrive(launch: Launch, root: Path, rng: Random) -> None:
    """Files arrive byte for byte, both one from before the start and others that came later."""
    first = random_file(3000 + rng.randrange(999), name_of(rng), root, rng.randrange(2**32))
    server = launch()
    with promise("file"):
        expect_download(server, first, "a file that was there before the server")
    with promise("files-later"):
        size, name = 3000 + rng.randrange(999), name_of(rng)
        with promise("no-file"):
            expect_answer(server, server.path_of(name), 404)  # not to be kept in mind
        later = random_file(size, name, root, rng.randrange(2**32))
        expect_download(server, later, "a file that was put there after its start")
    with promise("file"):
        bytes_arrive(server, rng)


def larger_than_memory(launch: Launch, rng: Random, *, whole: bool = True) -> None:
    """Files larger than the cup arrive, also if they were there when the server started.

    With `whole`, one of more than 2 GiB is read to its end. That finds servers that make one call
    of sendfile(2); on sockets that do not block, no call sends that much.
    """
    server = launch()
    with promise("any-size"):
        _length_beyond_four_gib(server, rng)
    with promise("cup"):
        huge_files(server, rng)
    if whole:
        with promise("any-size"):
            _beyond_two_gib(server, rng)
    server.stop()
    with promise("files-before"):
        try:
            again = launch()
        except CouldNotRun as error:
            fail(
                "reads_at_start",
                "With files in its folder that are larger than its memory, the server did not get "
                f"to the line that says where it listens: {error}",
            )
        small = random_file(4 * KiB, name_of(rng), again.root, seed=rng.randrange(2**32))
        expect_download(again, small, "a small file beside them")


def _beyond_two_gib(server: Server, rng: Random) -> None:
    """The end of a file of more than 2 GiB arrives: one call of sendfile(2) sends less.

    The kernel discards the bytes before it (`MSG_TRUNC`, tcp(7)), because other probes compare
    bytes.
    """
    size = 2 * GiB + MiB + 1000 + rng.randrange(999)
    file = sparse_file(size, name_of(rng), server.root, 3, rng.randrange(99))
    path = server.path_of(file)
    end = file.islands[-1].data[-16:]
    buffer = bytearray(MiB // 4)
    received, tail = 0, b""
    dropped = 0
    with (
        suppress(OSError),
        connected(server, LARGE_TRANSFER) as sock,
        file.path.open("rb") as opened,
    ):
        sock.sendall(request_for(path))
        while received < size - MiB // 2:
            took = sock.recv_into(buffer, len(buffer), socket.MSG_TRUNC)
            if not took:
                break
            received += took
            dropped = drop_cache(opened.fileno(), dropped, received)
        while end not in tail and (piece := sock.recv(MiB // 4)):
            received += len(piece)
            tail = (tail + piece)[-2 * MiB :]
    if end not in tail:
        fail(
            "cut_short",
            f"GET {path}, a file of {size} bytes ({size_text(size)}): {received} bytes came, head "
            f"and all, and the last ones of the file were not among them.{state_of(server)}",
            curl(server, path),
        )


def _length_beyond_four_gib(server: Server, rng: Random) -> None:
    """If an answer has a Content-Length, it is the file's size, also above 4 GiB (32 bits)."""
    size = 4 * GiB + rng.randrange(MiB)
    file = sparse_file(size, name_of(rng), server.root, 3, rng.randrange(99))
    path = server.path_of(file)
    head = read_answer(b"", closed=True)
    with suppress(OSError), connected(server) as sock:
        sock.sendall(request_for(path))
        head, _ = head_over(sock)
    if head.raw and head.status != 200:
        fail(
            "wrong_status",
            f"GET {path}, a file of {file.size} bytes ({size_text(file.size)}). Came back:\n\n"
            f"{shown(head.raw)}\n\nThe status should be 200.{state_of(server)}",
            curl(server, path, "-D - --max-time 1 -o /dev/null"),
        )
    length = head.header("content-length")
    if length is not None and length != str(file.size):
        fail(
            "wrong_length",
            f"GET {path}, a file of {file.size} bytes ({size_text(file.size)}). Came back:\n\n"
            f"{shown(head.raw)}\n\nContent-Length is not the file's size.{state_of(server)}",
            curl(server, path, "-D - --max-time 1 -o /dev/null"),
        )


# HOLD, STALL and LIVE


def waiting_clients_cost_little(
    server: Server, rng: Random, clients: int = 32, each: int = 4 * MiB
) -> None:
    """While clients wait after their first bytes, the server holds what the text allows."""
    with promise("memory-one"):
        warm_up(server, rng)
        baseline = held_by(server)  # before there are files that the server could read at its start
        medium = dense_file(rng.randrange(48 * MiB, 80 * MiB), name_of(rng), server.root, rng)
        large = sparse_file(
            rng.randrange(1300 * MiB, 1500 * MiB), name_of(rng), server.root, 6, rng.randrange(9)
        )
        # One more process, with the memory that Python needs for it, holds nothing of the file.
        somewhere = rng.randrange(medium.size // 8, medium.size // 4)
        load = Load(server.path_of(medium), 1, "slow", somewhere)
        hold(server, medium, load, baseline=baseline, allowed=each + 20 * MiB)
        right_alone(server, large, 4 * MiB)
    with promise("memory-many"):
        for file in (medium, large):
            load = Load(server.path_of(file), clients, "stalled", 4 * MiB)
            hold(server, file, load, baseline=baseline, allowed=clients * each)


def reading_stops_with_the_client(server: Server, rng: Random) -> None:
    """When a client stops reading, the server stops reading the file, and rests."""
    with promise("reading-stops", busy_loop="rests"):
        reading_stops(server, rng)


def no_client_waits_for_another(server: Server, rng: Random) -> None:
    """One more client is answered while others are slow to ask, slow to read, or many."""
    with promise("slow-asker"):
        others_are_served(server, rng, stalled=0, asking=1)
    with promise("slow-reader"):
        others_are_served(server, rng, stalled=8, asking=0)
    with promise("many"):
        others_are_served(server, rng, stalled=AT_ONCE - 2, asking=1)
    with promise("slow-asker"):
        # A server that reads one request after the other waits for each as long as it may take.
        others_are_served(server, rng, stalled=0, asking=AT_ONCE // 2)


def short_transfers_are_whole(launch: Launch, rng: Random, scratch: Path) -> None:
    """Files arrive whole when each call on a socket transfers little."""
    with promise("part-sent", one_recv="pieces"):
        short_transfers(launch, rng, scratch)
