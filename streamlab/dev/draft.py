"""A lab that is being written, in a clone of the course: its solution, hints and answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from streamlab.dev.answers import CORPORA, answers
from streamlab.labs.manifest import Lab, LabError
from streamlab.labs.results import CheckResult
from streamlab.labs.runner import run_checks

HINTS = Path("streamlab", "labs", "hints")
"""The folder of the hints, below the course's folder."""


@dataclass(frozen=True)
class Draft:
    """A lab that is being written, in a clone of the course."""

    course: Path
    name: str
    """The name of its folder in solutions/, such as `02_chunked_loop`."""

    @cached_property
    def lab(self) -> Lab:
        """The lab in its solution, with the hints of the same clone."""
        return Lab(self.course / "solutions" / self.name, self.course / HINTS)

    @property
    def hints_file(self) -> str:
        return f"{(HINTS / self.name).as_posix()}.toml"

    def corpus(self, which: str) -> str:
        """The folder of the wrong or the right answers, below the course's folder."""
        return f"{(CORPORA / self.name / which).as_posix()}/"

    @cached_property
    def wrong(self) -> list[Path]:
        return answers(self.course, self.name, "wrong")

    @cached_property
    def right(self) -> list[Path]:
        return answers(self.course, self.name, "right")

    def read(self, name: str) -> str:
        """The text of a file of the solution; raises `LabError` if it can't be read."""
        file = self.lab.folder / name
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LabError(f"{self.name}/{name} can't be read: {error}.") from error

    @cached_property
    def page(self) -> str:
        """The text of lab.ipynb."""
        try:
            cells = json.loads(self.read("lab.ipynb"))["cells"]
            return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        except (ValueError, KeyError, TypeError) as error:
            raise LabError(f"{self.name}/lab.ipynb is no notebook: {error!r}.") from error

    @cached_property
    def results(self) -> list[CheckResult]:
        """The results of the checks for the solution. Starts servers."""
        return run_checks(self.lab)


def clone(start: Path | None = None) -> Path:
    """The clone of the course that a folder belongs to: this one, or the nearest one above.

    Raises `LabError` if there is none. The archive for students has no solutions.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "solutions").is_dir() and (folder / CORPORA).is_dir():
            return folder
    raise LabError("there are no solutions here or above: run it in a clone of the course")


def drafts(which: str | None = None) -> list[Draft]:
    """The lab with a number (`"02"`, `"2"`) or name; without one, the lab of this folder, or all.

    Raises `LabError` for an unknown one.
    """
    course = clone()
    names = sorted(path.name for path in (course / "solutions").glob("[0-9][0-9]_*/"))
    if which is None:
        here = Path.cwd().resolve().relative_to(course).parts
        inside = [name for name in names if name in here]
        return [Draft(course, name) for name in inside or names]
    for name in names:
        if which in (name, name[:2]) or which.zfill(2) == name[:2]:
            return [Draft(course, name)]
    known = ", ".join(name[:2] for name in names)
    raise LabError(f"there is no lab {which} in solutions/: there are {known}")
