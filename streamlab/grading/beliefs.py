"""What a class believes: the guesses that its students share, counted by question.

No student is named. Where few have shared, or few have answered a question, nothing is told of it.
The texts are students': nothing in them is a format, and who shows them escapes them.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from streamlab.labs.shared_guesses import SharedGuess, SharedGuesses
from streamlab.lesson.guesses import number_in

FEWEST = 3
"""Of fewer students nothing is told."""

_NUMBER = re.compile(r"[+-]?\d[\d,]*(?:\.\d+)?(?: \d+/\d+)?", re.ASCII)
_STATUSES = {float(each) for each in HTTPStatus}
_NO_FORM = ("", "")


@dataclass(frozen=True)
class Belief:
    """What a class said to one question of a chapter."""

    chapter: str
    row: str
    hit: int
    near: int
    off: int
    said: str
    """Of numbers the median, and between which the middle half of them lies; else the guess that
    is the most common, and how many made it."""
    measured: str
    """What most have measured, or the median of it."""
    question: str = ""
    """As the chapter asks it; empty where it has no such row."""

    @property
    def answers(self) -> int:
        """How many have guessed."""
        return self.hit + self.near + self.off


@dataclass(frozen=True)
class Beliefs:
    """What a class believes."""

    shared: int = 0
    """How many students have shared their guesses. With fewer than `FEWEST` that is all."""
    beliefs: list[Belief] = field(default_factory=list)
    """What most have missed stands first."""
    rare: int = 0
    """How many more questions fewer than `FEWEST` have answered."""
    fewest: int = FEWEST


def beliefs_of(
    shared: Iterable[SharedGuesses], questions: Mapping[tuple[str, str], str] | None = None
) -> Beliefs:
    """Count the guesses of a class; a file that several handed in counts once.

    `questions` has those of the chapters, by chapter and row.
    """
    files = {each.id: each for each in shared}
    by_row: dict[tuple[str, str], list[SharedGuess]] = defaultdict(list)
    for file in files.values():
        for each in file.guesses:
            by_row[each.chapter, each.row].append(each)
    if len(files) < FEWEST:
        return Beliefs(len(files))
    found = [
        _belief(guesses, (questions or {}).get(key, ""))
        for key, guesses in by_row.items()
        if len(guesses) >= FEWEST
    ]
    found.sort(key=lambda each: (-each.off, -each.near, each.chapter, each.row))
    return Beliefs(len(files), found, len(by_row) - len(found))


def _belief(guesses: list[SharedGuess], question: str) -> Belief:
    outcomes = Counter(each.outcome for each in guesses)
    said = [each.guess for each in guesses]
    measured = [each.measured for each in guesses]
    return Belief(
        guesses[0].chapter,
        guesses[0].row,
        outcomes["hit"],
        outcomes["near"],
        outcomes["off"],
        said=_spread(said) or _most_common(said),
        measured=_median(measured) or _most_common(measured, counted=False),
        question=question,
    )


# Numbers


def _parted(text: str) -> tuple[float | None, tuple[str, str]]:
    """The first number in a text, and what stands before and behind it."""
    found = _NUMBER.search(text)
    number = number_in(found[0]) if found else None
    if found is None or number is None:
        return None, _NO_FORM
    return number, (text[: found.start()], text[found.end() :])


def _numbers(texts: list[str]) -> tuple[list[float], tuple[str, str]]:
    """The numbers of texts that have one form, and the form; none where most have no such form.

    `1 chunk` and `8 chunks` are of one form. Status codes are no numbers: nothing lies between.
    """
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    forms: dict[tuple[str, str], str] = {}
    for text in texts:
        number, (before, after) = _parted(text)
        if number is not None:
            key = (before, after.removesuffix("s"))
            groups[key].append(number)
            forms[key] = max(forms.get(key, ""), after)  # with the `s`, where one has it
    if not groups:
        return [], _NO_FORM
    key = max(groups, key=lambda each: len(groups[each]))
    codes = key == _NO_FORM and set(groups[key]) <= _STATUSES
    if codes or 2 * len(groups[key]) <= len(texts):
        return [], _NO_FORM
    return groups[key], (key[0], forms[key])


def _spread(texts: list[str]) -> str:
    """`median 64 MiB, half from 32 to 128`; empty where the texts are no numbers."""
    numbers, (before, after) = _numbers(texts)
    if len(numbers) < 2:
        return ""
    low, middle, high = statistics.quantiles(numbers, n=4, method="inclusive")
    told = f"median {before}{_figure(middle)}{after}"
    told += ", said by half" if low == high else f", half from {_figure(low)} to {_figure(high)}"
    others = len(texts) - len(numbers)
    return f"{told}; {others} in another form" if others else told


def _median(texts: list[str]) -> str:
    numbers, (before, after) = _numbers(texts)
    return f"{before}{_figure(statistics.median(numbers))}{after}" if numbers else ""


def _figure(number: float) -> str:
    """A number as a chapter writes it: with three digits that count, and all of a whole one."""
    rounded = float(f"{number:.3g}")
    if abs(rounded) >= 1e15:
        return f"{rounded:g}"
    if abs(rounded) >= 100 or rounded == int(rounded):
        return f"{round(number):,}"
    return f"{rounded:g}"


# Choices


def _most_common(texts: list[str], *, counted: bool = True) -> str:
    """`the kernel (5 of 9)`: the text that most have; that of one student alone is not told."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for text in texts:
        kinds[" ".join(text.casefold().split())][text] += 1
    ranked = sorted(kinds.items(), key=lambda each: (-each[1].total(), each[0]))
    count = ranked[0][1].total()
    if count < 2:
        return "no two the same" if counted else ""
    text = ranked[0][1].most_common(1)[0][0]
    return f"{text} ({count} of {len(texts)})" if counted else text
