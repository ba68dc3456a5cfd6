"""What a lesson shows: verdict tables and charts.

A *verdict* is a sentence about a measurement that stays the same from run to run as long as the
law behind it holds (`4 x file`, `below 1 MiB`). When the law does not hold, the verdict shows the
raw figure instead, so that strict nbval fails, loudly. The figure just measured stands beside it,
in `<td class="live">`, the one element that nbval's sanitizer blanks (see `nbval.cfg`).
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from streamlab.experiment import Filling, Measurement
from streamlab.files import GiB, MiB, size_text
from streamlab.labs import Lab, advice, find_lab, remember, run_checks, stories
from streamlab.results import CheckResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Verdicts


@dataclass(frozen=True)
class Verdict:
    """What a measurement says (`text`), of which figure (`live`), and whether its law held."""

    text: str
    live: str
    holds: bool = True


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
    return Verdict(text, live or size_text(size), holds)


def below(size: float, bound: float) -> Verdict:
    """Whether `size` is less than `bound` (both in bytes): `'below 1 MiB'`."""
    holds = size < bound
    text = f"below {size_text(bound)}"
    return Verdict(text if holds else f"{size_text(size)} (not {text})", size_text(size), holds)


def at_least_times(larger: float, smaller: float, factor: float) -> Verdict:
    """Whether `larger` is at least `factor` times `smaller`: `'at least 3 x'`."""
    text = f"at least {factor:g} x"
    ratio = larger / smaller if smaller > 0 else float("inf") if larger > 0 else 0.0
    holds = ratio >= factor
    figure = f"{ratio:.3g} x"
    return Verdict(text if holds else f"{figure} (not {text})", figure, holds)


def less_than_times(larger: float, smaller: float, factor: float) -> Verdict:
    """Whether `larger` is less than `factor` times `smaller`: `'less than 2 x'`."""
    text = f"less than {factor:g} x"
    ratio = larger / smaller if smaller > 0 else float("inf")
    holds = ratio < factor
    figure = f"{ratio:.3g} x"
    return Verdict(text if holds else f"{figure} (not {text})", figure, holds)


def counted(done: int, wanted: int, what: str = "") -> Verdict:
    """Whether all were done: `'200 of 200'`, with `what` behind it."""
    holds = done == wanted
    text = f"{done} of {wanted} {what}".rstrip()
    return Verdict(text if holds else f"{text} (not all)", str(done), holds)


def at_least(count: int, bound: int, what: str = "") -> Verdict:
    """Whether there are `bound` or more: `'at least 50 answers'`."""
    holds = count >= bound
    text = f"at least {bound} {what}".rstrip()
    return Verdict(text if holds else f"{count} (not {text})", str(count), holds)


def about(count: float, expected: float, within: float = 0.1) -> Verdict:
    """Whether `count` differs from `expected` by a share of `within` at most: `'about 220'`."""
    holds = abs(count - expected) <= within * expected
    text = f"about {expected:g}"
    return Verdict(text if holds else f"{count:g} (not {text})", f"{count:g}", holds)


def straight_line(
    xs: Sequence[float], sizes: Sequence[float], unit: int, name: str, within: float = 0.05
) -> Verdict:
    """Whether `sizes` (bytes) rise with `xs` in a straight line, a whole multiple of `unit` a step.

    Least squares through the points; `within` is how far, as a share of the largest size, a point
    may lie off the line and the line off a whole multiple: `'a straight line: 1 x file'`.
    """
    slope, start = _fit(xs, sizes)
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


def _fit(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    """Slope and start of the straight line nearest to the points."""
    import numpy

    slope, start = numpy.polynomial.Polynomial.fit(xs, ys, 1).convert().coef[::-1]
    return float(slope), float(start)


def _mixed(number: Fraction) -> str:
    """A fraction as one reads it: `3 2/3`."""
    whole, rest = divmod(number, 1)
    return " ".join(str(part) for part in (whole, rest) if part) or "0"


# Tables


@dataclass(frozen=True)
class Row:
    """A line of a verdict table."""

    label: str
    verdict: Verdict
    predicted: str | None = None


def row(label: str, verdict: Verdict, predicted: object = None) -> Row:
    """A line of a verdict table: what was tried, what came of it, what the reader had said."""
    return Row(label, verdict, None if predicted is None else str(predicted))


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
        live = {each.label: each.verdict.live for each in self.rows}
        return {"text/plain": self._text(), "text/html": self._html()}, {"streamlab": live}

    def __repr__(self) -> str:
        return self._text()

    def _text(self) -> str:
        labels = max((len(each.label) for each in self.rows), default=0)
        texts = max((len(each.verdict.text) for each in self.rows), default=0)
        lines = []
        for each in self.rows:
            line = f"{each.label:<{labels}}   {each.verdict.text}"
            if each.predicted is not None:
                line = f"{line:<{labels + 3 + texts}}   you said: {each.predicted}"
            lines.append(line)
        return "\n".join(lines)

    def _html(self) -> str:
        predicted = any(each.predicted is not None for each in self.rows)
        heads = ["", "verdict", "measured now", *(["you said"] if predicted else [])]
        head = "".join(f'<th style="{_HEAD}">{text}</th>' for text in heads)
        body = "".join(_html_row(each, predicted) for each in self.rows)
        return f'<table style="{_TABLE}"><tr>{head}</tr>{body}</table>'


_TABLE = "border-collapse:collapse;font-size:14px;margin:6px 0"
_CELL = "text-align:left;padding:5px 18px 5px 6px;border-bottom:1px solid rgba(128,128,128,.3)"
_LINE = f"{_CELL};white-space:nowrap"
_HEAD = f"{_LINE};font-weight:normal;opacity:.65"
_HOLDS = "color:#0a7d5a"
_FAILS = "color:#c0392b"


def _html_row(each: Row, predicted: bool) -> str:
    mark, colour = ("&#10003;", _HOLDS) if each.verdict.holds else ("&#10007;", _FAILS)
    cells = [
        f'<td style="{_LINE}">{html.escape(each.label)}</td>',
        f'<td style="{_LINE};{colour};font-weight:600">'
        f"{mark} {html.escape(each.verdict.text)}</td>",
        f'<td class="live" style="{_LINE};font-variant-numeric:tabular-nums">'
        f"{html.escape(each.verdict.live)}</td>",
    ]
    if predicted:
        cells.append(f'<td style="{_LINE}">{html.escape(each.predicted or "")}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def verdicts(*rows: Row) -> Verdicts:
    """A table of verdicts, one row each; end a cell with it."""
    return Verdicts(rows)


# Results of a lab's checks

_OUTCOMES = {
    "passed": ("&#10003;", _HOLDS),
    "not_attempted": ("&#8211;", "opacity:.65"),
    "failed": ("&#10007;", _FAILS),
    "could_not_run": ("&#10007;", _FAILS),
    "grader_fault": ("!", _FAILS),
}


class Results:
    """The results of a lab's checks as a table; what failed is told in full below it.

    What a check left out on this machine stands in a live cell, so that a notebook's saved output
    is the same on machines with and without the tool.
    """

    def __init__(self, lab: Lab, results: Sequence[CheckResult]) -> None:
        self.lab = lab
        self.results = list(results)

    @property
    def points(self) -> float:
        return sum(result.points for result in self.results)

    def __repr__(self) -> str:
        return "\n".join([*self._lines(notes=True), *self._stories()])

    def _repr_mimebundle_(self, **options: object) -> dict[str, str]:
        plain = "\n".join([*self._lines(notes=False), *self._stories()])
        return {"text/plain": plain, "text/html": self._html()}

    def _lines(self, notes: bool) -> list[str]:
        rows = [
            (each.outcome.replace("_", " "), f"{each.points:g} of {each.max_points:g}", each.check)
            for each in self.results
        ]
        first = max((len(outcome) for outcome, _, _ in rows), default=0)
        lines = [
            f"{outcome:<{first}}   {points:>7}   {self.lab.check(name).title}"
            for outcome, points, name in rows
        ]
        total = f"{self.points:g} of {sum(r.max_points for r in self.results):g} points"
        return [*lines, f"{total}. {advice(self.lab, self.results, notes)}".rstrip()]

    def _stories(self) -> list[str]:
        return [f"\n{story}" for story in stories(self.lab, self.results)]

    def _html(self) -> str:
        rows = []
        for each in self.results:
            mark, style = _OUTCOMES[each.outcome]
            passed = each.outcome == "passed"
            live = f"{each.seconds:.1f} s {each.evidence}".rstrip() if passed else ""
            rows.append(
                f'<tr><td style="{_CELL}">{html.escape(self.lab.check(each.check).title)}</td>'
                f'<td style="{_CELL};{style};font-weight:600">{mark} '
                f"{each.outcome.replace('_', ' ')}</td>"
                f'<td style="{_CELL}">{each.points:g} of {each.max_points:g}</td>'
                f'<td class="live" style="{_CELL}">{html.escape(live)}</td></tr>'
            )
        heads = "".join(f'<th style="{_HEAD}">{h}</th>' for h in ("", "", "points", "took"))
        stories = "".join(
            f'<pre style="white-space:pre-wrap;overflow-wrap:break-word;word-break:normal;'
            f'border-left:4px solid #c0392b;padding-left:12px">{html.escape(story.strip())}</pre>'
            for story in self._stories()
        )
        return (
            f'<table style="{_TABLE}"><tr>{heads}</tr>{"".join(rows)}</table>'
            f"<p><b>{html.escape(self._lines(notes=False)[-1])}</b></p>{stories}"
        )


def check(
    which: str | None = None, *, only: Collection[str] | None = None, seed: int | None = None
) -> Results:
    """Run the checks of a lab (the one whose folder we are in) and show the results as a table.

    `only` names checks by id; `seed` repeats an earlier run. This is for notebooks; the terminal
    has `streamlab check`.
    """
    lab = find_lab(which)
    results = run_checks(lab, only=only, seed=seed)
    if only is None:
        remember(lab, results)
    return Results(lab, results)


# Charts

RIVER = "#1f77a4"
LOAD_ALL = "#c8553d"
SAND = "#d9a441"
MOSS = "#4f8a5b"
INK = "#2b2f33"
COLOURS = (LOAD_ALL, RIVER, SAND, MOSS, "#7d6b91")

_STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": "#9aa0a6",
    "axes.facecolor": "white",
    "axes.labelcolor": INK,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7ea",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 2.2,
    "lines.solid_capstyle": "round",
}


class Chart:
    """A picture (PNG), and in words its title and the verdicts that it `shows`.

    The words serve readers who can't see it, and strict nbval, which compares no pictures.
    """

    def __init__(self, figure: Figure, title: str, shows: Verdicts) -> None:
        self.says = f"Chart: {title}. {shows.sentence}."
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
        self.png = buffer.getvalue()

    def _repr_mimebundle_(self, **options: object) -> dict[str, str]:
        return {"text/plain": self.says, "image/png": base64.b64encode(self.png).decode()}

    def __repr__(self) -> str:
        return self.says


@contextmanager
def canvas(
    width: float = 8.0, height: float = 3.8, panels: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure in the course's style with `panels` side by side; sizes in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, list(figure.subplots(1, panels, squeeze=False)[0])


def timeline_chart(measurements: Mapping[str, Measurement], title: str, shows: Verdicts) -> Chart:
    """Memory of servers over time, above their baselines, one line for each measurement."""
    with canvas() as (figure, [axes]):
        for colour, (label, each) in zip(COLOURS, measurements.items(), strict=False):
            start = each.times[0] if each.times else 0.0
            times = [moment - start for moment in each.times]
            sizes = [max(0, size) / MiB for size in each.timeline]
            axes.plot(times, sizes, color=colour)
            axes.fill_between(times, sizes, color=colour, alpha=0.12, linewidth=0)
            top = max(range(len(sizes)), key=sizes.__getitem__)
            flat = sizes[top] < 1  # a line along the floor has its name at its end
            axes.annotate(
                f"{label}: {size_text(sizes[top] * MiB)}",
                (times[-1], sizes[-1]) if flat else (times[top], sizes[top]),
                xytext=(4, 6),
                textcoords="offset points",
                color=colour,
                weight="bold",
            )
        axes.set(title=title, xlabel="seconds", ylabel="MiB above the idle server")
        axes.margins(x=0.02, y=0.15)
        axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])  # a flat line must not hide in the axis
        return Chart(figure, title, shows)


def growth_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    shows: Verdicts,
    xlabel: str,
    predicted: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Chart:
    """Growth of memory (bytes) against something counted, each series with its line of best fit.

    `predicted` are points that the reader had expected, drawn as empty rings.
    """
    with canvas() as (figure, [axes]):
        for colour, (label, (xs, sizes)) in zip(COLOURS, series.items(), strict=False):
            heights = [size / MiB for size in sizes]
            slope, start = _fit(xs, heights)
            ends = (0, max(xs))
            axes.plot(ends, [start + slope * x for x in ends], color=colour, alpha=0.45)
            axes.plot(xs, heights, "o", color=colour, markersize=8)
            for x, height in zip(xs, heights, strict=True):
                axes.annotate(
                    size_text(round(height) * MiB),
                    (x, height),
                    xytext=(10, -4),
                    textcoords="offset points",
                    color=colour,
                )
            _name_line(axes, label, xs[-1], heights[-1], colour)
        if predicted is not None:
            xs, heights = predicted[0], [size / MiB for size in predicted[1]]
            axes.plot(xs, heights, "o", color=INK, markersize=9, markerfacecolor="none")
            _name_line(axes, "you said", xs[-1], heights[-1], INK)
        axes.set(title=title, xlabel=xlabel, ylabel="MiB above the idle server")
        axes.margins(x=0.08, y=0.18)
        axes.set_ylim(bottom=0)
        return Chart(figure, title, shows)


def size_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    shows: Verdicts,
    xlabel: str,
) -> Chart:
    """Growth of memory against a size, both in bytes and both on scales of powers."""
    with canvas() as (figure, [axes]):
        for colour, (label, (xs, sizes)) in zip(COLOURS, series.items(), strict=False):
            axes.loglog(xs, sizes, "o-", color=colour, markersize=7)
            _name_line(axes, label, xs[-1], sizes[-1], colour)
        axes.set(title=title, xlabel=xlabel, ylabel="above the idle server")
        axes.margins(x=0.06, y=0.16)
        size_axis(axes.xaxis)
        size_axis(axes.yaxis)
        return Chart(figure, title, shows)


def _name_line(axes: Axes, label: str, x: float, y: float, colour: str) -> None:
    """Write a series' name by its last point."""
    axes.annotate(
        label,
        (x, y),
        xytext=(-8, 10),
        textcoords="offset points",
        ha="right",
        color=colour,
        weight="bold",
    )


def sweep_chart(
    chunks: Sequence[int],
    rates: Sequence[float],
    growths: Sequence[float],
    marked: int,
    title: str,
    shows: Verdicts,
) -> Chart:
    """Two panels over the chunk size (bytes): bytes sent in a CPU second, and memory a client.

    The chunk size `marked` has a line of its own in both.
    """
    with canvas(width=10, height=3.8, panels=2) as (figure, [left, right]):
        left.semilogx(chunks, [rate / GiB for rate in rates], "o-", color=RIVER, markersize=6)
        left.set(ylabel="GiB sent in a second of CPU", ylim=(0, None))
        right.loglog(chunks, growths, "o-", color=LOAD_ALL, markersize=6)
        right.set(ylabel="memory for each client")
        size_axis(right.yaxis)
        for axes in (left, right):
            axes.set_xlabel("chunk size")
            axes.axvline(marked, color=SAND, linewidth=6, alpha=0.35, zorder=0)
            size_axis(axes.xaxis)
        left.set_title(title)
        figure.set_layout_engine("constrained", wspace=0.08)
        return Chart(figure, title, shows)


def cost_chart(costs: Mapping[str, float], title: str, shows: Verdicts) -> Chart:
    """What a client costs with each server (bytes), on a scale of powers, the dearest on top."""
    with canvas(height=1.6 + 0.5 * len(costs)) as (figure, [axes]):
        names = sorted(costs, key=costs.__getitem__)
        sizes = [costs[name] for name in names]
        # Points, not bars: a bar's length means nothing where there is no zero.
        axes.scatter(sizes, names, s=110, color=[*[RIVER] * (len(names) - 1), LOAD_ALL], zorder=3)
        for place, size in enumerate(sizes):
            axes.annotate(
                size_text(size),
                (size, place),
                xytext=(11, 0),
                textcoords="offset points",
                va="center",
                weight="bold",
            )
        axes.set_xscale("log")
        axes.set_xlim(min(sizes) / 4, max(sizes) * 4)
        axes.set(title=title, xlabel="memory for each client")
        axes.margins(y=0.15)
        size_axis(axes.xaxis)
        return Chart(figure, title, shows)


def two_ways_chart(
    sizes: Sequence[int],
    gains: Sequence[float],
    growths: Mapping[str, Sequence[float]],
    marked: int,
    title: str,
    shows: Verdicts,
) -> Chart:
    """Two panels over the size of a file (bytes), for two ways of sending it.

    `gains` are how many times as many requests the first way answers in a CPU second, `growths`
    what a client costs in either (bytes). The size `marked` has a line of its own in both.
    """
    with canvas(width=10, height=3.8, panels=2) as (figure, [left, right]):
        first, second = growths
        left.semilogx(sizes, gains, "o-", color=INK, markersize=6)
        left.axhline(1, color=INK, linewidth=1.2, linestyle=(0, (6, 4)))
        left.set(ylabel=f"requests in a second of CPU,\n{first} : {second}", ylim=(0, None))
        for colour, (label, values) in zip(COLOURS, growths.items(), strict=False):
            right.loglog(sizes, values, "o-", color=colour, markersize=6)
            _name_line(right, label, sizes[-1], values[-1], colour)
        right.set(ylabel="memory for each client")
        right.margins(y=0.16)
        size_axis(right.yaxis)
        for axes in (left, right):
            axes.set_xlabel("size of the file")
            axes.axvline(marked, color=SAND, linewidth=6, alpha=0.35, zorder=0)
            size_axis(axes.xaxis)
            axes.set_xticks(axes.get_xticks()[::2])  # half a figure is narrow
        left.set_title(title)
        figure.set_layout_engine("constrained", wspace=0.08)
        return Chart(figure, title, shows)


def cup_chart(filling: Filling, cup: int, client: int, title: str, shows: Verdicts) -> Chart:
    """How a cup of `cup` bytes filled, client by client; `client` is what one should take (bytes).

    Drawn are the private memory that was measured when each client had its first bytes and, if one
    was not served, hatched, what it would have taken it to.
    """
    with canvas() as (figure, [axes]):
        heights = [(filling.baseline + step) / MiB for step in filling.steps]
        numbers = range(1, len(heights) + 1)
        rim = cup / MiB
        axes.bar(numbers, heights, width=1.0 if len(heights) > 50 else 0.8, color=RIVER)
        if filling.failed_at is not None:
            needed = (heights[-1] if heights else filling.baseline / MiB) + client / MiB
            axes.bar(filling.failed_at, needed, color="white", edgecolor=LOAD_ALL, hatch="////")
            axes.annotate(
                f"client {filling.failed_at}: no room",
                (filling.failed_at, needed),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                color=LOAD_ALL,
                weight="bold",
            )
        _draw_cup(axes, rim, len(heights) + (filling.failed_at is not None))
        axes.set(title=title, xlabel="clients served at the same time", ylabel="MiB held")
        axes.set_ylim(0, 1.25 * max([rim, *heights]))
        axes.set_yticks([rim * quarter / 4 for quarter in range(5)])
        return Chart(figure, title, shows)


def _draw_cup(axes: Axes, rim: float, last: int) -> None:
    """Two walls, a floor, and a dashed line from rim to rim."""
    left, right = 0.5 - 0.03 * last, last + 0.5 + 0.03 * last
    axes.plot([left, left, right, right], [rim, 0, 0, rim], color=INK, linewidth=5, clip_on=False)
    axes.plot([left, right], [rim, rim], color=INK, linewidth=1.2, linestyle=(0, (6, 4)))
    axes.annotate(
        f"the cup: {size_text(rim * MiB)}",
        (left, rim),
        xytext=(8, 6),
        textcoords="offset points",
        weight="bold",
    )
    axes.set_xlim(left - 0.01 * last, right + 0.01 * last)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def size_axis(axis: Any) -> None:
    """Label a logarithmic axis of bytes with sizes (1 KiB, 16 MiB, ...)."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = axis.get_view_interval()
    ticks = [4**power for power in range(24) if low <= 4**power <= high]
    while len(ticks) > 9:
        ticks = ticks[::2]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda size, _: size_text(size))
