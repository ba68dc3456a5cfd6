"""Lab 09: a client can tell that the upstream broke off."""

from __future__ import annotations

from random import Random

from streamlab.checks.evidence import shown
from streamlab.checks.examples import for_all
from streamlab.checks.outcome import promise
from streamlab.checks.proxy import forms
from streamlab.checks.proxy.clients import Gateway, Launch, expect, fetch, gateway, url
from streamlab.checks.proxy.common import LAKE, alone, expect_error, with_headers
from streamlab.checks.waits import ANSWER
from streamlab.files import KiB
from streamlab.origin import Answer, Exchange, Order

# CUT


def breaks_are_told(launch: Launch, rng: Random) -> None:
    """An upstream that breaks off is an error before the headers, and a broken connection later."""
    with gateway(launch, rng) as gate:
        alone(gate)
        body = rng.randbytes(rng.randrange(600 * KiB, 900 * KiB))
        cut = len(body) * 6 // 10
        ways = [
            (Answer(body, stop=cut), "60 % of what Content-Length says", "cut"),
            (Answer(body, stop=len(body) - 1), "all but the last byte", "cut"),
            (Answer(body, stop=cut, reset=True), "60 %, then a reset", "reset"),
            (Answer(body, stop=0), "the headers, and nothing of the body", "cut"),
            (
                Answer(body, framing="chunked", stop=cut),
                "60 % of it, cut inside a chunk",
                "cut-chunked",
            ),
            (
                Answer(body, framing="chunked", last_chunk=False),
                "all of it in chunks, but not the last, empty one",
                "no-last-chunk",
            ),
        ]
        for answer, sends, by_hand in ways:
            with promise("no-last-chunk" if "last, empty" in sends else "breaks"):
                _expect_broken(gate, answer, body, sends, by_hand)

        def broken(drawn: tuple[bytes, bytes]) -> None:
            content, wire = drawn
            raw = wire.partition(b"\r\n\r\n")[2]
            sends = f"{raw[-40:]!r} as the last bytes, in chunks, and then closes the connection"

            def order(exchange: Exchange) -> Answer:  # HTTP/1.0 has no chunks
                shorter = Answer(content, stop=len(content) - 1)
                return Answer(wire=wire) if exchange.version == "HTTP/1.1" else shorter

            _expect_broken(gate, order, content, sends, "cut-chunked")

        with promise("no-last-chunk"):
            for_all(forms.broken_answers(), rng, broken, examples=20)
        for answer, what in (
            (Answer(status=0), "which the upstream closes the connection for, without a word"),
            (Answer(status=0, reset=True), "which the upstream answers with a reset"),
            (Answer(wire=b"HTTP/1."), "of whose first line the upstream sends a part, and closes"),
        ):
            for lines, metadata in (([], False), ([LAKE], False), ([], True)):
                path = gate.put(answer, metadata=metadata)
                with promise("no-answer"):
                    told, by_hand = what + with_headers(lines), url("silent")
                    expect_error(
                        gate, path, *lines, what=told, cause="begins_early", by_hand=by_hand
                    )
        with promise("breaks"):
            small = Answer(body[:300], stop=200)
            _expect_broken(gate, small, body[:300], "200 bytes", "cut", metadata=True)
        path = gate.put(Answer(body))
        with promise("content"):
            what = "after the upstream had broken off others"
            expect(gate, path, status=200, body=body, what=what)
        gate.origin.refuse()
        for each, *lines in ([path], [path, LAKE], [path.removesuffix("/content")]):
            with promise("unreachable"):
                expect_error(
                    gate,
                    each,
                    *lines,
                    what="while nothing listens at the upstream's port",
                    cause="begins_early",
                    by_hand="-i http://127.0.0.1:PORT/v1/files/length/content",
                )


def _expect_broken(
    gate: Gateway, answer: Order, body: bytes, sends: str, by_hand: str, *, metadata: bool = False
) -> None:
    """The client must not take the part for the whole file, and must know soon."""
    path = gate.put(answer, metadata=metadata)
    found = fetch(gate, path)
    got = found.answer
    summary = (
        f"GET {path}, a file of {len(body)} bytes, of which the upstream sends {sends}. "
        f"{len(got.body)} bytes of a body came back"
    )
    if found.complete and got.status in (502, 504):
        return
    if got.status not in (0, 200):
        gate.fail("wrong_status", f"{summary}, with status {got.status}.", url(by_hand, "-o got"))
    if found.complete:
        gate.fail(
            "truncation_hidden",
            f"{summary}, with status {got.status}, as a complete answer:\n\n{shown(got.raw, 300)}",
            url(by_hand, "-o got") + "; echo $?",
        )
    if not found.closed:
        gate.fail(
            "hangs",
            f"{summary}, and then nothing: {ANSWER:g} s later the connection was still open.",
            url(by_hand, "-o got"),
        )
    if not body.startswith(got.body):
        gate.fail("wrong_bytes", f"{summary}, and they are not how the file begins.")
