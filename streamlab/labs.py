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
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import IO, Any, Protocol

from streamlab import environment
from streamlab.errors import StreamlabError
from streamlab.files import MiB
from streamlab.patience import Deadline
from streamlab.results import CheckResult
from streamlab.sandbox import delegated_group, enclosed
from streamlab.server import AS_EVERYWHERE, NOT_LISTENING, Cup

STUBS = ".stub"
"""In a lab's folder: the programs as they were generated, to compare with and to go back to."""
HINTS = Path(__file__).parent / "hints"
"""The hints of each lab, by its name: not in its folder, where they would lie open."""
MEMORY = ".streamlab"
"""In a lab's folder, ignored by git: hints shown, last results, copies kept by a reset."""
OUTPUTS = 1024 * MiB
"""What the programs of a submission may write at once, in bytes."""
BUSY = "This machine was too busy for the check"
"""How the evidence of a fault begins that nothing but a lack of time can have caused."""
TRIES = 3
"""How often a check is run that nothing but a lack of time has broken."""
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


@dataclass(frozen=True)
class Promise:
    """A sentence of the lab's text that the checks hold a program to."""

    id: str
    text: str
    """The words of lab.ipynb, as they stand there."""
    check: str
    """The id of the check that puts it to the test."""


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
            )
            for name, each in self.manifest["checks"].items()
        ]

    @property
    def points(self) -> float:
        return sum(check.points for check in self.checks)

    @cached_property
    def promises(self) -> dict[str, Promise]:
        """What contract.toml says that the lab's text promises, by id; none without that file."""
        return {
            name: Promise(name, each["text"], each["check"])
            for name, each in _read_toml(self.folder / "contract.toml").items()
        }

    @cached_property
    def _hints(self) -> dict[str, dict[str, list[str]]]:
        return _read_toml(HINTS / f"{self.name}.toml")

    def hints(self, check: str, cause: str = "") -> list[str]:
        """Hints from gentle to plain: those of a cause, or, where it has none, of the check."""
        for hints in (self._hints, _common()):
            if of_cause := hints.get("causes", {}).get(cause, []):
                return of_cause
        return self._hints.get("checks", {}).get(check, [])

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
        if result.outcome == "grader_fault":
            return result.evidence.startswith(BUSY)
        return result.outcome == "failed" and result.cause in self.manifest.get("timing", ())

    def cause_text(self, cause: str) -> str:
        """What a misconception means, in plain language; empty for an unknown one."""
        common = _common().get("texts", {}).get(cause, "")
        return str(self.manifest.get("causes", {}).get(cause, common))

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


PORT = 8000
"""Where a server that is started by hand listens, as the labs' pages say."""


def kept_files(lab: Lab, check: str) -> Path:
    """The root of the files of a check that failed with `--keep`; what was beside it still is."""
    return lab.folder / MEMORY / "kept-files" / check / "root"


def start_by_hand(lab: Lab, root: Path) -> str:
    """The command that starts a lab's server on the files in `root`, in a cup like that of a check.

    It is for a shell in the lab's folder, and in a subshell, so that the limits end with it.
    """
    where = root.relative_to(lab.folder) if root.is_relative_to(lab.folder) else root
    launched = lab.manifest.get("launch", {})
    files = shlex.quote(where.as_posix())
    cup = lab.limits
    limits = [
        f"ulimit -{letter} {value}; "
        for letter, value in (
            ("d", cup.data_mib and cup.data_mib * 1024),
            ("s", cup.stack_kib),
            ("n", cup.nofile),
        )
        if value
    ]
    if "app" in launched:
        program = f"{lab.programs[0]}:{launched['app']}"
        run = f"STREAMLAB_ROOT={files} python -m streamlab.serve {program} --port={PORT}"
    else:
        run = f"python {lab.programs[0]} --root {files} --port {PORT}"
    return f"({''.join(limits)}{run})"


def as_text(lab: Lab, result: CheckResult) -> str:
    """A result in full, as a student reads it.

    Where the check's files were kept, it says how to start the server on them.
    """
    check = lab.check(result.check)
    lines = [
        f"{check.title} ({result.kind}): {result.points:g} of {result.max_points:g} points",
        "",
    ]
    if result.promise in lab.promises:
        lines += [f"The lab's text says: {lab.promises[result.promise].text}", ""]
    lines.append(result.evidence)
    if why := lab.cause_text(result.cause):
        lines += ["", f"What it means: {why}"]
    root = kept_files(lab, result.check)
    kept = result.outcome == "failed" and root.is_dir() and any(root.iterdir())
    if kept:
        lines += [
            "",
            f"The check's files are kept in {root.parent}. To start the server on them, in "
            f"{lab.folder}: {start_by_hand(lab, root)}",
        ]
    if result.curl:
        by_hand = result.curl.replace(":PORT/", f":{PORT}/").replace(", PORT)", f", {PORT})")
        lines += ["", f"Try it by hand: {by_hand if kept else result.curl}"]
    hints = lab.hints(result.check, result.cause)
    if hints and result.outcome == "failed":
        lines += ["", f"A hint: {hints[0]} (more with: streamlab hint {lab.number})"]
    if result.outcome == "grader_fault" and result.evidence.startswith(BUSY):
        lines += ["", "Your program is not to blame: check again when less runs on this machine."]
    elif result.outcome == "grader_fault":
        lines += ["", "This is a fault of the check, not of your program: please report it."]
    again = f"streamlab check {lab.number} --only {result.check} --seed {result.seed}"
    lines += ["", f"The same again: {again}"]
    if result.curl and not kept:
        lines += [f"With --keep it leaves its files, to try it by hand on port {PORT}."]
    return "\n".join(lines)


def stories(lab: Lab, results: Collection[CheckResult]) -> list[str]:
    """In full, what did not pass; a story that several checks share is told once."""
    told: dict[str, str] = {}
    for result in results:
        if result.outcome in ("failed", "could_not_run", "grader_fault"):
            key = result.evidence if result.outcome == "could_not_run" else result.check
            told.setdefault(key, as_text(lab, result))
    return list(told.values())


def advice(lab: Lab, results: Collection[CheckResult], notes: bool = True) -> str:
    """A sentence or two below the results: what to do next, unless a story says it.

    With `notes` also what passed checks left out: it depends on the machine, not on the program.
    """
    outcomes = {result.outcome for result in results}
    if outcomes == {"not_attempted"}:
        first = lab.checks[0].title
        return f"{', '.join(lab.programs)}: still the stub. Begin with the first check, {first!r}."
    said = (
        ["All checks passed."] if outcomes == {"passed"} and len(results) == len(lab.checks) else []
    )
    if notes:
        said += [result.evidence for result in results if result.outcome == "passed"]
    return " ".join(filter(None, said))


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


class Process(Protocol):
    """A process that leads a group of its own, as `subprocess.Popen` has it."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...

    def kill(self) -> None: ...


Start = Callable[[list[str], str, dict[str, str], IO[str]], Process]
"""Starts a command in a folder, with an environment; its output goes into a file."""


def start_pytest(
    command: list[str], folder: str, surroundings: dict[str, str], output: IO[str]
) -> Process:
    """Start the pytest process of a run of checks, in a session of its own."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=folder,
        env=surroundings,
        start_new_session=os.name == "posix",
    )


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
    keep: bool = False,
    start: Start = start_pytest,
) -> list[CheckResult]:
    """Run a lab's checks on its programs, or on other files in place of those named in `programs`.

    `only` names checks by id, in the order in which they run. `told` is called with each result as
    it comes. The checks run in a pytest process of their own, which is ended after `seconds`. With
    `isolated` that runs in an enclosure, and each program in a sandbox (see `streamlab.sandbox`).
    Setting `stop` ends it, from `told` too: the checks that had not run yet `could_not_run`.
    A check that nothing but a lack of time has broken is run again, `TRIES` times in all.
    With `keep` the files of a check that fails stay (see `kept_files`); those of earlier runs never
    do. `start` starts the pytest process.
    """
    seed = new_seed() if seed is None else seed

    def late(result: CheckResult) -> bool:
        return result.outcome == "grader_fault" and result.evidence.startswith(BUSY)

    def tell(result: CheckResult) -> None:
        if told is not None and not late(result):
            told(result)

    if not isolated and not programs:
        shutil.rmtree(lab.folder / MEMORY / "kept-files", ignore_errors=True)
    results: list[CheckResult] = []
    for _ in range(TRIES):
        found = _run_once(lab, programs, seed, only, tell, seconds, isolated, stop, keep, start)
        again = {result.check: result for result in found}
        results = [again.get(result.check, result) for result in results] or found
        only = [result.check for result in results if late(result)]
        if not only or (stop and stop.is_set()):
            break
    if told is not None:
        for result in filter(late, results):
            told(result)
    return results


def _run_once(
    lab: Lab,
    programs: Mapping[str, Path] | None,
    seed: int,
    only: Collection[str] | None,
    told: Callable[[CheckResult], None],
    seconds: float,
    isolated: bool,
    stop: threading.Event | None,
    keep: bool,
    start: Start,
) -> list[CheckResult]:
    """Run checks in a pytest process, once; arguments as for `run_checks`."""
    lab = Lab(lab.folder.resolve())  # the checks run in another folder
    checks = {check.id: check for check in lab.checks}
    ids = checks if only is None else [name for name in dict.fromkeys(only) if name in checks]
    wanted = [checks[name] for name in ids]
    results: list[CheckResult] = []
    with scratch_folder("streamlab-check-") as scratch:
        log, errors = Path(scratch) / "results.jsonl", Path(scratch) / "errors.txt"
        log.touch()
        command = [
            *(sys.executable, "-m", "pytest"),
            *(
                "-q",
                # No plugin and no rewriting that a check has no use for: a quick start.
                "--assert=plain",
                *("-p", "no:cacheprovider"),
                *("-p", "no:unraisableexception"),
                *("-p", "streamlab.testing"),
            ),
            *("--rootdir", str(lab.folder), "-c", os.devnull, "--lab-results", str(log)),
            *("--lab-seed", str(seed)),
            *(f"--lab-program={name}={path.resolve()}" for name, path in (programs or {}).items()),
            *(f"{lab.folder / 'test_lab.py'}::test_{check.id}" for check in wanted),
        ]
        if keep:
            command.append("--lab-keep")
        if isolated:
            outputs = Path(scratch) / "outputs"
            outputs.mkdir()
            command += ["--lab-sandbox", str(outputs)]
            if (group := delegated_group()) is not None:
                command += ["--lab-cgroup", str(group)]
            command = enclosed(command, {outputs: OUTPUTS})
        surroundings = {**environment.inherited(), **AS_EVERYWHERE}
        # What it leaves behind, should it be killed, ends with this folder. And nobody else's
        # pytest plugins, for a quick start.
        surroundings |= {"TMPDIR": scratch, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        with errors.open("w", encoding="utf-8") as output:
            process = start(command, scratch, surroundings, output)
        try:
            for result in _results_of(process, log, Deadline(seconds), stop):
                results.append(result)
                told(result)
        finally:
            cut = process.poll() is None
            if cut:
                _kill(process)
            process.wait()
        came = {result.check for result in results}
        words = errors.read_text(encoding="utf-8", errors="replace").strip()
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
            told(lost)
    return results


@contextmanager
def scratch_folder(prefix: str, patience: float = 10.0) -> Iterator[str]:
    """A temporary folder that is removed at the end, also while programs that end write into it.

    A run that is cut short leaves servers to their supervisors, which need a moment to end them.
    """
    folder = tempfile.mkdtemp(prefix=prefix)
    try:
        yield folder
    finally:
        deadline = Deadline(patience)
        while os.path.isdir(folder):
            shutil.rmtree(folder, ignore_errors=True)
            if deadline.passed:
                break
            deadline.pause(0.05)


def _kill(process: Process) -> None:
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
    process: Process, log: Path, deadline: Deadline, stop: threading.Event | None
) -> Iterator[CheckResult]:
    """The results as they are written, until the process ends or time is up."""
    with log.open(encoding="utf-8") as file:
        rest = ""
        while not deadline.passed and not (stop and stop.is_set()):
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
    """Keep results for `streamlab hint` and `streamlab progress`.

    A full disk is no error here, and leaves what was kept before.
    """
    with suppress(OSError):
        file = results_file(lab)
        file.parent.mkdir(exist_ok=True)
        part = file.with_suffix(".part")
        try:
            part.write_text("".join(f"{each.to_json()}\n" for each in results), encoding="utf-8")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)


def last_results(lab: Lab) -> list[CheckResult]:
    """The results of the last check; none if there was no check, or they can't be read."""
    try:
        lines = results_file(lab).read_text(encoding="utf-8").split("\n")
        return [CheckResult.from_json(line) for line in lines if line]
    except (OSError, ValueError, TypeError):
        return []


def next_hint(lab: Lab) -> str:
    """One hint more, for what the last run found first that did not pass.

    Hints are counted by cause: another mistake in the same check begins with its first hint.
    """
    results = last_results(lab)
    failed = next((result for result in results if result.outcome != "passed"), None)
    if results and failed is None:
        return "All checks passed: there is nothing to hint at."
    check = lab.check(failed.check) if failed else lab.checks[0]
    cause = failed.cause if failed else ""
    hints = lab.hints(check.id, cause)
    if not hints:
        return f"{check.title}: there is no hint for this one. Read the lab's text again."
    key = f"{check.id}/{cause}"
    file = lab.folder / MEMORY / "hints.json"
    shown: dict[str, int] = {}
    with suppress(OSError, ValueError):
        shown = json.loads(file.read_text(encoding="utf-8"))
    count = min(shown.get(key, 0) + 1, len(hints))
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({**shown, key: count}), encoding="utf-8")
    more = "" if count < len(hints) else ", the last one"
    why = lab.cause_text(cause)
    return "\n".join(
        [
            f"{check.title}, hint {count} of {len(hints)}{more}:",
            *([f"(Found last: {why})"] if why else []),
            hints[count - 1],
        ]
    )


def reset(lab: Lab) -> list[Path]:
    """Put the stubs back in place of the student's programs; returns the copies kept of those."""
    stubs = lab.folder / STUBS
    if not stubs.is_dir():
        raise LabError(f"{lab.folder} has no {STUBS}: only a lab in labs/ can be reset")
    kept = []
    shutil.rmtree(lab.folder / MEMORY / "kept-files", ignore_errors=True)
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
