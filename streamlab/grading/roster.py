"""The roster of a class, in the forms that learning platforms export."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamlab.grading.names import letters
from streamlab.grading.records import Student
from streamlab.grading.task import GradingError

_FIRST = ("firstname", "givenname", "vorname", "pr\u00e9nom", "nombre")
_LAST = ("lastname", "surname", "familyname", "nachname", "nom", "apellidos")
_NAME = ("name", "fullname", "studentname", "displayname")
_EMAIL = ("emailaddress", "email", "mail", "emailadresse")
_ANY_ID = (
    *("sisloginid", "sisuserid"),
    *("student", "username", "login", "loginid", "userid", "netid", "studentid", "sid"),
    *("studentnumber", "matrikelnummer", "idnumber", "idnummer", "id", *_EMAIL, "identifier"),
)


@dataclass(frozen=True)
class _Kind:
    """A form of rosters: the headings it is known by, and which of them are ids, best first.

    Headings are compared by their letters alone.
    """

    title: str
    needs: frozenset[str]
    ids: tuple[str, ...]
    first: tuple[str, ...] = ()
    """What the first heading may be, if that tells."""
    names: tuple[str, ...] = _NAME


_KINDS = (
    # lib/gradebook_exporter.rb in canvas-lms; the SIS columns are there for some users only.
    _Kind(
        "Canvas",
        frozenset({"id", "section"}),
        ("sisloginid", "sisuserid", "id"),
        ("student", "lastname"),
        ("student", *_NAME),
    ),
    # mod/assign/gradingtable.php in Moodle: the grading worksheet
    _Kind(
        "Moodle",
        frozenset({"identifier", "fullname"}),
        ("username", "idnumber", *_EMAIL, "identifier"),
    ),
    # Download Roster, or Download Grades
    _Kind("Gradescope", frozenset({"sid", "email"}), ("sid", "email")),
    # The roster, and the grades of an assignment
    _Kind(
        "GitHub Classroom",
        frozenset({"identifier", "githubusername"}),
        ("identifier", "githubusername"),
    ),
    _Kind(
        "GitHub Classroom",
        frozenset({"rosteridentifier", "githubusername"}),
        ("rosteridentifier", "githubusername"),
    ),
    # Full Grade Center, Work Offline, Download
    _Kind(
        "Blackboard",
        frozenset({"username", "studentid", "lastname", "firstname"}),
        ("username", "studentid"),
    ),
    # `nbgrader export`, which has a line for each assignment of a student
    _Kind("nbgrader", frozenset({"studentid", "assignment"}), ("studentid",)),
)
_ANY_KIND = _Kind("", frozenset(), _ANY_ID)

CANVAS_HEADINGS = frozenset({"id", "section"})
"""Below these two headings together, an `ID` is Canvas' own number of a user."""

_STAFF = {"instructor", "ta", "reader", "teacher", "noneditingteacher", "editingteacher", "manager"}
"""What a column of roles says of people who are no students, in Gradescope and Moodle."""


def read_roster(path: Path) -> list[Student]:
    """The students of a roster: a CSV file with a heading line, one of its columns an id.

    What Canvas, Moodle, Gradescope, GitHub Classroom, Blackboard and nbgrader export is known by
    its headings. Of any other file the id's heading is `student`, `username`, `login`,
    `student id`, `id`, `e-mail` and the like; a column `name`, or two of first and last name, are
    the student's name. UTF-8 or UTF-16; commas, semicolons or tabs part the columns, which a line
    `sep=;` may say. Columns without a heading are passed over. Raises `GradingError` where that is
    not so, or where two lines have the same id.
    """
    rows, numbers = _rows(path)
    if not rows:
        raise GradingError(f"{path} {_NO_ID}")
    headings = [heading.strip() for heading in rows[0]]
    keys = ["" if re.match(r"Unnamed: \d", each) else letters(each) for each in headings]
    kind = _kind_of(keys)
    below = zip(numbers[1:], rows[1:], strict=True)
    lines = [_Line(number, keys, headings, row) for number, row in below]
    lines = [line for line in lines if line.text and not _is_nobody(line, kind)]
    ids = _ids(kind, lines, keys)
    if not ids:
        raise GradingError(f"{path} {_NO_ID}")
    if not lines:
        raise GradingError(f"{path} has no students below its headings")
    named = tuple(each for each in kind.names if each not in ids[:1])
    if kind is _ANY_KIND and ids[0] != "student":
        named = (*named, "student")
    students: dict[str, Student] = {}
    for line in lines:
        who = next((value for each in ids if (value := line.cells.get(each, ""))), "")
        if not who:
            raise GradingError(f"{path}, line {line.number}: there is no id in it")
        name = _name(line.cells, named)
        if not name and kind.title == "GitHub Classroom" and re.search(r"[^\W\d_]\W+[^\W\d_]", who):
            name = "" if "@" in who else who
        student = Student(who, name, line.columns)
        if who in students:
            if kind.title == "nbgrader" and students[who].name == name:
                continue
            raise GradingError(f"{path}, line {line.number}: {who} stands in the roster twice")
        students[who] = student
    return list(students.values())


_NO_ID = "has no column 'student' with an id for each student, below a heading line"


class _Line:
    """A line of a roster."""

    def __init__(self, number: int, keys: list[str], headings: list[str], row: list[str]) -> None:
        self.number = number
        self.cells: dict[str, str] = {}
        self.columns: dict[str, str] = {}
        for key, heading, cell in zip(keys, headings, row, strict=False):
            if key and key not in self.cells:
                self.cells[key] = cell.strip()
                self.columns[heading] = cell.strip()

    @property
    def text(self) -> str:
        return "".join(self.cells.values())


def _rows(path: Path) -> tuple[list[list[str]], list[int]]:
    """The rows of a CSV file that have any text, and the lines that they end at."""
    text = _text(path)
    if found := re.match(r"sep=(.)\r?\n", text):  # a line for Excel
        delimiter, text = found[1], text[found.end() :]
    else:
        heading = re.sub(r'"[^"\n]*"', "", text.lstrip("\r\n").partition("\n")[0])
        delimiter = max(",;\t", key=heading.count)
    before = 1 if found else 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows, numbers = [], []
    try:
        for row in reader:
            if any(map(str.strip, row)):
                rows.append(row)
                numbers.append(reader.line_num + before)
    except csv.Error as error:
        raise GradingError(f"{path} is no CSV file: {error}") from error
    return rows, numbers


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GradingError(f"the roster can't be read: {error}") from error
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as Blackboard's .xls
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise GradingError(f"{path} is not UTF-8: save it as 'CSV UTF-8'") from error
    if "\0" in text:
        raise GradingError(f"{path} is not UTF-8: save it as 'CSV UTF-8'")
    return text


def _kind_of(keys: list[str]) -> _Kind:
    named = [key for key in keys if key]
    for kind in _KINDS:
        if kind.needs <= set(named) and (not kind.first or named[0] in kind.first):
            return kind
    return _ANY_KIND


def _is_nobody(line: _Line, kind: _Kind) -> bool:
    """Whether a line is no student's: points possible, a preview user, a teacher."""
    cells = line.cells
    if kind.title == "Canvas":
        begins = cells.get("student", cells.get("lastname", ""))
        name = _name(cells, kind.names)
        return (
            "Points Possible" in begins
            or name in ("Student, Test", "Test Student")
            or not (begins or any(cells.get(each) for each in kind.ids))  # `Manual Posting`
        )
    if kind.title == "Blackboard":
        return cells.get("username", "").endswith("_previewuser")
    roles = cells.get("role") or cells.get("roles") or ""
    words = {letters(each) for each in roles.split(",")} - {""}
    return bool(words) and words <= _STAFF


def _ids(kind: _Kind, lines: list[_Line], keys: list[str]) -> list[str]:
    """The headings to look for an id under, in that order.

    The best one that at least half of the students have something under comes first. In a roster of
    no known kind it is one heading alone: `student`, unless its column has names and another one is
    an id; else the best that all students have something under.
    """
    there = [each for each in kind.ids if each in keys]
    filled = {each: sum(bool(line.cells.get(each)) for line in lines) for each in there}
    if kind is _ANY_KIND:
        spaced = sum(" " in line.cells.get("student", "") for line in lines)
        if len(there) > 1 and there[0] == "student" and 2 * spaced > len(lines):
            there = there[1:]
        if there[:1] == ["student"]:
            return there[:1]
        whole = [each for each in there if filled[each] == len(lines)]
        return (whole or sorted(there, key=lambda each: -filled[each]))[:1]
    best = next((each for each in there if 2 * filled[each] >= len(lines)), "")
    return sorted(there, key=lambda each: each != best)


def _name(cells: Mapping[str, str], headings: Iterable[str]) -> str:
    """A student's name: in one column, or in two."""
    for each in headings:
        if cells.get(each):
            return cells[each]
    first = next((cells[each] for each in _FIRST if cells.get(each)), "")
    last = next((cells[each] for each in _LAST if cells.get(each)), "")
    return f"{first} {last}".strip()
