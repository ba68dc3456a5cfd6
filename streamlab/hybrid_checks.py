"""What lab 05 checks a hybrid file server for: the same answers on both sides of its threshold.

Each function is one kind of check, as in `streamlab.checks`. Which path a file takes can't be seen
from outside, and is not judged; what a client gets, and what the server holds, is. Sizes are in
bytes, times in seconds.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import NoReturn

import psutil

from streamlab import checks
from streamlab.checks import (
    RawAnswer,
    ask,
    ask_over,
    comes_to_rest,
    connected,
    curl,
    expect_answer,
    held_by,
    hold,
    least_held,
    log_of,
    name_of,
    read_answer,
    request_for,
    shown,
    state_of,
    stays_in_step,
    stays_inside,
    traced,
    warm_up,
)
from streamlab.files import GiB, KiB, MiB, SampleFile, random_file, size_text, sparse_file
from streamlab.memory import descriptors, group_members
from streamlab.server import Server
from streamlab.testing import fail

THRESHOLD = MiB
CACHED = 64 * MiB
"""What a server may keep from one request for the next, in all."""
SLACK = 32 * MiB
"""What the allocator may keep besides: some for each thread."""
PATIENCE = 4.0
"""Seconds without a byte after which an answer counts as hanging."""
TOGETHER = 10.0
"""The same where a hundred clients wait for each other."""
QUIET = 0.3
"""Seconds after an answer in which what does not belong to it would have come."""

TYPES = {
    ".html": {"text/html"},
    ".css": {"text/css"},
    ".js": {"text/javascript", "application/javascript"},
    ".json": {"application/json"},
    ".txt": {"text/plain"},
    ".png": {"image/png"},
    ".jpg": {"image/jpeg"},
    ".pdf": {"application/pdf"},
    ".mp3": {"audio/mpeg"},
    ".mp4": {"video/mp4"},
    ".zip": {"application/zip"},
    ".PDF": {"application/pdf"},
    ".min.js": {"text/javascript", "application/javascript"},
    ".qqxyzz": {"application/octet-stream"},
    "": {"application/octet-stream"},
}
"""The content types that are right for an ending."""

Headers = dict[str, str]
"""Those that the lab asks for, their names in lower case."""


# BYTES


def both_sides(launch: Callable[..., Server], draw: Random, scratch: Path) -> None:
    """Files at the threshold arrive as they are, also through sockets that take little."""
    sizes = (0, 1, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 2 * THRESHOLD)
    checks.bytes_arrive(launch(), draw, sizes)
    checks.short_transfers(launch, draw, scratch, [THRESHOLD + draw.randrange(1, 9999)])


# HEADERS


def same_headers(launch: Callable[..., Server], draw: Random) -> None:
    """Small and large files have the same five headers, and they say what is so."""
    server = launch(environment={"TZ": "XST-5:30"})  # half a day's work away from Greenwich
    page = random_file(1000, name_of(draw, ".html"), server.root)
    first, since = head_of(server, page.url).header("date"), time.monotonic()
    for ending in draw.sample(list(TYPES), len(TYPES)):
        sizes = (draw.randrange(200, 9000), THRESHOLD + draw.randrange(1, 2 * MiB))
        _same_for(
            server,
            ending,
            *(sparse_file(size, name_of(draw, ending), server.root, 1) for size in sizes),
        )
    asked = time.monotonic()  # before its answer, and `since` after one: it has seen all that time
    while head_of(server, page.url).header("date") == first:
        if asked > since + 4:
            fail(
                "stopped_clock",
                f"Sent GET {page.url} for four seconds, several times. Date was {first} in all "
                "answers.",
                _curl_head(server, page),
            )
        time.sleep(0.1)
        asked = time.monotonic()


def _same_for(server: Server, ending: str, small: SampleFile, large: SampleFile) -> None:
    """A small and a large file of the same ending."""
    heads = {file: head_of(server, file.url) for file in (small, large)}
    story = "\n\n".join(
        f"Sent GET {file.url} ({size_text(file.size)}). Came back:\n\n{shown(head.raw, 500)}"
        for file, head in heads.items()
    )
    problems = {
        file: problem
        for file, head in heads.items()
        if (problem := _problem_of(head, file, ending))
    }
    if problems:
        [(file, (cause, what)), *others] = problems.items()
        where = "In both answers" if others else f"In the answer for {file.url} alone"
        cause = cause if others else "paths_differ"
        fail(cause, f"{story}\n\n{where}: {what}.", _curl_head(server, file))
    servers = [head.header("server") for head in heads.values()]
    if servers[0] != servers[1]:
        what = f"Server is {servers[0]} for the small file, {servers[1]} for the large one"
        fail("paths_differ", f"{story}\n\n{what}.", _curl_head(server, large))


def _curl_head(server: Server, file: SampleFile) -> str:
    return curl(server, file.url, "-o /dev/null -D -")


def head_of(server: Server, path: str, method: str = "GET") -> RawAnswer:
    """The head of an answer; of the body nothing is awaited. The check fails if none comes."""
    raw = b""
    with suppress(OSError), connected(server) as sock:
        sock.sendall(request_for(path).replace(b"GET", method.encode(), 1))
        raw = _head_from(sock)
    answer = read_answer(raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if raw else b"", closed=False)
    if answer.problem:
        _no_answer(server, f"Sent {method} {path}.", answer, curl(server, path, "-i"))
    return answer


def _head_from(sock: socket.socket) -> bytes:
    """Bytes up to the empty line at least; fewer if no more come."""
    raw = b""
    with suppress(OSError):
        while b"\r\n\r\n" not in raw and (piece := sock.recv(16 * KiB)):
            raw += piece
    return raw


def _no_answer(server: Server, story: str, answer: RawAnswer, line: str) -> NoReturn:
    cause = "malformed" if answer.raw else "no_answer"
    state = state_of(server)  # which takes a moment, in which an end becomes known
    if "MemoryError" in server.log():
        cause = "whole_file"
    elif not server.running:
        cause = "died"
    came = f"Came back:\n\n{shown(answer.raw)}\n\n" if answer.raw else ""
    problem = answer.problem[:1].upper() + answer.problem[1:]
    fail(cause, f"{story} {came}{problem}.{state}", line)


def _problem_of(head: RawAnswer, file: SampleFile, ending: str) -> tuple[str, str] | None:
    """What is wrong with the headers of a file, and why one may think so; None if nothing is."""
    if head.status != 200:
        return "wrong_status", f"the status is {head.status}, not 200"
    for name in ("Content-Type", "Content-Length", "Cache-Control", "Date", "Server"):
        values = [value for key, value in head.headers if key.lower() == name.lower()]
        if len(values) != 1 or not values[0]:
            many = "stands twice" if len(values) > 1 else "is missing"
            return "header_missing", f"{name} {many}"
    if head.header("content-length") != str(file.size):
        return "wrong_length", "Content-Length is not the size of the file"
    kind = (head.header("content-type") or "").partition(";")[0].strip().lower()
    if kind not in TYPES[ending]:
        right = " or ".join(sorted(TYPES[ending]))
        whose = f"a name that ends in {ending}" if ending else "a name without an ending"
        return "wrong_type", f"Content-Type should be {right}, for {whose}"
    if directives(head) != {"public", "max-age=3600"}:
        return "wrong_cache", "Cache-Control should be public, max-age=3600"
    if problem := date_problem(head.header("date") or "", time.time()):
        return "wrong_date", problem
    return None


def directives(answer: RawAnswer) -> set[str]:
    """What `Cache-Control` says (RFC 9111, section 5.2), in lower case."""
    return {each.strip().lower() for each in (answer.header("cache-control") or "").split(",")}


def date_problem(date: str, now: float) -> str:
    """What is wrong with a `Date` that was sent at `now`; empty if nothing is.

    It is an IMF-fixdate, in GMT (RFC 9110, sections 5.6.7 and 6.6.1).
    """
    with suppress(ValueError):  # no date at all, or one in another zone
        told = parsedate_to_datetime(date)
        if format_datetime(told, usegmt=True) == date:
            ahead = told.timestamp() - now
            side = "ahead" if ahead > 0 else "behind"
            zone = "the server ran with the time zone UTC+5:30"
            return f"Date is {abs(ahead):.0f} s {side} ({zone})" if abs(ahead) > 10 else ""
    return "Date is not written like Tue, 15 Nov 1994 08:12:31 GMT"


# HEAD


def head_is_like_get(server: Server, draw: Random) -> None:
    """HEAD has the status and the headers of GET, and nothing after them."""
    small = random_file(draw.randrange(2000, 9000), name_of(draw, ".html"), server.root)
    large = random_file(THRESHOLD + draw.randrange(1, MiB), name_of(draw, ".pdf"), server.root)
    huge = sparse_file(300 * GiB + draw.randrange(MiB), name_of(draw, ".mp4"), server.root, 1)
    gone = f"/{name_of(draw)}"
    with ThreadPoolExecutor(4) as pool:
        paths = [small.url, large.url, huge.url, gone]
        jobs = [pool.submit(_head_of_path, server, path, small, path != gone) for path in paths]
        for job in jobs:
            job.result()


def _head_of_path(server: Server, path: str, next_one: SampleFile, is_file: bool) -> None:
    """HEAD for a path is like GET for it, and over the same connection the next one comes right."""
    get, line = head_of(server, path), curl(server, path, "-I")
    if is_file and get.status != 200:
        story = f"Sent GET {path}. Came back:\n\n{shown(get.raw)}"
        fail("wrong_status", f"{story}\n\nThe status should be 200.{state_of(server)}", line)
    story, raw = f"Sent HEAD {path}.", b""
    with suppress(OSError), connected(server, PATIENCE) as sock:
        sock.sendall(f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        raw = _head_from(sock)
        top, blank, extra = raw.partition(b"\r\n\r\n")
        head = read_answer(top + blank, closed=False)
        if head.problem:
            _no_answer(server, story, head, line)
        with suppress(OSError):
            sock.settimeout(QUIET)
            extra = extra or sock.recv(KiB)
        story = f"{story} Came back:\n\n{shown(head.raw + extra, 500)}"
        if extra:
            what = "After the headers came more: HEAD is answered without a body"
            fail("head_body", f"{story}\n\n{what}.", line)
        _expect_like(get, head, f"{story}\n\nFor GET came\n\n{shown(get.raw, 500)}", line)
        _expect_in_step(server, sock, next_one, story, line)
    if not raw:
        _no_answer(server, story, read_answer(b"", closed=True), line)


def _expect_like(get: RawAnswer, head: RawAnswer, story: str, line: str) -> None:
    if head.status != get.status:
        fail("head_differs", f"{story}\n\nThe status should be {get.status}.", line)
    for name in ("Content-Type", "Content-Length", "Cache-Control", "Server"):
        # A length of an error need not be told (RFC 9110, section 8.6).
        optional = name == "Content-Length" and get.status != 200
        if (value := head.header(name.lower())) != get.header(name.lower()):
            if optional and value is None:
                continue
            fail("head_differs", f"{story}\n\n{name} is not the same.", line)
    if head.header("date") is None:
        fail("head_differs", f"{story}\n\nDate is missing.", line)


def _expect_in_step(
    server: Server, sock: socket.socket, file: SampleFile, story: str, line: str
) -> None:
    """What is asked for next over the same connection comes right, unless it has been closed."""
    second = ask_over(sock, [request_for(file.url)])
    right = (second.status, second.body) == (200, file.path.read_bytes())
    if second.raw and (second.problem or not right):
        fail(
            "head_body",
            f"{story}\n\nThen sent GET {file.url} over the same connection. Came back:\n\n"
            f"{shown(second.raw)}\n\n{second.problem or 'That is not the file'}.{state_of(server)}",
            line,
        )


# ERRORS


def real_errors(server: Server, draw: Random) -> None:
    """What can't be served is refused in a whole answer that nobody keeps for an hour."""
    content = draw.randbytes(draw.randrange(2000, 3000))
    name = name_of(draw, ".html")
    (server.root / name).write_bytes(content)
    large = random_file(THRESHOLD + draw.randrange(1, MiB), name_of(draw, ".pdf"), server.root)
    (server.root / "folder").mkdir()
    os.mkfifo(server.root / (pipe := name_of(draw)))
    expect_answer(server, f"/{name}", 200, content)

    no_file, refused, some_error = range(404, 405), range(400, 500), range(400, 600)
    expect_error(server, f"/{name_of(draw, '.html')}", no_file, "there is no such file")
    expect_error(server, f"/folder/{name_of(draw)}", no_file, "there is no such file")
    expect_error(server, "/folder", refused, "that is a folder")
    expect_error(server, f"/{pipe}", refused, "that is a named pipe (made with mkfifo), not a file")
    expect_error(server, f"/{300 * 'n'}", some_error, "no file can have so long a name")
    expect_error(server, "/null%00.html", some_error, "no file's name can have a NUL in it")
    stays_inside(server, draw)
    stays_in_step(server, name, content)
    for file in draw.sample([SampleFile(server.root / name, len(content)), large], 2):
        _cannot_be_opened(server, file)
    expect_answer(server, large.url, 200, large.path.read_bytes())
    expect_answer(server, f"/{name}", 200, content)


def expect_error(server: Server, path: str, statuses: range, why: str) -> None:
    """A path is refused in a whole answer with one of these statuses."""
    shortened = path if len(path) < 80 else f"{path[:20]}... ({len(path)} letters)"
    answer = ask(server, [request_for(path)], patience=PATIENCE)
    _is_error(server, answer, f"Sent GET {shortened}", statuses, why, curl(server, path, "-i"))


def _is_error(
    server: Server, answer: RawAnswer, sent: str, statuses: range, why: str, line: str
) -> None:
    story = f"{sent}: {why}. Came back:\n\n{shown(answer.raw, 500)}\n\n"
    if not answer.raw:
        _no_answer(server, f"{sent}: {why}.", answer, line)

    def problem() -> tuple[str, str] | None:
        if answer.problem:
            return "malformed", answer.problem
        if not answer.ended:
            return "no_end", f"After {PATIENCE:g} s the answer had no end"
        if answer.status not in statuses:
            some = f"from {statuses[0]} to {statuses[-1]}" if len(statuses) > 1 else "404"
            return "wrong_status", f"The status should be {some}"
        if not answer.body:
            return "bare_error", "There is no body: a person would see an empty page"
        for name in ("Content-Type", "Content-Length", "Date", "Server"):
            if not answer.header(name.lower()):
                return "bare_error", f"{name} is missing"
        if bad := date_problem(answer.header("date") or "", time.time()):
            return "wrong_date", bad
        if "max-age=3600" in directives(answer):
            return "kept_error", "Cache-Control lets everybody keep this answer for an hour"
        return None

    if found := problem():
        fail(found[0], f"{story}{found[1]}.{state_of(server)}", line)


def _cannot_be_opened(server: Server, file: SampleFile) -> None:
    """A file that is there but can't be opened, for want of descriptors, is a server's error."""
    comes_to_rest(server)  # the connection of the last one has been put away
    before = len(descriptors(server.keeper))
    sent = f"Left the server without a free descriptor, so that open fails. Sent GET {file.url}"
    with suppress(OSError), connected(server, PATIENCE) as sock:
        deadline = time.monotonic() + PATIENCE
        while len(descriptors(server.keeper)) <= before and time.monotonic() < deadline:
            time.sleep(0.01)
        comes_to_rest(server)  # it has done with the connection what it does at first
        with no_descriptors(server):
            answer = ask_over(sock, [request_for(file.url)], patience=PATIENCE)
        if answer.status == 200 and answer.body == file.path.read_bytes():
            return  # it did not need one, which is no mistake
        why = "the file is there, and the server fails to open it"
        if answer.status == 200:
            story = f"{sent}: {why}. Came back:\n\n{shown(answer.raw, 500)}\n\n"
            fail("head_first", f"{story}{answer.problem or 'And then nothing'}.{state_of(server)}")
        _is_error(server, answer, sent, range(500, 600), why, "")
        return
    _no_answer(server, f"{sent}.", read_answer(b"", closed=True), "")


@contextmanager
def no_descriptors(server: Server) -> Iterator[None]:
    """For a while no process of a server can open anything (prlimit(2), `RLIMIT_NOFILE`).

    What is open stays open, and can be used.
    """
    try:
        limits = psutil.Process(server.pid).rlimit(psutil.RLIMIT_NOFILE)
    except psutil.Error:  # it has ended, and will be found so
        yield
        return
    _limit_descriptors(server, (3, limits[1]))  # one below it could not be polled (poll(2), EINVAL)
    try:
        yield
    finally:
        _limit_descriptors(server, limits)


def _limit_descriptors(server: Server, limits: tuple[int, int]) -> None:
    for member in group_members(server.keeper):
        if member != server.keeper:
            with suppress(psutil.Error):
                psutil.Process(member).rlimit(psutil.RLIMIT_NOFILE, limits)


# HOLD


def holds_little(server: Server, draw: Random, clients: int = 32, each: int = 4 * MiB) -> None:
    """Large begins at a megabyte: what is larger is held in part only, and nothing is hoarded."""
    warm_up(server, draw)
    baseline = held_by(server)
    # Neither is small, though a few of the first would fit into memory. The kernel takes up to
    # 5.6 MiB of a file off the server's hands: of one that is no larger, nothing would be held.
    for size in (draw.randrange(8 * MiB, 9 * MiB), draw.randrange(24 * MiB, 200 * MiB)):
        file = sparse_file(size, name_of(draw), server.root, 2, draw.randrange(99))
        hold(server, file, clients, "stalled", MiB, baseline, clients * each)
    _keeps_little(server, draw, baseline)


def _keeps_little(server: Server, draw: Random, baseline: int) -> None:
    """Many files are asked for, one after the other, each once: who keeps them all, hoards."""
    folder = server.root / name_of(draw, "")
    folder.mkdir()
    # Enough of either to be seen where the others are not kept.
    smalls = [draw.randrange(950 * KiB, MiB) for _ in range(150)]
    sizes = [*smalls, *(draw.randrange(7 * MiB, 9 * MiB) for _ in range(18))]
    asked, problem = 0, ""
    with traced(server) as trace:
        for number, size in enumerate(draw.sample(sizes, len(sizes))):
            file = sparse_file(size, f"{number}.png", folder, 1, draw.randrange(2**32))
            asked += size
            if problem := _take(server, f"/{folder.name}/{file.name}", size):
                break
        held = least_held(server, baseline + CACHED + SLACK)
    story = f"Asked for {number + 1} files of 1 to 9 MiB ({size_text(asked)} in all), each once"
    if held > baseline + CACHED + SLACK or "MemoryError" in server.log():
        more = f"{story}. Then the server held {size_text(held - baseline)} more than before"
        kept = f"{size_text(CACHED)} may be kept between requests"
        fail("hoards", f"{more}; {kept}.\n{trace.line}{log_of(server)}")
    if problem:
        fail("cut_short", f"{story}. The last answer {problem}.\n{trace.line}{state_of(server)}")


def _take(server: Server, path: str, size: int) -> str:
    """Download a file and look at nothing but its length; what went wrong, or nothing."""
    left, buffer = 0, bytearray(256 * KiB)
    with suppress(OSError), connected(server, PATIENCE) as sock:
        sock.sendall(request_for(path))
        raw = _head_from(sock)
        left = size - len(raw.partition(b"\r\n\r\n")[2]) if raw else size
        while left > 0 and (count := sock.recv_into(buffer)):
            left -= count
        return f"lacked {size_text(left)}" if left > 0 else ""
    return "broke off" if left else "did not come"


# RACE


def survives_changes(server: Server, draw: Random) -> None:
    """A file may change between two requests, while it is sent, and before it is opened."""
    _changed_between(server, draw)
    for change in draw.sample(("shrinks", "grows", "is replaced"), 3):
        _changed_in_flight(server, draw, change)
    small, large = 300 * KiB, 3 * MiB
    lengths = [(9 * KiB, small), (small, large), (large, small), (large, 2 * MiB), (small, 700)]
    with ThreadPoolExecutor(len(lengths)) as pool:
        jobs = [
            pool.submit(_changed_before_open, server, Random(draw.random()), before, after)
            for before, after in lengths
        ]
        for job in jobs:
            job.result()
    warm_up(server, draw)


def _changed_between(server: Server, draw: Random) -> None:
    """The second of two requests gets the file as it is then."""
    name = name_of(draw, ".css")
    old, new = draw.randbytes(5000), draw.randbytes(5000)
    for content in (old, new):
        other = server.root / f"new-{name}"
        other.write_bytes(content)
        other.replace(server.root / name)
        for _ in range(2):
            answer = ask(server, [request_for(f"/{name}")])
            if content is new and answer.body == old:
                fail(
                    "stale",
                    f"GET /{name} was sent twice. Then the file was replaced by another one of the "
                    "same length, and GET was sent again. The old content came.",
                    curl(server, f"/{name}"),
                )
        time.sleep(0.05)  # a change that no clock of a file system sees is nobody's fault
    expect_answer(server, f"/{name}", 200, new)


_CHANGED = {
    "shrinks": "shrank to 16 MiB",
    "grows": "grew by 3 MiB",
    "is replaced": "was replaced by another one",
}


def _changed_in_flight(server: Server, draw: Random, change: str) -> None:
    """A client takes a part of a large file and waits; the file changes; the client goes on."""
    old = draw.randbytes(MiB) * 24 + draw.randbytes(draw.randrange(99, 9999))
    file = server.root / name_of(draw, ".zip")
    file.write_bytes(old)
    line = curl(server, f"/{file.name}", "--limit-rate 1M -o got")
    with waiting_client(server, f"/{file.name}") as (sock, came):
        if change == "shrinks":
            # By whole pages: what sendfile has given to the socket is the page itself.
            os.truncate(file, 16 * MiB)
        elif change == "grows":
            with file.open("ab") as appended:
                appended.write(draw.randbytes(3 * MiB))
        else:
            other = server.root / name_of(draw)
            other.write_bytes(draw.randbytes(MiB) * 24)
            other.replace(file)
        body, ended = _rest_of(sock, came, len(old))
    story = (
        f"A client took 1 MiB of /{file.name} ({len(old)} bytes) and waited; then the file "
        f"{_CHANGED[change]}, and the client took the rest. "
        f"It got {len(body)} bytes of body"
    )
    same = same_length(body, old)
    if same < min(len(body), len(old)):
        cause = "mixed_versions" if change == "is replaced" else "padded"
        what = f"; from byte {same} on they were never in the file that the answer began with"
        fail(cause, f"{story}{what}.{state_of(server)}", line)
    if len(body) > len(old):
        fail("past_length", f"{story}: more than Content-Length says.{state_of(server)}", line)
    if len(body) < len(old) and change != "shrinks":
        what = "and no more" if ended else f"and for {PATIENCE:g} s no more"
        fail("cut_short", f"{story}, {what}.{state_of(server)}", line)
    if len(body) < len(old) and not ended:
        what = f"; for {PATIENCE:g} s no more came, and the connection stayed open"
        fail("left_waiting", f"{story}{what}.{state_of(server)}", line)
    time.sleep(0.1)  # its end would be known by then
    if not server.running:
        fail("dies_on_change", f"{story}.{state_of(server)}", line)


def same_length(body: bytes | bytearray, wanted: bytes) -> int:
    """How many bytes at the beginning are the same."""
    if wanted.startswith(body) or body.startswith(wanted):
        return min(len(body), len(wanted))
    low, high = 0, min(len(body), len(wanted))
    while high - low > 1:  # the beginnings of length `low` are the same, those of `high` are not
        middle = (low + high) // 2
        low, high = (middle, high) if body[:middle] == wanted[:middle] else (low, middle)
    return low


@contextmanager
def waiting_client(server: Server, path: str) -> Iterator[tuple[socket.socket, bytes]]:
    """A client that took 1 MiB of an answer's body and has not closed; with what it took."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KiB)
        sock.settimeout(PATIENCE)
        raw = b""
        with suppress(OSError):
            sock.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            while len(raw) < MiB and (piece := sock.recv(64 * KiB)):
                raw += piece
        answer = read_answer(raw, closed=False)
        if answer.problem or len(answer.body) < MiB // 2:
            problem = answer.problem or f"no more came within {PATIENCE:g} s"
            fail(
                "no_answer" if not raw else "cut_short",
                f"Sent GET {path}. Came back:\n\n{shown(raw)}\n\n{problem}.{state_of(server)}",
                curl(server, path),
            )
        yield sock, answer.body


def _rest_of(sock: socket.socket, came: bytes, wanted: int) -> tuple[bytes, bool]:
    """The body, and what comes within QUIET s after `wanted` bytes; whether the server closed."""
    body, ended = bytearray(came), False
    with suppress(TimeoutError):
        while not ended and len(body) < 2 * wanted:
            sock.settimeout(PATIENCE if len(body) < wanted else QUIET)
            try:
                piece = sock.recv(256 * KiB)
            except ConnectionError:
                piece = b""
            body += piece
            ended = not piece
    return bytes(body), ended


def _changed_before_open(server: Server, draw: Random, before: int, after: int) -> None:
    """A file is rewritten when the server may have looked at it, and is about to open it."""
    file = random_file(before + draw.randrange(99), name_of(draw, ".js"), server.root)
    new = draw.randbytes(after + draw.randrange(99))
    answer, broken_off = read_answer(b"", closed=True), False
    with Lease(file.path) as lease, suppress(OSError), connected(server, PATIENCE) as sock:
        sock.sendall(f"GET {file.url} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        if not lease.awaited(sock, PATIENCE):
            return  # it does not open the file, or nobody can hold it up here
        lease.rewrite(new)
        lease.let_go()
        asked = time.monotonic()
        answer = ask_over(sock, [], patience=PATIENCE)
        broken_off = not answer.raw and time.monotonic() < asked + PATIENCE
    story = (
        f"Sent GET {file.url} ({file.size} bytes). When the server was about to open the file, "
        f"it was rewritten; it has {len(new)} bytes now"
    )
    line = curl(server, file.url, "-i")
    if not answer.raw:
        if broken_off and server.running:
            return  # it has seen the change
        _no_answer(server, f"{story}.", answer, line)
    story = f"{story}. Came back:\n\n{shown(answer.raw, 400)}\n\n"
    told, body = answer.header("content-length") or "", answer.body
    short = told.isdecimal() and int(told) > len(body)
    if 500 <= answer.status < 600 and answer.ended:
        return
    if answer.status != 200 or not told.isdecimal():
        fail("wrong_status", f"{story}It should be the file, or an error of the server's.", line)
    if not new.startswith(body):
        at = same_length(body, new)
        many = f"{len(body) - at} bytes" if at == len(new) else f"what begins at byte {at}"
        cause = "past_length" if len(body) > int(told) else "padded"
        fail(cause, f"{story}Of the {len(body)} bytes of body, {many} are not the file's.", line)
    if len(body) > int(told):
        fail("past_length", f"{story}{answer.problem}.", line)
    if short and "only" not in answer.problem:
        fail("left_waiting", f"{story}{int(told) - len(body)} bytes never come.", line)
    if not short and len(body) < len(new):
        what = f"The first {len(body)} of {len(new)} bytes came, and pass for the whole file"
        fail("stale_length", f"{story}{what}.", line)


class Lease:
    """Holds up whoever opens a file, until it is let go (fcntl(2), `F_SETLEASE`; Linux).

    A look at the file, with stat(2), is not held up. Without leases nobody is.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR)

    def __enter__(self) -> Lease:
        import fcntl

        with suppress(OSError):  # not every file system has them
            # The kernel tells the holder by a signal. This one is ignored by default.
            fcntl.fcntl(self._descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        return self

    def __exit__(self, *exc: object) -> None:
        self.let_go()
        os.close(self._descriptor)

    def awaited(self, sock: socket.socket, timeout: float) -> bool:
        """Whether somebody is held up before `timeout` seconds and before `sock` has an answer."""
        import fcntl

        deadline = time.monotonic() + timeout
        if fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK:
            return False
        while time.monotonic() < deadline:
            if fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) != fcntl.F_WRLCK:
                return True
            if select.select([sock], [], [], 0.002)[0]:
                return False
        return False

    def rewrite(self, content: bytes) -> None:
        """Give the file another content, in place."""
        os.ftruncate(self._descriptor, len(content))
        os.pwrite(self._descriptor, content, 0)

    def let_go(self) -> None:
        """Let the held up go on; harmless when nobody is."""
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


# MIXED


CROWD = (
    (".html", 20_000, 50),
    (".css", 100_000, 15),
    (".js", 100_000, 15),
    (".pdf", 5_000_000, 20),
)
"""Endings, sizes in bytes, and how many users ask for such a file."""


def serves_a_mixed_crowd(server: Server, draw: Random) -> None:
    """A hundred users at once, of pages, styles, scripts and documents, get what they asked for.

    A head that is wrong for one who comes alone is not judged here.
    """
    users: list[_User] = []
    together = threading.Barrier(sum(count for _, _, count in CROWD))
    for ending, size, count in CROWD:
        for turn in range(4):
            file = random_file(size + turn, name_of(draw, ending), server.root, turn)
            alone = _problem_of(head_of(server, file.url), file, ending)
            users += [_User(file, ending, alone is None, together) for _ in range(turn, count, 4)]
    with traced(server) as trace, ThreadPoolExecutor(len(users)) as pool:
        for user in draw.sample(users, len(users)):
            pool.submit(user.visit, server)
            time.sleep(0.002)  # not all at once: that would test the length of the accept queue
    failed = [user for user in users if user.cause]
    if not failed:
        return
    first = next((user for user in failed if user.story), failed[0])
    cause, state = first.cause, state_of(server)
    if "MemoryError" in server.log():
        cause = "whole_file"
    elif not server.running:
        cause = "died"
    fail(
        cause,
        "A hundred clients came at once: 50 for pages of 20 KB, 30 for styles and scripts of "
        "100 KB, 20 for documents of 5 MB. Each waited with its first bytes until all had theirs. "
        f"GET {first.file.url}: {first.story or 'it waited in vain.'}\n{trace.line}{state}",
        curl(server, first.file.url, "-D - -o got"),
    )


@dataclass
class _User:
    """One of a crowd, who takes the first bytes, waits for all the others, and takes the rest."""

    file: SampleFile
    ending: str
    looks_at_head: bool
    together: threading.Barrier
    cause: str = ""
    """Why the visit failed; empty if it did not."""
    story: str = ""
    """What happened; empty for one who only waited for others that failed."""

    def visit(self, server: Server) -> None:
        """Ask for the file, and find out what becomes of it."""
        try:
            with connected(server, TOGETHER) as sock:
                self.together.wait(TOGETHER)  # so that all ask in the same moment
                self._take(sock)
        except threading.BrokenBarrierError:
            self.cause = "one_at_a_time"
        except TimeoutError:
            self._fail("one_at_a_time", f"nothing came for {TOGETHER:g} s.")
        except OSError as error:
            self._fail("cut_short", f"the connection broke ({type(error).__name__}).")

    def _take(self, sock: socket.socket) -> None:
        sock.sendall(request_for(self.file.url))
        raw = b""
        while b"\r\n\r\n" not in raw and (piece := sock.recv(16 * KiB)):
            raw += piece
        top, blank, rest = raw.partition(b"\r\n\r\n")
        head, body = read_answer(top + blank, closed=False), bytearray(rest)
        problem = _problem_of(head, self.file, self.ending) if self.looks_at_head else None
        if head.problem:
            self._fail("malformed" if raw else "no_answer", f"{head.problem}.")
        elif problem:
            self._fail("mixed_up", f"{problem[1]}. Came:\n\n{shown(head.raw, 500)}\n")
        else:
            self.together.wait(TOGETHER)
            wanted = self.file.path.read_bytes()
            while len(body) < len(wanted) and (piece := sock.recv(256 * KiB)):
                body += piece
            if (same := same_length(body, wanted)) < len(body):
                self._fail("mixed_up", f"byte {same} of the body is not the file's.")
            elif same < len(wanted):
                self._fail("cut_short", f"{same} of {len(wanted)} bytes came.")

    def _fail(self, cause: str, story: str) -> None:
        self.cause, self.story = cause, story
        self.together.abort()


# DROP


def survives_departures(server: Server, draw: Random) -> None:
    """Clients that leave halfway leave nothing behind, on neither path."""

    def leave() -> None:
        for began in (b"", b"GET /begun.html HT") * 10:
            with suppress(OSError), checks.connected(server, PATIENCE) as sock:
                sock.sendall(began)

    checks.survives_departures(server, draw, clients=40, also=[THRESHOLD], besides=leave)
