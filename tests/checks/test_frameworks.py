"""Parts of lab 07's checks: a disk that makes readers wait, clients without end."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stand_ins import source_of, stand_in

from streamlab.checks.frameworks import common, report, requests, waiting
from streamlab.checks.frameworks.common import Watcher, without_gzip
from streamlab.checks.frameworks.report import rows_in
from streamlab.checks.frameworks.waiting import HURRY
from streamlab.checks.outcome import CheckFailed
from streamlab.checks.probes.common import CHUNK
from streamlab.checks.shims import slow_reads_in
from streamlab.files import MiB
from streamlab.http.answer import AnswerSoFar
from streamlab.labs.manifest import Lab

Answering = Callable[..., str]

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
    root.mkdir()
    for name in ("slow.mp4", "quick.mp4"):
        (root / name).write_bytes(b"abcdef")
    environment, gate = slow_reads_in(shim, "slow.mp4")
    assert (environment, gate) == ({"PYTHONPATH": str(shim)}, shim / "open")
    return root


def reads(disk: Path, name: str, code: str, patience: float) -> bool:
    """Whether a program that reads that file in this way ends in time."""
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
    """In each way to read, one file is slow until the gate is open, and the other is not."""
    assert reads(disk, "quick.mp4", code, 20)
    assert not reads(disk, "slow.mp4", code, 1)
    (disk.parent / "shim" / "open").touch()
    assert reads(disk, "slow.mp4", code, 20)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (OK + b"5\r\nhello\r\n", "", ""),
        (OK + b"7\r\nhello, \r\n", "", ""),
        (OK + b"3\r\nhel\r\n", "ended", "that was the end"),
        (OK + b"3\r\nhel\r\n0\r\n\r\n", "ended", "3 of 5 bytes have come, and that was the end"),
        (OK + b"5\r\nhallo\r\n", "bytes", "not what it should be"),
        (OK + b"hello\r\n", "malformed", "is no chunk size"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status", "status 404"),
        (b"", "nothing", "nothing came"),
    ],
)
def test_a_watcher_sees_what_comes(
    answering: Answering, answer: bytes, kind: str, words: str
) -> None:
    """The beginning of an answer is enough; the watcher says what is missing or wrong."""
    server: Any = stand_in(answering(answer).removesuffix("/file.bin"))
    with Watcher(server) as watcher:
        found = watcher.sees(b"hello")
    assert (found.kind if found else "") == kind
    assert words in (found.text if found else "")


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", ""),
        (b"5\r\nhello\r\n", "late"),
        (b"6\r\nhello!\r\n0\r\n\r\n", "bytes"),
        (b"3\r\nhel\r\n0\r\n\r\n", "ended"),
    ],
)
def test_a_whole_answer_has_its_end(raw: bytes, kind: str) -> None:
    """A whole answer has no surplus byte."""
    so_far = AnswerSoFar()
    so_far.feed(OK + raw)
    found = common.shortfall(so_far, b"hello", whole=True)
    assert (found.kind if found else "") == kind


def test_pauses_of_who_hurries_are_seen() -> None:
    """The longest pause, between two pieces that come far apart, is seen."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server: Any = stand_in(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with waiting._hurrying(server, "/report.csv") as pauses:
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
    """If the fast client stood still, the check says nothing, and runs again."""
    runs = iter(pauses)
    answers: list[None] = []
    monkeypatch.setattr(waiting, "_hurrying", lambda *_: nullcontext(next(runs)))
    unused: Any = None
    others: Any = SimpleNamespace(are_served=lambda *_: answers.append(None))
    waiting._beside_who_hurries(unused, others, "some story")
    assert len(answers) == asked


def test_gzip_is_taken_off_as_far_as_it_came() -> None:
    """Flushed bytes can be decoded; bytes that are no gzip are no body."""
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(b"one\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    assert without_gzip(packed, "gzip", 9) == b"one\n"
    assert without_gzip(zlib.compressobj(wbits=31).compress(b"one\n"), "gzip", 9) == b""
    assert without_gzip(b"one\n", None, 9) == b"one\n"
    assert b"is none" in without_gzip(b"plain text", "gzip", 9)
    bomb = zlib.compressobj(wbits=31)
    packed = bomb.compress(bytes(2**26)) + bomb.flush()
    assert without_gzip(packed, "gzip", 1000) == bytes(1001)


# Causes


@pytest.mark.parametrize("running", [True, False])
def test_a_server_that_has_ended_is_no_fault_of_the_grader(
    monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    """A server may end in the middle of a check; later clients are refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server: Any = stand_in(f"http://127.0.0.1:{port}", running=running)
    asked: Any = SimpleNamespace()
    server.path_of = lambda _: "/film.mp4"
    for visit in (
        lambda: waiting._hurrying(server, "/report.csv"),
        lambda: waiting._asking(server, asked, 2),
        lambda: common.asked_connection(server, b"GET / HTTP/1.1\r\n\r\n"),
    ):
        with pytest.raises(CheckFailed) as caught, visit():
            pass
        assert caught.value.cause == ("elsewhere" if running else "died")


@pytest.mark.parametrize(
    ("cause", "timed_out", "read", "busy", "named"),
    [
        ("no_answer", True, 200 * MiB, False, "head_reads"),
        ("no_answer", True, None, True, "head_reads"),
        ("no_answer", True, 0, False, "no_answer"),
        ("no_answer", False, 200 * MiB, True, "no_answer"),
        ("wrong_bytes", False, 200 * MiB, True, "wrong_bytes"),
        ("wrong_status", False, 0, False, "wrong_status"),
    ],
)
def test_only_a_server_that_reads_on_after_head_reads(
    monkeypatch: pytest.MonkeyPatch,
    cause: str,
    timed_out: bool,
    read: int | None,
    busy: bool,
    named: str,
) -> None:
    """A wrong answer to the GET after a HEAD has another cause."""
    monkeypatch.setattr(requests, "bytes_read", lambda *_, **__: read)
    monkeypatch.setattr(requests, "at_work", lambda _: busy)
    open_connection: Any = SimpleNamespace(
        timed_out=timed_out, server=SimpleNamespace(supervisor_pid=1)
    )
    with pytest.raises(CheckFailed) as caught, requests._not_reading_on(open_connection, 0):
        raise CheckFailed(cause, "")
    assert caught.value.cause == named


@pytest.mark.parametrize(
    ("answered", "threads", "busy", "cause"),
    [
        ({"/no-such-route": 0.1}, 40, False, "pool_full"),
        ({"/no-such-route": 0.1}, 9, False, "one_at_a_time"),
        ({"/no-such-route": 0.1, "/report.csv?rows=1": 4.0}, 40, False, "one_at_a_time"),
        ({"/no-such-route": 0.1, "/no-such-film.mp4": 0.1}, 40, False, "one_at_a_time"),
        ({"/no-such-route": 3.0, "/no-such-film.mp4": 3.0}, 40, False, "blocks"),
        ({}, 40, True, "never_waits"),
        ({}, 40, False, "blocks"),
    ],
)
def test_who_is_stuck_is_seen(
    monkeypatch: pytest.MonkeyPatch,
    answered: dict[str, float],
    threads: int,
    busy: bool,
    cause: str,
) -> None:
    """It is seen by a request that needs no thread, by other routes, and by the CPU use."""
    monkeypatch.setattr(common, "threads_of", lambda _: threads)
    monkeypatch.setattr(common, "at_work", lambda _: busy)
    monkeypatch.setattr(common, "_answers", lambda _, path: answered.get(path))
    server: Any = SimpleNamespace(supervisor_pid=1, path_of="/{}".format)
    assert common.why_no_answer(server)[0] == cause


def test_a_silent_server_does_not_answer(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any bytes count as an answer, silence does not."""
    monkeypatch.setattr(common, "PROMPT", 0.3)
    said = answering(b"HTTP/1.1 404 Not Found\r\n\r\n").removesuffix("/file.bin")
    assert common._answers(stand_in(said), "/x") is not None
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert common._answers(stand_in(url), "/x") is None


@pytest.mark.parametrize("kind", ["status", "bytes", "ended", "late", "malformed", "nothing"])
def test_each_shortfall_has_a_cause(kind: Any) -> None:
    """Only for late or ended answers does the cause depend on the request."""
    found = common.Shortfall(kind, "")
    expected = {"late": "late_line", "ended": "log_ends"}
    assert found.cause("late_line", "log_ends") == expected.get(kind, found.cause("", ""))


@pytest.mark.parametrize(
    ("value", "rows", "may_be_refused"),
    [
        ("0", 0, False),
        ("0007", 7, False),
        ("9" * 18, int("9" * 18), False),
        ("9" * 19, int("9" * 19), True),
        ("+5", 5, True),
        ("5.0", 5, True),
        ("1e3", 1000, True),
        ("-0", 0, True),
        ("\u0663", 3, True),
        ("\xb2", None, True),
        ("-1", None, True),
        ("", None, True),
        ("inf", None, True),
        ("1.5", None, True),
        ("0x10", None, True),
    ],
)
def test_what_rows_mean(value: str, rows: int | None, may_be_refused: bool) -> None:
    """Digits 0 to 9 are a number; what only int() reads may be refused, the rest must be."""
    assert rows_in(value) == report._Rows(rows, may_be_refused)


def test_every_cause_has_its_words_and_a_hint() -> None:
    """lab.toml or common.toml has each cause that a check can name, and no others."""
    lab = Lab(Path(__file__).parents[2] / "solutions" / "07_frameworks")
    causes = set(lab.manifest["causes"])
    text = source_of("frameworks/*.py")
    named = set(re.findall(r'(?:fault|fail)\(\s*(?:cause or )?"([a-z0-9_]+)"', text))
    assert {name for name in named if not lab.cause_text(name)} == set()
    said = text + source_of("*.py", "probes/*.py")
    assert {name for name in causes if f'"{name}"' not in said} <= {"could_not_run"}
    assert {name for name in causes if not lab.hints("none", name)} == set()
