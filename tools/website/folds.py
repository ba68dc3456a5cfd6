"""Fold the answers of a chapter: what follows a guess stands behind "Make your guess, then open".

A fold begins at the first cell after the guess whose output could give the answer away. The code of
that cell stays in sight, because the reader guesses what it will show. The fold ends

- before the next heading: also one inside of a cell, which is cut in two there, or
- before the next question. Then text and code that lead to that question stay in sight, too.
"""

from __future__ import annotations

import copy
import re
from itertools import pairwise

from nbformat import NotebookNode, v4

from streamlab.handout.guesses import is_guess

OPENS = '<details class="answer"><summary>Make your guess, then open</summary>'
CLOSES = "</details>"

_FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
_HEADING = re.compile(r"^#{1,6} ", re.MULTILINE)


class FoldError(Exception):
    """A guess has no output that could be folded; the message names its cell."""


def folded(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells of a chapter with a fold after each guess; the cells given stay as they are.

    Raises `FoldError` if a guess is followed by no output before the next heading or guess.
    """
    cells = _cut_at_headings(cells)
    found: list[NotebookNode] = []
    place = 0
    while place < len(cells):
        found.append(copy.deepcopy(cells[place]))
        place += 1
        if not is_guess(cells[place - 1]):
            continue
        guess = cells[place - 1]
        end = _end(cells, place, guess.id)
        first = next((n for n in range(place, end) if answers(cells[n])), None)
        if first is None:
            raise FoldError(f"{guess.id}: no output follows this guess before the next heading")
        found += copy.deepcopy(cells[place:first])
        code, shown = copy.deepcopy(cells[first]), copy.deepcopy(cells[first])
        code.outputs = []
        shown.id = f"{shown.id}-shown"
        shown.metadata["tags"] = [*shown.metadata.get("tags", []), "remove-input"]
        found += [
            code,
            v4.new_markdown_cell(OPENS, id=f"{guess.id}-opens"),
            shown,
            *copy.deepcopy(cells[first + 1 : end]),
            v4.new_markdown_cell(CLOSES, id=f"{guess.id}-closes"),
        ]
        place = end
    return found


def answers(cell: NotebookNode) -> bool:
    """Whether the output of a cell can tell what is asked: that of a server's start can't."""
    return bool(cell.get("outputs")) and not cell.source.startswith("%%server")


def asks(cell: NotebookNode) -> bool:
    """Whether a cell of text asks for a guess: its question stands in bold letters."""
    if cell.cell_type != "markdown":
        return False
    bold = _CODE.sub("", cell.source).split("**")[1::2]
    return cell.id.endswith("-predict") or any("?" in each for each in bold)


def _end(cells: list[NotebookNode], begin: int, guess: str) -> int:
    """The place after the last cell that belongs behind the guess."""
    own = guess.removesuffix("-prediction") + "-"
    last = begin
    for place in range(begin, len(cells)):
        cell = cells[place]
        if cell.cell_type == "markdown" and _HEADING.match(cell.source):
            return place
        if asks(cell) or is_guess(cell):
            return last
        if answers(cell) or cell.id.startswith(own) or cell.id.endswith("-reconcile"):
            last = place + 1
    return last


def _cut_at_headings(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The same text, and each heading begins a cell."""
    found = []
    for cell in cells:
        parts = parts_by_heading(cell.source) if cell.cell_type == "markdown" else [cell.source]
        for number, part in enumerate(parts):
            if len(parts) == 1:
                found.append(cell)
                continue
            name = cell.id if number == 0 else f"{cell.id}-{number + 1}"
            found.append(v4.new_markdown_cell(part, id=name, metadata=cell.metadata))
    return found


def parts_by_heading(text: str) -> list[str]:
    """A text, cut before each heading; lines of code that begin with `#` are none."""
    blocks = [found.span() for found in _FENCED.finditer(text)]
    cuts = [
        found.start()
        for found in _HEADING.finditer(text)
        if found.start() > 0 and not any(a <= found.start() < b for a, b in blocks)
    ]
    edges = [0, *cuts, len(text)]
    return [text[a:b].strip("\n") for a, b in pairwise(edges)]
