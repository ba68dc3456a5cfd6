"""Run a lab's checks on the programs in a folder, in a process of its own, and collect the results.

Times are in seconds. A check that only ran out of time on a busy machine is run again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol

from streamlab import environment
from streamlab.files import KiB, MiB
from streamlab.labs.manifest import MEMORY, Check, Lab
from streamlab.labs.results import CheckResult, Step, from_line
from streamlab.labs.scratch import scratch_folder
from streamlab.process.patience import Deadline
from streamlab.process.program import AS_EVERYWHERE
from streamlab.process.sandbox import delegated_group, enclosed

OUTPUTS = 1024 * MiB
"""What the programs of a submission may write at once, in bytes."""
TRIES = 3
"""How often a check is run that nothing but a lack of time has broken."""
AT_ONCE = 3
"""How many checks run beside each other: much of a check is waiting."""
SECONDS = 180
"""What all checks of a program may take together before the run is ended."""


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


@dataclass(frozen=True)
class RunOptions:
    """How a lab's checks are run: in a pytest process of their own."""

    seed: int | None = None
    """What they draw by; None: a new one."""
    seconds: float = SECONDS
    """After so many, the process is ended."""
    isolated: bool = False
    """Whether it runs in an enclosure, and each program in a sandbox (see
    `streamlab.process.sandbox`)."""
    stop: threading.Event | None = None
    """Setting it ends the run: the checks that had not run yet `could_not_run`."""
    keep: bool = False
    """Whether the files of a check that fails stay (see `kept_files`); those of earlier runs never
    do."""
    start: Start = start_pytest
    """Starts the process."""
    at_once: int | None = None
    """How many checks run beside each other; None: `AT_ONCE`, or one if they are isolated."""


USUAL = RunOptions()
"""How a student's own programs are checked."""


def run_checks(
    lab: Lab,
    programs: Mapping[str, Path] | None = None,
    *,
    only: Collection[str] | None = None,
    told: Callable[[CheckResult], None] | None = None,
    doing: Callable[[Step], None] | None = None,
    options: RunOptions = USUAL,
) -> list[CheckResult]:
    """Run a lab's checks on its programs, or on other files in place of those named in `programs`.

    `only` names checks by id, in the order in which they run. `told` is called with each result as
    it comes, in that order, and may stop the run; `doing` with what a check begins to do. A check
    that nothing but a lack of time has broken is run again, `TRIES` times in all.
    """
    isolated, stop = options.isolated, options.stop

    def late(result: CheckResult) -> bool:
        return result.outcome == "grader_fault" and result.late

    def tell(result: CheckResult) -> None:
        if told is not None and not late(result):
            told(result)

    if not isolated and (lab.command or not programs):
        shutil.rmtree(lab.folder / MEMORY / "kept-files", ignore_errors=True)
    resolved = Lab(lab.folder.resolve())  # the checks run in another folder
    seed = new_seed() if options.seed is None else options.seed
    at_once = options.at_once or (1 if isolated else AT_ONCE)
    run = _Run(resolved, programs or {}, options, seed, at_once, doing)
    results: list[CheckResult] = []
    for turn in range(TRIES):
        if turn:
            run = replace(run, at_once=1)
        found = run.once(only, tell)
        again = {result.check: result for result in found}
        results = [again.get(result.check, result) for result in results] or found
        only = [result.check for result in results if late(result)]
        if not only or (stop and stop.is_set()):
            break
    if told is not None:
        for result in filter(late, results):
            told(result)
    return results


@dataclass(frozen=True)
class _Run:
    """What stays the same however often checks are run again; as for `run_checks`.

    `seed` and `at_once` are those of `options`, or what stands for them if they are None.
    """

    lab: Lab
    programs: Mapping[str, Path]
    options: RunOptions
    seed: int
    at_once: int
    doing: Callable[[Step], None] | None

    def once(
        self, only: Collection[str] | None, told: Callable[[CheckResult], None]
    ) -> list[CheckResult]:
        """Run checks in a pytest process; all of the lab, or those with these ids.

        If that process ends before all have a result, it has been ended by the check that it was
        at: the others run in a new one.
        """
        checks = {check.id: check for check in self.lab.checks}
        ids = checks if only is None else [name for name in dict.fromkeys(only) if name in checks]
        wanted = [checks[name] for name in ids]
        results: list[CheckResult] = []
        early: dict[str, CheckResult] = {}
        """Results of checks before which another one has no result yet."""
        due = list(ids)

        def take(result: CheckResult) -> None:
            early[result.check] = result
            while due and due[0] in early:
                results.append(early.pop(due.pop(0)))
                told(results[-1])

        deadline = Deadline(self.options.seconds)
        while wanted:
            cut, words = self._in_one_process(wanted, take, deadline)
            wanted = [check for check in wanted if check.id in due and check.id not in early]
            # Checks that run beside each other have processes of their own.
            lost = wanted if cut or self.at_once > 1 else wanted[:1]
            for check in lost:
                take(self._lost(check, cut, words))
            wanted = wanted[len(lost) :]
        return results

    def _in_one_process(
        self, wanted: Sequence[Check], take: Callable[[CheckResult], None], deadline: Deadline
    ) -> tuple[bool, str]:
        """Run checks in a pytest process; whether it was cut short, and what it wrote."""
        with scratch_folder("streamlab-check-") as scratch:
            log, errors = Path(scratch) / "results.jsonl", Path(scratch) / "errors.txt"
            log.touch()
            surroundings = {**environment.inherited(), **AS_EVERYWHERE}
            # If it is killed, what it leaves behind is removed with this folder. Pytest loads no
            # plugins of other packages, because that makes it start sooner.
            surroundings |= {"TMPDIR": scratch, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
            with errors.open("w", encoding="utf-8") as output:
                command = self._command(wanted, log)
                process = self.options.start(command, scratch, surroundings, output)
            try:
                steps: dict[str, Step] = {}
                told_last: Step | None = None
                for found in _lines_of(process, log, deadline, self.options.stop):
                    match found:
                        case CheckResult():
                            steps.pop(found.check, None)
                            take(found)
                        case Step():
                            steps.pop(found.check, None)
                            steps[found.check] = found  # what began last is last
                        case None if self.doing is not None and steps:
                            step = next(reversed(steps.values()))
                            if step != told_last:
                                self.doing(step)
                            told_last = step
            finally:
                cut = process.poll() is None
                if cut:
                    _kill(process)
                process.wait()
            words = _end_of(errors)
        return cut, words

    def _command(self, wanted: Sequence[Check], log: Path) -> list[str]:
        """The command that runs checks, and writes their results into `log`."""
        folder = self.lab.folder
        command = [
            *(sys.executable, "-m", "pytest"),
            *(
                "-q",
                # No plugin and no rewriting that a check has no use for: a quick start.
                "--assert=plain",
                *("-p", "no:cacheprovider"),
                *("-p", "no:unraisableexception"),
                *("-p", "streamlab.checks.pytest_plugin"),
            ),
            *("--rootdir", str(folder), "-c", os.devnull, "--lab-results", str(log)),
            *("--lab-seed", str(self.seed)),
            *("--lab-at-once", str(self.at_once)),
            *(f"--lab-program={name}={path.resolve()}" for name, path in self.programs.items()),
            *(f"{folder / 'test_lab.py'}::test_{check.id}" for check in wanted),
        ]
        if self.options.keep:
            command.append("--lab-keep")
        if self.options.isolated:
            outputs = log.with_name("outputs")
            outputs.mkdir()
            command += ["--lab-sandbox", str(outputs)]
            if (group := delegated_group()) is not None:
                command += ["--lab-cgroup", str(group)]
            command = enclosed(command, {outputs: OUTPUTS})
        return command

    def _lost(self, check: Check, cut: bool, words: str) -> CheckResult:
        """The result of a check that came to none; `cut` if the whole run was ended before."""
        return CheckResult(
            lab=self.lab.name,
            check=check.id,
            kind=check.kind,
            points=0,
            max_points=check.points,
            outcome="could_not_run" if cut else "grader_fault",
            evidence="The checks of this program had not come to their end after "
            f"{self.options.seconds:g} s."
            if cut
            else f"The check came to no result. It wrote:\n{words[-2000:]}",
            seed=self.seed,
            late=cut,
        )


def _end_of(file: Path, most: int = 64 * KiB) -> str:
    """The last bytes of a file, as text."""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - most))
        return opened.read(most).decode(errors="replace").strip()


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


def _lines_of(
    process: Process, log: Path, deadline: Deadline, stop: threading.Event | None
) -> Iterator[CheckResult | Step | None]:
    """Results and steps as they are written, and None after each look, until it ends or is late."""
    with log.open(encoding="utf-8") as file:
        rest = ""
        while not deadline.passed and not (stop and stop.is_set()):
            ended = process.poll() is not None
            rest += file.read()
            *lines, rest = rest.split("\n")
            yield from map(from_line, lines)
            yield None
            if ended:
                return
            time.sleep(0.05)
