"""Lab 09: the log says what happened to each download."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from random import Random

from streamlab.checks.observe import wait_until_idle
from streamlab.checks.outcome import promise
from streamlab.checks.proxy.clients import (
    Gateway,
    Launch,
    SteppedDownload,
    fetch,
    gateway,
    url,
    waited_so_far,
)
from streamlab.checks.proxy.common import (
    AHEAD,
    LAKE,
    LATER,
    alone,
    expect_line,
    file_with_islands,
    log_lines,
    with_headers,
)
from streamlab.checks.waits import ANSWER
from streamlab.files import KiB, size_text
from streamlab.origin import Answer, Exchange
from streamlab.process.proc import departed, socket_room

# LOG


def check_log(launch: Launch, rng: Random, scratch: Path) -> None:
    """The log has one line for each download, once it is over, which says how it ended."""
    with gateway(launch, rng) as gate:
        alone(gate)
        body = rng.randbytes(300 * KiB)
        size = socket_room() + AHEAD
        large = file_with_islands(scratch / "large", size, size, rng)
        wanted: dict[str, tuple[str, str]] = {}

        slow = gate.put(Answer(large))
        wanted[slow] = "success", f"a client took all {size_text(size)}"
        with SteppedDownload(gate, slow, what=size_text(size)) as download:
            download.take(200 * KiB)
            time.sleep(0.3)
            if lines := log_lines(gate, slow):
                with promise("success"):
                    gate.fail(
                        "logged_early",
                        f"A client had 200 KiB of {slow}, {size_text(size)}, and waited. In the "
                        f"log there was already\n\n    {lines[0]}",
                    )
            download.take(size - download.size)
            download.ends()
            # A client that has the whole file need not leave at once.
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
            with SteppedDownload(gate, path, what="whose client is to leave") as download:
                download.take(first)
            wanted[path] = "client_disconnected", what
        _await_lines(gate, wanted)
        time.sleep(0.3)
        for path, (outcome, what) in wanted.items():
            with promise(outcome.replace("_", "-"), logged_twice="one-line"):
                expect_line(gate, path, outcome, what)
        with promise("no-success"):
            _left_early(gate)


def _left_early(gate: Gateway) -> None:
    """If a client left before there was an answer, the log reports no success."""
    gone = threading.Event()

    def late(exchange: Exchange) -> Answer:
        gone.wait()
        return Answer(b"river")

    ways: dict[str, list[str]] = {gate.put(late): [], gate.put(late): [LAKE]}
    clients: list[tuple[tuple[str, int], tuple[str, int]]] = []
    with ExitStack() as downloads:
        for path, lines in ways.items():
            what = "whose client is to leave before the upstream answers"
            download = downloads.enter_context(SteppedDownload(gate, path, *lines, what=what))
            clients.append((download.sock.getsockname(), download.sock.getpeername()))
        for waited in waited_so_far():
            if all(gate.asked(path) for path in ways) or waited > ANSWER:
                break
    for waited in waited_so_far():
        if all(departed(*ends) for ends in clients) or waited > ANSWER:
            break
    wait_until_idle(gate.server)
    gone.set()
    for waited in waited_so_far():
        ended = all(each.ended is not None for path in ways for each in gate.asked(path))
        if ended or waited > LATER:
            break
    wait_until_idle(gate.server)
    for path, lines in ways.items():
        for line in log_lines(gate, path):
            if re.search(r"\bsuccess\b", line):
                gate.fail(
                    "logged_gone",
                    f"GET {path}{with_headers(lines)}, whose client left before the upstream "
                    f"answered. The log says\n\n    {line}",
                    url("trickle", "--max-time 0.2 -H 'X-Provider: lake'"),
                )


def _await_lines(gate: Gateway, paths: Iterable[str], patience: float = 3.0) -> None:
    """Wait until each download has a line in the log, but not for longer than `patience`."""
    for waited in waited_so_far():
        if waited > patience or all(log_lines(gate, path) for path in paths):
            return
