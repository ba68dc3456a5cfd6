"""Parts of lab 06's checks: clients that wait, descriptors for them, servers that never rest."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random

import pytest
from stand_ins import stand_in

from streamlab.checks import observe
from streamlab.checks.outcome import CouldNotRun
from streamlab.checks.probes import files
from streamlab.checks.under_load import common, descriptors
from streamlab.checks.under_load.common import WaitingClients, make_room
from streamlab.files import KiB, MiB, SampleFile, random_file
from streamlab.labs.manifest import Lab
from streamlab.labs.runner import RunOptions, run_checks
from streamlab.process import proc
from streamlab.process.program import Cup
from streamlab.process.server import Server

Answering = Callable[..., str]

ROOT = Path(__file__).parents[2]
LAB = Lab(ROOT / "solutions" / "06_under_load")
SOLUTION = LAB.folder / "server.py"
WRONG = ROOT / "tests" / "corpora" / LAB.name / "wrong"
NO_SENDFILE = "import os\ndel os.sendfile\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"

pytestmark = pytest.mark.needs("linux")


@pytest.fixture
def file(tmp_path: Path) -> SampleFile:
    """A file larger than what a client takes before it waits."""
    return random_file(100 * KiB, folder=tmp_path)


def test_room_is_made_or_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit is raised; a hard limit that is too low has a message of its own."""
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
def test_a_guest_tells_what_is_wrong(
    answering: Answering, file: SampleFile, answer: bytes, problem: str
) -> None:
    """Each way to be served badly has a message."""
    server = stand_in(answering(answer).removesuffix("/file.bin"))
    with WaitingClients(server, file) as waiting:
        assert problem in str(waiting.connect(1))


def test_a_guest_waits_and_reads_on(answering: Answering, file: SampleFile) -> None:
    """A client has its first bytes, and later all of them, chunked or not."""
    body = file.path.read_bytes()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    for answer in (OK % len(body) + body, chunked % (len(body), body)):
        server = stand_in(answering(answer).removesuffix("/file.bin"))
        with WaitingClients(server, file) as waiting:
            assert waiting.connect(1) is None
            assert waiting.here[0].reader.size < len(body)
            assert waiting.read_on(file.size) is None


def test_nobody_waits_for_the_silent(closed_port: int, file: SampleFile) -> None:
    """Clients give up on a server that is silent, and on one that does not exist."""
    server = stand_in(f"http://127.0.0.1:{closed_port}")
    with WaitingClients(server, file) as waiting:
        assert "no server listens" in str(waiting.connect(1))
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        server = stand_in(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with WaitingClients(server, file) as waiting:
            assert "time was up after 0.5 s" in str(waiting.connect(3, within=0.5))


def test_one_who_waits_for_long_is_seen_among_others(
    monkeypatch: pytest.MonkeyPatch, file: SampleFile
) -> None:
    """A client that gets nothing is noticed while others get their bytes."""
    monkeypatch.setattr(common, "SILENCE", 1.0)
    body = file.path.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:

        def serve() -> None:
            stack.enter_context(listener.accept()[0])  # and nothing for that client
            other = stack.enter_context(listener.accept()[0])
            with suppress(OSError):
                other.sendall(OK % len(body))
                for byte in body:
                    other.sendall(bytes([byte]))
                    time.sleep(0.05)

        threading.Thread(target=serve, daemon=True).start()
        server = stand_in(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with WaitingClients(server, file) as waiting:
            problem = waiting.connect(2, file.size)
        assert problem is not None and problem.failure == "overdue"
        assert "for 1 s it got nothing" in str(problem)


def test_guests_take_files_in_turns(answering: Answering, file: SampleFile, tmp_path: Path) -> None:
    """Of two files, every second client gets the other one."""
    other = random_file(50 * KiB, folder=tmp_path)
    server = stand_in(answering(OK % 0).removesuffix("/file.bin"))
    with WaitingClients(server, file, other) as waiting:
        waiting.send_partial(3)
        assert [client.file for client in waiting.here] == [file, other, file]


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
        assert (descriptors._awake(server, 1) == "") == rests


def test_a_server_is_full_when_all_of_its_own_descriptors_are_used(tmp_path: Path) -> None:
    """What the supervisor has open does not count, however much that is."""
    script = tmp_path / "server.py"
    opens = "import os, time\nkept = [os.open(os.devnull, os.O_RDONLY) for _ in range(40)]\n"
    more = "time.sleep(0.5)\nkept += [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]\n"
    tells = 'print("listening on http://127.0.0.1:1", flush=True)\n'
    script.write_text(f"{opens}{tells}{more}time.sleep(60)\n")
    with Server(script, tmp_path, probe=False) as server:
        own = len(proc.open_files(server.pid))
        assert 40 <= own < 64
        assert own + 10 == descriptors._until_full(server)


@pytest.mark.parametrize("sendfile", [True, False])
def test_the_solution_works_with_and_without_sendfile(sendfile: bool, tmp_path: Path) -> None:
    """Without sendfile, asyncio reads and writes small chunks, in turn."""
    root, shim = tmp_path / "root", tmp_path / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text("" if sendfile else NO_SENDFILE)
    environment = {"PYTHONPATH": str(shim)}
    rng = Random(6)
    with Server(SOLUTION, root, cup=Cup(nofile=4096), environment=environment) as server:
        files.bytes_arrive(server, rng)
        common.alone(server, random_file(2 * MiB, "slow.bin", root))
        before = observe.held_by(server)
        file = random_file(4 * MiB, "waited-for.bin", root)
        with WaitingClients(server, file) as waiting:
            assert waiting.connect(100) is None
            assert observe.held_by(server) - before < 100 * 128 * KiB


@pytest.mark.parametrize(
    ("answer", "check", "cause"),
    [
        ("more/server__text_mode", "drop", "wrong_bytes"),
        ("more/server__text_mode", "full", "wrong_bytes"),
        ("more/server__text_mode", "stall", "wrong_bytes"),
        ("server__full_socket_is_the_end", "drop", "cut_short"),
        ("server__full_socket_is_the_end", "full", "cut_short"),
        ("more/server__spins_at_a_full_socket", "full", "busy_loop"),
        ("server__thread_each", "live", "thread_each"),
        ("server__shared_handle", "drop", "drops_others"),
        ("more/server__task_group", "drop", "dies_on_drop"),
    ],
)
def test_a_check_names_the_cause_that_was_seen(answer: str, check: str, cause: str) -> None:
    """A mistake that a client alone sees too is the cause; the check's own question stays open."""
    [result] = run_checks(
        LAB, {"server.py": WRONG / f"{answer}.py"}, only=[check], options=RunOptions(seconds=300)
    )
    assert (result.outcome, result.cause) == ("failed", cause), result.evidence


def test_a_server_that_does_not_recover_is_told_in_one_time() -> None:
    """The message says how late the last client came and how long it waited, and no other time."""
    file = WRONG / "more" / "server__accept_gives_up.py"
    [result] = run_checks(LAB, {"server.py": file}, only=["full"], options=RunOptions(seconds=300))
    assert (result.outcome, result.cause) == ("failed", "stuck_when_full"), result.evidence
    assert "A new client, which came 6 s later, got no file: " in result.evidence
    assert "after 1 s" not in result.evidence


def test_what_is_kept_for_the_next_clients_is_no_leak(tmp_path: Path) -> None:
    """Descriptors that a server gets with its first hundred clients, and keeps, are no leak."""
    program = tmp_path / "server.py"
    first = "def open_file(target: str, root: Path) -> BinaryIO:\n"
    keeps = "    OPENED.append(target)\n    if len(OPENED) == 100:\n"
    keeps += "        OPENED.extend(open(os.devnull) for _ in range(60))\n"
    text = SOLUTION.read_text().replace(first, f"OPENED = []\n\n\n{first}{keeps}", 1)
    program.write_text(text)
    [result] = run_checks(
        LAB, {"server.py": program}, only=["drop"], options=RunOptions(seconds=300)
    )
    assert result.outcome == "passed", result.evidence
