"""`by_hand.csv`: points and comments that an instructor gives, which every grading brings back.

The file lies in the report, where no program of a student can write.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from streamlab.grading.names import letters
from streamlab.grading.records import Comment, Correction, Mark, Student
from streamlab.grading.task import GradingError
from streamlab.grading.text import number, one_line, points_of, read_csv_text
from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult

BY_HAND = "by_hand.csv"
"""The file's name, beside the gradebook."""
HEADINGS = ("student", "cause", "lab", "check", "points", "comment", "reason")


@dataclass(frozen=True)
class Line:
    """A row of the file: for one student, or for all who have a cause."""

    student: str = ""
    cause: str = ""
    check: str = ""
    """Empty for the whole lab."""
    points: float | None = None
    comment: str = ""
    reason: str = ""

    def comments_on(self, mark: Mark) -> bool:
        """Whether its comment is for a student, by what the checks found."""
        if self.student:
            return self.student == mark.student
        return any(
            each.outcome == "failed" and each.cause == self.cause and self.check in ("", each.check)
            for each in mark.results
        )


def read_by_hand(path: Path, lab: Lab, students: Iterable[Student]) -> list[Line]:
    """The rows of `by_hand.csv` for a lab; none where there is no such file.

    Its headings are `HEADINGS`, in any order; `student` or `cause` may be missing. Raises
    `GradingError`, one line with the row and what to do, for the first row that makes no sense.
    """
    try:
        source = read_csv_text(path)
        lines = csv.reader(io.StringIO(source.text, newline=""), delimiter=source.delimiter)
        rows = [(lines.line_num, row) for row in lines if any(map(str.strip, row))]
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise GradingError(f"{path} is not UTF-8: save it as 'CSV UTF-8'") from error
    except (OSError, csv.Error) as error:
        raise GradingError(f"{path} can't be read: {error}") from error
    headings = [letters(heading) for heading in rows[0][1]] if rows else []
    wanted = {*HEADINGS[2:]}
    if not rows or wanted - set(headings) or not {"student", "cause"} & set(headings):
        raise GradingError(
            f"{path}, row 1: it needs the headings {','.join(HEADINGS)}; student or cause may be "
            "left out"
        )
    known = {each.student for each in students}
    found: list[Line] = []
    places: dict[tuple[str, str], int] = {}
    for place, row in rows[1:]:
        cells = dict(zip(headings, (one_line(each) for each in row), strict=False))
        line = _line(f"{path}, row {place}", cells, lab, known)
        if line is None:
            continue
        key = (line.student, line.check)
        if line.points is not None:
            if key in places:
                raise GradingError(
                    f"{path}, row {place}: {line.student} has points for "
                    f"{line.check or 'the whole lab'} in row {places[key]}, too: remove one of them"
                )
            places[key] = place
        found.append(line)
    return found


def _line(where: str, cells: dict[str, str], lab: Lab, students: set[str]) -> Line | None:
    """A row; None for one of another lab."""
    student, cause, check = (cells.get(name, "") for name in ("student", "cause", "check"))
    comment, reason = cells.get("comment", ""), cells.get("reason", "")
    of_lab = cells.get("lab", "")
    if not of_lab:
        raise GradingError(f"{where}: it names no lab: write {lab.number}")
    if of_lab not in (lab.name, lab.number, lab.number.lstrip("0")):
        return None
    if bool(student) == bool(cause):
        raise GradingError(f"{where}: name a student or a cause, and not both")
    if student and student not in students:
        raise GradingError(f"{where}: {student} is no id of the roster: write one of its ids")
    if cause and not lab.cause_text(cause):
        raise GradingError(
            f"{where}: {cause} is no cause of lab {lab.number}: take its name from the class page"
        )
    most = {each.id: each.points for each in lab.checks}
    if check and check not in most:
        raise GradingError(
            f"{where}: lab {lab.number} has no check {check}: write one of {', '.join(most)}, "
            "or leave it empty for the whole lab"
        )
    points = _points(where, cells.get("points", ""), most.get(check, lab.points))
    if points is None and not comment:
        raise GradingError(f"{where}: it has no points and no comment: write one, or remove it")
    if points is not None and cause:
        raise GradingError(f"{where}: a cause takes a comment alone: give points to a student")
    if points is not None and not reason:
        raise GradingError(f"{where}: points by hand need a reason: the student reads it")
    return Line(student, cause, check, points, comment, reason)


def _points(where: str, text: str, most: float) -> float | None:
    if not text:
        return None
    try:
        points = float(text.replace(",", "."))
    except ValueError:
        points = math.nan
    if not 0 <= points <= most:
        raise GradingError(
            f"{where}: {text[:40]} is no number of points: write 0 to {number(most)}, or nothing"
        )
    return points


# What it does to a mark


def with_checks(mark: Mark, lab: Lab, lines: Sequence[Line]) -> Mark:
    """A mark with the points that were given by hand for checks, and with the comments.

    A check with all its points is passed, and another one is not. Who had no results has not
    attempted the other checks.
    """
    given = {
        line.check: line
        for line in lines
        if line.student == mark.student and line.check and line.points is not None
    }
    results = mark.results
    if given and not results:
        results = tuple(_nothing(lab, check.id) for check in lab.checks)
    corrections = tuple(
        Correction(each.check, each.points, line.points, line.reason)
        for each in results
        if (line := given.get(each.check)) is not None and line.points is not None
    )
    if corrections:
        by_check = {each.check: each.points for each in corrections}
        results = tuple(_given(each, by_check.get(each.check)) for each in results)
        points = sum(each.points for each in results)
        mark = replace(mark, results=results, points=points, by_hand=corrections)
    comments = [
        Comment(line.comment, line.check, line.cause)
        for line in lines
        if line.comment and line.comments_on(mark)
    ]
    return replace(mark, comments=tuple(comments))


def _given(result: CheckResult, points: float | None) -> CheckResult:
    if points is None:
        return result
    if points >= result.max_points:
        return replace(result, points=points, outcome="passed", cause="")
    if result.outcome == "failed":
        return replace(result, points=points)
    return replace(result, points=points, outcome="failed", cause="", evidence="")


def _nothing(lab: Lab, check_id: str) -> CheckResult:
    check = lab.check(check_id)
    return CheckResult(lab.name, check.id, check.kind, 0, check.points, "not_attempted")


def with_whole(mark: Mark, lines: Sequence[Line]) -> Mark:
    """A mark with the points that were given by hand for the whole lab, which are final.

    No late days are taken off them, and whatever happened, the mark is graded.
    """
    for line in lines:
        if line.student == mark.student and not line.check and line.points is not None:
            correction = Correction("", points_of(mark), line.points, line.reason)
            late = mark.late and replace(mark.late, penalty=0.0, points_before=line.points)
            mark = replace(
                mark,
                points=line.points,
                outcome="graded",
                late=late,
                by_hand=(*mark.by_hand, correction),
            )
    return mark
