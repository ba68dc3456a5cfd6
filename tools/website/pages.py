"""The pages of the site: copies of the course's files, changed for the web, in a folder for Sphinx.

The files of the course stay as they are, and no notebook is run. Each page keeps its path in the
repository, so that the links between pages hold; `README.md` becomes `index.md`.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Collection
from pathlib import Path

import nbformat
from diagrams import drawn
from folds import folded, parts_by_heading
from nbformat import NotebookNode, v4
from page_links import led, repository, without_comments
from saved_html import mend

HERE = Path(__file__).resolve().parent
COURSE = HERE.parents[1]

TEXTS = {
    "docs/myths.md": "The court of myths",
    "docs/glossary.md": "Glossary",
    "docs/bench.md": "The bench",
    "docs/probe.md": "Probe your own server",
    "docs/instructors.md": "For instructors",
    "docs/design.md": "Why the course is as it is",
    "CONTRIBUTING.md": "Changing the course",
    "CHANGELOG.md": "Changes",
    "CODE_OF_CONDUCT.md": "Code of conduct",
    "SECURITY.md": "Security",
}
"""The pages besides the start page, chapters and labs, with their names in the menu."""

PICTURES = ("docs/bench.png", "docs/bench-proxies.png", "docs/flat-chart.png")

SAVED_RUN = """\
:::{note}
The figures are those of the saved run: your machine will give others, and the same verdicts. \
Behind each guess the answer is folded. To run the cells and check your guesses, \
take the [course](../README.md) itself: `make lab`.
:::"""
NO_DRAWINGS = "This site was built without Mermaid, so each diagram is shown as text."


class PageError(Exception):
    """A page can't be made; the message says which, and why."""


def lay_out(course: Path, folder: Path, can_draw: bool) -> list[str]:
    """Write the sources of the site into an empty folder; returns the paths of the pages.

    `can_draw` says whether the site has Mermaid. Raises `PageError`.
    """
    chapters = sorted(path.relative_to(course).as_posix() for path in _chapters(course))
    labs = sorted(path.relative_to(course).as_posix() for path in course.glob("labs/*/lab.ipynb"))
    texts = [name for name in TEXTS if (course / name).is_file()]
    pages = [*chapters, *labs, *texts]
    address = repository(course)
    for name in [*chapters, *labs]:
        notebook = nbformat.read(course / name, as_version=4)
        if name in chapters:
            notebook.cells = chapter(name, notebook.cells)
        else:
            notebook.cells.append(promises((course / name).parent))
        for cell in notebook.cells:
            mend(cell)
            if cell.cell_type == "markdown":
                cell.source = _for_the_web(cell.source, name, pages, address, can_draw)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, folder / name)
    for name in texts:
        text = _for_the_web((course / name).read_text("utf-8"), name, pages, address, can_draw)
        _write(folder / name, text)
    start = start_page((course / "README.md").read_text("utf-8"), chapters, labs, texts)
    _write(folder / "index.md", _for_the_web(start, "README.md", pages, address, can_draw))
    for name in PICTURES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(course / name, folder / name)
    return ["index.md", *pages]


def chapter(name: str, cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells of a chapter with its answers folded, and a note on the figures below its title.

    Raises `PageError` if it does not begin with its title, `FoldError` for a guess without output.
    """
    if not cells or not cells[0].source.startswith("# "):
        raise PageError(f"{name}: the first cell has no title")
    title, *rest = folded(cells)
    head, _, below = title.source.partition("\n")
    title.source = f"{head}\n\n{SAVED_RUN}\n{below}"
    return [title, *rest]


def promises(lab: Path) -> NotebookNode:
    """A cell with the promises of a lab's text: a table of id, sentence and check."""
    rows = tomllib.loads((lab / "contract.toml").read_text("utf-8"))
    titles = tomllib.loads((lab / "lab.toml").read_text("utf-8")).get("checks", {})
    lines = [
        "## The promises, one by one",
        "",
        "Each sentence of this page that a program has to keep, and the check that puts it to the "
        "test.",
        "",
        "| promise | sentence | check |",
        "|---|---|---|",
    ]
    for name, row in rows.items():
        title = titles.get(row["check"], {}).get("title", "")
        check = f"`{row['check']}`" + (f": {title}" if title else "")
        lines.append(f"| `{name}` | {_in_a_cell(row['text'])} | {check} |")
    cell: NotebookNode = v4.new_markdown_cell("\n".join(lines), id="promises")
    return cell


def start_page(readme: str, chapters: list[str], labs: list[str], texts: list[str]) -> str:
    """The start page: the README with its map first, and the menu. Raises `PageError`."""
    head, *sections = [part for part in parts_by_heading(readme) if part.strip()]
    of_the_map = [each for each in sections if each.startswith("## The chapters")]
    if not head.startswith("# ") or len(of_the_map) != 1:
        raise PageError("README.md has no title, or no section 'The chapters ...'")
    here = [f"- [{TEXTS[name]}]({name})" for name in texts]
    others = [each for each in sections if each not in of_the_map]
    menu = [
        _menu("Chapters", [name.removesuffix(".ipynb") for name in chapters]),
        _menu("Labs", [name.removesuffix(".ipynb") for name in labs]),
        _menu("More", [f"{TEXTS[name]} <{name.removesuffix('.md')}>" for name in texts]),
    ]
    parts = [head, *of_the_map, "## More pages\n\n" + "\n".join(here), *others, *menu]
    return "\n\n".join(parts) + "\n"


def _chapters(course: Path) -> Collection[Path]:
    return list(course.glob("notebooks/[0-9]*.ipynb"))


def _menu(caption: str, names: list[str]) -> str:
    lines = ["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```"]
    return "\n".join(lines)


def _for_the_web(text: str, page: str, pages: Collection[str], address: str, can_draw: bool) -> str:
    text = led(without_comments(text), page, pages, address)
    if "```mermaid" in text and not can_draw:
        text = text.replace("```mermaid", f"{NO_DRAWINGS}\n\n```mermaid", 1)
    return drawn(text, can_draw)


def _in_a_cell(text: str) -> str:
    """A sentence as it can stand in a table of Markdown."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
