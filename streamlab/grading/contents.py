"""The files of a submission, in folders and archives: listed and read, never unpacked or run.

No symbolic link is followed. What archives may cost is bounded: in files, in bytes of their lists,
and in bytes of what is read of them.
"""

from __future__ import annotations

import bz2
import gzip
import io
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from streamlab.files import GiB, KiB, MiB, read_plain, size_text
from streamlab.grading.platforms import is_archive, without_ending
from streamlab.grading.times import ARCHIVE_TIME, FILE_TIME, UNKNOWN, HandedIn, file_time
from streamlab.labs import shared_guesses

LARGEST = 512 * KiB
"""What a program may have, in bytes: more is no program."""
LARGEST_ZIP = 64 * MiB
"""What all archives within those of a submission may have together, in bytes."""
LARGEST_LIST = 16 * MiB
"""What a zip file's list of its members may have, in bytes: it is read whole."""
LARGEST_TAR = GiB
"""How far a tar file is read, in bytes after decompression: having no list, it is read through."""
MOST_MEMBERS = 200_000
"""How many members of one tar file are looked at, with those that are not counted."""
MOST_FILES = 20_000
"""How many files of one submission are looked at."""
DEEPEST = 2
"""How many archives may lie in one another."""
MOST_GUESSES = 20
"""How many files of guesses of one submission are looked at."""

SKIPPED = {"__MACOSX", "__pycache__", ".ipynb_checkpoints", ".streamlab", ".stub", ".git", ".venv"}
SKIPPED |= {"venv", "node_modules", "site-packages", "solutions", ".tox", ".mypy_cache"}
"""Folders that hold no work of a student: they are passed over, and their files not counted."""
PROGRAM_ENDINGS = (".py", ".txt")
"""What a program's name ends in; some platforms and mail programs add `.txt`."""
_GUESSES = re.compile(
    r"guesses[ _-]*(?:\(([0-9]{1,9})\)|copy|-?([0-9]{1,9}))?\.json(?:\.txt)?", re.IGNORECASE
)


class Unreadable(Exception):
    """A part of a submission that can't be read, and why."""


@dataclass(frozen=True)
class File:
    """A file that may be the program, or the guesses beside it."""

    shown: str
    """Where it lies, from the folder of all submissions on; an archive is a folder in it."""
    path: PurePosixPath
    """Where it lies in the submission, and what it is called there."""
    read: Callable[[], bytes]
    """Reads `LARGEST` + 1 bytes of it."""
    changed: HandedIn = UNKNOWN
    """When it was last changed, as the file system or the archive says, which anybody can set."""


@dataclass
class Search:
    """What a submission has cost so far, and what is to be said of it."""

    notes: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Files that can't be a program, by name; not all of very many."""
    files: int = 0
    room: int = LARGEST_ZIP
    guesses: int = 0
    """How many files of guesses were found."""

    def count(self, more: int = 1) -> None:
        """Count files; raises `Unreadable` where there are too many."""
        self.files += more
        if self.files > MOST_FILES:
            raise Unreadable(f"it has more than {MOST_FILES} files")

    def wants(self, path: PurePosixPath) -> bool:
        """Whether a file may be a program or the guesses, by its name; not very many of those."""
        if guesses_copy(path.name) is not None:
            self.guesses += 1
            return self.guesses <= MOST_GUESSES
        return path.suffix.casefold() in PROGRAM_ENDINGS

    def link(self, shown: str) -> None:
        """Tell of a link or a device."""
        self.notes.append(f"{plain(shown)} is a symbolic link, and was not followed")
        self.others.append(f"a symbolic link ({plain(PurePosixPath(shown).name)})")

    def pass_over(self, path: PurePosixPath) -> None:
        """Remember a file that is no program."""
        if len(self.others) < 1000:
            self.others.append(plain(path.name))


def plain(text: object) -> str:
    """A name from outside, fit to be printed."""
    return "".join(c if c.isprintable() else "?" for c in str(text))[:200]


def guesses_copy(name: str) -> int | None:
    """Which copy of a file of guesses a name is of, 0 for the first; None for any other file."""
    found = _GUESSES.fullmatch(name)
    return int(found[1] or found[2] or 0) if found else None


def read_guesses(file: File) -> bytes:
    """A file's bytes, one more than guesses may have at the most; raises `Unreadable`."""
    return guarded(file.read, file.shown)[: shared_guesses.LARGEST + 1]


def read_program(file: File) -> bytes:
    """A file's bytes; raises `Unreadable` where they can't be read or are no program's."""
    content = guarded(file.read, file.shown)
    if len(content) > LARGEST:
        raise Unreadable(f"{plain(file.shown)} is larger than {size_text(LARGEST)}: no program")
    return content


def guarded(read: Callable[[], bytes], name: object) -> bytes:
    """Read what may be broken on purpose, in any way: of that, libraries raise all kinds."""
    try:
        return read()
    except Unreadable:
        raise
    except NotImplementedError as error:  # a RuntimeError, too
        raise Unreadable(f"{plain(name)} can't be read: {plain(error)}") from error
    except RuntimeError as error:  # zipfile's word for a member that needs a password
        raise Unreadable(f"{plain(name)} is encrypted: ask for it without") from error
    except Exception as error:
        raise Unreadable(f"{plain(name)} can't be read: {plain(error)}") from error


# Files, wherever they are


def files_of(path: Path, name: str, search: Search) -> Iterator[File]:
    """The files of a submission at `path` that may be programs.

    `name` is what the student called it; for a folder it is empty. Raises `Unreadable`.
    """
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise Unreadable(f"{plain(path.name)} can't be read: {plain(error)}") from error
    if stat.S_ISLNK(mode):
        search.link(path.name)
    elif stat.S_ISDIR(mode):
        yield from _files_below(path, search)
    elif stat.S_ISREG(mode) or is_archive(path.name):
        yield from _file_or_archive(path, PurePosixPath(name or path.name), path.name, search)


def _files_below(folder: Path, search: Search) -> Iterator[File]:
    waiting = [folder]
    while waiting:  # a list, for folders may lie deeper than calls can
        where = waiting.pop()
        try:
            entries = sorted(os.scandir(where), key=lambda entry: entry.name)
        except OSError:  # not ours to read, or too deep for a path
            continue
        if where != folder and any(entry.name == "pyvenv.cfg" for entry in entries):
            continue
        for entry in entries:
            search.count()
            path = Path(entry.path)
            inside = PurePosixPath(path.relative_to(folder).as_posix())
            shown = f"{folder.name}/{inside}"
            if entry.is_symlink():
                search.link(shown)
            elif not entry.is_dir(follow_symlinks=False):
                yield from _file_or_archive(path, inside, shown, search)
            elif entry.name not in SKIPPED:
                waiting.append(path)


def _file_or_archive(
    path: Path, inside: PurePosixPath, shown: str, search: Search
) -> Iterator[File]:
    if is_archive(path.name):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise Unreadable(f"{plain(shown)} is no plain file")
        yield from _members(path, inside, shown, search, 1)
    elif search.wants(inside):
        changed = HandedIn(file_time(path.lstat().st_mtime), FILE_TIME)
        yield File(shown, inside, lambda: read_plain(path, LARGEST + 1), changed)
    else:
        search.pass_over(inside)


def _members(
    file: Path | io.BytesIO, inside: PurePosixPath, shown: str, search: Search, depth: int
) -> Iterator[File]:
    """The files in an archive, by what it says they are called; it is a folder in their paths."""
    folder = inside.parent / without_ending(inside.name)
    if inside.suffix.casefold() == ".zip":
        yield from _of_zip(file, folder, shown, search, depth)
    elif isinstance(file, Path):
        with file.open("rb") as opened:
            yield from _of_tar(opened, folder, shown, search, depth)
    else:
        yield from _of_tar(file, folder, shown, search, depth)


def _inner(
    content: bytes, path: PurePosixPath, shown: str, search: Search, depth: int
) -> Iterator[File]:
    """The files in an archive that lies in another one."""
    if len(content) > search.room:
        raise Unreadable(f"the archives in {plain(shown)} are larger than any program")
    search.room -= len(content)  # each is kept until one of its members is chosen
    yield from _members(io.BytesIO(content), path, f"{shown}/{path.name}", search, depth + 1)


def _is_skipped(path: PurePosixPath) -> bool:
    return bool(SKIPPED & set(path.parts[:-1])) or path.name in SKIPPED


# Zip files


def _of_zip(
    file: Path | io.BytesIO, folder: PurePosixPath, shown: str, search: Search, depth: int
) -> Iterator[File]:
    try:
        if _list_size(file) > LARGEST_LIST:
            raise Unreadable(f"{plain(shown)} has more than {MOST_FILES} files")
        archive = zipfile.ZipFile(file)
        members = archive.infolist()
    except Unreadable:
        raise
    except Exception as error:  # it may be broken on purpose: libraries raise all kinds
        raise Unreadable(f"{plain(shown)} is no readable zip file: {plain(error)}") from error
    paths = [PurePosixPath(member.filename.replace("\\", "/")) for member in members]
    environments = {path.parent for path in paths if path.name == "pyvenv.cfg"}
    environments.discard(PurePosixPath("."))
    for member, path in zip(members, paths, strict=True):
        if (
            member.is_dir()
            or _is_skipped(path)
            or (environments and environments & set(path.parents))
        ):
            continue
        search.count()
        where = f"{shown}/{path}"
        if stat.S_ISLNK(member.external_attr >> 16):
            search.link(where)
        elif search.wants(path):
            read = partial(_read, archive, member, LARGEST)
            yield File(where, folder / _inside(path), read, _changed(member))
        elif is_archive(path.name) and depth < DEEPEST:
            content = guarded(partial(_read, archive, member, search.room), where)
            yield from _inner(content, folder / path.name, shown, search, depth)
        else:
            search.pass_over(path)


def _changed(member: zipfile.ZipInfo) -> HandedIn:
    """When a member was changed, by the clock on the wall where it was packed."""
    try:
        return HandedIn(file_time(datetime(*member.date_time)), ARCHIVE_TIME)
    except ValueError:  # a month 0, as some programs write it
        return HandedIn(None, ARCHIVE_TIME)


def _inside(path: PurePosixPath) -> PurePosixPath:
    """A member's path without what leads out of the archive."""
    return PurePosixPath(*(part for part in path.parts if part not in ("/", "..")))


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
    sizes = [tail[end.start() + 12 : end.start() + 16] for end in re.finditer(b"PK\x05\x06", tail)]
    return max((int.from_bytes(size, "little") for size in sizes), default=0)


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    with archive.open(member) as file:
        return file.read(most + 1)


# Tar files


class _Forward(io.RawIOBase):
    """A file that is read once from its beginning to its end, and only so far.

    tarfile asks for as many bytes as a header says, to hold them in memory; a name that is longer
    than any path is refused.
    """

    def __init__(self, file: BinaryIO, shown: str) -> None:
        self._file, self._shown, self._at = file, shown, 0

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= LARGEST_ZIP + MiB:
            raise Unreadable(f"{plain(self._shown)} is no readable tar file")
        content = self._file.read(size)
        self._at += len(content)
        if self._at > LARGEST_TAR:
            raise Unreadable(
                f"{plain(self._shown)} has more than {size_text(LARGEST_TAR)} unpacked: "
                "ask for the program alone"
            )
        return content

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence != os.SEEK_SET or offset < self._at:
            raise Unreadable(f"{plain(self._shown)} is no readable tar file")
        while self._at < offset and self.read(min(MiB, offset - self._at)):
            pass
        return self._at


def _of_tar(
    file: BinaryIO, folder: PurePosixPath, shown: str, search: Search, depth: int
) -> Iterator[File]:
    found: list[File] = []
    inner: list[tuple[PurePosixPath, bytes]] = []
    try:
        forward = _Forward(_decompressed(file), shown)
        with tarfile.open(fileobj=cast(BinaryIO, forward), mode="r:") as archive:
            for number, member in enumerate(archive):
                archive.members = []  # type: ignore[attr-defined]  # they would all be kept
                if number >= MOST_MEMBERS:
                    raise Unreadable(f"{plain(shown)} has more than {MOST_MEMBERS} files")
                path = PurePosixPath(member.name.replace("\\", "/"))
                if member.isdir() or _is_skipped(path):
                    continue
                search.count()
                where = f"{shown}/{path}"
                if not member.isfile():
                    search.notes.append(f"{plain(where)} is no plain file, and was not followed")
                elif search.wants(path):
                    content = _content(archive, member, min(LARGEST, search.room))
                    search.room -= len(content)
                    changed = HandedIn(file_time(member.mtime), ARCHIVE_TIME)
                    read = partial(bytes, content)
                    found.append(File(where, folder / _inside(path), read, changed))
                elif is_archive(path.name) and depth < DEEPEST:
                    content = _content(archive, member, search.room)
                    search.room -= len(content)
                    inner.append((folder / path.name, content))
                else:
                    search.pass_over(path)
    except Unreadable:
        raise
    except Exception as error:  # it may be broken on purpose: libraries raise all kinds
        raise Unreadable(f"{plain(shown)} is no readable tar file: {plain(error)}") from error
    yield from found
    for path, content in inner:
        search.room += len(content)
        yield from _inner(content, path, shown, search, depth)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    if most <= 0:
        raise Unreadable("what is in it is larger than any program")
    opened = archive.extractfile(member)
    return opened.read(most + 1) if opened is not None else b""


def _decompressed(file: BinaryIO) -> BinaryIO:
    file.seek(0)
    begins = file.read(6)
    file.seek(0)
    if begins.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if begins.startswith(b"BZh"):
        return cast(BinaryIO, bz2.BZ2File(file))
    return file
