"""What a grading run leaves to read: the gradebook, a page for every student, one for the class.

The pages are single files that need nothing else: no script, nothing loaded from anywhere. Text
from students is escaped by the templates, and what would hide or turn text is made visible first.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from streamlab import __version__
from streamlab.grading.beliefs import Beliefs
from streamlab.grading.likeness import Likeness
from streamlab.grading.names import letters
from streamlab.grading.records import Comment, Mark
from streamlab.grading.text import (
    cell,
    file_name,
    given_text,
    late_text,
    number,
    one_line,
    points_of,
    visible,
    write_text,
)
from streamlab.grading.times import shown
from streamlab.labs.manifest import Lab
from streamlab.labs.results import VERSION, CheckResult

COURSE = "Pour the River Through a Cup"

COLUMNS = ("student", "name", "lab", "points", "max_points", "outcome", "detail")
"""The headings of `gradebook.csv`."""
LATE_COLUMNS = (
    *("due", "handed_in", "handed_in_from", "days_late", "penalty", "points_before_penalty"),
)
"""The headings that follow where the class was graded with a deadline."""
HAND_COLUMNS = ("by_hand", "comment")
"""The headings that follow where something was given or written by hand."""

MANY = 12
"""Of more students than that, a list on the class page is folded."""

OUTCOMES = {
    "passed": "passed",
    "failed": "failed",
    "not_attempted": "not attempted",
    "could_not_run": "could not run",
    "grader_fault": "the check broke",
}
"""What the outcome of a check is called on a page."""

SIGNS = {"not_attempted": "stub", "could_not_run": "stop", "grader_fault": "fault"}
"""What stands in the map of the class where there are no points to tell."""


# The gradebook


def write_gradebook(marks: Iterable[Mark], path: Path, *, late: bool = False) -> None:
    """Write `gradebook.csv`: one row for each mark, in their order, in UTF-8.

    The form is RFC 4180: CR LF, quotes where needed; a byte order mark for Excel. A cell that a
    spreadsheet would take for a formula begins with an apostrophe; a text is one line without
    control characters. Points are numbers, and empty where a mark is nobody's zero (see
    `points_of`). With `late` it has `LATE_COLUMNS`, too, and `HAND_COLUMNS` where something was
    given or written by hand. Written whole or not at all; raises `ReportError` if it can't be.
    """
    marks = list(marks)
    hand = any(mark.by_hand or mark.comments for mark in marks)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(COLUMNS + (LATE_COLUMNS if late else ()) + (HAND_COLUMNS if hand else ()))
    for mark in marks:
        points = points_of(mark)
        table.writerow(
            [
                cell(mark.student),
                cell(mark.name),
                cell(mark.lab),
                "" if points is None else number(points),
                number(mark.max_points),
                mark.outcome,
                cell(mark.detail),
                *(_late_cells(mark) if late else ()),
                *(_hand_cells(mark) if hand else ()),
            ]
        )
    write_text(path, "\ufeff" + text.getvalue())


def _late_cells(mark: Mark) -> list[str]:
    late = mark.late
    if late is None:
        return [""] * len(LATE_COLUMNS)
    open_ = points_of(mark) is None
    return [
        cell(late.due),
        cell(late.handed_in),
        cell("; ".join(filter(None, (late.handed_in_from, late.unknown)))),
        "" if late.days is None else str(late.days),
        "" if open_ else number(late.penalty),
        "" if open_ else number(late.points_before),
    ]


def _hand_cells(mark: Mark) -> list[str]:
    given = [f"{each.check or 'the whole lab'}: {given_text(each)}" for each in mark.by_hand]
    return [cell("; ".join(given)), cell("; ".join(each.text for each in mark.comments))]


# A student's page


def write_feedback(lab: Lab, mark: Mark, folder: Path, *, show_seed: bool = False) -> Path:
    """Write a student's page into `folder`, under a name made by `file_name`; returns its path.

    The seed, with which the same files can be drawn again, is on it with `show_seed` only.
    Raises `ReportError` if the page can't be written.
    """
    rows = [_Row(lab, each) for each in mark.results]
    path = folder / f"{file_name(mark.student)}.html"
    seeds = {each.seed for each in mark.results}
    page = _templates().get_template("feedback.html")
    text = page.render(
        lab=lab,
        mark=mark,
        points=points_of(mark),
        rows=rows,
        summaries=_stories(rows),
        passed=sum(row.result.outcome == "passed" for row in rows),
        by_hand=[(_title(lab, each.check), given_text(each)) for each in mark.by_hand],
        corrected={each.check for each in mark.by_hand},
        comments=[(_about(lab, each), each.text) for each in mark.comments],
        seed=seeds.pop() if show_seed and len(seeds) == 1 else None,
    )
    write_text(path, text)
    return path


@dataclass(frozen=True)
class _Row:
    """A check of one student."""

    lab: Lab
    result: CheckResult

    @property
    def title(self) -> str:
        return _title(self.lab, self.result.check)

    @property
    def outcome(self) -> str:
        return OUTCOMES.get(self.result.outcome, self.result.outcome)

    @property
    def cause(self) -> str:
        return self.lab.cause_text(self.result.cause)

    @property
    def promise(self) -> str:
        """The words of the lab's text that the program does not keep, where a check knows them."""
        promise = self.lab.promises.get(self.result.promise)
        return promise.text if promise else ""

    @property
    def hint(self) -> str:
        """The first hint of the check, if it failed."""
        hints = self.lab.hints(self.result.check, self.result.cause)
        return hints[0] if self.result.outcome == "failed" and hints else ""

    @property
    def sign(self) -> str:
        """What stands in the check's cell on the class page."""
        return SIGNS.get(self.result.outcome, number(self.result.points))


@dataclass(frozen=True)
class _Story:
    """What happened in a check that was not passed, or in several of which the same is to say."""

    rows: list[_Row]

    @property
    def first(self) -> _Row:
        return self.rows[0]

    @property
    def title(self) -> str:
        if len(self.rows) > 3:
            return f"{len(self.rows)} checks"
        return ", ".join(row.title for row in self.rows)


def _stories(rows: Iterable[_Row]) -> list[_Story]:
    told: dict[str, _Story] = {}
    for row in rows:
        match row.result.outcome:
            case "failed":
                key = f"failed {row.result.check}"
            case "could_not_run":
                key = f"could not run {row.result.evidence}"
            case "grader_fault":
                key = "fault"  # how a check broke is not for the student to read
            case _:
                continue
        told.setdefault(key, _Story([])).rows.append(row)
    return list(told.values())


def _title(lab: Lab, check: str) -> str:
    if not check:
        return "The whole lab"
    return next((each.title for each in lab.checks if each.id == check), check)


def _about(lab: Lab, comment: Comment) -> str:
    """What a comment speaks of; empty for the whole lab."""
    return _title(lab, comment.check) if comment.check else lab.cause_text(comment.cause)


# The class


@dataclass(frozen=True)
class Beside:
    """What a class page tells beside the marks."""

    unmatched: Collection[str] = ()
    """The submissions that belong to nobody on the roster."""
    in_doubt: Collection[str] = ()
    """The submissions of which it is open whose they are."""
    alike: Iterable[Likeness] = ()
    """Who has the same program."""
    checks: str = ""
    """The hash of the checks that were run."""
    beliefs: Beliefs = field(default_factory=Beliefs)
    """What the class guessed, as far as it is shared."""


def write_class_page(
    lab: Lab,
    marks: Iterable[Mark],
    path: Path,
    beside: Beside | None = None,
    *,
    feedback: str = "feedback",
) -> None:
    """Write the instructor's page on a class.

    `feedback` is the folder of the students' pages, as seen from the page; with an empty text there
    are no links. Raises `ReportError` if the page can't be written.
    """
    beside = beside or Beside()
    everybody = sorted(marks, key=_by_points)
    settled = [mark for mark in everybody if points_of(mark) is not None]
    points = [mark.points for mark in settled]
    most = max([lab.points, *(mark.max_points for mark in everybody)])
    page = _templates().get_template("class.html")
    text = page.render(
        lab=lab,
        course=COURSE,
        written=shown(datetime.now().astimezone()),
        version=f"streamlab {__version__}, checks {VERSION}"
        + (beside.checks and f" ({beside.checks[:12]})"),
        namesakes=_namesakes(everybody),
        feedback=feedback,
        count=len(everybody),
        settled=len(settled),
        median=statistics.median(points) if points else None,
        full=sum(mark.points >= mark.max_points for mark in settled),
        zero=sum(mark.points == 0 for mark in settled),
        most=most,
        bars=_bars(points, most),
        columns=[_Column.over(lab, check.id, everybody) for check in lab.checks],
        lines=[_Line.of(lab, mark) for mark in everybody if mark.results],
        misconceptions=_misconceptions(lab, everybody),
        beliefs=beside.beliefs,
        faults=_with(lab, everybody, "grader_fault"),
        stopped=_with(lab, everybody, "could_not_run"),
        stubs=_with(lab, everybody, "not_attempted"),
        missing=_with(lab, everybody, "missing"),
        by_hand=[
            (mark, [f"{_title(lab, each.check)}: {given_text(each)}" for each in mark.by_hand])
            for mark in everybody
            if mark.by_hand
        ],
        deadline=next((mark.late for mark in everybody if mark.late), None),
        late=[(mark, [late_text(mark)]) for mark in everybody if mark.late and mark.late.days],
        undated=[
            (mark, [f"{mark.late.unknown}: say it in a file for --times"])
            for mark in everybody
            if mark.late and mark.late.unknown
        ],
        unmatched=sorted(beside.unmatched),
        in_doubt=sorted(beside.in_doubt),
        alike=_alike(everybody, beside.alike),
    )
    write_text(path, text)


def _namesakes(marks: Iterable[Mark]) -> dict[str, int]:
    """How many have one name, by id; those alone with theirs are left out."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for mark in marks:
        if name := letters(mark.name):
            by_name[name].append(mark.student)
    return {who: len(them) for them in by_name.values() if len(them) > 1 for who in them}


def _alike(
    marks: Iterable[Mark], alike: Iterable[Likeness]
) -> list[tuple[Mark, str, list[Mark], str]]:
    """Who has the same program as whom: a student, the words, the others, and the program."""
    by_id = {mark.student: mark for mark in marks}
    found = []
    for each in alike:
        first, *others = (by_id[who] for who in each.students if who in by_id)
        words, share = "the same program as", ""
        if each.share < 1:
            words, share = "nearly the same program as", f", {100 * each.share:.0f} % alike"
        found.append((first, words, others, f"{each.program}{share}"))
    return found


def _by_points(mark: Mark) -> tuple[float, str, str]:
    """The best first; those without points last."""
    points = points_of(mark)
    return (float("inf") if points is None else -points, mark.name.casefold(), mark.student)


@dataclass(frozen=True)
class _Bar:
    """How many students have from `low` to under `high` points."""

    low: float
    high: float
    count: int = 0
    share: float = 0.0
    """Of the tallest bar, in percent."""


def _bars(points: Sequence[float], most: float) -> list[_Bar]:
    """A bar for each point, or for each few points if there would be more than two dozen."""
    width = next(each for each in (1, 2, 5, 10, 20, 50, 100, 1000, 10**9) if most / each <= 24)
    counts = [0] * (int(most // width) + 1)
    for each in points:
        counts[min(max(int(each // width), 0), len(counts) - 1)] += 1
    tallest = max([*counts, 1])
    return [
        _Bar(place * width, (place + 1) * width, count, 100 * count / tallest)
        for place, count in enumerate(counts)
    ]


@dataclass(frozen=True)
class _Column:
    """A check in the map of the class: how many passed it, of those for whom it came to an end."""

    id: str
    title: str
    passed: int
    of: int

    @property
    def percent(self) -> str:
        return f"{100 * self.passed / self.of:.0f} %" if self.of else "-"

    @classmethod
    def over(cls, lab: Lab, check: str, marks: Iterable[Mark]) -> _Column:
        outcomes = [each.outcome for mark in marks for each in mark.results if each.check == check]
        passed = outcomes.count("passed")
        return cls(check, _title(lab, check), passed, passed + outcomes.count("failed"))


@dataclass(frozen=True)
class _Line:
    """A student in the map of the class."""

    mark: Mark
    cells: list[_Row | None]
    """One for each check of the lab; none where there is no result."""

    @property
    def points(self) -> float | None:
        return points_of(self.mark)

    @classmethod
    def of(cls, lab: Lab, mark: Mark) -> _Line:
        rows = {each.check: _Row(lab, each) for each in mark.results}
        return cls(mark, [rows.get(check.id) for check in lab.checks])


@dataclass(frozen=True)
class _Misconception:
    """A cause, where it was seen, and who has it."""

    cause: str
    text: str
    checks: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.cause.replace("_", " ")


def _misconceptions(lab: Lab, marks: Iterable[Mark]) -> list[_Misconception]:
    """The causes of failed checks, that of most students first."""
    found: dict[str, _Misconception] = {}
    for mark in marks:
        for each in mark.results:
            if each.outcome != "failed" or not each.cause:
                continue
            empty = _Misconception(each.cause, lab.cause_text(each.cause))
            one = found.setdefault(each.cause, empty)
            if mark not in one.marks[-1:]:
                one.marks.append(mark)
            if (title := _title(lab, each.check)) not in one.checks:
                one.checks.append(title)
    return sorted(found.values(), key=lambda one: (-len(one.marks), one.cause))


def _with(lab: Lab, marks: Iterable[Mark], outcome: str) -> list[tuple[Mark, list[str]]]:
    """The marks of that outcome, each with the reasons, one line each."""
    return [(mark, _reasons(lab, mark)) for mark in marks if mark.outcome == outcome]


def _reasons(lab: Lab, mark: Mark) -> list[str]:
    reasons = [mark.detail] if mark.detail else []
    for each in mark.results:
        lines = [line for line in each.evidence.splitlines() if line.strip()]
        if each.outcome == "grader_fault":
            reasons.append(f"{_title(lab, each.check)}: {lines[-1].strip() if lines else '?'}")
        elif (
            each.outcome == "could_not_run"
            and lines
            and not any(reason.startswith(lines[0].strip()) for reason in reasons)
        ):
            reasons.append(lines[0])
    return reasons


# Templates


@cache
def _templates() -> Environment:
    """Every value is escaped, and is `visible` before, whatever the template does."""
    environment = Environment(
        loader=PackageLoader("streamlab.grading"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters.update(line=one_line, number=number, late=late_text)
    environment.globals.update(file_name=file_name, MANY=MANY)
    return environment
