"""The labs' checks, checked: every wrong answer is caught, every right one gets full marks.

`tests/labs/NN_name/wrong/STEM__mistake.py` stands in for the lab's program STEM.py; its first line
is `# KIND promise: the mistake`, KIND being the kind of check that must catch it, and `promise` the
id in the lab's contract.toml of what it breaks (where the lab has that file). Those in `right/` are
unusual but correct; their first line says what is unusual. Labs join by their files alone.
Those in `wrong/more/` and `right/more/` resemble others so much that `make soak` is their place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from forked_checks import start

from streamlab.labs import Lab, run_checks
from streamlab.results import CheckResult

TESTS = Path(__file__).parent
CORPORA = TESTS / "labs"
AT_ONCE = 4
"""Much of a check is waiting."""

BUFFERS = {"HOLD", "STALL", "LIVE", "DROP"}
"""Kinds of check with clients who do not read on. The answers that they must catch are marked
`buffers`, and `tools/run_kernels.py` checks them with several kernels' settings."""

FIRST_LINE = re.compile(r"# ([A-Z]+)(?: ([a-z0-9-]+))?: \S.*")

LABS = [Lab(file.parent) for file in sorted((TESTS.parent / "solutions").glob("*/lab.toml"))]

Results = dict[str, CheckResult]
ResultsOf = Callable[[Path], Results]

pytestmark = pytest.mark.needs("linux")
CLIENTS = pytest.mark.needs("curl", "wget", "aria2c")
"""For answers that lab 08's check with these clients must catch: it leaves out what is missing."""


def answers(folder: str) -> list[ParameterSet]:
    """The answers of all labs in folders of that name."""
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


def lives_by_buffers(answer: Path) -> bool:
    """Whether it depends on the kernel's buffers for a connection that a mistake is seen."""
    return is_wrong(answer) and kind_of(answer) in BUFFERS


def runs_curl(answer: Path) -> bool:
    """Whether an answer starts curl, which may be missing on a student's machine."""
    return '"curl"' in answer.read_text(encoding="utf-8")


def kind_of(answer: Path) -> str:
    """The kind of check that must catch a wrong answer; empty if its first line says none."""
    found = _first_line(answer)
    return found[1] if found else ""


def promise_of(answer: Path) -> str:
    """The promise that a wrong answer breaks, by its id; empty if its first line names none."""
    found = _first_line(answer)
    return found[2] or "" if found else ""


def _first_line(answer: Path) -> re.Match[str] | None:
    with answer.open(encoding="utf-8") as file:
        return FIRST_LINE.fullmatch(file.readline().rstrip("\n"))


def program_of(answer: Path) -> str:
    """The program that an answer stands in for."""
    return answer.stem.partition("__")[0] + ".py"


def checks_for(answer: Path) -> list[str]:
    """A right answer: all of its program. A wrong one: those of its kind."""
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


def run(answer: Path) -> Results:
    """Check an answer in place of its program; the results by check."""
    programs = {program_of(answer): answer}
    # Longer than a student gets: here four run at once, and other tests beside them.
    results = run_checks(
        lab_of(answer), programs, only=checks_for(answer), seconds=600, start=start
    )
    return {result.check: result for result in results}


@pytest.fixture(scope="session")
def results_of(request: pytest.FixtureRequest) -> Iterator[ResultsOf]:
    """What became of an answer; some answers are checked at once, in the order of the tests."""
    wanted: list[Path] = []
    for item in request.session.items:
        if "results_of" in getattr(item, "fixturenames", ()):
            params = item.callspec.params
            wanted += [params["answer"]] if "answer" in params else right_answers(params["lab"])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs: dict[Path, Future[Results]] = {
            answer: pool.submit(run, answer) for answer in dict.fromkeys(wanted)
        }
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
    if promise := promise_of(answer):
        assert promise in {result.promise for result in caught}, told(results)
    if promises := lab_of(answer).promises:
        assert {result.promise for result in caught} <= set(promises), told(results)


@pytest.mark.parametrize("answer", answers("right"))
def test_a_right_answer_gets_full_marks(answer: Path, results_of: ResultsOf) -> None:
    results = results_of(answer)
    assert list(results) == checks_for(answer)
    assert all(r.points == r.max_points for r in results.values()), told(results)


def right_answers(lab: Lab) -> list[Path]:
    """The right answers of a lab, without those in more/ and those that need curl."""
    files = (param.values[0] for param in answers("right") if not param.marks)
    return [file for file in files if lab_of(file) == lab]


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
    """The checks ask for what the text promises: nothing less, and nothing else."""
    probed = {
        name
        for answer in right_answers(lab)
        for result in results_of(answer).values()
        for name in result.probed
    }
    assert sorted(probed) == sorted(lab.promises)


@pytest.mark.parametrize("lab", WITH_CONTRACT, ids=lambda lab: lab.name)
def test_each_promise_has_an_answer_that_breaks_it(lab: Lab) -> None:
    broken = {promise_of(p.values[0]) for p in answers("wrong") if lab_of(p.values[0]) == lab}
    assert sorted(set(lab.promises) - broken) == []


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)
def test_a_contract_has_the_words_of_the_text(lab: Lab) -> None:
    """Each promise stands in the lab's text, and names one of its checks."""
    text = words_of(lab)
    for promise in lab.promises.values():
        assert promise.text in text, f"{promise.id}: the text has no {promise.text!r}"
        assert promise.check in {check.id for check in lab.checks}, promise.id


@pytest.mark.parametrize("lab", WITH_CONTRACT, ids=lambda lab: lab.name)
def test_each_row_of_the_text_is_promised(lab: Lab) -> None:
    """Each row of the tables that say what the program has to do is quoted by a promise."""
    rows = re.findall(r"^(\| *[^ |-].*)\n(?!\|-)", words_of(lab), re.MULTILINE)  # no heading
    assert rows
    silent = [row for row in rows if not any(p.text in row for p in lab.promises.values())]
    assert silent == []


def words_of(lab: Lab) -> str:
    """The text of a lab's notebook."""
    notebook = json.loads((lab.folder / "lab.ipynb").read_text(encoding="utf-8"))
    cells = (cell for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    return "\n\n".join("".join(cell["source"]) for cell in cells)
