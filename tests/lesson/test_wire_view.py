"""A conversation's bytes are shown as a client reads them, and what is out of step says so."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from streamlab import wire
from streamlab.lesson.wire_view import read

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"


def meanings(data: bytes, asked: Sequence[str] = ()) -> list[str]:
    """What a client takes the lines for, without header fields."""
    return [line.meaning for line in read(data, asked) if line.meaning]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (LENGTH, ["status line", "the head ends", "body: 5 bytes"]),
        (
            CHUNKED,
            [
                "status line",
                "the head ends",
                "a chunk of 5 bytes",
                "body: 5 bytes, and the end of the line",
                "a chunk of 0 bytes: the last one",
                "the answer ends",
            ],
        ),
        (CLOSE, ["status line", "the head ends", "body: 5 bytes, until the connection closed"]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ["status line", "the head ends"]),
        (
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            ["status line", "the answer ends: no body"],
        ),
        (
            b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\nhi",
            ["request line", "the head ends", "body: 2 bytes"],
        ),
        (b"GET / HTTP/1.1\r\n\r\n", ["request line", "the head ends"]),
    ],
)
def test_a_message_is_read_by_its_framing(data: bytes, expected: list[str]) -> None:
    assert meanings(data) == expected


def test_nothing_is_lost_and_messages_follow_each_other() -> None:
    lines = read(LENGTH + CHUNKED + CLOSE)
    assert b"".join(line.data for line in lines) == LENGTH + CHUNKED + CLOSE
    assert [line.data for line in lines if line.first] == [b"HTTP/1.1 200 OK\r\n"] * 3
    assert not [line for line in lines if line.role == "fault"]


def test_chunked_coding_goes_before_a_length() -> None:
    both = CHUNKED.replace(b"\r\n\r\n5", b"\r\nContent-Length: 3\r\n\r\n5")
    assert meanings(both)[-1] == "the answer ends"


def test_an_answer_to_head_has_no_body() -> None:
    head, _, body = LENGTH.rpartition(b"\r\n\r\n")
    assert meanings(head + b"\r\n\r\n" + LENGTH, ["HEAD"])[-1] == "body: 5 bytes"
    assert meanings(LENGTH, ["HEAD"])[-1] == "no status line: out of step"
    assert read(LENGTH, ["HEAD"])[-1].data == body


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (LENGTH[:-1], "4 bytes of 5: cut short"),
        (LENGTH + b"more", "no status line: out of step"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "no empty line: the head does not end"),
        (CHUNKED.removesuffix(b"0\r\n\r\n"), "no last chunk: cut short"),
        (CHUNKED.removesuffix(b"llo\r\n0\r\n\r\n"), "2 bytes: cut short"),
        (CHUNKED.removesuffix(b"\r\n"), "no empty line: cut short"),
        (CHUNKED.replace(b"hello", b"hello!"), "longer than its size says"),
        (CHUNKED.replace(b"5\r\n", b"five\r\n"), "no size of a chunk: out of step"),
        (CHUNKED.replace(b"5\r\n", b"5 \r\n"), "no size of a chunk: out of step"),
        (CHUNKED.removesuffix(b"\r\n") + b"no trailer\r\n\r\n", "no trailer: out of step"),
        (LENGTH.replace(b": ", b" : "), "'Content-Length : 5' is no header line: out of step"),
        (
            LENGTH.replace(b"\r\n\r\n", b"\n\r\n"),
            "a LF without a CR is in 'Content-Length: 5\\n': a line ends in CR LF: out of step",
        ),
    ],
)
def test_what_is_out_of_step_says_so(data: bytes, fault: str) -> None:
    last = read(data)[-1]
    assert (last.role, last.meaning) == ("fault", fault)
    assert b"".join(line.data for line in read(data)) == data


def test_the_text_shows_line_ends_and_no_live_value() -> None:
    dated = LENGTH.replace(b"Content", b"Date: Sat, 21 Nov 2026 08:00:00 GMT\r\nContent", 1)
    shown = wire(dated)._repr_mimebundle_()
    assert shown["text/plain"].splitlines() == [
        "HTTP/1.1 200 OK\\r\\n     status line",
        "Date: ...\\r\\n",
        "Content-Length: 5\\r\\n",
        "\\r\\n                    the head ends",
        "hello                   body: 5 bytes",
    ]
    [cell] = re.findall(r'<td class="live"[^>]*>([^<]+)</td>', shown["text/html"])
    assert cell == "Sat, 21 Nov 2026 08:00:00 GMT"
    assert shown["text/html"].count(cell) == 1


def test_bytes_that_are_no_text_are_escaped_and_long_lines_shortened() -> None:
    odd = b"HTTP/1.1 200 OK\r\n\r\n\x00<b>\xff"
    assert r"\x00<b>\xff" in repr(wire(odd))
    assert r"\x00&lt;b&gt;\xff" in wire(odd)._repr_mimebundle_()["text/html"]
    last = repr(wire(b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 500 + b"b" * 500)).splitlines()[-1]
    assert last == f"{'a' * 40} ... {'b' * 15}   body: 1,000 bytes, until the connection closed"


def test_messages_stand_apart() -> None:
    assert repr(wire(LENGTH * 2)).count("\n\n") == 1
    assert repr(wire(b"")) == ""


@pytest.mark.parametrize("words", ["Requested Range Not Satisfiable", "Range Not Satisfiable", ""])
def test_the_words_of_a_renamed_status_are_live(words: str) -> None:
    """What is compared does not depend on Python's version; the words stand in the live cell."""
    shown = wire(f"HTTP/1.1 416 {words}\r\nContent-Length: 0\r\n\r\n".encode())
    assert repr(shown).startswith("HTTP/1.1 416 ...\\r\\n   ")
    page = shown._repr_mimebundle_()["text/html"]
    assert ('class="live"' in page) == bool(words)
    assert f">{words}</td>" in page


def test_the_words_of_other_statuses_are_shown() -> None:
    """They are the same in all versions, and say something to a reader."""
    assert "404 Not Found" in repr(wire(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
