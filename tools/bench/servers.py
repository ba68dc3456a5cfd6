"""The servers of the bench: how each is started, and its paths of the files.

A new one is one line in `FILES`, `FRAMEWORKS` or `PROXIES`: a program that keeps to the labs'
contract, or a context manager that yields a `Running`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from streamlab.process.server import Server

HERE = Path(__file__).resolve().parent.parent.parent
PEERS = HERE / "tools" / "bench" / "peers"


class Running(Protocol):
    """A server that runs."""

    pid: int
    url: str


@dataclass(frozen=True)
class Contender:
    """A server to measure, and how it is started."""

    name: str
    title: str
    start: Callable[[Any], Any]
    """Makes of what its suite serves (a folder of files, an upstream's URL) a context manager that
    yields a `Running`."""
    path: str = "/{}"
    """The path at which it has a file."""
    holds_all: bool = False
    """Whether it always holds each answer whole."""


def script(path: Path, app: str | None = None) -> Callable[[Path], Any]:
    """A program that keeps to the labs' contract."""
    return lambda root: Server(path, root, app=app, ready=20)


def proxy(path: Path) -> Callable[[str], Any]:
    """An app that keeps to the contract of lab 09."""

    def start(upstream: str) -> Server:
        environment = {"STREAMLAB_UPSTREAM": upstream}
        return Server(path, tempfile.gettempdir(), app="app", environment=environment, ready=20)

    return start


def solution(lab: str) -> Path:
    """The program of a lab, solved."""
    folder = HERE / "solutions" / lab
    return next(path for path in (folder / "server.py", folder / "app.py") if path.exists())


# nginx


@dataclass
class Nginx:
    """A running nginx."""

    pid: int
    url: str


def nginx_files(root: Path) -> Any:
    """nginx with one worker and sendfile, and default settings otherwise."""
    return _nginx(f"sendfile on; root {root};")


def nginx_proxy(upstream: str) -> Any:
    """nginx with one worker that passes on what an upstream sends, with default settings otherwise.

    It has no temporary files: with them it would read ahead of slow clients, onto the disk.
    """
    return _nginx(
        "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_max_temp_file_size 0;",
        f"location / {{ proxy_pass {upstream}; }}",
    )


@contextmanager
def _nginx(settings: str, inside: str = "") -> Iterator[Nginx]:
    with tempfile.TemporaryDirectory(prefix="streamlab-nginx-") as scratch, socket.socket() as kept:
        # Bound all the time, so no other program gets the port before nginx listens on it.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        port = kept.getsockname()[1]
        places = "".join(
            f"  {kind}_temp_path {scratch}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;\n" if os.geteuid() == 0 else ""
        config = Path(scratch, "nginx.conf")
        config.write_text(
            f"{user}worker_processes 1;\nworker_rlimit_nofile 8192;\ndaemon off;\n"
            f"pid {scratch}/pid;\nerror_log stderr crit;\n"
            "events { worker_connections 4096; }\n"
            f"http {{\n{places}  access_log off;\n  default_type application/octet-stream;\n"
            f"  server {{ listen 127.0.0.1:{port} backlog=2048; {settings} {inside} }}\n}}\n",
            encoding="utf-8",
        )
        command = [program_of_nginx(), "-e", "stderr", "-c", str(config)]
        # Under the supervisor it ends with this process, even if that is killed.
        supervised = [sys.executable, "-m", "streamlab.process.supervise", "--", *command]
        with subprocess.Popen(
            supervised, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        ) as supervisor:
            assert supervisor.stdout is not None
            process = json.loads(supervisor.stdout.readline())
            _wait_for(port)
            yield Nginx(process["pid"], f"http://127.0.0.1:{port}")


def program_of_nginx() -> str:
    """The path of nginx. Debian keeps it in a folder that is not on an ordinary user's PATH."""
    return shutil.which("nginx") or "/usr/sbin/nginx"


def _wait_for(port: int) -> None:
    """Wait until something listens on a port, 10 seconds at most."""
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


# The servers that are measured

FILES = [
    Contender("nginx", "nginx", nginx_files),
    Contender("lab02", "lab 02: chunked loop", script(solution("02_chunked_loop"))),
    Contender("lab05", "lab 05: hybrid", script(solution("05_hybrid_server"))),
    Contender("lab06", "lab 06: asyncio", script(solution("06_under_load"))),
    Contender("aiohttp", "aiohttp static", script(PEERS / "aiohttp_static.py")),
    Contender("starlette", "Starlette FileResponse", script(PEERS / "starlette_file.py", "app")),
    Contender("http.server", "python -m http.server", script(PEERS / "http_server.py")),
    Contender("load-all", "load-all", script(PEERS / "load_all.py"), holds_all=True),
]

FRAMEWORKS = [
    Contender("nginx", "nginx", nginx_files),
    Contender(
        "lab07",
        "lab 07: FastAPI",
        script(solution("07_frameworks"), "app"),
        path="/stream-video/{}",
    ),
    Contender("starlette", "Starlette FileResponse", script(PEERS / "starlette_file.py", "app")),
]

FILE_OF = "/v1/files/{}/content"

PROXIES = [
    Contender("nginx", "nginx as a proxy", nginx_proxy, FILE_OF),
    Contender("lab09", "lab 09: streaming proxy", proxy(solution("09_streaming_proxy")), FILE_OF),
    Contender(
        "httpx2",
        "FastAPI and httpx2, streamed",
        proxy(PEERS / "httpx2_streamed.py"),
        FILE_OF,
    ),
    Contender(
        "buffered",
        "FastAPI and httpx2, buffered",
        proxy(PEERS / "httpx2_buffered.py"),
        FILE_OF,
        holds_all=True,
    ),
]
