"""Lab 08: several ranges in one request."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from random import Random

from streamlab.checks.connection import Connection, Wanted, open_connection
from streamlab.checks.outcome import promise
from streamlab.checks.ranges.answers import (
    MOST_RANGES,
    NEAR,
    Judge,
    Video,
    at_most_once,
    converse,
    expect_416,
    expect_full,
    expect_multipart,
    expect_partial,
    put_to_the_test,
    ranged,
    write_fixture,
)
from streamlab.checks.ranges.common import drawn_ranges, text_of
from streamlab.checks.ranges.parts import boundary_in, is_multipart, parts_read
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

# SEVERAL


def several_ranges(server: Server, rng: Random) -> None:
    """Several ranges come as parts, in their order; those that do not exist are left out."""
    video = write_fixture(server, rng, rng.randrange(290_000, 310_000))
    size = video.size
    a, b, c = (rng.randrange(at, at + 9000) for at in (10_000, 60_000, 150_000))
    three = [(b, b + 5000), (a, a + rng.randrange(9, 999)), (c, c + 80_000)]
    ends = [(size - 200, size - 1), (0, 99)]
    overlapping = [(a, a + 999), (a + 500, a + 2999)]
    inside = [(a, a + 999), (a + rng.randrange(1, 100), a + rng.randrange(200, 900))]
    one, gone = [(a, a + 99)], "the others do not exist"
    full = [(at, at + rng.randrange(5, 50)) for at in range(1000, 161_000, 10_000)]
    rng.shuffle(full)
    apart = [(a, a + 99), (a + 99 + NEAR + 2, a + 999)]
    converse(
        server,
        [
            ranged(
                "parts", video, text_of(three), with_types(video, expect_multipart(video, three))
            ),
            ranged(
                "parts",
                video,
                f"-200,0-99,{size - 1}-{size + 9}",
                expect_multipart(video, [*ends, (size - 1, size - 1)]),
            ),
            ranged(
                "list-spaces",
                video,
                text_of(three, " ,\t"),
                expect_multipart(video, three, cause="list_spaces"),
            ),
            ranged(
                "left-out",
                video,
                f"{a}-{a + 99},{size}-,-0",
                expect_multipart(video, one, gone, "unsatisfiable_member"),
            ),
            ranged(
                "left-out",
                video,
                f"{size + 5}-{size + 9},0-0,{c}-",
                expect_multipart(video, [(0, 0), (c, size - 1)], gone, "unsatisfiable_member"),
            ),
            ranged(
                "left-out",
                video,
                f"{size}-,{size + 7}-",
                expect_416(video, "None of them exists"),
            ),
            ranged("merging", video, text_of(overlapping), expect_multipart(video, overlapping)),
            ranged("merging", video, text_of(apart), expect_multipart(video, apart)),
            *(
                ranged("merging", video, text_of(nested), expect_multipart(video, nested))
                for nested in (inside, inside[::-1], [inside[0], inside[0]])
            ),
            ranged(
                "parts",
                video,
                f"{a}-,0-{a - 1}",
                expect_multipart(video, [(a, size - 1), (0, a - 1)]),
            ),
            ranged("sixteen", video, text_of(full), expect_multipart(video, full, cause="too_few")),
            ranged("one-range", video, f"{a}-{a + 99}", expect_partial(video, a, a + 99)),
        ],
    )
    page = write_fixture(server, rng, 9000, ".txt")  # its type may have a charset
    judge = with_types(page, expect_multipart(page, [(0, 9), (5000, 5009)]))
    converse(server, [ranged("parts", page, "0-9,5000-5009", judge)])
    _no_boundary_in_the_file(server, rng, video)
    _not_too_many(server, rng)
    drawn_ranges(server, rng, 5)


def with_types(video: Video, judge: Judge) -> Judge:
    """The same, and each part has the type of the file (RFC 9110, section 15.3.7.2)."""

    def judge_types(connection: Connection, answer: RawAnswer) -> None:
        judge(connection, answer)
        if not is_multipart(answer):
            what = "These ranges do not touch: they should come as multipart/byteranges"
            connection.fault("bad_parts", what, answer.raw)
        wanted = _type_of(connection.server, video)
        with promise("part-headers"):
            for each in parts_read(connection, answer):
                if (each.headers.get("content-type") or "") != wanted:
                    what = f"Each part should say Content-Type: {wanted}, as GET does"
                    connection.fault("part_type", what, answer.raw)

    return judge_types


def _type_of(server: Server, video: Video) -> str:
    """The Content-Type of the whole file."""
    with open_connection(server) as connection:
        answer = connection.ask(Wanted(video.path, video.body))
        return answer.header("content-type") or ""


def _no_boundary_in_the_file(server: Server, rng: Random, video: Video) -> None:
    """A file that contains the boundary of an earlier answer can still be read in parts."""
    ranges = [(0, 1999), (5000, 6999)]
    boundaries: list[bytes] = []
    for _ in range(2):
        with put_to_the_test("boundary"), open_connection(server) as connection:
            connection.send(Wanted(video.path, None).request(f"Range: bytes={text_of(ranges)}"))
            answer = connection.receive()
            expect_multipart(video, ranges)(connection, answer)
            boundaries.append(boundary_in(answer.header("content-type") or ""))
    if counted := counted_on(boundaries[0], boundaries[1]):
        lines = b"".join(b"\r\n--" + each for each in counted)
        trap = write_fixture(server, rng, 9000)
        trap = replace(trap, body=trap.body[:200] + lines + trap.body[200 + len(lines) :])
        trap.file.write_bytes(trap.body)
        converse(
            server, [ranged("boundary", trap, text_of(ranges), expect_multipart(trap, ranges))]
        )
    line = b"\r\n--" + boundaries[-1]
    # Now another file contains it, and so does that very file, with the same date and size.
    for trap in (write_fixture(server, rng, 9000), video):
        body, about = bytearray(trap.body), trap.file.stat()
        for at, mark in ((300, line + b"\r\n\r\n"), (900, line + b"--\r\n"), (5500, line)):
            body[at : at + len(mark)] = mark
        trap = replace(trap, body=bytes(body))
        trap.file.write_bytes(trap.body)
        os.utime(trap.file, ns=(about.st_mtime_ns, about.st_mtime_ns))
        converse(
            server, [ranged("boundary", trap, text_of(ranges), expect_multipart(trap, ranges))]
        )


def counted_on(first: bytes, second: bytes, many: int = 20) -> list[bytes]:
    """The boundaries to come after these two if boundaries are counted; none if they are drawn."""
    for digits, base in ((b"[0-9]+", 10), (b"[0-9a-f]+", 16)):
        one, other = (re.split(b"(" + digits + b")", each) for each in (first, second))
        differing = [at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
        if len(one) != len(other) or len(differing) != 1 or differing[0] % 2 == 0:
            continue
        at = differing[0]
        number, width = int(other[at], base), len(other[at]) if other[at][:1] == b"0" else 0
        step = number - int(one[at], base)
        if 0 < step < 10:
            form = f"{{:0{width}{'d' if base == 10 else 'x'}}}" if width else "{:d}"
            form = form if base == 10 or width else "{:x}"
            coming = (form.format(number + step * ahead).encode() for ahead in range(1, many + 1))
            return [b"".join([*other[:at], each, *other[at + 1 :]]) for each in coming]
    return []


def _not_too_many(server: Server, rng: Random) -> None:
    """Requests for far too many ranges get the whole file, or no byte of it twice."""
    video = write_fixture(server, rng, rng.randrange(460_000, 480_000))
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
                expect_full(video, f"{why}. These are {len(over)}", "too_many"),
            ),
            ranged(
                "seventeen",
                video,
                text_of(crowd),
                expect_full(video, f"{why}. These are {len(crowd)}", "too_many"),
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
            ranged("one-range", video, "0-9", expect_partial(video, 0, 9)),
        ],
    )
