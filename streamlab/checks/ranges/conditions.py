"""Lab 08: conditions (If-Range, If-None-Match, If-Modified-Since), and changed files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from hypothesis import strategies as st

from streamlab.checks.connection import Connection, Wanted, open_connection
from streamlab.checks.examples import for_all
from streamlab.checks.outcome import promise
from streamlab.checks.ranges.answers import (
    Judge,
    Step,
    Video,
    answer_to,
    converse,
    expect_416,
    expect_full,
    expect_multipart,
    expect_partial,
    http_date,
    put_to_the_test,
    ranged,
    write_fixture,
)
from streamlab.checks.ranges.common import DRAWN, head_of_whole
from streamlab.files import MiB
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

# CONDITION


def conditions(launch: Callable[..., Server], rng: Random) -> None:
    """If-Range prevents mixing versions, If-None-Match prevents sending a known one again."""
    server = launch(environment={"TZ": "XST-5:30"})
    video = write_fixture(server, rng, rng.randrange(3000, 9000))
    some = rng.randrange(100, 900)
    tag = _version_of(server, video)
    _guarded(server, video, tag, some)
    _known(server, video, tag, some)
    _drawn_conditions(server, rng, video, tag)
    _changed(server, rng, some)
    again = launch(environment={"TZ": "XST-5:30"})
    with put_to_the_test("etag-restart"), open_connection(again) as connection:
        answer = connection.ask(Wanted(video.path, None), method="HEAD")
        if answer.header("etag") != tag:
            what = f"The server was started again, and nothing else has changed. It said {tag}"
            connection.fault("other_tag_after_restart", what, answer.raw)
    same = expect_partial(
        video, some, 2 * some, "because the version is the same", "if_range_refused"
    )
    converse(
        again,
        [
            ranged("if-range-same", video, f"{some}-{2 * some}", same, f"If-Range: {tag}"),
            Step("if-none-match", video.path, not_modified(tag), (f"If-None-Match: {tag}",)),
        ],
    )


def _version_of(server: Server, video: Video) -> str:
    """The strong tag of a file, which all its answers have, and its date."""
    request = Wanted(video.path, None)
    with put_to_the_test("etag-strong"), open_connection(server) as connection:
        connection.send(request.request())
        answer = connection.receive()
        tag = answer.header("etag") or ""
        if not re.fullmatch(r'"[\x21\x23-\x7e\x80-\xff]+"', tag):
            cause = "weak_tag" if tag.startswith("W/") else "no_tag"
            what = f'There should be a strong ETag: "...", in quotes. There is {tag or "none"}'
            connection.fault(cause, what, answer.raw)
        told, moment = answer.header("last-modified"), video.file.stat().st_mtime_ns
        with promise("last-modified"):
            if told not in (http_date(moment), http_date(moment, 1)):
                should = f"There should be Last-Modified: {http_date(moment)}"
                zone = ", and the zone of the server is UTC+5:30" if told else ""
                what = f"{should}. There is {told or 'none'}{zone}"
                connection.fault("wrong_date", what, answer.raw)

    def same_tag(connection: Connection, answer: RawAnswer) -> None:
        if answer.header("etag") != tag:
            what = f"GET of the whole file says ETag: {tag}. This should say so too"
            connection.fault("no_tag", what, answer.raw)

    def tagged(judge: Judge) -> Judge:
        def judge_both(connection: Connection, answer: RawAnswer) -> None:
            judge(connection, answer)
            same_tag(connection, answer)

        return judge_both

    converse(
        server,
        [
            Step("etag-everywhere", video.path, same_tag, method="HEAD"),
            ranged("etag-everywhere", video, "0-99", tagged(expect_partial(video, 0, 99))),
            ranged(
                "etag-everywhere",
                video,
                "0-9,2000-2009",
                tagged(expect_multipart(video, [(0, 9), (2000, 2009)])),
            ),
        ],
    )
    return tag


def _guarded(server: Server, video: Video, tag: str, some: int) -> None:
    """A part comes if If-Range names the present version, and the whole file otherwise."""
    moment, size = video.file.stat().st_mtime_ns, video.size
    with put_to_the_test("last-modified"), open_connection(server) as connection:
        connection.send(Wanted(video.path, None).request())
        date = connection.receive().header("last-modified") or ""
    wanted = expect_partial(
        video, some, 2 * some, "because the version is the same", "if_range_refused"
    )
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
        return ranged(promised, video, asked, expect_full(video, why, cause), f"If-Range: {value}")

    gone = "The version is the same, and these bytes do not exist"
    exact, alone = "That date is another one", "There is no Range, so If-Range means nothing"
    converse(
        server,
        [
            same(tag, wanted),
            same(date, wanted),
            same(tag, expect_multipart(video, [(0, 9), (2000, 2009)]), "0-9,2000-2009"),
            same(tag, expect_416(video, gone), f"{size}-"),
            same(date, expect_416(video, gone), f"{size}-"),
            otherwise(other),
            otherwise('"x"'),
            otherwise(tag[1:-1], "A tag stands in quotes"),
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
                    expect_full(video, alone, "wrong_status"),
                    (f"If-Range: {value}",),
                )
                for value in (other, tag)
            ),
        ],
    )


def _known(server: Server, video: Video, tag: str, some: int) -> None:
    """If-None-Match goes first: if it names this version, the answer is 304."""
    now, old = http_date(video.file.stat().st_mtime_ns), "Sat, 01 Jan 2000 00:00:00 GMT"
    other = tag[:-1] + 'x"'
    asked = f"Range: bytes={some}-{2 * some}"
    wanted = expect_partial(
        video, some, 2 * some, "because the client has another version", "none_match"
    )

    def known(
        *headers: str,
        cause: str = "not_304",
        method: str = "GET",
        promised: str = "if-none-match",
    ) -> Step:
        return Step(promised, video.path, not_modified(tag, cause), headers, method)

    def unknown(*headers: str, why: str = "The client does not have this version") -> Step:
        judge = expect_full(video, why, "none_match")
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
                expect_full(
                    video, "If-None-Match names another version, and goes first", "date_wins"
                ),
                (f"If-None-Match: {other}", f"If-Modified-Since: {now}"),
            ),
            ranged("one-range", video, "0-9", expect_partial(video, 0, 9)),
        ],
    )


def not_modified(tag: str, cause: str = "not_304") -> Judge:
    """304, with the tag of the version."""

    def judge(connection: Connection, answer: RawAnswer) -> None:
        if answer.status != 304:
            what = "The client has this version: the status should be 304"
            connection.fault(cause, what, answer.raw)
        with promise("etag-everywhere"):
            if answer.header("etag") != tag:
                connection.fault("no_tag", f"A 304 says which version: ETag: {tag}", answer.raw)

    return judge


@dataclass(frozen=True)
class Asked:
    """A drawn request with conditions; headers that it does not have are empty."""

    method: str
    range: str
    if_range: str
    if_none_match: Sequence[str]


def _drawn_conditions(server: Server, rng: Random, video: Video, tag: str) -> None:
    """Conditions in all combinations; RFC 9110, section 13.2.2 says in which order they count.

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

    for_all(requests, rng, attempt, examples=DRAWN)


def _answer_with_conditions(asked: Asked, video: Video, tag: str) -> tuple[str, Judge]:
    """The promise that a request with conditions tests, and the judge of its answer."""
    if list(asked.if_none_match) == ["*"]:
        return "if-none-match-list", not_modified(tag, "tags_in_list")
    if any(each.removeprefix("W/") == tag for each in asked.if_none_match):
        return "if-none-match", not_modified(tag)
    if asked.method == "HEAD":
        return "head", head_of_whole(video)
    if not asked.range:
        why = "There is no Range, and the client does not have this version"
        return "if-range-alone", expect_full(video, why, "wrong_status")
    if asked.if_range.startswith("W/"):
        return "if-range-weak", expect_full(video, "A weak tag never matches here", "weak_matches")
    if asked.if_range not in ("", tag):
        why = "If-Range is not the ETag, and not the date of Last-Modified"
        return "if-range-other", expect_full(video, why, "if_range_ignored")
    promised, judge = answer_to(asked.range, video)
    return ("if-range-same" if asked.if_range else promised), judge


def _changed(server: Server, rng: Random, some: int) -> None:
    """Other content of the same size, in the same second, is another version.

    It differs somewhere in the middle, so a tag made of the beginning or the end does not change.
    """
    old = write_fixture(server, rng, rng.randrange(3 * MiB, 4 * MiB))
    at = rng.randrange(MiB, 2 * MiB)
    asked = f"{at}-{at + some - 1}"
    body = bytearray(old.body)
    body[at : at + some] = body[at : at + some].upper()
    in_capitals = f"bytes {asked} are in capitals now. That was the tag of the old content"
    for later, why in (
        (250_000_000, "The file has changed, a quarter of a second after it was written first"),
        (0, "The file has changed, and was given its old time back, as some tools do"),
    ):
        with put_to_the_test("etag-changes"), open_connection(server) as connection:
            tag = connection.ask(Wanted(old.path, None), method="HEAD").header("etag") or ""
        before = old.file.stat()
        moment = before.st_mtime_ns + later
        video = replace(old, body=bytes(body))
        while True:
            # The kernel's own time of a change has ticks of at most 10 ms.
            old.file.write_bytes(video.body)
            os.utime(old.file, ns=(moment, moment))
            if old.file.stat().st_ctime_ns != before.st_ctime_ns:
                break
        changed = expect_full(video, f"{why}: {in_capitals}", "same_tag")
        converse(
            server,
            [
                ranged("etag-changes", video, asked, changed, f"If-Range: {tag}"),
                Step("etag-changes", video.path, changed, (f"If-None-Match: {tag}",)),
                ranged("one-range", video, asked, expect_partial(video, at, at + some - 1)),
            ],
        )
        body[at : at + some] = body[at : at + some].lower()
        in_capitals = f"bytes {asked} are in small letters now. That was the tag of the old content"
    _changed_at_once(server, rng)


def _changed_at_once(server: Server, rng: Random) -> None:
    """Changes as quick as the file system's clock can tell apart give a tag each."""
    video, tags = write_fixture(server, rng, 3000), list[str]()
    for number in range(8):
        before = video.file.stat().st_ctime_ns
        video = replace(video, body=bytes(rng.randbytes(3000)))
        while video.file.stat().st_ctime_ns == before:
            video.file.write_bytes(video.body)
        with put_to_the_test("etag-changes"), open_connection(server) as connection:
            connection.note(f"the file was rewritten {number + 1} times within moments")
            answer = connection.ask(Wanted(video.path, None), method="HEAD")
            tags.append(answer.header("etag") or "")
            if tags[-1] in tags[:-1]:
                what = "The content has changed, and the tag is one that the file had before"
                connection.fault("same_tag", what, answer.raw)
