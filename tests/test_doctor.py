"""The doctor says what a machine lacks, and the command prints it."""

from __future__ import annotations

import json
import platform
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict, fields
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import psutil
import pytest
from typer.testing import CliRunner

import streamlab
from streamlab import ServerError, cli, doctor
from streamlab.doctor import Finding, examine, missing
from streamlab.executables import find_tool
from streamlab.process import proc

ROOT = Path(__file__).parent.parent


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without `/proc`."""
    monkeypatch.setattr(proc, "PROC", tmp_path)


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which no program is installed."""
    monkeypatch.setenv("PATH", str(tmp_path))


def finding(name: str) -> Finding:
    """The doctor's finding of that name."""
    return {each.name: each for each in examine()}[name]


def run(*arguments: str) -> Any:
    """Run the command line in this process."""
    return CliRunner().invoke(cli.app, arguments)


def test_findings_are_told_apart() -> None:
    """Each finding has a name of its own and a detail in one line."""
    found = examine()
    names = [each.name for each in found]
    assert len(set(names)) == len(names)
    assert {"Python", "memory meters", "the cup", "loopback", "memory", "disk"} < set(names)
    assert {"curl", "chromium"} < set(names)
    assert all(each.detail and "\n" not in each.detail for each in found)
    assert {each.name for each in found if each.vital} == {"Python", "loopback"}


@pytest.mark.needs("linux")
def test_a_linux_machine_has_all_it_takes() -> None:
    """Here, Python, meters, cup and loopback are found to work."""
    for name in ("Python", "memory meters", "the cup", "loopback"):
        assert finding(name).ok, finding(name).detail
    assert finding("the cup").detail == "holds: 256 MiB do not fit into 128"


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old Python is named with what to install."""
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    monkeypatch.setattr(platform, "python_version", lambda: "3.10.1")
    old = doctor._python()
    assert (old.ok, old.vital, old.detail) == (False, True, "3.10.1: install 3.11 or newer")


def test_packages_as_pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The pinned packages are compared with the installed ones, those of other systems aside."""
    pins = tmp_path / "requirements.txt"
    monkeypatch.setattr(doctor, "REQUIREMENTS", pins)
    pins.write_text(
        f"# a comment\npsutil=={metadata.version('psutil')}\n    # via us\n"
        "pywinpty==99 ; os_name == 'nt'\n"
    )
    assert finding("packages").ok
    pins.write_text("psutil==0.1\nno-such-package==1\npytest==0\ntyper==0\nrich==0\n")
    wrong = finding("packages")
    assert not wrong.ok
    assert f"psutil is {metadata.version('psutil')}, not 0.1" in wrong.detail
    assert "no-such-package is missing, not 1" in wrong.detail
    assert wrong.detail.endswith("and 2 more: make lab installs the pinned ones")


def test_no_list_of_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Installed without the repository, there is nothing to compare with, which is fine."""
    monkeypatch.setattr(doctor, "REQUIREMENTS", tmp_path / "none.txt")
    assert finding("packages").ok
    assert "no requirements.txt" in finding("packages").detail


@pytest.mark.usefixtures("no_proc")
def test_not_linux() -> None:
    """Without `/proc` meters and cup are not there, and the doctor says what that means."""
    assert not finding("memory meters").ok
    assert "needs Linux" in finding("memory meters").detail
    assert not finding("the cup").ok
    assert "skipped" in finding("the cup").detail


@pytest.mark.needs("linux")
def test_a_cup_that_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that ignores the limit is found out."""

    def ignores(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(subprocess, "run", ignores)
    leaks = finding("the cup")
    assert (leaks.ok, leaks.detail) == (False, "leaks: this kernel ignores RLIMIT_DATA")


def test_no_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose loopback does not answer can't take the course."""

    def refuses(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_server", refuses)
    broken = finding("loopback")
    assert (broken.ok, broken.vital) == (False, True)
    assert broken.detail == "127.0.0.1 can't be reached: no network"


def test_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little memory or disk is reported with what is needed."""

    class Little:
        available = free = 1 << 30

    monkeypatch.setattr(psutil, "virtual_memory", Little)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Little)
    for name in ("memory", "disk"):
        assert not finding(name).ok
        assert finding(name).detail == "1 GiB free: 2 GiB are needed"


@pytest.mark.usefixtures("no_tools")
def test_no_tools() -> None:
    """A program that is not installed is named with its package."""
    assert find_tool("curl") is None
    assert not finding("curl").ok
    assert finding("curl").detail == "not installed: cells with it are skipped (package curl)"


def test_a_tool_by_another_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Chromium goes by several names."""
    program = tmp_path / "google-chrome"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tool("chromium") == str(program)
    assert finding("chromium").detail == str(program)


def test_a_script_for_a_snap_that_is_missing_is_no_tool(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ubuntu's package chromium-browser is such a script."""
    program = tmp_path / "chromium-browser"
    program.write_text(
        '#!/bin/sh\n[ -x /snap/bin/no-such ] || exit 1\nexec /snap/bin/no-such "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tool("chromium") is None
    real = tmp_path / "google-chrome"
    real.touch(mode=0o755)
    assert find_tool("chromium") == str(real)


@pytest.mark.usefixtures("no_proc", "no_tools")
def test_missing_gives_reasons() -> None:
    """Each need that is not met has a reason in one line, in order."""
    reasons = missing(["linux", "curl", "aria2c"])
    assert reasons == [
        "linux: only its kernel tells private memory and the high-water mark",
        "curl: not installed (make system, or your package manager)",
        "aria2c: not installed (make system, or your package manager)",
    ]


@pytest.mark.needs("linux")
def test_nothing_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Needs that are met are not missing."""
    (tmp_path / "curl").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing(["linux", "curl"]) == []
    assert missing([]) == []


# What a test or a notebook needs


@pytest.fixture
def gate() -> ModuleType:
    """The root's `conftest.py`, which skips or fails what lacks something."""
    spec = util.spec_from_file_location("gate", ROOT / "conftest.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Item:
    """A test or a notebook's cell, as pytest shows it to `conftest.py`."""

    def __init__(self, path: Path, *needs: str) -> None:
        self.path = path
        self.needs = needs

    def iter_markers(self, name: str) -> list[Any]:
        return [pytest.mark.needs(*self.needs).mark] if name == "needs" else []


def notebook(folder: Path, *needs: str) -> Path:
    """A notebook that names what it needs."""
    path = folder / "lesson.ipynb"
    path.write_text(json.dumps({"metadata": {"streamlab": {"needs": needs}}, "cells": []}))
    return path


@pytest.mark.usefixtures("no_tools")
def test_what_is_missing_is_skipped(
    gate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test or notebook whose needs are not met is skipped with the reason."""
    monkeypatch.delenv("CI", raising=False)
    for item in (Item(tmp_path / "a.py", "curl"), Item(notebook(tmp_path, "curl"))):
        with pytest.raises(pytest.skip.Exception, match="missing here: curl: not installed"):
            gate.pytest_runtest_setup(item)


@pytest.mark.usefixtures("no_tools")
def test_in_ci_nothing_is_skipped(
    gate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With CI set, a missing need is a failure."""
    monkeypatch.setenv("CI", "1")
    for item in (Item(tmp_path / "a.py", "curl"), Item(notebook(tmp_path, "curl"))):
        with pytest.raises(pytest.fail.Exception, match="CI may skip nothing, but this is missing"):
            gate.pytest_runtest_setup(item)


@pytest.mark.usefixtures("no_tools")
def test_in_ci_a_right_may_be_missing(
    gate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without control groups CI skips, unless what can be installed is missing too."""
    monkeypatch.setenv("CI", "1")
    monkeypatch.setattr("streamlab.process.groups.unavailable_reason", lambda: "no rights")
    for item in (Item(tmp_path / "a.py", "cgroup"), Item(notebook(tmp_path, "cgroup"))):
        with pytest.raises(pytest.skip.Exception, match="missing here: cgroup: no rights"):
            gate.pytest_runtest_setup(item)
    with pytest.raises(pytest.fail.Exception, match="CI may skip nothing, but this is missing"):
        gate.pytest_runtest_setup(Item(tmp_path / "a.py", "cgroup", "curl"))


@pytest.mark.usefixtures("no_tools")
def test_without_needs_all_runs(gate: ModuleType, tmp_path: Path) -> None:
    """Tests without needs are never skipped."""
    gate.pytest_runtest_setup(Item(tmp_path / "a.py"))
    gate.pytest_runtest_setup(Item(notebook(tmp_path)))


# The command line


def test_doctor_prints_a_table() -> None:
    """A line a finding, with a mark, its name and its detail."""
    ran = run("doctor")
    assert ran.exit_code == 0
    for name in ("Python", "loopback", "the cup"):
        assert name in ran.output


def test_doctor_as_json() -> None:
    """The JSON is a list of findings, each with exactly the fields of one, of the right types."""
    ran = run("doctor", "--json")
    types = get_type_hints(Finding)
    found = json.loads(ran.stdout)
    assert [each["name"] for each in found] == [each.name for each in examine()]
    for each in found:
        assert set(each) == {field.name for field in fields(Finding)}
        assert all(type(each[name]) is types[name] for name in each)
        assert asdict(Finding(**each)) == each


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_doctor_fails_for_what_is_vital(
    monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """Something vital that is missing is status 1; anything else is not."""
    monkeypatch.setattr(doctor, "_python", lambda: Finding("Python", False, "old", vital=True))
    ran = run("doctor", *options)
    assert ran.exit_code == 1
    assert "old" in ran.output
    monkeypatch.setattr(doctor, "_python", lambda: Finding("Python", False, "odd", vital=False))
    assert run("doctor", *options).exit_code == 0


def test_version() -> None:
    """`--version` says the version."""
    ran = run("--version")
    assert (ran.exit_code, ran.output) == (0, f"streamlab {streamlab.__version__}\n")


def test_help() -> None:
    """`--help` says what there is; each command explains itself."""
    ran = run("--help")
    assert ran.exit_code == 0
    assert "doctor" in ran.output
    assert "--version" in ran.output
    doctors = run("doctor", "--help")
    assert "--json" in doctors.output
    assert "what will be skipped" in doctors.output


def test_no_command() -> None:
    """Without a command the help is shown."""
    assert "Usage" in run().output


@pytest.mark.parametrize("arguments", [["docter"], ["doctor", "--xml"], ["--verison"]])
def test_unknown_words(arguments: list[str]) -> None:
    """An unknown command or option is status 2."""
    assert run(*arguments).exit_code == 2


def test_an_error_of_the_library_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake that the library names is shown without a traceback, with status 2."""

    def fails() -> None:
        raise ServerError("no water")

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "streamlab: no water\n"


def test_the_installed_command() -> None:
    """`streamlab` is installed beside this Python and answers."""
    command = find_tool(str(Path(sys.executable).with_name("streamlab")))
    assert command is not None
    ran = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"streamlab {streamlab.__version__}\n"


@pytest.mark.needs("linux")
def test_too_few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that needs thousands of descriptors is skipped, with the reason."""
    import resource

    assert missing(["descriptors"]) == []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    reason = "up to 1024: chapter 06 and its lab need 4096 (ulimit -Hn)"
    assert finding("descriptors").detail == reason
    assert missing(["descriptors", "linux"]) == [f"descriptors: {reason}"]


def test_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a memory cgroup can be made, and a notebook that needs one gets the reason."""
    monkeypatch.setattr("streamlab.process.groups.unavailable_reason", lambda: "")
    assert doctor._group().ok
    assert missing(["cgroup"]) == []
    monkeypatch.setattr("streamlab.process.groups.unavailable_reason", lambda: "no rights")
    assert not doctor._group().ok
    assert missing(["cgroup"]) == ["cgroup: no rights"]
