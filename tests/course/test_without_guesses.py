"""Chapters of the workspace, run without any guess."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from notebook_rules import ROOT

from streamlab.handout.guesses import is_guess
from streamlab.handout.workspace import lay_out


@pytest.mark.needs("linux")
@pytest.mark.parametrize("chapter", ["00_start_here", "01_load_all_bug"])
def test_a_chapter_runs_without_guesses(tmp_path: Path, chapter: str) -> None:
    """No cell raises (`execute` would), and each table says where a guess is missing."""
    lay_out(ROOT, tmp_path / "workspace")
    path = tmp_path / "workspace" / "notebooks" / f"{chapter}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    asked = sum(cell.source.count("= ...") + cell.source.count(": ...") for cell in notebook.cells)
    assert asked and any(is_guess(cell) for cell in notebook.cells)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = json.dumps([cell.outputs for cell in code])
    tables = [
        output.data["text/plain"]
        for cell in code
        for output in cell.outputs
        if "text/html" in output.get("data", {})
    ]
    assert "\n".join(tables).count("no guess yet") == asked
    assert tables[-1] == f"Chapter {chapter[:2]}: 0 of {asked} guesses made"
    assert "you said:" not in shown and "llipsis" not in shown
    assert all(cell.execution_count for cell in code)
