"""Lab 10: clients that have stopped reading are given up, and slow ones are not.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from random import Random

from streamlab.checks.evidence import curl, log_of
from streamlab.checks.observe import held_by, wait_until_idle
from streamlab.checks.outcome import fail, promise, waiting
from streamlab.checks.probes.common import dense_file, name_of
from streamlab.checks.production.common import (
    LATER,
    RATE,
    SOONER,
    STALL,
    Download,
    end_check,
    expect_health,
    fail_for,
    first_of_all,
    play,
    still_held,
)
from streamlab.checks.waits import LARGE_TRANSFER
from streamlab.files import KiB, MiB, SampleFile, random_file, size_text
from streamlab.process.patience import Deadline
from streamlab.process.proc import descriptors
from streamlab.process.server import Server

STALLED = 60
"""Clients that stop in the middle of a large file."""
ENDS = range(32 * KiB, 672 * KiB, 32 * KiB)
"""Sizes of files at whose end clients stop. Of some of them the kernel takes all but a few KiB."""
EACH = MiB
"""Bytes that a client that waits may cost."""
SLACK = 16 * MiB
"""Bytes that the server may hold besides, for what Python and the C library keep."""
PROMPT = 5.0
"""Seconds in which so many clients have their first bytes, if none of them waits for another."""
SLOWLY = 6.5
"""Seconds for which a client reads slowly: longer than any client that has stopped is kept."""


class Pausing(Download):
    """A client that takes a MiB, pauses as long as the text allows, and reads the rest."""

    def __init__(self, server: Server, file: SampleFile) -> None:
        super().__init__(server, file, goal=MiB)
        self.pause: float | None = None
        """The seconds for which it paused."""
        self._paused_at: float | None = None

    def turn(self) -> None:
        """Read, or pause."""
        now = time.monotonic()
        if self._paused_at is None and self.size >= MiB:
            self._paused_at = now
        if self._paused_at is not None and self.pause is None:
            if now < self._paused_at + STALL - SOONER - 0.1:
                return
            self.pause, self.goal = now - self._paused_at, self.file.size
        super().turn()


class Steady(Download):
    """A client that reads at the promised rate for a while, and then the rest at once."""

    def __init__(self, server: Server, file: SampleFile) -> None:
        super().__init__(server, file, rate=1.05 * RATE)

    def turn(self) -> None:
        """Read what is due."""
        if self.status and self.rate and time.monotonic() > self.began + SLOWLY:
            self.rate, self.goal = 0, self.file.size
        super().turn()


def stalled_ones_are_given_up(server: Server, rng: Random) -> None:
    """Many clients stop reading; all are given up, and others do not notice."""
    small = first_of_all(server, rng)
    film = dense_file(rng.randrange(40, 48) * MiB + 4321, name_of(rng), server.root, rng)
    shorts = [random_file(size, name_of(rng), server.root, size) for size in ENDS]
    wait_until_idle(server)
    before = held_by(server)
    with ExitStack() as stack:
        pausing = stack.enter_context(Pausing(server, film))
        steady = stack.enter_context(Steady(server, film))
        living = [pausing, steady]
        stalled = [
            stack.enter_context(Download(server, film, far=True, goal=4 * KiB))
            for _ in range(STALLED)
        ]
        ends = [
            stack.enter_context(Download(server, each, far=True, goal=4 * KiB)) for each in shorts
        ]
        with (
            promise("others", whole_file="memory"),
            waiting("until all clients have their first bytes"),
        ):
            have = [*stalled, *ends]
            play([*living, *have], lambda: all(c.has_goal for c in have), Deadline(PROMPT))
            for client in have:
                if client.problem or not client.has_goal:
                    told = f"{len(have)} clients came, and one did not get its first bytes"
                    fail_for(server, client, "others_wait", told)
        summary = (
            f"{STALLED} clients took 4 KiB of {server.path_of(film)} ({size_text(film.size)}), and "
            "read on no more"
        )
        until = Deadline(STALL + LATER)
        play(living, lambda: False, Deadline(0.5))
        with promise("memory"):
            _expect_slim(server, before, len(have), summary)
        expect_health(server, "others", summary)
        with promise("others"):
            _is_served(server, small, living, summary)
        with waiting("until the server gives up those that do not read"):
            play(living, lambda: until.passed, until)
        with promise("pause"):
            _expect_going(server, pausing, "cuts_pause", _pause(pausing))
        with promise("slow-reader"):
            _expect_going(server, steady, "cuts_slow", _pace(steady))
        line = curl(server, server.path_of(film), "--limit-rate 1 -o got")
        groups: tuple[tuple[str, list[Download], str], ...] = (
            ("stalled", stalled, summary),
            (
                "stalled-end",
                ends,
                f"{len(ends)} clients took 4 KiB of files of {size_text(ENDS[0])} to "
                f"{size_text(ENDS[-1])}, and read on no more",
            ),
        )
        for name, some, what in groups:
            with promise(name):
                _expect_given_up(server, some, what, line)
        with waiting("until the slow clients have their whole file"):
            play(
                living, lambda: all(c.whole or c.problem for c in living), Deadline(LARGE_TRANSFER)
            )
        for name, one, cause, told in (
            ("pause", pausing, "cuts_pause", _pause(pausing)),
            ("slow-reader", steady, "cuts_slow", _pace(steady)),
        ):
            with promise(name):
                if not one.whole:
                    _expect_going(server, one, cause, told)
                    fail_for(server, one, "no_end", f"{told}. Then it read on")


def _pace(steady: Download) -> str:
    return (
        f"A client read {size_text(RATE)} of {steady.path} ({size_text(steady.file.size)}) in "
        f"each second, for {SLOWLY:g} s"
    )


def _pause(pausing: Pausing) -> str:
    return (
        f"A client took 1 MiB of {pausing.path} ({size_text(pausing.file.size)}), read nothing "
        f"for {pausing.pause or 0:.1f} s, and read on"
    )


def _expect_slim(server: Server, before: int, clients: int, summary: str) -> None:
    allowed = SLACK + clients * EACH
    held = held_by(server) - before
    if not server.running:
        end_check("died", server, summary)
    if held > allowed:
        fail(
            "holds_much",
            f"{summary}. Then the server held {size_text(held)} more than before; "
            f"{size_text(allowed)} are allowed, for {clients} clients.{log_of(server)}",
        )


def _is_served(server: Server, small: SampleFile, living: list[Download], summary: str) -> None:
    """A newcomer gets a small file at once, while the others go on."""
    with Download(server, small, goal=small.size) as newcomer:
        play([newcomer, *living], lambda: newcomer.whole or newcomer.problem, Deadline(PROMPT))
        if not newcomer.whole:
            told = f"{summary}. Then another came for a file of {small.size} bytes"
            fail_for(server, newcomer, "others_wait", told, curl(server, server.path_of(small)))


def _expect_going(server: Server, client: Download, cause: str, told: str) -> None:
    """A client that reads slowly has not been given up."""
    if client.problem is None:
        return
    late = client.late or (isinstance(client, Pausing) and (client.pause or 0) > STALL - SOONER)
    if late:
        raise TimeoutError("the checking process itself came too late to keep to its pace")
    path = server.path_of(client.file)
    fail_for(server, client, cause, told, curl(server, path, f"--limit-rate {RATE} -o got"))


def _expect_given_up(server: Server, some: list[Download], summary: str, line: str) -> None:
    """The server has no descriptor any more for these clients."""
    left = still_held(server, some, Deadline(0.5))
    if not left:
        return
    names = {client.file.name for client in some}
    handles = sum(
        target.rpartition("/")[2] in names for target in descriptors(server.supervisor_pid)
    )
    # The two that still read have the film open, too.
    cause = "stalled_stays" if handles > 2 else "close_waits"
    files = "their files, too," if handles > 2 else "no file of theirs any more,"
    end_check(
        cause,
        server,
        f"{summary}. {STALL + LATER:g} s later the server had {files} and still the sockets of "
        f"{len(left)} of them",
        line,
    )
