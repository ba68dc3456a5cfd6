"""A program in any language in place of a lab's own: `streamlab check --command`."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamlab.cli import app
from streamlab.labs import command, failures, runner
from streamlab.labs.generate import generate
from streamlab.labs.manifest import Lab, LabError
from streamlab.labs.progress import last_results
from streamlab.labs.results import CheckResult

ROOT = Path(__file__).resolve().parents[2]
LAB = Lab(ROOT / "solutions" / "02_chunked_loop")
HYBRID = Lab(ROOT / "solutions" / "05_hybrid_server")
EXAMPLES = ROOT / "examples"
WRONG = ROOT / "tests" / "corpora" / LAB.name / "wrong" / "server__line_of_8190.py"


def as_command(program: Path) -> str:
    """The command that runs a Python program: for the checks one like any other."""
    return (
        f"{shlex.quote(sys.executable)} {shlex.quote(str(program))} --root {{root}} --port {{port}}"
    )


def results_of(lab: Lab, words: str, *only: str) -> dict[str, CheckResult]:
    """The results of some checks of a lab for a command, by check."""
    found = command.with_command(lab, words)
    with command.programs_of(found) as programs:
        results = runner.run_checks(found, programs, only=only)
    return {result.check: result for result in results}


@pytest.mark.parametrize(
    ("lab", "words", "said"),
    [
        ("03_join_trap", "./client {root}", "labs 02, 04, 05, 06"),
        ("02_chunked_loop", "./server --port {port}", "lacks {root}"),
        ("02_chunked_loop", "./server '{root}", "can't be read"),
    ],
)
def test_what_can_not_be_checked_is_refused_in_one_line(lab: str, words: str, said: str) -> None:
    with pytest.raises(LabError, match=said.replace("{", r"\{")) as refused:
        command.with_command(Lab(ROOT / "solutions" / lab), words)
    assert "\n" not in str(refused.value)


@pytest.mark.needs("linux")
def test_a_command_is_checked_as_a_program_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in the folder in which the check was asked for."""
    monkeypatch.chdir(LAB.folder)
    right = f"{shlex.quote(sys.executable)} ./server.py --root={{root}} --port={{port}}"
    assert results_of(LAB, right, "split")["split"].outcome == "passed"
    wrong = results_of(LAB, as_command(WRONG), "split")["split"]
    assert (wrong.outcome, wrong.promise) == ("failed", "head-size")
    told = failures.as_text(command.with_command(LAB, as_command(WRONG)), wrong)
    assert f"--command {shlex.quote(as_command(WRONG))}" in told


@pytest.mark.needs("linux")
def test_a_command_that_is_not_there_says_what_to_do() -> None:
    result = results_of(LAB, "./no-such-server --root {root} --port {port}", "bytes")["bytes"]
    assert result.outcome == "could_not_run"
    assert "./no-such-server: No such file or directory. Build it first" in result.evidence


def test_by_hand_the_command_is_started_on_the_kept_files(tmp_path: Path) -> None:
    lab = command.with_command(HYBRID, "./server --dir {root} --at {port}")
    line = failures.start_by_hand(lab, tmp_path / "a b" / "root")
    assert line.endswith(f"./server --dir '{tmp_path}/a b/root' --at 8000)")


def test_what_only_python_can_be_put_through_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest counts, and nothing of it is kept as the student's own progress."""
    folder = tmp_path / "labs" / LAB.name
    generate(LAB.folder, folder)
    monkeypatch.chdir(folder)

    def all_pass(
        lab: Lab, programs: dict[str, Path], *, only: list[str], **_: object
    ) -> list[CheckResult]:
        assert list(programs) == ["server.py"]
        checks = [lab.check(name) for name in only]
        return [
            CheckResult(lab.name, each.id, each.kind, each.points, each.points, "passed")
            for each in checks
        ]

    monkeypatch.setattr(runner, "run_checks", all_pass)
    words = as_command(LAB.folder / "server.py")
    ran = CliRunner().invoke(app, ["check", "--command", words])
    assert ran.exit_code == 0, ran.output
    assert "19 of 19 points" in ran.output
    assert "Left out: short (1 point)" in ran.output
    assert not last_results(Lab(folder))
    refused = CliRunner().invoke(app, ["check", "--only", "short", "--command", words])
    assert isinstance(refused.exception, LabError)
    assert "needs a program in Python" in str(refused.exception)


# The worked examples. They are not Python: a machine without their tools can't run them.


def expect_full_marks(words: str, *only: str) -> None:
    """A command passes checks of lab 05: all, or these."""
    found = command.with_command(HYBRID, words)
    with command.programs_of(found) as programs:
        results = runner.run_checks(found, programs, only=only or None)
    lost = [failures.as_text(found, each) for each in results if each.outcome != "passed"]
    assert results and not lost, "\n\n".join(lost)


NODE = f"node {shlex.quote(str(EXAMPLES / 'node_hybrid.mjs'))} --root {{root}} --port {{port}}"
with_node = pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed")


@pytest.mark.needs("linux")
@with_node
def test_the_example_for_node_passes() -> None:
    expect_full_marks(NODE, "headers", "errors")


@pytest.mark.soak
@pytest.mark.needs("linux")
@with_node
def test_the_example_for_node_gets_full_marks() -> None:
    expect_full_marks(NODE)


@pytest.mark.soak
@pytest.mark.needs("linux")
@pytest.mark.skipif(not shutil.which("go"), reason="Go is not installed")
def test_the_example_for_go_gets_full_marks(tmp_path: Path) -> None:
    server = tmp_path / "server"
    build = ["go", "build", "-o", str(server), "."]
    subprocess.run(build, cwd=EXAMPLES / "go_hybrid", check=True, timeout=300)
    expect_full_marks(f"{shlex.quote(str(server))} --root {{root}} --port {{port}}")
