"""Lab 09: a client gets the same through the gateway as without it."""

from __future__ import annotations

import gzip
import shlex
from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from streamlab.checks.evidence import shown
from streamlab.checks.examples import for_all
from streamlab.checks.outcome import promise
from streamlab.checks.probes.common import CHUNK
from streamlab.checks.proxy import forms
from streamlab.checks.proxy.clients import Gateway, Launch, expect, fetch, gateway, url
from streamlab.checks.proxy.common import LAKE, ROUTES, alone, expect_key, with_headers
from streamlab.checks.proxy.forms import Asked, Given
from streamlab.files import KiB, MiB
from streamlab.origin import Answer, Exchange, Framing

# BYTES

SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1)


def check_passthrough(launch: Launch, rng: Random) -> None:
    """The gateway passes on what the upstream sent: status, headers, body."""
    with gateway(launch, rng) as gate:
        with promise("upstream"):
            path = gate.put(Answer(b"river"))
            expect(gate, path, status=200, body=b"river", what="5 bytes", by_hand=url("length"))
        framings: list[Framing] = ["length", "chunked", "close"]
        files = [(size, framing, False) for framing in framings[:2] for size in SIZES]
        files += [(rng.randrange(2 * MiB, 3 * MiB), framing, False) for framing in framings[:2]]
        files = rng.sample(files, len(files))
        # The rare cases come last: if all files are wrong, the rare case is not the cause.
        files.append((rng.randrange(2 * MiB, 3 * MiB), "close", False))
        files.append((rng.randrange(500 * KiB, 600 * KiB), "chunked", True))
        for size, framing, odd in files:
            _file_comes_through(gate, rng.randbytes(size), framing, odd)
        metadata = b'{"id": "%s", "object": "file"}' % rng.randbytes(8).hex().encode()
        for name in ROUTES:
            with promise("metadata"):
                kind = (("Content-Type", "application/json"),)
                path = gate.put(Answer(metadata, headers=kind), metadata=True)
                lines = [f"X-Provider: {name}"] if name else []
                what = "a file's metadata"
                expect(gate, path, *lines, status=200, body=metadata, what=what)
                expect_key(gate, path, lines)
        for status in forms.STATUSES:
            _answer_comes_through(gate, Given(b"as ordered", status, "chunked"), None, False)
            name = rng.choice(list(ROUTES))
            given = Given(b"as ordered", status, on=forms.TWO_LINES)
            _answer_comes_through(gate, given, name, status % 2 == 0)
        kinds = (("Content-Type", "text/csv"), ("Content-Disposition", "inline"))
        for name in ROUTES:
            _answer_comes_through(gate, Given(b"1,2\n", on=kinds), name, False)
        for_all(_given(), rng, lambda drawn: _answer_comes_through(gate, *drawn), examples=40)
        for name, about in ((None, False), ("lake", False), (None, True)):
            with promise("to-client"):
                _name_comes_through(gate, name, about)
                _lines_about_the_answer(gate, name, about)


def _file_comes_through(gate: Gateway, body: bytes, framing: Framing, odd: bool) -> None:
    tag = gate.rng.randbytes(4).hex()
    headers = (
        ("Content-Disposition", f'attachment; filename="{tag}.bin"'),
        ("x-request-id", f"req_{tag}"),
        ("ETag", f'"{tag}"'),
    )
    path = gate.put(Answer(body, framing=framing, headers=headers, odd_chunks=odd))
    told = {"length": "Content-Length", "chunked": "chunks", "close": "the connection's end"}
    what = f"a file of {len(body)} bytes, told by {told[framing]}"
    with promise("neither" if framing == "close" else "chunks" if odd else "content"):
        by_hand = url("odd-chunks" if odd else framing, "-o got -D -")
        answer = expect(gate, path, status=200, body=body, what=what, by_hand=by_hand)
    wanted = [*headers, ("Content-Type", "application/octet-stream")]
    if framing == "length":
        wanted.append(("Content-Length", str(len(body))))
    for name, value in wanted:
        with promise("length" if name == "Content-Length" else "to-client"):
            if (found := answer.header(name.lower())) != value:
                gate.fail(
                    "header_lost",
                    f"GET {path}, {what}. The upstream sent\n\n    {name}: {value}\n\nand what "
                    f"came back has {found!r} for it:\n\n{shown(answer.raw, 500)}",
                    url(framing),
                )


def _given() -> SearchStrategy[tuple[Given, str | None, bool]]:
    """An answer, the provider, and whether it is metadata."""
    names = st.sampled_from(list(ROUTES))
    return st.tuples(forms.given_answers(), names, st.booleans())


def _answer_comes_through(gate: Gateway, given: Given, name: str | None, metadata: bool) -> None:
    """A drawn answer arrives: status, body, header lines that go on, and no others."""
    path = gate.put(given.answer, metadata=metadata)
    lines = [f"X-Provider: {name}"] if name else []
    lake = not ROUTES[name][1] and not metadata
    what = f"which the upstream answers with {given}"
    plain = "metadata" if metadata else "lake-whole" if lake else "content"
    if given.framing == "close" and not (metadata or lake):
        plain = "neither"
    elif given.odd and given.framing == "chunked" and not (metadata or lake):
        plain = "chunks"
    status = "lake-head" if lake else "statuses"
    with promise(plain, wrong_status=status if given.status != 200 else plain):
        answer = expect(gate, path, *lines, status=given.status, body=given.body, what=what)
    came = f"came back:\n\n{shown(answer.raw, 700)}"
    summary = f"GET {path}{with_headers(lines)}, {what}. The upstream sent\n\n    "
    summary += "\n    ".join(f"{k}: {v}" for k, v in (*given.on, *given.off))
    about = "lake-head" if lake else "metadata" if metadata else "to-client"
    for key in dict(given.on):
        wanted, got = forms.combined(given.on, key), forms.combined(answer.headers, key)
        lines_of = "has no such line" if got is None else f"says\n\n    {got}"
        with promise(about, line_lost="each-line"):
            if wanted != got:
                gate.fail(
                    "line_lost" if forms.lines_lost(wanted, got) else "header_lost",
                    f"{summary}\n\nand {came}\n\nAll lines of {key} together say\n\n    {wanted}\n"
                    f"\nand what came {lines_of}",
                    url("twice"),
                )
    named = forms.named_by_connection(given.off)
    for key, value in given.off:
        cookie = key.lower() == "set-cookie"
        about = "named" if key.lower() in named else "cookie" if cookie else "not-to-client"
        with promise(about):
            if value in (forms.combined(answer.headers, key) or ""):
                gate.fail(
                    "cookie" if cookie else "hop_by_hop",
                    f"{summary}\n\nand {came}\n\n{key} should have ended at the gateway.",
                    url("hop"),
                )
    if lake and answer.header("content-length") != str(len(given.body)):
        with promise("lake-whole"):
            gate.fail(
                "not_buffered",
                f"{summary}\n\nand {came}\n\nThis provider may not stream: the gateway takes in "
                f"the whole file first, and says Content-Length: {len(given.body)}.",
                url("chunked", "-D - -o got -H 'X-Provider: cheap'"),
            )


def _name_comes_through(gate: Gateway, name: str | None, metadata: bool) -> None:
    """A file name in UTF-8 in a header goes on unchanged (RFC 9110, section 5.5)."""
    named = ("Content-Disposition", forms.utf8('attachment; filename="Волга.csv"'))
    _answer_comes_through(gate, Given(b"river", on=(named,)), name, metadata)


def _lines_about_the_answer(gate: Gateway, name: str | None, metadata: bool) -> None:
    """What servers write themselves comes from the upstream too; a line of their own may be added.

    So the value that the upstream sent must be among those that came.
    """
    path = gate.put(Answer(b"river", headers=forms.ABOUT_THE_ANSWER), metadata=metadata)
    lines = [f"X-Provider: {name}"] if name else []
    lake = not ROUTES[name][1] and not metadata
    about = "lake-head" if lake else "metadata" if metadata else "to-client"
    with promise(about):
        answer = expect(gate, path, *lines, status=200, body=b"river", what="a small file")
        for key, value in forms.ABOUT_THE_ANSWER:
            came = [got for found, got in answer.headers if found.lower() == key.lower()]
            if value not in came:
                gate.fail(
                    "header_lost",
                    f"GET {path}{with_headers(lines)}. The upstream sent\n\n    {key}: {value}\n\n"
                    f"and came back:\n\n{shown(answer.raw, 900)}",
                    url("length", "-o got -D -"),
                )


# WIRE


def passed_on(launch: Launch, rng: Random) -> None:
    """In both directions, the right headers go on, and the others end at the gateway."""
    with gateway(launch, rng) as gate:
        alone(gate)
        _packed(gate)
        tag = rng.randbytes(4).hex()
        for_all(
            st.tuples(forms.asked(tag), st.sampled_from(list(ROUTES))),
            rng,
            lambda drawn: _to_provider(gate, *drawn),
            known=[(forms.all_off(tag), name) for name in ROUTES],
            examples=40,
        )
        own = (("Cookie", "session=of-the-client"), ("Authorization", "Bearer of-the-client"))
        _to_provider(gate, Asked(forms.TWO_LINES_UP, own), None)
        for name in ROUTES:
            _to_provider(gate, Asked(forms.EMPTY_UP, own), name)
        _to_provider(gate, Asked((("Accept", "*/*"),), own), "lake")
        _to_client(gate)
        for metadata in (False, True):
            for lines in ([], [LAKE]):
                _parts(gate, lines, metadata)
        _no_cookies(gate)


def _to_provider(gate: Gateway, asked: Asked, name: str | None) -> None:
    metadata = len(asked.on) % 2 == 0
    path = gate.put(Answer(b"river"), metadata=metadata)
    lines = [*asked.lines, *([f"X-Provider: {name}"] if name else [])]
    with promise("metadata" if metadata else "content"):
        expect(gate, path, *lines, status=200, body=b"river", what="a small file")
    found = gate.asked(path)[0]
    came = "\n".join(f"    {name}: {value}" for name, value in found.headers)
    options = "".join(f" -H {shlex.quote(line)}" for line in lines)
    by_hand = url("length", f"-o got{options}")
    summary = f"GET {path} was sent with\n\n    " + "\n    ".join(lines)
    summary += f"\n\nand the upstream was asked with\n\n{came}\n\n"
    with promise("method"):
        if found.method != "GET":
            gate.fail("wrong_method", f"{summary}The method was {found.method!r}.", by_hand)
    for key in dict(asked.on):
        wanted, got = forms.combined(asked.on, key), forms.combined(found.headers, key)
        with promise("to-provider", request_line_lost="each-line-up"):
            if got != wanted:
                lost = forms.lines_lost(wanted, got)
                gate.fail(
                    "request_line_lost" if lost else "request_header_lost",
                    f"{summary}{key} should have been passed on: {wanted}",
                    by_hand,
                )
    key = ROUTES[name][0]
    with promise("key"):
        if found.header("authorization") != f"Bearer {key}":
            gate.fail("wrong_key", f"{summary}Authorization should be 'Bearer {key}'.", by_hand)
    with promise("host"):
        if found.header("host") != f"127.0.0.1:{gate.origin.port}":
            gate.fail("wrong_host", f"{summary}Host should be that of the upstream.", by_hand)
    with promise("nothing-else"):
        for key, value in found.headers:
            if key in forms.ABOUT_THE_CLIENT:
                what = f"{summary}{key} tells the upstream about the client: {value!r}."
                gate.fail("request_header_leaks", what, by_hand)
    for key, value in asked.off:
        cookie = key.lower() == "cookie"
        with promise("no-cookies" if cookie else "nothing-else"):
            if value in (forms.combined(found.headers, key) or ""):
                what = f"{summary}{key} should have ended at the gateway."
                gate.fail("request_header_leaks", what, by_hand)


def _to_client(gate: Gateway) -> None:
    """All header lines that end at the gateway, in every framing and on each route."""
    ending = (("Connection", "X-Hop"), ("X-Hop", "for the gateway"), *forms.NOT_TO_CLIENT)
    ways: list[tuple[Framing, bool, list[str]]] = [
        ("length", False, []),
        ("chunked", False, []),
        ("length", True, []),
        ("chunked", False, [LAKE]),
    ]
    for framing, metadata, lines in ways:
        answer = Answer(b"river" * 999, framing=framing, headers=ending)
        path = gate.put(answer, metadata=metadata)
        with promise("metadata" if metadata else "content"):
            body, by_hand = b"river" * 999, url("hop")
            came = expect(gate, path, *lines, status=200, body=body, what="a file", by_hand=by_hand)
        summary = f"GET {path}{with_headers(lines)}. The upstream sent\n\n    "
        summary += "\n    ".join(f"{name}: {value}" for name, value in ending)
        summary += f"\n\nand came back:\n\n{shown(came.raw, 600)}\n\n"
        for name, value in (*forms.NOT_TO_CLIENT, *ending[:2]):
            cookie = name == "Set-Cookie"
            with promise("named" if name == "X-Hop" else "cookie" if cookie else "not-to-client"):
                if value in (forms.combined(came.headers, name) or ""):
                    what = f"{summary}{name} should have ended at the gateway."
                    gate.fail("cookie" if cookie else "hop_by_hop", what, url("hop"))


def _no_cookies(gate: Gateway) -> None:
    """A cookie that the upstream set for one client is not sent for another."""
    cookie = (("Set-Cookie", "session=of-the-gateway; Path=/"),)
    for status, metadata, lines in (
        (200, False, []),
        (404, False, []),
        (200, True, []),
        (200, False, [LAKE]),
    ):
        path = gate.put(Answer(b"river", status, headers=cookie), metadata=metadata)
        for _ in range(2):
            expect(gate, path, *lines, status=status, body=b"river", what="a file, for two clients")
        with promise("no-jar"):
            if sent := gate.asked(path)[-1].header("cookie"):
                gate.fail(
                    "cookie_jar",
                    f"Two clients came, one after the other: GET {path}{with_headers(lines)}. The "
                    f"upstream answered the first one with\n\n    Set-Cookie: {cookie[0][1]}\n\n"
                    f"and was asked for the second one with\n\n    Cookie: {sent}\n\nwhich that "
                    "client had not sent.",
                    url("hop"),
                )


def _parts(gate: Gateway, lines: Sequence[str], metadata: bool) -> None:
    body = gate.rng.randbytes(5000)
    first = gate.rng.randrange(1, 2000)
    part = body[first : first + 1000]
    told = f"bytes {first}-{first + 999}/5000"
    # The length that a 200 would have; no body follows (RFC 9110, sections 8.6 and 15.4.5).
    length_of_200 = () if metadata else (("Content-Length", str(len(body))),)

    def answer(exchange: Exchange) -> Answer:
        if exchange.header("if-none-match"):
            return Answer(b"", 304, headers=(("ETag", '"river"'), *length_of_200))
        if exchange.header("range") == f"bytes={first}-{first + 999}":
            return Answer(part, 206, headers=(("Content-Range", told),))
        if exchange.header("range"):
            return Answer(b"none", 416, headers=(("Content-Range", "bytes */5000"),))
        return Answer(body)

    path = gate.put(answer, metadata=metadata)
    for header, status, wanted, name, value in (
        (f"Range: bytes={first}-{first + 999}", 206, part, "Content-Range", told),
        ("Range: bytes=9999-", 416, b"none", "Content-Range", "bytes */5000"),
        ('If-None-Match: "river"', 304, b"", "ETag", '"river"'),
    ):
        what = f"which the upstream answers with status {status}"
        by_hand = url("length", f"-i -H {shlex.quote(header)}")
        with promise("lake-head" if lines else "statuses"):
            if status == 304:  # it has no body, and may have a Content-Length
                found = fetch(gate, path, header, *lines).answer
                if found.status != 304 or found.body:
                    summary = f"GET {path} with {header}, {what}. Came back:\n\n{shown(found.raw)}"
                    what = f"{summary}\n\nIt should be 304, without a body."
                    gate.fail("wrong_status", what, by_hand)
            else:
                found = expect(gate, path, header, *lines, status=status, body=wanted, what=what)
        with promise("to-client"):
            if found.header(name.lower()) != value:
                gate.fail(
                    "header_lost",
                    f"GET {path} with {header}, {what}. The upstream sent\n\n    {name}: {value}"
                    f"\n\nand came back:\n\n{shown(found.raw)}",
                    by_hand,
                )


def _packed(gate: Gateway) -> None:
    plain = gate.rng.randbytes(5000) * 40
    packed = gzip.compress(plain, mtime=0)
    # Several members are one body (RFC 1952, section 2.2).
    bodies = {"": packed, "of two members": gzip.compress(plain[:9]) + gzip.compress(plain[9:])}
    for members, body in bodies.items():
        for framing in ("length", "chunked"):
            answer = Answer(body, framing=framing, headers=(("Content-Encoding", "gzip"),))
            path = gate.put(answer)
            for provider, accepted, what in (
                ("river", "gzip", "which the upstream sends in gzip"),
                (
                    "river",
                    "identity",
                    "which the upstream sends in gzip, though the client has not asked for it",
                ),
                ("lake", "gzip", "which the upstream sends in gzip, with X-Provider: lake"),
            ):
                with promise("gzip"):
                    ask = (f"Accept-Encoding: {accepted}", f"X-Provider: {provider}")
                    told = f"{what} {members}".rstrip()
                    _expect_packed(gate, path, ask, plain, body, told)
    path = gate.put(
        lambda asked: (
            Answer(packed, headers=(("Content-Encoding", "gzip"),))
            if "gzip" in (asked.header("accept-encoding") or "")
            else Answer(plain)
        )
    )
    for lines in (["Accept-Encoding: identity"], ["Accept-Encoding: identity", LAKE]):
        found = fetch(gate, path, *lines).answer
        with promise("identity"):
            if found.status == 200 and found.header("content-encoding") == "gzip":
                gate.fail(
                    "gzip_unasked",
                    f"GET {path}{with_headers(lines)}. The upstream sends gzip if it is asked "
                    f"for. Came back:\n\n{shown(found.raw, 400)}\n\nThe gateway has asked for it: "
                    f"{gate.asked(path)[-1].header('accept-encoding')!r}.",
                    url("gzip", "-i -H 'Accept-Encoding: identity'"),
                )


def _expect_packed(
    gate: Gateway, path: str, ask: Sequence[str], plain: bytes, packed: bytes, what: str
) -> None:
    found = fetch(gate, path, *ask)
    answer = found.answer
    coding = answer.header("content-encoding")
    summary = (
        f"GET {path}{with_headers(ask)}, {what}: {len(plain)} bytes, {len(packed)} in gzip. Came "
        f"back:\n\n{shown(answer.raw, 400)}\n\n"
    )
    by_hand = url("gzip", "-i -H 'Accept-Encoding: identity'")
    if answer.status != 200:
        gate.fail("wrong_status", f"{summary}The status should be 200.", by_hand)
    if not found.complete:
        problem = answer.problem or "It has no end"
        gate.fail("gzip_mixed", f"{summary}{problem}.", by_hand)
    if coding in (None, "identity", "gzip") and answer.body == (
        packed if coding == "gzip" else plain
    ):
        return
    if coding in (None, "identity") and answer.body and plain.startswith(answer.body):
        cause, wrong = "gzip_cut", f"{len(answer.body)} of {len(plain)} bytes came."
    else:
        cause, wrong = "gzip_mixed", "The two headers and the body do not fit together."
    gate.fail(
        cause,
        f"{summary}It should be the gzip with Content-Encoding, or the {len(plain)} bytes without. "
        f"{wrong}",
        by_hand,
    )
