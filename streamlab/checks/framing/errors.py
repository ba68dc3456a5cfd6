"""Lab 04: after an error a connection is in step, or closed; bodies of requests are skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from hypothesis import strategies as st

from streamlab.checks import request_forms
from streamlab.checks.connection import Connection, Wanted, options_of
from streamlab.checks.examples import for_all
from streamlab.checks.framing.common import (
    by_curl,
    conversing,
    missing,
    report_of,
    right_alone,
    write_fixture,
)
from streamlab.checks.outcome import promise
from streamlab.checks.probes.common import folder_in, name_of
from streamlab.files import MiB, size_text
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

# ERROR


def errors_keep_in_step(server: Server, rng: Random) -> None:
    """A bad request gets an error, and no body is taken for the next request."""
    file = write_fixture(server, rng, 600, ".html")
    right_alone(server, "body", [file])
    _has_no_such_file(server, rng, file)
    lines = request_forms.bad_request_lines(file.path)
    for line in rng.sample(lines, len(lines)):
        _refuses_line(server, file, line)
    fields = st.tuples(request_forms.bad_fields(), st.integers(0, 2))
    for_all(
        fields,
        rng,
        lambda drawn: _refuses_field(server, file, *drawn),
        known=[(line, at) for line in request_forms.BAD_FIELDS for at in (0, 2)],
        examples=20,
    )
    routes = [file, report_of(9), missing(rng)]
    other = st.tuples(request_forms.methods(), st.sampled_from(routes))
    for method in ("DELETE", "POST", "get"):
        _refuses_method(server, file, method, file)
    for_all(other, rng, lambda drawn: _refuses_method(server, file, *drawn), examples=20)
    with promise("other-method"):
        by_curl(server, [file], ["-X", "DELETE"], status=(405, 501), cause="wrong_status")
    _skips_bodies(server, rng, file)
    _refuses_lengths(server, rng, file, routes)
    _skips_huge_bodies(server, rng, file)


def _has_no_such_file(server: Server, rng: Random, file: Wanted) -> None:
    """A path without a file below the root is a 404, and no other error."""
    folder_in(server.root)
    folder_in(server.root, ".")
    beside = server.root.parent / name_of(rng)
    beside.write_bytes(b"not for clients")
    for path in (
        f"/{name_of(rng)}",
        f"{file.path}/{name_of(rng)}",
        f"/{name_of(rng)}/{name_of(rng)}",
        "/folder",
        "/folder/",
        "/",
        f"/../{beside.name}",
        f"/%2e%2e/{beside.name}",
        "/report/many",
        f"/{'x' * 300}",
        f"/{name_of(rng)}%00",
    ):
        with promise("missing"), conversing(server) as connection:
            connection.send(Wanted(path, None).request())
            _is_refused(connection, (404,), f"{path[:40]} is no file below the root", file)


def _is_refused(connection: Connection, allowed: Sequence[int], why: str, after: Wanted) -> None:
    """The next answer has one of these statuses, and `after` comes over the same connection."""
    answer = connection.receive()
    if answer.status not in allowed:
        statuses = " or ".join(map(str, allowed))
        connection.fault("wrong_status", f"{why}: the status should be {statuses}", answer.raw)
    named = {method.strip() for method in (answer.header("allow") or "").split(",")}
    if answer.status == 405 and not named >= {"GET", "HEAD"}:
        said = "With 405 comes a header Allow, and it names GET and HEAD, in capital letters"
        connection.fault("no_allow", said, answer.raw)
    with promise("framed", stays_open="says-close", closes="says-close"):
        if connection.goes_on(answer):
            connection.ask(after)


def _is_last(connection: Connection, answer: RawAnswer, why: str, cause: str) -> None:
    """The answer says that it is the connection's last one, and it is."""
    if "close" not in options_of(answer):
        connection.fault(cause, f"{why}. The answer should say Connection: close", answer.raw)
    connection.ends(cause, why, "body_as_request")


def _refuses_line(server: Server, file: Wanted, line: str) -> None:
    with promise("request-line"), conversing(server) as connection:
        connection.send(f"{line}\r\nHost: 127.0.0.1\r\n\r\n".encode())
        odd = line.startswith(f"GET {file.path} ") and len(line.split()) == 3
        _is_refused(connection, (400, 505) if odd else (400,), f"{line!r} is no request line", file)


def _refuses_field(server: Server, file: Wanted, line: str, at: int) -> None:
    """A header line that two programs may read differently is refused."""
    fields = ["X-One: 1", "Content-Type: text/plain"]
    fields.insert(at, line)
    with promise("header-line"), conversing(server) as connection:
        connection.send(file.request(*fields))
        answer = connection.receive()
        why = f"{line!r} is no header line"
        if answer.status != 400:
            connection.fault("bad_field", f"{why}. The status should be 400", answer.raw)
        _is_last(connection, answer, why, "bad_field")


def _refuses_method(server: Server, file: Wanted, method: str, wanted: Wanted) -> None:
    allowed = (405, 501) if wanted.status == 200 else (405, 501, 404)
    with promise("other-method"), conversing(server) as connection:
        connection.send(wanted.request(method=method))
        _is_refused(connection, allowed, f"The method is {method}", file)


@dataclass(frozen=True)
class _Upload:
    """A request with a body, and how it is sent."""

    promised: str
    """The id of the promise that it puts to the test."""
    method: str
    wanted: Wanted
    """What it asks for."""
    body: request_forms.Body
    places: Sequence[float] = ()
    """Where it is cut into pieces, as parts of its length."""
    pause: float = 0.01
    """Seconds between two pieces."""


def _skips_bodies(server: Server, rng: Random, file: Wanted) -> None:
    """A request's body is not taken for a request, even if it looks like one."""
    hidden = write_fixture(server, rng, 300, ".txt").request()
    content = b"0\r\n\r\n" + hidden
    length = f"Content-Length: {len(content)}"
    coding = "Transfer-Encoding: chunked"
    plain = request_forms.chunk(content, "", False, "") + b"0\r\n\r\n"
    trailer = request_forms.chunk(hidden, "00", True, ";a=1") + b"0;last\r\nX-Done: yes\r\n\r\n"
    for method in ("POST", "GET", "HEAD", "PUT"):
        for pause in (0.0, 0.1):
            body = request_forms.Body((length,), content)
            places = [1 - len(content) / 2 / (len(content) + 90)] if pause else []
            _body_goes_by(server, file, _Upload("body", method, file, body, places, pause))
    for line in (length.lower(), length.upper()):
        body = request_forms.Body((line,), content)
        _body_goes_by(server, file, _Upload("body", "POST", file, body))
    for line in (coding.lower(), "Transfer-Encoding: CHUNKED"):
        body = request_forms.Body((line,), plain)
        _body_goes_by(server, file, _Upload("body-in-chunks", "POST", file, body))
    for method in ("POST", "GET"):
        for raw in (plain, trailer):
            body = request_forms.Body((coding,), raw)
            _body_goes_by(server, file, _Upload("body-in-chunks", method, file, body))
        for fields in ((length, coding), (coding, "Content-Length: 3"), (f"{coding}, gzip",)):
            body = request_forms.Body(fields, plain)
            _body_goes_by(server, file, _Upload("unclear-end", method, file, body))
    routes = st.sampled_from([file, report_of(9), missing(rng)])
    methods = st.sampled_from(["GET", "GET", "POST", "HEAD", "DELETE"])

    def goes_by(name: str) -> Callable[[tuple[str, Wanted, request_forms.Body, list[float]]], None]:
        def attempt(drawn: tuple[str, Wanted, request_forms.Body, list[float]]) -> None:
            _body_goes_by(server, file, _Upload(name, *drawn))

        return attempt

    for name, bodies in (
        ("body", request_forms.counted(hidden)),
        ("body-in-chunks", request_forms.chunked(hidden)),
        ("unclear-end", request_forms.unclear(hidden)),
    ):
        form = st.tuples(methods, routes, bodies, request_forms.cuts(2))
        for_all(form, rng, goes_by(name), examples=20)


def _body_goes_by(server: Server, after: Wanted, upload: _Upload) -> None:
    """A request gets its answer, and its body none. Then `after` is asked for."""
    name, method, wanted, body = upload.promised, upload.method, upload.wanted, upload.body
    lines = ("Content-Type: text/plain", *body.fields, "X-Last: 1")
    pieces = request_forms.cut(wanted.request(*lines, method=method) + body.raw, upload.places)
    coded = name != "body"
    with conversing(server, whole_file="whole_body") as connection, promise(name):
        connection.send(
            *pieces,
            pause=upload.pause if len(pieces) > 1 else 0,
            how=f"{method} with a body of {len(body.raw)} bytes, in {len(pieces)} pieces",
        )
        answer = connection.receive(method)
        allowed = (
            {wanted.status} if method in ("GET", "HEAD") else {405, 501, wanted.status} - {200}
        )
        if answer.status not in allowed | ({400, 411, 501} if coded else set()):
            likely = "body_refused" if answer.status >= 400 else "wrong_status"
            statuses = " or ".join(map(str, sorted(allowed)))
            connection.fault(likely, f"The status should be {statuses}", answer.raw)
        if answer.status == 200 and method == "GET" and answer.body != wanted.body:
            connection.fault("wrong_bytes", f"The body should be that of {wanted.path}", answer.raw)
        if name == "unclear-end":
            _is_last(connection, answer, "It is not clear where the body ends", "unclear_end")
        elif "close" in options_of(answer):  # it may close instead of reading the body
            connection.ends("stays_open", "The answer says Connection: close", "body_as_request")
        else:
            connection.send(after.request("Connection: close"))
            connection.expect(after, cause="body_as_request")
            connection.ends("stays_open", "The request said Connection: close", "body_as_request")
            _next_in_one_piece(server, after, method, name, b"".join(pieces))


def _next_in_one_piece(
    server: Server, after: Wanted, method: str, name: str, request: bytes
) -> None:
    """What follows a body in the same piece is the next request, and is answered.

    For a server that keeps the connection after such a request; even so it may close it this time.
    """
    with conversing(server, whole_file="whole_body") as connection, promise(name):
        connection.send(
            request + after.request("Connection: close"),
            how=f"{method} with a body, and the next request in the same piece",
        )
        answer = connection.receive(method)
        if "close" not in options_of(answer):
            connection.expect(after, cause="lost_request")


def _refuses_lengths(server: Server, rng: Random, file: Wanted, routes: Sequence[Wanted]) -> None:
    """A Content-Length that is no number does not say where the next request begins."""

    def refuses(values: Sequence[str], method: str, wanted: Wanted) -> None:
        with promise("length-digits"), conversing(server) as connection:
            headers = [f"Content-Length: {value}" for value in values]
            connection.send(wanted.request(*headers, method=method) + b"hello")
            answer = connection.receive(method)
            why = f"{' and '.join(map(repr, values))}: no length"
            if answer.status != 400:
                connection.fault("bad_length", f"{why}. The status should be 400", answer.raw)
            _is_last(connection, answer, why, "bad_length")

    for values in rng.sample(request_forms.BAD_LENGTHS, len(request_forms.BAD_LENGTHS)):
        refuses(values, "GET", file)
    drawn = st.tuples(
        request_forms.bad_lengths(),
        st.sampled_from(["GET", "HEAD", "GET"]),
        st.sampled_from(routes),
    )
    for_all(drawn, rng, lambda each: refuses(*each), examples=25)


def _skips_huge_bodies(server: Server, rng: Random, file: Wanted) -> None:
    """A body larger than the server's memory is skipped, or its connection is closed."""
    for method, coded in (("POST", False), ("GET", False), ("PUT", True)):
        size = rng.randrange(270, 290) * MiB
        line = "Transfer-Encoding: chunked" if coded else f"Content-Length: {size}"
        before, end = (b"%x\r\n" % size, b"\r\n0\r\n\r\n") if coded else (b"", b"")
        with promise("large-body"), conversing(server, whole_file="whole_body") as connection:
            how = f"and then a body of {size_text(size)}{', in one chunk' * coded}"
            connection.send(file.request(line, method=method) + before, how=how)
            with suppress(OSError):
                for _ in range(size // MiB):
                    connection.sock.sendall(bytes(MiB))
                connection.sock.sendall(end)
            answer = connection.receive(cause="whole_body")
            if answer.status < 400 and method != "GET":
                connection.fault("wrong_status", f"{method} should be refused", answer.raw)
            if "close" in options_of(answer):
                connection.ends(
                    "stays_open", "The answer says Connection: close", "body_as_request"
                )
            else:
                connection.ask(file, cause="whole_body")
