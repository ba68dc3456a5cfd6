"""Other kernels' settings for TCP: right inside the namespace, and unchanged outside."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from notebook_rules import ROOT

TOOLS = ROOT / "tools"
TOOL = TOOLS / "kernels.py"
SETTINGS = [Path("/proc/sys/net/ipv4") / name for name in ("tcp_rmem", "tcp_wmem")]

SHOWS = """
import fcntl, json, os, socket
from pathlib import Path
with socket.create_server(("127.0.0.1", 0)) as listener:
    socket.create_connection(listener.getsockname()).close()
folder = Path("/proc/sys/net/ipv4")
settings = [(folder / name).read_text().split() for name in ("tcp_rmem", "tcp_wmem")]
asked = fcntl.ioctl(socket.socket(), 0x8921, b"lo".ljust(40, bytes(1)))
mtu = int.from_bytes(asked[16:20], "little")
print(json.dumps([os.readlink("/proc/self/ns/net"), os.getuid(), *settings, mtu]))
"""
"""Prints the namespace, the user, both settings and the size of a packet; loopback must be up."""

pytestmark = pytest.mark.needs("linux")


def loaded(name: str) -> ModuleType:
    """A tool, as a module."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kernels() -> Iterator[ModuleType]:
    """The tool; skipped, with the reason, where it can't have a namespace."""
    module = loaded("kernels")
    if reason := module.unavailable_reason("debian"):
        if os.environ.get("CI"):
            pytest.fail(f"CI may skip nothing, but there is no namespace: {reason}")
        pytest.skip(reason)
    before = [path.read_text() for path in SETTINGS]
    yield module
    assert [path.read_text() for path in SETTINGS] == before, "the machine's own settings changed"


def shown(*command: str, before: tuple[str, ...] = ()) -> list[object]:
    """What SHOWS prints with the settings of a kernel."""
    import json

    python = [*before, command[0], str(TOOL), *command[1:], "--", command[0], "-c", SHOWS]
    ended = subprocess.run(python, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    found: list[object] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize("name", ["debian", "small", "mtu1500", "large"])
def test_the_settings_inside_are_those_asked_for(kernels: ModuleType, name: str) -> None:
    namespace, user, rmem, wmem, mtu = shown(sys.executable, f"--kernel={name}")
    wanted = kernels.KERNELS[name]
    assert rmem == [str(size) for size in wanted.rmem]
    assert wmem == [str(size) for size in wanted.wmem]
    assert mtu == wanted.mtu
    assert user == os.getuid()
    assert namespace != os.readlink("/proc/self/ns/net")


def test_here_is_the_machine_as_it_is(kernels: ModuleType) -> None:
    namespace, _, rmem, *_ = shown(sys.executable, "--kernel=here")
    assert namespace == os.readlink("/proc/self/ns/net")
    assert rmem == SETTINGS[0].read_text().split()


def test_an_ordinary_user_stays_who_it_is(kernels: ModuleType) -> None:
    if os.getuid() != 0:
        pytest.skip("all of these tests are an ordinary user's here")
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    become = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
    if python is None or subprocess.run([*become, "test", "-r", str(TOOL)]).returncode != 0:
        pytest.skip("nobody has no Python here, or can't read the course")
    _, user, rmem, *_ = shown(python, "--kernel=small", before=become)
    assert (user, rmem) == (65534, ["4096", "65536", "1048576"])


def test_the_status_is_that_of_the_command(kernels: ModuleType) -> None:
    command = [sys.executable, str(TOOL), "--kernel=small", "--", "sh", "-c", "exit 7"]
    assert subprocess.run(command, check=False).returncode == 7


def test_nothing_is_left_over(
    kernels: ModuleType, becomes: Callable[[Callable[[], bool]], bool]
) -> None:
    script = "readlink /proc/self/ns/net; exec sleep 60"
    command = [sys.executable, str(TOOL), "--kernel=small", "--", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        namespace = process.stdout.readline().strip()
        assert becomes(lambda: in_namespace(namespace) == [process.pid])  # readlink may end late
        process.terminate()
    assert becomes(lambda: not in_namespace(namespace))


def in_namespace(namespace: str) -> list[int]:
    """The processes in a network namespace."""
    found = []
    for pid in psutil.pids():
        try:
            if os.readlink(f"/proc/{pid}/ns/net") == namespace:
                found.append(pid)
        except OSError:
            continue
    return found


def test_a_namespace_in_use_is_left_alone(kernels: ModuleType) -> None:
    again = [sys.executable, str(TOOL), "--kernel=small", "--inside=", "--", "true"]
    command = [sys.executable, str(TOOL), "--kernel=debian", "--", *again]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "kernels.py: this network namespace is in use: nothing was changed\n"


def test_a_namespace_within_starts_as_the_machine_is(kernels: ModuleType) -> None:
    """So a sandbox, which has one of its own, does not have the settings of the one around it."""
    unshare = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "-rn"]
    inside = [*unshare, "--", "cat", *map(str, SETTINGS)]
    command = [sys.executable, str(TOOL), "--kernel=small", "--", *inside]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "1048576" not in ended.stdout.split()


def test_what_is_missing_is_told_in_one_line(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kernels.unavailable_reason("debian") == "unshare is missing: install util-linux"
    assert kernels.unavailable_reason("here") != kernels.unavailable_reason("debian")
    forbidden = tmp_path / "unshare"
    forbidden.write_text(
        "#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n"
    )
    forbidden.chmod(0o755)
    assert (
        kernels.unavailable_reason("debian") == "unshare: unshare failed: Operation not permitted"
    )


@pytest.mark.parametrize(("ci", "status"), [("1", 1), ("", 0)])
def test_make_test_runs_as_the_machine_is_but_never_in_ci(
    ci: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    loaded("kernels")
    runner = loaded("run_tests")
    used: list[str] = []

    def run(part: str, arguments: list[str], kernel: str = "here", log: object = None) -> object:
        used.append(kernel)
        return True, 0.0

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(runner, "unavailable_reason", lambda name: "no namespaces")
    monkeypatch.setenv("CI", ci)
    assert runner.main([]) == status
    assert "can't be had: no namespaces" in capsys.readouterr().err
    assert set(used) == (set() if ci else {"here"})
    monkeypatch.setattr(runner, "unavailable_reason", lambda name: "")
    used.clear()
    assert runner.main([]) == 0
    assert sorted(used) == ["debian"] * 4 + ["here"]


def test_the_soak_table_counts_what_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded("kernels")
    runner = loaded("run_kernels")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(
        runner, "unavailable_reason", lambda name: "forbidden" if name == "large" else ""
    )
    monkeypatch.setattr(
        runner, "run", lambda kernel, part, found: "FAILED" if "05" in str(found) else "passed"
    )
    assert runner.main(["--kernel=small", "lessons"]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["lesson", "04", "passed"] in lines and ["lesson", "05", "FAILED"] in lines
    assert runner.main(["--kernel=large", "labs"]) == 0
    assert "not run" in capsys.readouterr().out
    monkeypatch.setenv("CI", "1")
    assert runner.main(["--kernel=large", "labs"]) == 1
