"""Marks for Canvas: a column of its gradebook's export."""

from __future__ import annotations

import re

from streamlab.grading.export.job import BridgeError, Exported, Job, listed
from streamlab.grading.export.matching import People, fill_column, given_first, other_maximum
from streamlab.grading.export.table import Table
from streamlab.grading.text import one_line
from streamlab.labs.manifest import Lab

# Canvas


def to_canvas(job: Job) -> Exported:
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
        return given_first(table.get(row, 0))

    def fixed(row: int) -> str:
        text = table.get(row, column).upper()
        return {"EX": "excused in Canvas", "N/A": "not assigned in Canvas"}.get(text, "")

    people = People(table, students, ("SIS Login ID", "SIS User ID", "ID"), name)
    filled, messages = fill_column(job, people, column, fixed)
    if maxima:
        messages += other_maximum(job, table.get(maximum, column), table.headings[column])
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
    there = listed(one_line(table.headings[place]) for place in assignments) or "none"
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
