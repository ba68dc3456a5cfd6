"""What a student has guessed in the chapters: kept by `score`, shown by `streamlab progress`."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streamlab.labs.manifest import MEMORY

MOST_TEXT = 200
"""How many characters of a guess are kept."""


@dataclass(frozen=True)
class Guess:
    """A guess of a chapter, and how it compares with what was measured."""

    label: str
    guess: str
    measured: str
    outcome: str
    """`hit`, `near` (within a factor of 2) or `off`."""
    text: str
    """The same in words: `8 x too small`."""


@dataclass(frozen=True)
class Chapter:
    """The guesses of a chapter: how many were asked for, and those that were made."""

    number: str
    asked: int
    guesses: tuple[Guess, ...]

    def count(self, outcome: str) -> int:
        """How many of the guesses are of an outcome."""
        return sum(each.outcome == outcome for each in self.guesses)

    @property
    def told(self) -> str:
        """A line: `chapter 01: 8 of 10 guesses made: 2 hit, 1 near, 5 off`."""
        counts = ", ".join(f"{self.count(each)} {each}" for each in ("hit", "near", "off"))
        made = len(self.guesses)
        return f"chapter {self.number}: {made} of {self.asked} guesses made: {counts}"


def guesses_file(start: Path | None = None) -> Path | None:
    """Where the guesses are kept that are made here: in the folder, or one above, with `labs/`.

    In a workspace that is the workspace. None where there is no such folder.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "labs").is_dir():
            return folder / MEMORY / "guesses.json"
    return None


def remember_guesses(chapter: str, asked: int, guesses: list[Guess]) -> None:
    """Keep the guesses of a chapter (`"01"`) for `streamlab progress`.

    Where nothing can be written, nothing is kept, and that is no error.
    """
    file = guesses_file()
    if file is None:
        return
    made = [{key: text[:MOST_TEXT] for key, text in asdict(each).items()} for each in guesses]
    content = {**_read(file), chapter: {"asked": asked, "guesses": made}}
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        part = file.with_suffix(".part")
        try:
            part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)


def chapters(folder: Path) -> list[Chapter]:
    """The chapters with guesses, of a workspace or course, by number; none that can't be read."""
    found = []
    for number, kept in sorted(_read(folder / MEMORY / "guesses.json").items()):
        with suppress(KeyError, TypeError, ValueError):
            guesses = tuple(Guess(**each) for each in kept["guesses"])
            found.append(Chapter(number, int(kept["asked"]), guesses))
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
