"""The question of a guess is found by the row that shows the guess."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from streamlab.handout.questions import questions

ROOT = Path(__file__).parents[2]


def test_every_guess_of_the_course_has_its_question() -> None:
    """As many as the chapters count in their scores, each of them one that asks."""
    found = questions(ROOT)
    assert all(
        text.rstrip('."').endswith("?") or '"' in text or " or " in text for text in found.values()
    )
    asked = 0
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        saved = path.read_text(encoding="utf-8")
        number = path.name[:2]
        mark = f"Chapter {number}: "
        asked += int(saved.partition(mark)[2].partition(" of ")[0])
    assert len(found) == asked > 50
    assert found["01", "dies at client"].startswith("What is the number of the client")
    assert found["02", "more of it is held by"].startswith("Which holds more, the server")
    assert not any(mark in text for text in found.values() for mark in ("<!--", "**", "`"))


def notebook(folder: Path, *cells: Mapping[str, object]) -> Path:
    (folder / "notebooks").mkdir(exist_ok=True)
    text = json.dumps({"cells": list(cells)})
    (folder / "notebooks" / "03_some.ipynb").write_text(text, encoding="utf-8")
    return folder


def test_a_cell_that_shows_two_guesses_knows_them_apart(tmp_path: Path) -> None:
    """By the calls of `row`, where their labels stand in them."""
    guess = {"cell_type": "code", "metadata": {"streamlab": {"guess": True}}}
    table = "one     1 x file   you said: 1 x\nnone    2\nother   2 x file   no guess yet"
    table += "\nlast    2   you said: 2"
    shown = {
        "cell_type": "code",
        "metadata": {},
        "source": "%needs linux\n"
        'verdicts(row("one", a, my_one), row("last", c, my_two), row("none", b))',
        "outputs": [{"data": {"text/plain": [table]}}, {"name": "stdout", "text": "x"}],
    }
    course = notebook(
        tmp_path,
        {
            "cell_type": "markdown",
            "source": "**How *many*, of `x`?** No. **Or 3 MiB<!-- a: b -->?**",
        },
        {**guess, "source": "my_one = 1"},
        {"cell_type": "markdown", "source": "**Bold.** And?"},
        {"cell_type": "markdown", "source": "**And two?**"},
        {**guess, "source": ["my_two = 2  # x"]},
        shown,
    )
    assert questions(course) == {
        ("03", "one"): "How many, of x? Or 3 MiB?",
        ("03", "last"): "And two?",
    }


def test_a_chapter_that_can_not_be_read_has_none(tmp_path: Path) -> None:
    assert questions(tmp_path) == {}
    for broken in ("{", "[]", '{"cells": [{}]}', '{"cells": 1}'):
        notebook(tmp_path)
        (tmp_path / "notebooks" / "03_some.ipynb").write_text(broken)
        assert questions(tmp_path) == {}
