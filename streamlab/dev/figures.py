"""Fill the figures in a chapter's prose from its saved run, and find what nobody measured.

    python -m streamlab.dev.figures [NOTEBOOK ...]     (default: all)

`tools/save_notebooks.py` does it with each notebook that it saves.

A figure that a run measured stands in Markdown before a comment, which no reader sees. The comment
names the cell and the row of its table:

    The client waited 51 times as long<!-- first-byte-run: load-all waits longer -->.

The number before the comment is the row's figure ("measured now"): a whole number up to 999 as it
is, others with two digits that count. A size brings its unit along. After a number that is no size
the words stay as they are.

Which figures need that: a number with a unit (bytes, seconds, times, a share, "20 of 38"), outside
of code and formulas, in Markdown. No comment is needed where the
figure is given or is compared by nbval anyway:

- it stands in the code of the chapter as a size (`64 * MiB`, `65536`, `--cup 256`), or in a
  comment there,
- it stands in the verdicts or other plain output of a cell ("3 2/3 x file", "0 of 10"),
- the notebook's metadata has it: `"streamlab": {"given": {"13 MB": "200 x 64 KiB"}}`, where the
  value says where it comes from.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

SIZES = {"B": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
SIZES |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = "|".join(SIZES)
_NUMBER = r"\d[\d,]*(?:\.\d+)?(?: \d/\d)?"

PLACE = re.compile(
    rf"(?P<number>{_NUMBER})(?P<words>(?: of \d[\d,]*)?[^\d\n<]{{0,40}})"
    r"<!-- (?P<cell>[a-z0-9-]+): (?P<row>.+?) -->"
)
"""A figure, and the comment that names its row."""

FIGURE = re.compile(
    rf"(?<![\w.,/+=-])(?P<number>{_NUMBER})[ \u00a0]?"
    rf"(?P<unit>(?:{_SIZE}|x|times|ms|s|seconds?|%|percent)(?!\w)|of \d[\d,]*)"
)
_NO_PROSE = re.compile(
    r"```.*?```|`[^`]*`|\]\([^)]*\)|<summary>.*?</summary>|<!--.*?-->", re.DOTALL
)


def fill(notebook: NotebookNode) -> list[str]:
    """Write the saved figures into the prose; returns a complaint for each that is not there."""
    complaints: list[str] = []
    measured = _measured(notebook)

    def filled(found: re.Match[str]) -> str:
        live = measured.get((found["cell"], found["row"]))
        if live is None or not re.match(rf"-?{_NUMBER}", live):
            complaints.append(f"{cell.id}: no row with a figure: {found['cell']}: {found['row']}")
            return found[0]
        return f"{_told(found, live)}<!-- {found['cell']}: {found['row']} -->"

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = PLACE.sub(filled, cell.source)
            for comment in re.findall(r"<!--.*?-->", PLACE.sub("", cell.source), re.DOTALL):
                complaints.append(f"{cell.id}: no figure stands before {comment}")
    return complaints


def faults(notebook: NotebookNode) -> list[str]:
    """The figures in the prose that are not as in the saved run, or that nobody measured."""
    copy = nbformat.from_dict(notebook)
    complaints = fill(copy)
    for cell, filled in zip(notebook.cells, copy.cells, strict=True):
        pairs = zip(PLACE.finditer(cell.source), PLACE.finditer(filled.source), strict=True)
        complaints += [
            f"{cell.id}: {found['number']}{found['words']}: the saved run has "
            f"{right['number']}{right['words']}"
            for found, right in (pairs if cell.cell_type == "markdown" else ())
            if found[0] != right[0]
        ]
    return complaints + [
        f"{cell_id}: nobody measured {text}" for cell_id, text in _strays(notebook)
    ]


def _told(found: re.Match[str], live: str) -> str:
    """A live figure in the words of the prose."""
    number = re.match(rf"({_NUMBER}) ?(\w*)", live.lstrip("-"))
    assert number is not None
    text = _rounded(float(number[1].replace(",", "").split()[0]))
    if number[2] in SIZES and (size := re.match(rf"[ \u00a0]?(?:{_SIZE})\b", found["words"])):
        return f"{text} {number[2]}{found['words'][size.end() :]}"
    return f"{text}{found['words']}"


def _rounded(number: float) -> str:
    rounded = float(f"{number:.2g}")
    if number == int(number) and number < 1000:
        rounded = number  # a count
    return f"{rounded:,.0f}" if rounded >= 10 or rounded == int(rounded) else f"{rounded:g}"


def _measured(notebook: NotebookNode) -> dict[tuple[str, str], str]:
    """The live figures of all tables, by cell and row."""
    return {
        (cell.id, label): figure
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for label, figure in output.get("metadata", {}).get("streamlab", {}).items()
    }


# Figures without a comment


def _strays(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    known = _given(notebook)
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for found in FIGURE.finditer(_NO_PROSE.sub(" ", PLACE.sub(" ", cell.source))):
            if not _forms(found["number"], found["unit"]) & known:
                yield cell.id, found[0]


def _given(notebook: NotebookNode) -> set[tuple[float, str]]:
    """All figures that are given or compared: of code, of plain outputs, of the metadata."""
    known: set[tuple[float, str]] = set()
    texts = [*notebook.metadata.get("streamlab", {}).get("given", {})]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts.append(cell.source)
            known |= _sizes_in_code(cell.source)
            texts += [_plain(output) for output in cell.outputs]
    for text in texts:
        for found in FIGURE.finditer(text):
            known |= _forms(found["number"], found["unit"])
        for found in re.finditer(r"you said: (\d[\d,.]*)", text):
            known.discard((float(found[1].replace(",", "")), ""))
    return known


_PRODUCT = re.compile(
    rf"(\d[\d_]*(?:\.\d+)?) \* ({_SIZE})\b|--(cup|stack) (\d+)|\b(\d[\d_]{{3,}})\b"
)


def _sizes_in_code(source: str) -> set[tuple[float, str]]:
    found_sizes: set[tuple[float, str]] = set()
    for found in _PRODUCT.finditer(source):
        if found[1]:
            size = float(found[1].replace("_", "")) * SIZES[found[2]]
        elif found[3]:
            size = float(found[4]) * SIZES["MiB" if found[3] == "cup" else "KiB"]
        else:
            size = float(found[5].replace("_", ""))
        found_sizes.add((size, "size"))
    for unit in SIZES:
        if re.search(rf"\b1 \* {unit}\b|\b{unit}\b", source):
            found_sizes.add((float(SIZES[unit]), "size"))
    return found_sizes


def _plain(output: Any) -> str:
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return (
        str(text).split("you said:")[0]
        if "\n" not in str(text)
        else re.sub(r"you said:.*", "", str(text))
    )


def _forms(number: str, unit: str) -> set[tuple[float, str]]:
    """A figure as it can be compared: a size in bytes, a number of times, and the like."""
    whole, *fraction = number.replace(",", "").split()
    value = float(whole)
    if fraction:
        over, under = fraction[0].split("/")
        value += int(over) / int(under)
    if unit in SIZES:
        return {(value * SIZES[unit], "size")}
    if unit.startswith("of "):
        return {(value, unit.replace(",", ""))}
    names = {"times": "x", "second": "s", "seconds": "s", "percent": "%"}
    return {(value, names.get(unit, unit))}


def main() -> None:
    """Fill the notebooks that the command line names, or all; status 1 if a figure is amiss."""
    paths = [Path(name) for name in sys.argv[1:]] or sorted(Path("notebooks").glob("*.ipynb"))
    amiss = []
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        fill(notebook)
        path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        amiss += [f"{path.name}: {each}" for each in faults(notebook)]
    sys.exit("\n".join(amiss) or None)


if __name__ == "__main__":
    main()
