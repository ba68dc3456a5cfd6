"""What is brought into another gradebook, and the rules that all formats keep.

- A mark that is nobody's zero brings no points (see `points_of`): a check that broke, a submission
  that can't be read, nothing handed in. What stands in the other gradebook stays as it is there,
  such as a grade given by hand; with `zero_for_missing`, nothing handed in brings 0, unless work
  lies there that may be anybody's.
- Points are brought as they are, never scaled. Where the other side has another maximum, a message
  says so.
- Nobody is dropped in silence. Who is on one side only, whom two lines fit, who was found by name
  alone: a message says it. If nobody at all is found, that is an error, and nothing is written.
- A file is written whole or not at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from streamlab.grading.records import Mark, Student
from streamlab.grading.text import ReportError, given_text, late_text, number, one_line, points_of
from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult


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
    """The file or folder to write."""
    template: Path | None = None
    """The file that the other system exported; None where none is needed."""
    students: Sequence[Student] = ()
    """The roster: its columns help to find students in a template."""
    column: str = ""
    """The template's column to fill, by its name (or its number in Canvas), if it can't be told by
    the lab's title."""
    zero_for_missing: bool = False
    """Whether nothing handed in brings 0 points."""
    unclaimed: Sequence[str] = ()
    """What was handed in and may be anybody's: while it lies there, nothing handed in is no 0."""

    @cached_property
    def roster(self) -> dict[str, Student]:
        """The students by their ids."""
        return {student.student: student for student in self.students}

    def points(self, mark: Mark) -> float | None:
        """The points to bring for a student; None for none."""
        if mark.outcome == "missing" and self.zero_for_missing and not self.unclaimed:
            return 0.0
        return points_of(mark)


def student_label(mark: Mark) -> str:
    name = one_line(mark.name)
    student = one_line(mark.student)
    return f"{student} ({name})" if name else student


def label_with_points(job: Job, mark: Mark) -> str:
    points = job.points(mark)
    return (
        f"{student_label(mark)}, {_OPEN[mark.outcome] if points is None else points_text(points)}"
    )


def points_text(points: float) -> str:
    return f"{number(points)} {'point' if points == 1 else 'points'}"


def listed(them: Iterable[str]) -> str:
    return "; ".join(sorted(them))


_OPEN = {
    "missing": "nothing handed in",
    "could_not_run": "can't be read",
    "grader_fault": "a check broke",
}
"""Why a mark has no points."""


def open_messages(job: Job, marks: Iterable[Mark], what: str) -> list[str]:
    """Who gets no points, by reason; `what` says what that means there."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for mark in marks:
        if job.points(mark) is None:
            reasons[_OPEN.get(mark.outcome, mark.outcome)].append(student_label(mark))
    messages = [f"{why}, {what}: {listed(them)}" for why, them in reasons.items()]
    if job.zero_for_missing and (them := reasons.get(_OPEN["missing"])):
        works = listed(map(one_line, job.unclaimed))
        messages.append(f"no 0 for {listed(them)}: there is work that may be theirs: {works}")
    return messages


def instructors_lines(lab: Lab, mark: Mark) -> list[str]:
    """What late days cost, what was given by hand and why, and the instructor's comments."""
    titles = {check.id: check.title for check in lab.checks}
    lines = [f"{late}."] if (late := late_text(mark)) else []
    lines += [
        f"{titles.get(each.check, 'The whole lab')}: {given_text(each)}" for each in mark.by_hand
    ]
    return lines + [each.text for each in mark.comments]


def title_of(lab: Lab, result: CheckResult) -> str:
    return next((each.title for each in lab.checks if each.id == result.check), result.check)
