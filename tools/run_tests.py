"""Run every part of the test suite and print how long each took: what `make test` does.

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
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
CORPORA = "tests/test_corpora.py"


def main() -> int:
    """Run all parts, whatever becomes of each; 0 if every one passed."""
    with tempfile.TemporaryDirectory(prefix="streamlab-labs-") as scratch:
        labs = committed_labs(Path(scratch))
        parts = {
            "library and course": ["tests", "-m", "not soak", f"--ignore={CORPORA}"],
            "lessons": ["--nbval", "notebooks"],
            "solutions' notebooks": ["--nbval", *notebooks_in(HERE / "solutions")],
            "labs' notebooks": [
                *("--nbval", "-c", "pyproject.toml", f"--rootdir={scratch}", "-p", "conftest"),
                *notebooks_in(labs),
            ],
            "wrong and right answers": [CORPORA, "-m", "not soak"],
        }
        rows = [(part, *run(part, arguments)) for part, arguments in parts.items()]
    print()
    for part, passed, seconds in rows:
        print(f"{part:<24} {'passed' if passed else 'FAILED':<8} {seconds:6.0f} s")
    print(f"{'all':<33} {sum(seconds for _, _, seconds in rows):6.0f} s")
    failed = sum(not passed for _, passed, _ in rows)
    print(f"parts: {len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


def run(part: str, arguments: list[str]) -> tuple[bool, float]:
    """Run one part with pytest: whether it passed, and how many seconds it took."""
    print(f"\n=== {part}", flush=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-rs", *arguments]
    status = subprocess.run(command, cwd=HERE, check=False).returncode
    return status == 0, time.monotonic() - began


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
