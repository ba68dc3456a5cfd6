"""Run `make lab` and `make test` on a new, minimal Debian or Ubuntu that debootstrap makes.

    python tools/fresh.py [--suite NAME] [--short] [--user WHO] [--tools WHICH]

The system has Python, git, make and the certificates, and nothing else. It is in a temporary folder
(set by TMPDIR) and gets a clone of the last commit. There, in mount, process and IPC namespaces of
their own, `make lab` has to answer and `make test` has to pass: as root and as an ordinary user,
with the system packages that the two commands install and with `SYSTEM=no`. Each of these four ways
begins with a new copy of the system.

With tools, Python's venv is removed first, because `make lab` must install it. On Debian CI is set,
so that a skipped test is a failure; Ubuntu has Chromium as a snap only.

Mirrors, certificates and the settings of pip and of proxies are those of this machine, and so is
the network. When the tool ends, even if it is killed, the processes and the mounts of the new
systems end too. It needs root and debootstrap; without them it says so, and with CI set that is a
failure. Standard library only.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
COURSE = Path("srv/course")
"""The path of the clone in a new system."""
PACKAGES = ("python3", "python3-venv", "git", "make", "ca-certificates")
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")
SCRIPTS = Path("/usr/share/debootstrap/scripts")
STUDENT = "student"
SLOWEST_LAB = 1800.0
"""Seconds that `make lab` may take until it answers; most of it is the installation."""
SLOWEST_TEST = 7200.0
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

ENTER = r"""
set -e
system=$1; folders=$2; shift 2
mount --bind "$system" "$system"
cd "$system"
mount -t proc proc proc
mount -t sysfs -o ro sys sys
mount -t tmpfs -o mode=755 dev dev
for name in null zero full random urandom tty; do
    touch "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${number%%:*}" "dev/${number##*:}"; done
for folder in $folders; do
    mkdir -p ".$folder"
    mount --bind "$folder" ".$folder"
    mount -o remount,bind,ro ".$folder"
done
mkdir -p .machine
pivot_root . .machine
cd /
umount -l /.machine
rmdir /.machine
"$@"
exit $?
"""
"""Makes a folder the root of this mount namespace, and runs a command there as its child. This
shell stays the namespace's first process, and waits for orphaned processes."""


class FreshError(Exception):
    """A new system can't be made or entered; the message is one line."""


@dataclass(frozen=True)
class Way:
    """One way to use a new system."""

    ordinary: bool
    """Whether it runs as an ordinary user, not as root."""
    tools: bool
    """Whether it has the system packages (without: SYSTEM=no)."""

    def __str__(self) -> str:
        who = "ordinary user" if self.ordinary else "root"
        return f"{who}, {'with' if self.tools else 'without'} tools"


@dataclass(frozen=True)
class Base:
    """A new system to copy."""

    folder: Path
    shared: tuple[str, ...]
    """Folders of this machine that pip's settings name; they are mounted read-only."""
    environment: Mapping[str, str]


@dataclass
class Row:
    """The result of one step."""

    way: str
    step: str
    passed: bool
    seconds: float
    found: str = ""


@dataclass
class Ran:
    """A command that ended."""

    status: int
    lines: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; 0 if all passed.

    Also 0 if it can't run here, unless CI is set.
    """
    options = parse(arguments)
    if reason := unavailable_reason():
        print(f"make fresh can't run here: {reason}")
        return 1 if os.environ.get("CI") else 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows: list[Row] = []
    try:
        with scratch_folder() as scratch:
            base = step(rows, "", f"debootstrap {options.suite}", lambda: build(options, scratch))
            for way in options.ways:
                try_out(rows, way, base, scratch, options)
    except FreshError as error:
        print(f"make fresh: {error}")
        rows = rows or [Row("", "the system", False, 0)]
    print(f"\n{table(rows)}")
    return 0 if all(row.passed for row in rows) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="fresh.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suite", default="bookworm", help="the release (bookworm)")
    parser.add_argument("--mirror", help="where its packages are (this machine's mirror)")
    parser.add_argument("--short", action="store_true", help="the fast tests, in one way")
    parser.add_argument("--user", choices=["root", "ordinary", "both"], help="who runs it (both)")
    parser.add_argument("--tools", choices=["with", "without", "both"], help="(both)")
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[a-z][a-z0-9.-]*", options.suite):
        parser.error("--suite is the name of a release, like bookworm")
    user = options.user or ("ordinary" if options.short else "both")
    tools = options.tools or ("without" if options.short else "both")
    options.ways = [
        Way(ordinary, wanted)
        for wanted in (True, False)
        for ordinary in (False, True)
        if user in ("both", "ordinary" if ordinary else "root")
        and tools in ("both", "with" if wanted else "without")
    ]
    return options


def unavailable_reason() -> str:
    """Why no system can be made here, in words; empty if one can."""
    if sys.platform != "linux":
        return "it needs Linux"
    if os.geteuid() != 0:
        return "it needs root, to make and to enter a new system"
    lacking = [name for name in ("debootstrap", "unshare", "setpriv", "git") if not which(name)]
    if lacking:
        return f"{' and '.join(lacking)} not installed (make system)"
    tried = subprocess.run([*namespaces(), "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"no namespaces can be made: {tried.stderr.strip()}"
    return ""


def which(name: str) -> str | None:
    """The path of a program, also in the administrator's folders."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def namespaces() -> list[str]:
    """The command that starts namespaces that end with this process."""
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--ipc", "--kill-child", "--propagation", "private"),
    ]


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder, which is removed at the end unless something is mounted in it."""
    folder = Path(tempfile.mkdtemp(prefix="streamlab-fresh-")).resolve()
    try:
        yield folder
    finally:
        if mounted := mounts_in(folder, Path("/proc/self/mountinfo").read_text()):
            print(f"{folder} is left: something is mounted on {mounted[0]}")
        else:
            subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)


def mounts_in(folder: Path, mountinfo: str) -> list[str]:
    """The mount points inside of a folder (proc(5), mountinfo: the fifth field)."""
    points = [line.split()[4] for line in mountinfo.splitlines()]
    return [point for point in points if Path(point).is_relative_to(folder)]


def step(rows: list[Row], way: str, name: str, action: Callable[[], Base]) -> Base:
    """Make the base, and add how long that took to `rows`."""
    began = time.monotonic()
    rows.append(Row(way, name, False, 0))
    base = action()
    rows[-1].passed, rows[-1].seconds = True, time.monotonic() - began
    return base


# The system


def build(options: argparse.Namespace, scratch: Path) -> Base:
    """Make the system that all ways copy: debootstrap, a user, a clone, this machine's settings."""
    mirror, script = source_of(options.suite, options.mirror)
    folder = scratch / "base"
    print(f"=== debootstrap {options.suite}", flush=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    if script == "ubuntu":
        command.append("--components=main,universe")
    known = (SCRIPTS / options.suite).exists()
    made = subprocess.run(
        [
            *namespaces(),
            *command,
            *(options.suite, str(folder), mirror),
            *([] if known else [str(SCRIPTS / ("gutsy" if script == "ubuntu" else "sid"))]),
        ],
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        print("\n".join(made.stdout.splitlines()[-15:]))
        raise FreshError(f"debootstrap could not make {options.suite} from {mirror}")
    shared, environment = settings(folder)
    base = Base(folder, shared, environment)
    clone = ["git", "clone", "--quiet", "--no-hardlinks", str(HERE), str(folder / COURSE)]
    subprocess.run(clone, check=True)
    with (folder / "etc" / "debian_chroot").open("w") as file:
        file.write("streamlab-fresh\n")
    added = run(base, folder, ["useradd", "--create-home", "--shell", "/bin/bash", STUDENT])
    if added.status != 0:
        raise FreshError("the new system has no user: useradd failed")
    return base


def source_of(suite: str, mirror: str | None) -> tuple[str, str]:
    """The mirror that has a release, and whether it is debian or ubuntu."""
    here = [(each, family(each)) for each in ([mirror] if mirror else mirrors_of_this_machine())]
    others = [
        (each, kind)
        for script, kind in (("sid", "debian"), ("gutsy", "ubuntu"))
        for each in default_mirrors(script)
        if not mirror
    ]
    for each, kind in [*here, *others]:
        if each and has_release(each, suite):
            return each, kind
    raise FreshError(f"no mirror that this machine knows or reaches has the release {suite}")


def family(mirror: str) -> str:
    """Whether a mirror has Debian or Ubuntu, judged by its address."""
    return "ubuntu" if "ubuntu" in mirror else "debian"


def mirrors_of_this_machine(folder: Path = Path("/etc/apt")) -> list[str]:
    """The addresses in apt's lists, of both formats (sources.list(5)), each once, in order."""
    found: list[str] = []
    for file in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if file.suffix not in (".list", ".sources") or not file.is_file():
            continue
        for line in file.read_text(errors="replace").splitlines():
            if file.suffix == ".sources":
                words = line.split()[1:] if line.lower().startswith("uris:") else []
            else:
                words = (
                    re.sub(r"\[[^]]*\]", "", line).split()[1:2] if line.startswith("deb") else []
                )
            found += [word.rstrip("/") for word in words if "://" in word]
    return list(dict.fromkeys(found))


def default_mirrors(script: str) -> list[str]:
    """The mirrors that debootstrap itself would use, first those of common processors."""
    found: list[str] = []
    for file in (SCRIPTS / script, Path(which("debootstrap") or os.devnull)):
        text = file.read_text() if file.exists() else ""
        found += re.findall(r"(?:default_mirror |DEF_MIRROR=\")(https?://[^\s\"]+)", text)
    if script == "gutsy":
        found = [each for each in found if "ubuntu" in each]
    return sorted(dict.fromkeys(found), key=lambda each: "//old-" in each or "//ports." in each)


def has_release(mirror: str, suite: str) -> bool:
    """Whether a mirror has a release."""
    request = urllib.request.Request(f"{mirror}/dists/{suite}/Release", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def settings(folder: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Give a new system this machine's settings: names, certificates, apt's proxy, pip.

    Returns the folders that pip's settings name, and the environment for commands.
    """
    for name in ("resolv.conf", "hosts"):
        shutil.copyfile(Path("/etc", name), folder / "etc" / name)
    if Path("/", CERTIFICATES).exists():
        shutil.copyfile(Path("/", CERTIFICATES), folder / CERTIFICATES)
    said = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    ours = [line for line in said.stdout.splitlines() if re.match(r"(?i)acquire::https?::", line)]
    (folder / "etc/apt/apt.conf.d/00machine").write_text("".join(f"{line}\n" for line in ours))
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    pip = pip_settings(listed.stdout)
    (folder / "etc/pip.conf").write_text(pip_file(pip))
    files, folders = named_paths(pip)
    for file in files:
        target = folder / file.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    environment = {name: os.environ[name] for name in PROXIES if name in os.environ}
    return tuple(str(each) for each in folders), environment


def pip_settings(listed: str) -> dict[str, str]:
    """The output of `pip config list` as global settings; environment variables take precedence."""
    found: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, key = name.partition(".")
        if section in ("global", "install", ":env:") and value:
            found[key] = str(ast.literal_eval(value))
    return found


def pip_file(found: Mapping[str, str]) -> str:
    """A pip.conf of these settings."""
    lines = ["[global]", *(f"{key} = {' '.join(value.split())}" for key, value in found.items())]
    return "\n".join(lines) + "\n"


def named_paths(found: Mapping[str, str]) -> tuple[list[Path], list[Path]]:
    """The files and the folders of this machine that pip's settings name.

    For a package index in a folder it is the folder above, because an index contains links beside
    itself.
    """
    files: list[Path] = []
    folders: list[Path] = []
    for value in found.values():
        for word in value.split():
            path = Path(word.removeprefix("file://"))
            if not path.is_absolute() or path == Path("/") or not path.exists():
                continue
            if path.is_file():
                files.append(path)
            else:
                above = path.parent if word.startswith("file://") else path
                folders.append(path if above == Path("/") else above)
    return list(dict.fromkeys(files)), list(dict.fromkeys(folders))


# The ways


def try_out(
    rows: list[Row], way: Way, base: Base, scratch: Path, options: argparse.Namespace
) -> None:
    """Run both commands in a new copy of the system, in one way."""
    system = scratch / "system"
    subprocess.run(["cp", "-a", str(base.folder), str(system)], check=True)
    try:
        prepare(way, base, system)
        switch = [] if way.tools else ["SYSTEM=no"]
        ci = way.tools and family(debootstrapped_from(system)) == "debian"
        began = time.monotonic()
        print(f"\n=== {way}: make lab", flush=True)
        passed, found = lab_answers(way, base, system, switch)
        rows.append(Row(str(way), "make lab", passed, time.monotonic() - began, found))
        command = ["make", "test", *switch, *(["TEST_OPTIONS=--fast"] if options.short else [])]
        began = time.monotonic()
        print(f"\n=== {way}: {' '.join(command)}", flush=True)
        more = {"CI": "1"} if ci else {}
        ran = run(base, system, command, way.ordinary, more, limit=SLOWEST_TEST)
        seconds = time.monotonic() - began
        rows.append(Row(str(way), "make test", ran.status == 0, seconds, counts(ran.lines)))
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", str(system)], check=False)


def debootstrapped_from(system: Path) -> str:
    """The addresses in a new system's list of sources."""
    return (system / "etc/apt/sources.list").read_text()


def prepare(way: Way, base: Base, system: Path) -> None:
    """Prepare a copy of the system for a way: the owner of the clone, sudo, no venv."""
    script = "set -e\n"
    if way.ordinary:
        script += f"chown -R {STUDENT}: /{COURSE}\n"
    if way.tools:
        script += "dpkg --purge $(dpkg-query -W -f '${Package}\\n' 'python3*-venv') >/dev/null\n"
    if way.tools and way.ordinary:
        script += (
            "apt-get update -qq && apt-get install -qq -y --no-install-recommends sudo >/dev/null\n"
            f"echo '{STUDENT} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{STUDENT}\n"
        )
    if run(base, system, ["sh", "-c", script]).status != 0:
        raise FreshError(f"the new system could not be prepared for {way}")


def begin(
    base: Base, system: Path, command: Sequence[str], ordinary: bool, more: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Start a command in a system. All its processes end with this process or its `unshare`."""
    paths = "/usr/local/bin:/usr/bin:/bin"
    user = ["setpriv", f"--reuid={STUDENT}", f"--regid={STUDENT}", "--init-groups"]
    environment = {
        **base.environment,
        **more,
        "DEBIAN_FRONTEND": "noninteractive",
        "HOME": home_of(system, STUDENT if ordinary else "root"),
        "USER": STUDENT if ordinary else "root",
        "PATH": paths if ordinary else f"/usr/local/sbin:{paths}:/usr/sbin:/sbin",
    }
    return subprocess.Popen(
        [
            *namespaces(),
            *("sh", "-c", ENTER, "sh", str(system), " ".join(base.shared)),
            *("env", "-i", *(f"{name}={value}" for name, value in environment.items())),
            *("sh", "-c", f'cd /{COURSE} && "$@"', "sh"),
            *(user if ordinary else []),
            *command,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def home_of(system: Path, user: str) -> str:
    """A user's home (passwd(5), the sixth field)."""
    for line in (system / "etc/passwd").read_text().splitlines():
        if line.startswith(f"{user}:"):
            return line.split(":")[5]
    return "/"


def run(
    base: Base,
    system: Path,
    command: Sequence[str],
    ordinary: bool = False,
    more: Mapping[str, str] | None = None,
    limit: float = 600,
) -> Ran:
    """Run a command in a system, show what it prints, and return that with its status."""
    process = begin(base, system, command, ordinary, more or {})
    ended = threading.Timer(limit, process.kill)
    ended.start()
    lines = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
        return Ran(process.wait(), lines)
    finally:
        ended.cancel()
        process.kill()
        process.wait()


def lab_answers(way: Way, base: Base, system: Path, switch: Sequence[str]) -> tuple[bool, str]:
    """Start `make lab`, wait until its API answers, and end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"LAB_OPTIONS=--no-browser --port={port} --ServerApp.port_retries=0"
    process = begin(base, system, ["make", "lab", options, *switch], way.ordinary, {})
    printed: list[str] = []

    def show() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            print(line, end="", flush=True)

    shown = threading.Thread(target=show)
    shown.start()
    deadline = time.monotonic() + SLOWEST_LAB
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if version := api_version(port):
                told = [line.strip() for line in printed if "nstall" in line and ":" in line[:60]]
                return True, f"JupyterLab's API answers ({version})" if not told else told[0]
            time.sleep(0.5)
        return False, "it ended" if process.poll() is not None else "no answer"
    finally:
        process.kill()
        process.wait()
        shown.join(30)


def api_version(port: int) -> str:
    """The version that JupyterLab's API gives; empty while nothing answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/api", timeout=5) as answer:
            said = re.search(r'"version":\s*"([^"]+)"', answer.read().decode())
    except OSError:
        return ""
    return said[1] if said else ""


# Results


def counts(lines: Sequence[str]) -> str:
    """The sums of what pytest counted in all parts, and the reasons of skipped tests."""
    text = "".join(lines)
    totals = [
        (what, sum(int(number) for number in re.findall(rf"(\d+) {what}\b.* in [\d.:]+s", text)))
        for what in ("passed", "failed", "error", "errors", "skipped")
    ]
    lacking = sorted(set(re.findall(r"(?:here: |; )(\w+): not installed", text)))
    summed = ", ".join(f"{number} {what}" for what, number in totals if number)
    return summed + (f" (no {', '.join(lacking)})" if lacking else "")


def table(rows: Sequence[Row]) -> str:
    """A line for each step."""
    width = max([len(row.way) for row in rows], default=0)
    return "\n".join(
        f"{row.way:<{width}}  {row.step:<22} {'passed' if row.passed else 'FAILED':<7}"
        f"{row.seconds:6.0f} s  {row.found}".rstrip()
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
