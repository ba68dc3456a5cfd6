"""Lab 11's app: uploads in one request, and what a folder has in it afterwards.

The program writes into the folder that the checks look at. So the checks write into it before a
program starts and never later, and they read its files as those of somebody else. Sizes are in
bytes, times in seconds.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NoReturn
from urllib.parse import quote

from streamlab.checks.connection import Connection, open_connection
from streamlab.checks.evidence import by_hand, shown, state_of
from streamlab.checks.observe import wait_until_idle
from streamlab.checks.outcome import CheckFailed, fail, promise, waiting
from streamlab.checks.workspace import files_below
from streamlab.errors import FileError
from streamlab.files import MiB, read_plain, same_length
from streamlab.http.answer import RawAnswer
from streamlab.process.patience import Deadline
from streamlab.process.proc import group_members
from streamlab.process.server import Server, out_of_memory

Launch = Callable[..., Server]

FILES = "/files/"
LIMIT = "STREAMLAB_LIMIT"
PROMPT = 5.0
"""Seconds after which an answer is late that had to come at once, or a part has to be gone."""
STORED = (200, 201, 204)
"""The statuses of an upload that is there."""
MOST = 32 * MiB
"""No file that is compared whole is as large as this."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


# Requests


def path_of(name: str) -> str:
    """The path of a file, its name percent-encoded in UTF-8."""
    return FILES + quote(name, safe="")


def head_of(method: str, path: str, *lines: str) -> bytes:
    """The head of a request."""
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1")


def put_head(path: str, length: int | None, *lines: str) -> bytes:
    """The head of a PUT with a body of `length` bytes, or with a chunked one (None)."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return head_of("PUT", path, framing, *lines)


def chunk(data: bytes) -> bytes:
    """Data as one chunk (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class Framed:
    """A body on the wire: with its length, or in chunks."""

    data: bytes
    chunked: bool = False

    @property
    def length(self) -> int | None:
        """What Content-Length says; None for a chunked body."""
        return None if self.chunked else len(self.data)

    def part(self, begin: int, end: int) -> bytes:
        """The bytes `begin` to `end` of the body, as they go over the wire."""
        piece = self.data[begin:end]
        return chunk(piece) if self.chunked else piece

    @property
    def end(self) -> bytes:
        """What follows the last byte."""
        return LAST_CHUNK if self.chunked else b""

    @property
    def how(self) -> str:
        return "in chunks" if self.chunked else "with Content-Length"


BOTH = (False, True)
"""Whether a body is chunked: what is promised is promised for both forms."""


def letters(rng: Random, size: int) -> bytes:
    """A body that a command line can hold."""
    return "".join(rng.choices(LETTERS, k=size)).encode()


def random_name(rng: Random) -> str:
    """A name that tells nothing."""
    return letters(rng, 8).decode() + ".bin"


# Commands to try by hand


def put_by_hand(path: str, size: int, *, chunked: bool = False, name: str = "") -> str:
    """A command that uploads a file of so many bytes; with `name`, it compares what is there."""
    framing = " -H 'Transfer-Encoding: chunked'" if chunked else ""
    url = shlex.quote(f"http://127.0.0.1:PORT{path}")
    line = f"head -c {size} /dev/urandom > sent && curl -sS -i{framing} -T sent {url}"
    return f"{line} && cmp sent {shlex.quote(f'ROOT/{name}')}" if name else line


def half_by_hand(path: str, framed: Framed) -> str:
    """A command that sends half an upload and leaves."""
    half = bytes(min(len(framed.data) // 2, 1000))
    body = chunk(half) if framed.chunked else half
    return by_hand([put_head(path, framed.length) + body], leaves=True) + "; ls -lA ROOT"


@contextmanager
def commanded(command: str) -> Iterator[None]:
    """Give a failure inside this command, if it is one, in place of its own."""
    try:
        yield
    except CheckFailed as failure:
        failure.curl = command or failure.curl
        raise


def end_check(cause: str, server: Server, summary: str, command: str = "") -> NoReturn:
    """End a check. If the server has ended, or has no memory, that is the cause instead."""
    time.sleep(0.1)  # a server may close a connection first and write its error afterwards
    if out_of_memory(server.log()):
        cause = "whole_file"
    elif not server.running:
        cause = "died"
    fail(cause, f"{summary}.{state_of(server)}", command)


# Conversations


@contextmanager
def talk(server: Server, command: str = "") -> Iterator[Connection]:
    """A connection whose faults have this lab's causes, and this command."""
    with commanded(command), open_connection(server) as connection:
        connection.patience = PROMPT
        yield connection


def rest(server: Server) -> None:
    """Wait until the server has done what it can with all that it was sent."""
    time.sleep(0.05)
    wait_until_idle(server)


def say(connection: Connection, raw: bytes, what: str) -> None:
    """Send bytes that the evidence need not show, and say in words what they were."""
    connection.note(what)
    with suppress(OSError):
        connection.sock.sendall(raw)


def expect_status(
    connection: Connection, answer: RawAnswer, wanted: Sequence[int], cause: str, what: str
) -> None:
    """The check fails unless the answer has one of these statuses."""
    if answer.status not in wanted:
        words = (
            f"from {wanted[0]} to {wanted[-1]}"
            if len(wanted) > 9
            else " or ".join(map(str, wanted))
        )
        told = f"{what}: the status should be {words}, and {answer.status} came"
        connection.fault(cause, told, answer.raw)


REFUSED = range(400, 500)
BROKEN = range(500, 600)


def upload(server: Server, name: str, framed: Framed, what: str = "") -> RawAnswer:
    """Upload a file in one request; the check fails unless it is there when the answer is."""
    command = put_by_hand(path_of(name), len(framed.data), chunked=framed.chunked, name=name)
    with talk(server, command) as connection:
        send_whole(connection, name, framed)
        answer = connection.receive("PUT")
        expect_stored(connection, server, name, framed.data, answer, what)
        return answer


def send_whole(connection: Connection, name: str, framed: Framed) -> None:
    """Send an upload in one piece."""
    head = put_head(path_of(name), framed.length)
    connection.note(f"sent\n\n{shown(head).rstrip()}\n\nand {len(framed.data)} bytes {framed.how}")
    with suppress(OSError):
        connection.sock.sendall(head + framed.part(0, len(framed.data)) + framed.end)


def expect_stored(
    connection: Connection, server: Server, name: str, data: bytes, answer: RawAnswer, what: str
) -> None:
    """The answer tells of success, and at this moment the file is there."""
    expect_status(connection, answer, STORED, "wrong_status", what or f"PUT {path_of(name)}")
    if problem := difference(server.root / name, data):
        cause = "no_file" if problem.startswith("no file") else "wrong_bytes"
        connection.fault(cause, f"The answer tells of success, and there is {problem}", answer.raw)


def tag_of(data: bytes) -> str:
    """The ETag that a file must have: its SHA-256 in hexadecimal digits, in double quotes."""
    return f'"{hashlib.sha256(data).hexdigest()}"'


def expect_tag(connection: Connection, answer: RawAnswer, data: bytes) -> None:
    """The answer has the right ETag, once."""
    tags = [value for key, value in answer.headers if key.lower() == "etag"]
    if [tag.lower() for tag in tags] != [tag_of(data)]:
        came = " and ".join(tags) or "none"
        told = f"ETag should be {tag_of(data)}, the SHA-256 of the {len(data)} bytes; {came} came"
        connection.fault("wrong_tag", told, answer.raw)


# What the folder has


def content(file: Path) -> bytes | None:
    """What a file has in it, of a large one the beginning; None if there is no plain file."""
    try:
        return read_plain(file, MOST)
    except (OSError, FileError):
        return None


def difference(file: Path, data: bytes) -> str:
    """In what a file differs from what it should be, in words; empty if in nothing."""
    found = content(file)
    if found is None:
        return f"no file {file.name!r}"
    if found == data:
        return ""
    same = same_length(found, data)
    if same == len(found):
        return f"half a file {file.name!r}, the first {len(found)} of {len(data)} bytes"
    return f"another file {file.name!r}: {len(found)} bytes, of which the first {same} are right"


def visible(root: Path) -> set[str]:
    """The names in a folder that clients may see: those that do not begin with a dot."""
    return {name for name in os.listdir(root) if not name.startswith(".")}


def stored_below(root: Path) -> dict[str, int]:
    """All plain files below a folder, by their paths in it, with their sizes."""
    sizes = {}
    for file in files_below(root):
        with suppress(OSError):
            if file.is_file() and not file.is_symlink():
                sizes[str(file.relative_to(root))] = file.lstat().st_size
    return sizes


@waiting("until nothing more is left of an upload")
def leftovers(root: Path, before: dict[str, int], patience: float = PROMPT) -> str:
    """What lies below a folder that was not there before, once that is nothing or time is up."""
    deadline = Deadline(patience)
    while more := {name: size for name, size in stored_below(root).items() if name not in before}:
        if deadline.passed:
            some = sorted(more.items())[:5]
            return "\n".join(f"    {name!r}, {size} bytes" for name, size in some)
        time.sleep(0.05)
    return ""


def expect_as_before(
    server: Server, name: str, old: bytes | None, summary: str, command: str = ""
) -> None:
    """A name has what it had before an upload that did not come to its end: a file, or nothing."""
    if old is None:
        if name in visible(server.root):
            size = len(content(server.root / name) or b"")
            told = f"{summary}. There was no file {name!r} before, and now there is one: {size} B"
            end_check("half_file", server, told, command)
    elif problem := difference(server.root / name, old):
        told = f"{summary}. The old file {name!r} should still be there, whole. There is {problem}"
        end_check("old_lost", server, told, command)


# The end of a server


@waiting("until the server is killed")
def kill(server: Server) -> None:
    """End a server's processes by SIGKILL, which no program can catch (signal(7))."""
    deadline = Deadline(PROMPT)
    while server.running and not deadline.passed:
        for member in group_members(server.supervisor_pid):
            if member != server.supervisor_pid:
                with suppress(OSError):
                    os.kill(member, signal.SIGKILL)
        time.sleep(0.02)
    server.stop()


def right_alone(server: Server, rng: Random) -> None:
    """One small file is stored; else that is what is wrong, and nothing later."""
    with promise("put", no_file="there"):
        upload(server, random_name(rng), Framed(letters(rng, 200)))


def number_in(answer: RawAnswer, name: str) -> int | None:
    """A header that is a number in the digits 0 to 9; None if it is none, or missing."""
    value = answer.header(name)
    return int(value) if value and re.fullmatch(r"[0-9]{1,18}", value) else None
