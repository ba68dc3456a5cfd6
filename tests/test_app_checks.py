"""What lab 07's checks are made of: a disk that makes readers wait, clients without end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import zlib
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamlab import app_checks
from streamlab.app_checks import CHUNK, HURRY, SLOW_DISK, _plain, _Watcher

OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

READERS = {
    "open": "open(file, 'rb').read(3)",
    "unbuffered": "open(file, 'rb', buffering=0).read(3)",
    "whole": "open(file, 'rb', 0).readall()",
    "pathlib": "pathlib.Path(file).open('rb').readinto(bytearray(3))",
    "os": "os.read(os.open(file, os.O_RDONLY), 3)",
    "pread": "os.pread(os.open(file, os.O_RDONLY), 3, 0)",
}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder with two files, and a shim beside it that makes the reading of one slow."""
    root, shim = tmp_path / "root", tmp_path / "shim"
    for folder in (root, shim):
        folder.mkdir()
    for name in ("slow.mp4", "quick.mp4"):
        (root / name).write_bytes(b"abcdef")
    gate = str(shim / "open")
    (shim / "sitecustomize.py").write_text(SLOW_DISK.format(name="slow.mp4", gate=gate))
    return root


def reads(disk: Path, name: str, code: str, patience: float) -> bool:
    """Whether a program that reads that file so comes to its end in time."""
    environment = {"PYTHONPATH": str(disk.parent / "shim"), "STREAMLAB_ROOT": str(disk)}
    program = f"import os, pathlib\nfile = {str(disk / name)!r}\n{code}"
    command = [sys.executable, "-c", program]
    try:
        subprocess.run(command, env={**os.environ, **environment}, timeout=patience, check=True)
    except subprocess.TimeoutExpired:
        return False
    return True


@pytest.mark.needs("linux")
@pytest.mark.parametrize("code", READERS.values(), ids=READERS)
def test_a_slow_disk_makes_readers_wait(disk: Path, code: str) -> None:
    """However one reads: one file is slow until the gate is open, the other is not."""
    assert reads(disk, "quick.mp4", code, 20)
    assert not reads(disk, "slow.mp4", code, 1)
    (disk.parent / "shim" / "open").touch()
    assert reads(disk, "slow.mp4", code, 20)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (OK + b"5\r\nhello\r\n", ""),
        (OK + b"7\r\nhello, \r\n", ""),
        (OK + b"3\r\nhel\r\n", "that was the end"),
        (OK + b"3\r\nhel\r\n0\r\n\r\n", "3 of 5 bytes have come, and that was the end"),
        (OK + b"5\r\nhallo\r\n", "not what it should be"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
        (b"", "0 of 5 bytes"),
    ],
)
def test_a_watcher_sees_what_comes(answering, answer: bytes, problem: str) -> None:
    """The beginning of an answer is enough; what is missing or wrong is told."""
    server: Any = SimpleNamespace(url=answering(answer).removesuffix("/file.bin"))
    with _Watcher(server) as watcher:
        found = watcher.sees(b"hello")
    assert problem in found
    assert bool(found) == bool(problem)


def test_pauses_of_who_hurries_are_seen() -> None:
    """Also the longest of them, between two pieces that come far apart."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server: Any = SimpleNamespace(url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with app_checks._hurrying(server, "/report.csv") as pauses:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(CHUNK)  # unread, it would turn the close into a reset
                connection.sendall(b"one")
                time.sleep(10 * HURRY)
                connection.sendall(b"two")
    assert max(pauses) > 2 * HURRY


@pytest.mark.parametrize(
    ("pauses", "asked"),
    [([[0.01]], 1), ([[0.01, 0.5], [0.01]], 2), ([[], [0.01]], 2), ([[0.5]] * 9, 5)],
    ids=["hurried", "stood still", "never began", "always stood still"],
)
def test_who_did_not_hurry_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, pauses: list[list[float]], asked: int
) -> None:
    """While a reader stands still, a server that never waits of itself has to: nothing is seen."""
    runs, answers = iter(pauses), []
    monkeypatch.setattr(app_checks, "_hurrying", lambda *_: nullcontext(next(runs)))
    monkeypatch.setattr(app_checks, "_expect_prompt", lambda *_: answers.append(None))
    unused: Any = None
    app_checks._beside_who_hurries(unused, unused, "some story")
    assert len(answers) == asked


def test_gzip_is_taken_off_as_far_as_it_came() -> None:
    """What a flush has sent can be read; what is no gzip is no body."""
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b"one\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    assert _plain(packed, "gzip") == b"one\n"
    assert _plain(zlib.compressobj(wbits=31).compress(b"one\n"), "gzip") == b""
    assert _plain(b"one\n", None) == b"one\n"
    assert b"is none" in _plain(b"plain text", "gzip")
