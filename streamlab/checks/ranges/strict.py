"""Lab 08: a malformed range is ignored, however small the mistake."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from streamlab.checks.connection import Connection
from streamlab.checks.ranges.answers import (
    Step,
    Video,
    converse,
    expect_416,
    expect_full,
    expect_partial,
    ranged,
    write_fixture,
)
from streamlab.checks.ranges.common import drawn_ranges
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

# STRICT


def strict_ranges(server: Server, rng: Random) -> None:
    """Past the end is 416; a malformed range is ignored, whatever int() reads; nothing breaks."""
    video = write_fixture(server, rng, rng.randrange(3000, 9000))
    size = video.size
    some = rng.randrange(10, 900)
    past = f"Byte {size} is the first that does not exist"
    many = 5000
    clever = [_too_clever(video, value, how) for value, how in in_other_digits(some)]
    converse(
        server,
        [
            ranged("one-range", video, f"{some}-{2 * some}", expect_partial(video, some, 2 * some)),
            ranged("not-there", video, f"{size}-", expect_416(video, past)),
            ranged("not-there", video, f"{size}-{size + some}", expect_416(video, past)),
            ranged("not-there", video, f"{size + some}-", expect_416(video, past)),
            ranged(
                "suffix-zero",
                video,
                "-0",
                expect_416(video, "The last 0 bytes are no bytes", _ZERO),
            ),
            ranged("not-there", video, f"-0,{size + 1}-", expect_416(video, "None of it exists")),
            *(step for step in clever if not step.how),
            *(_ignored("malformed", video, value) for value in malformed(some)),
            *(_ignored("one-malformed", video, value) for value in half_malformed(some)),
            *(
                Step(
                    "other-unit",
                    video.path,
                    expect_full(video, f"{value} are no bytes", "other_unit"),
                    (header,),
                )
                for value in ("seconds", "byte", "none")
                for header in (f"Range: {value}=0-{some}",)
            ),
            # From here on curl can't send what was sent.
            *(step for step in clever if step.how),
            replace(
                _ignored("one-malformed", video, f"bytes=0-{some},\xa09-{some}"),
                how="with a no-break space (byte 0xa0) before the second range",
            ),
            *_with_many_digits(video, some, many),
            ranged("one-range", video, f"{some}-{2 * some}", expect_partial(video, some, 2 * some)),
        ],
    )
    _nothing_of_nothing(server, rng)
    drawn_ranges(server, rng, 2)


_ZERO = "suffix_zero"


def malformed(some: int) -> list[str]:
    """Malformed values of a Range header."""
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
    """Lists of ranges, one of which is malformed."""
    return [f"bytes=0-{some},9-5", f"bytes=0-{some},x", f"bytes=9-8,0-{some}", f"bytes=-,0-{some}"]


def in_other_digits(some: int) -> list[tuple[str, str]]:
    """Ranges with digits that int() or str.isdigit() takes and HTTP does not, and what they are."""

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
        ("bytes=0-\u00b2", "with a superscript 2 (byte 0xb2) for a digit"),
        (on_the_wire("bytes=\u0660-\u0664"), "with Arabic digits, in UTF-8"),
        (on_the_wire("bytes=0-\uff14"), "with a wide 4 (U+FF14), in UTF-8"),
    ]


def _ignored(promised: str, video: Video, value: str) -> Step:
    why = f"{value!r} is malformed, so it is ignored"
    return Step(promised, video.path, expect_full(video, why, "not_ignored"), (f"Range: {value}",))


def _too_clever(video: Video, value: str, how: str) -> Step:
    why = f"In {'this' if how else repr(value)} a character stands for a digit that is none in HTTP"

    def judge(connection: Connection, answer: RawAnswer) -> None:
        cause = "lenient_int" if answer.status == 206 else "not_ignored"
        expect_full(video, f"{why}, so it is ignored", cause)(connection, answer)

    return Step("only-python", video.path, judge, (f"Range: {value}",), how=how)


def _with_many_digits(video: Video, some: int, digits: int) -> list[Step]:
    """Numbers that are larger than any file, and longer than int() takes."""
    size, nines, how = video.size, "9" * digits, f"with a number of {digits} digits"
    everything = expect_partial(video, some, size - 1, "up to the end of the file", "many_digits")
    suffix = expect_partial(
        video, 0, size - 1, "the whole file, because it ends there", "many_digits"
    )
    past = expect_416(video, "No file has that many bytes", "many_digits")
    zeros = "0" * digits
    lower = f"{nines}-8{nines[1:]}"
    why = f"The last byte, 8 and {digits - 1} times 9, is before the first, {digits} times 9"
    return [
        ranged("many-digits", video, f"{some}-{10**30}", everything),
        ranged("many-digits", video, f"{some}-{nines}", everything, how=how),
        ranged("many-digits", video, f"-{nines}", suffix, how=how),
        ranged("many-digits", video, f"{nines}-", past, how=how),
        ranged(
            "many-digits",
            video,
            f"{zeros}{some}-{zeros}{2 * some}",
            expect_partial(
                video, some, 2 * some, "zeros before it change no number", "many_digits"
            ),
            how=f"with {digits} zeros before each number",
        ),
        ranged("many-digits", video, lower, expect_full(video, why, "many_digits"), how=how),
    ]


def _nothing_of_nothing(server: Server, rng: Random) -> None:
    """A file of 0 bytes has no first byte (RFC 9110, section 14.1.2)."""
    empty = write_fixture(server, rng, 0)
    video = write_fixture(server, rng, 500)
    why = "A file of 0 bytes has no byte 0"

    def nothing(connection: Connection, answer: RawAnswer) -> None:
        if answer.status == 200:
            expect_full(empty, "The file is empty", "empty_file")(connection, answer)
        else:
            expect_416(empty, "An empty file has no last byte", "empty_file")(connection, answer)

    converse(
        server,
        [
            Step(
                "empty-file",
                empty.path,
                expect_full(empty, "The file is empty", "empty_file"),
                cause="empty_file",
            ),
            ranged("empty-file", empty, "0-", expect_416(empty, why, "empty_file")),
            ranged("empty-file", empty, "0-0", expect_416(empty, why, "empty_file")),
            Step("empty-file", empty.path, nothing, ("Range: bytes=-5",), cause="empty_file"),
            Step("empty-file", empty.path, nothing, ("Range: bytes=0-,-5",), cause="empty_file"),
            ranged("one-range", video, "0-99", expect_partial(video, 0, 99)),
        ],
    )
