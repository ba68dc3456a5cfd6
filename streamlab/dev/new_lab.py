"""Begin a lab: a small, complete one, to be changed step by step."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from streamlab.dev.answers import CORPORA
from streamlab.dev.draft import HINTS, Draft
from streamlab.labs.generate import generate
from streamlab.labs.manifest import LabError

FILES = {
    "lab.ipynb": "solutions/{lab}/lab.ipynb",
    "lab.toml": "solutions/{lab}/lab.toml",
    "contract.toml": "solutions/{lab}/contract.toml",
    "server.py": "solutions/{lab}/server.py",
    "test_lab.py": "solutions/{lab}/test_lab.py",
    "hints.toml": f"{HINTS.as_posix()}/{{lab}}.toml",
    "wrong.py": f"{CORPORA.as_posix()}/{{lab}}/wrong/server__last_chunk_lost.py",
    "right.py": f"{CORPORA.as_posix()}/{{lab}}/right/server__one_buffer.py",
}
"""The templates, and the path in the course's folder of the file that each becomes."""


def new_lab(course: Path, number: str, name: str) -> list[Path]:
    """Write the files of a new lab into a clone of the course; returns their relative paths.

    `number` has one or two digits; `name` has lower-case letters, digits and underscores. Raises
    `LabError` for any other, and if a lab of that number or one of the files exists: then nothing
    is written.
    """
    if not re.fullmatch(r"[0-9]{1,2}", number):
        raise LabError(f"{number!r} is no number of a lab: it has one or two digits, such as 10")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise LabError(
            f"{name!r} is no name of a lab: take lower-case letters, digits and underscores"
        )
    lab = f"{number.zfill(2)}_{name}"
    for folder in ("solutions", "labs"):
        if others := sorted((course / folder).glob(f"{number.zfill(2)}_*")):
            raise LabError(f"{folder}/{others[0].name} is there already: take another number")
    targets = {each: course / place.format(lab=lab) for each, place in FILES.items()}
    for target in targets.values():
        if target.exists():
            raise LabError(f"{target.relative_to(course)} is there already: remove it first")
    templates = Environment(
        loader=PackageLoader("streamlab.dev", "template"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    title = name.replace("_", " ").capitalize()
    for each, target in targets.items():
        text = templates.get_template(f"{each}.jinja").render(number=lab[:2], lab=lab, title=title)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    generated = course / "labs" / lab
    generate(Draft(course, lab).lab.folder, generated)
    return [*(target.relative_to(course) for target in targets.values()), Path("labs", lab)]
