"""Grading one submission: a pure function of its programs, the lab's checks and a seed.

A task carries everything it needs as bytes, so that it can run on another machine that has nothing
but this package, and the same one: checks of another version are refused.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from streamlab.archives import unpack
from streamlab.errors import StreamlabError
from streamlab.labs import manifest, runner
from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult
from streamlab.labs.scratch import remove_abandoned, scratch_folder
from streamlab.process import sandbox


class GradingError(StreamlabError):
    """A class can't be graded as asked; the message says what to do."""


@dataclass(frozen=True)
class Task:
    """One submission to grade."""

    lab: str
    """The lab's folder name."""
    archive: bytes
    """The lab's folder without its programs, as `archive_of` packs it."""
    checks: str
    """What `checks_of` says of it where the task was made."""
    programs: Mapping[str, bytes]
    """What the student handed in, by the program's name."""
    seed: int
    only: tuple[str, ...]
    """The checks to run, by id."""
    isolated: bool = True


@dataclass(frozen=True)
class Graded:
    """What became of a task."""

    results: tuple[CheckResult, ...]
    seconds: float


def grade(task: Task, stop: threading.Event | None = None) -> Graded:
    """Run a task's checks, until `stop` is set.

    Raises `GradingError` where that can't be done as it was meant.
    """
    if checks_of(task.archive) != task.checks:
        raise GradingError(
            "this machine has another version of the checks: install the same streamlab everywhere"
        )
    if task.isolated and (reason := sandbox.unavailable_reason()):
        raise GradingError(f"no submission can be graded safely here: {reason}")
    began = time.monotonic()
    _tidy()
    with scratch_folder("streamlab-grade-") as scratch:
        folder = Path(scratch, task.lab)
        folder.mkdir()
        unpack(task.archive, folder)
        handed_in = Path(scratch, "handed-in")
        handed_in.mkdir()
        for name, content in task.programs.items():
            (handed_in / name).write_bytes(content)
        results = runner.run_checks(
            Lab(folder),
            {name: handed_in / name for name in task.programs},
            only=task.only,
            options=runner.RunOptions(seed=task.seed, isolated=task.isolated, stop=stop),
        )
    if stop is not None and stop.is_set():
        raise GradingError("the run was stopped")
    return Graded(tuple(results), round(time.monotonic() - began, 3))


@cache
def _tidy() -> None:
    """Remove what killed runs have left, once in the life of a process."""
    remove_abandoned()


def archive_of(lab: Lab) -> bytes:
    """A lab's folder as a tar file, without its programs: what checks need. Always the same bytes.

    The programs that are checked can read all of it, so it has what git knows, and no file that
    lies beside that, such as an instructor's own answer. Without git, of the files in the folder
    itself it has those that each lab has.

    Raises `LabError` where the folder is no lab's.
    """
    tracked = _tracked(lab.folder)
    unwanted = {manifest.MEMORY, manifest.STUBS, "__pycache__", ".ipynb_checkpoints"}
    programs = set(lab.programs)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in sorted(lab.folder.rglob("*")):
            name = file.relative_to(lab.folder)
            known = name.as_posix() in tracked if tracked else _is_usual(name)
            wanted = known and file.suffix != ".ipynb" and not unwanted & set(name.parts)
            if file.is_file() and wanted and name.as_posix() not in programs:
                member = tarfile.TarInfo(name.as_posix())
                content = file.read_bytes()
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _tracked(folder: Path) -> set[str]:
    """The files below a folder that git knows; none where it knows no lab there."""
    command = ["git", "-C", str(folder), "ls-files", "-z", "--cached", "--", "."]
    try:
        listed = subprocess.run(command, capture_output=True, check=False)
    except OSError:  # there is no git
        return set()
    names = set(listed.stdout.decode(errors="replace").split("\0"))
    return names if listed.returncode == 0 and "lab.toml" in names else set()


def _is_usual(name: Path) -> bool:
    """Whether a file of a lab, given from its folder, is one that checks may need."""
    return len(name.parts) > 1 or name.name in ("lab.toml", "contract.toml", "test_lab.py")


def checks_of(archive: bytes) -> str:
    """The version of a lab's checks: a hash of the lab's files and of this package."""
    return hashlib.sha256(archive + _package()).hexdigest()


_NO_VERDICT = {"cli.py", "doctor.py", "lesson"}
"""What only shows things: another version of it gives the same marks."""


@cache
def _package() -> bytes:
    """A hash of this package's source: what the checks, the sandbox and the meters are."""
    return hash_of_sources(Path(__file__).parent.parent)


def hash_of_sources(folder: Path) -> bytes:
    """A hash of all modules of a package that can change a mark, those in folders included.

    Of grading it is this module alone: the others read and write what has been marked.
    """
    source = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        name = file.relative_to(folder)
        if name.parts[0] == "grading" and name.name != Path(__file__).name:
            continue
        if name.parts[0] not in _NO_VERDICT:
            source.update(f"{name.as_posix()}\0".encode())
            source.update(file.read_bytes().replace(b"\r\n", b"\n"))
    return source.digest()
