"""What became of a check: one record, which terminal, notebook, pytest and gradebook render."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

VERSION = 8
"""Of the checks: raised whenever a check changes what it gives points for."""

Outcome = Literal["passed", "failed", "not_attempted", "could_not_run", "grader_fault"]
"""`not_attempted`: the program is still the stub. `could_not_run`: it did not start, or ended.
`grader_fault`: the check itself broke, which is nobody's zero."""


@dataclass(frozen=True)
class CheckResult:
    """What became of one check of one program."""

    lab: str
    """The lab's folder name, such as `02_chunked_loop`."""
    check: str
    """The check's id within the lab, such as `huge`."""
    kind: str
    """The kind of check, such as `HUGE`."""
    points: float
    max_points: float
    outcome: Outcome
    cause: str = ""
    """The misconception, by its name in lab.toml; empty if none is known."""
    evidence: str = ""
    """What was done and what came back, several lines of plain text."""
    curl: str = ""
    """A command that does the same by hand; empty where there is none."""
    seed: int = 0
    """Gives the same sizes, names and bytes again."""
    seconds: float = 0.0
    promise: str = ""
    """The promise of the lab's text that was broken, by its id in contract.toml."""
    probed: tuple[str, ...] = ()
    """The promises that the check put to the test, by their ids, in that order."""
    late: bool = False
    """Whether a lack of time, or of what programs share, may be why it is no better: it could not
    run, it failed, or the grader is at fault."""
    checks_version: int = VERSION

    def __post_init__(self) -> None:
        # JSON knows no tuples: a record that was read is equal to the one that was written.
        object.__setattr__(self, "probed", tuple(self.probed))

    def to_json(self) -> str:
        """The record as one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> CheckResult:
        """The record that `to_json` made a line of."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Step:
    """What a check does at the moment: the promise that it tests, and what it waits for."""

    check: str
    promise: str = ""
    """The promise's id in contract.toml; empty between promises."""
    waits: str = ""
    """Such as `until the server has nothing to do`; empty while it waits for nothing."""

    def to_json(self) -> str:
        """The step as one line, which no result looks like."""
        return json.dumps({"step": asdict(self)}, ensure_ascii=False)


def is_step(line: str) -> bool:
    """Whether a line of a run's results is a step."""
    return line.startswith('{"step": ')


def from_line(line: str) -> CheckResult | Step:
    """What a line of a run's results says."""
    return Step(**json.loads(line)["step"]) if is_step(line) else CheckResult.from_json(line)


def schema() -> dict[str, Any]:
    """The JSON schema of a record."""
    number, text = {"type": "number", "minimum": 0}, {"type": "string"}
    outcomes = ["passed", "failed", "not_attempted", "could_not_run", "grader_fault"]
    fields = {
        "lab": text,
        "check": text,
        "kind": text,
        "points": number,
        "max_points": number,
        "outcome": {"enum": outcomes},
        "cause": text,
        "promise": text,
        "evidence": text,
        "curl": text,
        "seed": {"type": "integer"},
        "seconds": number,
        "probed": {"type": "array", "items": text},
        "late": {"type": "boolean"},
        "checks_version": {"type": "integer"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }
