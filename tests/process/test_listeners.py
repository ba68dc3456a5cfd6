"""An announced address counts only where the program's own socket listens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from streamlab import Server
from streamlab.errors import NotListening
from streamlab.process.listeners import listens_elsewhere

pytestmark = pytest.mark.needs("linux")

LISTENING = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.socket(family)
if family == socket.AF_INET6:
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
listener.bind((sys.argv[1], 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"])
def test_whose_socket_listens(host: str) -> None:
    """That of a process is its own, and its parent's; to any other it is somebody else's."""
    command = [sys.executable, "-c", LISTENING, host]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        other = subprocess.Popen(["sleep", "60"])
        try:
            found = [listens_elsewhere(pid, port) for pid in (process.pid, os.getpid(), other.pid)]
        finally:
            other.kill()
            other.wait()
            process.kill()
    assert found == [False, False, True]


def test_nobody_listens(closed_port: int) -> None:
    """That is another matter: nobody answers then."""
    assert not listens_elsewhere(os.getpid(), closed_port)


def test_a_server_that_announces_a_foreign_port(tmp_path: Path) -> None:
    """It has not listened, and what is said names the port; its own one of the same kind has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        program = tmp_path / "server.py"
        text = f"import time; print('listening on http://127.0.0.1:{port}', flush=True)\n"
        program.write_text(text + "time.sleep(60)\n")
        with pytest.raises(NotListening, match=f"On port {port}, which it announced, another"):
            Server(program, tmp_path, ready=30, probe=False).start()


def test_a_child_may_listen_for_a_server(tmp_path: Path) -> None:
    """As gunicorn's workers do."""
    program = tmp_path / "server.py"
    program.write_text(
        "import os, socket, time\n"
        "if os.fork() == 0:\n"
        "    listener = socket.create_server(('127.0.0.1', 0))\n"
        "    port = listener.getsockname()[1]\n"
        "    print(f'listening on http://127.0.0.1:{port}', flush=True)\n"
        "time.sleep(60)\n"
    )
    with Server(program, tmp_path) as server:
        assert server.running
