"""Guesses are compared in the unit asked for, in letters that can be read, and counted."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamlab.cli import app
from streamlab.files import KiB, MiB
from streamlab.labs.chapters import Guess, chapters, remember_guesses
from streamlab.lesson import guesses, looks
from streamlab.lesson.guesses import compared, score
from streamlab.lesson.verdicts import (
    Row,
    Verdict,
    Verdicts,
    at_least,
    at_least_times,
    below,
    multiple_of,
    row,
    verdicts,
)

FILE = 64 * MiB
THIRDS = multiple_of(3.66 * FILE, FILE, parts=3)
LIVE = r'<td class="live"[^>]*>[^<]*</td>'
LITTLE = below(132 * KiB, MiB, unit=FILE)


@pytest.fixture(autouse=True)
def nothing_asked() -> Iterator[None]:
    """Each test begins a chapter of its own."""
    guesses.forget_all()
    yield
    guesses.forget_all()


# Hit, near, off


@pytest.mark.parametrize(
    ("guess", "form", "verdict", "kind", "text", "measured"),
    [
        (64, "{} MiB", multiple_of(63.8 * MiB, FILE), "hit", "hit", "64 MiB"),
        (1, "{} MiB", multiple_of(63.8 * MiB, FILE), "off", "64 x too small", "64 MiB"),
        (1, "{} x file", multiple_of(1.97 * FILE, FILE), "off", "2 x too small", "2 x file"),
        (
            "1 1/3",
            "{} x",
            multiple_of(3.66 * FILE, FILE, parts=3),
            "off",
            "2.8 x too small",
            "3.67 x",
        ),
        (64, "{} MiB", multiple_of(8 * KiB, FILE), "off", "too large", "0 MiB"),
        (0, "{} MiB", multiple_of(8 * KiB, FILE), "hit", "hit", "0 MiB"),
        (0, "{} x file", multiple_of(FILE, FILE), "off", "too small", "1 x file"),
        (128, "{} KiB", below(103 * KiB, 192 * KiB), "near", "near: 1.2 x too large", "103 KiB"),
        (
            1,
            "{} x file",
            below(132 * KiB, MiB, unit=FILE),
            "off",
            "496 x too large",
            "0.00201 x file",
        ),
        (0, "{} x file", LITTLE, "hit", "hit", "0.00201 x file"),
        ("64 KiB", "{}", below(479 * KiB, MiB), "off", "7.5 x too small", "479 KiB"),
        ("2 x", "{}", at_least_times(20, 2, 3), "off", "5 x too small", "10"),
        (1, "{} x", at_least_times(51.1, 1, 3), "off", "51 x too small", "51.1 x"),
        (0, "{}", at_least(253, 10, "answers"), "off", "too small", "253"),
        (201, "{}", Verdict("6", "connection closed"), "off", "34 x too large", "6"),
        (5, "{}", Verdict("6", "connection closed"), "near", "near: 1.2 x too small", "6"),
        (48, "{}", Verdict("12,213 pieces", ""), "off", "254 x too small", "12213"),
        (10, "{} of 10", Verdict("0 of 10", ""), "off", "too large", "0 of 10"),
        (1, "{}", Verdict("flat", "", value=1.96), "off", "2 x too small", "1.96"),
        (1, "{}", Verdict("flat", "", value=1.94), "near", "near: 1.9 x too small", "1.94"),
        (1, "{} MiB", at_least(129, 8, "MiB"), "off", "129 x too small", "129 MiB"),
        (3, "{} x", at_least_times(5, 0, 2), "off", "too small", "inf"),
        (float("nan"), "{}", Verdict("5", ""), "off", "not a number", "5"),
        (10**400, "{}", Verdict("5", ""), "off", "not a number", "5"),
        ("9" * 5000, "{}", Verdict("5", ""), "off", "not a number", "5"),
        ("1/0", "{}", Verdict("5", ""), "off", "not a number", "5"),
        ("1/4 x", "{}", Verdict("5", ""), "off", "20 x too small", "5"),
        (float("inf"), "{} x", at_least_times(5, 1, 2), "off", "too large", "5 x"),
        (-5, "{}", Verdict("5", ""), "off", "too small", "5"),
        ("much", "{} MiB", multiple_of(FILE, FILE), "off", "not a number", "64 MiB"),
        (True, "{}", Verdict("5", ""), "off", "not a number", "5"),
    ],
)
def test_a_number(
    guess: object, form: str, verdict: Verdict, kind: str, text: str, measured: str
) -> None:
    """In the unit asked for, a whole multiple as such, and nothing as nothing."""
    outcome = compared(guess, form, verdict.text, verdict.value, verdict.size, verdict.unit)
    assert (outcome.kind, outcome.text, outcome.measured) == (kind, text, measured)


@pytest.mark.parametrize(
    ("guess", "verdict", "kind"),
    [
        ("yes", Verdict("no: it waits for more", ""), "off"),
        ("no", Verdict("no: it waits for more", ""), "hit"),
        ("No ", Verdict("nothing", ""), "off"),
        ("complete", Verdict("complete, half of it zeros", ""), "hit"),
        ("", Verdict("nothing", ""), "off"),
        ("404", Verdict("404", ""), "hit"),
        (404, Verdict("200", ""), "off"),
        ("the kernel", Verdict("at least 3 x", "34 x", value="the kernel"), "hit"),
        ("a(b", Verdict("closed", ""), "off"),
    ],
)
def test_a_choice(guess: object, verdict: Verdict, kind: str) -> None:
    """It is a hit or missed; a status is a choice, and no number."""
    outcome = compared(guess, "{}", verdict.text, verdict.value)
    assert (outcome.kind, outcome.text) == (kind, "hit" if kind == "hit" else "missed")


def test_the_unit_asked_for_is_the_unit_shown() -> None:
    """Also without a guess yet; what nobody guessed is shown as it reads best."""
    for guess in (5, ...):
        assert row("a", below(132 * KiB, MiB), guess, "{} MiB").verdict.live == "0.129 MiB"
        assert row("a", below(132 * KiB, MiB), guess, "{:,} bytes").verdict.live == "135,168 bytes"
        assert row("a", THIRDS, guess, "{} x file").verdict.live == "3.66 x file"
        assert row("a", at_least(253, 10), guess, "{} answers").verdict.live == "253 answers"
    assert row("a", THIRDS).verdict.live == "234 MiB"


def test_one_thing_is_not_called_many() -> None:
    """Neither as a guess, nor as what was measured; a unit keeps its letters."""
    shown = row("a", at_least(1, 1), 1, "{:,} answers")
    assert (shown.predicted, shown.verdict.live) == ("1 answer", "1 answer")
    assert row("a", at_least(2, 1), 2, "{} answers").predicted == "2 answers"
    assert row("a", THIRDS, 1, "{} x file").predicted == "1 x file"
    assert row("a", at_least(1, 1), 1, "second {}").predicted == "second 1"
    assert row("a", at_least(1, 1), "much", "{:,} answers").predicted == "much"


def test_what_nbval_compares_of_a_guess() -> None:
    """Two runs whose figures differ show the same, though the guess is near in one of them."""
    near, off = (
        verdicts(row("a", at_least_times(ratio, 1, 1.5), 1, "{} x")) for ratio in (1.8, 40)
    )
    assert near._text() == off._text() == "a   at least 1.5 x   you said: 1 x"
    blanked = [
        re.sub(r'<td class="live"[^>]*>[^<]*</td>', "", each._html()) for each in (near, off)
    ]
    assert blanked[0] == blanked[1] and near._html() != off._html()
    assert "near: 1.8 x too small" in near._html() and "40 x too small" in off._html()


# What it looks like

THEMES = Path(sys.prefix) / "share" / "jupyter" / "lab" / "themes" / "@jupyterlab"
LEAST_CONTRAST = 4.5

Colour = tuple[float, float, float]


def colour(text: str, under: Colour = (0, 0, 0)) -> Colour:
    """A colour of CSS, laid over another; its parts are 0 to 255."""
    text = {"white": "#fff", "black": "#000"}.get(text, text)
    if found := re.fullmatch(r"var\(--[\w-]+,(.*)\)", text):
        return colour(found[1], under)
    if found := re.fullmatch(r"rgba\((.*)\)", text):
        red, green, blue, share = (float(each) for each in found[1].split(","))
        return mixed((red, green, blue), under, share)
    digits = text.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    red, green, blue = (int(digits[place : place + 2], 16) for place in (0, 2, 4))
    return red, green, blue


def mixed(over: Colour, under: Colour, share: float) -> Colour:
    """A colour that covers another by a share."""
    red, green, blue = (share * a + (1 - share) * b for a, b in zip(over, under, strict=True))
    return red, green, blue


def contrast(one: Colour, other: Colour) -> float:
    """The contrast of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""

    def luminance(each: Colour) -> float:
        shares = [part / 255 for part in each]
        red, green, blue = (
            share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
            for share in shares
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def grounds(theme: str) -> tuple[str, list[Colour]]:
    """The colour of text in a theme of JupyterLab, and what a table's rows can lie on."""
    sheet = (THEMES / f"theme-{theme}-extension" / "index.css").read_text()

    def value(name: str) -> str:
        found = re.search(rf"--{name}:([^;}}]*)", sheet)
        assert found is not None
        return found[1]

    page = colour(value("jp-layout-color0"))
    lines = [value("jp-rendermime-table-row-background")]
    lines.append(value("jp-rendermime-table-row-hover-background"))
    return value("jp-content-font-color1"), [page, *(colour(each, page) for each in lines)]


def parts_of(style: str) -> dict[str, str]:
    """The properties of a style."""
    return dict(part.split(":", 1) for part in style.split(";") if part)


def least_contrast(style: str, theme: str) -> float:
    """How well a cell of that style can be read in a theme, at its worst."""
    ink, lie_on = grounds(theme)
    properties = parts_of(style)
    found = []
    for ground in lie_on:
        own = colour(properties["background-color"]) if "background-color" in properties else ground
        letters = colour(properties.get("color", ink), own)
        share = float(properties.get("opacity", 1))
        found.append(contrast(mixed(letters, ground, share), mixed(own, ground, share)))
    return min(found)


class Styles(HTMLParser):
    """The styles of a table's cells, with their texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("td", "th"):
            self.found.append((dict(attrs).get("style") or "", ""))

    def handle_data(self, data: str) -> None:
        style, text = self.found[-1]
        self.found[-1] = (style, text + data)


def every_kind() -> Verdicts:
    """A table with all that a table can show."""
    return verdicts(
        row("hit", multiple_of(FILE, FILE), 1, "{} x"),
        row("near", multiple_of(FILE, FILE), 40, "{} MiB"),
        row("off", multiple_of(FILE, FILE), 9, "{} x"),
        row("none", multiple_of(FILE, FILE), ...),
        row("failed", below(FILE, MiB)),
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_read(theme: str) -> None:
    """Each cell of a table has contrast enough, on each ground that JupyterLab lays under it."""
    shown = Styles(every_kind()._html() + score("00")._html()).found
    for look in (looks.FAILS, *looks.GUESS_LOOKS.values()):
        assert any(style.endswith(look) for style, _ in shown)
    weak = {text: least_contrast(style, theme) for style, text in shown if text}
    assert {text: each for text, each in weak.items() if each < LEAST_CONTRAST} == {}


def test_a_weak_colour_is_seen() -> None:
    """Green and red on dark, grey on light; black on white is as strong as can be."""
    assert least_contrast("color:#0a7d5a", "dark") < LEAST_CONTRAST
    assert least_contrast("color:#c0392b", "dark") < LEAST_CONTRAST
    assert least_contrast("opacity:.5", "light") < LEAST_CONTRAST
    assert contrast(colour("white"), colour("#000")) == pytest.approx(21)


def test_no_colour_stands_alone() -> None:
    """What has a ground of its own says the same in a word or a sign."""
    shown = Styles(every_kind()._html()).found
    coloured = [text for style, text in shown if "background" in style]
    assert coloured == [
        "hit",
        "near: 1.6 x too small",
        "9 x too large",
        "✗ 64 MiB (not below 1 MiB)",
    ]


# The score


def show(*rows: Row) -> None:
    """Show a table, as the end of a cell does."""
    verdicts(*rows)._repr_mimebundle_()


def test_a_score_counts_and_tells_surprises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The surprises are what was off, the largest first; plain text has the count alone."""
    monkeypatch.chdir(tmp_path)
    show(
        row("one", multiple_of(FILE, FILE), 1, "{} x"),
        row("two", multiple_of(2 * FILE, FILE), 1, "{} x"),
        row("three", multiple_of(10 * FILE, FILE), 64, "{} MiB"),
    )
    show(row("four", below(1, 2), ...), row("nobody was asked", below(1, 2)))
    found = score("01")
    assert repr(found) == "Chapter 01: 3 of 4 guesses made"
    assert [found.count(kind) for kind in ("hit", "near", "off")] == [1, 0, 2]
    assert found.surprises == [
        "three: you said 64 MiB; measured: 640 MiB (10 x too small)",
        "two: you said 1 x; measured: 2 x (2 x too small)",
    ]
    shown = found._repr_mimebundle_()
    assert shown["text/plain"] == repr(found)
    rest = re.sub(LIVE, "", shown["text/html"])
    assert "three" not in rest and "640" not in rest and "3 of 4 guesses made" in rest
    assert not list(tmp_path.iterdir()), "without labs beside it there is no place to keep it"


def test_a_cell_that_runs_again_counts_once() -> None:
    """The last run of a table counts, and another table of the same rows' names is another."""
    for guess in (9, 1):
        show(row("one", multiple_of(FILE, FILE), guess, "{} x"))
    show(row("one", below(1, 2), 9), row("two", below(1, 2)))
    found = score("01")
    assert (found.asked, found.count("hit")) == (2, 1)


def test_what_a_chart_shows_again_counts_once() -> None:
    """A table that is made for the words of a chart is not shown, and asks for nothing."""
    table = verdicts(row("one", multiple_of(FILE, FILE), 9, "{} x"))
    table._repr_mimebundle_()
    verdicts(*table.rows, row("two", below(1, 2)))
    assert score("01").asked == 1


def test_guesses_are_kept_for_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the workspace in which the chapter runs, chapter by chapter."""
    (tmp_path / "labs").mkdir()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    show(row("one", multiple_of(FILE, FILE), 9, "{} x"))
    score("01")
    guesses.forget_all()
    show(row("two", multiple_of(FILE, FILE), 1, "{} x"), row("three", below(1, 2), ...))
    score("02")
    first, second = chapters(tmp_path)
    assert first.guesses == (Guess("one", "9 x", "1 x", "off", "9 x too large"),)
    assert (second.number, second.asked, second.count("hit")) == ("02", 2, 1)
    shown = CliRunner().invoke(app, ["progress"])
    assert "chapter 01: 1 of 1 guesses made: 0 hit, 0 near, 1 off" in shown.stdout
    assert "chapter 02: 1 of 2 guesses made: 1 hit, 0 near, 0 off" in shown.stdout
    told = json.loads(CliRunner().invoke(app, ["progress", "--json"]).stdout)
    assert [each["number"] for each in told["chapters"]] == ["01", "02"]
    assert told["chapters"][1] == {
        "number": "02",
        "asked": 2,
        "guesses": [asdict(each) for each in second.guesses],
    }
    assert isinstance(told["labs"], list)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"01": 5}', '{"01": {"asked": 1, "guesses": [{}]}}', "\0"]
)
def test_guesses_that_cannot_be_read_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """They are no error, and the next score is kept beside or in place of them."""
    (tmp_path / "labs").mkdir()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".streamlab" / "guesses.json"
    file.parent.mkdir()
    file.write_text(content)
    assert chapters(tmp_path) == []
    remember_guesses("02", 1, [Guess("a" * 1000, "1", "2", "off", "2 x too small")])
    [kept] = chapters(tmp_path)
    assert len(kept.guesses[0].label) == 200
    assert set(json.loads(file.read_text())) >= {"02"}


def test_where_nothing_can_be_written_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labs").mkdir()
    (tmp_path / ".streamlab").write_text("a file in the place of the folder")
    monkeypatch.chdir(tmp_path)
    remember_guesses("02", 1, [])
    assert chapters(tmp_path) == []
