"""The links of a page: to another page they stay, to any other file they lead to the repository.

The repository's address stands in `pyproject.toml`, under `[project.urls]` as `Repository`. Where
there is none, a link to a file becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Collection
from pathlib import Path

_LINK = re.compile(
    r"```.*?```|`[^`]*`"  # in code there are no links
    r"|(?<!!)\[(?P<text>(?:`[^`]*`|[^\[\]`])*)\]\(\s*<?(?P<target>[^)\s>]+)>?[^)]*\)",
    re.DOTALL,
)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def repository(course: Path) -> str:
    """The address of the repository without a slash at its end; empty if none is configured."""
    project = tomllib.loads((course / "pyproject.toml").read_text())["project"]
    return str(project.get("urls", {}).get("Repository", "")).rstrip("/")


def led(text: str, page: str, pages: Collection[str], address: str = "") -> str:
    """The Markdown of a page whose links lead somewhere on the web.

    `page` and `pages` are paths in the repository, `README.md` among them, which is the start page
    `index.md`. `address` is that of the repository.
    """

    def lead(found: re.Match[str]) -> str:
        if found["target"] is None:
            return found[0]
        target, mark, part = found["target"].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        if path == "README.md":
            here = posixpath.relpath("index.md", posixpath.dirname(page) or ".")
            return f"[{found['text']}]({here})"
        if path in pages:
            return found[0]
        return (
            f"[{found['text']}]({address}/blob/main/{path}{mark}{part})"
            if address
            else found["text"]
        )

    return _LINK.sub(lead, text)


def without_comments(text: str) -> str:
    """A text without HTML comments, such as those that name the row of a figure; code stays."""
    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.DOTALL)
    parts[::2] = [_COMMENT.sub("", part) for part in parts[::2]]
    return "".join(parts)
