"""The bench: every server in it serves, every kind of load is read, and slower is shown slower."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests

from streamlab.files import KiB, MiB, random_file

HERE = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.needs("linux")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(HERE / "tools" / "bench"))
    try:
        import run
    finally:
        sys.path.pop(0)
    return run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name, size in {"4k": 4 * KiB, "100k": 100 * KiB, "64m": 8 * MiB}.items():
        random_file(size, name, folder)
    return folder


def contenders() -> list[str]:
    return [
        *("nginx", "lab02", "lab05", "lab06"),
        *("aiohttp", "starlette", "http.server", "load-all"),
    ]


def contender(bench: ModuleType, name: str) -> Any:
    return next(each for each in bench.CONTENDERS if each.name == name)


def workload(bench: ModuleType, name: str, clients: int) -> Any:
    found = next(each for each in bench.workloads() if each.name == name)
    return bench.Workload(**{**asdict(found), "clients": clients})


def test_all_are_in_the_table(bench: ModuleType) -> None:
    assert [each.name for each in bench.CONTENDERS] == contenders()
    assert [each.holds_all for each in bench.CONTENDERS].index(True) == len(contenders()) - 1


@pytest.mark.parametrize("name", contenders())
def test_each_server_gives_every_byte(bench: ModuleType, root: Path, name: str) -> None:
    with contender(bench, name).start(root) as running:
        for file in ("100k", "64m"):
            got = requests.get(f"{running.url}/{file}", timeout=20)
            assert got.content == (root / file).read_bytes()
            assert got.headers["Content-Length"] == str(len(got.content))


def test_each_kind_of_load_is_read(bench: ModuleType, root: Path) -> None:
    with contender(bench, "lab06").start(root) as running:
        poured = bench.measure(workload(bench, "pour-64m-10", 4), running, 0.5)
        assert 10 < poured["pour-64m-10"] < 100_000
        answered = bench.measure(workload(bench, "rate-4k", 4), running, 1)
        assert 50 < answered["rate-4k"] < 1_000_000
        waited = bench.measure(workload(bench, "first-median", 4), running, 1)
        assert 0 < waited["first-median"] <= waited["first-worst"] < 30_000


def test_memory_is_that_of_the_server(bench: ModuleType, root: Path) -> None:
    """Load-all holds a file for each slow client, the loop of lab 06 a few KiB."""
    held = {}
    for name in ("lab06", "load-all"):
        with contender(bench, name).start(root) as running:
            held[name] = bench.measure(workload(bench, "slow-200", 10), running, 1)["slow-200"]
    assert held["lab06"] < 1024
    assert held["load-all"] > 6 * 1024


def made_up(bench: ModuleType) -> dict[str, Any]:
    """A result in which lab02 is half as fast as nginx, and holds twice as much."""
    servers = {"nginx": "nginx", "lab02": "lab 02", "load-all": "load-all"}
    readings = {}
    for each in bench.workloads():
        half = 1.0 if each.more_is_better else 4.0
        readings[each.name] = {"nginx": [2.0, 2.0, 9.0], "lab02": [half, half, 0.1 * half]}
    return {
        "servers": servers,
        "readings": readings,
        "missing": {"load-all": {"pour-1g-50": 50 << 30, "pour-1g-200": 200 << 30}},
        "machine": {"CPU": "two"},
        "repeats": 3,
        "workloads": [asdict(each) for each in bench.workloads()],
    }


def test_slower_is_shown_slower(bench: ModuleType) -> None:
    table = bench.as_markdown(made_up(bench))
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if "|" in line}
    assert rows["1 GiB, 10 clients"] == "| 1 GiB, 10 clients | 2 MiB/s | 0.50 | – |"
    assert rows["memory for each of 1000 slow clients"].split("|")[3].strip() == "2.00"
    assert "load-all would hold 50 GiB to 200 GiB" in table
    assert "CPU two" in table


def test_the_chart_is_drawn(bench: ModuleType, tmp_path: Path) -> None:
    bench.draw(made_up(bench), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_tool_is_one_line(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.setattr(bench.shutil, "which", lambda name, path: None)
    assert bench.main() == 1
    assert capsys.readouterr().out.startswith("nginx is missing: make system installs it")
