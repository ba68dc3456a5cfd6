"""Who should have handed in, and what was: the roster, and a folder of submissions.

Nothing of a submission is unpacked or run here, and no symbolic link is followed: single files are
read, up to a size, out of folders and zip files, whatever they are called.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import stat
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from streamlab.files import KiB, MiB, size_text
from streamlab.grading.records import Student
from streamlab.grading.task import GradingError
from streamlab.labs import Lab

LARGEST = 512 * KiB
"""What a program may have, in bytes: more is no program."""
LARGEST_ZIP = 64 * MiB
"""What all zip files within those of a submission may have together, in bytes."""
LARGEST_LIST = 16 * MiB
"""What a zip file's list of its members may have, in bytes: it is read whole."""
MOST_FILES = 20_000
"""How many files of one submission are looked at."""

_CANVAS_IDS = ("sis login id", "sis user id")
_IDS = (*_CANVAS_IDS, "student", "student id", "id", "username", "login")
_NAMES = ("name", "full name", "student name", "student")
_NO_PROGRAM = {"__MACOSX", "__pycache__", ".ipynb_checkpoints", ".streamlab", ".stub", ".git"}
_NO_PROGRAM |= {".venv", "venv", "node_modules", "solutions"}


# The roster


def read_roster(path: Path) -> list[Student]:
    """The students of a roster: a CSV file with a heading line, one of its columns an id.

    The id's heading is `student`, `student id`, `id`, `username` or `login`; a column `name` is the
    student's name. Commas, semicolons and tabs may part the columns. The gradebook that Canvas
    exports will do as it is. Raises `GradingError` where that is not so, or where two lines have
    the same id.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise GradingError(f"the roster can't be read: {error}") from error
    except UnicodeDecodeError as error:
        raise GradingError(f"{path} is not UTF-8: save it as 'CSV UTF-8'") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise GradingError(f"{path} is no CSV file: {error}") from error
    headings = {str(key).strip().casefold(): key for key in (rows[0] if rows else {})}
    id_heading = next((each for each in _IDS if each in headings), "")
    id_column = headings.get(id_heading)
    if id_column is None:
        raise GradingError(
            f"{path} has no column 'student' with an id for each student, below a heading line"
        )
    names = [headings[each] for each in _NAMES if each in headings and each != id_heading]
    name_column = names[0] if names else None
    students: dict[str, Student] = {}
    for number, row in enumerate(rows, start=2):
        columns = {str(k).strip(): (v or "").strip() for k, v in row.items() if isinstance(k, str)}
        who = (row[id_column] or "").strip()
        if not who:
            # Of Canvas, the points possible and a student for trying things out.
            if any(columns.values()) and id_heading not in _CANVAS_IDS:
                raise GradingError(f"{path}, line {number}: there is no id in it")
            continue
        if who in students:
            raise GradingError(f"{path}, line {number}: {who} stands in the roster twice")
        students[who] = Student(
            who, (row[name_column] or "").strip() if name_column else "", columns
        )
    return list(students.values())


# Submissions


@dataclass(frozen=True)
class Submission:
    """What one student handed in for a lab."""

    programs: dict[str, bytes] = field(default_factory=dict)
    """By the name that the lab gives them."""
    notes: tuple[str, ...] = ()
    """What an instructor should know: a file taken under another name."""
    problem: str = ""
    """Why nothing of it can be graded; empty if it can."""

    @property
    def sha256(self) -> str:
        """A hash of the programs, in hex; empty without any."""
        if not self.programs:
            return ""
        total = hashlib.sha256()
        for name, content in sorted(self.programs.items()):
            total.update(f"{name}\0{len(content)}\0".encode() + content)
        return total.hexdigest()


@dataclass(frozen=True)
class Collection:
    """A folder of submissions, sorted by the roster."""

    submissions: dict[str, Submission]
    """By the student's id; a student without any is missing in it."""
    unmatched: list[str]
    """Names in the folder that belong to nobody, or to several, on the roster."""


@dataclass
class _Search:
    """What a submission has cost so far, and what is to be said of it."""

    notes: list[str]
    files: int = 0
    room: int = LARGEST_ZIP

    def count(self, more: int = 1) -> None:
        self.files += more
        if self.files > MOST_FILES:
            raise _Unreadable(f"it has more than {MOST_FILES} files")


@dataclass(frozen=True)
class _File:
    """A file that may be the program: what it is called, and how to read `LARGEST` + 1 bytes."""

    path: PurePosixPath
    read: Callable[[], bytes]


class _Unreadable(Exception):
    """A part of a submission that can't be read, and why."""


def collect(folder: Path, lab: Lab, roster: Sequence[Student]) -> Collection:
    """Find what each student of the roster handed in for a lab.

    The folder holds one folder, zip file or program for each student, called by the student's id or
    name, alone or within a longer name as Canvas and Moodle make it. Raises `GradingError` if there
    is no such folder.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise GradingError(f"the submissions can't be read: {error}") from error
    whose: dict[str, list[os.DirEntry[str]]] = defaultdict(list)
    unmatched = []
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _NO_PROGRAM:
            continue
        found = owners(entry.name, roster)
        if len(found) == 1:
            whose[found[0].student].append(entry)
        else:
            unmatched.append(_plain(entry.name))
    submissions = {who: _submission(entries, lab) for who, entries in whose.items()}
    return Collection(submissions, unmatched)


def owners(name: str, roster: Sequence[Student]) -> list[Student]:
    """The students that a file or folder name may belong to: by id, else by name."""
    exact = [student for student in roster if name in (student.student, f"{student.student}.zip")]
    if exact:
        return exact
    words = _words(name)
    by_id = [student for student in roster if _within(_words(student.student), words)]
    if len(by_id) > 1:  # "ann" and "ann lee" in "ann lee": the longer one
        longest = max(len(_words(student.student)) for student in by_id)
        by_id = [student for student in by_id if len(_words(student.student)) == longest]
    if by_id:
        return by_id
    joined = "".join(words)
    return [
        student
        for student in roster
        if (parts := _words(student.name))
        and (_within(parts, words) or _starts(joined, parts, words))
    ]


def _words(name: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", name).casefold()
    return re.findall(r"[^\W_]+", re.sub(r"\.(zip|py|txt)$", "", plain))


def _within(part: list[str], whole: list[str]) -> bool:
    """Whether the words of one name stand side by side in another."""
    size = len(part)
    return bool(part) and any(whole[i : i + size] == part for i in range(len(whole) - size + 1))


def _starts(joined: str, parts: list[str], words: list[str]) -> bool:
    """Whether the first word is a name run together, last name first: `doejane_1234_server.py`."""
    return bool(words) and words[0] in ("".join([parts[-1], *parts[:-1]]), "".join(parts))


def _submission(entries: list[os.DirEntry[str]], lab: Lab) -> Submission:
    notes: list[str] = []
    search = _Search(notes)
    found: list[_File] = []
    try:
        for entry in entries:
            found += _files_of(entry, search)
        programs = {}
        for name in lab.programs:
            chosen = _choose(name, found, lab, notes)
            if chosen is not None:
                programs[name] = _read(chosen)
    except _Unreadable as error:
        return Submission(notes=tuple(notes), problem=str(error))
    if not programs:
        wanted = " or ".join(lab.programs)
        return Submission(notes=tuple(notes), problem=f"there is no {wanted} in it")
    notes += [f"{name} is missing" for name in lab.programs if name not in programs]
    return Submission(programs, tuple(notes))


def _read(file: _File) -> bytes:
    content = _guarded(file.read, file.path)
    if len(content) > LARGEST:
        raise _Unreadable(f"{_plain(file.path)} is larger than {size_text(LARGEST)}: no program")
    return content


def _guarded(read: Callable[[], bytes], path: PurePosixPath) -> bytes:
    """Read what may be broken on purpose, in any way: of that, libraries raise all kinds."""
    try:
        return read()
    except NotImplementedError as error:  # a RuntimeError, too
        raise _Unreadable(f"{_plain(path)} can't be read: {_plain(error)}") from error
    except RuntimeError as error:  # zipfile's word for a member that needs a password
        raise _Unreadable(f"{_plain(path)} is encrypted: ask for it without") from error
    except Exception as error:
        raise _Unreadable(f"{_plain(path)} can't be read: {_plain(error)}") from error


def _plain(text: object) -> str:
    """A name from outside, fit to be printed."""
    return "".join(c if c.isprintable() else "?" for c in str(text))[:200]


# Files, wherever they are


def _files_of(entry: os.DirEntry[str], search: _Search) -> Iterator[_File]:
    if entry.is_symlink():
        search.notes.append(f"{_plain(entry.name)} is a symbolic link, and was not followed")
    elif entry.is_dir(follow_symlinks=False):
        yield from _files_below(Path(entry.path), search)
    elif entry.is_file(follow_symlinks=False):
        yield from _file_or_zip(Path(entry.path), PurePosixPath(entry.name), search)


def _files_below(folder: Path, search: _Search) -> Iterator[_File]:
    waiting = [folder]
    while waiting:  # a list, for folders may lie deeper than calls can
        where = waiting.pop()
        try:
            entries = sorted(os.scandir(where), key=lambda entry: entry.name)
        except OSError:  # not ours to read, or too deep for a path
            continue
        for entry in entries:
            search.count()
            path = Path(entry.path)
            inside = PurePosixPath(path.relative_to(folder).as_posix())
            if entry.is_symlink():
                search.notes.append(f"{_plain(inside)} is a symbolic link, and was not followed")
            elif not entry.is_dir(follow_symlinks=False):
                yield from _file_or_zip(path, inside, search)
            elif entry.name not in _NO_PROGRAM:
                waiting.append(path)


def _file_or_zip(path: Path, inside: PurePosixPath, search: _Search) -> Iterator[_File]:
    if inside.suffix.casefold() == ".zip":
        yield from _members(path, search)
    elif inside.suffix.casefold() in (".py", ".txt"):
        yield _File(inside, lambda: _read_file(path))


def _read_file(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError("it is no plain file")
        return file.read(LARGEST + 1)


def _members(
    file: Path | io.BytesIO, search: _Search, within: PurePosixPath | None = None
) -> Iterator[_File]:
    """The members of a zip file, by what the archive says they are called: none is unpacked."""
    name = file.name if isinstance(file, Path) else str(within)
    if isinstance(file, Path) and not stat.S_ISREG(file.lstat().st_mode):
        raise _Unreadable(f"{_plain(name)} is no plain file")
    try:
        if _list_size(file) > LARGEST_LIST:
            raise _Unreadable(f"{_plain(name)} has more than {MOST_FILES} files")
        archive = zipfile.ZipFile(file)
        members = archive.infolist()
    except _Unreadable:
        raise
    except Exception as error:  # it may be broken on purpose: libraries raise all kinds
        raise _Unreadable(f"{_plain(name)} is no readable zip file: {_plain(error)}") from error
    search.count(len(members))
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if member.is_dir() or _NO_PROGRAM & set(path.parts):
            continue
        if stat.S_ISLNK(member.external_attr >> 16):
            search.notes.append(f"{_plain(path)} is a symbolic link, and was not followed")
        elif path.suffix.casefold() in (".py", ".txt"):
            yield _File(path, partial(_read_member, archive, member, LARGEST))
        elif path.suffix.casefold() == ".zip" and within is None:
            inner = _guarded(partial(_read_member, archive, member, search.room), path)
            if len(inner) > search.room:
                raise _Unreadable(f"the zip files in {_plain(name)} are larger than any program")
            search.room -= len(inner)  # each is kept until one of its members is chosen
            yield from _members(io.BytesIO(inner), search, path)


def _list_size(file: Path | io.BytesIO) -> int:
    """How long a zip file says that its list of members is, in bytes; the most, if it says several.

    It stands in the record at its end (APPNOTE.TXT, section 4.3.16), behind which is a comment.
    """
    most = 2**16 + 22
    if isinstance(file, Path):
        with file.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - most))
            tail = opened.read(most)
    else:
        tail = bytes(file.getbuffer()[-most:])
    sizes = [tail[found.start() + 12 : found.start() + 16] for found in _END.finditer(tail)]
    return max((int.from_bytes(size, "little") for size in sizes), default=0)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    with archive.open(member) as file:
        return file.read(most + 1)


_END = re.compile(rb"PK\x05\x06")


# Which file is the program


def _choose(name: str, files: list[_File], lab: Lab, notes: list[str]) -> _File | None:
    """The file that is most like the program `name`; None if none is.

    Raises `_Unreadable` where two of them have an equal claim and other contents.
    """
    ranked = [
        (rank, file.path.as_posix(), file)
        for file in files
        if (rank := _rank(name, file.path, lab)) is not None
    ]
    ranked.sort(key=lambda each: each[:2])  # a zip file may have two of the very same name
    if not ranked and len(files) == 1 and files[0].path.suffix.casefold() == ".py":
        ranked = [((0,), files[0].path.as_posix(), files[0])]
    if not ranked:
        return None
    best, _, chosen = ranked[0]
    content = _read(chosen)
    for rank, _, other in ranked[1:]:
        if rank == best and _read(other) != content:
            raise _Unreadable(
                f"there are two of {name}: {_plain(chosen.path)} and {_plain(other.path)}"
            )
    if chosen.path.name != name:
        notes.append(f"{_plain(chosen.path.name)} was taken for {name}")
    return chosen


def _rank(name: str, path: PurePosixPath, lab: Lab) -> tuple[int, ...] | None:
    """How well a file fits, the least best; None for not at all.

    In the lab's own folder before any other place; its very name before a copy's; of copies the
    one with the highest number; then the one that lies least deep.
    """
    stem = re.escape(name.removesuffix(".py"))
    if path.name.startswith("._") or (_labs_of(path) and lab.name not in path.parts):
        return None
    copy = rf"(?:.*[\W_])?{stem}[ _-]*(?:\(([0-9]{{1,9}})\)|copy|-?([0-9]{{1,9}}))?\.py(?:\.txt)?"
    if path.name == name:
        how, number = 0, 0
    elif found := re.fullmatch(copy, path.name, re.IGNORECASE):
        how, number = 1, int(found[1] or found[2] or 0)
    else:
        return None
    return (lab.name not in path.parts, how, -number, len(path.parts))


def _labs_of(path: PurePosixPath) -> list[str]:
    """The folders in a path that are called like a lab of the course."""
    return [part for part in path.parts[:-1] if re.fullmatch(r"\d\d_[a-z_]+", part)]
