"""What the checks are made of: taking raw answers apart, drawing a curve in a line of text."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace

import pytest

from streamlab import download
from streamlab.checks import Trace, cause_of, read_answer
from streamlab.errors import DownloadError
from streamlab.files import MiB

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
    """Its body, its status, and nothing to complain about."""
    answer = read_answer(raw, closed=False)
    assert (answer.status, answer.body, answer.problem, answer.ended) == (200, b"hello", "", True)


def test_an_answer_may_end_by_closing() -> None:
    """Without a length its end is the connection's."""
    raw = b"HTTP/1.0 200 OK\r\n\r\nhello"
    assert not read_answer(raw, closed=False).ended
    assert read_answer(raw, closed=True).ended
    assert read_answer(raw, closed=True).body == b"hello"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "nothing came back"),
        (b"hello", "not with a status line"),
        (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "not with a status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "no empty line"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "no header line"),
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
    """Each way to break the letter has its words."""
    assert problem in read_answer(raw, closed=True).problem


def test_a_curve_is_one_line() -> None:
    """It rises with memory, is never longer than it should be, and bears what makes no sense."""
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
    server = SimpleNamespace(log=lambda: "")
    assert cause_of(str(error.value), server) == cause  # type: ignore[arg-type]
