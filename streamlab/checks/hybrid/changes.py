"""Lab 05: files that change before they are served and while they are served."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

from streamlab.checks.evidence import curl, shown, state_of
from streamlab.checks.exchange import ask, ask_over, connected, request_for
from streamlab.checks.hybrid.common import (
    QUIET,
    THRESHOLD,
    fail_without_answer,
    head_of,
)
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import dense_file, name_of, right_alone, warm_up
from streamlab.checks.probes.requests import expect_answer
from streamlab.checks.waits import SHORT_ANSWER
from streamlab.files import KiB, MiB, random_file, same_length
from streamlab.http.answer import AnswerSoFar, read_answer
from streamlab.process.patience import Deadline, PatientSocket
from streamlab.process.server import Server

# RACE


def survives_changes(server: Server, rng: Random) -> None:
    """A file may change between two requests, while it is sent, and before it is opened."""
    flights = rng.sample(list(_CHANGED), len(_CHANGED))
    small, large = 300 * KiB, 3 * MiB
    lengths = [(9 * KiB, small), (small, large), (large, small), (large, 2 * MiB), (small, 700)]
    with promise("file"):
        warm_up(server, rng)
        alone = dense_file(3 * MiB, name_of(rng, ".zip"), server.root, rng)
        right_alone(server, alone, alone.size)
    for change in flights:  # one after the other, to know which of them ended the server
        _changed_in_flight(server, rng, change)
    with ThreadPoolExecutor(len(lengths)) as pool:
        jobs = [
            pool.submit(_changed_before_open, server, Random(rng.random()), each)
            for each in lengths
        ]
        for job in jobs:
            job.result()
    _changed_between(server, rng)
    with promise("lives-on"):
        warm_up(server, rng)


def _changed_between(server: Server, rng: Random) -> None:
    """The second of two requests gets the present file, or 404 if there is none now."""
    file = server.root / name_of(rng, ".css")
    first, second, third, fourth = (rng.randbytes(5000) for _ in range(4))
    steps: list[tuple[str, bytes | None]] = [
        ("there is", first),
        ("was replaced by another one of the same length", second),
        ("was replaced by one of the same length, which is an hour older", third),
        ("was replaced by one of the same length and the same time", fourth),
        ("was rewritten in its place, and is longer", rng.randbytes(6000)),
        *((f"was {again}, as long as before", rng.randbytes(6000)) for again in _AT_ONCE),
        ("was rewritten in its place, and given its old length and time", rng.randbytes(6000)),
        ("was replaced by a large one", rng.randbytes(THRESHOLD + rng.randrange(1, 9999))),
        ("was removed", None),
        ("is there again", first),
    ]
    seen: list[bytes] = []
    for what, content in steps:
        if content is None:
            file.unlink()
        elif "in its place" in what:
            was = file.stat()
            file.write_bytes(content)
            if "old length and time" in what:  # as `touch -r` does it
                os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
        else:
            other = server.root / f"new-{file.name}"
            other.write_bytes(content)
            if "older" in what:
                os.utime(other, (time.time() - 3600,) * 2)
            if "the same time" in what:  # as `cp -p` and `rsync -t` do it (utimensat(2))
                was = file.stat()
                os.utime(other, ns=(was.st_atime_ns, was.st_mtime_ns))
            other.replace(file)
        with promise("changed-between"):
            for _ in range(2):
                _as_it_is(server, file, content, what, seen)
        seen += [content] if content is not None else []
        time.sleep(0.05)  # the file system's clock can't show the change


_AT_ONCE = [f"rewritten in its place{again}" for again in ("", " again", " once more")]
"""Changes within a second, most likely, that leave the file's name, number and length."""


def _as_it_is(
    server: Server, file: Path, content: bytes | None, what: str, seen: Sequence[bytes]
) -> None:
    """Ask again for a file that was asked for before."""
    path = f"/{file.name}"
    answer = ask(server, [request_for(path)])
    summary = f"Asked for {path} again and again. Then the file {what}. Sent GET {path}. Came back:"
    summary = f"{summary}\n\n{shown(answer.raw)}\n\n"
    kept = answer.status == 200 and answer.body in seen and answer.body != content
    if kept or (seen and content is not None and answer.status == 404):
        old = "The old content came" if kept else "There is such a file now"
        fail("stale", f"{summary}{old}.{state_of(server)}", curl(server, path))
    if content is not None:
        expect_answer(server, path, 200, content)
        length = head_of(server, path, "HEAD").header("content-length")
        if length != str(len(content)):
            told = f"For HEAD came Content-Length: {length}, and the file has {len(content)} bytes"
            fail("stale", f"{summary}{told}.", curl(server, path, "-I"))
    elif answer.status != 404:
        fail("wrong_status", f"{summary}The status should be 404.", curl(server, path, "-i"))


_CHANGED = {
    "shrinks": "shrank to 16 MiB",
    "is emptied": "was emptied",
    "grows": "grew by 3 MiB",
    "is replaced": "was replaced by another one",
}


def _changed_in_flight(server: Server, rng: Random, change: str) -> None:
    """A client takes a part of a large file and waits; the file changes; the client reads on."""
    with promise(
        {"is replaced": "replaced", "is emptied": "shrinks"}.get(change, change),
        dies_on_change="lives-on",
        died="lives-on",
    ):
        _changes_in_flight(server, rng, change)


def _changes_in_flight(server: Server, rng: Random, change: str) -> None:
    old = rng.randbytes(MiB) * 24 + rng.randbytes(rng.randrange(99, 9999))
    file = server.root / name_of(rng, ".zip")
    file.write_bytes(old)
    line = curl(server, f"/{file.name}", "--limit-rate 1M -o got")
    with waiting_client(server, f"/{file.name}") as (sock, came):
        if change == "shrinks":
            # By whole pages: sendfile has given the page itself to the socket.
            os.truncate(file, 16 * MiB)
        elif change == "is emptied":
            os.truncate(file, 0)
        elif change == "grows":
            with file.open("ab") as appended:
                appended.write(rng.randbytes(3 * MiB))
        else:
            other = server.root / name_of(rng)
            other.write_bytes(rng.randbytes(MiB) * 24)
            other.replace(file)
        body, ended = _rest_of(sock, came, len(old))
    summary = (
        f"A client took 1 MiB of /{file.name} ({len(old)} bytes) and waited; then the file "
        f"{_CHANGED[change]}, and the client took the rest. "
        f"It got {len(body)} bytes of body"
    )
    time.sleep(0.1)  # its end would be known by now
    if not server.running:
        fail("dies_on_change", f"{summary}.{state_of(server)}", line)
    same = same_length(body, old)
    if same < min(len(body), len(old)):
        cause = "mixed_versions" if change == "is replaced" else "padded"
        what = f"; from byte {same} on they were never in the file that the answer began with"
        fail(cause, f"{summary}{what}.{state_of(server)}", line)
    if len(body) > len(old):
        fail("past_length", f"{summary}: more than Content-Length says.{state_of(server)}", line)
    if len(body) < len(old) and change not in ("shrinks", "is emptied"):
        what = "and no more" if ended else f"and for {SHORT_ANSWER:g} s no more"
        cause = "cut_short" if ended else "no_end"
        fail(cause, f"{summary}, {what}.{state_of(server)}", line)
    # With a mapped file the kernel drops some bytes before the missing page (send(2), EFAULT).
    if change == "shrinks" and len(body) < 15 * MiB:
        what = f"; the file still has {16 * MiB} bytes"
        fail("gives_up", f"{summary}{what}.{state_of(server)}", line)
    if len(body) < len(old) and not ended:
        what = f"; for {SHORT_ANSWER:g} s no more came, and the connection stayed open"
        fail("left_waiting", f"{summary}{what}.{state_of(server)}", line)


@contextmanager
def waiting_client(server: Server, path: str) -> Iterator[tuple[socket.socket, bytes]]:
    """A client that took 1 MiB of an answer's body and stays; yields its socket and these bytes."""
    with PatientSocket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KiB)
        sock.settimeout(SHORT_ANSWER)
        so_far = AnswerSoFar()
        try:
            sock.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            while len(so_far.raw) < MiB and not so_far.closed:
                so_far.take(sock.recv(64 * KiB))
        except TimeoutError:
            pass
        except OSError:
            so_far.close()
        answer = so_far.answer()
        if answer.problem or len(answer.body) < MiB // 2:
            if not answer.problem:
                problem = f"No more came within {SHORT_ANSWER:g} s"
                answer = replace(answer, problem=problem, fault="unfinished")
            fail_without_answer(server, f"Sent GET {path}.", answer, curl(server, path))
        yield sock, answer.body


def _rest_of(sock: socket.socket, came: bytes, wanted: int) -> tuple[bytes, bool]:
    """The body, with what comes within QUIET s after it; whether the server closed."""
    body, ended = bytearray(came), False
    with suppress(TimeoutError):
        while not ended and len(body) < 2 * wanted:
            sock.settimeout(SHORT_ANSWER if len(body) < wanted else QUIET)
            try:
                piece = sock.recv(256 * KiB)
            except ConnectionError:
                piece = b""
            body += piece
            ended = not piece
    return bytes(body), ended


def _changed_before_open(server: Server, rng: Random, lengths: tuple[int, int]) -> None:
    """A file is rewritten when the server may have looked at it, and is about to open it."""
    with promise("changed-before-open"):
        _changes_before_open(server, rng, *lengths)


def _changes_before_open(server: Server, rng: Random, before: int, after: int) -> None:
    file = random_file(before + rng.randrange(99), name_of(rng, ".js"), server.root)
    new = rng.randbytes(after + rng.randrange(99))
    answer, broken_off = read_answer(b"", closed=True), False
    with Lease(file.path) as lease, suppress(OSError), connected(server, SHORT_ANSWER) as sock:
        sock.sendall(f"GET {file.url} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        if not lease.awaited(sock, SHORT_ANSWER):
            return  # it does not open the file, or this system has no leases
        lease.rewrite(new)
        lease.let_go()
        deadline = Deadline(SHORT_ANSWER)
        answer = ask_over(sock, [], patience=SHORT_ANSWER)
        broken_off = not answer.raw and not deadline.passed
    summary = (
        f"Sent GET {file.url} ({file.size} bytes). When the server was about to open the file, "
        f"it was rewritten; it has {len(new)} bytes now"
    )
    line = curl(server, file.url, "-i")
    if not answer.raw:
        if broken_off and server.running:
            return  # it has seen the change
        fail_without_answer(server, f"{summary}.", answer, line)
    summary = f"{summary}. Came back:\n\n{shown(answer.raw, 400)}\n\n"
    told, body = answer.header("content-length") or "", answer.body
    short = told.isdecimal() and int(told) > len(body)
    if 500 <= answer.status < 600 and answer.ended:
        return
    if answer.status != 200 or not told.isdecimal():
        fail("wrong_status", f"{summary}It should be the file, or an error of the server's.", line)
    if not new.startswith(body):
        at = same_length(body, new)
        many = f"{len(body) - at} bytes" if at == len(new) else f"what begins at byte {at}"
        cause = "past_length" if len(body) > int(told) else "padded"
        fail(cause, f"{summary}Of the {len(body)} bytes of body, {many} are not the file's.", line)
    if len(body) > int(told):
        fail("past_length", f"{summary}{answer.problem}.", line)
    if short and answer.fault != "cut_short":
        fail("left_waiting", f"{summary}{int(told) - len(body)} bytes never come.", line)
    if not short and len(body) < len(new):
        what = f"The first {len(body)} of {len(new)} bytes came, and pass for the whole file"
        fail("stale_length", f"{summary}{what}.", line)


class Lease:
    """Stops every process that opens a file, until `let_go` (fcntl(2), `F_SETLEASE`; Linux).

    A process that only looks at the file, with stat(2), is not stopped. Where the file system has
    no leases, no process is.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR)

    def __enter__(self) -> Lease:
        import fcntl

        with suppress(OSError):  # not every file system has leases
            # The kernel tells the holder by a signal. SIGURG is ignored by default.
            fcntl.fcntl(self._descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        return self

    def __exit__(self, *exc: object) -> None:
        self.let_go()
        os.close(self._descriptor)

    def awaited(self, sock: socket.socket, timeout: float) -> bool:
        """Whether a process is stopped within `timeout` seconds and before `sock` has an answer."""
        import fcntl

        deadline = Deadline(timeout)
        if fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK:
            return False
        while not deadline.passed:
            if fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) != fcntl.F_WRLCK:
                return True
            if select.select([sock], [], [], 0.002)[0]:
                return False
        return False

    def rewrite(self, content: bytes) -> None:
        """Give the file other content, in place."""
        os.ftruncate(self._descriptor, len(content))
        os.pwrite(self._descriptor, content, 0)

    def let_go(self) -> None:
        """Let the stopped process go on; it is no error if there is none."""
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
