"""Measure the labs' solutions beside what one would pick instead: what `make bench` does.

    python tools/bench/run.py [--repeats 5] [--seconds 2] [--only NAME ...] [--out docs]

Writes bench.json (every reading), bench.md (medians, as ratios to nginx) and bench.png into `docs`.
Servers take turns on the same files and the same clients. A server that is slower is shown slower.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from streamlab.files import GiB, KiB, MiB, random_file, size_text
from streamlab.memory import memory_of
from streamlab.server import Server

HERE = Path(__file__).resolve().parent.parent.parent
BENCH = HERE / "tools" / "bench"
STANDARD = "nginx"
TOO_MUCH = 4 * GiB
"""What load-all may hold in a workload, in bytes: beyond, it is not run, and the table says so."""

FILES = {"4k": 4 * KiB, "100k": 100 * KiB, "64m": 64 * MiB, "1g": GiB}


class Running(Protocol):
    """A server that is up."""

    pid: int
    url: str


# The servers


@dataclass(frozen=True)
class Contender:
    """A server to measure, and how it is started."""

    name: str
    title: str
    start: Callable[[Path], Any]
    """From the folder of files to a context manager that gives a `Running`."""
    holds_all: bool = False


def script(path: Path, app: str | None = None) -> Callable[[Path], Any]:
    """A program that keeps to the labs' contract."""
    return lambda root: Server(path, root, app=app, ready=20)


@dataclass
class Nginx:
    """A running nginx."""

    pid: int
    url: str


@contextmanager
def nginx(root: Path) -> Iterator[Nginx]:
    """nginx with one worker and sendfile, and else as it comes."""
    with tempfile.TemporaryDirectory(prefix="streamlab-nginx-") as scratch:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        places = "".join(
            f"  {kind}_temp_path {scratch}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;\n" if os.geteuid() == 0 else ""
        config = Path(scratch, "nginx.conf")
        config.write_text(
            f"{user}worker_processes 1;\nworker_rlimit_nofile 8192;\ndaemon off;\n"
            f"pid {scratch}/pid;\nerror_log stderr crit;\n"
            "events { worker_connections 4096; }\n"
            f"http {{\n{places}  access_log off;\n  sendfile on;\n"
            f"  server {{ listen 127.0.0.1:{port} backlog=1024; root {root}; }}\n}}\n"
        )
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        command = [program, "-e", "stderr", "-c", str(config)]
        # Under the supervisor it ends with this process, however that one ends.
        supervised = [sys.executable, "-m", "streamlab.supervise", "--", *command]
        with subprocess.Popen(supervised, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
            assert keeper.stdout is not None
            process = json.loads(keeper.stdout.readline())
            wait_for(port)
            yield Nginx(process["pid"], f"http://127.0.0.1:{port}")


def wait_for(port: int) -> None:
    """Wait until something listens on a port, 10 seconds at most."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def solution(lab: str) -> Callable[[Path], Any]:
    return script(HERE / "solutions" / lab / "server.py")


CONTENDERS = [
    Contender("nginx", "nginx", nginx),
    Contender("lab02", "lab 02: chunked loop", solution("02_chunked_loop")),
    Contender("lab05", "lab 05: hybrid", solution("05_hybrid_server")),
    Contender("lab06", "lab 06: asyncio", solution("06_under_load")),
    Contender("aiohttp", "aiohttp static", script(BENCH / "peers" / "aiohttp_static.py")),
    Contender(
        "starlette", "Starlette FileResponse", script(BENCH / "peers/starlette_file.py", "app")
    ),
    Contender("http.server", "python -m http.server", script(BENCH / "peers" / "http_server.py")),
    Contender("load-all", "load-all", script(BENCH / "peers" / "load_all.py"), holds_all=True),
]


# The workloads


@dataclass(frozen=True)
class Workload:
    """What is measured: a kind of load, a file, so many clients."""

    name: str
    title: str
    unit: str
    more_is_better: bool
    kind: str
    file: str
    clients: int

    def room(self) -> int:
        """What a server that holds every answer needs, in bytes."""
        return FILES[self.file] * self.clients


def workloads() -> list[Workload]:
    """All of them, in the table's order."""
    made = []
    for file in ("64m", "1g"):
        for clients in (1, 10, 50, 200):
            title = f"{size_text(FILES[file])}, {clients} client{'s' if clients > 1 else ''}"
            made.append(
                Workload(f"pour-{file}-{clients}", title, "MiB/s", True, "pour", file, clients)
            )
    for file in ("4k", "100k"):
        title = f"{size_text(FILES[file])}, 50 connections"
        made.append(Workload(f"rate-{file}", title, "requests/s", True, "rate", file, 50))
    for which in ("median", "worst"):
        title = f"first byte of 64 MiB at 50 clients, {which}"
        made.append(Workload(f"first-{which}", title, "ms", False, "first", "64m", 50))
    for clients in (200, 1000):
        title = f"memory for each of {clients} slow clients"
        made.append(Workload(f"slow-{clients}", title, "KiB", False, "slow", "64m", clients))
    return made


def measure(workload: Workload, running: Running, seconds: float) -> dict[str, float]:
    """The readings of one run, by the names of the workloads that they belong to."""
    port = int(running.url.rpartition(":")[2])
    target = f"/{workload.file}"
    match workload.kind:
        case "pour":
            got = load("pour", port, target, workload.clients, seconds)
            return {workload.name: got["bytes"] / got["seconds"] / MiB}
        case "rate":
            return {workload.name: rate(f"{running.url}{target}", workload.clients, seconds)}
        case "first":
            got = load("first", port, target, workload.clients, 30)
            return {f"first-{which}": 1000 * got[which] for which in ("median", "worst")}
        case _:
            return {workload.name: held(running, port, target, workload.clients) / KiB}


def load(mode: str, port: int, target: str, clients: int, seconds: float) -> dict[str, float]:
    """Run clients in a process of their own, and read what they found."""
    command = [sys.executable, str(BENCH / "load.py"), mode, str(port), target]
    command += [str(clients), str(seconds)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 90, check=True
    )
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def rate(url: str, clients: int, seconds: float) -> float:
    """Requests per second, by wrk."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return float(re.findall(r"Requests/sec:\s*([\d.]+)", ended.stdout)[0])


def held(running: Running, port: int, target: str, clients: int) -> float:
    """Growth of a server's private memory for each of many slow clients, in bytes."""
    load("pour", port, "/4k", 1, 0.2)
    idle = memory_of(running.pid).private
    command = [sys.executable, str(BENCH / "load.py"), "slow", str(port), target]
    command += [str(clients), "90"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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


# One run


def run(
    contenders: list[Contender], repeats: int, seconds: float, root: Path
) -> Iterator[dict[str, Any]]:
    """All readings so far, by workload and server, after each of `repeats` rounds.

    And what was not run: by server and workload, the bytes that it would have held.
    """
    readings: dict[str, dict[str, list[float]]] = {}
    missing: dict[str, dict[str, int]] = {}

    def one(workload: Workload, contender: Contender, running: Running) -> None:
        for name, value in measure(workload, running, seconds).items():
            readings.setdefault(name, {}).setdefault(contender.name, []).append(value)

    for repeat in range(repeats):
        print(f"round {repeat + 1} of {repeats}", flush=True)
        turn = contenders[repeat % len(contenders) :] + contenders[: repeat % len(contenders)]
        with ExitStack() as stack:
            up = {each.name: stack.enter_context(each.start(root)) for each in turn}
            for workload in workloads():
                if workload.name == "first-worst":  # comes with the median
                    continue
                for contender in turn:
                    if contender.holds_all and workload.room() > TOO_MUCH:
                        missing.setdefault(contender.name, {})[workload.name] = workload.room()
                    elif workload.kind == "slow":
                        with contender.start(root) as fresh:
                            one(workload, contender, fresh)
                    else:
                        one(workload, contender, up[contender.name])
        yield {"readings": readings, "missing": missing, "repeats": repeat + 1}


def machine() -> dict[str, str]:
    """What it ran on."""
    cpu = "unknown"
    information = Path("/") / "proc" / "cpuinfo"
    if information.exists():
        found = re.search(r"model name\s*: (.*)", information.read_text())
        cpu = found[1] if found else cpu
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    return {
        "CPU": f"{os.cpu_count()} x {cpu}",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "nginx": said.strip().rpartition("/")[2],
        **{name: metadata.version(name) for name in ("aiohttp", "starlette", "uvicorn")},
    }


# What comes of it


def median(result: dict[str, Any], workload: str, server: str) -> float | None:
    """The median of a server's readings; None if there are none."""
    values = result["readings"].get(workload, {}).get(server)
    return statistics.median(values) if values else None


def as_markdown(result: dict[str, Any]) -> str:
    """The table."""
    servers = result["servers"]
    others = [name for name in servers if name != STANDARD]
    lines = [
        "# The solutions beside what one would pick instead",
        "",
        f"Medians of {result['repeats']} runs, made by `make bench` on "
        + ", ".join(f"{name} {value}" for name, value in result["machine"].items())
        + ". The first column is nginx with one worker and sendfile; the others are ratios to it. "
        "Every server is one process; clients run beside it on the same machine, over loopback, "
        "with the files in the page cache.",
        "",
        "Speed, where more is better:",
        "",
    ]
    for better in (True, False):
        if not better:
            lines += ["", "Waiting and memory, where less is better:", ""]
        lines.append(f"| | {STANDARD} | " + " | ".join(servers[name] for name in others) + " |")
        lines.append("|---|--:|" + "--:|" * len(others))
        for workload in result["workloads"]:
            if workload["more_is_better"] is better:
                lines.append(_row(result, workload, others))
    lines += ["", "![The same as a chart](bench.png)", ""]
    for name, rooms in result["missing"].items():
        least, most = (size_text(end(rooms.values())) for end in (min, max))
        lines += [f"A dash: not run, for {servers[name]} would hold {least} to {most}.", ""]
    return "\n".join(lines)


def _row(result: dict[str, Any], workload: dict[str, Any], others: list[str]) -> str:
    standard = median(result, workload["name"], STANDARD)
    cells = [workload["title"], f"{_short(standard)} {workload['unit']}" if standard else "–"]
    for name in others:
        value = median(result, workload["name"], name)
        cells.append(f"{value / standard:.2f}" if value is not None and standard else "–")
    return "| " + " | ".join(cells) + " |"


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw(result: dict[str, Any], target: Path) -> None:
    """The chart: one panel for each group of workloads, ratios to nginx on a logarithmic scale."""
    groups = [
        ("large files: throughput", "pour-", "more is better"),
        ("small files: requests per second", "rate-", "more is better"),
        ("first byte at 50 clients", "first-", "less is better"),
        ("memory for each slow client", "slow-", "less is better"),
    ]
    servers = [name for name in result["servers"] if name != STANDARD]
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), sharey=True, layout="constrained")
    for axis, (title, prefix, better) in zip(axes.flat, groups, strict=True):
        named = [each for each in result["workloads"] if each["name"].startswith(prefix)]
        shades = plt.get_cmap("viridis")
        for number, workload in enumerate(named):
            standard = median(result, workload["name"], STANDARD)
            points = [
                (median(result, workload["name"], name), row) for row, name in enumerate(servers)
            ]
            points = [(value / standard, row) for value, row in points if value and standard]
            axis.plot(
                [value for value, _ in points],
                [row for _, row in points],
                "o",
                alpha=0.85,
                color=shades(0.1 + 0.75 * number / max(1, len(named) - 1)),
                label=workload["title"].rpartition(", ")[2]
                if prefix == "first-"
                else workload["title"],
            )
        axis.axvline(1, color="black", linewidth=1)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_title(f"{title} ({better})", fontsize=10)
        axis.set_yticks(range(len(servers)), [result["servers"][name] for name in servers])
        axis.invert_yaxis() if axis is axes.flat[0] else None
        axis.grid(axis="x", alpha=0.3)
        axis.tick_params(axis="x", labelsize=8)
        axis.set_xlabel("ratio to nginx", fontsize=9)
        axis.legend(
            fontsize=7, ncols=4, loc="upper center", bbox_to_anchor=(0.45, -0.14), frameon=False
        )
    figure.savefig(target, dpi=110, metadata={"Software": None})
    plt.close(figure)


def write(result: dict[str, Any], folder: Path) -> None:
    """Write readings, table and chart into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "bench.md").write_text(as_markdown(result))
    draw(result, folder / "bench.png")


def main() -> int:
    """Measure, and write what was found; 1 where a tool is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each load is kept up")
    parser.add_argument("--only", action="append", help="measure nginx and this server alone")
    parser.add_argument("--out", type=Path, default=HERE / "docs")
    options = parser.parse_args()
    for tool, package in (("nginx", "nginx-light"), ("wrk", "wrk")):
        if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin"):
            print(f"{tool} is missing: make system installs it (Debian's package {package})")
            return 1
    wanted = {STANDARD, *(options.only or [each.name for each in CONTENDERS])}
    contenders = [each for each in CONTENDERS if each.name in wanted]
    with tempfile.TemporaryDirectory(prefix="streamlab-bench-") as scratch:
        for name, size in FILES.items():
            random_file(size, name, Path(scratch))
        facts = {
            "machine": machine(),
            "seconds": options.seconds,
            "servers": {each.name: each.title for each in contenders},
            "workloads": [asdict(each) for each in workloads()],
        }
        # Written after each round: whoever interrupts the bench has what was measured until then.
        for found in run(contenders, options.repeats, options.seconds, Path(scratch)):
            result = {**facts, **found}
            write(result, options.out)
    print(as_markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
