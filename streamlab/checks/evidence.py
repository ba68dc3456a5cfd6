"""What a failed check shows: request, end of the log, state of the server, command."""

from __future__ import annotations

import os
import re
import shlex
import sysconfig
import textwrap
import time
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from streamlab.errors import Failure
from streamlab.files import size_text
from streamlab.process.server import Server, out_of_memory


def curl(server: Server, path: str, options: str = "-o /dev/null") -> str:
    """A command by which a student can ask for the same path of a server started by hand.

    A file that is kept as `got` is compared with the one that is served, below ROOT. For `-I`, a
    line of Python sends HEAD: curl shows no body that comes after a head.
    """
    if "-I" in options.split():
        return by_hand([f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("latin-1")])
    command = f"curl -sS {options} {shlex.quote(f'http://127.0.0.1:PORT{path}')}"
    name = unquote(path.partition("?")[0]).lstrip("/")
    whole = options.endswith("-o got") and not {"-i", "--max-time"} & set(options.split())
    if whole and (server.root / name).is_file():
        command += f" && cmp got {shlex.quote(f'ROOT/{name}')}"
    return command


def by_hand(pieces: Sequence[bytes], pause: float = 0, *, leaves: bool = False) -> str:
    """A command that sends bytes that curl can't: each piece, then `pause` seconds.

    It is a line of Python. It prints what comes back until the connection ends; with `leaves` it
    closes at once.
    """
    if len(pieces) > 3 and all(len(piece) == 1 for piece in pieces):
        said = f"[bytes([b]) for b in {literal(b''.join(pieces))}]"
    else:
        said = f"[{', '.join(map(literal, pieces))}]"
    each = f"(s.sendall(p), time.sleep({pause:g}))" if pause else "s.sendall(p)"
    program = (
        "import socket, time; "
        's = socket.create_connection(("127.0.0.1", PORT), 5); '
        f"[{each} for p in {said}]; "
        + ("s.close()" if leaves else '[print(p) for p in iter(lambda: s.recv(65536), b"")]')
    )
    return f"python3 -c {shlex.quote(program)}"


def literal(data: bytes) -> str:
    """Bytes as a Python expression; a long repetition of one byte is a product."""
    parts, at = [], 0
    for run in re.finditer(rb"(.)\1{39,}", data, re.DOTALL):
        parts += [repr(data[at : run.start()])] * (run.start() > at)
        parts.append(f"{run[1]!r} * {len(run[0])}")
        at = run.end()
    parts += [repr(data[at:])] * (at < len(data) or not parts)
    return " + ".join(parts)


def log_of(server: Server) -> str:
    """The last lines that a server wrote since the request that failed, as evidence.

    The server's first line is left out. If the server has ended, these are its last lines, even if
    it wrote them before that request.
    """
    text = server.recent_log()
    lines = [line for line in _told(text.splitlines()) if not line.startswith("listening on ")]
    if not lines:
        return ""
    text = textwrap.indent("\n".join(map(_legible, lines[-12:])), "    ")
    return f"\n\nThe server wrote:\n\n{text}"


def _told(lines: Sequence[str]) -> Iterator[str]:
    """The lines of a log, of each traceback the last frame in the student's own file, and the end.

    What they do not show is Python's and the libraries'.
    """
    frame: list[str] = []
    inside = theirs = False
    for line in lines:
        if line.startswith("Traceback (most recent call last)"):
            frame, inside, theirs = [], True, False
        elif inside and line.startswith("  "):
            if found := re.match(r'  File "([^"]+)", line \d+', line):
                theirs = not any(part in found[1] for part in _NOT_THEIRS)
                frame = [] if theirs else frame
            if theirs:
                frame.append(line)
        else:
            if inside and frame:
                yield from ("Traceback, where it was in your program last:", *frame)
            inside = False
            yield line
    if inside:
        yield from frame


_LIBRARY = os.path.dirname(os.path.dirname(__file__))
_NOT_THEIRS = ("site-packages", sysconfig.get_path("stdlib"), _LIBRARY, "<frozen ")
"""What the paths of files have in them that are no student's."""


def _legible(line: str) -> str:
    """A line of a log, shortened, with unprintable characters escaped."""
    shown = "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in line[:200])
    escapes = shown.count("\\x") + shown.count("\\u")
    most = 60 if escapes > 5 else 200
    return shown[:most] + (f" ... ({len(line)} characters)" if len(shown) > most else "")


def state_of(server: Server) -> str:
    """Whether a server still runs, where it listens, and its last lines, as evidence."""
    time.sleep(0.1)  # its end may be known only a moment later
    if limit := server.output_limit:
        told = (
            f" It has written {size_text(limit)} to its log, or to another file. That is the limit "
            "for one file (fsize_mib in lab.toml), and the system takes no more."
        )
    elif not server.running:
        told = f" It has ended, with status {server.exit_status}."
    else:
        told = _elsewhere(server)
    return told + log_of(server)


def _elsewhere(server: Server) -> str:
    """Where a server listens, if its first line names another address; else empty."""
    places = server.listens_on()
    if not places or server.url.rpartition(":")[2] in {str(port) for _, port in places}:
        return ""
    names = " and ".join(f"{host}:{port}" for host, port in places)
    return f" It runs, and listens on {names}; its first line names {server.url}."


def cause_of(failure: Failure | None, server: Server) -> str:
    """The cause that a failed download points to."""
    if server.output_limit is not None:
        return "too_much_output"
    if out_of_memory(server.log()):
        return "whole_file"
    if failure == "refused" and server.running:
        return "elsewhere"
    return _CAUSES[failure or "other"]


_CAUSES: dict[Failure, str] = {
    "refused": "died",
    "no_answer": "no_answer",
    "malformed": "malformed",
    "status": "wrong_status",
    "wrong_bytes": "wrong_bytes",
    "too_many": "wrong_bytes",
    "cut_short": "cut_short",
    "broken": "cut_short",
    "unfinished": "no_end",
    "overdue": "no_answer",
    "other": "no_answer",
}


def shown(raw: bytes, most: int = 300) -> str:
    """Bytes of the wire as readable text, shortened."""
    text = repr(raw[:most])[2:-1].replace("\\r\\n", "\\r\\n\n    ")
    return f"    {text}" + (f" ... ({len(raw)} bytes in all)" if len(raw) > most else "")
