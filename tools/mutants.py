"""Change the labs' solutions in small ways, and see whether the labs' checks notice.

    python tools/mutants.py [--lab NN] [--sample N] [-j N]     (default: all labs, all mutants)

A mutant is a lab's program with one small change inside its solution: another number, a comparison
turned round, an argument left out. mutmut makes the changes. The lab's checks run on each mutant
until one fails. A mutant that no check fails is one of two things. It is equivalent if it keeps all
that the lab's text promises: then tests/mutants/NN_name.toml says why. Otherwise it is a hole in
the checks. The last lines are the holes and a table. The status is 1 if a lab's score, the share of
killed mutants among those that are not equivalent, is below 95 %.

Results are kept in .mutants/, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import itertools
import json
import os
import signal
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators

from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult
from streamlab.labs.runner import SECONDS, RunOptions, run_checks

HERE = Path(__file__).resolve().parent.parent
SOLUTIONS = HERE / "solutions"
EQUIVALENT = HERE / "tests" / "mutants"
KEPT = HERE / ".mutants"
BAR = 95
"""The score that each lab has to reach, in percent."""
TIMES = 6
"""How many times as long as for the solution the checks may take for a mutant."""


class MutantsError(Exception):
    """The run can't be made; the message says what to do."""


@dataclass(frozen=True)
class Mutant:
    """A program of a lab with one small change."""

    program: str
    operator: str
    """The name of mutmut's operator."""
    number: int
    """The line of the program that changes, or the first of several, counting from 1."""
    line: str
    """The text of that line, without the space around it; several are joined by a space."""
    becomes: str
    """What stands there instead."""
    occurrence: int
    """If equal lines have equal changes: which of them it is, counting from 1."""
    text: str
    """The whole program."""

    @property
    def key(self) -> str:
        """Its name, which does not depend on other lines of the program."""
        return json.dumps([self.program, self.line, self.becomes, self.occurrence])

    def __str__(self) -> str:
        return f"{self.program}:{self.number} ({self.operator}): {self.line}  ->  {self.becomes}"


@dataclass(frozen=True)
class Verdict:
    """The result of the checks for a mutant."""

    mutant: str
    """The key of the mutant."""
    state: str
    """The state of the lab and the checks, as a hash."""
    outcome: str
    """`killed`, `survived`, or `fault`: a check broke, which says nothing about the mutant."""
    check: str = ""
    """The check that failed, or broke."""
    cause: str = ""
    evidence: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """The checks that had a result, and the seconds that each took."""


# Making mutants


def mutants_of(lab: Lab) -> list[Mutant]:
    """All mutants of a lab's programs, from top to bottom, no two of them equal."""
    return [
        mutant
        for program in lab.programs
        for mutant in _mutants(program, (lab.folder / program).read_text(encoding="utf-8"))
    ]


def _mutants(program: str, text: str) -> Iterator[Mutant]:
    solution = solution_lines(text)
    changes = _Changes(text, solution)
    before = text.splitlines()
    seen = {_meaning(text)}
    counts: dict[tuple[str, str, str], int] = {}
    for operator, changed in changes.found:
        meaning = _meaning(changed)
        if meaning is None or meaning in seen:
            continue
        seen.add(meaning)
        number, line, becomes = _difference(before, changed.splitlines())
        same = (program, line, becomes)
        counts[same] = counts.get(same, 0) + 1
        yield Mutant(program, operator, number, line, becomes, counts[same], changed)


def solution_lines(text: str) -> set[int]:
    """The numbers of the lines between `# BEGIN SOLUTION` and `# END SOLUTION`."""
    inside, found = False, set()
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() in ("# BEGIN SOLUTION", "# END SOLUTION"):
            inside = "BEGIN" in line
        elif inside:
            found.add(number)
    return found


class _Changes(cst.CSTVisitor):
    """The texts that one change of mutmut, inside some of its lines, makes of a program.

    Type annotations stay as they are, because changing them has no effect.
    """

    def __init__(self, text: str, lines: set[int]) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._lines = lines
        wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        self._module = wrapper.module
        self._positions = wrapper.resolve(PositionProvider)
        self._whole = wrapper.resolve(WhitespaceInclusivePositionProvider)
        self._text = text
        lengths = [len(line) for line in text.splitlines(keepends=True)]
        self._starts = list(itertools.accumulate(lengths, initial=0))
        self._module.visit(self)

    def visit_Annotation(self, node: cst.Annotation) -> bool:
        return False

    def on_visit(self, node: cst.CSTNode) -> bool:
        place = self._positions.get(node)
        if place is not None and place.start.line in self._lines:
            for kind, operator in mutation_operators:
                if isinstance(node, kind):
                    name = operator.__name__.removeprefix("operator_")
                    for changed in operator(node):
                        self.found.append((name, self._with(node, changed)))
        return super().on_visit(node)

    def _with(self, node: cst.CSTNode, changed: cst.CSTNode) -> str:
        """The text with another node in place of one, and nothing else changed."""
        place = self._whole[node]
        start = self._starts[place.start.line - 1] + place.start.column
        end = self._starts[place.end.line - 1] + place.end.column
        if self._text[start:end] != self._module.code_for_node(node):
            replaced = self._module.deep_replace(node, changed)  # slow, but always right
            assert isinstance(replaced, cst.Module)
            return replaced.code
        return self._text[:start] + self._module.code_for_node(changed) + self._text[end:]


def _meaning(text: str) -> str | None:
    """A program as Python reads it, whatever its spaces; None if it is no program."""
    try:
        tree = ast.parse(text)
        compile(tree, "mutant", "exec")
    except (SyntaxError, ValueError):
        return None
    return ast.dump(tree)


def _difference(before: Sequence[str], after: Sequence[str]) -> tuple[int, str, str]:
    """Where two texts begin to differ, and the differing lines of each, joined to one line."""
    start = next(i for i, (old, new) in enumerate(zip(before, after, strict=False)) if old != new)
    end = 0
    most = min(len(before), len(after)) - start
    while end < most and before[-1 - end] == after[-1 - end]:
        end += 1
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    return start + 1, _joined(old), _joined(new)


def _joined(lines: Sequence[str]) -> str:
    return " ".join(line.strip() for line in lines)


def sample(mutants: Sequence[Mutant], size: int | None, seed: int) -> list[Mutant]:
    """`size` of the mutants, in order. A small edit of the program changes few of the choices."""
    if size is None or size >= len(mutants):
        return list(mutants)
    rank = {
        mutant.key: hashlib.sha256(f"{seed} {mutant.key}".encode()).digest() for mutant in mutants
    }
    chosen = set(sorted(rank, key=rank.__getitem__)[:size])
    return [mutant for mutant in mutants if mutant.key in chosen]


# Those that are equivalent


def equivalent(lab: Lab) -> dict[str, str]:
    """The mutants that keep all that the lab's text promises: the reasons, by their keys.

    Each `[[equivalent]]` in tests/mutants/NN_name.toml has `program`, `line`, `becomes` (a text, or
    a list of texts for one line and one reason) and `why`, and `occurrence` if several mutants
    match and it is not the first. Raises `MutantsError` for any other content.
    """
    file = EQUIVALENT / f"{lab.name}.toml"
    if not file.is_file():
        return {}
    found: dict[str, str] = {}
    try:
        for each in tomllib.loads(file.read_text(encoding="utf-8"))["equivalent"]:
            several = each["becomes"] if isinstance(each["becomes"], list) else [each["becomes"]]
            for becomes in several:
                place = [each["program"], each["line"], becomes, each.get("occurrence", 1)]
                if not each["why"].strip():
                    raise MutantsError(f"{file.name}: say why for {place}")
                found[json.dumps(place)] = each["why"]
    except (tomllib.TOMLDecodeError, KeyError, AttributeError) as error:
        raise MutantsError(f"{file.name} can't be read: {error!r}") from error
    return found


def unknown(lab: Lab) -> list[str]:
    """The keys in the file of equivalent mutants that no change makes: the program was edited."""
    keys = {mutant.key for mutant in mutants_of(lab)}
    return [key for key in equivalent(lab) if key not in keys]


# Running checks on mutants


class Order:
    """The order of a lab's checks: first those that kill the most mutants in a second."""

    def __init__(self, verdicts: Sequence[Verdict] = ()) -> None:
        self._lock = threading.Lock()
        self._kills: dict[str, int] = {}
        self._runs: dict[str, list[float]] = {}
        for verdict in verdicts:
            self.learn(verdict)

    def learn(self, verdict: Verdict) -> None:
        """Take the result of one mutant into account."""
        with self._lock:
            for check, seconds in verdict.seconds.items():
                self._runs.setdefault(check, []).append(seconds)
            if verdict.outcome == "killed" and verdict.check:
                self._kills[verdict.check] = self._kills.get(verdict.check, 0) + 1

    def of(self, checks: Sequence[str]) -> list[str]:
        """These checks in that order."""

        def rate(check: str) -> float:
            runs = self._runs.get(check, [])
            mean = (sum(runs) + 1) / (len(runs) + 1)
            return (self._kills.get(check, 0) + 1) / (len(runs) + 2) / mean

        with self._lock:
            return sorted(checks, key=rate, reverse=True)


class Runs:
    """The present runs, which can all be ended at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: set[threading.Event] = set()
        self.ended = False

    def end(self) -> None:
        """End all runs, and start no more."""
        with self._lock:
            self.ended = True
            for stop in self._stops:
                stop.set()

    def first_failure(
        self, lab: Lab, mutant: Mutant, checks: Sequence[str], seconds: float, seed: int
    ) -> tuple[CheckResult | None, dict[str, float]]:
        """The first result that is no pass, or None; and the seconds that each check took."""
        stop = threading.Event()
        took: dict[str, float] = {}
        failures: list[CheckResult] = []

        def told(result: CheckResult) -> None:
            if not stop.is_set():
                took[result.check] = result.seconds
                if result.outcome != "passed":
                    failures.append(result)
                    stop.set()

        with self._lock:
            if self.ended:
                return None, took
            self._stops.add(stop)
        try:
            with tempfile.TemporaryDirectory(prefix="streamlab-mutant-") as folder:
                file = Path(folder) / mutant.program
                file.write_text(mutant.text, encoding="utf-8")
                programs = {mutant.program: file}
                run_checks(
                    lab,
                    programs,
                    only=checks,
                    told=told,
                    options=RunOptions(seed=seed, seconds=seconds, stop=stop, at_once=1),
                )
        finally:
            with self._lock:
                self._stops.discard(stop)
        return (failures[0] if failures else None), took


def judge(
    runs: Runs, lab: Lab, mutant: Mutant, state: str, order: Order, seconds: float, seed: int
) -> Verdict | None:
    """Run a lab's checks on a mutant until one fails; None if the run was ended.

    A failure that a busy machine alone could cause must occur twice.
    """
    took: dict[str, float] = {}
    waiting = order.of(checks_for(lab, mutant.program))
    while waiting:
        failure, times = runs.first_failure(lab, mutant, waiting, seconds, seed)
        took |= times
        if runs.ended:
            return None
        if failure is None:
            break
        if failure.outcome != "could_not_run" and lab.depends_on_time(failure):
            again, _ = runs.first_failure(lab, mutant, [failure.check], seconds, seed)
            if runs.ended:
                return None
            if again is None:
                waiting = waiting[waiting.index(failure.check) + 1 :]
                continue
            failure = again
        outcome = "fault" if failure.outcome == "grader_fault" else "killed"
        return Verdict(
            mutant.key,
            state,
            outcome,
            failure.check,
            failure.cause,
            failure.evidence[-600:] if outcome == "fault" else "",
            took,
        )
    return Verdict(mutant.key, state, "survived", seconds=took)


def checks_for(lab: Lab, program: str) -> list[str]:
    """The ids of the checks of a program."""
    return [check.id for check in lab.checks if program in lab.programs_of(check.id)]


def state_of(lab: Lab, program: str) -> str:
    """What a verdict depends on besides the mutant: the lab and the library, as a hash."""
    digest = hashlib.sha256(program.encode())
    files = [
        *(HERE / "streamlab").glob("*.py"),
        *(file for file in lab.folder.rglob("*") if file.suffix in (".py", ".toml")),
    ]
    for file in sorted(files):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


# What is kept between runs


def kept_file(lab: Lab) -> Path:
    """The file with the verdicts of a lab, one a line, the newest last."""
    return KEPT / f"{lab.name}.jsonl"


def kept(lab: Lab) -> list[Verdict]:
    """The verdicts of earlier runs, without a line that an interruption cut off."""
    found = []
    if kept_file(lab).is_file():
        for line in kept_file(lab).read_text(encoding="utf-8").splitlines():
            try:
                found.append(Verdict(**json.loads(line)))
            except (ValueError, TypeError):
                continue
    return found


def keep(lab: Lab, verdict: Verdict) -> None:
    """Append a verdict to the file."""
    KEPT.mkdir(exist_ok=True)
    with kept_file(lab).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(verdict)) + "\n")


# A lab, and all of them


@dataclass
class Score:
    """The results of a lab's mutants."""

    lab: str
    mutants: int = 0
    killed: int = 0
    equivalent: int = 0
    holes: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    """Equivalent mutants that no change makes any more, and those that a check killed."""

    @property
    def percent(self) -> float:
        """The share of killed mutants among those not equivalent; 100 if there are none."""
        counted = self.mutants - self.equivalent
        return 100 * self.killed / counted if counted else 100.0

    @property
    def good(self) -> bool:
        return self.percent >= BAR and not self.stale


def control(runs: Runs, lab: Lab, program: str, seed: int) -> dict[str, float]:
    """How long each check takes with the solution itself; `MutantsError` if one fails."""
    text = (lab.folder / program).read_text(encoding="utf-8")
    unchanged = Mutant(program, "none", 0, "", "", 1, text)
    verdict = judge(runs, lab, unchanged, "", Order(), 2 * SECONDS, seed)
    if verdict is None:
        return {}
    if verdict.outcome != "survived":
        raise MutantsError(
            f"{lab.name}: {verdict.check} fails with the solution itself ({verdict.cause}): "
            "mend that first"
        )
    return dict(verdict.seconds)


def score(lab: Lab, runs: Runs, options: argparse.Namespace) -> Score:
    """Run a lab's checks on its mutants, as the options say, and count."""
    reasons = equivalent(lab)
    chosen = sample(mutants_of(lab), options.sample, options.seed)
    found = Score(lab.name, mutants=len(chosen), stale=unknown(lab))
    states = {program: state_of(lab, program) for program in lab.programs}
    before = kept(lab)
    order = Order(before)
    latest = {verdict.mutant: verdict for verdict in before}

    def known(mutant: Mutant) -> Verdict | None:
        verdict = latest.get(mutant.key)
        if verdict is None or verdict.outcome == "fault":
            return None
        if verdict.state == states[mutant.program]:
            return verdict
        return verdict if options.survivors and verdict.outcome == "killed" else None

    waiting = []
    for mutant in chosen:
        verdict = known(mutant)
        if mutant.key in reasons and not options.all:
            found.equivalent += 1
        elif verdict is not None:
            _count(found, mutant, verdict, reasons)
        else:
            waiting.append(mutant)
    if not waiting:
        return found
    longest = {}
    for program in dict.fromkeys(mutant.program for mutant in waiting):
        times = control(runs, lab, program, options.seed)
        longest[program] = max(SECONDS, TIMES * sum(times.values()))
        order.learn(Verdict("", "", "survived", seconds=times))
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = {
            pool.submit(
                judge,
                runs,
                lab,
                mutant,
                states[mutant.program],
                order,
                longest[mutant.program],
                options.seed,
            ): mutant
            for mutant in waiting
        }
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                mutant, verdict = futures[future], future.result()
                if verdict is None:
                    continue
                keep(lab, verdict)
                order.learn(verdict)
                _count(found, mutant, verdict, reasons)
                by = f"{verdict.check} {verdict.cause}" if verdict.check else ""
                told = f"{lab.number} {done}/{len(waiting)} {verdict.outcome:8} {by:32} {mutant}"
                print(told, flush=True)
        except BaseException:
            runs.end()
            pool.shutdown(cancel_futures=True)
            raise
    return found


def _count(found: Score, mutant: Mutant, verdict: Verdict, reasons: Mapping[str, str]) -> None:
    if mutant.key in reasons:
        found.equivalent += 1
        if verdict.outcome == "killed":
            found.stale.append(f"said to be equivalent, but {verdict.check} fails: {mutant}")
    elif verdict.outcome == "killed":
        found.killed += 1
    elif verdict.outcome == "fault":
        found.holes.append(f"{mutant}\n    the check {verdict.check} broke: {verdict.evidence}")
    else:
        found.holes.append(str(mutant))


def table(scores: Sequence[Score]) -> str:
    """The scores, a line each."""
    lines = [f"{'lab':24}{'mutants':>9}{'killed':>9}{'equivalent':>12}{'holes':>7}{'score':>9}"]
    for each in scores:
        counts = f"{each.mutants:9}{each.killed:9}{each.equivalent:12}{len(each.holes):7}"
        lines.append(f"{each.lab:24}{counts}{each.percent:8.1f}%")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks on the mutants that the command line asks for; 0 if the scores are good."""
    options = _options(arguments)
    labs = [Lab(file.parent) for file in sorted(SOLUTIONS.glob("*/lab.toml"))]
    labs = [lab for lab in labs if not options.lab or lab.number in options.lab]
    if not labs:
        print(f"There is no lab {', '.join(options.lab)} in solutions/.", file=sys.stderr)
        return 2
    if options.list:
        for lab in labs:
            for mutant in sample(mutants_of(lab), options.sample, options.seed):
                print(lab.number, mutant)
        return 0
    runs = Runs()

    def interrupt(number: int, frame: FrameType | None) -> None:
        runs.end()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    began = time.monotonic()
    try:
        scores = [score(lab, runs, options) for lab in labs]
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    except MutantsError as error:
        print(error, file=sys.stderr)
        return 2
    for each in scores:
        for what, lines in (("holes", each.holes), ("equivalent no longer", each.stale)):
            if lines:
                print(f"\n{each.lab}, {what}:\n  " + "\n  ".join(lines))
    print(f"\n{table(scores)}\n{time.monotonic() - began:.0f} s")
    return 0 if all(each.good for each in scores) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="mutants.py", description=summary)
    add = parser.add_argument
    add("--lab", action="append", help="a lab's number, such as 02; may be given several times")
    add("--sample", type=int, metavar="N", help="run N mutants of each lab, chosen by the seed")
    add("--seed", type=int, default=1, help="of the sample and of the checks (1)")
    add("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="how many run at once")
    add("--survivors", action="store_true", help="take what was killed once as killed")
    add("--all", action="store_true", help="run those too that are said to be equivalent")
    add("--list", action="store_true", help="list the mutants, and run nothing")
    options = parser.parse_args(arguments)
    options.lab = [number.zfill(2) for number in options.lab or []]
    for name in ("sample", "jobs"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name} must be 1 or more, not {value}")
    return options


if __name__ == "__main__":
    sys.exit(main())
