"""Programs that run inside a student's process, and make its machine slower or stricter.

A shim is copied into a folder as `sitecustomize.py`, which Python imports before a program's own
code if the folder is on PYTHONPATH (Python's documentation of `site`). A sandbox has to show that
folder and nothing else. Imported by another name, a shim changes nothing. It imports little,
because its memory counts as the student's.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

Shim = Literal["held_writes", "short_recv", "short_send", "slow_reads", "slow_writes"]


def shim_in(folder: Path, shim: Shim) -> dict[str, str]:
    """Make a folder with a shim; returns the environment that loads it before a program."""
    folder.mkdir()
    copy_of(shim, folder / "sitecustomize.py")
    return {"PYTHONPATH": str(folder)}


def slow_reads_in(folder: Path, name: str) -> tuple[dict[str, str], Path]:
    """The same for a disk that is slow for one file: `name`, below a server's root.

    Also returns the gate: readers wait until this file exists.
    """
    environment = shim_in(folder, "slow_reads")
    (folder / "slow").write_text(name, encoding="utf-8")
    return environment, folder / "open"


def held_writes_in(folder: Path, mark: bytes) -> tuple[dict[str, str], Path]:
    """The same for a disk that is slow for data with `mark` in them; also returns the gate."""
    environment = shim_in(folder, "held_writes")
    (folder / "mark").write_bytes(mark)
    return environment, folder / "open"


def copy_of(program: Shim | Literal["call_function"], target: Path) -> None:
    """Write one of this folder's programs into the file `target`."""
    shutil.copyfile(Path(__file__).with_name(f"{program}.py"), target)
