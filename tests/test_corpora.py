"""The labs' checks, checked: every wrong answer is caught, every right one gets full marks.

`tests/labs/NN_name/wrong/STEM__mistake.py` stands in for the lab's program STEM.py; its first line
is `# KIND: the mistake`, KIND being the kind of check that must catch it. Those in `right/` are
unusual but correct; their first line says what is unusual. Labs join by their files alone.
Those in `wrong/more/` and `right/more/` resemble others so much that `make soak` is their place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from streamlab.labs import Lab, run_checks
from streamlab.results import CheckResult

TESTS = Path(__file__).parent
CORPORA = TESTS / "labs"
AT_ONCE = 4
"""Much of a check is waiting."""

FIRST_LINE = re.compile(r"# ([A-Z]+): \S.*")

Results = dict[str, CheckResult]
ResultsOf = Callable[[Path], Results]

pytestmark = pytest.mark.needs("linux")


def answers(folder: str) -> list[ParameterSet]:
    """The answers of all labs in folders of that name."""
    return [
        pytest.param(file, id=f"{lab_of(file).number}-{file.stem}", marks=marks)
        for where, marks in ((folder, ()), (f"{folder}/more", pytest.mark.soak))
        for file in sorted(CORPORA.glob(f"*/{where}/*__*.py"))
    ]


def lab_of(answer: Path) -> Lab:
    """The lab, in solutions/, that an answer belongs to."""
    return Lab(TESTS.parent / "solutions" / answer.relative_to(CORPORA).parts[0])


def is_wrong(answer: Path) -> bool:
    """Whether an answer is one that must be caught."""
    return answer.relative_to(CORPORA).parts[1] == "wrong"


def kind_of(answer: Path) -> str:
    """The kind of check that must catch a wrong answer; empty if its first line says none."""
    with answer.open(encoding="utf-8") as file:
        found = FIRST_LINE.fullmatch(file.readline().rstrip("\n"))
    return found[1] if found else ""


def program_of(answer: Path) -> str:
    """The program that an answer stands in for."""
    return answer.stem.partition("__")[0] + ".py"


def checks_for(answer: Path) -> list[str]:
    """A right answer: all of its program. A wrong one: those of its kind, and one of another."""
    lab, kind = lab_of(answer), kind_of(answer)
    program = program_of(answer)
    checks = [
        check
        for check in lab.checks
        if program in lab.manifest["checks"][check.id].get("programs", lab.programs)
    ]
    if not is_wrong(answer):
        return [check.id for check in checks]
    smoke = next(check.id for check in checks if check.kind != kind)
    return [smoke, *(check.id for check in checks if check.kind == kind)]


def run(answer: Path) -> Results:
    """Check an answer in place of its program; the results by check."""
    programs = {program_of(answer): answer}
    # Longer than a student gets: here four run at once, and other tests beside them.
    results = run_checks(lab_of(answer), programs, only=checks_for(answer), seconds=600)
    return {result.check: result for result in results}


@pytest.fixture(scope="session")
def results_of(request: pytest.FixtureRequest) -> Iterator[ResultsOf]:
    """What became of an answer; some answers are checked at once, in the order of the tests."""
    wanted = [
        item.callspec.params["answer"]
        for item in request.session.items
        if "results_of" in getattr(item, "fixturenames", ())
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs: dict[Path, Future[Results]] = {answer: pool.submit(run, answer) for answer in wanted}
        yield lambda answer: runs[answer].result()
        pool.shutdown(cancel_futures=True)


def told(results: Results) -> str:
    """Results as one reads them when a test fails."""
    return "\n\n".join(
        f"{result.check}: {result.outcome} {result.cause} (seed {result.seed})\n{result.evidence}"
        for result in results.values()
    )


@pytest.mark.parametrize("answer", answers("wrong"))
def test_a_wrong_answer_names_its_kind_of_check(answer: Path) -> None:
    assert kind_of(answer) in {check.kind for check in lab_of(answer).checks}


@pytest.mark.parametrize("answer", answers("wrong"))
def test_a_wrong_answer_is_caught(answer: Path, results_of: ResultsOf) -> None:
    results = results_of(answer)
    caught = [r for r in results.values() if r.kind == kind_of(answer) and r.outcome == "failed"]
    assert caught, told(results)
    assert {r.outcome for r in results.values()} <= {"passed", "failed"}, told(results)
    assert all(result.evidence for result in caught), told(results)


@pytest.mark.parametrize("answer", answers("right"))
def test_a_right_answer_gets_full_marks(answer: Path, results_of: ResultsOf) -> None:
    results = results_of(answer)
    assert list(results) == checks_for(answer)
    assert all(r.points == r.max_points for r in results.values()), told(results)
