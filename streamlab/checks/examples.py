"""Generated inputs: drawn by hypothesis, tried, and shrunk when one fails.

A check describes a set of inputs by a strategy of hypothesis. It tries each drawn input with a
function that ends in `fail(...)` if the program is wrong:

    for_all(request_targets(), rng, lambda target: expect_right_answer(server, target))

The inputs are drawn with the check's own random numbers, so the seed of a run repeats them. An
input that fails is shrunk: the check ends in the failure of the smallest input that was found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from random import Random
from typing import TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from streamlab.checks.outcome import CheckFailed

Example = TypeVar("Example")

SURROGATES = range(0xD800, 0xE000)
"""Code points that are no characters: surrogates (Unicode, section 3.8)."""

SHRINKING = 10.0
"""Seconds that the search for a smaller input may take after the first failure."""

drawing = True
"""Whether inputs are drawn. A test switches it off: each known mistake must be caught by inputs
that come in each run, and not by luck."""


class _Enough(BaseException):
    """The search must end. It is no `Exception`, so hypothesis lets it through."""


def texts(letters: str, least: int = 0, most: int | None = None) -> SearchStrategy[str]:
    """Texts of `least` to `most` of these letters.

    hypothesis' own `text(letters)` first makes a table of all of Unicode: 0.2 s in each process.
    """
    return _texts(st.sampled_from(letters), least, most)


def texts_of_any_letters(least: int = 0, most: int | None = None) -> SearchStrategy[str]:
    """Texts of any characters that UTF-8 can encode (RFC 3629, section 3); a third are ASCII."""
    ranges = (0, 0x7F), (0x80, SURROGATES.start - 1), (SURROGATES.stop, 0x10FFFF)
    letters = st.one_of(*(st.integers(*ends) for ends in ranges)).map(chr)
    return _texts(letters, least, most)


def _texts(letters: SearchStrategy[str], least: int, most: int | None) -> SearchStrategy[str]:
    return st.lists(letters, min_size=least, max_size=most).map("".join)


def for_all(
    strategy: SearchStrategy[Example],
    rng: Random,
    attempt: Callable[[Example], None],
    *,
    known: Iterable[Example] = (),
    examples: int = 25,
    shrinking: float = SHRINKING,
) -> None:
    """Try `examples` inputs of a strategy; raise the `CheckFailed` of the smallest that fails.

    `known` inputs come first, in each run: those that programs are known to take wrongly.

    `attempt` ends in `fail(...)` for a wrong answer and returns nothing for a right one. Once an
    input has failed, it may be called a few hundred times more, for at most `shrinking` seconds.
    Any other exception of it is raised at once.
    """
    for example in known:
        attempt(example)
    if not drawing:
        return
    failures: list[tuple[int, CheckFailed]] = []
    first_failure = 0.0

    @hypothesis.seed(rng.randrange(2**32))
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategy)
    def attempted(example: Example) -> None:
        nonlocal first_failure
        if failures and time.monotonic() > first_failure + shrinking:
            raise _Enough
        try:
            attempt(example)
        except CheckFailed as failure:
            if not failures:
                first_failure = time.monotonic()
            failures.append((len(repr(example)), failure))
            raise

    try:
        attempted()
    except (CheckFailed, _Enough, hypothesis.errors.HypothesisException):
        # A program that fails only sometimes is wrong too. hypothesis calls that flaky.
        if not failures:
            raise
    if failures:
        raise min(failures, key=lambda each: each[0])[1] from None
