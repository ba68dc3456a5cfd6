"""The figures in `docs/myths.md`: each comes from the saved run of the chapter in its row.

    python tools/website/myths.py     writes the figures of the saved notebooks into the page

They are marked as in a chapter: a comment names the cell and the row of its table
(`streamlab/dev/figures.py`). The chapter is the one to which the row of the page links.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4

from streamlab.dev import figures

COURSE = Path(__file__).resolve().parents[2]
PAGE = COURSE / "docs" / "myths.md"

_CHAPTER = re.compile(r"\]\(\.\./notebooks/([^)#]+\.ipynb)\) \|$")
_ROW = "row-"

Chapters = Callable[[str], NotebookNode]


def saved(name: str) -> NotebookNode:
    """A chapter of the course as it was saved, without its pictures."""
    notebook: NotebookNode = nbformat.read(COURSE / "notebooks" / name, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    return notebook


def claims(page: str) -> list[tuple[str, str]]:
    """The rows of the page's table, each with the chapter to which it links ("" for none)."""
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    return [(row, found[1] if (found := _CHAPTER.search(row)) else "") for row in rows]


def faults(page: str, chapters: Chapters = saved) -> list[str]:
    """What is wrong with the page: rows without a chapter, figures that nobody measured."""
    complaints = [f"it links to no chapter: {row}" for row, name in claims(page) if not name]
    for name, rows in _by_chapter(page).items():
        found = figures.faults(_with_rows(chapters(name), rows))
        complaints += [
            f"{name}: {each.partition(': ')[2]}" for each in found if each.startswith(_ROW)
        ]
    return complaints


def filled(page: str, chapters: Chapters = saved) -> str:
    """The page with the figures of the saved notebooks."""
    for name, rows in _by_chapter(page).items():
        notebook = _with_rows(chapters(name), rows)
        figures.fill(notebook)
        for row, cell in zip(rows, notebook.cells[-len(rows) :], strict=True):
            page = page.replace(row, cell.source)
    return page


def _by_chapter(page: str) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for row, name in claims(page):
        if name:
            rows.setdefault(name, []).append(row)
    return rows


def _with_rows(chapter: NotebookNode, rows: list[str]) -> NotebookNode:
    """A chapter's outputs and metadata, with rows of the page for its text."""
    cells = [cell for cell in chapter.cells if cell.cell_type == "code"]
    texts = [v4.new_markdown_cell(row, id=f"{_ROW}{place}") for place, row in enumerate(rows)]
    notebook: NotebookNode = v4.new_notebook(cells=[*cells, *texts], metadata=chapter.metadata)
    return notebook


def main() -> None:
    """Fill the page's figures; status 1 if one is amiss."""
    page = filled(PAGE.read_text("utf-8"))
    PAGE.write_text(page, encoding="utf-8")
    sys.exit("\n".join(faults(page)) or None)


if __name__ == "__main__":
    main()
