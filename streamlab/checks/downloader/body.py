"""Lab 03's downloader: bodies arrive byte for byte, and the client does not hold them."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from random import Random
from typing import Literal

from streamlab.checks.downloader.runner import (
    FRAMINGS,
    GZIP_HEADER,
    LARGER,
    ClientRunner,
    Run,
    Scenario,
    difference,
    expect,
    good_scenario,
    is_plain,
    left_by_a_killed_run,
)
from streamlab.checks.observe import Trace
from streamlab.checks.outcome import fail, note, promise
from streamlab.checks.probes.common import name_of
from streamlab.checks.shims import shim_in
from streamlab.checks.waits import LARGE_DOWNLOAD
from streamlab.checks.workspace import LabWorkspace, files_below
from streamlab.errors import MeterError
from streamlab.files import KiB, MiB, size_text
from streamlab.origin import Answer, Bomb, Framing, Order, block_of
from streamlab.process.memory import memory_of
from streamlab.process.patience import Deadline
from streamlab.process.proc import bytes_written

CHUNK = 64 * KiB


# BYTES


def bytes_arrive(workspace: LabWorkspace, rng: Random) -> None:
    """Bodies of awkward sizes and contents arrive unchanged, in every framing."""
    text = b"begin" + b" \r\n\t" * (CHUNK // 2) + b"0\r\n\r\n\0end\x80\xff"
    large = rng.randbytes(3 * MiB + rng.randrange(1, 9999))
    tries = [
        good_scenario(b"x", "run"),
        good_scenario(rng.randbytes(CHUNK - 1), "end-by-length"),
        good_scenario(large, "end-by-chunk", "chunked"),
        good_scenario(rng.randbytes(CHUNK + 1), "end-by-close", "close"),
        *(good_scenario(b"", "empty-body", framing) for framing in FRAMINGS),
        good_scenario(text, "exact-bytes", rng.choice(list(FRAMINGS))),
        left_by_a_killed_run(rng.randbytes(CHUNK), rng.randbytes(CHUNK)),
        good_scenario(text, "chunk-forms", "chunked", odd_chunks=True),
        # The framing tells the end, and the connection stays open.
        good_scenario(b"", "empty-body", "length", stays_open=True),
        good_scenario(rng.randbytes(CHUNK), "end-by-length", "length", stays_open=True),
        good_scenario(rng.randbytes(CHUNK), "end-by-chunk", "chunked", stays_open=True),
        *_as_few_servers_write(rng),
    ]
    with ClientRunner(workspace, rng) as bench, _another_disk(workspace) as elsewhere:
        if elsewhere:
            tries.append(_with_temporary_files_in(elsewhere, rng))
        for run in bench.run_all(tries):
            expect(run, "refuses_good")


def _as_few_servers_write(rng: Random) -> list[Scenario]:
    """Answers in forms that are right, and that a client seldom meets; a URL with a query."""
    body = rng.randbytes(rng.randrange(2000, 9000))
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    forms = {
        "a status line without a reason, as HTTP/1.1 allows (RFC 9112, section 4)": (
            "end-by-length",
            b"HTTP/1.1 200 \r\nContent-Length: %d\r\n\r\n" % len(body) + body,
        ),
        "its headers in small letters": (
            "end-by-length",
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-a: b\r\n\r\n" % len(body) + body,
        ),
        "its headers in capitals, without spaces": (
            "end-by-length",
            b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH:%d\r\n\r\n" % len(body) + body,
        ),
        "transfer-encoding: Chunked": (
            "end-by-chunk",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n" + chunked,
        ),
    }

    def written_so(wire: bytes) -> Order:
        # A client that speaks HTTP/1.0 gets what that version knows.
        return lambda asked: Answer(wire=wire) if asked.version == "HTTP/1.1" else Answer(body)

    written = [
        Scenario(
            f"The server sent {len(body)} bytes, with {what}.",
            written_so(wire),
            promised,
            body=body,
        )
        for what, (promised, wire) in forms.items()
    ]
    query = f"files?name={rng.randrange(10**6)}&part=a%2Fb"
    what = f"The server sent {len(body)} bytes for the path and the query of URL, and for no other."
    return [*written, Scenario(what, Answer(body), "run", body=body, path=query)]


SHARED_MEMORY = Path("/dev/shm")
"""On Linux a file system of its own, in a sandbox too: a rename from it to OUTPUT fails (EXDEV)."""


@contextmanager
def _another_disk(workspace: LabWorkspace) -> Iterator[str]:
    """A folder on another file system than OUTPUT's, for temporary files; empty if none."""
    if workspace.sandbox is not None:
        yield str(SHARED_MEMORY)
        return
    try:
        same = os.stat(SHARED_MEMORY).st_dev == os.stat(workspace.outputs).st_dev
        if same or shutil.disk_usage(SHARED_MEMORY).free < MiB:
            raise OSError("the same file system, or a full one")
        folder = tempfile.mkdtemp(prefix="streamlab-", dir=SHARED_MEMORY)
    except OSError:
        note("Left out: TMPDIR on another disk (here /dev/shm is the same disk, or full).")
        yield ""
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_temporary_files_in(folder: str, rng: Random) -> Scenario:
    """A download whose TMPDIR is on another disk."""
    body = rng.randbytes(CHUNK // 2)
    return Scenario(
        f"The server sent {len(body)} bytes, {FRAMINGS['length']}. TMPDIR is {folder}, on another "
        "file system than the folder of OUTPUT.",
        Answer(body),
        "other-disk",
        body=body,
        environment={"TMPDIR": folder},
    )


# HUGE


def huge_bodies(workspace: LabWorkspace, rng: Random) -> None:
    """Bodies larger than the client's memory arrive, one with a hash and one without."""
    framings: list[Framing] = [rng.choice(["length", "close"]), "chunked"]
    with_hash = rng.choice(framings)
    tries = []
    with ClientRunner(workspace, rng) as bench:
        rivers = rng.sample([bench.river(), bench.dense_river()], 2)
        for framing, river in zip(framings, rivers, strict=True):
            tries.append(
                Scenario(
                    f"The server sent {size_text(river.size)}, {FRAMINGS[framing]}"
                    f"{', all in one chunk' if framing == 'chunked' else ''}; the client ran "
                    f"in {workspace.lab.limits}.",
                    Answer(river.path, framing=framing, one_chunk=framing == "chunked"),
                    "memory",
                    body=river.path,
                    sha256=river.sha256 if framing == with_hash else None,
                )
            )
        for run in bench.run_all(tries, timeout=LARGE_DOWNLOAD):
            most = max(run.trace.sizes, default=0)
            cup = (workspace.lab.limits.data_mib or 128) * MiB
            with promise("memory"):
                if run.status != 0 and (run.out_of_memory or most > cup // 2):
                    fail("whole_body", f"{run.evidence}\n\nThe status should be 0.")
            expect(run, "refuses_good")
            with promise("memory-children"):
                if most > cup:  # no single process can hold as much: the client has children
                    why = "It and its children held more than a cup."
                    fail("whole_body", f"{run.evidence}\n\n{why}")


def inflates_little(workspace: LabWorkspace, rng: Random) -> None:
    """A gzip body without request is saved, decoded or refused, whatever its size."""
    block = block_of(rng)
    small, large = Bomb(block, 1), Bomb(block, rng.randrange(LARGER[0] // MiB, LARGER[1] // MiB))
    halves = [rng.randbytes(rng.randrange(2000, 90_000)) for _ in range(2)]
    members = b"".join(gzip.compress(half) for half in halves)
    cut = gzip.compress(halves[0])[: -rng.choice([1, 8, 9, 500])]
    framing = rng.choice(list(FRAMINGS))
    with ClientRunner(workspace, rng) as bench:
        with promise("gzip-whole"):
            answer = _Packed(small.packed(), [small.block], "becomes 1 MiB", framing, "/gzip")
            first = _gzip_run(bench, answer)
        # What a client does with gzip may depend on how the body ends.
        for each in FRAMINGS:
            with promise("gzip-members"):
                what = f"is {len(halves)} members, one after the other"
                _gzip_run(bench, _Packed(members, halves, what, each))
            with promise("gzip-cut"):
                what = "ends before its last member does, as gzip goes"
                _gzip_run(bench, _Packed(cut, None, what, each))
        with promise("gzip-length"):
            first_member = len(gzip.compress(halves[0]))
            what = (
                f"is two members. It closed after the first one, {first_member} bytes, though "
                "Content-Length told of both"
            )
            _gzip_run(bench, _Packed(members, None, what, stop=first_member))
            _longer_than_decoded(bench, halves[0])
        with promise("gzip-alike"):
            blocks = repeat(large.block, large.count)
            told = f"becomes {size_text(large.size)}"
            second = _gzip_run(bench, _Packed(large.packed(), blocks, told, framing, "/bomb"))
            if first.became != second.became:
                fail(
                    "inflates_whole",
                    f"A body in gzip that becomes {size_text(small.size)} was {first.became}. One "
                    f"that {told} was {second.became}:\n\n{second.run.evidence}",
                    second.run.by_hand,
                )


def _longer_than_decoded(bench: ClientRunner, body: bytes) -> None:
    """A gzip body that is longer than its content is treated like any other."""
    zeros = bytes(len(body))
    long, short = (
        _gzip_run(bench, _Packed(gzip.compress(each), [each], f"becomes {len(each)} bytes"))
        for each in (body, zeros)
    )
    if long.became != short.became:
        fail(
            "length_of_decoded",
            f"{short.run.evidence}\n\nThat was {short.became}. A gzip that is longer than what it "
            f"holds was {long.became}:\n\n{long.run.evidence}",
        )


@dataclass(frozen=True)
class _Packed:
    """An answer whose body is gzip."""

    body: bytes
    decoded: Iterable[bytes] | None
    """The blocks of the body when it is decoded; None if it can't be."""
    what: str
    """What becomes of it when it is decoded, as the end of a sentence."""
    framing: Framing = "length"
    path: str = ""
    """Where `python -m streamlab.origin` has a similar answer with a length; empty for nowhere."""
    stop: int | None = None
    """After how many bytes of the body the server closes; None for all."""


@dataclass(frozen=True)
class _Treated:
    """What a client did with a gzip body, in a word."""

    became: str
    run: Run


def _gzip_run(bench: ClientRunner, packed: _Packed) -> _Treated:
    """Run the client on a gzip body; the check fails if it treats it in no way that is right."""
    decoded, framing = packed.decoded, packed.framing
    attempt = Scenario(
        f"The server sent {size_text(len(packed.body))} with Content-Encoding: gzip, "
        f"{FRAMINGS[framing]}. Decoded, that {packed.what}.",
        Answer(packed.body, framing=framing, headers=GZIP_HEADER, stop=packed.stop),
        by_hand=packed.path if framing == "length" else "",
    )
    run = bench.run(attempt, name_of(bench.rng), LARGE_DOWNLOAD)
    if run.status is None:
        fail("hangs", run.evidence, run.by_hand)
    became = ""
    if run.status == 0 and not difference(run.output, packed.body):
        became = "saved as it came"
    elif run.status == 0 and decoded is not None and (made := _made_of(run.output, decoded)):
        if made == "beginning":
            why = "That is the beginning of the decoded body; the rest is missing."
            fail("gzip_begun", f"{run.evidence}\n\n{why}", run.by_hand)
        became = "decoded"
    elif run.status == 1:
        became = "lost" if run.out_of_memory else "refused"
    elif run.status == 0 and decoded is None:
        why = "What is in the file is a part of it, and that is a failure."
        fail("believes_truncated", f"{run.evidence}\n\n{why}", run.by_hand)
    elif run.status == 0:
        why = "That is neither the body as it came, nor as it is decoded."
        fail("wrong_bytes", f"{run.evidence}\n\n{why}", run.by_hand)
    else:
        why = "The status should be 0 or 1."
        fail("wrong_status", f"{run.evidence}\n\n{why}", run.by_hand)
    return _Treated(became, run)


def _made_of(output: Path, blocks: Iterable[bytes]) -> Literal["", "beginning", "whole"]:
    """How much of these blocks a file is, from their beginning; nothing if it has other bytes."""
    if not is_plain(output):
        return ""
    with output.open("rb") as file:
        for block in blocks:
            if (came := file.read(len(block))) != block:
                begun = file.tell() > 0 and block.startswith(came)
                return "beginning" if begun else ""
        return "" if file.read(1) else "whole"


# STALL

PASSED = 16 * MiB
"""Bytes that a client must pass on without getting further ahead before the check trusts it: what
the slow disk takes in a second."""


class _Seen(Exception):
    """The check has seen enough of a run, which can end."""


def receiving_stops(
    workspace: LabWorkspace, rng: Random, seconds: float = 1.2, allowed: int = 48 * MiB
) -> None:
    """While the disk is slow, the client stops receiving, and does not collect what comes."""
    with ClientRunner(workspace, rng) as bench:
        slow_disk = shim_in(bench.base / "shim", "slow_writes")
        river = bench.river()
        name, trace = name_of(rng), Trace()
        sent = written = ahead = before = 0
        still: Deadline | None = (
            None  # since it last got further ahead, when `before` bytes had been sent
        )

        def watch(pid: int) -> None:
            nonlocal sent, written, ahead, before, still
            with suppress(MeterError):
                trace.sizes.append(memory_of(pid).private)
            # In this order: what the client writes in between can only count in its favour.
            sent = bench.origin.sent.get("/" + name, 0)
            written = max(_files_in(bench.base / f"run-{name}"), bytes_written(pid) or 0)
            if sent and (still is None or sent - written > ahead + MiB):
                ahead, before, still = sent - written, sent, Deadline(seconds)
            # On a busy machine nothing may move for as long, which says nothing about a client.
            rested = still is not None and sent > before + PASSED and still.passed
            if ahead > allowed or rested:
                raise _Seen

        attempt = Scenario(
            f"The server had {size_text(river.size)} to send, and the disk took 16 MiB a second.",
            Answer(river.path),
            "stops-receiving",
            environment=slow_disk,
        )
        try:
            run = bench.run(attempt, name, LARGE_DOWNLOAD, watch)
        except _Seen:
            run = None
        if run is not None:  # it finished before we had looked long enough
            expect(run, "refuses_good")
            return
    with promise("stops-receiving"):
        if ahead <= allowed:
            return
        fail(
            "no_backpressure",
            f"$ python client.py URL {name}\n{attempt.summary}\nThe client had taken "
            f"{size_text(sent)} when it had written {size_text(written)}: {size_text(allowed)} "
            "in between are allowed, and a few MiB of that are the sockets' buffers.\n"
            f"{trace.line.replace('the server', 'it')}",
        )


def _files_in(folder: Path) -> int:
    """The bytes of all files below a folder."""
    total = 0
    for path in files_below(folder):
        with suppress(OSError):  # renamed or removed since it was listed
            status = path.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total
