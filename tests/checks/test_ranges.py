"""Parts of lab 08's checks: reading parts, and naming the ranges that came."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from stand_ins import source_of, stand_in

from streamlab.checks.connection import Connection
from streamlab.checks.examples import for_all
from streamlab.checks.outcome import CheckFailed
from streamlab.checks.ranges import answers, clients, huge, several
from streamlab.checks.ranges.answers import (
    Range,
    Video,
    likely_cause,
    out_of_place,
    place_of,
    write_fixture,
)
from streamlab.checks.ranges.parts import BadParts, boundary_in, read_parts
from streamlab.http.answer import read_answer
from streamlab.labs.manifest import Lab
from streamlab.process.server import Server

ROOT = Path(__file__).parents[2]
SOLUTION = ROOT / "solutions" / "08_ranges"
KIND = "multipart/byteranges; boundary=xyz"
ONE = b"--xyz\r\nContent-Range: bytes 0-3/99\r\n\r\nabcd\r\n"
TWO = b"--xyz\r\ncontent-type: video/mp4\r\nCONTENT-RANGE: bytes 9-9/99\r\n\r\n-\r\n"


@pytest.mark.parametrize(
    "body",
    [
        ONE + TWO + b"--xyz--",
        ONE + TWO + b"--xyz--\r\n",
        b"\r\n" + ONE + TWO + b"--xyz--\r\nand more",
        b"before\r\n" + ONE.replace(b"xyz", b"xyz \t") + TWO + b"--xyz-- \r\n",
    ],
)
def test_good_parts_are_taken_apart(body: bytes) -> None:
    """Text around parts, space after a boundary, and the case of headers have no meaning."""
    one, two = read_parts(KIND, body)
    assert (one.first, one.last, one.size, one.data) == (0, 3, 99, b"abcd")
    assert (two.first, two.last, two.data, two.headers["content-type"]) == (9, 9, b"-", "video/mp4")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "Nowhere in the body"),
        (ONE.replace(b"--xyz", b"--zyx"), "Nowhere in the body"),
        (ONE.replace(b"\r\n", b"\n") + b"--xyz--", "there should be CR LF"),
        (b"--xyz--", "There is no part"),
        (ONE, "there should be CR LF and the boundary"),
        (ONE[:-2], "and the body ends"),
        (ONE + b"--xyz\r\n", "No empty line"),
        (ONE + b"--xyz--more", "After the last boundary"),
        (ONE[:-2] + b"--xyz--", "there should be CR LF and the boundary"),
        (ONE.replace(b"0-3", b"0-4") + b"--xyz--", "there should be CR LF and the boundary"),
        (ONE.replace(b"0-3", b"0-90") + b"--xyz--", "ends in the middle of the part"),
        (ONE.replace(b"0-3", b"3-0") + b"--xyz--", "ends before it begins"),
        (ONE.replace(b"0-3/99", b"0-3") + b"--xyz--", "one Content-Range"),
        (ONE.replace(b"Content-Range", b"X-Range") + b"--xyz--", "one Content-Range.*none"),
        (ONE.replace(b": bytes", b" bytes") + b"--xyz--", "no header of a part"),
        (
            b"--xyz\r\nContent-Range: bytes 0-8/99\r\n\r\nab\r\n--xyz\r\n--xyz--",
            "in the middle of a part",
        ),
    ],
)
def test_bad_parts_are_told(body: bytes, complaint: str) -> None:
    """Each mistake in parts has a message."""
    with pytest.raises(BadParts, match=complaint):
        read_parts(KIND, body)


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ("multipart/byteranges; boundary=a-b_c", b"a-b_c"),
        ("Multipart/Byteranges;BOUNDARY=abc ; charset=x", b"abc"),
        ('multipart/byteranges; x="a;b"; boundary="a b/c=;d"', None),
        ('multipart/byteranges; x="boundary=no"; boundary="a b/c=?d"', b"a b/c=?d"),
        ('multipart/byteranges; boundary="a\\b"', b"ab"),
        ("multipart/byteranges", None),
        ("multipart/byteranges; boundary=a/b", None),
        ("multipart/byteranges; boundary=" + "x" * 71, None),
        ('multipart/byteranges; boundary="ends in space "', None),
    ],
)
def test_a_boundary_may_be_quoted(kind: str, boundary: bytes | None) -> None:
    """A boundary must be quoted if it has characters that no token has (RFC 2045, section 5.1)."""
    if boundary is None:
        with pytest.raises(BadParts):
            boundary_in(kind)
    else:
        assert boundary_in(kind) == boundary


@pytest.mark.parametrize(
    ("asked", "came"),
    [
        ([(0, 9)], [(0, 9)]),
        ([(500, 599), (0, 9)], [(500, 599), (0, 9)]),
        ([(0, 99), (50, 149)], [(0, 99), (50, 149)]),
        ([(0, 99), (50, 149)], [(0, 149)]),
        ([(0, 99), (100, 149)], [(0, 149)]),
        ([(0, 99), (300, 399)], [(0, 399)]),
        ([(500, 599), (0, 99), (550, 700)], [(500, 700), (0, 99)]),
        ([(500, 599), (0, 99), (550, 700)], [(0, 99), (500, 700)]),
        ([(0, 0), (0, 0)], [(0, 0), (0, 0)]),
        ([(0, 0), (0, 0)], [(0, 0)]),
        ([(0, 99), (5, 9)], [(0, 99), (5, 9)]),
    ],
)
def test_ranges_may_come_merged(asked: list[Range], came: list[Range]) -> None:
    """Ranges may be merged if they overlap or nearly touch, at the place of one of them."""
    assert out_of_place(asked, came) == ("", "")


@pytest.mark.parametrize(
    ("asked", "came", "cause"),
    [
        ([(0, 9), (500, 599)], [(0, 9)], "parts_missing"),
        ([(500, 599), (0, 9)], [(0, 9), (500, 599)], "out_of_order"),
        ([(0, 9), (900, 999)], [(0, 999)], "wrong_part"),
        ([(0, 9), (500, 599)], [(0, 10), (500, 599)], "off_by_one"),
        ([(0, 9), (500, 599)], [(0, 9), (500, 598)], "off_by_one"),
        ([(0, 9), (500, 599)], [(0, 9), (500, 599), (700, 710)], "wrong_part"),
        ([(0, 9), (500, 599)], [(0, 9), (500, 599), (0, 9)], "out_of_order"),
        ([(0, 9), (500, 599)], [(0, 300), (500, 599)], "wrong_part"),
        ([(500, 599), (0, 99), (150, 300)], [(0, 300), (500, 599)], "out_of_order"),
    ],
)
def test_what_is_out_of_place_is_told(asked: list[Range], came: list[Range], cause: str) -> None:
    """Each has a message: ranges that are surplus, missing, or in another order."""
    assert out_of_place(asked, came)[0] == cause


def test_a_boundary_in_a_part_is_no_broken_body() -> None:
    """The two mistakes have different causes."""
    body = b"--xyz\r\nContent-Range: bytes 0-8/99\r\n\r\nab\r\n--xyz\r\n--xyz--"
    with pytest.raises(BadParts) as caught:
        read_parts(KIND, body)
    assert caught.value.cause == "boundary_in_file"
    with pytest.raises(BadParts) as caught:
        read_parts(KIND, ONE.replace(b"0-3", b"0-90"))
    assert caught.value.cause == "bad_parts"


def test_a_slip_of_one_is_known() -> None:
    """A range that is off by one at either end has a cause of its own."""
    assert [likely_cause((5, 9), came) for came in ((5, 8), (6, 9), (5, 10))] == ["off_by_one"] * 3
    assert likely_cause((5, 9), (0, 4)) == "wrong_part"
    video = Video(Path("x"), "/x", bytes(range(100)))
    assert "from 7 to 9" in place_of(video.body[7:10], video)
    assert "do not stand in the file like that" in place_of(b"zz", video)
    assert place_of(b"", video) == "No byte"


PART = b"HTTP/1.1 206 Partial\r\nContent-Length: 4\r\nContent-Range: bytes 2-5/10\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (PART + b"2345", ""),
        (PART.replace(b"206", b"200") + b"2345", "ignores_range"),
        (PART.replace(b"206", b"203") + b"2345", "wrong_status"),
        (PART.replace(b"2-5", b"2-6") + b"2345", "off_by_one"),
        (PART.replace(b"2-5", b"3-6") + b"2345", "wrong_content_range"),
        (PART.replace(b"/10", b"/*") + b"2345", "wrong_content_range"),
        (PART.replace(b"/10", b"/11") + b"2345", "wrong_content_range"),
        (PART.replace(b"2-5", b"5-2") + b"2345", "wrong_content_range"),
        (PART + b"2x45", "wrong_bytes"),
        (PART.replace(b"2-5", b"3-6") + b"3456", "wrong_part"),
        (PART.replace(b"bytes 2", b"BYTES 2") + b"2345", ""),
        (PART.replace(b"\r\n\r\n", b"\r\nContent-Range: bytes 2-5/10\r\n\r\n") + b"2345",
         "wrong_content_range"),
        (PART.replace(b"\r\n\r\n", b"\r\nContent-Type: " + KIND.encode() + b"\r\n\r\n") + b"2345",
         "parts_for_one"),
    ],
)  # fmt: skip
def test_one_part_is_judged(tmp_path: Path, raw: bytes, cause: str) -> None:
    """Status, range and bytes must agree with the request, and with each other."""
    judge = answers.expect_partial(Video(tmp_path, "/x", b"0123456789"), 2, 5)
    answer = read_answer(raw, closed=True)
    assert not answer.problem
    silent = stand_in("")
    connection = Connection(silent, silent)
    if not cause:
        judge(connection, answer)
        return
    with pytest.raises(CheckFailed) as caught:
        judge(connection, answer)
    assert caught.value.cause == cause


def test_every_cause_has_its_words() -> None:
    """lab.toml has each cause that a check can name, and no others but those of conversations."""
    causes = Lab(SOLUTION).manifest["causes"]
    text, talks = source_of("ranges/*.py"), source_of("connection.py")
    words = set(re.findall(r'"([a-z0-9]+(?:_[a-z0-9]+)*)"', text))
    for name in re.findall(r'(?:fault|fail)\(\s*(?:cause or )?"([a-z0-9_]+)"', text):
        assert name in causes
    said = words | set(re.findall(r'"([a-z0-9_]+)"', talks))
    assert set(causes) - said == {"could_not_run"}


@pytest.mark.needs("linux")
def test_a_missing_client_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing client is left out with a note; with CI set, that is an error."""
    notes: list[str] = []
    monkeypatch.setattr(clients, "note", notes.append)
    monkeypatch.setattr(clients, "find_tool", lambda _: None)
    (tmp_path / "root").mkdir()
    server = Server(SOLUTION / "app.py", tmp_path / "root", app="app")
    monkeypatch.delenv("CI", raising=False)
    clients.clients_resume(server, Random(1), tmp_path)
    assert [line.split()[0] for line in notes] == ["curl", "wget", "aria2c"]
    monkeypatch.setenv("CI", "1")
    with pytest.raises(FileNotFoundError, match="curl"):
        clients.clients_resume(server, Random(1), tmp_path)


@pytest.mark.parametrize("use", [clients._curl, clients._wget, clients._aria2c])
def test_a_client_that_never_ends_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[..., None]
) -> None:
    """The client is killed, and its output so far is shown."""
    program = "import time; print('asked for a part', flush=True); time.sleep(60)"
    monkeypatch.setattr(clients, "command", lambda *_: [sys.executable, "-c", program])
    monkeypatch.setattr(clients, "WHOLE", 1.0)
    server = stand_in("http://127.0.0.1:1", root=tmp_path, path_of=lambda name: f"/{name}")
    video = write_fixture(server, Random(1), 1000)
    with pytest.raises(CheckFailed) as caught:
        use(clients._Shell(server, video, "client", tmp_path), Random(1))
    assert caught.value.cause == "never_done"
    assert "client was still running after 1 s" in caught.value.evidence
    assert "asked for a part" in caught.value.evidence


# What a request means


@pytest.mark.parametrize(
    ("header", "there"),
    [
        ("bytes=0-0", [(0, 0)]),
        ("Bytes=5-", [(5, 9)]),
        ("bytes=-3", [(7, 9)]),
        ("bytes=-30", [(0, 9)]),
        ("bytes=0005-007", [(5, 7)]),
        ("bytes=5-" + "9" * 5000, [(5, 9)]),
        ("bytes=5-5 , \t-1", [(5, 5), (9, 9)]),
        ("bytes=10-,9-9,-0", [(9, 9)]),
        ("bytes=10-", []),
        ("bytes=-0", []),
        ("bytes=10-12,99-", []),
    ],
)
def test_a_range_is_read_by_the_grammar(header: str, there: list[Range]) -> None:
    """Each case has a file of ten bytes, and the ranges that exist, in order."""
    meant = answers.meaning(header, 10)
    assert meant.there == there and not meant.broken
    assert meant.members == header.count(",") + 1


@pytest.mark.parametrize(
    "members",
    ["5-4", "9-5", "", "-", "5", "a-f", "+0-4", "0-+4", "1_0-", "--5", "0- 4", "1-2-3", "0-4,x",
     "5-4,0-1", "0-\u0664", "0-\xb2"],
)  # fmt: skip
def test_what_is_malformed_means_nothing(members: str) -> None:
    """One malformed member makes the whole header malformed."""
    meant = answers.meaning(f"bytes={members}", 10)
    assert meant.broken and not meant.members and not meant.there
    assert not answers.meaning("seconds=0-4", 10).broken
    assert answers.meaning("bytes 0-4", 10).broken


@pytest.mark.parametrize(
    ("header", "right"),
    [
        ("bytes=2-5", {206}),
        ("bytes=5-4", {200}),
        ("seconds=0-4", {200}),
        ("bytes=10-", {416}),
        ("bytes=-0", {416}),
    ],
)
def test_each_meaning_has_its_judge(tmp_path: Path, header: str, right: set[int]) -> None:
    """The judge accepts the right statuses, and no others."""
    _, judge = answers.answer_to(header, Video(tmp_path, "/x", b"0123456789"))
    came = {
        200: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
        206: PART + b"2345",
        416: b"HTTP/1.1 416 No\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n",
    }
    silent = stand_in("")
    passed = set()
    for status, raw in came.items():
        with suppress(CheckFailed):
            judge(Connection(silent, silent), read_answer(raw, closed=True))
            passed.add(status)
    assert passed == right


def test_merged_ranges_are_the_fewest() -> None:
    """Ranges with up to 256 bytes between them are merged."""
    assert answers.merged([(300, 399), (0, 43)]) == [(0, 399)]
    assert answers.merged([(300, 399), (0, 42)]) == [(0, 42), (300, 399)]


def test_drawn_headers_have_all_forms() -> None:
    """A few hundred drawn headers ask for each kind of answer, and have no empty member."""
    video, kinds, headers = Video(Path("x"), "/x", bytes(40)), set(), []

    def attempt(header: str) -> None:
        headers.append(header)
        kinds.add(answers.answer_to(header, video)[0])

    for_all(answers.range_headers(40, 5), Random(1), attempt, examples=150)
    assert kinds >= {"malformed", "other-unit", "not-there", "one-range", "parts"}
    assert not any(re.search(r"^[^=]*=\s*(,|$)|^[^=]*=\s|,\s*(,|$)", header) for header in headers)


@pytest.mark.parametrize(
    ("timed_out", "cause", "named"),
    [
        (True, "no_answer", "late"),
        (True, "no_end", "late"),
        (False, "no_answer", "no_answer"),
        (False, "cut_short", "cut_short"),
        (True, "wrong_bytes", "wrong_bytes"),
    ],
)
def test_only_what_takes_its_time_is_late(timed_out: bool, cause: str, named: str) -> None:
    """A connection that was closed at once has another cause than a late answer."""
    connection: Any = SimpleNamespace(timed_out=timed_out)
    with pytest.raises(CheckFailed) as caught, huge.in_time(connection):
        raise CheckFailed(cause, "")
    assert caught.value.cause == named


@pytest.mark.parametrize("closes", [True, False])
def test_a_talk_knows_a_closed_connection_from_a_silent_one(closes: bool) -> None:
    """A silent connection has taken all of the patience."""
    silent = stand_in("")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(silent, ours)
        connection.patience = 0.2
        if closes:
            theirs.close()
        with pytest.raises(CheckFailed):
            connection.receive_head()
        assert connection.timed_out is not closes


def test_each_cause_has_a_hint() -> None:
    """Each cause has a hint of its own, or one that all labs share."""
    lab = Lab(SOLUTION)
    silent = {name for name in lab.manifest["causes"] if not lab.hints("none", name)}
    assert silent == set()


# Boundaries that are counted


@pytest.mark.parametrize(
    ("first", "second", "coming"),
    [
        (b"part-9", b"part-10", [b"part-11", b"part-12"]),
        (b"x0009y", b"x000ay", [b"x000by", b"x000cy"]),
        (b"b008-z", b"b010-z", [b"b012-z", b"b014-z"]),
        (b"1f3a90", b"77b02c", []),
        (b"x1y1", b"x2y2", []),
        (b"same", b"same", []),
    ],
)
def test_the_next_boundary_is_known_only_if_boundaries_are_counted(
    first: bytes, second: bytes, coming: list[bytes]
) -> None:
    assert several.counted_on(first, second, 2) == coming
