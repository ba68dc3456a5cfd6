"""Conversations over one connection: what a client stumbles over, and the story of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from stand_ins import stand_in

from streamlab import KiB
from streamlab import talk as room
from streamlab.framing_checks import report_of
from streamlab.talk import Talk, Wanted, as_curl, talking
from streamlab.testing import CheckFailed

FILE = Wanted("/a.txt", b"hello")
GONE = Wanted("/b.txt", None, 404)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BEGINNING = 32 * KiB
"""Bytes that a connection's buffers take in, even when nobody reads."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes is waited for briefly."""
    monkeypatch.setattr(room, "PATIENCE", 0.3)
    monkeypatch.setattr(room, "CLOSING", 0.3)


@contextmanager
def saying(raw: bytes, closes: bool = False) -> Iterator[Talk]:
    """A talk with a server that has said this already, and closes, or says nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []
        said = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            held.append(connection)
            connection.sendall(raw[:BEGINNING])
            if rest := raw[BEGINNING:]:
                said.set()
                connection.sendall(rest)
            if closes:
                connection.shutdown(socket.SHUT_WR)
            said.set()

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = stand_in(url)
        try:
            with talking(server) as talk:
                assert said.wait(20)  # from now on what has come depends on no clock
                yield talk
        finally:
            thread.join()
            for connection in held:
                connection.close()


def test_answers_are_read_by_their_framing_alone() -> None:
    """Length, chunks, no body and an interim answer: each ends where it says."""
    chunks = CHUNKED + b"2\r\nhe\r\n3;note=1\r\nllo\r\n0\r\nX-Done: yes\r\n\r\n"
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n"
    raw = OK + chunks + b"HTTP/1.1 100 Continue\r\n\r\n" + missing + missing + b"no\n" + OK
    with saying(raw, closes=True) as talk:
        talk.expect(FILE)
        talk.expect(FILE)
        talk.expect(GONE, "HEAD")
        assert talk.goes_on(talk.expect(GONE))
        talk.expect(FILE)
        talk.ends("stays_open", "it was asked to close")
        assert talk.answers == 5


def test_a_body_may_end_with_its_connection() -> None:
    """Where nothing else is said."""
    with saying(b"HTTP/1.0 200 OK\r\n\r\nhello", closes=True) as talk:
        assert talk.expect(FILE).status == 200


@pytest.mark.parametrize(
    ("raw", "closes", "cause"),
    [
        (b"", False, "no_answer"),
        (b"", True, "no_answer"),
        (OK, True, "closes"),
        (OK, False, "no_answer"),
        (OK + b"\r\n" + OK, False, "out_of_step"),
        (b"hello\r\n\r\n", False, "malformed"),
        (OK[:-1], False, "no_end"),
        (OK[:-1], True, "cut_short"),
        (OK.replace(b"hello", b"HELLO"), False, "wrong_bytes"),
        (OK.replace(b"200", b"500"), False, "wrong_status"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", False, "no_end"),
        (b"x" * 1_200_000, False, "malformed"),
        (CHUNKED + b"2\r\nhe\r\n0\r\n\r\n3\r\nllo\r\n0\r\n\r\n", True, "empty_chunk"),
        (CHUNKED + b"5\r\nhello\r\n", False, "no_end"),
        (CHUNKED + b"5\r\nhello\r\n", True, "cut_short"),
        (CHUNKED + b"4\r\nhello\r\n0\r\n\r\n", True, "bad_chunks"),
        (CHUNKED + b"five\r\nhello\r\n0\r\n\r\n", True, "bad_chunks"),
        (OK.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: gzip\r\n\r\n"), True, "malformed"),
    ],
)
def test_what_is_wrong_has_a_name(raw: bytes, closes: bool, cause: str) -> None:
    """Two requests: the first or the second answer fails, and the story says how."""
    with saying(raw, closes) as talk, pytest.raises(CheckFailed) as caught:
        talk.ask(FILE)
        talk.ask(FILE)
    assert caught.value.cause == cause
    assert "GET /a.txt HTTP/1.1" in caught.value.evidence
    assert caught.value.curl.startswith("curl -sS -v http://127.0.0.1:PORT/a.txt")


@pytest.mark.parametrize(
    ("raw", "closes", "cause"),
    [
        (b"HT", True, "cut_short"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", True, "cut_short"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", False, "no_end"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n", True, "malformed"),
        (b"HELLO", True, "malformed"),
    ],
)
def test_a_head_that_breaks_off_may_be_right_so_far(raw: bytes, closes: bool, cause: str) -> None:
    """It is cut short then, and no nonsense."""
    with saying(raw, closes) as talk, pytest.raises(CheckFailed) as caught:
        talk.ask(FILE)
    assert caught.value.cause == cause


def test_a_body_that_is_wrong_up_to_its_last_chunk_had_no_empty_chunk() -> None:
    """Only more chunks after the last one tell of an empty chunk."""
    with saying(CHUNKED + b"2\r\nhe\r\n0\r\n\r\n") as talk, pytest.raises(CheckFailed) as caught:
        talk.ask(FILE)
    assert caught.value.cause == "wrong_bytes"


def test_a_lab_has_its_own_names_for_causes() -> None:
    """A 404 for what is there, and memory that was refused while a request was answered."""
    gone = OK.replace(b"200", b"404")
    for names, cause in (({}, "not_found"), (None, "wrong_status"), ({"not_found": "x"}, "x")):
        with saying(gone) as talk, pytest.raises(CheckFailed) as caught:
            talk = Talk(talk.server, talk.sock, names)
            talk.ask(FILE)
        assert caught.value.cause == cause


def test_what_the_log_says_of_memory_is_the_cause() -> None:
    """Only what was written since the conversation began: an older line explains nothing in it."""
    with saying(b"") as talk:
        talk.server.recent_log = lambda: "MemoryError\n"  # type: ignore[method-assign]
        with pytest.raises(CheckFailed) as caught:
            talk.ask(FILE)
    assert caught.value.cause == "whole_file"


def test_output_without_end_is_the_cause() -> None:
    """A server that may write no more has other troubles than this one answer."""
    with saying(b"") as talk:
        talk.server.output_limit = 1 * KiB  # type: ignore[misc]
        with pytest.raises(CheckFailed) as caught:
            talk.ask(FILE)
    assert caught.value.cause == "too_much_output"


def test_what_curl_can_not_send_is_a_line_of_python() -> None:
    """A request in pieces, for one."""
    with saying(b"", closes=True) as talk, pytest.raises(CheckFailed) as caught:
        talk.say(b"GET /", b"a HTTP/1.1\r\n\r\n", pause=0.1, how="in two pieces")
        talk.hear()
    assert caught.value.curl.startswith("python3 -c ")
    assert 'b"GET /"' in caught.value.curl or "b'GET /'" in caught.value.curl.replace(
        "'\"'\"'", "'"
    )


def test_an_answer_stays_in_the_story_of_what_came_after_it() -> None:
    """Whether nothing came then, or a byte too many."""
    with saying(OK, closes=True) as talk, pytest.raises(CheckFailed) as caught:
        talk.say(FILE.request() * 2)
        talk.expect(FILE)
        talk.expect(FILE, cause="lost_request")
    assert caught.value.cause == "lost_request"
    assert "came 200 (Content-Length: 5), 5 bytes of body" in caught.value.evidence
    assert "came nothing\n\nInstead of the next answer" in caught.value.evidence
    with saying(OK + b"more") as talk, pytest.raises(CheckFailed) as caught:
        talk.ask(FILE)
        talk.ends("stays_open", "it was asked to close")
    assert "came 200 (Content-Length: 5), 5 bytes of body" in caught.value.evidence


def test_a_cause_may_be_named_beforehand() -> None:
    """The caller knows better what garbage after HEAD means; a closed connection stays that."""
    for raw, closes, cause in ((b"hello" + OK, False, "head_body"), (b"", True, "closes")):
        with saying(OK + raw, closes) as talk, pytest.raises(CheckFailed) as caught:
            talk.ask(FILE)
            talk.ask(FILE, cause="head_body")
        assert caught.value.cause == cause


def test_who_has_to_close_closes_and_says_no_more() -> None:
    """An open connection and a byte too many are two causes."""
    for raw, cause in ((OK, "stays_open"), (OK + b"!", "out_of_step")):
        with saying(raw) as talk, pytest.raises(CheckFailed) as caught:
            talk.ask(FILE)
            talk.ends("stays_open", "The request asked for that")
        assert caught.value.cause == cause


def test_close_is_for_errors_alone() -> None:
    """Said after a 200 nobody wanted it; said after a 404 it has to be done."""
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n")
    gone = closing.replace(b"200", b"404")
    with saying(gone, closes=True) as talk:
        assert not talk.goes_on(talk.ask(GONE))
    for raw, wanted, cause in ((closing, FILE, "closes"), (gone, GONE, "stays_open")):
        with saying(raw) as talk, pytest.raises(CheckFailed) as caught:
            talk.goes_on(talk.ask(wanted))
        assert caught.value.cause == cause


def test_a_long_story_is_shortened() -> None:
    """The last steps are told, the others counted."""
    with saying(OK * 9) as talk, pytest.raises(CheckFailed) as caught:
        for _ in range(10):
            talk.ask(FILE)
    assert caught.value.evidence.count("GET /a.txt") == 2
    assert "(15 steps, all right)" in caught.value.evidence


def test_everything_is_received_up_to_an_end() -> None:
    """All of it, with the reason why no more comes."""
    with saying(OK, closes=True) as talk:
        talk.peek(b"\r\n\r\n")
        assert talk.everything(1000) == (OK, "the server closed the connection")
    with saying(OK) as talk:
        assert talk.everything(1000, b"hello") == (OK, "")


@pytest.mark.parametrize(
    ("sent", "options"),
    [
        (FILE.request(), "-v http://127.0.0.1:PORT/a.txt"),
        (FILE.request(method="HEAD"), "-v -I http://127.0.0.1:PORT/a.txt"),
        (FILE.request(version="HTTP/1.0"), "-v --http1.0 http://127.0.0.1:PORT/a.txt"),
        (
            FILE.request("Connection: close", method="PUT") + b"hello",
            "-v -X PUT -H 'Connection: close' -d hello http://127.0.0.1:PORT/a.txt",
        ),
        (
            FILE.request("Content-Length: +5") + b"hello",
            "-v -X GET -H 'Content-Length: +5' -d hello http://127.0.0.1:PORT/a.txt",
        ),
        (Wanted("/a?b&c", b"").request(), "-v 'http://127.0.0.1:PORT/a?b&c'"),
        (b"HELLO\r\n\r\n", ""),
    ],
)
def test_a_sentby_hand(sent: bytes, options: str) -> None:
    """The same by curl, where curl can."""
    assert as_curl(sent) == options


def test_a_report_leaves_out_what_is_silent() -> None:
    """Nine lines, of which number 7 is empty."""
    assert (report_of(9).body or b"").splitlines()[-2:] == [b"sensor 6: 36", b"sensor 8: 64"]


def test_a_server_that_is_gone_is_a_failure() -> None:
    """It is the program's, not the grader's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = stand_in(url, running=False, exit_status=1)
    with pytest.raises(CheckFailed) as caught, talking(server):
        pass
    assert caught.value.cause == "died"
    server.running = True
    with pytest.raises(CheckFailed) as caught, talking(server, {}):
        pass
    assert caught.value.cause == "elsewhere"
