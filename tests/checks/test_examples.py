"""Generated inputs: repeated by their seed, shrunk when they fail, limited in time."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.internal import charmap

from streamlab.checks import examples
from streamlab.checks.examples import for_all, texts, texts_of_any_letters
from streamlab.checks.outcome import CheckFailed, fail


def refuse_long(text: str) -> None:
    """A program that fails for more than three characters."""
    if len(text) > 3:
        fail("too_long", f"refused: {text!r}")


def test_right_answers_pass_and_all_are_tried() -> None:
    tried: list[int] = []
    for_all(st.integers(), Random(1), tried.append, examples=40)
    assert len(tried) == 40


def test_texts_have_the_letters_and_the_lengths_that_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Drawing texts does not load hypothesis' table of all of Unicode."""
    monkeypatch.setattr(charmap, "charmap", None)
    tried: list[str] = []
    for_all(texts("ab\xb2", 1, 5), Random(1), tried.append, examples=100)
    assert {len(text) for text in tried} == {1, 2, 3, 4, 5}
    assert set("".join(tried)) == set("ab\xb2")


def test_texts_of_any_letters_can_be_written_in_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charmap, "charmap", None)
    tried: list[str] = []
    for_all(texts_of_any_letters(1, 5), Random(1), tried.append, examples=100)
    written = [letter.encode() for text in tried for letter in text]  # no surrogate among them
    assert {len(letter) for letter in written} == {1, 2, 3, 4}


def test_known_inputs_come_first_and_without_drawing_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []
    for_all(st.integers(0, 9), Random(1), tried.append, known=[70, 80], examples=20)
    assert tried[:2] == [70, 80] and len(tried) > 2
    with pytest.raises(CheckFailed, match="'known'"):
        for_all(st.just("ok"), Random(1), refuse_long, known=["known"])
    monkeypatch.setattr(examples, "drawing", False)
    tried.clear()
    for_all(st.integers(0, 9), Random(1), tried.append, known=[70])
    assert tried == [70]


def test_a_seed_repeats_what_is_drawn() -> None:
    runs: list[list[int]] = [[], [], []]
    for run, seed in zip(runs, (1, 1, 2), strict=True):
        for_all(st.integers(), Random(seed), run.append)
    assert runs[0] == runs[1] != runs[2]


def test_a_failure_is_that_of_the_smallest_input() -> None:
    with pytest.raises(CheckFailed) as caught:
        for_all(st.text("abc", min_size=0, max_size=50), Random(3), refuse_long, examples=50)
    assert caught.value.evidence == "refused: 'aaaa'"


def test_a_program_that_fails_now_and_then_fails() -> None:
    """The result is its failure, and not a message that it can't be repeated."""
    calls = 0

    def now_and_then(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            fail("sometimes", "the fifth call")

    with pytest.raises(CheckFailed, match="the fifth call"):
        for_all(st.integers(), Random(1), now_and_then)


def test_shrinking_ends_in_time() -> None:
    """Smaller inputs are tried while there is time; without time, the first failure counts."""
    calls: dict[float, int] = {}
    for shrinking in (60.0, 0.0):
        tried: list[str] = []

        def note_and_refuse(text: str, tried: list[str] = tried) -> None:
            tried.append(text)
            refuse_long(text)

        with pytest.raises(CheckFailed, match="refused"):
            for_all(st.text(), Random(1), note_and_refuse, shrinking=shrinking)
        calls[shrinking] = len(tried) - next(i for i, t in enumerate(tried) if len(t) > 3)
    assert calls[0.0] == 1 < 5 < calls[60.0]


def test_what_is_no_verdict_is_raised_as_it_is() -> None:
    def broken(_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_all(st.integers(), Random(1), broken)
