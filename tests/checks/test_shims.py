"""The shims: sockets that transfer little at a time, and a slow disk."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import BuiltinFunctionType, MethodDescriptorType

import pytest

from streamlab.checks import shims
from streamlab.checks.shims import shim_in, short_recv, short_send, slow_reads, slow_writes
from streamlab.process.program import Conditions, run_program
from streamlab.process.sandbox import Sandbox

PAIR = "import os, socket; a, b = socket.socketpair()"


def said_with(environment: dict[str, str], program: str) -> str:
    """The output of a program that starts with this environment."""
    command = [sys.executable, "-c", program]
    ran = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=20
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize(
    ("program", "bytes_"),
    [
        ("b.sendall(bytes(5000)); print(len(a.recv(4096)))", short_recv.MOST),
        ("b.sendall(bytes(5)); print(len(a.recv(4096)))", 5),
        ("b.sendall(bytes(5000)); print(a.recv_into(bytearray(4096)))", short_recv.MOST),
        ("b.sendall(bytes(5000)); print(a.recv_into(bytearray(4096), 7))", 7),
    ],
)
def test_a_socket_gives_little(tmp_path: Path, program: str, bytes_: int) -> None:
    environment = shim_in(tmp_path / "shim", "short_recv")
    assert said_with(environment, f"{PAIR}; {program}") == str(bytes_)


@pytest.mark.parametrize(
    ("program", "bytes_"),
    [
        ("print(a.send(bytes(20_000)))", short_send.MOST),
        ("print(a.send(bytes(100)))", 50),
        ("print(a.send(b'x'), a.send(b''))", "1 0"),
        ("print(a.sendmsg([bytes(50), bytes(50)]))", 50),
        ("print(os.write(a.fileno(), bytes(100)))", 50),
        ("r, w = os.pipe(); print(os.write(w, bytes(100)))", 100),
        ("f = os.open(os.__file__, 0); print(os.sendfile(a.fileno(), f, 0, 20_000))", 4096),
        ("a.sendall(bytes(1000)); a.close(); print(len(b.recv(2000)))", 1000),
    ],
)
@pytest.mark.needs("linux")
def test_a_socket_takes_little(tmp_path: Path, program: str, bytes_: int | str) -> None:
    """Only sockets take little at a time; `sendall`, in C, sends the rest by itself."""
    environment = shim_in(tmp_path / "shim", "short_send")
    assert said_with(environment, f"{PAIR}; {program}") == str(bytes_)


@pytest.mark.parametrize(
    "program",
    [
        "open(file, 'wb').write(data)",
        "open(file, 'wb', 0).write(data)",
        "open(file, 'wb+').write(data)",
        "os.write(os.open(file, os.O_WRONLY | os.O_CREAT), data)",
    ],
)
def test_a_slow_disk_takes_its_time(tmp_path: Path, program: str) -> None:
    """Writing takes half a second in each way to write, and no byte is lost."""
    environment = shim_in(tmp_path / "shim", "slow_writes")
    size, file = slow_writes.RATE // 2, tmp_path / "file"
    timed = f"import os, time; file, data = {str(file)!r}, bytes({size}); began = time.monotonic()"
    timed += f"; {program}; print(time.monotonic() - began)"
    assert float(said_with(environment, timed)) >= 0.5
    assert file.stat().st_size == size


def test_text_is_written_as_ever(tmp_path: Path) -> None:
    environment = shim_in(tmp_path / "shim", "slow_writes")
    file = tmp_path / "file"
    said_with(environment, f"print('text', file=open({str(file)!r}, 'w', encoding='utf-8'))")
    assert file.read_text() == "text\n"


def test_imported_by_another_name_they_change_nothing() -> None:
    """The checker and its tests import shims, which must change nothing there."""
    assert slow_reads.__name__ != "sitecustomize"
    assert isinstance(socket.socket.recv, MethodDescriptorType)
    assert isinstance(os.write, BuiltinFunctionType) and isinstance(open, BuiltinFunctionType)


@pytest.mark.needs("linux", "bwrap")
def test_a_shim_works_in_a_sandbox(tmp_path: Path) -> None:
    """A sandbox has to show the shim's folder, and nothing else."""
    environment = shim_in(tmp_path / "shim", "short_recv")
    sandbox = Sandbox(readable=(str(tmp_path / "shim"),))
    program = f"{PAIR}; b.sendall(bytes(5000)); print(len(a.recv(4096)))"
    conditions = Conditions(environment=environment, sandbox=sandbox)
    ran = run_program([sys.executable, "-c", program], conditions)
    assert ran.output == f"{short_recv.MOST}\n"


def test_a_function_is_called(tmp_path: Path) -> None:
    """The function is in a program in the copy's folder; an exception leaves no answer."""
    (tmp_path / "predict.py").write_text("def load_all(clients, size): return clients * size\n")
    shims.copy_of("call_function", tmp_path / "call.py")
    command = [sys.executable, str(tmp_path / "call.py"), "predict", "load_all"]
    answer = tmp_path / "answer"
    ran = subprocess.run([*command, "[2]", str(answer)], capture_output=True, text=True)
    assert ran.returncode == 1 and "TypeError" in ran.stderr and not answer.exists()
    subprocess.run([*command, "[2, 21]", str(answer)], check=True)
    assert answer.read_text() == "42"
