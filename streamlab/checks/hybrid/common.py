"""Lab 05's hybrid file server: its threshold, the head of an answer, and mistakes in it.

A check can't see from outside which way a file takes, so it asks for files on both sides of the
threshold. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import string
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import format_datetime, parsedate_to_datetime
from typing import NoReturn

from streamlab.checks.evidence import cause_of, curl, shown, state_of
from streamlab.checks.exchange import connected, head_over, request_for
from streamlab.checks.media_types import OTHER, TYPES
from streamlab.checks.outcome import fail
from streamlab.checks.waits import SHORT_ANSWER
from streamlab.files import MiB, SampleFile
from streamlab.http.answer import RawAnswer, read_answer
from streamlab.process.server import Server

THRESHOLD = MiB

QUIET = 0.3
"""Seconds after an answer within which surplus bytes would have come."""
OLDEST = 2.0
"""Seconds by which a Date may be older than its answer."""

FIELDS = ("Content-Type", "Content-Length", "Cache-Control", "Date", "Server")
"""The headers of a file's answer."""

PLAIN = string.ascii_letters + string.digits + "-._~" + "!$&'()*+,;=" + ":@"
"""Characters that need no encoding between two slashes of a target (RFC 3986, section 3.3)."""


def target_of(path: str) -> str:
    """A path as a target: only bytes that need it are encoded (RFC 3986)."""
    return "".join(
        chr(byte) if chr(byte) in PLAIN + "/" else f"%{byte:02X}" for byte in path.encode()
    )


@dataclass(frozen=True)
class Problem:
    """What is wrong with a head: the name of the cause, and a sentence."""

    cause: str
    what: str


def types_of(name: str) -> set[str]:
    """The right content types for a name, by what follows its last dot."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return TYPES.get(f".{ending.lower()}", OTHER) if stem and dot else OTHER


def head_of(server: Server, path: str, method: str = "GET") -> RawAnswer:
    """The head of an answer, without waiting for its body; the check fails if none comes."""
    answer = read_answer(b"", closed=True)
    with suppress(OSError), connected(server, SHORT_ANSWER) as sock:
        sock.sendall(request_for(path).replace(b"GET", method.encode(), 1))
        answer, _ = head_over(sock)
    if answer.problem:
        fail_without_answer(server, f"Sent {method} {path}.", answer, curl(server, path, "-i"))
    return answer


def fail_without_answer(server: Server, summary: str, answer: RawAnswer, line: str) -> NoReturn:
    """End the check: no whole answer came back. The cause is what can be seen of the server."""
    came = f"Came back:\n\n{shown(answer.raw)}\n\n" if answer.raw else ""
    problem = answer.problem[:1].upper() + answer.problem[1:]
    state = state_of(server)  # takes a moment, in which an end becomes known
    fail(cause_of_no_answer(answer, server), f"{summary} {came}{problem}.{state}", line)


def cause_of_no_answer(answer: RawAnswer, server: Server) -> str:
    """Why there is no answer: first of all, the server may have ended or listen elsewhere."""
    cause = cause_of(answer.fault, server)
    if cause in ("too_much_output", "whole_file"):
        return cause
    if not server.running:
        return "died"
    if not answer.raw:
        try:
            with connected(server):
                pass
        except OSError:
            return "elsewhere"
    return cause


def values_of(head: RawAnswer, name: str) -> list[str]:
    """The values of all lines of a header."""
    return [value for key, value in head.headers if key.lower() == name.lower()]


def problem_of(head: RawAnswer, file: SampleFile, name: str, sent: float) -> Problem | None:
    """What is wrong with the headers of a file of that name; None if nothing is.

    `sent` is when it was asked for, in seconds since the epoch.
    """
    if head.status != 200:
        return Problem("wrong_status", f"the status is {head.status}, not 200")
    if not values_of(head, "Content-Length"):
        return Problem("no_length", "Content-Length is missing")
    if problem := problem_of_repetition(head, FIELDS):
        return problem
    if head.header("content-length") != str(file.size):
        return Problem("wrong_length", "Content-Length is not the size of the file")
    kind = (head.header("content-type") or "").partition(";")[0].strip().lower()
    if kind not in types_of(name):
        right = " or ".join(sorted(types_of(name)))
        return Problem("wrong_type", f"Content-Type should be {right}, for a name like {name}")
    if directives(head) != {"public", "max-age=3600"}:
        return Problem("wrong_cache", "Cache-Control should be public, max-age=3600")
    return date_problem(head.header("date") or "", sent, time.time())


def problem_of_repetition(head: RawAnswer, names: Sequence[str]) -> Problem | None:
    """The problem if one of these headers is missing, empty or repeated; else None."""
    for name in names:
        values = values_of(head, name)
        if len(values) > 1:
            return Problem("header_twice", f"{name} occurs {len(values)} times")
        if not values or not values[0]:
            causes = {"Server": "no_server", "Date": "no_date"}
            what = "is empty" if values else "is missing"
            return Problem(causes.get(name, "header_missing"), f"{name} {what}")
    return None


def directives(answer: RawAnswer) -> set[str]:
    """The directives of all lines of `Cache-Control` (RFC 9111, section 5.2), in lower case."""
    together = ",".join(values_of(answer, "Cache-Control"))
    return {each.strip().lower() for each in together.split(",")} - {""}


def date_problem(date: str, sent: float, came: float) -> Problem | None:
    """What is wrong with the `Date` of an answer; None if it is right.

    The request went out at `sent`, and the answer had come by `came`: both in seconds since the
    epoch. A Date is an IMF-fixdate in GMT (RFC 9110, sections 5.6.7 and 6.6.1). It counts whole
    seconds, so it may be up to one second older.
    """
    with suppress(ValueError):  # no date at all, or in another zone
        told = parsedate_to_datetime(date)
        if format_datetime(told, usegmt=True) == date:
            ahead = told.timestamp() - came
            behind = sent - told.timestamp()
            if ahead <= 1 and behind <= OLDEST + 1:
                return None
            side = "ahead" if ahead > 0 else "behind"
            off = max(ahead, behind)
            hours = round(off / 1800)  # zones differ by whole and half hours
            if hours and abs(off - hours * 1800) < 60:
                zone = "the server ran with the time zone UTC+5:30"
                return Problem("wrong_zone", f"Date is {off:.0f} s {side} ({zone})")
            return Problem("wrong_time", f"Date is {off:.1f} s {side}")
    return Problem("wrong_date", "Date is not written like Tue, 15 Nov 1994 08:12:31 GMT")
