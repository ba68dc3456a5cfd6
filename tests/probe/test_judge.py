"""What figures mean: each verdict, from figures that are given."""

from __future__ import annotations

import pytest

from streamlab.checks.observe import ResourceCounts
from streamlab.files import KiB, MiB
from streamlab.http.parts import Head
from streamlab.probe import judge
from streamlab.probe.load import Growth, Left, Stalled
from streamlab.probe.ranges import Asked, Ranges, _served
from streamlab.probe.wire import KEPT, Headed, Samples, Whole

SIZE = 64 * MiB


def grown(each: float, **others: object) -> Growth:
    found = Growth([1, 10, 30], [round(MiB + each * count) for count in (1, 10, 30)])
    for name, value in others.items():
        setattr(found, name, value)
    return found


def stalled(at_first: int, taken: int, held: int) -> Stalled:
    return Stalled(64 * KiB, 4 * MiB, at_first, taken, held)


CALM = stalled(MiB, 5 * MiB, MiB)


@pytest.mark.parametrize(
    ("found", "outcome", "words"),
    [
        (grown(300 * KiB), "good", "0.5% of its size"),
        (grown(10), "good", "next to nothing"),
        (grown(SIZE), "bad", "1 x the file: the server holds"),
        (grown(2 * SIZE), "bad", "2 x the file"),
        (grown(SIZE / 3), "bad", "0.33 x the file"),
        (grown(0, unserved=9, problem="silence"), "bad", "9 clients get no first byte"),
        (grown(SIZE, ended=True, problem="the process ended"), "bad", "the process ended"),
    ],
)
def test_growth(found: Growth, outcome: str, words: str) -> None:
    """A fourth of the file is a share of it; what all cost together once does not count."""
    row = judge.growth(found, CALM, SIZE)
    assert (row.outcome, words in row.verdict.text) == (outcome, True), row.verdict.text


def test_much_memory_that_is_no_share() -> None:
    """17 MiB for a client are much, also where the file is large."""
    row = judge.growth(grown(17 * MiB), CALM, 1024 * MiB)
    assert row.outcome == "bad" and "1.7% of the file" in row.verdict.text


@pytest.mark.parametrize(
    ("found", "outcomes"),
    [
        (CALM, ("good", "good")),
        (stalled(SIZE, SIZE, SIZE), ("bad", "open")),  # all before its first byte
        (stalled(MiB, SIZE, SIZE), ("open", "bad")),  # on and on, into memory
        (stalled(SIZE, SIZE, MiB), ("good", "bad")),  # into another file, however soon
        (Stalled(64 * KiB, 4 * MiB), ("good", "open")),  # seen from outside
    ],
)
def test_one_fault_is_told_in_one_row(found: Stalled, outcomes: tuple[str, str]) -> None:
    """A server that holds the file fails one of two questions, by when it took it."""
    growth = grown(SIZE if (found.held or 0) > SIZE / 2 else 100 * KiB)
    rows = judge.growth(growth, found, SIZE), judge.backpressure(found, SIZE)
    assert tuple(row.outcome for row in rows) == outcomes


def left(*counts: tuple[int, int, int], memory: tuple[int, ...] = ()) -> Left:
    each = [ResourceCounts(one, 0, two, three) for one, two, three in counts]
    return Left(30, each, list(memory) or [MiB] * len(each))


@pytest.mark.parametrize(
    ("found", "outcome", "words"),
    [
        (left((9, 0, 2), (9, 0, 12), (9, 0, 12)), "good", "nothing"),
        (left((9, 0, 2), (39, 0, 2), (69, 0, 2), (99, 0, 2)), "bad", "30 descriptors"),
        (left((9, 0, 2), (19, 0, 2), (29, 0, 2), (29, 0, 2)), "good", "nothing"),
        (left((9, 0, 2), (9, 0, 12), (9, 0, 22), (9, 0, 32)), "good", "nothing"),  # a pool
        (left((9, 0, 2), (9, 0, 32), (9, 0, 62), (9, 0, 92)), "bad", "30 threads"),
        (left((9, 0, 2), (9, 30, 2), (9, 60, 2), (9, 90, 2)), "bad", "30 processes"),
        (
            left(*[(9, 0, 2)] * 4, memory=(MiB, 20 * MiB, 40 * MiB, 60 * MiB)),
            "bad",
            "20 MiB of memory",
        ),
        (left((9, 0, 2)), "open", "not measured"),
    ],
)
def test_leaving(found: Left, outcome: str, words: str) -> None:
    """A leak grows with each wave; what is kept once, or by a pool, is none."""
    row = judge.leaving(found, 100 * KiB)
    assert (row.outcome, words in row.verdict.text) == (outcome, True), row.verdict.text


BODY = bytes(index * 7 % 251 for index in range(40 * KiB))


def whole(length: int | None = len(BODY), chunked: bool = False, **fields: str) -> Whole:
    raw = b"HTTP/1.1 200 OK\r\n\r\n"
    found = Whole(Head(raw, 200, list(fields.items()), length, chunked), Samples(length))
    for at in range(0, len(BODY), 1000):
        found.samples.take(BODY[at : at + 1000])
    return found


def test_samples() -> None:
    """They are the bytes of the file at those places, and nothing is known of others."""
    samples = whole().samples
    assert samples.at(0, KEPT - 1) == BODY[:KEPT]
    assert samples.at(samples.middle, samples.middle + 999) == BODY[20 * KiB :][:1000]
    assert samples.at(len(BODY) - 500, len(BODY) - 1) == BODY[-500:]
    assert samples.at(10 * KiB, 10 * KiB + 1) is None


def served(span: str, body: bytes, *spans: tuple[int, int]) -> str:
    head = Head(b"", 206, [("Content-Range", span)], len(body), False)
    return ": ".join(_served(head, body, whole(), list(spans) or None))


def test_a_206() -> None:
    """The bytes are those of the place that it names, and that place was asked for."""
    size = len(BODY)
    assert served(f"bytes 0-9/{size}", BODY[:10], (0, 9)) == "served: "
    assert "something else" in served(f"bytes 0-9/{size}", BODY[1:11], (0, 9))
    assert "were asked" in served(f"bytes 0-8/{size}", BODY[:9], (0, 9))
    assert "has 9 bytes" in served("bytes 0-9/9", BODY[:10], (0, 9))
    assert "names no place" in served("bytes */9", BODY[:10], (0, 9))
    assert "does not have" in served(f"bytes 0-9/{size}", BODY[:10])
    assert "but 9 came" in served(f"bytes 0-9/{size}", BODY[:9], (0, 9))
    # Several ranges may come as one that covers them.
    assert served(f"bytes 0-99/{size}", BODY[:100], (0, 9), (90, 99)) == "served: "


def test_parts_of_several_ranges() -> None:
    """They are read strictly, and compared."""
    size = len(BODY)
    kind = ("Content-Type", "multipart/byteranges; boundary=x")
    head = Head(b"", 206, [kind], None, True)

    def parts(second: bytes) -> bytes:
        return (
            b"--x\r\nContent-Range: bytes 0-3/%d\r\n\r\n%b\r\n"
            b"--x\r\nContent-Range: bytes 8-11/%d\r\n\r\n%b\r\n--x--\r\n"
        ) % (size, BODY[:4], size, second)

    asked = [(0, 3), (8, 11)]
    assert _served(head, parts(BODY[8:12]), whole(), asked) == ("served", "")
    assert "something else" in _served(head, parts(BODY[:4]), whole(), asked)[1]
    assert _served(head, b"--y\r\n", whole(), asked)[0] == "wrong"


def test_ranges() -> None:
    """What is ignored is allowed; what is wrong is told with its name."""
    some = Ranges([Asked("single", ("Range: bytes=0-9",), "served")])
    several = Asked("several", ("Range: bytes=0-9,20-29",), "ignored")
    assert judge.ranges(some).outcome == "good"
    assert judge.ranges(Ranges([several])).outcome == "open"
    both = judge.ranges(Ranges([*some.asked, several]))
    assert both.verdict.text == "right: single; ignored: several"
    wrong = Asked("suffix", ("Range: bytes=-5",), "wrong", "the status is 500")
    row = judge.ranges(Ranges([*some.asked, wrong]))
    assert row.outcome == "bad" and row.figures["request_fields"] == "Range: bytes=-5"


@pytest.mark.parametrize(
    ("found", "outcome", "words"),
    [
        (Headed(200), "good", "no body"),
        (Headed(405), "bad", "answered with 405, and GET with 200"),
        (Headed(200, body=True), "bad", "a body follows"),
        (Headed(200, ["etag is missing, for GET x"]), "bad", "etag is missing"),
        (Headed(problem="it closes"), "bad", "it closes"),
    ],
)
def test_head(found: Headed, outcome: str, words: str) -> None:
    """HEAD is GET without the body."""
    row = judge.head(found, whole())
    assert (row.outcome, words in row.verdict.text) == (outcome, True), row.verdict.text


def test_framing() -> None:
    """A length or chunks tell the end; a problem is told as it is."""
    assert "Content-Length is right" in judge.framing(whole()).verdict.text
    assert "chunks are right" in judge.framing(whole(None, chunked=True)).verdict.text
    wrong = whole()
    wrong.problem = "one byte is missing"
    assert judge.framing(wrong).outcome == "bad"


def test_the_smallest_file() -> None:
    """It has four times what the kernel takes, in whole MiB, and no less than 16 MiB."""
    assert judge.least_size(MiB) == 16 * MiB
    assert judge.least_size(5 * MiB + 1) == 21 * MiB
