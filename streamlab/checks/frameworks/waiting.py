"""Lab 07: no client waits for stalled clients, fast ones, or the disk."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import NoReturn

from streamlab.checks.evidence import curl
from streamlab.checks.exchange import request_for
from streamlab.checks.frameworks.common import (
    ENDLESS_REPORT,
    LOG,
    PROMPT,
    REPORT,
    Log,
    Shortfall,
    Watcher,
    asked_connection,
    end_check,
    report_of,
    shortfall,
    why_no_answer,
)
from streamlab.checks.outcome import promise
from streamlab.checks.probes.common import crowd, name_of, right_alone, warm_up
from streamlab.checks.shims import slow_reads_in
from streamlab.files import KiB, MiB, SampleFile, random_file, sparse_file
from streamlab.http.answer import AnswerSoFar
from streamlab.http.clients import Load
from streamlab.process.patience import Deadline
from streamlab.process.server import Server

WATCHERS = 60
"""Clients of the log at once: more than Starlette has threads (40)."""
HURRY = 0.1
"""A fast client has no longer pause between two pieces (seconds)."""


# LIVE


def nobody_waits(launch: Callable[..., Server], rng: Random, scratch: Path) -> None:
    """While others stall, read fast, watch the log, or wait for a disk, requests are answered."""
    name = name_of(rng, ".mp4")
    environment, gate = slow_reads_in(scratch / "shim", name)
    server = launch(environment=environment)
    log = Log(server, rng)
    slow = random_file(rng.randrange(300 * KiB, 400 * KiB), name, server.root)
    small = random_file(rng.randrange(3000, 5000), name_of(rng, ".mp4"), server.root)
    with promise("others"):
        warm_up(server, rng)
        others = _Others(server, rng, log, small)
        others.are_served("", alone=True)
    with promise("stalled"):
        _beside_who_stalls(server, rng, others)
    with promise("others"):
        _beside_stalled_reports(server, rng, others)
    with ExitStack() as stack:
        # An earlier client may have left a report that never lets the loop turn.
        with promise("sixty-watchers", never_waits="hurry"):
            _let_watch(server, log, stack)
            summary = f"{WATCHERS} clients were watching {LOG}"
            others.are_served(summary)
        with promise("hurry"):
            _beside_who_hurries(server, others, summary)
        with promise("slow-disk"), _asking(server, slow, clients=4) as waiting:
            also = (
                f"{summary}, and 4 had asked for {server.path_of(slow)}, on a disk where each read "
                "takes long"
            )
            others.are_served(also)
            gate.touch()
            for sock in waiting:
                if problem := _rest_of(sock, slow):
                    cause = problem.cause("one_at_a_time")
                    end_check(
                        cause, server, f"{also}. Then the disk was quick again: {problem.text}"
                    )


class _Others:
    """One more client: it asks for a small video and a small report, and watches the log."""

    def __init__(self, server: Server, rng: Random, log: Log, small: SampleFile) -> None:
        self._server, self._draw, self._log, self._small = server, rng, log, small

    def are_served(self, summary: str, *, alone: bool = False) -> None:
        """Both come at once, and so does a line of the log; `alone` if there is no other client."""
        server, log = self._server, self._log
        for path, body in (
            (f"{REPORT}?rows=3", report_of(3)),
            (server.path_of(self._small), self._small.path.read_bytes()),
        ):
            what = (
                f"{summary}. Then GET {path}"
                if summary
                else f"GET {path}, with no other client there"
            )
            with Watcher(server, path) as one:
                if problem := one.sees(body, whole=True):
                    self.end_check(problem, "no_answer" if alone else "", what, path)
        what = (
            f"{summary}. One more client asked for {LOG}"
            if summary
            else f"GET {LOG}, with no other client there"
        )
        with Watcher(server) as one:
            if problem := one.sees(log.content):
                self.end_check(problem, "late_line" if alone else "", what, LOG)
            line = self._draw.randbytes(20).hex().encode() + b"\n"
            log.write(line)
            if problem := one.sees(log.content):
                what = f"{what}. It had what was there. Then a line was written to the log"
                self.end_check(problem, "late_line" if alone else "", what, LOG)

    def end_check(self, problem: Shortfall, late: str, what: str, path: str) -> NoReturn:
        told = ""
        if problem.kind == "late" and not late:
            late, told = why_no_answer(self._server)
        line = curl(self._server, path, "-N" if path == LOG else "-i")
        end_check(problem.cause(late), self._server, f"{what}: {problem.text}{told}", line)


def _beside_who_stalls(server: Server, rng: Random, others: _Others, stalled: int = 8) -> None:
    """Others are answered while clients of a video are stalled, and one sends a request."""
    file = sparse_file(
        rng.randrange(200 * MiB, 300 * MiB), name_of(rng), server.root, 4, rng.randrange(99)
    )
    right_alone(server, file, MiB)
    path = server.path_of(file)
    # They stay longer than the last one waits, because a leaving client would free its thread.
    with crowd(server, file, Load(path, stalled, "stalled", MiB), 4 * PROMPT) as many:
        failed = [each for each in many.arrive() if each.error is not None]
        if failed:
            problem = Shortfall("late" if failed[0].failure == "unfinished" else "bytes", "")
            cause, told = why_no_answer(server) if problem.kind == "late" else ("cut_short", "")
            end_check(
                cause,
                server,
                f"{stalled} clients asked for {path} at the same time, to take 1 MiB each and "
                f"stop. {len(failed)} of them failed: {failed[0].error}. A client that was alone "
                f"got the right bytes{told}",
                curl(server, path, "--limit-rate 1k -o /dev/null") + f" &  # {stalled} times",
            )
        with asked_connection(server, request_for(path)[:20]):
            others.are_served(
                f"{stalled} clients had taken 1 MiB of {path} and stopped, and one had sent half "
                "a request"
            )


def _beside_stalled_reports(server: Server, rng: Random, others: _Others) -> None:
    """Others are answered while clients of a report have stopped reading."""
    content = report_of(100)
    with ExitStack() as stack:
        for _ in range(2):
            reader = stack.enter_context(Watcher(server, ENDLESS_REPORT))
            if problem := reader.sees(content):
                cause, told = why_no_answer(server) if problem.kind == "late" else ("", "")
                what = f"GET {ENDLESS_REPORT}, with no more than one other client there"
                end_check(problem.cause(cause), server, f"{what}: {problem.text}{told}")
        others.are_served(f"2 clients had taken the first rows of {ENDLESS_REPORT} and stopped")


def _let_watch(server: Server, log: Log, stack: ExitStack) -> None:
    """Sixty clients watch the log, and have all of it."""
    deadline = Deadline(6 * PROMPT)  # each may wait for PROMPT, all together not as long
    for number in range(1, WATCHERS + 1):
        watcher = stack.enter_context(Watcher(server))
        if problem := watcher.sees(log.content, min(PROMPT, deadline.left)):
            cause, told = why_no_answer(server) if problem.kind == "late" else ("", "")
            end_check(
                problem.cause(cause),
                server,
                f"{WATCHERS} clients asked for {LOG}, one after the other. Number {number} should "
                f"have got {len(log.content)} bytes of log: {problem.text}{told}",
                curl(server, LOG, "-N") + f" &  # {number} times",
            )


def _beside_who_hurries(server: Server, others: _Others, summary: str) -> None:
    """Others are answered even while one client never makes the server wait."""
    also = f"{summary}, and one client read {ENDLESS_REPORT} as fast as it could"
    for _ in range(5):  # again if this machine stood still, so that the client was not fast
        with _hurrying(server, ENDLESS_REPORT) as pauses:
            others.are_served(also)
        if max(pauses, default=HURRY) < HURRY:
            break


@contextmanager
def _hurrying(server: Server, path: str) -> Iterator[list[float]]:
    """A client that reads without end, as fast as it can, in a thread.

    Yields the list of its pauses between two pieces, in seconds. In a long pause the connection
    fills, and then even a server that never waits by itself has to wait.
    """
    pauses: list[float] = []
    with asked_connection(server, request_for(path)) as sock:

        def read() -> None:
            with suppress(OSError):
                came = None
                while sock.recv(256 * KiB):
                    before, came = came, time.monotonic()
                    if before is not None:
                        pauses.append(came - before)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        time.sleep(0.3)
        try:
            yield pauses
        finally:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def _asking(server: Server, file: SampleFile, clients: int) -> Iterator[list[socket.socket]]:
    """Clients that have asked for a file, and have had a moment to be served."""
    request = request_for(server.path_of(file))
    with ExitStack() as stack:
        socks = [stack.enter_context(asked_connection(server, request)) for _ in range(clients)]
        time.sleep(0.3)
        yield socks


def _rest_of(sock: socket.socket, file: SampleFile) -> Shortfall | None:
    """Why an answer is not this file, or does not come; None if it is."""
    so_far = AnswerSoFar()
    with suppress(OSError):
        while not (so_far.closed or so_far.full):
            so_far.take(sock.recv(256 * KiB))
    return shortfall(so_far, file.path.read_bytes(), whole=True, seconds=PROMPT)
