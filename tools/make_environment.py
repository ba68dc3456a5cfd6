"""Create `.venv` with the pinned packages, if it is missing or stale. Standard library only.

It is stale if Python, requirements.txt or pyproject.toml differ from when it was made. The stamp is
written last, so an interrupted installation is repeated.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
VENV = HERE / ".venv"
STAMP = VENV / "streamlab.stamp"
PIP = [str(VENV / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]


def main() -> None:
    """Make the environment, or say in one line why it can't be made."""
    wanted = fingerprint()
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return
    print(
        "Preparing .venv with the packages of requirements.txt: a minute or two, once.", flush=True
    )
    run([sys.executable, "-m", "venv", "--clear", str(VENV)], "make system installs Python's venv")
    run([*PIP, "-r", str(HERE / "requirements.txt")], "check the network, then try again")
    package = ["--no-deps", "--no-build-isolation", "-e", str(HERE)]
    run([*PIP, *package], "read the lines above")
    STAMP.write_text(wanted)


def fingerprint() -> str:
    """What the environment depends on, as a hash."""
    digest = hashlib.sha256(sys.version.encode())
    for name in ("requirements.txt", "pyproject.toml"):
        digest.update((HERE / name).read_bytes())
    digest.update(str(HERE).encode())
    return digest.hexdigest()


def run(command: list[str], advice: str) -> None:
    """Run a step; when it fails, end with its status and one line of advice."""
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        print(f"The environment could not be made: {advice}.", file=sys.stderr)
        sys.exit(status)


if __name__ == "__main__":
    main()
