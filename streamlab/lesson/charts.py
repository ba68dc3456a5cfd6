"""Charts of measurements: SVG with live figures, in the course's colours. Sizes are in bytes."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, cycle
from typing import TYPE_CHECKING, Any

from streamlab.files import GiB, MiB, size_text
from streamlab.lesson.experiment import Filling, Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from streamlab.lesson.verdicts import Verdicts, fitted_line
from streamlab.process.groups import GroupTimeline

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
    predicted: Mapping[float, object] | None = None,
) -> Chart:
    """Growth of memory (bytes) against something counted, each series with its line of best fit.

    `predicted` is what the reader had expected at some of these places, in MiB, drawn as empty
    rings. What is no number, such as a guess that is still `...`, is left out.
    """
    with canvas() as (figure, [axes]):
        for colour, (label, (xs, sizes)) in zip(COLOURS, series.items(), strict=False):
            heights = [size / MiB for size in sizes]
            slope, start = fitted_line(xs, heights)
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
        said = {
            x: float(height)
            for x, height in (predicted or {}).items()
            if isinstance(height, int | float) and math.isfinite(height)
        }
        if said:
            xs, heights = [*said.keys()], [*said.values()]
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


def group_chart(
    timelines: Mapping[str, GroupTimeline], limit: int, title: str, shows: Verdicts
) -> Chart:
    """What control groups held over time: a panel for each, with what is whose, and the limit.

    Bytes and seconds. A panel ends where the last process of its group did.
    """
    with canvas(width=10, height=3.8, panels=len(timelines)) as (figure, panels):
        for axes, (label, line) in zip(panels, timelines.items(), strict=True):
            own = [each.anonymous / MiB for each in line.readings]
            all_ = [each.held / MiB for each in line.readings]
            axes.fill_between(line.times, own, color=LOAD_ALL, linewidth=0, label="the program")
            axes.fill_between(line.times, own, all_, color=SAND, linewidth=0, label="page cache")
            axes.axhline(limit / MiB, color=INK, linewidth=1.4, linestyle=(0, (6, 4)))
            axes.annotate(
                f"limit: {size_text(limit)}",
                (0, limit / MiB),
                xytext=(4, 5),
                textcoords="offset points",
                weight="bold",
            )
            axes.set(xlabel=f"{label}: seconds", ylim=(0, 1.3 * limit / MiB))
            axes.margins(x=0.02)
        panels[0].set(ylabel="MiB in the group")
        panels[0].set_title(title)
        panels[-1].legend(loc="upper right", ncols=2)
        return Chart(figure, title, shows)


FILLS = ("#7d6b91", RIVER, MOSS, LOAD_ALL)
"""What a cup is filled with, from the bottom up: each is told from white (3 : 1 and more)."""
TOWER = 1.5
"""How high what does not fit is drawn at most, as a multiple of the cup."""


def share_chart(parts: Mapping[str, float], memory: float, title: str, shows: Verdicts) -> Chart:
    """A cup of `memory` bytes, filled with `parts` (bytes), the first at the bottom.

    What does not fit is hatched. A tower of more than half a cup is cut off, which a wavy line
    shows.
    """
    with canvas(height=3.4) as (figure, [axes]):
        fill_cup(axes, parts, memory)
        axes.set(title=title, xticks=[], yticks=[])
        return Chart(figure, title, shows)


def fill_cup(axes: Axes, parts: Mapping[str, float], memory: float) -> None:
    """Draw a cup of `memory` bytes, what is in it and over its rim, and words for each."""
    rim, top = memory / MiB, TOWER * memory / MiB
    edges = [0.0, *accumulate(size / MiB for size in parts.values())]
    filled, shown = edges[-1], min(edges[-1], top)
    words = []
    for colour, name, below, above in zip(cycle(FILLS), parts, edges, edges[1:], strict=False):
        low, high = min(below, top), min(above, top)
        axes.bar(1, max(0.0, min(high, rim) - low), 1, low, color=colour, edgecolor="white")
        if high > rim:
            over = max(low, rim)
            axes.bar(1, high - over, 1, over, fill=False, edgecolor=LOAD_ALL, hatch="////")
        share = _share(parts[name] / memory)
        words.append(
            ((low + min(high, max(low, rim))) / 2, f"{name}: {size_text(parts[name])}, {share}")
        )
    if filled > rim:
        words.append((shown, f"too much: {size_text((filled - rim) * MiB)}"))
    else:
        words.append(((filled + rim) / 2, f"free: {size_text((rim - filled) * MiB)}"))
    if filled > top:
        wave = range(41)
        heights = [top * (0.985 + 0.012 * (-1) ** step) for step in wave]
        axes.plot([0.5 + step / 40 for step in wave], heights, color=INK)
    _, wall = _draw_walls(axes, rim, 1)
    _words_beside(axes, words, wall, max(rim, shown))
    axes.set_xlim(0.4, 3.2)
    axes.set_ylim(0, max(1.05 * rim, shown))


def _share(share: float) -> str:
    """A share as one reads it: `'19 %'`."""
    return "less than 1 %" if 0 < share < 0.01 else f"{share:,.0%}".replace("%", " %")


def _words_beside(axes: Axes, words: Sequence[tuple[float, str]], wall: float, top: float) -> None:
    """Write each text beside the wall near its height, none upon another, and none above `top`."""
    apart = 0.13 * top
    places: list[float] = []
    for height, _ in words:
        places.append(max(height, places[-1] + apart if places else 0.0))
    for step in range(len(places)):  # from the top down: none above the picture
        places[-1 - step] = min(places[-1 - step], top - step * apart)
    for (height, text), place in zip(words, places, strict=True):
        axes.annotate(
            text,
            (wall, height),
            xytext=(wall + 0.25, place),
            va="center",
            color=INK,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8, "relpos": (0, 0.5)},
        )


def _draw_cup(axes: Axes, rim: float, last: int) -> None:
    """A cup of `rim` MiB with its name, around bars up to number `last`."""
    left, right = _draw_walls(axes, rim, last)
    axes.annotate(
        f"the cup: {size_text(rim * MiB)}",
        (left, rim),
        xytext=(8, 6),
        textcoords="offset points",
        weight="bold",
    )
    axes.set_xlim(left - 0.01 * last, right + 0.01 * last)


def _draw_walls(axes: Axes, rim: float, last: int) -> tuple[float, float]:
    """Two walls, a floor, and a dashed line from rim to rim; returns where the walls stand."""
    left, right = 0.5 - 0.03 * last, last + 0.5 + 0.03 * last
    axes.plot([left, left, right, right], [rim, 0, 0, rim], color=INK, linewidth=5, clip_on=False)
    axes.plot([left, right], [rim, rim], color=INK, linewidth=1.2, linestyle=(0, (6, 4)))
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return left, right


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
