"""What lab 04 checks a server for: that each client can tell where each answer ends.

Each function is one kind of check, as in `streamlab.checks`: it takes a running server (or what
starts one) and a source of random draws, and ends in `fail(cause, evidence)`. Most of them hold
conversations over raw sockets, byte for byte; `http.client`, `requests` and `curl` have their say
too. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import http.client
import itertools
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import NoReturn

from streamlab.checks import (
    RawAnswer,
    curl,
    dense_file,
    expect_answer,
    name_of,
    read_answer,
    shown,
    state_of,
    survives_departures,
)
from streamlab.files import GiB, KiB, MiB, TiB, size_text, sparse_file
from streamlab.server import Server
from streamlab.talk import CLOSING, PATIENCE, Talk, Wanted, options_of, talking
from streamlab.testing import fail

# What is asked for


def laid(server: Server, draw: Random, size: int, ending: str = ".bin") -> Wanted:
    """A new file of `size` bytes below the server's root; one can read where each is from."""
    name = name_of(draw, ending)
    lines = (f"byte {at} of {name} \u00b7\n".encode() for at in range(0, size, 20))
    body = b"".join(lines)[:size]
    (server.root / name).write_bytes(body)
    return Wanted(f"/{name}", body)


def missing(draw: Random) -> Wanted:
    """A file that is not there."""
    return Wanted(f"/{name_of(draw)}", None, 404)


def report_of(lines: int) -> Wanted:
    """The report that the lab's program makes on the fly."""
    return Wanted(f"/report/{lines}", b"".join(report_lines(range(lines))))


def report_lines(numbers: Iterable[int]) -> Iterator[bytes]:
    """The pieces of a report that are not empty."""
    for number in numbers:
        if number % 10 != 7:
            yield b"sensor %d: %d\n" % (number, number * number % 997)


# WIRE

TYPES = {
    ".html": {"text/html"},
    ".css": {"text/css"},
    ".js": {"text/javascript", "application/javascript"},
    ".txt": {"text/plain"},
    ".png": {"image/png"},
    ".pdf": {"application/pdf"},
    ".mp4": {"video/mp4"},
    ".tar.gz": {"application/gzip", "application/x-gzip", "application/octet-stream", ""},
    "": {"application/octet-stream", ""},
}
"""The content types of a file by its ending; an empty one: none need be said."""

_DATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} "
    r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)


def headers_are_right(launch: Callable[..., Server], draw: Random) -> None:
    """A file's answer has its length, its type, and the date in GMT, wherever the server runs."""
    server = launch(environment={"TZ": "XST-5:30"})  # half a day's work away from Greenwich
    sizes = [0, 1, 300 * KiB, *(draw.randrange(2000, 9000) for _ in TYPES)][: len(TYPES)]
    for size, (ending, types) in zip(draw.sample(sizes, len(TYPES)), TYPES.items(), strict=True):
        wanted = laid(server, draw, size, ending)
        answer = expect_answer(server, wanted.path, 200, wanted.body)
        line = curl(server, wanted.path, "-i")
        story = f"Sent GET {wanted.path}. Came back:\n\n{shown(answer.raw)}\n\n"
        if not answer.raw.startswith(b"HTTP/1.1"):
            fail("old_version", f"{story}The status line should begin with HTTP/1.1.", line)
        if answer.header("content-length") != str(size):
            fail("no_length", f"{story}There should be Content-Length: {size}.", line)
        came = (answer.header("content-type") or "").partition(";")[0].strip().lower()
        if came not in types:
            right = " or ".join(sorted(types - {""})) + ", or be left out" * ("" in types)
            fail("wrong_type", f"{story}The Content-Type should be {right}.", line)
        _date_is_right(answer, story, line)
    for wanted in (missing(draw), Wanted("/", None, 404)):
        answer = expect_answer(server, wanted.path, 404)
        story = f"Sent GET {wanted.path}. Came back:\n\n{shown(answer.raw)}\n\n"
        _date_is_right(answer, story, curl(server, wanted.path, "-i"))


def _date_is_right(answer: RawAnswer, story: str, line: str) -> None:
    """`Date` is an IMF-fixdate, and it is now (RFC 9110, sections 5.6.7 and 6.6.1)."""
    date = answer.header("date") or ""
    if not _DATE.fullmatch(date):
        fail("wrong_date", f"{story}Date should look like Tue, 15 Nov 1994 08:12:31 GMT.", line)
    now = datetime.now(UTC)
    with suppress(ValueError):
        told = datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        if abs(told - now) < timedelta(minutes=5) and told.strftime("%a") == date[:3]:
            return
    now_text = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
    fail("wrong_date", f"{story}Date should be {now_text}. (TZ of the server: UTC+5:30.)", line)


# STEP


def stays_in_step(server: Server, draw: Random) -> None:
    """One connection serves many requests, whatever the files are; so do real clients'."""
    files = [laid(server, draw, size, ".html") for size in (0, 1, 1, 0, 700, 70_000)]
    files += [laid(server, draw, draw.randrange(2 * MiB, 3 * MiB), ".mp4")]
    close_up = Wanted(f"/close-{name_of(draw, '.png')}", draw.randbytes(900))
    (server.root / close_up.path[1:]).write_bytes(close_up.body or b"")
    files.append(close_up)
    (server.root / "folder").mkdir(exist_ok=True)
    errors = [missing(draw), Wanted("/folder", None, 404), missing(draw)]
    course = [*draw.sample(files, len(files)), *draw.sample([*files, *errors], len(files) + 3)]
    _converse(server, course)
    _by_http_client(server, draw.sample(files, len(files)))
    _by_requests(server, draw.sample([*files, *errors], len(files) + 3), "out_of_step")
    _by_curl(server, draw.sample(files, len(files)), connections=1)


def _converse(server: Server, course: Sequence[Wanted]) -> None:
    """Ask for all, one after the other, over as few connections as the server allows."""
    todo = list(course)
    while todo:
        with talking(server) as talk:
            while todo:
                wanted = todo.pop(0)
                referer = "Referer: http://127.0.0.1/close-up.html"
                if not talk.goes_on(talk.ask(wanted, referer)):
                    break
            else:
                talk.say(course[0].request("Connection: close"))
                talk.expect(course[0])
                talk.ends("stays_open", "The request said Connection: close")


def _by_http_client(
    server: Server,
    files: Sequence[Wanted],
    methods: Sequence[str] = ("GET",),
    cause: str = "out_of_step",
) -> None:
    """Python's own client, which keeps its connection if it may."""
    port = int(server.url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
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


def _by_requests(server: Server, course: Sequence[Wanted], cause: str) -> None:
    """A session of requests."""
    import requests

    asked: list[str] = []
    with requests.Session() as session:
        session.trust_env = False
        for wanted in course:
            asked.append(wanted.path)
            try:
                response = session.get(server.url + wanted.path, timeout=PATIENCE)
            except Exception as error:  # whatever it stumbles over
                _client_failed(server, "requests", asked, type(error).__name__, cause)
            refused = wanted.status == 404 and 400 <= response.status_code < 500
            if response.status_code != wanted.status and not refused:
                _client_failed(
                    server, "requests", asked, f"status {response.status_code} came", cause
                )
            if wanted.body is not None and response.content != wanted.body:
                what = f"{len(response.content)} bytes came, not those of the file"
                _client_failed(server, "requests", asked, what, cause)


def _client_failed(
    server: Server, client: str, asked: Sequence[str], what: str, cause: str
) -> NoReturn:
    """A real client's story: what it had asked for, one after the other, and what happened."""
    log = server.log()
    if "MemoryError" in log or "Cannot allocate memory" in log:
        cause = "whole_file"
    paths = ", ".join(asked[-3:])
    urls = " ".join(f"http://127.0.0.1:PORT{path}" for path in asked[-2:])
    fail(
        cause or "out_of_step",
        f"{client} asked for {paths} over one connection (request {len(asked)} of it): {what}."
        f"{state_of(server)}",
        f"curl -sS -v -o /dev/null {urls.replace(' ', ' -o /dev/null ')}",
    )


def _by_curl(
    server: Server,
    files: Sequence[Wanted],
    options: Sequence[str] = (),
    connections: int = 0,
    status: Sequence[int] = (200,),
    cause: str = "out_of_step",
) -> None:
    """curl, if there is one, asked for several files at once; it may open so many connections."""
    program = shutil.which("curl")
    if program is None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        command = [program, "-sS", "--noproxy", "*", "-m", "15", *options]
        command += ["-w", "%{http_code} %{num_connects}\n"]
        for number, wanted in enumerate(files):
            command += ["-o", f"{scratch}/{number}", server.url + wanted.path]
        ran = subprocess.run(command, capture_output=True, text=True)
        words = [line.split() for line in ran.stdout.splitlines()]
        bodies = [
            path.read_bytes() if (path := Path(scratch, str(number))).is_file() else b""
            for number in range(len(files))
        ]
    told = ran.stderr.strip() or "it ended with status 0"
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
            f"the server closes them, though nobody has asked for that.{state_of(server)}",
            shell.replace("-sS", "-sS -v"),
        )


# SPLIT


def requests_in_pieces(server: Server, draw: Random) -> None:
    """Requests may come a byte at a time, many at once, one and a half at once, or with no end."""
    small, other = laid(server, draw, 500, ".css"), laid(server, draw, 40_000, ".js")
    large = laid(server, draw, draw.randrange(MiB, 2 * MiB), ".png")
    with talking(server) as talk:
        talk.ask(small)
    _byte_by_byte(server, small, other)
    _pipelined(server, draw, [large, small, other, small, report_of(20), large, other, small])
    _one_and_a_half(server, other, small)
    _long_head(server, small)
    _endless_head(server, small)


def _byte_by_byte(server: Server, *files: Wanted) -> None:
    with talking(server) as talk:
        for wanted in files:
            pieces = [bytes([byte]) for byte in wanted.request("Accept: */*")]
            talk.say(*pieces, pause=0.001, how="a byte at a time")
            talk.expect(wanted, cause="one_recv")


def _pipelined(server: Server, draw: Random, course: Sequence[Wanted]) -> None:
    """As a client that doesn't wait (RFC 9112, section 9.3.2)."""
    with talking(server) as talk:
        requests = [wanted.request() for wanted in course[:-1]]
        requests.append(course[-1].request("Connection: close"))
        talk.say(b"".join(requests), how=f"in one piece, {len(requests)} requests")
        for number, wanted in enumerate(course):
            answer = talk.hear(cause="lost_request" if number else "")
            if (answer.status, answer.body) != (200, wanted.body):
                others = [each.path for each in course if each.body == answer.body]
                talk.fault(
                    "wrong_order" if others else "lost_request",
                    f"Answer number {number + 1} should be {wanted.path}, and is "
                    + (f"{others[0]}" if others else "something else"),
                    answer.raw,
                )
        talk.ends("stays_open", "The last request said Connection: close")


def _one_and_a_half(server: Server, first: Wanted, second: Wanted) -> None:
    with talking(server) as talk:
        later = second.request("Connection: close")
        cut = later.index(b"\r\n") + 9
        talk.say(first.request() + later[:cut], how="in one piece, a request and a half")
        talk.expect(first)
        talk.say(later[cut:], how="the other half")
        talk.expect(second, cause="lost_request")
        talk.ends("stays_open", "The last request said Connection: close")


def _long_head(server: Server, wanted: Wanted) -> None:
    with talking(server) as talk:
        cookies = [f"X-Padding-{number}: {'x' * 400}" for number in range(36)]
        request = wanted.request(*cookies)
        pieces = [request[:5000], request[5000:10_000], request[10_000:]]
        talk.say(*pieces, pause=0.05, how="with 15 KB of headers, in three pieces")
        talk.expect(wanted, cause="one_recv")


def _endless_head(server: Server, wanted: Wanted, most: int = 4 * MiB) -> None:
    """The server has had enough of a head before it is as long as `most`."""
    block = b"".join(b"X-%06d: %s\r\n" % (number, b"x" * 1000) for number in range(64))
    sent = 0
    with talking(server) as talk:
        talk.say(wanted.request()[:-2], how="the beginning of a head, and header lines without end")
        with suppress(OSError):
            while sent < most and not _has_news(talk.sock):
                talk.sock.sendall(block)
                sent += len(block)
        if not _has_news(talk.sock, PATIENCE):
            talk.fault(
                "no_limit",
                f"{size_text(sent)} of header lines later there is no answer, and the connection "
                "is still open",
            )
    expect_answer(server, wanted.path, 200, wanted.body)


def _has_news(sock: socket.socket, seconds: float = 0) -> bool:
    """Whether the other side says something within some time, or closes."""
    readable, _, _ = select.select([sock], [], [], seconds)
    return bool(readable)


# HEAD


def head_is_get_without_body(server: Server, draw: Random) -> None:
    """HEAD is answered like GET, without a body, and what follows is in step."""
    after = laid(server, draw, 600, ".txt")
    files = [laid(server, draw, size, ".html") for size in (0, 1, 5000)]
    files.append(laid(server, draw, 300 * KiB, ".png"))
    for wanted in draw.sample([*files, missing(draw), report_of(30)], len(files) + 2):
        _head_like_get(server, wanted, after)
    large = sparse_file(TiB + draw.randrange(GiB), name_of(draw, ".mp4"), server.root, 2)
    with talking(server) as talk:
        answer = talk.ask(Wanted(large.url, None), method="HEAD", cause="head_reads")
        if answer.header("content-length") != str(large.size):
            talk.fault("head_differs", f"The file has {large.size} bytes", answer.raw)
        talk.ask(after, cause="head_reads")
    _by_http_client(server, [*files, after], methods=("HEAD", "GET"), cause="head_body")


def _head_like_get(server: Server, wanted: Wanted, after: Wanted) -> None:
    with talking(server) as talk:
        get = talk.ask(wanted)
    with talking(server) as talk:
        head = talk.ask(wanted, method="HEAD")
        for name in ("content-length", "content-type"):
            if head.header(name) != get.header(name):
                talk.fault(
                    "head_differs",
                    f"GET says {name}: {get.header(name)}, HEAD says {head.header(name)}",
                    head.raw,
                )
        if talk.goes_on(head, extra="head_body"):
            talk.ask(after, cause="head_body")


# ERROR


def errors_keep_in_step(server: Server, draw: Random) -> None:
    """What is refused is refused with an answer, and no body is taken for the next request."""
    file = laid(server, draw, 600, ".html")
    for line in ("HELLO", f"GET {file.path} twice HTTP/1.1", f"GET {file.path} HTTP/one"):
        allowed = (400, 505) if line.endswith("HTTP/one") else (400,)
        with talking(server) as talk:
            talk.say(f"{line}\r\nHost: 127.0.0.1\r\n\r\n".encode())
            _is_refused(talk, allowed, f"{line!r} is no request line", file)
    for method in draw.sample(["DELETE", "PATCH", "BREW"], 3):
        with talking(server) as talk:
            talk.say(file.request(method=method))
            _is_refused(talk, (405, 501), f"The method is {method}", file)
    _by_curl(server, [file], ["-X", "DELETE"], status=(405, 501), cause="wrong_status")
    _skips_bodies(server, draw, file)
    _refuses_lengths(server, file)
    _skips_a_river(server, draw, file)


def _is_refused(talk: Talk, allowed: Sequence[int], why: str, after: Wanted) -> None:
    """The next answer has one of these statuses, and `after` can be had over the connection."""
    answer = talk.hear()
    if answer.status not in allowed:
        statuses = " or ".join(map(str, allowed))
        talk.fault("wrong_status", f"{why}: the status should be {statuses}", answer.raw)
    if answer.status == 405 and answer.header("allow") is None:
        talk.fault("no_allow", "With 405 comes a header that says what is allowed", answer.raw)
    if talk.goes_on(answer):
        talk.ask(after)


def _skips_bodies(server: Server, draw: Random, file: Wanted) -> None:
    """A request's body is no request, though it looks like one."""
    hidden = laid(server, draw, 300, ".txt")
    body = hidden.request()
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    plain = f"Content-Length: {len(body)}"
    for method, header, content, pause in (
        ("POST", plain, body, 0.0),
        ("GET", plain.lower().replace(" ", ""), body, 0.15),
        ("PUT", "Transfer-Encoding: chunked", chunks, 0.0),
    ):
        request = file.request("Content-Type: text/plain", header, method=method)
        with talking(server) as talk:
            pieces = [request, content] if pause else [request + content]
            talk.say(*pieces, pause=pause, how=f"{method} with a body that looks like a request")
            answer = talk.hear()
            if answer.status < 400 and (method, answer.body) != ("GET", file.body):
                talk.fault("wrong_status", f"{method} should be refused", answer.raw)
            if "close" in options_of(answer):  # who does not read a body may close, after a 200 too
                talk.ends("stays_open", "The answer says Connection: close", "body_as_request")
            else:
                talk.say(file.request("Connection: close"))
                talk.expect(file, cause="body_as_request")
                talk.ends("stays_open", "The request said Connection: close", "body_as_request")


def _refuses_lengths(server: Server, file: Wanted) -> None:
    """A Content-Length that is no number says nothing about where the next request begins."""
    for lengths in (["+5"], ["0_5"], ["-5"], ["five"], ["5", "6"]):
        with talking(server) as talk:
            headers = [f"Content-Length: {length}" for length in lengths]
            talk.say(file.request(*headers) + b"hello")
            answer = talk.hear()
            if answer.status != 400:
                what = "Two lengths" if len(lengths) > 1 else f"{lengths[0]!r}"
                talk.fault("bad_length", f"{what}: no length. The status should be 400", answer.raw)
            talk.ends("bad_length", "Nobody knows where the next request begins", "bad_length")


def _skips_a_river(server: Server, draw: Random, file: Wanted) -> None:
    """A body that is larger than the server's memory goes by, or its connection is closed."""
    size = draw.randrange(280, 320) * MiB
    with talking(server) as talk:
        request = file.request(f"Content-Length: {size}", method="POST")
        talk.say(request, how=f"and then a body of {size_text(size)}")
        with suppress(OSError):
            for _ in range(size // MiB):
                talk.sock.sendall(bytes(MiB))
        answer = talk.hear(cause="whole_body")
        if answer.status < 400:
            talk.fault("wrong_status", "POST should be refused", answer.raw)
        if talk.goes_on(answer, extra="body_as_request"):
            talk.ask(file, cause="whole_body")


# CLOSE


def closes_when_asked(server: Server, draw: Random) -> None:
    """Connection: close is honoured; HTTP/1.0 gets what it can understand, and an end."""
    file, report = laid(server, draw, 5000, ".html"), report_of(draw.randrange(100, 200))
    asked = "The request asked for that"
    for option in ("Connection: close", "connection: Close", "Connection: TE, close"):
        for wanted in (file, missing(draw), report):
            with talking(server) as talk:
                talk.ask(wanted, option)
                talk.ends("stays_open", asked)
    with talking(server) as talk:
        talk.say(file.request("Connection: close") + file.request(), how="in one piece")
        talk.expect(file)
        talk.ends("stays_open", asked, "answers_after_close")
    for wanted in (file, report, missing(draw)):
        with talking(server) as talk:
            _ask_as_old_client(talk, wanted)
            talk.ends("http10_open", "An HTTP/1.0 client has not asked for more")
    _old_client_asks_for_more(server, file, report)
    _by_curl(server, [file, report, file], ["--http1.0"], cause="http10_chunked")


def _ask_as_old_client(talk: Talk, wanted: Wanted, *headers: str, cause: str = "") -> RawAnswer:
    talk.say(wanted.request(*headers, version="HTTP/1.0"))
    answer = talk.expect(wanted, cause=cause)
    if answer.header("transfer-encoding") is not None:
        talk.fault("http10_chunked", "HTTP/1.0 has no chunked coding", answer.raw)
    return answer


def _old_client_asks_for_more(server: Server, file: Wanted, report: Wanted) -> None:
    """With keep-alive an HTTP/1.0 client may be kept, and then has to be told so."""
    with talking(server) as talk:
        answer = _ask_as_old_client(talk, file, "Connection: keep-alive")
        if "keep-alive" in options_of(answer):
            _ask_as_old_client(talk, file, "Connection: Keep-Alive")
        else:
            why = "The answer does not say Connection: keep-alive, which tells an HTTP/1.0 client"
            talk.ends("http10_open", f"{why} that it may go on")
    with talking(server) as talk:
        _ask_as_old_client(talk, report, "Connection: keep-alive", cause="http10_open")
        talk.ends("http10_open", "Without a length, the end of the connection is the body's end")


# CHUNKED


def reports_are_chunked(server: Server, draw: Random) -> None:
    """What is made on the fly comes in chunks, as it is made; what follows is in step."""
    file = laid(server, draw, 800, ".css")
    reports = [report_of(lines) for lines in (0, 1, 9, 30, draw.randrange(800, 3000))]
    with talking(server) as talk:
        for wanted in (reports[-1], *draw.sample(reports, len(reports))):
            talk.say(wanted.request())
            answer = talk.hear()
            if (answer.header("transfer-encoding") or "").lower() != "chunked":
                talk.fault("not_chunked", "There is no Transfer-Encoding: chunked", answer.raw)
            if (answer.status, answer.body) != (200, wanted.body):
                short = (wanted.body or b"").startswith(answer.body)
                talk.fault(
                    "empty_chunk" if short else "wrong_bytes",
                    f"{len(answer.body)} bytes came up to the last chunk. They are not the "
                    f"{len(wanted.body or b'')} of {wanted.path}",
                    answer.raw,
                )
            talk.goes_on(answer)
            talk.ask(file)
    course = draw.sample([*reports, file, file], len(reports) + 2)
    _by_http_client(server, course)
    _by_requests(server, course, "bad_chunks")
    _by_curl(server, course, connections=1)
    _endless_report(server)
    with talking(server) as talk:
        talk.ask(file)


def _endless_report(server: Server) -> None:
    """The first lines come, though the last one is years away."""
    with talking(server) as talk:
        talk.patience = 15
        talk.say(Wanted("/report/1000000000000", None).request())
        came = talk.take(256 * KiB, "whole_report")
        body = read_answer(came[: 32 * KiB], closed=False).body
        wanted = b"".join(report_lines(range(5000)))
        if len(body) < KiB or not wanted.startswith(body):
            talk.fault("bad_chunks", "The body does not begin with the report's lines", came)


# RACE


def what_breaks_is_broken_off(server: Server, draw: Random) -> None:
    """A file that changes and a source that fails are never covered up."""
    file = laid(server, draw, 700, ".txt")
    _grows(server, draw, file)
    _shrinks(server, draw, file)
    _fails(server, draw, file)


@contextmanager
def _halfway(server: Server, draw: Random) -> Iterator[tuple[Talk, Wanted, Path]]:
    """A large file of which a client has seen the head, and the server has not read the end."""
    file = dense_file(draw.randrange(48 * MiB, 56 * MiB), name_of(draw), server.root, draw)
    wanted = Wanted(file.url, file.path.read_bytes())
    with talking(server) as talk:
        # What waits in large buffers of the kernel the server would have read already.
        talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * KiB)
        talk.say(wanted.request())
        talk.peek(b"\r\n\r\n")
        time.sleep(0.1)
        yield talk, wanted, file.path


def _grows(server: Server, draw: Random, after: Wanted) -> None:
    with _halfway(server, draw) as (talk, wanted, path):
        with path.open("ab") as file:
            file.write(b"GROWN " * 20_000)
        talk.note("and the file grew by 120000 bytes while it was sent")
        talk.expect(wanted)
        talk.ask(after, cause="past_length")


def _shrinks(server: Server, draw: Random, after: Wanted) -> None:
    with _halfway(server, draw) as (talk, wanted, path):
        os.truncate(path, MiB)
        talk.note("and the file was cut to 1 MiB while it was sent")
        _is_broken_off(talk, wanted.body or b"")
    with talking(server) as talk:
        talk.ask(after)


def _is_broken_off(talk: Talk, before: bytes) -> None:
    """The connection ends before the body is complete, unless that is the file as it was before."""
    size = len(before)
    talk.patience = CLOSING
    raw, why = talk.everything(size + 64 * KiB)
    head, blank, body = raw.partition(b"\r\n\r\n")
    told = f"{len(body)} of {size} bytes of the body came"
    if at := raw.find(b"HTTP/1.", 5) + 1:
        talk.fault("second_head", "In the middle of the body a status line came", raw[at - 50 :])
    if len(body) >= size and body != before:
        talk.fault("padded", f"{told}: they can't be the file's", head + blank)
    if len(body) < size and "stays open" in why:
        talk.fault("left_waiting", f"{told}, then {why}", head + blank)


def _fails(server: Server, draw: Random, after: Wanted) -> None:
    """A source that fails in the middle: no last chunk, no second answer, no waiting."""
    lines = draw.randrange(2000, 4000)
    for failing in (lines // 2, 0):
        with talking(server) as talk:
            talk.patience = CLOSING
            path = f"/report/{lines}?fail={failing}"
            talk.say(Wanted(path, None).request(*([] if failing else ["Connection: close"])))
            raw, why = talk.everything(MiB, b"\r\n0\r\n\r\n")
            answer = read_answer(raw, closed="stays open" not in why)
            if not failing and answer.status >= 500 and answer.ended:
                continue
            if (at := raw.find(b"HTTP/1.", 5)) > 0:
                talk.fault("second_head", "In the body a status line came", raw[at - 50 :])
            if answer.header("transfer-encoding") is None and raw:
                talk.fault("not_chunked", "Such an end is no error to the client", raw)
            if answer.ended:
                talk.fault("swallowed", "The last chunk says that this was all of it", raw[-200:])
            if "stays open" in why:
                talk.fault("left_waiting", why, raw[-200:])
    _breaks_for_curl(server, f"/report/{lines}?fail={lines // 2}")
    with talking(server) as talk:
        talk.ask(after)


def _breaks_for_curl(server: Server, path: str) -> None:
    """curl, if there is one, says that the transfer failed (RFC 9112, section 8)."""
    if program := shutil.which("curl"):
        command = [program, "-sS", "--noproxy", "*", "-m", "15", "-o", os.devnull]
        ran = subprocess.run([*command, server.url + path], capture_output=True, text=True)
        if ran.returncode == 0:
            what = f"The source of GET {path} failed in the middle, and curl took the answer"
            fail("swallowed", f"{what} for complete.{state_of(server)}", curl(server, path))


# LIVE and DROP


def idle_clients_cost_nothing(server: Server, draw: Random, clients: int = 32) -> None:
    """While many connections rest, and some clients are slow to ask or to read, others go on."""
    file = laid(server, draw, 60_000, ".png")
    large = sparse_file(draw.randrange(64 * MiB, 80 * MiB), name_of(draw), server.root, 2)
    with ExitStack() as stack:
        talks = [stack.enter_context(talking(server)) for _ in range(clients)]
        for number, talk in enumerate(talks):
            talk.ask(file, cause="one_at_a_time" if number else "")
        slow = stack.enter_context(talking(server))
        slow.say(file.request()[:20], how="half a request")
        for _ in range(2):
            stalled = stack.enter_context(talking(server))
            stalled.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * KiB)
            stalled.say(Wanted(large.url, None).request())
            stalled.peek(b"\r\n\r\n", "one_at_a_time")
            with talking(server) as talk:
                talk.note(
                    f"{clients} other connections had an answer and are at rest, one client has "
                    "sent half a request, and one does not read its answer"
                )
                talk.ask(file, cause="one_at_a_time")
        for talk in draw.sample(talks, 5):
            if not _has_news(talk.sock):  # a server may close what rests
                talk.ask(file, cause="one_at_a_time")


def departures_leave_nothing(server: Server, draw: Random) -> None:
    """Clients leave between requests, in the middle of one, and in the middle of an answer."""
    file = laid(server, draw, 400 * KiB)
    upload = file.request("Content-Length: 1000", method="POST") + b"begin"

    def leave() -> None:
        for _ in range(12):
            with talking(server) as talk:
                talk.ask(file)
            for half in (file.request()[:25], file.request() * 3):
                with talking(server) as talk:
                    talk.say(half)
            with talking(server) as talk:
                talk.say(upload)
                with suppress(OSError):  # the server may have closed already
                    talk.sock.shutdown(socket.SHUT_WR)
                _has_news(talk.sock, 1)

    survives_departures(server, draw, clients=20, besides=leave)
