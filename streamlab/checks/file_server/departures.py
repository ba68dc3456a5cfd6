"""Lab 02's file server: clients that leave, some of them in the middle of a request."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from random import Random

from streamlab.checks.evidence import by_hand, curl, state_of
from streamlab.checks.exchange import ask, connected, request_for
from streamlab.checks.observe import at_work
from streamlab.checks.outcome import fail, note, promise
from streamlab.checks.probes.common import expect_download, folder_in, name_of
from streamlab.checks.probes.departures import (
    Visit,
    answers_leave_nothing,
    leave_nothing,
    survives_departures,
)
from streamlab.files import KiB, MiB, random_file, size_text, sparse_file
from streamlab.http.clients import Crowd, Job, Load
from streamlab.process.patience import Deadline
from streamlab.process.server import Server

PAUSE = 8.0
"""Seconds for which a client may stop reading and still gets the rest of its file."""


# DROP


def departures_cost_nothing(server: Server, rng: Random) -> None:
    """Clients that leave before or during the answer leave nothing behind."""
    with promise("pauses"):
        reads_on_later(server, rng, partial(leave_in_the_middle, server, rng))


def leave_in_the_middle(server: Server, rng: Random) -> None:
    """Clients leave during their request, others with their answer, and others during it."""
    small = random_file(256 * KiB, name_of(rng), server.root, seed=rng.randrange(2**32))
    large = sparse_file(
        rng.randrange(200 * MiB, 300 * MiB), name_of(rng), server.root, 4, rng.randrange(99)
    )
    with promise("leaves-request"):
        expect_download(server, small, "while there was no other client")
        request = request_for(server.path_of(large))
        leave_nothing(server, visit_while_asking(server, request[:10]), small, large)
    with promise("has-its-answer"):
        folder_in(server.root)
        gone = name_of(rng)
        ways = (
            "/folder",
            "/folder/",
            f"/{gone}",
            f"/folder/index.html/{gone}",
            f"/../{gone}",
            "/..",
        )
        answers_leave_nothing(
            server,
            [("GET", path) for path in (server.path_of(small), *ways)],
            large,
            lambda _, path: ask(server, [request_for(path)], lingers=0),
        )
    with promise("leaves-answer"):
        besides = partial(leave_while_asking, server, (request,), each=6)
        survives_departures(server, rng, besides=besides)


def reads_on_later(server: Server, rng: Random, meanwhile: Callable[[], None]) -> None:
    """A client takes its first bytes, stops reading for some seconds, and then gets the rest.

    `meanwhile` is called while the client waits. If that takes longer than the client may pause,
    because the machine is busy, a failure says nothing about the server, and another client tries.
    """
    file = sparse_file(
        rng.randrange(100 * MiB, 120 * MiB), name_of(rng), server.root, 4, rng.randrange(99)
    )
    path, wait = server.path_of(file), PAUSE - 1.5
    port = int(server.url.rpartition(":")[2])
    job = Job(port, Load(path, 1, "slow", MiB, file.path))
    line = curl(server, path, "-o got") + (
        f" & sleep 1; kill -STOP $!; sleep {wait:g}; kill -CONT $!; wait $!"
    )
    summary = f"A client took 1 MiB of {path} ({size_text(file.size)})"
    for doing in (meanwhile, lambda: None):
        with Crowd(job) as crowd:
            [came] = crowd.arrive()
            if came.error:
                fail("cut_short", f"{summary}: {came.error}.{state_of(server)}", line)
            began = time.monotonic()
            doing()
            time.sleep(max(0.0, began + wait - time.monotonic()))
            paused = time.monotonic() - began
            [ended] = crowd.finish()
        if not ended.error:
            return
        if paused <= PAUSE:
            fail(
                "gives_up",
                f"{summary}, and stopped reading for {paused:.1f} s. Then it read on: "
                f"{ended.error}.{state_of(server)}",
                line,
            )
    note(f"Left out: a client that read on after {paused:.0f} s, on a busy machine.")


def visit_while_asking(server: Server, begun: bytes) -> Visit:
    """A visit of 24 clients that leave with no request, or with the bytes `begun` of one."""
    return Visit(
        lambda: leave_while_asking(server, (b"", begun), each=6),
        24,
        "24 clients connected and left, some without a word and some in the first line of "
        "their request, by closing the connection or with a reset",
        by_hand([begun], leaves=True),
    )


def leave_while_asking(server: Server, sent: Sequence[bytes], each: int) -> None:
    """Clients leave after the bytes `sent`: `each` by closing, and as many by a reset."""
    for words in sent:
        for reset in (False, True):
            with ExitStack() as stack, suppress(OSError):
                for _ in range(each):
                    sock = stack.enter_context(connected(server))
                    sock.sendall(words)
                    if reset:  # closing sends RST (socket(7), SO_LINGER)
                        linger = struct.pack("ii", 1, 0)
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                _has_taken_up(server)


def _has_taken_up(server: Server) -> None:
    """Wait until a server has taken what its clients have sent so far."""
    deadline = Deadline(1)
    while at_work(server) and not deadline.passed:
        deadline.pause()
