"""`%%server`: the cell's source becomes a server, in a process of its own.

Beside it, `nginx` starts an nginx, and `%needs` leaves out cells for which something is missing.
"""

from __future__ import annotations

import argparse
import atexit
import keyword
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any, NoReturn

from streamlab import files
from streamlab.errors import ServerError
from streamlab.executables import TOOLS, find_tool
from streamlab.files import KiB
from streamlab.process import groups, proc
from streamlab.process.nginx import Nginx
from streamlab.process.program import Cup
from streamlab.process.server import Server

FOLDER = Path(".streamlab")
"""Where the sources of servers are written, beside the notebook; ignored by git."""

_running: dict[str, Server] = {}


def register(shell: Any) -> None:
    """Make the magics known to an IPython shell; its servers end with the kernel."""
    shell.register_magic_function(_Magic(shell), "cell", "server")
    shell.register_magic_function(needs, "line", "needs")
    shell.input_transformers_cleanup.append(without_what_is_missing)
    atexit.register(stop_all)
    if not proc.exact():
        print("This system tells no private memory: figures are sampled RSS, peaks may be missed.")


def needs(line: str) -> None:
    """`%needs nginx`, as a cell's first line: without that, the cell only says that it is missing.

    `cgroup` is a memory control group; the others are programs.
    """


def without_what_is_missing(lines: list[str]) -> list[str]:
    """The lines of a cell; of one that `%needs` what is missing here, a line that says so."""
    words = lines[0].split() if lines else []
    if words[:1] == ["%needs"]:
        for need in words[1:]:
            if reason := _missing(need):
                return [f"print({f'left out: {reason}'!r})\n"]
    return lines


def _missing(need: str) -> str:
    """Why a cell that needs this can't run here; empty if it can."""
    if need == "cgroup":
        return groups.unavailable_reason()
    if find_tool(need) is None:
        return f"{need} is not installed here (package {TOOLS.get(need, need)})"
    return ""


def nginx(name: str, http: str, **upstreams: Server) -> Nginx:
    """Start nginx with what `http` says: the inside of its `http` block (see `Nginx`).

    `http://NAME` in it leads to the server that the keyword NAME names. The configuration goes into
    `.streamlab/NAME.conf`. Running the cell again restarts it.
    """
    if old := _running.pop(name, None):
        old.stop()
    places = {key: server.url.removeprefix("http://") for key, server in upstreams.items()}
    blocks = "".join(f"upstream {key} {{ server {place}; }}\n" for key, place in places.items())
    file = FOLDER / f"{name}.conf"
    _write(file, blocks + textwrap.dedent(http).lstrip("\n"))
    server = Nginx(file)
    server.start()
    _running[name] = server
    print(f"{name} runs: nginx, with {file.as_posix()}")
    return server


def stop_all() -> None:
    """End every server that `%%server` started in this kernel."""
    while _running:
        _running.popitem()[1].stop()


class _Magic:
    """Run this cell as a server: `%%server NAME [--cup MIB] [--stack KIB] [--app OBJECT]`.

    `--nofile N` limits its descriptors, and raises that limit where it was lower.
    `--env KEY=VALUE`, as often as needed, adds to its environment: `--env HOME={other.url}` tells
    it of another server. The same goes into `.streamlab/NAME.env`, for a shell. The source is
    written to `.streamlab/NAME.py` and run as a separate process; NAME becomes a handle with
    `.url`, `.pid`, `.log()` and `.stop()`. Running the cell again restarts it.
    """

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.__name__ = "server"
        self.__doc__ = type(self).__doc__

    def __call__(self, line: str, cell: str) -> None:
        options = _parse(line)
        if old := _running.pop(options.name, None):
            old.stop()
        file = FOLDER / f"{options.name}.py"
        _write(file, cell)
        if options.env:
            added = [f"{key}={shlex.quote(value)}\n" for key, value in options.env]
            _write(file.with_suffix(".env"), "".join(added))
        cup = None
        if options.cup or options.nofile:
            cup = Cup(options.cup, options.stack if options.cup else None, options.nofile)
        server = Server(
            file,
            options.root,
            port=options.port,
            app=options.app,
            cup=cup,
            environment=dict(options.env),
        )
        server.start()
        _running[options.name] = server
        self.shell.user_ns[options.name] = server
        print(f"{options.name} runs. The same in a terminal:\n  {_typed(server)}")


def _write(file: Path, source: str) -> None:
    """Write the source of a server; raises `ServerError` where that can't be done."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source, encoding="utf-8")
    except OSError as error:
        raise ServerError(f"could not write {file.as_posix()}: {files.reason_of(error)}") from error


def _typed(server: Server) -> str:
    """What to type for the same server, its folder and limits included."""
    command = shlex.join(server.command)
    if server.app is not None:
        command = f"STREAMLAB_ROOT={shlex.quote(server.root.as_posix())} {command}"
    if server.environment:
        # A file, because the line must be the same in each run, and another server's port is not.
        command = f"(set -a; . {FOLDER.as_posix()}/{server.file.stem}.env; {command})"
    if server.cup is None:
        return command
    limits = server.cup.limits()
    options = {"RLIMIT_DATA": ("-d", KiB), "RLIMIT_STACK": ("-s", KiB), "RLIMIT_NOFILE": ("-n", 1)}
    typed = [
        f"{option} {limits[name] // unit}"
        for name, (option, unit) in options.items()
        if name in limits
    ]
    return f"(ulimit {' '.join(typed)}; {command})"


def _variable(text: str) -> tuple[str, str]:
    """The name and the value in `KEY=VALUE`."""
    key, separator, value = text.partition("=")
    if not (separator and re.fullmatch(r"[A-Za-z_]\w*", key)):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ServerError(f"%%server: {message}. Write it like: %%server NAME --cup 256")


def _parse(line: str) -> argparse.Namespace:
    parser = _Parser(prog="%%server", add_help=False)
    parser.add_argument("name")
    parser.add_argument("--root", default=files.FOLDER.as_posix())
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--app", default=None)
    parser.add_argument("--cup", type=int, default=None)
    parser.add_argument("--stack", type=int, default=256)
    parser.add_argument("--nofile", type=int, default=None)
    parser.add_argument("--env", type=_variable, action="append", default=[])
    try:
        words = shlex.split(line)
    except ValueError as error:  # a quotation mark without its partner
        parser.error(str(error).lower())
    options = parser.parse_args(words)
    if not re.fullmatch(r"[A-Za-z_]\w*", options.name) or keyword.iskeyword(options.name):
        parser.error(f"{options.name!r} can't be a variable's name")
    if options.name in sys.stdlib_module_names:
        # Its neighbours in that folder would import it in place of the module.
        parser.error(f"{options.name!r} is a module of Python's: take another name")
    if (options.cup or options.nofile) and sys.platform == "win32":
        parser.error("there is no cup on Windows: leave --cup out")
    return options
