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

import pytest

import streamlab
from streamlab import (
    GiB,
    MeterError,
    MiB,
    Sampler,
    Server,
    high_water,
    memory,
    memory_of,
    open_files,
    reset_high_water,
    sparse_file,
)
from streamlab import socket_buffers as buffers
from streamlab.memory import Memory, exact, group_members

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
    monkeypatch.setattr(memory, "PROC", tmp_path / "empty")


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
    """With a name in /dev/shm, or without one anywhere."""
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
    """A process whose parent has ended stays in its group, whoever is its parent now."""
    puppet.do(f"exec({ORPHAN!r})")
    _, orphan = group_members(puppet.pid)
    assert orphan not in memory.children_of(puppet.pid)
    assert os.getpgid(orphan) == puppet.pid


@pytest.mark.needs("linux")
def test_other_processes_are_not_looked_at(puppet: Puppet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The members of a group are found without a list of all processes."""
    puppet.do("import subprocess as s; child = s.Popen(['sleep', '600'])")
    listed = memory._members_among(memory._processes(), puppet.pid)
    assert len(listed) == 2
    monkeypatch.setattr(memory, "_processes", list)
    assert group_members(puppet.pid) == listed
    monkeypatch.setattr(memory, "_lists_children", lambda: False)
    assert group_members(puppet.pid) == []


@pytest.mark.needs("linux")
def test_states_of_threads(puppet: Puppet, becomes: Becomes) -> None:
    """Each thread that lives has a letter; a child that has ended has none, waited for or not."""
    assert becomes(lambda: memory.thread_states(puppet.pid) == {puppet.pid: "S"})
    puppet.do("import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()")
    assert becomes(lambda: memory.thread_states(puppet.pid) == {puppet.pid: "SS"})
    puppet.do("import subprocess as s; child = s.Popen(['true'])")
    assert becomes(lambda: memory.thread_states(puppet.pid) == {puppet.pid: "SS"})
    assert len(group_members(puppet.pid)) == 2
    assert not memory.at_work(puppet.pid)
    puppet.do("threading.Thread(target=exec, args=('while True: pass',)).start()")
    assert becomes(lambda: memory.at_work(puppet.pid))
    assert becomes(lambda: "R" in memory.thread_states(puppet.pid)[puppet.pid])
    assert not memory.at_work(puppet.pid, itself=False)


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


@pytest.mark.parametrize("read", [memory.cpu_seconds, memory_of, high_water])
@pytest.mark.needs("linux")
def test_a_process_that_is_gone(read: Callable[[int], object], gone: int) -> None:
    """To read a process that is gone is an error that says what to do."""
    with pytest.raises(MeterError, match=f"process {gone} is gone: look at its log"):
        read(gone)


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
    """To reset its mark does nothing."""
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
    """To list them is an error in one line."""
    with pytest.raises(MeterError, match=f"descriptors of process {gone} can't be listed"):
        open_files(gone)


@pytest.mark.needs("linux")
def test_socket_buffers_fill(becomes: Becomes) -> None:
    """What a peer has not read yet is seen in the kernel's buffers.

    The figure is the whole machine's: others who let go of theirs meanwhile make it less.
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
    monkeypatch.setattr(memory, "PROC", tmp_path)
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
        found = memory.cpu_seconds(process.pid)
        process.communicate("")
    assert spent >= 0.6
    assert spent - 0.03 <= found < spent + 0.2  # psutil counts in hundredths, user and system


@pytest.mark.needs("linux")
def test_cpu_seconds_are_finer_than_a_tick() -> None:
    before, own = memory.cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() < own + 0.003:
        pass
    assert memory.cpu_seconds(os.getpid()) - before >= 0.003


@pytest.mark.needs("linux")
def test_bytes_read(puppet: Puppet, tmp_path: Path) -> None:
    """What a process has read is counted, each time that it reads."""
    sample = sparse_file(8 * MiB, folder=tmp_path)
    counts = []
    for _ in range(3):
        counts.append(streamlab.bytes_read(puppet.pid))
        puppet.do(f"open({str(sample.path)!r}, 'rb').read() and None")
    for one, other in pairwise(counts):
        assert 8 * MiB <= other - one < 9 * MiB


@pytest.mark.usefixtures("no_proc")
def test_bytes_read_off_linux(puppet: Puppet) -> None:
    """Elsewhere nobody counts."""
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
    """A server that ended but was not waited for draws no line along the ground."""
    started = launch("streaming").start()
    with Sampler(started.pid, interval=0.01) as sampler:
        assert becomes(lambda: len(sampler.resident) > 0)
        os.kill(started.pid, 9)
        assert becomes(lambda: not sampler._thread.is_alive())
    assert all(sampler.resident)


@pytest.mark.usefixtures("no_proc")
def test_without_proc_memory_is_resident(puppet: Puppet) -> None:
    """Where the kernel does not tell, the resident memory of the one process is all there is."""
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
        assert memory.unread(*ends) == 0
        server.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                server.send(bytes(65536))
        assert (memory.unread(*ends) or 0) > 0
        client.setblocking(False)

        def read() -> bool:
            with suppress(BlockingIOError):
                while client.recv(1 << 20):
                    pass
            return memory.unread(*ends) == 0

        assert becomes(read)
    assert memory.unread(("127.0.0.1", 1), ("127.0.0.1", 2)) is None


def test_the_room_of_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The largest of both buffers; off Linux a usual value."""
    folder = tmp_path / "sys" / "net" / "ipv4"
    folder.mkdir(parents=True)
    (folder / "tcp_rmem").write_text("4096\t131072\t6291456\n")
    (folder / "tcp_wmem").write_text("4096\t16384\t4194304\n")
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert memory.socket_room() == 10 * 1024 * 1024
    (folder / "tcp_rmem").write_text("4096\t131072\t33554432\n")
    assert memory.socket_room() == 36 * 1024 * 1024
    monkeypatch.setattr(memory, "PROC", tmp_path / "nowhere")
    assert memory.socket_room() == 10 * 1024 * 1024
