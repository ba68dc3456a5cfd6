"""Take Mermaid, which draws the diagrams, out of the installed JupyterLab: a site without a CDN.

JupyterLab ships Mermaid in pieces ("chunks"), which its own loader joins. This module finds the
pieces that Mermaid needs, and `static/diagrams.js` joins them in the browser. A page loads only
those of the diagrams on it. What JupyterLab looks like inside may change with any version: then
`find` returns None, and the site shows each diagram as text.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

STATIC = Path(sys.prefix) / "share" / "jupyter" / "lab" / "static"
LICENCES = "third-party-licenses.json"

_PIECE = re.compile(r"(\d+)\.[0-9a-f]+\.js")
_CHUNKS = re.compile(r"\.e\((\d+)\)")
_ENTRY = re.compile(
    r"\.version;[^;]{0,20}?=\(await Promise\.all\(\[((?:\w+\.e\(\d+\),?)+)\]\)"
    r"\.then\(\w+\.bind\(\w+,(\d+)\)\)\)\.default"
)
"""Where JupyterLab loads Mermaid: its chunks, and the number of its module."""


@dataclass(frozen=True)
class Mermaid:
    """The pieces of Mermaid: their files by number, and how to begin."""

    files: dict[str, Path]
    chunks: list[str]
    module: str
    shared: dict[str, tuple[str, list[str], str]]
    """Modules that come from elsewhere: the chunk that asks, the chunks to load, the module."""

    def copy(self, folder: Path) -> None:
        """Write the pieces into a folder, with `pieces.js`, which tells the loader of them."""
        folder.mkdir(parents=True, exist_ok=True)
        for file in self.files.values():
            shutil.copy(file, folder)
        if (licences := STATIC / LICENCES).is_file():
            shutil.copy(licences, folder)
        told = {
            "files": {number: file.name for number, file in self.files.items()},
            "chunks": self.chunks,
            "module": self.module,
            "shared": self.shared,
        }
        (folder / "pieces.js").write_text(f"window.mermaidPieces = {json.dumps(told)};\n")


def find(static: Path = STATIC) -> Mermaid | None:
    """The pieces in the static files of JupyterLab; None if they are not there as expected."""
    pieces = {
        match[1]: file for file in static.glob("*.js") if (match := _PIECE.fullmatch(file.name))
    }
    core = "".join(file.read_text() for file in sorted(static.glob("jlab_core.*.js")))
    main = "".join(file.read_text() for file in sorted(static.glob("main.*.js")))
    entry = _ENTRY.search(core)
    if entry is None:
        return None
    first = _CHUNKS.findall(entry[1])
    files: dict[str, Path] = {}
    shared: dict[str, tuple[str, list[str], str]] = {}
    todo, seen = list(first), set()
    while todo:
        chunk = todo.pop()
        if chunk in seen:
            continue
        seen.add(chunk)
        for module in _consumed(main, chunk):
            source = _fallback(main, module)
            if source is None:
                return None
            shared[module] = (chunk, *source)
            todo += source[0]
        if chunk in pieces:
            files[chunk] = pieces[chunk]
            todo += _CHUNKS.findall(pieces[chunk].read_text())
        elif chunk not in {asking for asking, _, _ in shared.values()}:
            return None
    return Mermaid(files, first, entry[2], shared)


def _consumed(main: str, chunk: str) -> list[str]:
    """The modules that a chunk takes from JupyterLab's shared ones."""
    found = re.search(rf'[{{,]{chunk}:\[((?:"\d+",?)+)\]', main)
    return re.findall(r"\d+", found[1]) if found else []


def _fallback(main: str, module: str) -> tuple[list[str], str] | None:
    """The chunks and the module that stand behind a shared module."""
    found = re.search(
        rf"[{{,]{module}:{{shareScope:[^}}]*?fallback:\(\)=>(.*?)"
        r"\.then\(\(\)=>\(\)=>__webpack_require__\((\d+)\)\)",
        main,
    )
    return (_CHUNKS.findall(found[1]), found[2]) if found else None
