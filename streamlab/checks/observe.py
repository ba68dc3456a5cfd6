"""Look at a server while it works: what it holds, what it does, and what it has left behind.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from streamlab.checks.outcome import waiting
from streamlab.errors import MeterError
from streamlab.files import MiB, SampleFile, size_text
from streamlab.process.memory import memory_of
from streamlab.process.patience import Deadline
from streamlab.process.proc import at_work as group_at_work
from streamlab.process.proc import descriptors, group_members, threads_of
from streamlab.process.server import Server

BUSY = 0.12
"""CPU seconds in a second. A server that waits needs less. A loop that spins gets more, also on a
busy machine."""


@waiting("until the server takes no more memory")
def peak_memory(server: Server, enough: int) -> int:
    """The most memory that a server holds until it rests, and holds no more than 0.5 s before."""
    deadline, quiet = Deadline(5), Deadline(0.5)
    most = held_by(server)
    while most <= enough and not deadline.passed:
        if quiet.passed and not at_work(server):
            break
        time.sleep(0.1)
        if (held := held_by(server)) > most + MiB:
            quiet = Deadline(0.5)
        most = max(most, held)
    return most


def lowest_memory(server: Server, enough: int) -> int:
    """The memory that a server holds once it is no more than `enough`, or after two seconds."""
    time.sleep(0.3)  # what is kept for the next client is taken in a moment after the answer
    wait_until_idle(server)
    deadline = Deadline(2)
    while (held := held_by(server)) > enough and not deadline.passed:
        time.sleep(0.1)
    return held


def held_by(server: Server) -> int:
    """The private memory of a server's processes; 0 when it has ended."""
    with suppress(MeterError):
        if server.running:
            return memory_of(server.supervisor_pid, itself=False).private
    return 0


@dataclass(frozen=True)
class ResourceCounts:
    """What a server has, counted."""

    descriptors: int
    handles: int
    children: int
    threads: int

    def exceeds(self, before: ResourceCounts) -> bool:
        """Whether there is more than before; three more are no leak."""
        return (
            self.descriptors > before.descriptors + 3
            or self.handles > before.handles + 3
            or self.children > before.children + 3
        )


def resource_counts(server: Server, file: SampleFile) -> ResourceCounts:
    targets = descriptors(server.supervisor_pid)
    return ResourceCounts(
        descriptors=len(targets),
        handles=sum(target.endswith(file.name) for target in targets),
        children=len(group_members(server.supervisor_pid)) - 2,
        threads=threads_of(server.supervisor_pid),
    )


@waiting("until the server has put away what it opened")
def settled_resource_counts(
    server: Server, file: SampleFile, before: ResourceCounts | None, patience: float = 5.0
) -> ResourceCounts:
    """What a server has once it is back at `before`, or had time to put things away."""
    deadline = Deadline(patience)
    last = resource_counts(server, file)
    while not deadline.passed:
        time.sleep(0.1)
        now = resource_counts(server, file)
        if before is None and now == last:
            break
        if before is not None and not now.exceeds(before):
            return now
        last = now
    return last


def cpu_seconds(server: Server) -> float:
    """CPU seconds that a server's processes have used so far, without the supervisor."""
    total = 0.0
    for member in group_members(server.supervisor_pid):
        if member == server.supervisor_pid:
            continue
        with suppress(psutil.Error):
            times = psutil.Process(member).cpu_times()
            total += times.user + times.system
    return total


def at_work(server: Server) -> bool:
    """Whether a thread of a server's processes runs, or waits for nothing but a CPU or a disk."""
    return group_at_work(server.supervisor_pid, itself=False)


@waiting("until the server has nothing to do")
def wait_until_idle(server: Server, patience: float = 5.0) -> None:
    """Wait until a server has done what it has to, however late that is on a busy machine.

    A server that always has something to do is waited for no longer than `patience`.
    """
    deadline = Deadline(patience)
    looks = 0  # one alone may miss a thread that another one has just woken
    while looks < 2 and not deadline.passed:
        looks = 0 if at_work(server) else looks + 1
        time.sleep(0.01)


@waiting("to see whether the server rests")
def busy_at_rest(server: Server, seconds: float) -> str:
    """How much a server works when it has done all that it had to do; empty if it rests.

    A server that spins is at work at each look, however small its share of a busy machine is. But
    it has a share. A server that wakes up now and then, and waits for a CPU, has nearly none.
    """
    wait_until_idle(server)
    began, spent = time.monotonic(), cpu_seconds(server)
    ready = looks = 0
    while time.monotonic() < began + seconds or looks < 10:
        ready += at_work(server)
        looks += 1
        time.sleep(0.03)
    share = (cpu_seconds(server) - spent) / (time.monotonic() - began)
    if share > BUSY or (ready > 0.9 * looks and share > BUSY / 6):
        return f"used {share:.0%} of a CPU, and was at work in {ready} of {looks} looks"
    return ""


class Trace:
    """A server's private memory over time, drawn in one line of text."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    @property
    def line(self) -> str:
        """The curve, at most 40 signs wide, with its largest value."""
        if not self.sizes:
            return "Memory: not measured, the server had ended."
        step = max(1, -(-len(self.sizes) // 40))
        # A process that ends gives back more than its baseline: not less than nothing.
        sizes = [max(0, size) for size in self.sizes]
        tops = [max(sizes[i : i + step]) for i in range(0, len(sizes), step)]
        most = max(max(tops), 1)
        signs = "".join("▁▂▃▄▅▆▇█"[min(7, 8 * top // (most + 1))] for top in tops)
        return f"Memory: {signs}  at most {size_text(most)}."


@contextmanager
def traced(server: Server) -> Iterator[Trace]:
    """Trace a server's memory in a thread, ten times a second."""
    trace, end = Trace(), threading.Event()

    def run() -> None:
        while not end.is_set():
            if held := held_by(server):
                trace.sizes.append(held)
            end.wait(0.1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield trace
    finally:
        end.set()
        thread.join()
