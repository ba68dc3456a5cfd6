"""What becomes of marks after the checks: points by hand, and late days."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from streamlab.grading.collect import Collection
from streamlab.grading.corrections import BY_HAND, Line, read_by_hand, with_checks, with_whole
from streamlab.grading.records import Lateness, Mark, Student, outcome_of
from streamlab.grading.times import (
    UNKNOWN,
    Deadline,
    HandedIn,
    times_of_roster,
    times_of_table,
)
from streamlab.labs.manifest import Lab


@dataclass(frozen=True)
class Adjustments:
    """What an instructor says of a lab, beside the checks."""

    lab: Lab
    by_hand: Sequence[Line] = ()
    deadline: Deadline | None = None
    said: dict[str, HandedIn] | None = None
    """When students handed in, by id, as the instructor says."""

    def adjusted(self, marks: Iterable[Mark], collection: Collection) -> list[Mark]:
        """The marks: first checks by hand, then late days, then whole labs by hand."""
        return [
            with_whole(self._late(self._checks(mark), collection), self.by_hand) for mark in marks
        ]

    def _checks(self, mark: Mark) -> Mark:
        """A mark with what was given by hand for checks, which may change what became of it."""
        corrected = with_checks(mark, self.lab, self.by_hand)
        if not corrected.by_hand:
            return corrected
        return replace(corrected, outcome=outcome_of(corrected.results))

    def _late(self, mark: Mark, collection: Collection) -> Mark:
        """A mark with what its late days cost: by the platform, else as the instructor says."""
        if self.deadline is None:
            return replace(mark, late=None)
        submission = collection.submissions.get(mark.student)
        if mark.submission != (submission.sha256 if submission is not None else ""):
            return self._late_before(mark)
        handed_in = submission.handed_in if submission is not None else UNKNOWN
        if not handed_in.is_sure and submission is not None:
            handed_in = (self.said or {}).get(mark.student, handed_in)
        late = self.deadline.lateness(handed_in, mark.points)
        if submission is None:
            late = replace(late, unknown="")
        return replace(mark, points=round(mark.points - late.penalty, 2), late=late)

    def _late_before(self, mark: Mark) -> Mark:
        """A mark of an earlier submission than the one that lies there: its time is the old one."""
        assert self.deadline is not None
        due, rule, late = self.deadline.shown, self.deadline.rule, mark.late
        if late is None or (late.due, late.rule) != (due, rule):
            why = "its submission has changed since it was graded: grade it again"
            late = Lateness(due, rule, points_before=mark.points, unknown=why)
        return replace(mark, points=round(mark.points - late.penalty, 2), late=late)


def read_adjustments(
    report: Path,
    lab: Lab,
    students: Sequence[Student],
    roster: Path,
    deadline: Deadline | None = None,
    times: Path | None = None,
) -> Adjustments:
    """What `by_hand.csv` in a report, the roster and a table of times say.

    A time in the table precedes one in the roster. Without a deadline neither is read. Raises
    `GradingError` for what makes no sense.
    """
    by_hand = read_by_hand(report / BY_HAND, lab, students)
    if deadline is None:
        return Adjustments(lab, by_hand)
    said = times_of_roster(students, roster)
    if times is not None:
        said |= times_of_table(times, students)
    return Adjustments(lab, by_hand, deadline, said)
