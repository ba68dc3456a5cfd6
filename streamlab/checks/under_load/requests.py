"""Lab 06: HEAD, connections that stay open, and bytes that are no request."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from random import Random

from hypothesis import strategies as st

from streamlab.checks import request_forms
from streamlab.checks.connection import Connection, Wanted, open_connection, options_of
from streamlab.checks.evidence import by_hand, curl, log_of, shown, state_of
from streamlab.checks.examples import for_all
from streamlab.checks.exchange import connected, head_over, request_for
from streamlab.checks.file_server import requests
from streamlab.checks.outcome import CheckFailed, fail, promise
from streamlab.checks.probes.common import CHUNK, folder_in, name_of
from streamlab.checks.probes.requests import expect_answer
from streamlab.checks.under_load.common import Launch
from streamlab.files import GiB, KiB, MiB, random_file, sparse_file
from streamlab.http.answer import WHOLE, AnswerSoFar, RawAnswer, read_answer
from streamlab.process.server import Server

# WIRE


def check_http_syntax(launch: Launch, rng: Random) -> None:
    """Answers are HTTP, also to HEAD; connections stay open or close as the headers say."""
    requests.check_http_syntax(launch, rng)
    server = launch()
    requests.heads_are_read(server, rng)
    heads_have_no_body(server, rng)
    connections_keep_their_word(server, rng)
    what_is_no_request_does_no_harm(server, rng)


def heads_have_no_body(server: Server, rng: Random) -> None:
    """HEAD gets the status and the headers of GET, and no body."""
    huge = sparse_file(rng.randrange(280, 320) * GiB, name_of(rng), server.root, 4)
    small = random_file(rng.randrange(3000, 5000), name_of(rng), server.root)
    empty = random_file(0, name_of(rng), server.root)
    medium = random_file(rng.randrange(200, 300) * KiB, name_of(rng), server.root)
    folder_in(server.root)
    for name, path, status in (
        ("head-method", server.path_of(small), 200),
        ("head-method", server.path_of(empty), 200),
        ("head-method", server.path_of(medium), 200),
        ("head-huge", server.path_of(huge), 200),
        ("head-of-nothing", server.path_of(name_of(rng)), 404),
        ("head-of-nothing", server.path_of("folder"), 404),
    ):
        with promise(name):
            _head_without_body(server, path, status)


def _head_without_body(server: Server, path: str, status: int) -> None:
    get = _beginning(server, request_for(path))
    so_far, silent = AnswerSoFar(WHOLE, "HEAD"), "no_answer"
    try:
        with connected(server) as sock:
            sock.sendall(request_for(path).replace(b"GET", b"HEAD", 1))
            while len(so_far.raw) < MiB and not so_far.closed:
                so_far.take(sock.recv(CHUNK))
                if so_far.ended:
                    sock.settimeout(0.3)
    except TimeoutError:
        silent = "no_end"
    except OSError:
        pass  # what has come is judged below
    answer, body, raw = so_far.head_alone(), so_far.surplus, bytes(so_far.raw)
    summary = f"Sent HEAD {path}. Came back:\n\n{shown(raw)}\n\n"
    line = curl(server, path, "-I")
    if not raw:
        fail(silent, f"Sent HEAD {path}, and nothing came back.{state_of(server)}", line)
    if answer.problem:
        fail("malformed", f"{summary}{answer.problem}.{state_of(server)}", line)
    if body:
        fail("head_with_body", f"{summary}{len(body)} bytes or more follow the head.", line)
    if answer.status != status and not (status == 404 and 400 <= answer.status < 500):
        right = "from 400 to 499" if status == 404 else status
        fail("wrong_status", f"{summary}The status should be {right}.{state_of(server)}", line)
    for name in ("Content-Length", "Content-Type") if status == 200 else ():
        said, wanted = answer.header(name.lower()), get.header(name.lower())
        if said != wanted:
            told = f"To GET the server says {name}: {wanted}, and to HEAD {said}."
            fail("head_differs", f"{summary}{told}{log_of(server)}", line)


def _beginning(server: Server, request: bytes) -> RawAnswer:
    """The head of an answer, without the rest."""
    with suppress(OSError), connected(server) as sock:
        sock.sendall(request)
        return head_over(sock)[0]
    return read_answer(b"", closed=True)


RENAMED = {"not_found": "wrong_status", "bad_chunks": "malformed", "empty_chunk": "out_of_step"}
"""This lab's names for the causes that a conversation finds."""


def connections_keep_their_word(server: Server, rng: Random) -> None:
    """A connection ends when the client or the server says so; else it stays open."""
    sizes = [0, rng.randrange(500, 900), rng.randrange(40, 60) * KiB, 128 * KiB]
    sizes += [rng.randrange(200, 300) * KiB, rng.randrange(MiB, 2 * MiB)]
    files = [Wanted(f"/{name_of(rng)}", rng.randbytes(size)) for size in sizes]
    for wanted in files:
        (server.root / wanted.path[1:]).write_bytes(wanted.body or b"")
    folder_in(server.root)
    missing = [Wanted(f"/{name_of(rng)}", None, 404), Wanted("/folder", None, 404)]
    after = files[1]
    for wanted in (*files, *missing):
        for method in ("GET", "HEAD"):
            with promise("close-asked"), open_connection(server, RENAMED) as connection:
                connection.ask(wanted, "Connection: close", method=method)
                connection.ends("stays_open", "The request said Connection: close")
            with _says_close(), open_connection(server, RENAMED) as connection:
                if _goes_on(connection, connection.ask(wanted, method=method), method):
                    _ask_and_part(connection, after)
    # Whole pieces of any size up to that: a server that waits for a shorter one finds none.
    whole = Wanted(f"/{name_of(rng)}", rng.randbytes(16 * MiB))
    (server.root / whole.path[1:]).write_bytes(whole.body or b"")
    with _says_close(), open_connection(server, RENAMED) as connection:
        if _goes_on(connection, connection.ask(whole), "GET"):
            with promise("in-order"):
                _ask_and_part(connection, after)
    with promise("close-asked"), open_connection(server, RENAMED) as connection:
        lines = [f"X-Fill-{number}: {'x' * 400}" for number in range(30)]
        connection.ask(after, *lines, "Connection: close")
        connection.ends("stays_open", "The request said Connection: close, after 12 KB of others")
    with _says_close(), open_connection(server, RENAMED) as connection:
        if not _goes_on(connection, connection.ask(after), "GET"):
            with promise("in-order"):
                return  # a closed connection has no next request
    # After an error a server may close, and then answers that are still on their way may be lost.
    requests = st.tuples(st.sampled_from(["GET", "GET", "HEAD"]), st.sampled_from(files[:-1]))
    last = st.lists(st.tuples(st.just("GET"), st.sampled_from(missing)), max_size=1)
    course = st.builds(list.__add__, st.lists(requests, min_size=2, max_size=6), last)
    heaps = st.tuples(course, request_forms.cuts(2))
    with promise("in-order", closes="says-close", stays_open="close-asked"):
        get_all = [("GET", wanted) for wanted in files[:-1]]
        known = [(get_all[1:4], list[float]()), ([*get_all[1:], ("GET", missing[0])], [0.5])]
        for_all(
            heaps, rng, lambda heap: _send_at_once(server, after, *heap), known=known, examples=30
        )
        _answers_before_the_next_is_whole(server, after)
        _ever_more(server, after, rng.randrange(1100, 1200))


def _says_close() -> AbstractContextManager[None]:
    """A connection closes if an answer says so or its client asks, and not otherwise."""
    return promise("says-close", stays_open="close-asked")


def _goes_on(connection: Connection, answer: RawAnswer, method: str) -> bool:
    """Whether another request may follow; else the connection has to end now (RFC 9112, 9.3)."""
    told = options_of(answer)
    old = answer.raw.startswith(b"HTTP/1.0") and "keep-alive" not in told
    if "close" in told or old:
        connection.ends("stays_open", "The answer says that it is the connection's last one")
        return False
    framed = answer.header("content-length") or answer.header("transfer-encoding")
    return method == "HEAD" or framed is not None


def _ask_and_part(connection: Connection, wanted: Wanted) -> None:
    connection.ask(wanted, "Connection: close")
    connection.ends("stays_open", "The request said Connection: close")


def _send_at_once(
    server: Server, after: Wanted, course: Sequence[tuple[str, Wanted]], places: Sequence[float]
) -> None:
    """Several requests at once, cut anywhere, are answered in order (RFC 9112, 9.3.2)."""
    raw = b"".join(wanted.request(method=method) for method, wanted in course)
    pieces = request_forms.cut(raw, places)
    with open_connection(server, RENAMED) as connection:
        how = f"{len(course)} requests in {len(pieces)} pieces"
        connection.send(*pieces, pause=0.01 if len(pieces) > 1 else 0, how=how)
        for method, wanted in course:
            if not _goes_on(connection, connection.expect(wanted, method, "lost_request"), method):
                return
        _ask_and_part(connection, after)


def _answers_before_the_next_is_whole(server: Server, wanted: Wanted) -> None:
    """A request is answered, though a part of the next one came in the same piece."""
    with open_connection(server, RENAMED) as connection:
        first, second = wanted.request(), wanted.request("Connection: close")
        connection.send(first + second[:9], how="one request and the beginning of the next")
        if _goes_on(connection, connection.expect(wanted, cause="no_answer"), "GET"):
            connection.send(second[9:], how="the rest")
            connection.expect(wanted, cause="lost_request")


def _ever_more(server: Server, wanted: Wanted, number: int, at_once: int = 25) -> None:
    """More requests over one connection than servers usually allow as their limit."""
    with open_connection(server, RENAMED) as connection:
        connection.note(f"{number} requests, {at_once} at a time")
        for _ in range(0, number, at_once):
            connection.send_again(wanted.request(), at_once)
            for _ in range(at_once):
                if not _goes_on(connection, connection.expect(wanted), "GET"):
                    return


def what_is_no_request_does_no_harm(server: Server, rng: Random) -> None:
    """After bytes that are no request, others are served, whatever the server makes of them."""
    small = random_file(rng.randrange(3000, 5000), name_of(rng), server.root)
    path = server.path_of(small)
    content = small.path.read_bytes()
    hello = bytes.fromhex("16030100700100006c0303") + rng.randbytes(100)  # the beginning of TLS

    def goes_on(raw: bytes) -> None:
        with suppress(OSError), connected(server, 1) as sock:
            sock.sendall(raw)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(CHUNK):
                pass
        try:
            expect_answer(server, path, 200, content)
        except CheckFailed as failure:
            failure.evidence = (
                f"A client sent what is no request:\n\n{shown(raw)}\n\nAfter that a request "
                f"like one that was answered right before:\n\n{failure.evidence}"
            )
            failure.curl = by_hand([raw])
            raise

    with promise("no-request"):
        expect_answer(server, path, 200, content)
        known = [f"{line}\r\n\r\n".encode() for line in request_forms.bad_request_lines(path)]
        known += [hello, b"\r\n\r\n", b"\0\xff\r\n\r\n", b" \r\n\r\n"]
        for raw in rng.sample(known, len(known)):
            goes_on(raw)
