"""The meters: private memory, resident memory and high-water marks agree with what was taken."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import streamlab
from streamlab import (
    MeterError,
    Sampler,
    Server,
    high_water,
    memory_of,
    open_files,
    reset_high_water,
)
from streamlab import socket_buffers as buffers
from streamlab.files import GiB, MiB, sparse_file
from streamlab.process import memory, proc
from streamlab.process.memory import Memory, footprint_of, kept_by
from streamlab.process.proc import exact, group_members

Launch = Callable[..., Server]
Becomes = Callable[[Callable[[], bool]], bool]

AMOUNT = 64 * MiB


class Puppet:
    """A Python process that does as told, leads a group, and answers when it is done."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "while True: exec(input()); print(flush=True)"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=os.name == "posix",
        )
        self.pid = self._process.pid
        self.do("pass")

    def do(self, statement: str) -> None:
        """Let it run a line of Python, and wait until it has."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(statement + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "\n"

    def end(self) -> None:
        """Kill its group and wait for its end."""
        if os.name == "posix":
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def puppet() -> Iterator[Puppet]:
    """A process whose memory we decide."""
    made = Puppet()
    yield made
    made.end()


@pytest.fixture
def gone() -> int:
    """The pid of a process that has been."""
    made = Puppet()
    made.end()
    return made.pid


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without `/proc`."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(proc, "PROC", tmp_path / "empty")


def near(size: int, wanted: int) -> bool:
    """Whether a size agrees with another to 1 MiB or 2 %, whichever is more."""
    return abs(size - wanted) <= max(MiB, wanted // 50)


@pytest.mark.needs("linux")
def test_memory_that_was_taken_is_seen(puppet: Puppet) -> None:
    """Memory taken and touched is private and resident; freed, it is neither."""
    before = memory_of(puppet.pid)
    puppet.do(f"kept = bytearray(b'x') * {AMOUNT}")
    during = memory_of(puppet.pid)
    assert near(during.private - before.private, AMOUNT)
    assert near(during.resident - before.resident, AMOUNT)
    puppet.do("del kept")
    assert near(memory_of(puppet.pid).private - before.private, 0)


@pytest.mark.needs("linux")
def test_memory_that_was_not_touched_is_not_held(puppet: Puppet) -> None:
    """Pages that were only asked for are no memory yet."""
    before = memory_of(puppet.pid)
    puppet.do(f"import mmap; kept = mmap.mmap(-1, {GiB}, flags=mmap.MAP_PRIVATE)")
    assert near(memory_of(puppet.pid).private - before.private, 0)


@pytest.mark.needs("linux")
def test_a_mapped_file_is_resident_but_not_private(puppet: Puppet, tmp_path: Path) -> None:
    """The pages of a mapped file count as resident memory alone."""
    sample = sparse_file(AMOUNT, folder=tmp_path)
    before = memory_of(puppet.pid)
    puppet.do(
        f"import mmap; f = open({str(sample.path)!r}, 'rb'); "
        "kept = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ); "
        "total = sum(kept[at] for at in range(0, len(kept), 4096))"
    )
    after = memory_of(puppet.pid)
    assert near(after.private - before.private, 0)
    assert near(after.resident - before.resident, AMOUNT)


@pytest.mark.needs("linux")
@pytest.mark.parametrize("named", [True, False])
def test_a_file_in_memory_is_private_too(puppet: Puppet, named: bool) -> None:
    """A file in memory counts, with a name in /dev/shm or without a name."""
    puppet.do("import mmap, os, tempfile")  # modules are memory too
    before = memory_of(puppet.pid)
    puppet.do(
        "f = tempfile.NamedTemporaryFile(dir='/dev/shm'); "
        f"f.truncate({AMOUNT}); kept = mmap.mmap(f.fileno(), 0); kept.write(b'x' * {AMOUNT}); "
        f"{named} or f.close()"
    )
    assert near(memory_of(puppet.pid).private - before.private, AMOUNT)
    puppet.do("f.close()" if named else "pass")


@pytest.mark.needs("linux")
def test_shared_memory_is_private_too(puppet: Puppet) -> None:
    """Memory shared without a file (a RAM disk, an anonymous map) is the program's own."""
    before = memory_of(puppet.pid)
    puppet.do(f"import mmap; kept = mmap.mmap(-1, {AMOUNT}); kept.write(b'x' * {AMOUNT})")
    assert near(memory_of(puppet.pid).private - before.private, AMOUNT)


@pytest.mark.needs("linux")
def test_pages_shared_by_workers_are_counted_once(launch: Launch) -> None:
    """Three forked workers that share 64 MiB with their parent make 64 MiB, not 256."""
    idle = memory_of(launch("workers", environment={"AMOUNT": "1"}).start().pid)
    full = launch("workers", environment={"AMOUNT": str(AMOUNT)}).start()
    workers = [int(each) for each in full.log().split("workers ")[1].split("\n")[0].split()]
    assert group_members(full.pid) == [full.pid, *sorted(workers)]
    assert near(memory_of(full.pid).private - idle.private, AMOUNT)
    assert near(memory_of(full.pid).resident - idle.resident, 4 * AMOUNT)


@pytest.mark.needs("linux")
def test_members_come_with_the_leader_first(puppet: Puppet) -> None:
    """A group is its leader and its children, those that have ended no more."""
    assert group_members(puppet.pid) == [puppet.pid]
    puppet.do("import subprocess as s; child = s.Popen(['sleep', '600'])")
    leader, child = group_members(puppet.pid)
    assert (leader, os.getpgid(child)) == (puppet.pid, puppet.pid)
    puppet.do("child.kill(); child.wait()")
    assert group_members(puppet.pid) == [puppet.pid]


ORPHAN = """
import os, time
read, write = os.pipe()
child = os.fork()
if not child:
    if os.fork():
        os._exit(0)
    os.write(write, b"%d" % os.getpid())
    time.sleep(600)
os.waitpid(child, 0)
os.read(read, 20)
"""
"""Leaves a grandchild whose parent has ended."""


@pytest.mark.needs("linux")
def test_an_orphan_stays_a_member(puppet: Puppet) -> None:
    """A process whose parent has ended stays in its group, under any new parent."""
    puppet.do(f"exec({ORPHAN!r})")
    _, orphan = group_members(puppet.pid)
    assert orphan not in proc.children_of(puppet.pid)
    assert os.getpgid(orphan) == puppet.pid


@pytest.mark.needs("linux")
def test_other_processes_are_not_looked_at(puppet: Puppet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The members of a group are found without a list of all processes."""
    puppet.do("import subprocess as s; child = s.Popen(['sleep', '600'])")
    listed = proc._members_among(proc._processes(), puppet.pid)
    assert len(listed) == 2
    monkeypatch.setattr(proc, "_processes", list)
    assert group_members(puppet.pid) == listed
    monkeypatch.setattr(proc, "_lists_children", lambda: False)
    assert group_members(puppet.pid) == []


IDLE = 500


@pytest.fixture
def idle_processes() -> Iterator[Callable[[], None]]:
    """Start many processes that do nothing; ended afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        started.extend(subprocess.Popen(["sleep", "600"]) for _ in range(IDLE))

    yield start
    for process in started:
        process.kill()
    for process in started:
        process.wait()


@pytest.mark.needs("linux")
def test_a_look_at_a_server_costs_the_same_whatever_else_runs(
    launch: Launch, idle_processes: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted are the files and folders of /proc that are read, and the processes asked about."""
    looks = 0

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal looks
            looks += 1
            return function(*arguments, **named)

        return counted

    monkeypatch.setattr(proc, "open", counting(open), raising=False)
    monkeypatch.setattr(os, "listdir", counting(os.listdir))
    monkeypatch.setattr(os.path, "exists", counting(os.path.exists))
    monkeypatch.setattr(proc, "_group_of", counting(proc._group_of))
    monkeypatch.setattr(proc, "_processes", counting(proc._processes))
    server = launch("streaming").start()

    def cost() -> int:
        nonlocal looks
        looks = 0
        assert memory_of(server.supervisor_pid, itself=False).private > 0
        assert proc.threads_of(server.supervisor_pid) >= 2
        return looks

    before = cost()
    idle_processes()
    assert cost() < before + 10, "a thread of its own that has begun, at most"
    monkeypatch.setattr(proc, "SUBREAPERS", set())
    assert cost() > before + IDLE, "so they would be noticed"


@pytest.mark.needs("linux")
def test_a_supervisor_sees_what_has_lost_its_parent(launch: Launch) -> None:
    """It looks at its descendants alone, and such a process is one of them."""
    server = launch("streaming").start()
    assert server.supervisor_pid in proc.SUBREAPERS
    assert group_members(server.supervisor_pid) == [server.supervisor_pid, server.pid]
    supervisor = server.supervisor_pid
    server.stop()
    assert supervisor not in proc.SUBREAPERS


@pytest.mark.needs("linux")
def test_memory_without_the_one_who_leads(puppet: Puppet) -> None:
    puppet.do("import subprocess as s; child = s.Popen(['sleep', '600'])")
    _, child = group_members(puppet.pid)
    whole, below = memory_of(puppet.pid), memory_of(puppet.pid, itself=False)
    assert near(below.private, memory_of(child).private)
    assert whole.private > below.private
    assert footprint_of(puppet.pid).held > footprint_of(puppet.pid, itself=False).held
    puppet.do("child.kill(); child.wait()")
    with pytest.raises(MeterError):
        memory_of(puppet.pid, itself=False)


@pytest.mark.needs("linux")
def test_states_of_threads(puppet: Puppet, becomes: Becomes) -> None:
    """Each thread that lives has a letter; a child that has ended has none, waited for or not."""
    assert becomes(lambda: proc.thread_states(puppet.pid) == {puppet.pid: "S"})
    puppet.do("import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()")
    assert becomes(lambda: proc.thread_states(puppet.pid) == {puppet.pid: "SS"})
    puppet.do("import subprocess as s; child = s.Popen(['true'])")
    assert becomes(lambda: proc.thread_states(puppet.pid) == {puppet.pid: "SS"})
    assert len(group_members(puppet.pid)) == 2
    assert not proc.at_work(puppet.pid)
    puppet.do("threading.Thread(target=exec, args=('while True: pass',)).start()")
    assert becomes(lambda: proc.at_work(puppet.pid))
    assert becomes(lambda: "R" in proc.thread_states(puppet.pid)[puppet.pid])
    assert not proc.at_work(puppet.pid, itself=False)


LEADERLESS = f"""
import ctypes, os, threading, time
def hoard():
    global kept
    kept = bytearray(b'x') * {AMOUNT}
    print(flush=True)
    time.sleep(600)
threading.Thread(target=hoard).start()
ctypes.CDLL(None).syscall({{'x86_64': 60}}.get(os.uname().machine, 93), 0)  # exit(2)
"""
"""Leaves a thread that holds memory, and ends the first one."""


@pytest.mark.needs("linux")
def test_who_lives_on_without_its_first_thread_is_seen(puppet: Puppet) -> None:
    """In /proc/PID it is a zombie, but its other threads show what it holds."""
    before = memory_of(puppet.pid).private
    puppet.do(f"exec({LEADERLESS!r})")
    assert near(memory_of(puppet.pid).private - before, AMOUNT)
    assert footprint_of(puppet.pid).held > AMOUNT
    assert len(open_files(puppet.pid)) >= 3


@pytest.mark.needs("linux")
def test_a_footprint_that_cannot_be_seen_is_an_error(
    puppet: Puppet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error unless the process has ended meanwhile, and holds nothing."""

    def forbidden(pid: int) -> list[str]:
        raise MeterError("not yours to see")

    monkeypatch.setattr(memory, "open_files", forbidden)
    with pytest.raises(MeterError, match="not yours to see"):
        footprint_of(puppet.pid)
    monkeypatch.setattr(memory, "_has_ended", lambda pid: True)
    assert footprint_of(puppet.pid).held > 0
    monkeypatch.setattr(proc, "PROC", Path("/nowhere"))
    with pytest.raises(MeterError, match="known on Linux alone"):
        footprint_of(puppet.pid)


@pytest.mark.needs("linux")
def test_odd_names_of_processes(puppet: Puppet) -> None:
    """A process whose name holds brackets and spaces is still found in its group."""
    puppet.do("open('/proc/self/comm', 'w').write(') S 1 1 (')")
    assert group_members(puppet.pid) == [puppet.pid]
    assert memory_of(puppet.pid).private > 0


@pytest.mark.needs("linux")
def test_high_water_remembers_a_peak(puppet: Puppet) -> None:
    """The mark keeps a peak that has gone by, until it is reset."""
    before = memory_of(puppet.pid).resident
    puppet.do(f"kept = bytearray(b'x') * {AMOUNT}; del kept")
    assert near(memory_of(puppet.pid).resident - before, 0)
    assert near((high_water(puppet.pid) or 0) - before, AMOUNT)
    reset_high_water(puppet.pid)
    assert near((high_water(puppet.pid) or 0) - before, 0)


@pytest.mark.parametrize("read", [proc.cpu_seconds, memory_of, high_water])
@pytest.mark.needs("linux")
def test_a_process_that_is_gone(read: Callable[[int], object], gone: int) -> None:
    """Reading a process that has ended is an error that says what to do."""
    with pytest.raises(MeterError, match=f"process {gone} is gone: look at its log"):
        read(gone)


@pytest.mark.parametrize("pid", [0, -1])
@pytest.mark.parametrize(
    "read",
    [
        *(group_members, proc.children_of, proc.descriptors, proc.threads_of, proc.thread_states),
        *(proc.at_work, proc.threads_below, proc.cpu_seconds_below, proc.cpu_seconds),
        *(proc.bytes_read, proc.bytes_written, proc.listens_on, open_files, memory_of, high_water),
        *(footprint_of, reset_high_water, lambda pid: proc.positions(pid, Path("file"))),
    ],
)
@pytest.mark.needs("linux")
def test_a_number_that_no_process_has(read: Callable[[int], object], pid: int) -> None:
    """0 is the pid of a server before its start, and does not mean the whole machine."""
    with pytest.raises(
        MeterError, match=f"no process has the number {pid}: start the server first"
    ):
        read(pid)


@pytest.mark.needs("linux")
def test_a_zombie_holds_nothing(launch: Launch, becomes: Becomes) -> None:
    """A server that has ended and was not waited for yet has no memory to read."""
    ended = launch("streaming").start()
    os.kill(ended.pid, 9)
    assert becomes(lambda: not ended.running)
    with pytest.raises(MeterError, match="is gone"):
        memory_of(ended.pid)
    with pytest.raises(MeterError, match="has ended"):
        high_water(ended.pid)


def test_reset_of_a_process_that_is_gone(gone: int) -> None:
    """Resetting the mark of a process that has ended does nothing."""
    reset_high_water(gone)


@pytest.mark.needs("linux")
def test_open_files(puppet: Puppet, tmp_path: Path) -> None:
    """Open files are listed by path, sockets as such; closed ones are not."""
    path = tmp_path / "file"
    path.touch()
    puppet.do(f"import socket; s = socket.socket(); f = open({str(path)!r})")
    targets = open_files(puppet.pid)
    assert str(path) in targets
    assert any(target.startswith("socket:[") for target in targets)
    puppet.do("f.close()")
    assert str(path) not in open_files(puppet.pid)


def test_open_files_of_a_process_that_is_gone(gone: int) -> None:
    """Listing the open files of a process that has ended is an error in one line."""
    with pytest.raises(MeterError, match=f"descriptors of process {gone} can't be listed"):
        open_files(gone)


@pytest.mark.needs("linux")
def test_socket_buffers_fill(becomes: Becomes) -> None:
    """What a peer has not read yet is seen in the kernel's buffers.

    The figure is for the whole machine: it falls if other programs release theirs meanwhile.
    """

    def seen() -> bool:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            sender = socket.create_connection(listener.getsockname())
            receiver, _ = listener.accept()
            with sender, receiver:
                before = buffers() or 0
                sender.setblocking(False)
                sent = 0
                with suppress(BlockingIOError):
                    while sent < 8 * MiB:
                        sent += sender.send(bytes(65536))
                return sent > 64 * 1024 and (buffers() or 0) - before > sent // 2

    assert becomes(seen)


def test_socket_buffers_are_read_in_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kernel's table counts pages; the answer is in bytes."""
    (tmp_path / "net").mkdir()
    table = tmp_path / "net" / "sockstat"
    table.write_text("sockets: used 9\nTCP: inuse 4 orphan 0 tw 1 alloc 5 mem 3\nUDP: mem 8\n")
    monkeypatch.setattr(proc, "PROC", tmp_path)
    assert buffers() == 3 * os.sysconf("SC_PAGE_SIZE")
    table.write_text("nothing of the kind\n")
    assert buffers() is None


BUSY_THREADS = """
import sys, threading, time

def work():
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        pass

for _ in range(3):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(time.process_time(), flush=True)
sys.stdin.read()
"""


def test_cpu_seconds_count_threads_that_have_ended() -> None:
    command = [sys.executable, "-c", BUSY_THREADS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        spent = float(process.stdout.readline())
        found = proc.cpu_seconds(process.pid)
        process.communicate("")
    assert spent >= 0.6
    assert spent - 0.03 <= found < spent + 0.2  # psutil counts in hundredths, user and system


@pytest.mark.needs("linux")
def test_cpu_seconds_are_finer_than_a_tick() -> None:
    before, own = proc.cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() < own + 0.003:
        pass
    assert proc.cpu_seconds(os.getpid()) - before >= 0.003


@pytest.mark.needs("linux")
def test_bytes_read(puppet: Puppet, tmp_path: Path) -> None:
    """Bytes that a process reads are counted each time."""
    sample = sparse_file(8 * MiB, folder=tmp_path)
    counts = []
    for _ in range(3):
        counts.append(streamlab.bytes_read(puppet.pid))
        puppet.do(f"open({str(sample.path)!r}, 'rb').read() and None")
    for one, other in pairwise(counts):
        assert 8 * MiB <= other - one < 9 * MiB


@pytest.mark.usefixtures("no_proc")
def test_bytes_read_off_linux(puppet: Puppet) -> None:
    """Other systems do not count it."""
    assert streamlab.bytes_read(puppet.pid) is None


def test_sampler_draws_a_timeline(puppet: Puppet, becomes: Becomes) -> None:
    """Samples rise with the memory of the process, their times too."""
    with Sampler(puppet.pid, interval=0.01) as sampler:
        assert becomes(lambda: len(sampler.resident) > 0)
        before = sampler.resident[0]
        puppet.do(f"kept = bytearray(b'x') * {AMOUNT}")
        assert becomes(lambda: near(sampler.peak - before, AMOUNT))
    assert len(sampler.times) == len(sampler.resident) > 2
    assert sampler.times[0] >= 0
    assert all(one < other for one, other in pairwise(sampler.times))


def test_sampler_ends_with_the_process(becomes: Becomes) -> None:
    """The end of the process ends the samples; those taken stay."""
    made = Puppet()
    with Sampler(made.pid, interval=0.01) as sampler:
        assert becomes(lambda: len(sampler.resident) > 0)
        made.end()
        assert becomes(lambda: not sampler._thread.is_alive())
    assert sampler.peak > MiB


def test_sampler_of_a_process_that_is_gone(gone: int) -> None:
    """There is no sample, and that is no error."""
    with Sampler(gone) as sampler:
        pass
    assert (sampler.times, sampler.resident, sampler.peak) == ([], [], 0)


@pytest.mark.needs("linux")
def test_sampler_ends_with_a_zombie(launch: Launch, becomes: Becomes) -> None:
    """A server that ended but was not waited for adds no samples of 0."""
    started = launch("streaming").start()
    with Sampler(started.pid, interval=0.01) as sampler:
        assert becomes(lambda: len(sampler.resident) > 0)
        os.kill(started.pid, 9)
        assert becomes(lambda: not sampler._thread.is_alive())
    assert all(sampler.resident)


@pytest.mark.usefixtures("no_proc")
def test_without_proc_memory_is_resident(puppet: Puppet) -> None:
    """Without `/proc`, only the resident memory of the one process is known."""
    assert not exact()
    before = memory_of(puppet.pid)
    puppet.do(f"kept = bytearray(b'x') * {AMOUNT}")
    after = memory_of(puppet.pid)
    assert after == Memory(after.resident, after.resident)
    assert near(after.private - before.private, AMOUNT)


@pytest.mark.usefixtures("no_proc")
def test_without_proc_there_is_no_mark(puppet: Puppet, gone: int) -> None:
    """The other meters say that they have nothing to say."""
    assert high_water(puppet.pid) is None
    assert buffers() is None
    reset_high_water(puppet.pid)
    with pytest.raises(MeterError, match="can't be listed here"):
        open_files(puppet.pid)
    with pytest.raises(MeterError, match=f"process {gone} is gone"):
        memory_of(gone)


@pytest.mark.usefixtures("no_proc")
def test_without_proc_the_sampler_works(puppet: Puppet, becomes: Becomes) -> None:
    """Samples need no `/proc` of ours."""
    with Sampler(puppet.pid, interval=0.01) as sampler:
        assert becomes(lambda: len(sampler.resident) > 0)
    assert sampler.peak > MiB


@pytest.mark.needs("linux")
def test_what_a_client_has_not_taken(becomes: Becomes) -> None:
    """It grows while the server sends, stays when the kernel is full, and goes when it is read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    ends = (client.getsockname(), client.getpeername())
    with client, server:
        assert proc.unread(*ends) == 0
        server.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                server.send(bytes(65536))
        assert (proc.unread(*ends) or 0) > 0
        client.setblocking(False)

        def read() -> bool:
            with suppress(BlockingIOError):
                while client.recv(1 << 20):
                    pass
            return proc.unread(*ends) == 0

        assert becomes(read)
    assert proc.unread(("127.0.0.1", 1), ("127.0.0.1", 2)) is None


def test_the_room_of_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The largest of both buffers; off Linux a usual value."""
    folder = tmp_path / "sys" / "net" / "ipv4"
    folder.mkdir(parents=True)
    (folder / "tcp_rmem").write_text("4096\t131072\t6291456\n")
    (folder / "tcp_wmem").write_text("4096\t16384\t4194304\n")
    monkeypatch.setattr(proc, "PROC", tmp_path)
    assert proc.socket_room() == 10 * 1024 * 1024
    (folder / "tcp_rmem").write_text("4096\t131072\t33554432\n")
    assert proc.socket_room() == 36 * 1024 * 1024
    monkeypatch.setattr(proc, "PROC", tmp_path / "nowhere")
    assert proc.socket_room() == 10 * 1024 * 1024


@pytest.mark.needs("linux")
def test_a_client_has_departed_when_the_other_end_knows(
    becomes: Callable[[Callable[[], bool]], bool],
) -> None:
    """It departs when it has closed or nothing is left of it, and not before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        ends = client.getsockname(), client.getpeername()
        server, _ = listener.accept()
        with server:
            assert not proc.departed(*ends)
            client.close()
            assert becomes(lambda: proc.departed(*ends))
        assert proc.departed(*ends)
    assert proc.departed(("127.0.0.1", 1), ("127.0.0.1", 2))


@pytest.mark.needs("linux")
def test_what_is_kept_in_files(puppet: Puppet, tmp_path: Path) -> None:
    """A file that is open to write counts once, also without a name; one to read does not."""
    other = tmp_path / "other.bin"
    other.write_bytes(bytes(MiB))
    before = kept_by(puppet.pid)
    puppet.do("import os, tempfile")
    puppet.do(f"a = tempfile.TemporaryFile(dir={str(tmp_path)!r}, buffering=0)")
    puppet.do("a.write(bytes(3 * 2**20)); b = os.dup(a.fileno())")
    puppet.do(f"c = open({str(other)!r}, 'rb')")
    after = kept_by(puppet.pid)
    assert after.disk + after.tmpfs - before.disk - before.tmpfs == 3 * MiB
    puppet.do("held = bytes(64 * 2**20)")
    assert near(kept_by(puppet.pid).private - after.private, 0)  # zeros that nobody has touched
    puppet.do("held = b'x' * (64 * 2**20)")
    assert near(kept_by(puppet.pid).private - after.private, AMOUNT)


@pytest.mark.needs("linux")
@pytest.mark.parametrize("in_memory", [False, True])
def test_files_in_memory_are_told_from_others(
    puppet: Puppet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    """What lies on a tmpfs is memory, and no process's."""
    device = tmp_path.stat().st_dev
    monkeypatch.setattr(memory, "is_memory", lambda each: in_memory and each == device)
    before = kept_by(puppet.pid)
    puppet.do(f"a = open({str(tmp_path / 'a.bin')!r}, 'wb', 0); a.write(bytes(3 * 2**20))")
    after = kept_by(puppet.pid)
    assert (after.tmpfs - before.tmpfs, after.disk - before.disk) == (
        (3 * MiB, 0) if in_memory else (0, 3 * MiB)
    )
    assert near(after.private, before.private)


def test_nothing_is_kept_by_who_has_ended(gone: int) -> None:
    with pytest.raises(MeterError):
        kept_by(gone)


def test_what_is_kept_is_not_known_without_proc(no_proc: None, puppet: Puppet) -> None:
    with pytest.raises(MeterError, match="known on Linux alone"):
        kept_by(puppet.pid)
