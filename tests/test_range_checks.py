"""What the checks of lab 08 are made of: taking parts apart, telling which ranges came."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from stand_ins import stand_in

from streamlab import range_answers, range_checks, talk
from streamlab.checks import read_answer
from streamlab.examples import for_all
from streamlab.labs import Lab
from streamlab.range_answers import (
    BadParts,
    Range,
    Video,
    boundary_in,
    likely_cause,
    out_of_place,
    place_of,
    read_parts,
)
from streamlab.server import Server
from streamlab.talk import Talk
from streamlab.testing import CheckFailed

ROOT = Path(__file__).parent.parent
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
    """Text around them, space after a boundary, and the case of headers mean nothing."""
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
    """Each way to break them has its words."""
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
    """And must be, where it has signs that no token has (RFC 2045, section 5.1)."""
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
    """Where they overlap, touch or nearly do; the merged one stands where one of them stood."""
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
    """What nobody asked for, what is missing, what stands elsewhere."""
    assert out_of_place(asked, came)[0] == cause


def test_a_boundary_in_a_part_is_no_broken_body() -> None:
    """The two have different causes."""
    body = b"--xyz\r\nContent-Range: bytes 0-8/99\r\n\r\nab\r\n--xyz\r\n--xyz--"
    with pytest.raises(BadParts) as caught:
        read_parts(KIND, body)
    assert caught.value.cause == "boundary_in_file"
    with pytest.raises(BadParts) as caught:
        read_parts(KIND, ONE.replace(b"0-3", b"0-90"))
    assert caught.value.cause == "bad_parts"


def test_a_slip_of_one_is_known() -> None:
    """At either end; any other is another part."""
    assert [likely_cause((5, 9), came) for came in ((5, 8), (6, 9), (5, 10))] == ["off_by_one"] * 3
    assert likely_cause((5, 9), (0, 4)) == "wrong_part"
    video = Video(Path("x"), "/x", bytes(range(100)))
    assert "from 7 to 9" in place_of(video.body[7:10], video)
    assert "do not stand so" in place_of(b"zz", video)
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
    """Status, range and bytes have to agree with what was asked for, and with each other."""
    judge = range_answers.part(Video(tmp_path, "/x", b"0123456789"), 2, 5)
    answer = read_answer(raw, closed=True)
    assert not answer.problem
    silent = stand_in("")
    talk = Talk(silent, silent)
    if not cause:
        judge(talk, answer)
        return
    with pytest.raises(CheckFailed) as caught:
        judge(talk, answer)
    assert caught.value.cause == cause


def test_every_cause_has_its_words() -> None:
    """What a check can name stands in lab.toml, and nothing else does, but for what talks name."""
    causes = Lab(SOLUTION).manifest["causes"]
    text, talks = (
        "".join(Path(module.__file__).read_text() for module in modules)
        for modules in ((range_checks, range_answers), (talk,))
    )
    words = set(re.findall(r'"([a-z0-9]+(?:_[a-z0-9]+)*)"', text))
    for name in re.findall(r'(?:fault|fail)\(\s*(?:cause or )?"([a-z0-9_]+)"', text):
        assert name in causes
    said = words | set(re.findall(r'"([a-z0-9_]+)"', talks))
    assert set(causes) - said == {"could_not_run"}


@pytest.mark.needs("linux")
def test_a_missing_client_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a student's machine it is left out, with a line; with CI set, that is an error."""
    notes: list[str] = []
    monkeypatch.setattr(range_checks, "note", notes.append)
    monkeypatch.setattr(range_checks, "find_tool", lambda _: None)
    (tmp_path / "root").mkdir()
    server = Server(SOLUTION / "app.py", tmp_path / "root", app="app")
    monkeypatch.delenv("CI", raising=False)
    range_checks.clients_resume(server, Random(1), tmp_path)
    assert [line.split()[0] for line in notes] == ["curl", "wget", "aria2c"]
    monkeypatch.setenv("CI", "1")
    with pytest.raises(FileNotFoundError, match="curl"):
        range_checks.clients_resume(server, Random(1), tmp_path)


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
    """Of a file of ten bytes: what is there, in its order."""
    meant = range_answers.meaning(header, 10)
    assert meant.there == there and not meant.broken
    assert meant.members == header.count(",") + 1


@pytest.mark.parametrize(
    "members",
    ["5-4", "9-5", "", "-", "5", "a-f", "+0-4", "0-+4", "1_0-", "--5", "0- 4", "1-2-3", "0-4,x",
     "5-4,0-1", "0-\u0664", "0-\xb2"],
)  # fmt: skip
def test_what_is_malformed_means_nothing(members: str) -> None:
    """One malformed member is enough."""
    meant = range_answers.meaning(f"bytes={members}", 10)
    assert meant.broken and not meant.members and not meant.there
    assert not range_answers.meaning("seconds=0-4", 10).broken
    assert range_answers.meaning("bytes 0-4", 10).broken


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
    """And no other answer passes it."""
    _, judge = range_answers.answer_to(header, Video(tmp_path, "/x", b"0123456789"))
    answers = {
        200: b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
        206: PART + b"2345",
        416: b"HTTP/1.1 416 No\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n",
    }
    silent = stand_in("")
    passed = set()
    for status, raw in answers.items():
        with suppress(CheckFailed):
            judge(Talk(silent, silent), read_answer(raw, closed=True))
            passed.add(status)
    assert passed == right


def test_merged_ranges_are_the_fewest() -> None:
    """Up to 256 bytes between them."""
    assert range_answers.merged([(300, 399), (0, 43)]) == [(0, 399)]
    assert range_answers.merged([(300, 399), (0, 42)]) == [(0, 42), (300, 399)]


def test_drawn_headers_have_all_forms() -> None:
    """In a few hundred of them each kind of answer is asked for, and no member is empty."""
    video, kinds, headers = Video(Path("x"), "/x", bytes(40)), set(), []

    def attempt(header: str) -> None:
        headers.append(header)
        kinds.add(range_answers.answer_to(header, video)[0])

    for_all(range_answers.range_headers(40, 5), Random(1), attempt, examples=150)
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
    """A connection that was closed at once is another cause."""
    talk: Any = SimpleNamespace(timed_out=timed_out)
    with pytest.raises(CheckFailed) as caught, range_checks.in_time(talk):
        raise CheckFailed(cause, "")
    assert caught.value.cause == named


@pytest.mark.parametrize("closes", [True, False])
def test_a_talk_knows_a_closed_connection_from_a_silent_one(closes: bool) -> None:
    """The one that is silent has taken all of the patience."""
    silent = stand_in("")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        talk = Talk(silent, ours)
        talk.patience = 0.2
        if closes:
            theirs.close()
        with pytest.raises(CheckFailed):
            talk.hear_head()
        assert talk.timed_out is not closes


def test_each_cause_has_a_hint() -> None:
    """Of its own, or one that all labs share."""
    lab = Lab(SOLUTION)
    silent = {name for name in lab.manifest["causes"] if not lab.hints("none", name)}
    assert silent == set()
