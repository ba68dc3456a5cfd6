"""Conversations over one connection: the mistakes that they find, and their evidence."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from stand_ins import stand_in

from streamlab import KiB
from streamlab.checks import connection
from streamlab.checks.connection import Connection, Wanted, as_curl, open_connection
from streamlab.checks.framing.common import report_of
from streamlab.checks.outcome import CheckFailed

FILE = Wanted("/a.txt", b"hello")
GONE = Wanted("/b.txt", None, 404)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BEGINNING = 32 * KiB
"""More bytes than the buffers of a connection take that is not read."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for missing bytes are short here."""
    monkeypatch.setattr(connection, "ANSWER", 0.3)
    monkeypatch.setattr(connection, "CLOSING", 0.3)


@contextmanager
def saying(raw: bytes, closes: bool = False) -> Iterator[Connection]:
    """A conversation with a server that has sent `raw`, and closes, or sends nothing more."""
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
            with open_connection(server) as connection:
                assert said.wait(20)  # from now on no result depends on the clock
                yield connection
        finally:
            thread.join()
            for each in held:
                each.close()


def test_answers_are_read_by_their_framing_alone() -> None:
    """With a length, in chunks, without a body, after an interim answer: each ends in its place."""
    chunks = CHUNKED + b"2\r\nhe\r\n3;note=1\r\nllo\r\n0\r\nX-Done: yes\r\n\r\n"
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n"
    raw = OK + chunks + b"HTTP/1.1 100 Continue\r\n\r\n" + missing + missing + b"no\n" + OK
    with saying(raw, closes=True) as connection:
        connection.expect(FILE)
        connection.expect(FILE)
        connection.expect(GONE, "HEAD")
        assert connection.goes_on(connection.expect(GONE))
        connection.expect(FILE)
        connection.ends("stays_open", "it was asked to close")
        assert connection.answers == 5


def test_a_body_may_end_with_its_connection() -> None:
    """An answer without a length ends with its connection."""
    with saying(b"HTTP/1.0 200 OK\r\n\r\nhello", closes=True) as connection:
        assert connection.expect(FILE).status == 200


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
    """The first or the second of two answers fails; the evidence shows how."""
    with saying(raw, closes) as connection, pytest.raises(CheckFailed) as caught:
        connection.ask(FILE)
        connection.ask(FILE)
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
    """Such a head is cut short, and not malformed."""
    with saying(raw, closes) as connection, pytest.raises(CheckFailed) as caught:
        connection.ask(FILE)
    assert caught.value.cause == cause


def test_a_body_that_is_wrong_up_to_its_last_chunk_had_no_empty_chunk() -> None:
    """The cause `empty chunk` needs more chunks after the last one."""
    with (
        saying(CHUNKED + b"2\r\nhe\r\n0\r\n\r\n") as connection,
        pytest.raises(CheckFailed) as caught,
    ):
        connection.ask(FILE)
    assert caught.value.cause == "wrong_bytes"


def test_a_lab_has_its_own_names_for_causes() -> None:
    """A lab's names replace the usual ones: for a wrong 404, and for memory that ran out."""
    gone = OK.replace(b"200", b"404")
    for names, cause in (({}, "not_found"), (None, "wrong_status"), ({"not_found": "x"}, "x")):
        with saying(gone) as connection, pytest.raises(CheckFailed) as caught:
            connection = Connection(connection.server, connection.sock, names)
            connection.ask(FILE)
        assert caught.value.cause == cause


def test_what_the_log_says_of_memory_is_the_cause() -> None:
    """Log lines from before the conversation are no cause."""
    with saying(b"") as connection:
        connection.server.recent_log = lambda: "MemoryError\n"  # type: ignore[method-assign]
        with pytest.raises(CheckFailed) as caught:
            connection.ask(FILE)
    assert caught.value.cause == "whole_file"


def test_output_without_end_is_the_cause() -> None:
    """A server that has reached its limit of output has that as its cause."""
    with saying(b"") as connection:
        connection.server.output_limit = 1 * KiB  # type: ignore[misc]
        with pytest.raises(CheckFailed) as caught:
            connection.ask(FILE)
    assert caught.value.cause == "too_much_output"


def test_what_curl_can_not_send_is_a_line_of_python() -> None:
    """A request in pieces, for example."""
    with saying(b"", closes=True) as connection, pytest.raises(CheckFailed) as caught:
        connection.send(b"GET /", b"a HTTP/1.1\r\n\r\n", pause=0.1, how="in two pieces")
        connection.receive()
    assert caught.value.curl.startswith("python3 -c ")
    assert 'b"GET /"' in caught.value.curl or "b'GET /'" in caught.value.curl.replace(
        "'\"'\"'", "'"
    )


def test_an_answer_stays_in_the_story_of_what_came_after_it() -> None:
    """If nothing comes after it, or a byte too many, the evidence shows the answer before."""
    with saying(OK, closes=True) as connection, pytest.raises(CheckFailed) as caught:
        connection.send(FILE.request() * 2)
        connection.expect(FILE)
        connection.expect(FILE, cause="lost_request")
    assert caught.value.cause == "lost_request"
    assert "came 200 (Content-Length: 5), 5 bytes of body" in caught.value.evidence
    assert "came nothing\n\nInstead of the next answer" in caught.value.evidence
    with saying(OK + b"more") as connection, pytest.raises(CheckFailed) as caught:
        connection.ask(FILE)
        connection.ends("stays_open", "it was asked to close")
    assert "came 200 (Content-Length: 5), 5 bytes of body" in caught.value.evidence


def test_a_cause_may_be_named_beforehand() -> None:
    """The caller's cause counts for garbage after HEAD; a closed connection keeps its own."""
    for raw, closes, cause in ((b"hello" + OK, False, "head_body"), (b"", True, "closes")):
        with saying(OK + raw, closes) as connection, pytest.raises(CheckFailed) as caught:
            connection.ask(FILE)
            connection.ask(FILE, cause="head_body")
        assert caught.value.cause == cause


def test_who_has_to_close_closes_and_says_no_more() -> None:
    """An open connection and a surplus byte are two causes."""
    for raw, cause in ((OK, "stays_open"), (OK + b"!", "out_of_step")):
        with saying(raw) as connection, pytest.raises(CheckFailed) as caught:
            connection.ask(FILE)
            connection.ends("stays_open", "The request asked for that")
        assert caught.value.cause == cause


def test_close_is_for_errors_alone() -> None:
    """After a 200, `Connection: close` is a mistake; after a 404 the server must then close."""
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n")
    gone = closing.replace(b"200", b"404")
    with saying(gone, closes=True) as connection:
        assert not connection.goes_on(connection.ask(GONE))
    for raw, wanted, cause in ((closing, FILE, "closes"), (gone, GONE, "stays_open")):
        with saying(raw) as connection, pytest.raises(CheckFailed) as caught:
            connection.goes_on(connection.ask(wanted))
        assert caught.value.cause == cause


def test_a_long_story_is_shortened() -> None:
    """The last steps are shown in full, the others are counted."""
    with saying(OK * 9) as connection, pytest.raises(CheckFailed) as caught:
        for _ in range(10):
            connection.ask(FILE)
    assert caught.value.evidence.count("GET /a.txt") == 2
    assert "(15 steps, all of them right)" in caught.value.evidence


def test_everything_is_received_up_to_an_end() -> None:
    """`everything` returns all bytes, and why no more come."""
    with saying(OK, closes=True) as connection:
        connection.peek()
        assert connection.everything(1000) == (OK, "closed")
    with saying(OK) as connection:
        assert connection.everything(1000, b"hello") == (OK, None)


@pytest.mark.parametrize(
    ("sent", "options"),
    [
        (FILE.request(), "-v http://127.0.0.1:PORT/a.txt"),
        (FILE.request(method="HEAD"), ""),  # curl would not show a body that comes after the head
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
    """A request becomes options of curl, if curl can send it."""
    assert as_curl(sent) == options


def test_a_report_leaves_out_what_is_silent() -> None:
    """Nine lines, of which number 7 is empty."""
    assert (report_of(9).body or b"").splitlines()[-2:] == [b"sensor 6: 36", b"sensor 8: 64"]


def test_a_server_that_is_gone_is_a_failure() -> None:
    """The failure is the program's, and not the grader's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = stand_in(url, running=False, exit_status=1)
    with pytest.raises(CheckFailed) as caught, open_connection(server):
        pass
    assert caught.value.cause == "died"
    server.running = True
    with pytest.raises(CheckFailed) as caught, open_connection(server, {}):
        pass
    assert caught.value.cause == "elsewhere"
