"""What a grading run knows of a student: one `Mark`, which gradebook and pages only render."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from streamlab.labs.results import CheckResult

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
class Lateness:
    """When a student handed in, measured by the deadline, and what that costs."""

    due: str
    """With its zone, and a word where that is this machine's."""
    rule: str
    """What is taken off, in words."""
    handed_in: str = ""
    """With its zone; empty where nothing says it."""
    handed_in_from: str = ""
    """What says when it was handed in."""
    days: int | None = None
    """How many days have begun since the deadline; None where that is not known."""
    penalty: float = 0.0
    """The points that are taken off."""
    points_before: float = 0.0
    """The points without that."""
    unknown: str = ""
    """Why `days` is not known, where something was handed in."""


@dataclass(frozen=True)
class Correction:
    """Points that an instructor gave by hand."""

    check: str
    """Empty for the whole lab."""
    before: float | None
    """The points without it; None where there were none to enter."""
    points: float
    reason: str


@dataclass(frozen=True)
class Comment:
    """What an instructor wrote to a student, or to all who have a cause."""

    text: str
    check: str = ""
    cause: str = ""


@dataclass(frozen=True)
class Mark:
    """What became of one student's submission."""

    student: str
    name: str
    lab: str
    """The lab's folder name, such as `02_chunked_loop`."""
    points: float
    """What is entered: late days are taken off."""
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
    late: Lateness | None = None
    """Set where the class was graded with a deadline."""
    by_hand: tuple[Correction, ...] = ()
    """Points that were given by hand; they are in `points` and `results` already."""
    comments: tuple[Comment, ...] = ()


def outcome_of(results: Sequence[CheckResult]) -> MarkOutcome:
    """What became of a submission whose checks came to these results."""
    outcomes = {result.outcome for result in results}
    if "grader_fault" in outcomes:
        return "grader_fault"
    if outcomes == {"not_attempted"}:
        return "not_attempted"
    if outcomes <= {"could_not_run", "not_attempted"}:
        return "could_not_run"
    return "graded"


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
        (stored.alone.add if alone else stored.alone.discard)(result.check)
    return found


def marks_as_json(
    marks: Iterable[Mark], students: Iterable[Student], checked: Iterable[Mark] = ()
) -> str:
    """All marks and the roster, as `marks.json` keeps them for an export.

    `checked` are the marks as the checks alone gave them, for when a part is graded again.
    """
    everything = {
        "marks": [asdict(mark) for mark in marks],
        "checked": [asdict(mark) for mark in checked],
        "roster": [asdict(s) for s in students],
    }
    return json.dumps(everything, ensure_ascii=False, indent=1) + "\n"


def marks_from_json(text: str) -> tuple[list[Mark], list[Student]]:
    """The marks and the roster that `marks_as_json` wrote; `ValueError` or `TypeError` if not."""
    everything = json.loads(text)
    marks = [_mark(fields) for fields in everything["marks"]]
    return marks, [Student(**fields) for fields in everything["roster"]]


def checked_from_json(text: str) -> list[Mark]:
    """The marks as the checks alone gave them; raises as `marks_from_json` does."""
    everything = json.loads(text)
    return [_mark(fields) for fields in everything.get("checked") or everything["marks"]]


def _mark(fields: dict[str, Any]) -> Mark:
    late = fields.get("late")
    results = tuple(CheckResult(**each) for each in fields["results"])
    parts = {
        "results": results,
        "late": late and Lateness(**late),
        "by_hand": tuple(Correction(**each) for each in fields.get("by_hand", ())),
        "comments": tuple(Comment(**each) for each in fields.get("comments", ())),
    }
    return Mark(**{**fields, **parts})
