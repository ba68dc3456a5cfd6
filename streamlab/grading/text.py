"""Text from students on its way into a file: made harmless, given a name, written whole."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import unicodedata
import uuid
from dataclasses import dataclass
from pathlib import Path

from streamlab.errors import StreamlabError
from streamlab.files import reason_of
from streamlab.grading.records import Correction, Mark

LONGEST = 12_000
"""Characters of a text that a page shows; the middle of a longer one is left out."""

# An escape sequence of a terminal, as ECMA-48 has them: a control string such as a window's title
# (section 5.6), if it ends on its line; a control sequence such as a colour (5.4); another escape.
_ESCAPE = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])(?:[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c))?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
)
# Marks that turn the direction of a line, so that it reads otherwise than it is (Unicode UAX 9).
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")


class ReportError(StreamlabError):
    """A file of a report can't be written or read; the message says what to do."""


@dataclass(frozen=True)
class CsvText:
    """A CSV file as text. `begins` is its byte order mark, if it has one."""

    text: str
    begins: str
    delimiter: str


def read_csv_text(path: Path) -> CsvText:
    """Read a CSV file in UTF-8; what parts its columns is what its first line has most of.

    Raises `OSError`, and `UnicodeDecodeError` where it is in another encoding.
    """
    data = path.read_bytes()
    text = data.decode("utf-8-sig")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    return CsvText(text, "\ufeff" if data.startswith(codecs.BOM_UTF8) else "", delimiter)


def plain(text: str) -> str:
    """Lines of text without escape codes, control characters and marks of direction."""
    return "".join(each for each in _lines(text) if each == "\n" or not _odd(each))


def visible(text: str) -> str:
    """Lines of text in which nothing is hidden: a control character is shown as its picture.

    Escape codes of terminals are dropped; marks of direction become `[U+202E]`. Of a text of more
    than `LONGEST` characters the middle is left out, and the text says so.
    """
    shown = "".join(_picture(each) for each in _lines(text))
    if len(shown) > LONGEST:
        half = LONGEST // 2
        left_out = f"[... {len(shown) - 2 * half} characters left out ...]"
        shown = f"{shown[:half]}\n{left_out}\n{shown[-half:]}"
    return shown


def one_line(text: str) -> str:
    """`plain` text with every run of white space as one space."""
    return " ".join(plain(text).split())


def cell(text: str) -> str:
    """One line for a cell of a table that a spreadsheet may open.

    What it would take for a formula gets an apostrophe in front (OWASP, "CSV Injection":
    https://owasp.org/www-community/attacks/CSV_Injection). The characters are looked at after
    cleaning, so that nothing dangerous comes to the front by it.
    """
    line = one_line(text)
    return f"'{line}" if line.startswith(_FORMULA) else line


def number(value: float) -> str:
    """Points as a person writes them: `2`, `2.5`."""
    return format(value, ".10g")


def points_of(mark: Mark) -> float | None:
    """The points to enter for a student; None where the cell has to stay as it is.

    Nobody's zero: nothing was handed in, what was handed in can't be read (so that no check ran),
    or a check itself broke. A program that is still the stub, or that was run and did not start,
    has what the checks gave it.
    """
    if mark.outcome in ("missing", "grader_fault"):
        return None
    if mark.outcome == "could_not_run" and not mark.results:
        return None
    return mark.points


def late_text(mark: Mark) -> str:
    """What a mark's late days cost, in words; empty where it is not late, or nothing was due."""
    late = mark.late
    if late is None or not late.days:
        return ""
    days = f"{late.days} {'day' if late.days == 1 else 'days'} late"
    if not late.penalty:
        return f"{days}, nothing is taken off"
    return f"{days}: {number(late.penalty)} of {number(late.points_before)} points are taken off"


def given_text(correction: Correction) -> str:
    """What was given by hand, and why: `3 points by hand, not 0: the check was wrong`."""
    before = "none" if correction.before is None else number(correction.before)
    points = "point" if correction.points == 1 else "points"
    return f"{number(correction.points)} {points} by hand, not {before}: {correction.reason}"


def file_name(student: str) -> str:
    """A name for a student's files: safe on every system, and no two students' the same.

    An id of lower-case letters, digits, `.`, `_` and `-` is its own name. Any other has what is
    left of it, and a part of its SHA-256 behind a `~`, which the first kind can't have. So ids that
    differ in capitals only stay apart where a file system does not tell capitals.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,79}(?<!\.)", student) and not _RESERVED.fullmatch(
        student
    ):
        return student
    readable = unicodedata.normalize("NFKD", student).encode("ascii", "ignore").decode()
    readable = re.sub(r"[^A-Za-z0-9]+", "-", readable).strip("-")[:40]
    digest = hashlib.sha256(student.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{readable or 'student'}~{digest}"


def write_text(path: Path, content: str) -> None:
    """Write a file in UTF-8, all of it or not at all: an interrupted run leaves the old one.

    Raises `ReportError` for a full disk, a folder that is not ours, and the like.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as file:
                file.write(content.encode("utf-8", "replace"))
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ReportError(f"could not write {path}: {reason_of(error)}") from error


def _lines(text: str) -> str:
    return _ESCAPE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def _odd(character: str) -> bool:
    """Whether a character is none that a reader sees as itself."""
    code = ord(character)
    return (
        (unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character != "\t")
        or character in _TURNS
        or code == 0xFEFF
        or 0xE0000 <= code <= 0xE0FFF  # tags: a whole text that nobody sees
    )


def _picture(character: str) -> str:
    if character in "\n\t" or not _odd(character):
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return "\ufffd" if 0xD800 <= code < 0xE000 else f"[U+{code:04X}]"
