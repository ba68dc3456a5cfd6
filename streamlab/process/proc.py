"""What the kernel says about processes, read from `/proc`: members of a group, CPU, sockets.

No other module but `memory` beside it reads `/proc`, whose files are described in the Linux
kernel's Documentation/filesystems/proc.rst. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamlab.errors import MeterError, ProcessGoneError

PROC = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")

ENDED = (FileNotFoundError, ProcessLookupError)
"""What the kernel says when one reads of a process that has ended: ENOENT, or ESRCH when its file
was opened before (proc(5))."""


SUBREAPERS: set[int] = set()
"""Supervisors that run: what loses its parent below one becomes its child (prctl(2)), and no other
process is in its group. So all members of the group descend from it."""


def exact() -> bool:
    """True where the kernel tells private memory and the high-water mark (Linux)."""
    return (PROC / "self" / "smaps_rollup").exists()


def expect_pid(pid: int) -> int:
    """`pid`; raises `MeterError` if no process can have that number.

    To the kernel 0 is the parent of the first process, so that all of this machine descend from
    it, and in many calls 0 and the negative numbers are this process or a whole group (kill(2)).
    """
    if pid <= 0:
        raise MeterError(f"no process has the number {pid}: start the server first")
    return pid


def group_members(pid: int) -> list[int]:
    """The process group that `pid` leads, and what descends from it; `pid` first if it lives.

    Looks at these processes and at the children of `pid`'s ancestors, where Linux lists children
    (proc_pid_children(5)). It takes no longer when more runs on this machine. Of a process in
    `SUBREAPERS` it looks at what descends from it alone. Raises `MeterError` where `pid` is not
    above 0, as does all here that looks at a process or a group.
    """
    expect_pid(pid)
    if not _lists_children() or not os.path.exists(f"{PROC}/{pid}"):
        return _members_among(_processes(), pid)
    members = dict.fromkeys(_descendants(pid))
    # A process whose parent has ended becomes the child of an ancestor: a subreaper (prctl(2),
    # PR_SET_CHILD_SUBREAPER) or the first process.
    for ancestor in _ancestors(pid) if pid not in SUBREAPERS else ():
        for child in children_of(ancestor):
            if child not in members and _group_of(child) == pid:
                members |= dict.fromkeys(_descendants(child))
    alive = [member for member in members if os.path.exists(f"{PROC}/{member}")]
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
    expect_pid(pid)
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
    return os.path.exists(f"{PROC}/self/task/{os.getpid()}/children")


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
        while (pid := int(_stat_of(f"{PROC}/{pid}")[1])) > 0:
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

    `R` runs, or waits for a CPU; `S` waits for something else (proc_pid_stat(5)). A thread
    that has ended is left out, also before its parent has waited for it. Empty off Linux.
    """
    found = {}
    for member in group_members(pid):
        letters = ""
        folder = f"{PROC}/{member}/task"
        with suppress(OSError):
            for task in os.listdir(folder):
                with suppress(OSError):  # ended since it was listed
                    letters += _stat_of(f"{folder}/{task}")[0]
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
        folder = f"{PROC}/{process}/task"
        with suppress(OSError):
            for task in os.listdir(folder):
                with suppress(OSError, ValueError, IndexError):  # ended since it was listed
                    used, waited = read_proc(f"{folder}/{task}/schedstat").split()[:2]
                    ready = _stat_of(f"{folder}/{task}")[0] in ("R", "D")
                    found[int(task)] = Thread(int(used) / 1e9, int(waited) / 1e9, ready)
    return found


def cpu_seconds_below(pid: int) -> float:
    """CPU seconds of all processes that descend from `pid`, those that ended included (Linux).

    Not of `pid` itself. The four figures of proc_pid_stat(5), `utime` to `cstime`.
    """
    ticks = 0
    for process in _descendants(pid):
        if process != pid:
            with suppress(OSError, ValueError, IndexError):
                ticks += sum(map(int, _stat_of(f"{PROC}/{process}")[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0


def stolen() -> dict[str, float]:
    """By CPU, the seconds in which a virtual machine's host ran something else (proc_stat(5))."""
    found = {}
    with suppress(OSError, ValueError):
        for name, figures in re.findall(r"^(cpu\d+) (.*)$", read_proc(PROC / "stat"), re.MULTILINE):
            if len(parts := figures.split()) > 7:
                found[name] = int(parts[7]) / os.sysconf("SC_CLK_TCK")
    return found


def pressure() -> float | None:
    """Seconds in which any thread of this machine waited for a CPU; None if that is not known.

    Linux kernel, Documentation/accounting/psi.rst: `some` of `/proc/pressure/cpu`.
    """
    with suppress(OSError):
        if found := re.search(r"^some .*total=(\d+)", read_proc(PROC / "pressure" / "cpu"), re.M):
            return int(found[1]) / 1e6
    return None


def cpu_seconds(pid: int) -> float:
    """CPU seconds that process `pid` has used, with all its threads, those that ended included.

    On Linux its CPU clock, which counts nanoseconds (clock_getcpuclockid(3)); elsewhere what psutil
    says. `/proc/PID/schedstat` has the main thread alone. Raises `MeterError` if there is none.
    """
    expect_pid(pid)
    if sys.platform == "linux":
        with suppress(OSError):  # the number of its clock: MAKE_PROCESS_CPUCLOCK of the kernel
            return time.clock_gettime((~pid << 3) | 2)
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error as error:
        raise gone(pid) from error
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
            text = read_proc(PROC / str(member) / "io")
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
                        text = read_proc(folder / "fdinfo" / descriptor.name)
                        found.append(int(text.split()[1]))
    return found


def open_files(pid: int) -> list[str]:
    """What the descriptors of process `pid` point to: paths, `socket:[...]`, `pipe:[...]`.

    Raises `MeterError` where the system does not tell (off Linux).
    """
    folder = folder_of(pid) / "fd"
    try:
        descriptors = list(folder.iterdir())
    except OSError as error:
        kind = ProcessGoneError if isinstance(error, ENDED) else MeterError
        raise kind(f"the descriptors of process {pid} can't be listed here") from error
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
    queues = _queues(server, client)
    return queues[0] if queues else None


def connection_queues(client: tuple[str, int], server: tuple[str, int]) -> tuple[int, int] | None:
    """What the kernel holds on the way from a server to a client, in bytes.

    That is the server's send queue, which has what the client's end has not acknowledged, and the
    client's receive queue, which has what its program has not read. Addresses, source and None are
    those of `unread`.
    """
    sending, receiving = _queues(server, client), _queues(client, server)
    return (sending[0], receiving[1]) if sending and receiving else None


def _queues(here: tuple[str, int], there: tuple[str, int]) -> tuple[int, int] | None:
    """The queues to send and to receive of one end of a connection, in bytes."""
    ends = [in_proc(*here), in_proc(*there)]
    with suppress(OSError):
        for line in read_proc(PROC / "net" / "tcp").splitlines():
            if (fields := line.split())[1:3] == ends:
                sending, _, receiving = fields[4].partition(":")
                return int(sending, 16), int(receiving, 16)
    return None


def departed(client: tuple[str, int], server: tuple[str, int]) -> bool:
    """Whether the server's kernel knows that a client has closed its connection.

    Both are addresses of IPv4, host and port. The client's end in `/proc/net/tcp` is gone, or past
    ESTABLISHED (01) and FIN_WAIT1 (04): its FIN has been acknowledged. True off Linux.
    """
    ends = [in_proc(*client), in_proc(*server)]
    with suppress(OSError):
        for line in read_proc(PROC / "net" / "tcp").splitlines():
            if (fields := line.split())[1:3] == ends:
                return fields[3] not in ("01", "04")
    return True


def in_proc(host: str, port: int) -> str:
    """An address of IPv4 as `/proc/net/tcp` has it: a number of this machine's byte order."""
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"


def tcp_buffers() -> tuple[int, int] | None:
    """The largest send buffer and receive buffer that a connection may grow to, in bytes.

    The third numbers of `tcp_wmem` and `tcp_rmem` (tcp(7)), as this network namespace has them. A
    program that sets `SO_SNDBUF` has the size that it sets. None where the system does not tell.
    """
    folder = PROC / "sys" / "net" / "ipv4"
    try:
        sending, receiving = (
            int((folder / name).read_text().split()[2]) for name in ("tcp_wmem", "tcp_rmem")
        )
    except OSError:
        return None
    return sending, receiving


def socket_room() -> int:
    """What the kernel may hold of what goes through one program, in bytes (10 MiB off Linux).

    That is the largest receive buffer of the connection that it comes over, and the largest send
    buffer of the one that it leaves over (`tcp_buffers`).
    """
    return sum(tcp_buffers() or (4 * 1024 * 1024, 6 * 1024 * 1024))


def own_group() -> Path | None:
    """The folder of the control group (v2) that this process is in; None where there is none."""
    try:
        text = (PROC / "self" / "cgroup").read_text()
    except OSError:
        return None
    found = re.search(r"^0::/(.*)$", text, re.MULTILINE)
    folder = GROUPS / found[1] if found else None
    return folder if folder and (folder / "cgroup.procs").exists() else None


def folder_of(pid: int) -> Path:
    """The folder of `/proc` that tells what a process holds, whether it lives or not.

    That is of its first thread. Where that one has ended before others, its folder is as that of a
    process that has ended (proc_pid_task(5)), and the folder of another thread tells.
    """
    folder = PROC / str(expect_pid(pid))
    with suppress(OSError):
        state = _stat_of(folder)[0]
        others = folder.glob("task/*") if state in "ZX" else ()
        for thread in others:
            with suppress(OSError):
                if _stat_of(thread)[0] not in "ZX":
                    return thread
    return folder


def status_of(pid: int, folder: Path | None = None) -> dict[str, int]:
    """The sizes in `/proc/PID/status`, in bytes; raises `ProcessGoneError` if it has ended.

    `folder` is that of `folder_of`, where it is known.
    """
    try:
        text = read_proc(f"{folder or folder_of(pid)}/status")
    except ENDED as error:
        raise gone(pid) from error
    except OSError as error:
        raise MeterError(f"process {pid} can't be read: {error}") from error
    sizes = {key: int(kib) * 1024 for key, kib in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)}
    if "VmRSS" not in sizes:
        raise ProcessGoneError(f"process {pid} has ended: look at its log, then start it again")
    return sizes


def gone(pid: int) -> ProcessGoneError:
    """The error that says what to do when a process has ended."""
    return ProcessGoneError(f"process {pid} is gone: look at its log, then start it again")


def read_proc(file: Path | str) -> str:
    """A file of `/proc`. A process gives itself a name, of any bytes: it must not stop a reader."""
    with open(file, "rb", buffering=0) as opened:  # no text layer: this is read all the time
        return opened.read().decode("utf-8", "replace")


def _stat_of(folder: Path | str) -> list[str]:
    """The fields of a `stat` from the third on: state, parent, group (proc_pid_stat(5)).

    The name before them may hold spaces and brackets, so they are counted from the last bracket.
    """
    return read_proc(f"{folder}/stat").rpartition(")")[2].split()


def _processes() -> list[tuple[int, int, int]]:
    """Every process with its parent and its process group."""
    found = []
    with suppress(OSError):
        for entry in PROC.iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):  # ended since it was listed
                    fields = _stat_of(entry)
                    found.append((int(entry.name), int(fields[1]), int(fields[2])))
    return found
