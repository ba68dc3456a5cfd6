"""A server as a real process: its start, its end, and what is known of it afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from starving import starved

import conftest
from streamlab import Cup, Server, ServerError, download, random_file
from streamlab.process import patience, server
from streamlab.process.program import run_program

Launch = Callable[..., Server]
Alive = Callable[[int], bool]
Becomes = Callable[[Callable[[], bool]], bool]

SERVERS = Path(__file__).parents[1] / "servers"


def ask(url: str) -> Any:
    """The JSON that a server answers with."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=20) as response:
        return json.load(response)


def test_starts_and_answers(launch: Launch, tmp_path: Path) -> None:
    """Once started it is a process of its own that serves the files of its root."""
    sample = random_file(1000, folder=tmp_path)
    started = launch("streaming").start()
    assert started.running
    assert started.pid not in (0, os.getpid())
    assert download(started.url + sample.url, sample.path).size == 1000
    assert started.exit_status is None


def test_before_its_start(launch: Launch) -> None:
    """Made but not started, it does not run, has no URL, and stopping it is harmless."""
    idle = launch("streaming")
    idle.stop()
    assert (idle.running, idle.url, idle.pid, idle.log()) == (False, "", 0, "")


def test_pid_is_the_servers_own(launch: Launch) -> None:
    """`pid` runs the script, leads its group and session, and is not the supervisor."""
    started = launch("limits").start()
    process = psutil.Process(started.pid)
    assert process.cmdline()[1:] == [*started.command[1:]]
    assert "streamlab.process.supervise" in psutil.Process(process.ppid()).cmdline()
    assert ask(started.url)["leads"] is True


def test_environment(launch: Launch) -> None:
    """The given variables are added to the environment, and replace those of the same name."""
    assert ask(launch("limits", environment={"EXTRA": "water"}).start().url)["extra"] == "water"
    assert ask(launch("limits").start().url)["extra"] is None


def test_root_of_an_app(launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app finds its folder in STREAMLAB_ROOT, absolute, however it was given."""
    monkeypatch.chdir(tmp_path)
    started = launch("app", Path("sub"), app="app").start()
    assert ask(started.url + "/root") == str((tmp_path / "sub").resolve())


def test_command_is_for_a_terminal() -> None:
    """The command is that for a terminal, by the contract for scripts and for apps."""
    script = Server("a/hello.py", "files", port=8000)
    assert script.command == ["python", "a/hello.py", "--root=files", "--port=8000"]
    app = Server("hello.py", "files", app="app")
    assert app.command == ["python", "-m", "streamlab.serve", "hello.py:app", "--port=0"]
    assert (script.name, repr(script)) == ("hello", "<Server hello>")


def test_path_of_a_file(tmp_path: Path) -> None:
    """A file's path is its name, or what the server's paths are said to be around it."""
    sample = random_file(10, "a{0}.bin", tmp_path)
    assert Server("server.py").path_of(sample) == "/a{0}.bin"
    gateway = Server("app.py", app="app", path="/v1/files/{}/content")
    assert gateway.path_of(sample) == "/v1/files/a{0}.bin/content"
    assert gateway.path_of("../secret") == "/v1/files/../secret/content"


def test_root_is_made(launch: Launch, tmp_path: Path) -> None:
    """A root that does not exist yet is made."""
    launch("streaming", tmp_path / "new" / "folder").start()
    assert (tmp_path / "new" / "folder").is_dir()


def test_port_of_choice(launch: Launch, closed_port: int) -> None:
    """A port that was asked for is the one it listens on."""
    assert launch("streaming", port=closed_port).start().url.endswith(f":{closed_port}")


def test_port_taken(launch: Launch) -> None:
    """A port that is taken is one line that says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerError) as caught:
            launch("streaming", port=port).start()
    assert str(caught.value) == (
        f"port {port} is taken by another program: choose another one, or leave the port out"
    )


def test_a_port_of_its_own_is_taken(launch: Launch, tmp_path: Path) -> None:
    """If a program ignores `--port 0` and wants a port that is taken, the error names --port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        program = tmp_path / "stubborn.py"
        port = other.getsockname()[1]
        program.write_text(f"import socket\nsocket.create_server(('127.0.0.1', {port}))\n")
        with pytest.raises(ServerError) as caught:
            Server(program, tmp_path).start()
    message = str(caught.value)
    assert "started with --port 0, for any free port, and tried one that is taken" in message
    assert "Address already in use" in message and "port 0 is taken" not in message


def test_port_taken_under_an_app(launch: Launch) -> None:
    """An app on a port that is taken says the same one line."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerError, match=rf"^port {port} is taken by another program: .*$"):
            launch("app", app="app", port=port).start()


def test_dies_at_its_start(launch: Launch) -> None:
    """A server that ends at once is an error with its status and its traceback."""
    broken = launch("broken")
    with pytest.raises(ServerError) as caught:
        broken.start()
    message = str(caught.value)
    assert "broken.py ended at its start with status 1. It wrote:" in message
    assert "Traceback (most recent call last)" in message
    assert message.endswith("LookupError: the water is gone")
    assert not broken.running
    assert "LookupError" in broken.log()


def test_never_listens(launch: Launch, alive: Alive, becomes: Becomes) -> None:
    """A server that never listens is an error in time, says what was missing, and is ended."""
    deaf = launch("deaf", ready=6.0)
    with pytest.raises(ServerError) as caught:
        deaf.start()
    assert "deaf.py did not listen within 6 s" in str(caught.value)
    assert "'listening on http://127.0.0.1:PORT'" in str(caught.value)
    assert "I am" in str(caught.value)
    pid = int(deaf.log().split()[-1])
    assert becomes(lambda: not alive(pid))


LATE_STARTER = """
import os, sys, time
sys.path.insert(0, {tests!r})
{first}
end = time.process_time() + {work}
while time.process_time() < end:
    pass
import http.server
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
print(f"listening on http://127.0.0.1:{{server.server_port}}", flush=True)
server.serve_forever()
"""


def late_starter(folder: Path, work: float, first: str = "") -> Path:
    """A server that uses the CPU for some seconds before it listens."""
    file = folder / "late.py"
    file.write_text(LATE_STARTER.format(tests=str(SERVERS.parent), work=work, first=first))
    return file


@pytest.mark.needs("linux")
def test_who_uses_the_cpu_is_still_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that imports much is not late, even if it needs more than its time."""
    monkeypatch.setattr(patience, "MOST", 100)
    began = time.monotonic()
    with Server(late_starter(tmp_path, 1.5), tmp_path, ready=0.8) as running:
        assert time.monotonic() > began + 0.8
        assert running.url


@pytest.mark.needs("linux")
def test_who_gets_no_cpu_is_still_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without a CPU is waited for."""
    monkeypatch.setattr(patience, "MOST", 100)  # others may work on this machine too
    with starved() as cpu:
        first = f"import starving; starving.last_in_line({cpu})"
        began = time.monotonic()
        with Server(late_starter(tmp_path, 0.3, first), tmp_path, ready=0.8):
            assert time.monotonic() > began + 0.8, "it was not starved: this shows nothing"


@pytest.mark.needs("linux")
def test_who_spins_for_ever_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how much CPU it used, and does not call it late like one that sleeps."""
    monkeypatch.setattr(patience, "MOST", 100)
    with (
        pytest.raises(ServerError, match=r"did not listen within 0\.5 s.*used 2 s of CPU time"),
        Server(late_starter(tmp_path, 600), tmp_path, ready=0.5),
    ):
        pass


@pytest.mark.needs("linux")
def test_a_program_without_a_cpu_is_not_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets its seconds of running time, and no more."""
    monkeypatch.setattr(patience, "MOST", 100)
    path = f"import sys; sys.path.insert(0, {str(SERVERS.parent)!r}); "
    with starved() as cpu:
        work = f"import starving, time; starving.last_in_line({cpu})\nend = time.process_time() + "
        began = time.monotonic()
        command = [sys.executable, "-c", path + work + "0.3\nwhile time.process_time() < end: 0"]
        assert run_program(command, timeout=1).status == 0
        assert time.monotonic() > began + 1, "it was not starved: this shows nothing"
    assert run_program([sys.executable, "-c", "while True: 0"], timeout=0.5).status is None


def test_time_to_listen_is_bounded() -> None:
    """By default an error comes within 10 seconds."""
    assert server.READY <= 10
    assert Server("any.py").ready == server.READY


@pytest.mark.needs("linux")
def test_a_server_that_says_something_else_is_told_what_was_seen(tmp_path: Path) -> None:
    """The error has its port and its first line, and does not say that it "did not get so far"."""
    script = tmp_path / "flask_like.py"
    script.write_text(
        "import socket, time\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "print(' * Running on port', listener.getsockname()[1], flush=True)\n"
        "time.sleep(60)\n"
    )
    with (
        pytest.raises(ServerError, match=r"It listens on 127\.0\.0\.1:(\d+)") as caught,
        Server(script, tmp_path, ready=2),
    ):
        pass
    told = str(caught.value)
    port = told.partition("127.0.0.1:PORT")[2].partition("127.0.0.1:")[2].split(".")[0]
    assert f"Its first line was ' * Running on port {port}'." in told


LOGS = """\
import os, sys, time
root = sys.argv[1].removeprefix("--root=")
print("at the start")
print("listening on http://127.0.0.1:9", flush=True)
while not os.path.exists(root + "/go"):
    time.sleep(0.01)
os.write(1, b"later \\xff\\x00\\n")
{more}
time.sleep(60)
"""


@pytest.mark.needs("linux")
def test_a_log_can_be_read_from_a_mark_on(tmp_path: Path, becomes: Becomes) -> None:
    """Lines before the mark are left out; bytes that are no text are escaped."""
    script = tmp_path / "logs.py"
    script.write_text(LOGS.format(more=""))
    with Server(script, tmp_path, probe=False) as started:
        started.mark()
        assert started.recent_log() == ""
        (tmp_path / "go").touch()
        assert becomes(lambda: "later" in started.recent_log())
        assert started.recent_log() == "later \\xff\x00\n"
        assert "at the start" in started.log()
        assert started.output_limit is None


@pytest.mark.needs("linux")
@pytest.mark.parametrize(
    "flood",
    [
        "while True: os.write(1, b'x' * 65536)",
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "with open(root + '/out', 'wb') as out:\n    while True: out.write(b'x' * 65536)",
    ],
    ids=["log", "file"],
)
def test_output_up_to_its_limit_is_noticed(tmp_path: Path, becomes: Becomes, flood: str) -> None:
    """The limit shows in the size of the log, or in the signal that ended the server."""
    script = tmp_path / "flood.py"
    script.write_text(LOGS.format(more=flood))
    with Server(script, tmp_path, probe=False, cup=Cup(fsize_mib=2)) as started:
        assert started.output_limit is None
        (tmp_path / "go").touch()
        assert becomes(lambda: started.output_limit == 2 << 20)


def test_announcement_alone_is_not_enough(launch: Launch, tmp_path: Path, closed_port: int) -> None:
    """A server that says it listens but does not is not ready."""
    liar = tmp_path / "liar.py"
    liar.write_text(
        f"import time\nprint('listening on http://127.0.0.1:{closed_port}', flush=True)\n"
        "time.sleep(600)\n"
    )
    with (
        pytest.raises(ServerError, match=r"did not listen within 0\.5 s"),
        Server(liar, tmp_path, ready=0.5),
    ):
        pass


def test_file_missing(launch: Launch) -> None:
    """A script that is not there is one line with its name."""
    with pytest.raises(ServerError, match=r"^there is no .*nobody\.py: check the name[^\n]*$"):
        launch("nobody").start()


def test_stop(launch: Launch, alive: Alive) -> None:
    """Stopping ends the process at once, may be repeated, and leaves nothing to read it by."""
    started = launch("streaming").start()
    pid, supervisor = started.pid, psutil.Process(started.pid).ppid()
    started.stop()
    assert not alive(pid)
    assert not alive(supervisor)
    assert not started.running
    assert started.exit_status is None, "it did not end by itself"
    started.stop()
    assert not started.running


def test_nothing_listens_after_stop(launch: Launch) -> None:
    """The port is closed once the server is stopped."""
    started = launch("streaming").start()
    port = int(started.url.rpartition(":")[2])
    started.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_context_manager(launch: Launch, alive: Alive) -> None:
    """`with` starts it, leaves a running one as it is, and stops it at the end."""
    with launch("streaming") as started:
        pid = started.pid
        with started as same:
            assert same.pid == pid
        assert not alive(pid)
    assert not started.running


def test_context_manager_stops_after_an_error(launch: Launch, alive: Alive) -> None:
    """An exception in the block ends the server too."""
    with pytest.raises(ZeroDivisionError), launch("streaming") as started:
        raise ZeroDivisionError
    assert not alive(started.pid)


def test_restart(launch: Launch, alive: Alive) -> None:
    """A restart is a new process, and the old one is gone."""
    started = launch("streaming").start()
    old = started.pid
    assert started.restart() is started
    assert started.pid != old
    assert not alive(old)
    assert started.running


def test_ended_by_itself(launch: Launch, becomes: Becomes) -> None:
    """A server that ends is seen to: not running, its exit status, its log before and after."""
    mortal = launch("mortal").start()
    with socket.create_connection(("127.0.0.1", int(mortal.url.rpartition(":")[2]))) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert becomes(lambda: not mortal.running)
    assert mortal.exit_status == 3
    assert mortal.log().endswith("that was all\n")
    mortal.stop()
    assert mortal.exit_status == 3, "stopping afterwards changes nothing"
    assert mortal.log().endswith("that was all\n")


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")
def test_killed_by_a_signal(launch: Launch, becomes: Becomes) -> None:
    """The exit status of a killed server is minus the signal."""
    started = launch("streaming").start()
    os.kill(started.pid, signal.SIGKILL)
    assert becomes(lambda: not started.running)
    assert started.exit_status == -signal.SIGKILL


def test_exit_status_is_of_the_last_run(launch: Launch, becomes: Becomes) -> None:
    """A restart after an end forgets the old status and the old log."""
    mortal = launch("mortal").start()
    os.kill(mortal.pid, signal.SIGTERM)
    assert becomes(lambda: not mortal.running)
    mortal.start()
    assert (mortal.running, mortal.exit_status) == (True, None)
    assert mortal.log().count("listening") == 1


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")
def test_ignoring_sigterm_does_not_help(launch: Launch, alive: Alive) -> None:
    """A server that ignores SIGTERM is killed."""
    stubborn = launch("stubborn").start()
    stubborn.stop()
    assert not alive(stubborn.pid)


@pytest.mark.skipif(os.name != "posix", reason="process groups are of POSIX")
def test_children_are_ended(launch: Launch, alive: Alive, becomes: Becomes) -> None:
    """Workers and orphaned grandchildren of a server end with it, SIGTERM ignored or not."""
    family = launch("family").start()
    grandchild = int(family.log().split("grandchild ")[1].split()[0])
    assert alive(grandchild)
    family.stop()
    assert becomes(lambda: not alive(grandchild))


@pytest.mark.skipif(os.name != "posix", reason="process groups are of POSIX")
def test_children_of_a_dead_server_are_ended(
    launch: Launch, alive: Alive, becomes: Becomes
) -> None:
    """Children that outlive a server which died are ended by `stop`."""
    family = launch("family").start()
    grandchild = int(family.log().split("grandchild ")[1].split()[0])
    os.kill(family.pid, signal.SIGKILL)
    assert becomes(lambda: not family.running)
    assert alive(grandchild)
    family.stop()
    assert becomes(lambda: not alive(grandchild))


def test_log_file_is_removed(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The log lives in memory after the end; no file of it stays behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started = launch("streaming", tmp_path / "root").start()
    assert len(list(tmp_path.glob("streamlab-streaming-*.log"))) == 1
    started.stop()
    assert list(tmp_path.glob("*.log")) == []
    assert started.log().startswith("listening on http://127.0.0.1:")


def test_cup_in_the_units_of_the_system() -> None:
    """A cup's numbers become limits in bytes; what is None is left alone."""
    cup = Cup(data_mib=64, stack_kib=512, nofile=99, nproc=None, cpu_s=7, fsize_mib=2)
    assert cup.limits() == {
        "RLIMIT_DATA": 64 << 20,
        "RLIMIT_STACK": 512 << 10,
        "RLIMIT_NOFILE": 99,
        "RLIMIT_CPU": 7,
        "RLIMIT_FSIZE": 2 << 20,
    }
    assert str(cup) == "a cup of 64 MiB"


@pytest.mark.needs("linux")
def test_cup_is_in_force(launch: Launch) -> None:
    """In the server the limits are set, hard ones too, and 300 MiB do not fit into 256."""
    answer = ask(launch("limits", cup=Cup(256, 1024, nofile=77)).start().url)
    assert answer["limits"]["RLIMIT_DATA"] == [256 << 20] * 2
    assert answer["limits"]["RLIMIT_STACK"] == [1 << 20] * 2
    assert answer["limits"]["RLIMIT_NOFILE"] == [77, 77]
    assert answer["holds"] is False


@pytest.mark.needs("linux")
def test_without_a_cup_there_is_room(launch: Launch) -> None:
    """Without a cup the same server has this process's limits, and room."""
    import resource

    answer = ask(launch("limits").start().url)
    assert answer["limits"]["RLIMIT_DATA"] == list(resource.getrlimit(resource.RLIMIT_DATA))
    assert answer["holds"] is True


def test_runs_under_this_python(launch: Launch) -> None:
    """`python` of the command is the one that runs the tests."""
    started = launch("streaming").start()
    assert psutil.Process(started.pid).cmdline()[0] == sys.executable


def test_a_server_that_a_test_leaves_running_is_found(launch: Launch) -> None:
    """As the tests look for one after each file; a stopped one is not found."""
    started = launch("streaming").start()
    assert any("streaming.py" in command for command in conftest.running_servers())
    started.stop()
    assert not any("streaming.py" in command for command in conftest.running_servers())
