"""Lab 07: a report that is made while it is sent, and not kept."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from streamlab.checks.connection import Wanted, open_connection
from streamlab.checks.evidence import curl, log_of
from streamlab.checks.examples import for_all, texts
from streamlab.checks.exchange import connected, request_for
from streamlab.checks.frameworks.common import (
    EACH,
    ENDLESS,
    ENDLESS_REPORT,
    GZIP,
    PROMPT,
    REPORT,
    SLACK,
    Watcher,
    all_of,
    end_check,
    parting,
    report_of,
    why_no_answer,
    without_gzip,
)
from streamlab.checks.observe import busy_at_rest, cpu_seconds, held_by, traced, wait_until_idle
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import name_of
from streamlab.checks.probes.waiting import hold
from streamlab.errors import DownloadError
from streamlab.files import KiB, SampleFile, size_text
from streamlab.http.clients import Load, download
from streamlab.process.patience import Deadline
from streamlab.process.server import Server


def report_is_made_on_the_fly(server: Server, rng: Random) -> None:
    """Reports of any length are right; the first rows come at once; none is kept."""
    with promise("report-rows"):
        for rows in (1, 2501):
            _expect_report(server, f"?rows={rows}", rows)
        _expect_report(server, "?rows=2501", 2501, GZIP)
    with promise("rows-zero"):
        _expect_report(server, "?rows=0", 0)
    with promise("rows-default"):
        _expect_report(server, "", 1000)
    baseline = held_by(server)
    for headers in ([], [GZIP]):
        with promise("first-rows"), Watcher(server, ENDLESS_REPORT, *headers) as reader:
            if problem := reader.sees(report_of(100)):
                line = curl(server, ENDLESS_REPORT, "-N")
                if headers and reader.silent:  # the client before it had the rows at once
                    summary = f"A client took the first rows of {ENDLESS_REPORT} and left. "
                    cause, told = why_no_answer(server)
                    end_check(
                        cause, server, f"{summary}Then another came: {problem.text}{told}", line
                    )
                also = f" with {headers[0]}" if headers else ""
                what = f"GET {ENDLESS_REPORT}{also}: {problem.text}"
                end_check(problem.cause("late_first_row"), server, what, line)
    _numbers_of_rows(server, rng)  # some are endless: so the first rows were asked for before
    with promise("report-rows"):
        rows = rng.randrange(5000, 8000)  # one row at a time is slow, but right
        whole = _lay(server, rng, report_of(rows), ".csv")
        _expect_file(server, f"{REPORT}?rows={rows}", whole)
    beginning = _lay(server, rng, report_of(50_000), ".csv")
    with promise("not-kept"):
        load = Load(ENDLESS_REPORT, 4, "stalled", 32 * KiB)
        hold(server, beginning, load, baseline=baseline, allowed=SLACK + 4 * EACH)
    with promise("no-more-made"):
        _makes_no_more(server)
    with promise("not-kept"):
        _pours(server, ENDLESS_REPORT, baseline)


def _makes_no_more(server: Server) -> None:
    """While a client of a report has stopped reading, the server rests."""
    # With these the kernel takes little, and a server that sends row by row has soon filled it.
    with Watcher(server, ENDLESS_REPORT, buffer=16 * KiB, segment=536) as reader:
        if problem := reader.sees(report_of(20)):
            what = f"GET {ENDLESS_REPORT}: {problem.text}"
            end_check(
                problem.cause("late_first_row"), server, what, curl(server, ENDLESS_REPORT, "-N")
            )
        _fills_the_kernel(server, reader)
        if busy := busy_at_rest(server, 0.8):
            told = f"A client took the first rows of {ENDLESS_REPORT} and stopped reading"
            fail(
                "makes_ahead",
                f"{told}. While it waited, the server {busy}.{log_of(server)}",
                curl(server, ENDLESS_REPORT, "--limit-rate 1k -o /dev/null"),
            )


def _fills_the_kernel(server: Server, reader: Watcher, patience: float = 60) -> None:
    """Wait until the kernel takes no more bytes that a server sends to a client.

    A server that sends row by row may need long for that. In between it looks at rest, and makes no
    rows ahead. If the system does not say what the kernel holds, wait until the server rests.
    """
    deadline = Deadline(patience)
    looks = [reader.unread()]
    while len(looks) < 4 or len(set(looks[-4:])) > 1:
        if looks[-1] is None or deadline.passed:
            break
        time.sleep(0.4)
        looks.append(reader.unread())
    wait_until_idle(server, 10)


@dataclass(frozen=True)
class _Rows:
    """How many rows a value of `rows` must bring, and may bring; None for none."""

    rows: int | None
    may_be_refused: bool


def rows_in(value: str) -> _Rows:
    """What the lab's text says of a value: digits are a number, any other text is refused."""
    if re.fullmatch("[0-9]{1,18}", value):
        return _Rows(int(value), may_be_refused=False)
    for read in (int, float):  # a whole number by Python's int() may count as one
        with suppress(ValueError, OverflowError):
            number = read(value)
            if number >= 0 and number == int(number):
                return _Rows(int(number), may_be_refused=True)
    if re.fullmatch("[0-9]+", value):  # more digits than int() reads, or a float can hold
        return _Rows(ENDLESS, may_be_refused=True)
    return _Rows(None, may_be_refused=True)


AWKWARD_ROWS = (
    *("", "-1", "-0", "--5", "+5", " 5", "5 ", "5_", "1_000", "5,5", "5.0", "1.5", "1e3", "0x10"),
    *("many", "true", "inf", "nan", "NaN5", "None", "5\0", "0007"),
    # Other digits: superscript two, Arabic, circled, Devanagari, mathematical.
    *("\xb2", "\u0663", "\u2460", "\u096a\u096b", "\U0001d7d8"),
    *("9" * 18, "9" * 19, "9" * 400, "9" * 5000, "1e400"),
)
"""Numbers of rows, and texts that programs often take for numbers."""


def values_of_rows() -> SearchStrategy[str]:
    """Numbers of rows, and other texts: digits of other scripts, signs, fractions, words."""
    small = st.integers(0, 1500).map(str)
    zeros = st.builds(str.rjust, small, st.integers(1, 18), st.just("0"))
    other = texts("0123456789+-_.eE \xb2\u0663", most=4)
    return st.one_of(small, zeros, st.sampled_from(AWKWARD_ROWS), other)


def _numbers_of_rows(server: Server, rng: Random) -> None:
    """For each value of `rows` the right report comes, or a status from 400 to 499."""

    def attempt(value: str) -> None:
        meant = rows_in(value)
        path = f"{REPORT}?rows={quote(value, safe='')}"
        line = curl(server, path if len(path) < 2000 else f"{path[:40]}...", "-i")
        promised = "rows-refused" if meant.may_be_refused else "rows-number"
        with promise(promised), Watcher(server, path) as one:
            if meant.rows is None:
                problem, wanted = one.sees(b"never", whole=True), "It should be from 400 to 499"
            else:
                few = min(meant.rows, 2000)
                problem = one.sees(report_of(few), whole=few == meant.rows)
                wanted = "The report should come"
                if meant.may_be_refused:
                    wanted += ", or a status from 400 to 499"
            if meant.may_be_refused and 400 <= one.status < 500:
                return
            if problem:
                cause = problem.cause("no_end")
                if meant.rows is None:
                    cause = "wrong_status"
                what = f"GET {path[:200]} (rows is {value[:40]!r}): {problem.text}. {wanted}"
                end_check(cause, server, what, line)

    for value in rng.sample(AWKWARD_ROWS, len(AWKWARD_ROWS)):
        attempt(value)
    for_all(values_of_rows(), rng, attempt)


def _expect_report(server: Server, query: str, rows: int, *headers: str) -> None:
    path = REPORT + query
    with open_connection(server) as connection:
        connection.send(Wanted(path, None).request(*headers))
        answer = connection.receive()
        if answer.status != 200:
            connection.fault(
                "wrong_status", f"The status should be 200, not {answer.status}", answer.raw
            )
        with promise("report-type"):
            kinds = all_of(answer, "content-type")
            if [each.partition(";")[0].strip().lower() for each in kinds] != ["text/csv"]:
                came = " and ".join(kinds) or "none"
                what = f"Content-Type should be text/csv, and is {came}"
                connection.fault("wrong_type", what, answer.raw)
        wanted = report_of(rows)
        body = without_gzip(answer.body, answer.header("content-encoding"), len(wanted))
        if body != wanted:
            connection.fault(
                "wrong_bytes",
                f"The report has {len(body)} bytes, and should have {len(wanted)}. "
                f"{parting(body, wanted)}",
                answer.raw,
            )


def _lay(server: Server, rng: Random, content: bytes, ending: str) -> SampleFile:
    path = server.root / name_of(rng, ending)
    path.write_bytes(content)
    return SampleFile(path, len(content))


def _expect_file(server: Server, path: str, wanted: SampleFile) -> None:
    try:
        download(server.url + path, wanted.path, timeout=30)
    except DownloadError as error:
        reason = error.reason
        causes = {"cut_short": "cut_short", "unfinished": "no_end"}
        cause = causes.get(error.failure, "wrong_bytes")
        end_check(cause, server, f"GET {path}: {reason}", curl(server, path, "-o got"))


def _pours(server: Server, path: str, baseline: int, work: float = 1.0) -> None:
    """A server does not keep what it has sent: a client reads for a while, and little is held.

    The client reads until the server has used `work` seconds of CPU. After a time by the clock, a
    server on a busy machine might have made too little to show anything.
    """
    came, held, ended, allowed = 0, 0, True, EACH + SLACK
    enough, deadline = cpu_seconds(server) + work, Deadline(15)
    with traced(server) as trace, suppress(OSError), connected(server, PROMPT) as sock:
        sock.sendall(request_for(path))
        looked = time.monotonic()
        while piece := sock.recv(256 * KiB):
            came += len(piece)
            if (now := time.monotonic()) < looked + 0.1:
                continue
            looked, held = now, held_by(server) - baseline
            if held > allowed or cpu_seconds(server) > enough or deadline.passed:
                ended = False
                break
    line = curl(server, path, "-N") + " | head -c 64000000 > /dev/null"
    if not came:
        end_check("no_answer", server, f"GET {path}: nothing came", line)
    if ended:
        end_check("cut_short", server, f"GET {path}: after {size_text(came)} no more came", line)
    if held > allowed:
        fail(
            "holds_much",
            f"A client read {size_text(came)} of {path}. Then the server held {size_text(held)} "
            f"more than before; {size_text(allowed)} are allowed.\n{trace.line}{log_of(server)}",
            line,
        )
