"""Verdicts hold for the truth and fail, visibly, for anything else; tables and charts show them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from nbval.plugin import get_sanitize_patterns

from streamlab import (
    Chart,
    Measurement,
    canvas,
    cost_chart,
    cup_chart,
    group_chart,
    growth_chart,
    size_axis,
    size_chart,
    sweep_chart,
    timeline_chart,
    two_ways_chart,
)
from streamlab.files import GiB, KiB, MiB
from streamlab.lesson import looks
from streamlab.lesson.charts import FILLS, fill_cup, share_chart
from streamlab.lesson.experiment import Filling
from streamlab.lesson.verdicts import (
    Verdict,
    Verdicts,
    about,
    at_least,
    at_least_times,
    below,
    counted,
    less_than_times,
    multiple_of,
    row,
    straight_line,
    verdicts,
)
from streamlab.process.groups import GroupReading, GroupTimeline, MemoryGroup

PNG = b"\x89PNG\r\n\x1a\n"

Judge = Callable[[], Verdict]

KINDS: list[tuple[str, Judge, Judge, str, str]] = [
    (
        "multiple_of",
        lambda: multiple_of(4.02 * 64 * MiB, 64 * MiB),
        lambda: multiple_of(3.41 * 64 * MiB, 64 * MiB),
        "4 x file",
        "3.41 x file (no whole multiple)",
    ),
    (
        "multiple_of thirds",
        lambda: multiple_of(3.66 * 64 * MiB, 64 * MiB, parts=3),
        lambda: multiple_of(3.50 * 64 * MiB, 64 * MiB, parts=3),
        "3 2/3 x file",
        "3.50 x file (no whole multiple)",
    ),
    (
        "multiple_of many",
        lambda: multiple_of(200.6 * MiB, MiB, "cup"),
        lambda: multiple_of(200.48 * MiB, MiB, "cup"),
        "201 x cup",
        "200.48 x cup (no whole multiple)",
    ),
    (
        "below",
        lambda: below(200 * KiB, MiB),
        lambda: below(64 * MiB, MiB),
        "below 1 MiB",
        "64 MiB (not below 1 MiB)",
    ),
    (
        "at_least_times",
        lambda: at_least_times(640, 10, 3),
        lambda: at_least_times(20, 10, 3),
        "at least 3 x",
        "2 x (not at least 3 x)",
    ),
    (
        "less_than_times",
        lambda: less_than_times(11, 10, 2),
        lambda: less_than_times(640, 10, 2),
        "less than 2 x",
        "64 x (not less than 2 x)",
    ),
    (
        "counted",
        lambda: counted(200, 200, "served"),
        lambda: counted(199, 200, "served"),
        "200 of 200 served",
        "199 of 200 served (not all)",
    ),
    (
        "at_least",
        lambda: at_least(900, 50, "answers"),
        lambda: at_least(49, 50, "answers"),
        "at least 50 answers",
        "49 (not at least 50 answers)",
    ),
    (
        "about",
        lambda: about(221, 220),
        lambda: about(256, 220),
        "about 220",
        "256 (not about 220)",
    ),
    (
        "straight_line",
        lambda: straight_line([1, 2, 4], [64 * MiB, 129 * MiB, 255 * MiB], 64 * MiB, "file"),
        lambda: straight_line([1, 2, 4], [64 * MiB, 64 * MiB, 255 * MiB], 64 * MiB, "file"),
        "a straight line: 1 x file",
        "no straight line (16% off)",
    ),
    (
        "straight_line slope",
        lambda: straight_line([1, 2, 3], [20 * MiB, 30 * MiB, 40 * MiB], 10 * MiB, "file"),
        lambda: straight_line([1, 2, 3], [20 * MiB, 34 * MiB, 48 * MiB], 10 * MiB, "file"),
        "a straight line: 1 x file",
        "a straight line: 1.40 x file (no whole multiple)",
    ),
]

kinds = pytest.mark.parametrize(
    ("right", "wrong", "text", "raw"), [kind[1:] for kind in KINDS], ids=[kind[0] for kind in KINDS]
)


@kinds
def test_a_verdict_holds_for_the_truth(right: Judge, wrong: Judge, text: str, raw: str) -> None:
    """A measurement as the law wants it gives the law's words."""
    verdict = right()
    assert verdict.holds
    assert verdict.text == text


@kinds
def test_a_verdict_fails_for_a_wrong_figure(
    right: Judge, wrong: Judge, text: str, raw: str
) -> None:
    """A measurement against the law gives the raw figure, in a text that never equals the law's."""
    verdict = wrong()
    assert not verdict.holds
    assert verdict.text == raw != text


@kinds
def test_a_wrong_figure_changes_what_nbval_compares(
    right: Judge, wrong: Judge, text: str, raw: str
) -> None:
    """A failure shows in the table, plain or HTML, even without the live figure."""
    held, failed = (verdicts(row("a", judge())) for judge in (right, wrong))
    assert (held.holds, failed.holds) == (True, False)
    assert held._text() != failed._text()
    assert sanitized(held) != sanitized(failed)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [(0, "0 x file"), (2 * 64 * MiB, "2 x file"), (5 * 64 * MiB, "5 x file")],
)
def test_another_multiple_is_another_text(wrong: int, text: str) -> None:
    """A figure that is another whole multiple reads otherwise."""
    assert multiple_of(wrong, 64 * MiB).text == text
    assert text != multiple_of(4 * 64 * MiB, 64 * MiB).text


@pytest.mark.parametrize("off", [-0.2, -0.11, 0.11, 0.3, 0.5])
def test_how_far_a_multiple_may_be_off(off: float) -> None:
    """A tenth of a unit is the most that is forgiven, or what `within` says."""
    assert not multiple_of((4 + off) * 100, 100).holds
    assert multiple_of((4 + off * 0.8) * 100, 100, within=0.45).holds
    assert multiple_of((4 + 0.09) * 100, 100).holds


def test_a_multiple_never_forgives_half_a_step() -> None:
    """A figure between two multiples is no multiple, however large they are."""
    assert not multiple_of(1000.5 * 100, 100, within=2).holds
    assert not multiple_of(3.5 * 100, 100, parts=3, within=2).holds


def test_a_memory_that_shrank_is_no_multiple() -> None:
    """A negative figure is reported as it is."""
    assert multiple_of(-64, 64).text == "-1.00 x file (no whole multiple)"


def test_below_is_strict() -> None:
    """The bound itself is not below it."""
    assert not below(MiB, MiB).holds
    assert below(MiB - 1, MiB).holds


@pytest.mark.parametrize("judge", [below, multiple_of])
def test_no_figure_at_all_does_not_hold(judge: Any) -> None:
    """What is not a number is an error, never a verdict."""
    with pytest.raises(ValueError):
        judge(float("nan"), MiB)


def test_times_nothing() -> None:
    """Anything is at least so many times nothing, but nothing is not."""
    assert at_least_times(1, 0, 100).holds
    assert not at_least_times(0, 0, 3).holds
    assert not less_than_times(1, 0, 100).holds


def test_times_at_the_bound() -> None:
    """The factor itself is at least it, and not less than it."""
    assert at_least_times(30, 10, 3).holds
    assert not less_than_times(30, 10, 3).holds


def test_about_both_sides() -> None:
    """A tenth more or less is still about, and a little more than that is not."""
    assert about(198, 220).holds and about(242, 220).holds
    assert not about(197, 220).holds and not about(243, 220).holds
    assert about(250, 200, within=0.25).holds


def test_counted_too_many() -> None:
    """More than all is as wrong as fewer."""
    assert counted(201, 200).text == "201 of 200 (not all)"


def test_a_flat_line_is_another_text() -> None:
    """No growth is a line too, but reads otherwise."""
    flat = straight_line([1, 2, 3], [5.0, 5.0, 5.0], 64 * MiB, "file")
    assert flat.text == "a straight line: 0 x file"


def test_live_figures() -> None:
    """Beside each verdict stands the figure that was measured."""
    assert multiple_of(4.02 * 64 * MiB, 64 * MiB).live == "257 MiB"
    assert multiple_of(64, 64, live="another").live == "another"
    assert below(200 * KiB, MiB).live == "200 KiB"
    assert at_least_times(640, 10, 3).live == "64 x"
    assert at_least_times(107_123, 10, 3).live == "10,700 x"
    assert at_least_times(1, 0, 3).live == "inf x"
    assert less_than_times(15, 10, 3).live == "1.5 x"
    assert counted(7, 9).live == "7"
    assert straight_line([1, 2], [MiB, 3 * MiB], MiB, "file").live == "2 MiB each"


# Tables

BLANKED = get_sanitize_patterns((Path(__file__).parents[2] / "nbval.cfg").read_text())


def sanitized(table: Verdicts) -> str:
    """The HTML of a table as strict nbval compares it."""
    shown: str = table._repr_mimebundle_()[0]["text/html"]
    for pattern, replacement in dict(BLANKED).items():
        shown = re.sub(pattern, replacement, shown)
    return shown


class Cells(HTMLParser):
    """The cells of a table with their classes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str | None, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "td":
            self.found.append((dict(attrs).get("class"), ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            kind, text = self.found[-1]
            self.found[-1] = (kind, text + data)


def table(live: str = "257 MiB", text: str = "4 x file", predicted: object = None) -> Verdicts:
    """A table of two rows, of which the first is ours."""
    return verdicts(
        row("load-all, 4 clients", Verdict(text, live), predicted),
        row("streaming", Verdict("below 1 MiB", "12 KiB")),
    )


def test_there_is_one_sanitizer_rule() -> None:
    """nbval blanks the live cell and nothing else."""
    assert list(dict(BLANKED).values()) == ['<td class="live"></td>']


def test_text_is_the_verdict_alone() -> None:
    """Plain text has label and verdict in columns, and no live figure."""
    shown, _ = table()._repr_mimebundle_()
    assert (
        shown["text/plain"] == "load-all, 4 clients   4 x file\nstreaming             below 1 MiB"
    )
    assert repr(table()) == shown["text/plain"]


def test_text_with_a_prediction() -> None:
    """The reader's guess is in a third column."""
    lines = table(predicted=5)._text().split("\n")
    assert lines == [
        "load-all, 4 clients   4 x file      you said: 5",
        "streaming             below 1 MiB",
    ]
    assert table(predicted=0)._text() != table()._text(), "0 is a prediction"


def test_a_guess_has_a_form() -> None:
    """It is shown in the form that the cell gives; one that does not fit is shown as it is."""
    nothing = Verdict("flat", "")
    assert row("a", nothing, 64, "{} MiB").predicted == "64 MiB"
    assert row("a", nothing, 7680, "{:,} bytes").predicted == "7,680 bytes"
    assert row("a", nothing, "a lot", "{:,} bytes").predicted == "a lot"
    assert row("a", nothing, None, "{} MiB").predicted is None


def test_no_guess_yet() -> None:
    """`...` in place of a guess, whatever its form, is told apart from no question at all."""
    shown = verdicts(
        row("load-all", Verdict("4 x file", "257 MiB"), ..., "{:,} MiB"),
        row("streaming", Verdict("below 1 MiB", "12 KiB")),
    )._repr_mimebundle_()[0]
    assert shown["text/plain"].split("\n") == [
        "load-all    4 x file      no guess yet",
        "streaming   below 1 MiB",
    ]
    cells = [text for _, text in Cells(shown["text/html"]).found]
    assert (cells[3::5], cells[4::5]) == (["no guess yet", ""], ["", ""])
    assert "you said" in shown["text/html"] and "Ellipsis" not in str(shown)


def test_html_has_the_live_figure_in_its_cell_alone() -> None:
    """The figure stands in `<td class="live"` once, and nowhere else."""
    shown = table("257 MiB")._repr_mimebundle_()[0]["text/html"]
    cells = Cells(shown).found
    assert [text for kind, text in cells if kind == "live"] == ["257 MiB", "12 KiB"]
    assert [text for kind, text in cells if kind is None] == [
        "load-all, 4 clients",
        "4 x file",
        "streaming",
        "below 1 MiB",
    ]
    assert shown.count("257 MiB") == 1
    assert '<td class="live"' in shown


def test_html_with_a_prediction() -> None:
    """The prediction has a column of its own, empty where nothing was said."""
    shown = table(predicted="5 x")._repr_mimebundle_()[0]["text/html"]
    cells = Cells(shown).found
    assert [text for _, text in cells][3::5] == ["5 x", ""]
    assert cells[4] == ("live", "near: 1.2 x too large"), "it depends on the figure"
    assert cells[9] == (None, "")
    assert "you said" in shown
    assert "you said" not in table()._repr_mimebundle_()[0]["text/html"]


def test_html_marks_what_failed() -> None:
    """A law that did not hold is marked as such; one that held is quiet."""
    assert "background" not in table()._repr_mimebundle_()[0]["text/html"]
    shown = verdicts(row("a", below(2, 1)))._repr_mimebundle_()[0]["text/html"]
    assert "✗ 2 B (not below 1 B)" in [text for _, text in Cells(shown).found]
    assert looks.FAILS in shown


def test_html_is_escaped() -> None:
    """Markup in a table is shown as text."""
    evil = '<td class="live">&"</td>'
    shown = verdicts(row(evil, Verdict(evil, evil), evil))._repr_mimebundle_()[0]["text/html"]
    cells = Cells(shown).found
    assert cells == [(None, evil), (None, evil), ("live", evil), (None, evil), ("live", "hit")]


def test_live_figures_are_not_compared() -> None:
    """Tables that differ in live figures alone are equal to nbval, whatever the figures hold."""
    assert sanitized(table("257 MiB")) == sanitized(table("258 MiB"))
    assert sanitized(table("257 MiB")) == sanitized(table("<b>&</b></td>"))
    assert table("257 MiB")._repr_mimebundle_()[0] != table("258 MiB")._repr_mimebundle_()[0]


def test_verdicts_and_predictions_are_compared() -> None:
    """Tables that differ in anything else stay different."""
    assert sanitized(table(text="4 x file")) != sanitized(table(text="5 x file"))
    assert sanitized(table(predicted=4)) != sanitized(table(predicted=5))
    assert sanitized(table()) != sanitized(verdicts(*table().rows[:1]))


def test_raw_figures_are_metadata() -> None:
    """The figures stand in the output's metadata, which nbval does not compare."""
    _, metadata = table()._repr_mimebundle_()
    assert metadata == {"streamlab": {"load-all, 4 clients": "257 MiB", "streaming": "12 KiB"}}


def test_a_sentence() -> None:
    """A table can be said in one line."""
    assert table().sentence == "load-all, 4 clients: 4 x file; streaming: below 1 MiB"


def test_an_empty_table() -> None:
    """Without rows there is nothing to show, and nothing breaks."""
    assert (verdicts()._text(), verdicts().holds) == ("", True)


# Charts


def pixels(chart: Chart) -> Any:
    """A chart's picture, decoded: that it can be is the proof that it is one."""
    import io

    from matplotlib.image import imread

    return imread(io.BytesIO(chart.png), format="png")


def is_chart(chart: Chart, says: str) -> None:
    """Assert that a chart is a picture of some size that says so in words."""
    shown = chart._repr_mimebundle_()
    assert set(shown) == {"text/plain", "image/png"}
    assert shown["text/plain"] == repr(chart) == chart.says == says
    assert base64.b64decode(shown["image/png"]) == chart.png
    assert chart.png.startswith(PNG)
    picture = pixels(chart)
    assert picture.shape[0] > 200 and picture.shape[1] > 400
    assert picture.min() < 0.5 < picture.max(), "it is not blank"


SAYS = "Chart: Title. load-all, 4 clients: 4 x file; streaming: below 1 MiB."


def test_chart() -> None:
    """A figure becomes a PNG and a sentence; another verdict is another sentence."""
    with canvas() as (figure, [axes]):
        axes.plot([1, 2], [3, 4])
        is_chart(Chart(figure, "Title", table()), SAYS)
        assert Chart(figure, "Title", table(text="5 x file")).says != SAYS


def test_canvas_has_panels_and_leaves_no_traces() -> None:
    """A canvas has as many panels as asked for, and its style ends with it."""
    import matplotlib

    before = dict(matplotlib.rcParams)
    with canvas(width=6, height=2, panels=3) as (figure, panels):
        assert len(panels) == len(figure.axes) == 3
        assert tuple(figure.get_size_inches()) == (6, 2)
        assert dict(matplotlib.rcParams) != before
    assert dict(matplotlib.rcParams) == before


def test_timeline_chart(measured: Measurement) -> None:
    """Memory over time, one line a measurement, drawn differently for other figures."""
    one = timeline_chart({"a": measured, "b": measured}, "Title", table())
    is_chart(one, SAYS)
    other = timeline_chart({"a": replace(measured, timeline=(0, 1, 2))}, "Title", table())
    assert other.png != one.png


def test_growth_chart() -> None:
    """Growth against something counted."""
    series = {"load-all": ([1, 2, 3], [1 * MiB, 2 * MiB, 3 * MiB])}
    plain = growth_chart(series, "Title", table(), "clients")
    is_chart(plain, SAYS)
    ringed = growth_chart(series, "Title", table(), "clients", predicted={2: 3, 3: ...})
    is_chart(ringed, SAYS)
    assert ringed.png != plain.png
    empty = growth_chart(series, "Title", table(), "clients", predicted={2: ..., 3: "much"})
    assert empty.png == plain.png


def test_size_chart() -> None:
    """Growth against a size."""
    series = {"load-all": ([MiB, 16 * MiB, GiB], [MiB, 16 * MiB, GiB])}
    is_chart(size_chart(series, "Title", table(), "file"), SAYS)


def test_sweep_chart() -> None:
    """Rate and memory over the chunk size."""
    chunks = [KiB, 16 * KiB, 256 * KiB]
    chart = sweep_chart(chunks, [MiB, 9 * MiB, 9 * MiB], chunks, 16 * KiB, "Title", table())
    is_chart(chart, SAYS)


def test_two_ways_chart() -> None:
    """What one way gains over another, and the memory of both, over the size of a file."""
    sizes = [4 * KiB, MiB, 64 * MiB]
    growths = {"whole": sizes, "streamed": [64 * KiB] * 3}
    is_chart(two_ways_chart(sizes, [1.0, 1.5, 0.4], growths, MiB, "Title", table()), SAYS)


def test_cost_chart() -> None:
    """One bar for each server, or for the only one."""
    is_chart(cost_chart({"a": 12 * KiB, "b": 2 * MiB, "c": 140 * KiB}, "Title", table()), SAYS)
    is_chart(cost_chart({"a": 12 * KiB}, "Title", table()), SAYS)


def test_group_chart() -> None:
    """A panel for each group, drawn otherwise where others hold the memory."""

    def line(*held: tuple[int, int]) -> GroupTimeline:
        made = GroupTimeline(MemoryGroup(96 * MiB))
        made.times = [0.1 * place for place in range(len(held))]
        made.readings = [GroupReading(own + cached, own, cached, 0) for own, cached in held]
        return made

    full, burst = line((1, 0), (MiB, 95 * MiB)), line((1, 0), (95 * MiB, MiB))
    pictures = set()
    for lines in ({"a": full, "b": burst}, {"a": burst, "b": full}, {"a": full}):
        chart = group_chart(lines, 96 * MiB, "Title", table())
        is_chart(chart, SAYS)
        pictures.add(chart.png)
    assert len(pictures) == 3


def test_cup_chart(filling: Filling) -> None:
    """How a cup filled, with or without a client for whom there was no room."""
    full = cup_chart(filling, 128 * MiB, 44 * MiB, "Title", table())
    is_chart(full, SAYS)
    served = replace(filling, error=None, served=60, steps=tuple(range(60)))
    is_chart(cup_chart(served, 128 * MiB, 44 * MiB, "Title", table()), SAYS)
    at_once = replace(filling, served=0, steps=())
    is_chart(cup_chart(at_once, 128 * MiB, 44 * MiB, "Title", table()), SAYS)


def words_of(parts: dict[str, float], memory: float) -> list[str]:
    """What is written beside a cup of `memory` bytes, from the bottom up."""
    with canvas() as (_, [axes]):
        fill_cup(axes, parts, memory)
        return [text.get_text() for text in axes.texts]


def test_share_chart() -> None:
    """A cup that is filled to the share of memory, or over its rim, drawn otherwise each time."""
    pictures = set()
    for size in (0, 10 * MiB, 100 * MiB, 129 * MiB, 500 * MiB):
        chart = share_chart({"Python": 10 * MiB, "files": size}, 128 * MiB, "Title", table())
        is_chart(chart, SAYS)
        pictures.add(chart.png)
    assert len(pictures) == 5


@pytest.mark.parametrize(
    ("size", "says"),
    [
        (32 * MiB, ["files: 32 MiB, 25 %", "free: 96 MiB"]),
        (0.5 * MiB, ["files: 512 KiB, less than 1 %", "free: 128 MiB"]),
        (0, ["files: 0 B, 0 %", "free: 128 MiB"]),
        (128 * MiB, ["files: 128 MiB, 100 %", "free: 0 B"]),
        (160 * MiB, ["files: 160 MiB, 125 %", "too much: 32 MiB"]),
        (12800 * MiB, ["files: 12.5 GiB, 10,000 %", "too much: 12.4 GiB"]),
    ],
)
def test_words_beside_a_cup(size: float, says: list[str]) -> None:
    """Each part with its share of the cup, and what is left, or is too much."""
    assert words_of({"files": size}, 128 * MiB) == says


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 60, 60), (500, 1, 1), (60, 500, 1)])
def test_words_beside_a_cup_do_not_touch(sizes: tuple[int, ...]) -> None:
    """No text lies on another one, and none is cut off, whatever is in the cup."""
    from matplotlib.text import Annotation, Text

    parts = {f"part {number}": size * MiB for number, size in enumerate(sizes)}
    with canvas(height=3.4) as (figure, [axes]):
        fill_cup(axes, parts, 128 * MiB)
        figure.canvas.draw()
        places = [
            axes.transData.transform(each.xyann)[1]
            for each in axes.texts
            if isinstance(each, Annotation)
        ]
        high = max(Text.get_window_extent(each).height for each in axes.texts)
        low, top = axes.transData.transform([(0, 0), (0, axes.get_ylim()[1])])[:, 1]
    assert len(places) == 4
    assert all(above_it - below_it >= high for below_it, above_it in pairwise(places))
    assert low <= places[0] and places[-1] <= top + 1


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    from matplotlib.colors import to_rgb

    parts = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4
        for each in to_rgb(colour)
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_a_cup_can_be_read_on_light_and_dark() -> None:
    """It brings its white ground along: letters have a contrast of 4.5 there, fills one of 3."""
    assert contrast("white", "black") == pytest.approx(21)
    with canvas() as (figure, [axes]):
        fill_cup(axes, {"a": 1 * MiB, "b": 300 * MiB}, 128 * MiB)
        assert figure.get_facecolor() == (1, 1, 1, 1)
        assert all(contrast(text.get_color(), "white") >= 4.5 for text in axes.texts)
    assert all(contrast(fill, "white") >= 3 for fill in FILLS)


@pytest.mark.parametrize(("low", "high"), [(KiB, MiB), (1, 1024 * GiB), (64 * KiB, 64 * KiB)])
def test_size_axis(low: int, high: int) -> None:
    """Ticks of a size axis are sizes, within its bounds, and never crowded."""
    with canvas() as (_, [axes]):
        axes.set_xscale("log")
        axes.set_xlim(low / 1.5, high * 1.5)
        size_axis(axes.xaxis)
        ticks = list(axes.xaxis.get_majorticklocs())
        labels = [axes.xaxis.get_major_formatter()(tick) for tick in ticks]
    assert 1 <= len(ticks) <= 9
    assert all(low / 1.5 <= tick <= high * 1.5 for tick in ticks)
    assert all(re.fullmatch(r"\d+ ([KMGT]i)?B", label) for label in labels)
