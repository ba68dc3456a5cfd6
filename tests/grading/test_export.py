"""Marks that go to Canvas, Moodle, Gradescope and nbgrader, and come back as they were."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from streamlab.errors import StreamlabError
from streamlab.grading.export.formats import FORMATS, export
from streamlab.grading.export.job import BridgeError, Exported, Job
from streamlab.grading.records import Mark, MarkOutcome, Student
from streamlab.grading.text import file_name
from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult, Outcome

ROOT = Path(__file__).parents[2]
LAB = Lab(ROOT / "solutions" / "02_chunked_loop")
MOST = f"{LAB.points:g}"


def results(outcome: Outcome = "passed", **others: Outcome) -> tuple[CheckResult, ...]:
    """A result for each check; `others` by id."""
    made = []
    for check in LAB.checks:
        each = others.get(check.id, outcome)
        points = check.points if each == "passed" else 0
        cause = "whole_file" if each == "failed" else ""
        told = "<b>seen</b>\x1b[1m \x00 \u202e" if each != "passed" else ""
        made.append(
            CheckResult(LAB.name, check.id, check.kind, points, check.points, each, cause, told)
        )
    return tuple(made)


def mark(
    student: str, name: str = "", points: float = 0, outcome: MarkOutcome = "graded", **fields: Any
) -> Mark:
    """A student's mark."""
    return Mark(student, name, LAB.name, points, LAB.points, outcome, **fields)


def graded(student: str, name: str = "", **others: Outcome) -> Mark:
    """A mark with a result for each check."""
    made = results("passed", **others)
    return mark(student, name, sum(each.points for each in made), results=made)


OPEN = [
    mark("gone", "Gone Fishing", outcome="missing"),
    mark("zip", "Zip Damaged", outcome="could_not_run", detail="a damaged zip"),
    mark("broke", "Broke Check", 17, "grader_fault", results=results(wire="grader_fault")),
]
"""Outcomes that are no zero for the student."""


def read(path: Path, delimiter: str = ",") -> list[list[str]]:
    """A CSV file as the csv module reads it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter, strict=True))


def told(exported: Exported) -> str:
    """All messages of an export, each known to be one line."""
    assert not any("\n" in each or "\x1b" in each for each in exported.messages)
    return "\n".join(exported.messages)


# Canvas

CANVAS = """\
Student,ID,SIS User ID,SIS Login ID,Section,"Notes, private",Quiz 2 (880),\
A file server on bare sockets (881),\
Assignments Current Score,Final Score
,,,,,,,Manual Posting,,
    Points Possible,,,,,,10,20,(read only),(read only)
"Lovelace, Ada",501,u1,ada,S1,"a ""good"" one",9,,90.5,45
"Hopper, Grace",502,u2,ghopper@uni.example,S1,,7.5,3,75,37
"王, 小明",503,,xm,"S1, S2",,,EX,,
"Fishing, Gone",504,u4,gone,S2,,,11,,
"""


@pytest.fixture
def canvas(tmp_path: Path) -> Callable[..., tuple[list[list[str]], Exported]]:
    """Fill a Canvas export: what is read from the filled one, and what was said."""

    def fill(
        marks: list[Mark], template: str = CANVAS, delimiter: str = ",", **options: Any
    ) -> tuple[list[list[str]], Exported]:
        (tmp_path / "canvas.csv").write_text(template, encoding="utf-8", newline="")
        target = tmp_path / "filled.csv"
        exported = export("canvas", Job(LAB, marks, target, tmp_path / "canvas.csv", **options))
        return read(target, delimiter), exported

    return fill


Fill = Callable[..., tuple[list[list[str]], Exported]]


def test_canvas_gets_points_and_keeps_all_else(canvas: Fill, tmp_path: Path) -> None:
    """Only the cells of students with points change, found by login, by SIS id and by id."""
    marks = [graded("ada", "Ada Lovelace", short="failed"), graded("u2", "Grace Hopper")]
    rows, exported = canvas(marks)
    before = read(tmp_path / "canvas.csv")
    changed = {
        (row, column): cell
        for row, cells in enumerate(rows)
        for column, cell in enumerate(cells)
        if before[row][column] != cell
    }
    assert changed == {(3, 7): "19", (4, 7): "20"}
    assert list(map(len, rows)) == list(map(len, before))
    assert exported.filled == 2
    assert "replaced: u2 (Grace Hopper), 3 by 20" in told(exported)
    assert "without a mark: Gone Fishing; 小明 王" in told(exported)


def test_canvas_reads_what_it_wrote_as_its_importer_would(canvas: Fill) -> None:
    """The rules of gradebook_importer.rb: headings, the line of maxima, points by id."""
    rows, _ = canvas([graded("ada"), graded("502")])
    header, *below = rows
    assert "Student" in header[0] and "ID" in header[1] and header[4] == "Section"
    (column,) = [n for n, each in enumerate(header) if re.search(r"\(881\)$", each)]
    students = [
        row
        for row in below
        if "Points Possible" not in row[0]
        and not all(re.fullmatch(r"\s*(Muted|Manual Posting.*)?\s*", each) for each in row)
    ]
    scores = {row[1]: row[column] for row in students}
    assert scores == {"501": "20", "502": "20", "503": "EX", "504": "11"}


def test_canvas_keeps_what_is_nobodys_zero(canvas: Fill) -> None:
    """No cell is emptied, and a grade given by hand stays; the messages name the students."""
    template = CANVAS + '"Damaged, Zip",505,u5,zip,,,,4,,\n"Check, Broke",506,u6,broke,,,,,,\n'
    rows, exported = canvas([graded("ada"), *OPEN], template)
    assert [row[7] for row in rows[6:]] == ["11", "4", ""]
    assert exported.filled == 1
    assert "a check broke, so that the cell stays as it was: broke (Broke Check)" in told(exported)
    assert "can't be read, so that the cell stays as it was: zip (Zip Damaged)" in told(exported)
    assert "nothing handed in, so that the cell stays" in told(exported)


def test_zero_for_missing_on_request(canvas: Fill) -> None:
    """An option makes missing work a zero; the other two outcomes have no such option."""
    rows, exported = canvas([graded("ada"), *OPEN], zero_for_missing=True)
    assert rows[6][7] == "0" and exported.filled == 2
    assert "gone (Gone Fishing), 11 by 0" in told(exported)


def test_canvas_excused_and_not_assigned_stay(canvas: Fill) -> None:
    """What the instructor entered in Canvas takes precedence over a mark."""
    rows, exported = canvas(
        [graded("xm", "小明 王"), graded("ada")], CANVAS.replace(",3,", ",N/A,")
    )
    assert rows[5][7] == "EX"
    assert "xm (小明 王), excused in Canvas, would have 20 points" in told(exported)
    rows, exported = canvas([graded("u2"), graded("ada")], CANVAS.replace(",3,", ",N/A,"))
    assert rows[4][7] == "N/A" and "not assigned in Canvas" in told(exported)


def test_nobody_is_dropped_in_silence(canvas: Fill) -> None:
    """A student on one side only is named, with the points that are not transferred."""
    _, exported = canvas([graded("ada"), graded("new", "New Student", short="failed")])
    assert "not in canvas.csv: new (New Student), 19 points" in told(exported)
    assert "in canvas.csv, but without a mark: Gone Fishing; Grace Hopper; 小明 王" in told(
        exported
    )


def test_a_class_that_nobody_knows_is_an_error(canvas: Fill, tmp_path: Path) -> None:
    """If no student matches, the export is that of another course, and nothing is written."""
    with pytest.raises(BridgeError, match=r"nobody in .* has a mark"):
        canvas([graded("zoe", "Zoe")])
    assert not (tmp_path / "filled.csv").exists()


def test_a_student_found_by_name_alone_is_to_be_checked(canvas: Fill) -> None:
    """A match by name alone transfers the points, with a message that says so."""
    rows, exported = canvas([graded("99", "ada  LOVELACE")])
    assert rows[3][7] == "20"
    assert "99 (ada LOVELACE) was found by the name alone" in told(exported)


def test_an_id_that_is_somebody_elses(canvas: Fill) -> None:
    """An id that matches with a quite different name is reported."""
    _, exported = canvas([graded("502", "Zoe Zuse")])
    assert "502 (Zoe Zuse) was found by ID, but is called Grace Hopper there" in told(exported)


def test_the_surer_id_goes_first(canvas: Fill) -> None:
    """A login takes precedence over another student's number, whatever the order of the marks."""
    template = CANVAS.replace(",u1,ada,", ",u1,502,")
    for marks in ([graded("502"), graded("u2")], [graded("u2"), graded("502")]):
        rows, exported = canvas(marks, template)
        assert (rows[3][7], rows[4][7]) == ("20", "20") and exported.filled == 2


def test_whom_two_lines_fit_gets_nothing(canvas: Fill) -> None:
    """Two lines of one name, or two marks for one line: nothing is guessed."""
    twin = '"Lovelace, Ada",601,u9,ada2,S1,,,,,\n'
    rows, exported = canvas([graded("x", "Ada Lovelace"), graded("u2")], CANVAS + twin)
    assert rows[3][7] == rows[-1][7] == ""
    assert "x (Ada Lovelace) could be several by name: Ada Lovelace; Ada Lovelace" in told(exported)
    marks = [graded("x", "Ada Lovelace"), graded("y", "Ada Lovelace"), graded("u2")]
    rows, exported = canvas(marks)
    assert rows[3][7] == ""
    assert "Ada Lovelace could be several by name: x (Ada Lovelace); y" in told(exported)


def test_what_stands_before_the_at(canvas: Fill) -> None:
    """A login that is an e-mail address fits the id before the @."""
    rows, exported = canvas([graded("GHopper"), graded("ada")])
    assert rows[4][7] == "20" and exported.filled == 2


def test_a_column_of_the_roster_finds_students(canvas: Fill) -> None:
    """A roster that has Canvas' own ids under Canvas' heading."""
    students = [Student("m1", "", {"SIS Login ID": "ADA"}), Student("m2", "", {"Group": "502"})]
    rows, exported = canvas([graded("m1"), graded("m2")], students=students)
    assert rows[3][7] == "20" and rows[4][7] == "3"
    assert "not in canvas.csv: m2, 20 points" in told(exported)


@pytest.mark.parametrize(
    "heading",
    [
        "Lab 02 (881)",
        "lab 2 (881)",
        "02_chunked_loop (881)",
        "LAB 02: A file server on bare sockets (881)",
    ],
)
def test_an_assignment_is_known_by_its_name(canvas: Fill, heading: str) -> None:
    """The lab's number, title or folder."""
    rows, _ = canvas(
        [graded("ada")], CANVAS.replace("A file server on bare sockets (881)", heading)
    )
    assert rows[0][7] == heading and rows[3][7] == "20"


@pytest.mark.parametrize("column", ["881", "Homework (881)", "Homework"])
def test_an_assignment_is_named(canvas: Fill, column: str) -> None:
    """An option names the assignment by its number, its name, or both."""
    template = CANVAS.replace("A file server on bare sockets (881)", "Homework (881)")
    with pytest.raises(BridgeError, match=r"no assignment is called like lab 02.*Homework \(881\)"):
        canvas([graded("ada")], template)
    rows, _ = canvas([graded("ada")], template, column=column)
    assert rows[3][7] == "20"


@pytest.mark.parametrize("column", ["88", "Final Score", "nothing"])
def test_no_other_column_is_filled(canvas: Fill, column: str) -> None:
    """A total, or a column with a similar name, is not filled."""
    with pytest.raises(BridgeError, match="no assignment is called"):
        canvas([graded("ada")], column=column)


def test_two_assignments_of_a_name_are_no_guess(canvas: Fill) -> None:
    """A quiz on lab 02 is another assignment; two assignments "lab 02" need a number."""
    with pytest.raises(BridgeError, match="several assignments are called like lab 02"):
        canvas([graded("ada")], CANVAS.replace("Quiz 2 (880)", "Lab 2 (880)"))
    rows, _ = canvas([graded("ada")], CANVAS.replace("Quiz 2 (880)", "Lab 02 quiz (880)"))
    assert rows[3][6] == "9"


def test_another_maximum_is_told(canvas: Fill) -> None:
    """Points are never scaled without a message."""
    _, exported = canvas([graded("ada")], CANVAS.replace(",10,20,", ",10,100,"))
    assert f"has a maximum of 100, lab 02 has {MOST}" in told(exported)
    _, exported = canvas([graded("ada")])
    assert "maximum" not in told(exported)


def test_canvas_in_other_forms(canvas: Fill, tmp_path: Path) -> None:
    """Semicolons, CR LF, a byte order mark, first and last names apart: as read, so written."""
    template = (
        "\ufeffLastName;FirstName;ID;SIS Login ID;Section;Lab 02 (881)\r\n"
        "    Points Possible;;;;;20,0\r\n"
        "Lovelace;Ada;501;ada;S1;\r\n"
        "van Rossum;Guido;502;;S1;1,5\r\n"
    )
    marks = [graded("ada"), graded("x", "Guido van Rossum", short="failed")]
    rows, exported = canvas(marks, template, delimiter=";")
    data = (tmp_path / "filled.csv").read_bytes()
    assert data.startswith("\ufeffLastName;".encode()) and data.count(b"\r\n") == 4
    assert [row[5] for row in rows] == ["Lab 02 (881)", "20,0", "20", "19"]
    assert "maximum" not in told(exported) and "found by the name alone" in told(exported)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"Name,Mail\nAda,a@b\n", "no export of Canvas"),
        (b'Student,ID,"x\n', "no CSV file"),
        ("Student,ID,Müller\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_template_that_is_none(tmp_path: Path, content: bytes, words: str) -> None:
    """A file that is no template gets one line that says why."""
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(BridgeError, match=words):
        export("canvas", Job(LAB, [graded("ada")], tmp_path / "out.csv", tmp_path / "t.csv"))
    with pytest.raises(BridgeError, match="can't be read"):
        export("canvas", Job(LAB, [graded("ada")], tmp_path / "out.csv", tmp_path / "none.csv"))


def test_a_name_in_a_template_can_not_write_on_the_terminal(canvas: Fill) -> None:
    """Messages are clean, whatever stands in the other system; the file keeps what it had."""
    rows, exported = canvas([graded("ada")], CANVAS.replace("Fishing, Gone", "F\x1b[31m, G\u202e"))
    assert "G F" in told(exported)
    assert rows[6][0] == "F\x1b[31m, G\u202e"


# Moodle

MOODLE = """\
Identifier,Full name,ID number,Email address,Status,Grade,Maximum Grade,Grade can be changed,\
Last modified (submission),Last modified (grade),Feedback comments
Participant 71,Ada Lovelace,1001,ada@uni.example,Submitted for grading,,20.00,Yes,\
"Friday, 2 October 2026, 9:00 PM",-,
Participant 72,Grace Hopper,1002,grace@uni.example,Submitted for grading,5.00,20.00,Yes,-,-,\
"Well done, see me"
Participant 73,Gone Fishing,1003,gone@uni.example,No submission,,20.00,Yes,-,-,
Participant 74,Locked In,1004,locked@uni.example,Submitted,,20.00,No,-,-,
"""


@pytest.fixture
def moodle(tmp_path: Path) -> Fill:
    """Fill a grading worksheet: what is read from the filled one, and what was said."""

    def fill(
        marks: list[Mark], template: str = MOODLE, **options: Any
    ) -> tuple[list[list[str]], Exported]:
        (tmp_path / "moodle.csv").write_text(template, encoding="utf-8", newline="")
        target = tmp_path / "filled.csv"
        exported = export("moodle", Job(LAB, marks, target, tmp_path / "moodle.csv", **options))
        return read(target), exported

    return fill


def test_moodle_gets_grades_and_comments(moodle: Fill, tmp_path: Path) -> None:
    """Students match by ID number, e-mail address or identifier; dates and all else stay."""
    marks = [graded("1001", huge="failed"), graded("grace"), mark("73", outcome="missing")]
    rows, exported = moodle(marks)
    before = read(tmp_path / "moodle.csv")
    assert [row[5] for row in rows] == ["Grade", "17", "20", "", ""]
    for column in (0, 1, 2, 3, 4, 6, 7, 8, 9):
        assert [row[column] for row in rows] == [row[column] for row in before]
    comment = rows[1][10]
    assert comment.startswith("Lab 02, A file server on bare sockets: 17 of 20 points.<br>")
    assert "Larger than memory: failed, 0 of 3. The server ran out of memory" in comment
    assert exported.filled == 2


def test_a_comment_of_a_person_is_kept_and_one_of_ours_is_not(moodle: Fill) -> None:
    """A second export replaces what the first one wrote."""
    rows, exported = moodle([graded("1002"), graded("1001", huge="failed")])
    assert rows[2][10] == "Well done, see me"
    assert "a comment stood there, and was kept: 1002" in told(exported)
    again = MOODLE.replace('9:00 PM",-,', f'9:00 PM",-,"<p>{rows[1][10]}</p>"')
    rows, exported = moodle([graded("1001")], again)
    assert "20 of 20 points" in rows[1][10] and "17 of 20" not in rows[1][10]
    assert "kept" not in told(exported)


def test_a_comment_has_nothing_that_a_program_wrote(moodle: Fill) -> None:
    """Moodle shows it as HTML, so evidence stays out of it, and the rest is escaped."""
    rows, _ = moodle([graded("1001", huge="failed", wire="could_not_run")])
    assert "seen" not in rows[1][10]
    assert set(re.findall(r"<[^>]*>", rows[1][10])) == {"<br>"}


def test_moodle_keeps_what_is_locked(moodle: Fill) -> None:
    """A locked grade is not changed, and a message says so."""
    rows, exported = moodle([graded("1004", "Locked In"), graded("1001")])
    assert rows[4][5] == "" and rows[4][10] == ""
    assert "1004 (Locked In), locked in Moodle, would have 20 points" in told(exported)


def test_moodle_with_an_address_on_the_roster(moodle: Fill) -> None:
    """The address matches, whatever name its column has in the roster."""
    students = [Student("x1", "", {"E-Mail": "Ada@uni.example"})]
    rows, _ = moodle([graded("x1")], students=students)
    assert rows[1][5] == "20"


def test_moodle_maximum_and_language(moodle: Fill) -> None:
    """A grade above the maximum would be passed over; other headings can't be read."""
    _, exported = moodle([graded("1001")], MOODLE.replace("20.00", "10.00"))
    assert "has a maximum of 10, lab 02 has 20" in told(exported)
    with pytest.raises(BridgeError, match="English"):
        moodle([graded("1001")], MOODLE.replace("Grade,", "Bewertung,"))


def test_moodle_without_comments(moodle: Fill) -> None:
    """An assignment may have no feedback comments."""
    template = "\n".join(line.rpartition(",")[0] for line in MOODLE.splitlines()) + "\n"
    rows, exported = moodle([graded("1001")], template.replace('"Well done', ""))
    assert rows[1][5] == "20" and exported.filled == 1


def test_a_table_for_moodles_gradebook(tmp_path: Path) -> None:
    """A line for each student with points, an id and an address to map; no formulas."""
    students = [Student("ada", "Ada", {"mail": "ada@uni.example"}), Student("=x", "X", {})]
    marks = [graded("ada", "Ada"), graded("=x", "=cmd()", huge="failed"), *OPEN]
    exported = export("moodle-gradebook", Job(LAB, marks, tmp_path / "m.csv", students=students))
    assert read(tmp_path / "m.csv") == [
        ["Student", "Full name", "Email address", "Lab 02: A file server on bare sockets"],
        ["ada", "Ada", "ada@uni.example", "20"],
        ["'=x", "'=cmd()", "", "17"],
    ]
    assert exported.filled == 2
    assert "an id begins like a formula and was escaped: =x" in told(exported)
    assert "a check broke, so that there is no line: broke" in told(exported)
    export("moodle-gradebook", Job(LAB, marks, tmp_path / "m.csv", zero_for_missing=True))
    assert ["gone", "Gone Fishing", "0"] in read(tmp_path / "m.csv")


# Gradescope

_FORMATS = {"enum": ["text", "html", "simple_format", "md", "ansi"]}
_VISIBILITY = {"enum": ["hidden", "after_due_date", "after_published", "visible"]}
_NUMBER = {"type": "number", "minimum": 0}
_TEXT = {"type": "string"}
GRADESCOPE = {
    "type": "object",
    "properties": {
        "score": _NUMBER,
        "execution_time": _NUMBER,
        "output": _TEXT,
        "output_format": _FORMATS,
        "test_output_format": _FORMATS,
        "test_name_format": _FORMATS,
        "visibility": _VISIBILITY,
        "stdout_visibility": _VISIBILITY,
        "extra_data": {"type": "object"},
        "tests": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "score": _NUMBER,
                    "max_score": _NUMBER,
                    "status": {"enum": ["passed", "failed"]},
                    "name": _TEXT,
                    "name_format": _FORMATS,
                    "number": _TEXT,
                    "output": _TEXT,
                    "output_format": _FORMATS,
                    "tags": {"type": "array", "items": _TEXT},
                    "visibility": _VISIBILITY,
                    "extra_data": {"type": "object"},
                },
                "additionalProperties": False,
            },
        },
        "leaderboard": {"type": "array"},
    },
    "anyOf": [{"required": ["score"]}, {"required": ["tests"]}],
    "additionalProperties": False,
}
"""What the specification lists ("Autograder Specifications", "Output format")."""


def test_gradescope_gets_a_file_a_student(tmp_path: Path) -> None:
    """Files have the specified form: score, tests, texts. A student without points has no file."""
    odd = "A/../B"
    marks = [graded("ada", huge="failed", wire="could_not_run"), graded(odd), *OPEN]
    stub = mark("stub", outcome="not_attempted", results=results("not_attempted"))
    exported = export("gradescope", Job(LAB, [*marks, stub], tmp_path / "out"))
    files = {path.parent.name: path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert set(files) == {"ada", file_name(odd), "stub"} and exported.filled == 3
    read_back = {name: json.loads(path.read_text("utf-8")) for name, path in files.items()}
    for each in read_back.values():
        jsonschema.validate(each, GRADESCOPE)
        assert each["score"] == sum(test["score"] for test in each["tests"])
        assert len(each["tests"]) == len(LAB.checks)
    ada = read_back["ada"]
    assert ada["score"] == 14 and [test["score"] for test in ada["tests"]] == [
        3,
        0,
        2,
        1,
        2,
        3,
        0,
        2,
        1,
    ]
    assert [test["status"] for test in ada["tests"]].count("failed") == 2
    assert sum(test["max_score"] for test in ada["tests"]) == LAB.points
    assert "ran out of memory" in ada["tests"][1]["output"]
    assert "a check broke, so that there is no results.json: broke" in told(exported)


def test_gradescope_gets_no_hidden_text(tmp_path: Path) -> None:
    """Escape codes and controls are gone, and the format says that it is no markup."""
    export("gradescope", Job(LAB, [graded("ada", huge="failed")], tmp_path))
    test = json.loads((tmp_path / "ada/results.json").read_text("utf-8"))["tests"][1]
    assert test["output"].startswith("<b>seen</b> \u2400 [U+202E]")
    assert test["output_format"] == "text"


def test_gradescope_forgets_an_earlier_score(tmp_path: Path) -> None:
    """A check that broke in a second run leaves no file of the first."""
    export("gradescope", Job(LAB, [graded("ada"), graded("b")], tmp_path))
    export("gradescope", Job(LAB, [mark("ada", outcome="grader_fault"), graded("b")], tmp_path))
    assert [path.parent.name for path in tmp_path.rglob("results.json")] == ["b"]


@pytest.mark.parametrize(
    "wrong", [{}, {"score": "3"}, {"score": 1, "max_score": 2}, {"tests": [{"status": "ok"}]}]
)
def test_the_schema_sees_what_is_wrong(wrong: dict[str, Any]) -> None:
    """The schema refuses wrong files."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, GRADESCOPE)


# nbgrader


class MissingEntry(ValueError):
    """As in nbgrader.api."""


class Grade:
    """As in nbgrader.api: a cell's score, the one given by hand going first."""

    def __init__(self) -> None:
        self.auto_score: float | None = None
        self.manual_score: float | None = None
        self.needs_manual_grade = True


class Gradebook:
    """The part of `nbgrader.api.Gradebook` that is used, kept in memory by address.

    The real one takes ten seconds of CPU to be imported and to make a database, and would add its
    extensions to JupyterLab; `test_the_real_nbgrader` runs with it.
    """

    kept: dict[str, dict[str, Any]] = {}  # noqa: RUF012

    def __init__(self, db_url: str) -> None:
        empty: dict[str, Any] = {"students": {}, "cells": {}, "grades": {}, "commits": 0}
        self.data = self.kept.setdefault(db_url, empty)
        self.db = self

    def __enter__(self) -> Gradebook:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def commit(self) -> None:
        self.data["commits"] += 1

    @property
    def students(self) -> list[types.SimpleNamespace]:
        return [types.SimpleNamespace(id=each) for each in self.data["students"]]

    def update_or_create_student(self, student_id: str, **names: str) -> None:
        self.data["students"].setdefault(student_id, {}).update(names)

    def update_or_create_assignment(self, name: str) -> None:
        self.data["cells"].setdefault(name, {})

    def update_or_create_notebook(self, name: str, assignment: str) -> None:
        self.data["cells"][assignment].setdefault(name, {})

    def update_or_create_grade_cell(
        self, name: str, notebook: str, assignment: str, *, max_score: float, cell_type: str
    ) -> None:
        assert cell_type == "code"
        self.data["cells"][assignment][notebook][name] = max_score

    def update_or_create_submission(self, assignment: str, student: str) -> None:
        assert student in self.data["students"]
        cells = self.data["cells"][assignment]
        grades = {(notebook, cell): Grade() for notebook in cells for cell in cells[notebook]}
        self.data["grades"].setdefault((assignment, student), grades)

    def find_grade(self, cell: str, notebook: str, assignment: str, student: str) -> Grade:
        try:
            found: Grade = self.data["grades"][assignment, student][notebook, cell]
        except KeyError as error:
            raise MissingEntry(f"No such grade: {assignment}/{notebook}/{cell}") from error
        return found


@pytest.fixture
def nbgrader(monkeypatch: pytest.MonkeyPatch) -> type[Gradebook]:
    """A stand-in for the package nbgrader."""
    api = types.ModuleType("nbgrader.api")
    api.__dict__.update(Gradebook=Gradebook, MissingEntry=MissingEntry)
    monkeypatch.setitem(sys.modules, "nbgrader", types.ModuleType("nbgrader"))
    monkeypatch.setitem(sys.modules, "nbgrader.api", api)
    monkeypatch.setattr(Gradebook, "kept", {})
    return Gradebook


CLASS = [
    graded("ada", "Lovelace, Ada", huge="failed"),
    mark("stub", outcome="not_attempted", results=results("not_attempted")),
    *OPEN,
]


def test_nbgrader_gets_the_score_of_each_check(nbgrader: type[Gradebook], tmp_path: Path) -> None:
    """A broken check needs grading by hand; for nothing handed in there is no submission."""
    exported = export("nbgrader", Job(LAB, CLASS, tmp_path / "gradebook.db"))
    (data,) = nbgrader.kept.values()
    assert data["cells"] == {LAB.name: {"checks": {each.id: each.points for each in LAB.checks}}}
    scores = {
        student: {cell: each.auto_score for (_, cell), each in grades.items()}
        for (_, student), grades in data["grades"].items()
    }
    assert set(scores) == {"ada", "stub", "zip", "broke"}
    assert scores["ada"] == {
        each.id: 0 if each.id == "huge" else each.points for each in LAB.checks
    }
    assert set(scores["stub"].values()) == {0} and set(scores["zip"].values()) == {None}
    assert scores["broke"]["wire"] is None and scores["broke"]["bytes"] == 3
    by_hand = [
        (student, cell)
        for (_, student), grades in data["grades"].items()
        for (_, cell), each in grades.items()
        if each.needs_manual_grade
    ]
    assert by_hand == [*(("zip", each.id) for each in LAB.checks), ("broke", "wire")]
    assert data["students"]["ada"] == {"first_name": "Ada", "last_name": "Lovelace"}
    assert exported.filled == 2 and data["commits"] == 1
    for words in (
        "added to the gradebook: ada",
        "nothing handed in",
        "a check broke",
        "can't be read",
    ):
        assert words in told(exported)


def test_nbgrader_keeps_what_a_person_entered(nbgrader: type[Gradebook], tmp_path: Path) -> None:
    """Names and scores by hand stay; a second export replaces the automatic scores."""
    book = nbgrader(f"sqlite:///{tmp_path.resolve()}/gradebook.db")
    book.update_or_create_student("ada", first_name="A.", last_name="L.")
    book.update_or_create_student("other")
    export("nbgrader", Job(LAB, CLASS, tmp_path / "gradebook.db"))
    grade = book.find_grade("huge", "checks", LAB.name, "ada")
    grade.manual_score = 2.0
    exported = export("nbgrader", Job(LAB, [graded("ada")], tmp_path / "gradebook.db"))
    assert (grade.auto_score, grade.manual_score) == (3, 2.0)
    assert book.data["students"]["ada"] == {"first_name": "A.", "last_name": "L."}
    assert "in the gradebook, but without a mark: broke; other; stub; zip" in told(exported)


def test_nbgrader_with_checks_of_an_older_lab(nbgrader: type[Gradebook], tmp_path: Path) -> None:
    """A submission from before a check was added says what to do."""
    book = nbgrader(f"sqlite:///{tmp_path.resolve()}/gradebook.db")
    book.update_or_create_student("ada")
    book.update_or_create_assignment(LAB.name)
    book.update_or_create_submission(LAB.name, "ada")
    with pytest.raises(BridgeError, match="other checks: remove the assignment"):
        export("nbgrader", Job(LAB, CLASS, tmp_path / "gradebook.db"))


def test_nbgraders_troubles_are_one_line(
    nbgrader: type[Gradebook], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each error of the database becomes one line."""

    def broken(*_: object) -> None:
        raise RuntimeError("file is not a database\n[SQL: ...]")

    monkeypatch.setattr(nbgrader, "commit", broken)
    before = os.environ["PATH"]
    with pytest.raises(BridgeError, match=r"can't be written: file is not a database$"):
        export("nbgrader", Job(LAB, CLASS, tmp_path / "gradebook.db"))
    assert os.environ["PATH"] == before


def test_without_nbgrader_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is one line, and other exports do not need nbgrader."""
    monkeypatch.setitem(sys.modules, "nbgrader", None)
    with pytest.raises(
        BridgeError, match=r"not installed here: run  pip install -e '\.\[nbgrader\]'"
    ):
        export("nbgrader", Job(LAB, CLASS, tmp_path / "gradebook.db"))


REAL = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_export import CLASS, LAB, Job, export, graded
from nbgrader.api import Gradebook, MissingEntry
file = Path(sys.argv[1])
exported = export("nbgrader", Job(LAB, CLASS, file))
again = export("nbgrader", Job(LAB, [graded("ada")], file))
with Gradebook(f"sqlite:///{file}") as book:
    for student in ("ada", "stub", "zip", "broke"):
        one = book.find_submission(LAB.name, student)
        print(student, one.score, one.max_score, one.needs_manual_grade)
    try:
        book.find_submission(LAB.name, "gone")
    except MissingEntry:
        print("gone")
"""


@pytest.mark.soak
def test_the_real_nbgrader(tmp_path: Path) -> None:
    """It runs in an environment of its own, because it would add its extensions to JupyterLab."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    wanted = ["nbgrader", "pytest", "psutil", "requests", "jsonschema"]
    subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    command: list[str | Path] = [
        python,
        "-c",
        REAL,
        tmp_path / "new" / "gradebook.db",
        ROOT,
        ROOT / "tests" / "grading",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "ada 20.0 20.0 False",
        "stub 0.0 20.0 False",
        "zip 0.0 20.0 True",
        "broke 17.0 20.0 True",
        "gone",
    ]


# All of them


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_says_what_it_needs(fmt: str, tmp_path: Path) -> None:
    """A missing or a needless template, and a needless column, are told before anything is done."""
    known = FORMATS[fmt]
    assert known.title and known.writes
    template = tmp_path / "t.csv"
    if known.template:
        with pytest.raises(BridgeError, match=f"{fmt} needs a template: "):
            export(fmt, Job(LAB, CLASS, tmp_path / "out"))
    else:
        with pytest.raises(BridgeError, match=f"{fmt} takes no template"):
            export(fmt, Job(LAB, CLASS, tmp_path / "out", template))
    if not known.has_columns:
        with pytest.raises(BridgeError, match="no column to choose"):
            export(
                fmt,
                Job(LAB, CLASS, tmp_path / "out", template if known.template else None, column="x"),
            )
    with pytest.raises(BridgeError, match="no marks"):
        export(fmt, Job(LAB, [], tmp_path / "out", template if known.template else None))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    """An error of this library, in one line."""
    with pytest.raises(
        StreamlabError, match="there is no format no-such-gradebook: there are canvas, "
    ):
        export("no-such-gradebook", Job(LAB, CLASS, tmp_path / "out"))


def test_a_mark_that_two_exports_share_has_the_same_points() -> None:
    """Both formats follow one rule: a mark without a check's result is no zero."""
    job = Job(LAB, CLASS, Path("out"))
    assert [job.points(each) for each in CLASS] == [17, 0, None, None, None]
