"""Lab 08: one range, with all its edges."""

from __future__ import annotations

from random import Random

from streamlab.checks.connection import Connection
from streamlab.checks.probes.common import name_of
from streamlab.checks.ranges.answers import (
    Judge,
    Step,
    Video,
    converse,
    expect_full,
    expect_partial,
    ranged,
    write_fixture,
)
from streamlab.checks.ranges.common import head_of_whole, says_what_it_is
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

# RANGE


def single_ranges(server: Server, rng: Random) -> None:
    """One range comes with status 206, as requested; HEAD ignores it."""
    video = write_fixture(server, rng, rng.randrange(280_000, 300_000))
    size = video.size
    first = rng.randrange(1000, 5000)
    last = first + rng.randrange(140_000, 200_000)
    few = rng.randrange(2, 900)
    tail = "the last bytes of the file"
    end = "and no more: the file ends there"
    converse(
        server,
        [
            ranged("one-range", video, f"{first}-{last}", expect_partial(video, first, last)),
            Step("whole", video.path, announced(video)),
            ranged("both-ends", video, "0-0", expect_partial(video, 0, 0, "one single byte")),
            ranged("both-ends", video, f"0-{few}", expect_partial(video, 0, few)),
            ranged(
                "to-the-end", video, f"{last}-", expect_partial(video, last, size - 1, "to the end")
            ),
            ranged(
                "to-the-end",
                video,
                "0-",
                expect_partial(video, 0, size - 1, "all of them, as asked"),
            ),
            ranged(
                "suffix",
                video,
                f"-{few}",
                expect_partial(video, size - few, size - 1, tail, "wrong_suffix"),
            ),
            ranged(
                "suffix",
                video,
                "-1",
                expect_partial(video, size - 1, size - 1, tail, "wrong_suffix"),
            ),
            ranged(
                "both-ends",
                video,
                f"{size - 1}-{size - 1}",
                expect_partial(video, size - 1, size - 1),
            ),
            ranged("both-ends", video, f"0-{size - 1}", expect_partial(video, 0, size - 1)),
            Step(
                "clamp",
                video.path,
                expect_partial(video, first, size - 1, end, "no_clamp"),
                (f"Range: bytes={first}-{size + few}",),
                cause="no_clamp",
            ),
            Step(
                "clamp",
                video.path,
                expect_partial(video, size - 1, size - 1, end, "no_clamp"),
                (f"Range: bytes={size - 1}-{size}",),
                cause="no_clamp",
            ),
            *(
                Step(
                    "suffix",
                    video.path,
                    expect_partial(
                        video, 0, size - 1, "the whole file, which has no more", "wrong_suffix"
                    ),
                    (f"Range: bytes=-{more}",),
                    cause="wrong_suffix",
                )
                for more in (size, size + 1, size + few)
            ),
            ranged(
                "zeros",
                video,
                "007-010",
                expect_partial(video, 7, 10, "the leading zeros mean nothing"),
            ),
            *(
                Step(
                    "unit-case",
                    video.path,
                    expect_partial(
                        video, first, last, "the case of the unit means nothing", "unit_case"
                    ),
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
                Step("missing", server.path_of(name_of(rng)), missing, (f"Range: bytes={asked}",))
                for asked in ("0-9", "0-0,5-9", "-1")
            ),
            Step("whole", video.path, expect_full(video, "No range was asked for", "wrong_status")),
        ],
    )


def announced(video: Video) -> Judge:
    """The whole file, with Accept-Ranges."""

    def judge(connection: Connection, answer: RawAnswer) -> None:
        expect_full(video, "No range was asked for", "wrong_status")(connection, answer)
        says_what_it_is(connection, answer, video)

    return judge


def missing(connection: Connection, answer: RawAnswer) -> None:
    """An error for the path, and not for the range."""
    if not 400 <= answer.status < 500 or answer.status == 416:
        connection.fault(
            "wrong_status", "There is no such file: the status should be 404", answer.raw
        )
