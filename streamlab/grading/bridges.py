"""Marks on their way into other gradebooks: Canvas, Moodle, Gradescope, nbgrader.

Rules that all of them keep:

- A mark that is nobody's zero brings no points (see `points_of`): a check that broke, a submission
  that can't be read, nothing handed in. What stands in the other gradebook stays as it is there,
  such as a grade given by hand; with `zero_for_missing`, nothing handed in brings 0.
- Points are brought as they are, never scaled. Where the other side has another maximum, a message
  says so.
- Nobody is dropped in silence. Who is on one side only, whom two lines fit, who was found by name
  alone: a message says it. If nobody at all is found, that is an error, and nothing is written.
- A file is written whole or not at all.
"""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
import sys
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from streamlab.files import why_not
from streamlab.grading.records import Mark, Student
from streamlab.grading.text import (
    ReportError,
    cell,
    file_name,
    number,
    one_line,
    points_of,
    visible,
    write_text,
)
from streamlab.labs import Lab
from streamlab.results import CheckResult


class BridgeError(ReportError):
    """Marks can't be exported; the message says what to do."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and what the instructor should know of it."""

    target: Path
    filled: int
    """How many students' points were brought over."""
    messages: list[str]
    """One line each: who is on one side only, whose points are still open, what was replaced."""


@dataclass(frozen=True)
class Job:
    """What is to be exported, and where to."""

    lab: Lab
    marks: Sequence[Mark]
    target: Path
    template: Path | None = None
    students: dict[str, Student] = field(default_factory=dict)
    """The roster, by id: its columns help to find students in a template."""
    column: str = ""
    """The template's column to fill, if it can't be told by the lab's title."""
    zero_for_missing: bool = False

    def points(self, mark: Mark) -> float | None:
        """The points to bring for a student; None for none."""
        if mark.outcome == "missing" and self.zero_for_missing:
            return 0.0
        return points_of(mark)


@dataclass(frozen=True)
class Format:
    """A kind of gradebook that marks can be brought to."""

    title: str
    template: str
    """What the template is and where to get it; empty where none is needed."""
    writes: str
    """What the target is."""
    write: Callable[[Job], Exported]
    has_columns: bool = False
    """Whether the template has a column for each assignment, so that one can be named."""


def export(
    fmt: str,
    lab: Lab,
    marks: Iterable[Mark],
    target: Path,
    template: Path | None = None,
    *,
    students: Iterable[Student] = (),
    column: str = "",
    zero_for_missing: bool = False,
) -> Exported:
    """Bring marks of a lab into another gradebook; `fmt` is one of `FORMATS`.

    `template` is the file that the other system exported, where one is needed; `column` names its
    column (or that one's number in Canvas) where the lab's title does not tell. `students`, the
    roster, helps to find students by more than their id. Raises `BridgeError`.
    """
    known = FORMATS.get(fmt)
    if known is None:
        raise BridgeError(f"there is no format {fmt}: there are {', '.join(FORMATS)}")
    if known.template and template is None:
        raise BridgeError(f"{fmt} needs a template: {known.template}")
    if template is not None and not known.template:
        raise BridgeError(f"{fmt} takes no template: it writes {known.writes}")
    if column and not known.has_columns:
        raise BridgeError(f"{fmt} has no column to choose: it writes {known.writes}")
    roster = {student.student: student for student in students}
    job = Job(lab, list(marks), target, template, roster, column, zero_for_missing)
    if not job.marks:
        raise BridgeError("there are no marks to export")
    return known.write(job)


# Templates: a table that another system exported, and that goes back to it with a column filled


class Table:
    """A CSV file; of what is read, all is written back that nobody changes."""

    def __init__(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            text = data.decode("utf-8-sig")
        except OSError as error:
            raise BridgeError(f"the template can't be read: {error}") from error
        except UnicodeDecodeError as error:
            raise BridgeError(
                f"{path} is not UTF-8: take the file as the other system exported it, not as a "
                "spreadsheet saved it"
            ) from error
        self.path = path
        self.begins = "\ufeff" if data.startswith(b"\xef\xbb\xbf") else ""
        self.line_end = "\r\n" if "\r\n" in text else "\n"
        first = text.partition("\n")[0]
        self.delimiter = max(",;\t", key=first.count)
        source = io.StringIO(text, newline="")
        try:
            rows = list(csv.reader(source, delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            raise BridgeError(f"{path} is no CSV file: {error}") from error
        if not rows:
            raise BridgeError(f"{path} is empty")
        self.headings = [heading.strip() for heading in rows[0]]
        self.rows = rows

    def find(self, *headings: str) -> int | None:
        """The place of the column with one of these headings, in whatever capitals."""
        for heading in headings:
            for place, each in enumerate(self.headings):
                if _same(each) == _same(heading):
                    return place
        return None

    def get(self, row: int, column: int | None) -> str:
        """A cell's text without the space around it; empty for no column or a short row."""
        cells = self.rows[row]
        return cells[column].strip() if column is not None and column < len(cells) else ""

    def put(self, row: int, column: int, text: str) -> None:
        """Change a cell."""
        cells = self.rows[row]
        cells.extend([""] * (column + 1 - len(cells)))
        cells[column] = text

    def write(self, target: Path) -> None:
        """Write all of it, in the form that it was read in."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator=self.line_end)
        writer.writerows(self.rows)
        write_text(target, self.begins + text.getvalue())


@dataclass(frozen=True)
class _Level:
    """A way to find students in a table: what a mark and a row must have in common."""

    what: str
    of_mark: Callable[[Mark], set[str]]
    of_row: Callable[[int], str]
    sure: bool = True


@dataclass(frozen=True)
class _People:
    """The rows of a table that are students, and how to find them."""

    table: Table
    rows: list[int]
    ids: tuple[str, ...]
    """Headings of columns that tell students apart, the surest first."""
    name: Callable[[int], str]
    """The name in a row, given name first."""

    def find(self, job: Job) -> tuple[dict[int, Mark], list[str]]:
        """Whose mark belongs into which row; messages on all that is doubtful or left over.

        A mark that fits several rows, or a row that several marks fit, is paired with nobody.
        Raises `BridgeError` if nobody is found.
        """
        found: dict[int, Mark] = {}
        stuck: set[str] = set()
        doubts: list[str] = []
        for level in self._levels(job):
            by_key: dict[str, set[int]] = defaultdict(set)
            for row in self.rows:
                if key := level.of_row(row):
                    by_key[key].add(row)
            claims: dict[int, list[Mark]] = defaultdict(list)
            settled = {mark.student for mark in found.values()} | stuck
            for mark in job.marks:
                if mark.student in settled:
                    continue
                keys = level.of_mark(mark)
                fitting = {row for key in keys for row in by_key.get(key, ())} - set(found)
                if len(fitting) > 1:
                    stuck.add(mark.student)
                    them = _listed(map(self._called, fitting))
                    doubts.append(f"{_who(mark)} could be several by {level.what}: {them}")
                for row in fitting if len(fitting) == 1 else ():
                    claims[row].append(mark)
            for row, marks in claims.items():
                if len(marks) > 1:
                    stuck.update(mark.student for mark in marks)
                    them = _listed(map(_who, marks))
                    doubts.append(f"{self._called(row)} could be several by {level.what}: {them}")
                    continue
                found[row] = marks[0]
                doubts += self._doubts(level, row, marks[0])
        if not found:
            raise BridgeError(
                f"nobody in {self.table.path} has a mark: is it the export of this course? "
                f"Students are looked for by {', '.join(self.ids)} and name"
            )
        return found, doubts + self._left_over(job, found)

    def _levels(self, job: Job) -> Iterator[_Level]:
        columns = [each for each in self.ids if self.table.find(each) is not None]
        for each in columns:
            yield _Level(each, partial(_keys, job, each), partial(self._key, each))
        for each in columns:
            before = partial(self._key_before_at, each)
            yield _Level(f"what stands before the @ in {each}", partial(_keys, job, ""), before)
        yield _Level("name", _names, lambda row: _key(self.name(row)), sure=False)

    def _called(self, row: int) -> str:
        return one_line(self.name(row)) or f"line {row + 1}"

    def _key(self, heading: str, row: int) -> str:
        return _id(self.table.get(row, self.table.find(heading)))

    def _key_before_at(self, heading: str, row: int) -> str:
        before, at, _ = self._key(heading, row).partition("@")
        return before if at else ""

    def _doubts(self, level: _Level, row: int, mark: Mark) -> list[str]:
        """What to look at where a row and a mark were found to belong together."""
        name = self._called(row)
        if not level.sure:
            return [f"{_who(mark)} was found by the name alone: check that it is {name}"]
        words, others = set(_key(name).split()), set(_key(_given_first(mark.name)).split())
        if words and others and not words & others:
            return [f"{_who(mark)} was found by {level.what}, but is called {name} there: check it"]
        return []

    def _left_over(self, job: Job, found: dict[int, Mark]) -> list[str]:
        messages = []
        here = {mark.student for mark in found.values()}
        if lost := [mark for mark in job.marks if mark.student not in here]:
            with_points = (_with_points(job, mark) for mark in lost)
            messages.append(f"not in {self.table.path.name}: {_listed(with_points)}")
        if rows := [row for row in self.rows if row not in found]:
            them = _listed(map(self._called, rows))
            messages.append(f"in {self.table.path.name}, but without a mark: {them}")
        return messages


def _keys(job: Job, heading: str, mark: Mark) -> set[str]:
    """What a student may have in a column: the id, and what the roster has under that heading."""
    keys = {_id(mark.student)}
    if heading and (student := job.students.get(mark.student)):
        keys |= {
            _id(text) for each, text in student.columns.items() if _same(each) == _same(heading)
        }
    return keys - {""}


def _id(text: str) -> str:
    """An id as it is compared; Moodle puts a word before its numbers."""
    return _key(text).removeprefix("participant ")


def _names(mark: Mark) -> set[str]:
    """A roster may have the name for an id, too."""
    return {_key(_given_first(each)) for each in (mark.name, mark.student)} - {""}


def _key(text: str) -> str:
    """A text as it is compared: without regard to capitals, width and space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _same(heading: str) -> str:
    """A heading as it is compared; all kinds of e-mail address are one."""
    letters = re.sub(r"\W|_", "", _key(heading))
    return "email" if "mail" in letters else letters


def _given_first(name: str) -> str:
    """`Lovelace, Ada` as `Ada Lovelace`."""
    family, comma, given = name.partition(",")
    return f"{given.strip()} {family.strip()}" if comma and "," not in given else name


def _who(mark: Mark) -> str:
    name = one_line(mark.name)
    student = one_line(mark.student)
    return f"{student} ({name})" if name else student


def _with_points(job: Job, mark: Mark) -> str:
    points = job.points(mark)
    return f"{_who(mark)}, {_OPEN[mark.outcome] if points is None else _points_text(points)}"


def _points_text(points: float) -> str:
    return f"{number(points)} {'point' if points == 1 else 'points'}"


def _listed(them: Iterable[str]) -> str:
    return "; ".join(sorted(them))


_OPEN = {
    "missing": "nothing handed in",
    "could_not_run": "can't be read",
    "grader_fault": "a check broke",
}
"""Why a mark has no points."""


def _open_messages(job: Job, marks: Iterable[Mark], what: str) -> list[str]:
    """Who gets no points, by reason; `what` says what that means there."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for mark in marks:
        if job.points(mark) is None:
            reasons[_OPEN.get(mark.outcome, mark.outcome)].append(_who(mark))
    return [f"{why}, {what}: {_listed(them)}" for why, them in reasons.items()]


def _fill(
    job: Job, people: _People, column: int, fixed: Callable[[int], str]
) -> tuple[dict[int, Mark], list[str]]:
    """Put points into a column; returns the rows that were filled, and messages.

    `fixed` says why a row's cell may not be changed, if that is so.
    """
    table = people.table
    found, messages = people.find(job)
    filled: dict[int, Mark] = {}
    replaced, kept = [], []
    for row, mark in found.items():
        points = job.points(mark)
        if points is None:
            continue
        if why := fixed(row):
            kept.append(f"{_who(mark)}, {why}, would have {_points_text(points)}")
            continue
        before = table.get(row, column)
        if before and _as_number(before) != points:
            replaced.append(f"{_who(mark)}, {one_line(before)} by {number(points)}")
        table.put(row, column, number(points))
        filled[row] = mark
    messages += _open_messages(job, found.values(), "so that the cell stays as it was")
    if kept:
        messages.append(f"may not be changed: {_listed(kept)}")
    if replaced:
        messages.append(f"replaced: {_listed(replaced)}")
    return filled, messages


def _as_number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _other_maximum(job: Job, theirs: str, where: str) -> list[str]:
    most = _as_number(theirs)
    if most is None or most == job.lab.points:
        return []
    return [
        f"{where} has a maximum of {number(most)}, lab {job.lab.number} has "
        f"{number(job.lab.points)}: points are brought as they are"
    ]


# Canvas


def _to_canvas(job: Job) -> Exported:
    """Fill an assignment's column of the file that Canvas' gradebook exports.

    The form is that of Canvas' own exporter and importer (canvas-lms, lib/gradebook_exporter.rb and
    lib/gradebook_importer.rb): `Student` or `LastName`, `FirstName`; `ID`; perhaps `SIS User ID`,
    `SIS Login ID`, `Integration ID`, `Root Account`; `Section`; custom columns; assignments as
    `Name (12345)`; totals, which are read only. Below the headings comes perhaps a line that says
    `Manual Posting`, and one that begins with `Points Possible`. Commas or semicolons part the
    columns. Canvas takes an emptied cell for a score to delete, so no cell is ever emptied; `EX`
    (excused) and `N/A` (not assigned) stay.
    """
    assert job.template is not None
    table = Table(job.template)
    heading = "".join(table.headings[:1])
    if heading not in ("Student", "LastName") or table.find("ID") is None:
        raise BridgeError(
            f"{table.path} is no export of Canvas' gradebook: its first line does not begin with "
            "Student, ID. In Canvas: Grades, Export"
        )
    below = range(1, len(table.rows))
    maxima = [row for row in below if "Points Possible" in table.get(row, 0)]
    note = re.compile(r"(?:Muted|Manual Posting.*)?", re.IGNORECASE)
    students = [
        row
        for row in below
        if row not in maxima and not all(note.fullmatch(each.strip()) for each in table.rows[row])
    ]
    maximum = maxima[0] if maxima else -1
    column = _canvas_column(job, table, maximum)
    first = table.find("FirstName")

    def name(row: int) -> str:
        if heading == "LastName":
            return f"{table.get(row, first)} {table.get(row, 0)}".strip()
        return _given_first(table.get(row, 0))

    def fixed(row: int) -> str:
        text = table.get(row, column).upper()
        return {"EX": "excused in Canvas", "N/A": "not assigned in Canvas"}.get(text, "")

    people = _People(table, students, ("SIS Login ID", "SIS User ID", "ID"), name)
    filled, messages = _fill(job, people, column, fixed)
    if maxima:
        messages += _other_maximum(job, table.get(maximum, column), table.headings[column])
    table.write(job.target)
    return Exported(job.target, len(filled), messages)


def _canvas_column(job: Job, table: Table, maximum: int) -> int:
    """The assignment's column: the one that was named, or the one that is called like the lab."""
    assignments = {
        place: (found[1], found[2])
        for place, heading in enumerate(table.headings)
        if (found := re.fullmatch(r"(.*\S)\s*\(([0-9]+)\)", heading))
        and "read only" not in table.get(maximum, place).casefold()
    }
    if job.column:
        wanted = job.column.strip()
        fitting = [
            place
            for place, (name, number_) in assignments.items()
            if wanted in (table.headings[place], name, number_)
        ]
    else:
        fitting = [place for place, (name, _) in assignments.items() if _is_lab(job.lab, name)]
    if len(fitting) == 1:
        return fitting[0]
    there = _listed(one_line(table.headings[place]) for place in assignments) or "none"
    wanted = f"called {job.column}" if job.column else f"called like lab {job.lab.number}"
    many = "several assignments are" if fitting else "no assignment is"
    raise BridgeError(
        f"in {table.path} {many} {wanted}. Name the column to fill, with its number. "
        f"There are: {there}"
    )


def _is_lab(lab: Lab, name: str) -> bool:
    """Whether an assignment is called like a lab: by its number, title or folder's name."""
    words, title, folder = (
        " ".join(re.findall(r"[^\W_]+", text.casefold())) for text in (name, lab.title, lab.name)
    )
    numbers = (f"lab {lab.number}", f"lab {int(lab.number)}")
    return words in (title, folder, *numbers, *(f"{each} {title}" for each in numbers))


# Moodle


def _to_moodle(job: Job) -> Exported:
    """Fill the grading worksheet of a Moodle assignment.

    Its form is that of Moodle's "offline grading worksheet" (mod/assign/gradingtable.php writes it,
    mod/assign/feedback/offline/importgradeslib.php reads it): `Identifier` (`Participant 12345`),
    `Full name`, perhaps `ID number`, `Username` and `Email address`, `Status`, `Grade`,
    `Maximum Grade`, `Grade can be changed`, `Last modified (submission)`, `Last modified (grade)`,
    `Feedback comments`. Moodle passes over empty grades and those above the maximum, and compares
    the date of the last change, so that column stays as it is. Comments are HTML; one that a person
    wrote is kept.
    """
    assert job.template is not None
    table = Table(job.template)
    grade = table.find("Grade")
    if grade is None or table.find("Identifier") is None:
        raise BridgeError(
            f"{table.path} is no grading worksheet of Moodle with English headings: it has no "
            "columns Identifier and Grade. In Moodle: switch the language to English, open the "
            "assignment, Submissions, Actions, Download grading worksheet"
        )
    name_column, changeable = table.find("Full name"), table.find("Grade can be changed")
    maximum, comments = table.find("Maximum grade"), table.find("Feedback comments")
    rows = [row for row in range(1, len(table.rows)) if any(map(str.strip, table.rows[row]))]

    def name(row: int) -> str:
        return table.get(row, name_column) or table.get(row, table.find("Identifier"))

    def fixed(row: int) -> str:
        locked = table.get(row, changeable).casefold() in ("no", "0")
        return "locked in Moodle" if locked else ""

    ids = ("Username", "ID number", "Email address", "Identifier")
    filled, messages = _fill(job, _People(table, rows, ids, name), grade, fixed)
    if comments is not None:
        messages += _comments(job, table, comments, filled)
    if maxima := {table.get(row, maximum) for row in filled}:
        messages += _other_maximum(job, maxima.pop(), table.path.name)
    table.write(job.target)
    return Exported(job.target, len(filled), messages)


def _comments(job: Job, table: Table, column: int, filled: dict[int, Mark]) -> list[str]:
    begins = html.escape(f"Lab {job.lab.number}, {job.lab.title}: ")
    kept = []
    for row, mark in filled.items():
        before = table.get(row, column)
        if before and not before.removeprefix("<p>").startswith(begins):
            kept.append(_who(mark))
            continue
        points = f"{number(job.points(mark) or 0)} of {_points_text(mark.max_points)}."
        lines = [begins + points]
        lines += [html.escape(_told(job.lab, each)) for each in mark.results]
        table.put(row, column, "<br>".join(lines))
    return [f"a comment stood there, and was kept: {_listed(kept)}"] if kept else []


def _told(lab: Lab, result: CheckResult) -> str:
    """A result in a line or two, without a word that a student's program wrote."""
    outcome = result.outcome.replace("_", " ")
    points = f"{number(result.points)} of {number(result.max_points)}"
    why = lab.cause_text(result.cause) if result.outcome == "failed" else ""
    return f"{_title(lab, result)}: {outcome}, {points}. {why}".strip()


def _title(lab: Lab, result: CheckResult) -> str:
    return next((each.title for each in lab.checks if each.id == result.check), result.check)


def _to_moodle_gradebook(job: Job) -> Exported:
    """Write a table for Moodle's gradebook: Grades, Import, CSV file.

    Moodle asks which column tells the students apart (https://docs.moodle.org/en/Grade_import):
    map `Student` to the username or the ID number, or `Email address` to the e-mail address, and
    the last column to the grade item. There is no column of feedback on purpose: importing one can
    overwrite grades. Who has no points has no line, since Moodle may take an empty cell for a grade
    to delete.
    """
    emails = {
        each.student: value
        for each in job.students.values()
        for heading, value in each.columns.items()
        if _same(heading) == "email" and value
    }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    mail = ["Email address"] if emails else []
    lab = cell(f"Lab {job.lab.number}: {job.lab.title}")
    writer.writerow(["Student", "Full name", *mail, lab])
    filled, odd = 0, []
    for mark in job.marks:
        points = job.points(mark)
        if points is None:
            continue
        ids = [mark.student] + ([emails.get(mark.student, "")] if emails else [])
        if any(cell(each) != each for each in ids):
            odd.append(_who(mark))
        student, *mail = map(cell, ids)
        writer.writerow([student, cell(mark.name), *mail, number(points)])
        filled += 1
    messages = _open_messages(job, job.marks, "so that there is no line")
    if odd:
        messages.append(f"an id begins like a formula and was escaped: {_listed(odd)}")
    write_text(job.target, text.getvalue())
    return Exported(job.target, filled, messages)


# Gradescope


def _to_gradescope(job: Job) -> Exported:
    """Write `STUDENT/results.json` for each student who has points, in the folder that is named.

    The form is that of "Autograder Specifications", "Output format"
    (https://gradescope-autograders.readthedocs.io/en/latest/specs/). A `run_autograder` copies the
    student's file to `/autograder/results/results.json`. The maximum of an assignment is set in
    Gradescope itself; a file has one for each test only. Who has no points has no file, so that
    Gradescope shows that nothing was graded; a file of an earlier export is taken away.
    """
    filled = 0
    for mark in job.marks:
        file = job.target / file_name(mark.student) / "results.json"
        points = job.points(mark)
        if points is None:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise BridgeError(f"could not remove {file}: {why_not(error)}") from error
            continue
        text = json.dumps(_results_json(job, mark, points), ensure_ascii=False, indent=2)
        write_text(file, text + "\n")
        filled += 1
    messages = _open_messages(job, job.marks, "so that there is no results.json")
    return Exported(job.target, filled, messages)


def _results_json(job: Job, mark: Mark, points: float) -> dict[str, Any]:
    tests = []
    for each in mark.results:
        parts = [each.evidence.strip(), job.lab.cause_text(each.cause), each.curl]
        story = "\n\n".join(part for part in parts if part) if each.outcome != "passed" else ""
        tests.append(
            {
                "name": _title(job.lab, each),
                "name_format": "text",
                "score": each.points,
                "max_score": each.max_points,
                "status": "passed" if each.outcome == "passed" else "failed",
                "output": visible(story),
                "output_format": "text",
                "visibility": "visible",
            }
        )
    outcome = {
        "graded": f"{number(points)} of {_points_text(mark.max_points)}.",
        "not_attempted": "What was handed in is still the stub.",
        "could_not_run": "The program did not run.",
        "missing": "Nothing was handed in.",
    }
    return {
        "score": points,
        "execution_time": mark.seconds,
        "output": outcome[mark.outcome],
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {"lab": mark.lab, "submission": mark.submission},
    }


# nbgrader

NOTEBOOK = "checks"
"""Under this name of a notebook nbgrader keeps the checks, each as a cell that is graded."""


def _to_nbgrader(job: Job) -> Exported:
    """Enter marks into nbgrader's gradebook, a SQLite file, through `nbgrader.api.Gradebook`.

    (https://nbgrader.readthedocs.io/en/stable/api/gradebook.html) The lab is an assignment, its
    checks are the cells of one notebook, and their points the automatic scores: what a person gave
    by hand goes before them. A check that broke has no score, and the submission needs grading by
    hand, as nbgrader says itself. For who has handed in nothing there is no submission, which
    nbgrader's own export counts as zero. Students who are not in the gradebook are added.
    """
    with _nbgrader(job.target) as (gradebook, missing_entry):
        lab = job.lab
        known = {student.id for student in gradebook.students}
        gradebook.update_or_create_assignment(lab.name)
        gradebook.update_or_create_notebook(NOTEBOOK, lab.name)
        for check in lab.checks:
            gradebook.update_or_create_grade_cell(
                check.id, NOTEBOOK, lab.name, max_score=check.points, cell_type="code"
            )
        filled, added = 0, []
        for mark in job.marks:
            points = job.points(mark)
            if mark.outcome == "missing" and points is None:
                continue
            if mark.student not in known:
                given, _, family = _given_first(one_line(mark.name)).rpartition(" ")
                gradebook.update_or_create_student(mark.student, first_name=given, last_name=family)
                added.append(_who(mark))
            gradebook.update_or_create_submission(lab.name, mark.student)
            results = {each.check: each for each in mark.results}
            for check in lab.checks:
                result = results.get(check.id)
                try:
                    grade = gradebook.find_grade(check.id, NOTEBOOK, lab.name, mark.student)
                except missing_entry as error:
                    raise BridgeError(
                        f"{job.target} has a submission of {mark.student} that was made when "
                        f"lab {lab.number} had other checks: remove the assignment {lab.name} "
                        "from it (nbgrader db assignment remove), and export again"
                    ) from error
                broke = result is not None and result.outcome == "grader_fault"
                by_hand = broke or (result is None and points is None)
                grade.auto_score = None if by_hand else result.points if result else 0.0
                grade.needs_manual_grade = by_hand
            filled += points is not None
        gradebook.db.commit()
        others = known - {mark.student for mark in job.marks}
    messages = _open_messages(job, job.marks, "so that no points are entered")
    if added:
        messages.append(f"added to the gradebook: {_listed(added)}")
    if others:
        messages.append(f"in the gradebook, but without a mark: {_listed(others)}")
    return Exported(job.target, filled, messages)


@contextmanager
def _nbgrader(file: Path) -> Iterator[tuple[Any, type[Exception]]]:
    """nbgrader's gradebook in a file, and its error for what is not there."""
    try:
        from nbgrader.api import Gradebook, MissingEntry
    except ImportError as error:
        raise BridgeError(
            "nbgrader is not installed here: run  pip install -e '.[nbgrader]'  in the course's "
            "folder, best in an environment of its own, then export again"
        ) from error
    # A new gradebook is made with the command alembic, which lies beside Python and need not be on
    # the path.
    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own use of SQLAlchemy
            with Gradebook(f"sqlite:///{file.resolve()}") as gradebook:
                yield gradebook, MissingEntry
    except BridgeError:
        raise
    except Exception as error:  # SQLAlchemy's, alembic's or the system's: all mean the same here
        why = one_line(str(error).partition("\n")[0])
        raise BridgeError(f"nbgrader's gradebook {file} can't be written: {why}") from error
    finally:
        os.environ["PATH"] = path


FORMATS: dict[str, Format] = {
    "canvas": Format(
        "Canvas, gradebook",
        "the CSV file that Canvas exports (Grades, Export)",
        "a CSV file to import into Canvas (Grades, Import)",
        _to_canvas,
        has_columns=True,
    ),
    "moodle": Format(
        "Moodle, grading worksheet of an assignment",
        "the assignment's grading worksheet (Submissions, Actions, Download grading worksheet)",
        "a CSV file to upload to the assignment (Actions, Upload grading worksheet)",
        _to_moodle,
    ),
    "moodle-gradebook": Format(
        "Moodle, gradebook",
        "",
        "a CSV file to import into the gradebook (Grades, Import, CSV file)",
        _to_moodle_gradebook,
    ),
    "gradescope": Format(
        "Gradescope, autograder results",
        "",
        "a folder with a results.json for each student",
        _to_gradescope,
    ),
    "nbgrader": Format(
        "nbgrader, gradebook",
        "",
        "nbgrader's gradebook.db, a new one or the course's own",
        _to_nbgrader,
    ),
}
"""The kinds of gradebook, by the name that the command line takes."""
