"""Runs that are forked from a loaded process give the same results as those of students."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from forked_checks import start

from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult
from streamlab.labs.runner import RunOptions, Start, run_checks, start_pytest

ROOT = Path(__file__).resolve().parents[2]
WRONG = ROOT / "tests" / "corpora" / "02_chunked_loop" / "wrong" / "server__line_of_8190.py"

pytestmark = pytest.mark.needs("linux")

SURROUNDINGS = """
import json, os, pathlib

def test_wire():
    pathlib.Path(__file__).with_name("facts.json").write_text(json.dumps({
        "leads a group and a session": os.getpid() == os.getpgrp() == os.getsid(0),
        "its folder": os.getcwd() == os.environ["TMPDIR"],
        "variables": sorted(name for name in os.environ if not name.startswith("PYTEST_")),
        "SEEN": os.environ["SEEN"],
    }))
"""


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


def test_both_ways_to_start_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(ROOT / "solutions" / "02_chunked_loop")

    def found(way: Start) -> list[tuple[str, str, str, str]]:
        results = run_checks(
            lab,
            {"server.py": WRONG},
            only=["bytes", "split"],
            options=RunOptions(seed=7, start=way),
        )
        return [(each.check, each.outcome, each.cause, each.promise) for each in results]

    forked = found(start)
    assert forked == found(start_pytest)
    assert [outcome for _, outcome, _, _ in forked] == ["passed", "failed"]


def test_a_forked_run_has_the_surroundings_of_the_other(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its folder, session and input, and the variables of now, not of the first fork."""
    monkeypatch.setenv("GONE", "1")
    (lab.folder / "test_lab.py").write_text("def test_wire(): pass\n")
    run_checks(lab, only=["wire"], options=RunOptions(start=start))
    monkeypatch.delenv("GONE")
    monkeypatch.setenv("SEEN", "now")
    (lab.folder / "test_lab.py").write_text(SURROUNDINGS)

    def facts(way: Start) -> dict[str, object]:
        run_checks(lab, only=["wire"], options=RunOptions(start=way))
        found: dict[str, object] = json.loads((lab.folder / "facts.json").read_text())
        return found

    forked = facts(start)
    assert forked == facts(start_pytest)
    assert forked["leads a group and a session"] and forked["its folder"]
    assert forked["SEEN"] == "now" and "GONE" not in str(forked["variables"])


def test_what_a_forked_run_writes_is_told(lab: Lab) -> None:
    """The output of a run in which no check has a result is shown."""
    (lab.folder / "test_lab.py").write_text("def test_wire(:\n")
    [result] = run_checks(lab, only=["wire"], options=RunOptions(start=start))
    assert result.outcome == "grader_fault"
    assert "SyntaxError" in result.evidence


def test_a_forked_run_can_be_stopped(
    lab: Lab, becomes: Callable[[Callable[[], bool]], bool]
) -> None:
    (lab.folder / "test_lab.py").write_text(
        "import pathlib, time\npathlib.Path(__file__).with_name('here').touch()\ntime.sleep(600)\n"
    )
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        options = RunOptions(stop=stop, start=start)
        results = pool.submit(run_checks, lab, only=["wire"], options=options)
        while not (lab.folder / "here").exists() and not results.done():
            pass
        stop.set()
        [result] = results.result()
    assert isinstance(result, CheckResult)
    assert result.outcome == "could_not_run"


def test_a_command_that_is_not_pytest_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as output, pytest.raises(AssertionError):
        start([sys.executable, "-c", "pass"], str(tmp_path), {}, output)
