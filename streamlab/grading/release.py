"""What students get: the course as one zip file, labs as stubs, no solutions and no tests."""

from __future__ import annotations

import json
import posixpath
import re
import subprocess
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

from streamlab import labs
from streamlab.grading.task import GradingError
from streamlab.labs import Lab

TOP = "streamlab-course"
"""The folder that the archive unpacks into."""

_KEPT_BACK = (
    "solutions/",
    "tests/",
    ".ci/",
    "docs/",
    "conftest.py",
    "nbval.cfg",
    "CONTRIBUTING.md",
)
_GIVEN = ("docs/bench.md", "docs/bench.png", "docs/bench-proxies.png")
"""Of what is kept back, the files that chapters link to."""
_TOOLS = ("tools/make_environment.py", "tools/install_system_packages.sh")
_OTHERS = {"README.md": "tools/student/README.md", "Makefile": "tools/student/Makefile"}
"""Files that students get another version of."""
_MOMENT = (1980, 1, 1, 0, 0, 0)
"""The date of every member, the first that a zip file can say: equal contents, equal archives."""


def release(course: Path, target: Path, only: Collection[str] = ()) -> list[str]:
    """Write the archive for students to `target`; returns the names of the labs in it.

    `only` are the numbers of the labs that are given out now; without any, all are. Programs are
    the stubs, whatever has been written into `labs/`. A link to a file that is not in the archive,
    such as a lab of a later week, becomes plain text. Raises `GradingError` where `course` is no
    checkout of the course, a lab is unknown, or the archive can't be written.
    """
    tracked = _tracked(course)
    known = {lab.number: lab for lab in labs.labs_in(course)}
    wanted = [number.zfill(2) for number in only] or list(known)
    if unknown := sorted(set(wanted) - set(known)):
        raise GradingError(f"there is no lab {unknown[0]}: there are {', '.join(known)}")
    given = [known[number] for number in sorted(set(wanted))]
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            members = dict(sorted(_members(course, tracked, given)))
            for name, content in members.items():
                content = _without_dead_links(name, content, members)
                member = zipfile.ZipInfo(f"{TOP}/{name}", _MOMENT)
                member.external_attr = 0o100644 << 16
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, content)
    except OSError as error:
        raise GradingError(f"the archive can't be written: {error}") from error
    return [lab.name for lab in given]


def _members(course: Path, tracked: list[str], given: list[Lab]) -> Iterator[tuple[str, bytes]]:
    stubs = {
        (lab.folder / name).relative_to(course).as_posix(): lab.folder / labs.STUBS / name
        for lab in given
        for name in lab.programs
    }
    folders = tuple(f"{lab.folder.relative_to(course).as_posix()}/" for lab in given)
    for name in tracked:
        kept_back = name.startswith(_KEPT_BACK) and name not in _GIVEN
        if kept_back or (name.startswith("tools/") and name not in _TOOLS):
            continue
        if name.startswith("labs/") and not name.startswith(folders):
            continue
        source = stubs.get(name, course / _OTHERS.get(name, name))
        yield name, source.read_bytes()


_LINK = re.compile(r"```.*?```|`[^`]*`|!?\[([^\[\]]*)\]\(\s*<?([^)\s>]+)>?[^)]*\)", re.DOTALL)
"""A link or a picture of Markdown; or code, in which no link counts."""


def _without_dead_links(name: str, content: bytes, members: Collection[str]) -> bytes:
    """A page or notebook, its links to files that are not in the archive turned into text."""

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
    changed = False
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            source = "".join(cell["source"])
            if (mended := _LINK.sub(checked, source)) != source:
                cell["source"], changed = mended.splitlines(keepends=True), True
    if not changed:
        return content
    return (json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _tracked(course: Path) -> list[str]:
    """The files of the course that git knows: nothing that somebody has left lying about."""
    command = ["git", "-C", str(course), "ls-files", "-z", "--cached"]
    listed = subprocess.run(command, capture_output=True, check=False)
    names = [name for name in listed.stdout.decode().split("\0") if name]
    if listed.returncode != 0 or "pyproject.toml" not in names:
        raise GradingError(f"{course} is no git checkout of the course: release from one")
    return [name for name in names if (course / name).is_file()]
