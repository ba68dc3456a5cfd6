"""Run every part of the test suite and print how long each took: what `make test` does.

    python tools/run_tests.py [--fast]

--fast runs the tests that start few servers, and one lesson: a minute.

Much of a test and a check is waiting. So more files of tests run at once than there are CPUs, and
several answers and solutions' notebooks. The parts run one after the other: what two of them need
together is more than two CPUs have.

The answers and the notebooks run with the settings for TCP that Debian and Ubuntu ship, since most
people who take the course have these (see kernels.py). Where that can't be had, they run as the
machine is; with CI set, that is a failure.

The labs' notebooks are run as they were committed, in a temporary folder, so that what a student
has written into labs/ turns no test red.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from kernels import why_not

from streamlab.archives import unpack

HERE = Path(__file__).resolve().parent.parent
CORPORA = "tests/test_corpora.py"
LIBRARY, ANSWERS = "library and course", "wrong and right answers"
KERNELS = HERE / "tools" / "kernels.py"

FAST = [
    "archives",
    "conversation",
    "display",
    "doctor",
    "files",
    "fresh",
    "magics",
    "memory",
    "project",
    "setup",
    "talk",
]
"""The fast tests: `tests/test_NAME.py`."""
CPUS = max(2, os.cpu_count() or 2)


def at_once(count: int) -> list[str]:
    """What lets pytest run so many files at once, each in one process (pytest-xdist)."""
    return ["-n", str(count), "--dist", "loadfile"]


FAST_LESSON = "notebooks/00_start_here.ipynb"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, whatever becomes of each; 0 if every one passed."""
    parser = argparse.ArgumentParser(prog="run_tests.py")
    parser.add_argument("--fast", action="store_true", help="a minute: few servers, one lesson")
    began = time.monotonic()
    fast = parser.parse_args(arguments).fast
    kernel, lacking = "debian", "" if fast else why_not("debian")
    if lacking:
        print(f"Debian's settings for TCP can't be had: {lacking}.", file=sys.stderr)
        if os.environ.get("CI"):
            return 1
        print("The lessons, labs and answers are run as this machine is.", file=sys.stderr)
        kernel = "here"
    rows = fast_parts() if fast else all_parts(kernel)
    print()
    for part, passed, seconds in rows:
        print(f"{part:<24} {'passed' if passed else 'FAILED':<8} {seconds:6.0f} s")
    print(f"{'all':<33} {time.monotonic() - began:6.0f} s")
    failed = sum(not passed for _, passed, _ in rows)
    print(f"parts: {len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


def fast_parts() -> list[tuple[str, bool, float]]:
    """Run the fast tests and one lesson."""
    parts = {
        "fast tests": [*(f"tests/test_{name}.py" for name in FAST), "-m", "not soak"],
        "a lesson": ["--nbval", FAST_LESSON],
    }
    return [(part, *run(part, arguments)) for part, arguments in parts.items()]


def all_parts(kernel: str) -> list[tuple[str, bool, float]]:
    """Run everything; the answers and the notebooks with these settings for TCP."""
    with tempfile.TemporaryDirectory(prefix="streamlab-labs-") as scratch:
        labs = committed_labs(Path(scratch))
        parts: dict[str, tuple[list[str], str]] = {
            LIBRARY: (
                [*at_once(CPUS + 1), "tests", "-m", "not soak", f"--ignore={CORPORA}"],
                "here",
            ),
            ANSWERS: ([CORPORA, "-m", "not soak"], kernel),
            # One after the other: lessons share the folder of their servers.
            "lessons": (["--nbval", "notebooks"], kernel),
            "solutions' notebooks": (
                [*at_once(CPUS), "--nbval", *notebooks_in(HERE / "solutions")],
                kernel,
            ),
            "labs' notebooks": (
                [
                    *("--nbval", "-c", "pyproject.toml", f"--rootdir={scratch}", "-p", "conftest"),
                    *notebooks_in(labs),
                ],
                kernel,
            ),
        }
        return [(part, *run(part, *how)) for part, how in parts.items()]


def run(part: str, arguments: list[str], kernel: str = "here") -> tuple[bool, float]:
    """Run one part with pytest: whether it passed, and how many seconds it took.

    `kernel` names the settings for TCP that it runs with.
    """
    print(f"\n=== {part}", flush=True)
    began = time.monotonic()
    command = [sys.executable, str(KERNELS), f"--kernel={kernel}", "--"]
    command += [sys.executable, "-m", "pytest", "-q", "-rfEs", "--tb=short", *arguments]
    # Thousands of processes load the course's modules: each one need not compile them anew.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    ended = subprocess.run(command, cwd=HERE, env=environment, check=False)
    return ended.returncode == 0, time.monotonic() - began


def committed_labs(scratch: Path) -> Path:
    """The labs of the last commit, unpacked into `scratch`; without git, those that are here."""
    command = ["git", "archive", "HEAD", "labs"]
    archived = subprocess.run(command, cwd=HERE, capture_output=True, check=False)
    if archived.returncode != 0:
        return HERE / "labs"
    unpack(archived.stdout, scratch)
    return scratch / "labs"


def notebooks_in(folder: Path) -> list[str]:
    """The labs' notebooks in a folder."""
    return [str(path) for path in sorted(folder.glob("*/lab.ipynb"))]


if __name__ == "__main__":
    sys.exit(main())
