"""Whether a student's program is Python at all, found out at a bounded cost.

To read a text that was made for it takes Python a minute (an f-string of 170,000 fields), GiB, or
more stack than there is. So a long one is read by a process of its own, `python -m
streamlab.labs.grammar FILE NAME`, with little time and memory, and each content once.
"""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

SHORT = 16 * 1024
"""Up to so many bytes a program is read in this process: that costs a fraction of a second."""
SECONDS = 5
"""CPU seconds in which a long program must have been read."""
MEMORY = 512 * 1024 * 1024
"""What reading it may take, in bytes."""

_KNOWN: dict[bytes, str] = {}


def problem_with(file: Path) -> str:
    """Why a program is no Python that can be run, in a sentence that begins with its name, or ''.

    No further than the grammar: to compile "x" * 10**9 takes the memory of who does it.
    """
    content, name = file.read_bytes(), file.name
    key = hashlib.sha256(name.encode() + b"\0" + content).digest()
    if key not in _KNOWN:
        short = len(content) <= SHORT
        _KNOWN[key] = _problem_in(content, name) if short else _from_outside(file)
    return _KNOWN[key]


def _problem_in(content: bytes, name: str) -> str:
    try:
        compile(content, name, "exec", ast.PyCF_ONLY_AST)
    except (MemoryError, RecursionError):
        return f"{name} is nested too deeply for Python to read"
    except SyntaxError as error:
        if error.lineno is None:
            return f"{name} is no Python text: {error.msg}"
        return f"{name}, line {error.lineno}: {error.msg}. Mend that line, then check again."
    except ValueError as error:  # not UTF-8, or with NUL bytes
        return f"{name} is no Python text: {error}"
    return ""


def _from_outside(file: Path) -> str:
    command = [sys.executable, "-P", "-m", "streamlab.labs.grammar", str(file), file.name]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ran.returncode == 0:
        return ran.stdout.decode(errors="replace").strip()
    if sys.platform != "win32":
        import signal

        if ran.returncode == -signal.SIGXCPU:
            return f"{file.name} takes Python more than {SECONDS} s to read: make it shorter"
    return f"{file.name} is nested too deeply for Python to read"  # its stack, or its memory


def _main(path: str, name: str) -> None:
    if sys.platform != "win32":
        import resource

        for limit, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_DATA, MEMORY),
            (resource.RLIMIT_CPU, SECONDS),
        ):
            hard = resource.getrlimit(limit)[1]
            if hard == resource.RLIM_INFINITY or most < hard:
                resource.setrlimit(limit, (most, hard))
    sys.stdout.buffer.write(_problem_in(Path(path).read_bytes(), name).encode(errors="replace"))


if __name__ == "__main__":
    _main(*sys.argv[1:])
