"""The supervisor by itself: its lines, its lifeline, and what its own end does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from streamlab import Server, supervise

Alive = Callable[[int], bool]
Becomes = Callable[[Callable[[], bool]], bool]
Run = Callable[..., "subprocess.Popen[str]"]

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def run() -> Iterator[Run]:
    """Start a supervisor with its lifeline in our hand; ended afterwards."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlab.supervise", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.communicate(timeout=20)


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line that a supervisor writes."""
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(process.stdout.readline())
    return line


def test_tells_pid_and_exit(run: Run) -> None:
    """It says which process runs, and with which status it ended."""
    process = run("--", sys.executable, "-c", "raise SystemExit(7)")
    assert told(process)["pid"] > 0
    assert told(process) == {"exit": 7}


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")
def test_tells_a_signal(run: Run) -> None:
    """A command that was killed ends with minus the signal."""
    process = run("--", *SLEEP)
    os.kill(told(process)["pid"], signal.SIGKILL)
    assert told(process) == {"exit": -signal.SIGKILL}


def test_end_of_input_ends_the_command(run: Run, alive: Alive) -> None:
    """When the lifeline is let go, the command ends and the supervisor too, with status 0."""
    process = run("--", *SLEEP)
    pid = told(process)["pid"]
    assert alive(pid)
    process.communicate(timeout=20)
    assert not alive(pid)
    assert process.returncode == 0


def test_output_goes_to_the_log_alone(run: Run, tmp_path: Path) -> None:
    """Both streams of the command are in the log, after what it held; its input is empty."""
    log = tmp_path / "log"
    log.write_text("before\n")
    program = (
        "import sys; print('out', flush=True); print('err', file=sys.stderr); "
        "print(repr(sys.stdin.read()))"
    )
    process = run("--log", str(log), "--", sys.executable, "-c", program)
    assert "pid" in told(process)
    assert told(process) == {"exit": 0}
    assert log.read_text() == "before\nout\nerr\n''\n"
    assert process.communicate(timeout=20) == ("", "")


def test_a_message_goes_past_pythons_own_buffer(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python ends with a fatal error if a thread still holds that buffer."""
    monkeypatch.setattr(sys, "stdout", None)
    supervise._tell(exit=3)
    monkeypatch.undo()
    assert capfd.readouterr().out == '{"exit": 3}\n'


def test_the_command_outlives_an_interrupt(run: Run, alive: Alive) -> None:
    """It is in a session of its own: a signal to the supervisor's group does not reach it."""
    process = run("--", *SLEEP)
    pid = told(process)["pid"]
    if os.name == "posix":
        assert os.getsid(pid) == os.getpgid(pid) == pid
    assert alive(pid)


def test_command_that_does_not_exist(run: Run, tmp_path: Path) -> None:
    """A command that can't be started is status 1, and the log says why."""
    log = tmp_path / "log"
    process = run("--log", str(log), "--", str(tmp_path / "nothing"))
    assert process.wait(20) == 1
    assert log.read_text().startswith(f"could not start {tmp_path / 'nothing'}: ")


@pytest.mark.parametrize("arguments", [[], ["--"], ["--log", "x"]])
def test_no_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command it says so."""
    with pytest.raises(SystemExit) as caught:
        supervise.main(arguments)
    assert caught.value.code == 2
    assert "no command given after --" in capsys.readouterr().err


@pytest.mark.needs("linux")
def test_limits(run: Run, tmp_path: Path) -> None:
    """Limits are set in the command and not in the supervisor; none is raised above a hard one."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    log = tmp_path / "log"
    program = (
        "import resource as r; print(r.getrlimit(r.RLIMIT_DATA), r.getrlimit(r.RLIMIT_NOFILE))"
    )
    cup = json.dumps({"RLIMIT_DATA": 99 << 20, "RLIMIT_NOFILE": hard * 2})
    process = run("--log", str(log), "--cup", cup, "--", sys.executable, "-c", program)
    assert "pid" in told(process)
    assert told(process) == {"exit": 0}
    assert log.read_text() == f"{(99 << 20,) * 2} {(hard, hard)}\n"
    ours = psutil.Process(process.pid).rlimit(psutil.RLIMIT_DATA)
    assert ours == resource.getrlimit(resource.RLIMIT_DATA)


@pytest.mark.needs("linux")
@pytest.mark.parametrize("fatal", [signal.SIGKILL, signal.SIGTERM])
def test_killed_supervisor_takes_the_server_along(
    launch: Callable[..., Server], alive: Alive, becomes: Becomes, fatal: signal.Signals
) -> None:
    """On Linux the kernel kills the server when its supervisor is killed, SIGTERM ignored or not.

    That is so for the server's own process. Its children, if it has any, get no such signal; on
    other systems neither does the server.
    """
    stubborn = launch("stubborn").start()
    os.kill(psutil.Process(stubborn.pid).ppid(), fatal)
    assert becomes(lambda: not alive(stubborn.pid))
    assert becomes(lambda: not stubborn.running)
    assert stubborn.exit_status is None
    stubborn.stop()
    stubborn.start()
    assert stubborn.running


def test_stays_small() -> None:
    """Nothing large is loaded: no package besides this one, and none of its other modules."""
    program = (
        "import sys; before = set(sys.modules); import streamlab.supervise; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}"
        " - sys.stdlib_module_names), "
        "*sorted(name for name in sys.modules if name.startswith('streamlab.')))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.split() == ["streamlab", "streamlab.supervise"], ran.stderr


@pytest.mark.needs("linux")
@pytest.mark.parametrize("kind", ["file", "device"])
def test_the_log_of_a_killed_starter_goes_and_a_device_stays(
    kind: str, tmp_path: Path, becomes: Becomes, alive: Alive
) -> None:
    """Nobody is left to read the file. What is no file is not the supervisor's to remove."""
    log = tmp_path / "log"
    if kind == "device":
        log.symlink_to(os.devnull)  # never the device itself, should this fail
    starter = (
        "import subprocess, sys, time\n"
        f"command = [sys.executable, '-m', 'streamlab.supervise', '--log', {str(log)!r}]\n"
        f"command += ['--', *{SLEEP!r}]\n"
        "keeper = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)\n"
        "keeper.stdout.readline()\n"
        "print(keeper.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        keeper = int(process.stdout.readline())
        process.kill()
    assert becomes(lambda: not alive(keeper))
    assert log.is_symlink() == (kind == "device")
    assert log.exists() == (kind == "device")


@pytest.mark.needs("linux")
def test_a_group_that_has_ended_is_not_waited_for() -> None:
    """A server and its children all end when asked to: the time of grace is for those who don't."""
    child = f"import subprocess; subprocess.Popen({SLEEP!r}); " + SLEEP[2]
    program = (
        "from streamlab import supervise\n"
        "supervise.GRACE = 60\n"
        f"supervise.main(['--', {sys.executable!r}, '-c', {child!r}])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as keeper:
        assert keeper.stdin is not None and keeper.stdout is not None
        leader = json.loads(keeper.stdout.readline())["pid"]
        while not psutil.Process(leader).children():
            time.sleep(0.01)
        keeper.stdin.close()
        assert keeper.wait(timeout=30) == 0


@pytest.mark.needs("linux")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_told_to_end_it_ends_the_whole_group_first(
    run: Run, becomes: Becomes, alive: Alive, name: str
) -> None:
    """A terminal's interrupt, and `timeout`, reach it as well: no server's child is left over."""
    child = f"import subprocess; subprocess.Popen({SLEEP!r}); " + SLEEP[2]
    process = run("--", sys.executable, "-c", child)
    leader = psutil.Process(told(process)["pid"])
    assert becomes(lambda: len(leader.children()) == 1)
    below = leader.children()[0].pid
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=20) == 0
    assert not alive(leader.pid) and not alive(below)
