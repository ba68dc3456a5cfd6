"""Run every part of the test suite and print how long each took: what `make test` does.

    python tools/run_tests.py [--fast | --quick]

--fast runs the tests that start few servers, and one lesson: a minute.

--quick is for use while you change something: the linters, the types, the tests of the files that
differ from the last commit (or, if none do, of those that it changed), and the lessons among them,
or one.

Tests, checks and lessons spend much time waiting. So more files of tests run at once than there are
CPUs, and so do answers, and as many notebooks as there are CPUs. The answers, which are half of the
work, run beside all other parts, and those run one after the other. What pytest says of the answers
is printed at the end.

The answers and the notebooks run with the settings for TCP that Debian and Ubuntu ship, because
most people who take the course have these (see kernels.py). If that is not possible, they run with
the machine's settings; with CI set, that is a failure.

Each lesson runs in a temporary folder of its own, because lessons write their servers' programs
beside themselves. The labs' notebooks run as they were committed, in a temporary folder too, so a
student's edits in labs/ turn no test red.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from kernels import unavailable_reason

from streamlab.archives import unpack

HERE = Path(__file__).resolve().parent.parent
PROJECT = "tests/course/test_project.py"
CORPORA = "tests/checks/test_corpora.py"
LIBRARY, ANSWERS = "library and course", "wrong and right answers"
KERNELS = HERE / "tools" / "kernels.py"

FAST = [
    *("tests/test_archives.py", "tests/test_doctor.py", "tests/test_files.py"),
    *("tests/checks/test_connection.py", "tests/course/test_project.py"),
    *("tests/lesson/test_display.py", "tests/lesson/test_magics.py"),
    *("tests/lesson/test_wire_view.py", "tests/process/test_memory.py"),
    *("tests/tools/test_fresh.py", "tests/tools/test_setup.py"),
]
"""The fast tests."""
CPUS = max(2, os.cpu_count() or 2)


def at_once(count: int) -> list[str]:
    """The options with which pytest runs `count` files at once (pytest-xdist)."""
    return ["-n", str(count), "--dist", "loadfile"]


FAST_LESSON = "notebooks/00_start_here.ipynb"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, whatever becomes of each; 0 if every one passed."""
    parser = argparse.ArgumentParser(prog="run_tests.py")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--fast", action="store_true", help="a minute: few servers, one lesson")
    which.add_argument("--quick", action="store_true", help="linters, types, tests of what changed")
    began = time.monotonic()
    options = parser.parse_args(arguments)
    short = options.fast or options.quick
    kernel, lacking = "debian", "" if short else unavailable_reason("debian")
    if lacking:
        print(f"Debian's settings for TCP can't be had: {lacking}.", file=sys.stderr)
        if os.environ.get("CI"):
            return 1
        print("The lessons, labs and answers are run as this machine is.", file=sys.stderr)
        kernel = "here"
    if options.fast:
        rows = fast_parts()
    else:
        rows = quick_parts(changed_files()) if options.quick else all_parts(kernel)
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
        # The types are the same on each machine, and take as long as all the rest.
        "fast tests": [*FAST, "-m", "not soak", f"--deselect={PROJECT}::test_mypy"],
        "a lesson": ["--nbval", FAST_LESSON],
    }
    return [(part, *run(part, arguments)) for part, arguments in parts.items()]


def quick_parts(changed: Sequence[str]) -> list[tuple[str, bool, float]]:
    """Run the linters, the tests of what changed, and the lessons that changed, or one."""
    tests = sorted({test for file in changed for test in tests_of(file)})
    lessons = [file for file in changed if re.fullmatch(r"notebooks/[^/]+\.ipynb", file)]
    parts = {
        "linters and types": [PROJECT, "-k", "ruff or mypy or imports_point"],
        **({"tests of what changed": [*tests, "-m", "not soak"]} if tests else {}),
        "a lesson": ["--nbval", *(lessons or [FAST_LESSON])],
    }
    return [(part, *run(part, arguments)) for part, arguments in parts.items()]


def changed_files() -> list[str]:
    """The files that differ from the last commit, also new ones; if none, those that it changed."""
    differ = ["diff", "--name-only", "--diff-filter=d"]
    found = git(*differ, "HEAD") + git("ls-files", "--others", "--exclude-standard")
    return found or git(*differ, "HEAD~1", "HEAD")


def git(*arguments: str) -> list[str]:
    """The lines that git prints; empty if there is no repository."""
    asked = subprocess.run(
        ["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False
    )
    return asked.stdout.splitlines()


def tests_of(file: str) -> list[str]:
    """The files of tests for a file: of the same name in the same folder below tests/.

    What lies in a folder below checks/ or grading/ has its tests in a file of the folder's name.
    Where there is none of either name, those that import the module.
    """
    path = Path(file)
    if path.parts[0] == "tests":
        return [file] if path.name.startswith("test_") and path.suffix == ".py" else []
    if path.parts[0] not in ("streamlab", "tools") or path.suffix != ".py":
        return []
    if path.parts[:2] == ("tools", "website"):
        return ["tests/site/test_transformations.py"]
    inside = path.parts[1:-1] if path.parts[0] == "streamlab" else ("tools",)
    names = [path.stem, *inside[::-1]]
    for depth in range(len(inside), -1, -1):
        folder = HERE / "tests" / Path(*inside[:depth])
        for name in names:
            if (test := folder / f"test_{name}.py").is_file():
                return [str(test.relative_to(HERE))]
    below = sorted((HERE / "tests" / Path(*inside[:1])).glob("test_*.py"))
    uses = re.compile(rf"\b{'.'.join(inside)}(\.| import .*\b){path.stem}\b")
    return [str(test.relative_to(HERE)) for test in below if uses.search(test.read_text())]


def all_parts(kernel: str) -> list[tuple[str, bool, float]]:
    """Run everything; the answers and the notebooks with these settings for TCP."""
    with tempfile.TemporaryDirectory(prefix="streamlab-labs-") as folder:
        scratch = Path(folder)
        labs = committed_labs(scratch)
        lessons = copied_lessons(scratch)
        parts: dict[str, tuple[list[str], str]] = {
            LIBRARY: (
                [
                    *(*at_once(CPUS + 1), "--no-loadscope-reorder"),  # see tests/conftest.py
                    *("tests", "-m", "not soak", f"--ignore={CORPORA}"),
                ],
                "here",
            ),
            "lessons": (
                [*at_once(CPUS), "--no-loadscope-reorder", *elsewhere(scratch, lessons)],
                kernel,
            ),
            "solutions' notebooks": (
                [*at_once(CPUS), "--nbval", *notebooks_in(HERE / "solutions")],
                kernel,
            ),
            "labs' notebooks": (
                elsewhere(scratch, notebooks_in(labs)),
                kernel,
            ),
        }
        answers = ([CORPORA, "-m", "not soak"], kernel)
        with (scratch / "answers.log").open("w+b") as log, ThreadPoolExecutor(1) as beside:
            running = beside.submit(run, ANSWERS, *answers, log)
            rows = [(part, *run(part, *how)) for part, how in parts.items()]
            if not running.done():
                print(f"\n=== {ANSWERS}: not done yet", flush=True)
            rows.append((ANSWERS, *running.result()))
            log.seek(0)
            print(f"\n=== {ANSWERS}", flush=True)
            print(log.read().decode(errors="replace"), flush=True)
    return rows


def run(
    part: str, arguments: list[str], kernel: str = "here", log: IO[bytes] | None = None
) -> tuple[bool, float]:
    """Run one part with pytest: whether it passed, and how many seconds it took.

    `kernel` names the settings for TCP that it runs with. What pytest says is shown at once, or
    written to `log`.
    """
    beside = "" if log is None else ", beside the others"
    print(f"\n=== {part}{beside}", flush=True)
    began = time.monotonic()
    command = [sys.executable, str(KERNELS), f"--kernel={kernel}", "--"]
    command += [sys.executable, "-m", "pytest", "-q", "-rfEs", "--tb=short", *arguments]
    # Thousands of processes load the course's modules, and should not compile them each time.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    ended = subprocess.run(
        command,
        cwd=HERE,
        env=environment,
        check=False,
        stdout=log,
        stderr=log and subprocess.STDOUT,
    )
    return ended.returncode == 0, time.monotonic() - began


def committed_labs(scratch: Path) -> Path:
    """The labs of the last commit, unpacked into `scratch`; without git, those on the disk."""
    command = ["git", "archive", "HEAD", "labs"]
    archived = subprocess.run(command, cwd=HERE, capture_output=True, check=False)
    if archived.returncode != 0:
        return HERE / "labs"
    unpack(archived.stdout, scratch)
    return scratch / "labs"


def copied_lessons(scratch: Path) -> list[str]:
    """Copies of all lessons, each in a folder of its own; those that take the longest are first."""
    copies = []
    for lesson in sorted((HERE / "notebooks").glob("*.ipynb"), key=_size, reverse=True):
        folder = scratch / "lessons" / lesson.stem
        folder.mkdir(parents=True)
        copies.append(str(shutil.copy(lesson, folder)))
    return copies


def _size(file: Path) -> int:
    return file.stat().st_size


def elsewhere(scratch: Path, notebooks: list[str]) -> list[str]:
    """The options with which nbval runs notebooks that are not in this folder."""
    return ["--nbval", "-c", "pyproject.toml", f"--rootdir={scratch}", "-p", "conftest", *notebooks]


def notebooks_in(folder: Path) -> list[str]:
    """The labs' notebooks in a folder."""
    return [str(path) for path in sorted(folder.glob("*/lab.ipynb"))]


if __name__ == "__main__":
    sys.exit(main())
