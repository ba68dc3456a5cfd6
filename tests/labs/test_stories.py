"""What is told of a failed check, and of one that runs: the cause first, the exchange short."""

from __future__ import annotations

import json
import re
import sys
import tomllib
import types
from pathlib import Path
from typing import Any

import pytest

from streamlab.checks import evidence, outcome
from streamlab.labs import failures, progress
from streamlab.labs.generate import generate
from streamlab.labs.manifest import HINTS, Lab
from streamlab.labs.results import CheckResult, Step, from_line, is_step
from streamlab.labs.runner import run_checks
from streamlab.lesson import lab_results

ROOT = Path(__file__).resolve().parents[2]
LAB = Lab(ROOT / "solutions" / "02_chunked_loop")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Lab 02, generated, with a program that is no stub."""
    folder = tmp_path / "labs" / LAB.name
    generate(LAB.folder, folder)
    (folder / "server.py").write_text("x = 1\n")
    return Lab(folder)


def failed(check: str = "split", cause: str = "one_recv", **others: Any) -> CheckResult:
    return CheckResult(LAB.name, check, check.upper(), 0, 2, "failed", cause, **others)


# Stories


def test_a_story_opens_with_the_cause() -> None:
    """Then what to look at, then the promise with what it is about, and the exchange last."""
    result = failed(promise="pieces", evidence="Sent it a byte at a time.", curl="curl -sS it")
    parts = failures.as_text(LAB, result).split("\n\n")
    assert parts[0] == "Requests in pieces (SPLIT): 0 of 2 points"
    assert parts[1] == LAB.cause_text("one_recv")
    assert parts[2].startswith(f"Look here: {LAB.hints('split', 'one_recv')[0]}")
    assert parts[3].startswith("The lab's text says: the request: may come in one piece")
    assert parts[4] == "Sent it a byte at a time."
    assert parts[5] == "Try it by hand: curl -sS it"


def test_what_a_program_said_opens_the_story_of_one_that_did_not_start() -> None:
    """The error is the cause, and stands there once."""
    error = "server.py, line 3: '(' was never closed. Mend that line, then check again."
    result = CheckResult(
        LAB.name, "wire", "WIRE", 0, 3, "could_not_run", "unreadable", evidence=error
    )
    story = failures.story(LAB, result)
    assert story.cause == error
    assert story.text().count(error) == 1


def test_a_short_story_has_the_beginning_of_each_piece_of_data() -> None:
    """So what came back is there, however long the request was; and it says what is left out."""
    head = "\n".join(f"    X-{number}: {'a' * 300}" for number in range(80))
    evidence = (
        f"It was sent:\n\n{head}\n\nCame back:\n\n    HTTP/1.1 404 Not Found\n\nIt should be 200."
    )
    text = failures.as_text(LAB, failed(evidence=evidence), short=True)
    assert "404 Not Found" in text and "It should be 200." in text
    assert "(76 more lines)" in text and "X-5:" not in text
    assert max(map(len, text.splitlines())) < 200
    assert "X-79:" in failures.as_text(LAB, failed(evidence=evidence))


def test_a_short_story_has_an_end() -> None:
    """Whatever the evidence is, a screen holds it."""
    evidence = "\n".join(f"line {number}" for number in range(1000))
    text = failures.as_text(LAB, failed(evidence=evidence), short=True)
    assert len(text.splitlines()) < 40
    assert "(976 more lines)" in text


def test_a_short_story_has_the_end_of_a_log() -> None:
    """That is where an exception says what it is."""
    log = "\n".join(f"    line {number}" for number in range(12))
    text = failures.as_text(LAB, failed(evidence=f"It\n\nThe server wrote:\n\n{log}"), short=True)
    assert "    (8 more lines) ...\n    line 8" in text and "line 11" in text
    assert "line 7" not in text


# Hints


def test_a_hint_speaks_of_what_failed_last(lab: Lab) -> None:
    """Also if that was one check alone; once that passes, of what failed before."""
    results = [
        CheckResult(LAB.name, each.id, each.kind, each.points, each.points, "passed")
        for each in lab.checks
    ]
    progress.remember(lab, [*results[:-2], failed(), results[-1]])
    assert "Requests in pieces" in progress.next_hint(lab)
    progress.remember(lab, [failed("huge", "whole_file")], whole=False)
    assert "Larger than memory" in progress.next_hint(lab)
    progress.remember(lab, [results[1]], whole=False)
    assert "Requests in pieces" in progress.next_hint(lab)
    progress.remember(lab, [results[-2]], whole=False)
    assert "nothing to hint at" in progress.next_hint(lab)
    assert sum(each.points == 0 for each in progress.last_results(lab)) == 1, "of a run of all"


# What a check does while it runs

SLOW = """
from streamlab.checks.outcome import promise, waiting

def test_wire(lab):
    with promise("pieces"), waiting("until the check has been seen"):
        import time; time.sleep(0.5)
"""


def test_a_run_tells_what_it_does(lab: Lab) -> None:
    """The promise that it tests and what it waits for, while it does."""
    (lab.folder / "test_lab.py").write_text(SLOW)
    steps: list[Step] = []
    run_checks(lab, only=["wire"], doing=steps.append)
    assert Step("wire", "pieces", "until the check has been seen") in steps
    [line] = {failures.step_text(lab, step) for step in steps if step.waits}
    assert line.startswith("To the letter (waits until the check has been seen): the request: may")


def test_a_step_is_no_result() -> None:
    step, result = Step("wire", "pieces", "for it"), failed(evidence='{"step": 1}')
    assert from_line(step.to_json()) == step and is_step(step.to_json())
    assert from_line(result.to_json()) == result and not is_step(result.to_json())


def test_a_wait_ends_and_its_promise_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each listener is told both, in that order."""
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(outcome, "LISTENERS", [lambda *what: told.append(what)])
    monkeypatch.setattr(outcome, "PROBED", [])
    with outcome.promise("a"), outcome.waiting("for b"):
        pass
    assert told == [("a", ""), ("a", "for b"), ("a", "")]


@pytest.mark.parametrize("metadata", [{}, {"cellId": "a"}], ids=["nbval", "JupyterLab"])
def test_a_notebook_shows_progress_to_those_who_look(
    lab: Lab, metadata: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that changes, and is cleared at the end; nothing at all where outputs are compared."""
    said: list[str] = []
    handle = types.SimpleNamespace(update=lambda line: said.append(repr(line)))
    display = types.ModuleType("IPython.display")
    display.display = lambda *_, **__: handle  # type: ignore[attr-defined]
    display.clear_output = lambda wait: said.append("cleared")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    shell = types.SimpleNamespace(get_parent=lambda: {"metadata": metadata})
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    (lab.folder / "test_lab.py").write_text(SLOW)
    monkeypatch.setattr(lab_results, "find_lab", lambda _: lab)
    lab_results.check(only=["wire"])
    if metadata:
        assert said[-1] == "cleared" and "until the check has been seen" in "".join(said[:-1])
        assert re.match(r"0 of 1 checks, \d+ s\. To the letter", said[0])
    else:
        assert said == []


# By hand


def test_what_no_answer_shows_is_looked_at_in_the_server(lab: Lab) -> None:
    """Descriptors, threads, memory and CPU time, once the files are kept."""
    result = failed("drop", "leaks", curl="curl -sS http://127.0.0.1:PORT/a")
    assert "pgrep" not in failures.as_text(lab, result)
    root = failures.kept_files(lab, "drop")
    root.mkdir(parents=True)
    (root / "a").touch()
    assert "after it: ls /proc/$(pgrep -nf port.8000)/fd | wc -l" in failures.as_text(lab, result)
    assert "pgrep" not in failures.as_text(lab, failed("drop", "wrong_bytes", curl=result.curl))


def test_each_look_is_for_a_cause_of_a_lab() -> None:
    causes = {
        cause
        for solution in (ROOT / "solutions").iterdir()
        if (solution / "lab.toml").is_file()
        for cause in Lab(solution).manifest.get("causes", {})
    }
    looks = tomllib.loads((HINTS / "common.toml").read_text())["looks"]
    assert looks and set(looks) <= causes
    assert all("PROCESS" in command for command in looks.values())


def test_a_server_by_hand_has_the_variables_of_the_check(lab: Lab) -> None:
    """A time zone as the check gave it, and the origin's address in place of the check's own."""
    root = failures.kept_files(lab, "wire")
    root.mkdir(parents=True)
    assert "To start the server" not in failures.as_text(lab, failed("wire", curl="curl"))
    given = {"TZ": "XST-5:30", "STREAMLAB_UPSTREAM": "http://127.0.0.1:4711"}
    failures.kept_environment(root).write_text(json.dumps(given))
    told = failures.as_text(lab, failed("wire", curl="curl"))
    assert "TZ=XST-5:30 STREAMLAB_UPSTREAM=http://127.0.0.1:9000 python server.py" in told
    assert "To start the server as the check did" in told


def test_a_file_is_compared_with_the_one_that_was_kept(lab: Lab) -> None:
    """Whole and alone, under the name that the disk knows; HEAD goes out by Python."""
    root = failures.kept_files(lab, "bytes")
    root.mkdir(parents=True)
    (root / "a b").touch()
    server: Any = types.SimpleNamespace(root=root)
    command = evidence.curl(server, "/a%20b", "-o got")
    assert command.endswith(" && cmp got 'ROOT/a b'")
    told = failures.as_text(lab, failed("bytes", "wrong_bytes", curl=command))
    assert f"&& cmp got '{root.relative_to(lab.folder)}/a b'" in told
    for options in ("-i -o got", "--max-time 1 -o got", "-o /dev/null"):
        assert "cmp" not in evidence.curl(server, "/a%20b", options)
    assert "cmp" not in evidence.curl(server, "/missing", "-o got")
    assert "HEAD /a%20b HTTP/1.1" in evidence.curl(server, "/a%20b", "-I")


LOG = """asked: GET /a
ERROR:    Exception in ASGI application
Traceback (most recent call last):
  File "/v/lib/python3/site-packages/uvicorn/h11_impl.py", line 410, in run_asgi
    result = await app(
             ^^^^^^^^^^
  File "/tmp/desk/app.py", line 9, in stream
    data = upstream.read()
  File "/v/lib/python3/site-packages/httpx/client.py", line 12, in read
    raise ReadError(message)
httpx.ReadError: peer closed
asked: GET /b
"""


def test_a_traceback_is_told_by_the_students_own_line() -> None:
    """And by its end: what the libraries did is not the student's."""
    server: Any = types.SimpleNamespace(recent_log=lambda: LOG)
    lines = evidence.log_of(server).splitlines()[4:]
    assert [line.strip() for line in lines] == [
        "asked: GET /a",
        "ERROR:    Exception in ASGI application",
        "Traceback, where it was in your program last:",
        'File "/tmp/desk/app.py", line 9, in stream',
        "data = upstream.read()",
        "httpx.ReadError: peer closed",
        "asked: GET /b",
    ]
