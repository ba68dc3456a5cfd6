"""Lab 09: an upstream that is silent, stalls, or can't be connected to; and a slow client."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from streamlab.checks.evidence import shown
from streamlab.checks.outcome import CheckFailed, note, promise
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
    expect_error,
    expect_line,
    expect_wait,
    file_with_islands,
)
from streamlab.checks.waits import ANSWER
from streamlab.files import KiB, size_text
from streamlab.origin import Answer
from streamlab.process.proc import socket_room

TIMEOUT = 2.0
"""The gateway's limit on an upstream's silence, in checks that wait for it to pass."""
LONGER = 7.0
"""Another such limit, longer than the five seconds that some libraries wait by default."""


# TIME


def waits_as_told(launch: Launch, rng: Random, scratch: Path) -> None:
    """A silent upstream is given up in time; a slow one and a slow client are not."""
    with gateway(launch, rng, TIMEOUT) as gate, ThreadPoolExecutor(16) as pool:
        alone(gate)
        silent: list[str] = []
        jobs = [pool.submit(_silence, gate.for_thread(), each, silent) for each in _silences()]
        jobs += [pool.submit(_stall, gate.for_thread(), silent, size) for size in (0, 150_000)]
        slow = [
            pool.submit(job, gate.for_thread())
            for job in (_others_go_on, _trickle, _trickle_of_the_lake)
        ]
        waiting = pool.submit(_slow_client, gate.for_thread(), scratch)
        longer = pool.submit(_longer_limit, launch, Random(rng.random()))
        # If one blocks all the others, that is the cause of their failures.
        for job in (*slow, *jobs):
            job.result()
        with promise("silence-log", logged_twice="one-line"):
            for path in silent:
                told = f"the upstream was silent; STREAMLAB_TIMEOUT is {TIMEOUT:g}"
                expect_line(gate, path, "failure", told)
        connecting = pool.submit(_no_connection, gate.for_thread(), pool)
        longer.result()  # if the limit counts several times, it is not one on connecting alone
        connecting.result()
        waiting.result()


def _longer_limit(launch: Launch, rng: Random) -> None:
    """The limit is the one in STREAMLAB_TIMEOUT, however long, and it counts once."""
    with gateway(launch, rng, LONGER) as gate, ThreadPoolExecutor(5) as pool:
        jobs = [
            pool.submit(_silence, gate.for_thread(), replace(_NEVER, lines=lines), [], LONGER)
            for lines in ((), (LAKE,))
        ]
        pause = LONGER - 1.5
        body = rng.randbytes(300_000)
        between = Answer(body, piece=len(body) // 2, pause=pause)
        for answer, lines in ((between, ()), (between, (LAKE,)), (Answer(body, delay=pause), ())):
            jobs.append(pool.submit(_quiet_for, gate.for_thread(), answer, lines, pause))
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


@dataclass(frozen=True)
class _Silence:
    """How an upstream is silent before the gateway can begin its answer."""

    answer: Answer
    when: str
    """The silence in words, after the requested path."""
    by_hand: str
    """How to see the same by hand: see `Gateway.fail`."""
    lines: tuple[str, ...] = ()
    """Header lines of the client's request."""
    metadata: bool = False
    """Whether the client asks for a file's metadata, which the log does not mention."""
    promised: str = "silence"
    """The promise that is tested."""


_NEVER = _Silence(Answer(status=0, stall=True), "while the upstream says nothing", url("never"))


def _silences() -> list[_Silence]:
    half = Answer(bytes(300_000), stop=150_000, stall=True)
    head = Answer(wire=b"HTTP/1.1 200 As Ordered\r\nContent-Le", stall=True)
    lake = "-D - -o got -H 'X-Provider: lake'"
    return [
        _NEVER,
        replace(
            _NEVER, when="while the lake says nothing", by_hand=url("never", lake), lines=(LAKE,)
        ),
        replace(_NEVER, metadata=True),
        _Silence(head, "of whose head half comes", url("half-head")),
        _Silence(
            half,
            "of the lake's, of which the upstream sends half, and then nothing",
            url("stall", lake),
            lines=(LAKE,),
            promised="silence-lake",
        ),
    ]


def _silence(gate: Gateway, silence: _Silence, silent: list[str], limit: float = TIMEOUT) -> None:
    """A silent upstream is given up in time. `silent` gets the path if the log must have a line."""
    path = gate.put(silence.answer, metadata=silence.metadata)
    what = f"{silence.when}; STREAMLAB_TIMEOUT is {limit:g}"
    with promise(silence.promised):
        expect_error(
            gate,
            path,
            *silence.lines,
            what=what,
            cause="begins_early",
            by_hand=silence.by_hand,
            patience=limit + LATER,
        )
    with promise("given-up"):
        _expect_left(gate, path, what)
    if not silence.metadata:
        silent.append(path)


def _expect_left(gate: Gateway, path: str, what: str) -> None:
    """The gateway closes its connection to an upstream that it has given up."""
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
        summary = (
            f"GET {path}, 300000 bytes, of which the upstream sends {sends}, and then nothing; "
            f"STREAMLAB_TIMEOUT is {TIMEOUT:g}. {len(found.answer.body)} bytes came back"
        )
        by_hand = url("stall", "-o got")
        if found.complete and found.answer.status == 200:
            gate.fail("truncation_hidden", f"{summary}, as a complete answer.", by_hand)
        if not found.closed and not found.complete:
            what = f"{summary}; {found.seconds:.1f} s later the client still waits."
            gate.fail("hangs", what, by_hand)
    with promise("given-up"):
        _expect_left(gate, path, "of which the upstream sends a part, and then nothing")
    silent.append(path)


def _no_connection(gate: Gateway, pool: ThreadPoolExecutor) -> None:
    """An upstream that neither accepts nor refuses a connection is given up too."""
    with promise("connect"):
        _connects_for_a_while(gate, pool)


def _connects_for_a_while(gate: Gateway, pool: ThreadPoolExecutor) -> None:
    if not gate.origin.stop_accepting():
        note("This system takes every connection at once: that part was left out.")
        return
    asks = [[gate.put(Answer(b"river"))], [gate.put(Answer(b"river")), LAKE]]
    asks.append([gate.put(Answer(b"river"), metadata=True)])

    def ask(path: str, *lines: str) -> None:
        expect_error(
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
"""Lines that the upstream may have sent when the client gets the first: for a second, and one
more."""


def _trickle(gate: Gateway) -> None:
    """A slow upstream; tried again if this machine stood still, which makes it a silent one."""
    if not any(_trickled(gate) for _ in range(5)):
        note("This machine was too busy to be a slow upstream: that part was left out.")


def _trickled(gate: Gateway) -> bool:
    """Whether there was a slow upstream, and all of it came; if not all came, the check fails."""
    body = b"".join(b"%-63d\n" % number for number in range(_LINES))
    path = gate.put(Answer(body, framing="chunked", piece=64, pause=_PAUSE))
    what = f"{_LINES} lines, of which the upstream sends one every {_PAUSE:g} s"
    with SteppedDownload(gate, path, what=what) as download, promise("slow", cuts_the_slow="hours"):
        for number in range(1, _LINES + 1):
            try:
                download.take(64)
            except CheckFailed as failure:
                if failure.cause not in ("cut_short", "no_end"):
                    raise
                return _broke(gate, path, download, failure)
            ahead = sum(each.sent for each in gate.asked(path)) // 64 - number
            if ahead >= _BEHIND:
                gate.fail(
                    "coalesces",
                    f"{download.summary}. When the client had {number} of them, the upstream had "
                    f"sent {ahead} more.",
                    url("trickle", "-N"),
                )
        download.ends()
    return True


def _broke(gate: Gateway, path: str, download: SteppedDownload, failure: CheckFailed) -> bool:
    """A slow download has broken: the cause is its slowness if it lasted as long as a limit."""
    paused, lasted = _longest_pause(gate, path), time.monotonic() - download.began
    if paused > TIMEOUT / 2:
        return False
    if lasted < 0.9 * TIMEOUT:
        raise failure
    seconds = _LINES * _PAUSE
    gate.fail(
        "cuts_the_slow",
        f"{download.summary}, {seconds:g} s in all; STREAMLAB_TIMEOUT is {TIMEOUT:g}. There was "
        f"never a longer silence than {paused:.1f} s, and after {lasted:.1f} s the download broke.",
        url("trickle", "-N"),
    )
    return False


def _trickle_of_the_lake(gate: Gateway) -> None:
    """A slow file of the lake is taken in: the limit is on silence, not on the whole."""
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
    """The longest pause in an upstream's answer, in seconds; known when the answer is over."""
    for waited in waited_so_far():
        if waited > ANSWER or all(each.ended is not None for each in gate.asked(path)):
            break
    return max((each.paused for each in gate.asked(path)), default=0.0)


def _slow_client(gate: Gateway, scratch: Path) -> None:
    size = socket_room() + AHEAD
    source = file_with_islands(scratch / "slow", size, size, gate.rng)
    path = gate.put(Answer(source))
    pause = 2 * TIMEOUT
    what = f"{size_text(size)}, whose client takes 100 KiB, reads nothing for {pause:g} s and then "
    with promise("pause"), SteppedDownload(gate, path, what=what + "goes on") as download:
        download.take(100 * KiB, source)
        stopped = time.monotonic()
        expect_wait(gate, path)  # from now on the gateway can't pass anything on
        time.sleep(pause)
        resumed = time.monotonic()
        try:
            download.take(size - download.size, source)
        except CheckFailed as failure:
            ended = [each.ended for each in gate.asked(path) if each.left and each.ended]
            if failure.cause == "cut_short" and any(stopped < each < resumed for each in ended):
                what = "the gateway left the upstream while the client read nothing: " + (
                    f"the last {size_text(size - download.size)} did not come"
                )
                download.fail("cuts_the_waiting", what)
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
