"""Lab 04: many requests over one connection, in any pieces, get their answers in order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from random import Random

from hypothesis import strategies as st

from streamlab.checks import request_forms
from streamlab.checks.connection import Connection, Wanted
from streamlab.checks.examples import for_all
from streamlab.checks.framing.common import (
    by_curl,
    by_http_client,
    by_requests,
    conversing,
    has_news,
    missing,
    report_of,
    right_alone,
    write_fixture,
)
from streamlab.checks.outcome import CheckFailed, promise
from streamlab.checks.probes.common import folder_in, name_of
from streamlab.checks.waits import ANSWER
from streamlab.files import KiB, MiB, size_text
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

# STEP


def stays_in_step(server: Server, rng: Random) -> None:
    """One connection serves many requests, whatever the files are; real clients reuse it too."""
    files = [write_fixture(server, rng, size, ".html") for size in (0, 1, 1, 0, 700, 70_000)]
    files += [write_fixture(server, rng, rng.randrange(2 * MiB, 3 * MiB), ".mp4")]
    close_up = Wanted(f"/close-{name_of(rng, '.png')}", rng.randbytes(900))
    (server.root / close_up.path[1:]).write_bytes(close_up.body or b"")
    files.append(close_up)
    folder_in(server.root)
    errors = [missing(rng), Wanted("/folder", None, 404), missing(rng)]
    right_alone(server, "stays-open", files)
    course = [*rng.sample(files, len(files)), *rng.sample([*files, *errors], len(files) + 3)]
    _converse(server, course)
    with promise("stays-open"):
        by_http_client(server, rng.sample(files, len(files)))
        by_requests(server, rng.sample([*files, *errors], len(files) + 3), "out_of_step")
        by_curl(server, rng.sample(files, len(files)), connections=1)
        _ever_more(server, files[4], rng.randrange(1100, 1200))


def _converse(server: Server, course: Sequence[Wanted]) -> None:
    """Ask for all of them, in order, over as few connections as the server allows."""
    todo = list(course)
    while todo:
        with conversing(server) as connection:
            refused = False
            while todo:
                wanted = todo.pop(0)
                referer = "Referer: http://127.0.0.1/close-up.html"
                step = "framed" if refused or wanted.status >= 400 else "stays-open"
                with promise(step, closes="says-close" if refused else "stays-open"):
                    answer = connection.ask(wanted, referer)
                refused = answer.status >= 400
                step = "framed" if refused else "stays-open"
                with promise(step, closes="after-200", stays_open="says-close"):
                    if not connection.goes_on(answer):
                        break
            else:
                with promise("framed" if refused else "stays-open", stays_open="close"):
                    connection.send(course[0].request("Connection: close"))
                    connection.expect(course[0])
                    connection.ends("stays_open", "The request said Connection: close")


def _ever_more(server: Server, wanted: Wanted, number: int, at_once: int = 25) -> None:
    """One connection serves more requests than servers usually allow as their limit."""
    with conversing(server) as connection:
        connection.note(f"{number} requests, {at_once} at a time")
        for _ in range(0, number, at_once):
            connection.send_again(wanted.request(), at_once)
            for _ in range(at_once):
                connection.goes_on(connection.expect(wanted))


# SPLIT


def requests_in_pieces(server: Server, rng: Random) -> None:
    """Requests may come a byte at a time, many at once, one and a half at once, or without end."""
    small, other = (
        write_fixture(server, rng, 500, ".css"),
        write_fixture(server, rng, 40_000, ".js"),
    )
    large = write_fixture(server, rng, rng.randrange(MiB, 2 * MiB), ".png")
    files = [small, other, large, report_of(20)]
    right_alone(server, "in-pieces", files)
    for wanted in (small, other):
        _byte_by_byte(server, wanted)
    _long_heads(server, rng, small)
    course = [large, small, other, small, files[3], large, other, small]
    _send_at_once(server, [("GET", wanted) for wanted in course], [])
    # Each head is as long as allowed, and all together are more than a server reads at once.
    _send_at_once(server, [("GET", small)] * 20, [], request_forms.padding(12 * KiB, 3))
    _one_and_a_half(server, other, small)
    methods = st.sampled_from(["GET", "GET", "HEAD"])
    requests = st.lists(st.tuples(methods, st.sampled_from(files)), min_size=1, max_size=5)
    # After an error a server may close, and then answers that are still on their way may be lost.
    last = st.lists(st.tuples(methods, st.just(missing(rng))), max_size=1)
    heap = st.tuples(st.builds(list.__add__, requests, last), request_forms.cuts())
    for_all(heap, rng, lambda drawn: _send_at_once(server, *drawn), examples=30)
    with promise("endless-head"):
        for beginning, block, how in (
            (small.request()[:-2], _header_lines(64), "header lines without end"),
            (small.request()[:-2] + b"X-Long: ", b"x" * 64 * KiB, "a header line without end"),
            (b"GET /", b"x" * 64 * KiB, "a request line without end"),
        ):
            _endless_head(server, small, beginning, block, how)


def _byte_by_byte(server: Server, wanted: Wanted) -> None:
    with promise("in-pieces"), conversing(server) as connection:
        pieces = [bytes([byte]) for byte in wanted.request("Accept: */*")]
        connection.send(*pieces, pause=0.001, how="a byte at a time")
        connection.expect(wanted, cause="one_recv")


def _send_at_once(
    server: Server,
    course: Sequence[tuple[str, Wanted]],
    places: Sequence[float],
    fields: Sequence[str] = (),
) -> None:
    """Send requests without waiting for answers, cut anywhere (RFC 9112, section 9.3.2)."""
    raw = b"".join(wanted.request(*fields, method=method) for method, wanted in course)
    pieces = request_forms.cut(raw, places)
    several = len(course) > 1
    lost = "lost_request" if several else "one_recv"
    with conversing(server) as connection, promise("in-heaps", wrong_order="in-order"):
        how = f"{len(course)} requests" if several else "a request"
        how += f", in {len(pieces)} pieces" if len(pieces) > 1 else ", in one piece"
        connection.send(*pieces, pause=0.01 if len(pieces) > 1 else 0, how=how)
        for number, (method, wanted) in enumerate(course):
            answer = connection.receive(method, cause=lost)
            if not _is_answer_to(answer, method, wanted):
                connection.fault(
                    _mixed_up(connection, answer, course[number:], lost),
                    f"Answer number {number + 1} should be that to {method} {wanted.path}",
                    answer.raw,
                )
            if not connection.goes_on(answer):
                return
        connection.ask(course[0][1], "Connection: close", cause=lost)


def _is_answer_to(answer: RawAnswer, method: str, wanted: Wanted) -> bool:
    body = b"" if method == "HEAD" else wanted.body
    return answer.status == wanted.status and body in (None, answer.body)


def _mixed_up(
    connection: Connection, answer: RawAnswer, course: Sequence[tuple[str, Wanted]], lost: str
) -> str:
    """Why a wrong answer came: the order is wrong, or some answers never come."""
    missing = list(course)
    with suppress(CheckFailed, ValueError):
        for _ in course:
            right = [each for each in missing if _is_answer_to(answer, *each)]
            missing.remove(right[0] if right else ("", course[0][1]))
            if not missing:
                return "wrong_order"
            answer = connection.receive()
    return lost


def _one_and_a_half(server: Server, first: Wanted, second: Wanted) -> None:
    with promise("in-heaps"), conversing(server) as connection:
        later = second.request("Connection: close")
        cut = later.index(b"\r\n") + 9
        connection.send(first.request() + later[:cut], how="in one piece, a request and a half")
        connection.expect(first)
        connection.send(later[cut:], how="the other half")
        connection.expect(second, cause="lost_request")
        connection.ends("stays_open", "The last request said Connection: close")


def _long_heads(server: Server, rng: Random, wanted: Wanted, most: int = 16 * KiB) -> None:
    """A head as long as allowed, in one header line or in many."""
    room = most - len(wanted.request("Connection: close"))
    for lines in (1, 2, rng.randrange(20, 50), 62):  # and Host, and Connection: 64
        padding = request_forms.padding(room, lines)
        request = wanted.request(*padding, "Connection: close")
        pieces = [request[:5000], request[5000:10_000], request[10_000:]]
        how = f"with a head of {len(request)} bytes in {lines + 2} header lines"
        for sent, pause in ([request], 0), (pieces, 0.02):
            with promise("long-head"), conversing(server) as connection:
                in_pieces = ", in three pieces" if pause else ", in one piece"
                connection.send(*sent, pause=pause, how=how + in_pieces)
                connection.expect(wanted, cause="long_head")


def _header_lines(number: int) -> bytes:
    return b"".join(b"X-%06d: %s\r\n" % (each, b"x" * 1000) for each in range(number))


def _endless_head(
    server: Server, wanted: Wanted, beginning: bytes, block: bytes, how: str, most: int = 4 * MiB
) -> None:
    """The server refuses a head without end before it has `most` bytes."""
    sent = len(beginning)
    with conversing(server) as connection:
        connection.send(beginning, how=f"the beginning of a head, and then {how}")
        with suppress(OSError):
            while sent < most and not has_news(connection.sock):
                connection.sock.sendall(block[: most - sent])
                sent += len(block[: most - sent])
        if not has_news(connection.sock, ANSWER):
            connection.fault(
                "no_limit",
                f"{size_text(sent)} later there is no answer, and the connection is still open",
            )
    with conversing(server) as connection:
        connection.ask(wanted, "Connection: close")
