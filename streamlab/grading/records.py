"""What a grading run knows of a student: one `Mark`, which gradebook and pages only render."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from streamlab.results import CheckResult

MarkOutcome = Literal["graded", "not_attempted", "missing", "could_not_run", "grader_fault"]
"""`missing`: nothing was handed in. `not_attempted`: the programs are still the stubs.
`could_not_run`: what was handed in can't be read, or did not start for any check.
`grader_fault`: a check itself broke, which is nobody's zero: grade again, or by hand."""


@dataclass(frozen=True)
class Student:
    """One line of the roster."""

    student: str
    """The id that names the student everywhere: in the gradebook, and in file names."""
    name: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    """All columns of the roster by their headings, such as an e-mail address."""


@dataclass(frozen=True)
class Mark:
    """What became of one student's submission."""

    student: str
    name: str
    lab: str
    """The lab's folder name, such as `02_chunked_loop`."""
    points: float
    max_points: float
    outcome: MarkOutcome
    detail: str = ""
    """One line for the instructor: which file was taken, what could not be read, why it stopped."""
    results: tuple[CheckResult, ...] = ()
    """In the order of lab.toml; empty if nothing ran."""
    submission: str = ""
    """SHA-256 of the programs that were graded, in hex; empty if there were none."""
    seconds: float = 0.0
    """How long the checks took."""


def to_lines(mark: Mark, checks: str) -> list[str]:
    """A mark as the lines of `results.jsonl`: one for each check. `checks` is their hash."""
    whose = {"student": mark.student, "submission": mark.submission, "checks": checks}
    return [json.dumps({**whose, **asdict(result)}, ensure_ascii=False) for result in mark.results]


def from_lines(lines: Iterable[str]) -> dict[tuple[str, str, str], list[CheckResult]]:
    """The results in `results.jsonl`, by student, submission and checks; of two the later one.

    A line that an interrupted run left torn is passed over.
    """
    found: dict[tuple[str, str, str], dict[str, CheckResult]] = {}
    for line in lines:
        try:
            fields: dict[str, Any] = json.loads(line)
            key = (fields.pop("student"), fields.pop("submission"), fields.pop("checks"))
            result = CheckResult(**fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        found.setdefault(key, {})[result.check] = result
    return {key: list(results.values()) for key, results in found.items()}
