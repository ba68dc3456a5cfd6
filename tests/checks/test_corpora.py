"""Tests of the labs' checks: each wrong answer is caught, each right one gets full marks.

`streamlab.dev.answers` says how an answer is named and what its first line means. A new answer
needs no entry here. The answers in `wrong/more/` and `right/more/` resemble others, so only `make
soak` runs them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet
from forked_checks import start

from streamlab.dev.answers import kind_of, program_of, promises_of
from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult
from streamlab.labs.runner import RunOptions, run_checks

TESTS = Path(__file__).parents[1]
CORPORA = TESTS / "corpora"
AT_ONCE = 4
"""How many answers run at once; a check spends much of its time waiting."""

BUFFERS = {"HOLD", "STALL", "LIVE", "DROP"}
"""Kinds of check with clients that do not read on. The answers that they must catch are marked
`buffers`, and `tools/run_kernels.py` checks them with several kernels' settings."""

LABS = [Lab(file.parent) for file in sorted((TESTS.parent / "solutions").glob("*/lab.toml"))]

Results = dict[str, CheckResult]
ResultsOf = Callable[[Path], Results]

pytestmark = pytest.mark.needs("linux")
CLIENTS = pytest.mark.needs("curl", "wget", "aria2c")
"""Programs for answers that lab 08's check with these clients must catch; without them it is left
out."""


def answers(folder: str) -> list[ParameterSet]:
    """The answers of all labs, in folders of that name."""
    return [
        pytest.param(
            file,
            id=f"{lab_of(file).number}-{file.stem}",
            marks=[
                *marks,
                *([pytest.mark.buffers] if lives_by_buffers(file) else []),
                *([CLIENTS] if is_wrong(file) and kind_of(file) == "CLIENT" else []),
                *([pytest.mark.needs("curl")] if runs_curl(file) else []),
            ],
        )
        for where, marks in ((folder, []), (f"{folder}/more", [pytest.mark.soak]))
        for file in sorted(CORPORA.glob(f"*/{where}/*__*.py"))
    ]


def lab_of(answer: Path) -> Lab:
    """The lab, in solutions/, that an answer belongs to."""
    return Lab(TESTS.parent / "solutions" / answer.relative_to(CORPORA).parts[0])


def is_wrong(answer: Path) -> bool:
    """Whether an answer is one that must be caught."""
    return answer.relative_to(CORPORA).parts[1] == "wrong"


def turn(answer: Path) -> tuple[bool, bool]:
    """Where an answer stands in the order: what takes long begins first, so nothing is left alone.

    These are the right answers, on which all checks of a lab run, and then those of lab 07: a check
    of a log or a report may wait for minutes until a wrong answer is known to be wrong.
    """
    return is_wrong(answer), lab_of(answer).number != "07"


def lives_by_buffers(answer: Path) -> bool:
    """Whether the kernel's buffers for a connection decide if its mistake is seen."""
    return is_wrong(answer) and kind_of(answer) in BUFFERS


def runs_curl(answer: Path) -> bool:
    """Whether an answer starts curl, which may be missing on a student's machine."""
    return '"curl"' in answer.read_text(encoding="utf-8")


def checks_for(answer: Path) -> list[str]:
    """All checks of its program for a right answer, those of its kind for a wrong one."""
    lab, kind = lab_of(answer), kind_of(answer)
    program = program_of(answer)
    checks = [
        check
        for check in lab.checks
        if program in lab.manifest["checks"][check.id].get("programs", lab.programs)
    ]
    if not is_wrong(answer):
        return [check.id for check in checks]
    return [check.id for check in checks if check.kind == kind]


def run(answer: Path, drawing: bool = True) -> Results:
    """Check an answer in place of its program; returns the results by check."""
    programs = {program_of(answer): answer}
    # Longer than a student gets, because here some run at once, and other tests beside them.
    results = run_checks(
        lab_of(answer),
        programs,
        only=checks_for(answer),
        options=RunOptions(seconds=600, start=functools.partial(start, drawing=drawing), at_once=1),
    )
    return {result.check: result for result in results}


@pytest.fixture(scope="session")
def results_of(request: pytest.FixtureRequest) -> Iterator[ResultsOf]:
    """The results of an answer; several answers run at once, in the order of `turn`."""
    wanted: list[Path] = []
    for item in request.session.items:
        if isinstance(item, pytest.Function) and "results_of" in item.fixturenames:
            params: dict[str, Any] = item.callspec.params
            wanted += [params["answer"]] if "answer" in params else right_answers(params["lab"])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs: dict[Path, Future[Results]] = {
            answer: pool.submit(run, answer) for answer in sorted(dict.fromkeys(wanted), key=turn)
        }
        yield lambda answer: runs[answer].result()
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def results_of_known_inputs(request: pytest.FixtureRequest) -> Iterator[ResultsOf]:
    """As `results_of`, with the inputs that come in each run, and none that are drawn."""
    wanted: list[Path] = [
        item.callspec.params["answer"]  # type: ignore[misc]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "results_of_known_inputs" in item.fixturenames
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = {answer: pool.submit(run, answer, drawing=False) for answer in wanted}
        yield lambda answer: runs[answer].result()
        pool.shutdown(cancel_futures=True)


def told(results: Results) -> str:
    """Results as text, for the message of a failed test."""
    return "\n\n".join(
        f"{result.check}: {result.outcome} {result.cause} (seed {result.seed})\n{result.evidence}"
        for result in results.values()
    )


@pytest.mark.parametrize("answer", answers("wrong"))
def test_a_wrong_answer_is_caught(answer: Path, results_of: ResultsOf) -> None:
    results = results_of(answer)
    caught = [r for r in results.values() if r.kind == kind_of(answer) and r.outcome == "failed"]
    assert caught, told(results)
    assert {r.outcome for r in results.values()} <= {"passed", "failed"}, told(results)
    assert all(result.evidence for result in caught), told(results)
    if promises := promises_of(answer):
        found = {result.promise for result in caught}
        assert promises & found, (
            f"The first line names {promises}, the check {found}. See which of them the mistake "
            f"breaks, and mend the first line or the check.\n\n{told(results)}"
        )
    if known := lab_of(answer).promises:
        assert {result.promise for result in caught} <= set(known), told(results)


@pytest.mark.soak
@pytest.mark.parametrize("answer", answers("wrong"))
def test_no_wrong_answer_is_caught_by_luck(
    answer: Path, results_of_known_inputs: ResultsOf
) -> None:
    """What a check catches it catches in each run, whatever the seed draws."""
    results = results_of_known_inputs(answer)
    caught = [r for r in results.values() if r.kind == kind_of(answer) and r.outcome == "failed"]
    assert caught, told(results)


@pytest.mark.parametrize("answer", answers("right"))
def test_a_right_answer_gets_full_marks(answer: Path, results_of: ResultsOf) -> None:
    results = results_of(answer)
    assert list(results) == checks_for(answer)
    assert all(r.points == r.max_points for r in results.values()), told(results)


def right_answers(lab: Lab) -> list[Path]:
    """The right answers of a lab, without those in more/ and those that need curl."""
    files = (param.values[0] for param in answers("right") if not param.marks)
    return [file for file in files if isinstance(file, Path) and lab_of(file) == lab]


WITH_CONTRACT = [lab for lab in LABS if lab.promises]


@pytest.mark.parametrize(
    "lab",
    [
        pytest.param(lab, marks=CLIENTS if "CLIENT" in {c.kind for c in lab.checks} else ())
        for lab in WITH_CONTRACT
    ],
    ids=lambda lab: lab.name,
)
def test_each_promise_is_put_to_the_test(lab: Lab, results_of: ResultsOf) -> None:
    """The checks test all that the text promises, and nothing else."""
    probed = {
        name
        for answer in right_answers(lab)
        for result in results_of(answer).values()
        for name in result.probed
    }
    assert sorted(probed) == sorted(lab.promises)
