"""Lab 04: headers are right, and HEAD is GET without a body."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random

from streamlab.checks import media_types
from streamlab.checks.connection import Wanted
from streamlab.checks.evidence import curl, shown
from streamlab.checks.framing.common import (
    by_http_client,
    conversing,
    missing,
    report_of,
    right_alone,
    write_fixture,
)
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import name_of
from streamlab.files import GiB, KiB, TiB, sparse_file
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

# WIRE

TYPES = {
    **{ending: media_types.TYPES[ending] for ending in (".html", ".css", ".js", ".txt")},
    **{ending: media_types.TYPES[ending] for ending in (".png", ".pdf", ".mp4")},
    ".tar.gz": {"application/gzip", "application/x-gzip", "", *media_types.OTHER},
    "": {"", *media_types.OTHER},
}
"""The right content types of a file by its ending; with an empty one, the header may be missing."""

_DATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} "
    r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)


def headers_are_right(
    launch: Callable[..., Server], rng: Random, language: Mapping[str, str] | None = None
) -> None:
    """A file's answer has its length, its type, and the date in GMT, whatever the time zone.

    `language` has the environment variables that make a system write dates in another language.
    """
    # Five and a half hours from GMT.
    server = launch(environment={"TZ": "XST-5:30", **(language or {})})
    began = time.monotonic()
    sizes = [0, 1, 300 * KiB, *(rng.randrange(2000, 9000) for _ in TYPES)][: len(TYPES)]
    for size, (ending, types) in zip(rng.sample(sizes, len(TYPES)), TYPES.items(), strict=True):
        wanted = write_fixture(server, rng, size, ending)
        with promise("get-file"):
            with conversing(server) as connection:
                answer = connection.ask(wanted, "Connection: close")
            line = curl(server, wanted.path, "-i")
            summary = f"Sent GET {wanted.path}. Came back:\n\n{shown(answer.raw)}\n\n"
            if not answer.raw.startswith(b"HTTP/1.1"):
                fail("old_version", f"{summary}The status line should begin with HTTP/1.1.", line)
            if answer.header("content-length") != str(size):
                fail("no_length", f"{summary}There should be Content-Length: {size}.", line)
        came = (answer.header("content-type") or "").partition(";")[0].strip().lower()
        with promise({".tar.gz": "type-packed", "": "type-unknown"}.get(ending, "type")):
            if came not in types:
                right = " or ".join(sorted(types - {""})) + ", or be left out" * ("" in types)
                fail("wrong_type", f"{summary}The Content-Type should be {right}.", line)
        if coding := answer.header("content-encoding"):
            what = f"Content-Encoding: {coding} has clients unpack the file. They want it as it is."
            with promise("get-file"):
                fail("wrong_type", f"{summary}{what}", line)
        _date_is_right(answer, summary, line)
    _each_answer_has_a_date(server, wanted)
    _looks_at_no_other_header(server, write_fixture(server, rng, 3000, ".txt"), report_of(20))
    time.sleep(max(0.0, began + _STOPPED - time.monotonic()))
    with conversing(server) as connection:
        answer = connection.ask(wanted, "Connection: close")
    told, now = answer.header("date") or "", datetime.now(UTC)
    with promise("date"), suppress(ValueError):
        date = datetime.strptime(told, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        began_at = now - timedelta(seconds=time.monotonic() - began)
        if date < began_at + timedelta(seconds=1):
            what = f"Date is that of an earlier answer: it is {now:%H:%M:%S} in Greenwich now."
            summary = f"Sent GET {wanted.path} again. Came back:\n\n{shown(answer.raw)}\n\n"
            fail("wrong_date", f"{summary}{what}", curl(server, wanted.path, "-i"))


_STOPPED = 3.5
"""Seconds after which a date that was made once has to be told from the present one."""


def _date_is_right(answer: RawAnswer, summary: str, line: str) -> None:
    """`Date` is an IMF-fixdate, and is the present time (RFC 9110, sections 5.6.7 and 6.6.1)."""
    date = answer.header("date")
    with promise("date"):
        if date is None:
            fail("no_date", f"{summary}There is no Date.", line)
    with promise("date-form"):
        told = None
        with suppress(ValueError):
            told = datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        if told is None or not _DATE.fullmatch(date) or told.strftime("%a") != date[:3]:
            fail(
                "wrong_date", f"{summary}Date should look like Tue, 15 Nov 1994 08:12:31 GMT.", line
            )
    with promise("date-zone"):
        now = datetime.now(UTC)
        if abs(told - now) > timedelta(minutes=5):
            now_text = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
            where = "(TZ of the server: UTC+5:30.)"
            fail("wrong_date", f"{summary}Date should be {now_text}. {where}", line)


def _each_answer_has_a_date(server: Server, file: Wanted) -> None:
    """Each answer has a Date, also to HEAD, to a report, and to what is refused."""
    for request in (
        file.request("Connection: close", method="HEAD"),
        Wanted("/report/3", None).request("Connection: close"),
        Wanted(f"{file.path}.gone", None).request("Connection: close"),
        file.request("Connection: close", method="POST"),
        file.request("Content-Length: five"),
        b"HELLO\r\n\r\n",
    ):
        with conversing(server) as connection:
            connection.send(request)
            answer = connection.receive("HEAD" if request.startswith(b"HEAD") else "GET")
        if 200 <= answer.status < 500:
            line = request.partition(b"\r")[0].decode()
            summary = f"Sent {line}. Came back:\n\n{shown(answer.raw)}\n\n"
            _date_is_right(answer, summary, "")


def _looks_at_no_other_header(server: Server, *files: Wanted) -> None:
    """A request gets the whole file, whatever other headers it has."""
    long_ago = "Mon, 01 Jan 1990 00:00:00 GMT"
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    for header in (
        "Range: bytes=0-1",
        "Range: bytes=0-0,2-2",
        "Range: bytes=999999999-",
        "Range: lines=1-2",
        "If-None-Match: *",
        f"If-Unmodified-Since: {long_ago}",
        'Range: bytes=0-1\r\nIf-Range: "none"',
        f"If-Modified-Since: {now}",
        'If-Match: "none"',
        "Expect: 100-continue",
        "Expect: a-miracle",
        "Accept: image/x-none",
        "Accept-Encoding: gzip, identity;q=0",
        "Accept-Encoding: *;q=0",
        "Accept-Charset: x-none",
        "Accept-Language: x-none",
    ):
        for wanted in files:
            with promise("other-headers"), conversing(server) as connection:
                connection.ask(wanted, header, "Connection: close", cause="other_headers")


# HEAD


def head_is_get_without_body(server: Server, rng: Random) -> None:
    """HEAD is answered like GET, without a body, and the next answer is in step."""
    after = write_fixture(server, rng, 600, ".txt")
    files = [write_fixture(server, rng, size, ".html") for size in (0, 1, 5000)]
    files.append(write_fixture(server, rng, 300 * KiB, ".png"))
    right_alone(server, "head-fields", [*files, after])
    for wanted in rng.sample([*files, missing(rng), report_of(30)], len(files) + 2):
        _head_like_get(server, wanted, after)
    for wanted in (files[-1], missing(rng), report_of(30)):
        for version in ("HTTP/1.1", "HTTP/1.0"):
            with promise("head-no-body"), conversing(server) as connection:
                connection.send(wanted.request("Connection: close", method="HEAD", version=version))
                connection.expect(wanted, "HEAD")
                connection.ends("stays_open", "The request said Connection: close", "head_body")
    with promise("head-no-body"), conversing(server) as connection:
        connection.send(after.request("Content-Length: five", method="HEAD"))
        connection.receive("HEAD")
        connection.ends("stays_open", "five is no length", "head_body")
    large = sparse_file(TiB + rng.randrange(GiB), name_of(rng, ".mp4"), server.root, 2)
    with promise("head-is-cheap", head_differs="head-fields"), conversing(server) as connection:
        answer = connection.ask(Wanted(large.url, None), method="HEAD", cause="head_reads")
        if answer.header("content-length") != str(large.size):
            connection.fault("head_differs", f"The file has {large.size} bytes", answer.raw)
        connection.ask(after, cause="head_reads")
    with promise("head-no-body"):
        by_http_client(server, [*files, after], methods=("HEAD", "GET"), cause="head_body")


def _head_like_get(server: Server, wanted: Wanted, after: Wanted) -> None:
    with promise("head-fields"):
        with conversing(server) as connection:
            get = connection.ask(wanted)
        with conversing(server) as connection:
            head = connection.ask(wanted, method="HEAD")
            for name in ("content-length", "content-type"):
                if head.header(name) != get.header(name):
                    connection.fault(
                        "head_differs",
                        f"GET says {name}: {get.header(name)}, HEAD says {head.header(name)}",
                        head.raw,
                    )
            with promise("head-no-body"):
                if connection.goes_on(head, extra="head_body"):
                    connection.ask(after, cause="head_body")
