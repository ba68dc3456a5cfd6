"""The questions that chapters ask, by the row of the table that shows the guess."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamlab.handout.guesses import HandoutError, guessed_names, is_guess

_SAID = "   you said: "
"""What stands between a row and its guess in the plain text of a table of verdicts."""
_MAGICS = re.compile(r"^[%!].*$", re.MULTILINE)
"""Lines that IPython reads, and Python does not."""
_MARKS = re.compile(r"<!--.*?-->|[`*]", re.DOTALL)


def questions(course: Path) -> dict[tuple[str, str], str]:
    """The questions of all chapters of a course, by chapter (`"01"`) and row.

    They are taken from the saved notebooks: the question in bold letters before the cell in which
    the guess is set that the row shows. A chapter that can't be read has none.
    """
    found: dict[tuple[str, str], str] = {}
    for path in sorted((course / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        with suppress(OSError, ValueError, KeyError, TypeError, HandoutError, SyntaxError):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            for label, question in _of_chapter(cells):
                found[path.name[:2], label] = question
    return found


def _of_chapter(cells: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    asked = ""
    by_name: dict[str, str] = {}
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            asked = _question(source) or asked
        elif is_guess(cell):
            by_name |= dict.fromkeys(guessed_names(source), asked)
        elif labels := list(_labels(cell)):
            shown = [name for name in by_name if re.search(rf"\b{name}\b", source)]
            for label in labels:
                name = _name_of(label, source) if len(shown) > 1 else next(iter(shown), "")
                if by_name.get(name):
                    yield label, by_name[name]


def _question(text: str) -> str:
    """The questions in bold letters in a text, without its marks."""
    bold = [each for each in text.split("**")[1::2] if "?" in each]
    return " ".join(_MARKS.sub("", " ".join(bold)).split())


def _labels(cell: Mapping[str, Any]) -> Iterator[str]:
    """The rows of a cell's saved tables that show a guess."""
    for output in cell.get("outputs", ()):
        text = "".join(output.get("data", {}).get("text/plain", ""))
        for line in text.splitlines():
            if _SAID in line:
                yield line.partition("   ")[0].strip()


def _name_of(label: str, source: str) -> str:
    """The guess that a row of that label shows, where a cell shows several guesses."""
    with suppress(SyntaxError):
        for node in ast.walk(ast.parse(_MAGICS.sub("", source))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "row"
                and len(node.args) > 2
                and isinstance(node.args[0], ast.Constant)
                and node.args[0].value == label
                and isinstance(node.args[2], ast.Name)
            ):
                return node.args[2].id
    return ""
