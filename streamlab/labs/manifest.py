"""A lab: what its folder and its `lab.toml` say. Points, limits, causes, hints and promises.

Limits are in MiB and seconds. What can't be read raises `LabError`, which says what to do.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from streamlab.errors import StreamlabError
from streamlab.labs.results import CheckResult
from streamlab.process.program import Cup

STUBS = ".stub"
"""In a lab's folder: the programs as they were generated, to compare with and to go back to."""
HINTS = Path(__file__).parent / "hints"
"""The hints of each lab, by its name: not in its folder, where they would lie open."""
MEMORY = ".streamlab"
"""In a lab's folder, ignored by git: hints shown, last results, copies kept by a reset."""
WORKSPACE = "workspace"
"""In the course's folder, ignored by git: a student's own copy of chapters and labs."""
LAID = f"{MEMORY}/laid.json"
"""In a workspace: the hashes of what was laid there."""


class LabError(StreamlabError):
    """A lab can't be found, generated or run; the message says what to do."""


@dataclass(frozen=True)
class Check:
    """What lab.toml says of a check."""

    id: str
    kind: str
    points: float
    title: str


@dataclass(frozen=True)
class Promise:
    """A sentence of the lab's text that the checks hold a program to."""

    id: str
    text: str
    """The words of lab.ipynb, as they stand there."""
    check: str
    """The id of the check that puts it to the test."""


@dataclass(frozen=True)
class Passed:
    """What is said when all checks of a lab have passed."""

    why: str
    """Why it mattered."""
    other_way: str
    """Another way to do it."""
    shown_by: str
    """The right answer in the lab's corpus that goes that way."""


@dataclass(frozen=True)
class Lab:
    """A lab's folder, in `labs/` or in `solutions/`."""

    folder: Path
    hints_folder: Path = HINTS
    command: str = ""
    """A command that is checked in place of the first program; see `streamlab.labs.command`."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def number(self) -> str:
        return self.name[:2]

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The content of lab.toml; `LabError` if it is missing or broken."""
        file = self.folder / "lab.toml"
        try:
            return tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise LabError(f"there is no {file}: is {self.folder} a lab's folder?") from error
        except tomllib.TOMLDecodeError as error:
            raise LabError(f"{file} can't be read: {error}") from error

    @property
    def title(self) -> str:
        return str(self.manifest["title"])

    @property
    def programs(self) -> list[str]:
        """The names of the files that a student writes and that are graded."""
        return list(self.manifest["programs"])

    @property
    def any_language(self) -> bool:
        """Whether the checks need no more of the program than HTTP and a process."""
        return bool(self.manifest.get("any_language", False))

    @property
    def limits(self) -> Cup:
        """The cup that the programs run in."""
        return Cup(**self.manifest.get("limits", {}))

    @cached_property
    def checks(self) -> list[Check]:
        """The checks, in the order of lab.toml."""
        return [
            Check(
                id=name,
                kind=each["kind"],
                points=each["points"],
                title=each["title"],
            )
            for name, each in self.manifest["checks"].items()
        ]

    @property
    def points(self) -> float:
        return sum(check.points for check in self.checks)

    @cached_property
    def promises(self) -> dict[str, Promise]:
        """What contract.toml says that the lab's text promises, by id; none without that file."""
        promises = {}
        for name, each in _read_toml(self.folder / "contract.toml").items():
            try:
                promises[name] = Promise(name, each["text"], each["check"])
            except (KeyError, TypeError) as error:
                raise LabError(f"[{name}] in contract.toml lacks its text or its check") from error
        return promises

    @cached_property
    def page(self) -> str:
        """The prose of lab.ipynb; empty where there is none that can be read."""
        try:
            cells = json.loads((self.folder / "lab.ipynb").read_text(encoding="utf-8"))["cells"]
            sources = [cell["source"] for cell in cells if cell["cell_type"] == "markdown"]
        except (OSError, ValueError, LookupError, TypeError):
            return ""
        return "\n\n".join("".join(source) for source in sources)

    @property
    def passed(self) -> Passed | None:
        """What is said when all checks have passed; None if nothing, or not all of it, is there."""
        said = self._hints.get("passed", {})
        try:
            return Passed(said["why"], said["other_way"], said["shown_by"])
        except KeyError:
            return None

    @cached_property
    def _hints(self) -> dict[str, dict[str, Any]]:
        return _read_toml(self.hints_folder / f"{self.name}.toml")

    @property
    def causes_with_hints(self) -> list[str]:
        """The causes that the lab's own file of hints speaks of."""
        return list(self._hints.get("causes", {}))

    def hints(self, check: str, cause: str = "") -> list[str]:
        """Hints from gentle to plain: those of a cause, or, where it has none, of the check."""
        for hints in (self._hints, _common()):
            if of_cause := hints.get("causes", {}).get(cause, []):
                return list(of_cause)
        return list(self._hints.get("checks", {}).get(check, []))

    def check(self, name: str) -> Check:
        """The check with that id."""
        return next(check for check in self.checks if check.id == name)

    def programs_of(self, check: str) -> list[str]:
        """The programs that a check is about: all, unless lab.toml says which."""
        return list(self.manifest["checks"].get(check, {}).get("programs", self.programs))

    def depends_on_time(self, result: CheckResult) -> bool:
        """Whether a busy machine alone could have made a check fail so."""
        if result.outcome in ("could_not_run", "grader_fault"):
            return result.late
        timing = self.manifest.get("timing", ())
        return result.outcome == "failed" and (result.late or result.cause in timing)

    def cause_text(self, cause: str) -> str:
        """What a misconception means, in plain language; empty for an unknown one."""
        common = _common().get("texts", {}).get(cause, "")
        return str(self.manifest.get("causes", {}).get(cause, common))

    def look(self, cause: str) -> str:
        """A command that shows in a server what no answer shows; empty for other causes.

        PROCESS stands for the server's number.
        """
        return str(_common().get("looks", {}).get(cause, ""))

    def attempted(self, program: Path) -> bool:
        """Whether a program differs from the generated stub in more than trailing space."""
        if not program.is_file():
            return True
        text = program.read_text(encoding="utf-8", errors="replace")
        return self.attempted_text(program.name, text)

    def attempted_text(self, name: str, text: str) -> bool:
        """The same of the text of a program."""
        stub = self.folder / STUBS / name
        if not stub.is_file():
            return True
        return _bare(text) != _bare(stub.read_text(encoding="utf-8", errors="replace"))


@cache
def _common() -> dict[str, dict[str, Any]]:
    """The causes that any lab can have, with their texts and hints."""
    return _read_toml(HINTS / "common.toml")


def _read_toml(file: Path) -> dict[str, Any]:
    """The content of a file, nothing where there is none; `LabError` if it is broken."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LabError(f"{file} can't be read: {error}") from error


def _bare(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


# Finding labs


def course_folder(start: Path | None = None) -> Path:
    """The course's folder, which holds `labs/` and is no workspace: this one or one above."""
    for folder in _folders_with_labs(start):
        if not (folder / LAID).is_file():
            return folder
    raise _no_labs()


def work_folder(start: Path | None = None) -> Path:
    """The folder with the labs that a student works on, seen from this one.

    That is the workspace, from inside of it and from the course's folder; the course itself where
    there is no workspace, and from inside its own `labs/` and `solutions/`.
    """
    start = (start or Path.cwd()).resolve()
    for folder in _folders_with_labs(start):
        own = {folder / "labs", folder / "solutions"}
        if (folder / WORKSPACE / "labs").is_dir() and own.isdisjoint((start, *start.parents)):
            return folder / WORKSPACE
        return folder
    raise _no_labs()


def _folders_with_labs(start: Path | None) -> Iterator[Path]:
    start = (start or Path.cwd()).resolve()
    return (folder for folder in (start, *start.parents) if (folder / "labs").is_dir())


def _no_labs() -> LabError:
    return LabError("there is no labs folder here or above: change into the course's folder")


def all_labs() -> list[Lab]:
    """The labs that a student works on, seen from this folder, by number."""
    return labs_in(work_folder())


def labs_in(course: Path) -> list[Lab]:
    """The labs of the course in a folder, by number."""
    folders = (course / "labs").iterdir()
    return sorted(
        (Lab(folder) for folder in folders if (folder / "lab.toml").is_file()),
        key=lambda lab: lab.name,
    )


def find_lab(which: str | None = None, of_course: bool = False) -> Lab:
    """The lab with a number (`"02"`, `"2"`), name or folder; without one, the lab we stand in.

    By number or name it is the one that a student works on; or, where it is to grade others by,
    the one `of_course`, whose checks nobody has changed.
    """
    if which is None:
        here = Path.cwd().resolve()
        if (here / "lab.toml").is_file():
            return Lab(here)
        raise LabError("which lab? Say its number, such as 02, or change into its folder")
    if (Path(which) / "lab.toml").is_file():
        return Lab(Path(which).resolve())
    labs = labs_in(course_folder()) if of_course else all_labs()
    for lab in labs:
        if lab.name == which or lab.number == which.zfill(2):
            return lab
    known = ", ".join(lab.number for lab in labs)
    raise LabError(f"there is no lab {which}: there are {known}")
