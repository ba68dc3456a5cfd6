"""The lifeline, in real Jupyter kernels: interrupted, restarted, shut down, killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from streamlab import download

Alive = Callable[[int], bool]
Becomes = Callable[[Callable[[], bool]], bool]

SERVER = """\
%%server demo
from streamlab.serve import serve_files

def send(path, response):
    response.start(path.stat().st_size)
    response.write(path.read_bytes())

serve_files(send)
"""

STUBBORN = (
    "%%server demo\nimport signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    + (SERVER.partition("\n")[2])
)


class Kernel:
    """A kernel in a folder of its own, with the extension loaded."""

    def __init__(self, folder: Path) -> None:
        self.manager = KernelManager(
            kernel_name="python3",
            connection_file=str(folder / "kernel.json"),
            # Over Unix sockets: another program could get a port before the kernel listens on it.
            transport="ipc" if sys.platform == "linux" else "tcp",
        )
        self.manager.start_kernel(
            cwd=str(folder), env={**os.environ, "IPYTHONDIR": str(folder / "ipython")}
        )
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.ready()

    def ready(self) -> None:
        """Wait until it answers, and load the extension."""
        self.client.wait_for_ready(timeout=60)
        assert self.run("%load_ext streamlab") == ""

    def run(self, code: str) -> str:
        """Run a cell; returns what it printed or showed, its error if it failed."""
        parts: list[str] = []

        def collect(message: dict[str, Any]) -> None:
            content = message["content"]
            parts.append(content.get("text") or content.get("data", {}).get("text/plain") or "")

        reply = self.client.execute_interactive(code, timeout=60, output_hook=collect)
        content = reply["content"]
        if content["status"] != "ok":
            return f"{content['ename']}: {content['evalue']}"
        return "".join(parts)

    def serve(self, cell: str = SERVER) -> tuple[int, int, str]:
        """Run a `%%server` cell; returns the server's pid, its supervisor's, and its URL."""
        assert self.run(cell).startswith("demo runs. ")
        pid, url = self.run("print(demo.pid, demo.url)").split()
        return int(pid), psutil.Process(int(pid)).ppid(), url

    def pid(self) -> int:
        """The kernel's own process."""
        return int(self.run("import os; print(os.getpid())"))

    def end(self) -> None:
        """Shut it down, whatever its state."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A real kernel."""
    made = Kernel(tmp_path)
    yield made
    made.end()


def test_a_lesson_in_a_kernel(kernel: Kernel) -> None:
    """Server, download and measurement work where a kernel's own event loop runs."""
    kernel.serve()
    kernel.run("import streamlab; sample = streamlab.random_file(100_000)")
    assert kernel.run("streamlab.download(demo.url + sample.url, sample.path).size") == "100000"
    measured = kernel.run("streamlab.measure(demo, sample.url, clients=2).received")
    assert measured == "200000"


def test_error_in_a_kernel(kernel: Kernel) -> None:
    """A failed cell shows the message of the error alone."""
    shown = kernel.run("%%server demo\nraise LookupError('dry')\n")
    assert shown.startswith("ServerError: .streamlab/demo.py ended at its start with status 1.")
    assert shown.endswith("LookupError: dry")


def test_interrupt(kernel: Kernel, alive: Alive, tmp_path: Path) -> None:
    """An interrupted kernel keeps its server, which goes on answering."""
    pid, supervisor, url = kernel.serve()
    (tmp_path / ".streamlab/files").mkdir(parents=True, exist_ok=True)
    (tmp_path / ".streamlab/files/small").write_text("small")
    # Otherwise a request soon after an error may be refused, as if it had been sent before.
    sleep = "import time\nprint('sleeps')\ntime.sleep(60)"
    request = kernel.client.execute(sleep, stop_on_error=False)
    while kernel.client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
        pass
    kernel.manager.interrupt_kernel()
    reply = kernel.client.get_shell_msg(timeout=60)
    while reply["parent_header"].get("msg_id") != request:
        reply = kernel.client.get_shell_msg(timeout=60)
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert alive(pid) and alive(supervisor)
    assert download(f"{url}/small").size == 5
    assert kernel.run("print(demo.running, demo.pid)") == f"True {pid}\n"


def test_interrupt_of_a_start(
    kernel: Kernel, alive: Alive, becomes: Becomes, tmp_path: Path
) -> None:
    """A `%%server` cell that is interrupted while it waits leaves no process behind."""
    note = tmp_path / "pid"
    kernel.client.execute(
        "%%server demo\nimport os, time\n"
        f"open({str(note) + '.part'!r}, 'w').write(str(os.getpid()))\n"
        f"os.rename({str(note) + '.part'!r}, {str(note)!r})\ntime.sleep(600)\n"
    )
    assert becomes(note.exists)
    pid = int(note.read_text())
    supervisor = psutil.Process(pid).ppid()
    kernel.manager.interrupt_kernel()
    assert becomes(lambda: not alive(pid) and not alive(supervisor))


def test_restart(kernel: Kernel, alive: Alive, becomes: Becomes) -> None:
    """A restarted kernel has lost its server, and can start it again."""
    pid, supervisor, _ = kernel.serve()
    kernel.manager.restart_kernel()
    assert becomes(lambda: not alive(pid) and not alive(supervisor))
    kernel.ready()
    again, _, _ = kernel.serve()
    assert again != pid


def test_restart_by_force(kernel: Kernel, alive: Alive, becomes: Becomes) -> None:
    """A restart that kills the kernel, as nbval's end does, ends the server too."""
    pid, supervisor, _ = kernel.serve()
    kernel.manager.restart_kernel(now=True)
    assert becomes(lambda: not alive(pid) and not alive(supervisor))


def test_shutdown(kernel: Kernel, alive: Alive, becomes: Becomes) -> None:
    """A kernel that is shut down in good order takes its server along."""
    pid, supervisor, _ = kernel.serve()
    kernel.manager.shutdown_kernel()
    assert becomes(lambda: not alive(pid) and not alive(supervisor))


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
@pytest.mark.parametrize("cell", [SERVER, STUBBORN], ids=["plain", "ignoring SIGTERM"])
def test_kill(kernel: Kernel, alive: Alive, becomes: Becomes, cell: str) -> None:
    """When a kernel is killed with signal 9, its servers and supervisors end."""
    pid, supervisor, _ = kernel.serve(cell)
    os.kill(kernel.pid(), signal.SIGKILL)
    assert becomes(lambda: not alive(pid) and not alive(supervisor))


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_kill_in_the_middle_of_a_measurement(
    kernel: Kernel, alive: Alive, becomes: Becomes
) -> None:
    """A kernel killed while clients hold their downloads leaves neither clients nor server."""
    pid, supervisor, _ = kernel.serve()
    kernel_process = psutil.Process(kernel.pid())
    before = {child.pid for child in kernel_process.children(recursive=True)}
    kernel.run(
        "import streamlab; from streamlab.http.clients import Crowd, Job, Load; "
        "sample = streamlab.sparse_file(40 << 20); "
        "crowd = Crowd(Job(int(demo.url.rpartition(':')[2]), Load(sample.url, 3))).__enter__(); "
        "crowd.arrive()"
    )
    clients = {child.pid for child in kernel_process.children(recursive=True)} - before
    assert len(clients) == 1
    kernel_process.kill()
    assert becomes(lambda: not any(alive(each) for each in (pid, supervisor, *clients)))


def test_kernel_is_this_python(kernel: Kernel) -> None:
    """The kernel under test runs the same interpreter as the tests."""
    assert kernel.run("import sys; print(sys.prefix)").strip() == sys.prefix
