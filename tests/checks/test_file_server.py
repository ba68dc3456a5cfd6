"""The inputs that lab 02 draws, and the causes that its checks name."""

from __future__ import annotations

from pathlib import Path
from random import Random
from urllib.parse import unquote

import hypothesis
import pytest
from hypothesis import strategies as st

from streamlab.checks.examples import for_all
from streamlab.checks.file_server.requests import (
    ASCII,
    HEAD,
    LATIN,
    LINES,
    Head,
    encoded,
    heads,
    segments,
    ways_out,
)
from streamlab.checks.outcome import CheckFailed, fail, promise
from streamlab.labs.manifest import Lab
from streamlab.labs.runner import run_checks

ROOT = Path(__file__).parents[2]
WRONG = ROOT / "tests" / "corpora" / "02_chunked_loop" / "wrong"

drawn = hypothesis.settings(max_examples=60, deadline=None, database=None)


def test_heads_keep_to_the_limits_of_the_text_and_go_up_to_them() -> None:
    """Exactly 16 KiB, exactly 80 lines, and a line of over 9000 bytes are often drawn."""
    sizes: list[int] = []
    lines: list[int] = []
    longest: list[int] = []

    def look(head: Head) -> None:
        raw = b"".join(head.pieces("/" + "n" * 12))
        assert raw.endswith(b"\r\n\r\n") and raw.count(b"\r\n\r\n") == 1
        sizes.append(len(raw))
        lines.append(raw.count(b"\r\n") - 1)
        longest.append(max(map(len, raw.split(b"\r\n"))))

    for values in (ASCII, LATIN):
        for_all(heads(values), Random(1), look, examples=40)
    assert max(sizes) == HEAD and max(lines) == LINES
    assert any(9000 < length < HEAD - 1000 for length in longest)


@drawn
@hypothesis.given(segments().flatmap(lambda name: st.tuples(st.just(name), encoded(name))))
def test_an_encoded_name_is_the_same_name(pair: tuple[str, str]) -> None:
    name, written = pair
    assert unquote(written) == name
    assert name not in (".", "..") and "/" not in name


@drawn
@hypothesis.given(ways_out("folder", "root", "secret.txt"))
def test_a_way_out_leads_out(target: str) -> None:
    """Decoded often enough, the target is the file beside the root."""
    plain = unquote(unquote(target))
    steps: list[str] = ["root"]
    for step in plain.split("/"):
        if step not in ("", "."):
            steps = steps[:-1] if step == ".." else [*steps, step]
    assert steps == ["secret.txt"]


def test_a_failure_breaks_the_promise_of_its_cause() -> None:
    """Of two nested promises the inner one counts; some causes have another promise."""
    for cause, broken in (("busy_loop", "rests"), ("no_backpressure", "reading-stops")):
        with pytest.raises(CheckFailed) as caught, promise("reading-stops", busy_loop="rests"):
            fail(cause, "seen")
        assert caught.value.promise == broken
    with (
        pytest.raises(CheckFailed) as caught,
        promise("outer", busy_loop="other"),
        promise("inner"),
    ):
        fail("busy_loop", "seen")
    assert caught.value.promise == "inner"


@pytest.mark.needs("linux")
@pytest.mark.parametrize(
    ("answer", "check", "cause"),
    [
        ("recv_once", "short", "one_recv"),
        ("send_ignored", "short", "ignores_send"),
        ("chunk_as_text", "short", "wrong_bytes"),
        ("chunk_as_text", "live", "wrong_bytes"),
        ("chunk_as_text", "split", "out_of_step"),
        ("serial", "live", "one_at_a_time"),
        ("chunked_no_last", "wire", "cut_short"),
        ("more/server__names_another_port", "wire", "elsewhere"),
        ("more/server__prints_each_chunk", "bytes", "too_much_output"),
    ],
)
def test_a_check_names_the_cause_that_was_seen(answer: str, check: str, cause: str) -> None:
    """A mistake that a client alone sees too is the cause; the check's own question stays open."""
    file = WRONG / (f"{answer}.py" if "/" in answer else f"server__{answer}.py")
    [result] = run_checks(
        Lab(ROOT / "solutions" / "02_chunked_loop"), {"server.py": file}, only=[check]
    )
    assert (result.outcome, result.cause) == ("failed", cause), result.evidence
