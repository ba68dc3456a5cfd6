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


@dataclass(frozen=True)
class Key:
    """What a stored result speaks of: the same key gives the same result again."""

    student: str
    submission: str
    """SHA-256 of the programs."""
    checks: str
    """SHA-256 of the checks that they were given."""


def to_line(key: Key, result: CheckResult, alone: bool = False) -> str:
    """A result as one line of `results.jsonl`; `alone`: it was run again, with nothing beside."""
    return json.dumps({**asdict(key), "alone": alone, **asdict(result)}, ensure_ascii=False)


@dataclass
class Stored:
    """The results of one submission, by check; of two lines of a check the later one counts."""

    results: dict[str, CheckResult] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)
    """The checks that were run again with nothing beside."""


def from_lines(lines: Iterable[str]) -> dict[Key, Stored]:
    """What `results.jsonl` says. A line that an interrupted run left torn is passed over."""
    found: dict[Key, Stored] = {}
    for line in lines:
        try:
            fields: dict[str, Any] = json.loads(line)
            key = Key(**{name: fields.pop(name) for name in ("student", "submission", "checks")})
            alone = fields.pop("alone")
            result = CheckResult(**fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        stored = found.setdefault(key, Stored())
        stored.results[result.check] = result
        if alone:
            stored.alone.add(result.check)
    return found


def marks_as_json(marks: Iterable[Mark], students: Iterable[Student]) -> str:
    """All marks and the roster, as `marks.json` keeps them for an export."""
    everything = {
        "marks": [asdict(mark) for mark in marks],
        "roster": [asdict(s) for s in students],
    }
    return json.dumps(everything, ensure_ascii=False, indent=1) + "\n"


def marks_from_json(text: str) -> tuple[list[Mark], list[Student]]:
    """The marks and the roster that `marks_as_json` wrote; `ValueError` or `TypeError` if not."""
    everything = json.loads(text)
    marks = [
        Mark(**{**fields, "results": tuple(CheckResult(**each) for each in fields["results"])})
        for fields in everything["marks"]
    ]
    return marks, [Student(**fields) for fields in everything["roster"]]
