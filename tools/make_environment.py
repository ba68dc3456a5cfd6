"""Create `.venv` with the pinned packages, if it is missing or stale. Standard library only.

    python tools/make_environment.py [site]

With `site` it also installs the packages that build the course's site (requirements-site.txt).

The environment is stale if Python, requirements.txt or pyproject.toml differ from when it was made.
The stamp is written last, so an interrupted installation is repeated.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
VENV = HERE / ".venv"
STAMP = VENV / "streamlab.stamp"
SITE_STAMP = VENV / "streamlab-site.stamp"
FILES = ("requirements.txt", "pyproject.toml")
FOR_THE_SITE = "requirements-site.txt"
PIP = [str(VENV / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]


def main() -> None:
    """Make the environment, or say in one line why it can't be made."""
    make()
    if sys.argv[1:] == ["site"]:
        add_site()


def make() -> None:
    """Make `.venv`, unless it is there and fits."""
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


def add_site() -> None:
    """Install the packages that build the site, unless they are there and fit."""
    wanted = fingerprint((*FILES, FOR_THE_SITE))
    if SITE_STAMP.is_file() and SITE_STAMP.read_text() == wanted:
        return
    print(f"Adding the packages of {FOR_THE_SITE} to .venv, once.", flush=True)
    pins = ["-r", str(HERE / FOR_THE_SITE), "-c", str(HERE / "requirements.txt")]
    run([*PIP, *pins], "check the network, then try again")
    SITE_STAMP.write_text(wanted)


def fingerprint(files: Sequence[str] = FILES) -> str:
    """What an environment depends on, Python and these files, as a hash."""
    digest = hashlib.sha256(sys.version.encode())
    for name in files:
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
