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
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import NoReturn

from streamlab.checks import (
    RawAnswer,
    comes_to_rest,
    dense_file,
    held_by,
    log_of,
    most_held,
    name_of,
    state_of,
    traced,
)
from streamlab.files import GiB, KiB, MiB, SampleFile, TiB, size_text, sparse_file
from streamlab.memory import descriptors
from streamlab.range_answers import (
    MOST_RANGES,
    Judge,
    Range,
    Step,
    Video,
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
    ranged,
    refused,
    several,
    whole,
)
from streamlab.server import Server
from streamlab.talk import Talk, Wanted, talking
from streamlab.testing import CheckFailed, fail, note

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
            ranged(video, f"{first}-{last}", part(video, first, last)),
            Step(video.path, announced(video)),
            ranged(video, "0-0", part(video, 0, 0, "one single byte")),
            ranged(video, f"0-{few}", part(video, 0, few)),
            ranged(video, f"{last}-", part(video, last, size - 1, "to the end")),
            ranged(video, "0-", part(video, 0, size - 1, "all of them, as asked for")),
            ranged(video, f"-{few}", part(video, size - few, size - 1, tail, "wrong_suffix")),
            ranged(video, "-1", part(video, size - 1, size - 1, tail, "wrong_suffix")),
            ranged(video, f"{size - 1}-{size - 1}", part(video, size - 1, size - 1)),
            ranged(video, f"0-{size - 1}", part(video, 0, size - 1)),
            Step(
                video.path,
                part(video, first, size - 1, end, "no_clamp"),
                (f"Range: bytes={first}-{size + few}",),
                cause="no_clamp",
            ),
            Step(
                video.path,
                part(video, size - 1, size - 1, end, "no_clamp"),
                (f"Range: bytes={size - 1}-{size}",),
                cause="no_clamp",
            ),
            Step(
                video.path,
                part(video, 0, size - 1, "the whole file, for there is no more", "wrong_suffix"),
                (f"Range: bytes=-{size + few}",),
                cause="wrong_suffix",
            ),
            ranged(video, "007-010", part(video, 7, 10, "whatever zeros stand before them")),
            Step(
                video.path,
                part(video, first, last, "whatever the case of the unit", "unit_case"),
                (f"Range: Bytes={first}-{last}",),
            ),
            Step(video.path, head_of_whole(video), method="HEAD"),
            Step(video.path, head_of_whole(video), (f"Range: bytes=0-{few}",), method="HEAD"),
            Step(video.path, head_of_whole(video), (f"Range: bytes={size}-",), method="HEAD"),
            Step(server.path_of(name_of(draw)), missing, ("Range: bytes=0-9",)),
            Step(video.path, whole(video, "No range was asked for", "wrong_status")),
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
            ranged(video, f"{some}-{2 * some}", part(video, some, 2 * some)),
            ranged(video, f"{size}-", refused(video, past)),
            ranged(video, f"{size}-{size + some}", refused(video, past)),
            ranged(video, f"{size + some}-", refused(video, past)),
            ranged(video, "-0", refused(video, "The last 0 bytes are none", "suffix_zero")),
            ranged(video, f"-0,{size + 1}-", refused(video, "None of them is there")),
            *(step for step in clever if not step.how),
            *(_ignored(video, value) for value in malformed(some)),
            *(
                Step(video.path, whole(video, f"{value} are no bytes", "other_unit"), (header,))
                for value in ("seconds", "byte", "none")
                for header in (f"Range: {value}=0-{some}",)
            ),
            # From here on no command of curl can say what was sent.
            *(step for step in clever if step.how),
            *_with_many_digits(video, some, many),
            ranged(video, f"{some}-{2 * some}", part(video, some, 2 * some)),
        ],
    )
    _nothing_of_nothing(server, draw)


def malformed(some: int) -> list[str]:
    """Values of a Range header that say nothing."""
    return [
        f"bytes={some}-5",
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
        f"bytes=0-{some},9-5",
        f"bytes=0-{some},x",
    ]


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


def _ignored(video: Video, value: str) -> Step:
    why = f"{value!r} is malformed, so it is ignored"
    return Step(video.path, whole(video, why, "not_ignored"), (f"Range: {value}",))


def _too_clever(video: Video, value: str, how: str) -> Step:
    why = f"In {'this' if how else repr(value)} something stands for a number that is none in HTTP"

    def judge(talk: Talk, answer: RawAnswer) -> None:
        cause = "lenient_int" if answer.status == 206 else "not_ignored"
        whole(video, f"{why}, so it is ignored", cause)(talk, answer)

    return Step(video.path, judge, (f"Range: {value}",), how=how)


def _with_many_digits(video: Video, some: int, digits: int) -> list[Step]:
    """Numbers that are larger than any file, and longer than int() takes."""
    size, nines, how = video.size, "9" * digits, f"with a number of {digits} digits"
    everything = part(video, some, size - 1, "up to the end of the file", "many_digits")
    suffix = part(video, 0, size - 1, "the whole file, for there is no more", "many_digits")
    past = refused(video, "No file has so many bytes", "many_digits")
    return [
        ranged(video, f"{some}-{10**30}", everything),
        ranged(video, f"{some}-{nines}", everything, how=how),
        ranged(video, f"-{nines}", suffix, how=how),
        ranged(video, f"{nines}-", past, how=how),
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
            Step(empty.path, whole(empty, "The file is empty", "empty_file"), cause="empty_file"),
            ranged(empty, "0-", refused(empty, why, "empty_file")),
            ranged(empty, "0-0", refused(empty, why, "empty_file")),
            Step(empty.path, nothing, ("Range: bytes=-5",), cause="empty_file"),
            ranged(video, "0-99", part(video, 0, 99)),
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
    converse(
        server,
        [
            ranged(video, text_of(three), with_types(video, several(video, three))),
            ranged(
                video,
                f"-200,0-99,{size - 1}-{size + 9}",
                several(video, [*ends, (size - 1, size - 1)]),
            ),
            ranged(video, text_of(three, " ,\t"), several(video, three, cause="list_spaces")),
            ranged(
                video, f"{a}-{a + 99},{size}-,-0", several(video, one, gone, "unsatisfiable_member")
            ),
            ranged(
                video,
                f"{size + 5}-{size + 9},0-0,{c}-",
                several(video, [(0, 0), (c, size - 1)], gone, "unsatisfiable_member"),
            ),
            ranged(video, f"{size}-,{size + 7}-", refused(video, "None of them is there")),
            ranged(video, text_of(overlapping), several(video, overlapping)),
            ranged(video, f"{a}-,0-{a - 1}", several(video, [(a, size - 1), (0, a - 1)])),
            ranged(video, text_of(full), several(video, full, cause="too_few")),
            ranged(video, f"{a}-{a + 99}", part(video, a, a + 99)),
        ],
    )
    _no_boundary_in_the_file(server, draw, video)
    _not_too_many(server, draw)


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
    with talking(server) as talk:
        talk.say(Wanted(video.path, None).request(f"Range: bytes={text_of(ranges)}"))
        answer = talk.hear()
        several(video, ranges)(talk, answer)
        boundary = boundary_in(answer.header("content-type") or "")
    line = b"\r\n--" + boundary
    trap = laid(server, draw, 9000)
    body = bytearray(trap.body)
    for at, mark in ((300, line + b"\r\n\r\n"), (900, line + b"--\r\n"), (5500, line)):
        body[at : at + len(mark)] = mark
    trap = replace(trap, body=bytes(body))
    trap.file.write_bytes(trap.body)
    converse(server, [ranged(trap, text_of(ranges), several(trap, ranges))])


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
            ranged(video, text_of(over), whole(video, f"{why}. These are {len(over)}", "too_many")),
            ranged(
                video,
                text_of(crowd),
                whole(video, f"{why}. These are {len(crowd)}", "too_many"),
                how=f"with {len(crowd)} ranges",
            ),
            ranged(video, greedy, at_most_once(video, twice), how="with 1296 ranges that overlap"),
            ranged(video, "0-,0-,0-", at_most_once(video, twice)),
            ranged(video, "0-,-300000", at_most_once(video, twice)),
            ranged(video, "0-9", part(video, 0, 9)),
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
    _changed(server, draw, some)


def _version_of(server: Server, video: Video) -> str:
    """The strong tag of a file, which all answers about it agree on, and its date."""
    request = Wanted(video.path, None)
    with talking(server) as talk:
        talk.say(request.request())
        answer = talk.hear()
        tag = answer.header("etag") or ""
        if not re.fullmatch(r'"[\x21\x23-\x7e\x80-\xff]+"', tag):
            cause = "weak_tag" if tag.startswith("W/") else "no_tag"
            what = f'There should be a strong ETag: "...", in quotes. There is {tag or "none"}'
            talk.fault(cause, what, answer.raw)
        told, moment = answer.header("last-modified"), video.file.stat().st_mtime_ns
        if told not in (http_date(moment), http_date(moment, 1)):
            what = f"There should be Last-Modified: {http_date(moment)}. There is {told or 'none'}"
            zone = ", and the zone of the server is UTC+5:30" if told else ""
            talk.fault("wrong_date", f"{what}{zone}", answer.raw)

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
            Step(video.path, same_tag, method="HEAD"),
            ranged(video, "0-99", tagged(part(video, 0, 99))),
            ranged(video, "0-9,2000-2009", tagged(several(video, [(0, 9), (2000, 2009)]))),
        ],
    )
    return tag


def _guarded(server: Server, video: Video, tag: str, some: int) -> None:
    """A part comes if If-Range names the version that is there, and all of it otherwise."""
    moment, size = video.file.stat().st_mtime_ns, video.size
    with talking(server) as talk:
        talk.say(Wanted(video.path, None).request())
        date = talk.hear().header("last-modified") or ""
    wanted = part(video, some, 2 * some, "for the version is the same", "if_range_refused")
    asked = f"{some}-{2 * some}"
    other = tag[:-1] + 'x"'

    def otherwise(value: str, why: str, cause: str) -> Step:
        return ranged(video, asked, whole(video, why, cause), f"If-Range: {value}")

    stale, weak = "if_range_ignored", "A weak tag never matches here"
    converse(
        server,
        [
            ranged(video, asked, wanted, f"If-Range: {tag}"),
            ranged(video, asked, wanted, f"If-Range: {date}"),
            otherwise(other, "That is the tag of another version", stale),
            otherwise('"x"', "That is the tag of another version", stale),
            otherwise(f"W/{tag}", weak, "weak_matches"),
            otherwise(http_date(moment, 3600), "That date is another one", "date_not_exact"),
            otherwise(http_date(moment, -3600), "That date is another one", "date_not_exact"),
            otherwise("yesterday", "That is neither a tag nor a date", stale),
            ranged(
                video,
                f"{size}-",
                refused(video, "The version is the same, and there are no such bytes"),
                f"If-Range: {tag}",
            ),
            ranged(
                video,
                f"{size}-",
                whole(video, "The version is another one, so Range is not looked at", stale),
                f"If-Range: {other}",
            ),
            ranged(
                video,
                "0-9,2000-2009",
                whole(video, "The version is another one", stale),
                f"If-Range: {other}",
            ),
            Step(
                video.path,
                whole(video, "There is no Range, so If-Range means nothing", "wrong_status"),
                (f"If-Range: {other}",),
            ),
        ],
    )


def _known(server: Server, video: Video, tag: str, some: int) -> None:
    """If-None-Match wins: who knows this version gets 304, whatever else is asked."""
    now, old = http_date(video.file.stat().st_mtime_ns), "Sat, 01 Jan 2000 00:00:00 GMT"
    other = tag[:-1] + 'x"'
    asked = f"Range: bytes={some}-{2 * some}"
    wanted = part(video, some, 2 * some, "for the client knows another version", "none_match")

    def known(*headers: str, cause: str = "not_304", method: str = "GET") -> Step:
        def judge(talk: Talk, answer: RawAnswer) -> None:
            what = "The client has this version: the status should be 304"
            if answer.status != 304:
                talk.fault(cause, what, answer.raw)
            if answer.header("etag") != tag:
                talk.fault("no_tag", f"A 304 says which version: ETag: {tag}", answer.raw)

        return Step(video.path, judge, headers, method)

    def unknown(*headers: str) -> Step:
        judge = whole(video, "The client does not have this version", "none_match")
        return Step(video.path, judge, headers)

    converse(
        server,
        [
            known(f"If-None-Match: {tag}"),
            unknown(f"If-None-Match: {other}"),
            known(f"If-None-Match: {tag}", asked, cause="range_wins"),
            known(f"If-None-Match: {tag}", f"Range: bytes={video.size}-", cause="range_wins"),
            known(f"If-None-Match: W/{tag}", cause="weak_is_known"),
            known(f'If-None-Match: "a", {tag},"b"', cause="tags_in_list"),
            known("If-None-Match: *", cause="tags_in_list"),
            known(f"If-None-Match: {tag}", method="HEAD"),
            Step(video.path, wanted, (f"If-None-Match: {other}", asked)),
            known(f"If-None-Match: {tag}", f"If-Modified-Since: {old}", cause="date_wins"),
            Step(
                video.path,
                whole(video, "If-None-Match names another version, and wins", "date_wins"),
                (f"If-None-Match: {other}", f"If-Modified-Since: {now}"),
            ),
            ranged(video, "0-9", part(video, 0, 9)),
        ],
    )


def _changed(server: Server, draw: Random, some: int) -> None:
    """Another content of the same size, in the same second, is another version.

    It is another one somewhere in the middle, which a tag of the beginning or the end can't tell.
    """
    old = laid(server, draw, draw.randrange(3 * MiB, 4 * MiB))
    with talking(server) as talk:
        tag = talk.ask(Wanted(old.path, None), method="HEAD").header("etag") or ""
    at = draw.randrange(MiB, 2 * MiB)
    body = bytearray(old.body)
    body[at : at + some] = body[at : at + some].upper()
    video = replace(old, body=bytes(body))
    moment = video.file.stat().st_mtime_ns + 250_000_000
    video.file.write_bytes(video.body)
    os.utime(video.file, ns=(moment, moment))
    asked = f"{at}-{at + some - 1}"
    why = (
        f"The file has changed, a quarter of a second after it was written first: bytes {asked} "
        f"are in capitals now. That was the tag of the old one"
    )
    converse(
        server,
        [
            ranged(video, asked, whole(video, why, "same_tag"), f"If-Range: {tag}"),
            Step(video.path, whole(video, why, "same_tag"), (f"If-None-Match: {tag}",)),
            ranged(video, asked, part(video, at, at + some - 1)),
        ],
    )


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

        talk = asking()
        _piece(talk, large, 100, 1099)
        for edge in (2 * GiB, 4 * GiB):
            _piece(talk, large, edge - 500, edge + 499)
        _piece(talk, large, large.size - 1000, large.size - 1, "-1000")
        _piece(talk, huge, far - 500, far + 523)
        _piece(talk, huge, end - 65_999, end, "-66000")
        _far_apart(talk, huge, [(0, 99), (far - 300, far + 300), (end - 99, end)])
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
    try:
        came = talk.take(last + 1 - first)
    except CheckFailed as error:
        error.cause = {"no_end": "late"}.get(error.cause, error.cause)
        raise
    if came != _read(file, first, last + 1 - first):
        what = f"The {len(came)} bytes that came are not those from {first} on"
        talk.fault("wrong_bytes", what, head.raw + came)


def _head_of_part(talk: Talk, file: SampleFile, first: int, last: int) -> RawAnswer:
    """The head of a 206 with this range; its body is still to be taken."""
    head = talk.hear_head("late")
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
    answer = talk.hear(cause="late")
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
    head = talk.hear_head("late")
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
    first = [ranged(small, "5-99999", part(small, 5, 99_999))]
    first += [ranged(small, "0-9,5000-99999", several(small, [(0, 9), (5000, 99_999)]))]
    for _ in range(clients):
        converse(server, first)
    comes_to_rest(server)  # until then it may still have what the last one had
    baseline, before = held_by(server), len(descriptors(server.keeper))
    size = draw.randrange(64 * MiB, 80 * MiB)
    file = dense_file(size, name_of(draw, ".mp4"), server.root, draw)
    allowed = clients * each
    line = f"curl -sS --limit-rate 1M -r 9- -o got http://127.0.0.1:PORT{server.path_of(file)}"
    waiting: list[tuple[Talk, int]] = []
    with traced(server) as trace, ExitStack() as stack:
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
    _left_nothing(server, file, clients, before)
    converse(server, first)


def _left_nothing(
    server: Server, file: SampleFile, clients: int, before: int, patience: float = 5.0
) -> None:
    """Who has left is forgotten within some seconds: descriptors, handles on the file."""
    deadline = time.monotonic() + patience
    while True:
        now = descriptors(server.keeper)
        handles = sum(target.endswith(file.name) for target in now)
        if len(now) <= before + 3 and handles <= 3:
            return
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    fail(
        "leaks",
        f"{clients} clients left in the middle of a part. {patience:g} s later the server has "
        f"{len(now)} descriptors, {handles} of them on {file.name}; before there were {before}."
        f"{log_of(server)}",
        f"curl -sS -m 0.1 -r 1000- -o /dev/null http://127.0.0.1:PORT{server.path_of(file)}",
    )


# CLIENT


def clients_resume(server: Server, draw: Random, scratch: Path) -> None:
    """curl and wget go on where a download broke off; aria2c makes one over four connections.

    A program that is not installed is left out, with a note; with CI set, that is an error.
    """
    video = laid(server, draw, draw.randrange(5 * MiB, 6 * MiB))
    # The one that can't be fooled by a server without ranges comes first.
    for name, use in (("curl", _curl), ("wget", _wget), ("aria2c", _aria2c)):
        program = shutil.which(name)
        if program is None and os.environ.get("CI"):
            raise FileNotFoundError(f"CI may skip nothing, but {name} is not installed")
        if program is None:
            note(f"{name} is not installed: its part was left out.")
            continue
        folder = scratch / name
        folder.mkdir()
        use(_Shell(server, video, program, folder), draw)


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
        command = [self.program, *options, self.server.url + self.video.path]
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": str(self.folder)}
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=environment,
            text=True,
            errors="replace",
        )
        return ran.returncode, ran.stdout.strip()

    def failed(self, cause: str, what: str, said: str, *options: str) -> NoReturn:
        """End the check with this client's story."""
        lines = said.replace(f"{self.folder}/", "").splitlines()[-12:]
        words = "\n".join(f"    {line[:160]}" for line in lines)
        log = self.server.log()
        if "MemoryError" in log or "Cannot allocate memory" in log:
            cause = "whole_file"
        url = f"http://127.0.0.1:PORT{self.video.path}"
        fail(
            cause,
            f"{what}. {self.outcome}It said:\n\n{words or '    (nothing)'}{state_of(self.server)}",
            shlex.join([Path(self.program).name, *options, url]),
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
        *("-q", "-sS", "-m", "20", "-C", "-", "-O"),
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
    options = ("--no-config", "-c", "-S", "--progress=dot:mega", "-t", "1", "-T", "20")
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
        *("--no-conf", "--no-netrc", "--log=-", "--log-level=info", "--enable-color=false"),
        *("--file-allocation=none", "--timeout=20", "--max-tries=2", "--retry-wait=0", *options),
    )
    told = [line for line in said.splitlines() if re.search(r"Range: |ERROR|WARN|xception", line)]
    parts = len({line for line in told if line.startswith("Range: ")})
    if status or not shell.is_right() or parts < 2:
        what = "aria2c was to fetch the file over four connections, in pieces of a mebibyte"
        shell.failed("no_pieces", what, "\n".join(told), *options)
