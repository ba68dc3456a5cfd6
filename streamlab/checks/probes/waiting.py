"""Probes that labs share: clients that wait cost little, and no other client waits for them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from random import Random

from streamlab.checks.evidence import by_hand, cause_of, curl, log_of, state_of
from streamlab.checks.exchange import connected, request_for
from streamlab.checks.observe import at_work, busy_at_rest, lowest_memory, peak_memory, traced
from streamlab.checks.outcome import fail
from streamlab.checks.probes.common import CHUNK, crowd, name_of, right_alone, warm_up
from streamlab.errors import DownloadError, Failure
from streamlab.files import MiB, SampleFile, random_file, size_text, sparse_file
from streamlab.http.clients import Download, Load, download
from streamlab.process.patience import Deadline
from streamlab.process.proc import bytes_read, bytes_written, positions
from streamlab.process.server import Server

PROMPT = 7.0
"""Seconds in which a client that need not wait for another one must have an answer."""


# HOLD


def hold(server: Server, file: SampleFile, load: Load, *, baseline: int, allowed: int) -> None:
    """Let clients take their first bytes and wait; then a server may hold so much and no more.

    That is `allowed` bytes above `baseline`. The clients get the bytes of `file`, or the first ones
    of a longer body.
    """
    path, clients = load.path, load.clients
    size = f" ({size_text(file.size)})" if path == server.path_of(file) else ""
    with traced(server) as trace, crowd(server, file, load) as many:
        arrived = many.arrive()
        failed = [each for each in arrived if each.failure]
        held = 0 if failed else peak_memory(server, baseline + allowed)
        if load.pace == "slow" and not failed and held <= baseline + allowed:
            failed = [each for each in many.finish() if each.failure]
            held = lowest_memory(server, baseline + allowed)
    who = f"{clients} clients" if clients > 1 else "A client"
    asked = f"{who} of {path}{size} took {size_text(load.first)} and waited"
    line = curl(server, path, "--limit-rate 1M -o /dev/null")
    if failed:
        cause = cause_of(failed[0].failure, server)
        if cause == "no_end" and clients > 1:
            cause = "one_at_a_time"
        summary = f"{len(failed)} of them failed" if clients > 1 else "then took the rest"
        fail(cause, f"{asked}; {summary}: {failed[0].error}.\n{trace.line}{state_of(server)}", line)
    if held > baseline + allowed:
        fail(
            "holds_much",
            f"{asked}. The server and its children held {size_text(held - baseline)} more than "
            f"when idle; {size_text(allowed)} are allowed.\n{trace.line}{log_of(server)}",
            line,
        )


# STALL


def reading_stops(server: Server, rng: Random, allowed: int = 48 * MiB) -> None:
    """When a client stops reading, the server stops reading the file, and rests."""
    warm_up(server, rng)
    start = _moved(server)
    file = sparse_file(
        rng.randrange(700 * MiB, 900 * MiB), name_of(rng), server.root, 6, rng.randrange(99)
    )
    path = server.path_of(file)
    with traced(server) as trace, crowd(server, file, Load(path, 1, "stalled", MiB)) as one:
        [result] = one.arrive()
        deadline, quiet = Deadline(5), Deadline(1)
        moved = _moved(server, file) - start
        while moved <= allowed and not deadline.passed:
            if quiet.passed and not at_work(server):
                break
            time.sleep(0.1)
            if (now := _moved(server, file) - start) > moved:
                moved, quiet = now, Deadline(1)
        stopped = moved <= allowed and quiet.passed
        busy = busy_at_rest(server, 0.8) if stopped else ""
    line = curl(server, path, "--limit-rate 100k -o /dev/null")
    asked = f"A client took 1 MiB of {path} ({size_text(file.size)}) and stopped."
    if result.error is not None:
        fail(
            cause_of(result.failure, server),
            f"GET {path}: {result.error}.{state_of(server)}",
        )
    if moved > allowed:
        fail(
            "no_backpressure",
            f"{asked} The server went on and read {size_text(moved)} of the file; the sockets' "
            f"buffers take a few MiB.\n{trace.line}{log_of(server)}",
            line,
        )
    if busy:
        fail(
            "busy_loop",
            f"{asked} While it waited, and nothing moved, the server {busy}.{log_of(server)}",
            line,
        )


def _moved(server: Server, file: SampleFile | None = None) -> int:
    """How much a server has read by any way that can be seen, or written elsewhere."""
    # Without what its supervisor reads, because that may watch it all the time.
    read = bytes_read(server.supervisor_pid, itself=False) or 0
    written = bytes_written(server.supervisor_pid, itself=False) or 0
    furthest = 0
    if file is not None:
        # A map or a splice shows only as a position, if at all. A server that asks for the size by
        # seeking stands at the end of the file. A read up to there is seen by its bytes.
        seen = positions(server.supervisor_pid, file.path)
        furthest = max((each for each in seen if each < file.size), default=0)
    return max(read, written, furthest)


# LIVE


def others_are_served(server: Server, rng: Random, stalled: int = 8, asking: int = 1) -> None:
    """While clients stall, and others have sent half a request, one more is answered."""
    file = sparse_file(
        rng.randrange(200 * MiB, 300 * MiB), name_of(rng), server.root, 4, rng.randrange(99)
    )
    small = random_file(CHUNK, name_of(rng), server.root, seed=rng.randrange(2**32))
    right_alone(server, file, MiB)
    right_alone(server, small, small.size)
    with ExitStack() as held:
        if stalled:
            # They stay for longer than the last one waits: what they let go of would be free.
            load = Load(server.path_of(file), stalled, "stalled", MiB)
            many = held.enter_context(crowd(server, file, load, 2 * PROMPT))
            _all_served(server, file, many.arrive())
        for _ in range(asking):
            half = held.enter_context(connected(server))
            half.sendall(request_for(server.path_of(small))[:20])
        _served_besides(server, small, stalled, asking, file)


def _all_served(server: Server, file: SampleFile, arrived: Sequence[Download]) -> None:
    """All of a crowd have their first bytes."""
    failed = [each for each in arrived if each.error is not None]
    if failed:
        fail(
            _cause_beside_others(failed[0].failure, server),
            f"{len(arrived)} clients asked for {server.path_of(file)} at the same time, to take "
            f"1 MiB each and stop. {len(failed)} of them failed: {failed[0].error}. A client that "
            f"was alone got the right bytes.{state_of(server)}",
            curl(server, server.path_of(file), "--limit-rate 1k -o /dev/null")
            + f" &  # {len(arrived)} times",
        )


def _served_besides(
    server: Server, small: SampleFile, stalled: int, asking: int, file: SampleFile
) -> None:
    """One more client gets a small file at once."""
    path = server.path_of(small)
    server.mark()
    try:
        download(server.url + path, small.path, timeout=PROMPT)
    except DownloadError as error:
        line = curl(server, path, "--max-time 3 -o /dev/null")
        others = [
            f"{stalled} had taken 1 MiB of {server.path_of(file)} and stopped" * (stalled > 0),
            f"{asking} had sent half a request" * (asking > 0),
        ]
        fail(
            _cause_beside_others(error.failure, server),
            f"Of the clients that were there {', and '.join(filter(None, others))}. Then GET {path}"
            f", {size_text(small.size)}: {error.reason}. Without the others the "
            f"same request was answered right.{state_of(server)}",
            # Half a request is there for 5 s; slow clients are there until they are stopped.
            curl(server, server.path_of(file), "--limit-rate 1k -o /dev/null")
            + f" &  # {stalled} times, then {line}"
            if stalled
            else f"{by_hand([b'GET '])} & sleep 1; {line}",
        )


def _cause_beside_others(failure: Failure | None, server: Server) -> str:
    """The cause of a failure among others, where a client alone is served right."""
    cause = cause_of(failure, server)
    return "one_at_a_time" if failure in ("unfinished", "overdue") else cause
