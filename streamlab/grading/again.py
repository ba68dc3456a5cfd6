"""Grading a part again: some students, some checks; everything else stays as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamlab.grading.records import Mark, Student, checked_from_json
from streamlab.grading.task import GradingError
from streamlab.labs.manifest import Lab


@dataclass(frozen=True)
class Selection:
    """What is to be graded again."""

    students: frozenset[str]
    """By id; none means all."""
    checks: frozenset[str]
    """By id; none means all."""
    before: Mapping[str, Mark] = field(default_factory=dict)
    """What the checks gave each student when the report was written, by id."""

    def takes(self, who: str, submission: str) -> bool:
        """Whether a student is graded again; `submission` is the SHA-256 of what lies there now.

        A new submission is graded with all checks or not at all.
        """
        if self.students and who not in self.students:
            return False
        return not (self.checks and self.is_new(who, submission))

    def is_new(self, who: str, submission: str) -> bool:
        """Whether a submission is another one than the report speaks of."""
        return who not in self.before or self.before[who].submission != submission


def selection(
    marks: Path, lab: Lab, roster: Sequence[Student], students: Sequence[str], checks: Sequence[str]
) -> Selection | None:
    """What to grade again; None for everything that has not been graded.

    `marks` is the file of a report that has been written. Raises `GradingError` where there is
    none, or an id is not known.
    """
    if not students and not checks:
        return None
    known = {each.student for each in roster}
    for who in students:
        if who not in known:
            raise GradingError(f"--student {who}: it is no id of the roster")
    ids = [check.id for check in lab.checks]
    for check in checks:
        if check not in ids:
            raise GradingError(f"--check {check}: lab {lab.number} has {', '.join(ids)}")
    try:
        before = checked_from_json(marks.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GradingError(
            f"{marks.parent} is no finished report: grade the whole class first, without "
            "--student and --check"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise GradingError(f"{marks} can't be read: {error}") from error
    by_id = {mark.student: mark for mark in before}
    return Selection(frozenset(students), frozenset(checks), by_id)
