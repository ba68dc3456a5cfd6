"""Lab 09: when a client leaves, the gateway ends its request to the upstream."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

from streamlab.checks.observe import busy_at_rest
from streamlab.checks.outcome import promise
from streamlab.checks.proxy.clients import (
    Gateway,
    Launch,
    SteppedDownload,
    expect,
    fetch,
    gateway,
    url,
    waited_so_far,
)
from streamlab.checks.proxy.common import LAKE, alone, file_with_islands
from streamlab.checks.waits import ANSWER
from streamlab.files import GiB, KiB, MiB
from streamlab.origin import Answer, Exchange, Order
from streamlab.process.patience import settled
from streamlab.process.proc import descriptors, threads_of

GONE = 2.0
"""Seconds after a client left within which the gateway must leave the upstream too."""


# DROP


@dataclass(frozen=True)
class Leaving:
    """How clients leave."""

    answer: Answer
    clients: int
    first: int
    """Bytes that each client takes before it leaves."""
    when: str
    promise: str
    wait: float = 0.0
    """Seconds after the departure in which the gateway may still be at the upstream, because that
    does not answer yet, or not with all of its answer."""
    late: bool = True
    """Whether the upstream answers only after they have left."""
    lines: tuple[str, ...] = ()
    whole: bool = False
    """Whether the upstream may send all of the file, because the gateway takes it in."""

    def order(self, gone: threading.Event) -> Order:
        """The upstream's answer; if it has to wait, it goes on at the event `gone`."""
        if not self.wait or not self.late:
            return self.answer

        def late(exchange: Exchange) -> Answer:
            gone.wait()
            return self.answer

        return late


def leaves_with_clients(launch: Launch, rng: Random, scratch: Path) -> None:
    """When clients leave, the gateway leaves the upstream at once, and nothing of them remains."""
    with gateway(launch, rng) as gate:
        alone(gate)
        huge = file_with_islands(scratch / "huge", 300 * GiB, MiB, rng)
        body = rng.randbytes(400 * KiB)
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
        before = settled(lambda: len(descriptors(gate.server.supervisor_pid)))
        with promise("answers-end"):
            _answers_leave_nothing(gate, before, body)
        threads = []
        for leaving in (ways, [way for way in ways if not way.wait]):
            _leave(gate, leaving)
            with promise("nothing-left"):
                _expect_back(gate, before, f"as many clients as {clients} had left halfway")
            # A thread may still run after its descriptors are closed.
            threads.append(settled(lambda: threads_of(gate.server.supervisor_pid)))
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
                    f"After {clients} clients had left, and none was there, the gateway {busy}.",
                    url("river", "--max-time 0.1 -o got"),
                )
        with promise("content"):
            expect(gate, small, status=200, body=body, what="after all the others had left")


def _leave(gate: Gateway, ways: Sequence[Leaving]) -> None:
    gone = threading.Event()
    paths = {gate.put(way.order(gone)): way for way in ways}
    with ExitStack() as downloads:
        downloads.callback(gone.set)  # it comes last, after all have left
        for path, way in paths.items():
            with promise(way.promise):
                for _ in range(way.clients):
                    what = f"whose client is to leave {way.when}"
                    download = downloads.enter_context(
                        SteppedDownload(gate, path, *way.lines, what=what)
                    )
                    if way.first:
                        download.take(way.first, status=way.answer.status)
        for waited in waited_so_far():
            if all(len(gate.asked(path)) >= way.clients for path, way in paths.items()):
                break
            if waited > ANSWER:
                with promise("clients"):
                    came, all_of = (
                        sum(len(gate.asked(path)) for path in paths),
                        sum(way.clients for way in ways),
                    )
                    gate.fail(
                        "one_at_a_time",
                        f"{all_of} clients came together. {ANSWER:g} s later the upstream had "
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
    """When an answer is over, nothing of it is left, whatever it was."""
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
        if (now := len(descriptors(gate.server.supervisor_pid))) <= before + 3:
            return
        if waited > 4:
            gate.fail(
                cause,
                f"After complete downloads the gateway had {before} descriptors; 4 s after {what}, "
                f"{now}.",
                f"{url('404', '-o got')}; curl -sS {url('cut', '-o got')}"
                if cause == "answers_leak"
                else url("river", "--max-time 0.1 -o got"),
            )
