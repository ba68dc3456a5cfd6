"""Lab 10: SIGTERM in the middle of downloads, as at each deploy. Times are in seconds."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, suppress
from random import Random

from streamlab.checks.evidence import log_of
from streamlab.checks.exchange import connected, request_for
from streamlab.checks.outcome import fail, promise, waiting
from streamlab.checks.probes.common import dense_file, name_of
from streamlab.checks.production.common import (
    AT_ONCE,
    GRACE,
    HEALTH,
    LATER,
    RATE,
    SOONER,
    Download,
    Sender,
    end_check,
    fail_for,
    first_of_all,
    play,
    programs,
)
from streamlab.checks.waits import ANSWER
from streamlab.checks.workspace import Launch
from streamlab.files import KiB, MiB, TiB, sparse_file
from streamlab.process.patience import Deadline
from streamlab.process.server import Server

SIGTERM = "kill PROCESS"


def downloads_survive(launch: Launch, rng: Random) -> None:
    """After SIGTERM, downloads under way are finished, and the program ends in time."""
    _ends_with_idle_ones(launch(), rng)
    _finishes(launch(), rng)


def tell_to_end(server: Server) -> None:
    """Send SIGTERM to the program, as a service manager does."""
    with suppress(IndexError, ProcessLookupError):
        os.kill(programs(server)[0], signal.SIGTERM)


def _ends_with_idle_ones(server: Server, rng: Random) -> None:
    """Connections on which nothing is under way do not hold the program's end."""
    small = first_of_all(server, rng)
    request = request_for(server.path_of(small)).replace(b"Connection: close\r\n", b"")
    with ExitStack() as stack:
        kept, silent, half = (stack.enter_context(connected(server, ANSWER)) for _ in range(3))
        kept.sendall(request)
        received = 0
        while received < small.size:  # the head is more
            received += len(kept.recv(64 * KiB))
        half.sendall(request[:30])
        _ = silent
        tell_to_end(server)
        summary = (
            "No download was under way. Three clients were connected: one had its answer, one had "
            "sent half a request, and one had sent nothing. Then SIGTERM came"
        )
        with promise("idle"):
            _expect_end(server, AT_ONCE, summary, "idle_holds")
        with promise("status"):
            _expect_status(server, summary)


def _finishes(server: Server, rng: Random) -> None:
    """A download that needs a little longer is finished; one that does not end is cut."""
    first_of_all(server, rng)
    film = dense_file(rng.randrange(24, 30) * MiB + 777, name_of(rng), server.root, rng)
    endless = sparse_file(TiB, name_of(rng), server.root, 4, rng.randrange(99))
    seconds = GRACE - SOONER
    with ExitStack() as stack:
        finishing = stack.enter_context(Download(server, film, goal=256 * KiB))
        slow = stack.enter_context(Download(server, endless, far=True, rate=1.3 * RATE))
        stalled = [
            stack.enter_context(Download(server, endless, far=True, goal=16 * KiB))
            for _ in range(5)
        ]
        every = [finishing, slow, *stalled]
        with promise("finished"):
            play(every, lambda: all(c.problem or c.size >= KiB for c in every), Deadline(ANSWER))
            for client in every:
                if not client.size:
                    told = f"{len(every)} clients came, and one did not get its first bytes"
                    fail_for(server, client, "no_answer", told)
        tell_to_end(server)
        sent = time.monotonic()
        until = Deadline(GRACE + LATER)
        finishing.rate = film.size / (seconds - 0.3)
        finishing.starts()
        summary = (
            f"{len(every)} clients were downloading. Then SIGTERM came. One of them could read its "
            f"file to the end within {seconds:g} s, one reads slowly from {slow.path} (1 TiB), "
            f"and {len(stalled)} do not read"
        )
        with promise("no-new"):
            _expect_closed_door(server, [finishing, slow], summary)
        with promise("finished"), waiting("until the download under way is finished"):
            done = lambda: finishing.whole or finishing.problem  # noqa: E731
            play([finishing, slow], done, until)
            took = time.monotonic() - sent
            if not finishing.whole:
                if finishing.late or (took > seconds + 0.3 and not finishing.problem):
                    raise TimeoutError("the checking process came too late to read in time")
                told = f"{summary}. The first one read on, and {took:.1f} s after SIGTERM it failed"
                fail_for(server, finishing, "cuts_at_stop", told, SIGTERM)
        with promise("ended"):
            play([slow], lambda: not server.running, until)
            _expect_end(server, 0.5, summary, "held_up", GRACE + LATER)
        with promise("status"):
            _expect_status(server, summary)


def _expect_closed_door(server: Server, going: list[Download], summary: str) -> None:
    """New clients are refused at once, or not answered any more."""
    deadline = Deadline(AT_ONCE)
    while True:
        late = deadline.passed
        with Sender(server, request_for(HEALTH)) as new:
            play([new, *going], new.is_answered, Deadline(2))
            if not new.came:
                return
        if late:
            told = f"{summary}. {AT_ONCE:g} s later a new client was answered: GET {HEALTH}"
            end_check("takes_new", server, told, SIGTERM)
        play(going, lambda: False, Deadline(0.1))


def _expect_end(
    server: Server, seconds: float, summary: str, cause: str, after: float | None = None
) -> None:
    deadline = Deadline(seconds)
    with waiting("until the program has ended"):
        while server.running:
            if deadline.passed and server.running:
                told = f"{summary}. {after or seconds:g} s later the program had not ended"
                end_check(cause, server, told, SIGTERM)
            deadline.pause(0.02)


def _expect_status(server: Server, summary: str) -> None:
    status = server.exit_status
    if status == 0:
        return
    how = f"with status {status}"
    if status is not None and status < 0:
        how = f"by signal {-status} ({signal.Signals(-status).name})"
    fail("exit_status", f"{summary}. The program ended {how}.{log_of(server)}", SIGTERM)
