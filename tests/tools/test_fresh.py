"""The parts of `make fresh` that can be tried without making a system."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FRESH = ROOT / "tools" / "fresh.py"


@pytest.fixture(scope="module")
def fresh() -> ModuleType:
    """The tool, as a module."""
    spec = importlib.util.spec_from_file_location("fresh", FRESH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fresh"] = module
    spec.loader.exec_module(module)
    return module


def ways(fresh: ModuleType, *arguments: str) -> list[str]:
    return [str(way) for way in fresh.parse(arguments).ways]


def test_all_ways_by_default(fresh: ModuleType) -> None:
    assert fresh.parse([]).suite == "bookworm"
    assert ways(fresh) == [
        "root, with tools",
        "ordinary user, with tools",
        "root, without tools",
        "ordinary user, without tools",
    ]


def test_the_short_form_is_one_way(fresh: ModuleType) -> None:
    assert ways(fresh, "--short") == ["ordinary user, without tools"]
    assert ways(fresh, "--short", "--user=root", "--tools=with") == ["root, with tools"]


def test_ways_can_be_chosen(fresh: ModuleType) -> None:
    assert ways(fresh, "--user=root") == ["root, with tools", "root, without tools"]
    assert len(ways(fresh, "--tools=without")) == 2


@pytest.mark.parametrize(
    "wrong", [["--suite=../etc"], ["--suite="], ["--user=ada"], ["--tools=some"], ["now"]]
)
def test_wrong_options_are_told(
    fresh: ModuleType, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        fresh.parse(wrong)
    assert ended.value.code == 2
    assert "fresh.py: error: " in capsys.readouterr().err


# What it says where it can't run


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("1", 1)])
def test_without_root(
    fresh: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ci: str,
    status: int,
) -> None:
    """One line, and with CI set a failure."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert fresh.main([]) == status
    said = capsys.readouterr().out
    assert said == "make fresh can't run here: it needs root, to make and to enter a new system\n"


def test_without_debootstrap(fresh: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(fresh, "which", lambda name: (name != "debootstrap" and name) or None)
    assert fresh.unavailable_reason() == "debootstrap not installed (make system)"


def test_without_namespaces(fresh: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(fresh, "which", lambda name: name)
    refused = [sys.executable, "-c", "import sys; sys.exit('Operation not permitted')"]
    monkeypatch.setattr(fresh, "namespaces", lambda: refused)
    assert fresh.unavailable_reason() == "no namespaces can be made: Operation not permitted"


def test_elsewhere(fresh: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert fresh.unavailable_reason() == "it needs Linux"


def test_an_unknown_release_is_a_failed_row(
    fresh: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fresh, "unavailable_reason", lambda: "")
    monkeypatch.setattr(fresh, "has_release", lambda mirror, suite: False)
    assert fresh.main(["--suite", "nowhere"]) == 1
    said = capsys.readouterr().out
    assert (
        "make fresh: no mirror that this machine knows or reaches has the release nowhere" in said
    )
    assert "FAILED" in said.splitlines()[-1]


# Settings of this machine


def test_mirrors_of_both_formats(fresh: ModuleType, tmp_path: Path) -> None:
    more = tmp_path / "sources.list.d"
    more.mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian x main\n"
        "deb [arch=amd64 signed-by=/a] http://one.example/debian x main\n"
        "deb-src http://one.example/debian/ x main\n"
    )
    (more / "b.sources").write_text(
        "Types: deb\n# http://no.example\nURIs: http://two.example/a https://three.example/ubuntu/\n"
    )
    (more / "c.list").write_text("deb http://four.example/debian x main\n")
    (more / "c.list.bak").write_text("deb http://five.example/debian x main\n")
    assert fresh.mirrors_of_this_machine(tmp_path) == [
        "http://one.example/debian",
        "http://two.example/a",
        "https://three.example/ubuntu",
        "http://four.example/debian",
    ]
    assert fresh.mirrors_of_this_machine(tmp_path / "nowhere") == []


def test_the_mirror_that_has_the_release(
    fresh: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fresh, "mirrors_of_this_machine", lambda: ["http://a.example/debian"])
    monkeypatch.setattr(
        fresh, "default_mirrors", lambda script: [f"http://b.example/{script}/ubuntu"]
    )
    having = {"http://a.example/debian": ["x"], "http://b.example/gutsy/ubuntu": ["y"]}
    monkeypatch.setattr(fresh, "has_release", lambda mirror, suite: suite in having.get(mirror, []))
    assert fresh.source_of("x", None) == ("http://a.example/debian", "debian")
    assert fresh.source_of("y", None) == ("http://b.example/gutsy/ubuntu", "ubuntu")
    with pytest.raises(fresh.FreshError, match="has the release x"):
        fresh.source_of("x", "http://c.example/debian")


def test_pip_settings(fresh: ModuleType, tmp_path: Path) -> None:
    """They are made global, and the paths in them are found, each once."""
    index, wheels, bundle = tmp_path / "pkg" / "simple", tmp_path / "wheels", tmp_path / "ca.crt"
    index.mkdir(parents=True)
    wheels.mkdir()
    bundle.touch()
    listed = (
        f":env:.cert='{bundle}'\n"
        "global.cert='/nowhere/else.crt'\n"
        f"global.find-links='{wheels}\\nhttps://wheels.example/'\n"
        f"global.extra='file://{index} file://{index}'\n"
        "freeze.timeout='9'\n"
    )
    found = fresh.pip_settings(listed)
    assert found["cert"] == str(bundle) and "timeout" not in found
    assert f"\nfind-links = {wheels} https://wheels.example/\n" in fresh.pip_file(found)
    assert fresh.named_paths(found) == ([bundle], [wheels, index.parent])
    assert fresh.pip_file({}) == "[global]\n"


def test_homes(fresh: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("ada:x:1:1::/somewhere/ada:/bin/sh\n")
    assert fresh.home_of(tmp_path, "ada") == "/somewhere/ada"
    assert fresh.home_of(tmp_path, "bob") == "/"


# Nothing stays


def test_a_folder_with_a_mount_is_not_removed(
    fresh: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To remove it could remove what is mounted."""
    with fresh.scratch_folder() as free:
        (free / "system" / "etc").mkdir(parents=True)
    assert not free.exists()
    monkeypatch.setattr(fresh, "mounts_in", lambda folder, text: [f"{folder}/proc"])
    with fresh.scratch_folder() as held:
        pass
    assert held.exists()
    assert capsys.readouterr().out == f"{held} is left: something is mounted on {held}/proc\n"
    held.rmdir()


def test_mounts_inside(fresh: ModuleType) -> None:
    text = (
        "22 1 0:21 / /proc rw - proc proc rw\n"
        "30 1 0:21 / /tmp/fresh-1/base/proc rw - proc proc rw\n"
        "31 1 0:21 / /tmp/fresh-11 rw - tmpfs tmpfs rw\n"
    )
    assert fresh.mounts_in(Path("/tmp/fresh-1"), text) == ["/tmp/fresh-1/base/proc"]


@pytest.mark.needs("linux")
def test_processes_end_with_the_tool(fresh: ModuleType) -> None:
    """With the tool killed, the first process of the namespace ends, and all others with it."""
    if reason := fresh.unavailable_reason():
        pytest.skip(reason)
    program = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen({fresh.namespaces()!r} + ['sh', '-c', 'echo up; sleep 300; :'])\n"
        "time.sleep(300)\n"
    )
    reading, writing = os.pipe()
    tool = subprocess.Popen([sys.executable, "-c", program], stdout=writing, pass_fds=[writing])
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.readline() == "up\n"
        tool.kill()
        tool.wait()
        assert pipe.read() == "", "everybody who held the pipe has ended"


# What came of it


def test_counts_are_summed(fresh: ModuleType) -> None:
    lines = [
        "10 passed, 2 skipped in 3.21s\n",
        "SKIPPED [2] x.py:49: missing here: curl: not installed (x); wget: not installed (x)\n",
        "1 failed, 5 passed in 61.00s (0:01:01)\n",
        "we passed 99 bridges\n",
    ]
    assert fresh.counts(lines) == "15 passed, 1 failed, 2 skipped (no curl, wget)"
    assert fresh.counts([]) == ""


def test_the_table_shows_failures(fresh: ModuleType) -> None:
    rows = [
        fresh.Row("", "debootstrap x", True, 40),
        fresh.Row("root", "make lab", False, 2, "it ended"),
    ]
    lines = fresh.table(rows).splitlines()
    assert "passed" in lines[0] and "40 s" in lines[0]
    assert lines[1].split() == ["root", "make", "lab", "FAILED", "2", "s", "it", "ended"]
