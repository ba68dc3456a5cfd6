"""What `make lab` and `make test` do about system packages, on machines of many kinds.

The machine is a folder of programs: some are links to this machine's, others are short scripts that
write down how they were called.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "install_system_packages.sh"
BASICS = ["sh", "cat", "grep", "head", "dirname", "mkdir", "rm", "chmod", "touch"]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script")


@dataclass
class Machine:
    """A machine of a test's own."""

    folder: Path

    def __post_init__(self) -> None:
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        (self.folder / "course" / "tools").mkdir(parents=True)
        # The administrator's folders are this machine's: a copy looks for programs in `bin` alone.
        own = SCRIPT.read_text().replace(
            'PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"', 'PATH="$PATH"'
        )
        assert own != SCRIPT.read_text()
        own = own.replace("/usr/sbin/policy-rc.d", str(self.folder / "policy-rc.d"))
        self.script = self.folder / "course" / "tools" / SCRIPT.name
        self.script.write_text(own)
        for name in BASICS:
            (self.bin / name).symlink_to(shutil.which(name) or name)
        self.has_venv()
        self.is_user(1000)

    def program(self, name: str, body: str = "exit 0") -> None:
        """Install a program that is a shell script."""
        (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.bin / name).chmod(0o755)

    def has_venv(self, it_has: bool = True) -> None:
        """Python with or without venv."""
        self.program("python3", f"exit {0 if it_has else 1}")

    def is_user(self, uid: int) -> None:
        """The user that runs the script: 0 is root."""
        self.program("id", f"echo {uid}")

    def has_apt(self, *known: str) -> None:
        """apt-get, which installs the packages that are known, and writes down what it is asked."""
        self.program("apt-cache", f'case " {" ".join(known)} " in *" $2 "*) ;; *) exit 100 ;; esac')
        self.program(
            "apt-get",
            f'echo "$@" >>{self.folder}/apt.log\necho noise\n'
            f"[ -e {self.folder}/policy-rc.d ] || exit 99\n"
            f"[ -e {self.folder}/offline ] && exit 100\n"
            "for word; do case $word in\n"
            "aria2) name=aria2c ;; bubblewrap) name=bwrap ;; nginx-light) name=nginx ;;\n"
            f'python3-venv) echo "exit 0" >{self.bin}/python3; continue ;;\n'
            "curl|wget|ffmpeg|chromium|wrk|debootstrap) name=$word ;; *) continue ;; esac\n"
            f'echo "#!/bin/sh" >{self.bin}/$name; chmod 755 {self.bin}/$name; done\n',
        )

    def has_sudo(self, asks: bool) -> None:
        """sudo, which asks for a password or does not; what it runs is run as root."""
        refuse = "exit 1" if asks else ""
        self.program(
            "sudo",
            f'printf "%s " "$@" >>{self.folder}/sudo.log; echo >>{self.folder}/sudo.log\n'
            f'[ "$1" = -n ] && {{ shift; {refuse or ":"}; }}\n'
            '[ "$1" = true ] && exit 0\nexec "$@"',
        )
        (self.bin / "true").symlink_to(shutil.which("true") or "true")

    def run(
        self, *options: str, lists: str = "aria2\ncurl\n", **more: str
    ) -> tuple[int, list[str]]:
        """Run the script on a list of packages: its status, and the lines that it printed."""
        (self.folder / "apt.txt").write_text(lists)
        ran = subprocess.run(
            [self.bin / "sh", self.script, *options, self.folder / "apt.txt"],
            env={"PATH": str(self.bin), "PYTHON": "python3", **more},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert not ran.stderr, ran.stderr
        return ran.returncode, ran.stdout.splitlines()

    def asked(self) -> str:
        """What apt-get was asked."""
        log = self.folder / "apt.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_is_missing(machine: Machine) -> None:
    """If nothing is missing, the script does not ask for a password, and prints nothing."""
    machine.has_apt("aria2", "curl")
    machine.is_user(0)
    machine.program("aria2c")
    machine.program("curl")
    assert machine.run("--if-free") == (0, [])
    assert machine.run() == (0, ["All system packages are there."])
    assert machine.asked() == ""


def test_root_installs_what_is_missing_and_says_so_in_one_line(machine: Machine) -> None:
    machine.has_apt("aria2", "curl")
    machine.is_user(0)
    machine.program("curl")
    line = "Installing with apt-get, a minute or two: aria2"
    assert machine.run("--if-free") == (0, [line])
    assert "install --no-install-recommends aria2\n" in machine.asked()
    assert machine.run("--if-free") == (0, [])
    assert not (machine.folder / "policy-rc.d").exists()


def test_a_sudo_that_asks_nothing(machine: Machine) -> None:
    machine.has_apt("aria2", "curl")
    machine.has_sudo(asks=False)
    assert machine.run("--if-free")[1] == ["Installing with apt-get, a minute or two: aria2 curl"]
    assert "install --no-install-recommends aria2 curl\n" in machine.asked()


def test_a_sudo_that_asks_is_left_alone(machine: Machine) -> None:
    machine.has_apt("aria2", "curl")
    machine.has_sudo(asks=True)
    status, lines = machine.run("--if-free")
    assert (status, len(lines), machine.asked()) == (0, 1, "")
    assert lines[0].startswith("Not installed: aria2 curl. What needs it is skipped; make system")
    assert "asks for your password" in lines[0]
    assert all(line.startswith("-n ") for line in (machine.folder / "sudo.log").open())


def test_make_system_may_ask(machine: Machine) -> None:
    machine.has_apt("aria2", "curl")
    machine.has_sudo(asks=True)
    status, lines = machine.run()
    assert status == 0
    assert "noise" in lines, "what apt says is shown"
    assert "install --no-install-recommends aria2 curl\n" in machine.asked()


def test_no_sudo(machine: Machine) -> None:
    machine.has_apt("aria2", "curl")
    line = (
        "Not installed: aria2 curl. What needs it is skipped; an administrator can install it with "
        "make system."
    )
    assert machine.run("--if-free") == (0, [line])
    assert machine.run() == (1, [line])


def test_system_no(machine: Machine) -> None:
    """With SYSTEM=no, even root installs nothing, except by `make system`."""
    machine.has_apt("aria2", "curl")
    machine.is_user(0)
    line = "Not installed: aria2 curl. What needs it is skipped; make system installs it."
    assert machine.run("--if-free", SYSTEM="no") == (0, [line])
    assert machine.asked() == ""


def test_another_system(machine: Machine) -> None:
    machine.is_user(0)
    line = (
        "Not installed: aria2 curl. What needs it is skipped; install it with this system's "
        "package manager."
    )
    assert machine.run("--if-free") == (0, [line])
    assert machine.run() == (1, [line])


def test_a_package_that_this_release_lacks(machine: Machine) -> None:
    """The others are installed, the failure is one line, and it is not tried each time."""
    machine.has_apt("aria2")
    machine.is_user(0)
    lists = "aria2\nchromium\n"
    first, second = "Installing with apt-get, a minute or two:", "Could not be installed: chromium."
    status, lines = machine.run("--if-free", lists=lists)
    assert (status, len(lines)) == (0, 2)
    assert lines[0] == f"{first} aria2 chromium" and lines[1].startswith(second)
    asked = machine.asked()
    status, lines = machine.run("--if-free", lists=lists)
    assert status == 0 and machine.asked() == asked
    assert [line.split(".")[0] for line in lines] == ["Not installed: chromium"]
    assert "make system tries again" in lines[0]
    machine.has_apt("aria2", "chromium")
    assert machine.run(lists=lists)[0] == 0
    assert machine.run("--if-free", lists=lists) == (0, [])


def test_no_network(machine: Machine) -> None:
    machine.has_apt("aria2", "curl")
    machine.is_user(0)
    (machine.folder / "offline").touch()
    status, lines = machine.run("--if-free")
    assert status == 0
    assert lines[1:] == [
        "Could not be installed: aria2 curl. What needs it is skipped; make system shows why."
    ]
    assert machine.run()[0] == 1


def test_python_without_venv(machine: Machine) -> None:
    """It is missing although Python is there; a Python with venv lacks nothing."""
    machine.has_apt("python3-venv")
    machine.is_user(0)
    assert machine.run("--if-free", lists="python3-venv\n") == (0, [])
    machine.has_venv(False)
    _, lines = machine.run("--if-free", lists="python3-venv\n")
    assert lines == ["Installing with apt-get, a minute or two: python3-venv"]


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_a_program_by_another_name(machine: Machine, name: str) -> None:
    machine.program(name)
    assert machine.run("--if-free", lists="chromium\n") == (0, [])


def test_a_script_for_a_snap_that_is_missing_is_no_program(machine: Machine) -> None:
    """Ubuntu's package chromium-browser is such a script."""
    snap = machine.folder / "snap" / "bin" / "chromium"
    machine.script.write_text(machine.script.read_text().replace("/snap/bin/", f"{snap.parent}/"))
    machine.program("chromium-browser", f'[ -x {snap} ] || exit 1\nexec {snap} "$@"')
    _, lines = machine.run("--if-free", lists="chromium\n", SYSTEM="no")
    assert lines == ["Not installed: chromium. What needs it is skipped; make system installs it."]
    snap.parent.mkdir(parents=True)
    snap.touch(mode=0o755)
    assert machine.run("--if-free", lists="chromium\n", SYSTEM="no") == (0, [])


def test_programs_are_those_that_tests_look_for() -> None:
    """Each package of the lists has a program that a test or a lesson can need."""
    listed = [*(ROOT / "apt.txt").read_text().split(), *(ROOT / "apt-test.txt").read_text().split()]
    assert "python3-venv" in listed
    for package, program in {
        "aria2": "aria2c",
        "bubblewrap": "bwrap",
        "nginx-light": "nginx",
    }.items():
        assert package in listed
        assert f"{package}) echo {program} ;;" in SCRIPT.read_text()


@pytest.mark.parametrize("makefile", ["Makefile", "tools/student/Makefile"])
def test_packages_come_before_the_environment(makefile: str) -> None:
    """With several jobs too, because Python's venv may be one of them; the workspace is last."""
    if shutil.which("make") is None:
        pytest.skip("missing here: make: not installed")
    command = ["make", "-n", "-j4", "-f", makefile, f"PYTHON={sys.executable}", "SYSTEM=no", "lab"]
    command.append("LAB_OPTIONS=--no-browser")
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    steps = [
        "install_system_packages.sh --if-free apt.txt",
        "make_environment.py",
        ".venv/bin/streamlab workspace",
        "cd workspace &&",
        '.venv/bin/jupyter" lab',
        "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb --no-browser",
    ]
    places = [ran.stdout.index(step) for step in steps]
    assert places == sorted(places)
    assert "SYSTEM='no'" in ran.stdout
