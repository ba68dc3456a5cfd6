"""Make a lab from its solution: cut the solution out, keep the stub."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from streamlab.labs.manifest import STUBS, Lab, LabError

# Generating labs from solutions

_MARK = re.compile(r"^\s*# (BEGIN|END) (SOLUTION|STUB)\s*$")


def strip_solution(text: str, file: str) -> str:
    """The text of a program without its solutions, stubs in their place.

    Raises `LabError`, naming `file` and line, for a marker that is unclosed, nested or alone.
    """
    kept: list[str] = []
    inside: list[str] = []

    def wrong(number: int, what: str) -> LabError:
        return LabError(f"{file}, line {number}: {what}")

    number = 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        mark = _MARK.match(line)
        if mark is None:
            if re.search(r"(BEGIN|END) (SOLUTION|STUB)", line):
                raise wrong(number, "a marker stands on a line of its own: # BEGIN SOLUTION")
            if not inside:
                kept.append(line)
            elif inside[-1] == "STUB":
                kept.append(_uncommented(line))
            continue
        edge, what = mark.groups()
        if edge == "BEGIN":
            if what in inside:
                raise wrong(number, f"BEGIN {what} inside a {what}")
            if what == "STUB" and inside != ["SOLUTION"]:
                raise wrong(number, "a STUB stands inside a SOLUTION")
            inside.append(what)
        elif not inside or inside.pop() != what:
            raise wrong(number, f"END {what} without its BEGIN {what}")
    if inside:
        raise wrong(number, f"BEGIN {inside[-1]} is never closed")
    return "".join(kept)


def _uncommented(line: str) -> str:
    return re.sub(r"^(\s*)# ?", r"\1", line) if line.strip() else line


def solution_lines(text: str) -> set[str]:
    """The lines of a program that only its solution has, stripped; none too common to tell."""
    stub = {line.strip() for line in strip_solution(text, "program").splitlines()}
    lines = {line.strip() for line in text.splitlines()}
    return {line for line in lines - stub if len(line) > 15 and not _MARK.match(line)}


def generate(solution: Path, target: Path) -> None:
    """Write the lab of `solutions/NN_name` into the folder `target`, replacing what is there.

    What a student keeps beside it in `.streamlab` stays. Raises `LabError` for bad markers.
    """
    lab = Lab(solution)
    files: dict[str, str] = {}
    for file in _files_of(solution):
        name = file.relative_to(solution).as_posix()
        text = file.read_text(encoding="utf-8")
        if name in lab.programs:
            text = strip_solution(text, f"{lab.name}/{name}")
            files[f"{STUBS}/{name}"] = text
        files[name] = text
    target.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target / STUBS, ignore_errors=True)
    for old in _files_of(target):
        if old.relative_to(target).as_posix() not in files:
            old.unlink()
    for name, text in files.items():
        if name.endswith(".ipynb") and (target / name).is_file():
            text = _with_outputs_of(text, (target / name).read_text(encoding="utf-8"))
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")


def texts_of(folder: Path) -> dict[str, str]:
    """The texts of a generated lab by name, its stubs included; nothing that a student keeps."""
    files = [*_files_of(folder), *_files_of(folder / STUBS)]
    return {file.relative_to(folder).as_posix(): file.read_text("utf-8") for file in files}


def differences(generated: Mapping[str, str], kept: Mapping[str, str]) -> list[str]:
    """Where two versions of a lab differ; of a notebook, its cells but not their outputs count."""
    found = [f"{name}: only in one of them" for name in sorted(generated.keys() ^ kept.keys())]
    for name in sorted(generated.keys() & kept.keys()):
        one, other = generated[name], kept[name]
        if name.endswith(".ipynb"):
            one, other = (_without_outputs(text) for text in (one, other))
        if one != other:
            found.append(f"{name}: differs")
    return found


def _without_outputs(text: str) -> str:
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        cell.pop("outputs", None)
        cell.pop("execution_count", None)
    return json.dumps(notebook, sort_keys=True)


def _files_of(folder: Path) -> list[Path]:
    """A lab's files, those in its folders too; nothing hidden, nothing that Python left."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and not any(
            part.startswith(".") or part == "__pycache__" for part in file.relative_to(folder).parts
        )
    )


def _with_outputs_of(new: str, old: str) -> str:
    """A notebook's new cells with the outputs that the old one had saved for the same cells."""
    notebook = json.loads(new)
    saved = {cell["id"]: cell for cell in json.loads(old)["cells"] if cell["cell_type"] == "code"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and cell["id"] in saved:
            cell["outputs"] = copy.deepcopy(saved[cell["id"]]["outputs"])
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
