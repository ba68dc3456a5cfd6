"""Run lessons, labs and answers with several kernels' settings for TCP, and print a table.

    python tools/run_kernels.py [--kernel NAME ...] [PART ...]   (default: all kernels, all parts)

The parts are `lessons`, `labs` (the notebook of each solution checks it), `answers` (the wrong ones
that depend on the kernel's buffers) and `user`: all of these as an ordinary user who has 1024 open
files, and may ask for 4096. Unless it is named, `user` runs with Debian's settings alone. See
kernels.py for the settings. Ends with status 1 if anything failed. What can't run here is named,
with the reason; with CI set, that is a failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernels import KERNELS, unavailable_reason

HERE = Path(__file__).resolve().parent.parent
PARTS = ("lessons", "labs", "answers", "user")
NOBODY = 65534
"""The numbers of the user nobody and its group on Linux, which own no files."""
OPEN_FILES = "1024:4096"
"""The soft and the hard limit of Linux itself (`INR_OPEN_CUR`, `INR_OPEN_MAX`). Systems with limits
of their own mostly allow more."""


@dataclass(frozen=True)
class Outcome:
    """The result of one run of pytest."""

    kernel: str
    part: str
    outcome: str
    seconds: float

    @property
    def good(self) -> bool:
        """Whether it passed. A run that is not possible here is a failure only if CI is set."""
        return self.outcome == "passed" or (
            self.outcome.startswith("not run") and not os.environ.get("CI")
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; 0 if nothing failed."""
    parser = argparse.ArgumentParser(
        prog="run_kernels.py", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--kernel", action="append", choices=KERNELS, help="one of these (all)")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    outcomes = []
    for kernel in options.kernel or list(KERNELS):
        lacking = unavailable_reason(kernel)
        for part in options.parts or (PARTS if kernel == "debian" else PARTS[:-1]):
            for name, found in runs(part).items():
                began = time.monotonic()
                outcome = f"not run: {lacking}" if lacking else run(kernel, part, found)
                outcomes.append(Outcome(kernel, name, outcome, time.monotonic() - began))
                _tell(outcomes[-1])
    print(f"\n{table(outcomes)}")
    return 0 if all(each.good for each in outcomes) else 1


def runs(part: str) -> dict[str, list[str]]:
    """The runs of a part: a name for each run of pytest, and its arguments."""
    lessons = sorted((HERE / "notebooks").glob("*.ipynb"))
    solutions = sorted((HERE / "solutions").glob("*/lab.ipynb"))
    notebooks = {f"lesson {path.name[:2]}": path for path in lessons}
    labs = {f"lab {path.parent.name[:2]}": path for path in solutions}
    chosen = {"lessons": notebooks, "labs": labs, "user": {**notebooks, **labs}}.get(part, {})
    as_user = ", as a user" if part == "user" else ""
    found = {
        name + as_user: ["--nbval", str(path.relative_to(HERE))] for name, path in chosen.items()
    }
    if part in ("answers", "user"):
        found[f"answers{as_user}"] = ["tests/checks/test_corpora.py", "-m", "buffers"]
    return found


def run(kernel: str, part: str, arguments: list[str]) -> str:
    """Run pytest with the settings of a kernel: `passed`, `FAILED`, or why it was not run."""
    options = ["-q", "-rs", "--color=no", "-p", "no:cacheprovider"]
    if part != "user":
        return _pytest(kernel, HERE, [sys.executable], [*options, *arguments], os.environ)
    with tempfile.TemporaryDirectory(prefix="streamlab-user-") as folder:
        try:
            become = ordinary_user(Path(folder))
        except OSError as error:
            return f"not run: {error}"
        home = Path(folder) / "home"
        environment = {
            **{name: os.environ[name] for name in ("LANG", "CI") if name in os.environ},
            "PATH": f"{HERE / '.venv' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(home),
            "TMPDIR": str(home),
            "PYTHONPATH": f"{Path(folder) / 'course'}:{sysconfig.get_path('purelib')}",
        }
        return _pytest(kernel, Path(folder) / "course", become, [*options, *arguments], environment)


def _pytest(
    kernel: str,
    folder: Path,
    python: list[str],
    arguments: list[str],
    environment: Mapping[str, str],
) -> str:
    tool = [str(folder / "tools" / "kernels.py"), f"--kernel={kernel}", "--"]
    command = [*python, *tool, python[-1], "-m", "pytest", *arguments]
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ended.returncode == 0:
        return "passed"
    print("\n".join(f"    {line}" for line in ended.stdout.splitlines()[-60:]), flush=True)
    return "FAILED"


def ordinary_user(folder: Path) -> list[str]:
    """Copy the course to `folder`; returns the command that starts Python there as its owner.

    An ordinary user keeps its id, root becomes nobody. Raises OSError, with the reason, if there is
    no Python that this user can start.
    """
    ignored = shutil.ignore_patterns(".*", "__pycache__")
    shutil.copytree(HERE, folder / "course", ignore=ignored)
    (folder / "home").mkdir()
    limited = ["prlimit", f"--nofile={OPEN_FILES}", "--"]
    if os.geteuid() != 0:
        return [*limited, sys.executable]
    folder.chmod(0o755)
    for path in [folder / "course", folder / "home", *(folder / "course").rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin:/bin")]
    for python in filter(None, candidates):
        trial = [*become, *limited, python]
        said = subprocess.run([*trial, "-c", ""], cwd="/", capture_output=True, check=False)
        if said.returncode == 0:
            return trial
    raise OSError(f"an ordinary user can't start {sys.executable}, and there is no other {version}")


def _tell(outcome: Outcome) -> None:
    print(
        f"{outcome.kernel:<10} {outcome.part:<24} {outcome.outcome} {outcome.seconds:5.0f} s",
        flush=True,
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """The results of each part with each kernel, a line for each part."""
    kernels = list(dict.fromkeys(each.kernel for each in outcomes))
    found = {(each.part, each.kernel): each.outcome.partition(":")[0] for each in outcomes}
    lines = [("", *kernels)]
    for part in dict.fromkeys(each.part for each in outcomes):
        lines.append((part, *(found.get((part, kernel), "-") for kernel in kernels)))
    return "\n".join(
        "  ".join(f"{cell:<{24 if number == 0 else 8}}" for number, cell in enumerate(line))
        for line in lines
    )


if __name__ == "__main__":
    sys.exit(main())
