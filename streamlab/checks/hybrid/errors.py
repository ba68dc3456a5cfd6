"""Lab 05: each path that can't be served has its error, and none leads out of the folder."""

from __future__ import annotations

import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random

import psutil

from streamlab.checks.evidence import curl, shown, state_of
from streamlab.checks.examples import for_all
from streamlab.checks.exchange import ask, ask_over, connected, head_over, request_for
from streamlab.checks.file_server import requests
from streamlab.checks.hybrid.common import (
    FIELDS,
    QUIET,
    THRESHOLD,
    Problem,
    cause_of_no_answer,
    date_problem,
    directives,
    fail_without_answer,
    problem_of_repetition,
)
from streamlab.checks.observe import wait_until_idle
from streamlab.checks.outcome import CheckFailed, fail, promise
from streamlab.checks.probes.common import folder_in, name_of
from streamlab.checks.probes.requests import expect_answer, stays_in_step, stays_inside
from streamlab.checks.waits import SHORT_ANSWER
from streamlab.files import KiB, MiB, SampleFile, random_file
from streamlab.http.answer import RawAnswer, read_answer
from streamlab.process.patience import Deadline
from streamlab.process.proc import descriptors, group_members
from streamlab.process.server import Server

READABLE = re.compile(r"text/[\w.+-]+|application/([\w.+-]+\+)?(json|xml)")
"""The content types of an error's body, which a person reads."""


# ERRORS


def real_errors(server: Server, rng: Random) -> None:
    """A path that can't be served gets a whole error that no cache keeps for an hour."""
    content = rng.randbytes(rng.randrange(2000, 3000))
    name = name_of(rng, ".html")
    (server.root / name).write_bytes(content)
    large = random_file(THRESHOLD + rng.randrange(1, MiB), name_of(rng, ".pdf"), server.root)
    for folder in ("folder/inner.html", "folder", "."):
        folder_in(server.root, folder)
    os.mkfifo(server.root / (pipe := name_of(rng)))
    os.mknod(server.root / (plug := name_of(rng, ".html")), 0o600 | stat.S_IFSOCK)
    with promise("file"):
        expect_answer(server, f"/{name}", 200, content)

    no_file, refused, some_error = range(404, 405), range(400, 500), range(400, 600)
    for gone in (name_of(rng, ".html"), f"folder/{name_of(rng)}", f"{name}/{name_of(rng)}"):
        expect_error(server, "no-file", f"/{gone}", no_file, "there is no such file")
    for path, what in (
        ("/folder", "that is a folder"),
        ("/folder/", "that is a folder"),
        ("/folder/inner.html", "that is a folder"),
        ("/", "that is a folder"),
        (f"/{pipe}", "that is a named pipe (made with mkfifo), not a file"),
        (f"/{plug}", "that is a socket, not a file"),
    ):
        expect_error(server, "not-regular", path, refused, what)
    for path, what in (
        (f"/{300 * 'n'}", "no file can have such a long name"),
        (f"/folder/{300 * 'n'}/page.html", "no folder can have such a long name"),
        ("/null%00.html", "no file's name can have a NUL in it"),
        (f"/{name}%00", "no file's name can have a NUL in it"),
        ("/caf%e9.html", "that name is not UTF-8"),
        (f"/%ff{name}", "that name is not UTF-8, though without the byte ff there is such a file"),
    ):
        expect_error(server, "impossible-name", path, some_error, what)
    _leads_out(server, rng)
    empty = random_file(0, name_of(rng, ".html"), server.root)
    with promise("next-request"):
        stays_in_step(server, name, content, [empty.name, "folder", name_of(rng)])
    small = SampleFile(server.root / name, len(content))
    for file, method in rng.sample([(small, "GET"), (large, "GET"), (large, "HEAD")], 3):
        _cannot_be_opened(server, file, method)
        with promise("serves-on"):
            try:
                expect_answer(server, f"/{name}", 200, content)
                expect_answer(server, large.url, 200, large.path.read_bytes())
            except CheckFailed as failure:
                failure.evidence = f"After errors that were answered right:\n\n{failure.evidence}"
                raise


def _leads_out(server: Server, rng: Random) -> None:
    """A path that leads out of the root is refused, in every encoding of its dots and slashes."""
    folder = name_of(rng, "")
    (server.root / folder).mkdir()
    secret = server.root.parent / name_of(rng, ".secret")
    secret.write_bytes(b"not for clients")

    def refused(target: str) -> None:
        path, why = f"/{target}", "that leads out of the root"
        answer = ask(server, [request_for(path)], patience=SHORT_ANSWER)
        line = curl(server, path, "--path-as-is -i")
        if b"not for clients" in answer.raw:
            summary = f"GET {path} gave out a file outside the root:\n\n{shown(answer.raw)}"
            fail("traversal", summary, line)
        _is_error(server, answer, f"Sent GET {path}", range(400, 500), why, line)

    with promise("outside", **_OF_ALL_ERRORS):
        stays_inside(server, rng)
        ways = requests.ways_out(folder, server.root.name, secret.name)
        for_all(ways, rng, refused, examples=30)


_OF_ALL_ERRORS = {
    "bare_error": "error-whole",
    "unreadable": "error-whole",
    "header_missing": "error-whole",
    "header_twice": "error-whole",
    "no_date": "error-whole",
    "no_server": "error-whole",
    "wrong_date": "error-whole",
    "wrong_zone": "error-whole",
    "wrong_time": "error-whole",
    "no_end": "error-whole",
    "cut_short": "error-whole",
    "malformed": "error-whole",
    "too_long": "error-whole",
    "kept_error": "error-not-kept",
}
"""The promise that an error breaks by other causes than its status."""


def expect_error(server: Server, name: str, path: str, statuses: range, why: str) -> None:
    """A path is refused with one of these statuses, in a whole answer. `name` is the promise."""
    shortened = path if len(path) < 80 else f"{path[:20]}... ({len(path)} letters)"
    with promise(name, **_OF_ALL_ERRORS):
        answer = ask(server, [request_for(path)], patience=SHORT_ANSWER)
        line = curl(server, path, "--path-as-is -i")
        try:
            _is_error(server, answer, f"Sent GET {shortened}", statuses, why, line)
        except CheckFailed as failure:
            if name == "not-regular" and failure.cause == "no_answer" and server.running:
                failure.cause = "not_at_once"
            raise


def _is_error(
    server: Server, answer: RawAnswer, sent: str, statuses: range, why: str, line: str
) -> None:
    came = time.time()
    summary = f"{sent}: {why}. Came back:\n\n{shown(answer.raw, 500)}\n\n"
    if not answer.raw:
        fail_without_answer(server, f"{sent}: {why}.", answer, line)

    def problem() -> Problem | None:
        if answer.status and answer.status not in statuses:
            some = f"from {statuses[0]} to {statuses[-1]}" if len(statuses) > 1 else "404"
            return Problem("wrong_status", f"The status should be {some}")
        if answer.problem:
            surplus = answer.fault == "too_many"
            cause = "too_long" if surplus else cause_of_no_answer(answer, server)
            return Problem(cause, answer.problem)
        if not answer.ended:
            return Problem("no_end", f"After {SHORT_ANSWER:g} s the answer had no end")
        if not answer.body:
            return Problem("bare_error", "There is no body: a person would see an empty page")
        if found := problem_of_repetition(
            answer, [name for name in FIELDS if name != "Cache-Control"]
        ):
            return found
        kind = (answer.header("content-type") or "").partition(";")[0].strip().lower()
        if not READABLE.fullmatch(kind):
            what = f"{kind!r} is neither text nor JSON: a browser would not show the body"
            return Problem("unreadable", what)
        if bad := date_problem(answer.header("date") or "", came - SHORT_ANSWER, came):
            return bad
        if "max-age=3600" in directives(answer):
            what = "Cache-Control lets caches keep this answer for an hour"
            return Problem("kept_error", what)
        return None

    if found := problem():
        fail(found.cause, f"{summary}{found.what}.{state_of(server)}", line)


def _cannot_be_opened(server: Server, file: SampleFile, method: str = "GET") -> None:
    """If a file can't be opened, because no descriptor is free, the error is the server's."""
    wait_until_idle(server)  # the connection of the last client is closed by now
    before = len(descriptors(server.supervisor_pid))
    sent = (
        f"Left the server without a free descriptor, so that open fails. Sent {method} {file.url}"
    )
    with (
        promise("cannot-open", head_body="head-no-body", **_OF_ALL_ERRORS),
        suppress(OSError),
        connected(server, SHORT_ANSWER) as sock,
    ):
        deadline = Deadline(SHORT_ANSWER)
        while len(descriptors(server.supervisor_pid)) <= before and not deadline.passed:
            time.sleep(0.01)
        wait_until_idle(server)  # it has accepted the connection
        request = request_for(file.url).replace(b"GET", method.encode(), 1)
        with no_descriptors(server):
            if method == "HEAD":
                _refused_without_a_body(server, sock, request, sent)
                return
            answer = ask_over(sock, [request], patience=SHORT_ANSWER)
        if answer.status == 200 and answer.body == file.path.read_bytes():
            return  # it needed no descriptor, which is no mistake
        why = "the file is there, and the server fails to open it"
        if answer.status == 200:
            summary = f"{sent}: {why}. Came back:\n\n{shown(answer.raw, 500)}\n\n"
            fail(
                "head_first", f"{summary}{answer.problem or 'And then nothing'}.{state_of(server)}"
            )
        _is_error(server, answer, sent, range(500, 600), why, "")
        return
    with promise("cannot-open"):
        fail_without_answer(server, f"{sent}.", read_answer(b"", closed=True), "")


def _refused_without_a_body(server: Server, sock: socket.socket, request: bytes, sent: str) -> None:
    """An error as the answer to HEAD is the server's (5xx), and ends after its head."""
    sock.sendall(request)
    head, extra = head_over(sock)
    if head.problem:
        fail_without_answer(server, f"{sent}.", head, "")
    with suppress(OSError):
        sock.settimeout(QUIET)
        extra = extra or sock.recv(KiB)
    summary = f"{sent}. Came back:\n\n{shown(head.raw + extra, 500)}\n\n"
    if extra:
        fail("head_body", f"{summary}More bytes came after the headers.{state_of(server)}")
    if head.status != 200 and head.status not in range(500, 600):
        fail("wrong_status", f"{summary}The status should be from 500 to 599.{state_of(server)}")


@contextmanager
def no_descriptors(server: Server) -> Iterator[None]:
    """No process of the server can open anything in this block (prlimit(2), `RLIMIT_NOFILE`).

    What is open stays open, and can be used.
    """
    supervisor = server.supervisor_pid  # a server that was stopped meanwhile has none
    try:
        limits = psutil.Process(server.pid).rlimit(psutil.RLIMIT_NOFILE)
    except psutil.Error:  # it has ended, and the check will find that
        yield
        return
    # With a limit below 3 it could not be polled (poll(2), EINVAL).
    _limit_descriptors(supervisor, (3, limits[1]))
    try:
        yield
    finally:
        _limit_descriptors(supervisor, limits)


def _limit_descriptors(supervisor: int, limits: tuple[int, int]) -> None:
    """Set the limit of all processes below a supervisor, but not its own."""
    for member in group_members(supervisor):
        if member != supervisor:
            with suppress(psutil.Error):
                psutil.Process(member).rlimit(psutil.RLIMIT_NOFILE, limits)
