"""What a user's machine has that must not change a lesson: proxies, logins, an old terminal.

Called where the course begins to run: by `%load_ext streamlab`, the `streamlab` command, the labs'
checks, and for every program that `streamlab.process.program` starts. Standard library only.
"""

from __future__ import annotations

import atexit
import codecs
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""The names of this machine that no request of the course may ask a proxy for."""

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""The variables that name a proxy, in small or in capital letters."""

_PLAIN = {"·": "|", "×": "x", "█": "#", "░": "-", "→": "->", "≥": ">=", "≤": "<=", "…": "..."}
"""What a terminal gets for a character that it can't show; for any other one, a question mark."""


def prepare(environ: MutableMapping[str, str] = os.environ) -> None:
    """Change an environment so that the course runs in it as in any other.

    Requests to this machine use no proxy, and no login of ~/.netrc goes to it. Everything else
    stays.
    """
    go_direct(environ)
    environ["NETRC"] = os.devnull


def inherited() -> dict[str, str]:
    """The environment for a program that starts now: that of this process, prepared.

    It has no variable of pytest's: a program runs under pytest as it does elsewhere. If another
    thread removes a variable meanwhile, that one is left out too.
    """
    now = {name: os.environ.get(name) for name in list(os.environ)}
    kept = {
        name: value
        for name, value in now.items()
        if value is not None and not name.startswith("PYTEST_")
    }
    prepare(kept)
    return kept


def give_matplotlib_a_folder(environ: MutableMapping[str, str] = os.environ) -> None:
    """Where the user's home takes no files, let matplotlib keep its own in a temporary folder.

    Else it would say in the first cell with a chart that it does so.
    """
    if "MPLCONFIGDIR" not in environ and not _home_takes_files(environ):
        folder = tempfile.mkdtemp(prefix="streamlab-matplotlib-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        environ["MPLCONFIGDIR"] = folder


def go_direct(environ: MutableMapping[str, str]) -> None:
    """Add this machine's names to `NO_PROXY` and `no_proxy`; what they had before stays.

    curl, requests and httpx2 read both, wget and aria2c only the one in small letters.
    """
    before = {name: environ.get(name, "") for name in ("no_proxy", "NO_PROXY")}
    for name, other in (("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy")):
        hosts = [host for host in re.split(r"[\s,]+", before[name] or before[other]) if host]
        if hosts != ["*"]:
            hosts += [host for host in LOOPBACK if host not in hosts]
        environ[name] = ",".join(hosts)


def proxies(environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """The variables in an environment that name a proxy."""
    return sorted(name for name in environ if name.lower() in PROXIES and environ[name])


def _home_takes_files(environ: MutableMapping[str, str]) -> bool:
    """Whether matplotlib can write below the user's home, or where XDG variables say."""
    home = Path(os.path.expanduser("~"))
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    try:
        for folder in (config / "matplotlib", cache / "matplotlib"):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                return False
    except OSError:
        return False
    return True


def write_anything() -> None:
    """Make standard output and error take every character, whatever the terminal's encoding is.

    A character that the encoding does not have becomes a similar one, or a question mark.
    """
    codecs.register_error("streamlab", _similar)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # a stream in their place may have no encoding
            stream.reconfigure(errors="streamlab")  # type: ignore[union-attr]


def _similar(error: UnicodeError) -> tuple[str, int]:
    """Similar characters for those that can't be encoded (an error handler of `codecs`)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lost), error.end


def short_folder(most: int) -> str | None:
    """A folder for sockets, its path at most so many bytes long; None if there is none.

    Unix sockets have names of at most 107 bytes (unix(7)), whatever TMPDIR is.
    """
    places = [tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp"]
    for place in filter(None, places):
        fits = len(os.fsencode(place)) <= most
        if fits and os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):
            return place
    return None


def taken(port: int, error: OSError) -> str:
    """Why a server could not listen on a port, in one line that says what to do."""
    if error.errno == errno.EADDRINUSE or getattr(error, "winerror", 0) == 10048:
        return (
            f"port {port} is taken by another program (Address already in use): "
            "choose another one, or --port 0 for any free one"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights: choose one from 1024 on, or --port 0 for a free one"
    return f"can't listen on port {port}: {error.strerror or error}"
