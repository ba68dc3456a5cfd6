"""Lab 09: memory stays flat while clients wait, and while gzip is decoded."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from random import Random

from streamlab.checks.observe import busy_at_rest, held_by, peak_memory, traced
from streamlab.checks.outcome import CheckFailed, promise
from streamlab.checks.proxy.clients import Gateway, Launch, SteppedDownload, expect, gateway, url
from streamlab.checks.proxy.common import alone, expect_wait, file_with_islands
from streamlab.files import GiB, KiB, MiB, TiB, size_text
from streamlab.origin import Answer, Bomb

CLIENTS = 32
EACH = 512 * KiB
"""Bytes that a gateway may hold for each client that waits."""
SLACK = 16 * MiB
"""Bytes that it may hold besides, for Python and its allocator, however many clients there are."""


# FLAT


def stays_flat(launch: Launch, rng: Random, scratch: Path) -> None:
    """While clients wait, little is held, and the upstream waits; huge files come through.

    `scratch` is a folder for the upstream's files.
    """
    with gateway(launch, rng) as gate:
        alone(gate)
        small = gate.put(Answer(b"river" * 800))
        expect(gate, small, status=200, body=b"river" * 800, what="a small file")
        baseline = held_by(gate.server)
        with promise("packed-flat"):
            _unpacks_in_pieces(gate, baseline)
        size = rng.choice([70 * GiB, 300 * GiB, TiB]) + rng.randrange(MiB)
        first = rng.randrange(180 * MiB, 200 * MiB)
        source = file_with_islands(scratch / "huge", size, first, rng)
        path = gate.put(Answer(source))
        with SteppedDownload(
            gate, path, what=f"{size_text(size)}, in {gate.server.cup}"
        ) as download:
            with promise("cup"):
                download.take(MiB, source)
            with promise("stalled"):
                expect_wait(gate, path)
            _crowd_waits(gate, scratch, baseline)
            with promise("stalled"):
                expect_wait(gate, path)  # a gateway that goes on has had time for it by now
            with promise("cup"):
                download.take(first - MiB, source)


PACKED = 32
"""The decoded size of a small gzip answer, in MiB."""
UNPACKING = 16
"""Clients that wait for such an answer. httpx2 decodes 1 MiB at a time, and that costs 3 MiB a
client."""


def _unpacks_in_pieces(gate: Gateway, baseline: int) -> None:
    """A small gzip answer costs little, even if it is decoded for a client that waits."""
    bomb = Bomb(bytes(MiB), PACKED).packed()
    path = gate.put(Answer(bomb, headers=(("Content-Encoding", "gzip"),)))
    with ExitStack() as downloads:
        for count, more in ((1, 1), (UNPACKING, UNPACKING - 1)):
            what = f"{len(bomb)} bytes in gzip that unpack to {PACKED} MiB; it took 8 KiB and waits"
            for _ in range(more):
                ask = "Accept-Encoding: identity"
                download = downloads.enter_context(SteppedDownload(gate, path, ask, what=what))
                try:
                    download.take(8 * KiB)
                except CheckFailed as failure:
                    if failure.cause not in ("whole_file", "died"):
                        return  # another probe compares the bytes
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
    size = gate.rng.randrange(48 * MiB, 64 * MiB)
    source = file_with_islands(scratch / "medium", size, size, gate.rng)
    path = gate.put(Answer(source))
    with traced(gate.server) as trace, ExitStack() as downloads:
        here: list[SteppedDownload] = []
        most = CLIENTS - 1  # one more has been here from the start
        for count in (4, most):
            summary = f"{count} clients took 200 KiB of {path} ({size_text(size)}) and waited"
            while len(here) < count:
                what = f"{size_text(size)}, client {len(here) + 1} of {most} that wait"
                here.append(downloads.enter_context(SteppedDownload(gate, path, what=what)))
                here[-1].silence = "one_at_a_time" if len(here) > 1 else "no_answer"
                with promise("memory", one_at_a_time="clients"):
                    here[-1].take(200 * KiB, source)
            allowed = baseline + SLACK + (count + 1) * EACH
            held = peak_memory(gate.server, allowed) if count == most else held_by(gate.server)
            if held > allowed:
                with promise("memory"):
                    gate.fail(
                        "holds_much",
                        f"{summary}. The gateway held {size_text(held - baseline)} more than when "
                        f"idle; {size_text(allowed - baseline)} are allowed: {size_text(EACH)} for "
                        f"each of them and one more that waits, and {size_text(SLACK)}.\n"
                        f"{trace.line}",
                        url("river", "--limit-rate 100k -o got"),
                    )
        with promise("memory"), promise("rests"):
            if busy := busy_at_rest(gate.server, 0.4):
                what = f"{summary}. While nothing moved, the gateway {busy}."
                gate.fail("busy_loop", what, url("river", "--limit-rate 100k -o got"))
        last = here[-1]
        last.summary = f"{summary}; then one of them read on"
        with promise("content"):
            last.take(size - last.size, source)
            last.ends()
