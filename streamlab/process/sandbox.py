"""A place where an untrusted program runs, and is reached over real HTTP.

Two layers, both made by bubblewrap (bwrap(1)), as root and as an ordinary user:

- the *enclosure*: a user and a network namespace of a submission's own, loopback only, with some
  settings of the kernel of its own (`SETTINGS`). The checks run in it, with the file system as it
  is. They and the program share a network, which no other process is on.
- the *sandbox*, inside it, one for each program: again a user namespace, and pid, mount, IPC and
  UTS namespaces. It sees the system's programs, Python, this package and the folders it is given,
  all read-only, and small tmpfs; it has no capabilities and can make no namespaces. All of its
  processes end with it.

The cup sets the kernel's limits. The supervisor watches what no limit bounds: the memory that all
processes hold together, the number of their files, and their own number, because the kernel never
bounds that of root. Kinds of memory that no process is seen to hold are forbidden (see
`streamlab.process.seccomp`). Where the host delegates a cgroup (v2), the kernel bounds all that as
well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from streamlab.errors import IsolationError
from streamlab.files import MiB
from streamlab.process import seccomp
from streamlab.process.proc import PROC, own_group

SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types", "/etc/alternatives"),
    *("/etc/ssl/certs", "/etc/ssl/openssl.cnf"),
)
"""What every sandbox sees of the system, where it exists: programs, and what they need to run."""

ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}
"""The whole environment of a sandboxed program but what a check adds to it."""

SETTINGS = {
    PROC / "sys" / "user" / "max_inotify_instances": "64",
    PROC / "sys" / "user" / "max_inotify_watches": "16384",
    PROC / "sys" / "net" / "ipv4" / "tcp_rmem": "4096 131072 1048576",
    PROC / "sys" / "net" / "ipv4" / "tcp_wmem": "4096 16384 524288",
}
"""The kernel's settings of an enclosure, where it has them for each (namespaces(7), tcp(7)).

A machine has 128 instances of inotify(7) for each user, unless told otherwise: one submission must
leave some to its neighbours. The buffers of a connection grow to so many bytes and no further."""

FILES = 50_000
"""How many files a program may have in its small tmpfs, and where it writes: empty ones cost the
kernel a KiB each, which no process's memory shows."""

TOLD = 100
"""How many characters of a tool's own complaint a message repeats."""


@dataclass(frozen=True)
class Sandbox:
    """How programs of one submission are shut in.

    `readable` and `writable` are the folders that they see beside the system, at their own paths.
    `nproc` bounds processes and threads together (`RLIMIT_NPROC`, counted in the sandbox alone),
    `memory_mib` (MiB) what all processes together hold, `tmp_mib` (MiB) each tmpfs. `cgroup` is the
    folder of a control group to run in.
    """

    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    nproc: int | None = 128
    memory_mib: int = 1024
    tmp_mib: int = 16
    cgroup: str = ""

    def wrap(
        self, command: Sequence[str], environment: Mapping[str, str], cwd: Path | str | None
    ) -> list[str]:
        """The command that runs `command` in the sandbox, in the folder `cwd`."""
        small = ("--size", str(self.tmp_mib * MiB), "--tmpfs")
        wrapped = [
            # Its first process is bubblewrap itself, and shows the environment that it was given.
            *("env", "-i"),
            *(bwrap(), "--die-with-parent", "--disable-userns", "--cap-drop", "ALL"),
            *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
            *("--uid", "1000", "--gid", "1000", "--hostname", "localhost"),
            *_bound("--ro-bind", SYSTEM),
            *("--proc", str(PROC), "--dev", "/dev", *small, "/dev/shm", *small, "/tmp"),
            *_bound("--ro-bind", [*_python(), *self.readable]),
            *_bound("--bind", self.writable),
            # The places that bubblewrap mounts the others on are tmpfs without a size; and the
            # kernel's settings below PROC are root's to change, even without capabilities.
            *("--remount-ro", "/dev", "--remount-ro", str(PROC), "--remount-ro", "/"),
            "--clearenv",
        ]
        for name, value in {**ENVIRONMENT, **environment}.items():
            wrapped += ["--setenv", name, value]
        wrapped += ["--chdir", str(Path(cwd or "/tmp").resolve()), "--"]
        wrapped += ["prlimit", "--core=0:0"]
        if self.nproc is not None:
            # In here it counts this sandbox alone; outside, all processes of the user.
            wrapped.append(f"--nproc={self.nproc}:{self.nproc}")
        wrapped.append("--")
        joined = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', self.cgroup]
        return [*(joined if self.cgroup else ()), *wrapped, *command]


def enclosed(command: Sequence[str], bounded: Mapping[Path, int] | None = None) -> list[str]:
    """The command that runs `command` in an enclosure, which ends with the process that asks.

    `bounded` are folders to lay a tmpfs over, with its size in bytes.
    """
    script = "".join(f"(echo {value} > {file}) 2>&-; " for file, value in SETTINGS.items())
    become = ["sh", "-c", f'{script}exec "$@"', "sh"]
    mounts = ["--cap-add", "CAP_SYS_RESOURCE", "--cap-add", "CAP_NET_ADMIN"]
    if os.geteuid() != 0:  # with capabilities, an ordinary user's bubblewrap would not start
        become += ["setpriv", "--ambient-caps", "-all", "--inh-caps", "-all", "--"]
    for folder, size in (bounded or {}).items():
        mounts += ["--size", str(size), "--tmpfs", str(folder.resolve())]
    return [
        *(bwrap(), "--die-with-parent", "--unshare-user", "--unshare-net"),
        *("--dev-bind", "/", "/", *mounts, "--", *become, *command),
    ]


@cache
def delegated_group() -> Path | None:
    """The control group (v2) that this process may make groups in; None where it has none.

    The first call moves this process into a leaf of its own, because only a group without processes
    can pass controllers on (Linux kernel, Documentation/admin-guide/cgroup-v2.rst, "No Internal
    Process Constraint"). Run the grader in such a group with
    `systemd-run --user --scope -p Delegate=yes streamlab grade ...`.
    """
    group = own_group()
    if group is None or not {"memory", "pids"} <= set(_words_in(group / "cgroup.controllers")):
        return None
    try:
        leaf = group / "streamlab"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        (group / "cgroup.subtree_control").write_text("+memory +pids")
    except OSError:
        return None
    return group


def make_group(within: Path, name: str, memory_mib: int, processes: int) -> Path:
    """A control group with no swap, so much memory (MiB) and so many processes."""
    group = within / name
    group.mkdir()
    (group / "memory.max").write_text(str(memory_mib * MiB))
    with suppress(OSError):  # there is none where the kernel counts no swap
        (group / "memory.swap.max").write_text("0")
    (group / "pids.max").write_text(str(processes))
    return group


def _words_in(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:
        return []


def exit_status(status: int | None) -> int | None:
    """A program's exit status as a process has it, from the one that bubblewrap passes on.

    Of a program that a signal ended, that is 128 more than the signal's number.
    """
    return 128 - status if status is not None and 128 < status < 128 + 65 else status


def unavailable_reason() -> str:
    """Why programs can't be isolated on this machine; empty if they can."""
    if sys.platform != "linux":
        return "isolation needs Linux: grade on a Linux machine, in a virtual one or in WSL 2"
    for tool, package in (("bwrap", "bubblewrap"), ("prlimit", "util-linux")):
        if shutil.which(tool) is None:
            return f"{tool} is missing: install {package} (make system does)"
    try:
        seccomp.program(os.uname().machine)
    except IsolationError as error:
        return str(error)
    # As the supervisor does it: first the doors are shut, and then the sandbox is made.
    shutting = [sys.executable, "-P", "-m", "streamlab.process.seccomp", "--"]
    trial = enclosed([*shutting, *Sandbox().wrap(["true"], {}, None)])
    try:
        ended = subprocess.run(
            trial, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not work here: {error}"
    if ended.returncode != 0:
        said = ended.stderr.strip()[:TOLD] or f"status {ended.returncode}"
        if said.startswith(seccomp.REFUSED):
            return said
        return (
            f"bubblewrap does not work here ({said}): the system forbids user namespaces, "
            "or bubblewrap is older than 0.8"
        )
    return ""


def bwrap() -> str:
    """The bubblewrap of this machine."""
    return shutil.which("bwrap") or "bwrap"


def _bound(how: str, folders: Iterable[str]) -> list[str]:
    """Arguments that show folders at their own paths; of symbolic links, what they lead to."""
    return [part for folder in folders for part in (f"{how}-try", folder, folder)]


def _python() -> list[str]:
    """Where this Python, its packages and this one lie; nothing of the course beside them."""
    paths = sysconfig.get_paths()
    places = [sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)]
    places += [
        paths["stdlib"],
        paths["purelib"],
        paths["platlib"],
        str(Path(__file__).parent.parent),
    ]
    return [place for place in dict.fromkeys(places) if not _of_system(place)]


def _of_system(path: str) -> bool:
    return any(Path(path).is_relative_to(each) for each in SYSTEM)
