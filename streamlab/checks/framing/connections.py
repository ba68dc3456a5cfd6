"""Lab 04: when a connection closes, and what clients cost that are idle or have left."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from random import Random

from hypothesis import strategies as st

from streamlab.checks import request_forms
from streamlab.checks.connection import Connection, Wanted, options_of
from streamlab.checks.examples import for_all
from streamlab.checks.framing.common import (
    by_curl,
    conversing,
    has_news,
    missing,
    report_of,
    right_alone,
    write_fixture,
)
from streamlab.checks.outcome import promise
from streamlab.checks.probes.common import folder_in, name_of
from streamlab.checks.probes.departures import survives_departures
from streamlab.files import KiB, MiB, size_text, sparse_file
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

# CLOSE


def closes_when_asked(server: Server, rng: Random) -> None:
    """`Connection: close` is obeyed; HTTP/1.0 gets what it can read, and an end."""
    file, report = write_fixture(server, rng, 5000, ".html"), report_of(rng.randrange(100, 200))
    routes = [file, report, missing(rng)]
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
            with promise(name), conversing(server) as connection:
                connection.ask(wanted, option)
                connection.ends(cause, asked)
    with promise("close"), conversing(server) as connection:
        connection.send(file.request("Connection: close") + file.request(), how="in one piece")
        connection.expect(file)
        connection.ends("stays_open", asked, "answers_after_close")
    for wanted in routes:
        old = promise("old-client", http10_chunked="old-client-report")
        with old, conversing(server) as connection:
            _ask_as_old_client(connection, wanted)
            connection.ends("http10_open", "An HTTP/1.0 client has not asked for more")
    _old_client_asks_for_more(server, file, report)
    with promise("old-client-report"):
        by_curl(server, [file, report, file], ["--http1.0"], cause="http10_chunked")
    for wanted in routes:
        for fields in (["Connection: close, keep-alive"], ["Connection: keep-alive, close"]):
            _stays_or_closes(server, file, "HTTP/1.0", fields, "GET", wanted)
    drawn = st.tuples(
        st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]),
        request_forms.connections(),
        st.sampled_from(["GET", "GET", "HEAD"]),
        st.sampled_from(routes),
    )
    known: list[tuple[str, tuple[str, ...], str, Wanted]] = [
        ("HTTP/1.1", (f"Connection: {option}",), "GET", file)
        for option in (*request_forms.OTHER_OPTIONS, "", "keep-alive, TE")
    ]
    known += [
        ("HTTP/1.0", (f"Connection: {option}",), "GET", file)
        for option in ("x-keep-alive", "keep-alive-not", "keep", "TE, KEEP-ALIVE")
    ]
    for_all(
        drawn, rng, lambda each: _stays_or_closes(server, file, *each), known=known, examples=40
    )


def _stays_or_closes(
    server: Server,
    after: Wanted,
    version: str,
    fields: Sequence[str],
    method: str,
    wanted: Wanted,
) -> None:
    """The version and `Connection` decide whether a connection stays open (RFC 9112, 9.3)."""
    options = request_forms.options_in(fields)
    old = version == "HTTP/1.0"
    with promise("list"), conversing(server) as connection:
        connection.send(wanted.request(*fields, method=method, version=version))
        answer = connection.expect(wanted, method)
        told = options_of(answer)
        if "close" in options:
            connection.ends("not_a_list", "The request says close")
        elif not old:
            if connection.goes_on(answer):
                connection.ask(after, cause="not_a_list")
        elif "keep-alive" in options and "keep-alive" in told and "close" not in told:
            _ask_as_old_client(connection, after, cause="not_a_list")
        else:
            connection.ends("http10_open", "An HTTP/1.0 client has not been told that it may go on")


def _ask_as_old_client(
    connection: Connection, wanted: Wanted, *headers: str, cause: str = ""
) -> RawAnswer:
    connection.send(wanted.request(*headers, version="HTTP/1.0"))
    answer = connection.expect(wanted, cause=cause)
    if answer.header("transfer-encoding") is not None:
        connection.fault("http10_chunked", "HTTP/1.0 has no chunked coding", answer.raw)
    return answer


def _old_client_asks_for_more(server: Server, file: Wanted, report: Wanted) -> None:
    """An HTTP/1.0 client that asks for keep-alive may get it, and is then told so."""
    with promise("old-client-kept"), conversing(server) as connection:
        answer = _ask_as_old_client(connection, file, "Connection: keep-alive")
        if "keep-alive" in options_of(answer):
            _ask_as_old_client(connection, file, "Connection: Keep-Alive")
        else:
            why = "The answer does not say Connection: keep-alive, which tells an HTTP/1.0 client"
            connection.ends("http10_open", f"{why} that it may go on")
    with promise("old-client-report"), conversing(server) as connection:
        # Without a length the body's end is the connection's, whatever the client has asked for.
        answer = _ask_as_old_client(
            connection, report, "Connection: keep-alive", cause="http10_open"
        )
        if "keep-alive" in options_of(answer) and answer.header("content-length") is None:
            what = "The answer says keep-alive, and its body ends with the connection"
            connection.fault("kept_in_words", what, answer.raw)
        connection.ends(
            "http10_open", "Without a length, the end of the connection is the body's end"
        )


# LIVE and DROP


EARLIEST = 5.0
"""Seconds after which a server may close a connection that is idle."""


def idle_clients_cost_nothing(server: Server, rng: Random, clients: int = 32) -> None:
    """Others are served while connections are idle, and clients slow to ask or to read."""
    file = write_fixture(server, rng, 60_000, ".png")
    large = sparse_file(rng.randrange(64 * MiB, 80 * MiB), name_of(rng), server.root, 2)
    right_alone(server, "crowd", [file])
    with ExitStack() as stack:
        resting: list[tuple[Connection, float]] = []
        with promise("crowd"):
            for number in range(clients):
                connection = stack.enter_context(conversing(server))
                connection.ask(file, cause="one_at_a_time" if number else "")
                resting.append((connection, time.monotonic()))
            slow = stack.enter_context(conversing(server))
            slow.send(file.request()[:20], how="half a request")
            for number in range(2):
                stalled = stack.enter_context(conversing(server))
                stalled.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * KiB)
                stalled.send(Wanted(large.url, None).request())
                stalled.peek("one_at_a_time")
                begun = time.monotonic()
                with conversing(server) as connection:
                    connection.note(
                        f"{clients} other connections had an answer and are at rest, one client "
                        f"has sent half a request, and {number + 1} do not read their answers"
                    )
                    connection.ask(file, cause="one_at_a_time")
        with promise("at-rest"):
            for connection, since in rng.sample(resting, 5):
                _goes_on_after_a_rest(connection, since, file)
            _goes_on_after_a_long_answer(stalled, begun, large.size, file)


def _goes_on_after_a_long_answer(
    connection: Connection, begun: float, size: int, file: Wanted
) -> None:
    """The idle time begins at the end of an answer, even if it takes longer than `EARLIEST`."""
    time.sleep(max(0.0, begun + EARLIEST + 0.5 - time.monotonic()))
    connection.note(f"its client read the answer of {size_text(size)} after {EARLIEST:g} s")
    connection.receive_head()
    for left in range(size, 0, -MiB):
        connection.take(min(left, MiB))
    ended = time.monotonic()
    time.sleep(0.5)
    if not has_news(connection.sock):
        connection.ask(file, cause="one_at_a_time")
    elif time.monotonic() - ended < EARLIEST - 0.5:
        what = f"The answer took {ended - begun:.1f} s. Directly after it the connection is closed"
        connection.fault("closes_at_rest", f"{what}. It may be {EARLIEST:g} s after its end")


def _goes_on_after_a_rest(
    connection: Connection, since: float, file: Wanted, rest: float = 4.0
) -> None:
    """A connection that was idle for less than `EARLIEST` is still open.

    `since` is when its answer had come. The server's clock began before that, and a request that is
    too late on a busy machine says nothing.
    """
    time.sleep(max(0.0, since + rest - time.monotonic()))
    closed = has_news(connection.sock)
    rested = time.monotonic() - since
    if closed and rested < EARLIEST - 0.5:
        what = f"After {rested:.1f} s at rest the connection is closed"
        connection.fault("closes_at_rest", f"{what}. It may be after {EARLIEST:g} s")
    if not closed and rested < EARLIEST - 0.5:
        connection.ask(file, cause="one_at_a_time")


def departures_leave_nothing(server: Server, rng: Random) -> None:
    """Clients leave between requests, in the middle of one, and in the middle of an answer."""
    file = write_fixture(server, rng, 400 * KiB)
    endless = Wanted("/report/1000000000000", None)
    folder_in(server.root)
    refused = [
        *(
            Wanted(path, None).request()
            for path in ("/folder", f"{file.path}/b", "/..", "/report/x")
        ),
        *(file.request(method=method) for method in ("POST", "get")),
        file.request("no colon"),
        file.request("Content-Length: five"),
        b"HELLO\r\n\r\n",
    ]
    uploads = [
        file.request("Content-Length: 1000", method="POST") + b"begin",
        file.request("Transfer-Encoding: chunked", method="POST") + b"3e8\r\nbegin",
    ]

    def leave() -> None:
        for number in range(12):
            with conversing(server) as connection:
                connection.ask(file)
                connection.ask(file, method="HEAD")
            for half in (file.request()[:25], file.request() * 3):
                with conversing(server) as connection:
                    connection.send(half)
            with conversing(server) as connection:
                connection.send(uploads[number % 2])
                with suppress(OSError):  # the server may have closed already
                    connection.sock.shutdown(socket.SHUT_WR)
                has_news(connection.sock, 1)
            if number < 3:
                for request in refused:
                    with conversing(server) as connection:
                        connection.send(request)
                        has_news(connection.sock, 1)
            if number < 4:
                with conversing(server) as connection:
                    connection.send(endless.request())
                    connection.take(4 * KiB)

    with promise("leave"):
        survives_departures(server, rng, clients=20, besides=leave)
