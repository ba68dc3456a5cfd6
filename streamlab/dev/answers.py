"""The wrong and right answers of a lab, which its checks must tell apart.

`tests/corpora/NN_name/wrong/STEM__mistake.py` replaces the lab's program STEM.py. Its first line is
`# KIND promise: the mistake`: KIND is the kind of check that must catch it, and `promise` the id in
the lab's contract.toml of what it breaks. If random inputs decide which of several failures comes
first, it names all these promises (`# KIND one or another: ...`). The answers in `right/` are
unusual but correct; their first line says what is unusual. Those in `wrong/more/` and `right/more/`
resemble others, and only `make soak` runs them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

CORPORA = Path("tests", "corpora")
"""The folder of the answers, below the course's folder."""
FIRST_LINE = re.compile(r"# ([A-Z]+)(?: ([a-z0-9-]+(?: or [a-z0-9-]+)*))?: \S.*")
"""The first line of a wrong answer."""


def answers(course: Path, lab: str, which: Literal["wrong", "right"]) -> list[Path]:
    """The answers of the lab with that name, those in `more/` at the end."""
    folder = course / CORPORA / lab / which
    return [*sorted(folder.glob("*__*.py")), *sorted(folder.glob("more/*__*.py"))]


def kind_of(answer: Path) -> str:
    """The kind of check that must catch a wrong answer; empty if its first line says none."""
    found = FIRST_LINE.fullmatch(first_line(answer))
    return found[1] if found else ""


def promises_of(answer: Path) -> set[str]:
    """The ids of the promises of which a wrong answer breaks one; empty if it names none."""
    found = FIRST_LINE.fullmatch(first_line(answer))
    return set(found[2].split(" or ")) if found and found[2] else set()


def program_of(answer: Path) -> str:
    """The program that an answer replaces."""
    return answer.stem.partition("__")[0] + ".py"


def first_line(answer: Path) -> str:
    """The first line of an answer, without its end."""
    with answer.open(encoding="utf-8") as file:
        return file.readline().rstrip("\n")
