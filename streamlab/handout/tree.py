"""The files that students get: chapters without outputs, labs with their stubs."""

from __future__ import annotations

import json
import posixpath
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from streamlab.handout.guesses import HandoutError, emptied, is_guess
from streamlab.labs import manifest
from streamlab.labs.manifest import Lab

_FOLDERS = ("notebooks/", "labs/")
_FILES = (
    "README.md",
    "LICENSE",
    "LICENSE-TEXT",
    "docs/glossary.md",
    "docs/bench.md",
    "docs/bench.png",
    "docs/bench-proxies.png",
)
"""Files besides chapters and labs: those to which these and the README for students link."""
_OTHERS = {"README.md": "tools/student/README.md"}
"""Files of which students get another version."""


def tree(course: Path, names: Collection[str], only: Collection[str] = ()) -> dict[str, bytes]:
    """The files for students, by their paths, made from the files `names` of a course.

    `only` are the numbers of the labs to give out; if it is empty, all are. Chapters and the
    notebooks of labs have no outputs and no execution numbers, guesses are empty, and programs are
    stubs, even if `labs/` has been edited. A link to a file that is not among them, such as a lab
    of a later week, becomes plain text. Raises `HandoutError` for an unknown lab.
    """
    given = labs_given(course, only)
    members = dict(sorted(_members(course, names, given)))
    return {name: _for_students(name, content, members) for name, content in members.items()}


def labs_given(course: Path, only: Collection[str] = ()) -> list[Lab]:
    """The labs with the numbers in `only`, or all; raises `HandoutError` for an unknown one."""
    known = {lab.number: lab for lab in manifest.labs_in(course)}
    wanted = {number.zfill(2) for number in only} or set(known)
    if unknown := sorted(wanted - set(known)):
        raise HandoutError(f"there is no lab {unknown[0]}: there are {', '.join(known)}")
    return [known[number] for number in sorted(wanted)]


def version_for_students(course: Path, name: str, others: dict[str, str]) -> Path:
    """The file that students get as `name`: the version in `others` if it exists, else `name`."""
    other = course / others.get(name, name)
    return other if other.is_file() else course / name


def _members(course: Path, names: Iterable[str], given: list[Lab]) -> Iterator[tuple[str, bytes]]:
    stubs = {
        (lab.folder / name).relative_to(course).as_posix(): lab.folder / manifest.STUBS / name
        for lab in given
        for name in lab.programs
    }
    folders = tuple(f"{lab.folder.relative_to(course).as_posix()}/" for lab in given)
    for name in names:
        if name not in _FILES and not name.startswith(_FOLDERS):
            continue
        if name.startswith("labs/") and not name.startswith(folders):
            continue
        source = stubs.get(name) or version_for_students(course, name, _OTHERS)
        yield name, source.read_bytes()


# The names of the files


def known_files(course: Path) -> list[str]:
    """The files of a course: those that git tracks, or, without git, all that are not hidden."""
    if (course / "solutions").is_dir() and (names := tracked_files(course)):
        return names
    return [*_lying_in(course)]


def tracked_files(course: Path) -> list[str]:
    """The files of the course that git tracks and that exist; empty if this is no checkout."""
    command = ["git", "-C", str(course), "ls-files", "-z", "--cached"]
    try:
        listed = subprocess.run(command, capture_output=True, check=False)
    except OSError:  # git is not installed
        return []
    names = [name for name in listed.stdout.decode().split("\0") if name]
    if listed.returncode != 0 or "pyproject.toml" not in names:
        return []
    return [name for name in names if (course / name).is_file()]


def _lying_in(course: Path) -> Iterator[str]:
    yield from (name for name in _FILES if (course / name).is_file())
    for folder in _FOLDERS:
        for file in sorted((course / folder).rglob("*")):
            name = file.relative_to(course)
            hidden = {
                each for each in name.parts if each.startswith(".") and each != manifest.STUBS
            }
            if file.is_file() and not hidden and "__pycache__" not in name.parts:
                yield name.as_posix()


# Their contents

_LINK = re.compile(r"```.*?```|`[^`]*`|!?\[([^\[\]]*)\]\(\s*<?([^)\s>]+)>?[^)]*\)", re.DOTALL)
"""A link or a picture in Markdown; or code, in which links do not count."""


_ROW_OF_A_FIGURE = re.compile(r"<!-- [a-z0-9-]+: .+? -->")
"""The comment that says from which row of the saved run a figure in the prose comes."""


def _for_students(name: str, content: bytes, members: Collection[str]) -> bytes:
    """The content of a file for students: no dead links, no outputs, no guesses."""

    def checked(found: re.Match[str]) -> str:
        target = (found[2] or "").partition("#")[0]
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        return found[0] if path in members else f"{found[1]} (not handed out yet)"

    if name.endswith(".md"):
        return _LINK.sub(checked, content.decode()).encode()
    if not name.endswith(".ipynb"):
        return content
    notebook = json.loads(content)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = _ROW_OF_A_FIGURE.sub("", "".join(cell["source"]))
            _set_source(cell, _LINK.sub(checked, text))
        elif cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            if is_guess(cell):
                _set_source(cell, emptied("".join(cell["source"])))
    return (json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _set_source(cell: dict[str, Any], source: str) -> None:
    cell["source"] = source.splitlines(keepends=True)
