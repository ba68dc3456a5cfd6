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

from streamlab import Server
from streamlab.process import supervise

Alive = Callable[[int], bool]
Becomes = Callable[[Callable[[], bool]], bool]
Run = Callable[..., "subprocess.Popen[str]"]

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def run() -> Iterator[Run]:
    """Start a supervisor whose lifeline the test holds; it is ended afterwards."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlab.process.supervise", *arguments],
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
    """Without a command the supervisor says so."""
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


def supervised(before: str, log: Path, *arguments: str) -> list[dict[str, Any]]:
    """The lines of a supervisor, after some lines of Python have changed its modules."""
    program = (
        "from streamlab.process import memory, seccomp, supervise\n"
        f"{before}\nsupervise.main({['--log', str(log), *arguments]!r})\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(json.loads(line))
            if "exit" in said[-1]:
                break
        process.communicate(timeout=20)
    return said


UNKNOWN_CPU = "seccomp._NUMBERS.clear()"
HELLO = [sys.executable, "-c", "print('it runs')"]


@pytest.mark.needs("linux")
@pytest.mark.parametrize(
    ("before", "why"),
    [
        (UNKNOWN_CPU, "isolation knows no filter for CPU "),
        (
            "seccomp._FILTER = 99",
            "the kernel sets no filter of system calls here: Invalid argument",
        ),
        ("seccomp._PR_SET_NO_NEW_PRIVS = -1", "the kernel sets no filter of system calls here: "),
    ],
)
def test_what_cannot_be_isolated_does_not_start(before: str, why: str, tmp_path: Path) -> None:
    """The log says why, in a line; there is no process, and no exit status."""
    log = tmp_path / "log"
    assert supervised(before, log, "--isolate", "--", *HELLO) == []
    [line] = log.read_text().splitlines()
    assert line.startswith(f"could not start {sys.executable}: {why}")


@pytest.mark.needs("linux")
@pytest.mark.parametrize(
    ("options", "isolated"), [(["--isolate"], True), (["--most", "9999999999"], False)]
)
def test_isolation_is_asked_for_by_its_name(
    options: list[str], isolated: bool, tmp_path: Path
) -> None:
    """A limit on memory alone needs no filter, so it works with any CPU."""
    log = tmp_path / "log"
    program = "import os; os.memfd_create('hoard'); print('it runs')"
    before = "" if isolated else UNKNOWN_CPU
    said = supervised(before, log, *options, "--", sys.executable, "-c", program)
    assert said[1:] == [{"exit": int(isolated)}], log.read_text()
    words = "Function not implemented" if isolated else "it runs"
    assert words in log.read_text()


@pytest.mark.needs("linux")
def test_a_limit_that_cannot_be_set_is_told(tmp_path: Path) -> None:
    """The program does not run without it."""
    log = tmp_path / "log"
    assert supervised("", log, "--cup", '{"RLIMIT_DATA": "much"}', "--", *HELLO) == []
    [line] = log.read_text().splitlines()
    assert line.startswith(f"could not start {sys.executable}: ")


@pytest.mark.needs("linux")
def test_what_cannot_be_watched_is_ended(tmp_path: Path) -> None:
    """If one look fails, the program is ended, because later ones would fail unnoticed."""
    log = tmp_path / "log"
    before = "def fails(pid, itself): raise OSError('no such luck')\nmemory.footprint_of = fails"
    program = "import time; time.sleep(5)"
    said = supervised(before, log, "--most", "9999999999", "--", sys.executable, "-c", program)
    assert said[1:] == [{"exit": -signal.SIGKILL}]
    wanted = "\nended from outside: it could not be watched any more (OSError: no such luck)\n"
    assert log.read_text() == wanted


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
        "import sys; before = set(sys.modules); import streamlab.process.supervise; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}"
        " - sys.stdlib_module_names), "
        "*sorted(name for name in sys.modules if name.startswith('streamlab.')))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.split() == [
        "streamlab",
        "streamlab.process",
        "streamlab.process.supervise",
    ], ran.stderr


@pytest.mark.needs("linux")
@pytest.mark.parametrize("kind", ["file", "device"])
def test_the_log_of_a_killed_starter_goes_and_a_device_stays(
    kind: str, tmp_path: Path, becomes: Becomes, alive: Alive
) -> None:
    """The file is removed, because no process will read it. A device is not removed."""
    log = tmp_path / "log"
    if kind == "device":
        log.symlink_to(os.devnull)  # never the device itself, should this fail
    starter = (
        "import subprocess, sys, time\n"
        f"command = [sys.executable, '-m', 'streamlab.process.supervise', '--log', {str(log)!r}]\n"
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
        supervisor_pid = int(process.stdout.readline())
        process.kill()
    assert becomes(lambda: not alive(supervisor_pid))
    assert log.is_symlink() == (kind == "device")
    assert log.exists() == (kind == "device")


@pytest.mark.needs("linux")
def test_a_group_that_has_ended_is_not_waited_for() -> None:
    """If a server and its children end when asked, there is no wait for the time of grace."""
    child = f"import subprocess; subprocess.Popen({SLEEP!r}); " + SLEEP[2]
    program = (
        "from streamlab.process import supervise\n"
        "supervise.GRACE = 60\n"
        f"supervise.main(['--', {sys.executable!r}, '-c', {child!r}])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as supervisor:
        assert supervisor.stdin is not None and supervisor.stdout is not None
        leader = json.loads(supervisor.stdout.readline())["pid"]
        while not psutil.Process(leader).children():
            time.sleep(0.01)
        supervisor.stdin.close()
        assert supervisor.wait(timeout=30) == 0


@pytest.mark.needs("linux")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_told_to_end_it_ends_the_whole_group_first(
    run: Run, becomes: Becomes, alive: Alive, name: str
) -> None:
    """A terminal's interrupt, and `timeout`, reach it as well: no server's child is left over.

    What a shell starts in the background ignores the interrupt, and so would the supervisor.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    child = f"import subprocess; subprocess.Popen({SLEEP!r}); " + SLEEP[2]
    process = run("--", sys.executable, "-c", child)
    leader = psutil.Process(told(process)["pid"])
    assert becomes(lambda: len(leader.children()) == 1)
    below = leader.children()[0].pid
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=20) == 0
    assert not alive(leader.pid) and not alive(below)
