"""The bench: every server in it serves, every kind of load is read, and slower is shown slower."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests

from streamlab.files import KiB, MiB, random_file

HERE = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.needs("linux")


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    sys.path.insert(0, str(HERE / "tools" / "bench"))
    import run

    yield run
    sys.path.pop(0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bench's files, the large ones smaller."""
    folder = tmp_path_factory.mktemp("files")
    sizes = {"4k": 4 * KiB, "100k": 100 * KiB, "64m": 8 * MiB, "65mb": 8 * MiB, "1g": 8 * MiB}
    for name, size in sizes.items():
        random_file(size, name, folder)
    return folder


CONTENDERS = {
    "files": [
        *("nginx", "lab02", "lab05", "lab06"),
        *("aiohttp", "starlette", "http.server", "load-all"),
    ],
    "frameworks": ["nginx", "lab07", "starlette"],
    "proxies": ["nginx", "lab09", "httpx2", "buffered"],
}
NGINX = pytest.mark.needs("nginx")
ALL = [  # each proxy passes on what an nginx serves
    pytest.param(suite, name, marks=NGINX if name == "nginx" or suite == "proxies" else ())
    for suite, names in CONTENDERS.items()
    for name in names
]


def suite_of(bench: ModuleType, name: str) -> Any:
    return next(each for each in bench.SUITES if each.name == name)


def contender(bench: ModuleType, suite: str, name: str) -> Any:
    return next(each for each in suite_of(bench, suite).contenders if each.name == name)


@contextmanager
def started(bench: ModuleType, root: Path, suite: str, name: str) -> Iterator[tuple[Any, Any]]:
    """A contender and its running server, beside what it needs."""
    each = contender(bench, suite, name)
    with suite_of(bench, suite).source(root) as source, each.start(source) as running:
        yield each, running


def workload(bench: ModuleType, suite: str, name: str, **changed: Any) -> Any:
    found = next(each for each in suite_of(bench, suite).workloads if each.name == name)
    return replace(found, **changed)


def test_all_are_in_the_tables(bench: ModuleType) -> None:
    names = {suite.name: [each.name for each in suite.contenders] for suite in bench.SUITES}
    assert names == CONTENDERS
    holders = {each.name for suite in bench.SUITES for each in suite.contenders if each.holds_all}
    assert holders == {"load-all", "buffered"}


@pytest.mark.parametrize(("suite", "name"), ALL)
def test_each_server_gives_every_byte(bench: ModuleType, root: Path, suite: str, name: str) -> None:
    with started(bench, root, suite, name) as (each, running):
        for file in ("100k", "64m"):
            got = requests.get(f"{running.url}{each.path.format(file)}", timeout=20)
            assert got.content == (root / file).read_bytes()
            assert got.headers["Content-Length"] == str(len(got.content))


@pytest.mark.needs("wrk")
def test_each_kind_of_load_is_read(bench: ModuleType, root: Path) -> None:
    with started(bench, root, "files", "lab06") as up:
        poured = bench.measure(workload(bench, "files", "pour-64m-10", clients=4), *up, 1)
        assert 10 < poured["pour-64m-10"] < 100_000
        # One thread: its CPU time is no more than the time on the clock.
        assert 0.5 * poured["pour-64m-10"] < poured["cpu-64m-10"] < 100_000
        beside = bench.measure(workload(bench, "files", "beside-1g-4"), *up, 2)
        assert 10 < beside["beside-1g-4"] < 100_000
        answered = bench.measure(workload(bench, "files", "rate-4k", clients=4), *up, 1)
        assert 50 < answered["rate-4k"] < 1_000_000
        waited = bench.measure(workload(bench, "files", "first-median", clients=4), *up, 1)
        assert 0 < waited["first-median"] <= waited["first-worst"] < 30_000


def test_memory_is_that_of_the_server(bench: ModuleType, root: Path) -> None:
    """Load-all holds a file for each slow client, the loop of lab 06 a few KiB."""
    held = {}
    for name in ("lab06", "load-all"):
        with started(bench, root, "files", name) as up:
            found = bench.measure(workload(bench, "files", "slow-200", clients=10), *up, 1)
            held[name] = found["slow-200"]
    assert held["lab06"] < 1024
    assert held["load-all"] > 6 * 1024


@NGINX
def test_a_crowd_downloads_to_the_end(
    bench: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The streamed proxy grows by less than a file, the buffered one by several; bytes count."""
    monkeypatch.setitem(bench.SIZES, "65mb", 8 * MiB)
    grown = {}
    whole = workload(bench, "proxies", "whole-1000", clients=10)
    for name in ("lab09", "buffered"):
        with started(bench, root, "proxies", name) as up:
            grown[name] = bench.measure(whole, *up, 1)["whole-1000"]
    assert grown["lab09"] < 8 < 16 < grown["buffered"]
    monkeypatch.setitem(bench.SIZES, "65mb", 9 * MiB)
    with (
        started(bench, root, "proxies", "lab09") as up,
        pytest.raises(AssertionError, match="arrived"),
    ):
        bench.measure(whole, *up, 1)


def made_up(bench: ModuleType, name: str, slower: str) -> dict[str, Any]:
    """A result in which `slower` is half as fast as nginx, and holds twice as much."""
    suite = suite_of(bench, name)
    readings = {}
    for each in suite.workloads:
        half = 1.0 if each.more_is_better else 4.0
        readings[each.name] = {"nginx": [2.0, 2.0, 9.0], slower: [half, half, 0.1 * half]}
    return {
        "title": suite.title,
        "date": "2026-01-01",
        "servers": {each.name: each.title for each in suite.contenders},
        "readings": readings,
        "missing": {},
        "machine": {"CPU": "two"},
        "repeats": 3,
        "seconds": 2.0,
        "workloads": [asdict(each) for each in suite.workloads],
    }


def rows_of(table: str) -> dict[str, str]:
    return {line.split("|")[1].strip(): line for line in table.splitlines() if "|" in line}


def test_slower_is_shown_slower(bench: ModuleType) -> None:
    found = made_up(bench, "files", "lab02")
    found["missing"] = {"load-all": {"pour-1g-50": 50 << 30, "pour-1g-200": 200 << 30}}
    table = bench.report.as_markdown({"files": found})
    rows = rows_of(table)
    assert rows["1 GiB, 10 clients"].startswith("| 1 GiB, 10 clients | 2 MiB/s | 0.50 | – |")
    assert rows["memory for each of 1000 slow clients"].split("|")[3].strip() == "2.00"
    assert "load-all would hold 50 GiB to 200 GiB" in table
    assert "CPU two" in table
    assert "0.00" not in table
    found["readings"]["pour-1g-10"]["lab02"] = [0.0, 0.0, 9.0]
    assert "0.00: hardly a byte had come" in bench.report.as_markdown({"files": found})


def test_what_was_not_run_is_computed_and_says_so(bench: ModuleType) -> None:
    """The buffered proxy at 1000: a thousand times what a client cost at the largest crowd."""
    found = made_up(bench, "proxies", "lab09")
    for clients, each in ((10, 9 * KiB), (50, 64 * KiB)):  # KiB a client
        found["readings"][f"slow-{clients}"]["buffered"] = [each]
    for crowd in (200, 1000):
        found["missing"]["buffered"] = {f"slow-{crowd}": crowd * 65_000_000}
    table = bench.report.as_markdown({"proxies": found})
    assert "- buffered: 62.5 GiB, computed" in table
    assert "- lab 09: streaming proxy: 4 MiB" in table
    assert "(once)" in rows_of(table)["growth while 1000 clients download 65 MB each (once)"]


def test_a_suite_that_is_not_measured_keeps_its_readings(bench: ModuleType, tmp_path: Path) -> None:
    before = {"files": made_up(bench, "files", "lab02")}
    bench.report.write(before, tmp_path)
    found = bench.report.read(tmp_path)
    assert found == before
    found["proxies"] = made_up(bench, "proxies", "lab09")
    bench.report.write(found, tmp_path)
    assert list(bench.report.read(tmp_path)) == ["files", "proxies"]
    assert bench.report.read(tmp_path)["files"] == before["files"]


def test_the_charts_are_drawn(bench: ModuleType, tmp_path: Path) -> None:
    proxies = made_up(bench, "proxies", "lab09")
    proxies["readings"]["slow-50"]["buffered"] = [64 * KiB]
    bench.report.write({"files": made_up(bench, "files", "lab02"), "proxies": proxies}, tmp_path)
    for name in ("bench.png", "bench-proxies.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_missing_tool_is_one_line(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.setattr(bench.shutil, "which", lambda name, path: None)
    assert bench.main() == 1
    assert capsys.readouterr().out.startswith("nginx is missing: make system installs it")
