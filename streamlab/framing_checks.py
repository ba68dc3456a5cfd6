"""What lab 04 checks a server for: that each client can tell where each answer ends.

Each function is one kind of check, as in `streamlab.checks`: it takes a running server (or what
starts one) and a source of random draws, and ends in `fail(cause, evidence)`. Most of them hold
conversations over raw sockets, byte for byte; `http.client`, `requests` and `curl` have their say
too. What forms a space is drawn from `streamlab.request_forms`. Sizes are in bytes, times in
seconds.
"""

from __future__ import annotations

import http.client
import itertools
import os
import re
import select
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import NoReturn

from hypothesis import strategies as st

from streamlab import request_forms as forms
from streamlab.checks import (
    RawAnswer,
    curl,
    dense_file,
    name_of,
    read_answer,
    shown,
    state_of,
    survives_departures,
)
from streamlab.examples import for_all
from streamlab.files import GiB, KiB, MiB, TiB, size_text, sparse_file
from streamlab.patience import Deadline, PatientConnection
from streamlab.server import Server, out_of_memory
from streamlab.talk import CLOSING, PATIENCE, Talk, Wanted, options_of, talking
from streamlab.testing import CheckFailed, fail, promise
from streamlab.tools import command, find_tool


def conversing(server: Server, **renamed: str) -> AbstractContextManager[Talk]:
    """A conversation, with this lab's names for causes."""
    return talking(server, renamed)


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


def headers_are_right(
    launch: Callable[..., Server], draw: Random, language: Mapping[str, str] | None = None
) -> None:
    """A file's answer has its length, its type, and the date in GMT, wherever the server runs.

    `language` are variables of the environment that make a system write dates in another language.
    """
    # Half a day's work away from Greenwich.
    server = launch(environment={"TZ": "XST-5:30", **(language or {})})
    sizes = [0, 1, 300 * KiB, *(draw.randrange(2000, 9000) for _ in TYPES)][: len(TYPES)]
    for size, (ending, types) in zip(draw.sample(sizes, len(TYPES)), TYPES.items(), strict=True):
        wanted = laid(server, draw, size, ending)
        with promise("get-file"):
            with conversing(server) as talk:
                answer = talk.ask(wanted, "Connection: close")
            line = curl(server, wanted.path, "-i")
            story = f"Sent GET {wanted.path}. Came back:\n\n{shown(answer.raw)}\n\n"
            if not answer.raw.startswith(b"HTTP/1.1"):
                fail("old_version", f"{story}The status line should begin with HTTP/1.1.", line)
            if answer.header("content-length") != str(size):
                fail("no_length", f"{story}There should be Content-Length: {size}.", line)
        came = (answer.header("content-type") or "").partition(";")[0].strip().lower()
        with promise({".tar.gz": "type-packed", "": "type-unknown"}.get(ending, "type")):
            if came not in types:
                right = " or ".join(sorted(types - {""})) + ", or be left out" * ("" in types)
                fail("wrong_type", f"{story}The Content-Type should be {right}.", line)
        _date_is_right(answer, story, line)
    _each_answer_has_a_date(server, wanted)
    _looks_at_no_other_header(server, laid(server, draw, 3000, ".txt"), report_of(20))


def _date_is_right(answer: RawAnswer, story: str, line: str) -> None:
    """`Date` is an IMF-fixdate, and it is now (RFC 9110, sections 5.6.7 and 6.6.1)."""
    date = answer.header("date")
    with promise("date"):
        if date is None:
            fail("no_date", f"{story}There is no Date.", line)
    with promise("date-form"):
        told = None
        with suppress(ValueError):
            told = datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        if told is None or not _DATE.fullmatch(date) or told.strftime("%a") != date[:3]:
            fail("wrong_date", f"{story}Date should look like Tue, 15 Nov 1994 08:12:31 GMT.", line)
    with promise("date-zone"):
        now = datetime.now(UTC)
        if abs(told - now) > timedelta(minutes=5):
            now_text = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
            where = "(TZ of the server: UTC+5:30.)"
            fail("wrong_date", f"{story}Date should be {now_text}. {where}", line)


def _each_answer_has_a_date(server: Server, file: Wanted) -> None:
    """Also those to HEAD, to a report, and to what is refused."""
    for request in (
        file.request("Connection: close", method="HEAD"),
        Wanted("/report/3", None).request("Connection: close"),
        Wanted(f"{file.path}.gone", None).request("Connection: close"),
        file.request("Connection: close", method="POST"),
        file.request("Content-Length: five"),
        b"HELLO\r\n\r\n",
    ):
        with conversing(server) as talk:
            talk.say(request)
            answer = talk.hear("HEAD" if request.startswith(b"HEAD") else "GET")
        if 200 <= answer.status < 500:
            line = request.partition(b"\r")[0].decode()
            story = f"Sent {line}. Came back:\n\n{shown(answer.raw)}\n\n"
            _date_is_right(answer, story, "")


def _looks_at_no_other_header(server: Server, *files: Wanted) -> None:
    """A whole request gets a whole answer, whatever it says besides."""
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    for header in (
        "Range: bytes=0-1",
        "If-None-Match: *",
        f"If-Modified-Since: {now}",
        'If-Match: "none"',
        "Expect: 100-continue",
        "Accept: image/x-none",
        "Accept-Encoding: gzip, identity;q=0",
    ):
        for wanted in files:
            with promise("other-headers"), conversing(server) as talk:
                talk.ask(wanted, header, "Connection: close", cause="other_headers")


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
    _right_alone(server, "stays-open", files)
    course = [*draw.sample(files, len(files)), *draw.sample([*files, *errors], len(files) + 3)]
    _converse(server, course)
    with promise("stays-open"):
        _by_http_client(server, draw.sample(files, len(files)))
        _by_requests(server, draw.sample([*files, *errors], len(files) + 3), "out_of_step")
        _by_curl(server, draw.sample(files, len(files)), connections=1)
        _ever_more(server, files[4], draw.randrange(1100, 1200))


def _right_alone(server: Server, name: str, files: Sequence[Wanted]) -> None:
    """Each answer is right when its request is alone: else that is what is wrong."""
    for wanted in dict.fromkeys(files):
        with promise(name, stays_open="close"), conversing(server) as talk:
            talk.ask(wanted, "Connection: close")


def _converse(server: Server, course: Sequence[Wanted]) -> None:
    """Ask for all, one after the other, over as few connections as the server allows."""
    todo = list(course)
    while todo:
        with conversing(server) as talk:
            refused = False
            while todo:
                wanted = todo.pop(0)
                referer = "Referer: http://127.0.0.1/close-up.html"
                step = "framed" if refused or wanted.status >= 400 else "stays-open"
                with promise(step, closes="says-close" if refused else "stays-open"):
                    answer = talk.ask(wanted, referer)
                refused = answer.status >= 400
                step = "framed" if refused else "stays-open"
                with promise(step, closes="after-200", stays_open="says-close"):
                    if not talk.goes_on(answer):
                        break
            else:
                with promise("framed" if refused else "stays-open", stays_open="close"):
                    talk.say(course[0].request("Connection: close"))
                    talk.expect(course[0])
                    talk.ends("stays_open", "The request said Connection: close")


def _ever_more(server: Server, wanted: Wanted, number: int, at_once: int = 25) -> None:
    """One connection serves more requests than any limit that servers have is likely to be."""
    with conversing(server) as talk:
        talk.note(f"{number} requests, {at_once} at a time")
        for _ in range(0, number, at_once):
            talk.say_again(wanted.request(), at_once)
            for _ in range(at_once):
                talk.goes_on(talk.expect(wanted))


def _by_http_client(
    server: Server,
    files: Sequence[Wanted],
    methods: Sequence[str] = ("GET",),
    cause: str = "out_of_step",
) -> None:
    """Python's own client, which keeps its connection if it may."""
    port = int(server.url.rpartition(":")[2])
    connection = PatientConnection(port, PATIENCE)
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


def _by_curl(
    server: Server,
    files: Sequence[Wanted],
    options: Sequence[str] = (),
    connections: int = 0,
    status: Sequence[int] = (200,),
    cause: str = "out_of_step",
) -> None:
    """curl, if there is one, asked for several files at once; it may open so many connections."""
    if find_tool("curl") is None:
        return
    with tempfile.TemporaryDirectory() as scratch:
        asking = command("curl", "-sS", "-m", "15", *options)
        asking += ["-w", "%{http_code} %{num_connects}\n"]
        for number, wanted in enumerate(files):
            asking += ["-o", f"{scratch}/{number}", server.url + wanted.path]
        ran = subprocess.run(asking, capture_output=True, text=True)
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
    files = [small, other, large, report_of(20)]
    _right_alone(server, "in-pieces", files)
    for wanted in (small, other):
        _byte_by_byte(server, wanted)
    _long_heads(server, draw, small)
    course = [large, small, other, small, files[3], large, other, small]
    _heap(server, [("GET", wanted) for wanted in course], [])
    # Each head is as long as it may be, and many are more than any server reads at once.
    _heap(server, [("GET", small)] * 20, [], forms.padding(12 * KiB, 3))
    _one_and_a_half(server, other, small)
    methods = st.sampled_from(["GET", "GET", "HEAD"])
    requests = st.lists(st.tuples(methods, st.sampled_from(files)), min_size=1, max_size=5)
    # After an error a server may close, and that may cost answers which are still on their way.
    last = st.lists(st.tuples(methods, st.just(missing(draw))), max_size=1)
    heap = st.tuples(st.builds(list.__add__, requests, last), forms.cuts())
    for_all(heap, draw, lambda drawn: _heap(server, *drawn), examples=30)
    with promise("endless-head"):
        for beginning, block, how in (
            (small.request()[:-2], _header_lines(64), "header lines without end"),
            (small.request()[:-2] + b"X-Long: ", b"x" * 64 * KiB, "a header line without end"),
            (b"GET /", b"x" * 64 * KiB, "a request line without end"),
        ):
            _endless_head(server, small, beginning, block, how)


def _byte_by_byte(server: Server, wanted: Wanted) -> None:
    with promise("in-pieces"), conversing(server) as talk:
        pieces = [bytes([byte]) for byte in wanted.request("Accept: */*")]
        talk.say(*pieces, pause=0.001, how="a byte at a time")
        talk.expect(wanted, cause="one_recv")


def _heap(
    server: Server,
    course: Sequence[tuple[str, Wanted]],
    places: Sequence[float],
    fields: Sequence[str] = (),
) -> None:
    """Requests as of a client that doesn't wait, cut anywhere (RFC 9112, section 9.3.2)."""
    raw = b"".join(wanted.request(*fields, method=method) for method, wanted in course)
    pieces = forms.cut(raw, places)
    several = len(course) > 1
    lost = "lost_request" if several else "one_recv"
    with conversing(server) as talk, promise("in-heaps", wrong_order="in-order"):
        how = f"{len(course)} requests" if several else "a request"
        how += f", in {len(pieces)} pieces" if len(pieces) > 1 else ", in one piece"
        talk.say(*pieces, pause=0.01 if len(pieces) > 1 else 0, how=how)
        for number, (method, wanted) in enumerate(course):
            answer = talk.hear(method, cause=lost)
            if not _is_answer_to(answer, method, wanted):
                talk.fault(
                    _mixed_up(talk, answer, course[number:], lost),
                    f"Answer number {number + 1} should be that to {method} {wanted.path}",
                    answer.raw,
                )
            if not talk.goes_on(answer):
                return
        talk.ask(course[0][1], "Connection: close", cause=lost)


def _is_answer_to(answer: RawAnswer, method: str, wanted: Wanted) -> bool:
    body = b"" if method == "HEAD" else wanted.body
    return answer.status == wanted.status and body in (None, answer.body)


def _mixed_up(
    talk: Talk, answer: RawAnswer, course: Sequence[tuple[str, Wanted]], lost: str
) -> str:
    """Why a wrong answer came: all answers come, in another order, or some never do."""
    missing = list(course)
    with suppress(CheckFailed, ValueError):
        for _ in course:
            right = [each for each in missing if _is_answer_to(answer, *each)]
            missing.remove(right[0] if right else ("", course[0][1]))
            if not missing:
                return "wrong_order"
            answer = talk.hear()
    return lost


def _one_and_a_half(server: Server, first: Wanted, second: Wanted) -> None:
    with promise("in-heaps"), conversing(server) as talk:
        later = second.request("Connection: close")
        cut = later.index(b"\r\n") + 9
        talk.say(first.request() + later[:cut], how="in one piece, a request and a half")
        talk.expect(first)
        talk.say(later[cut:], how="the other half")
        talk.expect(second, cause="lost_request")
        talk.ends("stays_open", "The last request said Connection: close")


def _long_heads(server: Server, draw: Random, wanted: Wanted, most: int = 16 * KiB) -> None:
    """A head as long as it may be, in one header line or in many."""
    room = most - len(wanted.request("Connection: close"))
    for lines in (1, 2, draw.randrange(20, 50), 62):  # and Host, and Connection: 64
        padding = forms.padding(room, lines)
        request = wanted.request(*padding, "Connection: close")
        pieces = [request[:5000], request[5000:10_000], request[10_000:]]
        how = f"with a head of {len(request)} bytes in {lines + 2} header lines"
        for sent, pause in ([request], 0), (pieces, 0.02):
            with promise("long-head"), conversing(server) as talk:
                in_pieces = ", in three pieces" if pause else ", in one piece"
                talk.say(*sent, pause=pause, how=how + in_pieces)
                talk.expect(wanted, cause="long_head")


def _header_lines(number: int) -> bytes:
    return b"".join(b"X-%06d: %s\r\n" % (each, b"x" * 1000) for each in range(number))


def _endless_head(
    server: Server, wanted: Wanted, beginning: bytes, block: bytes, how: str, most: int = 4 * MiB
) -> None:
    """The server has had enough of a head before it is as long as `most`."""
    sent = len(beginning)
    with conversing(server) as talk:
        talk.say(beginning, how=f"the beginning of a head, and then {how}")
        with suppress(OSError):
            while sent < most and not _has_news(talk.sock):
                talk.sock.sendall(block[: most - sent])
                sent += len(block[: most - sent])
        if not _has_news(talk.sock, PATIENCE):
            talk.fault(
                "no_limit",
                f"{size_text(sent)} later there is no answer, and the connection is still open",
            )
    with conversing(server) as talk:
        talk.ask(wanted, "Connection: close")


def _has_news(sock: socket.socket, seconds: float = 0) -> bool:
    """Whether the other side says something within some time, or closes."""
    deadline = Deadline(seconds)
    while not (readable := select.select([sock], [], [], min(seconds, deadline.turn))[0]):
        if deadline.passed:
            readable = select.select([sock], [], [], 0)[0]
            break
    return bool(readable)


# HEAD


def head_is_get_without_body(server: Server, draw: Random) -> None:
    """HEAD is answered like GET, without a body, and what follows is in step."""
    after = laid(server, draw, 600, ".txt")
    files = [laid(server, draw, size, ".html") for size in (0, 1, 5000)]
    files.append(laid(server, draw, 300 * KiB, ".png"))
    _right_alone(server, "head-fields", [*files, after])
    for wanted in draw.sample([*files, missing(draw), report_of(30)], len(files) + 2):
        _head_like_get(server, wanted, after)
    for wanted in (files[-1], missing(draw), report_of(30)):
        for version in ("HTTP/1.1", "HTTP/1.0"):
            with promise("head-no-body"), conversing(server) as talk:
                talk.say(wanted.request("Connection: close", method="HEAD", version=version))
                talk.expect(wanted, "HEAD")
                talk.ends("stays_open", "The request said Connection: close", "head_body")
    with promise("head-no-body"), conversing(server) as talk:
        talk.say(after.request("Content-Length: five", method="HEAD"))
        talk.hear("HEAD")
        talk.ends("stays_open", "five is no length", "head_body")
    large = sparse_file(TiB + draw.randrange(GiB), name_of(draw, ".mp4"), server.root, 2)
    with promise("head-is-cheap", head_differs="head-fields"), conversing(server) as talk:
        answer = talk.ask(Wanted(large.url, None), method="HEAD", cause="head_reads")
        if answer.header("content-length") != str(large.size):
            talk.fault("head_differs", f"The file has {large.size} bytes", answer.raw)
        talk.ask(after, cause="head_reads")
    with promise("head-no-body"):
        _by_http_client(server, [*files, after], methods=("HEAD", "GET"), cause="head_body")


def _head_like_get(server: Server, wanted: Wanted, after: Wanted) -> None:
    with promise("head-fields"):
        with conversing(server) as talk:
            get = talk.ask(wanted)
        with conversing(server) as talk:
            head = talk.ask(wanted, method="HEAD")
            for name in ("content-length", "content-type"):
                if head.header(name) != get.header(name):
                    talk.fault(
                        "head_differs",
                        f"GET says {name}: {get.header(name)}, HEAD says {head.header(name)}",
                        head.raw,
                    )
            with promise("head-no-body"):
                if talk.goes_on(head, extra="head_body"):
                    talk.ask(after, cause="head_body")


# ERROR


def errors_keep_in_step(server: Server, draw: Random) -> None:
    """What is refused is refused with an answer, and no body is taken for the next request."""
    file = laid(server, draw, 600, ".html")
    _right_alone(server, "body", [file])
    _has_no_such_file(server, draw, file)
    lines = forms.bad_request_lines(file.path)
    for line in draw.sample(lines, len(lines)):
        _refuses_line(server, file, line)
    fields = st.tuples(forms.bad_fields(), st.integers(0, 2))
    for_all(fields, draw, lambda drawn: _refuses_field(server, file, *drawn), examples=20)
    routes = [file, report_of(9), missing(draw)]
    other = st.tuples(forms.methods(), st.sampled_from(routes))
    for method in ("DELETE", "POST", "get"):
        _refuses_method(server, file, method, file)
    for_all(other, draw, lambda drawn: _refuses_method(server, file, *drawn), examples=20)
    with promise("other-method"):
        _by_curl(server, [file], ["-X", "DELETE"], status=(405, 501), cause="wrong_status")
    _skips_bodies(server, draw, file)
    _refuses_lengths(server, draw, file, routes)
    _skips_rivers(server, draw, file)


def _has_no_such_file(server: Server, draw: Random, file: Wanted) -> None:
    """What is no file below the root is a 404, and no other refusal."""
    (server.root / "folder").mkdir(exist_ok=True)
    beside = server.root.parent / name_of(draw)
    beside.write_bytes(b"not for clients")
    for path in (
        f"/{name_of(draw)}",
        f"{file.path}/{name_of(draw)}",
        f"/{name_of(draw)}/{name_of(draw)}",
        "/folder",
        "/folder/",
        "/",
        f"/../{beside.name}",
        f"/%2e%2e/{beside.name}",
        "/report/many",
        f"/{'x' * 300}",
        f"/{name_of(draw)}%00",
    ):
        with promise("missing"), conversing(server) as talk:
            talk.say(Wanted(path, None).request())
            _is_refused(talk, (404,), f"{path[:40]} is no file below the root", file)


def _is_refused(talk: Talk, allowed: Sequence[int], why: str, after: Wanted) -> None:
    """The next answer has one of these statuses, and `after` can be had over the connection."""
    answer = talk.hear()
    if answer.status not in allowed:
        statuses = " or ".join(map(str, allowed))
        talk.fault("wrong_status", f"{why}: the status should be {statuses}", answer.raw)
    named = {method.strip() for method in (answer.header("allow") or "").split(",")}
    if answer.status == 405 and not named >= {"GET", "HEAD"}:
        said = "With 405 comes a header Allow, and it names GET and HEAD, in capital letters"
        talk.fault("no_allow", said, answer.raw)
    with promise("framed", stays_open="says-close", closes="says-close"):
        if talk.goes_on(answer):
            talk.ask(after)


def _is_last(talk: Talk, answer: RawAnswer, why: str, cause: str) -> None:
    """The answer says that it is the last one, and it is."""
    if "close" not in options_of(answer):
        talk.fault(cause, f"{why}. The answer should say Connection: close", answer.raw)
    talk.ends(cause, why, "body_as_request")


def _refuses_line(server: Server, file: Wanted, line: str) -> None:
    with promise("request-line"), conversing(server) as talk:
        talk.say(f"{line}\r\nHost: 127.0.0.1\r\n\r\n".encode())
        odd = line.startswith(f"GET {file.path} ") and len(line.split()) == 3
        _is_refused(talk, (400, 505) if odd else (400,), f"{line!r} is no request line", file)


def _refuses_field(server: Server, file: Wanted, line: str, at: int) -> None:
    """A header line that a client and a server may read differently."""
    fields = ["X-One: 1", "Content-Type: text/plain"]
    fields.insert(at, line)
    with promise("header-line"), conversing(server) as talk:
        talk.say(file.request(*fields))
        answer = talk.hear()
        why = f"{line!r} is no header line"
        if answer.status != 400:
            talk.fault("bad_field", f"{why}. The status should be 400", answer.raw)
        _is_last(talk, answer, why, "bad_field")


def _refuses_method(server: Server, file: Wanted, method: str, wanted: Wanted) -> None:
    allowed = (405, 501) if wanted.status == 200 else (405, 501, 404)
    with promise("other-method"), conversing(server) as talk:
        talk.say(wanted.request(method=method))
        _is_refused(talk, allowed, f"The method is {method}", file)


def _skips_bodies(server: Server, draw: Random, file: Wanted) -> None:
    """A request's body is no request, though it looks like one."""
    hidden = laid(server, draw, 300, ".txt").request()
    content = b"0\r\n\r\n" + hidden
    length = f"Content-Length: {len(content)}"
    coding = "Transfer-Encoding: chunked"
    plain = forms.chunk(content, "", False, "") + b"0\r\n\r\n"
    trailer = forms.chunk(hidden, "00", True, ";a=1") + b"0;last\r\nX-Done: yes\r\n\r\n"
    for method in ("POST", "GET", "HEAD", "PUT"):
        for pause in (0.0, 0.1):
            body = forms.Body((length,), content)
            places = [1 - len(content) / 2 / (len(content) + 90)] if pause else []
            _body_goes_by(server, file, method, file, "body", body, places, pause)
    for method in ("POST", "GET"):
        for raw in (plain, trailer):
            body = forms.Body((coding,), raw)
            _body_goes_by(server, file, method, file, "body-in-chunks", body, [], 0)
        for fields in ((length, coding), (coding, "Content-Length: 3"), (f"{coding}, gzip",)):
            body = forms.Body(fields, plain)
            _body_goes_by(server, file, method, file, "unclear-end", body, [], 0)
    routes = st.sampled_from([file, report_of(9), missing(draw)])
    methods = st.sampled_from(["GET", "GET", "POST", "HEAD", "DELETE"])

    def goes_by(name: str) -> Callable[[tuple[str, Wanted, forms.Body, list[float]]], None]:
        def attempt(drawn: tuple[str, Wanted, forms.Body, list[float]]) -> None:
            method, wanted, body, places = drawn
            _body_goes_by(server, file, method, wanted, name, body, places)

        return attempt

    for name, bodies in (
        ("body", forms.counted(hidden)),
        ("body-in-chunks", forms.chunked(hidden)),
        ("unclear-end", forms.unclear(hidden)),
    ):
        form = st.tuples(methods, routes, bodies, forms.cuts(2))
        for_all(form, draw, goes_by(name), examples=20)


def _body_goes_by(
    server: Server,
    after: Wanted,
    method: str,
    wanted: Wanted,
    name: str,
    body: forms.Body,
    places: Sequence[float],
    pause: float = 0.01,
) -> None:
    """A request has its answer, and its body is not the next one; `name` is what promises that."""
    lines = ("Content-Type: text/plain", *body.fields, "X-Last: 1")
    pieces = forms.cut(wanted.request(*lines, method=method) + body.raw, places)
    coded = name != "body"
    with conversing(server, whole_file="whole_body") as talk, promise(name):
        talk.say(
            *pieces,
            pause=pause if len(pieces) > 1 else 0,
            how=f"{method} with a body of {len(body.raw)} bytes, in {len(pieces)} pieces",
        )
        answer = talk.hear(method)
        allowed = (
            {wanted.status} if method in ("GET", "HEAD") else {405, 501, wanted.status} - {200}
        )
        if answer.status not in allowed | ({400, 411, 501} if coded else set()):
            likely = "body_refused" if answer.status >= 400 else "wrong_status"
            statuses = " or ".join(map(str, sorted(allowed)))
            talk.fault(likely, f"The status should be {statuses}", answer.raw)
        if answer.status == 200 and method == "GET" and answer.body != wanted.body:
            talk.fault("wrong_bytes", f"The body should be that of {wanted.path}", answer.raw)
        if name == "unclear-end":
            _is_last(talk, answer, "It is not clear where the body ends", "unclear_end")
        elif "close" in options_of(answer):  # who does not read a body may close, after a 200 too
            talk.ends("stays_open", "The answer says Connection: close", "body_as_request")
        else:
            talk.say(after.request("Connection: close"))
            talk.expect(after, cause="body_as_request")
            talk.ends("stays_open", "The request said Connection: close", "body_as_request")


def _refuses_lengths(server: Server, draw: Random, file: Wanted, routes: Sequence[Wanted]) -> None:
    """A Content-Length that is no number says nothing about where the next request begins."""

    def refuses(values: Sequence[str], method: str, wanted: Wanted) -> None:
        with promise("length-digits"), conversing(server) as talk:
            headers = [f"Content-Length: {value}" for value in values]
            talk.say(wanted.request(*headers, method=method) + b"hello")
            answer = talk.hear(method)
            why = f"{' and '.join(map(repr, values))}: no length"
            if answer.status != 400:
                talk.fault("bad_length", f"{why}. The status should be 400", answer.raw)
            _is_last(talk, answer, why, "bad_length")

    for values in draw.sample(forms.BAD_LENGTHS, len(forms.BAD_LENGTHS)):
        refuses(values, "GET", file)
    drawn = st.tuples(
        forms.bad_lengths(), st.sampled_from(["GET", "HEAD", "GET"]), st.sampled_from(routes)
    )
    for_all(drawn, draw, lambda each: refuses(*each), examples=25)


def _skips_rivers(server: Server, draw: Random, file: Wanted) -> None:
    """A body that is larger than the server's memory goes by, or its connection is closed."""
    for method, coded in (("POST", False), ("GET", False), ("PUT", True)):
        size = draw.randrange(270, 290) * MiB
        line = "Transfer-Encoding: chunked" if coded else f"Content-Length: {size}"
        before, end = (b"%x\r\n" % size, b"\r\n0\r\n\r\n") if coded else (b"", b"")
        with promise("large-body"), conversing(server, whole_file="whole_body") as talk:
            how = f"and then a body of {size_text(size)}{', in one chunk' * coded}"
            talk.say(file.request(line, method=method) + before, how=how)
            with suppress(OSError):
                for _ in range(size // MiB):
                    talk.sock.sendall(bytes(MiB))
                talk.sock.sendall(end)
            answer = talk.hear(cause="whole_body")
            if answer.status < 400 and method != "GET":
                talk.fault("wrong_status", f"{method} should be refused", answer.raw)
            if "close" in options_of(answer):
                talk.ends("stays_open", "The answer says Connection: close", "body_as_request")
            else:
                talk.ask(file, cause="whole_body")


# CLOSE


def closes_when_asked(server: Server, draw: Random) -> None:
    """Connection: close is honoured; HTTP/1.0 gets what it can understand, and an end."""
    file, report = laid(server, draw, 5000, ".html"), report_of(draw.randrange(100, 200))
    routes = [file, report, missing(draw)]
    asked = "The request asked for that"
    for name, option, cause in (
        ("close", "Connection: close", "stays_open"),
        ("small-and-large", "connection: Close", "letter_case"),
        ("small-and-large", "CONNECTION: CLOSE", "letter_case"),
        ("list", "Connection: TE, close", "not_a_list"),
        ("list", "Connection: close,TE", "not_a_list"),
        ("list", "Connection: TE\r\nConnection: close", "not_a_list"),
        ("list", "Connection: close\r\nConnection: TE", "not_a_list"),
    ):
        for wanted in routes:
            with promise(name), conversing(server) as talk:
                talk.ask(wanted, option)
                talk.ends(cause, asked)
    with promise("close"), conversing(server) as talk:
        talk.say(file.request("Connection: close") + file.request(), how="in one piece")
        talk.expect(file)
        talk.ends("stays_open", asked, "answers_after_close")
    for wanted in routes:
        old = promise("old-client", http10_chunked="old-client-report")
        with old, conversing(server) as talk:
            _ask_as_old_client(talk, wanted)
            talk.ends("http10_open", "An HTTP/1.0 client has not asked for more")
    _old_client_asks_for_more(server, file, report)
    with promise("old-client-report"):
        _by_curl(server, [file, report, file], ["--http1.0"], cause="http10_chunked")
    drawn = st.tuples(
        st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]),
        forms.connections(),
        st.sampled_from(["GET", "GET", "HEAD"]),
        st.sampled_from(routes),
    )
    for_all(drawn, draw, lambda each: _stays_or_closes(server, file, *each), examples=40)


def _stays_or_closes(
    server: Server,
    after: Wanted,
    version: str,
    fields: Sequence[str],
    method: str,
    wanted: Wanted,
) -> None:
    """What becomes of a connection goes by the version and by `Connection` (RFC 9112, 9.3)."""
    options = forms.options_in(fields)
    old = version == "HTTP/1.0"
    with promise("list"), conversing(server) as talk:
        talk.say(wanted.request(*fields, method=method, version=version))
        answer = talk.expect(wanted, method)
        told = options_of(answer)
        if "close" in options:
            talk.ends("not_a_list", "The request says close")
        elif not old:
            if talk.goes_on(answer):
                talk.ask(after, cause="not_a_list")
        elif "keep-alive" in options and "keep-alive" in told and "close" not in told:
            _ask_as_old_client(talk, after, cause="not_a_list")
        else:
            talk.ends("http10_open", "An HTTP/1.0 client has not been told that it may go on")


def _ask_as_old_client(talk: Talk, wanted: Wanted, *headers: str, cause: str = "") -> RawAnswer:
    talk.say(wanted.request(*headers, version="HTTP/1.0"))
    answer = talk.expect(wanted, cause=cause)
    if answer.header("transfer-encoding") is not None:
        talk.fault("http10_chunked", "HTTP/1.0 has no chunked coding", answer.raw)
    return answer


def _old_client_asks_for_more(server: Server, file: Wanted, report: Wanted) -> None:
    """With keep-alive an HTTP/1.0 client may be kept, and then has to be told so."""
    with promise("old-client-kept"), conversing(server) as talk:
        answer = _ask_as_old_client(talk, file, "Connection: keep-alive")
        if "keep-alive" in options_of(answer):
            _ask_as_old_client(talk, file, "Connection: Keep-Alive")
        else:
            why = "The answer does not say Connection: keep-alive, which tells an HTTP/1.0 client"
            talk.ends("http10_open", f"{why} that it may go on")
    with promise("old-client-report"), conversing(server) as talk:
        _ask_as_old_client(talk, report, "Connection: keep-alive", cause="http10_open")
        talk.ends("http10_open", "Without a length, the end of the connection is the body's end")


# CHUNKED


def reports_are_chunked(server: Server, draw: Random) -> None:
    """What is made on the fly comes in chunks, as it is made; what follows is in step."""
    file = laid(server, draw, 800, ".css")
    reports = [report_of(lines) for lines in (0, 1, 9, 30, draw.randrange(800, 3000))]
    _right_alone(server, "report", [file])
    forms_of_chunks = dict.fromkeys(
        ["not_chunked", "bad_chunks", "empty_chunk", "no_end", "cut_short", "closes"], "in-chunks"
    )
    with (
        promise("report", **forms_of_chunks),
        conversing(server, whole_file="whole_report") as talk,
    ):
        for wanted in (reports[-1], *draw.sample(reports, len(reports))):
            talk.say(wanted.request())
            answer = talk.hear()
            if answer.status != 200:
                likely = "not_found" if answer.status == 404 else "wrong_status"
                talk.fault(likely, f"{wanted.path} is a report: the status is 200", answer.raw)
            if (answer.header("transfer-encoding") or "").lower() != "chunked":
                talk.fault("not_chunked", "There is no Transfer-Encoding: chunked", answer.raw)
            if answer.body != wanted.body:
                talk.fault(
                    "empty_chunk" if talk.more_chunks() else "wrong_bytes",
                    f"{len(answer.body)} bytes came up to the last chunk. They are not the "
                    f"{len(wanted.body or b'')} of {wanted.path}",
                    answer.raw,
                )
            talk.goes_on(answer)
            talk.ask(file)
    course = draw.sample([*reports, file, file], len(reports) + 2)
    with promise("in-chunks"):
        _by_http_client(server, course)
        _by_requests(server, course, "bad_chunks")
        _by_curl(server, course, connections=1)
    with promise("endless-report"):
        _endless_report(server)
        with conversing(server) as talk:
            talk.ask(file)


def _endless_report(server: Server) -> None:
    """The first lines come, though the last one is years away."""
    with conversing(server, whole_file="whole_report") as talk:
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
    _right_alone(server, "grows", [file])
    _grows(server, draw, file)
    for by_one in (False, True):
        _shrinks(server, draw, file, by_one)
    _fails(server, draw, file)


@contextmanager
def _halfway(server: Server, draw: Random) -> Iterator[tuple[Talk, Wanted, Path]]:
    """A large file of which a client has seen the head, and the server has not read the end."""
    file = dense_file(draw.randrange(48 * MiB, 56 * MiB), name_of(draw), server.root, draw)
    wanted = Wanted(file.url, file.path.read_bytes())
    with conversing(server) as talk:
        # What waits in large buffers of the kernel the server would have read already.
        talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * KiB)
        talk.say(wanted.request())
        talk.peek(b"\r\n\r\n")
        time.sleep(0.1)
        yield talk, wanted, file.path


def _grows(server: Server, draw: Random, after: Wanted) -> None:
    with promise("grows", died="lives-on"), _halfway(server, draw) as (talk, wanted, path):
        with path.open("ab") as file:
            file.write(b"GROWN " * 20_000)
        talk.note("and the file grew by 120000 bytes while it was sent")
        talk.expect(wanted)
        talk.ask(after, cause="past_length")


def _shrinks(server: Server, draw: Random, after: Wanted, by_one: bool) -> None:
    shrinks = promise("shrinks", died="lives-on")
    with shrinks, _halfway(server, draw) as (talk, wanted, path):
        whole = wanted.body or b""
        size = len(whole) - 1 if by_one else draw.choice([0, MiB])
        os.truncate(path, size)
        talk.note(f"and the file was cut to {size} bytes while it was sent")
        _is_broken_off(talk, whole)
    _lives_on(server, after)


def _lives_on(server: Server, after: Wanted) -> None:
    with promise("lives-on"), conversing(server) as talk:
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
    for failing in (lines // 2, 0, 1, 8, lines - 1):
        with promise("source-fails", died="lives-on"), conversing(server) as talk:
            talk.patience = CLOSING
            path = f"/report/{lines}?fail={failing}"
            talk.say(Wanted(path, None).request(*([] if failing else ["Connection: close"])))
            raw, why = talk.everything(MiB, b"\r\n0\r\n\r\n")
            answer = read_answer(raw, closed="stays open" not in why)
            if answer.status >= 500 and answer.ended:
                continue
            if (at := raw.find(b"HTTP/1.", 5)) > 0:
                talk.fault("second_head", "In the body a status line came", raw[at - 50 :])
            if answer.header("transfer-encoding") is None and raw:
                talk.fault("not_chunked", "Such an end is no error to the client", raw)
            if answer.ended:
                talk.fault("swallowed", "The last chunk says that this was all of it", raw[-200:])
            if "stays open" in why:
                talk.fault("left_waiting", why, raw[-200:])
    with promise("source-fails"):
        _breaks_for_curl(server, f"/report/{lines}?fail={lines // 2}")
    _lives_on(server, after)


def _breaks_for_curl(server: Server, path: str) -> None:
    """curl, if there is one, says that the transfer failed (RFC 9112, section 8)."""
    if find_tool("curl"):
        asking = command("curl", "-sS", "-m", "15", "-o", os.devnull, server.url + path)
        ran = subprocess.run(asking, capture_output=True, text=True)
        if ran.returncode == 0:
            what = f"The source of GET {path} failed in the middle, and curl took the answer"
            fail("swallowed", f"{what} for complete.{state_of(server)}", curl(server, path))


# LIVE and DROP


EARLIEST = 5.0
"""Seconds after which a connection at rest may be closed."""


def idle_clients_cost_nothing(server: Server, draw: Random, clients: int = 32) -> None:
    """While many connections rest, and some clients are slow to ask or to read, others go on."""
    file = laid(server, draw, 60_000, ".png")
    large = sparse_file(draw.randrange(64 * MiB, 80 * MiB), name_of(draw), server.root, 2)
    _right_alone(server, "crowd", [file])
    with ExitStack() as stack:
        talks: list[tuple[Talk, float]] = []
        with promise("crowd"):
            for number in range(clients):
                talk = stack.enter_context(conversing(server))
                talk.ask(file, cause="one_at_a_time" if number else "")
                talks.append((talk, time.monotonic()))
            slow = stack.enter_context(conversing(server))
            slow.say(file.request()[:20], how="half a request")
            for number in range(2):
                stalled = stack.enter_context(conversing(server))
                stalled.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * KiB)
                stalled.say(Wanted(large.url, None).request())
                stalled.peek(b"\r\n\r\n", "one_at_a_time")
                with conversing(server) as talk:
                    talk.note(
                        f"{clients} other connections had an answer and are at rest, one client "
                        f"has sent half a request, and {number + 1} do not read their answers"
                    )
                    talk.ask(file, cause="one_at_a_time")
        with promise("at-rest"):
            for talk, since in draw.sample(talks, 5):
                _goes_on_after_a_rest(talk, since, file)


def _goes_on_after_a_rest(talk: Talk, since: float, file: Wanted, rest: float = 4.0) -> None:
    """A connection that rests for less time than `EARLIEST` is still open.

    `since` is when its answer had come. The server's clock began before that, and what is asked too
    late on a busy machine tells nothing.
    """
    time.sleep(max(0.0, since + rest - time.monotonic()))
    closed = _has_news(talk.sock)
    rested = time.monotonic() - since
    if closed and rested < EARLIEST - 0.5:
        what = f"After {rested:.1f} s at rest the connection is closed"
        talk.fault("closes_at_rest", f"{what}. It may be after {EARLIEST:g} s")
    if not closed and rested < EARLIEST - 0.5:
        talk.ask(file, cause="one_at_a_time")


def departures_leave_nothing(server: Server, draw: Random) -> None:
    """Clients leave between requests, in the middle of one, and in the middle of an answer."""
    file = laid(server, draw, 400 * KiB)
    endless = Wanted("/report/1000000000000", None)
    uploads = [
        file.request("Content-Length: 1000", method="POST") + b"begin",
        file.request("Transfer-Encoding: chunked", method="POST") + b"3e8\r\nbegin",
    ]

    def leave() -> None:
        for number in range(12):
            with conversing(server) as talk:
                talk.ask(file)
                talk.ask(file, method="HEAD")
            for half in (file.request()[:25], file.request() * 3):
                with conversing(server) as talk:
                    talk.say(half)
            with conversing(server) as talk:
                talk.say(uploads[number % 2])
                with suppress(OSError):  # the server may have closed already
                    talk.sock.shutdown(socket.SHUT_WR)
                _has_news(talk.sock, 1)
            if number < 4:
                with conversing(server) as talk:
                    talk.say(endless.request())
                    talk.take(4 * KiB)

    with promise("leave"):
        survives_departures(server, draw, clients=20, besides=leave)
