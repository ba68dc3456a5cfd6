"""Lab 04: conversations over one connection, with raw sockets and with real clients.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import http.client
import itertools
import select
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import NoReturn

from streamlab.checks.connection import Connection, Wanted, open_connection
from streamlab.checks.evidence import state_of
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import name_of
from streamlab.checks.waits import ANSWER
from streamlab.executables import bounded, command, find_tool
from streamlab.files import KiB, MiB, read_plain
from streamlab.http.capped import capped_connection, capped_session, content_of
from streamlab.process.patience import Deadline
from streamlab.process.server import Server, out_of_memory


def conversing(server: Server, **renamed: str) -> AbstractContextManager[Connection]:
    """A conversation that uses this lab's names for causes."""
    return open_connection(server, renamed)


# Files and reports


def write_fixture(server: Server, rng: Random, size: int, ending: str = ".bin") -> Wanted:
    """A new file of `size` bytes below the server's root. Its text says where each line stands."""
    name = name_of(rng, ending)
    lines = (f"byte {at} of {name} \u00b7\n".encode() for at in range(0, size, 20))
    body = b"".join(lines)[:size]
    (server.root / name).write_bytes(body)
    return Wanted(f"/{name}", body)


def missing(rng: Random) -> Wanted:
    """A path at which there is no file: the answer is 404."""
    return Wanted(f"/{name_of(rng)}", None, 404)


def report_of(lines: int) -> Wanted:
    """The report that the lab's program makes while it sends it."""
    return Wanted(f"/report/{lines}", b"".join(report_lines(range(lines))))


def report_lines(numbers: Iterable[int]) -> Iterator[bytes]:
    """The pieces of a report, without the empty ones."""
    for number in numbers:
        if number % 10 != 7:
            yield b"sensor %d: %d\n" % (number, number * number % 997)


def right_alone(server: Server, name: str, files: Sequence[Wanted]) -> None:
    """Each answer is right if its request is alone; else that is what is wrong."""
    for wanted in dict.fromkeys(files):
        with promise(name, stays_open="close"), conversing(server) as connection:
            connection.ask(wanted, "Connection: close")


def _most(files: Sequence[Wanted]) -> int:
    """What a real client is to take of an answer: more than any of these, whatever its framing."""
    return 2 * max((len(wanted.body or b"") for wanted in files), default=0) + MiB


def by_http_client(
    server: Server,
    files: Sequence[Wanted],
    methods: Sequence[str] = ("GET",),
    cause: str = "out_of_step",
) -> None:
    """Ask with http.client, which keeps its connection if the server allows it."""
    port, most = int(server.url.rpartition(":")[2]), _most(files)
    connection = capped_connection(port, ANSWER, most, most)
    asked: list[str] = []

    def failed(what: str, cause: str) -> NoReturn:
        _client_failed(server, "http.client", asked, what, cause)

    try:
        for wanted, method in itertools.product(files, methods):
            asked.append(wanted.path)
            connection.request(method, wanted.path)
            response = connection.getresponse()
            body = response.read()
            if (response.status, body) != (200, wanted.body if method == "GET" else b""):
                failed(f"status {response.status} and {len(body)} bytes came", cause)
            if connection.sock is None:
                failed("then it had to close", "closes")
    except (OSError, ValueError, http.client.HTTPException) as error:
        failed(f"{type(error).__name__} {error}", cause)
    finally:
        connection.close()


def by_requests(server: Server, course: Sequence[Wanted], cause: str) -> None:
    """Ask with a session of the package requests."""
    asked: list[str] = []
    most = _most(course)
    with capped_session(most) as session:
        for wanted in course:
            asked.append(wanted.path)
            try:
                response = session.get(server.url + wanted.path, timeout=ANSWER, stream=True)
                content = content_of(response, most)
            except Exception as error:  # any error of the client
                _client_failed(server, "requests", asked, type(error).__name__, cause)
            refused = wanted.status == 404 and 400 <= response.status_code < 500
            if response.status_code != wanted.status and not refused:
                _client_failed(
                    server, "requests", asked, f"status {response.status_code} came", cause
                )
            if wanted.body is not None and content != wanted.body:
                what = f"{len(content)} bytes came, not those of the file"
                _client_failed(server, "requests", asked, what, cause)


def _client_failed(
    server: Server, client: str, asked: Sequence[str], what: str, cause: str
) -> NoReturn:
    """End the check with what a real client asked for, in order, and what happened."""
    log = server.log()
    if out_of_memory(log):
        cause = "whole_file"
    paths = ", ".join(asked[-3:])
    urls = " ".join(f"http://127.0.0.1:PORT{path}" for path in asked[-2:])
    fail(
        cause or "out_of_step",
        f"{client} asked for {paths} over one connection (request {len(asked)} of it): {what}."
        f"{state_of(server)}",
        f"curl -sS -v -o /dev/null {urls.replace(' ', ' -o /dev/null ')}",
    )


def by_curl(
    server: Server,
    files: Sequence[Wanted],
    options: Sequence[str] = (),
    connections: int = 0,
    status: Sequence[int] = (200,),
    cause: str = "out_of_step",
) -> None:
    """curl, if it is installed, asks for several files in one call, over at most `connections`."""
    if find_tool("curl") is None:
        return
    most = _most(files)
    with tempfile.TemporaryDirectory() as scratch:
        asking = command("curl", "-sS", "-m", "15", *options)
        asking += ["-w", "%{http_code} %{num_connects}\n"]
        for number, wanted in enumerate(files):
            asking += ["-o", f"{scratch}/{number}", server.url + wanted.path]
        said, errors = Path(scratch, "said"), Path(scratch, "errors")
        with said.open("w") as output, errors.open("w") as beside:
            subprocess.run(bounded(asking, most), stdout=output, stderr=beside)
        words = [line.split() for line in read_plain(said, most).decode().splitlines()]
        told = read_plain(errors, 4 * KiB).decode(errors="replace").strip()
        bodies = [
            read_plain(path, most) if (path := Path(scratch, str(number))).is_file() else b""
            for number in range(len(files))
        ]
    told = told or "it ended with status 0"
    shell = shlex.join(["curl", "-sS", *options]) + "".join(
        f" -o got http://127.0.0.1:PORT{wanted.path}" for wanted in files[:4]
    )
    for number, wanted in enumerate(files):
        came = int(words[number][0]) if number < len(words) else 0
        if came not in status or (came == 200 and bodies[number] != wanted.body):
            fail(
                cause,
                f"curl asked for {len(files)} paths in one call. For number {number + 1}, "
                f"{wanted.path}, it got status {came} and {len(bodies[number])} of "
                f"{len(wanted.body or b'')} bytes. curl said: {told}.{state_of(server)}",
                shell,
            )
    opened = sum(int(line[1]) for line in words)
    if connections and opened > connections:
        fail(
            "closes",
            f"curl asked for {len(files)} files in one call, and had to open {opened} connections: "
            f"the server closes them, though the client has not asked for that.{state_of(server)}",
            shell.replace("-sS", "-sS -v"),
        )


def has_news(sock: socket.socket, seconds: float = 0) -> bool:
    """Whether the other side sends something, or closes, within some seconds."""
    deadline = Deadline(seconds)
    while not (readable := select.select([sock], [], [], min(seconds, deadline.turn))[0]):
        if deadline.passed:
            readable = select.select([sock], [], [], 0)[0]
            break
    return bool(readable)
