"""Answers are read as they come: in pieces of any size, strictly, within limits."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.errors import (
    AnswerError,
    BadChunk,
    BadHeader,
    BadStatusLine,
    CutShort,
    NoAnswer,
    TooLarge,
)
from streamlab.files import KiB, MiB
from streamlab.http.answer import AnswerSoFar, read_answer
from streamlab.http.parts import Chunk, Data, End, Head, Limits
from streamlab.http.reader import AnswerReader, RequestReader, begins_chunk

LIMITS = Limits(head=200, line=40, trailer=60, body=1000)
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 5\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Read:
    """The result of reading some bytes."""

    heads: list[Head]
    chunks: list[Chunk]
    body: bytes
    end: End | None
    rest: bytes
    error: tuple[type[AnswerError], int, str] | None


def read(
    raw: bytes,
    cuts: tuple[int, ...] = (),
    closed: bool = False,
    method: str = "GET",
    limits: Limits = LIMITS,
) -> Read:
    """Feed bytes, cut at these places, and take all parts after each piece."""
    reader, found = AnswerReader(limits, method), Read([], [], b"", None, b"", None)
    places = sorted({0, len(raw), *(min(cut, len(raw)) for cut in cuts)})
    pieces = [raw[start:stop] for start, stop in pairwise(places)]
    try:
        for number, piece in enumerate([*pieces, b""]):
            reader.feed(piece)
            if closed and number == len(pieces):
                reader.close()
            for part in reader.parts():
                match part:
                    case Head():
                        found.heads.append(part)
                    case Chunk():
                        found.chunks.append(part)
                    case Data():
                        found.body += part.data
                    case End():
                        found.end = part
    except AnswerError as error:
        with pytest.raises(type(error)):
            reader.next()
        found.error = type(error), error.position, error.part
    else:
        found.rest = reader.rest
    return found


VALID = [
    LENGTH + b"hello",
    OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"content-length:5 \r\nX:\t a: b \xff\r\n\r\nhello",
    CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    CHUNKED + b'2\r\nhe\r\n003 ; a ;\tb=c; d = "e;\\"\xe9"\r\nllo\r\n000;x\r\nX-Sum: 1\r\n\r\n',
    CHUNKED.replace(b"chunked", b"Chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100\r\n\r\n" + LENGTH + b"hello",
]
"""Answers of 200 and `hello`, in all framings that tell their own end."""
ODD = [
    b"hello",
    b"HTTP/1.1 200 OK\n\nhello",
    OK + b"no header\r\n\r\n",
    OK + b"Content-Length: five\r\n\r\n",
    CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
    CHUNKED + b"five\r\nhello",
    CHUNKED + b"5;=\r\nhello",
    CHUNKED + b"5\r\nhello\r\n0\r\nno trailer\r\n\r\n",
    CHUNKED + b"1;" + b"x" * 50 + b"\r\n",
    OK + b"X: " + b"x" * 300,
    OK + b"\r\n" + b"x" * 1100,
    LENGTH + b"hel",
    CHUNKED + b"5\r\nhel",
]

pieces = st.lists(st.integers(0, 1200), max_size=12).map(tuple)


@given(st.sampled_from([*VALID, *ODD]), pieces, st.booleans())
def test_where_the_network_cuts_does_not_matter(
    raw: bytes, cuts: tuple[int, ...], closed: bool
) -> None:
    """Any pieces give the same parts, the same rest, and the same error at the same byte."""
    assert read(raw, cuts, closed) == read(raw, (), closed)


@given(st.sampled_from([*VALID, *ODD]), st.integers(0, 99), st.binary(max_size=3), st.booleans())
def test_a_byte_at_a_time_is_as_good_as_all_at_once(
    raw: bytes, at: int, slip: bytes, closed: bool
) -> None:
    """The same with any mistake in the bytes."""
    raw = raw[:at] + slip + raw[at + len(slip) :]
    assert read(raw, tuple(range(len(raw))), closed) == read(raw, (), closed)


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_are_too_odd(raw: bytes, chunked: bool) -> None:
    """Any bytes are an answer, the beginning of one, or an error with its position."""
    raw = (CHUNKED if chunked else b"") + raw
    found = read(raw, closed=True)
    assert found.end is not None or found.error is not None
    if found.error is not None:
        assert 0 <= found.error[1] <= len(raw)


@pytest.mark.parametrize("raw", VALID)
@pytest.mark.parametrize("after", [b"", b"HTTP/1.1 "])
def test_an_answer_ends_where_it_says(raw: bytes, after: bytes) -> None:
    """Its head and body are read, and what follows it is left alone."""
    found = read(raw + after)
    assert (found.heads[-1].status, found.body, found.rest) == (200, b"hello", after)
    assert found.end is not None and found.error is None
    assert raw.startswith(b"".join(head.raw for head in found.heads))


def test_the_parts_say_all_of_an_answer() -> None:
    """Fields in their order without the white space around them, chunk lines, a trailer."""
    found = read(VALID[4])
    assert found.heads[0].headers == [("Transfer-Encoding", "chunked")]
    assert found.heads[0].raw == CHUNKED
    assert [chunk.size for chunk in found.chunks] == [2, 3, 0]
    assert found.chunks[-1].raw == b"000;x\r\n"
    assert found.end == End([("X-Sum", "1")])
    assert read(VALID[2]).heads[0].headers[1] == ("X", "a: b \xff")
    assert [head.status for head in read(VALID[6]).heads] == [103, 100, 200]


def test_a_body_may_end_with_its_connection() -> None:
    """A body without a length ends with its connection, and not before."""
    raw = b"HTTP/1.0 200\r\n\r\nhello"
    assert read(raw).end is None
    found = read(raw, closed=True)
    assert (found.body, found.end) == (b"hello", End([]))


@pytest.mark.parametrize(
    ("raw", "method"),
    [
        (LENGTH, "HEAD"),
        (CHUNKED, "HEAD"),
        (OK + b"\r\n", "HEAD"),
        (LENGTH.replace(b"200", b"304"), "GET"),
        (LENGTH.replace(b"200", b"204"), "GET"),
    ],
)
def test_some_answers_have_no_body(raw: bytes, method: str) -> None:
    """They have no body, whatever their headers say (RFC 9112, section 6.3)."""
    found = read(raw + b"hello", method=method)
    assert (found.body, found.rest, found.end) == (b"", b"hello", End([]))


@pytest.mark.parametrize(
    ("raw", "error", "position"),
    [
        (b"hello", BadStatusLine, 0),
        (b"HTTP/2 200\r\n", BadStatusLine, 5),
        (b"HTTP/1.1  200 OK\r\n", BadStatusLine, 9),
        (b"HTTP/1.1 600 ", BadStatusLine, 9),
        (b"HTTP/1.1 2000", BadStatusLine, 12),
        (b"HTTP/1.1\r\n", BadStatusLine, 8),
        (b"HTTP/1.1 200 OK\nA: b\n\n", BadStatusLine, 15),
        (b"HTTP/1.1 200 O\0K", BadStatusLine, 14),
        (OK + b"no header", BadHeader, 19),
        (OK + b"no-header\r\n", BadHeader, 26),
        (OK + b": value", BadHeader, 17),
        (OK + b"A : b", BadHeader, 18),
        (OK + b" folded: b", BadHeader, 17),
        (OK + b"A: b\nB: c\r\n", BadHeader, 21),
        (OK + b"A: b\rB: c\r\n", BadHeader, 21),
        (OK + b"A: b\0c\r\n", BadHeader, 21),
        (OK + b"Content-Length: 5x\r\n\r\n", BadHeader, 34),
        (OK + b"Content-Length: +5\r\n\r\n", BadHeader, 33),
        (OK + b"Content-Length: \r\n\r\n", BadHeader, 33),
        (OK + b"Content-Length: 5, 5\r\n\r\n", BadHeader, 34),
        (OK + b"Content-Length: " + b"1" * 31 + b"\r\n\r\n", BadHeader, 63),
        (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", BadHeader, 52),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n", BadHeader, 36),
        (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", BadHeader, 61),
        (CHUNKED + b"\r\n", BadChunk, 47),
        (CHUNKED + b"x", BadChunk, 47),
        (CHUNKED + b"0x5\r\n", BadChunk, 48),
        (CHUNKED + b"5\n", BadChunk, 48),
        (CHUNKED + b"5 \r\n", BadChunk, 48),
        (CHUNKED + b"5 x\r\n", BadChunk, 48),
        (CHUNKED + b"5;\r\n", BadChunk, 48),
        (CHUNKED + b"5;a=\r\n", BadChunk, 50),
        (CHUNKED + b"1" * 31, BadChunk, 77),
        (CHUNKED + b"2\r\nhello", BadChunk, 52),
        (CHUNKED + b"2\r\nhe\rllo", BadChunk, 53),
        (CHUNKED + b"0\r\nno trailer", BadHeader, 52),
    ],
)
def test_an_error_tells_its_byte(raw: bytes, error: type[AnswerError], position: int) -> None:
    """The error comes with that byte, because no later byte can mend it."""
    found = read(raw)
    assert found.error is not None and found.error[:2] == (error, position)


@pytest.mark.parametrize(
    ("raw", "error", "part"),
    [
        (b"", NoAnswer, "status line"),
        (b"HTT", CutShort, "status line"),
        (OK + b"Content-Le", CutShort, "head"),
        (LENGTH + b"hell", CutShort, "body"),
        (CHUNKED + b"5", CutShort, "chunk line"),
        (CHUNKED + b"5\r\nhel", CutShort, "chunk"),
        (CHUNKED + b"5\r\nhello\r", CutShort, "chunk"),
        (CHUNKED + b"5\r\nhello\r\n", CutShort, "chunk line"),
        (CHUNKED + b"0\r\n", CutShort, "trailer"),
        (CHUNKED + b"0\r\nA: b\r\n", CutShort, "trailer"),
    ],
)
def test_what_is_cut_short_tells_where(raw: bytes, error: type[AnswerError], part: str) -> None:
    """The position is after the last byte; the error comes when the connection is closed."""
    assert read(raw).error is None
    assert read(raw, closed=True).error == (error, len(raw), part)


@pytest.mark.parametrize(
    ("raw", "position", "part"),
    [
        (b"HTTP/1.1 200 " + b"x" * 300, 198, "status line"),
        (OK + b"A: " + b"b" * 300, 198, "head"),
        (OK + b"A: b\r\n" * 50, 198, "head"),
        (b"HTTP/1.1 100\r\n\r\n" * 50, 200 - 8 + 6, "status line"),
        (CHUNKED + b"1;" + b"x" * 100, 47 + 38, "chunk line"),
        (CHUNKED + b"0\r\n" + b"A: b\r\n" * 50, 50 + 60, "trailer"),
        (OK + b"\r\n" + b"x" * 2000, 19 + 1000, "body"),
        (OK + b"Content-Length: 3000\r\n\r\n" + b"x" * 3000, 41 + 1000, "body"),
        (CHUNKED + b"bb8\r\n" + b"x" * 3000, 52 + 1000, "chunk"),
    ],
)
def test_no_part_is_larger_than_its_limit(raw: bytes, position: int, part: str) -> None:
    """The first byte that is too much is an error."""
    found = read(raw)
    assert found.error is not None and found.error[0] is TooLarge and found.error[2] == part
    assert found.error[1] == position
    assert len(found.body) <= LIMITS.body


def test_what_just_fits_is_taken() -> None:
    """A part as large as its limit is accepted."""
    raw = CHUNKED + b"1;" + b"x" * 36 + b"\r\na\r\n0\r\nA: " + b"b" * 53 + b"\r\n\r\n"
    fitting = Limits(head=len(CHUNKED), line=40, trailer=60, body=1)
    assert read(raw, limits=fitting).error is None
    for part in ("head", "line", "trailer", "body"):
        smaller = replace(fitting, **{part: getattr(fitting, part) - 1})
        error = read(raw, limits=smaller).error
        assert error is not None and error[0] is TooLarge


def test_an_error_shows_the_bytes_around_it() -> None:
    """An error shows a few bytes around its position, escaped."""
    with pytest.raises(BadChunk) as caught:
        reader = AnswerReader(LIMITS)
        reader.feed(CHUNKED + b"5\r\nhello!\xff\r\n0\r\n\r\n")
        list(reader.parts())
    assert str(caught.value) == (
        "a chunk of 5 bytes does not end with CR LF "
        r"(byte 55: after 'ing: chunked\r\n\r\n5\r\nhello' comes '!\xff\r\n0\r\n\r\n')"
    )
    assert caught.value.fault == "malformed"


def test_of_a_length_and_a_coding_the_coding_may_count() -> None:
    """With `coding_wins` the coding counts, for lessons that show what a client does with both."""
    reader = AnswerReader(LIMITS, coding_wins=True)
    reader.feed(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert [type(part) for part in reader.parts()] == [Head, Chunk, End]


def test_a_request_is_read_by_the_same_rules() -> None:
    """It has no body unless it says so."""
    for raw, size in (
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", 2),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 1),
    ):
        reader = RequestReader(LIMITS)
        reader.feed(raw)
        assert isinstance(list(reader.parts())[-1], End)
        assert reader.size == size
    reader = RequestReader(LIMITS)
    reader.feed(LENGTH)
    with pytest.raises(BadStatusLine):
        reader.next()


def test_a_chunk_begins_with_its_size() -> None:
    """An answer does not, and neither does half a line."""
    assert begins_chunk(b"5;a\r\nhello")
    assert not begins_chunk(b"HTTP/1.1 200 OK\r\n")
    assert not begins_chunk(b"5")


# Answers that are kept


@given(st.sampled_from([*VALID, *ODD]), pieces, st.booleans())
def test_a_kept_answer_is_the_same_in_any_pieces(
    raw: bytes, cuts: tuple[int, ...], closed: bool
) -> None:
    """It equals the answer that is read at once; only a message may show fewer later bytes."""
    so_far = AnswerSoFar()
    for start, stop in pairwise(sorted({0, len(raw), *(min(cut, len(raw)) for cut in cuts)})):
        so_far.feed(raw[start:stop])
    if closed:
        so_far.close()
    by_pieces, at_once = so_far.answer(), read_answer(raw, closed)
    assert bool(by_pieces.problem) == bool(at_once.problem)
    assert replace(by_pieces, problem="") == replace(at_once, problem="")


def test_what_follows_an_answer_is_told() -> None:
    """Bytes after a length are too many; after the last chunk they are no HTTP."""
    for raw, fault, ended, body in (
        (LENGTH + b"hello!", "too_many", False, b"hello!"),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n!", "malformed", True, b"hello"),
        (CHUNKED.replace(b"200", b"304") + b"!", "too_many", False, b"!"),
    ):
        so_far = AnswerSoFar()
        so_far.feed(raw)
        answer = so_far.answer()
        assert (answer.fault, answer.ended, answer.body) == (fault, ended, body)
        assert so_far.ended and not so_far.whole
        assert so_far.surplus == b"!"


def test_the_head_can_be_had_alone() -> None:
    """The bytes after the head are separate; without a head, `problem` says why."""
    so_far = AnswerSoFar(LIMITS, "HEAD")
    assert so_far.goes_on
    so_far.take(LENGTH + b"hello")
    assert not so_far.goes_on
    assert (so_far.head_alone().raw, so_far.surplus) == (LENGTH, b"hello")
    cut = AnswerSoFar(LIMITS, "HEAD")
    cut.take(LENGTH[:-1])
    cut.take(b"")
    assert cut.head_alone().fault == "cut_short"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: %d" % (400 * MiB), b"Transfer-Encoding: chunked", b"X: y"]
)
def test_of_an_endless_body_no_more_is_kept_than_allowed(framing: bytes) -> None:
    """An endless body is full at its limit, and has no end."""
    limits = Limits(head=1 * KiB, line=40, trailer=60, body=2 * MiB)
    so_far, fed = AnswerSoFar(limits), 0
    so_far.feed(OK + framing + b"\r\n\r\n" + b"10000000\r\n" * (b"chunked" in framing))
    while not so_far.full and fed < 10 * MiB:
        so_far.feed(bytes(256 * KiB))
        fed += 256 * KiB
    assert so_far.full and fed < 3 * MiB
    so_far.feed(bytes(4 * MiB))
    assert len(so_far.body) == 2 * MiB
    assert len(so_far.raw) == 2 * MiB + 1 * KiB
    answer = so_far.answer()
    assert (answer.status, answer.ended, answer.fault) == (200, False, None)


def test_each_byte_is_looked_at_once() -> None:
    """Many pieces of a long line, many chunks and many interim answers are read quickly."""
    began = time.process_time()
    large = Limits(head=1 * MiB, line=1 * MiB, trailer=1 * MiB, body=1 * MiB)
    reader = AnswerReader(large)
    for piece in (OK + b"A: ", *[b"b"] * 200_000, b"\r\n\r\n"):
        reader.feed(piece)
        reader.next()
    assert reader.head is not None
    so_far = AnswerSoFar(large)
    so_far.feed(b"HTTP/1.1 100\r\n\r\n" * 30_000 + CHUNKED)
    for _ in range(50_000):
        so_far.feed(b"1;x\r\ny\r\n")
    assert (so_far.status, len(so_far.body)) == (200, 50_000)
    assert time.process_time() - began < 10
