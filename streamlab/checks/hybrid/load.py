"""Lab 05: little is held, a mixed crowd is served, and clients that leave leave nothing behind."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from streamlab.checks.evidence import curl, log_of, shown, state_of
from streamlab.checks.exchange import connected, head_over, request_for
from streamlab.checks.file_server.departures import visit_while_asking
from streamlab.checks.hybrid.common import (
    THRESHOLD,
    cause_of_no_answer,
    head_of,
    problem_of,
)
from streamlab.checks.observe import held_by, lowest_memory, traced
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes import departures
from streamlab.checks.probes.common import folder_in, name_of, right_alone, warm_up
from streamlab.checks.probes.waiting import hold
from streamlab.checks.waits import SHORT_ANSWER
from streamlab.errors import Failure
from streamlab.files import (
    KiB,
    MiB,
    SampleFile,
    TiB,
    random_file,
    same_length,
    size_text,
    sparse_file,
)
from streamlab.http.answer import WHOLE, AnswerSoFar, RawAnswer, read_answer
from streamlab.http.buffers import connection_buffer
from streamlab.http.clients import Load
from streamlab.process.patience import Deadline
from streamlab.process.server import Server, out_of_memory

CACHED = 64 * MiB
"""Bytes that a server may keep from one request for the next, in all."""
OLD = 3.0
"""Seconds after which a file that did not change is not a new one."""
SLACK = 32 * MiB
"""Bytes that the allocator may keep besides: some for each thread."""
TOGETHER = 10.0
"""Seconds without a byte, while a hundred clients wait for each other."""


# HOLD


def holds_little(server: Server, rng: Random, clients: int = 32, each: int = 4 * MiB) -> None:
    """A file of more than a megabyte is held in part only, and no cache keeps it."""
    many = _many_files(server, rng)
    with promise("file"):
        warm_up(server, rng)
    baseline = held_by(server)
    # None of them is small, but a few of the first would fit into memory.
    for size in (too_large_for_buffers(rng, clients), rng.randrange(24 * MiB, 200 * MiB), TiB):
        file = sparse_file(size, name_of(rng), server.root, 2, rng.randrange(99))
        with promise("file", whole_file="cup"):
            right_alone(server, file, MiB)
        with promise("memory-waiting"):
            load = Load(server.path_of(file), clients, "stalled", MiB)
            hold(server, file, load, baseline=baseline, allowed=clients * each)
    with promise("kept"):
        _keeps_little(server, many, baseline)


def too_large_for_buffers(rng: Random, clients: int) -> int:
    """A size, in bytes, for files that clients read to 1 MiB, and that the server then holds.

    The kernel takes a part of the file from the server. If the file were no larger than that part
    and what the clients took, nothing would be held, however the server reads. A MiB is for what
    the kernel takes more on a busy machine.
    """
    taken = MiB + connection_buffer(clients, first=MiB)
    return max(8 * MiB, taken + MiB) + rng.randrange(MiB // 4)


def _many_files(server: Server, rng: Random) -> list[SampleFile]:
    """Files of 1 to 9 MiB in a folder of their own, far more than may be kept."""
    folder = server.root / name_of(rng, "")
    folder.mkdir()
    # Enough of each kind to be seen if the others are not kept.
    smalls = [rng.randrange(950 * KiB, MiB) for _ in range(150)]
    sizes = [*smalls, *(rng.randrange(7 * MiB, 9 * MiB) for _ in range(18))]
    return [
        sparse_file(size, f"{number}.png", folder, 1, rng.randrange(2**32))
        for number, size in enumerate(rng.sample(sizes, len(sizes)))
    ]


def _keeps_little(server: Server, files: Sequence[SampleFile], baseline: int) -> None:
    """Many files are asked for once, one after the other: a server that keeps all hoards them."""
    folder = files[0].path.parent
    number, asked, failed = 0, 0, replace(_NOTHING, problem="")
    # A careful server keeps no file that has just been written, since it may change again without
    # looking different.
    newest = max(file.path.stat().st_ctime for file in files)
    time.sleep(max(0.0, newest + OLD - time.time()))
    with traced(server) as trace:
        for file in files:
            size, number, asked = file.size, number + 1, asked + file.size
            failed = _take(server, f"/{folder.name}/{file.name}", size)
            if failed.problem:
                break
        held = lowest_memory(server, baseline + CACHED + SLACK)
    summary = f"Asked for {number} files of 1 to 9 MiB ({size_text(asked)} in all), each once"
    if held > baseline + CACHED + SLACK or out_of_memory(server.log()):
        more = f"{summary}. Then the server held {size_text(held - baseline)} more than before"
        kept = f"{size_text(CACHED)} may be kept between requests"
        fail("hoards", f"{more}; {kept}.\n{trace.line}{log_of(server)}")
    if failed.problem:
        summary = f"{summary}. Of the last one {failed.problem}.\n{trace.line}{state_of(server)}"
        cause = (
            "wrong_status" if failed.status not in (0, 200) else cause_of_no_answer(failed, server)
        )
        fail(cause, summary, curl(server, f"/{folder.name}/{file.name}"))


_NOTHING = read_answer(b"", closed=True)


def _take(server: Server, path: str, size: int) -> RawAnswer:
    """Download a file, with a look at its status and its length alone; returns the head."""
    head, closed, left, buffer = _NOTHING, True, size, bytearray(256 * KiB)
    try:
        with connected(server, SHORT_ANSWER) as sock:
            sock.sendall(request_for(path))
            head, extra = head_over(sock)
            closed, left = False, left - len(extra)
            while left > 0 and (count := sock.recv_into(buffer)):
                left -= count
    except OSError as error:
        closed = not isinstance(error, TimeoutError)
    if head.problem:
        return head
    if head.status != 200:
        return replace(head, problem=f"the status was {head.status}")
    if left > 0:
        fault: Failure = "cut_short" if closed else "unfinished"
        return replace(head, problem=f"{size_text(left)} did not come", fault=fault)
    return head


# MIXED


CROWD = (
    (".html", 20_000, 50),
    (".css", 100_000, 15),
    (".js", 100_000, 15),
    (".pdf", 5_000_000, 20),
)
"""Ending, size in bytes, and how many users ask for such a file."""


def serves_a_mixed_crowd(server: Server, rng: Random) -> None:
    """A hundred users at once get the pages, styles, scripts and documents that they asked for.

    A wrong head that one client alone gets too is not judged here, but wrong bytes are.
    """
    with promise("hundred"):
        _crowd_is_served(server, rng)


def _crowd_is_served(server: Server, rng: Random) -> None:
    users: list[_User] = []
    together = threading.Barrier(sum(count for _, _, count in CROWD))
    for ending, size, count in CROWD:
        for turn in range(4):
            file = random_file(size + turn, name_of(rng, ending), server.root, turn)
            with promise("file"):
                right_alone(server, file, file.size)
            alone = problem_of(head_of(server, file.url), file, file.path.name, time.time() - 1)
            users += [_User(file, alone is None, together) for _ in range(turn, count, 4)]
    with traced(server) as trace, ThreadPoolExecutor(len(users)) as pool:
        visits = []
        for user in rng.sample(users, len(users)):
            visits.append(pool.submit(user.visit, server))
            time.sleep(0.002)  # not all at once, which would test the length of the accept queue
        deadline = Deadline(2 * TOGETHER)
        while wait(visits, deadline.turn).not_done:
            if deadline.passed:  # the missing client makes the others leave
                together.abort()
    failed = [user for user in users if user.cause]
    if not failed:
        return
    first = next((user for user in failed if user.summary), failed[0])
    cause, state = first.cause, state_of(server)
    if out_of_memory(server.log()):
        cause = "whole_file"
    elif not server.running:
        cause = "died"
    fail(
        cause,
        "Each of the files arrived right when a client was alone. Then a hundred clients came at "
        "once: 50 for pages of 20 KB, 30 for styles and scripts of 100 KB, 20 for documents of "
        "5 MB. Each waited with its first bytes until all had theirs. "
        f"GET {first.file.url}: {first.summary or 'it waited in vain.'}\n{trace.line}{state}",
        curl(server, first.file.url, "-D - -o got"),
    )


@dataclass
class _User:
    """One user: takes the first bytes, waits for all the others, and takes the rest."""

    file: SampleFile
    looks_at_head: bool
    together: threading.Barrier
    began: bool = False
    """Whether a byte of the answer has come."""
    cause: str = ""
    """Why the visit failed; empty if it did not."""
    summary: str = ""
    """What happened; empty if the user only waited for others that failed."""

    def visit(self, server: Server) -> None:
        """Ask for the file, and note what happens."""
        try:
            with connected(server, TOGETHER) as sock:
                self.together.wait()  # so that all ask at the same moment
                self._take(sock)
        except threading.BrokenBarrierError:
            self.cause = "one_at_a_time"
        except TimeoutError:
            if self.began:
                self._fail("no_end", f"after its first bytes nothing came for {TOGETHER:g} s.")
            else:
                self._fail("one_at_a_time", f"nothing came for {TOGETHER:g} s.")
        except OSError as error:
            cause = "cut_short" if self.began else "no_answer"
            self._fail(cause, f"the connection broke ({type(error).__name__}).")

    def _take(self, sock: socket.socket) -> None:
        sent, so_far = time.time(), AnswerSoFar(WHOLE, "HEAD")
        sock.sendall(request_for(self.file.url))
        while so_far.goes_on:
            so_far.take(sock.recv(16 * KiB))
            self.began = bool(so_far.raw)
        head, body = so_far.head_alone(), bytearray(so_far.surplus)
        if head.problem:
            cause = "cut_short" if head.fault == "cut_short" else "malformed"
            self._fail(cause if head.raw else "no_answer", f"{head.problem}.")
            return
        if self.looks_at_head:
            problem = problem_of(head, self.file, self.file.path.name, sent)
            if problem:
                self._fail("mixed_up", f"{problem.what}. Came:\n\n{shown(head.raw, 500)}\n")
                return
        self.together.wait()
        wanted = self.file.path.read_bytes()
        while len(body) < len(wanted) and (piece := sock.recv(256 * KiB)):
            body += piece
        if (same := same_length(body, wanted)) < len(body):
            self._fail("mixed_up", f"byte {same} of the body is not the file's.")
        elif same < len(wanted):
            self._fail("cut_short", f"{same} of {len(wanted)} bytes came.")

    def _fail(self, cause: str, summary: str) -> None:
        self.cause, self.summary = cause, summary
        self.together.abort()


# DROP


def survives_departures(server: Server, rng: Random) -> None:
    """Clients that have their answer, or leave before they have it, leave nothing behind."""
    small = random_file(KiB, name_of(rng), server.root)
    medium = random_file(THRESHOLD, name_of(rng), server.root)
    large = random_file(2 * THRESHOLD, name_of(rng), server.root)
    with promise("file"):
        for file in (small, medium, large):
            right_alone(server, file, file.size)
    with promise("has-its-answer"):
        folder_in(server.root)
        os.mkfifo(server.root / (pipe := name_of(rng)))
        found = [file.url for file in (small, medium, large)]
        errors = (f"/{name_of(rng)}", "/folder", f"/{pipe}", f"{small.url}/{name_of(rng)}", "/%00")
        asked = [(method, path) for path in (*found, errors[0]) for method in ("GET", "HEAD")]
        departures.answers_leave_nothing(
            server,
            [*asked, *(("GET", path) for path in errors[1:])],
            large,
            partial(_ask_and_close, server),
        )
    with promise("leaves-request"):
        visit = visit_while_asking(server, b"GET /begun.html HT")
        departures.leave_nothing(server, visit, small, large, watch=0.5)
    with promise("leaves-answer"):
        departures.survives_departures(server, rng, clients=40, also=[THRESHOLD], watch=0.5)


def _ask_and_close(server: Server, method: str, path: str) -> None:
    """Send one request and take its answer to its end, whatever it is."""
    with suppress(OSError), connected(server, SHORT_ANSWER) as sock:
        sock.sendall(request_for(path).replace(b"GET", method.encode(), 1))
        head, extra = head_over(sock)
        length = head.header("content-length") or ""
        left = int(length) - len(extra) if length.isdecimal() else 0
        while method == "GET" and left > 0 and (piece := sock.recv(256 * KiB)):
            left -= len(piece)
