"""A student's program as a text: whether Python can read it."""

from __future__ import annotations

from pathlib import Path

from streamlab.files import KiB
from streamlab.labs.grammar import problem_with

LONGEST = 512 * KiB
"""What a student's program may be long, in bytes."""


def unreadable(file: Path) -> str:
    """Why Python can't read a program, in one line that says what to do; empty if it can."""
    name = file.name
    if file.stat().st_size > LONGEST:
        return f"{name} is larger than {LONGEST >> 10} KiB: it is no program"
    return problem_with(file)
