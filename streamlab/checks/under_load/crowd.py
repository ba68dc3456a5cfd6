"""Lab 06: a thousand clients wait, others come, half of them leave."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from random import Random

import psutil

from streamlab.checks.connection import Wanted
from streamlab.checks.evidence import cause_of, curl, log_of, state_of
from streamlab.checks.exchange import ask, connected, request_for
from streamlab.checks.observe import Trace, busy_at_rest, held_by, peak_memory, traced
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import CHUNK, dense_file, name_of, right_alone, warm_up
from streamlab.checks.under_load.common import (
    ALL,
    BEGINNING,
    CLIENTS,
    FIRST,
    WAVE,
    WINDOW,
    WaitingClients,
    alone,
    cause_for_client,
    fail_for_client,
    make_room,
)
from streamlab.checks.waits import CROWD
from streamlab.files import GiB, KiB, MiB, SampleFile, random_file, size_text, sparse_file
from streamlab.process.patience import Deadline, settled
from streamlab.process.proc import descriptors, group_members, threads_of
from streamlab.process.server import Server

EACH = 256 * KiB
"""Bytes that a server may hold for each client that waits."""
SLACK = 16 * MiB
"""Bytes that it may hold besides: they can't be told from what Python itself takes."""
THREADS = 40
"""How many more threads than when idle are allowed: asyncio's own pool has at most 32."""
NEWCOMERS = 100
PROMPT = 10.0
"""How many newcomers come one after the other, and the seconds in which all must be answered."""
LEFTOVERS = 10
"""More descriptors than before that count as no leak: a pool of threads, a log."""


# A server without clients


@dataclass(frozen=True)
class Idle:
    """What a server has after one small request, while there is no client."""

    private: int
    threads: int
    """The threads that it had before that request, which may have enlarged a pool."""
    descriptors: int


def idle(server: Server, rng: Random) -> Idle:
    """Send a server one small request, and read what it has afterwards."""
    threads = threads_of(server.supervisor_pid)
    warm_up(server, rng)
    return Idle(
        private=held_by(server),
        threads=threads,
        descriptors=len(descriptors(server.supervisor_pid)),
    )


def processes_of(server: Server) -> int:
    """How many processes a program has, without its supervisor and a sandbox around it."""
    count = 0
    for member in group_members(server.supervisor_pid):
        with suppress(psutil.Error):
            count += member != server.supervisor_pid and psutil.Process(member).name() != "bwrap"
    return count


def _crowd_line(server: Server, file: SampleFile, count: int = CLIENTS) -> str:
    """A command that starts `count` clients that wait."""
    return (
        f"for i in $(seq {count}); do {curl(server, file.url, '--limit-rate 1 -o /dev/null')} & "
        "done  # the server has to be started after ulimit -n 4096"
    )


def _expect_slim(
    server: Server, before: Idle, count: int, summary: str, line: str, trace: Trace | None = None
) -> None:
    """While `count` clients wait, there is one process, and there are few threads."""
    processes = processes_of(server)
    threads = threads_of(server.supervisor_pid) - before.threads
    held, allowed = held_by(server) - before.private, SLACK + count * EACH
    if processes > 1:
        cause = "process_each" if processes > count / 2 > 1 else "processes"
        fail(cause, f"{summary}. The server had {processes} processes.{log_of(server)}", line)
    if threads > THREADS:
        fail(
            "thread_each",
            f"{summary}. The server had {threads} threads more than without any; {THREADS} are "
            f"allowed.{log_of(server)}",
            line,
        )
    if held > allowed:
        drawn = f"\n{trace.line}" if trace else ""
        fail(
            "holds_much",
            f"{summary}. The server held {size_text(held)} more than when idle, "
            f"{size_text(held / count)} for each; {size_text(allowed)} are allowed: "
            f"{size_text(EACH)} for each, and {size_text(SLACK)}.{drawn}{log_of(server)}",
            line,
        )


# CROWD


def thousand_wait(server: Server, rng: Random) -> None:
    """A thousand clients have their first bytes and wait: no threads, little memory, no work."""
    make_room()
    with promise("first-bytes"):
        before = idle(server, rng)
        # Even a file that is small enough to be read whole is more than a client may cost.
        files = [
            dense_file(rng.randrange(*sizes), name_of(rng), server.root, rng)
            for sizes in ((6 * MiB, 9 * MiB), (768 * KiB, 1000 * KiB))
        ]
        alone(server, *files)
    line = _crowd_line(server, files[0])
    with traced(server) as trace, WaitingClients(server, *files) as waiting:
        deadline = Deadline(CROWD)
        for count in (16, 100, 400, CLIENTS):
            problem = waiting.connect(count - len(waiting.here), within=deadline)
            summary = (
                f"{len(waiting.here)} clients asked for {files[0].url} "
                f"({size_text(files[0].size)}) and {files[1].url} ({size_text(files[1].size)}), "
                f"took their first {size_text(FIRST)} and waited"
            )
            with _slim():
                _expect_slim(server, before, count, summary, line, trace)
            for name, failed in (
                ("first-bytes", problem and problem.failure != "unfinished"),
                ("thousand", problem),
            ):
                with promise(name):
                    if failed and problem:
                        told = f"{summary}; one client did not get as far"
                        fail_for_client(server, problem, told, "blocks", line, trace.line)
        with _slim():
            peak_memory(server, before.private + SLACK + CLIENTS * EACH)
            _expect_slim(server, before, CLIENTS, summary, line, trace)
        with promise("waits-without-cpu"):
            _expect_rest(server, 0.7, f"{summary}. While nothing moved", line)


def _slim(memory: str = "memory") -> AbstractContextManager[None]:
    """The promises about a server while clients wait; `memory` is the one about memory."""
    return promise(memory, thread_each="threads", process_each="process", processes="process")


def _expect_rest(server: Server, seconds: float, summary: str, line: str) -> None:
    """A server that has nothing to do uses no CPU."""
    if busy := busy_at_rest(server, seconds):
        fail("busy_loop", f"{summary}, the server {busy}.{log_of(server)}", line)


# LIVE


def newcomers_are_answered(server: Server, rng: Random) -> None:
    """While a thousand clients wait, and huge files are on their way, newcomers get answers."""
    small = random_file(rng.randrange(3000, 5000), name_of(rng), server.root)
    huge = sparse_file(rng.randrange(200, 300) * GiB, name_of(rng), server.root, 4)
    with promise("newcomers"):
        before = idle(server, rng)
        right_alone(server, small, small.size)
        right_alone(server, huge, FIRST)
    any_size = "memory-any-size"
    with (
        _thousand(server, rng, "newcomers", before, any_size) as (waiting, summary),
        ExitStack() as others,
    ):
        line = f"{_crowd_line(server, waiting.file)}\n{curl(server, small.url)}"
        with promise(any_size):
            _expect_slim(server, before, CLIENTS, summary, line)
        for part in (ALL, BEGINNING):
            with suppress(OSError):
                others.enter_context(connected(server)).sendall(request_for(huge.url)[part])
        summary += (
            f"; one client had asked for {size_text(huge.size)}, and one had sent half a request"
        )
        for name, count, at_once, how in (
            ("newcomers", NEWCOMERS, 1, "one after the other"),
            ("newcomers-at-once", WAVE, WAVE, "at the same moment"),
        ):
            with promise(name):
                _are_served(server, small, count, at_once, f"{summary}. Then {count} came, {how},")
        reader = others.enter_context(_reads_all_the_time(server, huge))
        summary += f"; and one client reads {size_text(huge.size)} all the time"
        with promise("steady-reader"):
            _are_served(server, small, 10, 1, f"{summary}. Then 10 came, one after the other,")
            if not reader.is_alive():
                told = f"{summary}. That one did not get more than a part.{state_of(server)}"
                fail("cut_short", told, curl(server, huge.url, "--limit-rate 20M"))


def _are_served(server: Server, small: SampleFile, count: int, at_once: int, summary: str) -> None:
    """`count` newcomers get a small file, `at_once` at the same moment."""
    with WaitingClients(server, small) as newcomers:
        problem = newcomers.connect(count, small.size, at_once, PROMPT)
        served = sum(client.reader.size >= small.size for client in newcomers.here)
    if problem:
        told = f"{summary} for a file of {small.size} bytes, which one alone had got; {served} of "
        told += "them got it, and then one did not"
        fail_for_client(server, problem, told, "blocks", curl(server, small.url))


@contextmanager
def _reads_all_the_time(server: Server, file: SampleFile) -> Iterator[threading.Thread]:
    """A client that reads without a pause, as over a line of 20 MiB a second.

    Before the `with` begins it has more than any buffer holds, or did not get that in time.
    """
    end, well_into_it = threading.Event(), threading.Event()
    buffer = bytearray(512 * KiB)

    def read() -> None:
        received = 0
        with suppress(OSError), connected(server, 2 * PROMPT) as sock:
            sock.sendall(request_for(file.url))
            while not end.is_set() and (came := sock.recv_into(buffer)):
                received += came
                if received > 16 * MiB:
                    well_into_it.set()
                end.wait(0.02)
        well_into_it.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        deadline = Deadline(PROMPT)
        while not well_into_it.wait(deadline.turn) and not deadline.passed:
            pass
        yield reader
    finally:
        end.set()
        reader.join()


@contextmanager
def _thousand(
    server: Server, rng: Random, name: str, before: Idle, memory: str = "memory"
) -> Iterator[tuple[WaitingClients, str]]:
    """A thousand clients that wait at the beginning of a huge file, and what they did, in words.

    `name` is the promise that is broken if the clients can't be served, `memory` if they cost too
    much.
    """
    make_room()
    size = rng.randrange(20, 30) * GiB  # a thousand maps of it fit into an address space
    file = sparse_file(size, name_of(rng), server.root, 4, rng.randrange(99))
    with file.path.open("r+b") as target:
        target.write(rng.randbytes(2 * MiB))
    with promise(name):
        alone(server, file)
    with WaitingClients(server, file) as waiting:
        deadline = Deadline(CROWD)
        for count in (100, CLIENTS):
            problem = waiting.connect(count - len(waiting.here), within=deadline)
            summary = f"{len(waiting.here)} clients asked for {file.url} ({size_text(file.size)})"
            if problem or count < CLIENTS:
                with _slim(memory):
                    _expect_slim(server, before, count, summary, _crowd_line(server, file))
            if problem:
                summary += "; one client did not get its first bytes"
                with promise(name):
                    fail_for_client(server, problem, summary, "blocks", _crowd_line(server, file))
        yield waiting, f"{summary}, took {size_text(FIRST)} and waited"


# DROP


def half_of_them_leave(server: Server, rng: Random) -> None:
    """When clients leave, their memory and descriptors are free again, and others do not notice."""
    small = random_file(rng.randrange(3000, 5000), name_of(rng), server.root)
    large = dense_file(rng.randrange(3 * MiB, 5 * MiB), name_of(rng), server.root, rng)
    with promise("leave"):
        before = idle(server, rng)
        # What a server keeps of its first clients, for the next ones, counts before and after.
        _come_and_go(server, small, large, rng)
        fewest = settled(lambda: len(descriptors(server.supervisor_pid)))
        if not server.running:
            fail(
                "dies_on_drop",
                "Clients came one after another and left: some with a whole answer, some in the "
                "middle of one, some in the middle of their request."
                f"{state_of(server)}",
                f"{_crowd_line(server, large, 60)}  # and then: kill $(jobs -p)",
            )
    with _thousand(server, rng, "leave", before) as (waiting, summary):
        line = f"{_crowd_line(server, waiting.file)}  # and then: kill $(jobs -p)"
        half = CLIENTS // 2
        most = len(descriptors(server.supervisor_pid))
        waiting.disconnect(half // 2)
        waiting.disconnect(half // 2, reset=True)
        summary += f"; then {half} of them closed their connections, half of these by a reset"
        with promise("leave"):
            back = most - (most - fewest) * half // CLIENTS
            _expect_back(server, fewest, most, back, summary, line)
        with promise("others-notice-nothing"):
            _read_on(server, waiting, summary, line)
        with promise("leave-without-cpu"):
            _comes_to_rest(server, f"{summary}. 5 s later, while the others waited", line)
        waiting.disconnect(len(waiting.here))
        summary += ", and then the others"
        with promise("leave"):
            _expect_back(server, fewest, most, fewest, summary, line)
            _leave_in_flight(server, rng)
            summary += ". Then 20 clients came, and left while bytes were on their way"
            _expect_back(server, fewest, most, fewest, summary, line)
            with WaitingClients(server, waiting.file) as last:
                if problem := last.connect(1):
                    told = f"{summary}, and then a new client, which did not get its first bytes"
                    fail_for_client(server, problem, told, "serves_nobody", line)
    with promise("leave-otherwise"):
        # What the first ones left behind may have been collected as garbage by now.
        fewest = min(fewest, settled(lambda: len(descriptors(server.supervisor_pid))))
        _come_and_go(server, small, large, rng)
        summary += (
            ". Then clients came, and left with a whole answer, or in the middle of their request"
        )
        _expect_back(server, fewest, most, fewest, summary, line)
    with promise("leave-without-cpu"):
        _comes_to_rest(server, f"{summary}. 5 s later, with no client left", line)


def _comes_to_rest(server: Server, summary: str, line: str) -> None:
    """5 seconds after clients left, a server uses no CPU; until then it may clean up.

    It may also still fill the windows of clients that have just read on.
    """
    deadline = Deadline(5)
    while busy_at_rest(server, 0.5) and not deadline.passed:
        pass
    if deadline.passed:
        _expect_rest(server, 0.5, summary, line)


def _come_and_go(
    server: Server, small: SampleFile, large: SampleFile, rng: Random, each: int = 60
) -> None:
    """Clients come, and leave with a whole answer, in the middle of one, and of a request.

    It ends at the first client that gets no answer, because the others would wait in vain.
    """
    with WaitingClients(server, large) as some, WaitingClients(server, small) as others:
        if some.connect(each):
            return
        others.send_partial(each)
    wanted = Wanted(server.path_of(small), None)
    missing = Wanted(server.path_of(name_of(rng)), None)
    for method, what in (("GET", wanted), ("HEAD", wanted), ("GET", missing), ("HEAD", missing)):
        for _ in range(each):
            request = what.request("Connection: close", method=method)
            # Another check tests whether the server closes the connection.
            if not ask(server, [request], lingers=0, head=method == "HEAD").status:
                return


def _read_on(
    server: Server, waiting: WaitingClients, summary: str, line: str, size: int = MiB // 2
) -> None:
    """All clients that have not left get more of their file."""
    for client in waiting.here:  # now they read without pauses
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * WINDOW)
    if problem := waiting.read_on(size):
        cause = cause_for_client(problem, server, "serves_nobody")
        if problem.failure in ("cut_short", "broken", "refused", "no_answer"):
            cause = cause if cause == "whole_file" else "drops_others"
            if not server.running and cause == "drops_others":
                cause = "dies_on_drop"
        told = (
            f"{summary}, and the other {len(waiting.here)} read on until they had {size_text(size)}"
        )
        fail(cause, f"{told}. One of them did not get that: {problem}.{state_of(server)}", line)


def _leave_in_flight(server: Server, rng: Random, clients: int = 20) -> None:
    """Clients that read as fast as they can, or not at all, close their connections, in turn."""
    # If a server goes on reading for clients that left, this keeps it busy.
    huge = sparse_file(rng.randrange(400, 600) * GiB, name_of(rng), server.root, 4)
    with suppress(OSError):  # the client that comes after them will tell
        for number in range(clients):
            with connected(server, patience=2) as sock:
                sock.sendall(request_for(huge.url))
                # A server may notice the one while it sends, the other before its first byte.
                left = number % 2 * 2 * MiB
                while left > 0 and (piece := sock.recv(CHUNK)):
                    left -= len(piece)


def _expect_back(
    server: Server, before: int, most: int, wanted: int, summary: str, line: str
) -> None:
    """The descriptors of clients that left are free: the server has no more than `wanted`."""
    deadline = Deadline(5)
    while (
        now := len(descriptors(server.supervisor_pid))
    ) > wanted + LEFTOVERS and not deadline.passed:
        time.sleep(0.1)
    if not server.running:
        cause = cause_of("refused", server)
        cause = "dies_on_drop" if cause == "died" else cause
        fail(cause, f"{summary}.{state_of(server)}", line)
    if now > wanted + LEFTOVERS:
        fail(
            "leaks",
            f"{summary}. The server had {before} descriptors without a client, {most} with a "
            f"thousand clients, and 5 s later {now}; it should be {wanted + LEFTOVERS} at most."
            f"{log_of(server)}",
            line,
        )
