"""Mend the saved HTML of a notebook's outputs for the web; the notebooks stay as they are.

- The heads of tables get a `scope`, and an empty head becomes an ordinary cell.
- What is pale by `opacity` gets the full colour, which has enough contrast.
- A picture gets the chart's text as its alternative text.
"""

from __future__ import annotations

import re
from typing import Any

from nbformat import NotebookNode

_EMPTY_HEAD = re.compile(r"<th\b([^>]*)>\s*(?:<p>\s*</p>)?\s*</th>")
_HEAD = re.compile(r"<th\b(?![^>]*\bscope=)([^>]*)>")
_OPACITY = re.compile(r";?\s*opacity:\s*[\d.]+(?=[;\"'])")


def with_scopes(html: str) -> str:
    """HTML whose heads of tables have a scope; an empty head becomes a cell."""
    return _HEAD.sub(r'<th scope="col"\1>', _EMPTY_HEAD.sub(r"<td\1></td>", html))


def without_opacity(html: str) -> str:
    """HTML without text that is too pale to be read."""
    return _OPACITY.sub("", html)


def mend(cell: NotebookNode) -> None:
    """Mend the outputs of a cell in place, and give its pictures an alternative text."""
    for output in cell.get("outputs", []):
        data: dict[str, Any] = output.get("data", {})
        if "text/html" in data:
            data["text/html"] = without_opacity(data["text/html"])
        if any(kind.startswith("image/") for kind in data):
            alt = str(data.get("text/plain", "")).strip()
            cell.metadata["mystnb"] = {"image": {"alt": " ".join(alt.split())}}
