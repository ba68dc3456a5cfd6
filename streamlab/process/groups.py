"""Memory control groups: what a container's limit is made of, in both versions of Linux.

    with MemoryGroup(96 * MiB) as group, Server("server.py", group=group.folder) as server:
        ...
        group.reading()

The kernel counts for a group what its processes hold *and* the pages of files that they read or
write (the page cache), and ends a process of the group when nothing is left to give back. Sources:
Linux kernel, Documentation/admin-guide/cgroup-v2.rst ("Memory") and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamlab.errors import IsolationError
from streamlab.process.patience import Deadline
from streamlab.process.proc import GROUPS, own_group


@dataclass(frozen=True)
class GroupReading:
    """What a group holds, in bytes, at one moment."""

    held: int
    """All that counts against the limit."""
    anonymous: int
    """What its programs hold themselves."""
    cached: int
    """Pages of files: the page cache."""
    inactive: int
    """The part of these that were used once, and that the kernel gives back first."""

    @property
    def working_set(self) -> int:
        """What Kubernetes watches: all that is held, without the inactive pages of files."""
        return max(0, self.held - self.inactive)


@dataclass(frozen=True)
class _Version:
    """The names of a version's files, and of the lines in its statistics."""

    held: str
    peak: str
    limit: str
    swap: str
    anonymous: str
    cached: str
    inactive: str
    events: str


_V1 = _Version(
    "memory.usage_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "total_rss",
    "total_cache",
    "total_inactive_file",
    "memory.oom_control",
)
_V2 = _Version(
    "memory.current",
    "memory.peak",
    "memory.max",
    "memory.swap.max",
    "anon",
    "file",
    "inactive_file",
    "memory.events",
)


class MemoryGroup:
    """A control group whose processes may hold `limit` bytes together, and no swap.

    Used as a context manager: its beginning makes the group, its end removes it, once its last
    process has ended. Raises `IsolationError`, in one line, where no group can be made: see
    `unavailable_reason`.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.folder = Path()
        """Where the kernel shows the group. A process that is to join it writes its number there,
        into `cgroup.procs`."""
        self._version = _V2

    def __enter__(self) -> MemoryGroup:
        within, self._version = _place()
        self.folder = within / f"streamlab-{os.getpid()}-{time.monotonic_ns()}"
        try:
            self.folder.mkdir()
            (self.folder / self._version.limit).write_text(str(self.limit))
        except OSError as error:
            self._remove()
            raise IsolationError(f"no memory cgroup can be made here: {error.strerror}") from None
        swap = str(self.limit) if self._version is _V1 else "0"
        with suppress(OSError):  # there is no such file where the kernel counts no swap
            (self.folder / self._version.swap).write_text(swap)
        return self

    def __exit__(self, *exc: object) -> None:
        self._remove()

    def _remove(self) -> None:
        deadline = Deadline(10)
        while self.folder.is_dir() and not deadline.passed:
            with suppress(OSError):  # a process of it is still ending
                self.folder.rmdir()
            deadline.pause()

    def reading(self) -> GroupReading:
        """What the group holds now."""
        told = _numbers(self.folder / "memory.stat")
        return GroupReading(
            held=int((self.folder / self._version.held).read_text()),
            anonymous=told[self._version.anonymous],
            cached=told[self._version.cached],
            inactive=told[self._version.inactive],
        )

    @property
    def peak(self) -> int:
        """The most that the group held at any moment, in bytes, as the kernel noted it.

        Before Linux 5.19 version 2 has no such note: there it is what the group holds now.
        """
        noted = self.folder / self._version.peak
        return int((noted if noted.exists() else self.folder / self._version.held).read_text())

    @property
    def kills(self) -> int:
        """How many of its processes the kernel has killed because the group was full."""
        return _numbers(self.folder / self._version.events).get("oom_kill", 0)


class GroupTimeline:
    """Reads a group again and again while a `with` block runs: `times` (seconds) and `readings`."""

    def __init__(self, group: MemoryGroup, interval: float = 0.01) -> None:
        self.group = group
        self.times: list[float] = []
        self.readings: list[GroupReading] = []
        self._interval = interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> GroupTimeline:
        self._began = time.monotonic()
        self._read()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join()
        self._read()

    @property
    def most(self) -> GroupReading:
        """The reading with the most in the group."""
        return max(self.readings, key=lambda each: each.held)

    def _run(self) -> None:
        while not self._done.wait(self._interval):
            self._read()

    def _read(self) -> None:
        self.readings.append(self.group.reading())
        self.times.append(time.monotonic() - self._began)


def joining(group: Path, command: list[str]) -> list[str]:
    """The command that joins a group and then becomes `command`, with the same process number."""
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group), *command]


def unavailable_reason() -> str:
    """Why no memory group can be made here, in one line; empty if one can."""
    try:
        with MemoryGroup(64 << 20) as group:
            group.reading()
            (group.folder / "cgroup.procs").open("w").close()
    except (IsolationError, OSError, KeyError) as error:
        return str(error)
    return ""


def _place() -> tuple[Path, _Version]:
    """The folder in which groups are made, and their version.

    Version 1 has a hierarchy for memory alone. In version 2 a group that has processes can pass no
    controller on ("No Internal Process Constraint"), so it is the nearest group above this process
    that passes memory on already.
    """
    if sys.platform != "linux":
        raise IsolationError("control groups need Linux")
    if (GROUPS / "memory" / _V1.limit).exists():
        return GROUPS / "memory", _V1
    own = own_group()
    for folder in [own, *own.parents] if own else []:
        with suppress(OSError):
            if "memory" in (folder / "cgroup.subtree_control").read_text().split():
                return folder, _V2
        if folder == GROUPS:
            break
    raise IsolationError("no memory cgroup can be made here: no group passes the controller on")


def _numbers(file: Path) -> dict[str, int]:
    """A file whose lines are a word and a number."""
    pairs = (line.split() for line in file.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
