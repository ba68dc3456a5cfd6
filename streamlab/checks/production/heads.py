"""Lab 10: a request's head has a few seconds in all (what is known as a slow-loris attack).

Times are in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from random import Random

from streamlab.checks.evidence import by_hand
from streamlab.checks.exchange import request_for
from streamlab.checks.outcome import promise, waiting
from streamlab.checks.probes.common import name_of
from streamlab.checks.production.common import (
    HEAD,
    LATER,
    SOONER,
    Actor,
    Download,
    Sender,
    end_check,
    fail_for,
    first_of_all,
    play,
)
from streamlab.files import GiB, MiB, sparse_file
from streamlab.process.patience import Deadline
from streamlab.process.server import Server

SPARE = 0.5
"""Seconds from the first connection of this check to the last one."""
ATTEMPTS = 6
"""How often a head is sent slowly, if the checking process itself comes too late."""


def heads_have_a_limit(server: Server, rng: Random) -> None:
    """A head that does not end is given up in time; one that is slow, and in time, is answered."""
    small = first_of_all(server, rng)
    large = sparse_file(rng.randrange(1, 3) * GiB, name_of(rng), server.root, 4, rng.randrange(99))
    request = request_for(server.path_of(small))
    half = request.partition(b"Connection")[0]
    kept = request.replace(b"Connection: close\r\n", b"")
    with ExitStack() as stack:
        long = stack.enter_context(Download(server, large, rate=2 * MiB))
        half_heads = [stack.enter_context(Sender(server, half)) for _ in range(10)]
        silent = [stack.enter_context(Sender(server, b"")) for _ in range(10)]
        by_bytes = [
            stack.enter_context(Sender(server, half + b"X-More: ", 2, endless=True))
            for _ in range(30)
        ]
        later = [
            stack.enter_context(Sender(server, half, 1, endless=True, first=kept))
            for _ in range(10)
        ]
        groups: tuple[tuple[str, str, list[Sender], str], ...] = (
            ("head-limit", "no_head_limit", half_heads, "sent half of a head, and then nothing"),
            ("silent", "silent_stays", silent, "connected, and sent nothing"),
            ("whole-head", "clock_restarts", by_bytes, "sent a head byte by byte, without an end"),
            (
                "next-head",
                "first_head_only",
                later,
                "had an answer, and over the same connection sent the next head byte by byte, "
                "without an end",
            ),
        )
        until = Deadline(HEAD + LATER + SPARE)
        everyone: list[Actor] = [long, *(client for *_, some, _ in groups for client in some)]
        with waiting("until the server gives up the heads that do not end"):
            _slow_head_is_answered(server, request, everyone)
            play(everyone, lambda: until.passed, until)
        for name, cause, some, what in groups:
            with promise(name):
                _expect_closed(server, some, cause, what)
        with promise("head-alone"):
            if long.problem:
                told = (
                    f"A client sent its whole head at once, and read {long.path} at 2 MiB a "
                    f"second. {time.monotonic() - long.began:.1f} s after it came"
                )
                fail_for(server, long, "clock_goes_on", told)


def _slow_head_is_answered(server: Server, request: bytes, others: Sequence[Actor]) -> None:
    """A head that comes byte by byte, and is whole in time, is answered."""
    seconds = HEAD - SOONER
    for _ in range(ATTEMPTS):
        with promise("slow-head"), Sender(server, request, seconds - 0.2) as slow:
            play([slow, *others], slow.is_answered, Deadline(HEAD + LATER))
            if slow.status == 200:
                return
            if (slow.took is not None and slow.took > seconds) or (
                slow.took is None and not slow.closed
            ):
                continue  # this process had no CPU
            told = (
                f"A client sent its head byte by byte, and would have needed {seconds - 0.2:g} s. "
                f"After {time.monotonic() - slow.began:.1f} s "
            )
            if slow.status:
                told += f"came status {slow.status}, and it should be 200"
            else:
                told += "the connection was closed, without an answer"
            end_check("cuts_slow_head", server, told, by_hand([bytes([b]) for b in request], 0.01))
    raise TimeoutError("the check could not send a head in time")


def _expect_closed(server: Server, some: Sequence[Sender], cause: str, what: str) -> None:
    """The server has closed the connections of all these clients."""
    left = [client for client in some if not client.closed]
    if not left:
        return
    pieces = [left[0].head or b"GET"]
    end_check(
        cause,
        server,
        f"{len(some)} clients {what}. {HEAD + LATER:g} s later {len(left)} of the connections were "
        "still open",
        by_hand(pieces, HEAD + LATER + 1),
    )
