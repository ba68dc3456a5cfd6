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
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

from streamlab.checks import (
    CHUNK,
    cpu_seconds,
    held_by,
    most_held,
    shown,
    traced,
)
from streamlab.files import GiB, KiB, MiB, TiB, size_text
from streamlab.memory import descriptors, settled, socket_room, threads_of
from streamlab.origin import Answer, Exchange, Framing, Order, Origin
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
from streamlab.testing import note

RIVER, LAKE = "key-of-the-river", "key-of-the-lake"
"""The keys that the stub has for its two providers; the lake's may not stream."""
TIMEOUT = 2.0
"""The silence that the gateway allows an upstream, where a check waits for the end of it."""
LATER = 3.0
"""How much later than that the client must know."""
CLIENTS = 32
EACH = 512 * KiB
"""What a gateway may hold for a client who waits."""
SLACK = 16 * MiB
"""What it may hold besides: what Python and its allocator take, whatever the number of clients."""
BUSY = 0.4
"""The share of a CPU that a gateway with nothing to do may use."""
AHEAD = 24 * MiB
"""What the upstream may send to a client who does not read, beyond what the kernel takes."""
GONE = 2.0
"""Seconds after a client's departure in which the upstream must be left too."""


# BYTES

SIZES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1)


def as_direct(launch: Launch, draw: Random) -> None:
    """What comes through the gateway is what the upstream sent: status, headers, body."""
    with gateway(launch, draw) as gate:
        framings: list[Framing] = ["length", "chunked", "close"]
        files = [(size, framing) for size in SIZES for framing in framings[:2]]
        files += [(draw.randrange(2 * MiB, 3 * MiB), framing) for framing in framings]
        for size, framing in draw.sample(files, len(files)):
            _file_comes_through(gate, draw.randbytes(size), framing)
        metadata = b'{"id": "%s", "object": "file"}' % draw.randbytes(8).hex().encode()
        path = gate.put(Answer(b"")).removesuffix("/content")
        gate.origin.put(path, Answer(metadata, headers=(("Content-Type", "application/json"),)))
        expect(gate, path, status=200, body=metadata, what="a file's metadata")
        for status in (404, 500):
            body = b'{"error": {"message": "%d as ordered"}}' % status
            path = gate.put(Answer(body, status))
            what = f"which the upstream answers with status {status}"
            expect(gate, path, status=status, body=body, what=what, by_hand=url(str(status)))


def _file_comes_through(gate: Gateway, body: bytes, framing: Framing) -> None:
    tag = gate.draw.randbytes(4).hex()
    headers = (
        ("Content-Disposition", f'attachment; filename="{tag}.bin"'),
        ("x-request-id", f"req_{tag}"),
        ("ETag", f'"{tag}"'),
    )
    path = gate.put(Answer(body, framing=framing, headers=headers))
    told = {"length": "Content-Length", "chunked": "chunks", "close": "the connection's end"}
    what = f"a file of {len(body)} bytes, told by {told[framing]}"
    answer = expect(gate, path, status=200, body=body, what=what, by_hand=url(framing))
    wanted = [*headers, ("Content-Type", "application/octet-stream")]
    if framing == "length":
        wanted.append(("Content-Length", str(len(body))))
    for name, value in wanted:
        if (found := answer.header(name.lower())) != value:
            gate.fail(
                "header_lost",
                f"GET {path}, {what}. The upstream sent\n\n    {name}: {value}\n\nand what came "
                f"back has {found!r} for it:\n\n{shown(answer.raw, 500)}",
                url(framing),
            )


# WIRE


def passed_on(launch: Launch, draw: Random) -> None:
    """Headers go on that must, both ways, and those that must not end at the gateway."""
    with gateway(launch, draw) as gate:
        _to_provider(gate)
        _to_client(gate)
        _parts(gate)
        _packed(gate)


def _to_provider(gate: Gateway) -> None:
    tag = gate.draw.randbytes(4).hex()
    on = {
        "Range": f"bytes={gate.draw.randrange(99)}-",
        "If-Range": f'"{tag}"',
        "If-None-Match": f'"{tag}-2"',
        "If-Modified-Since": "Sat, 21 Nov 2026 10:00:00 GMT",
        "Accept-Encoding": "identity",
    }
    off = {
        "Authorization": f"Bearer client-{tag}",
        "Cookie": f"session={tag}",
        "Keep-Alive": "timeout=77",
        "TE": "trailers",
        "X-Hop": tag,
        "Proxy-Authorization": f"Basic {tag}",
    }
    path = gate.put(Answer(b"river"))
    headers = [f"{name}: {value}" for name, value in {**on, **off}.items()]
    expect(
        gate, path, *headers, "Connection: X-Hop", status=200, body=b"river", what="a small file"
    )
    asked = next(iter(gate.asked(path)), None)
    if asked is None:
        gate.fail("wrong_bytes", f"GET {path}: the upstream was not asked at all.")
    came = "\n".join(f"    {name}: {value}" for name, value in asked.headers)
    story = f"GET {path} was sent with\n\n    " + "\n    ".join([*headers, "Connection: X-Hop"])
    story += f"\n\nand the upstream was asked with\n\n{came}\n\n"
    for name, value in on.items():
        if asked.header(name.lower()) != value:
            gate.fail("request_header_lost", f"{story}{name} should have been passed on.")
    if asked.header("authorization") != f"Bearer {RIVER}":
        gate.fail("wrong_key", f"{story}Authorization should be 'Bearer {RIVER}'.")
    if asked.header("host") != f"127.0.0.1:{gate.origin.port}":
        gate.fail("wrong_host", f"{story}Host should be that of the upstream.")
    for name in ("Cookie", "Keep-Alive", "TE", "X-Hop", "Proxy-Authorization"):
        value = off[name]
        if asked.header(name.lower()) == value:
            gate.fail("request_header_leaks", f"{story}{name} should have ended at the gateway.")
    if tag in came.replace(on["If-Range"], "").replace(on["If-None-Match"], ""):
        gate.fail("request_header_leaks", f"{story}What is the client's own should not be there.")


def _to_client(gate: Gateway) -> None:
    ending = (
        ("Keep-Alive", "timeout=77"),
        ("Connection", "X-Hop"),
        ("X-Hop", "for the gateway"),
        ("Set-Cookie", "session=of-the-gateway"),
        ("Proxy-Authenticate", "Basic"),
        ("Trailer", "X-Later"),
    )
    for framing in ("length", "chunked"):
        path = gate.put(Answer(b"river" * 999, framing=framing, headers=ending))
        answer = expect(
            gate, path, status=200, body=b"river" * 999, what="a file", by_hand=url("hop")
        )
        story = f"GET {path}. The upstream sent\n\n    "
        story += "\n    ".join(f"{name}: {value}" for name, value in ending)
        story += f"\n\nand came back:\n\n{shown(answer.raw, 600)}\n\n"
        for name, value in ending:
            if value in [v for k, v in answer.headers if k.lower() == name.lower()]:
                cause = "cookie" if name == "Set-Cookie" else "hop_by_hop"
                gate.fail(cause, f"{story}{name} should have ended at the gateway.", url("hop"))
        expect(gate, path, status=200, body=b"river" * 999, what="a file, for another client")
        if cookie := gate.asked(path)[-1].header("cookie"):
            gate.fail(
                "cookie_jar",
                f"Two clients came, one after the other: GET {path}. The upstream answered the "
                f"first one with\n\n    Set-Cookie: {dict(ending)['Set-Cookie']}\n\nand was asked "
                f"for the second one with\n\n    Cookie: {cookie}\n\nwhich that client had not "
                "sent.",
                url("hop"),
            )


def _parts(gate: Gateway) -> None:
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
            return Answer(b"", 416, headers=(("Content-Range", "bytes */5000"),))
        return Answer(body)

    path = gate.put(answer)
    for header, status, wanted, its_range in (
        (f"Range: bytes={first}-{first + 999}", 206, part, told),
        ("Range: bytes=9999-", 416, b"", "bytes */5000"),
        ('If-None-Match: "river"', 304, b"", None),
    ):
        what = f"which the upstream answers with status {status}"
        if status == 304:  # it has no body, and may say how long it would be
            found = fetch(gate, path, header).answer
            if found.status != 304 or found.body:
                story = f"GET {path} with {header}, {what}. Came back:\n\n{shown(found.raw)}\n\n"
                gate.fail("wrong_status", f"{story}It should be 304, without a body.")
            continue
        found = expect(gate, path, header, status=status, body=wanted, what=what)
        if found.header("content-range") != its_range:
            gate.fail(
                "header_lost",
                f"GET {path} with {header}, {what}. The upstream sent\n\n    Content-Range: "
                f"{its_range}\n\nand came back:\n\n{shown(found.raw)}",
            )


def _packed(gate: Gateway) -> None:
    plain = gate.draw.randbytes(5000) * 40
    packed = gzip.compress(plain, mtime=0)

    path = gate.put(Answer(packed, headers=(("Content-Encoding", "gzip"),)))
    for provider, accepted, what in (
        ("river", "gzip", "which the upstream sends in gzip"),
        ("river", "identity", "which the upstream sends in gzip, though nobody asked for it"),
        ("lake", "gzip", "which the upstream sends in gzip, with X-Provider: lake"),
    ):
        found = fetch(gate, path, f"Accept-Encoding: {accepted}", f"X-Provider: {provider}")
        answer = found.answer
        coding = answer.header("content-encoding")
        story = (
            f"GET {path}, {what}: {len(plain)} bytes, {len(packed)} in gzip. The client sent "
            f"Accept-Encoding: {accepted}. Came back:\n\n{shown(answer.raw, 400)}\n\n"
        )
        if not found.complete:
            problem = answer.problem or "It has no end"
            gate.fail("gzip_mixed", f"{story}{problem}.", url("gzip"))
        if answer.status != 200:
            gate.fail("wrong_status", f"{story}The status should be 200.", url("gzip"))
        if coding not in (None, "identity", "gzip") or answer.body != (
            packed if coding == "gzip" else plain
        ):
            gate.fail(
                "gzip_mixed",
                f"{story}It should be the gzip with Content-Encoding, or the {len(plain)} bytes "
                "without.",
                url("gzip"),
            )


# ROUTE

ROUTES = {
    None: (RIVER, True),
    "river": (RIVER, True),
    "fast": (RIVER, True),
    "lake": (LAKE, False),
    "cheap": (LAKE, False),
}
"""By what the client writes into X-Provider: the key of the provider, and whether it may stream."""


def finds_its_way(launch: Launch, draw: Random) -> None:
    """The provider behind a name is asked, streamed or not as it allows, and nobody else."""
    with gateway(launch, draw) as gate, Origin() as canary:
        names = list(ROUTES)
        for name in draw.sample(names, len(names)):
            key, may_stream = ROUTES[name]
            headers = [f"X-Provider: {name}"] if name else []
            who = f"with X-Provider: {name}" if name else "without X-Provider"
            see = _streams if may_stream else _is_buffered
            path = see(gate, headers, who)
            for asked in gate.asked(path):
                if asked.header("authorization") != f"Bearer {key}":
                    gate.fail(
                        "wrong_key",
                        f"GET {path} {who}: the upstream was asked with Authorization: "
                        f"{asked.header('authorization')!r}. It should be 'Bearer {key}'.",
                    )
        _follows_nothing(gate, canary)
        _asks_nobody(gate)


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
        answer = expect(gate, other, *headers, status=status, body=b"as ordered", what=what)
        if answer.header("content-disposition") != told[0][1]:
            gate.fail(
                "header_lost",
                f"GET {other} {what}. The upstream sent\n\n    {': '.join(told[0])}\n\nand came "
                f"back:\n\n{shown(answer.raw, 500)}",
            )
    for framing in ("length", "chunked"):
        cut = gate.put(Answer(body, framing=framing, stop=len(body) * 6 // 10))
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
    if not answer.raw and not found.closed:
        cause = "hangs"
    elif found.complete and answer.status not in (200, 502, 504):
        cause = "wrong_status"
    elif found.complete and cause == "not_buffered":  # it took in what there was
        cause = "truncation_hidden"
    gate.fail(cause, f"{story}It should be status 502 or 504, and all of it.", by_hand)


def _follows_nothing(gate: Gateway, canary: Origin) -> None:
    for status in (301, 302, 307):
        target = canary.put("/latest/meta-data", Answer(b"not for clients"))
        path = gate.put(Answer(b"moved", status, headers=(("Location", target),)))
        found = fetch(gate, path).answer
        story = f"GET {path}, which the upstream answers with status {status} and Location: "
        story += f"{target}. "
        if canary.exchanges:
            gate.fail(
                "follows",
                f"{story}The gateway went there; its Authorization was "
                f"{canary.exchanges[0].header('authorization')!r}.",
                url("redirect"),
            )
        if not (found.status == 502 or 300 <= found.status < 400) or found.problem:
            gate.fail(
                "wrong_status",
                f"{story}Came back:\n\n{shown(found.raw)}\n\nIt should be that redirection, or "
                "502.",
                url("redirect"),
            )


def _asks_nobody(gate: Gateway) -> None:
    good = gate.put(Answer(b"river"))
    requests: list[tuple[str, list[str], str]] = [
        (good, ["X-Provider: sea"], "unknown_provider"),
        ("/v1/files/%2e%2e/content", [], "any_path"),
        ("/v1/files/..%2f..%2fadmin/content", [], "any_path"),
        ("/v1/files/a%3Fkey=b/content", [], "any_path"),
        ("/v1/files/a%23b/content", [], "any_path"),
        ("/v1/files/a%5Cb/content", [], "any_path"),
    ]
    for path, headers, cause in requests:
        before = len(gate.origin.exchanges)
        found = fetch(gate, path, *headers).answer
        story = f"GET {path}" + "".join(f" with {header}" for header in headers)
        asked = gate.origin.exchanges[before:]
        if asked:
            gate.fail(
                cause,
                f"{story}: the upstream was asked for {asked[0].path}, and should not have been.",
                f"--path-as-is -i http://127.0.0.1:PORT{path}",
            )
        if not 400 <= found.status < 500 or found.problem:
            gate.fail(
                "wrong_status",
                f"{story}. Came back:\n\n{shown(found.raw)}\n\nIt should be a status from 400 to "
                "499.",
                f"--path-as-is -i http://127.0.0.1:PORT{path}",
            )


# FLAT


def stays_flat(launch: Launch, draw: Random, scratch: Path) -> None:
    """While clients wait, little is held for them, and the upstream waits; the huge pours through.

    `scratch` is a folder for the upstream's files.
    """
    with gateway(launch, draw) as gate:
        small = gate.put(Answer(b"river" * 800))
        expect(gate, small, status=200, body=b"river" * 800, what="a small file")
        baseline = held_by(gate.server)
        size = draw.choice([70 * GiB, 300 * GiB, TiB]) + draw.randrange(MiB)
        first = draw.randrange(180 * MiB, 200 * MiB)
        source = _file(scratch / "huge", size, first, draw)
        path = gate.put(Answer(source))
        with Visit(gate, path, what=f"{size_text(size)}, in {gate.server.cup}") as visit:
            visit.take(MiB, source)
            _expect_wait(gate, path)
            _crowd_waits(gate, scratch, baseline)
            _expect_wait(gate, path)  # a gateway that goes on has had time for it by now
            visit.take(first - MiB, source)


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
                here[-1].take(200 * KiB, source)
            allowed = baseline + SLACK + (count + 1) * EACH
            held = most_held(gate.server, allowed) if count == most else held_by(gate.server)
            if held > allowed:
                gate.fail(
                    "holds_much",
                    f"{story}. The gateway held {size_text(held - baseline)} more than when idle; "
                    f"{size_text(allowed - baseline)} are allowed: {size_text(EACH)} for each "
                    f"of them and one more who waits, "
                    f"and {size_text(SLACK)}.\n{trace.line}",
                    url("river", "--limit-rate 100k -o got"),
                )
        if (busy := _busy(gate, path)) > BUSY:
            gate.fail(
                "busy_loop",
                f"{story}. While nothing moved, the gateway used {busy:.0%} of a CPU.",
            )
        last = here[-1]
        last.story = f"{story}; then one of them read on"
        last.take(size - last.size, source)
        last.ends()


def _busy(gate: Gateway, path: str) -> float:
    """The share of a CPU that a gateway uses while nothing comes for it; 0 if something does."""
    for _ in range(8):
        sent, spent = sum(each.sent for each in gate.asked(path)), cpu_seconds(gate.server)
        began = time.monotonic()
        time.sleep(0.4)  # on a busy machine it is longer
        spent = (cpu_seconds(gate.server) - spent) / (time.monotonic() - began)
        if sum(each.sent for each in gate.asked(path)) == sent:
            return spent
    return 0.0


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
    wait: float = 0.0
    """Seconds after the departure in which the upstream is not to be left yet: so long it does not
    answer."""

    def order(self, gone: threading.Event) -> Order:
        """What the upstream is told; where it has to wait, it begins with that event."""
        if not self.wait:
            return self.answer

        def late(exchange: Exchange) -> Answer:
            gone.wait()
            return self.answer

        return late


def leaves_with_clients(launch: Launch, draw: Random, scratch: Path) -> None:
    """When clients leave, the upstream is left too, at once, and nothing of them remains."""
    with gateway(launch, draw) as gate:
        huge = _file(scratch / "huge", 300 * GiB, MiB, draw)
        body = draw.randbytes(400 * KiB)
        ways = [
            Leaving(Answer(huge), 16, 100 * KiB, "in the middle"),
            Leaving(
                Answer(huge, stop=200 * KiB, stall=True),
                4,
                100 * KiB,
                "in the middle, while the upstream paused",
            ),
            Leaving(
                Answer(huge, stop=0, stall=True),
                4,
                0,
                "when the upstream had sent its headers, and nothing of the body yet",
            ),
            Leaving(
                Answer(huge, delay=0.6),
                4,
                0,
                "before the upstream answered, which it did 0.6 s later",
                0.6,
            ),
        ]
        small = gate.put(Answer(body))
        with ThreadPoolExecutor(sum(way.clients for way in ways)) as pool:
            list(pool.map(lambda _: fetch(gate, small), range(sum(way.clients for way in ways))))
        before = settled(lambda: len(descriptors(gate.server.keeper)))
        threads = []
        for leaving in (ways, ways[:3]):
            _leave(gate, leaving)
            _expect_back(gate, before)
            # Whose descriptors are closed need not have ended yet.
            threads.append(settled(lambda: threads_of(gate.server.keeper)))
        if threads[1] > threads[0] + sum(way.clients for way in ways) // 2:
            gate.fail(
                "leaks",
                f"{sum(way.clients for way in ways)} clients came and left, and as many again: the "
                f"gateway had {threads[0]} threads after the first ones, and {threads[1]} now.",
            )
        expect(gate, small, status=200, body=body, what="after all the others had left")


def _leave(gate: Gateway, ways: Sequence[Leaving]) -> None:
    gone = threading.Event()
    paths = {gate.put(way.order(gone)): way for way in ways}
    with ExitStack() as visits:
        visits.callback(gone.set)  # it comes last, after all have left
        for path, way in paths.items():
            for _ in range(way.clients):
                what = f"whose client is to leave {way.when}"
                visit = visits.enter_context(Visit(gate, path, what=what))
                if way.first:
                    visit.take(way.first)
        for waited in waited_so_far():
            if all(len(gate.asked(path)) >= way.clients for path, way in paths.items()):
                break
            if waited > PATIENCE:
                gate.fail("one_at_a_time", "Of clients who came together, not all were served.")
        time.sleep(0.15)  # the heads are on their way
    left, naps = time.monotonic(), waited_so_far()
    waited = next(naps)
    for path, way in sorted(paths.items(), key=lambda each: each[1].wait):
        exchanges = gate.asked(path)
        while kept := [each for each in exchanges if each.ended is None]:
            if waited > way.wait + GONE:
                since = time.monotonic() - left
                gate.fail(
                    "upstream_kept",
                    f"{way.clients} clients asked for {path} and left {way.when}. {since:.1f} s "
                    f"after they left, {len(kept)} of their connections to the upstream were "
                    f"still open; {sum(each.sent for each in kept) >> 10} KiB had come over them.",
                    url("stall", "--max-time 1 -o got"),
                )
            waited = next(naps)
        if all(each.left for each in exchanges):
            continue
        gate.fail(
            "upstream_kept",
            f"{way.clients} clients asked for {path} and left {way.when}. The upstream could send "
            "all of it.",
        )


def _expect_back(gate: Gateway, before: int) -> None:
    for waited in waited_so_far(0.1):
        if (now := len(descriptors(gate.server.keeper))) <= before + 3:
            return
        if waited > 4:
            gate.fail(
                "leaks",
                f"After complete downloads the gateway had {before} descriptors; 4 s after as many "
                f"clients had left halfway, {now}.",
                url("river", "--max-time 0.1 -o got"),
            )


# CUT


def breaks_are_told(launch: Launch, draw: Random) -> None:
    """An upstream that breaks is an error before the headers, and a broken connection later."""
    with gateway(launch, draw) as gate:
        body = draw.randbytes(draw.randrange(600 * KiB, 900 * KiB))
        cut = len(body) * 6 // 10
        ways = [
            (Answer(body, stop=cut), "60 % of what Content-Length says", "cut"),
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
        for answer, sends, by_hand in draw.sample(ways, len(ways)):
            _expect_broken(gate, answer, body, sends, by_hand)
        for answer, what in (
            (Answer(status=0), "which the upstream closes the connection for, without a word"),
            (Answer(status=0, reset=True), "which the upstream answers with a reset"),
        ):
            path = gate.put(answer)
            _expect_error(gate, path, what=what, cause="wrong_status", by_hand=url("silent"))
        path = gate.put(Answer(body))
        expect(gate, path, status=200, body=body, what="after the upstream had broken off others")
        gate.origin.refuse()
        for each in (path, path.removesuffix("/content")):
            _expect_error(
                gate,
                each,
                what="while nobody listens at the upstream's port",
                cause="wrong_status",
                by_hand="-i http://127.0.0.1:PORT/v1/files/length/content",
            )


def _expect_broken(gate: Gateway, answer: Answer, body: bytes, sends: str, by_hand: str) -> None:
    """The client must not take what has come for the file; and it must know soon."""
    path = gate.put(answer)
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
    with gateway(launch, draw, TIMEOUT) as gate, ThreadPoolExecutor(6) as pool:
        fetch(gate, gate.put(Answer(b"river")))
        jobs = [
            pool.submit(job, gate)
            for job in (_silence, _silence_of_the_lake, _stall, _trickle, _others_go_on)
        ]
        jobs.append(pool.submit(_slow_client, gate, scratch))
        for job in jobs:
            job.result()


def _silence(gate: Gateway) -> None:
    path = gate.put(Answer(status=0, stall=True))
    what = f"while the upstream says nothing; STREAMLAB_TIMEOUT is {TIMEOUT:g}"
    _expect_error(
        gate,
        path,
        what=what,
        cause="wrong_status",
        by_hand=url("never"),
        patience=TIMEOUT + LATER,
    )
    _expect_left(gate, path, what)


def _silence_of_the_lake(gate: Gateway) -> None:
    path = gate.put(Answer(bytes(300_000), stop=150_000, stall=True))
    what = "of the lake's, of which the upstream sends half, and then nothing; "
    what += f"STREAMLAB_TIMEOUT is {TIMEOUT:g}"
    _expect_error(
        gate,
        path,
        "X-Provider: lake",
        what=what,
        cause="wrong_status",
        by_hand=url("stall", "-D - -o got -H 'X-Provider: lake'"),
        patience=TIMEOUT + LATER,
    )
    _expect_left(gate, path, what)


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


def _stall(gate: Gateway) -> None:
    path = gate.put(Answer(bytes(300_000), stop=150_000, stall=True))
    found = fetch(gate, path, patience=TIMEOUT + LATER)
    story = (
        f"GET {path}, 300000 bytes, of which the upstream sends half, and then nothing; "
        f"STREAMLAB_TIMEOUT is {TIMEOUT:g}. {len(found.answer.body)} bytes came back"
    )
    by_hand = url("stall", "-o got")
    if found.complete and found.answer.status == 200:
        gate.fail("truncation_hidden", f"{story}, as a complete answer.", by_hand)
    if not found.closed and not found.complete:
        gate.fail("hangs", f"{story}; {found.seconds:.1f} s later the client still waits.", by_hand)
    _expect_left(gate, path, "of which the upstream sends half, and then nothing")


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
    with Visit(gate, path, what=what) as visit:
        visit.take(64)
        sent = sum(each.sent for each in gate.asked(path)) // 64
        if sent > _BEHIND:
            gate.fail(
                "coalesces",
                f"{visit.story}. When the client had the first one, the upstream had sent {sent} "
                "of them.",
                url("trickle", "-N"),
            )
        try:
            rest = visit.response.read()
        except (OSError, http.client.HTTPException) as error:
            paused = _longest_pause(gate, path)
            if paused > TIMEOUT / 2:
                return False
            seconds = _LINES * _PAUSE
            gate.fail(
                "cuts_the_slow",
                f"{visit.story}, {seconds:g} s in all; STREAMLAB_TIMEOUT is {TIMEOUT:g}. There was "
                f"never a longer silence than {paused:.1f} s, and the download broke: {error!r}.",
                url("trickle", "-N"),
            )
        if rest != body[64:]:
            visit.fail("wrong_bytes", f"the rest is {len(rest)} bytes, and not what was sent")
    return True


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
    with Visit(gate, path, what=what + "goes on") as visit:
        visit.take(100 * KiB, source)
        _expect_wait(gate, path)  # from now on the gateway can't get rid of anything
        time.sleep(pause)
        try:
            left = size - visit.size
            while left and (piece := visit.response.read(min(left, MiB))):
                left -= len(piece)
        except (OSError, http.client.HTTPException):
            pass
        if left:
            visit.fail("cuts_the_slow", f"the last {size_text(left)} did not come")


def _others_go_on(gate: Gateway) -> None:
    for _ in range(6):
        path = gate.put(Answer(b"river"))
        found = fetch(gate, path, patience=2)
        if not found.complete or found.answer.body != b"river":
            gate.fail(
                "blocks",
                f"While one upstream said nothing and another one paused, GET {path}, 5 bytes, had "
                f"no answer within 2 s.",
            )
        time.sleep(0.3)


# LOG


def tells_the_truth(launch: Launch, draw: Random, scratch: Path) -> None:
    """Each download has one line in the log, once it is over, and it says how it ended."""
    with gateway(launch, draw) as gate:
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
                gate.fail(
                    "logged_early",
                    f"A client had 200 KiB of {slow}, {size_text(size)}, and waited. In the log "
                    f"there was already\n\n    {lines[0]}",
                )
            visit.take(size - visit.size)
            visit.ends()
            # Who has it all need not leave at once, before the server has seen that it is done.
            _await_lines(gate, [slow])
        small = gate.put(Answer(body))
        fetch(gate, small, "X-Provider: lake")
        wanted[small] = "success", "a client took all of it, from the lake"
        for answer, what in (
            (Answer(body, stop=99_999), "the upstream broke off in the middle"),
            (Answer(body, framing="chunked", stop=99_999), "the upstream broke off in the middle"),
            (Answer(status=0), "the upstream closed the connection without a word"),
        ):
            path = gate.put(answer)
            fetch(gate, path)
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
            _expect_line(gate, path, outcome, what)


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
