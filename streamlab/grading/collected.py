"""Who got which file, and why: the table of a collection, and what a report keeps of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from streamlab.grading.records import Student, marks_from_json
from streamlab.grading.task import GradingError
from streamlab.grading.text import cell, read_csv_text, write_text

COLLECTED = "collected.csv"
"""The table's name, in a class's folder and in a report."""

ANYBODY = "*"
"""In place of an id: any student of the roster."""

State = Literal["taken", "no program", "in doubt", "nothing", "left out"]
"""`no program`: it is a student's, and no program is in it. `in doubt`: whose it is, is open.
`nothing`: a student of the roster for whom nothing was found. `left out`: an earlier attempt, or
what the mapping says is nobody's."""


@dataclass(frozen=True)
class Row:
    """A line of the table: a file or folder, or a student for whom there is none."""

    state: State
    file: str
    student: str = ""
    name: str = ""
    program: str = ""
    """Which file in it was taken for which program."""
    why: str = ""
    """On what grounds it is the student's, what is in doubt, or why there is no program."""
    notes: str = ""
    """What else an instructor should know of it."""
    may_be: str = ""
    """In doubt: the ids of those whose it may be, one a line; `ANYBODY` for all others, too."""
    handed_in: str = ""
    """When, with its zone, as far as the platform or the file says it."""
    handed_in_from: str = ""
    """What says so."""
    said_late: str = ""
    """The platform that says it is late, and does not say when it came."""


def write_table(rows: Iterable[Row], path: Path) -> None:
    """Write the table as a CSV file for a spreadsheet; raises `ReportError` if it can't be."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow([each.name for each in fields(Row)])
    for row in rows:
        cells = {name: cell(str(text)) for name, text in asdict(row).items()}
        cells["may_be"] = "\n".join(map(cell, row.may_be.split("\n")))
        table.writerow(cells.values())
    write_text(path, "\ufeff" + text.getvalue())


def read_table(path: Path) -> list[Row]:
    """The rows that `write_table` wrote; none where there is no such file."""
    try:
        text = read_csv_text(path).text
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        found = [Row(**{key: _unescaped(str(value)) for key, value in row.items()}) for row in rows]  # type: ignore[arg-type]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise GradingError(f"{path} can't be read: {error}") from error
    if any(row.state not in get_args(State) for row in found):
        raise GradingError(f"{path} is no table that streamlab collect wrote")
    return found


def _unescaped(text: str) -> str:
    """A cell as it was before `cell` put an apostrophe in front of a line."""
    lines = text.split("\n")
    return "\n".join(
        line[1:] if line[:1] == "'" and cell(line[1:]) == line else line for line in lines
    )


def unclaimed(report: Path) -> list[str]:
    """The files of a report that belong to nobody yet, and may be anybody's."""
    rows = read_table(report / COLLECTED)
    return [
        row.file for row in rows if row.state == "in doubt" and ANYBODY in row.may_be.split("\n")
    ]


def check_report(report: Path, students: Sequence[Student]) -> None:
    """Raise `GradingError` where a report has marks of students whom a roster has not.

    A gradebook has the students of one roster: writing it for a part of the class would drop the
    others.
    """
    file = report / "marks.json"
    try:
        marks, _ = marks_from_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise GradingError(f"{file} can't be read: name another folder with --out") from error
    here = {each.student for each in students}
    gone = [mark.student for mark in marks if mark.student not in here]
    if gone:
        some = ", ".join(gone[:5]) + (f" and {len(gone) - 5} others" if len(gone) > 5 else "")
        raise GradingError(
            f"{report} has marks of {some}, whom the roster has not: grade with the roster of the "
            f"whole class, or name another folder with --out. If they have left the class, remove "
            f"{file}: no result is lost"
        )
