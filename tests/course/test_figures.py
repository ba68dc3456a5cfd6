"""Figures in the prose come from the saved run, in the words around them."""

from __future__ import annotations

import pytest
from nbformat import NotebookNode, v4

from streamlab.dev.figures import faults, fill

ROW = "<!-- run: load-all: waits -->"


def notebook(prose: str, live: str = "51.3 x", code: str = "", shown: str = "") -> NotebookNode:
    """A notebook of a text, and of a measurement whose row has that live figure."""
    metadata = {"streamlab": {"load-all: waits": live}}
    output = v4.new_output("execute_result", {"text/plain": shown}, metadata=metadata)
    cell = v4.new_code_cell(code, id="run", outputs=[output])
    cells = [v4.new_markdown_cell(prose, id="prose"), cell]
    node: NotebookNode = v4.new_notebook(cells=cells)
    return node


@pytest.mark.parametrize(
    ("before", "live", "after"),
    [
        (f"It took 3 times{ROW} as long.", "51.3 x", f"It took 51 times{ROW} as long."),
        (f"It took 3 times as long{ROW}.", "0.774 x", f"It took 0.77 times as long{ROW}."),
        (f"It took 3 times{ROW} as long.", "10,700 x", f"It took 11,000 times{ROW} as long."),
        (f"It held 7 KiB{ROW}.", "4.06 MiB", f"It held 4.1 MiB{ROW}."),
        (
            f"It held 7 KiB each{ROW}.",
            "103 KiB",
            f"It held 103 KiB each{ROW}.",
        ),
        (f"It held 2 x{ROW} the file.", "4.8 x", f"It held 4.8 x{ROW} the file."),
        (f"It saw 9 of 20{ROW}.", "2 of 20", f"It saw 2 of 20{ROW}."),
        (f"With 64 KiB it gave 3 answers{ROW}.", "253", f"With 64 KiB it gave 253 answers{ROW}."),
        (f"It gave 3 answers{ROW}.", "1,616 answers", f"It gave 1,600 answers{ROW}."),
        (f"**3 x**{ROW} the file", "4.8 x", f"**4.8 x**{ROW} the file"),
        (
            f"It took 3 times{ROW}, and 4 times{ROW}.",
            "5 x",
            f"It took 5 times{ROW}, and 5 times{ROW}.",
        ),
    ],
)
def test_a_figure_is_filled(before: str, live: str, after: str) -> None:
    """The number is the row's, with two digits that count; a size has its unit."""
    node = notebook(before, live)
    assert fill(node) == []
    assert node.cells[0].source == after
    assert fill(node) == [] and node.cells[0].source == after, "once more changes nothing"


@pytest.mark.parametrize(
    ("prose", "code", "shown"),
    [
        ("It waited for 51 times as long.", "", ""),
        ("It held 4.1 MiB.", "4 * MiB", "below 4 MiB"),
        ("**51 x** the file", "", "51 y"),
        ("It took 1.5 s.", "", "1.4 s"),
        ("It saw 3 of 20.", "", "2 of 20"),
        ("It added 0.2 %.", "", "0.1 %"),
        ("It said 9 times.", "", "a   5 x   you said: 9 x"),
        ("It said 9 times.", "", "a   5 x   you said: 9 x\nb   6 x"),
    ],
)
def test_a_figure_that_nobody_measured_is_found(prose: str, code: str, shown: str) -> None:
    assert len(faults(notebook(prose, code=code, shown=shown))) == 1


@pytest.mark.parametrize(
    ("prose", "code", "shown"),
    [
        ("A chunk of 64 KiB, in a cup of 256 MiB.", "%%server a --cup 256\nCHUNK = 65536", ""),
        ("A file of 64 MiB, which is 67,108,864 bytes.", "random_file(64 * MiB)", ""),
        ("It holds 3 2/3 times the file, and 0 of 10 are intact.", "", "3 2/3 x file\n0 of 10"),
        ("In code, `51 times`, and ```\n51 times\n``` too. HTTP/1.1 404. Chapter 51.", "", ""),
        ("It took one minute, and in 2026 about 25 minutes.", "", ""),
    ],
)
def test_what_is_given_or_compared_needs_no_row(prose: str, code: str, shown: str) -> None:
    assert faults(notebook(prose, code=code, shown=shown)) == []


def test_a_notebook_says_what_is_given() -> None:
    node = notebook("That makes 13 MB.")
    assert faults(node) == ["prose: nobody measured 13 MB"]
    node.metadata["streamlab"] = {"given": {"13 MB": "200 x 64 KiB"}}
    assert faults(node) == []
