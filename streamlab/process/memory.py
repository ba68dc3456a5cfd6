"""Meters: what a process holds in memory, in bytes.

Three quantities, which chapter 00 tells apart:

- *private* memory: anonymous and shared-memory pages, what the program itself asked for. Summed
  over the process group: each anonymous page that forked processes share counts once (`Pss_Anon`
  of `/proc/PID/smaps_rollup`), and a page of shared memory once for each process that has touched
  it (`RssShmem` of `/proc/PID/status`, without the files on a tmpfs that it maps; Linux kernel,
  Documentation/filesystems/proc.rst).
- *resident* memory (RSS): all pages in RAM that the process maps, mapped files included.
- the *high-water mark* of RSS (`VmHWM`), kept by the kernel, which no short peak escapes.

Off Linux there is only RSS, sampled; `exact()` is false there. Only this module and `proc` read
`/proc`.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamlab.errors import MeterError, ProcessGoneError
from streamlab.files import is_memory
from streamlab.process.proc import (
    ENDED,
    PROC,
    exact,
    expect_pid,
    folder_of,
    gone,
    group_members,
    open_files,
    read_proc,
    status_of,
)


@dataclass(frozen=True)
class Memory:
    """One reading of a process group, in bytes. Without `/proc`, `private` repeats `resident`."""

    private: int
    resident: int
    tables: int = 0
    """What the kernel needs to map it, which grows also where nothing but zeros is read."""


def memory_of(pid: int, *, itself: bool = True) -> Memory:
    """Read the memory of the process group that `pid` leads (of `pid` alone off Linux), in bytes.

    Without `itself`, what `pid` holds is left out (Linux). Raises `MeterError` when there is no
    such process.
    """
    if not exact():
        resident = _psutil_rss(expect_pid(pid))
        return Memory(private=resident, resident=resident)
    readings = []
    for member in group_members(pid):
        if member == pid and not itself:
            continue
        with suppress(PermissionError):  # not ours to read
            if (reading := _read_one(member)) is not None:
                readings.append(reading)
    if not readings:
        raise gone(pid)
    return Memory(
        private=sum(reading.private for reading in readings),
        resident=sum(reading.resident for reading in readings),
    )


@dataclass(frozen=True)
class Footprint:
    """What a process and all that descend from it cost together."""

    held: int
    """Bytes: private memory, page tables, and what the kernel may keep for their sockets."""
    tasks: int
    """Processes and threads."""


SOCKET = 256 * 1024
"""What a footprint reckons for a socket, in bytes: a buffer of the usual size (socket(7))."""


def footprint_of(pid: int, *, itself: bool = True) -> Footprint:
    """Look at all processes that descend from `pid`, and at their sockets, each once (Linux).

    Without `itself`, `pid` does not count. One that ends meanwhile is passed over. Raises
    `MeterError` or `OSError` where one that lives can't be looked at, because its footprint is not
    known then.
    """
    if not exact():
        raise MeterError("what processes hold together is known on Linux alone")
    held = tasks = 0
    sockets: set[str] = set()
    for member in group_members(pid):
        if member == pid and not itself:
            continue
        try:
            tasks += (PROC / str(member) / "task").stat().st_nlink - 2
            if (reading := _read_one(member)) is not None:
                held += reading.private + reading.tables
                sockets.update(each for each in open_files(member) if each.startswith("socket:"))
        except (MeterError, OSError):
            if not _has_ended(member):
                raise
    return Footprint(held + SOCKET * len(sockets), tasks)


def files_of_sandbox(pid: int, also: Iterable[str] = ()) -> int:
    """How many files the programs below `pid` have made in file systems of their own (Linux).

    Those are their `/tmp` and `/dev/shm`, where they see others than this process does, and the
    folders `also`, where they are no part of a system's (statvfs(3)).
    """
    known = {os.stat(place).st_dev for place in ("/", "/tmp", "/dev/shm", tempfile.gettempdir())}
    found: dict[int, int] = {}
    roots = [f"{PROC}/{member}/root" for member in group_members(pid)]
    for folder in [*also, *(f"{root}/{place}" for root in roots for place in ("tmp", "dev/shm"))]:
        with suppress(OSError):
            device = os.stat(folder).st_dev
            if device not in known and device not in found:
                told = os.statvfs(folder)
                found[device] = told.f_files - told.f_ffree
    return sum(found.values())


@dataclass(frozen=True)
class Kept:
    """Where a group of processes keeps what it has, in bytes."""

    private: int
    """In the memory of the processes."""
    tmpfs: int
    """In files that lie on a tmpfs, which are memory, and no process's (tmpfs(5))."""
    disk: int
    """In other files."""


def kept_by(pid: int) -> Kept:
    """What the process group that `pid` leads keeps, in memory and in files (Linux).

    The files are those that it has open to write, each once, also those that have no name any more,
    as temporary files have. Raises `MeterError` when there is no such process, and off Linux.
    """
    if not exact():
        raise MeterError("which files a process has open is known on Linux alone")
    files: dict[tuple[int, int], int] = {}
    for member in group_members(pid):
        folder = PROC / str(member) / "fd"
        for number in _descriptors(folder):
            with suppress(OSError):  # closed since it was listed
                if os.stat(folder / number, follow_symlinks=False).st_mode & stat.S_IWUSR:
                    found = os.stat(folder / number)
                    if stat.S_ISREG(found.st_mode):
                        files[found.st_dev, found.st_ino] = found.st_size
    devices = {device for device, _ in files}
    in_memory = {device for device in devices if is_memory(device)}
    tmpfs = sum(size for (device, _), size in files.items() if device in in_memory)
    return Kept(memory_of(pid).private, tmpfs, sum(files.values()) - tmpfs)


def _descriptors(folder: Path) -> list[str]:
    """The numbers of a process's descriptors; none if it has ended."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def high_water(pid: int) -> int | None:
    """The kernel's high-water mark of the RSS of process `pid`, in bytes; None off Linux."""
    if not exact():
        return None
    return status_of(pid)["VmHWM"]


def reset_high_water(pid: int) -> None:
    """Let the high-water mark of `pid` begin again at its present RSS (Linux; else nothing)."""
    expect_pid(pid)
    with suppress(OSError):
        (PROC / str(pid) / "clear_refs").write_text("5")


class Sampler:
    """The resident memory of a process over time, sampled with memory-profiler in a thread.

    Used as a context manager; afterwards `times` (seconds since the start) and `resident` (bytes)
    have one entry a sample. A process that ends, ends the samples. A peak shorter than `interval`
    (seconds) can fall between two samples and be missed: that is in the nature of sampling.
    """

    def __init__(self, pid: int, interval: float = 0.02) -> None:
        self.pid = pid
        self.interval = interval
        self.times: list[float] = []
        self.resident: list[int] = []
        from memory_profiler import memory_usage  # slow to import: not while the clock runs

        self._memory_usage = memory_usage
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._began = time.time()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        """The largest sample, in bytes (0 if there is none)."""
        return max(self.resident, default=0)

    def _run(self) -> None:
        # In short stretches: memory_usage can't be told to stop before its timeout.
        stretch = max(0.1, self.interval)
        while not self._end.is_set():
            try:
                samples = self._memory_usage(
                    self.pid, interval=self.interval, timeout=stretch, timestamps=True
                )
            except Exception:  # psutil's NoSuchProcess, or whatever its other backends raise
                return
            for mebibytes, moment in samples:
                if not mebibytes:  # a zombie holds nothing: it has ended
                    return
                self.times.append(moment - self._began)
                self.resident.append(int(mebibytes * 1024 * 1024))


def _read_one(pid: int) -> Memory | None:
    """One process of a group; None if it has ended (a zombie has no memory either).

    Raises `MeterError` or `OSError` if it lives, and can't be read.
    """
    folder = folder_of(pid)
    try:
        status = status_of(pid, folder)
        # A thread's folder has no such file. Shared pages then count once for each process.
        rollup = read_proc(folder / "smaps_rollup") if folder.name == str(pid) else ""
    except (ProcessGoneError, *ENDED):
        return None
    found = re.search(r"^Pss_Anon:\s+(\d+) kB", rollup, re.MULTILINE)
    anonymous = int(found[1]) * 1024 if found else status["RssAnon"]
    shared = status["RssShmem"]
    if shared > 2**20:  # in a map of a file on a tmpfs, perhaps: rare, and longer to find out
        shared = min(shared, _shared_without_file(folder))
    return Memory(
        private=anonymous + shared,
        resident=status["VmRSS"],
        tables=status.get("VmPTE", 0),
    )


def _has_ended(pid: int) -> bool:
    """Whether a process holds nothing any more; one that is just ending may be unreadable first."""
    try:
        status_of(pid)
    except ProcessGoneError:
        return True
    return False


def _shared_without_file(folder: Path) -> int:
    """The shared pages of a process that no file holds, in bytes; 0 if it has ended.

    `RssShmem` also counts maps of files, where these lie on a tmpfs. Such a page is a file's, as it
    is on a disk. A file that has no name any more, a memfd, or one in /dev/shm is memory.
    """
    try:
        text = read_proc(folder / "smaps")
    except ENDED:
        return 0
    shared, counts = 0, False
    for line in text.splitlines():
        if found := re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)", line):
            path = found[1]
            counts = path.endswith(" (deleted)") or path.startswith(("/dev/shm/", "/dev/zero"))
        elif counts and (found := re.match(r"(Rss|Anonymous): +(\d+) kB", line)):
            shared += int(found[2]) * (1024 if found[1] == "Rss" else -1024)
    return shared


def _psutil_rss(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error as error:
        raise gone(pid) from error


def deleted_files(pid: int) -> list[int]:
    """The sizes of the files that a process group has open and that have no name any more (Linux).

    They take room on the disk until they are closed (unlink(2)), and no folder lists them. Bytes.
    """
    found = {}
    for member in group_members(pid):
        with suppress(OSError):
            for descriptor in (PROC / str(member) / "fd").iterdir():
                with suppress(OSError):  # closed since it was listed
                    told = descriptor.stat()
                    if stat.S_ISREG(told.st_mode) and told.st_nlink == 0:
                        found[told.st_dev, told.st_ino] = told.st_size
    return list(found.values())


def orphans(port: int) -> list[int]:
    """What the kernel still holds for connections that the server at `port` has closed, in bytes.

    One number for each connection in FIN_WAIT1: its program is done with it, and its last bytes
    wait for a client that does not read (Linux kernel, Documentation/networking/proc_net_tcp.rst).
    """
    found = []
    with suppress(OSError):
        for line in read_proc(PROC / "net" / "tcp").splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(f":{port:04X}") and fields[3] == FIN_WAIT1:
                found.append(int(fields[4].partition(":")[0], 16))
    return found


FIN_WAIT1 = "04"
"""The state of a connection that is closed here, and that the other end has not acknowledged."""
