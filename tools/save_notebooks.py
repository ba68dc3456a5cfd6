"""Run notebooks from top to bottom and save them with their outputs, normalised.

    python tools/save_notebooks.py [NOTEBOOK ...]     (default: all)

Normalised: cell ids stay, and nothing of the run's time or of this machine is kept, so a diff shows
what changed. A cell that raises, or a machine path in an output, stops the run and saves nothing.
Figures in the prose are filled from the run (`streamlab/dev/figures.py`).
The README's picture is written again with the notebook that it comes from.
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

from streamlab.dev.figures import fill

HERE = Path(__file__).resolve().parent.parent
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
PICTURES = {("02_chunked_loop.ipynb", "flat-chart"): HERE / "docs" / "flat-chart.png"}
"""Cells whose chart is also a file: notebook and cell id, and the file."""

OF_A_MACHINE = re.compile(
    r"/(?:home|root|tmp|work|Users|private|var|mnt|opt)/\S*"  # a path
    r"|\b[A-Za-z]:\\+\w\S*"
    r"|\b(?:127\.0\.0\.1|localhost):\d+"  # a port
    r"|\bat 0x[0-9a-f]{6,}"  # an address
)
"""What no output may name, because it differs from machine to machine."""


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
    if amiss := fill(notebook):
        sys.exit(f"{path.name}: {amiss[0]}")
    if found := OF_A_MACHINE.search(outputs_text(notebook)):
        sys.exit(f"{path.name}: an output names what is of this machine alone: {found[0]}")
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    for (name, cell_id), picture in PICTURES.items():
        if name == path.name:
            picture.write_bytes(picture_of(notebook, cell_id))


def normalise(notebook: NotebookNode) -> None:
    """Remove what differs from machine to machine or from run to run without a meaning."""
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
