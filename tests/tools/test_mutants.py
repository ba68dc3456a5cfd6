"""`make mutants` changes solutions alone, counts what no check notices, and leaves nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from notebook_rules import ROOT

from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult

TOOL = ROOT / "tools" / "mutants.py"
LABS = [Lab(file.parent) for file in sorted((ROOT / "solutions").glob("*/lab.toml"))]

PROGRAM = """\
GIVEN = 1


def total(first: int = 3, second: int = 4) -> int:
    # BEGIN SOLUTION
    # BEGIN STUB
    # return 0
    # END STUB
    label: "str" = "sum"
    return first + second
    # END SOLUTION
"""
MANIFEST = """\
title = "Sums"
minutes = 1
programs = ["sums.py"]
timing = ["slow"]

[checks.small]
kind = "SMALL"
points = 10
title = "Small numbers"
"""
CHECK = """\
from streamlab.checks.outcome import fail


def test_small(workspace):
    got = workspace.call("sums.py", "total", 2, 5)
    if got != 7:
        fail("wrong", f"The sum of 2 and 5 came as {got}")
"""


@pytest.fixture
def mutants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool, as a module that looks at folders of this test alone."""
    spec = importlib.util.spec_from_file_location("mutants", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mutants", module)
    spec.loader.exec_module(module)
    for name in ("SOLUTIONS", "EQUIVALENT", "KEPT"):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    return module


@pytest.fixture(autouse=True)
def _same_signals() -> Any:
    """The tool handles signals itself: pytest's own handlers come back after a test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab whose check notices two of the three mutants of its program."""
    folder = tmp_path / "solutions" / "01_sums"
    folder.mkdir(parents=True)
    (folder / "sums.py").write_text(PROGRAM)
    (folder / "lab.toml").write_text(MANIFEST)
    (folder / "test_lab.py").write_text(CHECK)
    return Lab(folder)


def write_equivalent(mutants: ModuleType, **fields: object) -> None:
    """A file that calls one line's changes equivalent."""
    mutants.EQUIVALENT.mkdir(exist_ok=True)
    lines = [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    file = mutants.EQUIVALENT / "01_sums.toml"
    file.write_text("\n".join(["[[equivalent]]", *lines, ""]))


LABEL = ['label: "str" = None', *(f'label: "str" = "{text}"' for text in ("XXsumXX", "SUM"))]
"""What mutmut makes of the line that no check looks at."""

# Making them


def test_only_the_solution_changes(mutants: ModuleType, lab: Lab) -> None:
    """The given code, types and stub do not change, and all mutants differ."""
    made = mutants.mutants_of(lab)
    assert {(each.line, each.becomes) for each in made} == {
        ("return first + second", "return first - second"),
        *(('label: "str" = "sum"', changed) for changed in LABEL),
    }
    assert {each.number for each in made} == {9, 10}
    assert len({each.text for each in made}) == len(made) == 4
    for each in made:
        before, after = PROGRAM.splitlines(), each.text.splitlines()
        changed = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        assert changed == [each.number - 1]


def test_spaces_and_what_is_no_python_are_no_mutants(mutants: ModuleType, lab: Lab) -> None:
    """`break` becomes `return`, which can't stand outside of a function."""
    (lab.folder / "sums.py").write_text(
        "# BEGIN SOLUTION\nfor each in GIVEN:\n    break\n# END SOLUTION\n"
    )
    assert mutants.mutants_of(lab) == []


def test_a_name_outlives_edits_of_other_lines(mutants: ModuleType, lab: Lab) -> None:
    """Equal lines are told apart by counting."""
    before = {each.key for each in mutants.mutants_of(lab)}
    edited = PROGRAM.replace("GIVEN = 1", "GIVEN = 2\nOTHER = 3")
    (lab.folder / "sums.py").write_text(edited)
    assert {each.key for each in mutants.mutants_of(lab)} == before
    twice = PROGRAM.replace("    return first", "    first + second\n    return first")
    twice = twice.replace("    first + second\n", 2 * "    first += 1\n")
    (lab.folder / "sums.py").write_text(twice)
    made = [each for each in mutants.mutants_of(lab) if each.becomes == "first += 2"]
    assert [(each.number, each.occurrence) for each in made] == [(10, 1), (11, 2)]
    assert len({each.key for each in made}) == 2


def test_a_change_of_several_lines_is_told_as_one(mutants: ModuleType, lab: Lab) -> None:
    """From the first line that differs to the last."""
    (lab.folder / "sums.py").write_text(
        "# BEGIN SOLUTION\ncall(\n    [1],\n    [\n        x,\n    ],\n)\n# END SOLUTION\n"
    )
    told = [str(each) for each in mutants.mutants_of(lab)]
    assert "sums.py:4 (arg_removal): [ x, ],  ->  None," in told


def test_a_sample_is_the_same_each_time(mutants: ModuleType) -> None:
    """It keeps the order, and most of it stays when a program changes a little."""
    made = mutants.mutants_of(Lab(ROOT / "solutions" / "08_ranges"))
    chosen = mutants.sample(made, 30, 1)
    assert chosen == mutants.sample(made, 30, 1) != mutants.sample(made, 30, 2)
    assert len(chosen) == 30 and chosen == [each for each in made if each in chosen]
    assert len(set(chosen) - set(mutants.sample(made[5:], 30, 1))) <= 5
    assert mutants.sample(made, None, 1) == mutants.sample(made, 10**6, 1) == made


# Running checks


@pytest.mark.needs("linux")
def test_what_no_check_notices_is_a_hole_unless_it_is_equivalent(
    mutants: ModuleType, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: a hole, its reason, a run that goes on, and what is wrong in the file."""
    command = ["--lab", "1", "-j", "2"]
    assert mutants.main(command) == 1
    told = capsys.readouterr().out
    assert '\n  sums.py:9 (string): label: "str" = "sum"  ->  label: "str" = "SUM"\n' in told
    assert told.count("killed   small wrong") == 1 and told.count(" survived ") == 3
    row = next(line.split() for line in told.splitlines() if line.startswith("01_sums  "))
    assert row == ["01_sums", "4", "1", "0", "3", "25.0%"]
    kept = (mutants.KEPT / "01_sums.jsonl").read_text()
    assert kept.count("\n") == 4

    why = {"program": "sums.py", "line": 'label: "str" = "sum"', "why": "Nobody reads it."}
    write_equivalent(mutants, becomes=LABEL, **why)
    assert mutants.main(command) == 0
    told = capsys.readouterr().out
    assert "survived" not in told, "what was kept is not run again"
    row = next(line.split() for line in told.splitlines() if line.startswith("01_sums "))
    assert row == ["01_sums", "4", "1", "3", "0", "100.0%"]
    assert (mutants.KEPT / "01_sums.jsonl").read_text() == kept

    write_equivalent(mutants, becomes=[*LABEL, 'label: "str" = "sun"'], **why)
    assert mutants.main(command) == 1, "no change makes that any more"
    assert "equivalent no longer" in capsys.readouterr().out
    summed = {"program": "sums.py", "line": "return first + second"}
    write_equivalent(mutants, becomes="return first - second", why="It is not.", **summed)
    assert mutants.main([*command, "--all"]) == 1
    assert "said to be equivalent, but small fails" in capsys.readouterr().out


@pytest.mark.needs("linux")
def test_after_a_change_the_killed_can_be_left_alone(
    mutants: ModuleType, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --survivors, what was found before a change of the checks counts no longer."""
    assert mutants.main(["--lab", "01"]) == 1
    (lab.folder / "test_lab.py").write_text(CHECK + "\n")
    judged = []
    judge = mutants.judge

    def seen(runs: Any, lab: Lab, mutant: Any, *rest: Any) -> Any:
        judged.append(mutant.becomes)
        return judge(runs, lab, mutant, *rest)

    monkeypatch.setattr(mutants, "judge", seen)
    assert mutants.main(["--lab", "01", "--survivors"]) == 1
    assert sorted(judged) == sorted(["", *LABEL]), "the solution, and those that survived"


@pytest.mark.needs("linux")
def test_checks_that_fail_with_the_solution_measure_nothing(
    mutants: ModuleType, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing would survive them."""
    (lab.folder / "test_lab.py").write_text(CHECK.replace("!= 7", "!= 8"))
    assert mutants.main(["--lab", "01"]) == 2
    assert "small fails with the solution itself (wrong)" in capsys.readouterr().err


@pytest.mark.needs("linux")
@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("while True:\n    pass", "killed"),
        ("raise SystemExit(1)", "killed"),
        ("x = bytearray(10**10)", "killed"),
        ("import os\nos.abort()", "killed"),
        ("def total(a, b): return a + b", "survived"),
    ],
)
def test_what_loops_or_never_starts_is_killed(
    mutants: ModuleType, lab: Lab, body: str, outcome: str
) -> None:
    """A mutant that loops, never starts, or takes all memory is killed."""
    mutant = mutants.Mutant("sums.py", "any", 1, "", "", 1, body + "\n")
    verdict = mutants.judge(mutants.Runs(), lab, mutant, "", mutants.Order(), 60, 1)
    assert verdict.outcome == outcome


def result_of(check: str, outcome: Any = "passed", cause: str = "") -> CheckResult:
    """What became of a check, in short."""
    return CheckResult("01_sums", check, check.upper(), 0, 5, outcome, cause, seconds=1.0)


def scripted(
    mutants: ModuleType, monkeypatch: pytest.MonkeyPatch, *runs: list[CheckResult]
) -> list[list[str]]:
    """Let runs of checks have these results; returns which checks each of them was asked for."""
    asked: list[list[str]] = []

    def run_checks(lab: Lab, programs: object, **options: Any) -> None:
        asked.append(list(options["only"]))
        for result in runs[len(asked) - 1]:
            options["told"](result)

    monkeypatch.setattr(mutants, "run_checks", run_checks)
    return asked


@pytest.fixture
def two(lab: Lab) -> Lab:
    """A lab with two checks."""
    more = '[checks.large]\nkind = "LARGE"\npoints = 5\ntitle = "Large numbers"\n'
    (lab.folder / "lab.toml").write_text(f"{MANIFEST}\n{more}")
    return Lab(lab.folder)


def judged(mutants: ModuleType, lab: Lab) -> Any:
    """The verdict on some mutant."""
    mutant = mutants.Mutant("sums.py", "any", 1, "", "", 1, "")
    return mutants.judge(mutants.Runs(), lab, mutant, "", mutants.Order(), 60, 1)


def test_the_first_failure_is_enough(
    mutants: ModuleType, two: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was lost because the run was ended is no result."""
    failed, lost = result_of("small", "failed", "wrong"), result_of("large", "could_not_run")
    asked = scripted(mutants, monkeypatch, [failed, lost])
    verdict = judged(mutants, two)
    assert (verdict.outcome, verdict.check, verdict.cause) == ("killed", "small", "wrong")
    assert verdict.seconds == {"small": 1.0}
    assert asked == [["small", "large"]]


@pytest.mark.parametrize("again", ["passed", "failed"])
def test_what_a_busy_machine_can_cause_has_to_come_twice(
    mutants: ModuleType, two: Lab, monkeypatch: pytest.MonkeyPatch, again: Any
) -> None:
    """Else the checks after it are asked."""
    asked = scripted(
        mutants,
        monkeypatch,
        [result_of("small", "failed", "slow")],
        [result_of("small", again, "slow")],
        [result_of("large")],
    )
    assert judged(mutants, two).outcome == ("survived" if again == "passed" else "killed")
    assert asked == [["small", "large"], ["small"], ["large"]][: 3 if again == "passed" else 2]


def test_a_check_that_breaks_has_killed_nothing(
    mutants: ModuleType, two: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a hole, which says what broke."""
    broke = CheckResult("01_sums", "small", "SMALL", 0, 5, "grader_fault", evidence="KeyError: 'x'")
    scripted(mutants, monkeypatch, [broke])
    verdict = judged(mutants, two)
    assert verdict.outcome == "fault"
    found = mutants.Score("01_sums", mutants=1)
    mutants._count(found, mutants.Mutant("sums.py", "any", 1, "a", "b", 1, ""), verdict, {})
    assert found.percent == 0 and "KeyError: 'x'" in found.holes[0]


@pytest.mark.needs("linux")
def test_what_a_broken_check_left_open_is_run_again(
    mutants: ModuleType, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unlike what was killed or has survived."""
    state = mutants.state_of(lab, "sums.py")
    for mutant in mutants.mutants_of(lab):
        mutants.keep(lab, mutants.Verdict(mutant.key, state, "fault", "small"))
    capsys.readouterr()
    assert mutants.main(["--lab", "01"]) == 1
    assert capsys.readouterr().out.count("sums.py:") >= 4


def test_checks_that_kill_most_in_a_second_come_first(mutants: ModuleType) -> None:
    """A quick check that kills as many goes before a slow one, and one that kills none is last."""
    order = mutants.Order()
    assert order.of(["a", "b", "c"]) == ["a", "b", "c"]
    for number in range(9):
        killer = "b" if number % 2 else "c"
        seconds = {"a": 1.0, "b": 9.0, "c": 1.0}
        order.learn(mutants.Verdict("", "", "killed", killer, seconds=seconds))
    assert order.of(["b", "c"]) == ["c", "b"]
    assert order.of(["a", "b", "c"])[0] == "c"


LOOPS = """\
import os, time
from pathlib import Path

def test_small(workspace):
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    Path(PLACE).write_text(f"{pid} {os.getpid()}.")
    time.sleep(600)
"""
START = """\
import sys
from pathlib import Path
import mutants
for name in ("SOLUTIONS", "EQUIVALENT", "KEPT"):
    setattr(mutants, name, Path(sys.argv[1]) / name.lower())
mutants.control = lambda *given: {}
sys.exit(mutants.main(["--lab", "01", "-j", "2"]))
"""


@pytest.mark.needs("linux")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(
    tmp_path: Path,
    lab: Lab,
    number: int,
    alive: Callable[[int], bool],
    becomes: Callable[[Callable[[], bool]], bool],
) -> None:
    """It leaves neither processes nor files, and ends soon."""
    place, scratch = tmp_path / "pids", tmp_path / "scratch"
    scratch.mkdir()
    (lab.folder / "test_lab.py").write_text(LOOPS.replace("PLACE", repr(str(place))))
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(TOOL.parent), "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert becomes(lambda: place.exists() and place.read_text().endswith("."))
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, errors
    assert errors.strip() == "Interrupted; the same command goes on from here."
    pids = [int(pid) for pid in place.read_text().rstrip(".").split()]
    assert becomes(lambda: not any(alive(pid) for pid in pids))
    assert list(scratch.iterdir()) == []


# The command line, and the course's own files


@pytest.mark.parametrize("command", [["--sample", "0"], ["-j", "0"], ["--lab", "77"]])
def test_bad_input_is_one_line(
    mutants: ModuleType, command: Collection[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With what is wrong in it."""
    try:
        assert mutants.main(command) == 2
    except SystemExit as ended:
        assert ended.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "must be 1 or more, not 0" in last or "There is no lab 77" in last


@pytest.mark.parametrize(
    "text", ["[[equivalent]]\nprogram = 1", "[[same]]", "[[[", '[[equivalent]]\nwhy = " "']
)
def test_a_broken_file_of_equivalent_mutants_is_named(
    mutants: ModuleType, lab: Lab, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line."""
    mutants.EQUIVALENT.mkdir()
    (mutants.EQUIVALENT / "01_sums.toml").write_text(text)
    assert mutants.main(["--lab", "01"]) == 2
    assert capsys.readouterr().err.startswith("01_sums.toml can't be read: ")


@pytest.mark.parametrize("lab_of_course", LABS, ids=lambda lab: lab.name)
def test_what_is_called_equivalent_is_a_mutant(
    lab_of_course: Lab, mutants: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that was edited since has to be looked at again."""
    monkeypatch.setattr(mutants, "EQUIVALENT", ROOT / "tests" / "mutants")
    assert mutants.unknown(lab_of_course) == []


def test_each_file_of_equivalent_mutants_belongs_to_a_lab() -> None:
    names = {lab.name for lab in LABS}
    assert {file.stem for file in (ROOT / "tests" / "mutants").glob("*.toml")} <= names
