"""Deadlines that do not count the time in which no process could work.

A process that has no CPU is not late, and one that is still starting is not late either. So a
`Deadline` runs by a clock that stands still while this process, or a process that descends from
it, was ready to run and had no CPU: because others had them, because the control group's quota was
used up, or because the host of a virtual machine ran something else. The kernel counts all three
(see `streamlab.process.proc.threads_below` and `stolen`). What cannot be read, as off Linux, is not
known, and the clock is then a plain one.

    deadline = Deadline(5)
    while not answered() and not deadline.passed:
        deadline.pause()

A hard limit ends each deadline nevertheless: `MOST` times its seconds.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from streamlab.process.proc import Thread, cpu_seconds_below, pressure, stolen, threads_below

MOST = 10.0
"""How many times its seconds a deadline may take in all."""
MOST_CPU = 4.0
"""How many times its seconds a starting program may use the CPU."""
LOOKS = 50
"""How often a deadline looks in its seconds, if that is less often than every `LOOK` seconds."""
LOOK = 0.1
"""Seconds between two looks at what the processes had of the CPUs; more where a look costs much."""


@dataclass
class _Interval:
    """The time between two looks."""

    counted: float = 0.0
    """Seconds of it that the clock has counted."""

    def give_back(self, seconds: float) -> float:
        """Take back what was lost, in seconds; returns how much of that had been counted."""
        found = min(self.counted, max(0.0, seconds))
        self.counted -= found
        return found


@dataclass
class _Wait:
    """A wait for a CPU that may go on."""

    began: _Interval
    counted: float = 0.0
    """Seconds of it that were seen to be lost since that interval."""


class FairClock:
    """A clock that stands still while a process and its descendants could not work.

    `root` is that process. With `starting`, a process among them, it also stands still while the
    descendants of that one use the CPU.
    """

    def __init__(self, root: int, starting: int | None = None) -> None:
        self.root = root
        self.starting = starting
        self.used = 0.0
        """CPU seconds that the descendants of `starting` have used so far."""
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._pause = LOOK
        self._fair = 0.0
        self._threads = threads_below(root)
        self._going_on: dict[int, _Wait] = {}
        self._stolen = stolen()
        self._pressure = pressure()

    def time(self, *, exact: bool = False, pause: float = LOOK) -> float:
        """Seconds since this clock was made, the lost ones left out.

        What was lost since the last look is not known yet; `exact` looks at once, else a look is
        due after `pause` seconds.
        """
        with self._lock:
            now = time.monotonic()
            if exact or now >= self._looked + max(pause, self._pause):
                self._look(now)
            return self._fair + time.monotonic() - self._looked

    def _look(self, now: float) -> None:
        """Add the time since the last look, without what was lost of it."""
        passed = now - self._looked
        interval = _Interval()
        waited, back = self._waited(passed, interval)
        lost = min(passed, waited + self._stolen_since())
        if self.starting is not None:
            used = max(self.used, cpu_seconds_below(self.starting))
            lost = min(passed, lost + used - self.used)
            self.used = used
        interval.counted = passed - lost
        self._fair += passed - lost - back
        self._looked = now
        self._pause = max(LOOK, 20 * (time.monotonic() - now))

    def _waited(self, passed: float, interval: _Interval) -> tuple[float, float]:
        """For how long of these seconds the processes waited for CPUs that others had.

        And how many seconds that were counted before turn out to be such a wait. The kernel counts
        a wait when it ends. So a thread that ran and then waited shows nothing of this wait at the
        next look; when the wait ends, the time before that look is given back.
        """
        before, self._threads = self._threads, threads_below(self.root)
        if not self._threads:
            pressed, self._pressure = self._pressure, pressure()
            return (self._pressure or 0.0) - (pressed or 0.0), 0.0
        waited = used = back = 0.0
        for number, thread in self._threads.items():
            old = before.get(number, Thread(0.0, 0.0, False))
            ran = max(0.0, thread.used - old.used)
            wait = max(0.0, thread.waited - old.waited)
            going_on = self._going_on.pop(number, None)
            if thread == old and thread.ready:  # it waits still: the kernel counts that later
                wait = passed
                if going_on is not None:
                    going_on.counted += passed
                    self._going_on[number] = going_on
            else:
                if going_on is not None:
                    wait = max(0.0, wait - going_on.counted)
                    back += going_on.began.give_back(wait + ran - passed)
                if thread.ready:
                    self._going_on[number] = _Wait(interval)
            waited += wait
            used += ran
        # They may have waited for each other: what they themselves did with the CPUs is not lost.
        return min(waited, max(0.0, passed - used / _cpus())), back

    def _stolen_since(self) -> float:
        before, self._stolen = self._stolen, stolen()
        return max((now - before.get(cpu, now) for cpu, now in self._stolen.items()), default=0.0)


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_CLOCKS: dict[tuple[int, int], FairClock] = {}


def _shared_clock(root: int) -> FairClock:
    """The one clock of this process for a root; a forked process has its own."""
    key = (os.getpid(), root)
    if key not in _CLOCKS:
        _CLOCKS.setdefault(key, FairClock(root))
    return _CLOCKS[key]


class Deadline:
    """So many seconds from now, in which this process and its descendants can work.

    `root` is the process to look at, with its descendants (default: this one). `starting` is the
    supervisor of a program that starts: while that program uses the CPU, its time stands still too,
    but for no more than `MOST_CPU` times the seconds. After `MOST` times the seconds it has passed
    anyhow.
    """

    def __init__(
        self, seconds: float, *, root: int | None = None, starting: int | None = None
    ) -> None:
        self.seconds = seconds
        self._starting = starting
        root = os.getpid() if root is None else root
        self._clock = _shared_clock(root) if starting is None else FairClock(root, starting)
        self._began = time.monotonic()
        self._start = self._clock.time()
        self._end = self._start + seconds

    @property
    def left(self) -> float:
        """The seconds that are left, never less than 0."""
        if time.monotonic() >= self._began + MOST * self.seconds:
            return 0.0
        left = self._end - self._clock.time(pause=self.seconds / LOOKS)
        if left <= 0:
            left = self._end - self._clock.time(exact=True)
        if self._starting is not None and self._clock.used > MOST_CPU * self.seconds:
            return 0.0
        return max(0.0, left)

    @property
    def passed(self) -> bool:
        """Whether the time is up. Look once more at what you wait for before you ask this."""
        return self.left <= 0

    @property
    def spent(self) -> float:
        """The seconds that counted so far; a tenth of those that passed, if nearly none did."""
        passed = time.monotonic() - self._began
        return max(self._clock.time() - self._start, passed / MOST)

    @property
    def used(self) -> float:
        """CPU seconds that the program which starts has used so far."""
        return self._clock.used

    @property
    def turn(self) -> float:
        """Seconds to wait before the next look, for `select` or a queue: never the whole time."""
        return max(0.001, min(self.left, 2 * LOOK))

    def pause(self, seconds: float = 0.01) -> None:
        """Sleep a little, until it is time to look again."""
        time.sleep(min(seconds, max(0.001, self.left)))


def settled(count: Callable[[], int], timeout: float = 5.0) -> int:
    """The value of `count()` once unchanged for half a second, or after `timeout` seconds.

    That is ten looks. On a busy machine they come late, and so does what changes the value.
    """
    deadline, rest = Deadline(timeout), Deadline(0.5)
    value, unchanged = count(), 0
    while unchanged < 10 or not rest.passed:
        time.sleep(0.05)
        latest = count()
        if latest == value:
            unchanged += 1
        else:
            value, unchanged, rest = latest, 0, Deadline(0.5)
        if deadline.passed:
            break
    return value


Result = TypeVar("Result")


class PatientSocket(socket.socket):
    """A socket whose timeout is a `Deadline`: what could not be sent or answered is not late.

    Only what waits for a peer differs from `socket.socket`: `connect`, `recv`, `recv_into`, `send`
    and `sendall` raise TimeoutError when the deadline of that call has passed.
    """

    _patience: float | None = None
    """The timeout. To the kernel the socket does not block: most calls need not wait at all."""

    def settimeout(self, value: float | None) -> None:
        """As for `socket.socket`."""
        super().settimeout(0.0 if value else value)  # checks it, too
        self._patience = value

    def setblocking(self, flag: bool) -> None:
        """As for `socket.socket`."""
        self.settimeout(None if flag else 0.0)

    def gettimeout(self) -> float | None:
        """As for `socket.socket`."""
        return self._patience

    def connect(self, address: Any) -> None:
        """Connect, within the timeout (connect(2), EINPROGRESS)."""
        try:
            super().connect(address)
        except BlockingIOError:
            if not self._patience:
                raise
            self._await(Deadline(self._patience), write=True)
            if error := self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error)) from None

    def recv(self, *arguments: Any) -> bytes:
        """Receive, within the timeout."""
        return self._patiently(super().recv, arguments)

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        """Receive into a buffer, within the timeout."""
        return self._patiently(partial(super().recv_into, **named), arguments)

    def send(self, *arguments: Any) -> int:
        """Send what the kernel takes, within the timeout."""
        return self._patiently(super().send, arguments, write=True)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all, within the timeout, which is for the whole."""
        if not self._patience:
            super().sendall(data, flags)
            return
        deadline: Deadline | None = None
        rest = memoryview(data).cast("B")
        while rest:
            try:
                rest = rest[super().send(rest, flags) :]
            except BlockingIOError:
                deadline = deadline or Deadline(self._patience)
                self._await(deadline, write=True)

    def _patiently(
        self, call: Callable[..., Result], arguments: Sequence[Any], *, write: bool = False
    ) -> Result:
        """The result of a call, as soon as the kernel gives one."""
        deadline: Deadline | None = None
        while True:
            try:
                return call(*arguments)
            except BlockingIOError:
                if not self._patience:
                    raise
                deadline = deadline or Deadline(self._patience)
                self._await(deadline, write=write)

    def _await(self, deadline: Deadline, *, write: bool = False) -> None:
        """Return when the kernel lets one read, or write; TimeoutError when time is up."""
        while not self._ready(deadline.turn, write):
            if deadline.passed:
                if self._ready(0, write):
                    return
                raise TimeoutError("timed out")

    def _ready(self, seconds: float, write: bool) -> bool:
        if not hasattr(select, "poll"):  # Windows
            able = select.select([] if write else [self], [self] if write else [], [self], seconds)
            return any(able)
        poller = select.poll()
        poller.register(self, select.POLLOUT if write else select.POLLIN)
        return bool(poller.poll(seconds * 1000))


class PatientConnection(http.client.HTTPConnection):
    """Python's HTTP client over a `PatientSocket`, to a port of this machine."""

    def __init__(self, port: int, patience: float) -> None:
        super().__init__("127.0.0.1", port, timeout=patience)
        self.patience = patience

    def connect(self) -> None:
        """Connect; each wait of this connection is a `Deadline`."""
        self.sock = connect(self.port, self.patience)


def connect(port: int, patience: float) -> PatientSocket:
    """A connection to a port of this machine, each wait of it for at most `patience` seconds."""
    sock = PatientSocket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(patience)
        sock.connect(("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock
