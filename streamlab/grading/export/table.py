"""A gradebook that another system exported, as a table: encoding, delimiter and headings."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from pathlib import Path

from streamlab.grading.export.job import BridgeError
from streamlab.grading.text import read_csv_text, write_text

# Templates: a table that another system exported, and that goes back to it with a column filled


class Table:
    """A CSV file; of what is read, all is written back that nobody changes."""

    def __init__(self, path: Path) -> None:
        try:
            source = read_csv_text(path)
        except OSError as error:
            raise BridgeError(f"the template can't be read: {error}") from error
        except UnicodeDecodeError as error:
            raise BridgeError(
                f"{path} is not UTF-8: take the file as the other system exported it, not as a "
                "spreadsheet saved it"
            ) from error
        self.path = path
        self.begins, self.delimiter = source.begins, source.delimiter
        self.line_end = "\r\n" if "\r\n" in source.text else "\n"
        lines = io.StringIO(source.text, newline="")
        try:
            rows = list(csv.reader(lines, delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            raise BridgeError(f"{path} is no CSV file: {error}") from error
        if not rows:
            raise BridgeError(f"{path} is empty")
        self.headings = [heading.strip() for heading in rows[0]]
        self.rows = rows

    def find(self, *headings: str) -> int | None:
        """The place of the column with one of these headings, in whatever capitals."""
        for heading in headings:
            for place, each in enumerate(self.headings):
                if compared_heading(each) == compared_heading(heading):
                    return place
        return None

    def get(self, row: int, column: int | None) -> str:
        """A cell's text without the space around it; empty for no column or a short row."""
        cells = self.rows[row]
        return cells[column].strip() if column is not None and column < len(cells) else ""

    def put(self, row: int, column: int, text: str) -> None:
        """Change a cell."""
        cells = self.rows[row]
        cells.extend([""] * (column + 1 - len(cells)))
        cells[column] = text

    def write(self, target: Path) -> None:
        """Write all of it, in the form that it was read in."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator=self.line_end)
        writer.writerows(self.rows)
        write_text(target, self.begins + text.getvalue())


def compared(text: str) -> str:
    """A text as it is compared: without regard to capitals, width and space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def compared_heading(heading: str) -> str:
    """A heading as it is compared; all kinds of e-mail address are one."""
    letters = re.sub(r"\W|_", "", compared(heading))
    return "email" if "mail" in letters else letters
