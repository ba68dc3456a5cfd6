"""Verdicts: what a measurement says about a law, as a text that stays the same while the law holds.

A `Verdict` is made from a figure and a bound. A row of the table shows it beside the live figure,
which is the one thing that the comparison of saved outputs leaves out (`nbval.cfg`).
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import linear_regression
from types import EllipsisType
from typing import Any

from streamlab.files import size_text
from streamlab.lesson import looks
from streamlab.lesson.guesses import Outcome, compared, in_form, noted, step_of, written
from streamlab.lesson.looks import GUESS_LOOKS, LINE, QUIET

TABLE = looks.TABLE
CELL = "text-align:left;padding:5px 18px 5px 6px;border-bottom:1px solid rgba(128,128,128,.3)"
HEAD = f"{CELL};white-space:nowrap;font-weight:normal;opacity:.65"
HOLDS = "color:#0a7d5a"
FAILS = "color:#c0392b"
"""These are for the table of a lab's results, as the labs' notebooks are saved."""

# Verdicts


@dataclass(frozen=True)
class Verdict:
    """What a measurement says (`text`), of which figure (`live`), and whether its law held."""

    text: str
    live: str
    holds: bool = True
    value: float | str | None = None
    """What a guess is compared with: a number, a word, or, with `size`, a size in bytes."""
    size: float | None = None
    """What was measured, in bytes, where it is a size: shown in the unit of the guess."""
    unit: float | None = None
    """How many bytes one of the things has that a guess counts, such as a file."""


def multiple_of(
    size: float, unit: int, name: str = "file", parts: int = 1, within: float = 0.1, live: str = ""
) -> Verdict:
    """Whether `size` (bytes) is a whole multiple of `unit` (bytes): `'4 x file'`.

    With `parts=3` whole thirds count too (`'3 2/3 x file'`). `within` is how far off, in units, a
    small multiple may be; a large one may be 2 % off, but never nearly half a step. `live` shows
    another figure than the size.
    """
    ratio = size / unit
    nearest = Fraction(max(0, round(ratio * parts)), parts)
    tolerance = min(max(within, 0.02 * float(nearest)), 0.45 / parts)
    holds = abs(ratio - float(nearest)) <= tolerance
    text = f"{_mixed(nearest)} x {name}" if holds else f"{ratio:.2f} x {name} (no whole multiple)"
    value = float(nearest) * unit if holds else size
    return Verdict(text, live or size_text(size), holds, value, size, unit)


def below(size: float, bound: float, unit: float | None = None) -> Verdict:
    """Whether `size` is less than `bound` (both in bytes): `'below 1 MiB'`.

    `unit` (bytes) is what a guess counts that is not asked for in bytes, such as files.
    """
    holds = size < bound
    text = f"below {size_text(bound)}"
    told = text if holds else f"{size_text(size)} (not {text})"
    return Verdict(told, size_text(size), holds, size, size, unit)


def at_least_times(larger: float, smaller: float, factor: float) -> Verdict:
    """Whether `larger` is at least `factor` times `smaller`: `'at least 3 x'`."""
    text = f"at least {factor:g} x"
    ratio = larger / smaller if smaller > 0 else float("inf") if larger > 0 else 0.0
    holds = ratio >= factor
    figure = _times(ratio)
    return Verdict(text if holds else f"{figure} (not {text})", figure, holds, ratio)


def less_than_times(larger: float, smaller: float, factor: float) -> Verdict:
    """Whether `larger` is less than `factor` times `smaller`: `'less than 2 x'`."""
    text = f"less than {factor:g} x"
    ratio = larger / smaller if smaller > 0 else float("inf")
    holds = ratio < factor
    figure = _times(ratio)
    return Verdict(text if holds else f"{figure} (not {text})", figure, holds, ratio)


def _times(ratio: float) -> str:
    """A ratio with three digits that count: `'51.1 x'`, `'10,700 x'`."""
    rounded = float(f"{ratio:.3g}")
    return f"{rounded:,.0f} x" if 1000 <= rounded < float("inf") else f"{rounded:g} x"


def counted(done: int, wanted: int, what: str = "") -> Verdict:
    """Whether all were done: `'200 of 200'`, with `what` behind it."""
    holds = done == wanted
    text = f"{done} of {wanted} {what}".rstrip()
    return Verdict(text if holds else f"{text} (not all)", str(done), holds, done)


def at_least(count: int, bound: int, what: str = "") -> Verdict:
    """Whether there are `bound` or more: `'at least 50 answers'`."""
    holds = count >= bound
    text = f"at least {bound} {what}".rstrip()
    return Verdict(text if holds else f"{count} (not {text})", str(count), holds, count)


def about(count: float, expected: float, within: float = 0.1) -> Verdict:
    """Whether `count` differs from `expected` by a share of `within` at most: `'about 220'`."""
    holds = abs(count - expected) <= within * expected
    text = f"about {expected:g}"
    return Verdict(text if holds else f"{count:g} (not {text})", f"{count:g}", holds, count)


def straight_line(
    xs: Sequence[float], sizes: Sequence[float], unit: int, name: str, within: float = 0.05
) -> Verdict:
    """Whether `sizes` (bytes) rise with `xs` in a straight line, a whole multiple of `unit` a step.

    Least squares through the points; `within` is how far, as a share of the largest size, a point
    may lie off the line and the line off a whole multiple: `'a straight line: 1 x file'`.
    """
    slope, start = fitted_line(xs, sizes)
    largest = max(abs(size) for size in sizes) or 1
    off = max(abs(start + slope * x - size) for x, size in zip(xs, sizes, strict=True)) / largest
    live = f"{size_text(slope)} each"
    whole = round(slope / unit)
    if off > within:
        return Verdict(f"no straight line ({off:.0%} off)", live, holds=False)
    if abs(slope / unit - whole) > within:
        return Verdict(
            f"a straight line: {slope / unit:.2f} x {name} (no whole multiple)", live, False
        )
    return Verdict(f"a straight line: {whole} x {name}", live)


def fitted_line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Slope and start of the straight line nearest to the points."""
    line = linear_regression(xs, ys)
    return line.slope, line.intercept


def _mixed(number: Fraction) -> str:
    """A fraction as one reads it: `3 2/3`."""
    whole, rest = divmod(number, 1)
    return " ".join(str(part) for part in (whole, rest) if part) or "0"


# Tables

CROSS = "\u2717 "
"""What stands before the verdict of a law that did not hold."""

NO_GUESS = "no guess yet"
"""What stands in the reader's column as long as the guess is `...`."""


@dataclass(frozen=True)
class Row:
    """A line of a verdict table."""

    label: str
    verdict: Verdict
    predicted: str | EllipsisType | None = None
    """What the reader had said; `...` where nothing yet, None where nobody was asked."""
    outcome: Outcome | None = None
    """How that compares with what was measured; None where nothing was said."""


def row(label: str, verdict: Verdict, predicted: object = None, form: str = "{}") -> Row:
    """A line of a verdict table: what was tried, what came of it, what the reader had said.

    `form` is how that is written, such as `"{} MiB"`: in the unit in which it was asked for. What
    was measured is shown in the same. With `...` the line says that there is no guess yet. A guess
    that does not fit the form is shown as it is.
    """
    if predicted is None:
        return Row(label, verdict)
    verdict = _in_the_form(verdict, form)
    if predicted is ...:
        return Row(label, verdict, predicted)
    outcome = compared(predicted, form, verdict.text, verdict.value, verdict.size, verdict.unit)
    return Row(label, verdict, in_form(form, predicted), outcome)


def _in_the_form(verdict: Verdict, form: str) -> Verdict:
    """A verdict whose live figure is written in the form of a guess, where it is a number."""
    if form == "{}":
        return verdict
    if verdict.size is not None:
        step = step_of(form) or verdict.unit
        return replace(verdict, live=written(form, verdict.size / step)) if step else verdict
    if isinstance(verdict.value, int | float):
        return replace(verdict, live=written(form, verdict.value))
    return verdict


class Verdicts:
    """A table of verdicts; end a cell with it."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)

    @property
    def sentence(self) -> str:
        """The verdicts in one line: `'load-all: 1 x file; streaming: below 1 MiB'`."""
        return "; ".join(f"{each.label}: {each.verdict.text}" for each in self.rows)

    @property
    def holds(self) -> bool:
        """Whether every law held."""
        return all(each.verdict.holds for each in self.rows)

    def _repr_mimebundle_(self, **options: object) -> tuple[dict[str, str], dict[str, Any]]:
        self._note_guesses()
        live = {each.label: each.verdict.live for each in self.rows}
        return {"text/plain": self._text(), "text/html": self._html()}, {"streamlab": live}

    def __repr__(self) -> str:
        return self._text()

    def _note_guesses(self) -> None:
        """Have the guesses counted, now that they are shown."""
        asked = [each for each in self.rows if each.predicted is not None]
        said = [None if each.predicted is ... else each.predicted for each in asked]
        noted(
            [each.label for each in self.rows],
            [(each.label, guess, each.outcome) for each, guess in zip(asked, said, strict=True)],
        )

    def _text(self) -> str:
        labels = max((len(each.label) for each in self.rows), default=0)
        texts = max((len(each.verdict.text) for each in self.rows), default=0)
        lines = []
        for each in self.rows:
            line = f"{each.label:<{labels}}   {each.verdict.text}"
            if each.predicted is not None:
                said = NO_GUESS if each.predicted is ... else f"you said: {each.predicted}"
                line = f"{line:<{labels + 3 + texts}}   {said}"
            lines.append(line)
        return "\n".join(lines)

    def _html(self) -> str:
        predicted = any(each.predicted is not None for each in self.rows)
        guessed = ["you said", "your guess"] if predicted else []
        heads = ["", "verdict", "measured now", *guessed]
        head = "".join(f'<th style="{looks.HEAD}">{text}</th>' for text in heads)
        body = "".join(_html_row(each, predicted) for each in self.rows)
        return f'<table style="{TABLE}"><tr>{head}</tr>{body}</table>'


def _html_row(each: Row, predicted: bool) -> str:
    law = each.verdict
    failed = "" if law.holds else f";{looks.FAILS}"
    mark = "" if law.holds else CROSS
    cells = [
        f'<td style="{LINE}">{html.escape(each.label)}</td>',
        f'<td style="{_style_for(law.text)}{failed}">{mark}{html.escape(law.text)}</td>',
        f'<td class="live" style="{_style_for(law.live)};font-variant-numeric:tabular-nums">'
        f"{html.escape(law.live)}</td>",
    ]
    if each.predicted is ...:
        cells += [f'<td style="{LINE};{QUIET}">{NO_GUESS}</td>', f'<td style="{LINE}"></td>']
    elif each.outcome is not None:
        look = GUESS_LOOKS[each.outcome.kind]
        said = each.predicted or ""
        cells += [
            f'<td style="{_style_for(said)}">{html.escape(said)}</td>',
            f'<td class="live" style="{LINE};{look}">{html.escape(each.outcome.text)}</td>',
        ]
    elif predicted:
        cells += [f'<td style="{LINE}"></td>'] * 2
    return f"<tr>{''.join(cells)}</tr>"


SHORT = 20
"""So many letters stand in one line; a longer text may be broken where a table is narrow."""


def _style_for(text: str) -> str:
    return LINE if len(text) <= SHORT else looks.CELL


def verdicts(*rows: Row) -> Verdicts:
    """A table of verdicts, one row each; end a cell with it. Its guesses count in the score."""
    return Verdicts(rows)
