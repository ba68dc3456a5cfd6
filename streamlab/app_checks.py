"""What lab 07 checks an app for: videos, a report made on the fly and a live log, all streamed.

Each function is one kind of check, as in `streamlab.checks`: it takes a running server (or what
starts one) and a source of random draws, and ends in `fail(cause, evidence)`. A check that asks
about many clients first asks what one client gets that is alone. Sizes are in bytes, times in
seconds.
"""

from __future__ import annotations

import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal, NoReturn
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from streamlab import memory
from streamlab import request_forms as forms
from streamlab.checks import (
    BUSY,
    CHUNK,
    Belongings,
    RawAnswer,
    ask,
    at_work,
    busy_at_rest,
    bytes_arrive,
    comes_to_rest,
    connected,
    cpu_seconds,
    crowd,
    curl,
    dense_file,
    expect_answer,
    held_by,
    hold,
    least_held,
    log_of,
    name_of,
    read_answer,
    request_for,
    right_alone,
    settled_belongings,
    shown,
    state_of,
    stays_inside,
    traced,
    warm_up,
)
from streamlab.clients import download
from streamlab.errors import DownloadError
from streamlab.examples import for_all, texts
from streamlab.files import GiB, KiB, MiB, SampleFile, TiB, random_file, size_text, sparse_file
from streamlab.memory import bytes_read, threads_of
from streamlab.patience import Deadline, PatientSocket
from streamlab.server import Server, out_of_memory
from streamlab.talk import Talk, Wanted, talking
from streamlab.testing import CheckFailed, fail, promise

VIDEO = "video/mp4"
REPORT = "/report.csv"
REPORT_HEAD = "number,square,cube\r\n"
ENDLESS = 10**12
"""Rows of a report that nobody waits for the end of."""
ENDLESS_REPORT = f"{REPORT}?rows={ENDLESS}"
LOG = "/log"
LOG_NAME = "river.log"
GZIP = "Accept-Encoding: gzip, deflate, br"
WATCHERS = 60
"""Clients of the log at once: more than Starlette has threads (40)."""
FEW_THREADS = 32
"""A pool that is full has had at least so many: Starlette's 40, asyncio's own fewer."""
KEPT = 24 * MiB
"""Memory that comes to a server from one round of clients to the next, if something is kept."""
MORE_THREADS = 45
"""Threads that come to a server from one round of clients to another: no pool has so many."""
HURRY = 0.1
"""A client who hurries has no longer pause."""
SLOW_TURN = 1.0
"""Seconds after which an event loop that has not answered a request by itself is stuck."""
PROMPT = 5.0
"""Seconds after which an answer that had to come at once has not come."""
EACH = 4 * MiB
"""What a server may hold for a client that waits."""
SLACK = 16 * MiB
"""What it may hold besides, for what Python and the C library keep."""


def _fail(cause: str, server: Server, story: str, command: str = "") -> NoReturn:
    """End a check; what ended the server, or took its memory, is a cause of its own."""
    time.sleep(0.1)  # a server may close a connection first, and write of its error then
    if server.output_limit is not None:
        cause = "too_much_output"
    elif out_of_memory(server.log()):
        cause = "whole_file"
    elif not server.running:
        cause = "died"
    fail(cause, f"{story}.{state_of(server)}", command)


@contextmanager
def _asked(server: Server, request: bytes, patience: float = PROMPT) -> Iterator[socket.socket]:
    """A connection over which this has been sent; the check fails if there can't be one."""
    with ExitStack() as stack:
        try:
            sock = stack.enter_context(connected(server, patience))
            sock.sendall(request)
        except OSError as error:
            first = request.partition(b"\r\n")[0].decode("latin-1")
            cause = "elsewhere" if server.running else "died"
            _fail(cause, server, f"{first}: nothing could be sent to {server.url}: {error}")
        yield sock


# BYTES


def videos_arrive(server: Server, draw: Random) -> None:
    """Files arrive as they are, with their type and their length, whatever their name is."""
    with promise("video-bytes", wrong_status="run"):
        first = random_file(draw.randrange(3000, 5000), name_of(draw, ".mp4"), server.root)
        expect_answer(server, server.path_of(first), 200)
    with promise("video-bytes"):
        bytes_arrive(server, draw)
        sizes = [0, CHUNK, draw.randrange(3000, 5000), draw.randrange(3000, 5000), 1]
        endings = [".mp4", ".bin", ".MP4.gz", "", ".html"]
        with talking(server) as talk:
            for size, ending in zip(sizes, draw.sample(endings, 5), strict=True):
                file = random_file(size, name_of(draw, ending), server.root, draw.randrange(2**32))
                for asks in ([], [GZIP]):
                    _expect_video(talk, server.path_of(file), file.path.read_bytes(), *asks)
    with promise("video-name"):
        _any_name_is_served(server, draw)


def _expect_video(talk: Talk, path: str, content: bytes, *headers: str) -> None:
    """A video comes over a connection as it is, with its two headers."""
    talk.say(Wanted(path, None).request(*headers))
    answer = talk.hear()
    coding = answer.header("content-encoding") or "identity"
    if answer.status != 200:
        talk.fault("wrong_status", "The status should be 200", answer.raw)
    with promise("not-compressed"):
        if coding != "identity":
            talk.fault("compressed", "A video is not compressed once more", answer.raw)
    _expect_video_head(talk, answer, len(content))
    if answer.body != content:
        what = f"The body is not the file's {len(content)} bytes"
        talk.fault("wrong_bytes", what, answer.raw)


def _expect_video_head(talk: Talk, answer: RawAnswer, size: int, method: str = "GET") -> None:
    """The two headers of a video, each of them once."""
    with promise("head" if method == "HEAD" else "video-type"):
        kinds = _all_of(answer, "content-type")
        if [each.partition(";")[0].strip().lower() for each in kinds] != [VIDEO]:
            came = " and ".join(kinds) or "none"
            talk.fault("wrong_type", f"Content-Type should be {VIDEO}, and is {came}", answer.raw)
    with promise("head" if method == "HEAD" else "video-length"):
        lengths = _all_of(answer, "content-length")
        if lengths != [str(size)]:
            came = " and ".join(lengths) or "none"
            talk.fault("no_length", f"Content-Length should be {size}, and is {came}", answer.raw)


def _all_of(answer: RawAnswer, name: str) -> list[str]:
    """The values of all header lines of a name, which is in lower case."""
    return [value for key, value in answer.headers if key.lower() == name]


def _any_name_is_served(server: Server, draw: Random) -> None:
    """A file of any name comes, in any of the ways to write that in a request."""

    def attempt(drawn: tuple[str, str]) -> None:
        name, encoded = drawn
        file = server.root / name
        content = f"the film {name!r}\n".encode()
        try:
            file.write_bytes(content)
        except OSError:
            return  # this file system takes no such name
        try:
            with talking(server) as talk:
                talk.note(f"A file is named {name!r}. An ordinary name was served before")
                talk.say(Wanted(server.path_of(encoded), None).request())
                answer = talk.hear()
                if answer.status != 200:
                    what = f"The status should be 200, and {answer.status} came"
                    talk.fault("odd_name", what, answer.raw)
                _expect_video_head(talk, answer, len(content))
                if answer.body != content:
                    talk.fault("wrong_bytes", "The body is not this file", answer.raw)
        finally:
            file.unlink()

    names = [name for name in forms.AWKWARD_NAMES if "\n" not in name]
    awkward = [(name, quote(name, safe="")) for name in names]
    for each in draw.sample(awkward, len(awkward)):
        attempt(each)
    one_line = forms.file_names().filter(lambda name: "\n" not in name)
    drawn = one_line.flatmap(lambda name: st.tuples(st.just(name), forms.percent_encoded(name)))
    for_all(drawn, draw, attempt)


# WIRE


def to_the_letter(server: Server, draw: Random) -> None:
    """What is no video is refused with a real status, and HEAD is a GET without its body."""
    video = random_file(draw.randrange(3000, 5000), name_of(draw, ".mp4"), server.root)
    folder = name_of(draw, ".mp4")
    (server.root / folder).mkdir()
    (server.root / "folder").mkdir()
    there = Wanted(server.path_of(video), video.path.read_bytes())
    with promise("stays-open"), talking(server) as talk:
        talk.ask(there)
    longest = name_of(draw, ".mp4").rjust(255, "n")
    for name in (
        *(name_of(draw, ".mp4"), folder, f"{video.name}%00", f"%00{video.name}", "%00"),
        *("", ".", "%2e", "n" * 256, longest, "%D1%84" * 200, "n" * 5000),
        *(f"{video.name}%20", f"{video.name}x", "%FF.mp4"),
    ):
        for method in ("GET", "HEAD"):
            with promise("refusals"):
                _expect_refusal(server, server.path_of(name), method)
    with promise("outside"):
        for name in ("%2e%2e", "..", f"{folder}%2F..%2F{video.name}x"):
            for method in ("GET", "HEAD"):
                _expect_refusal(server, server.path_of(name), method)
        stays_inside(server, draw)
        _stays_inside_when_decoded_twice(server, draw)
    _heads(server, draw, there)
    _stays_open(server, draw, there, server.path_of(folder))


def _expect_refusal(server: Server, path: str, method: str = "GET") -> None:
    """A status from 400 to 499, with an end."""
    with talking(server) as talk:
        talk.say(Wanted(path, None).request("Connection: close", method=method))
        head = talk.hear_head()
        if not 400 <= head.status < 500:  # it is what counts first, whatever follows it
            what = f"The status should be one from 400 to 499, and {head.status} came"
            talk.fault("wrong_status", what, head.raw)
    if method == "GET":
        expect_answer(server, path, 404)


def _stays_inside_when_decoded_twice(server: Server, draw: Random) -> None:
    secret = server.root.parent / name_of(draw, ".secret")
    secret.write_bytes(b"not for clients")
    path = server.path_of(f"%252e%252e%252f{secret.name}")
    answer = ask(server, [request_for(path)])
    if b"not for clients" in answer.raw:
        fail(
            "traversal",
            f"GET {path} gave out a file outside the folder:\n\n{shown(answer.raw)}\n\nThe "
            "framework has decoded the name once; somebody decoded it again.",
            curl(server, path, "--path-as-is -i"),
        )
    expect_answer(server, path, 404)


def _heads(server: Server, draw: Random, there: Wanted) -> None:
    """HEAD has the status and the two headers of GET, at once, whatever the size of the file."""
    sizes = (draw.randrange(300 * GiB, TiB), 0, draw.randrange(MiB, 2 * MiB))
    files = [
        sparse_file(size, name_of(draw, ending), server.root, min(2, size), draw.randrange(99))
        for size, ending in zip(sizes, draw.sample([".mp4", ".bin", ".txt"], 3), strict=True)
    ]
    small = (there.path, len(there.body or b""))
    for path, size in (small, *((server.path_of(file), file.size) for file in files)):
        for asks in ([], [GZIP]):
            with promise("head"), talking(server) as talk:
                talk.patience = PROMPT
                already = bytes_read(server.keeper, itself=False)
                with promise("head", head_reads="head-cheap"), _not_reading_on(talk, already):
                    talk.say(Wanted(path, None).request(*asks, method="HEAD"))
                    answer = talk.hear("HEAD")
                    if answer.status != 200:
                        refused = answer.status in (404, 405, 501)
                        cause = "head_refused" if refused else "wrong_status"
                        talk.fault(
                            cause, f"The status should be 200, as for GET {path}", answer.raw
                        )
                    _expect_video_head(talk, answer, size, "HEAD")
                    if talk.goes_on(answer, "head_body"):
                        talk.ask(there)


@contextmanager
def _not_reading_on(talk: Talk, already: int | None) -> Iterator[None]:
    """Where an answer is late because the server reads a file for nobody, that is the cause.

    `already` is what the server had read before, in bytes. Any other failure keeps its cause.
    """
    try:
        yield
    except CheckFailed as failure:
        if not talk.timed_out or failure.cause not in ("no_answer", "no_end"):
            raise
        now = bytes_read(talk.server.keeper, itself=False)
        read = None if now is None or already is None else now - already
        if read is not None and read > 64 * MiB:
            told = f"Since HEAD was sent the server has read {size_text(read)}."
        elif at_work(talk.server):
            told = "Since HEAD was sent the server has been at work."
        else:
            raise
        raise CheckFailed("head_reads", f"{failure.evidence} {told}", failure.curl) from None


def _stays_open(server: Server, draw: Random, there: Wanted, folder: str) -> None:
    """Over one connection, each kind of answer is followed by the next one."""
    gone = Wanted(server.path_of(name_of(draw, ".mp4")), None, 404)
    steps: list[tuple[Wanted, str, tuple[str, ...]]] = [
        (there, "GET", ()),
        (there, "GET", (GZIP,)),
        (there, "HEAD", ()),
        (gone, "GET", ()),
        (gone, "HEAD", ()),
        (Wanted(folder, None, 404), "GET", ()),
        (Wanted(f"{REPORT}?rows=9", report_of(9)), "GET", ()),
        (Wanted(f"{REPORT}?rows=-9", None, 404), "GET", ()),
    ]
    with ExitStack() as stack:
        talk, after_refusal = stack.enter_context(talking(server)), False
        for wanted, method, headers in (*draw.sample(steps, len(steps)), steps[0]):
            closed = "says-close" if after_refusal else "stays-open"
            with promise("stays-open", closes=closed, stays_open="says-close"):
                answer = talk.ask(wanted, *headers, method=method)
            after_refusal = wanted.status != 200
            with promise("stays-open"):  # an answer that says close without need
                goes_on = talk.goes_on(answer)
            if not goes_on:
                talk, after_refusal = stack.enter_context(talking(server)), False


# HOLD


def videos_are_not_held(server: Server, draw: Random) -> None:
    """Clients who wait cost a few MiB each, whatever the size of the video."""
    warm_up(server, draw)
    baseline = held_by(server)
    size = draw.choice([70 * GiB, 300 * GiB, TiB]) + draw.randrange(MiB)
    dense = dense_file(draw.randrange(48 * MiB, 80 * MiB), name_of(draw), server.root, draw)
    huge = sparse_file(size, name_of(draw), server.root, 6, draw.randrange(99))
    # Of the MiB besides, each of many clients has only a small part.
    for name, video, clients in (("cup", dense, 8), ("large", huge, 24)):
        with promise(name, holds_much="each-client"):
            right_alone(server, video, 2 * MiB)
            allowed = SLACK + clients * EACH
            hold(server, video, clients, "stalled", 2 * MiB, baseline, allowed)
    with promise("large"), talking(server) as talk:
        talk.say(Wanted(server.path_of(huge), None).request())
        answer = talk.hear_head()
        if answer.header("content-length") != str(huge.size):
            what = f"Content-Length should be {huge.size}"
            talk.fault("no_length", what, answer.raw)


# LIVE


SLOW_DISK = '''\
"""A disk that makes its readers wait: a read of one file begins when GATE is there."""
import builtins
import io
import os
import time

SLOW = os.path.join(os.environ.get("STREAMLAB_ROOT", ""), {name!r})
GATE = {gate!r}
_open = io.open


def is_slow(file):
    try:
        return os.path.samestat(os.stat(file), os.stat(SLOW))
    except (OSError, TypeError, ValueError):
        return False


def wait():
    while not os.path.exists(GATE):
        time.sleep(0.05)


class SlowFile(io.FileIO):
    def read(self, *size):
        wait()
        return super().read(*size)

    def readall(self):
        wait()
        return super().readall()

    def readinto(self, buffer):
        wait()
        return super().readinto(buffer)


def slow_open(file, mode="r", buffering=-1, *more, **options):
    if sorted(mode) != ["b", "r"] or not is_slow(file):
        return _open(file, mode, buffering, *more, **options)
    allowed = {{key: value for key, value in options.items() if key in ("closefd", "opener")}}
    raw = SlowFile(file, "rb", **allowed)
    if buffering == 0:
        return raw
    return io.BufferedReader(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)


def slowly(call, place=0):
    def called(*arguments, **options):
        if len(arguments) > place and is_slow(arguments[place]):
            wait()
        return call(*arguments, **options)

    return called


builtins.open = io.open = slow_open
for name in ("read", "readv", "pread", "preadv"):
    if hasattr(os, name):
        setattr(os, name, slowly(getattr(os, name)))
for name in ("sendfile", "splice", "copy_file_range"):
    if hasattr(os, name):
        setattr(os, name, slowly(getattr(os, name), 1 if name == "sendfile" else 0))
'''


def nobody_waits(launch: Callable[..., Server], draw: Random, scratch: Path) -> None:
    """While others stall, hurry, watch the log, or wait for a disk, requests are answered."""
    shim, gate, name = scratch / "shim", scratch / "shim" / "open", name_of(draw, ".mp4")
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(SLOW_DISK.format(name=name, gate=str(gate)))
    server = launch(environment={"PYTHONPATH": str(shim)})
    log = _Log(server, draw)
    slow = random_file(draw.randrange(300 * KiB, 400 * KiB), name, server.root)
    small = random_file(draw.randrange(3000, 5000), name_of(draw, ".mp4"), server.root)
    with promise("others"):
        warm_up(server, draw)
        others = _Others(server, draw, log, small)
        others.are_served("", alone=True)
    with promise("stalled"):
        _beside_who_stalls(server, draw, others)
    with promise("others"):
        _beside_stalled_reports(server, draw, others)
    with ExitStack() as stack:
        # A report that never lets the loop turn may be left over from a client before.
        with promise("sixty-watchers", never_waits="hurry"):
            _let_watch(server, log, stack)
            story = f"{WATCHERS} clients were watching {LOG}"
            others.are_served(story)
        with promise("hurry"):
            _beside_who_hurries(server, others, story)
        with promise("slow-disk"), _asking(server, slow, clients=4) as waiting:
            also = (
                f"{story}, and 4 had asked for {server.path_of(slow)}, on a disk where each read "
                "takes long"
            )
            others.are_served(also)
            gate.touch()
            for sock in waiting:
                if problem := _rest_of(sock, slow):
                    cause = problem.cause("one_at_a_time")
                    _fail(cause, server, f"{also}. Then the disk was quick again: {problem.text}")


class _Others:
    """One who asks for a small video and a small report and watches the log, beside others."""

    def __init__(self, server: Server, draw: Random, log: _Log, small: SampleFile) -> None:
        self._server, self._draw, self._log, self._small = server, draw, log, small

    def are_served(self, story: str, *, alone: bool = False) -> None:
        """Both come at once, and so does a line of the log; `alone` if there is nobody else."""
        server, log = self._server, self._log
        for path, body in (
            (f"{REPORT}?rows=3", report_of(3)),
            (server.path_of(self._small), self._small.path.read_bytes()),
        ):
            what = f"{story}. Then GET {path}" if story else f"GET {path}, with nobody else there"
            with _Watcher(server, path) as one:
                if problem := one.sees(body, whole=True):
                    self._fail(problem, "no_answer" if alone else "", what, path)
        what = f"{story}. One more asked for {LOG}" if story else f"GET {LOG}, with nobody there"
        with _Watcher(server) as one:
            if problem := one.sees(log.content):
                self._fail(problem, "late_line" if alone else "", what, LOG)
            line = self._draw.randbytes(20).hex().encode() + b"\n"
            log.write(line)
            if problem := one.sees(log.content):
                what = f"{what}. It had what was there. Then a line was written to the log"
                self._fail(problem, "late_line" if alone else "", what, LOG)

    def _fail(self, problem: Shortfall, late: str, what: str, path: str) -> NoReturn:
        told = ""
        if problem.kind == "late" and not late:
            late, told = _who_is_stuck(self._server)
        line = curl(self._server, path, "-N" if path == LOG else "-i")
        _fail(problem.cause(late), self._server, f"{what}: {problem.text}{told}", line)


def _who_is_stuck(server: Server) -> tuple[str, str]:
    """Why a request is not answered beside others: the cause that can be seen, and how, in words.

    A path that is no route is answered in the event loop, without a thread. Where a pool is full,
    all routes wait that need a thread, and not one alone.
    """
    looks = []
    for _ in range(20):
        looks.append(at_work(server))
        time.sleep(0.02)
    seconds = _answers(server, "/no-such-route")
    if seconds is None or seconds > SLOW_TURN:
        late = "not answered either" if seconds is None else f"answered after {seconds:.1f} s"
        told = f". The event loop does not turn: GET /no-such-route is {late}"
        if sum(looks) > 0.8 * len(looks):
            return "never_waits", f"{told}, and the server is at work all the time"
        return "blocks", f"{told}, and the server waits for something"
    told = ". The event loop turns: GET /no-such-route is answered"
    for path in (f"{REPORT}?rows=1", server.path_of("no-such-film.mp4")):
        if _answers(server, path) is not None:
            return "one_at_a_time", f"{told}, and so is GET {path}"
    threads = threads_of(server.keeper)
    cause = "pool_full" if threads > FEW_THREADS else "one_at_a_time"
    return cause, f"{told}, and no other route is. The server has {threads} threads"


def _answers(server: Server, path: str) -> float | None:
    """The seconds until a request is answered in any way; None if it is not, in time."""
    waiting = Deadline(PROMPT)
    with suppress(OSError), connected(server, PROMPT) as sock:
        sock.sendall(request_for(path))
        if sock.recv(KiB):
            return waiting.spent
    return None


def _beside_who_stalls(server: Server, draw: Random, others: _Others, stalled: int = 8) -> None:
    """Others are answered while clients of a video have stopped reading, and one is asking."""
    file = sparse_file(
        draw.randrange(200 * MiB, 300 * MiB), name_of(draw), server.root, 4, draw.randrange(99)
    )
    right_alone(server, file, MiB)
    path = server.path_of(file)
    # They stay for longer than the last one waits: what they let go of would be free.
    with crowd(server, file, stalled, "stalled", MiB, 4 * PROMPT) as many:
        failed = [each for each in many.arrive() if each.error is not None]
        if failed:
            problem = Shortfall("late" if failed[0].failure == "unfinished" else "bytes", "")
            cause, told = _who_is_stuck(server) if problem.kind == "late" else ("cut_short", "")
            _fail(
                cause,
                server,
                f"{stalled} clients asked for {path} at the same time, to take 1 MiB each and "
                f"stop. {len(failed)} of them failed: {failed[0].error}. A client that was alone "
                f"got the right bytes{told}",
                curl(server, path, "--limit-rate 1k -o /dev/null") + f" &  # {stalled} times",
            )
        with _asked(server, request_for(path)[:20]):
            others.are_served(
                f"{stalled} clients had taken 1 MiB of {path} and stopped, and one had sent half "
                "a request"
            )


def _beside_stalled_reports(server: Server, draw: Random, others: _Others) -> None:
    """Others are answered while clients of a report have stopped reading."""
    content = report_of(100)
    with ExitStack() as stack:
        for _ in range(2):
            reader = stack.enter_context(_Watcher(server, ENDLESS_REPORT))
            if problem := reader.sees(content):
                cause, told = _who_is_stuck(server) if problem.kind == "late" else ("", "")
                what = f"GET {ENDLESS_REPORT}, with no more than one other client there"
                _fail(problem.cause(cause), server, f"{what}: {problem.text}{told}")
        others.are_served(f"2 clients had taken the first rows of {ENDLESS_REPORT} and stopped")


def _let_watch(server: Server, log: _Log, stack: ExitStack) -> None:
    """Sixty clients watch the log, and have all that is in it."""
    deadline = Deadline(6 * PROMPT)  # each may wait for PROMPT, all together not so long
    for number in range(1, WATCHERS + 1):
        watcher = stack.enter_context(_Watcher(server))
        if problem := watcher.sees(log.content, min(PROMPT, deadline.left)):
            cause, told = _who_is_stuck(server) if problem.kind == "late" else ("", "")
            _fail(
                problem.cause(cause),
                server,
                f"{WATCHERS} clients asked for {LOG}, one after the other. Number {number} should "
                f"have got {len(log.content)} bytes of log: {problem.text}{told}",
                curl(server, LOG, "-N") + f" &  # {number} times",
            )


def _beside_who_hurries(server: Server, others: _Others, story: str) -> None:
    """Others are answered also while one never makes the server wait."""
    also = f"{story}, and one read {ENDLESS_REPORT} as fast as it could"
    for _ in range(5):  # once more where this machine stood still, so that nobody hurried
        with _hurrying(server, ENDLESS_REPORT) as pauses:
            others.are_served(also)
        if max(pauses, default=HURRY) < HURRY:
            break


@contextmanager
def _hurrying(server: Server, path: str) -> Iterator[list[float]]:
    """A client who reads without end, as fast as it can, in a thread.

    Bound is a list of its pauses between one piece and the next. In a long one the connection
    fills, and a server that would never wait of itself has to.
    """
    pauses: list[float] = []
    with _asked(server, request_for(path)) as sock:

        def read() -> None:
            with suppress(OSError):
                came = None
                while sock.recv(256 * KiB):
                    before, came = came, time.monotonic()
                    if before is not None:
                        pauses.append(came - before)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        time.sleep(0.3)
        try:
            yield pauses
        finally:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def _asking(server: Server, file: SampleFile, clients: int) -> Iterator[list[socket.socket]]:
    """Clients who have asked for a file, and have had a moment to be heard."""
    request = request_for(server.path_of(file))
    with ExitStack() as stack:
        socks = [stack.enter_context(_asked(server, request)) for _ in range(clients)]
        time.sleep(0.3)
        yield socks


def _rest_of(sock: socket.socket, file: SampleFile) -> Shortfall | None:
    """Why an answer is not a file, or does not come; None if it is."""
    raw, closed = b"", False
    with suppress(OSError):
        while piece := sock.recv(256 * KiB):
            raw += piece
        closed = True
    return _shortfall(raw, closed, file.path.read_bytes(), whole=True, seconds=PROMPT)


# DROP


@dataclass(frozen=True)
class _Way:
    """One way for clients to leave: the promise that it tests, and what they do, in words."""

    promise: str
    story: str
    leave: Callable[[], None]
    line: str


def departures_are_noticed(server: Server, draw: Random, clients: int = 25) -> None:
    """Clients who leave a video, the report or the log leave nothing behind."""
    log = _Log(server, draw)
    small = random_file(40 * KiB, name_of(draw, ".mp4"), server.root, draw.randrange(2**32))
    large = sparse_file(
        draw.randrange(200 * MiB, 300 * MiB), name_of(draw), server.root, 4, draw.randrange(99)
    )
    video = server.path_of(large)
    with large.path.open("rb") as file:
        begin = file.read(CHUNK)
    gone = server.path_of(name_of(draw))

    def whole(*paths: str) -> None:
        """Clients who get all of an answer, or leave before any of it, on these paths."""
        for path in paths:
            for _ in range(5):
                ask(server, [request_for(path)], patience=PROMPT)
            for _ in range(10):
                with _Watcher(server, path):
                    pass

    def leave_video() -> None:
        for _ in range(5):
            head = Wanted(video, None).request("Connection: close", method="HEAD")
            with _asked(server, head) as sock, suppress(OSError):
                sock.recv(KiB)
        whole(server.path_of(small), gone)
        with _Watcher(server, video):
            pass
        with _watching(server, video, begin, clients):
            comes_to_rest(server)
        # While they are served, at once, and then nothing more: garbage that lies about is
        # collected when others come.
        with _watching(server, video, begin, clients):
            pass

    def leave_report() -> None:
        whole(f"{REPORT}?rows=3", f"{REPORT}?rows=-3")
        with _watching(server, ENDLESS_REPORT, report_of(20), 8):
            pass
        _still_answers(server)

    def leave_log() -> None:
        for _ in range(5):
            with _Watcher(server):
                pass
        with _watching(server, LOG, log.content, clients):
            log.write(draw.randbytes(20).hex().encode() + b"\n")

    def leave_quiet() -> None:
        with _watching(server, LOG, log.content, clients):
            comes_to_rest(server)
            time.sleep(0.2)

    took = "took the first bytes of {}, while others had all of an answer, or left before any of it"
    ways = [
        _Way("leave-video", took.format(video), leave_video, curl(server, video, _LEAVES)),
        _Way(
            "leave-report",
            took.format(ENDLESS_REPORT),
            leave_report,
            curl(server, ENDLESS_REPORT, _LEAVES),
        ),
        _Way("leave-quiet", f"watched {LOG}, without news", leave_quiet, _watch(server)),
        _Way("leave-log", f"watched {LOG}, and a line was written", leave_log, _watch(server)),
    ]
    with promise("leave-video"):
        right_alone(server, small, small.size)
    _leave_nothing(server, large, ways, clients)


_LEAVES = "--max-time 1 -o /dev/null"


def _watch(server: Server) -> str:
    """A command that watches the log and leaves after a second."""
    return curl(server, LOG, "-N --max-time 1")


@contextmanager
def _watching(server: Server, path: str, content: bytes, clients: int) -> Iterator[None]:
    """Clients of an answer who all have its beginning; at the end they leave together."""
    with ExitStack() as stack:
        for _ in range(clients):
            watcher = stack.enter_context(_Watcher(server, path, buffer=128 * KiB))
            if problem := watcher.sees(content):
                late = "late_line" if path == LOG else "late_first_row"
                late = late if path in (LOG, ENDLESS_REPORT) else "no_end"
                _fail(problem.cause(late), server, f"GET {path}: {problem.text}")
        yield


def _still_answers(server: Server) -> None:
    """A server that sends a report to clients who have left does not come to answer."""
    answer = ask(server, [request_for(f"{REPORT}?rows=3")], patience=PROMPT)
    if not answer.raw and server.running:
        story = f"Clients took the first rows of {ENDLESS_REPORT} and left"
        what = f"Then GET {REPORT}?rows=3 had no answer within {PROMPT:g} s"
        _, told = _who_is_stuck(server)
        _fail(
            "never_waits", server, f"{story}. {what}{told}", curl(server, ENDLESS_REPORT, _LEAVES)
        )


def _leave_nothing(server: Server, large: SampleFile, ways: Sequence[_Way], clients: int) -> None:
    """Three rounds of clients who leave: 5 s later nothing of them is left each time."""
    before = settled_belongings(server, large, None)
    threads: list[int] = []
    held: list[int] = []
    story = f"Each time {clients} clients left a video, 8 a report, and {2 * clients} the log"
    for turn in range(3):
        for way in ways:
            with promise(way.promise):
                way.leave()
                told = f"{clients} clients {way.story}. Then they left"
                if not server.running:
                    cause = "whole_file" if out_of_memory(server.log()) else "dies_on_drop"
                    fail(cause, f"{told}.{state_of(server)}", way.line)
                after = settled_belongings(server, large, before)
                if after.exceeds(before):
                    fail(
                        "leaks",
                        f"{told}. Before, and 5 s after that:\n{_compared(before, after)}"
                        f"{log_of(server)}",
                        way.line,
                    )
        if turn == 0:  # who goes on for those who have left would make all else slow
            with promise("leave-cpu"):
                if busy := busy_at_rest(server, 1.0):
                    told = f"{story}. With all clients gone, the server {busy}."
                    fail("busy_loop", told, _watch(server))
        threads.append(settled_belongings(server, large, before).threads)
        with promise("leave-thread"):
            if threads[-1] > threads[0] + MORE_THREADS:
                told = f"{story}. The server had more threads: {', '.join(map(str, threads))}"
                fail("leaks_threads", f"{told}.{log_of(server)}", _watch(server))
        held.append(least_held(server, held[-1] + KEPT if held else TiB))
        with promise("leave-memory"):
            # The C library keeps some of each thread's memory, but less and less each time.
            if turn == 2 and min(held[1] - held[0], held[2] - held[1]) > KEPT:
                told = f"{story}. The server held more: {', '.join(map(size_text, held))}"
                fail("leaks_memory", f"{told}.{log_of(server)}", _watch(server))


def _compared(before: Belongings, after: Belongings) -> str:
    """What a server had, and what it has, in lines."""
    return "\n".join(
        f"    {what:<24} {old:>5} {new:>5}"
        for what, old, new in [
            ("descriptors", before.descriptors, after.descriptors),
            ("handles on the video", before.handles, after.handles),
            ("child processes", before.children, after.children),
        ]
    )


# CSV


def report_of(rows: int) -> bytes:
    """The report, as it has to be."""
    lines = (f"{number},{number**2},{number**3}\r\n" for number in range(1, rows + 1))
    return (REPORT_HEAD + "".join(lines)).encode()


def report_is_made_on_the_fly(server: Server, draw: Random) -> None:
    """Reports are right, whatever their length; the first rows come at once; none is kept."""
    with promise("report-rows"):
        for rows in (1, 2501):
            _expect_report(server, f"?rows={rows}", rows)
        _expect_report(server, "?rows=2501", 2501, GZIP)
    with promise("rows-zero"):
        _expect_report(server, "?rows=0", 0)
    with promise("rows-default"):
        _expect_report(server, "", 1000)
    baseline = held_by(server)
    for headers in ([], [GZIP]):
        with promise("first-rows"), _Watcher(server, ENDLESS_REPORT, *headers) as reader:
            if problem := reader.sees(report_of(100)):
                line = curl(server, ENDLESS_REPORT, "-N")
                if headers and reader.silent:  # the rows came to the one before, and at once
                    story = f"A client took the first rows of {ENDLESS_REPORT} and left. "
                    cause, told = _who_is_stuck(server)
                    _fail(cause, server, f"{story}Then another came: {problem.text}{told}", line)
                also = f" with {headers[0]}" if headers else ""
                what = f"GET {ENDLESS_REPORT}{also}: {problem.text}"
                _fail(problem.cause("late_first_row"), server, what, line)
    _numbers_of_rows(server, draw)  # some are endless: so the first rows are asked for before
    with promise("report-rows"):
        rows = draw.randrange(5000, 8000)  # one row at a time is slow, and right
        whole = _lay(server, draw, report_of(rows), ".csv")
        _expect_file(server, f"{REPORT}?rows={rows}", whole)
    beginning = _lay(server, draw, report_of(50_000), ".csv")
    with promise("not-kept"):
        hold(
            server,
            beginning,
            4,
            "stalled",
            32 * KiB,
            baseline,
            SLACK + 4 * EACH,
            path=ENDLESS_REPORT,
        )
    with promise("no-more-made"):
        _makes_no_more(server)
    with promise("not-kept"):
        _pours(server, ENDLESS_REPORT, baseline)


def _makes_no_more(server: Server) -> None:
    """While a client of a report has stopped reading, the server rests."""
    # So that the kernel takes little, and a server that sends row by row has soon filled it.
    with _Watcher(server, ENDLESS_REPORT, buffer=16 * KiB, segment=536) as reader:
        if problem := reader.sees(report_of(20)):
            what = f"GET {ENDLESS_REPORT}: {problem.text}"
            _fail(problem.cause("late_first_row"), server, what, curl(server, ENDLESS_REPORT, "-N"))
        _fills_the_kernel(server, reader)
        if busy := busy_at_rest(server, 0.8):
            told = f"A client took the first rows of {ENDLESS_REPORT} and stopped reading"
            fail(
                "makes_ahead",
                f"{told}. While it waited, the server {busy}.{log_of(server)}",
                curl(server, ENDLESS_REPORT, "--limit-rate 1k -o /dev/null"),
            )


def _fills_the_kernel(server: Server, reader: _Watcher, patience: float = 60) -> None:
    """Wait until the kernel takes no more of what a server makes for a client.

    A server that sends row by row may need long for that, looks at rest in between, and makes
    nothing ahead meanwhile. Where the system does not tell, wait until the server rests.
    """
    deadline = Deadline(patience)
    looks = [reader.unread()]
    while len(looks) < 4 or len(set(looks[-4:])) > 1:
        if looks[-1] is None or deadline.passed:
            break
        time.sleep(0.4)
        looks.append(reader.unread())
    comes_to_rest(server, 10)


@dataclass(frozen=True)
class _Rows:
    """What a value of `rows` may mean: how many rows it has to bring, or may; None if none."""

    rows: int | None
    may_be_refused: bool


def rows_in(value: str) -> _Rows:
    """What the lab's text says of a value: digits are a number, and no other text has to be."""
    if re.fullmatch("[0-9]{1,18}", value):
        return _Rows(int(value), may_be_refused=False)
    for read in (int, float):  # what Python takes for a whole number may count as one
        with suppress(ValueError, OverflowError):
            number = read(value)
            if number >= 0 and number == int(number):
                return _Rows(int(number), may_be_refused=True)
    if re.fullmatch("[0-9]+", value):  # more digits than Python reads, or a float has room for
        return _Rows(ENDLESS, may_be_refused=True)
    return _Rows(None, may_be_refused=True)


AWKWARD_ROWS = (
    *("", "-1", "-0", "--5", "+5", " 5", "5 ", "5_", "1_000", "5,5", "5.0", "1.5", "1e3", "0x10"),
    *("many", "true", "inf", "nan", "NaN5", "None", "5\0", "0007"),
    # Digits of other kinds: a raised two, Arabic, in a circle, Devanagari, mathematical.
    *("\xb2", "\u0663", "\u2460", "\u096a\u096b", "\U0001d7d8"),
    *("9" * 18, "9" * 19, "9" * 400, "9" * 5000, "1e400"),
)
"""Numbers of rows, and texts that are none, which programs often read wrongly."""


def values_of_rows() -> SearchStrategy[str]:
    """Numbers of rows, and what is none: digits of other scripts, signs, fractions, words."""
    small = st.integers(0, 1500).map(str)
    zeros = st.builds(str.rjust, small, st.integers(1, 18), st.just("0"))
    other = texts("0123456789+-_.eE \xb2\u0663", most=4)
    return st.one_of(small, zeros, st.sampled_from(AWKWARD_ROWS), other)


def _numbers_of_rows(server: Server, draw: Random) -> None:
    """Whatever `rows` is, the right report comes, or a status from 400 to 499."""

    def attempt(value: str) -> None:
        meant = rows_in(value)
        path = f"{REPORT}?rows={quote(value, safe='')}"
        line = curl(server, path if len(path) < 2000 else f"{path[:40]}...", "-i")
        promised = "rows-refused" if meant.may_be_refused else "rows-number"
        with promise(promised), _Watcher(server, path) as one:
            if meant.rows is None:
                problem, wanted = one.sees(b"never", whole=True), "It should be from 400 to 499"
            else:
                few = min(meant.rows, 2000)
                problem = one.sees(report_of(few), whole=few == meant.rows)
                wanted = "The report should come"
                if meant.may_be_refused:
                    wanted += ", or a status from 400 to 499"
            if meant.may_be_refused and 400 <= one.status < 500:
                return
            if problem:
                cause = problem.cause("no_end")
                if meant.rows is None:
                    cause = "wrong_status"
                what = f"GET {path[:200]} (rows is {value[:40]!r}): {problem.text}. {wanted}"
                _fail(cause, server, what, line)

    for value in draw.sample(AWKWARD_ROWS, len(AWKWARD_ROWS)):
        attempt(value)
    for_all(values_of_rows(), draw, attempt)


def _expect_report(server: Server, query: str, rows: int, *headers: str) -> None:
    path = REPORT + query
    with talking(server) as talk:
        talk.say(Wanted(path, None).request(*headers))
        answer = talk.hear()
        if answer.status != 200:
            talk.fault("wrong_status", f"The status should be 200, not {answer.status}", answer.raw)
        with promise("report-type"):
            kinds = _all_of(answer, "content-type")
            if [each.partition(";")[0].strip().lower() for each in kinds] != ["text/csv"]:
                came = " and ".join(kinds) or "none"
                what = f"Content-Type should be text/csv, and is {came}"
                talk.fault("wrong_type", what, answer.raw)
        body, wanted = _plain(answer.body, answer.header("content-encoding")), report_of(rows)
        if body != wanted:
            talk.fault(
                "wrong_bytes",
                f"The report has {len(body)} bytes, and should have {len(wanted)}. "
                f"{_parting(body, wanted)}",
                answer.raw,
            )


def _parting(body: bytes, wanted: bytes) -> str:
    """Where a body begins to be another one than it should be, and how both read there."""
    both = enumerate(zip(body, wanted, strict=False))
    same = next((i for i, (a, b) in both if a != b), min(len(body), len(wanted)))
    begin = max(0, same - 30)
    return (
        f"From byte {begin} on it reads\n\n{shown(body[begin:], 60)}\n\nand should read\n\n"
        f"{shown(wanted[begin:], 60)}\n\nThe first {same} bytes are right"
    )


def _plain(body: bytes, coding: str | None) -> bytes:
    """A body without its gzip coding, as far as it has come."""
    if (coding or "identity").lower() != "gzip":
        return body
    with suppress(zlib.error):
        return zlib.decompressobj(wbits=31).decompress(body)
    return b"what came says Content-Encoding: gzip, and is none"


def _lay(server: Server, draw: Random, content: bytes, ending: str) -> SampleFile:
    path = server.root / name_of(draw, ending)
    path.write_bytes(content)
    return SampleFile(path, len(content))


def _expect_file(server: Server, path: str, wanted: SampleFile) -> None:
    try:
        download(server.url + path, wanted.path, timeout=30)
    except DownloadError as error:
        reason = str(error).partition(": ")[2]
        causes = {"cut_short": "cut_short", "unfinished": "no_end"}
        cause = causes.get(error.failure, "wrong_bytes")
        _fail(cause, server, f"GET {path}: {reason}", curl(server, path, "-o got"))


def _pours(server: Server, path: str, baseline: int, work: float = 1.0) -> None:
    """What has been sent is not kept: a client reads for a while, and little is held.

    It reads until the server has worked for so many seconds of CPU: by the clock, a server on a
    busy machine has made too little for it to show.
    """
    came, held, ended, allowed = 0, 0, True, EACH + SLACK
    enough, deadline = cpu_seconds(server) + work, Deadline(15)
    with traced(server) as trace, suppress(OSError), connected(server, PROMPT) as sock:
        sock.sendall(request_for(path))
        looked = time.monotonic()
        while piece := sock.recv(256 * KiB):
            came += len(piece)
            if (now := time.monotonic()) < looked + 0.1:
                continue
            looked, held = now, held_by(server) - baseline
            if held > allowed or cpu_seconds(server) > enough or deadline.passed:
                ended = False
                break
    line = curl(server, path, "-N") + " | head -c 64000000 > /dev/null"
    if not came:
        _fail("no_answer", server, f"GET {path}: nothing came", line)
    if ended:
        _fail("cut_short", server, f"GET {path}: after {size_text(came)} no more came", line)
    if held > allowed:
        fail(
            "holds_much",
            f"A client read {size_text(came)} of {path}. Then the server held {size_text(held)} "
            f"more than before; {size_text(allowed)} are allowed.\n{trace.line}{log_of(server)}",
            line,
        )


# LOG


class _Log:
    """The log that a server has to follow, and what has been written to it."""

    def __init__(self, server: Server, draw: Random, lines: int = 5) -> None:
        self.path = server.root / LOG_NAME
        self.content = b""
        self.path.touch()
        self.write(
            *(draw.randbytes(draw.randrange(5, 40)).hex().encode() + b"\n" for _ in range(lines))
        )

    def write(self, *lines: bytes) -> None:
        """Write whole lines, as a program that logs does."""
        with self.path.open("ab", buffering=0) as file:
            file.write(b"".join(lines))
        self.content += b"".join(lines)


@dataclass(frozen=True)
class Shortfall:
    """Why an answer is not what it should be, in one word and in a sentence."""

    kind: Literal["status", "bytes", "ended", "late", "malformed", "nothing"]
    text: str

    def cause(self, late: str, ended: str = "cut_short") -> str:
        """The cause in a lab's words: `late` if it did not come in time, `ended` at an end."""
        causes = {
            "status": "wrong_status",
            "bytes": "wrong_bytes",
            "ended": ended,
            "late": late,
            "malformed": "malformed",
            "nothing": "no_answer",
        }
        return causes[self.kind]


def _shortfall(
    raw: bytes, closed: bool, content: bytes, *, whole: bool = False, seconds: float = 0
) -> Shortfall | None:
    """What keeps the bytes of an answer from being what they should be; None if nothing does.

    They should begin with `content`, or, if `whole`, be that and end. What may still come is
    `late`, after these seconds.
    """
    answer = read_answer(raw, closed)
    if b"\r\n\r\n" in raw and answer.problem and answer.fault == "malformed":
        return Shortfall("malformed", f"{answer.problem}:\n\n{shown(raw)}\n\n")
    if answer.status not in (0, 200):
        return Shortfall("status", f"status {answer.status} came:\n\n{shown(raw)}\n\n")
    body = _plain(answer.body, answer.header("content-encoding"))
    if not content.startswith(body[: len(content)]) or (whole and len(body) > len(content)):
        told = f"the answer is not what it should be. {_parting(body, content)}"
        return Shortfall("bytes", told)
    if len(body) >= len(content) and (answer.ended or not whole):
        return None
    came = f"{len(body)} of {len(content)} bytes have come"
    if not raw and closed:
        return Shortfall("nothing", "the connection was closed, and nothing came")
    if answer.ended or closed:
        return Shortfall("ended", f"{came}, and that was the end of the answer")
    if len(body) >= len(content):
        came = f"all {came}, but no end of the answer,"
    return Shortfall("late", f"{came} in {seconds:g} s")


class _Watcher:
    """A client that reads an answer as far as it wants. A context manager: at its end it leaves.

    `buffer` is what its kernel may keep of what it has not read, and `segment` what comes at once
    at most (TCP_MAXSEG, tcp(7)), both in bytes (0: as it likes). A server's kernel chooses its own
    buffer by the segment.
    """

    def __init__(
        self,
        server: Server,
        path: str = LOG,
        *headers: str,
        buffer: int = 0,
        segment: int = 0,
    ) -> None:
        self._server = server
        self._request = request_for(path, *headers)
        self._buffer = buffer
        self._segment = segment
        self._raw = b""
        self._closed = False

    def __enter__(self) -> _Watcher:
        port = int(self._server.url.rpartition(":")[2])
        self._server.mark()
        self._sock = PatientSocket()
        if self._buffer:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        if self._segment:
            with suppress(OSError):  # not every system lets one choose it
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, self._segment)
        with suppress(OSError):
            self._sock.settimeout(PROMPT)
            self._sock.connect(("127.0.0.1", port))
            self._sock.sendall(self._request)
        return self

    def __exit__(self, *exc: object) -> None:
        self._sock.close()

    def unread(self) -> int | None:
        """What waits for this client in the server's kernel, in bytes; None if it does not tell."""
        with suppress(OSError):
            return memory.unread(self._sock.getsockname(), self._sock.getpeername())
        return None

    def sees(
        self, content: bytes, patience: float = PROMPT, *, whole: bool = False
    ) -> Shortfall | None:
        """Wait until the answer begins with this, or is this; why it does not, or None."""
        deadline = Deadline(patience)
        while True:
            problem = _shortfall(self._raw, self._closed, content, whole=whole, seconds=patience)
            if problem is None or problem.kind != "late" or (left := deadline.left) <= 0:
                return problem
            self._sock.settimeout(left)
            try:
                piece = self._sock.recv(256 * KiB)
            except TimeoutError:
                continue
            except OSError:
                piece = b""
            self._raw += piece
            self._closed = not piece

    @property
    def silent(self) -> bool:
        """Whether nothing has come, not even a status, and the connection is open."""
        return not self._raw and not self._closed

    @property
    def status(self) -> int:
        """The status of the answer; 0 if none has come."""
        return read_answer(self._raw, closed=False).status

    def headers(self, name: str) -> list[str]:
        """The values of a header of the answer, its name in lower case."""
        return _all_of(read_answer(self._raw, closed=False), name)


def log_is_live(server: Server, draw: Random) -> None:
    """What is in the log comes first, then each line when it is written, and no work between."""
    log = _Log(server, draw, lines=0)
    word = draw.randbytes(8).hex().encode()
    line = curl(server, LOG, "-N")
    with ExitStack() as stack:
        watchers: list[tuple[str, _Watcher]] = []

        def come(who: str, *headers: str) -> None:
            watchers.append((who, stack.enter_context(_Watcher(server, LOG, *headers))))

        def expect(what: str) -> None:
            for who, watcher in watchers:
                with ExitStack() as also:
                    if GZIP in who:
                        also.enter_context(promise("log-gzip"))
                    if problem := watcher.sees(log.content):
                        cause = problem.cause("late_line", "log_ends")
                        _fail(cause, server, f"GET {LOG} by {who}. {what}: {problem.text}", line)

        with promise("log-empty", late_line="five-seconds", log_ends="no-end"):
            come("a client")
            comes_to_rest(server)
            log.write(b"the first line, " + word + b"\n")
            expect("The log was empty. Then its first line was written")
        with promise("log-type"):
            kinds = watchers[0][1].headers("content-type")
            if [each.partition(";")[0].strip().lower() for each in kinds] != ["text/plain"]:
                what = f"Content-Type of {LOG} should be text/plain: {' and '.join(kinds)}"
                _fail("wrong_type", server, what, line)
        with promise("log-beginning", log_ends="no-end"):
            come("one who came later")
            expect(f"The log had {len(log.content)} bytes")
            come(f"one with {GZIP}", GZIP)
            expect(f"The log had {len(log.content)} bytes")
        odd = [b"\n", b"   \n", "the river is high: \u00e9\n".encode(), b"\xff\x00\x80\n"]
        odd += [
            b"two ends\r\n",
            b"\r\r\n",
            b"data: \x1a\x04\n",
            draw.randbytes(300).replace(b"\n", b"") + b"\n",
        ]
        for each in draw.sample(odd, len(odd)):
            with promise("any-bytes", log_ends="no-end", late_line="five-seconds"):
                log.write(each)
                expect(f"The line {each[:40]!r} was written to the log")
        with promise("each-line", log_ends="no-end"):
            time.sleep(0.3)  # time to find nothing new, which is not the end
            log.write(word + b"\n")
            expect("A line was written to the log")
            log.write(*(b"%d %b\n" % (number, word) for number in range(1000)))
            expect("1000 lines were written to the log at once")
            size = draw.randrange(200 * KiB, 300 * KiB)
            log.write(draw.randbytes(size // 2).hex().encode() + b"\n")
            expect(f"A line of {size} bytes was written to the log")
        with promise("log-rest"):
            comes_to_rest(server)
            _expect_rest(server, f"{len(watchers)} clients watched {LOG}, and nothing was written")
        with promise("no-end"):
            log.write(b"after a rest\n")
            expect("Nothing was written for more than a second, and then the line 'after a rest'")
    _expect_large_log(server, draw, log)


def _expect_rest(server: Server, story: str, seconds: float = 1.2) -> None:
    """Next to no CPU time is used for so long."""
    began, spent = time.monotonic(), cpu_seconds(server)
    time.sleep(seconds)  # on a busy machine it is longer
    spent = (cpu_seconds(server) - spent) / (time.monotonic() - began)
    if spent > BUSY / 2:
        told = f"{story}. The server used {spent:.0%} of a CPU.{log_of(server)}"
        fail("busy_loop", told, curl(server, LOG, "-N"))


def _expect_large_log(server: Server, draw: Random, log: _Log) -> None:
    """A log of tens of MiB costs a few MiB for each client, and is read once for each."""
    baseline, clients = held_by(server), 4
    block = b"".join(draw.randbytes(2000).hex().encode() + b"\n" for _ in range(50))
    log.write(*[block] * (24 * MiB // len(block)))
    file = SampleFile(log.path, len(log.content))
    with promise("log-large"):
        right_alone(server, file, MiB, LOG)
        allowed = SLACK + clients * EACH
        hold(server, file, clients, "stalled", 256 * KiB, baseline, allowed, path=LOG)
    with promise("read-once"), crowd(server, file, 2, "stalled", file.size, path=LOG) as many:
        failed = [each for each in many.arrive() if each.error is not None]
        if failed:
            what = f"2 clients asked for {LOG}, which had {size_text(file.size)}"
            cause = "late_line" if failed[0].failure == "unfinished" else "wrong_bytes"
            _fail(cause, server, f"{what}. {len(failed)} failed: {failed[0].error}")
        comes_to_rest(server)
        told = f"2 clients had all {size_text(file.size)} of {LOG}"
        read, spent = bytes_read(server.keeper, itself=False), cpu_seconds(server)
        began = time.monotonic()
        time.sleep(0.8)
        log.write(b"one line more\n")
        time.sleep(0.4)
        line = curl(server, LOG, "-N -o /dev/null")
        now = bytes_read(server.keeper, itself=False)
        if read is not None and now is not None and now - read > file.size // 2:
            seconds = time.monotonic() - began
            fail(
                "reads_again",
                f"{told}. Then one line was written. In {seconds:.1f} s the server has read "
                f"{size_text(now - read)}.{log_of(server)}",
                line,
            )
        share = (cpu_seconds(server) - spent) / (time.monotonic() - began)
        with promise("log-rest"):
            if share > BUSY / 2:
                fail("busy_loop", f"{told}. The server used {share:.0%} of a CPU.", line)
