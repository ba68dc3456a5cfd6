"""What `make quick` runs: the tests of what changed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import conftest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/run_tests.py as a module."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    spec = importlib.util.spec_from_file_location("run_tests", ROOT / "tools" / "run_tests.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "run_tests", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("file", "tests"),
    [
        ("streamlab/files.py", ["tests/test_files.py"]),
        ("streamlab/origin/server.py", ["tests/test_origin.py"]),
        ("streamlab/checks/hybrid/headers.py", ["tests/checks/test_hybrid.py"]),
        ("streamlab/checks/probes/files.py", ["tests/checks/test_probes.py"]),
        ("streamlab/grading/export/moodle.py", ["tests/grading/test_export.py"]),
        ("tools/website/folds.py", ["tests/site/test_transformations.py"]),
        ("tools/fresh.py", ["tests/tools/test_fresh.py"]),
        ("tests/test_files.py", ["tests/test_files.py"]),
        ("tests/conftest.py", []),
        ("README.md", []),
    ],
)
def test_a_file_has_its_tests(tool: ModuleType, file: str, tests: list[str]) -> None:
    """Those of the same name, or of its folder's."""
    assert tool.tests_of(file) == tests


def test_a_module_without_a_file_of_tests_has_those_that_import_it(tool: ModuleType) -> None:
    """Such as `proc.py`, which the tests of the meters import."""
    assert "tests/process/test_memory.py" in tool.tests_of("streamlab/process/proc.py")


def test_what_changed(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that differ from the last commit, and new ones; else those of the last commit."""

    def git(*arguments: str) -> None:
        name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *name, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(tool, "HERE", tmp_path)
    assert tool.changed_files() == []
    git("init", "-q")
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("1\n")
        git("add", ".")
        git("commit", "-qm", name)
    assert tool.changed_files() == ["b.py"]
    (tmp_path / "a.py").write_text("2\n")
    (tmp_path / "c.py").write_text("3\n")
    assert tool.changed_files() == ["a.py", "c.py"]


def test_each_lesson_has_a_folder_of_its_own(tool: ModuleType, tmp_path: Path) -> None:
    """Two of them in one folder would write each other's servers."""
    copies = [Path(path) for path in tool.copied_lessons(tmp_path)]
    assert sorted(copy.name for copy in copies) == sorted(
        lesson.name for lesson in (ROOT / "notebooks").glob("*.ipynb")
    )
    assert len({copy.parent for copy in copies}) == len(copies)
    assert all(copy.is_relative_to(tmp_path) for copy in copies)


def test_the_longest_files_of_tests_are_there() -> None:
    """A file that was renamed would begin last again."""
    assert [name for name in conftest.LONGEST if not (ROOT / "tests" / name).is_file()] == []


def test_the_answers_run_beside_the_other_parts(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All parts have a row, what failed is told, and what pytest says of the answers is shown."""
    begun, both = [], threading.Barrier(2, timeout=20)

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        name = next((each for each in (tool.CORPORA, "tests") if each in command), "--nbval")
        begun.append(name)
        if name != "--nbval":
            both.wait()
        if options["stdout"] is not None:
            options["stdout"].write(b"an answer was not caught")
        return subprocess.CompletedProcess(command, int(name == tool.CORPORA))

    monkeypatch.setattr(tool, "unavailable_reason", lambda kernel: "")
    monkeypatch.setattr(tool.subprocess, "run", run)
    monkeypatch.setattr(tool, "committed_labs", lambda scratch: ROOT / "labs")
    assert tool.main([]) == 1
    assert sorted(begun) == sorted([tool.CORPORA, "tests", *["--nbval"] * 3])
    shown = capfd.readouterr().out
    assert "an answer was not caught" in shown
    rows = {line[:24].strip(): line.split()[-3] for line in shown.splitlines() if line[-2:] == " s"}
    assert rows[tool.ANSWERS] == "FAILED"
    assert "parts: 4 passed, 1 failed" in shown
