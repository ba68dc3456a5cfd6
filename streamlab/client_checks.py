"""What lab 03 checks a downloader for, which runs as a process against servers of our own.

Each function is one kind of check, as in `streamlab.checks`: it takes the workshop where the
student's programs run and a source of random draws, and ends in `fail(cause, evidence)`. A client
is judged by its exit status, by the files that it leaves, and by what it holds. Sizes are in
bytes, times in seconds. The lab's other program has its checks in `streamlab.leaky_checks`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shlex
import shutil
import socket
import stat
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

from streamlab.checks import Trace, dense_file, name_of
from streamlab.errors import MeterError
from streamlab.files import KiB, MiB, SampleFile, size_text, sparse_file
from streamlab.memory import bytes_written, memory_of
from streamlab.origin import Answer, Bomb, Exchange, Framing, Order, Origin, block_of
from streamlab.patience import Deadline
from streamlab.server import Finished, out_of_memory
from streamlab.testing import Workshop, fail, files_below, note, promise

CLIENT = "client.py"
CHUNK = 64 * KiB
PATIENCE = 15.0
"""Seconds that a client may take for a small body before it counts as hanging."""
POURING = 45.0
"""The same for hundreds of MiB."""
LARGER = (140 * MiB, 180 * MiB)
"""Between these are the sizes of what must not fit into the lab's cup of 128 MiB."""
AT_ONCE = 3
"""Clients that run at the same time where nothing speaks against it."""

FRAMINGS: dict[Framing, str] = {
    "length": "Content-Length",
    "chunked": "chunked coding",
    "close": "no length, closed at its end",
}


# Running a client


@dataclass(frozen=True)
class Try:
    """A run of the client to come: what the server answers, and what should become of it."""

    story: str
    """What the server does, as a sentence."""
    answer: Order | None = None
    """None: no server listens."""
    promise: str = "exact-bytes"
    """What of the lab's text this run puts to the test, by its id in contract.toml."""
    status: int = 0
    """The exit status that is right."""
    body: bytes | Path | None = None
    """What OUTPUT must hold afterwards; None: nothing is said about it."""
    sha256: str | None = None
    before: bytes | None = None
    """What OUTPUT holds before; None: there is none."""
    by_hand: str = ""
    """The path by which `python -m streamlab.origin` gives a like answer; empty if it has none."""
    options: tuple[tuple[str, Any], ...] = ()
    """For `Workshop.run`."""


@dataclass(frozen=True)
class Run:
    """A run of the client that is over."""

    attempt: Try
    command: str
    """As it would be typed."""
    status: int | None
    """None: its time was up, and it was ended."""
    written: str
    """What it wrote to standard output and error."""
    trace: Trace
    folder: Path
    """Where it ran. It was empty but for OUTPUT, if that was there before."""
    output: Path

    @property
    def out_of_memory(self) -> bool:
        # The second is curl's own word for it (libcurl-errors(3), CURLE_OUT_OF_MEMORY).
        return out_of_memory(self.written) or "\ncurl: (27)" in f"\n{self.written}"

    @property
    def evidence(self) -> str:
        """The whole story of the run, for a student to read."""
        lines = [f"$ {self.command}", self.attempt.story]
        if self.status is None:
            lines.append("It had not ended when its time was up, and was ended.")
        else:
            lines.append(f"It ended with status {self.status}.")
        if _is_plain(self.output):
            lines.append(f"{self.output.name} has {self.output.stat().st_size} bytes.")
        else:
            lines.append(f"There is no {self.output.name}.")
        words = [line[:200] for line in self.written.strip().splitlines()]
        if words:
            lines += ["It wrote:", "", textwrap.indent("\n".join(words[-12:]), "    "), ""]
        return "\n".join([*lines, self.trace.line.replace("the server", "it")])

    @property
    def by_hand(self) -> str:
        """How to see the same by hand; empty where that needs more than one line."""
        path = self.attempt.by_hand
        if not path:
            return ""
        return (
            "python -m streamlab.origin --port 8000  # and, in another terminal: "
            f"python client.py http://127.0.0.1:8000{path} got; echo $?"
        )


class Bench:
    """Where clients are tried: an origin that answers them, and an empty folder for each run."""

    def __init__(self, workshop: Workshop, draw: Random) -> None:
        self.workshop = workshop
        self.draw = draw
        self.origin = Origin()
        self.base = Path(tempfile.mkdtemp(dir=workshop.outputs))

    def __enter__(self) -> Bench:
        self.origin.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.origin.__exit__(kind, error, trace)
        with suppress(RecursionError):  # folders in folders in folders
            shutil.rmtree(self.base, ignore_errors=True)

    def river(self) -> SampleFile:
        """A body larger than the cup: zeros between two islands, one line larger than the cup."""
        return river_in(self.workshop.private, self.draw, islands=2)

    def dense_river(self) -> SampleFile:
        """A body larger than the cup, of which nothing can be spared."""
        return dense_file(
            self.draw.randrange(*LARGER),
            name_of(self.draw, ".dense"),
            self.workshop.private,
            self.draw,
        )

    def run_all(self, tries: Sequence[Try], timeout: float = PATIENCE) -> list[Run]:
        """Run the client once for each, some at a time; in the same order.

        The check fails at the first one that hangs: the others would hang as well.
        """
        with promise("in-time"), ThreadPoolExecutor(AT_ONCE) as pool:
            runs = [pool.submit(self.run, each, name_of(self.draw), timeout) for each in tries]
            for future in as_completed(runs):
                if (run := future.result()).status is None:
                    pool.shutdown(wait=False, cancel_futures=True)
                    fail("hangs", run.evidence, run.by_hand)
            return [future.result() for future in runs]

    def run(
        self,
        attempt: Try,
        name: str,
        timeout: float = PATIENCE,
        watch: Callable[[int], None] | None = None,
        folder: Path | None = None,
    ) -> Run:
        """Run the client, OUTPUT a bare file name in a folder of its own, or in `folder`."""
        folder = folder or self.base / f"run-{name}"
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        output = folder / name
        if attempt.before is not None:
            output.write_bytes(attempt.before)
        trace, looked = Trace(), 0.0

        def look(pid: int) -> None:
            nonlocal looked
            if time.monotonic() > looked + 0.12:  # a look costs some milliseconds of CPU time
                with suppress(MeterError):
                    trace.sizes.append(memory_of(pid).private)
                looked = time.monotonic()
            if watch is not None:
                watch(pid)

        with ExitStack() as stack:
            if attempt.answer is None:
                url = stack.enter_context(deaf_url()) + "/" + name
            else:
                url = self.origin.put("/" + name, attempt.answer)
            arguments = [url, name]
            if attempt.sha256 is not None:
                arguments += ["--sha256", attempt.sha256]
            finished = self._start(arguments, folder, timeout, look, attempt)
        return Run(
            attempt=attempt,
            command=shlex.join(["python", CLIENT, *arguments]),
            status=finished.status,
            written=finished.output.replace(str(self.workshop.folder) + "/", ""),
            trace=trace,
            folder=folder,
            output=output,
        )

    def call(self, arguments: Sequence[str]) -> Finished:
        """Run the client with any arguments."""
        folder = tempfile.mkdtemp(dir=self.base)
        return self.workshop.run(CLIENT, *arguments, timeout=PATIENCE, cwd=folder)

    def _start(
        self,
        arguments: Sequence[str],
        folder: Path,
        timeout: float,
        watch: Callable[[int], None],
        attempt: Try,
    ) -> Finished:
        options = dict(attempt.options)
        environment = {
            "TMPDIR": str(folder / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **options.pop("environment", {}),
        }
        return self.workshop.run(
            CLIENT,
            *arguments,
            timeout=timeout,
            watch=watch,
            cwd=folder,
            environment=environment,
            **options,
        )


def river_in(folder: Path, draw: Random, islands: int, ending: str = ".bin") -> SampleFile:
    """A file larger than the lab's cup, though not by so much that it takes long."""
    size = draw.randrange(*LARGER)
    return sparse_file(size, name_of(draw, ending), folder, islands, draw.randrange(2**32))


@contextmanager
def deaf_url() -> Iterator[str]:
    """The address of a port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def expect(run: Run, cause: str, refused: str = "refuses_good") -> None:
    """A run has the exit status and the OUTPUT that it should have, or the check fails.

    `cause` is that of a failure taken for a success, `refused` the other way round.
    """
    with promise("failure-status"):
        if run.attempt.status == 1 and run.status not in (0, 1, None) and not run.out_of_memory:
            fail("wrong_status", f"{run.evidence}\n\nThe status should be 1.", run.by_hand)
    with promise(run.attempt.promise):
        _expect(run, cause, refused)


def _expect(run: Run, cause: str, refused: str) -> None:
    wanted = run.attempt.status
    if run.status != wanted:
        if run.status is None:
            cause = "hangs"
        elif run.out_of_memory:
            cause = "whole_body"
        elif wanted == 0:
            cause = "crashes" if "Traceback" in run.written else refused
        fail(cause, f"{run.evidence}\n\nThe status should be {wanted}.", run.by_hand)
    if run.attempt.body is not None:
        problem = difference(run.output, run.attempt.body)
        if problem:
            fail("wrong_bytes", f"{run.evidence}\n\n{problem}", run.by_hand)


def difference(output: Path, body: bytes | Path) -> str:
    """In what OUTPUT is not `body`; empty if they are equal."""
    if not _is_plain(output):
        return f"There should be a file {output.name}."
    blocks: Iterator[bytes]
    if isinstance(body, bytes):
        blocks = (body[start : start + MiB] for start in range(0, len(body), MiB))
        size = len(body)
    else:
        blocks = blocks_of(body)
        size = body.stat().st_size
    found = output.stat().st_size
    if found != size:
        return f"{output.name} should have {size} bytes, not {found}."
    at = 0
    with output.open("rb") as file:
        for block in blocks:
            have = file.read(len(block))
            if have != block:
                pairs = zip(have, block, strict=False)
                same = next((i for i, (a, b) in enumerate(pairs) if a != b), len(have))
                return f"Byte {at + same} of {output.name} is not as it was sent."
            at += len(block)
    return ""


def _is_plain(output: Path) -> bool:
    """Whether a program left a file there, and not a link to somebody else's."""
    return output.is_file() and not output.is_symlink()


def blocks_of(path: Path) -> Iterator[bytes]:
    """A file's bytes, a MiB at a time."""
    with path.open("rb") as file:
        while block := file.read(MiB):
            yield block


# BYTES


def bytes_arrive(workshop: Workshop, draw: Random) -> None:
    """Bodies of awkward sizes and contents arrive as they are, however they are framed."""
    text = b"begin" + b" \r\n\t" * (CHUNK // 2) + b"0\r\n\r\n\0end\x80\xff"
    large = draw.randbytes(3 * MiB + draw.randrange(1, 9999))
    tries = [
        _good(b"x", "run"),
        _good(draw.randbytes(CHUNK - 1), "end-by-length"),
        _good(large, "end-by-chunk", "chunked"),
        _good(draw.randbytes(CHUNK + 1), "end-by-close", "close"),
        *(_good(b"", "empty-body", framing) for framing in FRAMINGS),
        _good(text, "exact-bytes", draw.choice(list(FRAMINGS))),
        _good(draw.randbytes(CHUNK), "exact-bytes", draw.choice(list(FRAMINGS))),
        _good(text, "chunk-forms", "chunked", odd_chunks=True),
        # The sign of the end is there, and the connection stays open.
        _good(b"", "empty-body", "length", stays_open=True),
        _good(draw.randbytes(CHUNK), "end-by-length", "length", stays_open=True),
        _good(draw.randbytes(CHUNK), "end-by-chunk", "chunked", stays_open=True),
    ]
    with Bench(workshop, draw) as bench, _another_disk(workshop) as elsewhere:
        if elsewhere:
            tries.append(_with_temporary_files_in(elsewhere, draw))
        for run in bench.run_all(tries):
            expect(run, "refuses_good")


SHARED_MEMORY = Path("/dev/shm")
"""A file system of its own on Linux, also in a sandbox: no file can be renamed from there."""


@contextmanager
def _another_disk(workshop: Workshop) -> Iterator[str]:
    """A folder for temporary files on another file system than OUTPUT's; empty where none is."""
    if workshop.sandbox is not None:
        yield str(SHARED_MEMORY)
        return
    try:
        same = os.stat(SHARED_MEMORY).st_dev == os.stat(workshop.outputs).st_dev
        if same or shutil.disk_usage(SHARED_MEMORY).free < MiB:
            raise OSError("the same file system, or one without room")
        folder = tempfile.mkdtemp(prefix="streamlab-", dir=SHARED_MEMORY)
    except OSError:
        note("Left out: TMPDIR on another disk (/dev/shm is none here, or has no room).")
        yield ""
        return
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_temporary_files_in(folder: str, draw: Random) -> Try:
    """A download whose TMPDIR is on another disk."""
    body = draw.randbytes(CHUNK // 2)
    return Try(
        f"The server sent {len(body)} bytes, {FRAMINGS['length']}. TMPDIR is {folder}, on another "
        "file system than the folder of OUTPUT.",
        Answer(body),
        "other-disk",
        body=body,
        options=(("environment", {"TMPDIR": folder}),),
    )


def _good(
    body: bytes,
    promised: str,
    framing: Framing = "length",
    *,
    odd_chunks: bool = False,
    stays_open: bool = False,
) -> Try:
    """A run that a server answers rightly, with a body that OUTPUT must have."""
    forms = ", with extensions and trailers" if odd_chunks else ""
    forms += ", and kept the connection open" if stays_open else ""
    return Try(
        f"The server sent {len(body)} bytes, {FRAMINGS[framing]}{forms}.",
        Answer(body, framing=framing, odd_chunks=odd_chunks, stall=stays_open),
        promised,
        body=body,
        by_hand="" if forms else f"/{framing}" if body else "/empty",
    )


# HUGE


def huge_bodies(workshop: Workshop, draw: Random) -> None:
    """Bodies larger than the client's memory pour through it, one with a hash and one without."""
    framings: list[Framing] = [draw.choice(["length", "close"]), "chunked"]
    with_hash = draw.choice(framings)
    tries = []
    with Bench(workshop, draw) as bench:
        rivers = draw.sample([bench.river(), bench.dense_river()], 2)
        for framing, river in zip(framings, rivers, strict=True):
            tries.append(
                Try(
                    f"The server sent {size_text(river.size)}, {FRAMINGS[framing]}"
                    f"{', all in one chunk' if framing == 'chunked' else ''}; the client ran "
                    f"in {workshop.lab.limits}.",
                    Answer(river.path, framing=framing, one_chunk=framing == "chunked"),
                    "memory",
                    body=river.path,
                    sha256=river.sha256 if framing == with_hash else None,
                )
            )
        for run in bench.run_all(tries, timeout=POURING):
            most = max(run.trace.sizes, default=0)
            cup = (workshop.lab.limits.data_mib or 128) * MiB
            with promise("memory"):
                if run.status != 0 and (run.out_of_memory or most > cup // 2):
                    fail("whole_body", f"{run.evidence}\n\nThe status should be 0.")
            expect(run, "refuses_good")
            with promise("memory-children"):
                if most > cup:  # no single process can be that large: it has children
                    why = "It and its children held more than a cup."
                    fail("whole_body", f"{run.evidence}\n\n{why}")


# GZIP

_GZIP = (("Content-Encoding", "gzip"),)


def inflates_little(workshop: Workshop, draw: Random) -> None:
    """A body in gzip that nobody asked for is saved, decoded or refused, whatever its size."""
    block = block_of(draw)
    small, large = Bomb(block, 1), Bomb(block, draw.randrange(LARGER[0] // MiB, LARGER[1] // MiB))
    halves = [draw.randbytes(draw.randrange(2000, 90_000)) for _ in range(2)]
    members = b"".join(gzip.compress(half) for half in halves)
    cut = gzip.compress(halves[0])[: -draw.choice([1, 8, 9, 500])]
    framing = draw.choice(list(FRAMINGS))
    with Bench(workshop, draw) as bench:
        with promise("gzip-whole"):
            first = _gzip_run(
                bench, small.packed(), [small.block], "becomes 1 MiB", framing, "/gzip"
            )
        # What a client makes of gzip may depend on how the body ends.
        for each in FRAMINGS:
            with promise("gzip-members"):
                what = f"is {len(halves)} members, one after the other"
                _gzip_run(bench, members, halves, what, each)
            with promise("gzip-cut"):
                what = "ends before its last member does, as gzip goes"
                _gzip_run(bench, cut, None, what, each)
        with promise("gzip-length"):
            first_member = len(gzip.compress(halves[0]))
            what = (
                f"is two members. It closed after the first one, {first_member} bytes, though "
                "Content-Length told of both"
            )
            _gzip_run(bench, members, None, what, stop=first_member)
            _longer_than_decoded(bench, halves[0])
        with promise("gzip-alike"):
            blocks = repeat(large.block, large.count)
            told = f"becomes {size_text(large.size)}"
            second = _gzip_run(bench, large.packed(), blocks, told, framing, "/bomb")
            if first.became != second.became:
                fail(
                    "inflates_whole",
                    f"A body in gzip that becomes {size_text(small.size)} was {first.became}. One "
                    f"that {told} was {second.became}:\n\n{second.run.evidence}",
                    second.run.by_hand,
                )


def _longer_than_decoded(bench: Bench, body: bytes) -> None:
    """A gzip that is longer than what it holds is treated like any other."""
    zeros = bytes(len(body))
    long, short = (
        _gzip_run(bench, gzip.compress(each), [each], f"becomes {len(each)} bytes")
        for each in (body, zeros)
    )
    if long.became != short.became:
        fail(
            "length_of_decoded",
            f"{short.run.evidence}\n\nThat was {short.became}. A gzip that is longer than what it "
            f"holds was {long.became}:\n\n{long.run.evidence}",
        )


@dataclass(frozen=True)
class _Treated:
    """What a client made of a body in gzip, in a word."""

    became: str
    run: Run


def _gzip_run(
    bench: Bench,
    packed: bytes,
    decoded: Iterable[bytes] | None,
    what: str,
    framing: Framing = "length",
    by_hand: str = "",
    stop: int | None = None,
) -> _Treated:
    """Run the client on a body in gzip. `decoded`: its blocks; None if it can't be decoded.

    `by_hand` is the path of a like answer with a length. `stop`: the server closes after so many
    bytes.
    """
    attempt = Try(
        f"The server sent {size_text(len(packed))} with Content-Encoding: gzip, "
        f"{FRAMINGS[framing]}. Decoded, that {what}.",
        Answer(packed, framing=framing, headers=_GZIP, stop=stop),
        by_hand=by_hand if framing == "length" else "",
    )
    run = bench.run(attempt, name_of(bench.draw), POURING)
    if run.status is None:
        fail("hangs", run.evidence, run.by_hand)
    became = ""
    if run.status == 0 and not difference(run.output, packed):
        became = "saved as it came"
    elif run.status == 0 and decoded is not None and _is_made_of(run.output, decoded):
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


def _is_made_of(output: Path, blocks: Iterable[bytes]) -> bool:
    """Whether a file has the bytes of these blocks, and no others."""
    if not _is_plain(output):
        return False
    with output.open("rb") as file:
        return all(file.read(len(block)) == block for block in blocks) and not file.read(1)


# STALL

SLOW_DISK = '''\
"""A slow disk: what is written to a file takes its time, as on a busy machine."""
import builtins
import io
import os
import stat
import time

RATE = 16 * 1024 * 1024
_open, _write = io.open, os.write


def take_time(descriptor, data):
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        time.sleep(memoryview(data).nbytes / RATE)


class SlowFile(io.FileIO):
    def write(self, data):
        take_time(self.fileno(), data)
        return super().write(data)


def open(file, mode="r", buffering=-1, *rest, closefd=True, opener=None, **named):
    if "b" not in mode or not set(mode) & set("wxa+"):
        return _open(file, mode, buffering, *rest, closefd=closefd, opener=opener, **named)
    raw = SlowFile(file, mode.replace("b", ""), closefd, opener)
    if buffering == 0:
        return raw
    size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
    kind = io.BufferedRandom if "+" in mode else io.BufferedWriter
    return kind(raw, size)


def write(descriptor, data):
    take_time(descriptor, data)
    return _write(descriptor, data)


builtins.open = io.open = open
os.write = write
'''
"""Slows Python's own files and os.write. What writes by another way is as fast as before, and then
the check sees nothing: it never fails a client for the way it writes."""


PASSED = 16 * MiB
"""What has to go through a client that gets no further ahead, before that is believed: as much as
the slow disk takes in a second."""


class _Seen(Exception):
    """Enough was seen of a run: it can end."""


def receiving_stops(
    workshop: Workshop, draw: Random, seconds: float = 1.2, allowed: int = 48 * MiB
) -> None:
    """While the disk is slow, the client stops receiving; it does not heap up what comes."""
    with Bench(workshop, draw) as bench:
        shim = bench.base / "shim"
        shim.mkdir()
        (shim / "sitecustomize.py").write_text(SLOW_DISK)
        river = bench.river()
        name, trace = name_of(draw), Trace()
        sent = written = ahead = before = 0
        still: Deadline | None = None  # since it last got further ahead: `before` was sent then

        def watch(pid: int) -> None:
            nonlocal sent, written, ahead, before, still
            with suppress(MeterError):
                trace.sizes.append(memory_of(pid).private)
            # In this order: what it writes in between can only speak for the client.
            sent = bench.origin.sent.get("/" + name, 0)
            written = max(_files_in(bench.base / f"run-{name}"), bytes_written(pid) or 0)
            if sent and (still is None or sent - written > ahead + MiB):
                ahead, before, still = sent - written, sent, Deadline(seconds)
            # On a busy machine nothing at all may move for as long: that says nothing of a client.
            rested = still is not None and sent > before + PASSED and still.passed
            if ahead > allowed or rested:
                raise _Seen

        attempt = Try(
            f"The server had {size_text(river.size)} to send, and the disk took 16 MiB a second.",
            Answer(river.path),
            "stops-receiving",
            options=(("environment", {"PYTHONPATH": str(shim)}),),
        )
        try:
            run = bench.run(attempt, name, POURING, watch)
        except _Seen:
            run = None
        if run is not None:  # it was through before we had looked long enough
            expect(run, "refuses_good")
            return
    with promise("stops-receiving"):
        if ahead <= allowed:
            return
        fail(
            "no_backpressure",
            f"$ python client.py URL {name}\n{attempt.story}\nThe client had taken "
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


# TRUNCATED


def truncation_is_told(workshop: Workshop, draw: Random) -> None:
    """A body that ends too early is a failure, by whatever way it ends."""
    body = draw.randbytes(draw.randrange(300 * KiB, 900 * KiB))
    part = len(body) * 6 // 10
    promised = f"the {len(body)} bytes that Content-Length told of"
    cases = {
        "short-length": [
            (f"60 % of {promised}, and closed", Answer(body, stop=part), "/cut"),
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
    framing: Framing = draw.choice(["length", "chunked"])
    tries = [
        replace(_good(body, "exact-bytes", framing), by_hand=f"/{framing}"),
        *(
            Try(f"The server sent {what}.", answer, promised, status=1, by_hand=path)
            for promised, answers in cases.items()
            for what, answer, path in answers
        ),
    ]
    with Bench(workshop, draw) as bench:
        for run in bench.run_all(tries):
            expect(run, "believes_truncated")
        _resumes_rightly(bench, draw)


@dataclass
class _Breaking:
    """A server that breaks off the first answer, and answers the next requests in its own way.

    `ranges`: whether it knows ranges. `later` is what the file holds from the second request on.
    """

    first: bytes
    later: bytes
    ranges: bool
    shift: int = 0
    """How many bytes before the first byte asked for its parts begin (RFC 9110, section 15.3.7)."""
    refusal: Answer | None = None
    """How it answers requests with a Range, whatever the range."""
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
    if not _is_plain(output) or output.stat().st_size > len(body):
        return False
    return body.startswith(output.read_bytes())


def _resumes_rightly(bench: Bench, draw: Random) -> None:
    """Who asks for the rest after a break puts nothing together that does not belong together."""
    size = draw.randrange(300 * KiB, 900 * KiB)
    one, other = draw.randbytes(size), draw.randbytes(size)
    error = draw.choice([403, 404, 500, 503])
    ways = {
        "answered the next request with the whole file (200), also one with a Range": (
            _Breaking(one, one, ranges=False)
        ),
        "answered a Range with the rest (206), from a byte before the one asked for": (
            _Breaking(one, one, ranges=True, shift=1)
        ),
        "had another file then, with another ETag, and answered a Range with the rest of that": (
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
            one, one, ranges=True, refusal=Answer(b"not now\n" * draw.randrange(1, 9), error)
        ),
    }
    tries = [
        Try(f"The server broke off at 60 % of {size} bytes, and {what}.", answer)
        for what, answer in ways.items()
    ]
    for run in bench.run_all(tries):
        with promise("resume"):
            if run.status == 0 and all(difference(run.output, body) for body in (one, other)):
                if _begins(one, run.output):
                    why = f"The file ends too early: {difference(run.output, one)}"
                    fail("believes_truncated", f"{run.evidence}\n\n{why}", run.by_hand)
                why = "The file is neither of what the server had: parts of two answers are in it."
                fail("joins_answers", f"{run.evidence}\n\n{why}", run.by_hand)
            if run.status not in (0, 1):
                why = "The status should be 0, with a whole file, or 1."
                fail("wrong_status", f"{run.evidence}\n\n{why}", run.by_hand)


# HASH


def hash_is_checked(workshop: Workshop, draw: Random) -> None:
    """The right sha256 is a success, in small or large letters; any other one a failure."""
    body = draw.randbytes(draw.randrange(100 * KiB, 400 * KiB))
    right = hashlib.sha256(body).hexdigest()
    wrong, also_wrong = (
        _with_another_digit(right, place, draw)
        for place in (draw.randrange(8), draw.randrange(56, 64))
    )
    nothing = hashlib.sha256().hexdigest()
    cases: list[tuple[str, Framing, bytes, str, int]] = [
        ("hash-right", "length", body, right, 0),
        ("hash-right", "length", b"", nothing, 0),
        ("hash-wrong", "length", body, wrong, 1),
        ("hash-wrong", "close", b"", right, 1),
        ("hash-wrong", "length", body, nothing, 1),
        ("hash-letters", "chunked", body, right.upper(), 0),
        ("hash-letters", "chunked", body, also_wrong.upper(), 1),
    ]
    tries = []
    for promised, framing, content, given, status in cases:
        what = "another" if status else "that"
        tries.append(
            Try(
                f"The server sent {len(content)} bytes, which have {what} sha256.",
                Answer(content, framing=framing),
                promised,
                status=status,
                body=content if status == 0 else None,
                sha256=given,
            )
        )
    with Bench(workshop, draw) as bench:
        for run in bench.run_all(tries):
            expect(run, "believes_hash", refused="believes_hash")
        _hash_is_of_the_output(bench, draw.randbytes(9999) * 20)


def _hash_is_of_the_output(bench: Bench, body: bytes) -> None:
    """What is hashed is what OUTPUT has, also where a body in gzip was decoded on the way."""
    packed = gzip.compress(body)
    tries = [
        Try(
            f"The server sent {size_text(len(packed))} with Content-Encoding: gzip, and the "
            f"sha256 given is that of the body {which}.",
            Answer(packed, headers=_GZIP),
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


def _sha256_of(output: Path) -> str:
    """The sha256 of OUTPUT in hexadecimal digits; empty if there is no such file."""
    if not _is_plain(output):
        return ""
    with output.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _with_another_digit(digits: str, place: int, draw: Random) -> str:
    other = draw.choice("0123456789abcdef".replace(digits[place], ""))
    return digits[:place] + other + digits[place + 1 :]


# STATUS


def statuses_are_told(workshop: Workshop, draw: Random) -> None:
    """An error of HTTP, or no connection, is status 1; a wrong call is status 2."""
    page = b"<h1>something went wrong</h1>\n" * 30
    body = draw.randbytes(5000)
    codes = [400, 404, 500, draw.choice([401, 403, 410, 416, 429, 451, 499, 502, 503, 599])]
    tries = [
        _good(body, "exact-bytes"),
        Try(
            "The server answered with 203, and a body.",
            Answer(body, 203),
            "error-status",
            body=body,
        ),
        *(
            Try(
                f"The server answered with status {code}, and {'a page' if text else 'no body'}.",
                Answer(text, code, framing=draw.choice(["length", "chunked"])),
                "error-status",
                status=1,
                by_hand={404: "/404", 500: "/500"}.get(code, ""),
            )
            for code, text in zip(codes, draw.sample([page, page, page, b""], 4), strict=True)
        ),
        Try("No server listened: the connection was refused.", None, "refused", status=1),
    ]
    with Bench(workshop, draw) as bench:
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
                    f"It ended with status {ran.status}; a wrong call is status 2.\n"
                    + (f"It wrote:\n\n{textwrap.indent(words, '    ')}" if words else ""),
                    shlex.join(["python", CLIENT, *arguments]) + "; echo $?",
                )


# CLEAN


def leaves_nothing(workshop: Workshop, draw: Random) -> None:
    """After a failure everything is as before: no OUTPUT, no part of it, an older OUTPUT whole."""
    body = draw.randbytes(draw.randrange(2 * MiB, 3 * MiB))
    part = len(body) * 6 // 10
    older = draw.randbytes(1000)
    wrong = hashlib.sha256(b"another file").hexdigest()
    small = (("cup", replace(workshop.lab.limits, nproc=None, fsize_mib=1)),)
    tries = [
        Try(
            "The server sent 60 % of the body, and closed.", Answer(body, stop=part), by_hand="/cut"
        ),
        Try(
            "The server sent 60 % of a chunked body, and closed.",
            Answer(body, framing="chunked", stop=part),
            by_hand="/cut-chunked",
        ),
        Try("The body has another sha256.", Answer(body), sha256=wrong),
        Try("The server answered with 404, and a page.", Answer(b"no\n", 404), by_hand="/404"),
        Try("No server listened: the connection was refused.", None),
    ]
    full = [
        Try(
            f"The disk took no more than 1 MiB of the body's {size} bytes.",
            Answer(body[:size]),
            "disk-full",
            options=small,
        )
        # The last bytes of the second one may be refused when the file is closed, and not before.
        for size in (len(body), MiB + draw.randrange(1, 4000))
    ]
    failing = [
        replace(attempt, status=1, before=before)
        for number, attempt in enumerate([*tries, *full])
        for before in ((None, older) if number < 3 else (draw.choice([None, older]),))
    ]
    good = [_good(body, "older-replaced"), replace(_good(body, "older-replaced"), before=older)]
    with Bench(workshop, draw) as bench:
        runs = bench.run_all([*good, *failing])
        for run in runs:
            if run.attempt.status == 0 or run.attempt.promise == "disk-full":
                expect(run, "believes_failed")
            if run.attempt.status == 0 or run.status != 0:
                _expect_clean(run)
        # That a failure is told as a success is for other checks; not all of them can be.
        untold = [run for run in runs if run.attempt.status != 0 and run.status == 0]
        if len(untold) == len(failing):
            evidence = f"{untold[0].evidence}\n\nThe status should be 1."
            with promise("nothing-left"):
                fail("believes_failed", evidence, untold[0].by_hand)
        _side_by_side(bench, draw)


def _side_by_side(bench: Bench, draw: Random) -> None:
    """Two downloads into one folder do not meet: their names differ in the ending alone."""
    stem, folder = name_of(draw, ""), bench.base / "together"
    tries = [
        Try(
            "Two downloads ran at the same time in one folder, and their OUTPUTs were "
            f"{stem}.txt and {stem}.bin. The server took a second for each body.",
            Answer(draw.randbytes(400 * KiB), piece=40 * KiB, pause=0.1),
        )
        for _ in range(2)
    ]
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(bench.run, attempt, stem + ending, PATIENCE, None, folder)
            for attempt, ending in zip(tries, (".txt", ".bin"), strict=True)
        ]
        for attempt, running in zip(tries, runs, strict=True):
            assert isinstance(attempt.answer, Answer) and isinstance(attempt.answer.body, bytes)
            run, body = running.result(), attempt.answer.body
            with promise("side-by-side"):
                if run.status != 0 or (why := difference(run.output, body)):
                    why = "The status should be 0." if run.status else why
                    fail("shares_part", f"{run.evidence}\n\n{why}", run.by_hand)


def _expect_clean(run: Run) -> None:
    """A run has left OUTPUT alone if it failed, and nothing else in any case."""
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
        others = [
            path.relative_to(run.folder).as_posix()
            for path in files_below(run.folder)
            if path not in (run.output, run.folder / "tmp")
        ]
        if others:
            what = ", ".join(sorted(others)[:5])
            fail("leaves_part", f"{run.evidence}\n\nIt left behind: {what}.", run.by_hand)
