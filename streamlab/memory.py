"""Meters: what a process holds in memory, in bytes.

Three quantities, which chapter 00 tells apart:

- *private* memory: anonymous and shared-memory pages, what the program itself asked for. Summed
  over the process group, each page shared by forked processes counted once
  (`Pss_Anon` of `/proc/PID/smaps_rollup` + `RssShmem` of `/proc/PID/status`, without the files on
  a tmpfs that it maps; Linux kernel, Documentation/filesystems/proc.rst).
- *resident* memory (RSS): all pages in RAM that the process maps, mapped files included.
- the *high-water mark* of RSS (`VmHWM`), kept by the kernel, which no short peak escapes.

Off Linux there is only RSS, sampled; `EXACT` is false there. No other module reads `/proc`.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamlab.errors import MeterError

PROC = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")


def exact() -> bool:
    """True where the kernel tells private memory and the high-water mark (Linux)."""
    return (PROC / "self" / "smaps_rollup").exists()


@dataclass(frozen=True)
class Memory:
    """One reading of a process group, in bytes. Without `/proc`, `private` repeats `resident`."""

    private: int
    resident: int
    tables: int = 0
    """What the kernel needs to map it, which grows also where nothing but zeros is read."""


def memory_of(pid: int) -> Memory:
    """Read the memory of the process group that `pid` leads (of `pid` alone off Linux), in bytes.

    Raises `MeterError` when there is no such process.
    """
    if not exact():
        resident = _psutil_rss(pid)
        return Memory(private=resident, resident=resident)
    members = group_members(pid)
    readings = [reading for member in members if (reading := _read_one(member))]
    if not readings:
        raise MeterError(f"process {pid} is gone: look at its log, then start it again")
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


def footprint_of(pid: int) -> Footprint:
    """Look at all processes that descend from `pid`, and at their sockets, each once (Linux)."""
    held = tasks = 0
    sockets: set[str] = set()
    for member in group_members(pid):
        if (reading := _read_one(member)) is not None:
            held += reading.private + reading.tables
        with suppress(OSError):
            tasks += (PROC / str(member) / "task").stat().st_nlink - 2
        with suppress(MeterError):
            sockets.update(each for each in open_files(member) if each.startswith("socket:"))
    return Footprint(held + SOCKET * len(sockets), tasks)


def high_water(pid: int) -> int | None:
    """The kernel's high-water mark of the RSS of process `pid`, in bytes; None off Linux."""
    if not exact():
        return None
    return _status(pid)["VmHWM"]


def reset_high_water(pid: int) -> None:
    """Let the high-water mark of `pid` begin again at its present RSS (Linux; else nothing)."""
    with suppress(OSError):
        (PROC / str(pid) / "clear_refs").write_text("5")


def group_members(pid: int) -> list[int]:
    """The process group that `pid` leads, and what descends from it; `pid` first if it lives."""
    members = {pid}
    processes = _processes()
    while found := {
        process
        for process, parent, group in processes
        if process not in members and (group == pid or parent in members)
    }:
        members |= found
    alive = members & {process for process, _, _ in processes}
    return sorted(alive, key=lambda member: (member != pid, member))


def children_of(pid: int) -> list[int]:
    """The processes whose parent is `pid`, zombies included; none where there is no `/proc`."""
    return [child for child, parent, _ in _processes() if parent == pid]


def descriptors(pid: int) -> list[str]:
    """What the descriptors of the process group that `pid` leads point to: see `open_files`."""
    targets: list[str] = []
    for member in group_members(pid):
        with suppress(MeterError):  # ended since it was listed
            targets += open_files(member)
    return targets


def threads_of(pid: int) -> int:
    """The number of threads of the process group that `pid` leads (Linux)."""
    count = 0
    for member in group_members(pid):
        with suppress(OSError):
            count += len(list((PROC / str(member) / "task").iterdir()))
    return count


def thread_states(pid: int) -> dict[int, str]:
    """By process, the states of all threads of the group that `pid` leads, a letter for each.

    `R` runs, or waits for a CPU; `S` waits for something else (proc_pid_stat(5)). Who has ended is
    left out, also when nobody has waited for it yet. Empty off Linux.
    """
    found = {}
    for member in group_members(pid):
        letters = ""
        with suppress(OSError):
            for task in (PROC / str(member) / "task").iterdir():
                with suppress(OSError):  # ended since it was listed
                    letters += _read(task / "stat").rpartition(")")[2].split()[0]
        if alive := re.sub("[ZXx]", "", letters):
            found[member] = alive
    return found


def at_work(pid: int, *, itself: bool = True) -> bool:
    """Whether a thread of a group runs, or waits for nothing but a CPU or a disk; no off Linux.

    Without `itself`, of all of the group but `pid`.
    """
    states = thread_states(pid)
    return any(set(of) & {"R", "D"} for member, of in states.items() if itself or member != pid)


def bytes_read(pid: int, *, itself: bool = True) -> int | None:
    """Bytes that the processes of a group have asked the kernel to read, from files and sockets.

    `rchar` of `/proc/PID/io` (Linux kernel, Documentation/filesystems/proc.rst), summed over the
    group: also what was in the page cache, and what sendfile(2) moved; not what a map shows.
    Without `itself`, what `pid` did is left out. None off Linux.
    """
    return _transferred(pid, "rchar", itself)


def bytes_written(pid: int, *, itself: bool = True) -> int | None:
    """The same for what they asked it to write, to files and pipes: `wchar`; not send(2)."""
    return _transferred(pid, "wchar", itself)


def _transferred(pid: int, counter: str, itself: bool) -> int | None:
    if not exact():
        return None
    total = 0
    for member in group_members(pid):
        if member == pid and not itself:
            continue
        with suppress(OSError):
            text = _read(PROC / str(member) / "io")
            total += int(re.findall(rf"^{counter}: (\d+)", text, re.MULTILINE)[0])
    return total


def positions(pid: int, file: Path) -> list[int]:
    """Where the descriptors of a process group that point to `file` stand in it, in bytes."""
    found = []
    for member in group_members(pid):
        folder = PROC / str(member)
        with suppress(OSError):
            for descriptor in (folder / "fd").iterdir():
                with suppress(OSError):  # closed since it was listed
                    if descriptor.readlink() == file.resolve():
                        text = _read(folder / "fdinfo" / descriptor.name)
                        found.append(int(text.split()[1]))
    return found


def open_files(pid: int) -> list[str]:
    """What the descriptors of process `pid` point to: paths, `socket:[...]`, `pipe:[...]`.

    Raises `MeterError` where the system does not tell (off Linux).
    """
    folder = PROC / str(pid) / "fd"
    try:
        descriptors = list(folder.iterdir())
    except OSError as error:
        raise MeterError(f"the descriptors of process {pid} can't be listed here") from error
    targets = []
    for descriptor in descriptors:
        with suppress(OSError):  # closed since it was listed
            targets.append(os.readlink(descriptor))
    return targets


def socket_buffers() -> int | None:
    """What the kernel holds for all TCP sockets of this machine, in bytes; None off Linux.

    No process's memory, though a container's limit counts it
    (Linux kernel, Documentation/networking/proc_net_tcp.rst and tcp(7), `tcp_mem`).
    """
    try:
        text = (PROC / "net" / "sockstat").read_text()
    except OSError:
        return None
    found = re.search(r"^TCP:.* mem (\d+)", text, re.MULTILINE)
    return int(found[1]) * os.sysconf("SC_PAGE_SIZE") if found else None


def socket_room() -> int:
    """What the kernel may hold of what goes through one program, in bytes (10 MiB off Linux).

    That is the largest receive buffer of the connection that it comes over, and the largest send
    buffer of the one that it leaves over (tcp(7), `tcp_rmem` and `tcp_wmem`).
    """
    try:
        folder = PROC / "sys" / "net" / "ipv4"
        return sum(int((folder / name).read_text().split()[2]) for name in ("tcp_rmem", "tcp_wmem"))
    except OSError:
        return 10 * 1024 * 1024


def own_group() -> Path | None:
    """The folder of the control group (v2) that this process is in; None where there is none."""
    try:
        text = (PROC / "self" / "cgroup").read_text()
    except OSError:
        return None
    found = re.search(r"^0::/(.*)$", text, re.MULTILINE)
    folder = GROUPS / found[1] if found else None
    return folder if folder and (folder / "cgroup.procs").exists() else None


def settled(count: Callable[[], int], timeout: float = 5.0) -> int:
    """The value of `count()` once unchanged for half a second, or after `timeout` seconds.

    That is ten looks: on a busy machine they come late, and so does whoever moves the value.
    """
    deadline = time.monotonic() + timeout
    value, unchanged = count(), 0
    while unchanged < 10:
        time.sleep(0.05)
        latest = count()
        value, unchanged = latest, (unchanged + 1 if latest == value else 0)
        if time.monotonic() > deadline:
            break
    return value


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
    """One process of a group; None if it has ended (a zombie has no memory either)."""
    try:
        status = _status(pid)
        rollup = _read(PROC / str(pid) / "smaps_rollup")
    except (MeterError, OSError, KeyError):
        return None
    found = re.search(r"^Pss_Anon:\s+(\d+) kB", rollup, re.MULTILINE)
    anonymous = int(found[1]) * 1024 if found else status["RssAnon"]
    shared = status["RssShmem"]
    if shared > 2**20:  # in a map of a file on a tmpfs, perhaps: rare, and longer to find out
        shared = min(shared, _shared_without_file(pid))
    return Memory(
        private=anonymous + shared,
        resident=status["VmRSS"],
        tables=status.get("VmPTE", 0),
    )


def _shared_without_file(pid: int) -> int:
    """The shared pages of process `pid` that no file holds, in bytes; 0 if it has ended.

    `RssShmem` also counts maps of files, where these lie on a tmpfs. Such a page is a file's, as it
    is on a disk. A file that has no name any more, a memfd, or one in /dev/shm is memory.
    """
    try:
        text = _read(PROC / str(pid) / "smaps")
    except (MeterError, OSError):
        return 0
    shared, counts = 0, False
    for line in text.splitlines():
        if found := re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)", line):
            path = found[1]
            counts = path.endswith(" (deleted)") or path.startswith(("/dev/shm/", "/dev/zero"))
        elif counts and (found := re.match(r"(Rss|Anonymous): +(\d+) kB", line)):
            shared += int(found[2]) * (1024 if found[1] == "Rss" else -1024)
    return shared


def _status(pid: int) -> dict[str, int]:
    """The sizes in `/proc/PID/status`, in bytes."""
    try:
        text = _read(PROC / str(pid) / "status")
    except OSError as error:
        raise MeterError(f"process {pid} is gone: look at its log, then start it again") from error
    sizes = {key: int(kib) * 1024 for key, kib in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)}
    if "VmRSS" not in sizes:
        raise MeterError(f"process {pid} has ended: look at its log, then start it again")
    return sizes


def _read(file: Path) -> str:
    """A file of `/proc`. A process gives itself a name, of any bytes: it must not stop a reader."""
    return file.read_text(encoding="utf-8", errors="replace")


def _processes() -> list[tuple[int, int, int]]:
    """Every process with its parent and its process group."""
    found = []
    with suppress(OSError):
        for entry in PROC.iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):  # ended since it was listed
                    # The name (field 2) may hold spaces and brackets: count from the last one.
                    fields = _read(entry / "stat").rpartition(")")[2].split()
                    found.append((int(entry.name), int(fields[1]), int(fields[2])))
    return found


def _psutil_rss(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error as error:
        raise MeterError(f"process {pid} is gone: look at its log, then start it again") from error
