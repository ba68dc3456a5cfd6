"""Run every part of the test suite and print how long each took: what `make test` does."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

PARTS = {
    "library and course": ["tests", "-m", "not soak"],
    "lessons": ["--nbval", "notebooks"],
}


def main() -> int:
    """Run all parts, whatever becomes of each; 0 if every one passed."""
    rows = []
    for part, arguments in PARTS.items():
        print(f"\n=== {part}", flush=True)
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", "-rs", *arguments]
        status = subprocess.run(command, cwd=HERE, check=False).returncode
        rows.append((part, "passed" if status == 0 else "FAILED", time.monotonic() - began))
    print()
    for part, outcome, seconds in rows:
        print(f"{part:<20} {outcome:<8} {seconds:6.0f} s")
    failed = sum(outcome == "FAILED" for _, outcome, _ in rows)
    print(f"parts: {len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
