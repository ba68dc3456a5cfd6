"""The programs that lessons, labs and tests speak of: where they are, and who has them."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from streamlab.errors import ToolError

TOOLS = {
    "curl": "curl",
    "wget": "wget",
    "aria2c": "aria2",
    "ffmpeg": "ffmpeg",
    "chromium": "chromium",
    "nginx": "nginx-light",
}
"""Each program's name, and the Debian package that has it."""

_UNCONFIGURED = {
    "curl": ["-q"],
    "wget": ["--no-config"],
    "aria2c": ["--no-conf", "--no-netrc"],
}
"""The options that make a program ignore the user's own settings (curl wants it to be first)."""
_ADMINISTRATORS = {"nginx"}
"""Programs that Debian puts into a folder which an ordinary user's PATH does not have."""

_OTHER_NAMES = {"chromium": ["chromium-browser", "google-chrome"]}


def find_tool(name: str) -> str | None:
    """The path of a program, under any of the names it goes by; None if it is not installed."""
    names = [name, *_OTHER_NAMES.get(name, [])]
    more = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin" if name in _ADMINISTRATORS else None
    found = (shutil.which(each, path=more) for each in names)
    return next((path for path in found if path and not _is_placeholder(Path(path))), None)


def _is_placeholder(path: Path) -> bool:
    """Whether a program is a script that starts a snap which is not there.

    Ubuntu's `chromium-browser` is one: without the snap it only says how to install it.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(4096)
    except OSError:  # it can be run, and not read
        return False
    wanted = re.findall(rb"/snap/bin/[\w.+-]+", beginning) if beginning.startswith(b"#!") else []
    return bool(wanted) and not any(os.access(name, os.X_OK) for name in wanted)


def tool(name: str) -> str:
    """The path of a program; raises `ToolError`, in one line, if it is not installed."""
    path = find_tool(name)
    if path is None:
        raise ToolError(f"{name} is not installed here (package {TOOLS.get(name, name)})")
    return path


def command(name: str, *arguments: str) -> list[str]:
    """A program with its arguments, for `subprocess`; the user's settings for it do not count.

    Raises `ToolError`, in one line, if the program is not installed.
    """
    return [tool(name), *_UNCONFIGURED.get(name, []), *arguments]


def bounded(command: list[str], most: int) -> list[str]:
    """The command that runs `command`, no file of which, output included, has more than `most`.

    In bytes, rounded up to blocks of 512 (`ulimit -f` of sh(1), setrlimit(2), `RLIMIT_FSIZE`).
    Windows has no such limit: there it is the command itself.
    """
    if os.name != "posix":
        return command
    return ["sh", "-c", 'ulimit -f "$0" && exec "$@"', str(-(-most // 512)), *command]
