"""Parts of the checks: reading raw answers, drawing a curve in a line of text."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamlab import download
from streamlab.checks.evidence import by_hand, cause_of, log_of, state_of
from streamlab.checks.exchange import ask_over
from streamlab.checks.observe import Trace
from streamlab.errors import DownloadError
from streamlab.files import MiB
from streamlab.http.answer import read_answer
from streamlab.process.server import out_of_memory

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"hello",
        CHUNKED + b"2\r\nhe\r\n3;note=1\r\nllo\r\n0\r\n\r\n",
    ],
)
def test_a_good_answer_is_complete(raw: bytes) -> None:
    """A good answer has its body and its status, and no problem."""
    answer = read_answer(raw, closed=False)
    assert (answer.status, answer.body, answer.problem, answer.ended) == (200, b"hello", "", True)


def test_an_answer_may_end_by_closing() -> None:
    """An answer without a length ends with its connection."""
    raw = b"HTTP/1.0 200 OK\r\n\r\nhello"
    assert not read_answer(raw, closed=False).ended
    assert read_answer(raw, closed=True).ended
    assert read_answer(raw, closed=True).body == b"hello"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "nothing came back"),
        (b"hello", "not with a status line"),
        (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "a line ends in CR LF"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "no empty line"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "no header line"),
        (CHUNKED + b"2\r\nhe\r\n", "before the last chunk"),
        (HEAD + b"hello!", "1 bytes follow"),
        (HEAD + b"hell", "only 4 bytes came"),
        (HEAD.replace(b"5", b"+5") + b"hello", "not a number"),
        (CHUNKED + b"zz\r\n", "no chunk size"),
        (CHUNKED + b"2\r\nhello\r\n", "does not end with CR LF"),
        (CHUNKED + b"0\r\n\r\nmore", "follow the last chunk"),
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"), "both"),
    ],
)
def test_a_bad_answer_is_told(raw: bytes, problem: str) -> None:
    """Each broken rule has a message."""
    assert problem in read_answer(raw, closed=True).problem


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "no_answer"),
        (b"hello", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "cut_short"),
        (b"HTTP/1.1 200 OK\r\nno header", "malformed"),
        (HEAD + b"hell", "cut_short"),
        (HEAD + b"hello!", "too_many"),
        (CHUNKED + b"2\r\nhe\r\n", "cut_short"),
        (CHUNKED + b"zz\r\n", "malformed"),
        (HEAD + b"hello", None),
    ],
)
def test_a_bad_answer_has_its_fault(raw: bytes, fault: str | None) -> None:
    """A valid answer that is cut short is not called malformed."""
    assert read_answer(raw, closed=True).fault == fault


@dataclass
class Seen:
    """A server as a check sees it."""

    text: str = ""
    running: bool = True
    output_limit: int | None = None
    places: tuple[tuple[str, int], ...] = ()
    url: str = "http://127.0.0.1:80"
    exit_status: int | None = None

    def log(self) -> str:
        return self.text

    recent_log = log

    def listens_on(self) -> list[tuple[str, int]]:
        return list(self.places)


@pytest.mark.parametrize(
    ("server", "cause"),
    [
        (Seen(running=False), "died"),
        (Seen(places=(("127.0.0.1", 81),)), "elsewhere"),
        (Seen(running=False, output_limit=MiB), "too_much_output"),
        (Seen(running=False, text="Traceback\nMemoryError\n"), "whole_file"),
    ],
)
def test_a_refused_connection_has_its_cause(server: Any, cause: str) -> None:
    """A server that listens elsewhere has not ended; the log or the limits say why one ended."""
    assert cause_of("refused", server) == cause


def test_what_a_server_did_is_told() -> None:
    """The message has its end, its limit on output, or the port on which it really listens."""
    ended: Any = Seen(running=False, exit_status=3)
    assert state_of(ended) == " It has ended, with status 3."
    flooded: Any = Seen(running=False, output_limit=64 * MiB)
    assert "It has written 64 MiB" in state_of(flooded) and "fsize_mib" in state_of(flooded)
    moved: Any = Seen(places=(("127.0.0.1", 81),))
    assert "listens on 127.0.0.1:81; its first line names http://127.0.0.1:80" in state_of(moved)
    right: Any = Seen(places=(("127.0.0.1", 80),))
    assert state_of(right) == ""


def test_a_log_is_shown_in_a_few_legible_lines() -> None:
    """A log is shown as its last lines, with binary data escaped and shortened."""
    lines = [f"line {number}" for number in range(30)]
    server: Any = Seen("\n".join([*lines, "\0\x1b[2J" * 500, "x" * 500]))
    shown = log_of(server)
    assert "line 29" in shown and "line 15" not in shown
    assert "\\x00\\x1b[2J" in shown and "\x1b" not in shown and "\0" not in shown
    assert all(len(line) < 240 for line in shown.splitlines())
    assert len(next(line for line in shown.splitlines() if "x1b" in line)) < 100
    assert log_of(Seen("listening on http://127.0.0.1:80\n")) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pieces", "pause"),
    [
        ([b"GET / HTTP/1.1\r\n", b"Host: it's\r\n\r\n"], 0.0),
        ([bytes([byte]) for byte in b"GET /\xff HTTP/1.1\r\n\r\n"], 0.001),
        ([b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n"], 0.0),
        ([b"\n" * 50 + b"GET / HTTP/1.1\r\n\r\n"], 0.0),
    ],
)
def test_a_command_by_hand_sends_the_same_bytes(pieces: list[bytes], pause: float) -> None:
    """The command works in a shell as printed, and shows what comes back."""
    wanted, came = b"".join(pieces), b""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = by_hand(pieces, pause).replace("PORT", str(listener.getsockname()[1]))
        assert len(command) < 400
        client = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True)
        connection, _ = listener.accept()
        with connection:
            while len(came) < len(wanted):
                came += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        output, _ = client.communicate(timeout=30)
    assert came == wanted
    assert "HTTP/1.1 200 OK" in output


def test_a_command_by_hand_can_leave() -> None:
    """With `leaves` the client closes at once, without waiting for an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = by_hand([b"GET /"], leaves=True)
        command = command.replace("PORT", str(listener.getsockname()[1]))
        assert subprocess.run(["sh", "-c", command], timeout=30).returncode == 0
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100) == b"GET /"
            assert connection.recv(100) == b""


def test_a_curve_is_one_line() -> None:
    """The curve rises with memory, keeps to its length, and accepts meaningless values."""
    trace = Trace()
    assert "not measured" in trace.line
    trace.sizes = [size * MiB for size in range(100)]
    assert trace.line.startswith("Memory: ▁")
    assert "█  at most 99 MiB" in trace.line
    assert len(trace.line) < 70
    for odd in ([-8 * MiB] * 3, [-60 * MiB, MiB], [0]):
        trace.sizes = odd
        assert "at most" in trace.line


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"200 OK\r\nContent-Length: 5\r\n\r\nhello", "malformed"),
        (HEAD.replace(b"5", b"five") + b"hello", "malformed"),
        (CHUNKED + b"2\r\nhello\r\n0\r\n\r\n", "malformed"),
        (HEAD + b"he", "cut_short"),
        (HEAD.replace(b"200 OK", b"500 No") + b"hello", "wrong_status"),
        (b"", "no_answer"),
    ],
)
def test_a_download_that_fails_has_its_cause(raw: bytes, cause: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(raw)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DownloadError) as error:
            download(f"http://127.0.0.1:{listener.getsockname()[1]}/a")
        thread.join()
    server: Any = Seen()
    assert cause_of(error.value.failure, server) == cause


@pytest.mark.parametrize(
    ("log", "ran_out"),
    [
        ("Traceback (most recent call last):\n  File x\nMemoryError\n", True),
        ("  + Exception Group Traceback\n    | MemoryError\n", True),
        ("cat: big.bin: Cannot allocate memory\n", True),
        ("OSError: [Errno 12] Cannot allocate memory\n", True),
        ("no MemoryError so far, all is well\n", False),
        ("GET /MemoryError.txt\n", False),
    ],
)
def test_a_word_in_a_log_is_no_lack_of_memory(log: str, ran_out: bool) -> None:
    assert out_of_memory(log) == ran_out


@pytest.mark.parametrize(
    ("head", "sent"),
    [(True, b"Content-Length: 9\r\n\r\n"), (False, b"Content-Length: 2\r\n\r\nOK")],
)
def test_a_whole_answer_need_not_be_followed_by_the_end(head: bool, sent: bytes) -> None:
    """A connection that stays open does not make the check wait for `patience` seconds."""
    began = time.monotonic()
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"HTTP/1.1 200 OK\r\n" + sent)
        answer = ask_over(near, [b"a request"], patience=60, lingers=0, head=head)
    assert (answer.status, answer.raw[-len(sent) :]) == (200, sent)
    assert time.monotonic() - began < 30


@pytest.mark.needs("linux", "localedef")
@pytest.mark.parametrize("small", [False, pytest.param(True, marks=pytest.mark.needs("bwrap"))])
def test_dates_can_be_german_without_a_package_of_locales(tmp_path: Path, small: bool) -> None:
    """Small systems have localedef, but neither locales nor characters for it."""
    ask = (
        "import json, pathlib, streamlab.checks.workspace as t; "
        f"print(json.dumps(t.german_dates(pathlib.Path({str(tmp_path)!r}))))"
    )
    data = Path("/usr/share/i18n")
    hide = small and data.exists()
    hidden = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", str(data), "--"] if hide else []
    said = subprocess.check_output([*hidden, sys.executable, "-c", ask], text=True)
    say = "import locale, time; locale.setlocale(locale.LC_TIME, ''); " + (
        "print(time.strftime('%a %b', time.gmtime(7e6)))"
    )
    here = {**os.environ, **json.loads(said)}
    here.pop("LC_ALL", None)
    date = subprocess.check_output([sys.executable, "-c", say], text=True, env=here)
    assert date == "Mo Mrz\n"
