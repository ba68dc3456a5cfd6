"""A failed check as a text: the cause, what to look at, the exchange, and how to try it by hand."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamlab.labs.manifest import MEMORY, Lab, Promise
from streamlab.labs.results import CheckResult, Step

PORT = 8000
"""Where a server that is started by hand listens, as the labs' pages say."""


def kept_files(lab: Lab, check: str) -> Path:
    """The root of the files of a check that failed with `--keep`; what was beside it still is."""
    return lab.folder / MEMORY / "kept-files" / check / "root"


def kept_environment(root: Path) -> Path:
    """The file with the variables that a check gave the server whose files are in `root`."""
    return root.parent.with_name(f"{root.parent.name}.json")


UPSTREAM = "http://127.0.0.1:9000"
"""Where `python -m streamlab.origin --port 9000` listens, as the labs' pages say."""


def start_by_hand(lab: Lab, root: Path) -> str:
    """The command that starts a lab's server on the files in `root`, in a cup like that of a check.

    It is for a shell in the lab's folder, and in a subshell, so that the limits end with it. It
    gives the server the variables that the check gave it; an upstream is the origin's.
    """
    given: dict[str, str] = {}
    with suppress(OSError, ValueError):
        given = json.loads(kept_environment(root).read_text(encoding="utf-8"))
    if "STREAMLAB_UPSTREAM" in given:
        given["STREAMLAB_UPSTREAM"] = UPSTREAM
    variables = "".join(f"{name}={shlex.quote(value)} " for name, value in given.items())
    launched = lab.manifest.get("launch", {})
    files = shlex.quote(_in_lab(lab, root))
    cup = lab.limits
    limits = [
        f"ulimit -{letter} {value}; "
        for letter, value in (
            ("d", cup.data_mib and cup.data_mib * 1024),
            ("s", cup.stack_kib),
            ("n", cup.nofile),
        )
        if value
    ]
    if "app" in launched:
        program = f"{lab.programs[0]}:{launched['app']}"
        if "STREAMLAB_UPSTREAM" not in given:
            variables += f"STREAMLAB_ROOT={files} "
        run = f"python -m streamlab.serve {program} --port={PORT}"
    elif lab.command:
        run = lab.command.replace("{root}", files).replace("{port}", str(PORT))
    else:
        run = f"python {lab.programs[0]} --root {files} --port {PORT}"
    return f"({''.join(limits)}{variables}{run})"


def _in_lab(lab: Lab, root: Path) -> str:
    """A folder as a shell in the lab's folder can name it."""
    where = root.relative_to(lab.folder) if root.is_relative_to(lab.folder) else root
    return where.as_posix()


@dataclass(frozen=True)
class Story:
    """What is told of a check that did not pass, from the cause to the exchange."""

    headline: str
    """The check and its points."""
    cause: str
    """What is wrong, in a sentence or two; empty where nobody knows."""
    look: str
    """What to look at, which is the first hint; empty where there is none."""
    promise: str
    """What the lab's text says of it; empty where it was about no single promise."""
    exchange: str
    """What was done and what came back, several lines."""
    by_hand: list[str]
    """How to do the same by hand."""
    again: str
    """The command that runs this check alone, on the same files."""

    @property
    def opening(self) -> list[str]:
        """The cause, what to look at, and the promise: a paragraph each."""
        return list(filter(None, (self.cause, self.look, self.promise)))

    def text(self, short: bool = False) -> str:
        """The story as plain text; `short` has the beginning of the exchange alone."""
        again = f"The same again: {self.again}"
        if not short:
            parts = [*self.opening, self.exchange, *self.by_hand, again]
        else:
            beginning = shortened(self.exchange)
            if beginning != self.exchange or self.by_hand:
                again = f"The whole exchange, and the way to try it by hand: {self.again}"
            parts = [*self.opening, beginning, again]
        return "\n\n".join(filter(None, (self.headline, *parts)))


LINES, INDENTED = 24, 4
"""How many lines a short story has of an exchange, and of an indented piece of it."""
WIDTH, PROSE = 120, 400
"""How many letters it has of a line that is indented, and of another one."""


def shortened(text: str) -> str:
    """A text with less of each indented piece, which is data, and with an end.

    Of data it has the first lines and how many more there are; of a log, whose end tells why, the
    last ones; and of all the first `LINES`.
    """
    kept: list[str] = []
    for data, group in itertools.groupby(text.splitlines(), lambda line: line.startswith("    ")):
        width = WIDTH if data else PROSE
        lines = [line if len(line) <= width else f"{line[:width]} ..." for line in group]
        if data and (more := len(lines) - INDENTED) > 1:
            if any(line == "The server wrote:" for line in kept[-2:]):
                lines[:more] = [f"    ({more} more lines) ..."]
            else:
                lines[INDENTED:] = [f"    ... ({more} more lines)"]
        kept += lines
    if len(kept) > LINES + 1:
        kept[LINES:] = [f"... ({len(kept) - LINES} more lines)"]
    return "\n".join(kept)


def story(lab: Lab, result: CheckResult) -> Story:
    """What a student reads of a result; of kept files, how to start the server on them."""
    check = lab.check(result.check)
    cause, exchange = lab.cause_text(result.cause), result.evidence
    if result.outcome == "could_not_run":  # what the program said is the cause
        first, _, rest = exchange.partition("\n")
        cause, exchange = first, rest.strip("\n")
    if result.outcome == "grader_fault":
        cause = (
            "Your program is not to blame: check again when less runs on this machine."
            if result.late
            else "This is a fault of the check, not of your program: please report it."
        )
    promise = lab.promises.get(result.promise)
    hints = lab.hints(result.check, result.cause)
    look = ""
    if hints and result.outcome in ("failed", "could_not_run"):
        look = f"Look here: {hints[0]}"
        if len(hints) > 1:
            look += f" (More: streamlab hint {lab.number})"
    points = f"{result.points:g} of {result.max_points:g}"
    return Story(
        headline=f"{check.title} ({result.kind}): {points} points",
        cause=cause,
        look=look,
        promise=f"The lab's text says: {_in_its_row(lab, promise)}" if promise else "",
        exchange=exchange,
        by_hand=_by_hand(lab, result),
        again=f"streamlab check {lab.number} --only {result.check} --seed {result.seed}"
        + (f" --command {shlex.quote(lab.command)}" if lab.command else ""),
    )


def _by_hand(lab: Lab, result: CheckResult) -> list[str]:
    """How to start the server on the kept files, and the request; else that files can be kept."""
    root, command = kept_files(lab, result.check), result.curl
    lines = []
    files = root.is_dir() and any(root.iterdir())
    kept = result.outcome == "failed" and (files or kept_environment(root).is_file())
    if kept:
        command = command.replace(":PORT/", f":{PORT}/").replace(", PORT)", f", {PORT})")
        command = command.replace("ROOT/", f"{_in_lab(lab, root)}/")
        where = f"in {lab.folder}: {start_by_hand(lab, root)}"
        lines.append(
            f"The check's files are kept in {root.parent}. To start the server on them, {where}"
            if files
            else f"To start the server as the check did, {where}"
        )
    if command:
        lines.append(f"Try it by hand: {command}")
    if command and kept and (look := lab.look(result.cause)):
        look = look.replace("PROCESS", f"$(pgrep -nf port.{PORT})")
        lines.append(f"Look at the server before that, and after it: {look}")
    if command and not kept:
        lines.append(f"With --keep it leaves its files, to try it by hand on port {PORT}.")
    return lines


def _in_its_row(lab: Lab, promise: Promise) -> str:
    """A promise as the lab's page has it: of a row of a table, with what the row is about."""
    for row in lab.page.splitlines():
        if promise.text in row and row.startswith("| "):
            about, *cells = (cell.strip() for cell in row.strip().strip("|").split(" | "))
            words = promise.text if promise.text in " ".join(cells) else ", ".join(cells)
            return f"{about}: {words}" if words else about
    return promise.text


def as_text(lab: Lab, result: CheckResult, short: bool = False) -> str:
    """A result as a student reads it, in full or `short`."""
    return story(lab, result).text(short)


def stories(lab: Lab, results: Collection[CheckResult]) -> list[Story]:
    """What did not pass, in full; a story that several checks share is told once."""
    told: dict[str, Story] = {}
    for result in results:
        if result.outcome in ("failed", "could_not_run", "grader_fault"):
            key = result.evidence if result.outcome == "could_not_run" else result.check
            told.setdefault(key, story(lab, result))
    return list(told.values())


def step_text(lab: Lab, step: Step) -> str:
    """What a check does at the moment, in a line: its title, the promise, what it waits for."""
    line = lab.check(step.check).title
    if step.waits:
        line += f" (waits {step.waits})"
    if step.promise in lab.promises:
        line += f": {_in_its_row(lab, lab.promises[step.promise])}"
    return line


def afterwards(lab: Lab, results: Collection[CheckResult]) -> list[str]:
    """When all checks have passed: why it mattered, and another way; else nothing."""
    outcomes = {result.outcome for result in results}
    if lab.passed is None or outcomes != {"passed"} or len(results) != len(lab.checks):
        return []
    return [f"Why it mattered: {lab.passed.why}", f"Another way: {lab.passed.other_way}"]


def advice(lab: Lab, results: Collection[CheckResult], notes: bool = True) -> str:
    """A sentence or two below the results: what to do next, unless a story says it.

    With `notes` also what passed checks left out: it depends on the machine, not on the program.
    """
    outcomes = {result.outcome for result in results}
    if outcomes == {"not_attempted"}:
        first = lab.checks[0].title
        return f"{', '.join(lab.programs)}: still the stub. Begin with the first check, {first!r}."
    said = (
        ["All checks passed."] if outcomes == {"passed"} and len(results) == len(lab.checks) else []
    )
    if notes:
        said += [result.evidence for result in results if result.outcome == "passed"]
    return " ".join(filter(None, said))
