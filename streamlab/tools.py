"""The programs that lessons, labs and tests speak of: where they are, and who has them."""

from __future__ import annotations

import shutil

from streamlab.errors import ToolError

TOOLS = {
    "curl": "curl",
    "wget": "wget",
    "aria2c": "aria2",
    "ffmpeg": "ffmpeg",
    "chromium": "chromium",
}
"""Each program's name, and the Debian package that has it."""

_OTHER_NAMES = {"chromium": ["chromium-browser", "google-chrome"]}


def find_tool(name: str) -> str | None:
    """The path of a program, under any of the names it goes by; None if it is not installed."""
    names = [name, *_OTHER_NAMES.get(name, [])]
    return next((path for each in names if (path := shutil.which(each))), None)


def tool(name: str) -> str:
    """The path of a program; raises `ToolError`, in one line, if it is not installed."""
    path = find_tool(name)
    if path is None:
        raise ToolError(f"{name} is not installed here (package {TOOLS.get(name, name)})")
    return path
