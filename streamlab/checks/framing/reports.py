"""Lab 04: reports in chunks, and answers that break off."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from streamlab.checks.connection import CLOSING, Connection, Wanted
from streamlab.checks.evidence import curl, state_of
from streamlab.checks.framing.common import (
    by_curl,
    by_http_client,
    by_requests,
    conversing,
    report_lines,
    report_of,
    right_alone,
    write_fixture,
)
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import dense_file, name_of
from streamlab.executables import command, find_tool
from streamlab.files import KiB, MiB
from streamlab.http.answer import read_answer
from streamlab.process.server import Server

# CHUNKED


def reports_are_chunked(server: Server, rng: Random) -> None:
    """A report comes in chunks while it is made, and the next answer is in step."""
    file = write_fixture(server, rng, 800, ".css")
    reports = [report_of(lines) for lines in (0, 1, 9, 30, rng.randrange(800, 3000))]
    right_alone(server, "report", [file])
    forms_of_chunks = dict.fromkeys(
        ["not_chunked", "bad_chunks", "empty_chunk", "no_end", "cut_short", "closes"], "in-chunks"
    )
    with (
        promise("report", **forms_of_chunks),
        conversing(server, whole_file="whole_report") as connection,
    ):
        for wanted in (reports[-1], *rng.sample(reports, len(reports))):
            connection.send(wanted.request())
            answer = connection.receive()
            if answer.status != 200:
                likely = "not_found" if answer.status == 404 else "wrong_status"
                connection.fault(
                    likely, f"{wanted.path} is a report: the status is 200", answer.raw
                )
            if (answer.header("transfer-encoding") or "").lower() != "chunked":
                connection.fault(
                    "not_chunked", "There is no Transfer-Encoding: chunked", answer.raw
                )
            if answer.body != wanted.body:
                connection.fault(
                    "empty_chunk" if connection.more_chunks() else "wrong_bytes",
                    f"{len(answer.body)} bytes came up to the last chunk. They are not the "
                    f"{len(wanted.body or b'')} of {wanted.path}",
                    answer.raw,
                )
            connection.goes_on(answer)
            connection.ask(file)
    course = rng.sample([*reports, file, file], len(reports) + 2)
    with promise("in-chunks"):
        by_http_client(server, course)
        by_requests(server, course, "bad_chunks")
        by_curl(server, course, connections=1)
    with promise("endless-report"):
        _endless_report(server)
        with conversing(server) as connection:
            connection.ask(file)


def _endless_report(server: Server) -> None:
    """The first lines come at once, though the last one would take years."""
    with conversing(server, whole_file="whole_report") as connection:
        connection.patience = 15
        connection.send(Wanted("/report/1000000000000", None).request())
        came = connection.take(256 * KiB, "whole_report")
        body = read_answer(came[: 32 * KiB], closed=False).body
        wanted = b"".join(report_lines(range(5000)))
        if len(body) < KiB or not wanted.startswith(body):
            connection.fault("bad_chunks", "The body does not begin with the report's lines", came)


# RACE


def what_breaks_is_broken_off(server: Server, rng: Random) -> None:
    """If a file changes, or a source fails, the client can tell from the answer."""
    file = write_fixture(server, rng, 700, ".txt")
    right_alone(server, "grows", [file])
    _grows(server, rng, file)
    for by_one in (False, True):
        _shrinks(server, rng, file, by_one)
    _fails(server, rng, file)


@contextmanager
def _halfway(server: Server, rng: Random) -> Iterator[tuple[Connection, Wanted, Path]]:
    """A large file of which a client has the head, and the server has not read the end."""
    file = dense_file(rng.randrange(48 * MiB, 56 * MiB), name_of(rng), server.root, rng)
    wanted = Wanted(file.url, file.path.read_bytes())
    with conversing(server) as connection:
        # With large buffers of the kernel, the server would have read the end already.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * KiB)
        connection.send(wanted.request())
        connection.peek()
        time.sleep(0.1)
        yield connection, wanted, file.path


def _grows(server: Server, rng: Random, after: Wanted) -> None:
    with promise("grows", died="lives-on"), _halfway(server, rng) as (connection, wanted, path):
        with path.open("ab") as file:
            file.write(b"GROWN " * 20_000)
        connection.note("and the file grew by 120000 bytes while it was sent")
        connection.expect(wanted)
        connection.ask(after, cause="past_length")


def _shrinks(server: Server, rng: Random, after: Wanted, by_one: bool) -> None:
    shrinks = promise("shrinks", died="lives-on")
    with shrinks, _halfway(server, rng) as (connection, wanted, path):
        whole = wanted.body or b""
        size = len(whole) - 1 if by_one else rng.choice([0, MiB])
        os.truncate(path, size)
        connection.note(f"and the file was cut to {size} bytes while it was sent")
        _is_broken_off(connection, whole)
    _lives_on(server, after)


def _lives_on(server: Server, after: Wanted) -> None:
    with promise("lives-on"), conversing(server) as connection:
        connection.ask(after)


def _is_broken_off(connection: Connection, before: bytes) -> None:
    """The connection ends before the body is complete, unless the body is the file as it was."""
    size = len(before)
    connection.patience = CLOSING
    raw, stop = connection.everything(size + 64 * KiB)
    head, blank, body = raw.partition(b"\r\n\r\n")
    told = f"{len(body)} of {size} bytes of the body came"
    if at := raw.find(b"HTTP/1.", 5) + 1:
        connection.fault(
            "second_head", "In the middle of the body a status line came", raw[at - 50 :]
        )
    if len(body) >= size and body != before:
        connection.fault("padded", f"{told}: they can't be the file's", head + blank)
    if len(body) < size and stop == "silent":
        connection.fault(
            "left_waiting", f"{told}, then {connection.why_no_more(stop)}", head + blank
        )


def _fails(server: Server, rng: Random, after: Wanted) -> None:
    """A source that fails in the middle: no last chunk, no second answer, no long silence."""
    lines = rng.randrange(2000, 4000)
    for failing in (lines // 2, 0, 1, 8, lines - 1):
        with promise("source-fails", died="lives-on"), conversing(server) as connection:
            connection.patience = CLOSING
            path = f"/report/{lines}?fail={failing}"
            connection.send(Wanted(path, None).request(*([] if failing else ["Connection: close"])))
            raw, stop = connection.everything(MiB, b"\r\n0\r\n\r\n")
            answer = read_answer(raw, closed=stop != "silent")
            if answer.status >= 500 and answer.ended:
                continue
            if (at := raw.find(b"HTTP/1.", 5)) > 0:
                connection.fault("second_head", "In the body a status line came", raw[at - 50 :])
            if answer.header("transfer-encoding") is None and raw:
                connection.fault("not_chunked", "Such an end is no error to the client", raw)
            if answer.ended:
                connection.fault(
                    "swallowed", "The last chunk says that this was all of it", raw[-200:]
                )
            if stop == "silent":
                connection.fault("left_waiting", connection.why_no_more(stop), raw[-200:])
    with promise("source-fails"):
        _breaks_for_curl(server, f"/report/{lines}?fail={lines // 2}")
    _lives_on(server, after)


def _breaks_for_curl(server: Server, path: str) -> None:
    """curl, if it is installed, reports that the transfer failed (RFC 9112, section 8)."""
    if find_tool("curl"):
        asking = command("curl", "-sS", "-m", "15", "-o", os.devnull, server.url + path)
        ran = subprocess.run(asking, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if ran.returncode == 0:
            what = f"The source of GET {path} failed in the middle, and curl took the answer"
            fail("swallowed", f"{what} for complete.{state_of(server)}", curl(server, path))
