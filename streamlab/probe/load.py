"""What clients cost a server that do not read, or leave: memory, bytes taken, what stays behind.

Sizes are in bytes. The figures are of the server's main process and all that descends from it.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise

import psutil

from streamlab.checks.observe import ResourceCounts
from streamlab.errors import AnswerError, ProcessGoneError
from streamlab.files import KiB, MiB, size_text
from streamlab.http.clients import FIRST, receive_buffer
from streamlab.lesson.experiment import at_rest
from streamlab.lesson.verdicts import fitted_line
from streamlab.probe.client import Budget, Client, told
from streamlab.probe.target import Target
from streamlab.process.memory import memory_of
from streamlab.process.patience import Deadline
from streamlab.process.proc import (
    bytes_read,
    connection_queues,
    descriptors,
    group_members,
    threads_of,
)

SHARE = 4
"""A client that costs a fourth of the file costs a share of it."""
NOISE = 8 * MiB
"""So many bytes an allocator may keep, with no leak."""
SIP = 16 * KiB
"""Bytes that a slow client reads at a time."""
SIPS = 8
"""How often a slow client reads before the server is measured."""


@dataclass
class Growth:
    """Memory with more and more clients, of which every other one reads slowly, the rest stops."""

    clients: list[int] = field(default_factory=list)
    grown: list[int] = field(default_factory=list)
    """Bytes of private memory above that without clients, for each of `clients`."""
    unserved: int = 0
    """Clients of the last group that got no first byte."""
    problem: str = ""
    """Why it ended early, or what the first client met that got no first byte."""
    ended: bool = False
    """Whether the server's process ended meanwhile."""

    @property
    def each(self) -> float:
        """Bytes that one more client costs: the slope of the line through the points."""
        if len(self.clients) < 2:
            return float(self.grown[0]) / self.clients[0] if self.clients else 0.0
        return max(0.0, fitted_line(self.clients, self.grown)[0])


@dataclass
class Stalled:
    """What became of one client that took its first bytes and then stopped reading."""

    received: int = 0
    """Bytes of the answer that this client took."""
    in_kernel: int | None = None
    """Bytes on the way to it, in both kernels' queues; None where the system does not tell."""
    at_first: int | None = None
    """Bytes that the server had read, or taken in memory, when the first ones were here."""
    taken: int | None = None
    """Bytes that it had read when it rested."""
    held: int | None = None
    """Bytes of memory that it had taken by then; at least what one more client costs later, because
    the first one may get memory that an earlier answer has left."""

    @property
    def out(self) -> int:
        """Bytes that have left the server: those here, and those in the kernel."""
        return self.received + (self.in_kernel or 0)


@dataclass
class Left:
    """What a server has before clients came, and after each wave of them has left.

    There are two waves, and a third one if the second has left something: a pool that still grew
    comes to its end.
    """

    clients: int = 0
    """In a wave."""
    counts: list[ResourceCounts] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    problem: str = ""

    def more(self, what: str) -> int:
        """How many of `what` each wave after the first one added, at least."""
        return _least_step([int(getattr(each, what)) for each in self.counts[1:]])

    @property
    def more_memory(self) -> int:
        """Bytes that each wave after the first one added, at least."""
        return _least_step(self.memory[1:])

    def found(self, each: float) -> list[str]:
        """What each wave leaves behind, in words. `each` is what a waiting client costs, in bytes.

        Three descriptors more are no leak. A pool of threads or processes may grow by some in each
        wave, so those count where nearly each client adds one.
        """
        if len(self.counts) < 3:
            return []
        named = {"descriptors": 3.0, "threads": 0.8 * self.clients, "processes": 0.8 * self.clients}
        counts = {what: self.more(what.replace("processes", "children")) for what in named}
        left = [f"{count} {what}" for what, count in counts.items() if count > named[what]]
        if self.more_memory > max(NOISE, self.clients * each / 4):
            left.append(f"{size_text(self.more_memory)} of memory")
        return left


@dataclass
class Measured:
    """The figures of clients that wait, and that leave."""

    growth: Growth = field(default_factory=Growth)
    stalled: Stalled = field(default_factory=Stalled)
    left: Left = field(default_factory=Left)


@dataclass(frozen=True)
class Plan:
    """How many clients come, in which steps, and how long a server may take to put things away."""

    steps: Sequence[int] = (1, 10, 30)
    patience: float = 5.0
    """Seconds."""


def stalled_client(target: Target, budget: Budget) -> Stalled:
    """One client that stops reading, seen from outside alone."""
    found = Stalled()
    with Client(target, budget, receive_buffer(1)) as client:
        client.ask(last=True)
        found.received = len(client.body(FIRST, SIP))
        deadline, before = Deadline(2), -1
        while not deadline.passed and (now := queued(client) or 0) != before:
            before = now
            deadline.pause(0.3)  # an acknowledgement may be 0.2 s late
        found.in_kernel = queued(client)
    return found


def _enough(growth: Growth, plan: Plan, size: int) -> bool:
    """Whether more clients would tell nothing new, or could take all memory of this machine."""
    if len(growth.clients) > 1 and growth.each >= size / SHARE:
        return True
    more = [step for step in plan.steps if step > growth.clients[-1]]
    return bool(more) and growth.each * more[0] > psutil.virtual_memory().available / 2


def measure(target: Target, budget: Budget, plan: Plan, size: int) -> Measured:
    """Let clients come, wait and leave, twice, and measure the process of the target.

    `size` is that of the file. Fewer clients come than planned where each costs a share of it.

    The target has a process. Raises `LimitReached`, and `MeterError` if it can't be measured.
    """
    assert target.pid is not None
    found = Measured()
    crowd = plan.steps[-1]
    before = at_rest(target.pid).private
    found.left.counts.append(counts_of(target.pid))
    found.left.memory.append(before)
    with ExitStack() as stack:
        clients: list[Client] = []
        for step in plan.steps:
            read = bytes_read(target.pid)
            come = [
                stack.enter_context(_come(target, budget, crowd))
                for _ in range(step - len(clients))
            ]
            served = _take_first(come, budget, found.growth)
            if step == 1 and served:
                held = memory_of(target.pid).private - before
                found.stalled.at_first = max(_since(target.pid, read) or 0, held)
            clients += come
            _sip(clients[1::2])
            try:
                grown = at_rest(target.pid).private - before
            except ProcessGoneError:
                found.growth.problem = f"the process ended while {step} clients waited"
                found.growth.ended = True
                return found
            found.growth.clients.append(step - found.growth.unserved)
            found.growth.grown.append(grown)
            if step == 1 and served:
                found.stalled.received = clients[0].reader.size
                found.stalled.in_kernel = queued(clients[0])
                found.stalled.taken = _since(target.pid, read)
                found.stalled.held = grown
            if found.growth.unserved or _enough(found.growth, plan, size):
                break
        found.left.clients = crowd = len(clients)
    if found.stalled.held is not None:
        found.stalled.held = max(found.stalled.held, round(found.growth.each))
    _after(target.pid, found.left, None, plan)
    if found.growth.unserved:
        return found
    for _ in range(2):
        with ExitStack() as stack:
            come = [stack.enter_context(_come(target, budget, crowd)) for _ in range(crowd)]
            _take_first(come, budget, Growth())
        _after(target.pid, found.left, found.left.counts[-1], plan)
        if not found.left.found(found.growth.each):
            break
    return found


def _least_step(values: Sequence[int]) -> int:
    return min((two - one for one, two in pairwise(values)), default=0)


def counts_of(pid: int) -> ResourceCounts:
    """What a group of processes has open, and its size."""
    return ResourceCounts(
        descriptors=len(descriptors(pid)),
        handles=0,
        children=len(group_members(pid)) - 1,
        threads=threads_of(pid),
    )


def queued(client: Client) -> int | None:
    """What the kernel holds on the way to a client, in bytes; None where it does not tell."""
    try:
        here, there = client.sock.getsockname()[:2], client.sock.getpeername()[:2]
    except OSError:
        return None
    if client.sock.family != socket.AF_INET:
        return None
    queues = connection_queues(here, there)
    return sum(queues) if queues else None


def _come(target: Target, budget: Budget, crowd: int) -> Client:
    client = Client(target, budget, receive_buffer(crowd))
    client.ask(last=True)
    return client


def _take_first(come: Sequence[Client], budget: Budget, growth: Growth) -> int:
    """Let each client take its first bytes; returns how many did before the patience was over."""
    deadline, served = Deadline(budget.patience), 0
    for client in come:
        client.sock.settimeout(max(0.2, deadline.left))
        try:
            client.body(FIRST, SIP)
            served += 1
            deadline = Deadline(budget.patience)  # each may take so long: the server may be slow
        except (AnswerError, OSError) as error:
            growth.problem = growth.problem or told(error)
    growth.unserved = len(come) - served
    return served


def _sip(clients: Sequence[Client]) -> None:
    """Let slow clients read a little, in turns."""
    awake = list(clients)
    for _ in range(SIPS):
        for client in list(awake):
            try:
                client.body(SIP, SIP)
            except (AnswerError, OSError):  # nothing comes: it waits, as the others do
                awake.remove(client)


def _since(pid: int, before: int | None) -> int | None:
    now = bytes_read(pid)
    return now - before if now is not None and before is not None else None


def _after(pid: int, left: Left, before: ResourceCounts | None, plan: Plan) -> None:
    """Wait until the server has put away what it had for clients that left, and count."""
    memory = at_rest(pid).private
    deadline = Deadline(plan.patience)
    while before is not None and not deadline.passed:
        now = counts_of(pid)
        if not now.exceeds(before):
            break
        deadline.pause(0.1)
        memory = memory_of(pid).private
    left.counts.append(counts_of(pid))
    left.memory.append(memory)
