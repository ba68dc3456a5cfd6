"""The glossary: sorted, each word in the chapter that it names, each with a source."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
ENTRY = re.compile(r"\*\*([^*]+)\.\*\* (.+)")
CHAPTER = re.compile(r"\(\.\./(notebooks/[^)]+\.ipynb)\)")
OWN = {"Chunk", "Join trap", "Load-all", "Threshold", "Time to first byte"}
"""Words that this course coined, or that need no source."""
OTHER_WORDS = {
    "Race (TOCTOU)": "TOCTOU",
    "Receive buffer, send buffer": "send buffer",
    "Entity tag (ETag)": "ETag",
    "Memory map (mmap)": "mmap",
    "Nagle's algorithm": "Nagle",
    "Chunked coding": "chunked",
    "Hop-by-hop header": "hop-by-hop",
    "Time to first byte": "first byte",
}
"""The word in the chapter, if it differs from the entry's."""


def entries(text: str) -> dict[str, str]:
    """The entries of a glossary: word and explanation."""
    return {found[1]: found[2] for line in text.splitlines() if (found := ENTRY.fullmatch(line))}


def problems(text: str) -> list[str]:
    """What is wrong with a glossary, a line each."""
    known = entries(text)
    words = [word.removeprefix("The ").casefold() for word in known]
    found = [f"{word} is out of order" for word in sorted_wrongly(words)]
    for word, explanation in known.items():
        chapters = CHAPTER.findall(explanation)
        if not chapters:
            found.append(f"{word} names no chapter")
        looked_for = OTHER_WORDS.get(word, word).casefold()
        found += [
            f"{word} is not in {chapter}"
            for chapter in chapters
            if looked_for not in prose(ROOT / chapter).casefold()
        ]
        if "](https://" not in explanation and word not in OWN:
            found.append(f"{word} has no source")
    return found


def sorted_wrongly(words: list[str]) -> list[str]:
    """The words that come after one that belongs behind them."""
    return [word for before, word in pairwise(words) if word < before]


def prose(notebook: Path) -> str:
    """The text of a notebook's cells, without outputs."""
    cells = json.loads(notebook.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells)


def test_the_glossary_is_in_order_and_its_chapters_have_the_words() -> None:
    text = GLOSSARY.read_text()
    assert len(entries(text)) >= 40
    assert problems(text) == []


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("**Aardvark.** An animal. Chapter [00](../notebooks/00_start_here.ipynb).", "is not in"),
        ("**Aardvark.** An animal.", "names no chapter"),
        ("**Aardvark.** An animal.", "has no source"),
    ],
)
def test_a_wrong_entry_is_found(entry: str, problem: str) -> None:
    assert any(problem in line for line in problems(entry))


def test_a_wrong_order_is_found() -> None:
    lines = [line for line in GLOSSARY.read_text().splitlines() if ENTRY.fullmatch(line)]
    assert any("out of order" in line for line in problems("\n".join(reversed(lines))))
