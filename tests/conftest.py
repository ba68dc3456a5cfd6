"""What the tests share: tiny servers, real or scripted, and ways to see whether processes live."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import psutil
import pytest

from streamlab import Measurement, Server
from streamlab.files import MiB, SampleFile, random_file
from streamlab.lesson.experiment import Filling
from streamlab.process.patience import Deadline

PATIENCE = 20.0
"""Seconds that a step may take on a busy machine before a test fails."""

SERVERS = Path(__file__).parent / "servers"

Answer = Callable[..., str]
Launch = Callable[..., Server]


def _is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _becomes(true: Callable[[], bool]) -> bool:
    deadline = Deadline(PATIENCE)
    while not true():
        if deadline.passed:
            return true()
        time.sleep(0.02)
    return True


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark of answers that depend on the kernel's buffers."""
    config.addinivalue_line("markers", "buffers: depends on what the kernel takes of a body")


LONGEST = [
    *("course/test_jupyterlab.py", "labs/test_labs.py", "grading/test_hostile.py"),
    *("course/test_without_guesses.py", "tools/test_soak.py", "labs/test_watch.py"),
    *("course/test_nbval.py", "checks/test_under_load.py", "grading/test_run.py"),
]
"""The files of tests that take the longest: they begin first, and the others fill the rest."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first; the order within a file stays."""
    turns = {SERVERS.parent / name: turn for turn, name in enumerate(LONGEST)}
    items.sort(key=lambda item: turns.get(item.path, len(turns)))


@pytest.fixture
def alive() -> Callable[[int], bool]:
    """Whether a process runs; a zombie does not."""
    return _is_alive


@pytest.fixture
def becomes() -> Callable[[Callable[[], bool]], bool]:
    """Wait until something is true; False if it never is."""
    return _becomes


@pytest.fixture
def servers() -> Path:
    """The folder of the tests' own servers."""
    return SERVERS


@pytest.fixture(scope="module", autouse=True)
def no_server_is_left() -> Iterator[None]:
    """Every server that a file of tests started has ended when its last test has."""
    yield
    assert _becomes(lambda: not running_servers()), f"still running: {running_servers()}"


def running_servers() -> list[str]:
    """The command lines of the supervisors that this process started and that still run."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            command = " ".join(child.cmdline())
            if "streamlab.process.supervise" in command:
                found.append(command)
    return found


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Make a `Server` of one of `tests/servers`, not started yet; it is stopped afterwards."""
    made: list[Server] = []

    def make(name: str, root: Path = tmp_path, **options: Any) -> Server:
        server = Server(SERVERS / f"{name}.py", root, **{"ready": PATIENCE, **options})
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def answering() -> Iterator[Answer]:
    """Answer the next request on a new port with given bytes, then close; returns the URL."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def answer(*pieces: bytes, reset: bool = False) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(PATIENCE)
        listeners.append(listener)

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(PATIENCE)
                requests.append(connection.recv(65536))
                for piece in pieces:
                    connection.sendall(piece)

        thread = threading.Thread(target=serve, daemon=True)
        threads.append(thread)
        thread.start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/file.bin"

    requests: list[bytes] = []
    answer.requests = requests  # type: ignore[attr-defined]
    yield answer
    for listener in listeners:
        listener.close()
    for thread in threads:
        thread.join(PATIENCE)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine on which nothing listens.

    It is bound all the time, so that no other program gets it. On Linux a program that asks for it
    by its number can still listen on it; elsewhere it is released.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = int(holder.getsockname()[1])
        if sys.platform != "linux":
            holder.close()
        yield port


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> SampleFile:
    """A file of 40 MiB, alone in a folder; large enough that a block of it is always mapped."""
    return random_file(40 * MiB, folder=tmp_path_factory.mktemp("large"))


@pytest.fixture
def measured() -> Measurement:
    """A measurement as it might be; what is not said here is None."""
    known: dict[str, Any] = {
        "server": "demo",
        "path": "/a.bin",
        "clients": 4,
        "pace": "slow",
        "baseline": 10 * MiB,
        "growth": 4 * MiB,
        "peak": 5 * MiB,
        "resident": 6 * MiB,
        "first_bytes": (0.4, 0.1, 0.3, 0.2),
        "seconds": 2.0,
        "received": 8 * MiB,
        "headers": {},
        "times": (0.5, 0.6, 0.7),
        "timeline": (0, 4 * MiB, -1),
    }
    return Measurement(**{**{each.name: None for each in fields(Measurement)}, **known})


@pytest.fixture
def filling() -> Filling:
    """A filling that failed at its third client; what is not said here is None."""
    known: dict[str, Any] = {
        "clients": 9,
        "served": 2,
        "completed": 0,
        "error": "the server broke the connection",
        "baseline": 10 * MiB,
        "steps": (44 * MiB, 88 * MiB),
        "exit_status": 1,
        "log": "",
    }
    return Filling(**{**{each.name: None for each in fields(Filling)}, **known})
