"""Marks for Moodle: its offline grading worksheet, or a file for its gradebook."""

from __future__ import annotations

import csv
import html
import io

from streamlab.grading.export.job import (
    BridgeError,
    Exported,
    Job,
    instructors_lines,
    listed,
    open_messages,
    points_text,
    student_label,
    title_of,
)
from streamlab.grading.export.matching import People, fill_column, other_maximum
from streamlab.grading.export.table import Table, compared_heading
from streamlab.grading.records import Mark
from streamlab.grading.text import cell, number, write_text
from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult

# Moodle


def to_moodle(job: Job) -> Exported:
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
    filled, messages = fill_column(job, People(table, rows, ids, name), grade, fixed)
    if comments is not None:
        messages += _comments(job, table, comments, filled)
    if maxima := {table.get(row, maximum) for row in filled}:
        messages += other_maximum(job, maxima.pop(), table.path.name)
    table.write(job.target)
    return Exported(job.target, len(filled), messages)


def _comments(job: Job, table: Table, column: int, filled: dict[int, Mark]) -> list[str]:
    begins = html.escape(f"Lab {job.lab.number}, {job.lab.title}: ")
    kept = []
    for row, mark in filled.items():
        before = table.get(row, column)
        if before and not before.removeprefix("<p>").startswith(begins):
            kept.append(student_label(mark))
            continue
        points = f"{number(job.points(mark) or 0)} of {points_text(mark.max_points)}."
        lines = [begins + points]
        lines += [html.escape(each) for each in instructors_lines(job.lab, mark)]
        lines += [html.escape(_told(job.lab, each)) for each in mark.results]
        table.put(row, column, "<br>".join(lines))
    return [f"a comment stood there, and was kept: {listed(kept)}"] if kept else []


def _told(lab: Lab, result: CheckResult) -> str:
    """A result in a line or two, without a word that a student's program wrote."""
    outcome = result.outcome.replace("_", " ")
    points = f"{number(result.points)} of {number(result.max_points)}"
    why = lab.cause_text(result.cause) if result.outcome == "failed" else ""
    return f"{title_of(lab, result)}: {outcome}, {points}. {why}".strip()


def to_moodle_gradebook(job: Job) -> Exported:
    """Write a table for Moodle's gradebook: Grades, Import, CSV file.

    Moodle asks which column tells the students apart (https://docs.moodle.org/en/Grade_import):
    map `Student` to the username or the ID number, or `Email address` to the e-mail address, and
    the last column to the grade item. There is no column of feedback on purpose: importing one can
    overwrite grades. Who has no points has no line, since Moodle may take an empty cell for a grade
    to delete.
    """
    emails = {
        each.student: value
        for each in job.roster.values()
        for heading, value in each.columns.items()
        if compared_heading(heading) == "email" and value
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
            odd.append(student_label(mark))
        student, *mail = map(cell, ids)
        writer.writerow([student, cell(mark.name), *mail, number(points)])
        filled += 1
    messages = open_messages(job, job.marks, "so that there is no line")
    if odd:
        messages.append(f"an id begins like a formula and was escaped: {listed(odd)}")
    write_text(job.target, text.getvalue())
    return Exported(job.target, filled, messages)
