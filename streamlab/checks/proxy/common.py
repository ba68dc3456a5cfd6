"""Lab 09's gateway, between our own upstream and our own clients.

The upstream sends the answers that it is given, and records all that it sees: what the gateway
asked for, how much it could send, and when the gateway left. Clients see what the gateway makes of
that. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

from streamlab.checks.evidence import shown
from streamlab.checks.outcome import promise
from streamlab.checks.probes.common import CHUNK
from streamlab.checks.proxy.clients import Gateway, expect, fetch, url, waited_so_far
from streamlab.checks.waits import ANSWER
from streamlab.files import MiB, size_text
from streamlab.origin import Answer
from streamlab.process.proc import socket_room

RIVER, LAKE_KEY = "key-of-the-river", "key-of-the-lake"
"""The keys that the stub has for its two providers; the lake's answers may not be streamed."""
LATER = 3.0
"""Seconds after its limit within which a gateway must tell its client."""
AHEAD = 24 * MiB
"""Bytes that the upstream may send to a client that does not read, besides the kernel's buffers."""
LAKE = "X-Provider: lake"


def alone(gate: Gateway) -> None:
    """One small file comes through; else that is what is wrong, and nothing later."""
    with promise("content"):
        expect(gate, gate.put(Answer(b"river")), status=200, body=b"river", what="5 bytes")


def with_headers(lines: Sequence[str]) -> str:
    """Header lines as part of a sentence."""
    return f" with {', '.join(lines)}" if lines else ""


def expect_key(gate: Gateway, path: str, lines: Sequence[str]) -> None:
    """The upstream got the key of the provider that a client's header lines name."""
    name = next((line.partition(": ")[2] for line in lines if line.startswith("X-Prov")), None)
    key = ROUTES[name][0]
    with promise("lake-names" if key == LAKE_KEY else "river-names"):
        for asked in gate.asked(path):
            if (found := asked.header("authorization")) != f"Bearer {key}":
                gate.fail(
                    "wrong_key",
                    f"GET {path}{with_headers(lines) or ' without X-Provider'}: the upstream was "
                    f"asked with Authorization: {found!r}. It should be 'Bearer {key}'.",
                )


ROUTES = {
    None: (RIVER, True),
    "river": (RIVER, True),
    "fast": (RIVER, True),
    "lake": (LAKE_KEY, False),
    "cheap": (LAKE_KEY, False),
}
"""By the value of X-Provider: the provider's key, and whether it may be streamed."""


def expect_error(
    gate: Gateway,
    path: str,
    *headers: str,
    what: str,
    cause: str,
    by_hand: str,
    patience: float = ANSWER,
) -> None:
    """A request that can't be answered gets a whole 502 or 504."""
    found = fetch(gate, path, *headers, patience=patience)
    answer = found.answer
    if found.complete and answer.status in (502, 504):
        return
    summary = f"GET {path} {what}. After {found.seconds:.1f} s "
    summary += f"came back:\n\n{shown(answer.raw)}\n\n" if answer.raw else "nothing had come back. "
    if not answer.raw:
        cause = "no_answer" if found.closed else "hangs"
    elif found.complete and answer.status not in (200, 502, 504):
        cause = "wrong_status"
    elif found.complete and cause == "not_buffered":  # it took in what had come
        cause = "truncation_hidden"
    gate.fail(cause, f"{summary}It should be status 502 or 504, and all of it.", by_hand)


def expect_wait(gate: Gateway, path: str) -> None:
    """The client has stopped reading; then the upstream must come to a stop too."""
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


def file_with_islands(path: Path, size: int, first: int, rng: Random) -> Path:
    """A sparse file with islands of random data in its first `first` bytes."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset in (0, *(rng.randrange(first - CHUNK) for _ in range(6))):
            file.seek(offset)
            file.write(rng.randbytes(CHUNK))
    return path


def log_lines(gate: Gateway, path: str) -> list[str]:
    """The lines of the log about a download."""
    file_id = path.split("/")[3]
    return re.findall(rf"^.*\bdownload {file_id}\b.*$", gate.server.log(), re.MULTILINE)


def expect_line(gate: Gateway, path: str, outcome: str, what: str) -> None:
    lines = log_lines(gate, path)
    wanted = f"download {path.split('/')[3]} {outcome}"
    if len(lines) == 1 and re.search(rf"\b{wanted}\b", lines[0]):
        return
    summary = (
        f"GET {path}: {what}. The log should have one line for it,\n\n    {wanted}\n\nand has "
    )
    if not lines:
        gate.fail("not_logged", f"{summary}none.")
    summary += "\n\n    " + "\n    ".join(line[:200] for line in lines[:5])
    gate.fail("logged_twice" if len(lines) > 1 else "logged_wrong", summary)
