"""`mapping.csv`: whose a file is, where only a person can say it."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from streamlab.grading.names import letters
from streamlab.grading.records import Student
from streamlab.grading.task import GradingError
from streamlab.grading.text import read_csv_text

NOBODY = "-"
"""In place of an id: the file is nobody's submission."""


class ByHand:
    """Whose files are, as a person wrote it down: an id for each name, in which `*` is any text."""

    def __init__(self, path: Path | None = None, roster: Sequence[Student] = ()) -> None:
        self.path = path
        self._lines: dict[str, tuple[Student, ...]] = {}
        if path is not None:
            self._read(path, {each.student: each for each in roster})

    def _read(self, path: Path, students: dict[str, Student]) -> None:
        try:
            source = read_csv_text(path)
        except (OSError, UnicodeDecodeError) as error:
            raise GradingError(f"the mapping can't be read: {error}") from error
        lines = csv.reader(io.StringIO(source.text, newline=""), delimiter=source.delimiter)
        try:
            rows = [(lines.line_num, row) for row in lines if any(map(str.strip, row))]
        except csv.Error as error:
            raise GradingError(f"{path} is no CSV file: {error}") from error
        headings = [letters(heading) for heading in rows[0][1]] if rows else []
        if not {"file", "student"} <= set(headings):
            raise GradingError(f"{path} needs the headings file and student in its first line")
        at_file, at_student = headings.index("file"), headings.index("student")
        for number, row in rows[1:]:
            row = [each.strip() for each in row] + [""] * len(headings)
            name, who = unicodedata.normalize("NFC", row[at_file]), row[at_student]
            if not name or not who:
                raise GradingError(f"{path}, line {number}: it needs a file, and an id or {NOBODY}")
            if who != NOBODY and who not in students:
                raise GradingError(f"{path}, line {number}: {who} is no id of the roster")
            if name in self._lines:
                raise GradingError(f"{path}, line {number}: {name} stands in it twice")
            self._lines[name] = () if who == NOBODY else (students[who],)

    def of(self, entry: str) -> tuple[Student, ...] | None:
        """Whose an entry is: nobody's where that was said; None where nothing was said of it."""
        entry = unicodedata.normalize("NFC", entry)
        if entry in self._lines:
            return self._lines[entry]
        fitting = [who for pattern, who in self._lines.items() if _fits(pattern, entry)]
        if len(fitting) > 1:
            raise GradingError(f"{self.path} has several lines for {entry}")
        return fitting[0] if fitting else None

    def check(self, entries: Sequence[str]) -> None:
        """Raise `GradingError` where a line speaks of nothing that lies there."""
        there = [unicodedata.normalize("NFC", entry) for entry in entries]
        for pattern in self._lines:
            if pattern not in there and not any(_fits(pattern, entry) for entry in there):
                raise GradingError(f"{self.path} speaks of {pattern}, and no such file lies there")


def _fits(pattern: str, entry: str) -> bool:
    parts = pattern.split("*")
    return len(parts) > 1 and bool(re.fullmatch(".*".join(map(re.escape, parts)), entry))
