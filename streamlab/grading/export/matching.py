"""Which line of a gradebook belongs to which student: by id, by e-mail address, by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from streamlab.grading.export.job import (
    BridgeError,
    Job,
    label_with_points,
    listed,
    open_messages,
    points_text,
    student_label,
)
from streamlab.grading.export.table import Table, compared, compared_heading
from streamlab.grading.records import Mark
from streamlab.grading.text import number, one_line


@dataclass(frozen=True)
class _Level:
    """A way to find students in a table: what a mark and a row must have in common."""

    what: str
    of_mark: Callable[[Mark], set[str]]
    of_row: Callable[[int], str]
    sure: bool = True


@dataclass(frozen=True)
class People:
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
                    them = listed(map(self._called, fitting))
                    doubts.append(f"{student_label(mark)} could be several by {level.what}: {them}")
                for row in fitting if len(fitting) == 1 else ():
                    claims[row].append(mark)
            for row, marks in claims.items():
                if len(marks) > 1:
                    stuck.update(mark.student for mark in marks)
                    them = listed(map(student_label, marks))
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
            yield _Level(each, partial(_keys, job, each), partial(self.compared, each))
        for each in columns:
            before = partial(self._key_before_at, each)
            yield _Level(f"what stands before the @ in {each}", partial(_keys, job, ""), before)
        yield _Level("name", _names, lambda row: compared(self.name(row)), sure=False)

    def _called(self, row: int) -> str:
        return one_line(self.name(row)) or f"line {row + 1}"

    def compared(self, heading: str, row: int) -> str:
        return _id(self.table.get(row, self.table.find(heading)))

    def _key_before_at(self, heading: str, row: int) -> str:
        before, at, _ = self.compared(heading, row).partition("@")
        return before if at else ""

    def _doubts(self, level: _Level, row: int, mark: Mark) -> list[str]:
        """What to look at where a row and a mark were found to belong together."""
        name = self._called(row)
        if not level.sure:
            return [f"{student_label(mark)} was found by the name alone: check that it is {name}"]
        words, others = set(compared(name).split()), set(compared(given_first(mark.name)).split())
        if words and others and not words & others:
            return [
                f"{student_label(mark)} was found by {level.what}, but is called {name} there: "
                f"check it"
            ]
        return []

    def _left_over(self, job: Job, found: dict[int, Mark]) -> list[str]:
        messages = []
        here = {mark.student for mark in found.values()}
        if lost := [mark for mark in job.marks if mark.student not in here]:
            with_points = (label_with_points(job, mark) for mark in lost)
            messages.append(f"not in {self.table.path.name}: {listed(with_points)}")
        if rows := [row for row in self.rows if row not in found]:
            them = listed(map(self._called, rows))
            messages.append(f"in {self.table.path.name}, but without a mark: {them}")
        return messages


def _keys(job: Job, heading: str, mark: Mark) -> set[str]:
    """What a student may have in a column: the id, and what the roster has under that heading."""
    keys = {_id(mark.student)}
    if heading and (student := job.roster.get(mark.student)):
        keys |= {
            _id(text)
            for each, text in student.columns.items()
            if compared_heading(each) == compared_heading(heading)
        }
    return keys - {""}


def _id(text: str) -> str:
    """An id as it is compared; Moodle puts a word before its numbers."""
    return compared(text).removeprefix("participant ")


def _names(mark: Mark) -> set[str]:
    """A roster may have the name for an id, too."""
    return {compared(given_first(each)) for each in (mark.name, mark.student)} - {""}


def given_first(name: str) -> str:
    """`Lovelace, Ada` as `Ada Lovelace`."""
    family, comma, given = name.partition(",")
    return f"{given.strip()} {family.strip()}" if comma and "," not in given else name


def fill_column(
    job: Job, people: People, column: int, fixed: Callable[[int], str]
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
            kept.append(f"{student_label(mark)}, {why}, would have {points_text(points)}")
            continue
        before = table.get(row, column)
        if before and _as_number(before) != points:
            replaced.append(f"{student_label(mark)}, {one_line(before)} by {number(points)}")
        table.put(row, column, number(points))
        filled[row] = mark
    messages += open_messages(job, found.values(), "so that the cell stays as it was")
    if kept:
        messages.append(f"may not be changed: {listed(kept)}")
    if replaced:
        messages.append(f"replaced: {listed(replaced)}")
    return filled, messages


def _as_number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def other_maximum(job: Job, theirs: str, where: str) -> list[str]:
    most = _as_number(theirs)
    if most is None or most == job.lab.points:
        return []
    return [
        f"{where} has a maximum of {number(most)}, lab {job.lab.number} has "
        f"{number(job.lab.points)}: points are brought as they are"
    ]
