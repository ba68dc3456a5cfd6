"""The sandbox: what is in it and what is not, its limits, and where there can be none."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from streamlab import Cup, doctor
from streamlab.errors import IsolationError, ServerError, StreamlabError
from streamlab.files import MiB
from streamlab.grading.run import ClassWork, grade_class
from streamlab.grading.task import GradingError
from streamlab.labs.manifest import Lab
from streamlab.labs.runner import RunOptions, run_checks
from streamlab.process import sandbox, seccomp
from streamlab.process.program import AS_HERE, Conditions, run_program
from streamlab.process.sandbox import (
    ENVIRONMENT,
    Sandbox,
    delegated_group,
    enclosed,
    exit_status,
    make_group,
    unavailable_reason,
)

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.needs("linux", "bwrap")

LOOK = """
import json, os, socket
def tree(path):
    return sorted(os.listdir(path)) if os.path.isdir(path) else None
def writable(path):
    try:
        with open(os.path.join(path, "x"), "w"):
            return True
    except OSError:
        return False
places = ["/", "/dev", "/dev/shm", "/tmp", "/usr", "/etc", "/proc", *PLACES]
print(json.dumps({
    "root": tree("/"), "etc": tree("/etc"), "places": {each: tree(each) for each in PLACES},
    "writable": [each for each in places if writable(each)],
    "sizes": [os.statvfs(each).f_blocks * os.statvfs(each).f_frsize
              for each in ("/tmp", "/dev/shm")],
    "environment": dict(os.environ), "first": open("/proc/1/environ").read(),
    "processes": sum(each.isdecimal() for each in os.listdir("/proc")),
    "network": [name for _, name in socket.if_nameindex()], "host": socket.gethostname(),
    "user": [os.getuid(), os.getgid()], "cwd": os.getcwd(),
}))
"""


def run(text: str, shut: Sandbox, tmp_path: Path, conditions: Conditions = AS_HERE) -> str:
    """The output of a program in a sandbox that shows its folder, otherwise in `conditions`."""
    folder = tmp_path / "program"
    folder.mkdir(exist_ok=True)
    program = folder / "program.py"
    program.write_text(text)
    shut = Sandbox(
        readable=(str(folder), *shut.readable),
        writable=shut.writable,
        nproc=shut.nproc,
        memory_mib=shut.memory_mib,
        tmp_mib=shut.tmp_mib,
    )
    finished = run_program([sys.executable, str(program)], replace(conditions, sandbox=shut))
    return finished.output


@LINUX
def test_what_is_visible_and_what_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox shows its given folders, at their own paths, and only programs of the system."""
    monkeypatch.setenv("STREAMLAB_TEST_SECRET", "river")
    names = ("readable", "writable", "hidden")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    shut = Sandbox(
        readable=(str(tmp_path / "readable"),), writable=(str(tmp_path / "writable"),), tmp_mib=3
    )
    places = [str(tmp_path / name) for name in names] + [str(ROOT / "solutions"), str(tmp_path)]
    text = f"PLACES = {places!r}\n{LOOK}"
    found = json.loads(
        run(text, shut, tmp_path, Conditions(None, {"ADDED": "1"}, tmp_path / "writable"))
    )
    assert list(found["places"].values()) == [
        ["file"],
        ["file"],
        None,
        None,
        ["program", "readable", "writable"],
    ]
    allowed = {"/dev/shm", "/tmp", str(tmp_path / "writable")}
    # The test's own folder may lie in /tmp, which is a small one of the sandbox's own.
    assert set(found["writable"]) - {str(tmp_path)} == allowed
    assert found["sizes"] == [3 * MiB, 3 * MiB]
    assert found["environment"] == {**ENVIRONMENT, "ADDED": "1", "PWD": found["cwd"]}
    assert "river" not in found["first"]
    assert found["processes"] <= 3
    assert not {"passwd", "shadow", "hostname", "hosts"} & set(found["etc"])
    assert not {"sys", "run", "var", "boot", "mnt"} & set(found["root"])
    assert (found["host"], found["user"]) == ("localhost", [1000, 1000])
    assert found["cwd"] == str(tmp_path / "writable")
    assert (tmp_path / "writable" / "x").exists()


@LINUX
def test_the_network_of_an_enclosure_is_loopback() -> None:
    """Loopback is up and has no other listeners; a tmpfs has its given size."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        text = (
            "import socket, sys\n"
            "names = [name for _, name in socket.if_nameindex()]\n"
            "own = socket.create_server(('127.0.0.1', 0))\n"
            "socket.create_connection(own.getsockname()).close()\n"
            "own.close()\n"  # it may have been given the very same number
            "try:\n"
            f"    socket.create_connection(('127.0.0.1', {listener.getsockname()[1]}))\n"
            "except ConnectionRefusedError:\n"
            "    print(*names)\n"
        )
        ran = subprocess.run(
            enclosed([sys.executable, "-c", text]), capture_output=True, text=True, check=False
        )
    assert ran.stdout == "lo\n", ran.stderr


@LINUX
def test_an_enclosure_has_settings_of_its_own() -> None:
    """Small buffers for TCP, and a share of inotify; those of the machine stay as they are."""
    files = [file for file in sandbox.SETTINGS if file.exists()]
    before = [file.read_text().split() for file in files]
    ran = subprocess.run(enclosed(["cat", *map(str, files)]), capture_output=True, text=True)
    found = [line.split() for line in ran.stdout.splitlines()]
    assert found == [sandbox.SETTINGS[file].split() for file in files], ran.stderr
    assert [file.read_text().split() for file in files] == before != found


@LINUX
def test_a_folder_of_an_enclosure_is_bounded(tmp_path: Path) -> None:
    text = f"import os; s = os.statvfs({str(tmp_path)!r}); print(s.f_blocks * s.f_frsize)"
    text += f"; open({str(tmp_path / 'x')!r}, 'w')"
    command = enclosed([sys.executable, "-c", text], {tmp_path: 5 * MiB})
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(ran.stdout) == 5 * MiB
    assert not list(tmp_path.iterdir())


@LINUX
def test_processes_are_counted_for_each_sandbox(tmp_path: Path) -> None:
    """Two sandboxes may have sixty of a hundred processes each; one alone not two hundred."""
    text = (
        "import os, sys, time\n"
        "for _ in range(COUNT):\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(60)\n"
        "        os._exit(0)\n"
        "time.sleep(SECONDS)\n"
        "print('all of them')\n"
    )
    outputs = []
    from concurrent.futures import ThreadPoolExecutor

    def count(folder: str, many: int, seconds: int) -> str:
        (tmp_path / folder).mkdir()
        program = text.replace("COUNT", str(many)).replace("SECONDS", str(seconds))
        return run(program, Sandbox(nproc=100), tmp_path / folder)

    with ThreadPoolExecutor(2) as pool:
        outputs = list(pool.map(count, ("a", "b"), (60, 60), (2, 2)))
    assert outputs == ["all of them\n"] * 2
    outcome = count("c", 200, 25)  # as long as the count may take; they are ended before
    assert "had more than 100 processes" in outcome or "unavailable" in outcome, outcome


@LINUX
def test_a_signal_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("import os, sys; os.kill(os.getpid(), int(sys.argv[1]))")
    for number, status in ((9, -9), (0, 0)):
        command = [sys.executable, str(tmp_path / "p.py"), str(number)]
        shut = Sandbox(readable=(str(tmp_path),))
        assert run_program(command, Conditions(Cup(), sandbox=shut)).status == status


def test_exit_statuses() -> None:
    assert [exit_status(each) for each in (None, 0, 1, 128, 137, 139, 255, -9)] == [
        None, 0, 1, 128, -9, -11, 255, -9,
    ]  # fmt: skip


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_has_the_kernels_form(machine: str) -> None:
    """Steps of eight bytes, which only jump forward, and to a step that is there."""
    code = seccomp.program(machine)
    assert len(code) % 8 == 0
    steps = [code[at : at + 8] for at in range(0, len(code), 8)]
    for at, step in enumerate(steps):
        if step[0] & 7 == 5:
            assert at + 1 + max(step[2], step[3]) < len(steps)


def test_a_cpu_that_is_not_known_has_no_filter() -> None:
    with pytest.raises(IsolationError, match="knows no filter for CPU pdp11: use one of x86_64"):
        seccomp.program("pdp11")


@pytest.mark.needs("linux")
def test_a_command_with_the_doors_shut() -> None:
    """It runs with the doors shut; if they can't be shut, it does not run."""
    opens = "import os; os.memfd_create('hoard')"
    command = [sys.executable, "-m", "streamlab.process.seccomp", "--", sys.executable, "-c", opens]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Function not implemented" in ran.stderr
    refused = "from streamlab.process import seccomp; seccomp._FILTER = 99; "
    refused += "print(seccomp.main(['--', 'echo', 'it runs']))"
    ran = subprocess.run(
        [sys.executable, "-c", refused], capture_output=True, text=True, check=False
    )
    assert ran.stdout == f"{seccomp.REFUSED}: Invalid argument\n", ran.stderr


# Where there can be none


def fake(folder: Path, text: str) -> None:
    """Install a program in place of bubblewrap."""
    (folder / "bwrap").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "bwrap").chmod(0o755)


@pytest.mark.needs("linux")
def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "bwrap is missing: install bubblewrap" in unavailable_reason()
    fake(tmp_path, "exit 0")
    assert "prlimit is missing: install util-linux" in unavailable_reason()


@LINUX
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo 'setting up uid map: Permission denied' >&2; exit 1", "uid map: Permission denied"),
        ("echo 'Unknown option --disable-userns' >&2; exit 1", "older than 0.8"),
        ("exit 3", "status 3"),
        ("yes no 2>/dev/null | head -c 100000 >&2; exit 1", "forbids user namespaces"),
    ],
)
def test_a_bubblewrap_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    fake(tmp_path, text)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert words in unavailable_reason() and len(unavailable_reason()) < 400


@LINUX
def test_what_has_no_filter_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing filter is reported before anything is graded, and by the doctor."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{seccomp.REFUSED}: Invalid argument' >&2\nexit 1\n")
    python.chmod(0o755)
    with monkeypatch.context() as changed:
        changed.setattr(sys, "executable", str(python))
        assert unavailable_reason() == f"{seccomp.REFUSED}: Invalid argument"
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    reason = "isolation knows no filter for CPU riscv64: use one of x86_64 or aarch64"
    assert unavailable_reason() == reason
    finding = doctor._isolation()
    assert (finding.name, finding.ok, finding.detail) == ("grading", False, reason)


@LINUX
def test_a_program_that_was_not_started_has_no_status(tmp_path: Path) -> None:
    """It raises an error, and does not look like a program whose time was up."""
    with pytest.raises(ServerError, match=r"could not start .*nothing"):
        run_program([str(tmp_path / "nothing")], timeout=20)


def test_other_systems_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "isolation needs Linux" in unavailable_reason()


@LINUX
def test_it_works_here() -> None:
    assert unavailable_reason() == ""


@pytest.mark.needs("linux")
def test_nobody_is_graded_without_it_unless_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grading stops before anything ran; `unsafe` runs the programs without a sandbox."""
    monkeypatch.setattr(sandbox, "unavailable_reason", lambda: "there is no bubblewrap")
    lab = Lab(ROOT / "solutions" / "01_load_all_bug")
    (tmp_path / "handed-in").mkdir()
    (tmp_path / "handed-in" / "ann.py").write_text("def load_all(clients, file, chunk): return 1\n")
    (tmp_path / "roster.csv").write_text("student\nann\n")
    work = ClassWork(tmp_path / "handed-in", lab, tmp_path / "roster.csv", tmp_path / "report")
    with pytest.raises(GradingError, match=r"no bubblewrap.*--unsafe"):
        grade_class(work)
    assert not (tmp_path / "report").exists()
    [mark] = grade_class(replace(work, unsafe=True)).marks
    assert mark.outcome == "graded"
    assert issubclass(GradingError, StreamlabError)


# As an ordinary user

SYSTEM_PYTHON = Path("/usr/bin/python3")


@LINUX
def test_an_ordinary_user_is_shut_in_as_well(tmp_path: Path) -> None:
    """If the tests run as root, this runs as the user nobody, with the system's Python."""
    text = (
        "import sys; from streamlab.process.sandbox import Sandbox, unavailable_reason; "
        "from streamlab.process.program import Conditions, run_program; "
        "print(repr(unavailable_reason())); "
        "count = 'import os, time\\n'"
        "'[os.fork() or (time.sleep(2), os._exit(0)) for _ in range(60)]'; "
        "shut = Conditions(sandbox=Sandbox(nproc=30)); "
        "print(run_program([sys.executable, '-c', count], shut).output)"
    )
    command = [sys.executable, "-c", text]
    environment = dict(os.environ)
    if os.geteuid() == 0:
        if not SYSTEM_PYTHON.exists() or sys.version_info[:2] != _version_of(SYSTEM_PYTHON):
            pytest.skip("there is no other Python of this version")
        for folder in (tmp_path, *tmp_path.parents):
            if not folder.stat().st_mode & stat.S_IXOTH:  # nobody could not enter
                os.chmod(folder, 0o755)
        import shutil

        shutil.copytree(ROOT / "streamlab", tmp_path / "streamlab")
        command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                   str(SYSTEM_PYTHON), "-c", text]  # fmt: skip
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "TMPDIR": "/tmp"}
    ran = subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stdout.startswith("''\n"), ran.stdout + ran.stderr
    assert "Resource temporarily unavailable" in ran.stdout, ran.stdout + ran.stderr


def _version_of(python: Path) -> tuple[int, ...]:
    text = "import sys; print(*sys.version_info[:2])"
    ran = subprocess.run([str(python), "-c", text], capture_output=True, text=True, check=True)
    return tuple(map(int, ran.stdout.split()))


# Control groups, of which a machine may have none


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the form of a delegated control group."""
    for name in ("cgroup.controllers", "cgroup.subtree_control", "cgroup.procs"):
        (tmp_path / name).write_text("cpu memory pids\n" if "controllers" in name else "")
    monkeypatch.setattr(sandbox, "own_group", lambda: tmp_path)
    delegated_group.cache_clear()
    return tmp_path


def test_a_delegated_group_is_found(group: Path) -> None:
    """This process moves into a leaf, and the group passes its controllers on."""
    assert delegated_group() == group
    assert (group / "streamlab" / "cgroup.procs").read_text() == str(os.getpid())
    assert (group / "cgroup.subtree_control").read_text() == "+memory +pids"
    delegated_group.cache_clear()


@pytest.mark.parametrize("spoil", ["controllers", "leaf", "none"])
def test_a_group_that_is_not_ours_is_left_alone(
    group: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    if spoil == "controllers":
        (group / "cgroup.controllers").write_text("cpu\n")
    elif spoil == "leaf":
        (group / "streamlab").write_text("no folder")
    else:
        monkeypatch.setattr(sandbox, "own_group", lambda: None)
    assert delegated_group() is None
    delegated_group.cache_clear()


def test_a_group_has_its_limits(tmp_path: Path) -> None:
    made = make_group(tmp_path, "check-1", 1536, 256)
    found = {file.name: file.read_text() for file in made.iterdir()}
    assert found["memory.max"] == str(1536 * MiB)
    assert (found["memory.swap.max"], found["pids.max"]) == ("0", "256")


def test_a_program_enters_its_group_first() -> None:
    command = Sandbox(cgroup="/sys/fs/cgroup/check").wrap(["true"], {}, None)
    assert command[:2] == ["sh", "-c"] and command[3] == "/sys/fs/cgroup/check"
    assert command[-1] == "true"


@LINUX
def test_a_map_of_what_it_writes_is_a_file_here_too() -> None:
    """The folder of its output is a tmpfs: what a program maps of it is not held by it."""
    lab = Lab(ROOT / "solutions" / "03_join_trap")
    mapped = ROOT / "tests/corpora/03_join_trap/right/client__mapped_part.py"
    [result] = run_checks(
        lab, {"client.py": mapped}, only={"huge"}, options=RunOptions(isolated=True)
    )
    assert result.outcome == "passed", result.evidence
