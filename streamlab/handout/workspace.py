"""The workspace: a student's own copy of chapters and labs; later versions only add to it.

A hash of each file that was written there is kept. A file that is still as it was written is
updated. If the student has changed a file, the new version is written beside it. Nothing that the
student wrote is overwritten, and nothing is deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path, PurePosixPath

from streamlab.files import reason_of
from streamlab.handout.guesses import HandoutError
from streamlab.handout.tree import known_files, tree
from streamlab.labs.manifest import LAID


def lay_out(course: Path, folder: Path) -> list[str]:
    """Write the files of a course into the workspace `folder`; returns the messages about it.

    Makes the folder if it does not exist. Raises `HandoutError` if it can't be written.
    """
    content = tree(course, known_files(course))
    if not content:
        raise HandoutError(f"{course} has no chapters and no labs")
    is_new = not folder.exists()
    laid = _laid_in(folder)
    said: list[str] = []
    updated = 0
    try:
        try:
            for name, new in content.items():
                now, old, digest = (
                    _digest_on_disk(folder, name),
                    laid.get(name),
                    digest_of(name, new),
                )
                if now is None or now in (old, digest):
                    if now != digest:
                        _write(folder / name, new)
                        updated += now is not None
                elif old != digest:
                    said.append(_said_of(name, _lay_beside(folder, name, new, laid)))
                laid[name] = digest
        finally:
            _remember(folder, laid)
    except OSError as error:
        raise HandoutError(f"{folder} can't be written: {reason_of(error)}") from error
    if is_new:
        said.insert(0, f"{folder.name}/ is yours: chapters and labs to work in.")
    elif updated:
        files = "1 file" if updated == 1 else f"{updated} files"
        said.insert(0, f"{folder.name}/: new versions of what you had not changed: {files}.")
    return said


def _said_of(name: str, beside: str) -> str:
    return f"{name}: you have changed it, and it stays. The new version lies beside it: {beside}"


def digest_of(name: str, content: bytes) -> str:
    """A hash of the content of a file; of a notebook, of its cells and their outputs.

    JupyterLab writes its own metadata into a notebook when it is only opened.
    """
    if name.endswith(".ipynb"):
        try:
            notebook = json.loads(content)
            parts = [notebook["metadata"].get("streamlab")]
            for cell in notebook["cells"]:
                ours = cell["metadata"].get("streamlab")
                source = "".join(cell["source"])
                parts.append([cell["cell_type"], ours, source, cell.get("outputs")])
            content = json.dumps(parts, sort_keys=True).encode()
        except (ValueError, KeyError, TypeError, AttributeError):  # it is no notebook
            pass
    return hashlib.sha256(content).hexdigest()


def name_beside(name: str, number: int = 1) -> str:
    """The name of a new version beside a file: `01.new.ipynb`; of another file `server.py.new`.

    A program loses its ending: otherwise pytest would take a new `test_lab.py` for another test.
    """
    new = ".new" if number == 1 else f".new{number}"
    if name.endswith(".ipynb"):
        return f"{name.removesuffix('.ipynb')}{new}.ipynb"
    return f"{name}{new}"


def _lay_beside(folder: Path, name: str, content: bytes, laid: dict[str, str]) -> str:
    """Write a new version beside a file, under a name that the student has not used.

    Returns that name, without its folder.
    """
    number, digest = 1, digest_of(name, content)
    while (now := _digest_on_disk(folder, name_beside(name, number))) is not None:
        if now in (digest, laid.get(name_beside(name, number))):
            break
        number += 1
    beside = name_beside(name, number)
    if now != digest:
        _write(folder / beside, content)
    laid[beside] = digest
    return PurePosixPath(beside).name


def _digest_on_disk(folder: Path, name: str) -> str | None:
    """The hash of a file in the workspace; None if there is none."""
    file = folder / name
    if not os.path.lexists(file):
        return None
    if not file.is_file():
        return "no file"
    return digest_of(name, file.read_bytes())


def _write(target: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=".part-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(part, 0o644)
        os.replace(part, target)
    finally:
        Path(part).unlink(missing_ok=True)


def _laid_in(folder: Path) -> dict[str, str]:
    """The hashes of the files that were written into a workspace, by name; empty if unreadable.

    Then every file that differs from the new version counts as changed.
    """
    try:
        files = json.loads((folder / LAID).read_text(encoding="utf-8"))["files"]
        return {str(name): str(digest) for name, digest in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remember(folder: Path, laid: dict[str, str]) -> None:
    text = json.dumps({"files": dict(sorted(laid.items()))}, indent=1) + "\n"
    _write(folder / LAID, text.encode())
