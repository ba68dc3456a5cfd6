"""`streamlab watch` in a real terminal, which pexpect makes, and in none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect  # type: ignore[import-untyped]
import pytest

from streamlab.labs import watch
from streamlab.labs.generate import generate
from streamlab.labs.manifest import Lab

pytestmark = pytest.mark.needs("linux")

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from streamlab.cli import main; main()", "watch", "02"]
SECONDS = 60

CHECKS = """
import os, time
from pathlib import Path
from streamlab.checks.outcome import fail, promise

def test_bytes(workspace):
    text = workspace.program("server.py").read_text()
    if "WRONG BYTES" in text:
        fail("wrong_bytes", "It sent:\\n\\n" + "    a line\\n" * 50, "curl -sS it")

def test_huge(workspace):
    text = workspace.program("server.py").read_text()
    if "SLOW" in text:
        with promise("any-size"):
            Path(PLACE, "new").write_text(str(os.getpid()))
            Path(PLACE, "new").rename(Path(PLACE, "pid"))
            time.sleep(600)
    if "WHOLE" in text:
        fail("whole_file", "Memory: all of it.")

def test_wire(workspace):
    if "BAD WIRE" in workspace.program("server.py").read_text():
        fail("malformed", "It said nonsense.")
"""
PARTS = """
[checks.bytes]
kind = "BYTES"
points = 3
title = "Every byte arrives"

[checks.huge]
kind = "HUGE"
points = 3
title = "Larger than memory"

[checks.wire]
kind = "WIRE"
points = 3
title = "To the letter"

[causes]
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program of a lab with three quick checks; we are in the course's folder."""
    solution = ROOT / "solutions" / "02_chunked_loop"
    folder = tmp_path / "labs" / solution.name
    generate(solution, folder)
    (folder / "test_lab.py").write_text(CHECKS.replace("PLACE", repr(str(tmp_path))))
    before, _, rest = (folder / "lab.toml").read_text().partition("[checks.bytes]")
    (folder / "lab.toml").write_text(before + PARTS + rest.partition("[causes]\n")[2])
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    return folder / "server.py"


@pytest.fixture
def terminal(program: Path) -> Iterator[Any]:
    """A terminal of 40 lines in which the lab is watched."""
    spawned = pexpect.spawn(
        COMMAND[0], COMMAND[1:], timeout=SECONDS, dimensions=(40, 120), encoding="utf-8"
    )
    spawned.expect("still the stub. Look for TODO")
    yield spawned
    spawned.close(force=True)


def save(program: Path, text: str) -> None:
    """As an editor does: the new text takes the place of the old one at once."""
    part = program.with_suffix(".part")
    part.write_text(text)
    part.replace(program)


def test_each_save_is_checked(program: Path, terminal: Any) -> None:
    """The first failing check is told, and no later one; then all pass."""
    save(program, "# WRONG BYTES, BAD WIRE\n")
    terminal.expect("Every byte arrives .BYTES.: 0 of 3 points")
    terminal.expect("Passed before it: none")
    assert "nonsense" not in terminal.before
    save(program, "# BAD WIRE\n")
    terminal.expect("To the letter .WIRE.: 0 of 3 points")
    terminal.expect("Passed before it: bytes, huge")
    save(program, "# done\n")
    terminal.expect("All checks passed")


def test_what_failed_last_is_checked_first(program: Path, terminal: Any) -> None:
    """And all others after it: what broke since is found."""
    save(program, "# BAD WIRE\n")
    terminal.expect("To the letter .WIRE.: 0 of 3 points")
    save(program, "# BAD WIRE, WRONG BYTES\n")
    terminal.expect("To the letter .WIRE.: 0 of 3 points")
    terminal.expect("Passed before it: none")
    save(program, "# WRONG BYTES\n")
    terminal.expect("Every byte arrives .BYTES.: 0 of 3 points")
    terminal.expect("Passed before it: wire")


def test_keys(program: Path, terminal: Any) -> None:
    """Hint, list, whole evidence, all checks, end; another key says which keys there are."""
    save(program, "# WRONG BYTES, BAD WIRE\n")
    terminal.expect(r"more lines\)")
    terminal.expect("Passed before it: none")
    terminal.send("h")
    terminal.expect("Every byte arrives, hint 1 of")
    terminal.send("h")
    terminal.expect("Every byte arrives, hint 2 of")
    terminal.send("l")
    terminal.expect(r"failed +3 +Every byte arrives \(bytes\)\r\n- +3 +Larger than memory")
    terminal.send("e")
    terminal.expect("Try it by hand: curl -sS it")
    assert terminal.before.count("    a line") == 50
    terminal.send("a")
    terminal.expect(r"failed +3 +Every byte arrives \(bytes\)\r\npassed +3 +Larger than memory")
    terminal.expect(r"failed +3 +To the letter")
    terminal.send("\x1b[A?")
    terminal.send("?")
    terminal.expect("h: hint   l: list   e: evidence")
    terminal.send("q")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def main(:\n    pass\n", "server.py, line 1: invalid syntax. Mend that line"),
        ("x = (1,\n", "server.py, line 1: '(' was never closed. Mend that line"),
    ],
)
def test_a_syntax_error_is_one_line(program: Path, terminal: Any, text: str, words: str) -> None:
    """No check is run for it, and no traceback is shown."""
    save(program, text)
    terminal.expect_exact(words)
    save(program, "# done\n")
    terminal.expect("All checks passed")
    assert "Traceback" not in terminal.before and "failed" not in terminal.before


def test_a_save_while_a_check_runs_starts_over(
    program: Path,
    terminal: Any,
    tmp_path: Path,
    alive: Callable[[int], bool],
    becomes: Callable[[Callable[[], bool]], bool],
) -> None:
    """What it does is shown meanwhile, and the run of the old program ends."""
    save(program, "# SLOW\n")
    terminal.expect(r"\d of 3 passed. Larger than memory.*whatever its size")
    assert becomes((tmp_path / "pid").exists)
    old = int((tmp_path / "pid").read_text())
    assert alive(old)
    save(program, "# BAD WIRE\n")
    terminal.expect("To the letter .WIRE.: 0 of 3 points")
    assert not alive(old)


@pytest.mark.parametrize("how", ["Ctrl+C", "q", "hang up", "terminate"])
def test_nothing_stays_behind(
    program: Path,
    terminal: Any,
    tmp_path: Path,
    how: str,
    alive: Callable[[int], bool],
    becomes: Callable[[Callable[[], bool]], bool],
) -> None:
    """However it is ended in the middle of a check; and its terminal is as it was."""
    save(program, "# SLOW\n")
    assert becomes((tmp_path / "pid").exists)
    checks = int((tmp_path / "pid").read_text())
    assert not termios.tcgetattr(terminal.child_fd)[3] & termios.ICANON
    if how == "Ctrl+C":
        terminal.sendintr()
    elif how == "q":
        terminal.send("q")
    else:
        terminal.kill(signal.SIGHUP if how == "hang up" else signal.SIGTERM)
    assert terminal.expect([pexpect.EOF, "Traceback", "Error"]) == 0
    terminal.wait()
    assert terminal.exitstatus == 0
    assert becomes(lambda: not alive(checks))
    assert termios.tcgetattr(terminal.child_fd)[3] & termios.ICANON
    assert becomes(lambda: not list((tmp_path / "scratch").iterdir()))


def test_without_a_terminal_there_are_no_keys(
    program: Path, tmp_path: Path, becomes: Callable[[Callable[[], bool]], bool]
) -> None:
    """It says so, checks all the same, and writes nothing that only a terminal understands."""
    save(program, "# BAD WIRE\n")
    log = tmp_path / "log"
    with log.open("wb") as output:
        ran = subprocess.Popen(
            COMMAND, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        assert becomes(lambda: "Passed before it: bytes, huge" in log.read_text()), log.read_text()
        save(program, "# done\n")
        assert becomes(lambda: "All checks passed" in log.read_text()), log.read_text()
        assert "There are no keys" in log.read_text()
        assert "\x1b" not in log.read_text() and "\r" not in log.read_text()
        os.kill(ran.pid, signal.SIGINT)
        assert ran.wait(SECONDS) == 0
        assert "Traceback" not in log.read_text()
    finally:
        ran.kill()
        ran.wait()


def test_a_half_written_file_is_not_checked(program: Path) -> None:
    """A state counts once it was seen twice; a file that is gone is said to be missing."""
    said: list[str] = []
    watched = watch.Watch(Lab(program.parent), said.append, lambda _: None)
    save(program, "def (\n")
    watched.look()
    save(program, "def half(\n")
    watched.look()
    assert said == []
    watched.look()
    assert "server.py, line 1" in said[-1]
    program.unlink()
    watched.look()
    watched.look()
    assert said[-1].startswith("there is no ")


def test_it_ends_with_its_terminal(
    program: Path,
    tmp_path: Path,
    alive: Callable[[int], bool],
    becomes: Callable[[Callable[[], bool]], bool],
) -> None:
    """A window that is closed takes no keys and no words any more."""
    save(program, "# SLOW\n")
    ours, its = os.openpty()
    ran = subprocess.Popen(COMMAND, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    try:
        assert becomes((tmp_path / "pid").exists)
        checks = int((tmp_path / "pid").read_text())
        assert alive(checks) and ran.poll() is None
        os.close(ours)
        ran.wait(SECONDS)
        assert becomes(lambda: not alive(checks))
    finally:
        ran.kill()
        ran.wait()
