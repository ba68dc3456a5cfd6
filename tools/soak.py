"""Run each notebook many times in strict nbval, half of the times on a starved machine.

    python tools/soak.py [--runs N] [--load LOAD ...] [NOTEBOOK ...]

The default is 20 runs of all lessons. A notebook is named by its path, or by the beginning of its
name (`02`); the path of a file of tests is run by pytest. LOAD is `quiet`, `burning` (all cores are
kept busy) or `bursts`: real-time processes take all cores for some tenths of a second, a third of
the time, which needs root. Several loads take turns. Prints a table and ends with status 1 if any
run failed: a lesson that fails once in twenty runs is a broken lesson.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
LONGEST = 3600
"""Seconds after which a run counts as failed; a file of tests may take half of that if starved."""

BURNER = """
import os, sys, threading, time
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    sum(range(10000))
"""
"""Keeps a core busy for some seconds at most, and ends with the process that holds its stdin."""

BURST = """
import os, random, sys, threading, time
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    burst = random.uniform(0.1, 0.4)
    until = time.monotonic() + burst
    while time.monotonic() < until:
        sum(range(10000))
    time.sleep(random.uniform(1, 3) * burst)
"""
"""The same in bursts, during which every ordinary process has to wait (sched(7), SCHED_FIFO)."""

LOADS = {"quiet": "", "burning": BURNER, "bursts": BURST}


@dataclass(frozen=True)
class Run:
    """One run of one notebook."""

    passed: bool
    load: str
    seconds: float
    output: str


@dataclass
class Soaked:
    """All runs of one notebook."""

    notebook: Path
    runs: list[Run] = field(default_factory=list)

    @property
    def failures(self) -> int:
        """How many runs failed."""
        return sum(not run.passed for run in self.runs)

    def times(self, load: str) -> str:
        """The median and the longest of the runs under a load, in seconds."""
        seconds = [run.seconds for run in self.runs if run.load == load]
        return f"{statistics.median(seconds):.0f} / {max(seconds):.0f}" if seconds else "-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; 0 if every run passed."""
    options = _options(arguments)
    soaked = [Soaked(notebook) for notebook in _notebooks(options.notebooks)]
    for number in range(options.runs):
        for each in soaked:
            run = run_once(each.notebook, options.load[number % len(options.load)])
            each.runs.append(run)
            _tell(each.notebook, number + 1, options.runs, run)
    print(f"\n{table(soaked)}")
    return 1 if any(each.failures for each in soaked) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="how often each is run (20)")
    parser.add_argument(
        "--load", action="append", choices=list(LOADS), help="quiet and burning, in turn"
    )
    parser.add_argument("notebooks", nargs="*", help="paths, or how names begin (all lessons)")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs is 1 at least")
    options.load = options.load or ["quiet", "burning"]
    if "bursts" in options.load and not may_burst():
        parser.error("--load bursts needs root, on Linux")
    return options


def _notebooks(named: Sequence[str]) -> list[Path]:
    """The notebooks of these names; all lessons if there are none."""
    lessons = sorted((HERE / "notebooks").glob("*.ipynb"))
    meant = []
    for name in named:
        found = [Path(name)] if Path(name).is_file() else []
        found = found or [path for path in lessons if path.name.startswith(name)]
        if not found:
            sys.exit(f"soak.py: there is no notebook {name}")
        meant += [path.resolve() for path in found]
    return meant or lessons


def may_burst() -> bool:
    """Whether this user may have real-time processes here."""
    if not hasattr(os, "sched_setscheduler"):
        return False
    ask = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"
    ended = subprocess.run([sys.executable, "-c", ask], capture_output=True, check=False)
    return ended.returncode == 0


@contextmanager
def burning(cores: int, program: str = BURNER) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep `cores` cores busy; the burners end with this block, with this process, or in time."""
    command = [sys.executable, "-c", program, str(LONGEST + 60)]
    burners = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(cores)]
    try:
        yield burners
    finally:
        for burner in burners:
            burner.kill()
            burner.communicate()


def run_once(notebook: Path, load: str) -> Run:
    """Run a notebook in strict nbval, with the settings of `make test`, or a file of tests."""
    cores = 0 if load == "quiet" else os.cpu_count() or 1
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider"]
    nbval = ["--nbval"] if notebook.suffix == ".ipynb" else []
    settings = ["-c", str(HERE / "pyproject.toml"), *nbval, str(notebook)]
    began = time.monotonic()
    with burning(cores, LOADS[load]):
        try:
            result = subprocess.run(
                [*command, *settings],
                cwd=HERE,
                capture_output=True,
                text=True,
                timeout=LONGEST,
                check=False,
            )
            passed, output = result.returncode == 0, result.stdout + result.stderr
        except subprocess.TimeoutExpired:
            passed, output = False, f"not done after {LONGEST} s"
    return Run(passed, load, time.monotonic() - began, output)


def _tell(notebook: Path, number: int, runs: int, run: Run) -> None:
    """One line about a run, and what nbval said if it failed."""
    outcome = "passed" if run.passed else "FAILED"
    line = f"{notebook.name:<28} {number}/{runs} {run.load:<7} {outcome} {run.seconds:4.0f} s"
    print(line, flush=True)
    if not run.passed:
        print("\n".join(f"    {line}" for line in run.output.splitlines()[-60:]), flush=True)


def table(soaked: Sequence[Soaked]) -> str:
    """The results, a line for each notebook."""
    heads = ("notebook", "runs", "failures", *(f"{load}: median / max s" for load in LOADS))
    lines = [
        (each.notebook.name, len(each.runs), each.failures, *map(each.times, LOADS))
        for each in soaked
    ]
    widths = [max(len(str(cell)) for cell in column) for column in zip(heads, *lines, strict=True)]
    return "\n".join(
        "   ".join(f"{cell!s:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (heads, *lines)
    )


if __name__ == "__main__":
    sys.exit(main())
