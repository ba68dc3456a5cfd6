"""Lab 03's downloader: truncated bodies, wrong digests, errors, and what a failed run leaves."""

from __future__ import annotations

import gzip
import hashlib
import re
import shlex
import textwrap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from streamlab.checks.downloader.runner import (
    AT_ONCE,
    CLIENT,
    GZIP_HEADER,
    ClientRunner,
    Run,
    Scenario,
    difference,
    expect,
    good_scenario,
    in_turn,
    is_plain,
    left_by_a_killed_run,
)
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import name_of
from streamlab.checks.waits import TRANSFER
from streamlab.checks.workspace import LabWorkspace, files_below
from streamlab.files import KiB, MiB, size_text
from streamlab.origin import Answer, Exchange, Framing, Order

# TRUNCATED


def truncation_is_told(workspace: LabWorkspace, rng: Random) -> None:
    """A body that ends too early is a failure, however it ends."""
    body = rng.randbytes(rng.randrange(300 * KiB, 900 * KiB))
    part = len(body) * 6 // 10
    promised = f"the {len(body)} bytes that Content-Length told of"
    cases: dict[str, list[tuple[str, Order, str]]] = {
        "short-length": [
            (
                f"60 % of {promised}, and closed; to each later request it sent 40 % of them",
                in_turn(Answer(body, stop=part), Answer(body, stop=len(body) - part)),
                "/cut",
            ),
            (f"none of {promised}, and closed", Answer(body, stop=0), "/cut"),
            (f"all but one of {promised}, and closed", Answer(body, stop=len(body) - 1), "/cut"),
        ],
        "reset": [
            (f"60 % of {promised}, then a reset", Answer(body, stop=part, reset=True), "/reset"),
            (
                "60 % of a body that ends when the connection closes, then a reset",
                Answer(body, framing="close", stop=part, reset=True),
                "",
            ),
        ],
        "no-last-chunk": [
            (
                "a body in chunked coding, but not its last chunk, and closed",
                Answer(body, framing="chunked", last_chunk=False),
                "/no-last-chunk",
            ),
        ],
        "short-chunk": [
            (
                "60 % of a body in chunked coding, cut inside a chunk, and closed",
                Answer(body, framing="chunked", stop=part),
                "/cut-chunked",
            ),
        ],
        "no-answer": [("nothing at all, and closed", Answer(status=0), "/silent")],
    }
    tries = [
        left_by_a_killed_run(body, rng.randbytes(part)),
        *(
            Scenario(f"The server sent {what}.", answer, promised, status=1, by_hand=path)
            for promised, answers in cases.items()
            for what, answer, path in answers
        ),
    ]
    with ClientRunner(workspace, rng) as bench:
        for run in bench.run_all(tries):
            expect(run, "believes_truncated")
        _resumes_rightly(bench, rng)


@dataclass
class _Breaking:
    """A server that breaks off the first answer, and answers later requests in its own way.

    `ranges` says whether it supports ranges. `later` is the file from the second request on.
    """

    first: bytes
    later: bytes
    ranges: bool
    shift: int = 0
    """How many bytes before the requested range its 206 begins (RFC 9110, section 15.3.7)."""
    refusal: Answer | None = None
    """The status of every answer to a request with a Range."""
    gets: int = 0

    def __call__(self, exchange: Exchange) -> Answer:
        if exchange.method == "GET":
            self.gets += 1
        file = self.first if self.gets <= 1 else self.later
        tag = f'"{hashlib.sha256(file).hexdigest()[:16]}"'
        tags = (("ETag", tag), ("Accept-Ranges", "bytes" if self.ranges else "none"))
        if self.gets <= 1:
            return Answer(file, stop=len(file) * 6 // 10, headers=tags)
        if self.refusal is not None and exchange.header("range") is not None:
            return self.refusal
        asked = re.fullmatch(r"bytes=(\d{1,9})-", exchange.header("range") or "")
        if asked is None or not self.ranges or exchange.header("if-range") not in (None, tag):
            return Answer(file, headers=tags)
        if int(asked[1]) >= len(file):
            return Answer(b"", 416, headers=(*tags, ("Content-Range", f"bytes */{len(file)}")))
        start = min(max(0, int(asked[1]) - self.shift), len(file) - 1)
        told = ("Content-Range", f"bytes {start}-{len(file) - 1}/{len(file)}")
        return Answer(file[start:], 206, headers=(*tags, told))


def _begins(body: bytes, output: Path) -> bool:
    """Whether OUTPUT holds the first bytes of a body, or none."""
    if not is_plain(output) or output.stat().st_size > len(body):
        return False
    return body.startswith(output.read_bytes())


def _resumes_rightly(bench: ClientRunner, rng: Random) -> None:
    """A client that asks for the rest after a break joins no parts that do not belong together."""
    size = rng.randrange(300 * KiB, 900 * KiB)
    one, other = rng.randbytes(size), rng.randbytes(size)
    shorter = rng.randbytes(size * rng.randrange(20, 50) // 100)
    error = rng.choice([403, 404, 500, 503])
    ways = {
        "answered the next request with the whole file (200), even if it had a Range. By then "
        f"the file had {len(shorter)} bytes": _Breaking(one, shorter, ranges=False),
        "answered a Range with the rest (206), from a byte before the one asked for": (
            _Breaking(one, one, ranges=True, shift=1)
        ),
        "then had another file, with another ETag, and answered a Range with its rest": (
            _Breaking(one, other, ranges=True)
        ),
        "answered a Range with the rest (206), but without its first byte": (
            _Breaking(one, one, ranges=True, shift=-1)
        ),
        "answered a Range with the status 416": _Breaking(
            one,
            one,
            ranges=True,
            refusal=Answer(b"", 416, headers=(("Content-Range", f"bytes */{size}"),)),
        ),
        f"answered a Range with the status {error}, and a text": _Breaking(
            one, one, ranges=True, refusal=Answer(b"not now\n" * rng.randrange(1, 9), error)
        ),
    }
    tries = [
        Scenario(f"The server broke off at 60 % of {size} bytes, and {what}.", answer)
        for what, answer in ways.items()
    ]
    files = (one, other, shorter)
    for run in bench.run_all(tries):
        with promise("resume"):
            if run.status == 0 and all(difference(run.output, each) for each in files):
                if _begins(one, run.output):
                    why = f"The file ends too early: {difference(run.output, one)}"
                    fail("believes_truncated", f"{run.evidence}\n\n{why}", run.by_hand)
                why = "The file is none that the server had: it has parts of two answers."
                fail("joins_answers", f"{run.evidence}\n\n{why}", run.by_hand)
            if run.status not in (0, 1):
                why = "The status should be 0, with a whole file, or 1."
                fail("wrong_status", f"{run.evidence}\n\n{why}", run.by_hand)


# HASH


def hash_is_checked(workspace: LabWorkspace, rng: Random) -> None:
    """The right sha256 is a success, in lower or upper case; a wrong one is a failure."""
    body = rng.randbytes(rng.randrange(100 * KiB, 400 * KiB))
    right = hashlib.sha256(body).hexdigest()
    wrong, also_wrong = (
        _with_another_digit(right, place, rng)
        for place in (rng.randrange(8), rng.randrange(56, 64))
    )
    nothing = hashlib.sha256().hexdigest()
    cases: list[tuple[str, Framing, bytes, str, int]] = [
        ("hash-right", "length", body, right, 0),
        ("hash-right", "length", b"", nothing, 0),
        ("hash-wrong", "length", body, wrong, 1),
        ("hash-wrong", "length", body, also_wrong, 1),
        ("hash-wrong", "close", b"", right, 1),
        ("hash-wrong", "length", body, nothing, 1),
        ("hash-letters", "chunked", body, right.upper(), 0),
        ("hash-letters", "chunked", body, also_wrong.upper(), 1),
    ]
    tries = []
    for promised, framing, content, given, status in cases:
        what = "another" if status else "that"
        tries.append(
            Scenario(
                f"The server sent {len(content)} bytes, which have {what} sha256.",
                Answer(content, framing=framing),
                promised,
                status=status,
                body=content if status == 0 else None,
                sha256=given,
            )
        )
    with ClientRunner(workspace, rng) as bench:
        for run in bench.run_all(tries):
            expect(run, "believes_hash", refused="believes_hash")
        _hash_is_of_the_output(bench, rng.randbytes(9999) * 20)
        _hash_is_checked_after_a_break(bench, body, also_wrong)


def _hash_is_of_the_output(bench: ClientRunner, body: bytes) -> None:
    """The hash is that of OUTPUT, even if a gzip body was decoded on the way."""
    packed = gzip.compress(body)
    tries = [
        Scenario(
            f"The server sent {size_text(len(packed))} with Content-Encoding: gzip, and the "
            f"sha256 given is that of the body {which}.",
            Answer(packed, headers=GZIP_HEADER),
            "hash-wrong",
            sha256=hashlib.sha256(content).hexdigest(),
        )
        for which, content in (("as it was sent", packed), ("decoded", body))
    ]
    for run in bench.run_all(tries):
        with promise("hash-wrong"):
            if run.status == 0 and _sha256_of(run.output) != run.attempt.sha256:
                why = f"Status 0, but {run.output.name} has another sha256."
                fail("believes_hash", f"{run.evidence}\n\n{why}", run.by_hand)


def _hash_is_checked_after_a_break(bench: ClientRunner, body: bytes, wrong: str) -> None:
    """A client that gets the rest after a break compares the hash of the whole."""
    what = "The server broke off, then sent the rest for a Range. The body has another sha256."
    tries = [
        Scenario(what, _Breaking(body, body, ranges=True), "hash-wrong", status=1, sha256=wrong)
    ]
    for run in bench.run_all(tries):
        expect(run, "believes_hash", refused="believes_hash")


def _sha256_of(output: Path) -> str:
    """The sha256 of OUTPUT in hexadecimal digits; empty if there is no such file."""
    if not is_plain(output):
        return ""
    with output.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _with_another_digit(digits: str, place: int, rng: Random) -> str:
    other = rng.choice("0123456789abcdef".replace(digits[place], ""))
    return digits[:place] + other + digits[place + 1 :]


# STATUS


def statuses_are_told(workspace: LabWorkspace, rng: Random) -> None:
    """An HTTP error, or no connection, is status 1; a wrong command line is status 2."""
    page = b"<h1>something went wrong</h1>\n" * 30
    body = rng.randbytes(5000)
    codes = [400, 404, 500, rng.choice([401, 403, 410, 416, 429, 451, 499, 502, 503, 599])]
    tries = [
        good_scenario(body, "exact-bytes"),
        Scenario(
            "The server answered with 203, and a body.",
            Answer(body, 203),
            "error-status",
            body=body,
        ),
        *(
            Scenario(
                f"The server answered with status {code}, and {'a page' if text else 'no body'}.",
                Answer(text, code, framing=rng.choice(["length", "chunked"])),
                "error-status",
                status=1,
                by_hand={404: "/404", 500: "/500"}.get(code, ""),
            )
            for code, text in zip(codes, rng.sample([page, page, page, b""], 4), strict=True)
        ),
        *(
            Scenario(
                f"The server answered with status {code} and Retry-After: 3600.",
                Answer(page, code, headers=(("Retry-After", "3600"),)),
                "error-status",
                status=1,
            )
            for code in (429, 503)
        ),
        Scenario("No server listened: the connection was refused.", None, "refused", status=1),
    ]
    with ClientRunner(workspace, rng) as bench:
        for run in bench.run_all(tries):
            expect(run, "believes_error")
        url = bench.origin.url + "/length"
        calls = [[], [url], [url, "got", "--sha256"], [url, "got", "--no-such-option"]]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            finished = pool.map(bench.call, calls)
        for arguments, ran in zip(calls, finished, strict=True):
            with promise("usage"):
                if ran.status == 2:
                    continue
                words = ran.output.strip()[-500:]
                fail(
                    "wrong_usage",
                    f"$ {shlex.join(['python', CLIENT, *arguments])}\n"
                    f"It ended with status {ran.status}; a wrong command line is status 2.\n"
                    + (f"It wrote:\n\n{textwrap.indent(words, '    ')}" if words else ""),
                    shlex.join(["python", CLIENT, *arguments]) + "; echo $?",
                )


# CLEAN


def leaves_nothing(workspace: LabWorkspace, rng: Random) -> None:
    """After a failure all is as before: no OUTPUT, no part of it, an older OUTPUT unchanged."""
    body = rng.randbytes(rng.randrange(2 * MiB, 3 * MiB))
    part = len(body) * 6 // 10
    older = rng.randbytes(1000)
    wrong = hashlib.sha256(b"another file").hexdigest()
    # No round number: a write of any usual size, the last one too, is taken in part.
    room = MiB - 8 * KiB + rng.randrange(1000, 4000)
    small = replace(workspace.lab.limits, nproc=None, fsize_mib=room / MiB)
    tries = [
        Scenario(
            "The server sent 60 % of the body, and closed.", Answer(body, stop=part), by_hand="/cut"
        ),
        Scenario(
            "The server sent 60 % of a chunked body, and closed.",
            Answer(body, framing="chunked", stop=part),
            by_hand="/cut-chunked",
        ),
        Scenario("The body has another sha256.", Answer(body), sha256=wrong),
        Scenario("The server answered with 404, and a page.", Answer(b"no\n", 404), by_hand="/404"),
        Scenario("No server listened: the connection was refused.", None),
    ]
    full = [
        Scenario(
            f"The disk took no more than {room} of the body's {size} bytes.",
            Answer(body[:size]),
            "disk-full",
            cup=small,
        )
        # The disk may refuse the last bytes of the second one only when the file is closed.
        for size in (len(body), room + rng.randrange(1, 4000))
    ]
    failing = [
        replace(attempt, status=1, before=before)
        for number, attempt in enumerate([*tries, *full])
        for before in ((None, older) if number < 3 else (rng.choice([None, older]),))
    ]
    good = [
        _older_that_is_longer(body, rng.randbytes(len(body) + rng.randrange(1, 9999))),
        _older_of_the_same_size(body, rng.randbytes(len(body))),
    ]
    with ClientRunner(workspace, rng) as bench:
        runs = bench.run_all([*good, *failing])
        for run in runs:
            if run.attempt.status == 0 or run.attempt.promise == "disk-full":
                expect(run, "believes_failed")
            if run.attempt.status == 0 or run.status != 0:
                _expect_clean(run)
        # Other checks fail a client that reports a failure as a success. This one fails if all do.
        untold = [run for run in runs if run.attempt.status != 0 and run.status == 0]
        if len(untold) == len(failing):
            evidence = f"{untold[0].evidence}\n\nThe status should be 1."
            with promise("nothing-left"):
                fail("believes_failed", evidence, untold[0].by_hand)
        _side_by_side(bench, rng)


def _older_that_is_longer(body: bytes, older: bytes) -> Scenario:
    """A good run with an OUTPUT from earlier that has more bytes, and is read-only."""
    return Scenario(
        f"The server sent {len(body)} bytes, Content-Length. There was a read-only OUTPUT of "
        f"{len(older)} bytes already, in a folder that may be written to.",
        Answer(body),
        "older-replaced",
        body=body,
        before=older,
        read_only=True,
    )


def _older_of_the_same_size(body: bytes, older: bytes) -> Scenario:
    """A good run with an OUTPUT from earlier that is as long as the body, and newer than it."""

    def answer(exchange: Exchange) -> Answer:
        if exchange.header("if-modified-since") is not None:
            return Answer(b"", 304)
        return Answer(body, headers=(("Last-Modified", "Tue, 15 Nov 1994 08:12:31 GMT"),))

    return Scenario(
        f"The server sent {len(body)} bytes, Content-Length, last modified in 1994. There was an "
        "OUTPUT of that size already, newer, and with other bytes.",
        answer,
        "older-replaced",
        body=body,
        before=older,
    )


def _side_by_side(bench: ClientRunner, rng: Random) -> None:
    """Two downloads into one folder do not disturb each other: their names differ in the ending.

    First each has a URL of its own, then both have the same one.
    """
    for path in ("", name_of(rng)):
        answers = [_in_a_second(rng) for _ in range(1 if path else 2)]
        _two_at_once(bench, name_of(rng, ""), path, [answers[0], answers[-1]])


def _in_a_second(rng: Random) -> Answer:
    return Answer(rng.randbytes(400 * KiB), piece=40 * KiB, pause=0.1)


def _two_at_once(bench: ClientRunner, stem: str, path: str, answers: Sequence[Answer]) -> None:
    folder = bench.base / f"together-{stem}"
    of = "of one URL " if path else ""
    tries = [
        Scenario(
            f"Two downloads {of}ran at the same time in one folder, and their OUTPUTs were "
            f"{stem}.txt and {stem}.bin. The server took a second for each body.",
            answer,
            path=path,
        )
        for answer in answers
    ]
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(bench.run, attempt, stem + ending, TRANSFER, None, folder)
            for attempt, ending in zip(tries, (".txt", ".bin"), strict=True)
        ]
        for attempt, running in zip(tries, runs, strict=True):
            assert isinstance(attempt.answer, Answer) and isinstance(attempt.answer.body, bytes)
            run, body = running.result(), attempt.answer.body
            with promise("side-by-side"):
                if run.status != 0 or (why := difference(run.output, body)):
                    why = "The status should be 0." if run.status else why
                    fail("shares_part", f"{run.evidence}\n\n{why}", run.by_hand)
    outputs = [folder / (stem + ending) for ending in (".txt", ".bin")]
    with promise("no-leftovers"):
        if others := _others(folder, outputs):
            fail("leaves_part", f"{run.evidence}\n\nThe two left behind: {others}.")


def _others(folder: Path, outputs: Sequence[Path]) -> str:
    """What a folder holds besides OUTPUTs and the folder for temporary files; empty if nothing."""
    known = (*outputs, folder / "tmp")
    found = (each for each in files_below(folder) if each not in known)
    return ", ".join(sorted(each.relative_to(folder).as_posix() for each in found)[:5])


def _expect_clean(run: Run) -> None:
    """A run that failed has left OUTPUT alone, and no run leaves any other file."""
    failed, older = run.attempt.status != 0, run.attempt.before
    with promise("nothing-left"):
        if failed and older is None and run.output.exists():
            why = f"{run.output.name} should not be there."
            fail("leaves_output", f"{run.evidence}\n\n{why}", run.by_hand)
    with promise("older-stays"):
        if failed and older is not None and difference(run.output, older):
            why = (
                f"Before, there was a {run.output.name} of {len(older)} bytes. It should still be "
                "there, as it was."
            )
            fail("destroys_older", f"{run.evidence}\n\n{why}", run.by_hand)
    with promise("nothing-left" if failed else "no-leftovers"):
        if others := _others(run.folder, [run.output]):
            fail("leaves_part", f"{run.evidence}\n\nIt left behind: {others}.", run.by_hand)
