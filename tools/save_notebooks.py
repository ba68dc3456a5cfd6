"""Run notebooks from top to bottom and save them with their outputs, normalised.

    python tools/save_notebooks.py [NOTEBOOK ...]     (default: all)

Normalised: cell ids stay, nothing of the run's time or of this machine is kept, so a diff shows
what changed. A cell that raises, or a machine path in an output, stops the run and saves nothing.
The README's picture is written anew with the notebook that it comes from.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent.parent
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
PICTURES = {("02_chunked_loop.ipynb", "flat-chart"): HERE / "docs" / "flat-chart.png"}
"""Cells whose chart stands elsewhere too: notebook and cell id, and the file."""

_MACHINE_PATH = re.compile(r"(/(?:home|root|tmp|work|Users)/\S*|[A-Z]:\\\\\S*)")


def main() -> None:
    """Save the notebooks that the command line names, or all."""
    named = [Path(name) for name in sys.argv[1:]]
    for path in named or sorted((HERE / "notebooks").glob("*.ipynb")):
        began = time.monotonic()
        save(path)
        print(f"{path.name:<32} {time.monotonic() - began:5.1f} s", flush=True)


def save(path: Path) -> None:
    """Run one notebook in its own folder and write it back."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        coalesce_streams=True,
        store_widget_state=False,
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    normalise(notebook)
    if found := _MACHINE_PATH.search(outputs_text(notebook)):
        sys.exit(f"{path.name}: an output names a path of this machine: {found[0]}")
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    for (name, cell_id), picture in PICTURES.items():
        if name == path.name:
            picture.write_bytes(picture_of(notebook, cell_id))


def normalise(notebook: NotebookNode) -> None:
    """Drop what differs from machine to machine and from run to run without meaning anything."""
    kept = {key: notebook.metadata[key] for key in ("streamlab",) if key in notebook.metadata}
    notebook.metadata = NotebookNode(kernelspec=KERNEL, language_info={"name": "python"}, **kept)
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.metadata.pop("execution", None)
        cell.metadata.pop("collapsed", None)
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number


def picture_of(notebook: NotebookNode, cell_id: str) -> bytes:
    """The PNG that a cell shows."""
    [cell] = [cell for cell in notebook.cells if cell.id == cell_id]
    return base64.b64decode(cell.outputs[-1].data["image/png"])


def outputs_text(notebook: NotebookNode) -> str:
    """All outputs as one text, without pictures."""
    parts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
            parts.append(json.dumps([output.get("text", ""), data, output.get("traceback", "")]))
    return "\n".join(parts)


if __name__ == "__main__":
    main()
