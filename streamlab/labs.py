"""A lab: its folder and manifest, its generation from the solution, and running its checks.

`solutions/NN_name/` is the only source. `labs/NN_name/` is generated from it: the same files, with
what stands between `# BEGIN SOLUTION` and `# END SOLUTION` cut out. Inside, lines between
`# BEGIN STUB` and `# END STUB`, written as comments, stay and lose one `# `.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from streamlab.errors import StreamlabError
from streamlab.files import MiB
from streamlab.results import CheckResult
from streamlab.sandbox import delegated_group, enclosed
from streamlab.server import NOT_LISTENING, Cup

STUBS = ".stub"
"""In a lab's folder: the programs as they were generated, to compare with and to go back to."""
MEMORY = ".streamlab"
"""In a lab's folder, ignored by git: hints shown, last results, copies kept by a reset."""
OUTPUTS = 1024 * MiB
"""What the programs of a submission may write at once, in bytes."""
LATE = "The checks of this program had not come to their end after"
SECONDS = 180
"""What all checks of a program may take together before the run is ended."""


class LabError(StreamlabError):
    """A lab can't be found, generated or run; the message says what to do."""


@dataclass(frozen=True)
class Check:
    """What lab.toml says of a check."""

    id: str
    kind: str
    points: float
    title: str
    hints: tuple[str, ...]


@dataclass(frozen=True)
class Lab:
    """A lab's folder, in `labs/` or in `solutions/`."""

    folder: Path

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
                hints=tuple(each.get("hints", ())),
            )
            for name, each in self.manifest["checks"].items()
        ]

    @property
    def points(self) -> float:
        return sum(check.points for check in self.checks)

    def check(self, name: str) -> Check:
        """The check with that id."""
        return next(check for check in self.checks if check.id == name)

    def programs_of(self, check: str) -> list[str]:
        """The programs that a check is about: all, unless lab.toml says which."""
        return list(self.manifest["checks"].get(check, {}).get("programs", self.programs))

    def depends_on_time(self, result: CheckResult) -> bool:
        """Whether a busy machine alone could have made a check fail so."""
        if result.outcome == "could_not_run":
            return result.evidence.startswith(LATE) or NOT_LISTENING in result.evidence
        return result.outcome == "failed" and result.cause in self.manifest.get("timing", ())

    def cause_text(self, cause: str) -> str:
        """What a misconception means, in plain language; empty for an unknown one."""
        return str(self.manifest.get("causes", {}).get(cause, ""))

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


def _bare(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def as_text(lab: Lab, result: CheckResult) -> str:
    """A result in full, as a student reads it."""
    check = lab.check(result.check)
    lines = [
        f"{check.title} ({result.kind}): {result.points:g} of {result.max_points:g} points",
        "",
    ]
    lines.append(result.evidence)
    if why := lab.cause_text(result.cause):
        lines += ["", f"What it means: {why}"]
    if result.curl:
        lines += ["", f"Try it by hand: {result.curl}"]
    if check.hints and result.outcome == "failed":
        lines += ["", f"A hint: {check.hints[0]} (more with: streamlab hint {lab.number})"]
    if result.outcome == "grader_fault":
        lines += ["", "This is a fault of the check, not of your program: please report it."]
    again = f"streamlab check {lab.number} --only {result.check} --seed {result.seed}"
    lines += ["", f"The same again: {again}"]
    return "\n".join(lines)


def stories(lab: Lab, results: Collection[CheckResult]) -> list[str]:
    """In full, what did not pass; a story that several checks share is told once."""
    told: dict[str, str] = {}
    for result in results:
        if result.outcome in ("failed", "could_not_run", "grader_fault"):
            key = result.evidence if result.outcome == "could_not_run" else result.check
            told.setdefault(key, as_text(lab, result))
    return list(told.values())


def advice(lab: Lab, results: Collection[CheckResult]) -> str:
    """A sentence or two below the results: what to do next, unless a story says it; the notes."""
    outcomes = {result.outcome for result in results}
    if outcomes == {"not_attempted"}:
        first = lab.checks[0].title
        return f"{', '.join(lab.programs)}: still the stub. Begin with the first check, {first!r}."
    notes = [result.evidence for result in results if result.outcome == "passed"]
    if outcomes == {"passed"} and len(results) == len(lab.checks):
        notes.insert(0, "All checks passed.")
    return " ".join(filter(None, notes))


# Finding labs


def course_folder(start: Path | None = None) -> Path:
    """The folder that holds `labs/`: this one or the nearest one above."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "labs").is_dir():
            return folder
    raise LabError("there is no labs folder here or above: change into the course's folder")


def all_labs() -> list[Lab]:
    """The labs of the course that this folder belongs to, by number."""
    return labs_in(course_folder())


def labs_in(course: Path) -> list[Lab]:
    """The labs of the course in a folder, by number."""
    folders = (course / "labs").iterdir()
    return sorted(
        (Lab(folder) for folder in folders if (folder / "lab.toml").is_file()),
        key=lambda lab: lab.name,
    )


def find_lab(which: str | None = None) -> Lab:
    """The lab with a number (`"02"`, `"2"`), name or folder; without one, the lab we stand in."""
    if which is None:
        here = Path.cwd().resolve()
        if (here / "lab.toml").is_file():
            return Lab(here)
        raise LabError("which lab? Say its number, such as 02, or change into its folder")
    if (Path(which) / "lab.toml").is_file():
        return Lab(Path(which).resolve())
    labs = all_labs()
    for lab in labs:
        if lab.name == which or lab.number == which.zfill(2):
            return lab
    known = ", ".join(lab.number for lab in labs)
    raise LabError(f"there is no lab {which}: there are {known}")


# Running checks


def run_checks(
    lab: Lab,
    programs: Mapping[str, Path] | None = None,
    *,
    seed: int | None = None,
    only: Collection[str] | None = None,
    told: Callable[[CheckResult], None] | None = None,
    seconds: float = SECONDS,
    isolated: bool = False,
    stop: threading.Event | None = None,
) -> list[CheckResult]:
    """Run a lab's checks on its programs, or on other files in place of those named in `programs`.

    `only` names checks by id. `told` is called with each result as it comes. The checks run in a
    pytest process of their own, which is ended after `seconds`. With `isolated` that runs in an
    enclosure, and each program in a sandbox (see `streamlab.sandbox`). Setting `stop` ends it.
    """
    seed = new_seed() if seed is None else seed
    lab = Lab(lab.folder.resolve())  # the checks run in another folder
    wanted = [check for check in lab.checks if only is None or check.id in only]
    results: list[CheckResult] = []
    with tempfile.TemporaryDirectory(prefix="streamlab-check-") as scratch:
        log, errors = Path(scratch) / "results.jsonl", Path(scratch) / "errors.txt"
        log.touch()
        command = [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "-p",
                "streamlab.testing",
            ),
            *("--rootdir", str(lab.folder), "-c", os.devnull, "--lab-results", str(log)),
            *("--lab-seed", str(seed)),
            *(f"--lab-program={name}={path.resolve()}" for name, path in (programs or {}).items()),
            *(f"{lab.folder / 'test_lab.py'}::test_{check.id}" for check in wanted),
        ]
        if isolated:
            outputs = Path(scratch) / "outputs"
            outputs.mkdir()
            command += ["--lab-sandbox", str(outputs)]
            if (group := delegated_group()) is not None:
                command += ["--lab-cgroup", str(group)]
            command = enclosed(command, {outputs: OUTPUTS})
        with errors.open("w") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=scratch,
                # What it leaves behind, should it be killed, ends with this folder. And nobody
                # else's pytest plugins, for a quick start.
                env={
                    **os.environ,
                    "TMPDIR": scratch,
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                },
                start_new_session=os.name == "posix",
            )
        try:
            for result in _results_of(process, log, time.monotonic() + seconds, stop):
                results.append(result)
                if told is not None:
                    told(result)
        finally:
            cut = process.poll() is None
            if cut:
                _kill(process)
            process.wait()
        came = {result.check for result in results}
        words = errors.read_text(errors="replace").strip()
    for check in wanted:
        if check.id not in came:
            lost = CheckResult(
                lab=lab.name,
                check=check.id,
                kind=check.kind,
                points=0,
                max_points=check.points,
                outcome="could_not_run" if cut else "grader_fault",
                evidence=f"{LATE} {seconds:g} s."
                if cut
                else f"The check came to no result. It wrote:\n{words[-2000:]}",
                seed=seed,
            )
            results.append(lost)
            if told is not None:
                told(lost)
    return results


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a run and what belongs to it: a sandbox in the making has a process that waits for it."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def new_seed() -> int:
    """A seed that a person can type."""
    return random.SystemRandom().randrange(1, 1_000_000)


def _results_of(
    process: subprocess.Popen[bytes], log: Path, deadline: float, stop: threading.Event | None
) -> Iterator[CheckResult]:
    """The results as they are written, until the process ends or time is up."""
    with log.open(encoding="utf-8") as file:
        rest = ""
        while time.monotonic() < deadline and not (stop and stop.is_set()):
            ended = process.poll() is not None
            rest += file.read()
            *lines, rest = rest.split("\n")
            for line in lines:
                yield CheckResult.from_json(line)
            if ended:
                return
            time.sleep(0.05)


# Generating labs from solutions

_MARK = re.compile(r"^\s*# (BEGIN|END) (SOLUTION|STUB)\s*$")


def strip_solution(text: str, file: str) -> str:
    """The text of a program without its solutions, stubs in their place.

    Raises `LabError`, naming `file` and line, for a marker that is unclosed, nested or alone.
    """
    kept: list[str] = []
    inside: list[str] = []

    def wrong(number: int, what: str) -> LabError:
        return LabError(f"{file}, line {number}: {what}")

    number = 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        mark = _MARK.match(line)
        if mark is None:
            if re.search(r"(BEGIN|END) (SOLUTION|STUB)", line):
                raise wrong(number, "a marker stands on a line of its own: # BEGIN SOLUTION")
            if not inside:
                kept.append(line)
            elif inside[-1] == "STUB":
                kept.append(_uncommented(line))
            continue
        edge, what = mark.groups()
        if edge == "BEGIN":
            if what in inside:
                raise wrong(number, f"BEGIN {what} inside a {what}")
            if what == "STUB" and inside != ["SOLUTION"]:
                raise wrong(number, "a STUB stands inside a SOLUTION")
            inside.append(what)
        elif not inside or inside.pop() != what:
            raise wrong(number, f"END {what} without its BEGIN {what}")
    if inside:
        raise wrong(number, f"BEGIN {inside[-1]} is never closed")
    return "".join(kept)


def _uncommented(line: str) -> str:
    return re.sub(r"^(\s*)# ?", r"\1", line) if line.strip() else line


def solution_lines(text: str) -> set[str]:
    """The lines of a program that only its solution has, stripped; none too common to tell."""
    stub = {line.strip() for line in strip_solution(text, "program").splitlines()}
    lines = {line.strip() for line in text.splitlines()}
    return {line for line in lines - stub if len(line) > 15 and not _MARK.match(line)}


def generate(solution: Path, target: Path) -> None:
    """Write the lab of `solutions/NN_name` into the folder `target`, replacing what is there.

    What a student keeps beside it in `.streamlab` stays. Raises `LabError` for bad markers.
    """
    lab = Lab(solution)
    files: dict[str, str] = {}
    for file in _files_of(solution):
        name = file.relative_to(solution).as_posix()
        text = file.read_text(encoding="utf-8")
        if name in lab.programs:
            text = strip_solution(text, f"{lab.name}/{name}")
            files[f"{STUBS}/{name}"] = text
        files[name] = text
    target.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target / STUBS, ignore_errors=True)
    for old in _files_of(target):
        if old.relative_to(target).as_posix() not in files:
            old.unlink()
    for name, text in files.items():
        if name.endswith(".ipynb") and (target / name).is_file():
            text = _with_outputs_of(text, (target / name).read_text(encoding="utf-8"))
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")


def _files_of(folder: Path) -> list[Path]:
    """A lab's files, those in its folders too; nothing hidden, nothing that Python left."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and not any(
            part.startswith(".") or part == "__pycache__" for part in file.relative_to(folder).parts
        )
    )


def _with_outputs_of(new: str, old: str) -> str:
    """A notebook's new cells with the outputs that the old one had saved for the same cells."""
    notebook = json.loads(new)
    saved = {cell["id"]: cell for cell in json.loads(old)["cells"] if cell["cell_type"] == "code"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and cell["id"] in saved:
            cell["outputs"] = copy.deepcopy(saved[cell["id"]]["outputs"])
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


# What a lab remembers for its student


def results_file(lab: Lab) -> Path:
    """Where the results of the last check are kept."""
    return lab.folder / MEMORY / "results.jsonl"


def remember(lab: Lab, results: list[CheckResult]) -> None:
    """Keep results for `streamlab hint` and `streamlab progress`; a full disk is no error here."""
    with suppress(OSError):
        file = results_file(lab)
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(f"{result.to_json()}\n" for result in results), encoding="utf-8")


def last_results(lab: Lab) -> list[CheckResult]:
    """The results of the last check; none if there was no check, or they can't be read."""
    try:
        lines = results_file(lab).read_text(encoding="utf-8").split("\n")
        return [CheckResult.from_json(line) for line in lines if line]
    except (OSError, ValueError, TypeError):
        return []


def next_hint(lab: Lab) -> str:
    """One hint more: for the first check that the last run did not pass."""
    results = last_results(lab)
    open_checks = [r.check for r in results if r.outcome != "passed"] or (
        [] if results else [check.id for check in lab.checks]
    )
    if not open_checks:
        return "All checks passed: there is nothing to hint at."
    check = lab.check(open_checks[0])
    file = lab.folder / MEMORY / "hints.json"
    shown: dict[str, int] = {}
    with suppress(OSError, ValueError):
        shown = json.loads(file.read_text())
    count = min(shown.get(check.id, 0) + 1, len(check.hints))
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({**shown, check.id: count}))
    if not check.hints:
        return f"{check.title}: there is no hint for this one. Read the lab's text again."
    more = "" if count < len(check.hints) else ", the last one"
    return f"{check.title}, hint {count} of {len(check.hints)}{more}:\n{check.hints[count - 1]}"


def reset(lab: Lab) -> list[Path]:
    """Put the stubs back in place of the student's programs; returns the copies kept of those."""
    stubs = lab.folder / STUBS
    if not stubs.is_dir():
        raise LabError(f"{lab.folder} has no {STUBS}: only a lab in labs/ can be reset")
    kept = []
    for memory in (results_file(lab), lab.folder / MEMORY / "hints.json"):
        memory.unlink(missing_ok=True)
    moment = time.strftime("%Y%m%d-%H%M%S")
    for name in lab.programs:
        program = lab.folder / name
        if program.is_file() and lab.attempted(program):
            copy_of = lab.folder / MEMORY / "kept" / f"{moment}-{name}"
            copy_of.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(program, copy_of)
            kept.append(copy_of)
        shutil.copy2(stubs / name, program)
    return kept
