"""Checks that run beside each other: as one after the other, but sooner."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult
from streamlab.labs.runner import RunOptions, run_checks

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.needs("linux")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A copy of lab 02's manifest, with checks that a test writes."""
    folder = tmp_path / "02_chunked_loop"
    folder.mkdir()
    for name in ("lab.toml", "contract.toml"):
        source = ROOT / "solutions" / "02_chunked_loop" / name
        (folder / name).write_text(source.read_text())
    (folder / "server.py").write_text("x = 1\n")
    return Lab(folder)


MEETING = """
import pathlib, time
from streamlab.checks.outcome import fail

def meets(name, other):
    here = pathlib.Path(__file__).parent
    (here / name).touch()
    end = time.monotonic() + {patience}
    while not (here / other).exists():
        if time.monotonic() > end:
            fail("wrong_bytes", "alone")
        time.sleep(0.01)

def test_bytes():
    meets("one", "other")

def test_wire():
    meets("other", "one")
"""


@pytest.mark.parametrize(("at_once", "patience", "alone"), [(2, 60, 0), (1, 0.1, 1)])
def test_checks_run_beside_each_other(lab: Lab, at_once: int, patience: float, alone: int) -> None:
    """Where one at a time is asked for, the first one is alone."""
    (lab.folder / "test_lab.py").write_text(MEETING.format(patience=patience))
    results = run_checks(lab, only=["bytes", "wire"], options=RunOptions(at_once=at_once))
    outcomes = [result.outcome for result in results]
    assert outcomes == ["failed" if alone else "passed", "passed"]


def test_results_come_in_the_order_asked_for(lab: Lab) -> None:
    """Also if a later one is there first."""
    (lab.folder / "test_lab.py").write_text(
        "import pathlib, time\n"
        "later = pathlib.Path(__file__).with_name('later')\n"
        "def test_bytes():\n"
        "    while not later.exists(): time.sleep(0.01)\n"
        "def test_split():\n    pass\n"
        "def test_wire():\n    later.touch()\n"
    )
    told: list[CheckResult] = []
    results = run_checks(
        lab, only=["bytes", "split", "wire"], told=told.append, options=RunOptions(at_once=3)
    )
    assert [result.check for result in results] == ["bytes", "split", "wire"]
    assert told == results
    assert {result.outcome for result in results} == {"passed"}


def test_a_check_whose_process_dies_takes_no_other_along(lab: Lab) -> None:
    """It has come to no result, and that is the grader's fault."""
    (lab.folder / "test_lab.py").write_text(
        "import os\n"
        "def test_bytes():\n    os.kill(os.getpid(), 9)\n"
        "def test_split():\n    pass\n"
        "def test_wire():\n    pass\n"
    )
    results = run_checks(lab, only=["bytes", "split", "wire"], options=RunOptions(at_once=2))
    assert [result.outcome for result in results] == ["grader_fault", "passed", "passed"]
    assert results[0].evidence.startswith("The check came to no result.")


def test_long_results_are_not_mixed(lab: Lab) -> None:
    """Each one is a line of one file, however long it is."""
    kinds = ["bytes", "huge", "hold", "stall", "live", "drop", "wire", "split", "short"]
    (lab.folder / "test_lab.py").write_text(
        "from streamlab.checks.outcome import fail\n"
        + "".join(
            f"def test_{kind}():\n    fail('wrong_bytes', '{kind} ' * 40_000)\n" for kind in kinds
        )
    )
    results = run_checks(lab, only=kinds, options=RunOptions(at_once=len(kinds)))
    assert [result.evidence for result in results] == [f"{kind} " * 40_000 for kind in kinds]


def test_what_came_late_is_run_again_alone(lab: Lab) -> None:
    """Others may have been what made it late."""
    (lab.folder / "test_lab.py").write_text(
        MEETING.format(patience=0.2).replace('fail("wrong_bytes", "alone")', "raise TimeoutError")
        + "\nimport os\n"
        "def test_split(request):\n"
        "    tries = pathlib.Path(__file__).with_name('tries')\n"
        "    at_once = request.config.getoption('--lab-at-once')\n"
        "    tries.open('a').write(f'{at_once} ')\n"
        "    if at_once > 1: raise TimeoutError\n"
    )
    results = run_checks(lab, only=["split", "bytes", "wire"], options=RunOptions(at_once=3))
    assert results[0].outcome == "passed"
    assert (lab.folder / "tries").read_text() == "3 1 "
