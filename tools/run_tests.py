"""Run every part of the test suite and print how long each took: what `make test` does.

The answers are checked beside the library's tests, for much of both is waiting. The notebooks have
the machine for themselves.

The labs' notebooks are run as they were committed, in a temporary folder, so that what a student
has written into labs/ turns no test red.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CORPORA = "tests/test_corpora.py"
LIBRARY, ANSWERS = "library and course", "wrong and right answers"


def main() -> int:
    """Run all parts, whatever becomes of each; 0 if every one passed."""
    with tempfile.TemporaryDirectory(prefix="streamlab-labs-") as scratch:
        labs = committed_labs(Path(scratch))
        notebooks = {
            "lessons": ["--nbval", "notebooks"],
            "solutions' notebooks": ["--nbval", *notebooks_in(HERE / "solutions")],
            "labs' notebooks": [
                *("--nbval", "-c", "pyproject.toml", f"--rootdir={scratch}", "-p", "conftest"),
                *notebooks_in(labs),
            ],
        }
        began = time.monotonic()
        with ThreadPoolExecutor() as pool:
            answers = pool.submit(run, ANSWERS, [CORPORA, "-m", "not soak"], aside=True)
            tests = run(LIBRARY, ["tests", "-m", "not soak", f"--ignore={CORPORA}"])
            rows = [(LIBRARY, *tests), (ANSWERS, *answers.result())]
        rows += [(part, *run(part, arguments)) for part, arguments in notebooks.items()]
    print()
    for part, passed, seconds in rows:
        print(f"{part:<24} {'passed' if passed else 'FAILED':<8} {seconds:6.0f} s")
    print(f"{'all':<33} {time.monotonic() - began:6.0f} s")
    failed = sum(not passed for _, passed, _ in rows)
    print(f"parts: {len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


def run(part: str, arguments: list[str], aside: bool = False) -> tuple[bool, float]:
    """Run one part with pytest: whether it passed, and how many seconds it took.

    What a part `aside` of another one prints comes when it has ended.
    """
    if not aside:
        print(f"\n=== {part}", flush=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-rs", *arguments]
    with tempfile.TemporaryFile() as kept:
        printed = kept if aside else None
        ended = subprocess.run(command, cwd=HERE, stdout=printed, stderr=printed, check=False)
        if aside:
            kept.seek(0)
            print(f"\n=== {part}\n{kept.read().decode(errors='replace')}", flush=True)
    return ended.returncode == 0, time.monotonic() - began


def committed_labs(scratch: Path) -> Path:
    """The labs of the last commit, unpacked into `scratch`; without git, those that are here."""
    command = ["git", "archive", "HEAD", "labs"]
    archived = subprocess.run(command, cwd=HERE, capture_output=True, check=False)
    if archived.returncode != 0:
        return HERE / "labs"
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
        archive.extractall(scratch, filter="data")
    return scratch / "labs"


def notebooks_in(folder: Path) -> list[str]:
    """The labs' notebooks in a folder."""
    return [str(path) for path in sorted(folder.glob("*/lab.ipynb"))]


if __name__ == "__main__":
    sys.exit(main())
