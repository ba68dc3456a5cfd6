"""Ranges that are asked for, and the answers to them: taken apart, and judged.

A `Judge` looks at one answer and ends the check if it is not what it should be. The rules are those
of RFC 9110, sections 13 and 14. Ranges are pairs of the first and the last byte, both of them
included. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from random import Random

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from streamlab.checks import RawAnswer, name_of
from streamlab.server import Server
from streamlab.talk import Talk, Wanted, talking
from streamlab.testing import CheckFailed, promise

MOST_RANGES = 16
"""Ranges of a set that are answered; with more of them the whole file comes."""
NEAR = 256
"""Bytes between two ranges that cost less than the head of a part: who merges may send them."""

Range = tuple[int, int]
Judge = Callable[[Talk, RawAnswer], None]


# What is asked for


@dataclass(frozen=True)
class Video:
    """A file below the server's root, the path to ask for, and its content."""

    file: Path
    path: str
    body: bytes

    @property
    def size(self) -> int:
        return len(self.body)


def http_date(nanoseconds: int, later: int = 0) -> str:
    """A time in the one form that HTTP has for it, without its fraction, plus `later` seconds."""
    return formatdate(nanoseconds // 10**9 + later, usegmt=True)


def laid(server: Server, draw: Random, size: int) -> Video:
    """A new file below the server's root, as if it had been there for years.

    Its lines have 32 bytes, and say at which byte they begin.
    """
    name = name_of(draw, ".mp4")
    lines = (b"byte %010d of %b\n" % (at, name.encode()) for at in range(0, size, 32))
    video = Video(server.root / name, server.path_of(name), b"".join(lines)[:size])
    video.file.write_bytes(video.body)
    moment = draw.randrange(1_400_000_000, 1_500_000_000) * 10**9 + 600_000_000
    os.utime(video.file, ns=(moment, moment))
    return video


@dataclass(frozen=True)
class Step:
    """A request, and how its answer is judged. `how`: in what way it is special, in words.

    `promise` is the id of what the answer puts to the test. `cause` is named if no answer can be
    read; without one, the likeliest.
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
    """A request for these ranges of bytes, which puts a promise to the test."""
    return Step(promised, video.path, judge, (f"Range: bytes={ranges}", *headers), how=how)


def converse(server: Server, steps: Sequence[Step]) -> None:
    """Take all steps, one after the other, over as few connections as the server allows."""
    todo = list(steps)
    while todo:
        with promise(todo[0].promise), talking(server) as talk:
            while todo:
                step = todo.pop(0)
                with put_to_the_test(step.promise):
                    wanted = Wanted(step.path, None)
                    talk.say(wanted.request(*step.headers, method=step.method), how=step.how)
                    answer = talk.hear(step.method, step.cause)
                    no_crash(talk, answer)
                    step.judge(talk, answer)
                with promise("keeps-open"):
                    goes_on = talk.goes_on(answer)
                if not goes_on:
                    break


@contextmanager
def put_to_the_test(promised: str) -> Iterator[None]:
    """Put a promise to the test in the middle of a conversation.

    Some causes break another promise: the answer before this one may not have ended as it said.
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


def no_crash(talk: Talk, answer: RawAnswer) -> None:
    """The answer is no error of the server's own."""
    if answer.status >= 500:
        time.sleep(0.2)  # what it wrote about that may be on its way
        what = f"The status is {answer.status}: that is an exception which nobody has caught"
        talk.fault("crashes", what, answer.raw)


# Judging an answer


def whole(video: Video, why: str, cause: str) -> Judge:
    """The whole file, with status 200, because of `why`; `cause` when something else comes."""

    def judge(talk: Talk, answer: RawAnswer) -> None:
        if answer.status != 200:
            talk.fault(cause, f"{why}: the status should be 200, with the whole file", answer.raw)
        if answer.header("content-range") is not None:
            talk.fault("range_of_whole", "An answer with status 200 has no range", answer.raw)
        if answer.body != video.body:
            talk.fault(
                "wrong_bytes",
                f"{why}: the body should be all {video.size} bytes of the file. "
                f"{place_of(answer.body, video)} came",
                answer.raw,
            )

    return judge


def part(video: Video, first: int, last: int, why: str = "", cause: str = "") -> Judge:
    """Bytes `first` to `last` with status 206; `cause` in place of the likeliest."""
    asked = f"Bytes {first} to {last} of {video.size} should come{why and ', ' + why}"

    def judge(talk: Talk, answer: RawAnswer) -> None:
        if answer.status == 200:
            what = f"{asked}. Status 200 means: here is the whole file"
            talk.fault(cause or "ignores_range", what, answer.raw)
        if answer.status != 206:
            talk.fault(cause or "wrong_status", f"{asked}, with status 206", answer.raw)
        with promise("never-multipart"):
            if is_multipart(answer):
                what = f"{asked}. A request for one range gets one, and no parts"
                talk.fault("parts_for_one", what, answer.raw)
        [came] = parts_of(talk, answer, video, cause)
        if (came.first, came.last) != (first, last):
            wrong = cause or likely_cause((first, last), (came.first, came.last))
            talk.fault(wrong, f"{asked}. Those of {came.first} to {came.last} came", answer.raw)
        with promise("one-range"):
            if answer.header("content-length") is None:
                talk.fault("no_length", f"{asked}, with their Content-Length", answer.raw)

    return judge


def likely_cause(asked: Range, came: Range) -> str:
    """The misconception that explains why another range came."""
    slips = {(0, 1), (0, -1), (1, 0), (-1, 0)}
    return "off_by_one" if (came[0] - asked[0], came[1] - asked[1]) in slips else "wrong_part"


def refused(video: Video, why: str, cause: str = "not_416") -> Judge:
    """416, and the size of the file (RFC 9110, section 15.5.17)."""

    def judge(talk: Talk, answer: RawAnswer) -> None:
        if answer.status != 416:
            talk.fault(cause, f"{why}: the status should be 416", answer.raw)
        told = answer.header("content-range") or ""
        with promise("size-of-416"):
            if re.fullmatch(rf"(?i)bytes \*/{video.size}", told) is None:
                what = f"{why}: there should be Content-Range: bytes */{video.size}"
                talk.fault("no_size", what, answer.raw)

    return judge


def several(video: Video, asked: Sequence[Range], why: str = "", cause: str = "") -> Judge:
    """All of these ranges, with status 206: each as a part, or some of them merged."""
    text = ", ".join(f"{first}-{last}" for first, last in asked)

    def judge(talk: Talk, answer: RawAnswer) -> None:
        should = f"Bytes {text} of {video.size} should come{why and ', ' + why}"
        if answer.status == 200:
            talk.fault(cause or "ignores_sets", f"{should}, with status 206", answer.raw)
        if answer.status != 206:
            talk.fault(cause or "wrong_status", f"{should}, with status 206", answer.raw)
        came = [(each.first, each.last) for each in parts_of(talk, answer, video)]
        wrong, what = out_of_place(asked, came)
        with promise("parts-order"):
            if wrong == "out_of_order":
                talk.fault(wrong, f"{should}. {what}", answer.raw)
        if wrong:
            talk.fault(cause or wrong, f"{should}. {what}", answer.raw)

    return judge


def at_most_once(video: Video, why: str) -> Judge:
    """The whole file, or nothing of it twice: what is right where ranges overlap too much."""

    def judge(talk: Talk, answer: RawAnswer) -> None:
        if answer.status != 206:
            whole(video, why, "too_many")(talk, answer)
            return
        came = sorted((each.first, each.last) for each in parts_of(talk, answer, video))
        twice = any(b[0] <= a[1] for a, b in itertools.pairwise(came))
        if twice or len(came) > MOST_RANGES:
            what = f"{why}: {len(came)} parts came, {len(answer.body)} bytes. The file has"
            talk.fault("too_many", f"{what} {video.size}: it should come whole, with 200")

    return judge


def out_of_place(asked: Sequence[Range], came: Sequence[Range]) -> tuple[str, str]:
    """What is wrong with the ranges that came for those asked for: a cause, and words; or nothing.

    Each is one of those asked for, or several of them merged, with less than `NEAR` between them;
    it stands where one of those stood (RFC 9110, section 14.2 and 15.3.7.2).
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
            return cause, f"Bytes {first} to {last} came, which nobody has asked for"
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
        return f"{len(body)} bytes that do not stand so in the file"
    return f"{len(body)} bytes, those from {at} to {at + len(body) - 1},"


# What a request means, read by the grammar of RFC 9110 alone


@dataclass(frozen=True)
class Meaning:
    """What a `Range` header asks for, of a file of a certain size."""

    members: int
    """How many ranges it names; 0 if it is to be ignored."""
    there: list[Range]
    """Those of them that are there, cut at the end of the file, in their order."""
    suffix: bool = False
    """Whether one of them counts from the end, and asks for more than nothing."""
    broken: bool = False
    """Whether it is malformed; else, if it is to be ignored, its unit is another one."""


def meaning(header: str, size: int) -> Meaning:
    """What a `Range` header means (RFC 9110, section 14.1.1 and 14.1.2).

    What the lab's text leaves open, empty members and a space after the `=`, has no meaning here.
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
            # The last so many bytes, or all of a file that has fewer.
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
    """The number that digits stand for; all that are longer than 30 digits are as good as equal."""
    digits = digits.lstrip("0")
    return int(digits[:30] or "0") if len(digits) <= 30 else 10**30


def answer_to(header: str, video: Video) -> tuple[str, Judge]:
    """The promise that a `Range` header puts to the test, and the judge of the answer to it."""
    asked = meaning(header, video.size)
    there = asked.there
    if not asked.members:
        if asked.broken:
            return "malformed", whole(video, f"{header!r} is malformed", "not_ignored")
        return "other-unit", whole(video, f"{header!r} names another unit", "other_unit")
    either = asked.members > MOST_RANGES or sum(b - a + 1 for a, b in there) > video.size
    why = "These are many ranges, or more bytes than the file has"
    if not there:
        gone = refused(video, "None of these bytes is there")
        if either or (not video.size and asked.suffix):
            return "not-there", _one_of(whole(video, "Nothing of it is there", "not_416"), gone)
        return "not-there", gone
    if asked.members == 1:
        return "one-range", part(video, *there[0])
    if len(merged(there)) > MOST_RANGES:
        return "seventeen", whole(video, why, "too_many")
    judge = several(video, there)
    return "parts", _one_of(whole(video, why, "too_many"), judge) if either else judge


def merged(ranges: Sequence[Range]) -> list[Range]:
    """The fewest ranges that these may be merged to."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1 + NEAR:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _one_of(if_200: Judge, otherwise: Judge) -> Judge:
    """Two answers are right: status 200 as the first judge has it, or what the second one wants."""
    return lambda talk, answer: (if_200 if answer.status == 200 else otherwise)(talk, answer)


def range_headers(size: int, most: int) -> SearchStrategy[str]:
    """Values of `Range`, near the edges of a file of `size` bytes, with up to `most` members.

    About one in four is malformed, mostly by a single sign.
    """
    edges = [0, 1, 9, size // 2, size - 2, size - 1, size, size + 1, 2**31, 2**53]
    # No range is between two numbers that no file reaches: a program may take them for equal, and
    # so need not notice that the last byte comes before the first one.
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
            lambda unit, several, comma: f"{unit}={comma.join(several)}", units, members, commas
        ),
        _seldom(["+", "-", "_", ".", "x", "0x", " ", ";", "=", "e1"]),
        st.floats(0, 1),
    )


def _seldom(texts: Sequence[str]) -> SearchStrategy[str]:
    """Mostly nothing, seldom one of these."""
    return st.sampled_from([*[""] * 3 * len(texts), *texts])


def _with_a_slip(header: str, slip: str, place: float) -> str:
    """A header with a few signs more somewhere behind the first of its numbers' signs."""
    start = header.index("=") + 2
    at = start + int((len(header) - start) * place)
    return header[:at] + slip + header[at:]


# Taking a 206 apart


@dataclass(frozen=True)
class Part:
    """A range as it came: first and last byte, the size of the whole, and the bytes."""

    first: int
    last: int
    size: int
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)
    """Those of the part itself, their names in lower case."""


class BadParts(Exception):
    """A multipart body can't be taken apart; the message says where it ends to make sense."""

    cause = "bad_parts"


class BoundaryInPart(BadParts):
    """The boundary stands in the bytes of a part as well."""

    cause = "boundary_in_file"


_CONTENT_RANGE = re.compile(r"(?i:bytes) ([0-9]{1,30})-([0-9]{1,30})/([0-9]{1,30})")
_BOUNDARY = re.compile(r"(?i:boundary)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]*))[ \t]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BOUNDARY_SIGNS = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


def is_multipart(answer: RawAnswer) -> bool:
    """Whether an answer says that it has several parts."""
    kind = (answer.header("content-type") or "").partition(";")[0]
    return kind.strip().lower() == "multipart/byteranges"


def parts_of(talk: Talk, answer: RawAnswer, video: Video, cause: str = "") -> list[Part]:
    """The ranges in a 206, be it one or several; their bytes are those of the file."""
    told = [value for key, value in answer.headers if key.lower() == "content-range"]
    if is_multipart(answer):
        if told:
            what = "The parts say their ranges; the head of the answer has no Content-Range"
            talk.fault("range_at_top", what, answer.raw)
        if sum(key.lower() == "content-type" for key, _ in answer.headers) > 1:
            what = "An answer has one Content-Type. The type of the file stands in the parts"
            talk.fault("two_types", what, answer.raw)
        parts = parts_read(talk, answer)
    else:
        found = _CONTENT_RANGE.fullmatch(told[0]) if len(told) == 1 else None
        if found is None:
            came = " and ".join(told) or "none"
            what = f"There should be one Content-Range: bytes FIRST-LAST/SIZE. There is {came}"
            talk.fault("wrong_content_range", what, answer.raw)
        first, last, size = map(int, found.groups())
        parts = [Part(first, last, size, answer.body)]
    for each in parts:
        says = f"Content-Range says bytes {each.first} to {each.last} of {each.size}"
        if each.size != video.size or not 0 <= each.first <= each.last < video.size:
            what = f"{says}. The file has {video.size}, which are counted from 0"
            talk.fault(cause or "wrong_content_range", what, answer.raw)
        if each.data != video.body[each.first : each.last + 1]:
            slip = abs(len(each.data) - (each.last + 1 - each.first))
            elsewhere = slip == 0 and each.data in video.body
            likely = "wrong_content_range" if elsewhere else "wrong_bytes"
            likely = "off_by_one" if slip == 1 else likely
            what = f"{says}. {place_of(each.data, video)} came"
            talk.fault(cause or likely, what, answer.raw)
    return parts


def parts_read(talk: Talk, answer: RawAnswer) -> list[Part]:
    """The parts that an answer in several consists of; ends the check if they can't be read."""
    with promise("part-lines"):
        try:
            return read_parts(answer.header("content-type") or "", answer.body)
        except BadParts as error:
            with promise("boundary" if isinstance(error, BoundaryInPart) else "part-lines"):
                talk.fault(error.cause, str(error), answer.raw)


def read_parts(content_type: str, body: bytes) -> list[Part]:
    """Take a multipart/byteranges body apart, strictly; raises `BadParts`.

    RFC 2046, section 5.1.1: the boundary may be quoted or not, there may be text before the first
    part and after the last. RFC 9110, section 14.6: each part says its Content-Range.
    """
    delimiter = b"--" + boundary_in(content_type)
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if at == 1:
        raise BadParts(f"Nowhere in the body is there a line {delimiter.decode()}")
    at += len(delimiter)
    parts: list[Part] = []
    while not body.startswith(b"--", at):
        end = body.find(b"\r\n", at)
        if end < 0 or body[at:end].strip(b" \t"):
            raise BadParts(f"After a boundary there should be CR LF, not {body[at : at + 30]!r}")
        found, at = _read_part(body, end)
        if delimiter in found.data and b"\r\n" + delimiter in b"\r\n" + found.data:
            raise BoundaryInPart("The boundary stands in the middle of a part: the file has it too")
        if not body.startswith(b"\r\n" + delimiter, at):
            came = f"not {body[at : at + 30]!r}" if body[at:] else "and the body ends"
            raise BadParts(
                f"After the {len(found.data)} bytes of a part there should be CR LF and the "
                f"boundary, {came}"
            )
        at += len(delimiter) + 2
        parts.append(found)
    rest = body[at + 2 :].lstrip(b" \t")
    if rest and not rest.startswith(b"\r\n"):
        raise BadParts(f"After the last boundary stands {rest[:30]!r}")
    if not parts:
        raise BadParts("There is no part in it")
    return parts


def boundary_in(content_type: str) -> bytes:
    """The boundary that a Content-Type names, without quotes; raises `BadParts`."""
    _, _, options = content_type.partition(";")
    found = next(filter(None, (_BOUNDARY.fullmatch(o.strip()) for o in _split(options))), None)
    if found is None:
        raise BadParts(f"Content-Type: {content_type} says no boundary")
    quoted, plain = found.groups()
    if quoted is None and not _TOKEN.fullmatch(plain):
        raise BadParts(f"The boundary {plain!r} would have to stand in quotes")
    boundary = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    if not _BOUNDARY_SIGNS.fullmatch(boundary):
        raise BadParts(f"{boundary!r} can't be a boundary: at most 70 signs, and not all of them")
    return boundary.encode("ascii")


def _split(options: str) -> list[str]:
    """The options of a media type, which stand between semicolons, but not those in quotes."""
    return re.findall(r'(?:[^;"]|"(?:[^"\\]|\\.)*")+', options)


def _read_part(body: bytes, at: int) -> tuple[Part, int]:
    """The part whose boundary's line ends at `at`, and where its data ends."""
    end = body.find(b"\r\n\r\n", at)
    if end < 0:
        raise BadParts("No empty line (CR LF CR LF) ends the headers of a part")
    headers: dict[str, str] = {}
    ranges = []
    for line in filter(None, body[at:end].split(b"\r\n")):
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not _TOKEN.fullmatch(name):
            raise BadParts(f"{line[:60]!r} is no header of a part")
        headers[name.lower()] = value.strip()
        ranges += [value.strip()] if name.lower() == "content-range" else []
    told = _CONTENT_RANGE.fullmatch(ranges[0]) if len(ranges) == 1 else None
    if told is None:
        came = " and ".join(ranges) or "none"
        raise BadParts(f"A part has one Content-Range: bytes FIRST-LAST/SIZE. This has {came}")
    first, last, size = map(int, told.groups())
    if last < first:
        raise BadParts(f"Content-Range: {ranges[0]} ends before it begins")
    data = body[end + 4 : end + 5 + last - first]
    if len(data) < last + 1 - first:
        raise BadParts(f"The body ends in the middle of the part {first}-{last}")
    return Part(first, last, size, data, headers), end + 4 + len(data)
