"""What lab 03 checks a downloader for, which runs as a process against servers of our own.

Each function is one kind of check, as in `streamlab.checks`: it takes the workshop where the
student's programs run and a source of random draws, and ends in `fail(cause, evidence)`. A client
is judged by its exit status, by the files that it leaves, and by what it holds. Sizes are in
bytes, times in seconds. The lab's other program has its checks in `streamlab.leaky_checks`.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import socket
import stat
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

from streamlab.checks import Trace, dense_file, name_of
from streamlab.errors import MeterError
from streamlab.files import KiB, MiB, SampleFile, size_text, sparse_file
from streamlab.memory import bytes_written, memory_of
from streamlab.origin import Answer, Bomb, Framing, Origin, block_of
from streamlab.server import Finished
from streamlab.testing import Workshop, fail, files_below

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
    answer: Answer | None = None
    """None: no server listens."""
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
        words = ("MemoryError", "Cannot allocate memory", "out of memory", "Out of memory")
        return any(word in self.written for word in words)

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
        with ThreadPoolExecutor(AT_ONCE) as pool:
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
    ) -> Run:
        """Run the client in a folder of its own, OUTPUT a bare file name in it."""
        folder = self.base / f"run-{name}"
        (folder / "tmp").mkdir(parents=True)
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
            # The way to the origin leads through nobody's proxy.
            "NO_PROXY": "*",
            "no_proxy": "*",
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
    text = b"begin" + b" \r\n\t" * (CHUNK // 2) + b"\0end\x80\xff"
    bodies = [draw.randbytes(size) for size in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1)]
    bodies += [text, draw.randbytes(3 * MiB + draw.randrange(1, 9999))]
    framings = list(FRAMINGS)
    first = draw.randrange(3)
    tries = []
    for number, body in enumerate([*bodies, text, b""]):
        framing = framings[(first + number) % 3]
        what = "white space" if body is text else "random bytes"
        tries.append(
            Try(
                f"The server sent {len(body)} bytes ({what}), {FRAMINGS[framing]}.",
                Answer(body, framing=framing),
                body=body,
                before=b"an older file" if number == 1 else None,
                by_hand=f"/{framing}" if body else "/empty",
            )
        )
    with Bench(workshop, draw) as bench:
        for run in bench.run_all(draw.sample(tries, len(tries))):
            expect(run, "refuses_good")


# HUGE


def huge_bodies(workshop: Workshop, draw: Random) -> None:
    """Bodies larger than the client's memory pour through it, one with a hash and one without."""
    framings: list[Framing] = ["length", draw.choice(["chunked", "close"])]
    with_hash = draw.choice(framings)
    tries = []
    with Bench(workshop, draw) as bench:
        rivers = draw.sample([bench.river(), bench.dense_river()], 2)
        for framing, river in zip(framings, rivers, strict=True):
            tries.append(
                Try(
                    f"The server sent {size_text(river.size)}, {FRAMINGS[framing]}; the client ran "
                    f"in {workshop.lab.limits}.",
                    Answer(river.path, framing=framing),
                    body=river.path,
                    sha256=river.sha256 if framing == with_hash else None,
                )
            )
        for run in bench.run_all(tries, timeout=POURING):
            most = max(run.trace.sizes, default=0)
            cup = (workshop.lab.limits.data_mib or 128) * MiB
            if run.status != 0 and (run.out_of_memory or most > cup // 2):
                fail("whole_body", f"{run.evidence}\n\nThe status should be 0.")
            expect(run, "refuses_good")
            if most > cup:  # no single process can be that large: it has children
                fail("whole_body", f"{run.evidence}\n\nIt and its children held more than a cup.")


# GZIP


def inflates_little(workshop: Workshop, draw: Random) -> None:
    """A body in gzip that nobody asked for is saved, decoded or refused, whatever its size."""
    block = block_of(draw)
    small, large = Bomb(block, 1), Bomb(block, draw.randrange(LARGER[0] // MiB, LARGER[1] // MiB))
    with Bench(workshop, draw) as bench:
        first, second = _gzip_run(bench, small), _gzip_run(bench, large)
        if first.became != second.became:
            fail(
                "inflates_whole",
                f"A body in gzip that becomes {size_text(small.size)} was {first.became}. One that "
                f"becomes {size_text(large.size)} was {second.became}:\n\n{second.run.evidence}",
                second.run.by_hand,
            )


@dataclass(frozen=True)
class _Treated:
    """What a client made of a body in gzip, in a word."""

    became: str
    run: Run


def _gzip_run(bench: Bench, bomb: Bomb) -> _Treated:
    packed = bomb.packed()
    attempt = Try(
        f"The server sent {size_text(len(packed))} with Content-Encoding: gzip, which become "
        f"{size_text(bomb.size)} when they are decoded.",
        Answer(packed, headers=(("Content-Encoding", "gzip"),)),
        by_hand="/bomb" if bomb.count > 1 else "/gzip",
    )
    run = bench.run(attempt, name_of(bench.draw), POURING)
    if run.status is None:
        fail("hangs", run.evidence, run.by_hand)
    became = ""
    if run.status == 0 and not difference(run.output, packed):
        became = "saved as it came"
    elif run.status == 0 and _is_inflated(run.output, bomb):
        became = "decoded"
    elif run.status == 1:
        became = "lost" if run.out_of_memory else "refused"
    elif run.status == 0:
        why = "That is neither the body as it came, nor as it is decoded."
        fail("wrong_bytes", f"{run.evidence}\n\n{why}", run.by_hand)
    else:
        why = "The status should be 0 or 1."
        fail("wrong_status", f"{run.evidence}\n\n{why}", run.by_hand)
    return _Treated(became, run)


def _is_inflated(output: Path, bomb: Bomb) -> bool:
    if not _is_plain(output) or output.stat().st_size != bomb.size:
        return False
    return all(block == bomb.block for block in blocks_of(output))


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
        grown = float("inf")  # when it was last seen to get further ahead: `before` was sent then

        def watch(pid: int) -> None:
            nonlocal sent, written, ahead, before, grown
            with suppress(MeterError):
                trace.sizes.append(memory_of(pid).private)
            # In this order: what it writes in between can only speak for the client.
            sent = bench.origin.sent.get("/" + name, 0)
            written = max(_files_in(bench.base / f"run-{name}"), bytes_written(pid) or 0)
            if sent and (grown == float("inf") or sent - written > ahead + MiB):
                ahead, before, grown = sent - written, sent, time.monotonic()
            # On a busy machine nothing at all may move for as long: that says nothing of a client.
            rested = time.monotonic() > grown + seconds and sent > before + PASSED
            if ahead > allowed or rested:
                raise _Seen

        attempt = Try(
            f"The server had {size_text(river.size)} to send, and the disk took 16 MiB a second.",
            Answer(river.path),
            options=(("environment", {"PYTHONPATH": str(shim)}),),
        )
        try:
            run = bench.run(attempt, name, POURING, watch)
        except _Seen:
            run = None
        if run is not None:  # it was through before we had looked long enough
            expect(run, "refuses_good")
            return
    if ahead > allowed:
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
    cases = [
        (f"60 % of {promised}, and closed", Answer(body, stop=part), "/cut"),
        (f"none of {promised}, and closed", Answer(body, stop=0), "/cut"),
        (f"all but one of {promised}, and closed", Answer(body, stop=len(body) - 1), "/cut"),
        (f"60 % of {promised}, then a reset", Answer(body, stop=part, reset=True), "/reset"),
        (
            "60 % of a body in chunked coding, cut inside a chunk, and closed",
            Answer(body, framing="chunked", stop=part),
            "/cut-chunked",
        ),
        (
            "a body in chunked coding, but not its last chunk, and closed",
            Answer(body, framing="chunked", last_chunk=False),
            "/no-last-chunk",
        ),
        ("nothing at all, and closed", Answer(status=0), "/silent"),
    ]
    tries = [
        Try(f"The server sent {what}.", answer, status=1, by_hand=path)
        for what, answer, path in cases
    ]
    framing: Framing = draw.choice(["length", "chunked"])
    tries.append(
        Try(
            f"The server sent all of {len(body)} bytes, {FRAMINGS[framing]}.",
            Answer(body, framing=framing),
            body=body,
            by_hand=f"/{framing}",
        )
    )
    with Bench(workshop, draw) as bench:
        for run in bench.run_all(draw.sample(tries, len(tries))):
            expect(run, "believes_truncated")


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
    cases = [
        ("which has that sha256", "length", body, right, 0),
        ("which has that sha256", "chunked", body, right.upper(), 0),
        ("which has that sha256", "length", b"", nothing, 0),
        ("which has another sha256", "length", body, wrong, 1),
        ("which has another sha256", "chunked", body, also_wrong.upper(), 1),
        ("which has another sha256", "close", b"", right, 1),
        ("which has another sha256", "length", body, nothing, 1),
    ]
    tries = []
    for what, framing, content, given, status in cases:
        tries.append(
            Try(
                f"The server sent {len(content)} bytes, {what}.",
                Answer(content, framing=framing),  # type: ignore[arg-type]
                status=status,
                body=content if status == 0 else None,
                sha256=given,
            )
        )
    with Bench(workshop, draw) as bench:
        for run in bench.run_all(draw.sample(tries, len(tries))):
            expect(run, "believes_hash", refused="believes_hash")


def _with_another_digit(digits: str, place: int, draw: Random) -> str:
    other = draw.choice("0123456789abcdef".replace(digits[place], ""))
    return digits[:place] + other + digits[place + 1 :]


# STATUS


def statuses_are_told(workshop: Workshop, draw: Random) -> None:
    """An error of HTTP, or no connection, is status 1; a wrong call is status 2."""
    page = b"<h1>something went wrong</h1>\n" * 30
    body = draw.randbytes(5000)
    codes = [404, 500, draw.choice([400, 401, 403, 410, 429, 502, 503])]
    tries = [
        Try(
            f"The server answered with status {code}, and a page about it.",
            Answer(page, code, framing=draw.choice(["length", "chunked"])),
            status=1,
            by_hand="/404" if code == 404 else "/500",
        )
        for code in codes
    ]
    tries.append(Try("No server listened: the connection was refused.", None, status=1))
    tries.append(Try("The server sent 5000 bytes.", Answer(body), body=body))
    with Bench(workshop, draw) as bench:
        for run in bench.run_all(draw.sample(tries, len(tries))):
            expect(run, "believes_error")
        url = bench.origin.url + "/length"
        calls = [[], [url], [url, "got", "--sha256"], [url, "got", "--no-such-option"]]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            finished = pool.map(bench.call, calls)
        for arguments, ran in zip(calls, finished, strict=True):
            if ran.status != 2:
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
    cut = Try("The server sent 60 % of the body, and closed.", Answer(body, stop=part))
    cases = [
        replace(cut, by_hand="/cut"),
        Try(
            "The server sent 60 % of a chunked body, and closed.",
            Answer(body, framing="chunked", stop=part),
            by_hand="/cut-chunked",
        ),
        Try("The body has another sha256.", Answer(body), sha256=wrong),
        Try(
            "The server answered with status 404, and a page.", Answer(b"no\n", 404), by_hand="/404"
        ),
        Try("The disk took no more than 1 MiB of the body.", Answer(body), options=small),
        Try("No server listened: the connection was refused.", None),
    ]
    tries = [
        replace(case, status=1, before=before)
        for number, case in enumerate(cases)
        for before in ((None, older) if number < 3 else (draw.choice([None, older]),))
    ]
    good = Try("The server sent all of the body.", Answer(body), body=body)
    tries += [good, replace(good, before=older)]
    with Bench(workshop, draw) as bench:
        runs = bench.run_all(draw.sample(tries, len(tries)))
        for run in runs:
            if run.attempt.status == 0:
                expect(run, "refuses_good")
            if run.attempt.status == 0 or run.status != 0:
                _expect_clean(run)
        # That a failure is told as a success is for other checks; not all of them can be.
        untold = [run for run in runs if run.attempt.status != 0 and run.status == 0]
        if len(untold) == len(runs) - 2:
            evidence = f"{untold[0].evidence}\n\nThe status should be 1."
            fail("believes_failed", evidence, untold[0].by_hand)


def _expect_clean(run: Run) -> None:
    """A run has left OUTPUT alone if it failed, and nothing else in any case."""
    if run.attempt.status != 0:
        if run.attempt.before is None and run.output.exists():
            why = f"{run.output.name} should not be there."
            fail("leaves_output", f"{run.evidence}\n\n{why}", run.by_hand)
        if run.attempt.before is not None and difference(run.output, run.attempt.before):
            why = (
                f"Before, there was a {run.output.name} of {len(run.attempt.before)} bytes. It "
                "should still be there, as it was."
            )
            fail("destroys_older", f"{run.evidence}\n\n{why}", run.by_hand)
    others = [
        path.relative_to(run.folder).as_posix()
        for path in files_below(run.folder)
        if path not in (run.output, run.folder / "tmp")
    ]
    if others:
        what = ", ".join(sorted(others)[:5])
        fail("leaves_part", f"{run.evidence}\n\nIt left behind: {what}.", run.by_hand)
