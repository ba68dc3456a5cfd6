"""Lab 07: clients that leave, on whichever route, leave nothing behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from random import Random

from streamlab.checks.connection import Wanted
from streamlab.checks.evidence import curl, log_of, state_of
from streamlab.checks.exchange import ask, request_for
from streamlab.checks.frameworks.common import (
    ENDLESS_REPORT,
    LOG,
    PROMPT,
    REPORT,
    Log,
    Watcher,
    asked_connection,
    end_check,
    report_of,
    why_no_answer,
)
from streamlab.checks.observe import (
    ResourceCounts,
    busy_at_rest,
    lowest_memory,
    settled_resource_counts,
    wait_until_idle,
)
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import CHUNK, name_of, right_alone
from streamlab.files import KiB, MiB, SampleFile, TiB, random_file, size_text, sparse_file
from streamlab.process.server import Server, out_of_memory

KEPT = 24 * MiB
"""Bytes by which a server grows from one round of clients to the next if it keeps something."""
MORE_THREADS = 45
"""Threads by which a server grows over the rounds of clients if it keeps them: no pool has as many.
"""
REPORTS = 8
"""Clients of the report that leave in a round. They are few, because each costs much CPU."""


# DROP


@dataclass(frozen=True)
class _Way:
    """One way for clients to leave: the promise that it tests, and what they do."""

    promise: str
    summary: str
    leave: Callable[[], None]
    line: str


def departures_are_noticed(server: Server, rng: Random, clients: int = 25) -> None:
    """Clients that leave a video, the report or the log leave nothing behind."""
    log = Log(server, rng)
    # If a server keeps this much for each client that watches, one round adds more than `KEPT`.
    log.write(*(rng.randbytes(320).hex().encode() + b"\n" for _ in range(1000)))
    small = random_file(40 * KiB, name_of(rng, ".mp4"), server.root, rng.randrange(2**32))
    large = sparse_file(
        rng.randrange(200 * MiB, 300 * MiB), name_of(rng), server.root, 4, rng.randrange(99)
    )
    video = server.path_of(large)
    with large.path.open("rb") as file:
        begin = file.read(CHUNK)
    gone = server.path_of(name_of(rng))

    def whole(*paths: str) -> None:
        """Clients get all of an answer, or leave before any of it, on these paths."""
        for path in paths:
            for _ in range(5):
                ask(server, [request_for(path)], patience=PROMPT)
            for _ in range(10):
                with Watcher(server, path):
                    pass

    def leave_video() -> None:
        for _ in range(5):
            head = Wanted(video, None).request("Connection: close", method="HEAD")
            with asked_connection(server, head) as sock, suppress(OSError):
                sock.recv(KiB)
        whole(server.path_of(small), gone)
        with Watcher(server, video):
            pass
        with _watching(server, video, begin, clients):
            wait_until_idle(server)
        # Only while these are served, and then no more: garbage is collected when others come.
        with _watching(server, video, begin, clients):
            pass

    def leave_report() -> None:
        whole(f"{REPORT}?rows=3", f"{REPORT}?rows=-3")
        with _watching(server, ENDLESS_REPORT, report_of(20), REPORTS):
            pass
        _still_answers(server)

    def leave_log() -> None:
        for _ in range(5):
            with Watcher(server):
                pass
        with _watching(server, LOG, log.content, clients):
            log.write(rng.randbytes(20).hex().encode() + b"\n")

    def leave_quiet() -> None:
        with _watching(server, LOG, log.content, clients):
            wait_until_idle(server)
            time.sleep(0.2)

    took = "took the first bytes of {}, while others had all of an answer, or left before any of it"
    ways = [
        _Way("leave-video", took.format(video), leave_video, curl(server, video, _LEAVES)),
        _Way(
            "leave-report",
            took.format(ENDLESS_REPORT),
            leave_report,
            curl(server, ENDLESS_REPORT, _LEAVES),
        ),
        _Way("leave-quiet", f"watched {LOG}, without news", leave_quiet, _watch(server)),
        _Way("leave-log", f"watched {LOG}, and a line was written", leave_log, _watch(server)),
    ]
    with promise("leave-video"):
        right_alone(server, small, small.size)
    _leave_nothing(server, large, ways, clients)


_LEAVES = "--max-time 1 -o /dev/null"


def _watch(server: Server) -> str:
    """A command that watches the log and leaves after a second."""
    return curl(server, LOG, "-N --max-time 1")


@contextmanager
def _watching(server: Server, path: str, content: bytes, clients: int) -> Iterator[None]:
    """Clients that have all received the beginning of an answer; at the end they leave together."""
    with ExitStack() as stack:
        for _ in range(clients):
            watcher = stack.enter_context(Watcher(server, path, buffer=128 * KiB))
            if problem := watcher.sees(content):
                late = "late_line" if path == LOG else "late_first_row"
                late = late if path in (LOG, ENDLESS_REPORT) else "no_end"
                end_check(problem.cause(late), server, f"GET {path}: {problem.text}")
        yield


def _still_answers(server: Server) -> None:
    """A server that goes on sending a report to clients that have left has no time to answer."""
    answer = ask(server, [request_for(f"{REPORT}?rows=3")], patience=PROMPT)
    if not answer.raw and server.running:
        summary = f"Clients took the first rows of {ENDLESS_REPORT} and left"
        what = f"Then GET {REPORT}?rows=3 had no answer within {PROMPT:g} s"
        _, told = why_no_answer(server)
        end_check(
            "never_waits", server, f"{summary}. {what}{told}", curl(server, ENDLESS_REPORT, _LEAVES)
        )


def _leave_nothing(server: Server, large: SampleFile, ways: Sequence[_Way], clients: int) -> None:
    """Three rounds of clients that leave: 5 s after each, nothing of them is left."""
    before = settled_resource_counts(server, large, None)
    threads: list[int] = []
    held: list[int] = []
    summary = f"Each time {clients} clients left a video, 8 a report, and {2 * clients} the log"
    for turn in range(3):
        for way in ways:
            with promise(way.promise):
                way.leave()
                told = f"{clients} clients {way.summary}. Then they left"
                if not server.running:
                    cause = "whole_file" if out_of_memory(server.log()) else "dies_on_drop"
                    fail(cause, f"{told}.{state_of(server)}", way.line)
                after = settled_resource_counts(server, large, before)
                if after.exceeds(before):
                    fail(
                        "leaks",
                        f"{told}. Before, and 5 s after that:\n{_compared(before, after)}"
                        f"{log_of(server)}",
                        way.line,
                    )
        if turn == 0:  # work for clients that have left would slow all else
            with promise("leave-cpu"):
                if busy := busy_at_rest(server, 1.0):
                    told = f"{summary}. With all clients gone, the server {busy}."
                    fail("busy_loop", told, _watch(server))
        threads.append(settled_resource_counts(server, large, before).threads)
        with promise("leave-thread"):
            if threads[-1] > threads[0] + MORE_THREADS:
                told = f"{summary}. The server had more threads: {', '.join(map(str, threads))}"
                fail("leaks_threads", f"{told}.{log_of(server)}", _watch(server))
        held.append(lowest_memory(server, held[-1] + KEPT if held else TiB))
        with promise("leave-memory"):
            # The C library keeps some memory of each thread, but less in each round.
            if turn == 2 and min(held[1] - held[0], held[2] - held[1]) > KEPT:
                told = f"{summary}. The server held more: {', '.join(map(size_text, held))}"
                fail("leaks_memory", f"{told}.{log_of(server)}", _watch(server))
    with promise("leave-thread"):
        _no_thread_for_each(server, large, ways, threads)


def _no_thread_for_each(
    server: Server, large: SampleFile, ways: Sequence[_Way], threads: list[int]
) -> None:
    """No thread stays for each client of a report.

    `threads` has the number of threads after each round. If each round added one for most of the
    clients, more rounds follow: a pool stops growing at its size, and a leak does not.
    """
    [way] = [way for way in ways if way.promise == "leave-report"]
    few = REPORTS // 2  # a pool's own threads end meanwhile when they have had no work for a while
    while threads[-1] - threads[-2] >= few and threads[-2] - threads[-3] >= few:
        way.leave()
        threads.append(settled_resource_counts(server, large, None).threads)
        if threads[-1] > threads[0] + MORE_THREADS:
            told = f"{REPORTS} clients {way.summary}. Then they left, and so did others, in "
            told += f"{len(threads)} rounds. After each the server had more threads: "
            told += f"{', '.join(map(str, threads))}"
            fail("leaks_threads", f"{told}.{log_of(server)}", way.line)


def _compared(before: ResourceCounts, after: ResourceCounts) -> str:
    """What a server had and has, in lines."""
    return "\n".join(
        f"    {what:<24} {old:>5} {new:>5}"
        for what, old, new in [
            ("descriptors", before.descriptors, after.descriptors),
            ("handles on the video", before.handles, after.handles),
            ("child processes", before.children, after.children),
        ]
    )
