"""Deadlines count seconds in which the awaited processes could work, and no others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psutil
import pytest
from starving import last_in_line, starved

from streamlab.process import patience, proc
from streamlab.process.patience import Deadline, FairClock, PatientSocket, connect, settled
from streamlab.process.proc import Thread

linux = pytest.mark.needs("linux")


@dataclass
class World:
    """A machine that does what a test says: its clock, its threads, what its kernel counts."""

    now: float = 100.0
    threads: dict[int, Thread] = field(default_factory=dict)
    steal: dict[str, float] = field(default_factory=dict)
    pressed: float | None = None
    cpu: float = 0.0

    def monotonic(self) -> float:
        """The time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds

    def pass_by(self, seconds: float, **threads: Thread) -> None:
        """Time goes by, and then the threads are like this."""
        self.now += seconds
        self.threads = {int(name.lstrip("t")): thread for name, thread in threads.items()}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A machine with two CPUs and one thread, which sleeps."""
    made = World(threads={1: Thread(1.0, 1.0, False)})
    monkeypatch.setattr(patience, "time", made)
    monkeypatch.setattr(patience, "threads_below", lambda _: made.threads)
    monkeypatch.setattr(patience, "cpu_seconds_below", lambda _: made.cpu)
    monkeypatch.setattr(patience, "stolen", lambda: made.steal)
    monkeypatch.setattr(patience, "pressure", lambda: made.pressed)
    monkeypatch.setattr(patience, "_cpus", lambda: 2)
    monkeypatch.setattr(patience, "_CLOCKS", {})
    return made


def test_seconds_in_which_nothing_is_to_do_count(world: World) -> None:
    """A process that sleeps is late."""
    deadline = Deadline(2)
    world.pass_by(1.5, t1=Thread(1.0, 1.0, False))
    assert deadline.left == pytest.approx(0.5)
    world.pass_by(0.6, t1=Thread(1.0, 1.0, False))
    assert deadline.passed


def test_seconds_without_a_cpu_do_not_count(world: World) -> None:
    """It waited for a CPU for 1.4 s of 2 s, so 0.6 s count."""
    deadline = Deadline(2)
    world.pass_by(2, t1=Thread(1.1, 2.4, False))
    assert deadline.left == pytest.approx(1.4)


def test_a_wait_that_goes_on_does_not_count_either(world: World) -> None:
    """The kernel counts a wait only when it is over."""
    deadline = Deadline(2)
    world.pass_by(0.5, t1=Thread(1.0, 1.0, True))
    assert deadline.left == pytest.approx(1.5)  # it may have run for all of that time
    world.pass_by(5, t1=Thread(1.0, 1.0, True))
    assert deadline.left == pytest.approx(1.5)
    world.pass_by(0.5, t1=Thread(1.0, 6.5, True))  # 5.5 s, of which 0.5 are in this interval
    assert deadline.left == pytest.approx(1.5)


def test_a_wait_after_a_moment_of_running_is_given_back(world: World) -> None:
    """It ran when one look was made, waited from then on, and ran when the third one was made."""
    deadline = Deadline(2)
    world.pass_by(1, t1=Thread(1.001, 1.0, True))
    assert deadline.left == pytest.approx(1)
    world.pass_by(1, t1=Thread(1.001, 1.0, True))
    assert deadline.left == pytest.approx(1)
    world.pass_by(0.5, t1=Thread(1.002, 3.4, False))  # 2.4 s: 0.9 s are of the first second
    assert deadline.left == pytest.approx(1.9, abs=0.01)
    world.pass_by(2, t1=Thread(1.002, 3.4, False))
    assert deadline.passed


def test_a_second_is_given_back_once(world: World) -> None:
    """Two threads that waited in the same second have lost one second."""
    deadline = Deadline(2)
    world.pass_by(1, t1=Thread(1.0, 1.0, True), t2=Thread(0.0, 0.0, True))
    world.pass_by(0.5, t1=Thread(1.0, 2.5, False), t2=Thread(0.0, 1.5, False))
    assert deadline.left == pytest.approx(2)
    world.pass_by(1, t1=Thread(1.0, 2.5, False), t2=Thread(0.0, 1.5, False))
    assert deadline.left == pytest.approx(1)


def test_what_the_host_took_is_not_given_back_again(world: World) -> None:
    """Nine tenths of the first second are lost already when the kernel tells of a wait in it."""
    world.steal = {"cpu0": 0.0}
    deadline = Deadline(2)
    world.steal = {"cpu0": 0.9}
    world.pass_by(1, t1=Thread(1.0, 1.0, True))
    assert deadline.left == pytest.approx(1.9)
    world.pass_by(0.5, t1=Thread(1.0, 2.5, False))
    assert deadline.left == pytest.approx(2)
    world.pass_by(2, t1=Thread(1.0, 2.5, False))
    assert deadline.passed


def test_many_who_wait_together_wait_once(world: World) -> None:
    """Ten threads that waited for the same second have lost one second."""
    deadline = Deadline(2)
    waited = {f"t{number}": Thread(0, 1.0, False) for number in range(2, 12)}
    world.pass_by(1, **waited)
    assert deadline.left == pytest.approx(2)
    world.pass_by(1, **waited)
    assert deadline.left == pytest.approx(1)


def test_who_takes_the_cpus_himself_is_late(world: World) -> None:
    """Eight threads that spin on two CPUs wait only for each other, so they are late."""
    deadline = Deadline(2)
    world.pass_by(2, **{f"t{number}": Thread(0.5, 1.5, True) for number in range(2, 10)})
    assert deadline.passed


def test_who_spins_alone_is_late(world: World) -> None:
    """A started process that uses the CPU is late."""
    deadline = Deadline(2)
    world.pass_by(2.1, t1=Thread(3.1, 1.0, True))
    assert deadline.passed


def test_who_starts_may_use_the_cpu(world: World) -> None:
    """A starting process may use the CPU, up to a limit; `used` says how much it used."""
    deadline = Deadline(2, starting=7)
    for _ in range(5):
        world.cpu += 1.0
        world.pass_by(1, t1=Thread(world.cpu, 1.0, True))
        assert deadline.left == pytest.approx(2)
    world.cpu += 3.1
    world.pass_by(3.1, t1=Thread(world.cpu, 1.0, True))
    assert deadline.passed
    assert deadline.used == pytest.approx(8.1)


def test_who_starts_and_sleeps_is_late(world: World) -> None:
    """A starting process that used half a second of CPU and then sleeps is late."""
    deadline = Deadline(2, starting=7)
    world.cpu += 0.5
    world.pass_by(2, t1=Thread(1.5, 1.0, False))
    assert deadline.left == pytest.approx(0.5)
    world.pass_by(0.6, t1=Thread(1.5, 1.0, False))
    assert deadline.passed


def test_a_deadline_has_a_hard_limit(world: World) -> None:
    """A process that never gets a CPU has ten times the seconds."""
    deadline = Deadline(2)
    for _ in range(19):
        world.pass_by(1, t1=Thread(1.0, 1.0, True))
        assert not deadline.passed
    world.pass_by(1.1, t1=Thread(1.0, 1.0, True))
    assert deadline.passed


def test_what_the_host_took_does_not_count(world: World) -> None:
    """Time that the host took from the CPUs does not count: that of the CPU that lost most."""
    world.steal = {"cpu0": 4.0, "cpu1": 9.0}
    deadline = Deadline(2)
    world.steal = {"cpu0": 4.1, "cpu1": 9.8}
    world.pass_by(1, t1=Thread(1.0, 1.0, False))
    assert deadline.left == pytest.approx(1.8)


def test_pressure_stands_in_for_what_the_kernel_does_not_count(world: World) -> None:
    """Without schedstat there is only the pressure of the whole machine."""
    world.threads, world.pressed = {}, 3.0
    deadline = Deadline(2)
    world.pressed = 3.7
    world.pass_by(1)
    assert deadline.left == pytest.approx(1.7)


def test_without_figures_it_is_a_plain_clock(world: World) -> None:
    """Off Linux every second counts."""
    world.threads = {}
    deadline = Deadline(2)
    world.pass_by(1)
    assert deadline.left == pytest.approx(1)
    world.pass_by(1)
    assert deadline.passed


def test_what_was_lost_before_is_no_excuse(world: World) -> None:
    """A deadline begins when it is made, though the clock is shared with older ones."""
    Deadline(2)
    world.pass_by(50, t1=Thread(1.0, 51.0, False))
    deadline = Deadline(2)
    world.pass_by(2.1, t1=Thread(1.0, 51.0, False))
    assert deadline.passed


def test_looks_that_cost_much_are_rare(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look of 50 ms is not made ten times a second."""
    looks = count()

    def slow(_: int) -> dict[int, Thread]:
        next(looks)
        world.now += 0.05
        return {1: Thread(1.0, 1.0, False)}

    monkeypatch.setattr(patience, "threads_below", slow)
    clock = FairClock(1)
    for _ in range(100):
        world.now += 0.1
        clock.time()
    assert next(looks) < 15


# Real processes


def plain(since: float, seconds: float) -> bool:
    """Whether a plain deadline would have passed."""
    return time.monotonic() > since + seconds


WORK = """
import time
while time.process_time() < {seconds}:
    pass
print("done", flush=True)
"""


@linux
def test_a_process_without_a_cpu_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs 0.3 s of CPU time, and others have the CPU."""
    monkeypatch.setattr(patience, "MOST", 100)  # others may work on this machine too
    with starved() as cpu:
        command = [sys.executable, "-c", WORK.format(seconds=0.3)]
        process = subprocess.Popen(command, preexec_fn=lambda: last_in_line(cpu))
        began, deadline = time.monotonic(), Deadline(1)
        try:
            while process.poll() is None and not deadline.passed:
                deadline.pause()
            assert process.poll() == 0
            assert plain(began, 1), "it was not starved: this test shows nothing"
        finally:
            process.kill()
            process.wait()


@linux
def test_a_process_that_sleeps_is_late_beside_others() -> None:
    """A process that waits for nothing is late, even on a busy machine."""
    with starved() as cpu:
        process = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: last_in_line(cpu))
        began, deadline = time.monotonic(), Deadline(1, root=process.pid)
        try:
            while not deadline.passed:
                deadline.pause(0.05)
            assert time.monotonic() - began < 5
        finally:
            process.kill()
            process.wait()


def end_below(pid: int) -> None:
    """Kill all processes that descend from this one; there need not be a pkill."""
    for each in psutil.Process(pid).children(recursive=True):
        each.kill()


@linux
def test_the_kernel_tells_of_every_thread() -> None:
    """Threads that are not the first of their process are found, also of grandchildren."""
    program = (
        "import threading, time, subprocess, sys\n"
        "def spin():\n"
        "    while time.thread_time() < 0.2: pass\n"
        "thread = threading.Thread(target=spin); thread.start(); thread.join(0.01)\n"
        "child = subprocess.Popen(['sh', '-c', 'sleep 60 & wait'])\n"
        "while thread.is_alive(): time.sleep(0.01)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read(); child.kill()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        process.stdout.readline()
        deadline = Deadline(10)
        while len(proc.threads_below(process.pid)) != 3 and not deadline.passed:
            deadline.pause()
        assert len(proc.threads_below(process.pid)) == 3  # itself, the shell, and sleep
        for pid in (process.pid, os.getpid()):
            assert set(proc.threads_below(process.pid)) <= set(proc.threads_below(pid))
        assert proc.cpu_seconds_below(os.getpid()) >= 0.19
        end_below(process.pid)


@linux
def test_children_are_found_without_the_kernels_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A kernel may be built without `/proc/PID/task/TID/children`."""
    process = subprocess.Popen(["sh", "-c", "sleep 60 & wait"])
    try:
        deadline = Deadline(10)
        while len(proc._descendants(process.pid)) < 2 and not deadline.passed:
            deadline.pause()
        listed = proc._descendants(process.pid)
        assert len(listed) == 2
        monkeypatch.setattr(os, "getpid", lambda: 2**22 + 1)
        assert proc._descendants(process.pid) == listed
    finally:
        end_below(process.pid)
        process.kill()
        process.wait()


def test_without_proc_a_deadline_passes_in_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without `/proc`, as on macOS, a deadline is a plain clock."""
    monkeypatch.setattr(proc, "PROC", tmp_path / "nowhere")
    monkeypatch.setattr(patience, "_CLOCKS", {})
    began, deadline = time.monotonic(), Deadline(0.2)
    while not deadline.passed:
        deadline.pause()
    assert 0.2 <= time.monotonic() - began < 2 + 20


# Sockets


@pytest.fixture
def peers() -> Iterator[tuple[PatientSocket, socket.socket]]:
    """A patient socket and its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = connect(listener.getsockname()[1], 0.5)
        other, _ = listener.accept()
        with sock, other:
            yield sock, other


def test_a_socket_receives_and_sends(peers: tuple[PatientSocket, socket.socket]) -> None:
    """Its timeout stays what it was."""
    sock, other = peers
    other.sendall(b"river")
    assert sock.recv(3) == b"riv"
    buffer = bytearray(2)
    assert sock.recv_into(buffer) == 2
    assert buffer == b"er"
    sock.sendall(b"cup")
    assert sock.send(b"!") == 1
    assert other.recv(10) == b"cup!"
    assert sock.gettimeout() == 0.5
    other.close()
    assert sock.recv(1) == b""


def test_a_socket_gives_up(peers: tuple[PatientSocket, socket.socket]) -> None:
    """A peer that does not answer is late, and so is one that does not read."""
    sock, _ = peers
    for call in (
        lambda: sock.recv(1),
        lambda: sock.recv_into(bytearray(1)),
        lambda: sock.sendall(bytes(64 * 2**20)),
    ):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            call()
        assert time.monotonic() >= began + 0.5


def test_nobody_listens(closed_port: int) -> None:
    """A refused connection is an error at once."""
    with pytest.raises(ConnectionRefusedError):
        connect(closed_port, 5)


@linux
def test_a_full_queue_is_waited_for() -> None:
    """A connection that is not accepted is late after its seconds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with connect(port, 5), pytest.raises(TimeoutError):
            connect(port, 0.3)


# settled


def test_settled_waits_for_rest() -> None:
    """A value that still moves is waited for."""
    values = iter([5, 4, 3, 2])
    assert settled(lambda: next(values, 2)) == 2


def test_settled_is_not_told_by_the_clock_alone(world: World) -> None:
    """A value that moves as slowly as it is read, on a busy machine, is waited for too."""
    values = iter([5, 5, 4, 4, 3])

    def look() -> int:
        world.now += 1
        return next(values, 3)

    assert settled(look, timeout=1000) == 3


def test_settled_waits_for_who_has_no_cpu(world: World) -> None:
    """Twelve equal values do not settle while the process that changes them waits for a CPU."""
    values = iter([5] * 13 + [4])
    waits = count(2)

    def look() -> int:
        world.threads = {1: Thread(1.0, 1.0 + next(waits), False)}
        return next(values, 4)

    assert settled(look, timeout=1000) == 4


def test_settled_gives_up() -> None:
    """A value that never rests is reported as it was last."""
    ticks = count()
    last = settled(lambda: next(ticks), timeout=0.3)
    assert last == next(ticks) - 1
    assert last > 0
