"""Temporary folders of runs that end, and the removal of those whose run was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from streamlab.process.patience import Deadline

PREFIXES = ("streamlab-check-", "streamlab-grade-")
_LOCK = ".in-use"
"""In a folder: a file that its process has locked (flock(2)). The lock ends with the process."""


@contextmanager
def scratch_folder(prefix: str, patience: float = 10.0) -> Iterator[str]:
    """A temporary folder that is removed at the end, also while programs that end write into it.

    A run that is cut short leaves servers to their supervisors, which need a moment to end them.
    """
    folder = tempfile.mkdtemp(prefix=prefix)
    lock = _locked(folder)
    try:
        yield folder
    finally:
        deadline = Deadline(patience)
        while os.path.isdir(folder):
            shutil.rmtree(folder, ignore_errors=True)
            if deadline.passed:
                break
            deadline.pause(0.05)
        if lock is not None:
            os.close(lock)


def remove_abandoned() -> list[Path]:
    """Remove the folders of this user's runs that were killed; returns them.

    One that is in use, here or by another run, stays; so does one without a lock file.
    """
    removed = []
    for prefix in PREFIXES:
        for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            with suppress(OSError):
                mine = os.name == "posix" and folder.lstat().st_uid == os.geteuid()
                if mine and not folder.is_symlink() and _is_free(folder / _LOCK):
                    with suppress(RecursionError):  # folders in folders in folders
                        shutil.rmtree(folder, ignore_errors=True)
                    removed.append(folder)
    return removed


def _locked(folder: str) -> int | None:
    """The descriptor of a lock in a folder; None where the system has none.

    It gets its name when it is locked: before, nobody takes the folder for abandoned.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle, name = tempfile.mkstemp(dir=folder)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.rename(name, os.path.join(folder, _LOCK))
    return handle


def _is_free(lock: Path) -> bool:
    """Whether nobody holds a lock; `OSError` if there is none, or it can't be opened."""
    import fcntl

    handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
