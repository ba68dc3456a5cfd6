"""Inputs that nobody thought of: drawn by hypothesis, tried, and shrunk when one fails.

A check describes a space of inputs by a strategy of hypothesis, and tries each drawn one with a
function that ends in `fail(...)` where the program is wrong:

    for_all(request_targets(), draw, lambda target: expect_right_answer(server, target))

The draws come from the check's own source, so that the seed of a run repeats them. What fails is
shrunk: the failure that the check ends in is that of the smallest input that was found.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from streamlab.testing import CheckFailed

Example = TypeVar("Example")

SURROGATES = range(0xD800, 0xE000)
"""Numbers that no character has (Unicode, section 3.8)."""

SHRINKING = 10.0
"""Seconds after the first failure in which a smaller input is looked for."""


class _Enough(BaseException):
    """No time is left: what has been found so far counts. No `Exception`: hypothesis ends at it."""


def texts(letters: str, least: int = 0, most: int | None = None) -> SearchStrategy[str]:
    """Texts of some of these letters, of `least` to `most` of them.

    hypothesis' own `text(letters)` makes a table of all of Unicode first: 0.2 s in each process.
    """
    return _texts(st.sampled_from(letters), least, most)


def texts_of_any_letters(least: int = 0, most: int | None = None) -> SearchStrategy[str]:
    """Texts of any characters that UTF-8 can write (RFC 3629, section 3); a third is ASCII."""
    ranges = (0, 0x7F), (0x80, SURROGATES.start - 1), (SURROGATES.stop, 0x10FFFF)
    letters = st.one_of(*(st.integers(*ends) for ends in ranges)).map(chr)
    return _texts(letters, least, most)


def _texts(letters: SearchStrategy[str], least: int, most: int | None) -> SearchStrategy[str]:
    return st.lists(letters, min_size=least, max_size=most).map("".join)


def for_all(
    strategy: SearchStrategy[Example],
    draw: Random,
    attempt: Callable[[Example], None],
    *,
    examples: int = 25,
    shrinking: float = SHRINKING,
) -> None:
    """Try `examples` inputs of a strategy; raise the `CheckFailed` of the smallest that fails.

    `attempt` ends in `fail(...)` for a wrong answer and returns nothing for a right one. It may be
    called a few hundred times more, for at most `shrinking` seconds, once an input has failed. What
    else it raises is raised at once.
    """
    failures: list[tuple[int, CheckFailed]] = []
    first_failure = 0.0

    @hypothesis.seed(draw.randrange(2**32))
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
        # A program that is wrong now and then only is wrong as well: hypothesis calls that flaky.
        if not failures:
            raise
    if failures:
        raise min(failures, key=lambda each: each[0])[1] from None
