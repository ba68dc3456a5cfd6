"""Requested ranges, and their answers: read and judged.

A `Judge` looks at one answer and ends the check if it is wrong. The rules are those of RFC 9110,
sections 13 and 14. A range is a pair of its first and its last byte, both included. Sizes are in
bytes, times in seconds.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from random import Random

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from streamlab.checks.connection import Connection, Wanted, open_connection
from streamlab.checks.outcome import CheckFailed, promise
from streamlab.checks.probes.common import name_of
from streamlab.checks.ranges.parts import CONTENT_RANGE, Part, is_multipart, parts_read
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

MOST_RANGES = 16
"""The most ranges in one request that are answered; with more of them the whole file comes."""
NEAR = 256
"""Bytes between two ranges below which a server may merge them: the head of a part costs more."""

Range = tuple[int, int]
Judge = Callable[[Connection, RawAnswer], None]


# Requests


@dataclass(frozen=True)
class Video:
    """A file below the server's root, its path in requests, and its content."""

    file: Path
    path: str
    body: bytes

    @property
    def size(self) -> int:
        return len(self.body)


def http_date(nanoseconds: int, later: int = 0) -> str:
    """A time in the form that HTTP requires, without its fraction, plus `later` seconds."""
    return formatdate(nanoseconds // 10**9 + later, usegmt=True)


def write_fixture(server: Server, rng: Random, size: int, ending: str = ".mp4") -> Video:
    """A new file below the server's root, with a date years ago.

    Each of its lines has 32 bytes, and says at which byte it begins.
    """
    name = name_of(rng, ending)
    lines = (b"byte %010d of %b\n" % (at, name.encode()) for at in range(0, size, 32))
    video = Video(server.root / name, server.path_of(name), b"".join(lines)[:size])
    video.file.write_bytes(video.body)
    # A date whose numbers have one digit each, and so a leading zero.
    month, date, hour, minute, second = (rng.randrange(1, 10) for _ in range(5))
    day = datetime(rng.randrange(2014, 2018), month, date, hour, minute, second, tzinfo=UTC)
    moment = int(day.timestamp()) * 10**9 + 600_000_000
    os.utime(video.file, ns=(moment, moment))
    return video


@dataclass(frozen=True)
class Step:
    """A request, and how its answer is judged. `how` says in words what is special about it.

    `promise` is the id of the promise that the answer tests. `cause` takes the place of the
    likeliest cause if no answer can be read.
    """

    promise: str
    path: str
    judge: Judge
    headers: Sequence[str] = ()
    method: str = "GET"
    how: str = ""
    cause: str = ""


def ranged(
    promised: str, video: Video, ranges: str, judge: Judge, *headers: str, how: str = ""
) -> Step:
    """A request for these ranges, which tests a promise."""
    return Step(promised, video.path, judge, (f"Range: bytes={ranges}", *headers), how=how)


def converse(server: Server, steps: Sequence[Step]) -> None:
    """Take all steps in order, over as few connections as the server allows."""
    todo = list(steps)
    while todo:
        with promise(todo[0].promise), open_connection(server) as connection:
            while todo:
                step = todo.pop(0)
                with put_to_the_test(step.promise):
                    wanted = Wanted(step.path, None)
                    connection.send(wanted.request(*step.headers, method=step.method), how=step.how)
                    answer = connection.receive(step.method, step.cause)
                    no_crash(connection, answer)
                    step.judge(connection, answer)
                with promise("keeps-open"):
                    goes_on = connection.goes_on(answer)
                if not goes_on:
                    break


@contextmanager
def put_to_the_test(promised: str) -> Iterator[None]:
    """Test a promise in the middle of a conversation.

    Some causes break another promise: the previous answer may not have ended as it said.
    """
    with promise(promised):
        try:
            yield
        except CheckFailed as failure:
            if failure.cause in ("closes", "out_of_step"):
                failure.promise = "keeps-open"
            elif failure.cause == "off_by_one" and promised == "one-range":
                failure.promise = "both-ends"
            raise


def no_crash(connection: Connection, answer: RawAnswer) -> None:
    """The answer is no error of the server (5xx)."""
    if answer.status >= 500:
        time.sleep(0.2)  # its traceback may be on its way
        what = (
            f"The status is {answer.status}: that is an exception that your program did not catch"
        )
        connection.fault("crashes", what, answer.raw)


# Judging an answer


def expect_full(video: Video, why: str, cause: str) -> Judge:
    """The whole file, with status 200, because of `why`; `cause` if something else comes."""

    def judge(connection: Connection, answer: RawAnswer) -> None:
        if answer.status != 200:
            connection.fault(
                cause, f"{why}: the status should be 200, with the whole file", answer.raw
            )
        if answer.header("content-range") is not None:
            connection.fault("range_of_whole", "An answer with status 200 has no range", answer.raw)
        if answer.body != video.body:
            connection.fault(
                "wrong_bytes",
                f"{why}: the body should be all {video.size} bytes of the file. "
                f"{place_of(answer.body, video)} came",
                answer.raw,
            )

    return judge


def expect_partial(video: Video, first: int, last: int, why: str = "", cause: str = "") -> Judge:
    """Bytes `first` to `last` with status 206; `cause` takes the place of the likeliest."""
    asked = f"Bytes {first} to {last} of {video.size} should come{why and ', ' + why}"

    def judge(connection: Connection, answer: RawAnswer) -> None:
        if answer.status == 200:
            what = f"{asked}. Status 200 means: here is the whole file"
            connection.fault(cause or "ignores_range", what, answer.raw)
        if answer.status != 206:
            connection.fault(cause or "wrong_status", f"{asked}, with status 206", answer.raw)
        with promise("never-multipart"):
            if is_multipart(answer):
                what = f"{asked}. A request for one range gets one, and no parts"
                connection.fault("parts_for_one", what, answer.raw)
        [came] = parts_of(connection, answer, video, cause)
        if (came.first, came.last) != (first, last):
            wrong = cause or likely_cause((first, last), (came.first, came.last))
            connection.fault(
                wrong, f"{asked}. Those of {came.first} to {came.last} came", answer.raw
            )
        with promise("one-range"):
            if answer.header("content-length") is None:
                connection.fault("no_length", f"{asked}, with their Content-Length", answer.raw)

    return judge


def likely_cause(asked: Range, came: Range) -> str:
    """The cause that explains why another range came."""
    slips = {(0, 1), (0, -1), (1, 0), (-1, 0)}
    return "off_by_one" if (came[0] - asked[0], came[1] - asked[1]) in slips else "wrong_part"


def expect_416(video: Video, why: str, cause: str = "not_416") -> Judge:
    """416, with the size of the file (RFC 9110, section 15.5.17)."""

    def judge(connection: Connection, answer: RawAnswer) -> None:
        if answer.status != 416:
            connection.fault(cause, f"{why}: the status should be 416", answer.raw)
        told = answer.header("content-range") or ""
        with promise("size-of-416"):
            if re.fullmatch(rf"(?i)bytes \*/{video.size}", told) is None:
                what = f"{why}: there should be Content-Range: bytes */{video.size}"
                connection.fault("no_size", what, answer.raw)

    return judge


def expect_multipart(video: Video, asked: Sequence[Range], why: str = "", cause: str = "") -> Judge:
    """All of these ranges, with status 206: each as a part, or some of them merged."""
    text = ", ".join(f"{first}-{last}" for first, last in asked)

    def judge(connection: Connection, answer: RawAnswer) -> None:
        should = f"Bytes {text} of {video.size} should come{why and ', ' + why}"
        if answer.status == 200:
            connection.fault(cause or "ignores_sets", f"{should}, with status 206", answer.raw)
        if answer.status != 206:
            connection.fault(cause or "wrong_status", f"{should}, with status 206", answer.raw)
        came = [(each.first, each.last) for each in parts_of(connection, answer, video)]
        wrong, what = out_of_place(asked, came)
        with promise("parts-order"):
            if wrong == "out_of_order":
                connection.fault(wrong, f"{should}. {what}", answer.raw)
        if wrong:
            connection.fault(cause or wrong, f"{should}. {what}", answer.raw)

    return judge


def at_most_once(video: Video, why: str) -> Judge:
    """The whole file, or no byte of it twice: right answers if ranges overlap too much."""

    def judge(connection: Connection, answer: RawAnswer) -> None:
        if answer.status != 206:
            expect_full(video, why, "too_many")(connection, answer)
            return
        came = sorted((each.first, each.last) for each in parts_of(connection, answer, video))
        twice = any(b[0] <= a[1] for a, b in itertools.pairwise(came))
        if twice or len(came) > MOST_RANGES:
            what = f"{why}: {len(came)} parts came, {len(answer.body)} bytes. The file has"
            connection.fault("too_many", f"{what} {video.size}: it should come whole, with 200")

    return judge


def out_of_place(asked: Sequence[Range], came: Sequence[Range]) -> tuple[str, str]:
    """What is wrong with the ranges that came: a cause, and words; both empty if nothing is.

    Each must be one of the requested ranges, or several of them merged, with less than `NEAR`
    between them, and must stand at the place of one of those (RFC 9110, sections 14.2 and
    15.3.7.2).
    """
    for first, last in came:
        inside = sorted(each for each in asked if first <= each[0] and each[1] <= last)
        reach = inside[0][0] - 1 if inside else -1
        for start, stop in inside:
            if start > reach + 1 + NEAR:
                break
            reach = max(reach, stop)
        if not inside or (inside[0][0], reach) != (first, last):
            slips = [likely_cause(each, (first, last)) for each in asked]
            cause = "off_by_one" if "off_by_one" in slips else "wrong_part"
            return cause, f"Bytes {first} to {last} came, which the client has not asked for"
    missing = [each for each in asked if not any(a <= each[0] and each[1] <= b for a, b in came)]
    if missing:
        words = ", ".join(f"{first}-{last}" for first, last in missing)
        return "parts_missing", f"Those of {words} are missing"
    place = -1
    for first, last in came:
        places = [i for i, (a, b) in enumerate(asked) if first <= a and b <= last and i > place]
        if not places:
            order = ", ".join(f"{a}-{b}" for a, b in came)
            return "out_of_order", f"The parts came in another order: {order}"
        place = places[0]
    return "", ""


def place_of(body: bytes, video: Video) -> str:
    """Which bytes of the file these are, in words."""
    if not body:
        return "No byte"
    at = video.body.find(body)
    if at < 0:
        return f"{len(body)} bytes that do not stand in the file like that"
    return f"{len(body)} bytes, those from {at} to {at + len(body) - 1},"


# What a request means by the grammar of RFC 9110


@dataclass(frozen=True)
class Meaning:
    """What a `Range` header asks for, of a file of a given size."""

    members: int
    """How many ranges it names; 0 if it has to be ignored."""
    there: list[Range]
    """Those of them that exist, cut at the end of the file, in their order."""
    suffix: bool = False
    """Whether one of them counts from the end, and asks for more than 0 bytes."""
    broken: bool = False
    """Whether it is malformed. If it is ignored for another reason, its unit is another one."""


def meaning(header: str, size: int) -> Meaning:
    """What a `Range` header means (RFC 9110, sections 14.1.1 and 14.1.2).

    Empty members and a space after the `=` have no meaning here, because the lab's text does not
    mention them.
    """
    unit, equals, members = header.strip(" \t").partition("=")
    if not equals:
        return Meaning(0, [], broken=True)
    if unit.lower() != "bytes":
        return Meaning(0, [])
    there: list[Range] = []
    suffix = False
    texts = [member.strip(" \t") for member in members.split(",")]
    for text in texts:
        before, hyphen, after = text.partition("-")
        if not hyphen or not before + after or set(before + after) - set("0123456789"):
            return Meaning(0, [], broken=True)
        if not before:
            # The last `end` bytes, or the whole file if it has fewer.
            first, last = size - min(_value(after), size), size - 1
            suffix = suffix or _value(after) > 0
        else:
            first, last = _value(before), _value(after) if after else max(size - 1, _value(before))
            if last < first:
                return Meaning(0, [], broken=True)
        if first < size:
            there.append((first, min(last, size - 1)))
    return Meaning(len(texts), there, suffix)


def _value(digits: str) -> int:
    """The number that digits stand for. All numbers of more than 30 digits count as equal."""
    digits = digits.lstrip("0")
    return int(digits[:30] or "0") if len(digits) <= 30 else 10**30


def answer_to(header: str, video: Video) -> tuple[str, Judge]:
    """The promise that a `Range` header tests, and the judge of its answer."""
    asked = meaning(header, video.size)
    there = asked.there
    if not asked.members:
        if asked.broken:
            return "malformed", expect_full(video, f"{header!r} is malformed", "not_ignored")
        return "other-unit", expect_full(video, f"{header!r} names another unit", "other_unit")
    either = asked.members > MOST_RANGES or sum(b - a + 1 for a, b in there) > video.size
    why = "These are many ranges, or more bytes than the file has"
    if not there:
        gone = expect_416(video, "None of these bytes exists")
        if either or (not video.size and asked.suffix):
            return "not-there", _one_of(expect_full(video, "Nothing of it exists", "not_416"), gone)
        return "not-there", gone
    if asked.members == 1:
        return "one-range", expect_partial(video, *there[0])
    if len(merged(there)) > MOST_RANGES:
        return "seventeen", expect_full(video, why, "too_many")
    judge = expect_multipart(video, there)
    return "parts", _one_of(expect_full(video, why, "too_many"), judge) if either else judge


def merged(ranges: Sequence[Range]) -> list[Range]:
    """The fewest ranges to which these may be merged."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1 + NEAR:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _one_of(if_200: Judge, otherwise: Judge) -> Judge:
    """Two answers are right: status 200 as the first judge wants it, or what the second wants."""
    return lambda connection, answer: (if_200 if answer.status == 200 else otherwise)(
        connection, answer
    )


def range_headers(size: int, most: int) -> SearchStrategy[str]:
    """Values of `Range` near the edges of a file of `size` bytes, with up to `most` members.

    About one in four is malformed, mostly by a single character.
    """
    edges = [0, 1, 9, size // 2, size - 2, size - 1, size, size + 1, 2**31, 2**53]
    # No range lies between two numbers beyond any file: a program may take them for equal, and then
    # need not notice that the last byte comes before the first.
    numbers = st.one_of(
        st.sampled_from([edge for edge in edges if edge >= 0]), st.integers(0, size + 2)
    )
    zeros = _seldom(["0", "000"])
    digits = st.builds(lambda number, zeros: f"{zeros}{number}", numbers, zeros)
    any_digits = st.one_of(digits, st.sampled_from([str(2**63), str(10**25)]))
    spans = st.builds(
        lambda first, more: f"{first}-{max(0, first + more)}", numbers, st.integers(-1, 40)
    )
    member = st.one_of(
        spans,
        spans,
        st.builds(lambda first, last: f"{first}-{last}", digits, any_digits),
        st.builds(lambda first: f"{first}-", any_digits),
        st.builds(lambda last: f"-{last}", any_digits),
    )
    gone = st.builds(
        lambda first, more: f"{first}-{first + more}",
        st.integers(size, 2 * size),
        st.integers(0, 9),
    )
    members = st.one_of(
        st.lists(member, min_size=1, max_size=most),
        st.lists(member, min_size=1, max_size=2),
        st.lists(gone, min_size=1, max_size=2),
        *([st.lists(spans, min_size=15, max_size=18)] if most > 2 else []),
    )
    commas = st.sampled_from([",", ",", ", ", " ,", "\t,  "])
    units = st.sampled_from([*["bytes"] * 9, "Bytes", "BYTES", "bytes-", "byte", "seconds"])
    return st.builds(
        _with_a_slip,
        st.builds(
            lambda unit, expect_multipart, comma: f"{unit}={comma.join(expect_multipart)}",
            units,
            members,
            commas,
        ),
        _seldom(["+", "-", "_", ".", "x", "0x", " ", ";", "=", "e1"]),
        st.floats(0, 1),
    )


def _seldom(texts: Sequence[str]) -> SearchStrategy[str]:
    """Mostly an empty text, seldom one of these."""
    return st.sampled_from([*[""] * 3 * len(texts), *texts])


def _with_a_slip(header: str, slip: str, place: float) -> str:
    """A header with a few more characters, somewhere behind its first digit or sign."""
    start = header.index("=") + 2
    at = start + int((len(header) - start) * place)
    return header[:at] + slip + header[at:]


def parts_of(
    connection: Connection, answer: RawAnswer, video: Video, cause: str = ""
) -> list[Part]:
    """The ranges in a 206, one or several; the check fails if their bytes are not the file's."""
    told = [value for key, value in answer.headers if key.lower() == "content-range"]
    if is_multipart(answer):
        if told:
            what = "The parts say their ranges; the head of the answer has no Content-Range"
            connection.fault("range_at_top", what, answer.raw)
        if sum(key.lower() == "content-type" for key, _ in answer.headers) > 1:
            what = "An answer has one Content-Type. The type of the file belongs in the parts"
            connection.fault("two_types", what, answer.raw)
        parts = parts_read(connection, answer)
    else:
        found = CONTENT_RANGE.fullmatch(told[0]) if len(told) == 1 else None
        if found is None:
            came = " and ".join(told) or "none"
            what = f"There should be one Content-Range: bytes FIRST-LAST/SIZE. There is {came}"
            connection.fault("wrong_content_range", what, answer.raw)
        first, last, size = map(int, found.groups())
        parts = [Part(first, last, size, answer.body)]
    for each in parts:
        says = f"Content-Range says bytes {each.first} to {each.last} of {each.size}"
        if each.size != video.size or not 0 <= each.first <= each.last < video.size:
            what = f"{says}. The file has {video.size}, which are counted from 0"
            connection.fault(cause or "wrong_content_range", what, answer.raw)
        if each.data != video.body[each.first : each.last + 1]:
            slip = abs(len(each.data) - (each.last + 1 - each.first))
            elsewhere = slip == 0 and each.data in video.body
            likely = "wrong_content_range" if elsewhere else "wrong_bytes"
            likely = "off_by_one" if slip == 1 else likely
            what = f"{says}. {place_of(each.data, video)} came"
            connection.fault(cause or likely, what, answer.raw)
    return parts
