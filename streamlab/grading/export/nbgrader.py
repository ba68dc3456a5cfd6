"""Marks for nbgrader: into its database."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamlab.grading.export.job import (
    BridgeError,
    Exported,
    Job,
    listed,
    open_messages,
    student_label,
)
from streamlab.grading.export.matching import given_first
from streamlab.grading.records import Mark
from streamlab.grading.text import one_line

# nbgrader

NOTEBOOK = "checks"
"""Under this name of a notebook nbgrader keeps the checks, each as a cell that is graded."""


def to_nbgrader(job: Job) -> Exported:
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
                given, _, family = given_first(one_line(mark.name)).rpartition(" ")
                gradebook.update_or_create_student(mark.student, first_name=given, last_name=family)
                added.append(student_label(mark))
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
    messages = open_messages(job, job.marks, "so that no points are entered")
    if others_than := [student_label(mark) for mark in job.marks if _has_more_than_checks(mark)]:
        messages.append(
            f"entered by checks alone, without late days and points by hand for the whole lab: "
            f"{listed(others_than)}"
        )
    if added:
        messages.append(f"added to the gradebook: {listed(added)}")
    if others:
        messages.append(f"in the gradebook, but without a mark: {listed(others)}")
    return Exported(job.target, filled, messages)


def _has_more_than_checks(mark: Mark) -> bool:
    late = mark.late is not None and mark.late.penalty > 0
    return late or any(not each.check for each in mark.by_hand)


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
