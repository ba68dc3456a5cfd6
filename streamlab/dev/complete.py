"""Whether a lab is complete: each point that a lab needs, and what to do if it fails.

A point is a function from a `Draft` to its defects. A defect is one or two sentences: what is
missing, and what to do.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamlab.dev.answers import first_line, kind_of, program_of, promises_of
from streamlab.dev.draft import Draft
from streamlab.labs.generate import differences, generate, solution_lines, strip_solution, texts_of
from streamlab.labs.manifest import STUBS, Lab, LabError
from streamlab.labs.results import CheckResult
from streamlab.labs.runner import run_checks

POINTS = (10, 20)
"""The least and the most that the points of a lab may add up to."""
NAMED = 3
"""How many names a defect lists before it says how many more there are."""

# Points that files show


def manifest(draft: Draft) -> Iterator[str]:
    """lab.toml can be read, and has all that the library needs."""
    table = draft.lab.manifest
    if not isinstance(table.get("title"), str) or not table["title"]:
        yield 'lab.toml has no title. Write title = "..." at its top.'
    if not isinstance(table.get("minutes"), int) or table["minutes"] <= 0:
        yield "lab.toml does not say how long the lab takes. Write minutes = 60 at its top."
    programs = table.get("programs")
    if not isinstance(programs, list) or not programs:
        yield 'lab.toml names no program. Write programs = ["server.py"] at its top.'
    elif missing := [name for name in programs if not (draft.lab.folder / name).is_file()]:
        yield f"solutions/{draft.name}/ lacks {listed(missing)}. Write the solution there."
    checks = table.get("checks")
    if not isinstance(checks, Mapping):
        yield "lab.toml has no checks. Write [checks.ID] for each function test_ID of test_lab.py."
        return
    incomplete = [name for name, each in checks.items() if not _is_check(each)]
    if incomplete:
        yield (
            f"[checks.{incomplete[0]}] in lab.toml is incomplete. It has a kind in capitals, "
            "points above 0 and a title."
        )
    else:
        total, (least, most) = sum(each["points"] for each in checks.values()), POINTS
        if not least <= total <= most:
            yield (
                f"The points in lab.toml add up to {total:g}. Change the points of its checks, "
                f"so that they add up to {least} to {most}."
            )
    try:
        _ = draft.lab.limits
    except TypeError as error:
        yield f"[limits] in lab.toml: {error}. The class Cup in process/program.py has the names."


def _is_check(entry: object) -> bool:
    if not isinstance(entry, Mapping):
        return False
    kind, points = entry.get("kind"), entry.get("points")
    if isinstance(points, bool) or not isinstance(points, int | float) or points <= 0:
        return False
    return isinstance(kind, str) and kind.isupper() and bool(entry.get("title"))


def checks(draft: Draft) -> Iterator[str]:
    """Each check has its function, and the page names its id, for `--only`."""
    written = re.findall(r"^def test_(\w+)\(", draft.read("test_lab.py"), re.MULTILINE)
    known = [check.id for check in draft.lab.checks]
    if missing := [name for name in known if name not in written]:
        yield f"test_lab.py has no check {listed(missing)}. Write def test_{missing[0]}()."
    if more := [name for name in written if name not in known]:
        yield f"lab.toml has no check {listed(more)}. Write [checks.{more[0]}] into it."
    if silent := [name for name in known if f"`{name}`" not in draft.page]:
        yield f"lab.ipynb does not name the check {listed(silent)}. Write `{silent[0]}` into it."


def contract(draft: Draft) -> Iterator[str]:
    """Each promise stands in the text, and each table row of the text is promised."""
    promises = draft.lab.promises
    if not promises:
        yield "contract.toml has no promise. Write one for each sentence that a check relies on."
        return
    if wrong := [promise.id for promise in promises.values() if promise.text not in draft.page]:
        yield (
            f"The words are not in lab.ipynb for the promises {listed(wrong)}. Quote in "
            "contract.toml what stands there."
        )
    known = {check.id for check in draft.lab.checks}
    if lost := [promise.id for promise in promises.values() if promise.check not in known]:
        yield (
            f"lab.toml does not have the check of the promises {listed(lost)}. Write the id of one "
            "of its checks into contract.toml."
        )
    rows = re.findall(r"^(\| *[^ |-].*)\n(?!\|-)", draft.page, re.MULTILINE)  # no heading
    if silent := [row for row in rows if not any(p.text in row for p in promises.values())]:
        yield f"No promise quotes the row {silent[0]!r} of lab.ipynb. Write one into contract.toml."
    if not rows:
        yield "lab.ipynb has no table of what the program has to do. Write one, a row for each."


def corpora(draft: Draft) -> Iterator[str]:
    """There are wrong and right answers, and each says what it is."""
    for which, found in (("wrong", draft.wrong), ("right", draft.right)):
        if not found:
            stem = Path(draft.lab.programs[0]).stem
            yield f"There is no {which} answer. Write {draft.corpus(which)}{stem}__what_it_does.py."
    every = [*draft.wrong, *draft.right]
    if lost := [each.name for each in every if program_of(each) not in draft.lab.programs]:
        yield (
            f"These answers stand in for no program: {listed(lost)}. Begin their names with STEM__ "
            f"of {', '.join(draft.lab.programs)}."
        )
    kinds = {check.kind for check in draft.lab.checks}
    if unkind := [each.name for each in draft.wrong if kind_of(each) not in kinds]:
        yield (
            f"These answers name no kind of check: {listed(unkind)}. Write # KIND promise: the "
            f"mistake into the first line, with KIND one of {', '.join(sorted(kinds))}."
        )
    ids = set(draft.lab.promises)
    if unkept := [each.name for each in draft.wrong if not promises_of(each) <= ids]:
        yield (
            f"These answers break what contract.toml does not promise: {listed(unkept)}. Write the "
            "id of one into the first line."
        )
    if silent := [each.name for each in draft.right if not first_line(each).startswith("# ")]:
        yield (
            f"These answers do not say what is unusual in them: {listed(silent)}. Write # and that "
            "into the first line."
        )


def broken(draft: Draft) -> Iterator[str]:
    """Each promise is broken by a wrong answer that breaks no other one."""
    found = [promises_of(each) for each in draft.wrong]
    named = {promise for promises in found if len(promises) == 1 for promise in promises}
    if unbroken := [name for name in draft.lab.promises if name not in named]:
        kind = next(
            (c.kind for c in draft.lab.checks if c.id == draft.lab.promises[unbroken[0]].check),
            "KIND",
        )
        yield (
            f"No wrong answer breaks {listed(unbroken)}. Write one into {draft.corpus('wrong')} "
            f"whose first line is # {kind} {unbroken[0]}: the mistake."
        )


def causes(draft: Draft) -> Iterator[str]:
    """Each cause has a text and hints: its own, or those of its check."""
    lab = draft.lab
    named = lab.manifest.get("causes", {})
    if mute := [cause for cause in (*named, "could_not_run") if not lab.cause_text(cause)]:
        yield (
            f"No text for the causes {listed(mute)}. Say under [causes] in lab.toml what they mean."
        )
    if bare := [cause for cause in named if not lab.hints("", cause)]:
        yield (
            f"No hints for the causes {listed(bare)}. Write them under [causes] in "
            f"{draft.hints_file}, from gentle to plain."
        )
    if unknown := [cause for cause in lab.causes_with_hints if not lab.cause_text(cause)]:
        yield (
            f"{draft.hints_file} has hints for causes that lab.toml does not know: "
            f"{listed(unknown)}. Say under [causes] in lab.toml what they mean."
        )
    if bare := [check.id for check in lab.checks if not lab.hints(check.id)]:
        yield (
            f"No hints for the checks {listed(bare)}. Write them under [checks] in "
            f"{draft.hints_file}."
        )
    if unknown := [cause for cause in lab.manifest.get("timing", ()) if not lab.cause_text(cause)]:
        yield (
            f"timing in lab.toml names what is no cause: {listed(unknown)}. Mend the name, or say "
            "under [causes] what it means."
        )


def passed(draft: Draft) -> Iterator[str]:
    """Who passes reads why it mattered, and another way, which a right answer goes."""
    said = draft.lab.passed
    if said is None or not (said.why and said.other_way):
        yield (
            f"{draft.hints_file} does not say what a student reads after a pass. Write why, "
            "other_way and shown_by under [passed]."
        )
    elif draft.right and said.shown_by not in [answer.name for answer in draft.right]:
        yield (
            f"No right answer goes the other way: shown_by in {draft.hints_file} names "
            f"{said.shown_by!r}. Name one of {draft.corpus('right')}."
        )


def todo(draft: Draft) -> Iterator[str]:
    """Each stub marks where work is wanted."""
    for name in draft.lab.programs:
        with suppress(LabError):  # of wrong markers the point `labs` speaks
            if "TODO" not in strip_solution(draft.read(name), name):
                yield (
                    f"The stub of {name} has no TODO. Write one between # BEGIN STUB and # END "
                    "STUB, where work is wanted."
                )


def labs(draft: Draft) -> Iterator[str]:
    """labs/ is what the solution generates, and contains no line of it."""
    kept = draft.course / "labs" / draft.name
    with tempfile.TemporaryDirectory() as scratch:
        generate(draft.lab.folder, Path(scratch))
        texts = texts_of(Path(scratch))
    if not kept.is_dir():
        yield f"There is no labs/{draft.name}/. Run make labs."
    elif differing := differences(texts, texts_of(kept)):
        yield (
            f"labs/{draft.name}/ is not what the solution generates: {listed(differing)}. Run make "
            "labs."
        )
    yield from given_away(draft, texts)


def given_away(draft: Draft, texts: Mapping[str, str]) -> Iterator[str]:
    """No program of the lab contains a line that only the solution has. `texts` are its files."""
    secret: set[str] = set()
    for name in draft.lab.programs:
        secret |= solution_lines(draft.read(name))
    if not secret:
        yield (
            "No program has a solution to be cut out. Put # BEGIN SOLUTION and # END SOLUTION "
            "around it."
        )
    for name, text in texts.items():
        lines = {line.strip() for line in text.splitlines()}
        if name.endswith(".py") and (told := secret & lines):
            yield (
                f"labs/{draft.name}/{name} gives a line of the solution away: {min(told)!r}. "
                "Put it between # BEGIN SOLUTION and # END SOLUTION."
            )


# Points that start servers


def stub(draft: Draft) -> Iterator[str]:
    """The stub starts, and passes no check but those in `stub_passes` of lab.toml."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / draft.name
        generate(draft.lab.folder, folder)
        generated = Lab(folder)
        stubs = {name: folder / STUBS / name for name in generated.programs}
        results = run_checks(generated, stubs)
    for result in results:
        if result.outcome not in ("passed", "failed"):
            yield (
                f"The stub {_ended(result)}. Its check {result.check} said: {_first(result)} "
                "Let the stub start, and answer what is wrong."
            )
            return
    allowed = set(draft.lab.manifest.get("stub_passes", ()))
    # A pass with a note was not complete: a client is not installed here.
    passed = {r.check for r in results if r.outcome == "passed" and not r.evidence}
    if more := sorted(passed - allowed):
        yield (
            f"The stub passes {listed(more)}. Let it fail, or name the check in stub_passes of "
            "lab.toml."
        )
    if fewer := sorted(allowed & {r.check for r in results if r.outcome == "failed"}):
        yield f"The stub fails {listed(fewer)}. Take it out of stub_passes in lab.toml."
    failed = [result for result in results if result.outcome == "failed"]
    if mute := sorted({r.cause for r in failed if not draft.lab.cause_text(r.cause)}):
        yield (
            f"The stub fails for causes without a text: {listed(mute)}. Say under [causes] in "
            "lab.toml what they mean."
        )


def solution(draft: Draft) -> Iterator[str]:
    """The solution gets all points."""
    lost = [result for result in draft.results if result.outcome != "passed"]
    if lost:
        names, first = listed([result.check for result in lost]), lost[0]
        yield (
            f"The solution {_ended(first)}: {names}. The first one said: {_first(first)} See it in "
            f"full with streamlab check solutions/{draft.name} --only {first.check} "
            f"--seed {first.seed}."
        )


def _ended(result: CheckResult) -> str:
    return {
        "failed": "does not pass",
        "not_attempted": "is taken for the stub",
        "could_not_run": "could not run",
        "grader_fault": "could not be checked, because a check broke",
    }[result.outcome]


def _first(result: CheckResult) -> str:
    """The line of the evidence that says most: its first one, of a fault its last one."""
    lines = [line.strip() for line in result.evidence.splitlines() if line.strip()] or ["nothing."]
    return lines[-1 if result.outcome == "grader_fault" else 0][:200]


def probed(draft: Draft) -> Iterator[str]:
    """The checks test each promise, and nothing else.

    Some probes need an answer that does what the solution leaves out, so right answers run too,
    until all promises were tested.
    """
    promised = set(draft.lab.promises)
    seen = {name for result in draft.results for name in result.probed}
    for answer in draft.right:
        if promised <= seen:
            break
        results = run_checks(draft.lab, {program_of(answer): answer})
        seen |= {name for result in results for name in result.probed}
    if silent := [name for name in draft.lab.promises if name not in seen]:
        yield (
            f"No check puts the promises {listed(silent)} to the test. Write a probe inside of "
            f"with promise({silent[0]!r}):, in test_lab.py or in what it calls."
        )
    if unknown := sorted(seen - promised):
        yield (
            f"The checks probe what contract.toml does not promise: {listed(unknown)}. Write it "
            "there, with the words of lab.ipynb."
        )


# All points


@dataclass(frozen=True)
class Point:
    """One thing that a lab has to have."""

    name: str
    says: str
    """What is true if nothing is missing."""
    find: Callable[[Draft], Iterable[str]]
    """Finds what is missing."""
    starts_servers: bool = False


ALL = (
    Point("manifest", "lab.toml can be read, and its points add up to 10 to 20", manifest),
    Point("checks", "each check has its function, and its id stands on the page", checks),
    Point("contract", "each promise of contract.toml is quoted from lab.ipynb", contract),
    Point("corpora", "there are wrong and right answers, and each says what it is", corpora),
    Point("broken", "each promise is broken by a wrong answer", broken),
    Point("causes", "each cause has a text and hints", causes),
    Point("passed", "who passes reads why it mattered, and another way", passed),
    Point("todo", "each stub has a TODO where work is wanted", todo),
    Point("labs", "labs/ is what the solution generates", labs),
    Point("stub", "the stub starts, and fails its checks", stub, True),
    Point("solution", "the solution gets all points", solution, True),
    Point("probed", "the checks put each promise to the test", probed, True),
)


@dataclass(frozen=True)
class Finding:
    """The result of one point."""

    point: Point
    defects: tuple[str, ...] = ()
    left_out: str = ""
    """Why the point was left out; empty if it was not."""

    @property
    def line(self) -> str:
        """The result as one line."""
        mark = "--" if self.left_out else "no" if self.defects else "ok"
        told = f"left out, because {self.left_out}" if self.left_out else " ".join(self.defects)
        return f"{mark}  {self.point.name:<9} {told or self.point.says}"


def examine(draft: Draft, fast: bool = False) -> Iterator[Finding]:
    """Look at all points of a lab, in order; with `fast`, without those that start servers.

    If lab.toml can't be read, the other points are left out.
    """
    readable = True
    for point in ALL:
        if not readable:
            yield Finding(point, left_out="it needs the manifest")
        elif fast and point.starts_servers:
            yield Finding(point, left_out="it starts servers")
        else:
            yield (finding := Finding(point, tuple(defects(draft, point))))
            readable = not (point.find is manifest and finding.defects)


def defects(draft: Draft, point: Point) -> list[str]:
    """What a lab lacks of a point. A file that can't be read is a defect too."""
    try:
        return list(point.find(draft))
    except (LabError, OSError, ValueError) as error:
        return [f"{error}"]


def listed(names: Iterable[str]) -> str:
    """Names for a sentence: the first ones, and how many more there are."""
    each = list(names)
    more = f" and {len(each) - NAMED} more" if len(each) > NAMED else ""
    return ", ".join(each[:NAMED]) + more
