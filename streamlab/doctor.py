"""What this machine can do for the course, and what will be skipped on it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from streamlab import environment
from streamlab.executables import TOOLS, find_tool
from streamlab.files import GiB, size_text
from streamlab.lesson import browser
from streamlab.process import groups, proc, sandbox

DESCRIPTORS = 4096
"""How many descriptors a thousand clients and their server need, with some to spare. It is also
what Linux allows a process that asks, where the system sets no limit (`INR_OPEN_MAX`)."""
REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report. `vital`: without it the course can't be taken."""

    name: str
    ok: bool
    detail: str
    vital: bool = False


def examine() -> list[Finding]:
    """Look at everything; takes a second or two."""
    checks: list[Callable[[], Finding]] = [
        _python,
        _packages,
        _meters,
        _cup,
        _server,
        _proxy,
        _room_in_memory,
        _room_on_disk,
    ]
    return (
        [check() for check in checks]
        + [_descriptors(), _group(), _isolation()]
        + [_tool(name) for name in TOOLS]
    )


def missing(needs: Iterable[str]) -> list[str]:
    """Which of a notebook's `needs` this machine lacks, each with the reason, in one line."""
    reasons = []
    for need in needs:
        if need == "linux":
            if not proc.exact():
                reasons.append(
                    "linux: only its kernel tells private memory and the high-water mark"
                )
        elif need == "descriptors":
            if not (found := _descriptors()).ok:
                reasons.append(f"{need}: {found.detail}")
        elif need == "cgroup":
            if not (found := _group()).ok:
                reasons.append(f"{need}: {found.detail}")
        elif find_tool(need) is None:
            reasons.append(f"{need}: not installed (make system, or your package manager)")
        elif need == "chromium" and (problem := browser.driver_problem()):
            reasons.append(f"{need}: {problem}")
    return reasons


def _python() -> Finding:
    version = platform.python_version()
    ok = sys.version_info >= (3, 11)
    return Finding("Python", ok, version if ok else f"{version}: install 3.11 or newer", vital=True)


def _packages() -> Finding:
    if not REQUIREMENTS.is_file():
        return Finding("packages", True, "no requirements.txt beside the library to compare with")
    wrong = []
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        found = re.match(r"([A-Za-z0-9._-]+)==(\S+)", line)
        if found is None or ";" in line:  # a comment, or a package for some systems only
            continue
        try:
            installed = metadata.version(found[1])
        except metadata.PackageNotFoundError:
            installed = "missing"
        if installed != found[2]:
            wrong.append(f"{found[1]} is {installed}, not {found[2]}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        advice = "make lab installs the pinned ones"
        return Finding("packages", False, f"{', '.join(wrong[:3])}{more}: {advice}")
    return Finding("packages", True, "as pinned in requirements.txt")


def _meters() -> Finding:
    if proc.exact():
        return Finding("memory meters", True, "private memory and high-water mark, from the kernel")
    return Finding("memory meters", False, "sampled only: needs Linux; short peaks will be missed")


def _cup() -> Finding:
    """Whether RLIMIT_DATA stops a process that asks for more than the cup holds."""
    if not proc.exact():
        return Finding("the cup", False, "needs Linux: cells with a cup are skipped")
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (128 << 20,) * 2)\n"
        "try: bytearray(256 << 20)\nexcept MemoryError: sys.exit(7)"
    )
    status = subprocess.run([sys.executable, "-c", program], check=False, timeout=30).returncode
    held = status == 7
    detail = (
        "holds: 256 MiB do not fit into 128" if held else "leaks: this kernel ignores RLIMIT_DATA"
    )
    return Finding("the cup", held, detail)


def _server() -> Finding:
    """Whether a process can listen on the loopback and be reached."""
    import socket

    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            socket.create_connection(listener.getsockname(), timeout=2).close()
    except OSError as error:
        return Finding("loopback", False, f"127.0.0.1 can't be reached: {error}", vital=True)
    return Finding("loopback", True, "127.0.0.1 listens and answers", vital=True)


def _proxy() -> Finding:
    """Whether a proxy is set: it must not be asked for this machine's own servers."""
    if not (named := environment.proxies()):
        return Finding("proxy", True, "none is set")
    verb = "is" if len(named) == 1 else "are"
    around = "the course goes around it for 127.0.0.1"
    return Finding("proxy", True, f"{', '.join(named)} {verb} set: {around}")


def _room_in_memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    ok = free >= 2 * GiB
    return Finding("memory", ok, f"{size_text(free)} free" + ("" if ok else ": 2 GiB are needed"))


def _room_on_disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    ok = free >= 2 * GiB
    return Finding("disk", ok, f"{size_text(free)} free" + ("" if ok else ": 2 GiB are needed"))


def _descriptors() -> Finding:
    """Whether a process here may open enough files and sockets for the labs' checks."""
    if os.name != "posix":
        return Finding("descriptors", True, "no such limit on this system")
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    ok = hard == resource.RLIM_INFINITY or hard >= DESCRIPTORS
    limit = "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard}"
    wanted = f"{limit}: chapter 06 and its lab need {DESCRIPTORS} (ulimit -Hn)"
    return Finding("descriptors", ok, limit if ok else wanted)


def _group() -> Finding:
    """Whether a control group with a limit on memory can be made here."""
    reason = groups.unavailable_reason()
    made = "a memory cgroup can be made: chapter 10 has its container"
    return Finding("container", not reason, reason or made)


def _isolation() -> Finding:
    reason = sandbox.unavailable_reason()
    return Finding("grading", not reason, reason or "bubblewrap works: a class can be graded")


def _tool(name: str) -> Finding:
    path = find_tool(name)
    if path is None:
        return Finding(
            name, False, f"not installed: cells with it are skipped (package {TOOLS[name]})"
        )
    return Finding(name, True, os.fspath(path))
