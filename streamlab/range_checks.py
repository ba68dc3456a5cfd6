"""What lab 08 checks a video server for: byte ranges to the letter, and what they cost.

Each function is one kind of check, as in `streamlab.checks`: it takes a running server (or what
starts one) and a source of random draws, and ends in `fail(cause, evidence)`. Most of them ask one
thing after the other over a connection that stays open, so that each answer also shows whether the
one before it ended where it said. The rules are those of RFC 9110, sections 13 and 14; where it
leaves a choice, the lab's text says which. Ranges are pairs of the first and the last byte, both
of them included. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import NoReturn

from hypothesis import strategies as st

from streamlab.checks import (
    RawAnswer,
    busy_at_rest,
    comes_to_rest,
    dense_file,
    held_by,
    log_of,
    most_held,
    name_of,
    state_of,
    traced,
)
from streamlab.examples import for_all
from streamlab.files import GiB, KiB, MiB, SampleFile, TiB, size_text, sparse_file
from streamlab.memory import descriptors
from streamlab.patience import Deadline
from streamlab.range_answers import (
    MOST_RANGES,
    NEAR,
    Judge,
    Range,
    Step,
    Video,
    answer_to,
    at_most_once,
    boundary_in,
    converse,
    http_date,
    is_multipart,
    laid,
    no_crash,
    out_of_place,
    part,
    parts_read,
    put_to_the_test,
    range_headers,
    ranged,
    refused,
    several,
    whole,
)
from streamlab.server import Server, out_of_memory
from streamlab.talk import Talk, Wanted, talking
from streamlab.testing import CheckFailed, fail, note, promise
from streamlab.tools import command, find_tool

DRAWN = 25
"""Inputs that are drawn for each question."""

# RANGE


def single_ranges(server: Server, draw: Random) -> None:
    """One range comes with status 206 and is what was asked for; HEAD ignores it."""
    video = laid(server, draw, draw.randrange(280_000, 300_000))
    size = video.size
    first = draw.randrange(1000, 5000)
    last = first + draw.randrange(140_000, 200_000)
    few = draw.randrange(2, 900)
    tail = "the last bytes of the file"
    end = "and no more: what lies past the end is not there"
    converse(
        server,
        [
            ranged("one-range", video, f"{first}-{last}", part(video, first, last)),
            Step("whole", video.path, announced(video)),
            ranged("both-ends", video, "0-0", part(video, 0, 0, "one single byte")),
            ranged("both-ends", video, f"0-{few}", part(video, 0, few)),
            ranged("to-the-end", video, f"{last}-", part(video, last, size - 1, "to the end")),
            ranged("to-the-end", video, "0-", part(video, 0, size - 1, "all of them, as asked")),
            ranged(
                "suffix", video, f"-{few}", part(video, size - few, size - 1, tail, "wrong_suffix")
            ),
            ranged("suffix", video, "-1", part(video, size - 1, size - 1, tail, "wrong_suffix")),
            ranged("both-ends", video, f"{size - 1}-{size - 1}", part(video, size - 1, size - 1)),
            ranged("both-ends", video, f"0-{size - 1}", part(video, 0, size - 1)),
            Step(
                "clamp",
                video.path,
                part(video, first, size - 1, end, "no_clamp"),
                (f"Range: bytes={first}-{size + few}",),
                cause="no_clamp",
            ),
            Step(
                "clamp",
                video.path,
                part(video, size - 1, size - 1, end, "no_clamp"),
                (f"Range: bytes={size - 1}-{size}",),
                cause="no_clamp",
            ),
            *(
                Step(
                    "suffix",
                    video.path,
                    part(video, 0, size - 1, "the whole file, which has no more", "wrong_suffix"),
                    (f"Range: bytes=-{more}",),
                    cause="wrong_suffix",
                )
                for more in (size, size + 1, size + few)
            ),
            ranged("zeros", video, "007-010", part(video, 7, 10, "whatever zeros stand before")),
            *(
                Step(
                    "unit-case",
                    video.path,
                    part(video, first, last, "whatever the case of the unit", "unit_case"),
                    (f"Range: {unit}={first}-{last}",),
                )
                for unit in ("Bytes", "BYTES")
            ),
            Step("head", video.path, head_of_whole(video), method="HEAD"),
            *(
                Step("head", video.path, head_of_whole(video), (f"Range: bytes={asked}",), "HEAD")
                for asked in (f"0-{few}", f"{size}-", "0-0,-1")
            ),
            *(
                Step("missing", server.path_of(name_of(draw)), missing, (f"Range: bytes={asked}",))
                for asked in ("0-9", "0-0,5-9", "-1")
            ),
            Step("whole", video.path, whole(video, "No range was asked for", "wrong_status")),
        ],
    )


def announced(video: Video) -> Judge:
    """The whole file, and that it could be had in parts."""

    def judge(talk: Talk, answer: RawAnswer) -> None:
        whole(video, "No range was asked for", "wrong_status")(talk, answer)
        _says_what_it_is(talk, answer, video)

    return judge


def head_of_whole(video: Video) -> Judge:
    """What GET would say without a range."""

    def judge(talk: Talk, answer: RawAnswer) -> None:
        if answer.status != 200 or answer.header("content-range") is not None:
            what = "Range is for GET alone: the status of HEAD should be 200, without a range"
            cause = "head_refused" if answer.status in (404, 405, 501) else "head_range"
            talk.fault(cause, what, answer.raw)
        _says_what_it_is(talk, answer, video)

    return judge


def _says_what_it_is(talk: Talk, answer: RawAnswer, video: Video) -> None:
    if (answer.header("accept-ranges") or "").lower() != "bytes":
        talk.fault("not_announced", "There should be Accept-Ranges: bytes", answer.raw)
    if answer.header("content-length") != str(video.size):
        talk.fault("no_length", f"There should be Content-Length: {video.size}", answer.raw)


def missing(talk: Talk, answer: RawAnswer) -> None:
    """A refusal, and not for the range."""
    if not 400 <= answer.status < 500 or answer.status == 416:
        talk.fault("wrong_status", "There is no such file: the status should be 404", answer.raw)


# STRICT


def strict_ranges(server: Server, draw: Random) -> None:
    """Past the end is 416; malformed is ignored, whatever Python makes of it; nothing breaks."""
    video = laid(server, draw, draw.randrange(3000, 9000))
    size = video.size
    some = draw.randrange(10, 900)
    past = f"Byte {size} is the first that is not there"
    many = 5000
    clever = [_too_clever(video, value, how) for value, how in in_other_digits(some)]
    converse(
        server,
        [
            ranged("one-range", video, f"{some}-{2 * some}", part(video, some, 2 * some)),
            ranged("not-there", video, f"{size}-", refused(video, past)),
            ranged("not-there", video, f"{size}-{size + some}", refused(video, past)),
            ranged("not-there", video, f"{size + some}-", refused(video, past)),
            ranged("suffix-zero", video, "-0", refused(video, "The last 0 bytes are none", _ZERO)),
            ranged("not-there", video, f"-0,{size + 1}-", refused(video, "None of it is there")),
            *(step for step in clever if not step.how),
            *(_ignored("malformed", video, value) for value in malformed(some)),
            *(_ignored("one-malformed", video, value) for value in half_malformed(some)),
            *(
                Step(
                    "other-unit",
                    video.path,
                    whole(video, f"{value} are no bytes", "other_unit"),
                    (header,),
                )
                for value in ("seconds", "byte", "none")
                for header in (f"Range: {value}=0-{some}",)
            ),
            # From here on no command of curl can say what was sent.
            *(step for step in clever if step.how),
            *_with_many_digits(video, some, many),
            ranged("one-range", video, f"{some}-{2 * some}", part(video, some, 2 * some)),
        ],
    )
    _nothing_of_nothing(server, draw)
    drawn_ranges(server, draw, 2)


_ZERO = "suffix_zero"


def drawn_ranges(server: Server, draw: Random, members: int) -> None:
    """Ranges that nobody thought of, of files of a few sizes, with up to so many members."""
    videos = [laid(server, draw, size) for size in (1, 40, draw.randrange(3000, 9000))]

    def attempt(example: tuple[int, str]) -> None:
        video, header = videos[example[0]], example[1]
        promised, judge = answer_to(header, video)
        converse(server, [Step(promised, video.path, judge, (f"Range: {header}",))])

    which = st.integers(0, len(videos) - 1)
    spaces = which.flatmap(
        lambda at: st.tuples(st.just(at), range_headers(videos[at].size, members))
    )
    for_all(spaces, draw, attempt, examples=DRAWN)


def malformed(some: int) -> list[str]:
    """Values of a Range header that say nothing."""
    return [
        f"bytes={some}-5",
        f"bytes={some}-{some - 1}",
        "bytes=a-f",
        "bytes=-",
        "bytes=",
        f"bytes={some}",
        f"bytes 0-{some}",
        "bytes",
        "bytes=1-2-3",
        "bytes=0x0-0x4",
        "bytes=0.0-4.0",
        f"bytes=0-{some};q=1",
    ]


def half_malformed(some: int) -> list[str]:
    """Sets of which one member is malformed."""
    return [f"bytes=0-{some},9-5", f"bytes=0-{some},x", f"bytes=9-8,0-{some}", f"bytes=-,0-{some}"]


def in_other_digits(some: int) -> list[tuple[str, str]]:
    """Numbers that Python's int() takes, or str.isdigit(), and HTTP does not; and what they are."""

    def on_the_wire(text: str) -> str:
        return text.encode().decode("latin-1")  # a header's text goes out as latin-1

    return [
        ("bytes=+0-4", ""),
        ("bytes=0-+4", ""),
        ("bytes=0-1_0", ""),
        ("bytes=1_0-", ""),
        ("bytes=-1_0", ""),
        ("bytes=--5", ""),
        ("bytes=0--5", ""),
        (f"bytes=0- {some}", ""),
        (f"bytes=0 -{some}", ""),
        ("bytes=0-\u00b2", "with a small raised 2 (byte 0xb2) for a digit"),
        (on_the_wire("bytes=\u0660-\u0664"), "with Arabic digits, in UTF-8"),
        (on_the_wire("bytes=0-\uff14"), "with a wide 4 (U+FF14), in UTF-8"),
    ]


def _ignored(promised: str, video: Video, value: str) -> Step:
    why = f"{value!r} is malformed, so it is ignored"
    return Step(promised, video.path, whole(video, why, "not_ignored"), (f"Range: {value}",))


def _too_clever(video: Video, value: str, how: str) -> Step:
    why = f"In {'this' if how else repr(value)} something stands for a number that is none in HTTP"

    def judge(talk: Talk, answer: RawAnswer) -> None:
        cause = "lenient_int" if answer.status == 206 else "not_ignored"
        whole(video, f"{why}, so it is ignored", cause)(talk, answer)

    return Step("only-python", video.path, judge, (f"Range: {value}",), how=how)


def _with_many_digits(video: Video, some: int, digits: int) -> list[Step]:
    """Numbers that are larger than any file, and longer than int() takes."""
    size, nines, how = video.size, "9" * digits, f"with a number of {digits} digits"
    everything = part(video, some, size - 1, "up to the end of the file", "many_digits")
    suffix = part(video, 0, size - 1, "the whole file, for there is no more", "many_digits")
    past = refused(video, "No file has so many bytes", "many_digits")
    return [
        ranged("many-digits", video, f"{some}-{10**30}", everything),
        ranged("many-digits", video, f"{some}-{nines}", everything, how=how),
        ranged("many-digits", video, f"-{nines}", suffix, how=how),
        ranged("many-digits", video, f"{nines}-", past, how=how),
    ]


def _nothing_of_nothing(server: Server, draw: Random) -> None:
    """A file of 0 bytes has no first byte (RFC 9110, section 14.1.2)."""
    empty = laid(server, draw, 0)
    video = laid(server, draw, 500)
    why = "A file of 0 bytes has no byte 0"

    def nothing(talk: Talk, answer: RawAnswer) -> None:
        if answer.status == 200:
            whole(empty, "The file is empty", "empty_file")(talk, answer)
        else:
            refused(empty, "Of nothing there is no last byte", "empty_file")(talk, answer)

    converse(
        server,
        [
            Step(
                "empty-file",
                empty.path,
                whole(empty, "The file is empty", "empty_file"),
                cause="empty_file",
            ),
            ranged("empty-file", empty, "0-", refused(empty, why, "empty_file")),
            ranged("empty-file", empty, "0-0", refused(empty, why, "empty_file")),
            Step("empty-file", empty.path, nothing, ("Range: bytes=-5",), cause="empty_file"),
            Step("empty-file", empty.path, nothing, ("Range: bytes=0-,-5",), cause="empty_file"),
            ranged("one-range", video, "0-99", part(video, 0, 99)),
        ],
    )


# SEVERAL


def several_ranges(server: Server, draw: Random) -> None:
    """Several ranges come as parts, in their order; what can't be given is left out."""
    video = laid(server, draw, draw.randrange(290_000, 310_000))
    size = video.size
    a, b, c = (draw.randrange(at, at + 9000) for at in (10_000, 60_000, 150_000))
    three = [(b, b + 5000), (a, a + draw.randrange(9, 999)), (c, c + 80_000)]
    ends = [(size - 200, size - 1), (0, 99)]
    overlapping = [(a, a + 999), (a + 500, a + 2999)]
    one, gone = [(a, a + 99)], "the others are not there"
    full = [(at, at + draw.randrange(5, 50)) for at in range(1000, 161_000, 10_000)]
    draw.shuffle(full)
    apart = [(a, a + 99), (a + 99 + NEAR + 2, a + 999)]
    converse(
        server,
        [
            ranged("parts", video, text_of(three), with_types(video, several(video, three))),
            ranged(
                "parts",
                video,
                f"-200,0-99,{size - 1}-{size + 9}",
                several(video, [*ends, (size - 1, size - 1)]),
            ),
            ranged(
                "list-spaces",
                video,
                text_of(three, " ,\t"),
                several(video, three, cause="list_spaces"),
            ),
            ranged(
                "left-out",
                video,
                f"{a}-{a + 99},{size}-,-0",
                several(video, one, gone, "unsatisfiable_member"),
            ),
            ranged(
                "left-out",
                video,
                f"{size + 5}-{size + 9},0-0,{c}-",
                several(video, [(0, 0), (c, size - 1)], gone, "unsatisfiable_member"),
            ),
            ranged(
                "left-out", video, f"{size}-,{size + 7}-", refused(video, "None of them is there")
            ),
            ranged("merging", video, text_of(overlapping), several(video, overlapping)),
            ranged("merging", video, text_of(apart), several(video, apart)),
            ranged("parts", video, f"{a}-,0-{a - 1}", several(video, [(a, size - 1), (0, a - 1)])),
            ranged("sixteen", video, text_of(full), several(video, full, cause="too_few")),
            ranged("one-range", video, f"{a}-{a + 99}", part(video, a, a + 99)),
        ],
    )
    _no_boundary_in_the_file(server, draw, video)
    _not_too_many(server, draw)
    drawn_ranges(server, draw, 5)


def text_of(ranges: Sequence[Range], between: str = ",") -> str:
    """Ranges as a header has them."""
    return between.join(f"{first}-{last}" for first, last in ranges)


def with_types(video: Video, judge: Judge) -> Judge:
    """The same; and the type of the file stands in each part (RFC 9110, section 15.3.7.2)."""

    def judge_types(talk: Talk, answer: RawAnswer) -> None:
        judge(talk, answer)
        if not is_multipart(answer):
            what = "These ranges do not touch: they should come as multipart/byteranges"
            talk.fault("bad_parts", what, answer.raw)
        wanted = _type_of(talk.server, video)
        with promise("part-headers"):
            for each in parts_read(talk, answer):
                if (each.headers.get("content-type") or "") != wanted:
                    what = f"Each part should say Content-Type: {wanted}, as GET does"
                    talk.fault("part_type", what, answer.raw)

    return judge_types


def _type_of(server: Server, video: Video) -> str:
    """The Content-Type of the whole file."""
    with talking(server) as talk:
        answer = talk.ask(Wanted(video.path, video.body))
        return answer.header("content-type") or ""


def _no_boundary_in_the_file(server: Server, draw: Random, video: Video) -> None:
    """A file that has the boundary of an earlier answer in it is taken apart all the same."""
    ranges = [(0, 1999), (5000, 6999)]
    with put_to_the_test("boundary"), talking(server) as talk:
        talk.say(Wanted(video.path, None).request(f"Range: bytes={text_of(ranges)}"))
        answer = talk.hear()
        several(video, ranges)(talk, answer)
        boundary = boundary_in(answer.header("content-type") or "")
    line = b"\r\n--" + boundary
    # Another file has it now, and so has that very file, which is as old and as large as before.
    for trap in (laid(server, draw, 9000), video):
        body, about = bytearray(trap.body), trap.file.stat()
        for at, mark in ((300, line + b"\r\n\r\n"), (900, line + b"--\r\n"), (5500, line)):
            body[at : at + len(mark)] = mark
        trap = replace(trap, body=bytes(body))
        trap.file.write_bytes(trap.body)
        os.utime(trap.file, ns=(about.st_mtime_ns, about.st_mtime_ns))
        converse(server, [ranged("boundary", trap, text_of(ranges), several(trap, ranges))])


def _not_too_many(server: Server, draw: Random) -> None:
    """Sets that ask for far too much get the whole file, or nothing of it twice."""
    video = laid(server, draw, draw.randrange(460_000, 480_000))
    why = f"{MOST_RANGES} ranges are answered, and no more"
    over = [(at, at + 2) for at in range(0, 700 * (MOST_RANGES + 1), 700)]
    crowd = [(at, at) for at in range(0, 300 * 1500, 300)]
    greedy = ",".join(["0-", "5-5", *(f"5-{last}" for last in range(6, 1300))])
    twice = "Together they are more than the file"
    converse(
        server,
        [
            ranged(
                "seventeen",
                video,
                text_of(over),
                whole(video, f"{why}. These are {len(over)}", "too_many"),
            ),
            ranged(
                "seventeen",
                video,
                text_of(crowd),
                whole(video, f"{why}. These are {len(crowd)}", "too_many"),
                how=f"with {len(crowd)} ranges",
            ),
            ranged(
                "too-much",
                video,
                greedy,
                at_most_once(video, twice),
                how="with 1296 ranges that overlap",
            ),
            ranged("too-much", video, "0-,0-,0-", at_most_once(video, twice)),
            ranged("too-much", video, "0-,-300000", at_most_once(video, twice)),
            ranged("too-much", video, f"0-,{video.size - 1}-", at_most_once(video, twice)),
            ranged("one-range", video, "0-9", part(video, 0, 9)),
        ],
    )


# CONDITION


def conditions(launch: Callable[..., Server], draw: Random) -> None:
    """If-Range guards against mixing versions, If-None-Match against sending what is known."""
    server = launch(environment={"TZ": "XST-5:30"})
    video = laid(server, draw, draw.randrange(3000, 9000))
    some = draw.randrange(100, 900)
    tag = _version_of(server, video)
    _guarded(server, video, tag, some)
    _known(server, video, tag, some)
    _drawn_conditions(server, draw, video, tag)
    _changed(server, draw, some)
    again = launch(environment={"TZ": "XST-5:30"})
    with put_to_the_test("etag-restart"), talking(again) as talk:
        answer = talk.ask(Wanted(video.path, None), method="HEAD")
        if answer.header("etag") != tag:
            what = f"The server was started again, and nothing else has changed. It said {tag}"
            talk.fault("other_tag_after_restart", what, answer.raw)
    same = part(video, some, 2 * some, "because the version is the same", "if_range_refused")
    converse(
        again,
        [
            ranged("if-range-same", video, f"{some}-{2 * some}", same, f"If-Range: {tag}"),
            Step("if-none-match", video.path, not_modified(tag), (f"If-None-Match: {tag}",)),
        ],
    )


def _version_of(server: Server, video: Video) -> str:
    """The strong tag of a file, which all answers about it agree on, and its date."""
    request = Wanted(video.path, None)
    with put_to_the_test("etag-strong"), talking(server) as talk:
        talk.say(request.request())
        answer = talk.hear()
        tag = answer.header("etag") or ""
        if not re.fullmatch(r'"[\x21\x23-\x7e\x80-\xff]+"', tag):
            cause = "weak_tag" if tag.startswith("W/") else "no_tag"
            what = f'There should be a strong ETag: "...", in quotes. There is {tag or "none"}'
            talk.fault(cause, what, answer.raw)
        told, moment = answer.header("last-modified"), video.file.stat().st_mtime_ns
        with promise("last-modified"):
            if told not in (http_date(moment), http_date(moment, 1)):
                should = f"There should be Last-Modified: {http_date(moment)}"
                zone = ", and the zone of the server is UTC+5:30" if told else ""
                what = f"{should}. There is {told or 'none'}{zone}"
                talk.fault("wrong_date", what, answer.raw)

    def same_tag(talk: Talk, answer: RawAnswer) -> None:
        if answer.header("etag") != tag:
            what = f"GET of the whole file says ETag: {tag}. This should say so too"
            talk.fault("no_tag", what, answer.raw)

    def tagged(judge: Judge) -> Judge:
        def judge_both(talk: Talk, answer: RawAnswer) -> None:
            judge(talk, answer)
            same_tag(talk, answer)

        return judge_both

    converse(
        server,
        [
            Step("etag-everywhere", video.path, same_tag, method="HEAD"),
            ranged("etag-everywhere", video, "0-99", tagged(part(video, 0, 99))),
            ranged(
                "etag-everywhere",
                video,
                "0-9,2000-2009",
                tagged(several(video, [(0, 9), (2000, 2009)])),
            ),
        ],
    )
    return tag


def _guarded(server: Server, video: Video, tag: str, some: int) -> None:
    """A part comes if If-Range names the version that is there, and all of it otherwise."""
    moment, size = video.file.stat().st_mtime_ns, video.size
    with put_to_the_test("last-modified"), talking(server) as talk:
        talk.say(Wanted(video.path, None).request())
        date = talk.hear().header("last-modified") or ""
    wanted = part(video, some, 2 * some, "because the version is the same", "if_range_refused")
    asked = f"{some}-{2 * some}"
    other = tag[:-1] + 'x"'
    stale = "if_range_ignored"

    def same(value: str, wanted: Judge, asked: str = asked) -> Step:
        return ranged("if-range-same", video, asked, wanted, f"If-Range: {value}")

    def otherwise(
        value: str,
        why: str = "That is the tag of another version",
        cause: str = stale,
        promised: str = "if-range-other",
        asked: str = asked,
    ) -> Step:
        return ranged(promised, video, asked, whole(video, why, cause), f"If-Range: {value}")

    gone = "The version is the same, and there are no such bytes"
    exact, alone = "That date is another one", "There is no Range, so If-Range means nothing"
    converse(
        server,
        [
            same(tag, wanted),
            same(date, wanted),
            same(tag, several(video, [(0, 9), (2000, 2009)]), "0-9,2000-2009"),
            same(tag, refused(video, gone), f"{size}-"),
            same(date, refused(video, gone), f"{size}-"),
            otherwise(other),
            otherwise('"x"'),
            otherwise(f'{tag}, "x"', "That is a list, and no tag"),
            otherwise(f"W/{tag}", "A weak tag never matches here", "weak_matches", "if-range-weak"),
            otherwise(http_date(moment, 3600), exact, "date_not_exact"),
            otherwise(http_date(moment, -3600), exact, "date_not_exact"),
            otherwise("yesterday", "That is neither a tag nor a date"),
            otherwise(other, "The version is another one, so Range is not looked at", asked="9-"),
            otherwise(other, "The version is another one, so Range is not looked at", asked="-9"),
            otherwise(other, asked=f"{size}-"),
            otherwise(other, asked="0-9,2000-2009"),
            *(
                Step(
                    "if-range-alone",
                    video.path,
                    whole(video, alone, "wrong_status"),
                    (f"If-Range: {value}",),
                )
                for value in (other, tag)
            ),
        ],
    )


def _known(server: Server, video: Video, tag: str, some: int) -> None:
    """If-None-Match wins: who knows this version gets 304, whatever else is asked."""
    now, old = http_date(video.file.stat().st_mtime_ns), "Sat, 01 Jan 2000 00:00:00 GMT"
    other = tag[:-1] + 'x"'
    asked = f"Range: bytes={some}-{2 * some}"
    wanted = part(video, some, 2 * some, "because the client has another version", "none_match")

    def known(
        *headers: str,
        cause: str = "not_304",
        method: str = "GET",
        promised: str = "if-none-match",
    ) -> Step:
        return Step(promised, video.path, not_modified(tag, cause), headers, method)

    def unknown(*headers: str, why: str = "The client does not have this version") -> Step:
        judge = whole(video, why, "none_match")
        return Step("if-none-match-other", video.path, judge, headers)

    in_list = "if-none-match-list"
    converse(
        server,
        [
            known(f"If-None-Match: {tag}"),
            unknown(f"If-None-Match: {other}"),
            unknown(f'If-None-Match: "x{tag[1:]}'),
            unknown(f'If-None-Match: "x,{tag[1:-1]},x"', why="That is one tag, of another version"),
            known(f"If-None-Match: {tag}", asked, cause="range_wins"),
            known(f"If-None-Match: {tag}", f"Range: bytes={video.size}-", cause="range_wins"),
            known(f"If-None-Match: {tag}", asked, f"If-Range: {tag}", cause="range_wins"),
            known(f"If-None-Match: W/{tag}", cause="weak_is_known", promised=in_list),
            known(f'If-None-Match: "a", {tag},"b"', cause="tags_in_list", promised=in_list),
            known(f'If-None-Match: "a" , W/{tag}', cause="tags_in_list", promised=in_list),
            known("If-None-Match: *", cause="tags_in_list", promised=in_list),
            known("If-None-Match: *", asked, cause="tags_in_list", promised=in_list),
            known(f"If-None-Match: {tag}", method="HEAD"),
            known(f"If-None-Match: W/{tag}", method="HEAD", promised=in_list),
            Step("if-none-match-other", video.path, wanted, (f"If-None-Match: {other}", asked)),
            known(f"If-None-Match: {tag}", f"If-Modified-Since: {old}", cause="date_wins"),
            Step(
                "if-none-match-other",
                video.path,
                whole(video, "If-None-Match names another version, and wins", "date_wins"),
                (f"If-None-Match: {other}", f"If-Modified-Since: {now}"),
            ),
            ranged("one-range", video, "0-9", part(video, 0, 9)),
        ],
    )


def not_modified(tag: str, cause: str = "not_304") -> Judge:
    """304, and which version it is."""

    def judge(talk: Talk, answer: RawAnswer) -> None:
        if answer.status != 304:
            what = "The client has this version: the status should be 304"
            talk.fault(cause, what, answer.raw)
        with promise("etag-everywhere"):
            if answer.header("etag") != tag:
                talk.fault("no_tag", f"A 304 says which version: ETag: {tag}", answer.raw)

    return judge


@dataclass(frozen=True)
class Asked:
    """A request with conditions, as it is drawn; the headers that it does not have are empty."""

    method: str
    range: str
    if_range: str
    if_none_match: Sequence[str]


def _drawn_conditions(server: Server, draw: Random, video: Video, tag: str) -> None:
    """Conditions in all their mixtures: the order in which they count is RFC 9110, section 13.2.2.

    What a client may not send, such as a list with a star in it, is not drawn.
    """
    inner = tag[1:-1]
    tags = [tag, f"W/{tag}", f'"{inner}x"', f'"x{inner}"', f'W/"x{inner}"', f'"a,{inner},b"', '"b"']
    date = http_date(video.file.stat().st_mtime_ns, 7)
    requests = st.builds(
        Asked,
        st.sampled_from(["GET", "GET", "GET", "HEAD"]),
        st.sampled_from(["", "bytes=0-9", "bytes=-5", "bytes=0-9,2000-", f"bytes={video.size}-"]),
        st.sampled_from(["", tag, f"W/{tag}", *tags[2:6], inner, date]),
        st.one_of(
            st.just(()), st.just(("*",)), st.lists(st.sampled_from(tags), min_size=1, max_size=4)
        ),
    )

    def attempt(asked: Asked) -> None:
        fields = {
            "Range": asked.range,
            "If-Range": asked.if_range,
            "If-None-Match": ", ".join(asked.if_none_match),
        }
        headers = [f"{name}: {value}" for name, value in fields.items() if value]
        promised, judge = _answer_with_conditions(asked, video, tag)
        converse(server, [Step(promised, video.path, judge, headers, asked.method)])

    for_all(requests, draw, attempt, examples=DRAWN)


def _answer_with_conditions(asked: Asked, video: Video, tag: str) -> tuple[str, Judge]:
    """The promise that a request with conditions puts to the test, and the judge of its answer."""
    if list(asked.if_none_match) == ["*"]:
        return "if-none-match-list", not_modified(tag, "tags_in_list")
    if any(each.removeprefix("W/") == tag for each in asked.if_none_match):
        return "if-none-match", not_modified(tag)
    if asked.method == "HEAD":
        return "head", head_of_whole(video)
    if not asked.range:
        why = "There is no Range, and the client does not have this version"
        return "if-range-alone", whole(video, why, "wrong_status")
    if asked.if_range.startswith("W/"):
        return "if-range-weak", whole(video, "A weak tag never matches here", "weak_matches")
    if asked.if_range not in ("", tag):
        why = "If-Range is not the ETag, and not the date of Last-Modified"
        return "if-range-other", whole(video, why, "if_range_ignored")
    promised, judge = answer_to(asked.range, video)
    return ("if-range-same" if asked.if_range else promised), judge


def _changed(server: Server, draw: Random, some: int) -> None:
    """Another content of the same size, in the same second, is another version.

    It is another one somewhere in the middle, which a tag of the beginning or the end can't tell.
    """
    old = laid(server, draw, draw.randrange(3 * MiB, 4 * MiB))
    at = draw.randrange(MiB, 2 * MiB)
    asked = f"{at}-{at + some - 1}"
    body = bytearray(old.body)
    body[at : at + some] = body[at : at + some].upper()
    in_capitals = f"bytes {asked} are in capitals now. That was the tag of the old content"
    for later, why in (
        (250_000_000, "The file has changed, a quarter of a second after it was written first"),
        (0, "The file has changed, and was given its old time back, as some tools do"),
    ):
        with put_to_the_test("etag-changes"), talking(server) as talk:
            tag = talk.ask(Wanted(old.path, None), method="HEAD").header("etag") or ""
        before = old.file.stat()
        moment = before.st_mtime_ns + later
        video = replace(old, body=bytes(body))
        while True:
            # The kernel's own time of a change has ticks, of 10 ms at most.
            old.file.write_bytes(video.body)
            os.utime(old.file, ns=(moment, moment))
            if old.file.stat().st_ctime_ns != before.st_ctime_ns:
                break
        changed = whole(video, f"{why}: {in_capitals}", "same_tag")
        converse(
            server,
            [
                ranged("etag-changes", video, asked, changed, f"If-Range: {tag}"),
                Step("etag-changes", video.path, changed, (f"If-None-Match: {tag}",)),
                ranged("one-range", video, asked, part(video, at, at + some - 1)),
            ],
        )
        body[at : at + some] = body[at : at + some].lower()
        in_capitals = f"bytes {asked} are in small letters now. That was the tag of the old content"


# HUGE


def huge_ranges(server: Server, draw: Random) -> None:
    """Parts of files beyond 4 GiB and of a huge one, small and large, inside the cup."""
    large = _marked(server, draw, draw.randrange(5 * GiB, 9 * GiB), (2 * GiB, 4 * GiB))
    size = draw.choice([300 * GiB, 600 * GiB, TiB]) + draw.randrange(MiB)
    far = draw.randrange(size // 3 * 2, size - GiB)
    huge = _marked(server, draw, size, (far,))
    end = huge.size - 1
    with ExitStack() as stack:

        def asking() -> Talk:
            talk = stack.enter_context(talking(server))
            talk.note(f"({large.name} has {size_text(large.size)}, {huge.name} {huge.size} bytes)")
            return talk

        with put_to_the_test("anywhere"):
            talk = asking()
            _piece(talk, large, 100, 1099)
            for edge in (2 * GiB, 4 * GiB):
                _piece(talk, large, edge - 500, edge + 499)
            _piece(talk, large, large.size - 1000, large.size - 1, "-1000")
            _piece(talk, huge, far - 500, far + 523)
            _piece(talk, huge, end - 65_999, end, "-66000")
            _far_apart(talk, huge, [(0, 99), (far - 300, far + 300), (end - 99, end)])
        with put_to_the_test("cup"):
            _poured(asking(), huge, draw.randrange(1, MiB), draw.randrange(280, 320) * MiB)
            _begun(asking(), huge, [(1, huge.size // 3), (far - 1, end - 5)])
            _piece(asking(), huge, end, end, f"{end}-")


def _marked(server: Server, draw: Random, size: int, places: Sequence[int]) -> SampleFile:
    """A sparse file with islands of random bytes, 64 KiB around each of these places too."""
    file = sparse_file(size, name_of(draw, ".mp4"), server.root, 6, draw.randrange(2**32))
    with file.path.open("r+b") as content:
        for place in places:
            content.seek(place - 32 * KiB)
            content.write(draw.randbytes(64 * KiB))
    return file


def _read(file: SampleFile, first: int, length: int) -> bytes:
    with file.path.open("rb") as content:
        content.seek(first)
        return content.read(length)


def _ask(talk: Talk, file: SampleFile, spec: str) -> None:
    talk.say(Wanted(talk.server.path_of(file), None).request(f"Range: bytes={spec}"))


def _piece(talk: Talk, file: SampleFile, first: int, last: int, spec: str = "") -> None:
    """A small range of a large file, and nothing else."""
    _ask(talk, file, spec or f"{first}-{last}")
    head = _head_of_part(talk, file, first, last)
    with in_time(talk):
        came = talk.take(last + 1 - first)
    if came != _read(file, first, last + 1 - first):
        what = f"The {len(came)} bytes that came are not those from {first} on"
        talk.fault("wrong_bytes", what, head.raw + came)


@contextmanager
def in_time(talk: Talk) -> Iterator[None]:
    """What comes only after seconds, over a connection that stays open, is late."""
    try:
        yield
    except CheckFailed as failure:
        if talk.timed_out and failure.cause in ("no_end", "no_answer"):
            failure.cause = "late"
        raise


def _head_of_part(talk: Talk, file: SampleFile, first: int, last: int) -> RawAnswer:
    """The head of a 206 with this range; its body is still to be taken."""
    with in_time(talk):
        head = talk.hear_head()
    no_crash(talk, head)
    if head.status == 200:
        talk.fault("ignores_range", "Status 200 means: here is the whole file", head.raw)
    wanted = f"bytes {first}-{last}/{file.size}"
    if head.status != 206 or (head.header("content-range") or "").lower() != wanted:
        what = f"There should be status 206 and Content-Range: {wanted}"
        talk.fault("wrong_content_range", what, head.raw)
    if head.header("content-length") != str(last + 1 - first):
        what = f"There should be Content-Length: {last + 1 - first}"
        talk.fault("no_length", what, head.raw)
    talk.note(f"came 206 (Content-Length: {head.header('content-length')})")
    return head


def _far_apart(talk: Talk, file: SampleFile, ranges: Sequence[Range]) -> None:
    """Small parts from the two ends of a huge file."""
    _ask(talk, file, text_of(ranges))
    with in_time(talk):
        answer = talk.hear()
    no_crash(talk, answer)
    if answer.status != 206 or not is_multipart(answer):
        what = "There should be status 206, and multipart/byteranges"
        talk.fault("ignores_sets", what, answer.raw)
    parts = parts_read(talk, answer)
    for each in parts:
        if each.data != _read(file, each.first, len(each.data)) or each.size != file.size:
            what = f"The part {each.first}-{each.last}/{each.size} has other bytes than the file"
            talk.fault("wrong_bytes", what, answer.raw)
    wrong, what = out_of_place(ranges, [(each.first, each.last) for each in parts])
    if wrong:
        talk.fault(wrong, what, answer.raw)


def _poured(talk: Talk, file: SampleFile, first: int, length: int) -> None:
    """The first bytes of what goes from `first` to the end, more of them than fit into the cup."""
    _ask(talk, file, f"{first}-")
    _head_of_part(talk, file, first, file.size - 1)
    _goes_on(talk, file, first, length)


def _goes_on(
    talk: Talk, file: SampleFile, first: int, length: int, cause: str = "wrong_bytes"
) -> None:
    """The next bytes of a body are `length` bytes (whole MiB) of the file from `first` on."""
    with file.path.open("rb") as content:
        content.seek(first)
        for at in range(0, length, MiB):
            came = talk.take(MiB)
            if came != content.read(MiB):
                what = f"What should stand in the file from byte {first + at} on is not what comes"
                talk.fault(cause, what)


def _begun(
    talk: Talk, file: SampleFile, ranges: Sequence[Range], cause: str = "wrong_bytes"
) -> None:
    """The beginning of parts that are larger than any memory."""
    _ask(talk, file, text_of(ranges))
    with in_time(talk):
        head = talk.hear_head()
    no_crash(talk, head)
    if head.status != 206 or not is_multipart(head):
        talk.fault("ignores_sets", "There should be status 206 and two parts", head.raw)
    came = talk.take(MiB)
    first = ranges[0][0]
    if _read(file, first, 64 * KiB) not in came:
        what = f"In the first MiB there should be the bytes from {first} on"
        talk.fault(cause, what, head.raw + came)


# HOLD


def held_ranges(server: Server, draw: Random, clients: int = 16, each: int = 4 * MiB) -> None:
    """Clients that stop in the middle of a part cost a few MiB, and when they leave nothing."""
    small = laid(server, draw, 100_000)
    tag = '"of another version"'

    def only_told(talk: Talk, answer: RawAnswer) -> None:
        """The answers without a body are put to the test elsewhere."""

    first = [
        ranged("one-range", small, "5-99999", part(small, 5, 99_999)),
        ranged("parts", small, "0-9,5000-99999", several(small, [(0, 9), (5000, 99_999)])),
        Step("whole", small.path, whole(small, "No range was asked for", "wrong_status")),
        Step("head", small.path, head_of_whole(small), method="HEAD"),
        Step("not-there", small.path, only_told, ("Range: bytes=100000-",)),
        Step("if-none-match-list", small.path, only_told, ("If-None-Match: *",)),
        Step("if-none-match-list", small.path, only_told, ("If-None-Match: *",), "HEAD"),
        ranged("if-range-other", small, "0-9", only_told, f"If-Range: {tag}"),
    ]
    with promise("ended"):
        converse(server, first)
        fresh = len(descriptors(server.keeper))
        for _ in range(clients):
            converse(server, first)
        _left_nothing(server, small.file, f"{clients * len(first)} answers have ended", fresh)
    comes_to_rest(server)  # until then it may still have what the last one had
    baseline, before = held_by(server), len(descriptors(server.keeper))
    size = draw.randrange(64 * MiB, 80 * MiB)
    file = dense_file(size, name_of(draw, ".mp4"), server.root, draw)
    allowed = clients * each
    line = f"curl -sS --limit-rate 1M -r 9- -o got http://127.0.0.1:PORT{server.path_of(file)}"
    waiting: list[tuple[Talk, int]] = []
    with put_to_the_test("waiting"), traced(server) as trace, ExitStack() as stack:
        for number in range(clients):
            talk = stack.enter_context(talking(server))
            talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * KiB)
            talk.note(f"{number} other clients have taken 1 MiB of such a part, and wait")
            begin = draw.randrange(1, size // 8)
            wrong = "mixed_up" if number else "wrong_bytes"
            if number % 2:
                _begun(talk, file, [(begin, size // 2), (size // 4 * 3, size - 1)], wrong)
            else:
                _ask(talk, file, f"{begin}-")
                _head_of_part(talk, file, begin, size - 1)
                waiting.append((talk, begin))
                _goes_on(talk, file, begin, MiB, wrong)
        held = most_held(server, baseline + allowed)
        if held > baseline + allowed:
            fail(
                "holds_much",
                f"{clients} clients each asked for a part of {server.path_of(file)} "
                f"({size_text(size)}), took 1 MiB of it and waited. The server held "
                f"{size_text(held - baseline)} more than when idle; {size_text(allowed)} are "
                f"allowed.\n{trace.line}{log_of(server)}",
                line,
            )
        for talk, begin in draw.sample(waiting, 3):
            talk.note("(the others have begun meanwhile)")
            _goes_on(talk, file, begin + MiB, 8 * MiB, "mixed_up")
        # Of the parts above a server could read all that is left in a moment.
        endless = sparse_file(draw.randrange(400, 600) * GiB, name_of(draw, ".mp4"), server.root, 4)
        with talking(server) as one, talking(server) as two:
            _ask(one, endless, "9-")
            _head_of_part(one, endless, 9, endless.size - 1)
            _goes_on(one, endless, 9, MiB)
            _begun(
                two, endless, [(9, endless.size // 2), (endless.size // 4 * 3, endless.size - 1)]
            )
    with promise("leaves"):
        what = f"{clients + 2} clients left in the middle of a part"
        for left in (file, endless):
            _left_nothing(server, left.path, what, before)
        if busy := busy_at_rest(server, 0.8):
            fail("spins", f"{what}. Now nobody asks for anything, and the server {busy}")
        converse(server, first)


def _left_nothing(
    server: Server, file: Path, what: str, before: int, patience: float = 5.0
) -> None:
    """What has ended is forgotten within some seconds: descriptors, handles on the file."""
    deadline = Deadline(patience)
    while True:
        now = descriptors(server.keeper)
        handles = sum(target.endswith(file.name) for target in now)
        if len(now) <= before + 3 and handles <= 3:
            return
        if deadline.passed:
            break
        deadline.pause(0.05)
    fail(
        "leaks",
        f"{what}. {patience:g} s later the server has {len(now)} descriptors, {handles} of them on "
        f"{file.name}; before there were {before}.{log_of(server)}",
        f"curl -sS -m 0.1 -r 1000- -o /dev/null http://127.0.0.1:PORT{server.path_of(file.name)}",
    )


# CLIENT


def clients_resume(server: Server, draw: Random, scratch: Path) -> None:
    """curl and wget go on where a download broke off; aria2c makes one over four connections.

    A program that is not installed is left out, with a note; with CI set, that is an error.
    """
    video = laid(server, draw, draw.randrange(5 * MiB, 6 * MiB))
    # The one that can't be fooled by a server without ranges comes first.
    for name, use in (("curl", _curl), ("wget", _wget), ("aria2c", _aria2c)):
        program = find_tool(name)
        if program is None and os.environ.get("CI"):
            raise FileNotFoundError(f"CI may skip nothing, but {name} is not installed")
        if program is None:
            note(f"{name} is not installed: its part was left out.")
            continue
        folder = scratch / name
        folder.mkdir()
        with promise("aria2c" if name == "aria2c" else "curl-wget"):
            use(_Shell(server, video, name, folder), draw)


WHOLE = 30.0
"""Seconds that a client such as curl gets for a download. Its own limits are longer, because it
can't tell a server that is late from one that has no CPU."""


@dataclass(frozen=True)
class _Shell:
    """A real client, and what it is to download into a folder of its own."""

    server: Server
    video: Video
    program: str
    folder: Path

    @property
    def got(self) -> Path:
        """Where the download lies."""
        return self.folder / self.video.file.name

    def run(self, *options: str) -> tuple[int, str]:
        """Run the client on the video; its exit status, and what it said."""
        asking = command(self.program, *options, self.server.url + self.video.path)
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(self.folder)}
        deadline = Deadline(WHOLE)
        with subprocess.Popen(
            asking,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=environment,
            text=True,
            errors="replace",
        ) as ran:
            while True:
                try:
                    said, _ = ran.communicate(timeout=deadline.turn)
                    return ran.returncode, said.strip()
                except subprocess.TimeoutExpired:
                    if deadline.passed:
                        ran.kill()

    def failed(self, cause: str, what: str, said: str, *options: str) -> NoReturn:
        """End the check with this client's story."""
        lines = said.replace(f"{self.folder}/", "").splitlines()[-12:]
        words = "\n".join(f"    {line[:160]}" for line in lines)
        log = self.server.log()
        if out_of_memory(log):
            cause = "whole_file"
        url = f"http://127.0.0.1:PORT{self.video.path}"
        fail(
            cause,
            f"{what}. {self.outcome}It said:\n\n{words or '    (nothing)'}{state_of(self.server)}",
            shlex.join([self.program, *options, url]),
        )

    @property
    def outcome(self) -> str:
        """What has become of the download, in a sentence; nothing if it is right."""
        if self.is_right():
            return ""
        came = self.got.stat().st_size if self.got.is_file() else 0
        return f"What lies there now has {came} bytes, and is not the file. "

    def is_right(self) -> bool:
        """Whether the download is the file."""
        return self.got.is_file() and self.got.read_bytes() == self.video.body


def _curl(shell: _Shell, draw: Random) -> None:
    size = shell.video.size
    begun = draw.randrange(size // 4, size // 2)
    shell.got.write_bytes(shell.video.body[:begun])
    status, said = shell.run(
        *("-sS", "-m", "20", "-C", "-", "-O"),
        *("-w", "\nstatus %{http_code}, %{size_download} bytes"),
    )
    told = f"status 206, {size - begun} bytes"
    if status or not shell.is_right() or told not in said:
        what = f"curl had {begun} of {size} bytes, and was to fetch the other {size - begun}"
        shell.failed("no_resume", what, said, "-C", "-", "-O")


def _wget(shell: _Shell, draw: Random) -> None:
    size = shell.video.size
    begun = draw.randrange(size // 4, size // 2)
    shell.got.write_bytes(shell.video.body[:begun])
    options = ("-c", "-S", "--progress=dot:mega", "-t", "1", "-T", "200")
    status, said = shell.run(*options)
    if status or not shell.is_right() or " 206 " not in said:
        what = f"wget had {begun} of {size} bytes, and was to fetch the other {size - begun}"
        shell.failed("no_resume", what, said, "-c", "-S")
    status, said = shell.run(*options)
    if status or not shell.is_right() or " 416 " not in said:
        what = f"wget had all {size} bytes, asked for what comes after them, and was to get 416"
        shell.failed("no_resume", what, said, "-c", "-S")


def _aria2c(shell: _Shell, draw: Random) -> None:
    options = ("-x4", "-s4", "-k1M")
    status, said = shell.run(
        *("--log=-", "--log-level=info", "--enable-color=false"),
        *("--file-allocation=none", "--timeout=200", "--max-tries=2", "--retry-wait=0", *options),
    )
    told = [line for line in said.splitlines() if re.search(r"Range: |ERROR|WARN|xception", line)]
    parts = len({line for line in told if line.startswith("Range: ")})
    refusals = [line for line in said.splitlines() if re.match(r"HTTP/1\.[01] [45]", line)]
    if status or not shell.is_right() or parts < 2 or refusals:
        what = "aria2c was to fetch the file over four connections, in pieces of a mebibyte"
        shell.failed("no_pieces", what, "\n".join([*told, *refusals]), *options)
