"""What the checks of lab 06 are made of: clients who wait, room for them, who never rests."""

from __future__ import annotations

import resource
import socket
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest

from streamlab import checks, load_checks
from streamlab.files import KiB, MiB, SampleFile, random_file
from streamlab.load_checks import Guests, make_room
from streamlab.server import Cup, Server
from streamlab.testing import CouldNotRun

SOLUTION = Path(__file__).parent.parent / "solutions" / "06_under_load" / "server.py"
NO_SENDFILE = "import os\ndel os.sendfile\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"

pytestmark = pytest.mark.needs("linux")


@pytest.fixture
def file(tmp_path: Path) -> SampleFile:
    """A file larger than what a client takes before it waits."""
    return random_file(100 * KiB, folder=tmp_path)


def test_room_is_made_or_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit is raised; a hard limit that is too low is told as what it is."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    make_room(1000)
    assert asked == [(2200, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    with pytest.raises(CouldNotRun, match=r"1024 descriptors.*needs 2200"):
        make_room(1000)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    make_room(100)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "before any answer"),
        (b"hello\r\n\r\n", "the right form: the answer begins with 'hello'"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "status 503"),
        (OK % (100 * KiB) + b"x" * 20 * KiB, "not as in the file"),
        (OK % (100 * KiB), "cut short: 0 B of 100 KiB"),
    ],
)
def test_a_guest_tells_what_is_wrong(answering, file: SampleFile, answer, problem: str) -> None:
    """Each way to be served badly has its words."""
    server = SimpleNamespace(url=answering(answer).removesuffix("/file.bin"))
    with Guests(server, file) as guests:
        assert problem.replace("'hello'", "b'hello'") in guests.come(1)


def test_a_guest_waits_and_reads_on(answering, file: SampleFile) -> None:
    """It has its first bytes, and later all; chunked or not."""
    body = file.path.read_bytes()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    for answer in (OK % len(body) + body, chunked % (len(body), body)):
        server = SimpleNamespace(url=answering(answer).removesuffix("/file.bin"))
        with Guests(server, file) as guests:
            assert guests.come(1) == ""
            assert len(guests.here[0].raw) < len(answer)
            assert guests.read_on(file.size) == ""


def test_nobody_waits_for_the_silent(closed_port: int, file: SampleFile) -> None:
    """A server that says nothing is given up, and so is one that is not there."""
    server = SimpleNamespace(url=f"http://127.0.0.1:{closed_port}")
    with Guests(server, file) as guests:
        assert "no server listens" in guests.come(1)
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        server = SimpleNamespace(url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with Guests(server, file) as guests:
            assert "not finished" in guests.come(3, patience=0.5)


@pytest.mark.parametrize(
    ("program", "rests"),
    [
        ("while True: pass", False),
        ("import time\nwhile True: sum(range(10**6)); time.sleep(0.2)", True),
        ("import time\ntime.sleep(60)", True),
    ],
)
def test_who_never_rests_is_seen(program: str, rests: bool, tmp_path: Path) -> None:
    """A process that spins is seen; one that works now and then is not."""
    script = tmp_path / "server.py"
    script.write_text(f'print("listening on http://127.0.0.1:1", flush=True)\n{program}\n')
    with Server(script, tmp_path, probe=False) as server:
        assert (load_checks._awake(server, 1) == "") == rests


@pytest.mark.parametrize("sendfile", [True, False])
def test_the_solution_works_with_and_without_sendfile(sendfile: bool, tmp_path: Path) -> None:
    """Where the system has no sendfile, asyncio reads and writes chunks: small ones, in turn."""
    root, shim = tmp_path / "root", tmp_path / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text("" if sendfile else NO_SENDFILE)
    environment = {"PYTHONPATH": str(shim)}
    draw = Random(6)
    with Server(SOLUTION, root, cup=Cup(nofile=4096), environment=environment) as server:
        checks.bytes_arrive(server, draw)
        load_checks.slow_ones_get_all(server, draw, pause=0.2)
        before = checks.held_by(server)
        file = random_file(4 * MiB, "waited-for.bin", root)
        with Guests(server, file) as guests:
            assert guests.come(100) == ""
            assert checks.held_by(server) - before < 100 * 128 * KiB
