"""Run each notebook many times in strict nbval, half of the times with all cores kept busy.

    python tools/soak.py [--runs N] [NOTEBOOK ...]     (default: 20 runs of all lessons)

A notebook is named by its path, or by how its name begins (`02`). Prints a table and ends with
status 1 if any run failed: a lesson that fails once in twenty runs is a broken lesson.
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
LONGEST = 600
"""Seconds after which a run counts as failed."""

BURNER = """
import os, sys, threading, time
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    sum(range(10000))
"""
"""Keeps a core busy for some seconds at most, and ends with the process that holds its stdin."""


@dataclass(frozen=True)
class Run:
    """One run of one notebook."""

    passed: bool
    busy: bool
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

    def times(self, busy: bool) -> str:
        """The median and the longest of the quiet or of the busy runs, in seconds."""
        seconds = [run.seconds for run in self.runs if run.busy == busy]
        return f"{statistics.median(seconds):.0f} / {max(seconds):.0f}" if seconds else "-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak what the command line names; 0 if every run passed."""
    options = _options(arguments)
    soaked = [Soaked(notebook) for notebook in _notebooks(options.notebooks)]
    quiet = options.runs - options.runs // 2
    for number in range(options.runs):
        for each in soaked:
            run = run_once(each.notebook, busy=number >= quiet)
            each.runs.append(run)
            _tell(each.notebook, number + 1, options.runs, run)
    print(f"\n{table(soaked)}")
    return 1 if any(each.failures for each in soaked) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="how often each is run (20)")
    parser.add_argument("notebooks", nargs="*", help="paths, or how names begin (all lessons)")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs is 1 at least")
    return options


def _notebooks(named: Sequence[str]) -> list[Path]:
    """The notebooks that are meant by names; all lessons if there are none."""
    lessons = sorted((HERE / "notebooks").glob("*.ipynb"))
    meant = []
    for name in named:
        found = [Path(name)] if Path(name).is_file() else []
        found = found or [path for path in lessons if path.name.startswith(name)]
        if not found:
            sys.exit(f"soak.py: there is no notebook {name}")
        meant += [path.resolve() for path in found]
    return meant or lessons


@contextmanager
def burning(cores: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep so many cores busy; the burners end with this block, with this process, or in time."""
    command = [sys.executable, "-c", BURNER, str(LONGEST + 60)]
    burners = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(cores)]
    try:
        yield burners
    finally:
        for burner in burners:
            burner.kill()
            burner.communicate()


def run_once(notebook: Path, busy: bool) -> Run:
    """Run a notebook in strict nbval, with the settings of `make test`; busy: all cores are."""
    cores = (os.cpu_count() or 1) if busy else 0
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider"]
    settings = ["-c", str(HERE / "pyproject.toml"), "--nbval", str(notebook)]
    began = time.monotonic()
    with burning(cores):
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
    return Run(passed, busy, time.monotonic() - began, output)


def _tell(notebook: Path, number: int, runs: int, run: Run) -> None:
    """One line about a run, and what nbval said if it failed."""
    load, outcome = ("busy" if run.busy else "quiet"), ("passed" if run.passed else "FAILED")
    print(
        f"{notebook.name:<28} {number}/{runs} {load:<5} {outcome} {run.seconds:4.0f} s", flush=True
    )
    if not run.passed:
        print("\n".join(f"    {line}" for line in run.output.splitlines()[-60:]), flush=True)


def table(soaked: Sequence[Soaked]) -> str:
    """What came of it, a line for each notebook."""
    heads = ("notebook", "runs", "failures", "quiet: median / max s", "busy: median / max s")
    lines = [
        (each.notebook.name, len(each.runs), each.failures, each.times(False), each.times(True))
        for each in soaked
    ]
    widths = [max(len(str(cell)) for cell in column) for column in zip(heads, *lines, strict=True)]
    return "\n".join(
        "   ".join(f"{cell!s:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (heads, *lines)
    )


if __name__ == "__main__":
    sys.exit(main())
