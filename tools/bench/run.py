"""Measure the labs' solutions beside well-known servers: what `make bench` does.

    python tools/bench/run.py [--suite NAME ...] [--repeats 5] [--seconds 2] [--out docs]

Writes bench.json (every reading), bench.md (medians, as ratios to nginx) and charts into `docs`.
Servers take turns on the same files and the same clients. A server that is slower is shown slower.
A suite that is not measured keeps its earlier results.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import report
import servers
from servers import Contender, Running

from streamlab.files import GiB, KiB, MiB, random_file, size_text
from streamlab.process.memory import memory_of
from streamlab.process.proc import group_members

BENCH = Path(__file__).resolve().parent
HERE = BENCH.parent.parent
TOO_MUCH = 4 * GiB
"""The most bytes that a server that holds whole files may need in a workload. If it needs more, it
is not run, and the table says so."""

SIZES = {"4k": 4 * KiB, "100k": 100 * KiB, "64m": 64 * MiB, "65mb": 65_000_000, "1g": GiB}


# The workloads


@dataclass(frozen=True)
class Workload:
    """What is measured: a kind of load, a file, a number of clients."""

    name: str
    title: str
    unit: str
    more_is_better: bool
    kind: str
    file: str
    clients: int
    once: bool = False
    """Whether it is run in the first round only."""

    def room(self) -> int:
        """The bytes that a server needs if it holds every answer."""
        return SIZES[self.file] * self.clients


def pours(file: str, *crowds: int) -> list[Workload]:
    """Throughput: clients that download a file over and over."""
    return [
        Workload(
            f"pour-{file}-{clients}",
            f"{size_text(SIZES[file])}, {clients} client{'s' if clients > 1 else ''}",
            "MiB/s",
            True,
            "pour",
            file,
            clients,
        )
        for clients in crowds
    ]


def rates(*files: str) -> list[Workload]:
    """Requests per second for small files."""
    return [
        Workload(
            f"rate-{file}",
            f"{size_text(SIZES[file])}, 50 connections",
            "requests/s",
            True,
            "rate",
            file,
            50,
        )
        for file in files
    ]


def costs(file: str, *crowds: int) -> list[Workload]:
    """What a server's CPU time buys while it pours; read in the same runs as the throughput."""
    return [
        replace(
            each,
            name=each.name.replace("pour", "cpu"),
            title=f"{each.title}, for each second of CPU",
            unit="MiB",
            kind="cpu",
        )
        for each in pours(file, *crowds)
    ]


def besides(file: str, *crowds: int) -> list[Workload]:
    """How many small answers one more client gets, one after the other, while others pour."""
    return [
        Workload(
            f"beside-{file}-{clients}",
            f"4 KiB, beside {clients} clients of {size_text(SIZES[file])}",
            "answers/s",
            True,
            "beside",
            file,
            clients,
        )
        for clients in crowds
    ]


def firsts() -> list[Workload]:
    """How long many clients that ask at once wait for their first bytes."""
    return [
        Workload(
            f"first-{which}",
            f"first byte of 64 MiB at 50 clients, {which}",
            "ms",
            False,
            "first",
            "64m",
            50,
        )
        for which in ("median", "worst")
    ]


def slows(file: str, *crowds: int) -> list[Workload]:
    """Bytes that a server holds for each of many slow clients."""
    return [
        Workload(
            f"slow-{clients}",
            f"memory for each of {clients} slow clients",
            "KiB",
            False,
            "slow",
            file,
            clients,
        )
        for clients in crowds
    ]


def wholes(file: str, clients: int) -> list[Workload]:
    """How much a server grows while many clients download a file to its end."""
    title = f"growth while {clients} clients download 65 MB each"
    return [Workload(f"whole-{clients}", title, "MiB", False, "whole", file, clients, once=True)]


@dataclass(frozen=True)
class Suite:
    """Servers that are compared, and the workloads."""

    name: str
    title: str
    contenders: list[Contender]
    workloads: list[Workload]
    source: Callable[[Path], AbstractContextManager[Any]]
    """Makes of the folder of files what the contenders are started with."""


@contextmanager
def upstream(root: Path) -> Iterator[str]:
    """An upstream that has the files at lab 09's paths; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="streamlab-upstream-", dir=root) as folder:
        for name in SIZES:
            place = Path(folder, servers.FILE_OF.format(name).lstrip("/"))
            place.parent.mkdir(parents=True)
            place.symlink_to(root / name)
        with servers.nginx_files(Path(folder)) as running:
            yield running.url


SUITES = [
    Suite(
        "files",
        "File servers",
        servers.FILES,
        [
            *pours("64m", 1, 10, 50, 200),
            *pours("1g", 1, 10, 50, 200),
            *costs("1g", 1, 50),
            *rates("4k", "100k"),
            *besides("1g", 4),
            *firsts(),
            *slows("64m", 200, 1000),
        ],
        nullcontext,
    ),
    Suite(
        "frameworks",
        "With a framework",
        servers.FRAMEWORKS,
        [*pours("64m", 1, 10, 50, 200), *firsts(), *slows("64m", 200, 1000)],
        nullcontext,
    ),
    Suite(
        "proxies",
        "Proxies",
        servers.PROXIES,
        [
            *pours("64m", 1, 10, 50),
            *slows("65mb", 10, 25, 50, 200, 1000),
            *wholes("65mb", 1000),
        ],
        upstream,
    ),
]


# One reading


def measure(
    workload: Workload, contender: Contender, running: Running, seconds: float
) -> dict[str, float]:
    """The readings of one run, by the names of the workloads that they belong to."""
    port = int(running.url.rpartition(":")[2])
    target = contender.path.format(workload.file)
    match workload.kind:
        case "pour":
            before = cpu_of(running.pid)
            got = load("pour", port, target, workload.clients, seconds)
            spent = cpu_of(running.pid) - before
            return {
                workload.name: got["bytes"] / got["seconds"] / MiB,
                workload.name.replace("pour", "cpu"): got["bytes"] / max(spent, 0.01) / MiB,
            }
        case "beside":
            small = contender.path.format("4k")
            got = load("beside", port, target, workload.clients, seconds, small)
            return {workload.name: got["small"] / got["seconds"]}
        case "rate":
            return {workload.name: rate(f"{running.url}{target}", workload.clients, seconds)}
        case "first":
            got = load("first", port, target, workload.clients, 30)
            return {f"first-{which}": 1000 * got[which] for which in ("median", "worst")}
        case "slow":
            load("pour", port, contender.path.format("4k"), 1, 0.2)
            return {workload.name: held(running, port, target, workload.clients) / KiB}
        case _:
            load("pour", port, contender.path.format("4k"), 1, 0.2)
            wanted = workload.room()
            return {workload.name: grown(running, port, target, workload.clients, wanted) / MiB}


def cpu_of(pid: int) -> float:
    """Seconds of CPU that the process group which `pid` leads has used."""
    times = [psutil.Process(member).cpu_times() for member in group_members(pid)]
    return sum(each.user + each.system for each in times)


def load(
    mode: str, port: int, target: str, clients: int, seconds: float, *small: str
) -> dict[str, float]:
    """Run clients in a process of their own, and read what they found."""
    ended = subprocess.run(
        [*command_of(mode, port, target, clients, seconds), *small],
        capture_output=True,
        text=True,
        timeout=seconds + 90,
        check=True,
    )
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def command_of(mode: str, port: int, target: str, clients: int, seconds: float) -> list[str]:
    """The command that runs the clients."""
    client = str(BENCH / "load.py")
    return [sys.executable, client, mode, str(port), target, str(clients), str(seconds)]


def rate(url: str, clients: int, seconds: float) -> float:
    """Requests per second, by wrk."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return float(re.findall(r"Requests/sec:\s*([\d.]+)", ended.stdout)[0])


def held(running: Running, port: int, target: str, clients: int) -> float:
    """Growth of a server's private memory for each of many slow clients, in bytes."""
    idle = memory_of(running.pid).private
    with subprocess.Popen(
        command_of("slow", port, target, clients, 90),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as crowd:
        assert crowd.stdin is not None and crowd.stdout is not None
        begun = crowd.stdout.readline()
        assert begun, "the slow clients did not get their first bytes"
        readings = []
        for _ in range(5):
            time.sleep(0.2)
            readings.append(memory_of(running.pid).private)
        crowd.stdin.close()
    return (statistics.median(readings) - idle) / clients


def grown(running: Running, port: int, target: str, clients: int, wanted: int) -> float:
    """The most that a server's private memory grew while all clients downloaded, in bytes."""
    idle = most = memory_of(running.pid).private
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.2):
            most = max(most, memory_of(running.pid).private)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        got = load("whole", port, target, clients, 900)
    finally:
        over.set()
        watcher.join()
    assert got["bytes"] == wanted, f"{got['bytes']} bytes of {wanted} arrived"
    return most - idle


# One suite


def run(suite: Suite, repeats: int, seconds: float, root: Path) -> Iterator[dict[str, Any]]:
    """All readings of a suite so far, by workload and server, after each of `repeats` rounds.

    Also what was not run: by server and workload, the bytes that it would have held.
    """
    readings: dict[str, dict[str, list[float]]] = {}
    missing: dict[str, dict[str, int]] = {}

    def one(workload: Workload, contender: Contender, running: Running) -> None:
        for name, value in measure(workload, contender, running, seconds).items():
            readings.setdefault(name, {}).setdefault(contender.name, []).append(value)

    for repeat in range(repeats):
        print(f"{suite.name}: round {repeat + 1} of {repeats}", flush=True)
        first = repeat % len(suite.contenders)
        turn = suite.contenders[first:] + suite.contenders[:first]
        with ExitStack() as stack:
            source = stack.enter_context(suite.source(root))
            up = {each.name: stack.enter_context(each.start(source)) for each in turn}
            for workload in suite.workloads:
                if workload.name == "first-worst" or workload.kind == "cpu":
                    continue  # it comes with the median, or with the throughput
                if workload.once and repeat:
                    continue
                for contender in turn:
                    if contender.holds_all and workload.room() > TOO_MUCH:
                        missing.setdefault(contender.name, {})[workload.name] = workload.room()
                    elif workload.kind in ("slow", "whole"):
                        with contender.start(source) as fresh:
                            one(workload, contender, fresh)
                    else:
                        one(workload, contender, up[contender.name])
        yield {"readings": readings, "missing": missing, "repeats": repeat + 1}


def machine() -> dict[str, str]:
    """The machine on which it ran."""
    cpu = "unknown"
    information = Path("/") / "proc" / "cpuinfo"
    if information.exists():
        found = re.search(r"model name\s*: (.*)", information.read_text())
        cpu = found[1] if found else cpu
    said = subprocess.run(
        [servers.program_of_nginx(), "-v"], capture_output=True, text=True, check=False
    ).stderr
    packages = ("aiohttp", "starlette", "uvicorn", "fastapi", "httpx2")
    return {
        "CPU": f"{os.cpu_count()} x {cpu}",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "nginx": said.strip().rpartition("/")[2],
        **{name: metadata.version(name) for name in packages},
    }


def main() -> int:
    """Measure, and write the results; 1 if a tool is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [suite.name for suite in SUITES]
    parser.add_argument("--suite", action="append", choices=names, help="measure this one alone")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each load is kept up")
    parser.add_argument("--out", type=Path, default=HERE / "docs")
    options = parser.parse_args()
    for tool, package in (("nginx", "nginx-light"), ("wrk", "wrk")):
        if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin"):
            print(f"{tool} is missing: make system installs it (Debian's package {package})")
            return 1
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a proxy needs two for each client
    found = report.read(options.out)
    with tempfile.TemporaryDirectory(prefix="streamlab-bench-") as scratch:
        for name, size in SIZES.items():
            random_file(size, name, Path(scratch))
        for suite in SUITES:
            if options.suite and suite.name not in options.suite:
                continue
            facts = {
                "title": suite.title,
                "date": datetime.date.today().isoformat(),
                "machine": machine(),
                "seconds": options.seconds,
                "servers": {each.name: each.title for each in suite.contenders},
                "workloads": [asdict(each) for each in suite.workloads],
            }
            # Written after each round, so an interrupted bench keeps what it has measured.
            for part in run(suite, options.repeats, options.seconds, Path(scratch)):
                found[suite.name] = {**facts, **part}
                report.write(found, options.out)
    print(report.as_markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
