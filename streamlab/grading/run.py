"""Grading a class: every submission once, some at a time, and again where a run was interrupted."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from streamlab.grading import reports
from streamlab.grading.adjust import read_adjustments
from streamlab.grading.again import Selection, selection
from streamlab.grading.beliefs import beliefs_of
from streamlab.grading.collect import Collection, Submission, collect
from streamlab.grading.collected import COLLECTED, check_report, write_table
from streamlab.grading.likeness import likenesses
from streamlab.grading.records import (
    Key,
    Mark,
    Stored,
    Student,
    from_lines,
    marks_as_json,
    marks_from_json,
    outcome_of,
    to_line,
)
from streamlab.grading.roster import read_roster
from streamlab.grading.task import Graded, GradingError, Task, archive_of, checks_of, grade
from streamlab.grading.text import write_text
from streamlab.grading.times import Deadline
from streamlab.handout.questions import questions
from streamlab.labs import runner
from streamlab.labs.manifest import Lab
from streamlab.labs.results import VERSION, CheckResult
from streamlab.process import sandbox

MARKS = "marks.json"
"""In a report: what an export needs of it."""

Told = Callable[[int, int, str], None]
"""Called with how many submissions are done, of how many, and whose was the last."""


class Workers(Protocol):
    """Where tasks run."""

    def outcomes(self, tasks: dict[str, Task]) -> Iterator[tuple[str, Graded | Exception]]:
        """Run tasks, given by student; their outcomes as they come."""

    def stop(self) -> None:
        """End what runs."""

    def close(self) -> None:
        """There is nothing more to run."""


@dataclass(frozen=True)
class ClassReport:
    """What a grading run found: one mark for each student of the roster, in its order."""

    marks: list[Mark]
    unmatched: list[str]
    """What lies in the folder of submissions and belongs to nobody, each with the reason."""
    graded: int
    """How many submissions this run has checked; the others were known from an earlier one."""
    left: list[str]
    """By id, who has a new submission that was not graded, because a part was graded again."""


@dataclass(frozen=True)
class ClassWork:
    """What a class handed in for a lab, and how it is to be graded."""

    submissions: Path
    """The folder of what was handed in."""
    lab: Lab
    roster: Path
    """The CSV file of the class."""
    report: Path
    """The folder to write into. If it has the results of an interrupted run of the same lab, the
    run continues."""
    mapping: Path | None = None
    """A CSV file that says whose a submission is: see `collect`."""
    seed: int | None = None
    """None: that of the interrupted run, or else a new one."""
    unsafe: bool = False
    """Whether programs run without a sandbox."""
    show_seed: bool = False
    """Whether the seed stands on the students' pages."""
    deadline: Deadline | None = None
    """With one, what is late costs points."""
    times: Path | None = None
    """A CSV file that says when students handed in, where their platform does not: see
    `times_of_table`."""
    only_students: Sequence[str] = ()
    """Ids: these are graded again in a report that is finished, and nobody else."""
    only_checks: Sequence[str] = ()
    """Ids: these are run again, and no others."""


def grade_class(
    work: ClassWork, *, jobs: int = 1, scheduler: str = "", told: Told | None = None
) -> ClassReport:
    """Grade what a class handed in, and write gradebook, feedback and class page.

    `jobs` submissions are checked at once here, or as many as the workers of the dask scheduler at
    `scheduler` take. What `by_hand.csv` in the report gives counts. Raises `GradingError` where it
    can't be done, before anything ran.
    """
    lab, report = work.lab, work.report
    if not work.unsafe and not scheduler and (reason := sandbox.unavailable_reason()):
        raise GradingError(
            f"no submission can be graded safely here: {reason}. "
            "With --unsafe they run as you, and can read and change all that you can"
        )
    students = read_roster(work.roster)
    collection = collect(work.submissions, lab, students, work.mapping)
    adjustments = read_adjustments(report, lab, students, work.roster, work.deadline, work.times)
    archive = archive_of(lab)
    with _report_folder(report):
        check_report(report, students)
        seed = _settled_seed(work, checks_of(archive))
        again = selection(report / MARKS, lab, students, work.only_students, work.only_checks)
        run = _Run(work, archive, seed, collection, again)
        workers = _dask_workers(scheduler) if scheduler else _LocalWorkers(jobs)
        graded = run.grade(students, workers, told)
        checked = [run.mark(student) for student in students]
        marks = adjustments.adjusted(checked, collection)
        checked = [replace(one, late=mark.late) for one, mark in zip(checked, marks, strict=True)]
        write_text(report / MARKS, marks_as_json(marks, students, checked))
        write_table(collection.rows, report / COLLECTED)
        reports.write_gradebook(marks, report / "gradebook.csv", late=work.deadline is not None)
        for mark in marks:
            reports.write_feedback(lab, mark, report / "feedback", show_seed=work.show_seed)
        strangers = collection.strangers
        beside = reports.Beside(
            unmatched=strangers,
            in_doubt=[each for each in collection.unmatched if each not in strangers],
            alike=likenesses(lab, collection),
            checks=run.checks,
            beliefs=beliefs_of(collection.shared, questions(lab.folder.parent.parent)),
        )
        reports.write_class_page(lab, marks, report / "class.html", beside)
    return ClassReport(marks, collection.unmatched, graded, run.left(students))


def marks_of(report: Path) -> tuple[list[Mark], list[Student]]:
    """The marks and the roster of a report; raises `GradingError` for a folder that is none."""
    try:
        return marks_from_json((report / MARKS).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise GradingError(
            f"{report} is no report of streamlab grade, or an interrupted one: {error}"
        ) from error


@contextmanager
def _report_folder(report: Path) -> Iterator[None]:
    """The report's folder, for this run alone."""
    try:
        report.mkdir(parents=True, exist_ok=True)
        lock = (report / ".lock").open("w")
    except OSError as error:
        raise GradingError(f"the report can't be written: {error}") from error
    with lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # not on Windows
            pass
        except OSError as error:
            raise GradingError(f"another run is writing into {report}: wait for its end") from error
        yield


def _settled_seed(work: ClassWork, checks: str) -> int:
    """The seed of this run: that of the run that the report holds, if it holds one."""
    report, lab, wanted = work.report, work.lab, work.seed
    file = report / "run.json"
    facts = {"lab": lab.name, "checks": checks, "checks_version": VERSION}
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        before = None
    except (OSError, ValueError) as error:
        raise GradingError(f"{file} can't be read: name another folder with --out") from error
    if before is not None:
        if before.get("lab") != lab.name:
            raise GradingError(
                f"{report} holds a run of lab {before.get('lab')}: name another folder with --out"
            )
        if any(before.get(name) != value for name, value in facts.items()):
            raise GradingError(
                f"{report} holds a run with another version of the checks: name another folder "
                f"with --out, and --seed {before.get('seed')} for the same conditions"
            )
        if wanted not in (None, before["seed"]):
            raise GradingError(f"{report} holds a run with the seed {before['seed']}: leave it out")
        return int(before["seed"])
    seed = runner.new_seed() if wanted is None else wanted
    write_text(file, json.dumps({**facts, "seed": seed}, indent=2) + "\n")
    return seed


class _Run:
    """One run: what is known, what is still to do, and where it is written."""

    def __init__(
        self,
        work: ClassWork,
        archive: bytes,
        seed: int,
        collection: Collection,
        selection: Selection | None = None,
    ) -> None:
        self.lab = work.lab
        self.archive = archive
        self.checks = checks_of(archive)
        self.seed = seed
        self.isolated = not work.unsafe
        self.collection = collection
        self.selection = selection
        self.log = work.report / "results.jsonl"
        self.known: dict[Key, Stored] = {}
        self.faults: dict[str, str] = {}
        if self.log.exists():
            text = self.log.read_text(encoding="utf-8", errors="replace")
            self.known = from_lines(text.split("\n"))
            if text and not text.endswith("\n"):  # torn by an interruption
                self._append("\n")

    def grade(self, students: Sequence[Student], workers: Workers, told: Told | None) -> int:
        """Check what has not been checked; returns how many submissions that were."""
        tasks = {
            student.student: task
            for student in students
            if (task := self._task(student.student)) is not None
        }
        try:
            for done, (who, outcome) in enumerate(workers.outcomes(tasks), start=1):
                self._keep(who, outcome)
                if told is not None:
                    told(done, len(tasks), who)
            # What failed for want of time is tried again, with nothing beside it.
            for who in tasks:
                if again := self._again(who):
                    task = replace(tasks[who], only=again)
                    for _, outcome in workers.outcomes({who: task}):
                        self._keep(who, outcome, alone=True)
        except BaseException:
            workers.stop()
            raise
        finally:
            workers.close()
        return len(tasks)

    def left(self, students: Sequence[Student]) -> list[str]:
        """Those with a new submission that was not graded, by id."""
        found = self.collection.submissions
        return [
            each.student
            for each in students
            if not self._is_selected(each.student)
            and self.selection is not None
            and each.student in found
            and self.selection.is_new(each.student, found[each.student].sha256)
        ]

    def mark(self, student: Student) -> Mark:
        """What became of a student, by all that is known."""
        who = student.student
        submission = self.collection.submissions.get(who)
        if not self._is_selected(who):
            assert self.selection is not None
            if who in self.selection.before:
                return replace(self.selection.before[who], name=student.name)
            self.faults[who] = "it was not graded: grade the class"
        mark = Mark(who, student.name, self.lab.name, 0, self.lab.points, "missing")
        if submission is None:
            return replace(mark, detail="nothing was handed in")
        if submission.problem:
            why = "; ".join([submission.problem, *submission.notes])
            return replace(mark, outcome="could_not_run", detail=why)
        stored = self.known.get(self._key(who), Stored())
        results = tuple(
            stored.results.get(check.id) or self._not_run(who, check.id)
            for check in self.lab.checks
        )
        outcome = outcome_of(results)
        notes = [*submission.notes]
        if outcome == "could_not_run":
            notes.insert(0, next(r.evidence for r in results if r.outcome == outcome))
        if outcome == "grader_fault":
            broken = [r.check for r in results if r.outcome == outcome]
            why = self.faults.get(who) or f"the grader failed at {', '.join(broken)}"
            notes.insert(0, f"{why}: grade again, or by hand")
        elif who in self.faults:
            notes.insert(0, f"it was not graded again: {self.faults[who]}")
        if stored.alone:
            notes.append(f"run again alone: {', '.join(sorted(stored.alone))}")
        return replace(
            mark,
            points=sum(result.points for result in results),
            outcome=outcome,
            detail=" ".join("; ".join(notes).split())[:500],
            results=results,
            submission=submission.sha256,
            seconds=round(sum(result.seconds for result in results), 3),
        )

    def _task(self, who: str) -> Task | None:
        """What is still to be checked of a student's submission."""
        submission = self.collection.submissions.get(who)
        if submission is None or submission.problem or not self._is_selected(who):
            return None
        known = self.known.get(self._key(who), Stored()).results
        settled = {name for name, result in known.items() if result.outcome != "grader_fault"}
        if self.selection is None:
            wanted = self._attempted(submission) - settled
        else:
            wanted = self._attempted(submission)
            wanted &= self.selection.checks or wanted
        if not wanted:
            return None
        return Task(
            lab=self.lab.name,
            archive=self.archive,
            checks=self.checks,
            programs=submission.programs,
            seed=self.seed,
            only=tuple(check.id for check in self.lab.checks if check.id in wanted),
            isolated=self.isolated,
        )

    def _is_selected(self, who: str) -> bool:
        """Whether a student is graded; those who are not keep what they have."""
        submission = self.collection.submissions.get(who)
        sha256 = submission.sha256 if submission is not None else ""
        return self.selection is None or self.selection.takes(who, sha256)

    def _attempted(self, submission: Submission) -> set[str]:
        """The checks whose programs are not all still the stub."""
        stubs = {
            name
            for name, content in submission.programs.items()
            if not self.lab.attempted_text(name, content.decode("utf-8", "replace"))
        }
        return {
            check.id
            for check in self.lab.checks
            if not set(self.lab.programs_of(check.id)) & set(submission.programs) <= stubs
            or not set(self.lab.programs_of(check.id)) & set(submission.programs)
        }

    def _not_run(self, who: str, check_id: str) -> CheckResult:
        """The result of a check that no run has one for."""
        check = self.lab.check(check_id)
        fault = self.faults.get(who)
        return CheckResult(
            lab=self.lab.name,
            check=check.id,
            kind=check.kind,
            points=0,
            max_points=check.points,
            outcome="grader_fault" if fault else "not_attempted",
            evidence=fault or "The program is still the stub.",
            seed=self.seed,
        )

    def _again(self, who: str) -> tuple[str, ...]:
        """The checks of a student that failed for a cause that a busy machine can have."""
        stored = self.known.get(self._key(who), Stored())
        return tuple(
            name
            for name, result in stored.results.items()
            if name not in stored.alone and self.lab.depends_on_time(result)
        )

    def _key(self, who: str) -> Key:
        return Key(who, self.collection.submissions[who].sha256, self.checks)

    def _keep(self, who: str, outcome: Graded | Exception, alone: bool = False) -> None:
        """Remember an outcome, and write it down."""
        if isinstance(outcome, Exception):
            self.faults[who] = f"{type(outcome).__name__}: {outcome}"
            return
        key = self._key(who)
        stored = self.known.setdefault(key, Stored())
        for result in outcome.results:
            stored.results[result.check] = result
            (stored.alone.add if alone else stored.alone.discard)(result.check)
        self._append("".join(to_line(key, each, alone) + "\n" for each in outcome.results))

    def _append(self, text: str) -> None:
        try:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise GradingError(
                f"{self.log} can't be written ({error}): make room, then start again; "
                "what is in it is not lost"
            ) from error


# Where tasks run


class _LocalWorkers:
    """This machine: some submissions at a time, each checked by processes of its own."""

    def __init__(self, jobs: int) -> None:
        self.jobs = max(1, jobs)
        self._stop = threading.Event()

    def outcomes(self, tasks: dict[str, Task]) -> Iterator[tuple[str, Graded | Exception]]:
        with ThreadPoolExecutor(self.jobs) as pool:
            running = {pool.submit(self._grade, task): who for who, task in tasks.items()}
            try:
                for future in as_completed(running):
                    yield running[future], _outcome(future)
            except BaseException:
                self.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def stop(self) -> None:
        """End the checkers; all that they have started ends with them."""
        self._stop.set()

    def close(self) -> None:
        pass

    def _grade(self, task: Task) -> Graded:
        if self._stop.is_set():
            raise GradingError("the run was stopped")
        return grade(task, self._stop)


def _outcome(future: Future[Graded]) -> Graded | Exception:
    try:
        return future.result()
    except Exception as error:
        return error


def _dask_workers(scheduler: str) -> Workers:
    try:
        import distributed
    except ImportError as error:
        raise GradingError(
            "dask.distributed is missing: pip install -e '.[dask]', here and on the workers"
        ) from error
    try:
        return _DaskWorkers(distributed, scheduler)
    except (OSError, ValueError) as error:
        raise GradingError(f"there is no dask scheduler at {scheduler}: {error}") from error


class _DaskWorkers:
    """The workers of a dask cluster; none of them needs more than this package."""

    def __init__(self, distributed: Any, scheduler: str) -> None:
        self.client = distributed.Client(scheduler, timeout="8s")
        self.completed = distributed.as_completed
        self._futures: list[Any] = []

    def outcomes(self, tasks: dict[str, Task]) -> Iterator[tuple[str, Graded | Exception]]:
        whose = {self.client.submit(grade, task, pure=False): who for who, task in tasks.items()}
        self._futures = list(whose)
        for future in self.completed(self._futures):
            error = future.exception()
            yield whose[future], (future.result() if error is None else error)

    def stop(self) -> None:
        self.client.cancel(self._futures)

    def close(self) -> None:
        self.client.close()
