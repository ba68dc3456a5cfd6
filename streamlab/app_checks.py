"""What lab 07 checks an app for: videos, a report made on the fly and a live log, all streamed.

Each function is one kind of check, as in `streamlab.checks`. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import NoReturn

from streamlab.checks import (
    BUSY,
    CHUNK,
    ask,
    bytes_arrive,
    connected,
    cpu_seconds,
    curl,
    dense_file,
    expect_answer,
    held_by,
    hold,
    log_of,
    name_of,
    others_are_served,
    read_answer,
    request_for,
    shown,
    state_of,
    stays_inside,
    survives_departures,
    traced,
    warm_up,
)
from streamlab.clients import download
from streamlab.errors import DownloadError
from streamlab.files import GiB, KiB, MiB, SampleFile, TiB, random_file, size_text, sparse_file
from streamlab.server import Server
from streamlab.talk import Wanted, talking
from streamlab.testing import fail

VIDEO = "video/mp4"
REPORT = "/report.csv"
REPORT_HEAD = "number,square,cube\r\n"
ENDLESS = 10**12
"""Rows of a report that nobody waits for the end of."""
LOG = "/log"
LOG_NAME = "river.log"
WATCHERS = 60
"""Clients of the log at once: more than Starlette has threads (40)."""
FEW_THREADS = 32
"""A pool that is full has had at least so many: Starlette's 40, asyncio's own fewer."""
HURRY = 0.1
"""A client who hurries has no longer pause."""
PROMPT = 5.0
"""Seconds after which an answer that had to come at once has not come."""
EACH = 4 * MiB
"""What a server may hold for a client that waits."""
SLACK = 16 * MiB
"""What it may hold besides, for what Python and the C library keep."""


def _fail(cause: str, server: Server, story: str, command: str = "") -> NoReturn:
    """End a check; what ended the server, or took its memory, is a cause of its own."""
    time.sleep(0.1)  # a server may close a connection first, and write of its error then
    if "MemoryError" in server.log() or "Cannot allocate memory" in server.log():
        cause = "whole_file"
    elif not server.running:
        cause = "died"
    fail(cause, f"{story}.{state_of(server)}", command)


# BYTES


def videos_arrive(server: Server, draw: Random) -> None:
    """Files arrive as they are, with their type and their length."""
    bytes_arrive(server, draw)
    with talking(server) as talk:
        for size, ending in ((draw.randrange(3000, 5000), ".mp4"), (0, ".mp4"), (CHUNK, ".bin")):
            file = random_file(size, name_of(draw, ending), server.root, draw.randrange(2**32))
            wanted = Wanted(server.path_of(file), file.path.read_bytes())
            for asks in ([], ["Accept-Encoding: gzip, deflate, br"]):
                talk.say(wanted.request(*asks))
                answer = talk.hear()
                coding = answer.header("content-encoding") or "identity"
                if answer.status == 200 and coding != "identity":
                    talk.fault("compressed", "A video is not compressed once more", answer.raw)
                if answer.status != 200:
                    talk.fault("wrong_status", "The status should be 200", answer.raw)
                if answer.body != wanted.body:
                    talk.fault(
                        "wrong_bytes", f"The body is not the file's {size} bytes", answer.raw
                    )
                _expect_video_head(talk.fault, answer.header, size, answer.raw)


def _expect_video_head(
    fault: Callable[..., NoReturn], header: Callable[[str], str | None], size: int, raw: bytes
) -> None:
    kind = header("content-type")
    if (kind or "").partition(";")[0].strip().lower() != VIDEO:
        fault("wrong_type", f"Content-Type should be {VIDEO}, and is {kind}", raw)
    length = header("content-length")
    if length != str(size):
        fault("no_length", f"Content-Length should be {size}, and is {length}", raw)


# WIRE


def to_the_letter(server: Server, draw: Random) -> None:
    """What is no video is refused with a real status, and HEAD is a GET without its body."""
    video = random_file(draw.randrange(3000, 5000), name_of(draw, ".mp4"), server.root)
    folder = name_of(draw, ".mp4")
    (server.root / folder).mkdir()
    (server.root / "folder").mkdir()
    there = Wanted(server.path_of(video), video.path.read_bytes())
    for name in (name_of(draw, ".mp4"), folder, "%2e%2e", f"{video.name}%00"):
        _expect_refusal(server, server.path_of(name))
    stays_inside(server, draw)
    _stays_inside_when_decoded_twice(server, draw)
    _heads(server, draw, there)
    with talking(server) as talk:
        for wanted in (there, Wanted(server.path_of(folder), None, 404), there):
            if not talk.goes_on(talk.ask(wanted)):
                break


def _expect_refusal(server: Server, path: str) -> None:
    """A status from 400 to 499; the status is what counts first, whatever follows it."""
    answer = ask(server, [request_for(path)])
    if answer.status and not 400 <= answer.status < 500:
        _fail(
            "wrong_status",
            server,
            f"Sent GET {path}. Came back:\n\n{shown(answer.raw)}\n\nThe status should be one from "
            "400 to 499",
            curl(server, path, "--path-as-is -i"),
        )
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
    huge = sparse_file(
        draw.randrange(300 * GiB, TiB), name_of(draw, ".mp4"), server.root, 2, draw.randrange(99)
    )
    small = len(there.body or b"")
    for path, size in ((there.path, small), (server.path_of(huge), huge.size)):
        with talking(server) as talk:
            talk.say(Wanted(path, None).request(method="HEAD"))
            answer = talk.hear("HEAD")
            if answer.status != 200:
                cause = "head_refused" if answer.status in (404, 405, 501) else "wrong_status"
                talk.fault(cause, f"The status should be 200, as for GET {path}", answer.raw)
            _expect_video_head(talk.fault, answer.header, size, answer.raw)
            if talk.goes_on(answer, "head_body"):
                talk.ask(there, cause="head_reads")
    with talking(server) as talk:
        talk.ask(Wanted(server.path_of(name_of(draw, ".mp4")), None, 404), method="HEAD")


# HOLD


def videos_are_not_held(server: Server, draw: Random, clients: int = 8) -> None:
    """Clients who wait cost a few MiB each, whatever the size of the video."""
    warm_up(server, draw)
    baseline = held_by(server)
    size = draw.choice([70 * GiB, 300 * GiB, TiB]) + draw.randrange(MiB)
    for video in (
        dense_file(draw.randrange(48 * MiB, 80 * MiB), name_of(draw), server.root, draw),
        sparse_file(size, name_of(draw), server.root, 6, draw.randrange(99)),
    ):
        hold(server, video, clients, "stalled", 2 * MiB, baseline, SLACK + clients * EACH)


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
    warm_up(server, draw)
    others_are_served(server, draw)
    with ExitStack() as stack:
        watchers: list[_Watcher] = []
        story = f"{WATCHERS} clients asked for {LOG}, one after the other"
        deadline = (
            time.monotonic() + 6 * PROMPT
        )  # each may wait for PROMPT, all together not so long
        for number in range(1, WATCHERS + 1):
            watchers.append(stack.enter_context(_Watcher(server)))
            left = min(PROMPT, deadline - time.monotonic())
            if problem := watchers[-1].sees(log.content, left):
                what = f"{story}. Number {number} should have got {len(log.content)} bytes of log"
                cause = _cause(problem, "pool_full" if number > FEW_THREADS else "blocks")
                _fail(cause, server, f"{what}: {problem}", curl(server, LOG, "-N"))
        story = f"{WATCHERS} clients were watching {LOG}"
        _expect_prompt(server, small, story, "blocks")
        _beside_who_hurries(server, small, story)
        with _asking(server, slow, clients=4) as waiting:
            also = (
                f"{story}, and 4 had asked for {server.path_of(slow)}, on a disk where each read "
                "takes long"
            )
            _expect_prompt(server, small, also, "blocks")
            log.write(draw.randbytes(20).hex().encode() + b"\n")
            for watcher in (watchers[0], watchers[-1]):
                if problem := watcher.sees(log.content):
                    _fail(
                        "blocks", server, f"{also}. Then a line was written to the log: {problem}"
                    )
            gate.touch()
            for sock in waiting:
                problem = _rest_of(sock, slow)
                if problem:
                    _fail("blocks", server, f"{also}. Then the disk was quick again: {problem}")


def _beside_who_hurries(server: Server, small: SampleFile, story: str) -> None:
    """Others are answered also while one never makes the server wait."""
    also = f"{story}, and one read {REPORT}?rows={ENDLESS} as fast as it could"
    for _ in range(5):  # once more where this machine stood still, so that nobody hurried
        with _hurrying(server, f"{REPORT}?rows={ENDLESS}") as pauses:
            _expect_prompt(server, small, also, "never_waits")
        if max(pauses, default=HURRY) < HURRY:
            break


def _expect_prompt(server: Server, small: SampleFile, story: str, cause: str) -> None:
    """A small video and a small report are answered."""
    for path, body in (
        (f"{REPORT}?rows=3", report_of(3)),
        (server.path_of(small), small.path.read_bytes()),
    ):
        answer = ask(server, [request_for(path)], patience=PROMPT)
        what = f"{story}. Then GET {path}"
        line = curl(server, path, "-i")
        if not answer.raw or not answer.ended:
            _fail(cause, server, f"{what} had no full answer within {PROMPT:g} s", line)
        if answer.problem or answer.status != 200 or answer.body != body:
            wrong = answer.problem or "It should be status 200 and what was asked for"
            likely = "malformed" if answer.problem else "wrong_status"
            _fail(likely, server, f"{what}. Came back:\n\n{shown(answer.raw)}\n\n{wrong}", line)


@contextmanager
def _hurrying(server: Server, path: str) -> Iterator[list[float]]:
    """A client who reads without end, as fast as it can, in a thread.

    Bound is a list of its pauses between one piece and the next. In a long one the connection
    fills, and a server that would never wait of itself has to.
    """
    pauses: list[float] = []
    with connected(server, PROMPT) as sock:

        def read() -> None:
            with suppress(OSError):
                came = None
                while sock.recv(256 * KiB):
                    before, came = came, time.monotonic()
                    if before is not None:
                        pauses.append(came - before)

        sock.sendall(request_for(path))
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
    with ExitStack() as stack:
        socks = [stack.enter_context(connected(server, PROMPT)) for _ in range(clients)]
        for sock in socks:
            sock.sendall(request_for(server.path_of(file)))
        time.sleep(0.3)
        yield socks


def _rest_of(sock: socket.socket, file: SampleFile) -> str:
    """Why an answer is not a file, or does not come; nothing if it is."""
    pieces = []
    with suppress(OSError):
        while piece := sock.recv(256 * KiB):
            pieces.append(piece)
    answer = read_answer(b"".join(pieces), closed=True)
    if answer.problem or answer.status != 200:
        return answer.problem or f"status {answer.status} came"
    return "" if answer.body == file.path.read_bytes() else "what came is not the file"


# DROP


def departures_are_noticed(server: Server, draw: Random) -> None:
    """Clients who leave a video, the report or the log leave nothing behind."""
    log = _Log(server, draw)
    endless = f"{REPORT}?rows={ENDLESS}"

    def leave() -> None:
        for path, content in ((LOG, log.content), (endless, report_of(20))):
            with ExitStack() as stack:
                for _ in range(10):
                    watcher = stack.enter_context(_Watcher(server, path))
                    if problem := watcher.sees(content):
                        cause = _cause(problem, "late_line" if path == LOG else "late_first_row")
                        _fail(cause, server, f"GET {path}: {problem}", curl(server, path))
        answer = ask(server, [request_for(f"{REPORT}?rows=3")], patience=PROMPT)
        if not answer.raw and server.running:
            story = f"10 clients took the first rows of {endless} and left"
            what = f"Then GET {REPORT}?rows=3 had no answer within {PROMPT:g} s"
            line = curl(server, endless, "--max-time 1 -o /dev/null")
            _fail("never_waits", server, f"{story}. {what}", line)

    # At once, and then nothing more: garbage that lies about is collected when others come.
    survives_departures(server, draw, clients=25, besides=leave, pace="stalled")


# CSV


def report_of(rows: int) -> bytes:
    """The report, as it has to be."""
    lines = (f"{number},{number**2},{number**3}\r\n" for number in range(1, rows + 1))
    return (REPORT_HEAD + "".join(lines)).encode()


def report_is_made_on_the_fly(server: Server, draw: Random) -> None:
    """Reports are right, whatever their length; the first rows come at once; none is kept."""
    for query, rows in (("?rows=0", 0), ("?rows=1", 1), ("", 1000), ("?rows=2501", 2501)):
        _expect_report(server, query, rows)
    _expect_report(server, "?rows=2501", 2501, "Accept-Encoding: gzip")
    for query in ("?rows=-1", "?rows=many"):
        _expect_refusal(server, REPORT + query)
    baseline = held_by(server)
    endless = f"{REPORT}?rows={ENDLESS}"
    for headers in ([], ["Accept-Encoding: gzip"]):
        with _Watcher(server, endless, *headers) as reader:
            if problem := reader.sees(report_of(100)):
                line = curl(server, endless, "-N")
                if headers and reader.silent:  # the rows came to the one before, and at once
                    story = f"A client took the first rows of {endless} and left. Then another came"
                    _fail("never_waits", server, f"{story}: {problem}", line)
                also = f" with {headers[0]}" if headers else ""
                _fail(
                    _cause(problem, "late_first_row"),
                    server,
                    f"GET {endless}{also}: {problem}",
                    line,
                )
    rows = draw.randrange(5000, 8000)  # one row at a time is slow, and right
    whole = _lay(server, draw, report_of(rows), ".csv")
    _expect_file(server, f"{REPORT}?rows={rows}", whole)
    beginning = _lay(server, draw, report_of(50_000), ".csv")
    hold(server, beginning, 4, "stalled", 32 * KiB, baseline, SLACK + 4 * EACH, path=endless)
    _pours(server, endless, baseline)


def _expect_report(server: Server, query: str, rows: int, *headers: str) -> None:
    path = REPORT + query
    with talking(server) as talk:
        talk.say(Wanted(path, None).request(*headers))
        answer = talk.hear()
        if answer.status != 200:
            talk.fault("wrong_status", f"The status should be 200, not {answer.status}", answer.raw)
        kind = answer.header("content-type")
        if (kind or "").partition(";")[0].strip().lower() != "text/csv":
            talk.fault("wrong_type", f"Content-Type should be text/csv, and is {kind}", answer.raw)
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
        cause = "cut_short" if "cut short" in reason else "wrong_bytes"
        if "not finished" in reason:
            cause = "no_end"
        _fail(cause, server, f"GET {path}: {reason}", curl(server, path, "-o got"))


def _pours(server: Server, path: str, baseline: int, work: float = 1.0) -> None:
    """What has been sent is not kept: a client reads for a while, and little is held.

    It reads until the server has worked for so many seconds of CPU: by the clock, a server on a
    busy machine has made too little for it to show.
    """
    came, held, ended, allowed = 0, 0, True, EACH + SLACK
    enough, deadline = cpu_seconds(server) + work, time.monotonic() + 15
    with traced(server) as trace, suppress(OSError), connected(server, PROMPT) as sock:
        sock.sendall(request_for(path))
        looked = time.monotonic()
        while piece := sock.recv(256 * KiB):
            came += len(piece)
            if (now := time.monotonic()) < looked + 0.1:
                continue
            looked, held = now, held_by(server) - baseline
            if held > allowed or cpu_seconds(server) > enough or now > deadline:
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

    def __init__(self, server: Server, draw: Random) -> None:
        self.path = server.root / LOG_NAME
        self.content = b""
        self.path.touch()
        self.write(*(draw.randbytes(draw.randrange(5, 40)).hex().encode() + b"\n" for _ in "12345"))

    def write(self, *lines: bytes) -> None:
        """Write whole lines, as a program that logs does."""
        with self.path.open("ab", buffering=0) as file:
            file.write(b"".join(lines))
        self.content += b"".join(lines)


class _Watcher:
    """A client of an answer that has no end. Used as a context manager: at its end it leaves."""

    def __init__(self, server: Server, path: str = LOG, *headers: str) -> None:
        self._server = server
        self._request = request_for(path, *headers)
        self._raw = b""
        self._closed = False

    def __enter__(self) -> _Watcher:
        port = int(self._server.url.rpartition(":")[2])
        self._sock = socket.socket()
        with suppress(OSError):
            self._sock.settimeout(PROMPT)
            self._sock.connect(("127.0.0.1", port))
            self._sock.sendall(self._request)
        return self

    def __exit__(self, *exc: object) -> None:
        self._sock.close()

    def sees(self, content: bytes, patience: float = PROMPT) -> str:
        """Wait until the answer begins with this; why it does not, or nothing."""
        deadline = time.monotonic() + patience
        while True:
            answer = read_answer(self._raw, self._closed)
            body = _plain(answer.body, answer.header("content-encoding"))
            if answer.status not in (0, 200):
                return f"status {answer.status} came:\n\n{shown(self._raw)}\n\nIt should be 200"
            if not content.startswith(body[: len(content)]):
                return f"the answer is not what it should be. {_parting(body, content)}"
            if len(body) >= len(content):
                return ""
            came = f"{len(body)} of {len(content)} bytes have come"
            if answer.ended or self._closed:
                return f"{came}, and that was the end of the answer"
            if (left := deadline - time.monotonic()) <= 0:
                return f"{came} in {patience:g} s"
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

    def header(self, name: str) -> str | None:
        """A header of the answer, its name in lower case."""
        return read_answer(self._raw, closed=False).header(name)


def _cause(problem: str, otherwise: str) -> str:
    """The cause of what a watcher saw: the status or the bytes, if they are wrong."""
    if problem.startswith("status "):
        return "wrong_status"
    return "wrong_bytes" if problem.startswith("the answer is not what") else otherwise


def log_is_live(server: Server, draw: Random) -> None:
    """What is in the log comes first, then each line when it is written, and no work between."""
    log = _Log(server, draw)
    words = draw.randbytes(8).hex().encode()
    odd = [
        b"\n",
        b"   \n",
        "the river is high: \u00e9\n".encode(),
        b"\xff\x00\x80\n",
        b"two ends\r\n",
    ]
    story = f"One client asked for {LOG}, one with Accept-Encoding: gzip"
    with ExitStack() as stack:
        watchers = [
            stack.enter_context(_Watcher(server, LOG, *headers))
            for headers in ([], ["Accept-Encoding: gzip"])
        ]

        def expect(what: str) -> None:
            for who, watcher in zip(("the first", "the second"), watchers, strict=False):
                if problem := watcher.sees(log.content):
                    cause = "log_ends" if "the end of the answer" in problem else "late_line"
                    cause = _cause(problem, cause)
                    _fail(cause, server, f"{story}. {what}. Of {who}: {problem}", line)

        line = curl(server, LOG, "-N")
        expect(f"The log had {len(log.content)} bytes")
        kind = watchers[0].header("content-type")
        if (kind or "").partition(";")[0].strip().lower() != "text/plain":
            _fail("wrong_type", server, f"Content-Type of {LOG} should be text/plain: {kind}", line)
        for each in draw.sample([words + b"\n", *odd], 6):
            # Time to find nothing new, which is not the end.
            time.sleep(0.1)
            log.write(each)
            expect(f"The line {each!r} was written to the log")
        log.write(*(b"%d %b\n" % (number, words) for number in range(1000)))
        expect("1000 lines were written to the log at once")
        late = stack.enter_context(_Watcher(server))
        watchers.append(late)
        if problem := late.sees(log.content):
            _fail("wrong_bytes", server, f"{story}. Then one more came: {problem}", line)
        _expect_rest(server, f"{len(watchers)} clients watched {LOG}, and nothing was written")
        log.write(b"after a rest\n")
        expect("Nothing was written for a while, and then the line 'after a rest'")
    _expect_large_log(server, draw, log)


def _expect_rest(server: Server, story: str, seconds: float = 0.7) -> None:
    began, spent = time.monotonic(), cpu_seconds(server)
    time.sleep(seconds)  # on a busy machine it is longer
    spent = (cpu_seconds(server) - spent) / (time.monotonic() - began)
    if spent > BUSY / 2:
        fail("busy_loop", f"{story}. The server used {spent:.0%} of a CPU.{log_of(server)}")


def _expect_large_log(server: Server, draw: Random, log: _Log) -> None:
    baseline, clients = held_by(server), 4
    block = b"".join(draw.randbytes(2000).hex().encode() + b"\n" for _ in range(50))
    log.write(*[block] * (24 * MiB // len(block)))
    file = SampleFile(log.path, len(log.content))
    allowed = SLACK + clients * EACH
    hold(server, file, clients, "stalled", 256 * KiB, baseline, allowed, path=LOG)
