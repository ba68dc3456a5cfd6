"""How learning platforms name what they hand out: each rule as the platform has it.

A student can choose the end of such a name only, which is the name of the file that was uploaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz")
"""The archives that are read, by how their names end."""


@dataclass(frozen=True)
class Label:
    """What a platform says in the name of a file or folder."""

    platform: str
    name: str = ""
    """The student's name, as the platform changes it."""
    logins: tuple[str, ...] = ()
    """What may be the student's login, the longest first."""
    number: str = ""
    """The platform's own number of the student."""
    file: str = ""
    """What the student called the file; empty for a folder."""
    moment: str = ""
    """When it was handed in, as a text that sorts; empty where the name does not say it."""
    late: bool = False
    """The platform says that it came late, and not when."""
    anonymous: bool = False
    about: bool = False
    """The platform itself wrote this file, about what was handed in."""


# lib/content_zipper.rb in canvas-lms: the sortable name (family name first) without all that is no
# letter, digit or underscore, perhaps LATE, the user's number, the attachment's number, and the
# file's name, which Canvas ends in -1, -2 where it was handed in before. Text typed in, and links.
_CANVAS = re.compile(
    r"(?P<name>.+?)(?P<late>_(?:LATE|late))?_(?P<number>\d+)"
    r"(?:_\d+_(?P<file>.+)|_(?P<typed>(?:text|link)\.html))",
)
_CANVAS_ANONYMOUS = re.compile(
    r"(?P<late>(?:LATE|late)_)?anon_[A-Za-z0-9]{3,}_(?:\d+_)?(?P<file>.+)"
)

# mod/assign/classes/downloader.php in Moodle: the full name without underscores, quotes and
# apostrophes, the participant's number, and a word for the kind of submission. A folder; before
# Moodle 3.1, or where folders are switched off, the file's name follows.
_MOODLE = re.compile(
    r"(?P<name>[^_]+)_(?P<number>\d+)(?:_(?P<login>(?!\d+_)[^_]+))?"
    r"_(?:assignsubmission|assignfeedback)_[a-z]+(?:_(?P<file>.*))?",
)

# Blackboard Learn, Grade Center, Assignment File Download: the same with .txt for the attempt.
_BLACKBOARD = re.compile(
    r"(?P<begins>.+?)_attempt_(?P<moment>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|(?P<about>\.txt))"
)

# nbgrader/exchange/default/submit.py: inbound/LOGIN+ASSIGNMENT+TIME+RANDOM
_NBGRADER = re.compile(
    r"(?P<login>[^+]+)\+[^+]+"
    r"\+(?P<moment>\d{4}-\d\d-\d\d[ _]\d\d[:_.-]\d\d[:_.-]\d\d[^+]*)(?:\+.*)?"
)

_GRADESCOPE = re.compile(r"submission_(?P<number>\d+)")


def label_of(name: str) -> Label | None:
    """What a platform says in a name; None for a name that no platform gives.

    Where the forms of two fit, the one that ends further left counts: the rest is a student's.
    """
    if found := _GRADESCOPE.fullmatch(name):
        return Label("Gradescope", number=found["number"])
    if found := _MOODLE.fullmatch(name):
        login = (found["login"],) if found["login"] else ()
        return Label("Moodle", found["name"], login, found["number"], found["file"] or "")
    if found := _CANVAS_ANONYMOUS.fullmatch(name):
        return Label("Canvas", file=found["file"], late=bool(found["late"]), anonymous=True)
    attempt, upload = _BLACKBOARD.fullmatch(name), _CANVAS.fullmatch(name)
    if attempt and not (upload and upload.end("number") < attempt.end("begins")):
        parts = attempt["begins"].split("_")
        return Label(
            "Blackboard",
            logins=tuple("_".join(parts[at:]) for at in range(1, len(parts))),
            file=attempt["file"] or "",
            moment=attempt["moment"],
            about=bool(attempt["about"]),
        )
    if upload:
        file = upload["file"] or upload["typed"]
        late = bool(upload["late"])
        return Label("Canvas", upload["name"], (), upload["number"], file, late=late)
    if found := _NBGRADER.fullmatch(name):
        return Label("nbgrader", logins=(found["login"],), moment=found["moment"])
    return None


_ENDINGS = (
    *(".py.txt", ".py", ".txt", ".ipynb", ".pdf", ".rar", ".7z", ".xz", ".doc", ".docx", ".odt"),
    *(".md", ".html", ".js", ".json", ".csv", ".log", ".png", ".jpg", ".jpeg"),
)
_ENDING = re.compile(rf"(?:{'|'.join(map(re.escape, (*ARCHIVES, *_ENDINGS)))})$", re.IGNORECASE)


def without_ending(name: str) -> str:
    """A file's name without the ending of an archive or a program, and without a copy's `(1)`."""
    return re.sub(r"\s*\(\d{1,3}\)$", "", _ENDING.sub("", name, count=1))


def is_archive(name: str) -> bool:
    """Whether a file is called like an archive that is read."""
    return name.casefold().endswith(ARCHIVES)
