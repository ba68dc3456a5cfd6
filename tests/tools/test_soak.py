"""`make soak` counts what fails, and keeps the cores busy no longer than it runs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from nbformat import v4
from notebook_rules import ROOT

SOAK = ROOT / "tools" / "soak.py"


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    """The tool, as a module."""
    spec = importlib.util.spec_from_file_location("soak", SOAK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    return module


def notebook(path: Path, shown: str) -> Path:
    """A notebook that prints `river`, saved as if it had printed something."""
    printed = v4.new_output("stream", name="stdout", text=f"{shown}\n")
    cell = v4.new_code_cell("print('river')", execution_count=1, outputs=[printed])
    path.write_text(v4.writes(v4.new_notebook(cells=[cell])))
    return path


def test_it_counts_failures_and_ends_with_their_status(tmp_path: Path) -> None:
    good, bad = notebook(tmp_path / "good.ipynb", "river"), notebook(tmp_path / "bad.ipynb", "cup")
    # A burner for each CPU slows the tests beside this one, so each notebook runs once.
    command = [sys.executable, str(SOAK), "--runs=1", "--load=burning", str(good), str(bad)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["good.ipynb", "1/1", "burning", "passed"] in [line[:4] for line in lines]
    assert ["bad.ipynb", "1/1", "burning", "FAILED"] in [line[:4] for line in lines]
    assert [line[:3] for line in lines[-2:]] == [["good.ipynb", "1", "0"], ["bad.ipynb", "1", "1"]]
    assert "Cell outputs differ" in result.stdout


def test_no_failure_is_status_0(soak: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []

    def run_once(path: Path, load: str) -> object:
        loads.append(load)
        return soak.Run(passed=len(loads) != failing, load=load, seconds=2.0, output="")

    failing = 0
    monkeypatch.setattr(soak, "run_once", run_once)
    assert soak.main(["--runs", "5", "00"]) == 0
    assert loads == ["quiet", "burning", "quiet", "burning", "quiet"]
    loads.clear()
    assert soak.main(["--runs", "2", "--load", "burning", "00"]) == 0
    assert loads == ["burning"] * 2
    loads.clear()
    failing = 4
    assert soak.main(["--runs", "5", "00"]) == 1


def test_a_file_of_tests_is_run_by_pytest(soak: ModuleType, tmp_path: Path) -> None:
    """Not by nbval, which would find nothing in it."""
    good, bad = tmp_path / "test_good.py", tmp_path / "test_bad.py"
    good.write_text("def test_it():\n    assert True\n")
    bad.write_text("def test_it():\n    assert False\n")
    assert [soak.run_once(path, "quiet").passed for path in (good, bad)] == [True, False]


@pytest.mark.needs("linux")
def test_a_burst_makes_the_others_wait(soak: ModuleType) -> None:
    """A process on the same CPU waits for it about a third of the time, and sometimes long."""
    if not soak.may_burst():
        pytest.skip("this user may have no real-time processes")
    program = f"import os; os.sched_setaffinity(0, {{0}})\n{soak.BURST}"
    # Elsewhere it would do without the CPU that the bursts take.
    look = "import os, time; os.sched_setaffinity(0, {0})\ngaps, last = [], time.monotonic()\n"
    look += "end = last + 6\nwhile last < end:\n    now = time.monotonic()\n"
    look += "    gaps.append(now - last); last = now\nprint(sum(g for g in gaps if g > 0.09))"
    with soak.burning(1, program):
        waited = subprocess.run(
            [sys.executable, "-c", look], capture_output=True, text=True, timeout=100, check=True
        )
    assert float(waited.stdout) > 0.5


def test_all_lessons_are_meant_where_none_is_named(soak: ModuleType) -> None:
    assert soak._notebooks([]) == sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert [path.name[:2] for path in soak._notebooks(["02", "00"])] == ["02", "00"]


def test_an_unknown_notebook_is_told(soak: ModuleType) -> None:
    with pytest.raises(SystemExit, match="there is no notebook nowhere"):
        soak.main(["nowhere"])


def test_burners_end_with_the_block(
    soak: ModuleType, alive: Callable[[int], bool], becomes: Callable[[Callable[[], bool]], bool]
) -> None:
    with pytest.raises(KeyboardInterrupt), soak.burning(2) as burners:
        pids = [burner.pid for burner in burners]
        assert all(alive(pid) for pid in pids)
        raise KeyboardInterrupt
    assert becomes(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize("seconds", ["60", "0.1"])
def test_a_burner_ends_with_its_owner_or_in_time(soak: ModuleType, seconds: str) -> None:
    reading, writing = os.pipe()
    burner = subprocess.Popen([sys.executable, "-c", soak.BURNER, seconds], stdin=reading)
    os.close(reading)
    if seconds == "60":
        os.close(writing)
    assert burner.wait(30) == 0
    if seconds != "60":
        os.close(writing)
