"""The cells of a chapter in which the reader sets a guess, and how they are emptied.

A guess cell says so in its metadata: `"streamlab": {"guess": true}`. It consists of assignments: of
one value, of several values to several names, or of a dict. Each missing guess is `...`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from streamlab.errors import StreamlabError


class HandoutError(StreamlabError):
    """The files for students can't be made; the message says what to do."""


def is_guess(cell: Mapping[str, Any]) -> bool:
    """Whether a cell of a notebook is a guess cell."""
    return cell.get("metadata", {}).get("streamlab", {}).get("guess") is True


def guessed_names(source: str) -> set[str]:
    """The names that a guess cell sets; raises `HandoutError` if it does anything else."""
    return {name.id for names, _ in _assignments(source) for name in names}


def emptied(source: str) -> str:
    """The source of a guess cell with `...` for each guess, and the rest unchanged.

    Names, the keys of a dict, comments and line breaks stay. Raises `HandoutError` for a cell that
    does more than set guesses.
    """
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    values = [value for _, found in _assignments(source) for value in found]
    for value in sorted(values, key=lambda each: (each.lineno, each.col_offset), reverse=True):
        first, last = value.lineno - 1, (value.end_lineno or value.lineno) - 1
        before, after = lines[first][: value.col_offset], lines[last][value.end_col_offset :]
        lines[first : last + 1] = [before + b"..." + after]
    return b"".join(lines).decode()


def _assignments(source: str) -> Iterator[tuple[list[ast.Name], list[ast.expr]]]:
    """The assignments of a guess cell: their names, and the values that the reader sets."""
    for statement in ast.parse(source).body:
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            raise _not_a_guess(source)
        target, value = statement.targets[0], statement.value
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        values = value.elts if isinstance(value, ast.Tuple) else [value]
        if isinstance(value, ast.Dict):
            values = value.values
            if None in value.keys:
                raise _not_a_guess(source)
        elif len(names) != len(values):
            raise _not_a_guess(source)
        found = [name for name in names if isinstance(name, ast.Name)]
        if len(found) != len(names):
            raise _not_a_guess(source)
        yield found, values


def _not_a_guess(source: str) -> HandoutError:
    return HandoutError(f"this guess cell does more than set guesses:\n{source}")
