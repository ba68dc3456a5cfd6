"""What a student has reached: the last results of each lab, the next hint, a new start."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path

from streamlab.labs.manifest import MEMORY, STUBS, Lab, LabError
from streamlab.labs.results import CheckResult

# What a lab remembers for its student


def results_file(lab: Lab) -> Path:
    """Where the results of the last run of all checks are kept."""
    return lab.folder / MEMORY / "results.jsonl"


def latest_file(lab: Lab) -> Path:
    """Where the last result of each check is kept; those of the last run come first."""
    return lab.folder / MEMORY / "latest.jsonl"


def remember(lab: Lab, results: list[CheckResult], *, whole: bool = True) -> None:
    """Keep results for `streamlab hint`, and, if it was a `whole` run, for `streamlab progress`.

    A full disk is no error here, and leaves what was kept before.
    """
    new = {result.check for result in results}
    older = [each for each in latest_results(lab) if each.check not in new]
    _keep(latest_file(lab), [*results, *older])
    if whole:
        _keep(results_file(lab), results)


def _keep(file: Path, results: list[CheckResult]) -> None:
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        part = file.with_suffix(".part")
        try:
            part.write_text("".join(f"{each.to_json()}\n" for each in results), encoding="utf-8")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)


def last_results(lab: Lab) -> list[CheckResult]:
    """The results of the last run of all checks; none if there was none, or it can't be read."""
    return _kept(results_file(lab))


def latest_results(lab: Lab) -> list[CheckResult]:
    """The last result of each check, those of the last run first; none that can't be read."""
    return _kept(latest_file(lab)) or last_results(lab)


def _kept(file: Path) -> list[CheckResult]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
        return [CheckResult.from_json(line) for line in lines if line]
    except (OSError, ValueError, TypeError):
        return []


def next_hint(lab: Lab) -> str:
    """One hint more, for what the last run found first that did not pass.

    Where all of that passed, it is for what failed before and has not been checked since. Hints
    are counted by cause: another mistake in the same check begins with its first hint.
    """
    results = latest_results(lab)
    failed = next((result for result in results if result.outcome != "passed"), None)
    if results and failed is None:
        return "All checks passed: there is nothing to hint at."
    check = lab.check(failed.check) if failed else lab.checks[0]
    cause = failed.cause if failed else ""
    hints = lab.hints(check.id, cause)
    if not hints:
        return f"{check.title}: there is no hint for this one. Read the lab's text again."
    key = f"{check.id}/{cause}"
    file = lab.folder / MEMORY / "hints.json"
    shown: dict[str, int] = {}
    with suppress(OSError, ValueError):
        shown = json.loads(file.read_text(encoding="utf-8"))
    count = min(shown.get(key, 0) + 1, len(hints))
    with suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({**shown, key: count}), encoding="utf-8")
    more = "" if count < len(hints) else ", the last one"
    why = lab.cause_text(cause)
    return "\n".join(
        [
            f"{check.title}, hint {count} of {len(hints)}{more}:",
            *([f"(Found last: {why})"] if why else []),
            hints[count - 1],
        ]
    )


def reset(lab: Lab) -> list[Path]:
    """Put the stubs back in place of the student's programs; returns the copies kept of those."""
    stubs = lab.folder / STUBS
    if not stubs.is_dir():
        raise LabError(f"{lab.folder} has no {STUBS}: only a lab in labs/ can be reset")
    kept = []
    shutil.rmtree(lab.folder / MEMORY / "kept-files", ignore_errors=True)
    for memory in (results_file(lab), latest_file(lab), lab.folder / MEMORY / "hints.json"):
        memory.unlink(missing_ok=True)
    moment = time.strftime("%Y%m%d-%H%M%S")
    for name in lab.programs:
        program = lab.folder / name
        if program.is_file() and lab.attempted(program):
            copy_of = lab.folder / MEMORY / "kept" / f"{moment}-{name}"
            copy_of.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(program, copy_of)
            kept.append(copy_of)
        shutil.copy2(stubs / name, program)
    return kept
