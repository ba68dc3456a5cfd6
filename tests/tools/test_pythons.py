"""The tool that runs the course with other Pythons: which ones it takes, and that it can fail."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from notebook_rules import ROOT


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The tool, on a machine whose PATH has nothing but sh."""
    spec = importlib.util.spec_from_file_location("run_pythons", ROOT / "tools" / "run_pythons.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("OTHER_PYTHONS", raising=False)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return module


def python(folder: Path, name: str, version: str, status: int = 0) -> str:
    """A program that says it is a Python of that version; ended with `status` by anything else."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n[ $1 = -c ] && echo {version} && exit 0\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def test_other_pythons_are_found(tool: ModuleType, tmp_path: Path) -> None:
    """Those on PATH, each version once, without the one that runs the tool."""
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    python(tmp_path, f"python{own}", f"{own}.99")
    python(tmp_path, "python3.15", "3.15.0")
    assert tool.found() == {"3.15.0": "python3.15"}
    named = python(tmp_path, "mine", "3.15.0")
    assert tool.found([named]) == {"3.15.0": named}


def test_pythons_of_the_environment_come_first(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTHER_PYTHONS names them, separated by colons."""
    named = [python(tmp_path, "a", "3.14.1"), python(tmp_path, "b", "3.13.0")]
    monkeypatch.setenv("OTHER_PYTHONS", ":".join(named))
    assert tool.found() == {"3.14.1": named[0], "3.13.0": named[1]}


def test_pythons_of_pyenv_are_found(tool: ModuleType, tmp_path: Path) -> None:
    """The newest first, and none that is too old, or only looks like one."""
    for name, version in (("3.10.4", "3.10.4"), ("3.14.2", "3.14.2"), ("3.15-dev", "3.15.0")):
        (tmp_path / "pyenv" / "versions" / name / "bin").mkdir(parents=True)
        python(tmp_path / "pyenv" / "versions" / name / "bin", "python3", version)
    assert list(tool.found()) == ["3.15.0", "3.14.2"]


@pytest.mark.parametrize("version", ["3.10.4", "2.7.18", None])
def test_a_named_python_must_fit(tool: ModuleType, tmp_path: Path, version: str | None) -> None:
    """One that is too old, or is not there, ends the tool in one line."""
    name = python(tmp_path, "old", version) if version else str(tmp_path / "none")
    with pytest.raises(SystemExit, match=r"is no Python from 3\.11 on: check the path"):
        tool.found([name])


def test_no_other_python_is_said(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """And is no failure."""
    assert tool.main([]) == 0
    assert capsys.readouterr().out.startswith("no other Python is here")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="there is no git repository here")
@pytest.mark.needs("linux")
def test_a_failure_is_told(
    tool: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A Python with which the environment can't be made."""
    git = shutil.which("git", path="/usr/bin:/bin:/usr/local/bin")
    assert git is not None
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(git).parent}")
    assert tool.main([python(tmp_path, "broken", "3.15.0", status=3)]) == 1
    assert "Python 3.15.0: FAILED" in capfd.readouterr().out
