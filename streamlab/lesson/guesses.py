"""Guesses against measurements: hit, near, or by how much off; and the score of a chapter.

A number is compared with the number that was measured, in the unit in which it was asked for. It
is a hit within a tenth, and near within a factor of 2. A choice is a hit or it is not.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from streamlab.files import GiB, KiB, MiB, TiB, size_text
from streamlab.labs.chapters import Guess, remember_guesses
from streamlab.lesson.looks import CELL, GUESS_LOOKS, HEAD, LINE, TABLE

Kind = Literal["hit", "near", "off"]

HIT_WITHIN = 0.1
"""How far off, as a share of what was measured, a hit may be."""

_SIZES = {"B": 1, "byte": 1, "bytes": 1, "KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB}
_SIZES |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(rf"\b({'|'.join(_SIZES)})\b")
_NUMBER = re.compile(r"\s*([+-]?\d[\d,]*(?:\.\d+)?)(?: (\d+)/(\d+))?(?:/(\d+))?")
_STATUS = re.compile(r"[1-5]\d\d")


@dataclass(frozen=True)
class Outcome:
    """How a guess compares with what was measured."""

    kind: Kind
    text: str
    """`'hit'`, `'near: 1.5 x too small'`, `'8 x too large'`, `'missed'`."""
    factor: float
    """How many times too large or too small; 1 for a hit, infinite where one of the two is 0."""
    measured: str
    """What was measured, in the form in which the guess was asked for."""


def compared(
    guess: object,
    form: str,
    text: str,
    value: float | str | None = None,
    size: float | None = None,
    unit: float | None = None,
) -> Outcome:
    """How a guess compares with a measurement, whose verdict is `text`.

    `form` is how the guess is written (`"{} MiB"`). `value` is what was measured: a number as it
    was asked for, a word where the guess is a choice, or a size in bytes where `size` is given too.
    None means the number with which the text begins, or else the words of the text. A size is
    compared in the unit of the form, or in `unit`s, such as files.
    """
    if value is None and not (_STATUS.fullmatch(text) and _STATUS.fullmatch(str(guess))):
        value = number_in(text)
    if value is None or isinstance(value, str):
        return _chosen(guess, text if value is None else value, text)
    figure, shown = value, written(form, value)
    if size is not None:
        own = step_of(guess) if isinstance(guess, str) else None
        figure = value / (step_of(form) or own or unit or 1)
        shown = size_text(value) if own and not step_of(form) else written(form, figure)
    number = number_in(guess)
    if number is None:
        return Outcome("off", "not a number", float("inf"), shown)
    return _counted(number, figure, shown)


def step_of(form: str) -> int | None:
    """The bytes in a unit that a text names (`"{} MiB"`); None where it names none."""
    found = _SIZE.search(form)
    return _SIZES[found[1]] if found else None


def number_in(guess: object) -> float | None:
    """The number that a guess is or begins with (`"1 1/3 x"`); None where there is none."""
    try:
        if isinstance(guess, str) and (found := _NUMBER.match(guess)):
            whole, over, under, divisor = found.groups()
            number = Fraction(whole.replace(",", "")) + Fraction(int(over or 0), int(under or 1))
            return float(number / int(divisor or 1))
        if isinstance(guess, int | float) and not isinstance(guess, bool):
            return None if math.isnan(guess) else float(guess)
    except (ValueError, OverflowError, ZeroDivisionError):  # no number that anything can have
        pass
    return None


def written(form: str, figure: float) -> str:
    """A figure with two or three digits that count, in the form of a guess."""
    rounded: float | int = float(f"{figure:.3g}")
    if not math.isfinite(figure):
        return f"{figure}"
    if abs(rounded) >= 100 or rounded == int(rounded):
        rounded = round(figure)
    return in_form(form, rounded)


def in_form(form: str, number: object) -> str:
    """A guess in its form: `'8 chunks'`, `'1 chunk'`; as it is if it does not fit."""
    if number == 1:
        form = re.sub(r"^(\{[^}]*\} [a-z]+)s$", r"\1", form)
    try:
        return form.format(number)
    except (ValueError, TypeError, IndexError, KeyError):
        return str(number)


def _counted(guess: float, figure: float, shown: str) -> Outcome:
    nothing = abs(guess) < 0.5 and abs(figure) < 0.5  # in the unit asked for, rounded
    if guess == 0 or figure == 0 or not (math.isfinite(guess) and math.isfinite(figure)):
        exact = nothing or guess == figure
    else:
        exact = abs(figure - guess) <= HIT_WITHIN * abs(figure)
    if exact:
        return Outcome("hit", "hit", 1.0, shown)
    if min(guess, figure) <= 0 or not (math.isfinite(guess) and math.isfinite(figure)):
        return Outcome("off", "too large" if figure < guess else "too small", float("inf"), shown)
    factor = max(guess, figure) / min(guess, figure)
    digits = f"{factor:,.0f}" if factor >= 10 else f"{float(f'{factor:.2g}'):g}"
    off = f"{digits} x too {'large' if guess > figure else 'small'}"
    near = float(f"{factor:.2g}") < 2
    return Outcome("near" if near else "off", f"near: {off}" if near else off, factor, shown)


def _chosen(guess: object, value: str, text: str) -> Outcome:
    said, was = (" ".join(str(each).casefold().split()) for each in (guess, value))
    right = said == was or re.match(rf"{re.escape(said)}(?!\w)", was) is not None
    kind: Kind = "hit" if said and right else "off"
    return Outcome(kind, "hit" if kind == "hit" else "missed", 1.0 if kind == "hit" else 10.0, text)


# The score of a chapter

_asked: dict[tuple[str, ...], tuple[str, str | None, Outcome | None]] = {}
"""What was asked for in this kernel, by the table's rows and the row: label, guess, outcome."""


def noted(table: Sequence[str], asked: Sequence[tuple[str, str | None, Outcome | None]]) -> None:
    """Remember the guesses that a table of these rows shows; what it showed before is replaced."""
    for label, guess, outcome in asked:
        _asked[(*table, label)] = (label, guess, outcome)


def forget_all() -> None:
    """Begin a new chapter."""
    _asked.clear()


class Score:
    """How many guesses of a chapter were hits, and the largest surprises; end a chapter with it.

    Its plain text tells how many were made, which strict nbval compares. The rest depends on the
    figures of the run, and stands in live cells.
    """

    def __init__(self, chapter: str, asked: Sequence[tuple[str, str | None, Outcome | None]]):
        self.chapter = chapter
        self.asked = len(asked)
        self.made = [
            Guess(label, guess, outcome.measured, outcome.kind, outcome.text)
            for label, guess, outcome in asked
            if guess is not None and outcome is not None
        ]
        off = [each for each in asked if each[2] is not None and each[2].kind == "off"]
        off.sort(key=lambda each: -each[2].factor if each[2] else 0)
        self.surprises = [
            f"{label}: you said {guess}; measured: {outcome.measured} ({outcome.text})"
            for label, guess, outcome in off[:3]
            if outcome
        ]

    def count(self, kind: str) -> int:
        """How many of the guesses are of a kind: hit, near or off."""
        return sum(each.outcome == kind for each in self.made)

    def __repr__(self) -> str:
        return f"Chapter {self.chapter}: {len(self.made)} of {self.asked} guesses made"

    def _repr_mimebundle_(self, **options: object) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._html()}

    def _html(self) -> str:
        heads = "".join(f'<th style="{HEAD}">{each}</th>' for each in ("", *GUESS_LOOKS))
        counts = "".join(
            f'<td class="live" style="{LINE}">{self.count(kind)}</td>' for kind in GUESS_LOOKS
        )
        none = "none: no guess was off" if self.made else "no guess yet"
        said = "\n".join(self.surprises) or none
        return (
            f'<table style="{TABLE}"><tr>{heads}</tr>'
            f'<tr><td style="{LINE}">{html.escape(repr(self))}</td>{counts}</tr>'
            f'<tr><td style="{CELL}">your largest surprises</td>'
            f'<td class="live" colspan="3" style="{CELL};white-space:pre-line">'
            f"{html.escape(said)}</td></tr></table>"
        )


def score(chapter: str) -> Score:
    """The score of a chapter (`"01"`): how many guesses were made, and what surprised the most.

    It goes into the student's progress, which `streamlab progress` shows.
    """
    found = Score(chapter, list(_asked.values()))
    remember_guesses(chapter, found.asked, found.made)
    return found
