"""Lab 08: the answer to a request without a range, and drawn ranges."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

from streamlab.checks.connection import Connection
from streamlab.checks.examples import for_all
from streamlab.checks.ranges.answers import (
    Judge,
    Range,
    Step,
    Video,
    answer_to,
    converse,
    range_headers,
    write_fixture,
)
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

DRAWN = 25
"""How many inputs are drawn for each question."""


def head_of_whole(video: Video) -> Judge:
    """The head is that of GET without a range."""

    def judge(connection: Connection, answer: RawAnswer) -> None:
        if answer.status != 200 or answer.header("content-range") is not None:
            what = "Range is for GET alone: the status of HEAD should be 200, without a range"
            cause = "head_refused" if answer.status in (404, 405, 501) else "head_range"
            connection.fault(cause, what, answer.raw)
        says_what_it_is(connection, answer, video)

    return judge


def says_what_it_is(connection: Connection, answer: RawAnswer, video: Video) -> None:
    if (answer.header("accept-ranges") or "").lower() != "bytes":
        connection.fault("not_announced", "There should be Accept-Ranges: bytes", answer.raw)
    if answer.header("content-length") != str(video.size):
        connection.fault("no_length", f"There should be Content-Length: {video.size}", answer.raw)


def drawn_ranges(server: Server, rng: Random, members: int) -> None:
    """Drawn ranges of files of a few sizes, with up to `members` members."""
    videos = [write_fixture(server, rng, size) for size in (1, 40, rng.randrange(3000, 9000))]

    def attempt(example: tuple[int, str]) -> None:
        video, header = videos[example[0]], example[1]
        promised, judge = answer_to(header, video)
        converse(server, [Step(promised, video.path, judge, (f"Range: {header}",))])

    which = st.integers(0, len(videos) - 1)
    spaces = which.flatmap(
        lambda at: st.tuples(st.just(at), range_headers(videos[at].size, members))
    )
    for_all(spaces, rng, attempt, examples=DRAWN)


def text_of(ranges: Sequence[Range], between: str = ",") -> str:
    """Ranges as in a header."""
    return between.join(f"{first}-{last}" for first, last in ranges)
