"""`%%server` in an IPython shell: one stable line, a handle, and errors of one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import streamlab
from streamlab import Server, ServerError, download, random_file
from streamlab.lesson import magics

Alive = Callable[[int], bool]

CELL = '''\
"""Serves files; käse."""
from streamlab.serve import serve_files

def send(path, response):
    response.start(path.stat().st_size)
    response.write(path.read_bytes())

serve_files(send)
'''


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A shell with the extension loaded, in a folder of its own."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    made = InteractiveShell(config=config)
    streamlab.load_ipython_extension(made)
    yield made
    magics.stop_all()


def test_a_cell_becomes_a_server(shell: Any, tmp_path: Path) -> None:
    """The source is written beside the notebook, runs, and NAME is a handle that can be asked."""
    sample = random_file(1000)
    shell.run_cell_magic("server", "hello", CELL)
    handle = shell.user_ns["hello"]
    assert isinstance(handle, Server)
    assert handle.running
    assert (tmp_path / ".streamlab/hello.py").read_text(encoding="utf-8") == CELL
    assert download(handle.url + sample.url, sample.path).size == 1000
    assert handle.log().startswith("listening on")


def test_output_is_stable(shell: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The lines are the same at each run: no port, no pid, no absolute path in it."""
    lines = []
    for _ in range(2):
        shell.run_cell_magic("server", "hello", CELL)
        lines.append(capsys.readouterr())
    assert lines[0] == lines[1]
    assert lines[0].err == ""
    assert lines[0].out == (
        "hello runs. The same in a terminal:\n  "
        "python .streamlab/hello.py --root=.streamlab/files --port=0\n"
    )
    assert str(tmp_path) not in lines[0].out


def test_a_second_run_replaces_the_first(shell: Any, alive: Alive) -> None:
    """Running the cell again is a new process; the old one is gone, and so is its source."""
    shell.run_cell_magic("server", "hello", CELL)
    old = shell.user_ns["hello"].pid
    shell.run_cell_magic("server", "hello", CELL + "# changed\n")
    assert not alive(old)
    assert shell.user_ns["hello"].pid != old
    assert Path(".streamlab/hello.py").read_text(encoding="utf-8").endswith("# changed\n")


def test_servers_run_side_by_side(shell: Any) -> None:
    """Another name is another server."""
    shell.run_cell_magic("server", "one", CELL)
    shell.run_cell_magic("server", "two", CELL)
    assert shell.user_ns["one"].running and shell.user_ns["two"].running
    assert shell.user_ns["one"].url != shell.user_ns["two"].url


def test_stop_all(shell: Any, alive: Alive) -> None:
    """All of them can be ended at once, as the end of a kernel does."""
    shell.run_cell_magic("server", "one", CELL)
    magics.stop_all()
    assert not alive(shell.user_ns["one"].pid)
    assert not shell.user_ns["one"].running
    magics.stop_all()


def test_an_app(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With --app an ASGI app runs by `streamlab.serve`; a terminal has to name its folder, too."""
    shell.run_cell_magic(
        "server",
        "shop --app application",
        "from fastapi import FastAPI\napplication = FastAPI()\n",
    )
    shop = shell.user_ns["shop"]
    assert shop.command[3] == ".streamlab/shop.py:application"
    assert download(shop.url + "/openapi.json").status == 200
    typed = capsys.readouterr().out.splitlines()[1]
    assert typed.startswith("  STREAMLAB_ROOT=.streamlab/files python -m streamlab.serve ")


@pytest.mark.needs("linux")
def test_a_cup(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With --cup and --stack the server runs in limits, and the line for a terminal sets them."""
    import psutil

    shell.run_cell_magic("server", "hello --cup 256 --stack 512", CELL)
    handle = shell.user_ns["hello"]
    process = psutil.Process(handle.pid)
    assert process.rlimit(psutil.RLIMIT_DATA) == (256 << 20,) * 2
    assert process.rlimit(psutil.RLIMIT_STACK) == (512 << 10,) * 2
    line = capsys.readouterr().out
    assert "ulimit -d 262144 -s 512" in line
    assert line.count("\n") == 2


@pytest.mark.needs("linux")
def test_descriptors(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With --nofile a server may have so many descriptors, with or without a cup."""
    import psutil

    shell.run_cell_magic("server", "hello --nofile 99", CELL)
    process = psutil.Process(shell.user_ns["hello"].pid)
    assert process.rlimit(psutil.RLIMIT_NOFILE) == (99, 99)
    assert process.rlimit(psutil.RLIMIT_DATA) == psutil.Process().rlimit(psutil.RLIMIT_DATA)
    assert "(ulimit -n 99; python " in capsys.readouterr().out
    shell.run_cell_magic("server", "hello --cup 256 --nofile 99", CELL)
    assert "(ulimit -d 262144 -s 256 -n 99; python " in capsys.readouterr().out


@pytest.mark.needs("linux")
def test_environment(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With --env a server knows another one's address; so it does when a shell starts it."""
    shell.run_cell_magic("server", "first", CELL)
    program = "import os\nprint(os.environ['HOME_OF'], os.environ['ROOM'], flush=True)\n"
    capsys.readouterr()
    shell.run_cell(f"%%server second --env HOME_OF={{first.url}} --env 'ROOM=a b'\n{program}{CELL}")
    told = shell.user_ns["second"].log().splitlines()[0]
    assert told == f"{shell.user_ns['first'].url} a b"
    typed = capsys.readouterr().out.splitlines()[1]
    assert "127.0.0.1" not in typed, "the port of another server differs from run to run"
    shell.user_ns["second"].stop()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as in an activated environment
    started = subprocess.Popen(
        ["sh", "-c", typed.strip()],
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    try:
        assert started.stdout is not None
        assert {started.stdout.readline().strip() for _ in range(2)} >= {told}
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.communicate()


def test_root_and_port(shell: Any, closed_port: int, tmp_path: Path) -> None:
    """A folder and a port of choice are taken."""
    sample = random_file(10, folder=tmp_path / "files")
    shell.run_cell_magic("server", f"hello --root files --port {closed_port}", CELL)
    handle = shell.user_ns["hello"]
    assert handle.url == f"http://127.0.0.1:{closed_port}"
    assert download(handle.url + sample.url, sample.path).size == 10


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "the following arguments are required: name"),
        ("1st", "'1st' can't be a variable's name"),
        ("a-b", "'a-b' can't be a variable's name"),
        ("../up", "'../up' can't be a variable's name"),
        ("class", "'class' can't be a variable's name"),
        ("json", "'json' is a module of Python's: take another name"),
        ("hello --cups 256", "unrecognized arguments: --cups 256"),
        ("hello again", "unrecognized arguments: again"),
        ("hello --cup large", "argument --cup: invalid int value: 'large'"),
        ("hello --root 'files", "no closing quotation"),
        ("hello --env ROOM", "argument --env: 'ROOM' is not KEY=VALUE"),
        ("hello --env =4", "argument --env: '=4' is not KEY=VALUE"),
    ],
)
def test_a_line_that_is_wrong(shell: Any, line: str, why: str, tmp_path: Path) -> None:
    """A wrong line gets one line with an example; nothing is written or run."""
    with pytest.raises(ServerError) as caught:
        shell.run_cell_magic("server", line, CELL)
    assert str(caught.value) == f"%%server: {why}. Write it like: %%server NAME --cup 256"
    assert not (tmp_path / ".streamlab").exists()


def test_no_cup_on_windows(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no cup, the line says so."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ServerError, match="there is no cup on Windows: leave --cup out"):
        shell.run_cell_magic("server", "hello --cup 256", CELL)


def test_an_error_in_the_cell_is_shown_cleanly(
    shell: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cell's own traceback is shown, by its relative path, without a frame of the library."""
    ran = shell.run_cell("%%server hello\ndef send(path, response)\n    pass\n")
    shown = "".join(capsys.readouterr())
    assert isinstance(ran.error_in_exec, ServerError)
    assert "ServerError: .streamlab/hello.py ended at its start with status 1" in shown
    assert 'hello.py", line 1' in shown
    assert "SyntaxError: expected ':'" in shown
    for buried in ("magics.py", "server.py", "Traceback"):
        assert buried not in shown
    assert "hello" not in shell.user_ns


def test_a_mistake_ends_the_old_server(shell: Any, alive: Alive) -> None:
    """When a changed cell fails, its old server does not answer in its place."""
    shell.run_cell_magic("server", "hello", CELL)
    old = shell.user_ns["hello"]
    with pytest.raises(ServerError):
        shell.run_cell_magic("server", "hello", "raise SystemExit(1)\n")
    assert not alive(old.pid)
    assert not old.running


def test_a_wrong_line_leaves_the_old_server(shell: Any) -> None:
    """A typing error in the line does not end the server."""
    shell.run_cell_magic("server", "hello", CELL)
    with pytest.raises(ServerError):
        shell.run_cell_magic("server", "hello --cup", CELL)
    assert shell.user_ns["hello"].running


def test_help(shell: Any) -> None:
    """`%%server?` says how to write it."""
    assert "%%server NAME" in (shell.find_cell_magic("server").__doc__ or "")


def test_a_system_without_proc_is_told_so(
    shell: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading the extension says in one line what the figures are there; elsewhere it is silent."""
    capsys.readouterr()
    streamlab.load_ipython_extension(shell)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("streamlab.process.proc.PROC", tmp_path / "nothing")
    streamlab.load_ipython_extension(shell)
    [line] = capsys.readouterr().out.splitlines()
    assert "sampled" in line


HTTP = """
server {
  listen PORT;
  location / { proxy_pass http://app; }
}
"""


@pytest.mark.needs("linux", "nginx")
def test_nginx_in_front(shell: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It leads to the server that a keyword names, says one stable line, and restarts."""
    sample = random_file(1000)
    shell.run_cell_magic("server", "hello", CELL)
    capsys.readouterr()
    for _ in range(2):
        front = magics.nginx("front", HTTP, app=shell.user_ns["hello"])
        assert capsys.readouterr().out == "front runs: nginx, with .streamlab/front.conf\n"
        assert download(front.url + sample.url, sample.path).size == 1000
    assert "upstream app { server 127.0.0.1:" in (tmp_path / ".streamlab/front.conf").read_text()
    magics.stop_all()
    assert not front.running


def test_a_cell_without_its_needs(
    shell: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says in one line what is missing, and is left out; with it, it runs."""
    monkeypatch.setattr(magics, "find_tool", lambda name: None if name == "nginx" else name)
    monkeypatch.setattr("streamlab.process.groups.unavailable_reason", lambda: "no group")
    assert shell.run_cell("%needs curl\nran = 1").success
    assert capsys.readouterr().out == ""
    assert shell.run_cell("%needs nginx\nran = 2").success
    told = "left out: nginx is not installed here (package nginx-light)\n"
    assert capsys.readouterr().out == told
    assert shell.run_cell("%needs curl cgroup\nran = 3").success
    assert capsys.readouterr().out == "left out: no group\n"
    assert shell.user_ns["ran"] == 1
