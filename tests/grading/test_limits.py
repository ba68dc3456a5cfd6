"""What a program provokes costs the check that it was in, and nothing that others share."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from streamlab.checks.pytest_plugin import came_late, lacked
from streamlab.grading.task import archive_of
from streamlab.labs import grammar
from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult
from streamlab.labs.runner import RunOptions, run_checks
from streamlab.labs.scratch import remove_abandoned, scratch_folder
from streamlab.process.sandbox import SETTINGS, enclosed

ROOT = Path(__file__).parents[2]
ISOLATED = pytest.mark.needs("linux", "bwrap")
NAMES = ("first", "second", "third")
TOML = 'title = "T"\nminutes = 1\nprograms = ["program.py"]\ntiming = ["slow"]\n' + "".join(
    f'[checks.{name}]\nkind = "K"\npoints = 1\ntitle = "t"\n' for name in NAMES
)


@pytest.fixture
def lab(tmp_path: Path) -> Callable[..., list[CheckResult]]:
    """Run three checks, of which the second does this, in an enclosure."""

    def run(second: str, program: str = "", isolated: bool = True) -> list[CheckResult]:
        folder = tmp_path / "10_three"
        folder.mkdir()
        (folder / "lab.toml").write_text(TOML)
        (folder / "program.py").write_text(program)
        lines = second.replace("\n", "\n    ")
        (folder / "test_lab.py").write_text(
            "import os, threading, time\n"
            "from streamlab.checks.outcome import fail\n"
            "def test_first(): pass\n"
            f"def test_second(workspace):\n    {lines}\n"
            "def test_third(): pass\n"
        )
        return run_checks(Lab(folder), options=RunOptions(isolated=isolated, seconds=120))

    return run


@ISOLATED
@pytest.mark.parametrize(
    ("second", "words"),
    [
        ("held = [b'x' * 2**26 for _ in range(20)]", "more than 1024 MiB itself"),
        ("os._exit(3)", "came to no result"),
        ("os.kill(os.getpid(), 9)", "came to no result"),
    ],
)
def test_a_fault_costs_one_check(
    lab: Callable[..., list[CheckResult]], second: str, words: str
) -> None:
    """Of memory, and of the whole process of the checks: the others have their results."""
    results = lab(second)
    assert [each.outcome for each in results] == ["passed", "grader_fault", "passed"]
    assert words in results[1].evidence


@ISOLATED
@pytest.mark.parametrize("own", [True, False])
def test_a_program_that_announces_its_upstream(
    lab: Callable[..., list[CheckResult]], own: bool
) -> None:
    """It would get what the upstream answers, which is right. Its own socket it may announce."""
    second = (
        "from streamlab.origin import Origin\n"
        "with Origin() as origin:\n"
        "    workspace.launch('program.py', environment={'STREAMLAB_UPSTREAM': origin.url})\n"
    )
    program = (
        "import os, socket, time\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "mine = f'http://127.0.0.1:{listener.getsockname()[1]}'\n"
        f"print('listening on', mine if {own} else os.environ['STREAMLAB_UPSTREAM'], flush=True)\n"
        "time.sleep(60)\n"
    )
    result = lab(second, program)[1]
    assert result.outcome == ("passed" if own else "could_not_run"), result.evidence
    assert own or "which it announced, another program listens" in result.evidence


@ISOLATED
def test_threads_have_a_limit(lab: Callable[..., list[CheckResult]]) -> None:
    """The stacks of threads count as memory, so a check ends before it has thousands of them."""
    text = (
        "end = threading.Event()\n"
        "try:\n"
        "    for number in range(3000):\n"
        "        threading.Thread(target=end.wait, daemon=True).start()\n"
        "finally:\n"
        "    end.set()\n"
        "    assert number < 1100\n"
    )
    results = lab(text)
    assert [each.outcome for each in results] == ["passed", "grader_fault", "passed"]
    assert "number < 1100" not in results[1].evidence


def test_the_limits_are_those_of_sandboxes(lab: Callable[..., list[CheckResult]]) -> None:
    """A student's own checks have none."""
    text = "import resource\nassert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0"
    if os.name == "posix":
        import resource

        if resource.getrlimit(resource.RLIMIT_CORE)[1]:
            assert lab(text, isolated=False)[1].outcome == "passed"


@ISOLATED
@pytest.mark.parametrize(
    ("words", "again"),
    [
        ("OSError: [Errno 24] inotify instance limit reached", True),
        ("OSError: [Errno 28] No space left on device", True),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", True),
        ("RuntimeError: can't start new thread", True),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'x'", False),
        ("it took 24 s", False),
    ],
)
def test_what_the_machine_lacked_is_tried_again(
    lab: Callable[..., list[CheckResult]], tmp_path: Path, words: str, again: bool
) -> None:
    """Where the program says so: in its log, whatever the check made of it."""
    second = f"fail('wrong', {words!r})"
    result = lab(second)[1]
    assert (result.outcome, result.late) == ("failed", again)
    assert Lab(tmp_path / "10_three").depends_on_time(result) == again
    assert lacked(words) == again


def test_a_check_that_lacks_something_is_late() -> None:
    for number, late in ((errno.EMFILE, True), (errno.ENOSPC, True), (errno.ENOENT, False)):
        assert came_late(OSError(number, os.strerror(number))) == late
    assert came_late(RuntimeError("can't start new thread"))
    assert not came_late(RuntimeError("no such thing"))


@ISOLATED
def test_one_submission_leaves_inotify_to_the_others() -> None:
    """Two enclosures take all that they get: each has as much as the other."""
    file = next(iter(SETTINGS))
    if not file.exists():
        pytest.skip("this kernel has no such setting")
    text = (
        "import ctypes\nlibc = ctypes.CDLL(None)\ntaken = 0\n"
        "while taken < 200 and libc.inotify_init() >= 0: taken += 1\n"
        "print(taken, flush=True)\ninput()\n"
    )
    command = enclosed([sys.executable, "-c", text])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
    taken = int(first.stdout.readline())
    first.communicate("\n")
    assert 0 < taken <= 64
    free = subprocess.run([sys.executable, "-c", text], input="\n", capture_output=True, text=True)
    assert int(free.stdout) > 64  # what the limit is for


def test_folders_of_killed_runs_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of runs that go on, and none that is somebody else's."""
    text = (
        "import os, signal\nfrom streamlab.labs.scratch import scratch_folder\n"
        "with scratch_folder('streamlab-check-') as name:\n"
        "    open(os.path.join(name, 'left'), 'w').close()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", text], env=environment, check=False)
    assert ran.returncode == -signal.SIGKILL
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    [left] = tmp_path.iterdir()
    (tmp_path / "streamlab-check-unlocked").mkdir()
    (tmp_path / "streamlab-grade-link").symlink_to(left)
    (tmp_path / "other").mkdir()
    with scratch_folder("streamlab-grade-") as used:
        assert remove_abandoned() == [left]
        assert not left.exists() and Path(used).is_dir()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"streamlab-check-unlocked", "streamlab-grade-link", "other"}


def names_in(archive: bytes) -> set[str]:
    with tarfile.open(fileobj=BytesIO(archive)) as opened:
        return set(opened.getnames())


@pytest.mark.parametrize("git", [True, False])
def test_what_lies_in_a_lab_beside_it_is_not_handed_on(tmp_path: Path, git: bool) -> None:
    """Else a program that is checked reads the instructor's own answer, and runs it."""
    folder = tmp_path / "02_chunked_loop"
    shutil.copytree(ROOT / "solutions" / "02_chunked_loop", folder)
    (folder / "servers").mkdir()
    (folder / "servers" / "demo.py").write_text("")
    if git:
        run = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
        for command in (["init", "-q"], ["add", "."]):
            subprocess.run([*run, *command], check=True)
    (folder / "server_mine.py").write_text("the whole answer")
    wanted = {"lab.toml", "contract.toml", "test_lab.py", "servers/demo.py"}
    assert names_in(archive_of(Lab(folder))) == wanted


def test_a_long_program_is_read_by_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said is the same; what takes too long, or too much, is ended; and it is done once."""
    texts = {
        "x = 1\n": "",
        "x = (\n": "line 1: '(' was never closed",
        "x = 1\0\n": "no Python text|null bytes",
        "x = " + "-" * 200_000 + "1": "nested too deeply",
    }
    for short in (2**20, 0):
        monkeypatch.setattr(grammar, "SHORT", short)
        for number, (text, words) in enumerate(texts.items()):
            file = tmp_path / f"{short}-{number}.py"
            file.write_text(text)
            said = grammar.problem_with(file)
            assert any(each in said for each in words.split("|")), said
            assert bool(said) == bool(words)
    monkeypatch.setattr(grammar, "_from_outside", None)
    assert grammar.problem_with(file) == said
