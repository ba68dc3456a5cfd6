"""Labs: generated from their solutions, complete, and without the answers."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from streamlab import cli
from streamlab.dev import complete
from streamlab.dev.complete import Point
from streamlab.dev.draft import Draft
from streamlab.labs import failures, progress
from streamlab.labs.failures import as_text
from streamlab.labs.generate import (
    differences,
    generate,
    solution_lines,
    strip_solution,
    texts_of,
)
from streamlab.labs.manifest import Lab, LabError
from streamlab.labs.results import CheckResult, schema
from streamlab.labs.runner import RunOptions, run_checks
from streamlab.labs.scratch import scratch_folder
from streamlab.lesson import lab_results

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = sorted(path for path in (ROOT / "solutions").iterdir() if (path / "lab.toml").is_file())
each_lab = pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda path: path.name)


@pytest.fixture
def generated(solution: Path, tmp_path: Path) -> Path:
    """A lab, freshly generated."""
    target = tmp_path / "labs" / solution.name
    generate(solution, target)
    return target


# Markers


def test_a_solution_is_cut_out_and_its_stub_stays() -> None:
    """The given code stays, and the stub, with one comment sign less."""
    text = (
        "a = 1\n# BEGIN SOLUTION\n# BEGIN STUB\n# b = 0\n#     c = 0\n# END STUB\n"
        "b = 2\n# END SOLUTION\nd = 3\n"
    )
    assert strip_solution(text, "x.py") == "a = 1\nb = 0\n    c = 0\nd = 3\n"
    assert solution_lines("# BEGIN SOLUTION\nvalue = compute_it(1)\n# END SOLUTION\n") == {
        "value = compute_it(1)"
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("# BEGIN SOLUTION\na = 1\n", "never closed"),
        ("# END SOLUTION\n", "without its BEGIN"),
        ("# BEGIN SOLUTION\n# BEGIN SOLUTION\n", "inside a SOLUTION"),
        ("# BEGIN STUB\n# END STUB\n", "stands inside a SOLUTION"),
        ("# BEGIN SOLUTION\n# BEGIN STUB\n# END SOLUTION\n", "END SOLUTION without"),
        ("a = 1  # BEGIN SOLUTION\n# END SOLUTION\n", "line of its own"),
    ],
)
def test_wrong_markers_are_errors(text: str, complaint: str) -> None:
    """Unclosed, nested and leaked markers name the file and the line."""
    with pytest.raises(LabError, match=complaint) as caught:
        strip_solution(text, "x.py")
    assert str(caught.value).startswith("x.py, line ")


# Generated labs


def committed(name: str) -> dict[str, str]:
    """The files of a lab as they stand in the last commit, never as a student left them."""
    listing = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD", f"labs/{name}/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    shown = {}
    for file in listing:
        command = ["git", "show", f"HEAD:{file}"]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        shown[file.removeprefix(f"labs/{name}/")] = ran.stdout
    return shown


def test_a_folder_is_removed_while_programs_still_write_into_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that is cut short ends while its servers do."""
    remove, times = shutil.rmtree, []

    def remove_and_lose_the_race(folder: str, **options: Any) -> None:
        remove(folder, **options)
        times.append(folder)
        if len(times) < 3:
            Path(folder, "files").mkdir(parents=True)

    monkeypatch.setattr(shutil, "rmtree", remove_and_lose_the_race)
    with scratch_folder("streamlab-test-") as name:
        Path(name, "file").touch()
    assert not Path(name).exists()
    assert len(times) == 3


@each_lab
def test_labs_are_what_solutions_make_of_them(generated: Path) -> None:
    """`make labs` has been run after the last change of a solution."""
    assert differences(texts_of(generated), committed(generated.name)) == []


def test_a_changed_lab_is_noticed() -> None:
    """The comparison sees a changed file, a missing one, and a changed cell, but no output."""
    cell = {"cell_type": "code", "id": "a", "source": "1", "outputs": [], "execution_count": 1}
    notebook = json.dumps({"cells": [cell], "metadata": {}})
    run = json.dumps({"cells": [{**cell, "outputs": [1], "execution_count": 2}], "metadata": {}})
    changed = json.dumps({"cells": [{**cell, "source": "2"}], "metadata": {}})
    assert differences({"a.ipynb": notebook}, {"a.ipynb": run}) == []
    assert differences({"a.ipynb": notebook}, {"a.ipynb": changed}) == ["a.ipynb: differs"]
    assert differences({"a.py": "1"}, {"a.py": "2"}) == ["a.py: differs"]
    assert differences({"a.py": "1"}, {}) == ["a.py: only in one of them"]


IN_THE_FILES = [point for point in complete.ALL if not point.starts_servers]


@pytest.mark.parametrize("point", IN_THE_FILES, ids=lambda point: point.name)
@each_lab
def test_a_lab_is_complete(solution: Path, point: Point) -> None:
    """All points of `streamlab dev check --fast` hold, for labs/ as committed."""
    if point.find is complete.labs:
        texts = committed(solution.name)
        assert list(complete.given_away(Draft(ROOT, solution.name), texts)) == []
    else:
        assert complete.defects(Draft(ROOT, solution.name), point) == []


@each_lab
def test_a_lab_has_no_hints_for_what_is_no_cause(solution: Path) -> None:
    assert Lab(solution).hints("", "no such cause") == []


# Running


@each_lab
@pytest.mark.soak
@pytest.mark.needs("linux")
def test_a_solution_gets_full_marks(solution: Path) -> None:
    """A solution gets full marks, as its notebook shows, which `make test` runs too."""
    assert list(complete.solution(Draft(ROOT, solution.name))) == []


@pytest.mark.needs("linux")
def test_results_keep_to_the_schema() -> None:
    """All fields of a solved lab's results are in the schema."""
    lab = Lab(ROOT / "solutions" / "02_chunked_loop")
    results = run_checks(lab, options=RunOptions(seed=1))
    assert sum(result.points for result in results) == lab.points
    for result in results:
        jsonschema.validate(json.loads(result.to_json()), schema())
        assert CheckResult.from_json(result.to_json()) == result


def test_the_schema_refuses_what_is_no_result() -> None:
    """An unknown outcome, or an unknown field, is no result."""
    result = json.loads(CheckResult("02", "a", "HUGE", 1, 1, "passed").to_json())
    jsonschema.validate(result, schema())
    for wrong in ({"outcome": "brilliant"}, {"extra": 1}, {"points": "many"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**result, **wrong}, schema())


@each_lab
@pytest.mark.needs("linux")
def test_a_stub_is_not_attempted(generated: Path) -> None:
    """A lab that was not edited gets no points, and no failures."""
    results = run_checks(Lab(generated))
    assert {result.outcome for result in results} == {"not_attempted"}
    assert [result.check for result in results] == [check.id for check in Lab(generated).checks]


@pytest.mark.parametrize(
    "solution",
    [
        # Its last check leaves out the clients that are not installed; curl is the strictest.
        pytest.param(path, marks=pytest.mark.needs("curl") if path.name == "08_ranges" else ())
        for path in SOLUTIONS
    ],
    ids=lambda path: path.name,
)
@pytest.mark.needs("linux")
def test_a_stub_starts_and_fails(solution: Path) -> None:
    """Run as a program, the stub starts, and passes nothing but what lab.toml says it may."""
    assert list(complete.stub(Draft(ROOT, solution.name))) == []


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A course with one generated lab, 02, and us in its top folder."""
    solution = ROOT / "solutions" / "02_chunked_loop"
    generate(solution, tmp_path / "labs" / solution.name)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "labs" / solution.name


def streamlab(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line tool in this folder."""
    command = [sys.executable, "-c", "from streamlab.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


BAD = {
    "syntax": ("def main( -> None:\n    pass\n", "line 1"),
    "silent": ("import time\ntime.sleep(60)\n", "did not listen within"),
    "exits": ("print('good bye')\n", "ended at its start with status 0"),
    "raises": ("raise RuntimeError('not today')\n", "not today"),
    "wide": ("print('listening on http://0.0.0.0:8000', flush=True)\nimport time\ntime.sleep(60)\n",
             "listening on http://127.0.0.1:PORT"),
    "chatty": ("print('x' * 1_000_000)\nraise SystemExit(3)\n", "status 3"),
    "binary": ("\0", "no Python"),
    "port": (
        "import socket\na = socket.create_server(('127.0.0.1', 0))\n"
        "b = socket.create_server(a.getsockname())\n",
        "for any free port, and tried one that is taken: it has to listen on the port that",
    ),
}  # fmt: skip


@pytest.mark.needs("linux")
@pytest.mark.parametrize("mistake", BAD)
def test_a_program_that_does_not_run_is_explained(course: Path, mistake: str) -> None:
    """The reason stands in the result, and the check itself is not at fault."""
    program, reason = BAD[mistake]
    (course / "server.py").write_text(program)
    [result] = run_checks(Lab(course), only=["wire"])
    assert result.outcome == "could_not_run", result
    assert reason in result.evidence
    assert "Traceback" not in result.evidence.partition("It wrote")[0]


@pytest.mark.needs("linux")
def test_a_program_can_not_harm_the_lab(course: Path) -> None:
    """A program that deletes its own folder deletes a copy."""
    text = (ROOT / "solutions" / "02_chunked_loop" / "server.py").read_text()
    delete = "import shutil, os\nshutil.rmtree(os.path.dirname(os.path.abspath(__file__)))\n"
    before, main = text.split('if __name__ == "__main__":')
    (course / "server.py").write_text(f'{before}{delete}if __name__ == "__main__":{main}')
    [result] = run_checks(Lab(course), only=["wire"])
    assert (course / "server.py").is_file() and (course / "lab.toml").is_file()
    assert result.outcome in ("passed", "could_not_run")


def test_reset_keeps_a_copy(course: Path) -> None:
    """The stub is back, and what the student had written lies beside it."""
    stub = (course / "server.py").read_text()
    (course / "server.py").write_text("# my work\n")
    [copy] = progress.reset(Lab(course))
    assert copy.read_text() == "# my work\n"
    assert (course / "server.py").read_text() == stub
    assert progress.reset(Lab(course)) == []


def test_line_ends_and_trailing_space_are_no_attempt(course: Path) -> None:
    """An editor's habits are not a student's work."""
    text = (course / "server.py").read_text()
    (course / "server.py").write_bytes(text.replace("\n", "  \r\n").encode() + b"\n\n")
    assert not Lab(course).attempted(course / "server.py")
    (course / "server.py").write_text(text + "x = 1\n")
    assert Lab(course).attempted(course / "server.py")


def test_hints_come_one_by_one(course: Path) -> None:
    """Each call gives one more hint, and the last one again."""
    lab = Lab(course)
    hints = lab.hints(lab.checks[0].id)
    told = [progress.next_hint(lab) for _ in range(len(hints) + 1)]
    for number, hint in enumerate(hints):
        assert hint in told[number]
    assert told[-1] == told[-2]


@pytest.mark.needs("linux")
def test_the_command_line(course: Path) -> None:
    """check, progress and their exit statuses, by the same results."""
    shutil.copy(ROOT / "solutions" / "02_chunked_loop" / "server.py", course / "server.py")
    ran = streamlab("check", "02", "--only", "wire", "--seed", "7", "--json")
    assert ran.returncode == 0, ran.stderr
    assert CheckResult.from_json(ran.stdout).outcome == "passed"
    assert CheckResult.from_json(ran.stdout).seed == 7
    text = (course / "server.py").read_text().replace("200 OK", "203 Fine")
    (course / "server.py").write_text(text)
    ran = streamlab("check", "2", "--only", "wire", "--seed", "7")
    assert ran.returncode == 1
    for part in ("curl -sS", "203 Fine", "has another status", "Look here", "--seed 7", "0 of 3"):
        assert part in ran.stdout
    assert "not checked yet" in streamlab("progress").stdout
    for wrong in (["check", "77"], ["check", "02", "--only", "nothing"]):
        ran = streamlab(*wrong)
        assert ran.returncode == 2
        assert len(ran.stderr.strip().splitlines()) == 1


@pytest.mark.needs("linux")
def test_pytest_gives_the_same_verdicts(course: Path) -> None:
    """`pytest labs/02_chunked_loop` tells the failure as the other ways do."""
    (course / "server.py").write_text("raise SystemExit(3)\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:nbval", str(course)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1
    assert "seed: " in ran.stdout
    assert "server.py ended at its start with status 3" in ran.stdout
    assert f"{len(Lab(course).checks)} failed" in ran.stdout


LATE = """
import pathlib
from streamlab import DownloadError, ServerError
from streamlab.errors import NotListening

def test_wire(lab):
    tries = pathlib.Path({tries!r})
    with tries.open("a") as file:
        file.write("x")
    if len(tries.read_text()) < {needed}:
        raise {error}
"""


@pytest.mark.parametrize(
    "error",
    [
        'NotListening("load_all.py did not listen within 10 s")',
        'DownloadError("not finished after 60 s", "unfinished")',
        'DownloadError("no answer in 60 s", "overdue")',
        'TimeoutError("timed out")',
        'ServerError("load_all.py ended at its start with status 1")',
        'DownloadError("cut short", "cut_short")',
    ],
)
def test_what_broke_for_want_of_time_is_run_again(course: Path, tmp_path: Path, error: str) -> None:
    """It costs no point, and is told once; other errors are not tried again."""
    (course / "server.py").write_text("x = 1\n")
    tries, late = tmp_path / "tries", "ended" not in error and "cut" not in error
    told: list[CheckResult] = []
    for needed, outcome in ((3, "passed" if late else "grader_fault"), (99, "grader_fault")):
        tries.write_text("")
        told.clear()
        text = LATE.format(tries=str(tries), needed=needed, error=error)
        (course / "test_lab.py").write_text(text)
        [result] = run_checks(Lab(course), only=["wire"], told=told.append)
        assert (result.outcome, told) == (outcome, [result])
        assert len(tries.read_text()) == (3 if late else 1)
        assert Lab(course).depends_on_time(result) == (outcome == "grader_fault" and late)
    assert ("not to blame" in as_text(Lab(course), result)) == late


def test_a_broken_check_is_the_graders_fault(course: Path) -> None:
    """An exception in a check itself costs nobody a point, and is told as what it is."""
    (course / "server.py").write_text("x = 1\n")
    (course / "test_lab.py").write_text("def test_wire(lab):\n    1 / 0\n")
    [result] = run_checks(Lab(course), only=["wire"])
    assert result.outcome == "grader_fault"
    assert "ZeroDivisionError" in result.evidence
    (course / "test_lab.py").write_text("def test_wire(lab:\n")
    [result] = run_checks(Lab(course), only=["wire"])
    assert result.outcome == "grader_fault"


def test_what_a_check_left_out_is_told(course: Path) -> None:
    """A note costs no point, stands below the results, and belongs to its own check alone."""
    (course / "server.py").write_text("x = 1\n")
    (course / "test_lab.py").write_text(
        "from streamlab.checks.outcome import note\n"
        "def test_bytes():\n    note('nmap is missing: left out.')\n"
        "def test_wire():\n    pass\n"
    )
    lab = Lab(course)
    results = run_checks(lab, only=["bytes", "wire"])
    assert [r.outcome for r in results] == ["passed", "passed"]
    assert [r.evidence for r in results] == ["nmap is missing: left out.", ""]
    assert failures.advice(lab, results) == "nmap is missing: left out."
    assert "nmap is missing" in repr(lab_results.Results(lab, results))


def test_what_a_check_left_out_stands_in_a_live_cell(course: Path) -> None:
    """The saved output of a notebook is the same whether a tool is there or not."""
    lab = Lab(course)

    def saved(note: str) -> dict[str, str]:
        passed = CheckResult("x", "bytes", "BYTES", 1, 1, "passed", evidence=note, seconds=0.1)
        shown = lab_results.Results(lab, [passed])._repr_mimebundle_()
        assert html.escape(note) in shown["text/html"]
        blanked = re.sub(r'<td class="live"[^>]*>[^<]*</td>', "", shown["text/html"])
        return {**shown, "text/html": blanked}

    assert saved("") == saved("<nmap> is missing: left out.") == saved("nmap: left out.")


def test_a_run_keeps_the_order_asked_for_and_can_end_itself(course: Path) -> None:
    """It may end at the first failure; the remaining checks could not run."""
    (course / "server.py").write_text("x = 1\n")
    (course / "test_lab.py").write_text(
        "import time\n"
        "from streamlab.checks.outcome import fail\n"
        "def test_bytes():\n    time.sleep(600)\n"
        "def test_wire():\n    fail('wrong_bytes', 'a failure')\n"
    )
    stop = threading.Event()
    results = run_checks(
        Lab(course),
        only=["wire", "none", "bytes"],
        told=lambda _: stop.set(),
        options=RunOptions(stop=stop),
    )
    assert [(r.check, r.outcome) for r in results] == [
        ("wire", "failed"),
        ("bytes", "could_not_run"),
    ]


def test_the_same_seed_draws_the_same(course: Path) -> None:
    """Another seed draws something else."""
    (course / "test_lab.py").write_text(
        "from streamlab.checks.outcome import fail\n"
        "def test_wire(rng):\n    fail('wrong_bytes', str(rng.random()))\n"
    )
    (course / "server.py").write_text("x = 1\n")
    drawn = [
        run_checks(Lab(course), only=["wire"], options=RunOptions(seed=seed))[0].evidence
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


STUBBORN = """
import os, signal, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"here is %d\\n" % os.getpid())
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(1, b"here is %d\\n" % os.getpid())
        time.sleep(100)
    os._exit(0)
while True:
    time.sleep(0.01)  # a program that uses CPU is given more time
"""


@pytest.mark.needs("linux")
def test_nothing_stays_behind(
    course: Path, alive: Callable[[int], bool], becomes: Callable[[Callable[[], bool]], bool]
) -> None:
    """A program that forks, leaves its group, loops and ignores SIGTERM is explained, and ended."""
    (course / "server.py").write_text(STUBBORN)
    [result] = run_checks(Lab(course), only=["wire"])
    assert result.outcome == "could_not_run"
    assert "did not listen within" in result.evidence
    pids = {int(pid) for pid in re.findall(r"here is (\d+)", result.evidence)}
    assert len(pids) == 2  # the first of these lines is quoted once more, as the first line
    assert becomes(lambda: not any(alive(pid) for pid in pids))


STOPPED = """
import os, time
from pathlib import Path

def test_wire():
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    here = Path(PLACE)
    here.with_suffix(".new").write_text(str(pid))
    here.with_suffix(".new").rename(here)
    time.sleep(600)
"""


@pytest.mark.needs("linux")
def test_a_run_that_is_stopped_takes_all_with_it(
    course: Path,
    tmp_path: Path,
    alive: Callable[[int], bool],
    becomes: Callable[[Callable[[], bool]], bool],
) -> None:
    """It ends every process, also a sandbox that is being made and has no supervisor yet."""
    place, stop = tmp_path / "pid", threading.Event()
    (course / "server.py").write_text("x = 1\n")
    (course / "test_lab.py").write_text(STOPPED.replace("PLACE", repr(str(place))))
    with ThreadPoolExecutor() as pool:
        options = RunOptions(stop=stop)
        results = pool.submit(run_checks, Lab(course), only=["wire"], options=options)
        assert becomes(place.exists)
        stop.set()
        assert results.result()[0].outcome == "could_not_run"
    assert becomes(lambda: not alive(int(place.read_text())))


def test_a_notebook_tells_a_failure_in_full() -> None:
    """Passed checks are a line each; a failed one brings its evidence, escaped in HTML."""
    Results = lab_results.Results
    lab = Lab(ROOT / "solutions" / "02_chunked_loop")
    good = CheckResult(lab.name, "bytes", "BYTES", 3, 3, "passed", seed=4711, seconds=1.25)
    bad = CheckResult(lab.name, "huge", "HUGE", 0, 3, "failed", "whole_file", "<b>too much</b>")
    text = repr(Results(lab, [good, bad]))
    assert "passed" in text and "3 of 6 points" in text
    assert "<b>too much</b>" in text and "ran out of memory" in text
    assert "4711" not in repr(Results(lab, [good])), "what changes stands in live cells only"
    shown = Results(lab, [good, bad])._repr_mimebundle_()["text/html"]
    assert "&lt;b&gt;too much" in shown and "<b>too much" not in shown
    assert '<td class="live"' in shown
    opening, folded = shown.split("<details><summary>")
    assert "ran out of memory" in opening and "Look here" in opening, "the cause is in the open"
    assert "too much" in folded and "--only huge" in folded, "the exchange is folded"


def test_a_terminal_gets_a_failure_as_it_is(
    course: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing in it becomes markup, and no text between two colons an emoji."""
    request = "X-A: [red]:a:[/] and :b:"
    lab = Lab(course)
    failed = CheckResult(lab.name, "split", "SPLIT", 0, 2, "failed", "", "It sent " + request)
    passed = CheckResult(lab.name, "wire", "WIRE", 2, 2, "passed", "", request)
    cli._show(lab, [failed, passed], 1)
    assert capsys.readouterr().out.count(request) == 2


# By hand


WRONG = ROOT / "tests" / "corpora" / "02_chunked_loop" / "wrong"


def by_hand(text: str, port: int) -> tuple[str, str]:
    """The two commands of a story: what starts the server, and what asks it, on another port."""
    start = re.search(r"To start the server on them, in .*?: (\(.*\))$", text, re.MULTILINE)
    ask = re.search(r"^Try it by hand: (.*)$", text, re.MULTILINE)
    assert start and ask, text
    assert "PORT" not in start[1] + ask[1]
    return start[1].replace("8000", str(port)), ask[1].replace("8000", str(port))


@pytest.mark.needs("linux")
@pytest.mark.parametrize(
    ("mistake", "check", "seen"),
    [
        ("line_of_8190", "split", "404 Not Found"),  # a line of Python: the head is long
        ("dot_dot_in_name", "wire", "404 Not Found"),  # curl
        ("head_as_utf8", "split", "decode byte"),  # a byte that curl does not send
    ],
)
def test_what_failed_can_be_seen_by_hand(
    course: Path,
    mistake: str,
    check: str,
    seen: str,
    closed_port: int,
    becomes: Callable[[Callable[[], bool]], bool],
) -> None:
    """The printed commands, as they stand: the server on the kept files, and the request."""
    shutil.copy(WRONG / f"server__{mistake}.py", course / "server.py")
    told = streamlab("check", "02", "--only", check, "--keep").stdout
    start, ask = by_hand(told, closed_port)
    if ask.startswith("curl") and shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    log = course / "log.txt"
    with log.open("w") as output:
        server = subprocess.Popen(
            ["sh", "-c", f"exec setsid sh -c {shlex.quote(start)}"],
            cwd=course,
            stdout=output,
            stderr=output,
            env={**here, "PYTHONUNBUFFERED": "1"},
        )
    try:
        assert becomes(lambda: "listening on" in log.read_text()), log.read_text()
        command = ["sh", "-c", ask]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, env=here)
        came = answer.stdout + answer.stderr
        assert becomes(lambda: seen in came + log.read_text()), came
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.needs("linux")
def test_files_are_kept_of_what_fails_alone(course: Path) -> None:
    """A check that passes leaves none, another run removes what was kept, and so does a reset."""
    lab = Lab(course)
    shutil.copy(WRONG / "server__line_of_8190.py", course / "server.py")
    results = run_checks(lab, only=["split", "short"], options=RunOptions(keep=True))
    assert [result.outcome for result in results] == ["failed", "passed"]
    kept = failures.kept_files(lab, "split")
    assert any(kept.iterdir())
    assert not failures.kept_files(lab, "short").parent.exists()
    [failed, _] = results
    assert str(kept.parent) in failures.as_text(lab, failed)
    progress.reset(lab)
    assert not kept.exists()
    assert "With --keep" in failures.as_text(lab, failed)


def test_an_app_is_started_by_hand_with_its_runner() -> None:
    """The command gives an app its folder in the environment."""
    lab = Lab(ROOT / "solutions" / "07_frameworks")
    command = failures.start_by_hand(lab, lab.folder / ".streamlab" / "its files")
    assert "STREAMLAB_ROOT='.streamlab/its files' python -m streamlab.serve app.py:app" in command
