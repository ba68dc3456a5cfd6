"""What runs inside a server's process: `serve_files` for scripts, uvicorn for apps."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from streamlab import (
    Cup,
    DownloadError,
    Server,
    ServerError,
    download,
)
from streamlab.files import KiB, MiB, random_file, sparse_file
from streamlab.lesson.experiment import measure, waiting
from streamlab.process import proc
from streamlab.serve import announce, load_app, serve_files

Launch = Callable[..., Server]
Becomes = Callable[[Callable[[], bool]], bool]


def connected(server: Server) -> socket.socket:
    """A connection to a server."""
    port = int(server.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def answered(server: Server, request: str) -> bytes:
    """All that a server sends for a request, until it closes the connection."""
    with connected(server) as client:
        client.sendall(request.encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


def nobody_there(server: Server) -> bool:
    """Whether a server, its children included, has closed all connections but where it listens."""
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    states = set()
    for member in family:
        # Ended since it was listed; while it ends, its files are root's.
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            states |= {each.status for each in member.net_connections("tcp")}
    return states == {psutil.CONN_LISTEN}


def test_serves_whole_files(launch: Launch, tmp_path: Path) -> None:
    """Status, headers and body of an answer are right to the byte."""
    sample = random_file(300 * KiB, folder=tmp_path)
    answer = answered(launch("streaming").start(), f"GET {sample.url} HTTP/1.1\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0]
    assert b"Content-Length: 307200" in head
    assert b"Content-Type: application/octet-stream" in head
    assert body == sample.path.read_bytes()


def test_serves_folders_within_the_root(launch: Launch, tmp_path: Path) -> None:
    """A file deeper in the root is found."""
    sample = random_file(10, folder=tmp_path / "a" / "b")
    started = launch("streaming").start()
    assert download(f"{started.url}/a/b{sample.url}", sample.path).size == 10


@pytest.mark.parametrize("path", ["/nothing", "/", "/folder", "/../secret", "//etc/hostname"])
def test_anything_else_is_404(launch: Launch, tmp_path: Path, path: str) -> None:
    """No file, a folder, or a way out of the root is a 404."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root" / "folder").mkdir(parents=True)
    started = launch("streaming", tmp_path / "root").start()
    answer = answered(started, f"GET {path} HTTP/1.1\r\n\r\n")
    assert b" 404 " in answer.split(b"\r\n")[0]
    assert b"secret" not in answer


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need rights on Windows")
def test_a_link_is_no_way_out(launch: Launch, tmp_path: Path) -> None:
    """A symbolic link that leads out of the root is a 404 too."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "secret")
    started = launch("streaming", tmp_path / "root").start()
    assert b" 404 " in answered(started, "GET /link HTTP/1.1\r\n\r\n").split(b"\r\n")[0]


def test_a_client_that_leaves_ends_its_own_request(
    launch: Launch, tmp_path: Path, becomes: Becomes
) -> None:
    """After a client left in the middle, others are served and the log holds no traceback."""
    sample = sparse_file(64 * MiB, folder=tmp_path)
    small = random_file(10, folder=tmp_path)
    started = launch("streaming").start()
    with connected(started) as client:
        client.sendall(f"GET {sample.url} HTTP/1.1\r\n\r\n".encode())
        assert client.recv(1000)
    assert download(started.url + small.url, small.path).size == 10
    assert becomes(lambda: nobody_there(started))
    assert "Traceback" not in started.log()
    assert started.running


@pytest.mark.needs("linux")
def test_memory_error_ends_the_process(launch: Launch, tmp_path: Path, becomes: Becomes) -> None:
    """A server without memory dies with status 1 and says why."""
    sample = sparse_file(300 * MiB, folder=tmp_path)
    started = launch("load_all", cup=Cup(128)).start()
    assert answered(started, f"GET {sample.url} HTTP/1.1\r\n\r\n") == b""
    assert becomes(lambda: not started.running)
    assert started.exit_status == 1
    assert started.log().rstrip().endswith("MemoryError")


def test_a_thread_that_finds_no_memory_costs_one_client(
    launch: Launch, tmp_path: Path, becomes: Becomes
) -> None:
    """A thread may end before its first line: its client is turned away, the next one served."""
    sample = random_file(10, folder=tmp_path)
    started = launch("threadbare", probe=False).start()
    with pytest.raises(DownloadError, match=r"closed the connection|broke the connection"):
        download(started.url + sample.url, timeout=20)
    assert download(started.url + sample.url, sample.path, timeout=20).size == 10
    assert becomes(lambda: "MemoryError" in started.log())


def test_other_errors_end_one_request(launch: Launch, tmp_path: Path) -> None:
    """An exception in `send` is in the log, and the server goes on."""
    script = tmp_path / "faulty.py"
    script.write_text(
        "from streamlab.serve import serve_files\n"
        "def send(path, response):\n"
        "    if path.name == 'bad': raise ValueError('muddy')\n"
        "    response.start(0)\n"
        "serve_files(send)\n"
    )
    (tmp_path / "bad").touch()
    (tmp_path / "good").touch()
    with Server(script, tmp_path) as started:
        assert answered(started, "GET /bad HTTP/1.1\r\n\r\n") == b""
        assert "ValueError: muddy" in started.log()
        assert b" 200 " in answered(started, "GET /good HTTP/1.1\r\n\r\n")


KEEPERS = ["loop", "pool", pytest.param("process", marks=pytest.mark.needs("linux"))]
"""What serves a client, besides a thread of its own: see `servers/each_its_own.py`."""


@pytest.mark.parametrize("keeper", KEEPERS)
def test_other_keepers_serve_the_same(
    launch: Launch, tmp_path: Path, keeper: str, becomes: Becomes
) -> None:
    """Whole files, 404 for anything else, and an error ends one request alone."""
    sample = random_file(3 * MiB, folder=tmp_path)
    (tmp_path / "bad").touch()
    started = launch("each_its_own", environment={"KEEPER": keeper}).start()
    for path in ("/nothing", "/", "/../secret", "//etc/hostname"):
        head = answered(started, f"GET {path} HTTP/1.1\r\n\r\n")
        assert b" 404 " in head.split(b"\r\n")[0]
    with connected(started) as leaving:
        leaving.sendall(f"GET {sample.url} HTTP/1.1\r\n\r\n".encode())
        assert leaving.recv(1000)
    assert download(started.url + sample.url, sample.path).size == sample.size
    assert becomes(lambda: nobody_there(started))
    assert "Traceback" not in started.log()
    assert answered(started, "GET /bad HTTP/1.1\r\n\r\n") == b""
    assert "ValueError: muddy" in started.log()
    assert download(started.url + sample.url, sample.path).size == sample.size


@pytest.mark.needs("linux")
def test_processes_threads_and_loop(launch: Launch, tmp_path: Path) -> None:
    """Five waiting clients have a process each, a thread each, two threads of a pool, or one."""
    sample = sparse_file(64 * MiB, folder=tmp_path)

    def of_five(name: str, keeper: str) -> tuple[int | None, int | None]:
        server = launch(name, environment={"KEEPER": keeper})
        found = measure(server, sample.url, 5, "stalled")
        return found.processes, found.threads

    assert of_five("streaming", "") == (1, 6)
    assert of_five("each_its_own", "process") == (6, 6)
    assert of_five("each_its_own", "loop") == (1, 1)


@pytest.mark.needs("linux")
@pytest.mark.parametrize("keeper", ["loop", "pool"])
def test_a_small_send_buffer(launch: Launch, tmp_path: Path, keeper: str) -> None:
    """A server with one gets less far ahead of a client that stalls."""
    sample = sparse_file(64 * MiB, folder=tmp_path)

    def ahead(size: int) -> int:
        environment = {"KEEPER": keeper, "SEND_BUFFER": str(size)}
        server = launch("each_its_own", environment=environment)
        read = measure(server, sample.url, 1, "stalled").read
        assert read is not None
        return read

    assert ahead(32 * KiB) < 1.5 * MiB < ahead(0)


@pytest.mark.needs("linux")
def test_a_pool_that_is_taken(launch: Launch, tmp_path: Path) -> None:
    """With both threads of a pool waiting, the next client is served when one of them is free."""
    sample = sparse_file(64 * MiB, folder=tmp_path)
    small = random_file(10, folder=tmp_path)
    started = launch("each_its_own", environment={"KEEPER": "pool"})
    with waiting(started, sample.url, 2), pytest.raises(DownloadError, match="not finished"):
        download(started.url + small.url, timeout=0.5)
    assert download(started.url + small.url, small.path).size == 10


@pytest.mark.needs("linux")
def test_a_loop_without_memory_ends(launch: Launch, tmp_path: Path, becomes: Becomes) -> None:
    """Without `drain` the file collects in the transport's buffer, and breaks the cup."""
    sample = sparse_file(300 * MiB, folder=tmp_path)
    environment = {"KEEPER": "loop", "DRAIN": "no"}
    started = launch("each_its_own", cup=Cup(128), environment=environment).start()
    with connected(started) as client:
        client.sendall(f"GET {sample.url} HTTP/1.1\r\n\r\n".encode())
        assert becomes(lambda: not started.running)
    assert started.exit_status == 1
    assert started.log().rstrip().endswith("MemoryError")


@pytest.mark.needs("linux")
def test_a_loop_without_descriptors(launch: Launch, tmp_path: Path, becomes: Becomes) -> None:
    """It says so in one line, not in one for each attempt, and goes on when clients leave."""
    small = random_file(10, folder=tmp_path)
    limits = Cup(None, None, nofile=20)
    started = launch("each_its_own", cup=limits, environment={"KEEPER": "loop"}).start()
    idle = len(proc.open_files(started.pid))
    crowd = [connected(started) for _ in range(20 - idle + 2)]
    assert becomes(lambda: "out of system resource" in started.log())
    time.sleep(1.2)  # asyncio tries again after a second
    assert started.log().count("out of system resource") == 1
    for client in crowd:
        client.close()
    # Fewer, if the connection by which `start` tried the server was still open then.
    assert becomes(lambda: len(proc.open_files(started.pid)) <= idle)
    assert download(started.url + small.url, small.path).size == 10


def test_listens_on_the_loopback_alone(launch: Launch) -> None:
    """Only this machine can reach a server of the course."""
    for started in (launch("streaming").start(), launch("app", app="app").start()):
        listening = [
            each.laddr.ip
            for each in psutil.Process(started.pid).net_connections("tcp")
            if each.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"]


def test_announce(capsys: pytest.CaptureFixture[str]) -> None:
    """The first line is the one that `Server` waits for."""
    announce(8000)
    assert capsys.readouterr().out == "listening on http://127.0.0.1:8000\n"


def test_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown option of a script is an error before anything listens."""
    monkeypatch.setattr(sys, "argv", ["server.py", "--prot=8000"])
    with pytest.raises(SystemExit) as caught:
        serve_files(lambda path, response: None)
    assert caught.value.code == 2


def test_app_answers(launch: Launch, tmp_path: Path) -> None:
    """An ASGI app runs in the server's process and finds its folder in STREAMLAB_ROOT."""
    sample = random_file(200 * KiB, folder=tmp_path)
    started = launch("app", app="app").start()
    assert download(started.url + sample.url, sample.path).size == 200 * KiB
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(started.url + "/pid", timeout=20) as response:
        assert json.load(response) == started.pid


def test_app_sends_small_answers_at_once(launch: Launch) -> None:
    """TCP_NODELAY is set on every connection, or small keep-alive answers would wait for ACKs."""
    started = launch("app", app="app").start()
    with connected(started), connected(started) as client:
        client.sendall(b"GET /nodelay HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    set_on: list[Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert set_on and all(set_on)


def test_app_stops_while_a_client_holds_a_connection(launch: Launch, tmp_path: Path) -> None:
    """A client that stalls does not keep an app alive."""
    sample = sparse_file(64 * MiB, folder=tmp_path)
    started = launch("app", app="app").start()
    with connected(started) as client:
        client.sendall(f"GET {sample.url} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.recv(1000)
        started.stop()
    assert not psutil.pid_exists(started.pid)


def test_app_of_another_name(launch: Launch) -> None:
    """A name that the file does not have is reported in one line."""
    with pytest.raises(ServerError, match=r"app\.py has no 'application': name your app"):
        launch("app", app="application").start()


@pytest.mark.parametrize("target", ["app", ":app", "readme.txt:app"])
def test_target_that_is_none(target: str) -> None:
    """What is not FILE:NAME is refused with an example."""
    with pytest.raises(SystemExit, match=r"is not FILE:NAME, such as app\.py:app"):
        load_app(target)


def test_load_app(servers: Path, tmp_path: Path) -> None:
    """The object of that name is what is loaded, the file's own imports done."""
    (tmp_path / "tiny_app.py").write_text("import math\nthing = math.floor(7.5)\n")
    assert load_app(f"{tmp_path / 'tiny_app.py'}:thing") == 7


def test_an_app_imports_what_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a script does; but it can't take the place of a module of Python's own."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_the_app.py").write_text("thing = 8\n")
    (tmp_path / "wave.py").write_text("raise ImportError('the wrong one')\n")
    (tmp_path / "app_of_two.py").write_text("import wave\nfrom beside_the_app import thing\n")
    assert load_app(f"{tmp_path / 'app_of_two.py'}:thing") == 8


def test_script_needs_no_package() -> None:
    """`streamlab.serve` loads the standard library alone: small servers stay small."""
    program = (
        "import sys; before = set(sys.modules); import streamlab.serve; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}"
        " - sys.stdlib_module_names))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.split() == ["streamlab"], ran.stderr


APP = """
from streamlab.serve import serve_app

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

serve_app(app, timeout_keep_alive=SECONDS)
"""


def test_an_app_as_a_script(tmp_path: Path) -> None:
    """Its settings are uvicorn's: it closes an idle connection after the time that it is given."""
    for seconds, closed in ((1, True), (60, False)):
        file = tmp_path / f"app{seconds}.py"
        file.write_text(APP.replace("SECONDS", str(seconds)))
        with Server(file, tmp_path, ready=20) as server, connected(server) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            client.settimeout(20 if closed else 3)
            said = b""
            with suppress(TimeoutError):
                while piece := client.recv(4096):
                    said += piece
                assert closed
            assert b"hello" in said
