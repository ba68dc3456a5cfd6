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
import socket
import sys
import threading
import time
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
    """The process group that `pid` leads, and what descends from it; `pid` first if it lives.

    Looks at these processes and at the children of `pid`'s ancestors, so it takes no longer when
    more runs on this machine (where Linux lists children: proc_pid_children(5)).
    """
    if not _lists_children() or not (PROC / str(pid)).exists():
        return _members_among(_processes(), pid)
    members = dict.fromkeys(_descendants(pid))
    # A process whose parent has ended becomes the child of an ancestor: a subreaper (prctl(2),
    # PR_SET_CHILD_SUBREAPER) or the first process.
    for ancestor in _ancestors(pid):
        for child in children_of(ancestor):
            if child not in members and _group_of(child) == pid:
                members |= dict.fromkeys(_descendants(child))
    alive = [member for member in members if (PROC / str(member)).exists()]
    return sorted(alive, key=lambda member: (member != pid, member))


def _members_among(processes: list[tuple[int, int, int]], pid: int) -> list[int]:
    """The same, from a list of all processes."""
    members = {pid}
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
    if not _lists_children():
        return [child for child, parent, _ in _processes() if parent == pid]
    found: list[int] = []
    folder = f"{PROC}/{pid}/task"
    with suppress(OSError):
        for task in os.listdir(folder):  # each thread has the children that it started
            with suppress(OSError), open(f"{folder}/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def _lists_children() -> bool:
    """Whether this kernel lists a process's children (it may be built without)."""
    return (PROC / "self" / "task" / str(os.getpid()) / "children").exists()


def _descendants(pid: int) -> list[int]:
    """`pid` and all processes that descend from it; `pid` alone where there is no `/proc`."""
    tree = [pid]
    for member in tree:  # it grows meanwhile
        tree += [child for child in children_of(member) if child not in tree]
    return tree


def _ancestors(pid: int) -> list[int]:
    """The parent of a process, the parent's parent, and so on; none if there is no process."""
    found: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        while (pid := int(_read(PROC / str(pid) / "stat").rpartition(")")[2].split()[1])) > 0:
            found.append(pid)
    return found


def _group_of(pid: int) -> int | None:
    """The process group of a process; None if there is no such process."""
    try:
        return os.getpgid(pid)
    except OSError:
        return None


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


@dataclass(frozen=True)
class Thread:
    """What a thread has had of the CPUs since it began, in seconds."""

    used: float
    """How long it ran."""
    waited: float
    """How long it was ready to run and had no CPU. It is counted when that waiting ends."""
    ready: bool
    """Whether it runs now, or waits for nothing but a CPU or a disk."""


def threads_below(pid: int) -> dict[int, Thread]:
    """By thread id: all threads of `pid` and of the processes that descend from it (Linux).

    The first two figures of `/proc/PID/task/TID/schedstat` (Linux kernel,
    Documentation/scheduler/sched-stats.rst). `/proc/PID/schedstat` has them of the main thread
    alone. Also the time counts in which a control group's quota of CPU time was used up. Empty
    where the system does not tell.
    """
    found = {}
    for process in _descendants(pid):
        with suppress(OSError):
            for task in (PROC / str(process) / "task").iterdir():
                with suppress(OSError, ValueError, IndexError):  # ended since it was listed
                    used, waited = _read(task / "schedstat").split()[:2]
                    state = _read(task / "stat").rpartition(")")[2].split()[0]
                    found[int(task.name)] = Thread(
                        int(used) / 1e9, int(waited) / 1e9, state in ("R", "D")
                    )
    return found


def cpu_seconds_below(pid: int) -> float:
    """CPU seconds of all processes that descend from `pid`, those that ended included (Linux).

    Not of `pid` itself. The four figures of proc_pid_stat(5), `utime` to `cstime`.
    """
    ticks = 0
    for process in _descendants(pid):
        if process != pid:
            with suppress(OSError, ValueError, IndexError):
                fields = _read(PROC / str(process) / "stat").rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0


def stolen() -> dict[str, float]:
    """By CPU, the seconds in which a virtual machine's host ran something else (proc_stat(5))."""
    found = {}
    with suppress(OSError, ValueError):
        for name, figures in re.findall(r"^(cpu\d+) (.*)$", _read(PROC / "stat"), re.MULTILINE):
            if len(parts := figures.split()) > 7:
                found[name] = int(parts[7]) / os.sysconf("SC_CLK_TCK")
    return found


def pressure() -> float | None:
    """Seconds in which any thread of this machine waited for a CPU; None if nobody tells.

    Linux kernel, Documentation/accounting/psi.rst: `some` of `/proc/pressure/cpu`.
    """
    with suppress(OSError):
        if found := re.search(r"^some .*total=(\d+)", _read(PROC / "pressure" / "cpu"), re.M):
            return int(found[1]) / 1e6
    return None


def cpu_seconds(pid: int) -> float:
    """CPU seconds that process `pid` has used, with all its threads, those that ended included.

    On Linux its CPU clock, which counts nanoseconds (clock_getcpuclockid(3)); elsewhere what psutil
    says. `/proc/PID/schedstat` has the main thread alone. Raises `MeterError` if there is none.
    """
    if sys.platform == "linux":
        with suppress(OSError):  # the number of its clock: MAKE_PROCESS_CPUCLOCK of the kernel
            return time.clock_gettime((~pid << 3) | 2)
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error as error:
        raise MeterError(f"process {pid} is gone: look at its log, then start it again") from error
    return float(times.user + times.system)


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


def listens_on(pid: int) -> list[tuple[str, int]]:
    """The TCP addresses, host and port, on which the process group that `pid` leads listens.

    Empty where the system does not tell.
    """
    import psutil

    found = set()
    for member in group_members(pid):
        with suppress(psutil.Error, OSError, NotImplementedError):
            for each in psutil.Process(member).net_connections("tcp"):
                if each.status == psutil.CONN_LISTEN:
                    found.add((each.laddr.ip, each.laddr.port))
    return sorted(found)


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


def unread(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """What a server has given to the kernel for a client, and its kernel has not taken, in bytes.

    Both are addresses of IPv4, host and port. `tx_queue` of the server's end in `/proc/net/tcp`
    (Linux kernel, Documentation/networking/proc_net_tcp.rst). None without such a connection, and
    off Linux.
    """
    ends = [_in_proc(*server), _in_proc(*client)]
    with suppress(OSError):
        for line in _read(PROC / "net" / "tcp").splitlines():
            if (fields := line.split())[1:3] == ends:
                return int(fields[4].partition(":")[0], 16)
    return None


def _in_proc(host: str, port: int) -> str:
    """An address of IPv4 as `/proc/net/tcp` has it: a number of this machine's byte order."""
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"


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
