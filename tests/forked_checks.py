"""Runs of checks that start quickly: forked from a process that has loaded all modules.

A run of a lab's checks is a pytest process (`streamlab.labs.runner.run_checks`), and a third of the
CPU time of a short one goes into loading pytest, hypothesis and the course. The corpora need a
thousand such runs. So a server process (multiprocessing's `forkserver`) loads these once, and each
run is a copy of it. POSIX only.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO

import streamlab

LIBRARY = Path(streamlab.__file__).parent
CHECKS = [
    ".".join(("streamlab", *module.relative_to(LIBRARY).with_suffix("").parts))
    for module in sorted((LIBRARY / "checks").rglob("*.py"))
    if module.name != "__init__.py"
]
LOADED = ["pytest", *CHECKS]


class Forked:
    """A forked process as `streamlab.labs.runner` uses one."""

    def __init__(self, process: BaseProcess) -> None:
        self._process = process
        self.pid = process.pid or 0

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._process.exitcode

    def wait(self) -> int:
        """Wait for its end; its exit status."""
        self._process.join()
        status = self._process.exitcode
        assert status is not None
        return status

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def start(
    command: list[str],
    folder: str,
    surroundings: dict[str, str],
    output: IO[str],
    *,
    drawing: bool = True,
) -> Forked:
    """Run `python -m pytest ...` in a copy of the loaded process.

    It has the signature of `streamlab.labs.runner.Start`. Without `drawing`, checks try only the
    inputs that they try in each run.
    """
    assert command[:3] == [sys.executable, "-m", "pytest"]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    process = context.Process(
        target=_become_pytest, args=(command[3:], folder, surroundings, output.name, drawing)
    )
    process.start()
    return Forked(process)


def _become_pytest(
    arguments: list[str], folder: str, surroundings: dict[str, str], output: str, drawing: bool
) -> None:
    """Do what `start_pytest` asks the system for, then run pytest."""
    import pytest

    from streamlab.checks import examples

    examples.drawing = drawing
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(surroundings)
    sys.path[0] = folder
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in ((0, nothing), (1, file), (2, file)):
        os.dup2(descriptor, number)
    status = int(pytest.main(arguments))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
