"""What students get: the course as one zip file, labs as stubs, no solutions and no tests."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from streamlab.grading.autograders import classroom_workflow, gradescope_files
from streamlab.grading.task import GradingError
from streamlab.handout.tree import labs_given, tracked_files, tree, version_for_students

TOP = "streamlab-course"
"""The folder that the archive unpacks into."""

_LIBRARY = "streamlab/"
_KEPT_BACK = "streamlab/dev/template/"
"""What of the library only those who write labs need."""
_ENVIRONMENT = (
    ".gitignore",
    "Makefile",
    "apt.txt",
    "environment.yml",
    "postBuild",
    "pyproject.toml",
    "requirements.txt",
    "tools/install_system_packages.sh",
    "tools/make_environment.py",
)
"""What `make lab` needs beside the library: it makes the workspace from all that is here."""
_OTHERS = {"Makefile": "tools/student/Makefile"}
"""Files that students get another version of."""
PLATFORMS = ("gradescope", "github-classroom")
"""Platforms that run a lab's checks themselves."""
_EXECUTABLE = ("postBuild", "setup.sh", "run_autograder")
_MOMENT = (1980, 1, 1, 0, 0, 0)
"""The date of every member, the first that a zip file can say: equal contents, equal archives."""


def release(
    course: Path, target: Path, only: Collection[str] = (), platform: str = ""
) -> list[str]:
    """Write the archive for students to `target`; returns the names of the labs in it.

    It has the library, the environment, and the tree that a workspace is made from. `only` are
    the numbers of the labs that are given out now; without any, all are. With a `platform` of
    `PLATFORMS` it also has what that platform runs; Gradescope's is for one lab.

    Raises `HandoutError` for an unknown lab, and `GradingError` where `course` is no checkout of
    the course, the archive can't be written, or the platform is unknown or wants one lab.
    """
    names = tracked_files(course)
    if not names:
        raise GradingError(f"{course} is no git checkout of the course: release from one")
    labs = labs_given(course, only)
    content = {**tree(course, names, only), **dict(_machinery(course, names))}
    if platform == "github-classroom":
        content[".github/workflows/classroom.yml"] = classroom_workflow(labs)
        # What students push is what they worked on.
        content[".gitignore"] = content[".gitignore"].replace(b"/workspace/\n", b"")
    members = {f"{TOP}/{name}": each for name, each in content.items()}
    if platform == "gradescope":
        if len(labs) != 1:
            raise GradingError(
                "an assignment of Gradescope is for one lab: name it, as in --lab 02"
            )
        members |= gradescope_files(labs[0])
    elif platform and platform not in PLATFORMS:
        raise GradingError(f"{platform} is unknown: there are {', '.join(PLATFORMS)}")
    _write(target, members)
    return [lab.name for lab in labs]


def _write(target: Path, members: Mapping[str, bytes]) -> None:
    """Write a zip file: equal members, equal bytes."""
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(members):
                member = zipfile.ZipInfo(name, _MOMENT)
                executable = name.rpartition("/")[2] in _EXECUTABLE
                member.external_attr = (0o100755 if executable else 0o100644) << 16
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, members[name])
    except OSError as error:
        raise GradingError(f"the archive can't be written: {error}") from error


def _machinery(course: Path, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """The library and the environment."""
    for name in names:
        of_library = name.startswith(_LIBRARY) and not name.startswith(_KEPT_BACK)
        if name in _ENVIRONMENT or of_library:
            yield name, version_for_students(course, name, _OTHERS).read_bytes()
