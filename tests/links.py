"""The relative links of a folder's pages and notebooks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|(?:href|src)=[\"']([^\"']+)[\"']")
_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


def pages_in(folder: Path) -> dict[Path, str]:
    """The Markdown of every page and notebook in a folder and those below it."""
    pages = {page: page.read_text("utf-8") for page in folder.rglob("*.md")}
    for notebook in folder.rglob("*.ipynb"):
        cells = nbformat.read(notebook, as_version=4).cells
        pages[notebook] = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return pages


def relative_links(folder: Path) -> list[tuple[Path, str]]:
    """The links of its pages that lead to a file, each with its page."""
    return [
        (page, target)
        for page, text in pages_in(folder).items()
        for target in _targets(text)
        if target and not re.match(r"[a-z]+:", target)
    ]


def dead_links(folder: Path) -> list[str]:
    """The relative links that lead to nothing, or out of the folder."""
    return [
        f"{page.relative_to(folder)}: {target}"
        for page, target in relative_links(folder)
        if not (page.parent / target).exists()
        or not (page.parent / target).resolve().is_relative_to(folder.resolve())
    ]


def _targets(text: str) -> Iterator[str]:
    for found in _LINK.finditer(_CODE.sub("", text)):
        yield (found[1] or found[2]).partition("#")[0]
