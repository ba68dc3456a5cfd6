"""A class graded: every outcome, interruptions, what is tried again, and other machines.

The lab is a tiny one, so that grading itself is what takes time.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamlab.errors import StreamlabError
from streamlab.grading import run
from streamlab.grading.collected import unclaimed
from streamlab.grading.run import ClassReport, ClassWork, Told, grade_class
from streamlab.grading.task import GradingError, Task, archive_of, checks_of, grade, hash_of_sources
from streamlab.grading.times import deadline
from streamlab.labs.manifest import Lab
from streamlab.labs.shared_guesses import SharedGuess, SharedGuesses
from streamlab.process import sandbox
from streamlab.process.proc import children_of, group_members

pytestmark = pytest.mark.needs("linux")
ISOLATED = pytest.mark.needs("bwrap")
"""A class is graded in sandboxes."""

MANIFEST = """\
title = "Twice"
minutes = 1
programs = ["twice.py"]
timing = ["too_slow"]
[limits]
data_mib = 128
[checks.twice]
kind = "VALUE"
points = 7
title = "Twice as much"
[checks.quick]
kind = "LIVE"
points = 3
title = "Quick"
[causes]
wrong_value = "It is not twice as much."
too_slow = "It takes too long."
"""

CHECKS = """\
import time
from pathlib import Path

from streamlab.checks.outcome import fail
from streamlab.checks.workspace import LabWorkspace


def test_twice(workspace: LabWorkspace) -> None:
    said = workspace.call("twice.py", "twice", 21)
    if said == "break the checker":
        raise KeyError(said)
    if said != 42:
        fail("wrong_value", f"twice(21) is {said!r}")


def test_quick(workspace: LabWorkspace) -> None:
    text = workspace.program("twice.py").read_text()
    if "takes its time" in text:
        time.sleep(120)
    memory = Path("MEMORY") / str(len(text))
    if "slow" in text and not memory.exists():
        memory.touch()
        fail("too_slow", "slow at the first time")
    if "always late" in text:
        fail("too_slow", "slow at all times")
"""

STUB = "def twice(number):\n    ...\n"
ANSWERS = {
    "ann": "def twice(number):\n    return 2 * number\n",
    "bob": "def twice(number):\n    return number + 2\n",
    "dan": STUB + "\n",
    "eve": "def twice(number)\n    return 0\n",
    "fay": "def twice(number):\n    return 'break the checker'\n",
    "gus": "# slow\ndef twice(number):\n    return number + number\n",
    "hal": "# slow, and always late\ndef twice(number):\n    return 2 * number\n",
}
EXPECTED = {
    "ann": ("10", "graded"),
    "bob": ("3", "graded"),
    "cat": ("", "missing"),
    "dan": ("0", "not_attempted"),
    "eve": ("0", "could_not_run"),
    "fay": ("", "grader_fault"),
    "gus": ("10", "graded"),
    "hal": ("7", "graded"),
}
"""Points in the gradebook, and outcome."""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    folder = tmp_path / "42_twice"
    (folder / ".stub").mkdir(parents=True)
    (tmp_path / "memory").mkdir()
    (folder / "lab.toml").write_text(MANIFEST)
    (folder / "test_lab.py").write_text(CHECKS.replace("MEMORY", str(tmp_path / "memory")))
    (folder / "twice.py").write_text("raise SystemExit('the solution is nobody else\\'s')\n")
    (folder / ".stub" / "twice.py").write_text(STUB)
    return Lab(folder)


@pytest.fixture
def handed_in(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The submissions of a class: all, or those that the mark `students` names."""
    mark = request.node.get_closest_marker("students")
    class_ = mark.args if mark else tuple(EXPECTED)
    folder = tmp_path / "handed-in"
    folder.mkdir()
    for who in set(class_) & set(ANSWERS):
        (folder / who).mkdir()
        (folder / who / "twice.py").write_text(ANSWERS[who])
    lines = [f"{who},{who.title()} Lee" for who in class_]
    (tmp_path / "roster.csv").write_text("\n".join(["student,name", *lines]))
    return folder


def expected(*class_: str) -> dict[str, tuple[str, str]]:
    return {who: EXPECTED[who] for who in class_}


Grade = Callable[..., ClassReport]


@pytest.fixture
def grade_it(tmp_path: Path, lab: Lab, handed_in: Path) -> Grade:
    def grade_it(
        jobs: int = 2, scheduler: str = "", told: Told | None = None, **options: Any
    ) -> ClassReport:
        work = ClassWork(handed_in, lab, tmp_path / "roster.csv", tmp_path / "out", **options)
        return grade_class(work, jobs=jobs, scheduler=scheduler, told=told)

    return grade_it


def gradebook(tmp_path: Path) -> dict[str, tuple[str, str]]:
    with (tmp_path / "out" / "gradebook.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["student"]: (row["points"], row["outcome"]) for row in csv.DictReader(file)}


def log_lines(tmp_path: Path) -> list[dict[str, object]]:
    text = (tmp_path / "out" / "results.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@ISOLATED
def test_every_outcome_has_its_row(tmp_path: Path, grade_it: Grade) -> None:
    report = grade_it()
    assert gradebook(tmp_path) == EXPECTED
    assert report.graded == 6  # not: missing, stub
    details = {mark.student: mark.detail for mark in report.marks}
    assert "line 1" in details["eve"]
    assert "grader failed at twice" in details["fay"]
    assert (tmp_path / "out" / "class.html").stat().st_size > 1000
    assert len(list((tmp_path / "out" / "feedback").iterdir())) == len(EXPECTED)


@ISOLATED
@pytest.mark.students("ann", "eve")
def test_each_result_is_written_with_what_it_speaks_of(tmp_path: Path, grade_it: Grade) -> None:
    grade_it(seed=77)
    for line in log_lines(tmp_path):
        assert line["seed"] == 77
        assert len(str(line["submission"])) == len(str(line["checks"])) == 64
        assert {"points", "evidence", "checks_version", "student", "outcome"} <= set(line)


@ISOLATED
@pytest.mark.students("bob", "gus", "hal")
def test_what_failed_for_want_of_time_is_tried_again_alone(tmp_path: Path, grade_it: Grade) -> None:
    report = grade_it()
    again = [(line["student"], line["check"]) for line in log_lines(tmp_path) if line["alone"]]
    assert sorted(again) == [("gus", "quick"), ("hal", "quick")]  # bob is wrong
    details = {mark.student: mark.detail for mark in report.marks}
    assert "run again alone: quick" in details["gus"]


@ISOLATED
@pytest.mark.students("bob", "fay")
def test_again_and_nothing_is_done_twice(tmp_path: Path, grade_it: Grade) -> None:
    first = grade_it()
    before = (tmp_path / "out" / "gradebook.csv").read_bytes()
    second = grade_it()
    assert second.graded == 1  # the one with a fault of the grader gets another chance
    assert (tmp_path / "out" / "gradebook.csv").read_bytes() == before
    assert [m.points for m in first.marks] == [m.points for m in second.marks]


@ISOLATED
@pytest.mark.students("bob", "gus")
def test_the_same_seed_gives_the_same_marks_elsewhere(
    tmp_path: Path, lab: Lab, handed_in: Path, grade_it: Grade
) -> None:
    grade_it(seed=5)
    shutil.rmtree(tmp_path / "memory")
    (tmp_path / "memory").mkdir()
    grade_class(ClassWork(handed_in, lab, tmp_path / "roster.csv", tmp_path / "other", seed=5))
    one, other = (tmp_path / each / "gradebook.csv" for each in ("out", "other"))
    assert one.read_bytes() == other.read_bytes()


@ISOLATED
@pytest.mark.students("ann", "bob")
def test_only_a_changed_submission_is_graded_anew(
    tmp_path: Path, handed_in: Path, grade_it: Grade
) -> None:
    grade_it()
    (handed_in / "bob" / "twice.py").write_text(ANSWERS["ann"] + "\n# now it is right\n")
    assert grade_it().graded == 1
    assert gradebook(tmp_path) == {"ann": ("10", "graded"), "bob": ("10", "graded")}


@ISOLATED
@pytest.mark.students("ann", "bob", "eve", "fay")
def test_interrupted_it_continues_where_it_stopped(tmp_path: Path, grade_it: Grade) -> None:
    def interrupt(done: int, total: int, who: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grade_it(jobs=1, told=interrupt)
    written = {line["student"] for line in log_lines(tmp_path)}
    assert len(written) == 2
    with (tmp_path / "out" / "results.jsonl").open("a") as log:
        log.write('{"student": "bob", "submi')  # torn by the interruption
    again = grade_it().graded
    assert again == 2 + ("fay" in written)  # a fault of the grader is not settled
    assert gradebook(tmp_path) == expected("ann", "bob", "eve", "fay")


@ISOLATED
@pytest.mark.students("ann", "bob")
def test_killed_it_leaves_nothing_running(
    tmp_path: Path, lab: Lab, handed_in: Path, becomes: Callable[[Callable[[], bool]], bool]
) -> None:
    for who in ("ann", "bob"):
        (handed_in / who / "twice.py").write_text(f"# {who}\nimport time\ntime.sleep(60)\n")
    arguments = [str(handed_in), str(lab.folder), str(tmp_path / "roster.csv")]
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from streamlab.grading.run import ClassWork, grade_class\n"
        "from streamlab.labs.manifest import Lab\nhanded_in, lab, roster, out = map(Path, "
        "sys.argv[1:])\n"
        "grade_class(ClassWork(handed_in, Lab(lab), roster, out), jobs=2)\n"
    )
    command = [sys.executable, "-c", program, *arguments, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as grader:
        try:
            deadline = time.monotonic() + 60
            while len(below := group_members(grader.pid)) < 8 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert len(below) >= 8, "no sandbox came up"
        finally:
            grader.send_signal(signal.SIGKILL)
    assert becomes(lambda: not any(map(_lives, below)))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@ISOLATED
@pytest.mark.students("ann", "bob", "hal")
def test_stopped_it_leaves_nothing_running(handed_in: Path, grade_it: Grade) -> None:
    (handed_in / "hal" / "twice.py").write_text(f"# takes its time\n{ANSWERS['ann']}")
    before = set(children_of(os.getpid()))
    interrupted = []

    def interrupt(done: int, total: int, who: str) -> None:
        interrupted.append(time.monotonic())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grade_it(told=interrupt)
    assert time.monotonic() - interrupted[0] < 60  # and not the two minutes of the last one
    assert set(children_of(os.getpid())) <= before


@ISOLATED
@pytest.mark.students("ann")
def test_a_report_of_something_else_is_left_alone(
    tmp_path: Path, lab: Lab, grade_it: Grade
) -> None:
    grade_it()
    before = (tmp_path / "out" / "gradebook.csv").read_bytes()
    with pytest.raises(GradingError, match="seed"):
        grade_it(seed=1_000_001)
    (lab.folder / "test_lab.py").write_text(CHECKS + "\n# another version\n")
    seed = json.loads((tmp_path / "out" / "run.json").read_text())["seed"]
    with pytest.raises(GradingError, match=f"another version.*--out, and --seed {seed} "):
        grade_it()
    assert (tmp_path / "out" / "gradebook.csv").read_bytes() == before


@ISOLATED
@pytest.mark.students("ann")
def test_two_runs_do_not_write_into_one_report(tmp_path: Path, grade_it: Grade) -> None:
    with (
        run._report_folder(tmp_path / "out"),
        pytest.raises(GradingError, match="another run"),
    ):
        grade_it()


@ISOLATED
@pytest.mark.students("ann", "bob")
def test_a_full_disk_is_one_line(tmp_path: Path, grade_it: Grade) -> None:
    def fill_the_disk(done: int, total: int, who: str) -> None:
        (tmp_path / "out" / "results.jsonl").rename(tmp_path / "kept")
        (tmp_path / "out" / "results.jsonl").symlink_to("/dev/full")

    with pytest.raises(GradingError, match="make room"):
        grade_it(jobs=1, told=fill_the_disk)
    assert len((tmp_path / "kept").read_text().splitlines()) == 2  # what was known is not lost


def test_without_isolation_it_refuses(monkeypatch: pytest.MonkeyPatch, grade_it: Grade) -> None:
    monkeypatch.setattr(sandbox, "unavailable_reason", lambda: "bwrap is missing")
    with pytest.raises(GradingError, match=r"bwrap is missing.*--unsafe"):
        grade_it()


@pytest.mark.students("ann", "bob", "cat")
def test_told_to_it_grades_without(tmp_path: Path, grade_it: Grade) -> None:
    grade_it(unsafe=True)
    assert gradebook(tmp_path) == expected("ann", "bob", "cat")


@pytest.mark.students("ann", "bob", "cat")
def test_a_roster_of_one_does_not_replace_the_class(tmp_path: Path, grade_it: Grade) -> None:
    """Not silently: the report of the whole class stays as it is."""
    grade_it(unsafe=True)
    (tmp_path / "roster.csv").write_text("student,name\nann,Ann Lee\n")
    with pytest.raises(GradingError, match="has marks of bob, cat, whom the roster has not"):
        grade_it(unsafe=True)
    assert gradebook(tmp_path) == expected("ann", "bob", "cat")


@pytest.mark.students("ann", "bob", "cat")
def test_a_mapping_says_whose_a_submission_is(
    tmp_path: Path, handed_in: Path, grade_it: Grade
) -> None:
    """The report keeps who got which file, and what is still in doubt."""
    (handed_in / "bob").rename(handed_in / "who")
    (handed_in / "stranger.py").write_text(ANSWERS["ann"])
    report = grade_it(unsafe=True)
    assert gradebook(tmp_path) == {**expected("ann", "cat"), "bob": ("", "missing")}
    assert [each.partition(":")[0] for each in report.unmatched] == ["stranger.py", "who"]
    assert unclaimed(tmp_path / "out") == ["stranger.py", "who"]
    (tmp_path / "mapping.csv").write_text("file,student\nwho,bob\nstranger.py,-\n")
    report = grade_it(unsafe=True, mapping=tmp_path / "mapping.csv")
    assert gradebook(tmp_path) == expected("ann", "bob", "cat")
    assert not report.unmatched and not unclaimed(tmp_path / "out")


@pytest.mark.students("ann", "bob", "dan")
def test_shared_guesses_reach_the_class_page(
    tmp_path: Path, handed_in: Path, grade_it: Grade
) -> None:
    """From three students on; one that is broken is said, and costs no point."""
    page = tmp_path / "out" / "class.html"
    for number, who in enumerate(("ann", "bob", "dan")):
        guess = SharedGuess("01", "10 clients", f"{64 * number} MiB", "640 MiB", "off")
        shared = SharedGuesses(f"{number:032x}", (guess,))
        (handed_in / who / "guesses.json").write_text(shared.to_json())
    grade_it(unsafe=True)
    assert "median 64 MiB, half from 32 to 96" in page.read_text()
    assert gradebook(tmp_path) == expected("ann", "bob", "dan")
    (handed_in / "bob" / "guesses.json").write_text("{")
    report = grade_it(unsafe=True)
    assert "median 64 MiB" not in page.read_text()
    assert "2 students have shared" in page.read_text()
    assert gradebook(tmp_path) == expected("ann", "bob", "dan")
    assert report.graded == 0 and "were left out: it is no JSON" in report.marks[1].detail


# A part again


def spoil(tmp_path: Path) -> None:
    """Make all results of an earlier run failures, as if the checks had been wrong."""
    log = tmp_path / "out" / "results.jsonl"
    lines = log_lines(tmp_path)
    log.write_text(
        "".join(json.dumps({**line, "outcome": "failed", "points": 0}) + "\n" for line in lines)
    )


@pytest.mark.students("ann", "bob", "cat")
def test_one_student_is_graded_again(tmp_path: Path, grade_it: Grade) -> None:
    """All checks, although the submission is known; nobody else's are run, or change."""
    grade_it(unsafe=True)
    spoil(tmp_path)
    before = gradebook(tmp_path)
    assert grade_it(unsafe=True, only_students=["ann"]).graded == 1
    again = [(line["student"], line["check"]) for line in log_lines(tmp_path)[4:]]
    assert sorted(again) == [("ann", "quick"), ("ann", "twice")]
    assert gradebook(tmp_path) == before
    grade_it(unsafe=True)  # by what is stored: Bob's results are the spoilt ones
    assert gradebook(tmp_path) == {**before, "bob": ("0", "graded")}


@pytest.mark.students("ann", "bob")
def test_one_check_is_run_again(tmp_path: Path, grade_it: Grade) -> None:
    grade_it(unsafe=True)
    spoil(tmp_path)
    grade_it(unsafe=True)
    assert gradebook(tmp_path) == {"ann": ("0", "graded"), "bob": ("0", "graded")}
    assert grade_it(unsafe=True, only_checks=["quick"]).graded == 2
    assert gradebook(tmp_path) == {"ann": ("3", "graded"), "bob": ("3", "graded")}
    assert grade_it(unsafe=True, only_checks=["twice"], only_students=["ann"]).graded == 1
    assert gradebook(tmp_path) == {"ann": ("10", "graded"), "bob": ("3", "graded")}


@pytest.mark.students("ann", "bob", "gus")
def test_who_is_not_graded_again_stays_as_he_was(
    tmp_path: Path, handed_in: Path, grade_it: Grade
) -> None:
    """Also where a new submission lies there, of which it is told; by hand it is as ever."""
    grade_it(unsafe=True)
    before = gradebook(tmp_path)
    (handed_in / "bob" / "twice.py").write_text(ANSWERS["ann"] + "# new\n")
    shutil.rmtree(handed_in / "gus")
    report = grade_it(unsafe=True, only_students=["ann"])
    assert report.left == ["bob"] and gradebook(tmp_path) == before
    assert grade_it(unsafe=True, only_checks=["quick"]).left == ["bob"]
    assert gradebook(tmp_path) == before
    (tmp_path / "out" / "by_hand.csv").write_text(
        "student,lab,check,points,comment,reason\nbob,42,twice,7,,it was right\n"
    )
    for _ in range(2):  # what was given by hand is not taken for what a check gave
        grade_it(unsafe=True, only_students=["ann"])
        assert gradebook(tmp_path) == {**before, "bob": ("10", "graded")}
    (tmp_path / "out" / "by_hand.csv").unlink()
    grade_it(unsafe=True, only_students=["ann"])
    assert gradebook(tmp_path) == before
    report = grade_it(unsafe=True, only_students=["bob"])
    assert not report.left
    assert gradebook(tmp_path) == {**before, "bob": ("10", "graded")}


@pytest.mark.students("ann", "bob")
def test_late_days_stay_with_the_submission_that_was_graded(
    tmp_path: Path, handed_in: Path, grade_it: Grade
) -> None:
    due = {"deadline": deadline("2026-09-20T00:00Z", 10), "unsafe": True}
    os.utime(handed_in / "bob" / "twice.py", (1_790_000_000, 1_790_000_000))  # 21 September
    grade_it(**due)
    assert gradebook(tmp_path)["bob"] == ("2.4", "graded")
    (handed_in / "bob" / "twice.py").write_text(ANSWERS["ann"] + "# new\n")
    marks = {mark.student: mark for mark in grade_it(**due, only_students=["ann"]).marks}
    assert marks["bob"].points == 2.4 and marks["bob"].late is not None
    assert marks["bob"].late.days == 2
    due["deadline"] = deadline("2026-09-21T00:00Z", 10)
    marks = {mark.student: mark for mark in grade_it(**due, only_students=["ann"]).marks}
    assert marks["bob"].points == 3 and marks["bob"].late is not None
    assert "its submission has changed" in marks["bob"].late.unknown


@pytest.mark.students("ann", "bob")
def test_a_part_of_what_is_not_there_is_refused(
    tmp_path: Path, handed_in: Path, grade_it: Grade
) -> None:
    with pytest.raises(GradingError, match="no finished report: grade the whole class first"):
        grade_it(unsafe=True, only_students=["ann"])
    grade_it(unsafe=True)
    with pytest.raises(GradingError, match="--student zoe: it is no id"):
        grade_it(unsafe=True, only_students=["ann", "zoe"])
    with pytest.raises(GradingError, match="--check huge: lab 42 has twice, quick"):
        grade_it(unsafe=True, only_checks=["huge"])
    with (tmp_path / "roster.csv").open("a") as roster:
        roster.write("\ndan,Dan Lee\neve,Eve Lee")
    (handed_in / "dan").mkdir()
    (handed_in / "dan" / "twice.py").write_text(ANSWERS["ann"])
    grade_it(unsafe=True, only_students=["ann"])
    found = gradebook(tmp_path)
    assert (found["dan"], found["eve"]) == (("", "grader_fault"), ("", "missing"))


# On other machines


def task_of(lab: Lab, **changes: Any) -> Task:
    archive = archive_of(lab)
    task = Task(
        lab=lab.name,
        archive=archive,
        checks=checks_of(archive),
        programs={"twice.py": ANSWERS["ann"].encode()},
        seed=1,
        only=("twice", "quick"),
    )
    return replace(task, **changes)


@ISOLATED
def test_a_task_needs_nothing_beside_itself(lab: Lab, tmp_path: Path) -> None:
    task = task_of(lab)
    shutil.rmtree(lab.folder)
    assert [result.outcome for result in grade(task).results] == ["passed", "passed"]


def test_a_lab_without_its_programs_is_always_the_same_archive(lab: Lab) -> None:
    first = archive_of(lab)
    (lab.folder / "twice.py").write_text("# somebody works on it")
    os.utime(lab.folder / "lab.toml", (0, 0))
    assert archive_of(lab) == first
    assert b"nobody else" not in first


def test_other_checks_are_refused(lab: Lab) -> None:
    with pytest.raises(GradingError, match="another version"):
        grade(task_of(lab, checks="0" * 64))
    with pytest.raises(GradingError, match="another version"):
        grade(task_of(lab, archive=archive_of(lab) + b"\0"))


@pytest.mark.students("ann")
def test_a_scheduler_that_is_not_there(grade_it: Grade) -> None:
    with pytest.raises(StreamlabError, match="no dask scheduler"):
        grade_it(scheduler="tcp://127.0.0.1:1")


@ISOLATED
@pytest.mark.students("ann", "bob", "eve", "gus")
def test_dask_workers_that_die_lose_nothing(tmp_path: Path, grade_it: Grade) -> None:
    """Two workers, one of which is killed as soon as the first submission is done."""
    from distributed import LocalCluster

    killed: list[int] = []

    def kill_one(done: int, total: int, who: str) -> None:
        if not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        report = grade_it(scheduler=cluster.scheduler_address, told=kill_one)
    assert killed
    assert report.graded == 4
    assert gradebook(tmp_path) == expected("ann", "bob", "eve", "gus")


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        ("checks.py", True),
        ("process/server.py", True),
        ("checks/http/answer.py", True),
        ("checks/shims/slow_reads.py", True),
        ("grading/task.py", True),
        ("grading/reports.py", False),
        ("lesson/charts.py", False),
        ("labs/hints/02_chunked_loop.toml", False),
    ],
)
def test_the_version_of_the_checks_is_of_all_that_can_change_a_mark(
    tmp_path: Path, changed: str, counts: bool
) -> None:
    """Each module of the package counts, whatever its folder; line ends do not."""
    for name in ("__init__.py", "checks.py", "lesson/charts.py", "grading/task.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"a = 1\nb = 2\n")
    before = hash_of_sources(tmp_path)
    (tmp_path / "checks.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    assert hash_of_sources(tmp_path) == before
    file = tmp_path / changed
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"a = 2\n")
    assert (hash_of_sources(tmp_path) != before) is counts
