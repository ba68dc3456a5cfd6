"""Run the lessons and the labs' solutions in strict nbval with every other Python that is found.

    python tools/run_pythons.py [--fast] [--most N] [PYTHON ...]

PYTHON is a path or a name. Without one, it takes those in OTHER_PYTHONS (separated by `:`),
python3.11 to python3.15 on PATH, and those of pyenv, the newest of these first. Each gets a copy of
the course and an environment of its own, in a temporary folder. With --fast, the fast part of the
tests runs there instead of the notebooks.

Ends with status 1 if anything failed. If there is no other Python, it says so and ends with 0.
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
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
NAMES = [f"python3.{minor}" for minor in range(11, 16)]
ASK = "import sys; print('%d.%d.%d' % sys.version_info[:3])"


def main(arguments: Sequence[str] | None = None) -> int:
    """Try each Python; 0 if everything passed with all of them."""
    parser = argparse.ArgumentParser(prog="run_pythons.py")
    parser.add_argument("--fast", action="store_true", help="the fast part of the tests")
    parser.add_argument("--most", type=int, help="try so many Pythons at most")
    parser.add_argument("python", nargs="*", help="paths or names (all others that are found)")
    options = parser.parse_args(arguments)
    pythons = found(options.python)
    if not pythons:
        print(
            "no other Python is here: name one, such as OTHER_PYTHONS=/opt/python3.13/bin/python3"
        )
    failed = []
    for version, path in list(pythons.items())[: options.most]:
        began = time.monotonic()
        passed = tried(path, options.fast)
        if not passed:
            failed.append(version)
        word = "passed" if passed else "FAILED"
        print(f"Python {version}: {word}, {time.monotonic() - began:.0f} s", flush=True)
    return 1 if failed else 0


def found(named: Sequence[str] = ()) -> dict[str, str]:
    """Pythons by their versions: the named ones, or all but this one; each version once.

    Ends the program with one line if a named one does not run, or is too old.
    """
    others = [each for each in os.environ.get("OTHER_PYTHONS", "").split(":") if each]
    pythons: dict[str, str] = {}
    for name in named or [*others, *NAMES, *of_pyenv()]:
        version = version_of(name)
        wanted = name in named or name in others
        if version is None or (wanted and _numbers(version) < (3, 11)):
            if wanted:
                sys.exit(f"run_pythons.py: {name} is no Python from 3.11 on: check the path")
            continue
        if wanted or _numbers(version) != sys.version_info[:2]:
            pythons.setdefault(version, name)
    return pythons


def of_pyenv() -> list[str]:
    """The Pythons that pyenv has installed for this user, the newest first; none without pyenv."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [path for path in root.glob("versions/3.*/bin/python3") if _minor(path) >= 11]
    return [str(path) for path in sorted(found, key=_minor, reverse=True)]


def _minor(python: Path) -> int:
    """The 13 of `versions/3.13.0/bin/python3`; 0 for a folder of another kind of name."""
    found = re.match(r"3\.(\d+)", python.parent.parent.name)
    return int(found[1]) if found else 0


def version_of(name: str) -> str | None:
    """The version of a Python, such as `3.12.1`; None if it does not run."""
    path = shutil.which(name)
    if path is None:
        return None
    ran = subprocess.run([path, "-c", ASK], capture_output=True, text=True, check=False)
    return ran.stdout.strip() if ran.returncode == 0 else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def tried(python: str, fast: bool) -> bool:
    """Whether the notebooks, or the fast tests, pass with a Python."""
    with tempfile.TemporaryDirectory(prefix="streamlab-python-") as scratch:
        course = Path(scratch, "course")
        copy_of_course(course)
        if subprocess.run([python, "tools/make_environment.py"], cwd=course).returncode != 0:
            return False
        inside = str(course / ".venv" / "bin" / "python")
        notebooks = sorted([*course.glob("notebooks/*.ipynb"), *course.glob("solutions/*/*.ipynb")])
        command = [inside, "-m", "pytest", "-q", "--nbval", *map(str, notebooks)]
        if fast:
            command = [inside, "tools/run_tests.py", "--fast"]
        return subprocess.run(command, cwd=course).returncode == 0


def copy_of_course(target: Path) -> None:
    """Copy the files that git knows, as they are now, into a repository of their own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=HERE, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (HERE / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, target / name)
    for command in (["init", "-q"], ["add", "-A"]):  # tests ask git for the files
        subprocess.run(["git", *command], cwd=target, check=True)


if __name__ == "__main__":
    sys.exit(main())
