"""Marks on their way into other gradebooks: Canvas, Moodle, Gradescope, nbgrader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streamlab.grading.export.canvas import to_canvas
from streamlab.grading.export.gradescope import to_gradescope
from streamlab.grading.export.job import BridgeError, Exported, Job
from streamlab.grading.export.moodle import to_moodle, to_moodle_gradebook
from streamlab.grading.export.nbgrader import to_nbgrader


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


def export(fmt: str, job: Job) -> Exported:
    """Bring marks of a lab into another gradebook; `fmt` is one of `FORMATS`.

    Raises `BridgeError` if it can't be done.
    """
    known = FORMATS.get(fmt)
    if known is None:
        raise BridgeError(f"there is no format {fmt}: there are {', '.join(FORMATS)}")
    if known.template and job.template is None:
        raise BridgeError(f"{fmt} needs a template: {known.template}")
    if job.template is not None and not known.template:
        raise BridgeError(f"{fmt} takes no template: it writes {known.writes}")
    if job.column and not known.has_columns:
        raise BridgeError(f"{fmt} has no column to choose: it writes {known.writes}")
    if not job.marks:
        raise BridgeError("there are no marks to export")
    return known.write(job)


FORMATS: dict[str, Format] = {
    "canvas": Format(
        "Canvas, gradebook",
        "the CSV file that Canvas exports (Grades, Export)",
        "a CSV file to import into Canvas (Grades, Import)",
        to_canvas,
        has_columns=True,
    ),
    "moodle": Format(
        "Moodle, grading worksheet of an assignment",
        "the assignment's grading worksheet (Submissions, Actions, Download grading worksheet)",
        "a CSV file to upload to the assignment (Actions, Upload grading worksheet)",
        to_moodle,
    ),
    "moodle-gradebook": Format(
        "Moodle, gradebook",
        "",
        "a CSV file to import into the gradebook (Grades, Import, CSV file)",
        to_moodle_gradebook,
    ),
    "gradescope": Format(
        "Gradescope, autograder results",
        "",
        "a folder with a results.json for each student",
        to_gradescope,
    ),
    "nbgrader": Format(
        "nbgrader, gradebook",
        "",
        "nbgrader's gradebook.db, a new one or the course's own",
        to_nbgrader,
    ),
}
"""The kinds of gradebook, by the name that the command line takes."""
