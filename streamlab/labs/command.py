"""A lab's program in any language: a command that stands in for `server.py`.

The checks of some labs speak HTTP to a program and look at its process, so the program may be in
any language. The check runs a Python file all the same; that file becomes the command (execve(2)):
same process, same limits, same descriptors.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from streamlab.labs.manifest import Lab, LabError, all_labs

ROOT, PORT = "{root}", "{port}"
"""What stands in a command for the folder with the files to serve, and for the port."""
STAND_IN = Path(__file__).with_name("stand_in.py")


def with_command(lab: Lab, command: str) -> Lab:
    """The lab, with a command in place of its program.

    Raises `LabError` for a lab whose program has to be Python, and for a command that is none.
    """
    if not lab.any_language:
        able = ", ".join(each.number for each in all_labs() if each.any_language)
        raise LabError(
            f"lab {lab.number} needs {lab.programs[0]} in Python: --command is for labs {able}"
        )
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise LabError(f"the command can't be read: {error}") from error
    if not any(ROOT in word for word in words):
        raise LabError(
            f"the command lacks {ROOT}: write it where the folder belongs, "
            f"such as --command './server --root {ROOT} --port {PORT}'"
        )
    return replace(lab, command=command)


def left_out(lab: Lab) -> dict[str, str]:
    """The checks that only a program in Python can be put through, by id, and why."""
    checks = lab.manifest["checks"].items()
    return {name: each["python_only"] for name, each in checks if "python_only" in each}


@contextmanager
def programs_of(lab: Lab) -> Iterator[dict[str, Path]]:
    """The file that stands in for the lab's program, by the program's name; none without a command.

    The command runs in the folder that is the current one now.
    """
    if not lab.command:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="streamlab-command-") as folder:
        program = Path(folder) / lab.programs[0]
        words, where = shlex.split(lab.command), os.getcwd()
        program.write_text(
            f"{STAND_IN.read_text(encoding='utf-8')}\n\nbecome({words!r}, {where!r})\n",
            encoding="utf-8",
        )
        yield {program.name: program}
