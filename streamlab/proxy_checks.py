"""What lab 09 checks a gateway for. The upstream is ours: it answers to order, and sees all.

Each function is one kind of check, as in `streamlab.checks`: it takes what starts the student's
gateway and a source of random draws, and ends in `fail(cause, evidence)`. What the gateway has
asked for, how much the upstream could send, and when it was left, is seen at the upstream's end of
the connection; what it makes of that, at the client's. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import gzip
import http.client
import re
import shlex
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from streamlab import proxy_forms as forms
from streamlab.checks import (
    CHUNK,
    busy_at_rest,
    comes_to_rest,
    held_by,
    most_held,
    shown,
    traced,
)
from streamlab.examples import for_all
from streamlab.files import GiB, KiB, MiB, TiB, size_text
from streamlab.memory import descriptors, socket_room, threads_of
from streamlab.origin import Answer, Bomb, Exchange, Framing, Order, Origin
from streamlab.patience import settled
from streamlab.proxy_clients import (
    PATIENCE,
    Gateway,
    Launch,
    Visit,
    expect,
    fetch,
    gateway,
    url,
    waited_so_far,
)
from streamlab.proxy_forms import Asked, Given
from streamlab.testing import CheckFailed, note, promise

RIVER, LAKE_KEY = "key-of-the-river", "key-of-the-lake"
"""The keys that the stub has for its two providers; the lake's may not stream."""
TIMEOUT = 2.0
"""The silence that the gateway allows an upstream, where a check waits for the end of it."""
LONGER = 7.0
"""Another such limit: more than the five seconds that some libraries wait unless told otherwise."""
LATER = 3.0
"""How much later than that the client must know."""
CLIENTS = 32
EACH = 512 * KiB
"""What a gateway may hold for a client who waits."""
SLACK = 16 * MiB
"""What it may hold besides: what Python and its allocator take, whatever the number of clients."""
AHEAD = 24 * MiB
"""What the upstream may send to a client who does not read, beyond what the kernel takes."""
GONE = 2.0
"""Seconds after a client's departure in which the upstream must be left too."""


# BYTES

SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1)
LAKE = "X-Provider: lake"


def alone(gate: Gateway) -> None:
    """One small file comes through: where it does not, nothing else is the cause."""
    with promise("content"):
        expect(gate, gate.put(Answer(b"river")), status=200, body=b"river", what="5 bytes")


def as_direct(launch: Launch, draw: Random) -> None:
    """What comes through the gateway is what the upstream sent: status, headers, body."""
    with gateway(launch, draw) as gate:
        with promise("upstream"):
            path = gate.put(Answer(b"river"))
            expect(gate, path, status=200, body=b"river", what="5 bytes", by_hand=url("length"))
        framings: list[Framing] = ["length", "chunked", "close"]
        files = [(size, framing, False) for framing in framings[:2] for size in SIZES]
        files += [(draw.randrange(2 * MiB, 3 * MiB), framing, False) for framing in framings[:2]]
        files = draw.sample(files, len(files))
        # What is rare comes last: where all files are wrong, it is not the cause.
        files.append((draw.randrange(2 * MiB, 3 * MiB), "close", False))
        files.append((draw.randrange(500 * KiB, 600 * KiB), "chunked", True))
        for size, framing, odd in files:
            _file_comes_through(gate, draw.randbytes(size), framing, odd)
        metadata = b'{"id": "%s", "object": "file"}' % draw.randbytes(8).hex().encode()
        for name in ROUTES:
            with promise("metadata"):
                kind = (("Content-Type", "application/json"),)
                path = gate.put(Answer(metadata, headers=kind), metadata=True)
                lines = [f"X-Provider: {name}"] if name else []
                what = "a file's metadata"
                expect(gate, path, *lines, status=200, body=metadata, what=what)
                _expect_key(gate, path, lines)
        for status in forms.STATUSES:
            _answer_comes_through(gate, Given(b"as ordered", status, "chunked"), None, False)
            name = draw.choice(list(ROUTES))
            given = Given(b"as ordered", status, on=forms.TWO_LINES)
            _answer_comes_through(gate, given, name, status % 2 == 0)
        for_all(_given(), draw, lambda drawn: _answer_comes_through(gate, *drawn), examples=40)
        for name, about in ((None, False), ("lake", False), (None, True)):
            with promise("to-client"):
                _name_comes_through(gate, name, about)


def _file_comes_through(gate: Gateway, body: bytes, framing: Framing, odd: bool) -> None:
    tag = gate.draw.randbytes(4).hex()
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
    """An answer, the provider that it is asked of, and whether it is metadata."""
    names = st.sampled_from(list(ROUTES))
    return st.tuples(forms.given_answers(), names, st.booleans())


def _answer_comes_through(gate: Gateway, given: Given, name: str | None, metadata: bool) -> None:
    """A drawn answer has its status, its body, its header lines that go on, and no others."""
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
    story = f"GET {path}{_with(lines)}, {what}. The upstream sent\n\n    "
    story += "\n    ".join(f"{k}: {v}" for k, v in (*given.on, *given.off))
    about = "lake-head" if lake else "metadata" if metadata else "to-client"
    for key in dict(given.on):
        wanted, got = forms.combined(given.on, key), forms.combined(answer.headers, key)
        with promise(about, line_lost="each-line"):
            if wanted != got:
                gate.fail(
                    "line_lost" if forms.lines_lost(wanted, got) else "header_lost",
                    f"{story}\n\nand {came}\n\nAll lines of {key} together say\n\n    {wanted}\n"
                    f"\nand what came says\n\n    {got}",
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
                    f"{story}\n\nand {came}\n\n{key} should have ended at the gateway.",
                    url("hop"),
                )
    if lake and answer.header("content-length") != str(len(given.body)):
        with promise("lake-whole"):
            gate.fail(
                "not_buffered",
                f"{story}\n\nand {came}\n\nThis provider may not stream: the gateway takes in "
                f"the whole file first, and says Content-Length: {len(given.body)}.",
                url("chunked", "-D - -o got -H 'X-Provider: cheap'"),
            )


def _name_comes_through(gate: Gateway, name: str | None, metadata: bool) -> None:
    """A file's name in UTF-8 is bytes like others (RFC 9110, section 5.5)."""
    named = ("Content-Disposition", forms.utf8('attachment; filename="Волга.csv"'))
    _answer_comes_through(gate, Given(b"river", on=(named,)), name, metadata)


def _with(lines: Sequence[str]) -> str:
    """Header lines as a part of a sentence."""
    return f" with {', '.join(lines)}" if lines else ""


# WIRE


def passed_on(launch: Launch, draw: Random) -> None:
    """Headers go on that must, both ways, and those that must not end at the gateway."""
    with gateway(launch, draw) as gate:
        alone(gate)
        _packed(gate)
        for_all(
            st.tuples(forms.asked(draw.randbytes(4).hex()), st.sampled_from(list(ROUTES))),
            draw,
            lambda drawn: _to_provider(gate, *drawn),
            examples=40,
        )
        own = (("Cookie", "session=of-the-client"), ("Authorization", "Bearer of-the-client"))
        _to_provider(gate, Asked(forms.TWO_LINES_UP, own), None)
        _to_provider(gate, Asked((("Accept", "*/*"),), own), "lake")
        _to_client(gate)
        for metadata in (False, True):
            for lines in ([], [LAKE]):
                _parts(gate, lines, metadata)
        _no_cookies(gate)


def _expect_key(gate: Gateway, path: str, lines: Sequence[str]) -> None:
    """The upstream was shown the key of the provider that a client's header lines name."""
    name = next((line.partition(": ")[2] for line in lines if line.startswith("X-Prov")), None)
    key = ROUTES[name][0]
    with promise("lake-names" if key == LAKE_KEY else "river-names"):
        for asked in gate.asked(path):
            if (found := asked.header("authorization")) != f"Bearer {key}":
                gate.fail(
                    "wrong_key",
                    f"GET {path}{_with(lines) or ' without X-Provider'}: the upstream was asked "
                    f"with Authorization: {found!r}. It should be 'Bearer {key}'.",
                )


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
    story = f"GET {path} was sent with\n\n    " + "\n    ".join(lines)
    story += f"\n\nand the upstream was asked with\n\n{came}\n\n"
    with promise("method"):
        if found.method != "GET":
            gate.fail("wrong_method", f"{story}The method was {found.method!r}.", by_hand)
    for key in dict(asked.on):
        wanted, got = forms.combined(asked.on, key), forms.combined(found.headers, key)
        with promise("to-provider", request_line_lost="each-line-up"):
            if got != wanted:
                lost = forms.lines_lost(wanted, got)
                gate.fail(
                    "request_line_lost" if lost else "request_header_lost",
                    f"{story}{key} should have been passed on: {wanted}",
                    by_hand,
                )
    key = ROUTES[name][0]
    with promise("key"):
        if found.header("authorization") != f"Bearer {key}":
            gate.fail("wrong_key", f"{story}Authorization should be 'Bearer {key}'.", by_hand)
    with promise("host"):
        if found.header("host") != f"127.0.0.1:{gate.origin.port}":
            gate.fail("wrong_host", f"{story}Host should be that of the upstream.", by_hand)
    for key, value in asked.off:
        cookie = key.lower() == "cookie"
        with promise("no-cookies" if cookie else "nothing-else"):
            if value in (forms.combined(found.headers, key) or ""):
                what = f"{story}{key} should have ended at the gateway."
                gate.fail("request_header_leaks", what, by_hand)


def _to_client(gate: Gateway) -> None:
    """What ends at the gateway, all of it at once, however the body is told, on each way."""
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
        story = f"GET {path}{_with(lines)}. The upstream sent\n\n    "
        story += "\n    ".join(f"{name}: {value}" for name, value in ending)
        story += f"\n\nand came back:\n\n{shown(came.raw, 600)}\n\n"
        for name, value in (*forms.NOT_TO_CLIENT, *ending[:2]):
            cookie = name == "Set-Cookie"
            with promise("named" if name == "X-Hop" else "cookie" if cookie else "not-to-client"):
                if value in (forms.combined(came.headers, name) or ""):
                    what = f"{story}{name} should have ended at the gateway."
                    gate.fail("cookie" if cookie else "hop_by_hop", what, url("hop"))


def _no_cookies(gate: Gateway) -> None:
    """No client comes with what the upstream has set for another one, whatever the answer was."""
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
                    f"Two clients came, one after the other: GET {path}{_with(lines)}. The "
                    f"upstream answered the first one with\n\n    Set-Cookie: {cookie[0][1]}\n\n"
                    f"and was asked for the second one with\n\n    Cookie: {sent}\n\nwhich that "
                    "client had not sent.",
                    url("hop"),
                )


def _parts(gate: Gateway, lines: Sequence[str], metadata: bool) -> None:
    body = gate.draw.randbytes(5000)
    first = gate.draw.randrange(1, 2000)
    part = body[first : first + 1000]
    told = f"bytes {first}-{first + 999}/5000"

    def answer(exchange: Exchange) -> Answer:
        if exchange.header("if-none-match"):
            return Answer(b"", 304, headers=(("ETag", '"river"'),))
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
            if status == 304:  # it has no body, and may say how long it would be
                found = fetch(gate, path, header, *lines).answer
                if found.status != 304 or found.body:
                    story = f"GET {path} with {header}, {what}. Came back:\n\n{shown(found.raw)}"
                    what = f"{story}\n\nIt should be 304, without a body."
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
    plain = gate.draw.randbytes(5000) * 40
    packed = gzip.compress(plain, mtime=0)
    # Several members are one body (RFC 1952, section 2.2).
    bodies = {"": packed, "of two members": gzip.compress(plain[:9]) + gzip.compress(plain[9:])}
    for members, body in bodies.items():
        for framing in ("length", "chunked"):
            answer = Answer(body, framing=framing, headers=(("Content-Encoding", "gzip"),))
            path = gate.put(answer)
            for provider, accepted, what in (
                ("river", "gzip", "which the upstream sends in gzip"),
                ("river", "identity", "which the upstream sends in gzip, though nobody asked"),
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
                    f"GET {path}{_with(lines)}. The upstream sends gzip to who asks for it. Came "
                    f"back:\n\n{shown(found.raw, 400)}\n\nThe gateway has asked for it: "
                    f"{gate.asked(path)[-1].header('accept-encoding')!r}.",
                    url("gzip", "-i -H 'Accept-Encoding: identity'"),
                )


def _expect_packed(
    gate: Gateway, path: str, ask: Sequence[str], plain: bytes, packed: bytes, what: str
) -> None:
    found = fetch(gate, path, *ask)
    answer = found.answer
    coding = answer.header("content-encoding")
    story = (
        f"GET {path}{_with(ask)}, {what}: {len(plain)} bytes, {len(packed)} in gzip. Came back:"
        f"\n\n{shown(answer.raw, 400)}\n\n"
    )
    by_hand = url("gzip", "-i -H 'Accept-Encoding: identity'")
    if answer.status != 200:
        gate.fail("wrong_status", f"{story}The status should be 200.", by_hand)
    if not found.complete:
        problem = answer.problem or "It has no end"
        gate.fail("gzip_mixed", f"{story}{problem}.", by_hand)
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
        f"{story}It should be the gzip with Content-Encoding, or the {len(plain)} bytes without. "
        f"{wrong}",
        by_hand,
    )


# ROUTE

ROUTES = {
    None: (RIVER, True),
    "river": (RIVER, True),
    "fast": (RIVER, True),
    "lake": (LAKE_KEY, False),
    "cheap": (LAKE_KEY, False),
}
"""By what the client writes into X-Provider: the key of the provider, and whether it may stream."""


def finds_its_way(launch: Launch, draw: Random) -> None:
    """The provider behind a name is asked, streamed or not as it allows, and nobody else."""
    with gateway(launch, draw) as gate, Origin() as canary:
        alone(gate)
        names = list(ROUTES)
        for name in draw.sample(names, len(names)):
            _, may_stream = ROUTES[name]
            headers = [f"X-Provider: {name}"] if name else []
            who = f"with X-Provider: {name}" if name else "without X-Provider"
            see = _streams if may_stream else _is_buffered
            with promise("provider"):
                path = see(gate, headers, who)
            _expect_key(gate, path, headers)
        _follows_nothing(gate, canary)
        for_all(st.tuples(forms.good_ids(), st.booleans()), draw, lambda each: _takes(gate, *each))
        _takes(gate, "Z" * 100, metadata=False)
        _takes(gate, "-" * 100, metadata=True)
        _takes(gate, "content", metadata=True)  # whose path ends like that of a download
        for number, file_id in enumerate(draw.sample(forms.BAD_IDS, len(forms.BAD_IDS))):
            for metadata in (False, True):
                _refuses_id(gate, file_id, metadata, [LAKE] if number % 3 == 0 else [])
        ways = st.tuples(forms.bad_ids(), st.booleans(), st.sampled_from([[], [LAKE]]))
        for_all(ways, draw, lambda each: _refuses_id(gate, *each), examples=40)
        for_all(
            st.tuples(forms.unknown_providers(), st.booleans()),
            draw,
            lambda each: _refuses_provider(gate, *each),
            examples=20,
        )


def _takes(gate: Gateway, file_id: str, metadata: bool) -> None:
    """A good ID is asked for, as it is."""
    path = f"/v1/files/{file_id}" + ("" if metadata else "/content")
    body = f"river {path}".encode()  # of this path, and no other
    gate.origin.put(path, Answer(body))
    with promise("id", wrong_status="id"):
        found = fetch(gate, path)
        if not found.complete or (found.answer.status, found.answer.body) != (200, body):
            gate.fail(
                "id_refused" if 400 <= found.answer.status < 500 else "wrong_status",
                f"GET {path}: the ID has {len(file_id)} letters. Came back:\n\n"
                f"{shown(found.answer.raw)}\n\nIt should be the upstream's file, with status 200.",
                f"-i http://127.0.0.1:PORT{path}",
            )


def _streams(gate: Gateway, headers: Sequence[str], who: str) -> str:
    size = gate.draw.randrange(300 * KiB, 400 * KiB)
    path = gate.put(Answer(gate.draw.randbytes(2 * size), stop=size, stall=True))
    what = f"{who}, of which the upstream sends {size_text(size)} and then pauses"
    with Visit(gate, path, *headers, what=what) as visit:
        visit.sock.settimeout(4)
        try:
            visit.response.begin()
            taken = visit.response.read(100 * KiB)
        except TimeoutError:
            gate.fail(
                "not_streamed",
                f"{visit.story}: nothing came for 4 s. This provider may stream.",
                url("stall", "--max-time 2 -o got"),
            )
        except (OSError, http.client.HTTPException) as error:
            visit.fail("no_answer", f"the connection broke ({error!r})")
        if visit.response.status != 200:
            visit.fail("wrong_status", f"the status is {visit.response.status}")
        if len(taken) < 100 * KiB:
            visit.fail("cut_short", f"cut short after {len(taken)} bytes")
    return path


def _is_buffered(gate: Gateway, headers: Sequence[str], who: str) -> str:
    body = gate.draw.randbytes(gate.draw.randrange(300 * KiB, 400 * KiB))
    path = gate.put(Answer(body, framing="chunked"))
    by_hand = url("chunked", "-D - -o got -H 'X-Provider: cheap'")
    what = f"{who}, {size_text(len(body))} that the upstream sends in chunks"
    with promise("lake-whole"):
        answer = expect(gate, path, *headers, status=200, body=body, what=what, by_hand=by_hand)
    if answer.header("content-length") != str(len(body)):
        gate.fail(
            "not_buffered",
            f"GET {path} {what}. Came back:\n\n{shown(answer.raw, 400)}\n\nThis provider may not "
            f"stream: the gateway takes in the whole file first, and says Content-Length: "
            f"{len(body)}.",
            by_hand,
        )
    told = (("Content-Disposition", 'attachment; filename="lake.bin"'),)
    for status in (200, 404):
        other = gate.put(Answer(b"as ordered", status, headers=told))
        what = f"{who}, which the upstream answers with status {status}"
        with promise("lake-head"):
            answer = expect(gate, other, *headers, status=status, body=b"as ordered", what=what)
            if answer.header("content-disposition") != told[0][1]:
                gate.fail(
                    "header_lost",
                    f"GET {other} {what}. The upstream sent\n\n    {': '.join(told[0])}\n\nand "
                    f"came back:\n\n{shown(answer.raw, 500)}",
                )
    for framing in ("length", "chunked"):
        cut = gate.put(Answer(body, framing=framing, stop=len(body) * 6 // 10))
        with promise("lake-whole"):
            _expect_error(
                gate,
                cut,
                *headers,
                what=f"{who}, of which the upstream sends 60 % and closes the connection",
                cause="not_buffered",
                by_hand=url("cut", "-D - -o got -H 'X-Provider: cheap'"),
            )
    return path


def _expect_error(
    gate: Gateway,
    path: str,
    *headers: str,
    what: str,
    cause: str,
    by_hand: str,
    patience: float = PATIENCE,
) -> None:
    """A request that can't be answered gets a real 502 or 504."""
    found = fetch(gate, path, *headers, patience=patience)
    answer = found.answer
    if found.complete and answer.status in (502, 504):
        return
    story = f"GET {path} {what}. After {found.seconds:.1f} s "
    story += f"came back:\n\n{shown(answer.raw)}\n\n" if answer.raw else "nothing had come back. "
    if not answer.raw:
        cause = "no_answer" if found.closed else "hangs"
    elif found.complete and answer.status not in (200, 502, 504):
        cause = "wrong_status"
    elif found.complete and cause == "not_buffered":  # it took in what there was
        cause = "truncation_hidden"
    gate.fail(cause, f"{story}It should be status 502 or 504, and all of it.", by_hand)


def _follows_nothing(gate: Gateway, canary: Origin) -> None:
    """Who is sent elsewhere does not go there: to another server, nor to another path."""
    elsewhere = canary.put("/latest/meta-data", Answer(b"not for clients"))
    for status in (301, 302, 303, 307, 308):
        for lines, metadata in (([], False), ([LAKE], False), ([], True)):
            here = gate.put(Answer(b"not for clients"))
            target = gate.draw.choice([elsewhere, here])
            moved = Answer(b"moved", status, headers=(("Location", target),))
            path = gate.put(moved, metadata=metadata)
            found = fetch(gate, path, *lines).answer
            story = f"GET {path}{_with(lines)}, which the upstream answers with status {status} "
            story += f"and Location: {target}. "
            with promise("redirect-stays"):
                if went := [*canary.exchanges, *gate.asked(here)]:
                    gate.fail(
                        "follows",
                        f"{story}The gateway went there; its Authorization was "
                        f"{went[0].header('authorization')!r}.",
                        url("redirect"),
                    )
            with promise("redirect"):
                right = found.status == status and found.header("location") == target
                if not (found.status == 502 or right) or found.problem:
                    gate.fail(
                        "wrong_status",
                        f"{story}Came back:\n\n{shown(found.raw)}\n\nIt should be that "
                        "redirection, or 502.",
                        url("redirect"),
                    )


def _refuses_id(gate: Gateway, file_id: str, metadata: bool, lines: Sequence[str]) -> None:
    path = f"/v1/files/{file_id}" + ("" if metadata else "/content")
    with promise("id-refused"):
        _expect_refusal(gate, path, lines, "any_path")


def _refuses_provider(gate: Gateway, name: str, metadata: bool) -> None:
    path = gate.put(Answer(b"river"), metadata=metadata)
    with promise("unknown"):
        _expect_refusal(gate, path, [f"X-Provider: {name}"], "unknown_provider")


def _expect_refusal(gate: Gateway, path: str, lines: Sequence[str], cause: str) -> None:
    """A status from 400 to 499, and the upstream has not been asked for anything."""
    before = len(gate.origin.exchanges)
    found = fetch(gate, path, *lines).answer
    story = f"GET {path[:200]}{_with(lines)}"
    options = "".join(f" -H {shlex.quote(line)}" for line in lines)
    by_hand = f"--path-as-is -i{options} {shlex.quote(f'http://127.0.0.1:PORT{path[:300]}')}"
    if asked := gate.origin.exchanges[before:]:
        gate.fail(
            cause,
            f"{story}: the upstream was asked for {asked[0].path[:200]}, and should not have been.",
            by_hand,
        )
    if not 400 <= found.status < 500 or found.problem:
        gate.fail(
            "no_refusal" if found.raw else "no_answer",
            f"{story}. Came back:\n\n{shown(found.raw)}\n\nIt should be a status from 400 to 499.",
            by_hand,
        )


# FLAT


def stays_flat(launch: Launch, draw: Random, scratch: Path) -> None:
    """While clients wait, little is held for them, and the upstream waits; the huge pours through.

    `scratch` is a folder for the upstream's files.
    """
    with gateway(launch, draw) as gate:
        alone(gate)
        small = gate.put(Answer(b"river" * 800))
        expect(gate, small, status=200, body=b"river" * 800, what="a small file")
        baseline = held_by(gate.server)
        with promise("packed-flat"):
            _unpacks_in_pieces(gate, baseline)
        size = draw.choice([70 * GiB, 300 * GiB, TiB]) + draw.randrange(MiB)
        first = draw.randrange(180 * MiB, 200 * MiB)
        source = _file(scratch / "huge", size, first, draw)
        path = gate.put(Answer(source))
        with Visit(gate, path, what=f"{size_text(size)}, in {gate.server.cup}") as visit:
            with promise("cup"):
                visit.take(MiB, source)
            with promise("stalled"):
                _expect_wait(gate, path)
            _crowd_waits(gate, scratch, baseline)
            with promise("stalled"):
                _expect_wait(gate, path)  # a gateway that goes on has had time for it by now
            with promise("cup"):
                visit.take(first - MiB, source)


PACKED = 32
"""MiB that a small answer in gzip becomes."""


def _unpacks_in_pieces(gate: Gateway, baseline: int) -> None:
    """A small answer in gzip costs little, also where it is unpacked for a client that waits."""
    bomb = Bomb(bytes(MiB), PACKED).packed()
    path = gate.put(Answer(bomb, headers=(("Content-Encoding", "gzip"),)))
    with ExitStack() as visits:
        for count in (1, 4):
            what = f"{len(bomb)} bytes in gzip that unpack to {PACKED} MiB; it took 8 KiB and waits"
            for _ in range(count - (count == 4)):
                ask = "Accept-Encoding: identity"
                visit = visits.enter_context(Visit(gate, path, ask, what=what))
                try:
                    visit.take(8 * KiB)
                except CheckFailed as failure:
                    if failure.cause not in ("whole_file", "died"):
                        return  # whether the right bytes come is not asked here
                    failure.cause = "unpacks_whole"
                    raise
            allowed = baseline + SLACK + count * EACH
            if (held := held_by(gate.server)) > allowed:
                gate.fail(
                    "unpacks_whole",
                    f"GET {path} with {ask}, {what}. With {count} such clients the gateway held "
                    f"{size_text(held - baseline)} more than when idle; "
                    f"{size_text(allowed - baseline)} are allowed.",
                    url("bomb", "--limit-rate 10k -o got -H 'Accept-Encoding: identity'"),
                )


def _crowd_waits(gate: Gateway, scratch: Path, baseline: int) -> None:
    size = gate.draw.randrange(48 * MiB, 64 * MiB)
    source = _file(scratch / "medium", size, size, gate.draw)
    path = gate.put(Answer(source))
    with traced(gate.server) as trace, ExitStack() as visits:
        here: list[Visit] = []
        most = CLIENTS - 1  # one more has been here from the start
        for count in (4, most):
            story = f"{count} clients took 200 KiB of {path} ({size_text(size)}) and waited"
            while len(here) < count:
                what = f"{size_text(size)}, client {len(here) + 1} of {most} who wait"
                here.append(visits.enter_context(Visit(gate, path, what=what)))
                here[-1].silence = "one_at_a_time" if len(here) > 1 else "no_answer"
                with promise("memory", one_at_a_time="clients"):
                    here[-1].take(200 * KiB, source)
            allowed = baseline + SLACK + (count + 1) * EACH
            held = most_held(gate.server, allowed) if count == most else held_by(gate.server)
            if held > allowed:
                with promise("memory"):
                    gate.fail(
                        "holds_much",
                        f"{story}. The gateway held {size_text(held - baseline)} more than when "
                        f"idle; {size_text(allowed - baseline)} are allowed: {size_text(EACH)} for "
                        f"each of them and one more who waits, and {size_text(SLACK)}.\n"
                        f"{trace.line}",
                        url("river", "--limit-rate 100k -o got"),
                    )
        with promise("memory"), promise("rests"):
            if busy := busy_at_rest(gate.server, 0.4):
                what = f"{story}. While nothing moved, the gateway {busy}."
                gate.fail("busy_loop", what, url("river", "--limit-rate 100k -o got"))
        last = here[-1]
        last.story = f"{story}; then one of them read on"
        with promise("content"):
            last.take(size - last.size, source)
            last.ends()


def _expect_wait(gate: Gateway, path: str) -> None:
    """The client has stopped; then the upstream must come to a stop as well."""
    allowed = MiB + socket_room() + AHEAD
    sent, since = -1, 0.0
    for waited in waited_so_far():
        if waited > since + 0.4:
            return
        now = sum(each.sent for each in gate.asked(path))
        if now > sent:
            sent, since = now, waited
        if sent > allowed:
            gate.fail(
                "no_backpressure",
                f"A client took 1 MiB of {path} and stopped. The upstream could go on, and send "
                f"{size_text(sent)}; the buffers of the kernel take {size_text(socket_room())}, "
                f"and the gateway may take a few MiB.",
                url("river", "--limit-rate 100k -o got"),
            )


def _file(path: Path, size: int, first: int, draw: Random) -> Path:
    """A sparse file with islands of random data in its first part."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset in (0, *(draw.randrange(first - CHUNK) for _ in range(6))):
            file.seek(offset)
            file.write(draw.randbytes(CHUNK))
    return path


# DROP


@dataclass(frozen=True)
class Leaving:
    """How clients leave."""

    answer: Answer
    clients: int
    first: int
    """Bytes that each takes before."""
    when: str
    promise: str
    wait: float = 0.0
    """Seconds after the departure in which the upstream is not to be left yet: so long it does not
    answer, or not all of its answer has come."""
    late: bool = True
    """Whether it answers only after they have left."""
    lines: tuple[str, ...] = ()
    whole: bool = False
    """Whether the upstream may send all of it, since it was taken in."""

    def order(self, gone: threading.Event) -> Order:
        """What the upstream is told; where it has to wait, it begins with that event."""
        if not self.wait or not self.late:
            return self.answer

        def late(exchange: Exchange) -> Answer:
            gone.wait()
            return self.answer

        return late


def leaves_with_clients(launch: Launch, draw: Random, scratch: Path) -> None:
    """When clients leave, the upstream is left too, at once, and nothing of them remains."""
    with gateway(launch, draw) as gate:
        alone(gate)
        huge = _file(scratch / "huge", 300 * GiB, MiB, draw)
        body = draw.randbytes(400 * KiB)
        ways = [
            Leaving(Answer(huge), 8, 100 * KiB, "in the middle", "leaves"),
            Leaving(
                Answer(huge, 206, headers=(("Content-Range", f"bytes 0-{300 * GiB - 1}/*"),)),
                4,
                100 * KiB,
                "in the middle of a part, status 206,",
                "leaves",
            ),
            Leaving(
                Answer(huge, stop=200 * KiB, stall=True, framing="chunked"),
                4,
                100 * KiB,
                "in the middle, while the upstream paused",
                "leaves-a-pause",
            ),
            Leaving(
                Answer(huge, stop=0, stall=True),
                4,
                0,
                "when the upstream had sent its headers, and nothing of the body yet",
                "leaves-at-first",
            ),
            Leaving(
                Answer(huge, delay=0.6),
                4,
                0,
                "before the upstream answered, which it did 0.6 s later",
                "leaves-early",
                0.6,
            ),
            Leaving(
                Answer(b"", stop=0, stall=True, framing="chunked", delay=0.6),
                4,
                0,
                "before the upstream answered: 0.6 s later it sent headers, and nothing more",
                "leaves-early",
                0.6,
            ),
            Leaving(
                Answer(body, piece=200 * KiB, pause=0.8),
                4,
                0,
                "while the lake's file was taken in, of which the rest came 0.8 s later",
                "leaves-early",
                0.8,
                late=False,
                lines=(LAKE,),
                whole=True,
            ),
        ]
        small = gate.put(Answer(body))
        clients = sum(way.clients for way in ways)
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(lambda _: fetch(gate, small), range(clients)))
        before = settled(lambda: len(descriptors(gate.server.keeper)))
        with promise("answers-end"):
            _answers_leave_nothing(gate, before, body)
        threads = []
        for leaving in (ways, [way for way in ways if not way.wait]):
            _leave(gate, leaving)
            with promise("nothing-left"):
                _expect_back(gate, before, f"as many clients as {clients} had left halfway")
            # Whose descriptors are closed need not have ended yet.
            threads.append(settled(lambda: threads_of(gate.server.keeper)))
        with promise("nothing-left"):
            if threads[1] > threads[0] + clients // 2:
                gate.fail(
                    "leaks",
                    f"{clients} clients came and left, and as many again: the gateway had "
                    f"{threads[0]} threads after the first ones, and {threads[1]} now.",
                )
        with promise("rests"):
            if busy := busy_at_rest(gate.server, 0.4):
                gate.fail(
                    "busy_loop",
                    f"After {clients} clients had left, nobody was there any more, and the gateway "
                    f"{busy}.",
                    url("river", "--max-time 0.1 -o got"),
                )
        with promise("content"):
            expect(gate, small, status=200, body=body, what="after all the others had left")


def _leave(gate: Gateway, ways: Sequence[Leaving]) -> None:
    gone = threading.Event()
    paths = {gate.put(way.order(gone)): way for way in ways}
    with ExitStack() as visits:
        visits.callback(gone.set)  # it comes last, after all have left
        for path, way in paths.items():
            with promise(way.promise):
                for _ in range(way.clients):
                    what = f"whose client is to leave {way.when}"
                    visit = visits.enter_context(Visit(gate, path, *way.lines, what=what))
                    if way.first:
                        visit.take(way.first, status=way.answer.status)
        for waited in waited_so_far():
            if all(len(gate.asked(path)) >= way.clients for path, way in paths.items()):
                break
            if waited > PATIENCE:
                with promise("clients"):
                    came, all_of = (
                        sum(len(gate.asked(path)) for path in paths),
                        sum(way.clients for way in ways),
                    )
                    gate.fail(
                        "one_at_a_time",
                        f"{all_of} clients came together. {PATIENCE:g} s later the upstream had "
                        f"been asked {came} times.",
                    )
        time.sleep(0.15)  # the heads are on their way
    left, naps = time.monotonic(), waited_so_far()
    waited = next(naps)
    for path, way in sorted(paths.items(), key=lambda each: each[1].wait):
        exchanges = gate.asked(path)
        while kept := [each for each in exchanges if each.ended is None]:
            if waited > way.wait + GONE:
                since = time.monotonic() - left
                with promise(way.promise):
                    gate.fail(
                        "upstream_kept",
                        f"{way.clients} clients asked for {path} and left {way.when}. {since:.1f} "
                        f"s after they left, {len(kept)} of their connections to the upstream were "
                        f"still open; {sum(each.sent for each in kept) >> 10} KiB had come over "
                        "them.",
                        url("stall", "--max-time 1 -o got"),
                    )
            waited = next(naps)
        if way.whole or all(each.left for each in exchanges):
            continue
        with promise(way.promise):
            gate.fail(
                "upstream_kept",
                f"{way.clients} clients asked for {path} and left {way.when}. The upstream could "
                "send all of it.",
            )


def _answers_leave_nothing(gate: Gateway, before: int, body: bytes) -> None:
    """Whatever an answer was, nothing of it is left when it is over."""
    cut = len(body) // 2
    kinds: list[tuple[str, Answer, tuple[str, ...], bool]] = [
        ("status 404", Answer(b"none", 404), (), False),
        ("status 500", Answer(b"none", 500, "chunked"), (LAKE,), False),
        ("status 304", Answer(b"", 304), (), False),
        ("status 302", Answer(b"", 302, headers=(("Location", "/404"),)), (), False),
        ("metadata", Answer(b"{}"), (), True),
        ("a body of 0 bytes", Answer(b""), (), False),
        ("half a file", Answer(body, stop=cut), (), False),
        ("half a file of the lake's", Answer(body, stop=cut), (LAKE,), False),
        ("no answer", Answer(status=0), (), False),
    ]
    with ThreadPoolExecutor(len(kinds)) as pool:
        for _ in range(6):
            paths = [(gate.put(kind[1], metadata=kind[3]), *kind[2]) for kind in kinds]
            list(pool.map(lambda ask: fetch(gate, *ask), paths))
    told = ", ".join(kind[0] for kind in kinds)
    _expect_back(
        gate, before, f"6 answers of each of these kinds were over: {told}", "answers_leak"
    )


def _expect_back(gate: Gateway, before: int, what: str, cause: str = "leaks") -> None:
    for waited in waited_so_far(0.1):
        if (now := len(descriptors(gate.server.keeper))) <= before + 3:
            return
        if waited > 4:
            gate.fail(
                cause,
                f"After complete downloads the gateway had {before} descriptors; 4 s after {what}, "
                f"{now}.",
                url("404" if cause == "answers_leak" else "river", "--max-time 0.1 -o got"),
            )


# CUT


def breaks_are_told(launch: Launch, draw: Random) -> None:
    """An upstream that breaks is an error before the headers, and a broken connection later."""
    with gateway(launch, draw) as gate:
        alone(gate)
        body = draw.randbytes(draw.randrange(600 * KiB, 900 * KiB))
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

            def order(exchange: Exchange) -> Answer:  # HTTP/1.0 knows no chunks
                shorter = Answer(content, stop=len(content) - 1)
                return Answer(wire=wire) if exchange.version == "HTTP/1.1" else shorter

            _expect_broken(gate, order, content, sends, "cut-chunked")

        with promise("no-last-chunk"):
            for_all(forms.broken_answers(), draw, broken, examples=20)
        for answer, what in (
            (Answer(status=0), "which the upstream closes the connection for, without a word"),
            (Answer(status=0, reset=True), "which the upstream answers with a reset"),
            (Answer(wire=b"HTTP/1."), "of whose first line the upstream sends a part, and closes"),
        ):
            for lines, metadata in (([], False), ([LAKE], False), ([], True)):
                path = gate.put(answer, metadata=metadata)
                with promise("no-answer"):
                    told, by_hand = what + _with(lines), url("silent")
                    _expect_error(
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
                _expect_error(
                    gate,
                    each,
                    *lines,
                    what="while nobody listens at the upstream's port",
                    cause="begins_early",
                    by_hand="-i http://127.0.0.1:PORT/v1/files/length/content",
                )


def _expect_broken(
    gate: Gateway, answer: Order, body: bytes, sends: str, by_hand: str, *, metadata: bool = False
) -> None:
    """The client must not take what has come for the file; and it must know soon."""
    path = gate.put(answer, metadata=metadata)
    found = fetch(gate, path)
    got = found.answer
    story = (
        f"GET {path}, a file of {len(body)} bytes, of which the upstream sends {sends}. "
        f"{len(got.body)} bytes of a body came back"
    )
    if found.complete and got.status in (502, 504):
        return
    if got.status not in (0, 200):
        gate.fail("wrong_status", f"{story}, with status {got.status}.", url(by_hand, "-o got"))
    if found.complete:
        gate.fail(
            "truncation_hidden",
            f"{story}, with status {got.status}, as a complete answer:\n\n{shown(got.raw, 300)}",
            url(by_hand, "-o got") + "; echo $?",
        )
    if not found.closed:
        gate.fail(
            "hangs",
            f"{story}, and then nothing: {PATIENCE:g} s later the connection was still open.",
            url(by_hand, "-o got"),
        )
    if not body.startswith(got.body):
        gate.fail("wrong_bytes", f"{story}, and they are not how the file begins.")


# TIME


def waits_as_told(launch: Launch, draw: Random, scratch: Path) -> None:
    """A silent upstream is given up in time; a slow one is not, nor a slow client; others go on."""
    with gateway(launch, draw, TIMEOUT) as gate, ThreadPoolExecutor(16) as pool:
        alone(gate)
        silent: list[str] = []
        jobs = [pool.submit(_silence, gate, *each, silent) for each in _silences()]
        jobs += [pool.submit(_stall, gate, silent, size) for size in (0, 150_000)]
        slow = [pool.submit(job, gate) for job in (_others_go_on, _trickle, _trickle_of_the_lake)]
        waiting = pool.submit(_slow_client, gate, scratch)
        longer = pool.submit(_longer_limit, launch, Random(draw.random()))
        # Where one blocks all the others, that is the cause of what befell them.
        for job in (*slow, *jobs):
            job.result()
        with promise("silence-log", logged_twice="one-line"):
            for path in silent:
                told = f"the upstream was silent; STREAMLAB_TIMEOUT is {TIMEOUT:g}"
                _expect_line(gate, path, "failure", told)
        connecting = pool.submit(_no_connection, gate, pool)
        longer.result()  # a limit that counts several times is not one of connecting alone
        connecting.result()
        waiting.result()


def _longer_limit(launch: Launch, draw: Random) -> None:
    """The limit is the one that was told, however long it is, and it counts once."""
    with gateway(launch, draw, LONGER) as gate, ThreadPoolExecutor(5) as pool:
        never, told = Answer(status=0, stall=True), "while the upstream says nothing"
        jobs = [
            pool.submit(
                _silence, gate, never, lines, False, "silence", told, url("never"), [], LONGER
            )
            for lines in ((), (LAKE,))
        ]
        pause = LONGER - 1.5
        body = draw.randbytes(300_000)
        between = Answer(body, piece=len(body) // 2, pause=pause)
        for answer, lines in ((between, ()), (between, (LAKE,)), (Answer(body, delay=pause), ())):
            jobs.append(pool.submit(_quiet_for, gate, answer, lines, pause))
        for job in jobs:
            job.result()


def _quiet_for(gate: Gateway, answer: Answer, lines: tuple[str, ...], pause: float) -> None:
    """A silence that is shorter than the limit ends nothing."""
    path = gate.put(answer)
    with promise("hours"):
        found = fetch(gate, path, *lines, patience=3 * LONGER)
        if found.answer.status == 200 and found.complete and found.answer.body == answer.body:
            return
        if _longest_pause(gate, path) > LONGER - 0.5:
            note("This machine was too busy for a silence below a limit: that part was left out.")
            return
        gate.fail(
            "cuts_the_slow",
            f"GET {path}, with a silence of {pause:g} s {'before' if answer.delay else 'in'} the "
            f"answer of the upstream; STREAMLAB_TIMEOUT is {LONGER:g}. Status "
            f"{found.answer.status or 'none'} and {len(found.answer.body)} bytes came, not "
            f"{answer.size}.",
        )


def _silences() -> list[tuple[Answer, tuple[str, ...], bool, str, str, str]]:
    """How an upstream can be silent before an answer can begin: with what, and in which words."""
    never, half = Answer(status=0, stall=True), Answer(bytes(300_000), stop=150_000, stall=True)
    head = Answer(wire=b"HTTP/1.1 200 As Ordered\r\nContent-Le", stall=True)
    lake = "-D - -o got -H 'X-Provider: lake'"
    return [
        (never, (), False, "silence", "while the upstream says nothing", url("never")),
        (never, (LAKE,), False, "silence", "while the lake says nothing", url("never", lake)),
        (never, (), True, "silence", "while the upstream says nothing", url("never")),
        (head, (), False, "silence", "of whose head half comes", url("half-head")),
        (
            half,
            (LAKE,),
            False,
            "silence-lake",
            "of the lake's, of which the upstream sends half, and then nothing",
            url("stall", lake),
        ),
    ]


def _silence(
    gate: Gateway,
    answer: Answer,
    lines: tuple[str, ...],
    metadata: bool,
    about: str,
    when: str,
    by_hand: str,
    silent: list[str],
    limit: float = TIMEOUT,
) -> None:
    path = gate.put(answer, metadata=metadata)
    what = f"{when}; STREAMLAB_TIMEOUT is {limit:g}"
    with promise(about):
        _expect_error(
            gate,
            path,
            *lines,
            what=what,
            cause="begins_early",
            by_hand=by_hand,
            patience=limit + LATER,
        )
    with promise("given-up"):
        _expect_left(gate, path, what)
    if not metadata:
        silent.append(path)


def _expect_left(gate: Gateway, path: str, what: str) -> None:
    """An upstream that has been given up is left."""
    for waited in waited_so_far():
        if all(each.ended is not None for each in gate.asked(path)):
            return
        if waited > LATER:
            gate.fail(
                "upstream_kept",
                f"GET {path} {what}. {LATER:g} s after the client was told, the connection to the "
                "upstream was still open.",
            )


def _stall(gate: Gateway, silent: list[str], size: int) -> None:
    path = gate.put(Answer(bytes(300_000), stop=size, stall=True))
    sends = "half" if size else "the head"
    with promise("silence-between"):
        found = fetch(gate, path, patience=TIMEOUT + LATER)
        story = (
            f"GET {path}, 300000 bytes, of which the upstream sends {sends}, and then nothing; "
            f"STREAMLAB_TIMEOUT is {TIMEOUT:g}. {len(found.answer.body)} bytes came back"
        )
        by_hand = url("stall", "-o got")
        if found.complete and found.answer.status == 200:
            gate.fail("truncation_hidden", f"{story}, as a complete answer.", by_hand)
        if not found.closed and not found.complete:
            what = f"{story}; {found.seconds:.1f} s later the client still waits."
            gate.fail("hangs", what, by_hand)
    with promise("given-up"):
        _expect_left(gate, path, "of which the upstream sends a part, and then nothing")
    silent.append(path)


def _no_connection(gate: Gateway, pool: ThreadPoolExecutor) -> None:
    """An upstream that neither takes nor refuses a connection is given up as well."""
    with promise("connect"):
        _connects_for_a_while(gate, pool)


def _connects_for_a_while(gate: Gateway, pool: ThreadPoolExecutor) -> None:
    if not gate.origin.deafen():
        note("This system takes every connection at once: that part was left out.")
        return
    asks = [[gate.put(Answer(b"river"))], [gate.put(Answer(b"river")), LAKE]]
    asks.append([gate.put(Answer(b"river"), metadata=True)])

    def ask(path: str, *lines: str) -> None:
        _expect_error(
            gate,
            path,
            *lines,
            what="while the upstream takes no connection: its queue is full, and the system does "
            f"not answer; STREAMLAB_TIMEOUT is {TIMEOUT:g}",
            cause="begins_early",
            by_hand=url("any"),
            patience=TIMEOUT + LATER,
        )

    for job in [pool.submit(ask, *each) for each in asks]:
        try:
            job.result()
        except CheckFailed as failure:
            if failure.cause == "hangs":
                failure.cause = "connects_for_ever"
            raise


_LINES, _PAUSE = 16, 0.2
_BEHIND = 10
"""Lines of it that may have been sent when the first one comes: a second, and one more."""


def _trickle(gate: Gateway) -> None:
    """A slow upstream; once more where this machine stood still, so that it was a silent one."""
    if not any(_trickled(gate) for _ in range(5)):
        note("This machine was too busy to be a slow upstream: that part was left out.")


def _trickled(gate: Gateway) -> bool:
    """Whether there was a slow upstream, and all of it came; if not all came, the check ends."""
    body = b"".join(b"%-63d\n" % number for number in range(_LINES))
    path = gate.put(Answer(body, framing="chunked", piece=64, pause=_PAUSE))
    what = f"{_LINES} lines, of which the upstream sends one every {_PAUSE:g} s"
    with Visit(gate, path, what=what) as visit, promise("slow", cuts_the_slow="hours"):
        for number in range(1, _LINES + 1):
            try:
                visit.take(64)
            except CheckFailed as failure:
                if failure.cause not in ("cut_short", "no_end"):
                    raise
                return _broke(gate, path, visit, failure)
            ahead = sum(each.sent for each in gate.asked(path)) // 64 - number
            if ahead >= _BEHIND:
                gate.fail(
                    "coalesces",
                    f"{visit.story}. When the client had {number} of them, the upstream had "
                    f"sent {ahead} more.",
                    url("trickle", "-N"),
                )
        visit.ends()
    return True


def _broke(gate: Gateway, path: str, visit: Visit, failure: CheckFailed) -> bool:
    """A slow download has broken: it was cut for being slow if it lasted as long as a limit."""
    paused, lasted = _longest_pause(gate, path), time.monotonic() - visit.began
    if paused > TIMEOUT / 2:
        return False
    if lasted < 0.9 * TIMEOUT:
        raise failure
    seconds = _LINES * _PAUSE
    gate.fail(
        "cuts_the_slow",
        f"{visit.story}, {seconds:g} s in all; STREAMLAB_TIMEOUT is {TIMEOUT:g}. There was never a "
        f"longer silence than {paused:.1f} s, and after {lasted:.1f} s the download broke.",
        url("trickle", "-N"),
    )
    return False


def _trickle_of_the_lake(gate: Gateway) -> None:
    """What is taken in slowly is taken in: a limit on silence is none on all of it."""
    body = b"".join(b"%-63d\n" % number for number in range(_LINES))
    for _ in range(5):
        path = gate.put(Answer(body, piece=64, pause=_PAUSE))
        began = time.monotonic()
        found = fetch(gate, path, LAKE)
        if found.complete and (found.answer.status, found.answer.body) == (200, body):
            return
        paused = _longest_pause(gate, path)
        if paused > TIMEOUT / 2:
            continue
        lasted = time.monotonic() - began
        cause = "cuts_the_slow" if lasted > TIMEOUT / 2 else "wrong_status"
        with promise("hours"):
            gate.fail(
                cause,
                f"GET {path} with {LAKE}, {_LINES} lines, of which the upstream sends one every "
                f"{_PAUSE:g} s; STREAMLAB_TIMEOUT is {TIMEOUT:g}. There was never a longer silence "
                f"than {paused:.1f} s. After {lasted:.1f} s came\n\n{shown(found.answer.raw)}",
                url("trickle", "-i -H 'X-Provider: lake'"),
            )


def _longest_pause(gate: Gateway, path: str) -> float:
    """The longest pause of an upstream's answer, which is known when it is over."""
    for waited in waited_so_far():
        if waited > PATIENCE or all(each.ended is not None for each in gate.asked(path)):
            break
    return max((each.paused for each in gate.asked(path)), default=0.0)


def _slow_client(gate: Gateway, scratch: Path) -> None:
    size = socket_room() + AHEAD
    source = _file(scratch / "slow", size, size, Random(gate.draw.random()))
    path = gate.put(Answer(source))
    pause = 2 * TIMEOUT
    what = f"{size_text(size)}, whose client takes 100 KiB, reads nothing for {pause:g} s and then "
    with promise("pause"), Visit(gate, path, what=what + "goes on") as visit:
        visit.take(100 * KiB, source)
        stopped = time.monotonic()
        _expect_wait(gate, path)  # from now on the gateway can't get rid of anything
        time.sleep(pause)
        resumed = time.monotonic()
        try:
            visit.take(size - visit.size, source)
        except CheckFailed as failure:
            ended = [each.ended for each in gate.asked(path) if each.left and each.ended]
            if failure.cause == "cut_short" and any(stopped < each < resumed for each in ended):
                what = "the gateway left the upstream while the client read nothing: " + (
                    f"the last {size_text(size - visit.size)} did not come"
                )
                visit.fail("cuts_the_waiting", what)
            raise


def _others_go_on(gate: Gateway) -> None:
    for _ in range(6):
        path = gate.put(Answer(b"river"))
        found = fetch(gate, path, patience=2)
        with promise("meanwhile"):
            if not found.answer.raw and not found.closed:
                gate.fail(
                    "blocks",
                    f"While one upstream said nothing and another one paused, GET {path}, 5 bytes, "
                    "had no answer within 2 s.",
                )
            if not found.complete or found.answer.body != b"river":
                gate.fail(
                    "wrong_besides",
                    f"While one upstream said nothing and another one paused, GET {path}, 5 bytes, "
                    f"which had been right before. Came back:\n\n{shown(found.answer.raw)}",
                )
        time.sleep(0.3)


# LOG


def tells_the_truth(launch: Launch, draw: Random, scratch: Path) -> None:
    """Each download has one line in the log, once it is over, and it says how it ended."""
    with gateway(launch, draw) as gate:
        alone(gate)
        body = draw.randbytes(300 * KiB)
        size = socket_room() + AHEAD
        large = _file(scratch / "large", size, size, draw)
        wanted: dict[str, tuple[str, str]] = {}

        slow = gate.put(Answer(large))
        wanted[slow] = "success", f"a client took all {size_text(size)}"
        with Visit(gate, slow, what=size_text(size)) as visit:
            visit.take(200 * KiB)
            time.sleep(0.3)
            if lines := _lines(gate, slow):
                with promise("success"):
                    gate.fail(
                        "logged_early",
                        f"A client had 200 KiB of {slow}, {size_text(size)}, and waited. In the "
                        f"log there was already\n\n    {lines[0]}",
                    )
            visit.take(size - visit.size)
            visit.ends()
            # Who has it all need not leave at once, before the server has seen that it is done.
            _await_lines(gate, [slow])
        for answer, asked, what in (
            (Answer(body), [LAKE], "a client took all of it, from the lake"),
            (Answer(body, framing="chunked"), [], "a client took all of it, in chunks"),
            (Answer(body, framing="close"), [], "a client took all of it, up to its end"),
            (Answer(b""), [], "a client took all of it, 0 bytes"),
        ):
            path = gate.put(answer)
            fetch(gate, path, *asked)
            wanted[path] = "success", what
        for answer, what in (
            (Answer(body, stop=99_999), "the upstream broke off in the middle"),
            (Answer(body, framing="chunked", stop=99_999), "the upstream broke off in the middle"),
            (Answer(status=0), "the upstream closed the connection without a word"),
            (Answer(body, stop=99_999), "the upstream broke off in the middle, the lake's"),
        ):
            path = gate.put(answer)
            fetch(gate, path, *([LAKE] if "lake" in what else []))
            wanted[path] = "failure", what
        for answer, first, what in (
            (Answer(large), 100 * KiB, "the client left in the middle"),
            (
                Answer(body, stop=150 * KiB, stall=True),
                100 * KiB,
                "the client left while the upstream paused",
            ),
        ):
            path = gate.put(answer)
            with Visit(gate, path, what="whose client is to leave") as visit:
                visit.take(first)
            wanted[path] = "client_disconnected", what
        _await_lines(gate, wanted)
        time.sleep(0.3)
        for path, (outcome, what) in wanted.items():
            with promise(outcome.replace("_", "-"), logged_twice="one-line"):
                _expect_line(gate, path, outcome, what)
        with promise("no-success"):
            _left_early(gate)


def _left_early(gate: Gateway) -> None:
    """Of a client that left before there was an answer, the log tells no success."""
    gone = threading.Event()

    def late(exchange: Exchange) -> Answer:
        gone.wait()
        return Answer(b"river")

    ways: dict[str, list[str]] = {gate.put(late): [], gate.put(late): [LAKE]}
    with ExitStack() as visits:
        for path, lines in ways.items():
            what = "whose client is to leave before the upstream answers"
            visits.enter_context(Visit(gate, path, *lines, what=what))
        for waited in waited_so_far():
            if all(gate.asked(path) for path in ways) or waited > PATIENCE:
                break
    comes_to_rest(gate.server)
    gone.set()
    for waited in waited_so_far():
        ended = all(each.ended is not None for path in ways for each in gate.asked(path))
        if ended or waited > LATER:
            break
    comes_to_rest(gate.server)
    for path, lines in ways.items():
        for line in _lines(gate, path):
            if re.search(r"\bsuccess\b", line):
                gate.fail(
                    "logged_gone",
                    f"GET {path}{_with(lines)}, whose client left before the upstream answered. In "
                    f"the log stands\n\n    {line}",
                    url("trickle", "--max-time 0.2 -H 'X-Provider: lake'"),
                )


def _lines(gate: Gateway, path: str) -> list[str]:
    """The log's lines of a download."""
    file_id = path.split("/")[3]
    return re.findall(rf"^.*\bdownload {file_id}\b.*$", gate.server.log(), re.MULTILINE)


def _await_lines(gate: Gateway, paths: Iterable[str], patience: float = 3.0) -> None:
    """Wait until each download has a line in the log, but not for longer than `patience`."""
    for waited in waited_so_far():
        if waited > patience or all(_lines(gate, path) for path in paths):
            return


def _expect_line(gate: Gateway, path: str, outcome: str, what: str) -> None:
    lines = _lines(gate, path)
    wanted = f"download {path.split('/')[3]} {outcome}"
    if len(lines) == 1 and re.search(rf"\b{wanted}\b", lines[0]):
        return
    story = f"GET {path}: {what}. The log should have one line for it,\n\n    {wanted}\n\nand has "
    if not lines:
        gate.fail("not_logged", f"{story}none.")
    story += "\n\n    " + "\n    ".join(line[:200] for line in lines[:5])
    gate.fail("logged_twice" if len(lines) > 1 else "logged_wrong", story)
