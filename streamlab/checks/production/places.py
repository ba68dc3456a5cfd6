"""Lab 10: a limit on how many download at once. Times are in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from email.utils import parsedate_to_datetime
from random import Random

from streamlab.checks.evidence import curl
from streamlab.checks.exchange import ask, request_for
from streamlab.checks.outcome import promise, waiting
from streamlab.checks.probes.common import name_of
from streamlab.checks.production.common import (
    AT_ONCE,
    PLACES,
    RATE,
    Download,
    end_check,
    expect_health,
    fail_for,
    first_of_all,
    play,
)
from streamlab.checks.waits import CROWD
from streamlab.files import GiB, KiB, SampleFile, sparse_file
from streamlab.process.patience import Deadline
from streamlab.process.server import Server

AGAIN = PLACES + 10
"""How many clients leave in one way: if each keeps a place, no place is left."""


def places_are_limited(server: Server, rng: Random) -> None:
    """A hundred download at once, the next ones are refused at once, and a free place is free."""
    small = first_of_all(server, rng)
    film = sparse_file(rng.randrange(2, 5) * GiB, name_of(rng), server.root, 4, rng.randrange(99))
    with ExitStack() as stack:
        all_taken = [
            stack.enter_context(Download(server, film, far=True, rate=1.3 * RATE))
            for _ in range(PLACES)
        ]
        with promise("hundred"):
            _all_come(server, all_taken)
        summary = f"{PLACES} clients read {server.path_of(film)}"
        for _ in range(3):
            _is_refused(server, film, all_taken, summary)
        with promise("health"):
            expect_health(server, "health", summary)
        with promise("free-again"):
            for _ in range(AGAIN):  # those that are refused take no place
                _is_refused(server, film, all_taken, summary)
            all_taken.pop().leave(reset=True)
            told = f"{summary}, {AGAIN} others were refused, and then one of the first left"
            _gets_a_place(server, film, all_taken, told)
    with promise("free-again"):
        told = "All clients left in the middle of their file"
        _gets_a_place(server, film, [], told)
        for what, one in _ways(server, rng, small, film):
            for _ in range(AGAIN):
                one()
            _gets_a_place(server, film, [], f"{AGAIN} clients came one after the other and {what}")
        _all_are_free(server, film)


def _all_are_free(server: Server, film: SampleFile) -> None:
    """All places are taken again, at once or when the last clients' have been given back."""
    deadline = Deadline(AT_ONCE)
    while True:
        last = deadline.passed
        with ExitStack() as stack:
            again = [
                stack.enter_context(Download(server, film, far=True, rate=1.3 * RATE))
                for _ in range(PLACES)
            ]
            play(again, lambda: all(c.has_begun() for c in again), Deadline(CROWD))  # noqa: B023
            if last or all(c.status != 503 for c in again):
                told = f"Many clients came and left. Then {PLACES} came"
                _all_come(server, again, told, "place_kept")
                return
        time.sleep(0.2)


def _all_come(
    server: Server, some: Sequence[Download], told: str = "", cause: str = "refuses_early"
) -> None:
    """All of these clients get their first bytes."""
    told = told or f"{PLACES} clients came"
    with waiting(f"until clients have their first bytes: {len(some)}"):
        play(some, lambda: all(c.size or c.problem for c in some), Deadline(CROWD))
    for number, client in enumerate(some, 1):
        if not client.size:
            path = server.path_of(client.file)
            refused = client.status == 503
            found = cause if refused else "no_answer"
            what = f"{told}, and the one with number {number} did not get its first bytes"
            if refused:
                end_check(found, server, f"{what}: {client.problem}", curl(server, path, "-i"))
            fail_for(server, client, found, what, curl(server, path, "-i"))


def _is_refused(server: Server, film: SampleFile, others: Sequence[Download], summary: str) -> None:
    """One more client gets a 503 at once, with Retry-After."""
    line = curl(server, server.path_of(film), f"-i --max-time {AT_ONCE:g}") + " | head -20"
    with Download(server, film, far=True, goal=16 * KiB) as more:
        play([more, *others], lambda: more.status or more.problem, Deadline(AT_ONCE))
        told = f"{summary}. Then one more came"
        with promise("refused"):
            if not more.status:
                if more.closed:
                    end_check("no_answer", server, f"{told}: {more.problem}", line)
                end_check(
                    "waits_in_line", server, f"{told}, and had no answer in {AT_ONCE:g} s", line
                )
            if more.status == 200:
                _all_are_there(server, others)
                end_check("no_limit", server, f"{told}, and was served as well", line)
            if more.status != 503:
                told += f", and got status {more.status}. It should be 503"
                end_check("wrong_status", server, told, line)
        play([more, *others], lambda: more.reader.head is not None, Deadline(AT_ONCE))
        with promise("retry-after"):
            value = more.header("retry-after")
            if value is None or not _is_time(value):
                came = "no Retry-After" if value is None else f"Retry-After: {value}"
                end_check("no_retry_after", server, f"{told}, and got 503 with {came}", line)


def _all_are_there(server: Server, others: Sequence[Download]) -> None:
    """None of those who read has lost its place; else that is what is wrong."""
    with promise("hundred"):
        for client in others:
            if client.problem and client.late:
                raise TimeoutError("the checking process itself came too late to keep to its pace")
            if client.problem:
                told = f"{len(others)} clients read {client.path}, and one of them was given up"
                fail_for(server, client, "cuts_slow", told)


def _is_time(value: str) -> bool:
    """Whether it is what Retry-After may be: seconds, or a date (RFC 9110, section 10.2.3)."""
    if value.isascii() and value.isdigit():
        return True
    try:
        return bool(parsedate_to_datetime(value))
    except ValueError:
        return False


def _gets_a_place(
    server: Server, film: SampleFile, others: Sequence[Download], summary: str
) -> None:
    """A new client is served, at once or after it has tried again for a short time."""
    deadline = Deadline(AT_ONCE)
    while True:
        with Download(server, film, far=True, goal=16 * KiB) as new:
            play([new, *others], new.has_begun, Deadline(AT_ONCE))
            if new.size:
                return
            if new.status == 503 and not deadline.passed:
                play(others, lambda: False, Deadline(0.1))
                continue
            told = f"{summary}. {AT_ONCE:g} s later one more came"
            line = curl(server, server.path_of(film), "-i") + " | head -20"
            if new.status == 503:
                end_check("place_kept", server, f"{told}, and was refused with 503", line)
            fail_for(server, new, "no_answer", told, line)


def _ways(
    server: Server, rng: Random, small: SampleFile, film: SampleFile
) -> list[tuple[str, Callable[[], None]]]:
    """Ways for a client to come and leave: in words, and as a function."""
    gone = server.path_of(name_of(rng))

    def asks(path: str, method: str = "GET") -> None:
        request = request_for(path).replace(b"GET", method.encode(), 1)
        ask(server, [request], lingers=0, head=method == "HEAD")

    def leaves() -> None:
        with Download(server, film) as client:
            client.say(client.request)
            client.leave(reset=True)

    return [
        ("asked for a file that is not there", lambda: asks(gone)),
        ("took a whole file", lambda: asks(server.path_of(small))),
        ("sent HEAD", lambda: asks(server.path_of(small), "HEAD")),
        ("left before the answer began", leaves),
    ]
