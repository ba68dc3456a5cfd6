"""Lab 03's downloader: run it as a process against servers of our own, and judge the result.

A client is judged by its exit status, by the files that it leaves, and by the memory that it holds.
Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType

from streamlab.checks.observe import Trace
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import dense_file, name_of
from streamlab.checks.waits import TRANSFER
from streamlab.checks.workspace import LabWorkspace
from streamlab.errors import MeterError
from streamlab.files import MiB, SampleFile, same_length, sparse_file
from streamlab.origin import Answer, Exchange, Framing, Order, Origin
from streamlab.process.memory import memory_of
from streamlab.process.program import Conditions, Cup, Finished
from streamlab.process.server import out_of_memory

CLIENT = "client.py"

LARGER = (140 * MiB, 180 * MiB)
"""The least and the largest size of a body that must not fit into the lab's cup of 128 MiB."""

AT_ONCE = 3
"""How many clients run at the same time, unless a check needs a client alone."""

FRAMINGS: dict[Framing, str] = {
    "length": "Content-Length",
    "chunked": "chunked coding",
    "close": "no length, closed at its end",
}


# Running a client


@dataclass(frozen=True)
class Scenario:
    """A run of the client that is planned: what the server answers, and the right outcome."""

    summary: str
    """What the server does, as a sentence."""
    answer: Order | None = None
    """None: the connection is refused."""
    promise: str = "exact-bytes"
    """The promise that this run tests, by its id in contract.toml."""
    status: int = 0
    """The right exit status."""
    body: bytes | Path | None = None
    """What OUTPUT must hold afterwards; None: the lab's text does not say."""
    sha256: str | None = None
    before: bytes | None = None
    """What OUTPUT holds before the run; None: it does not exist."""
    read_only: bool = False
    """Whether that OUTPUT may not be written to. Its folder may."""
    left: bytes | None = None
    """What lies beside OUTPUT, and in TMPDIR, under each of the usual names of a part; None:
    nothing."""
    by_hand: str = ""
    """The path at which `python -m streamlab.origin` gives a similar answer; empty if there is
    none."""
    path: str = ""
    """The path of the URL, without its slash; empty for a path that no other run has."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the client's environment has besides."""
    cup: Cup | None = None
    """Its limits; None: those of the lab."""


@dataclass(frozen=True)
class Run:
    """A run of the client that has ended."""

    attempt: Scenario
    command: str
    """The command as typed in a terminal."""
    status: int | None
    """None: it had not ended in time, and was killed."""
    written: str
    """What it wrote to standard output and error."""
    trace: Trace
    folder: Path
    """Its working folder. Before the run it was empty, or held OUTPUT alone."""
    output: Path

    @property
    def out_of_memory(self) -> bool:
        # The second is what curl says (libcurl-errors(3), CURLE_OUT_OF_MEMORY).
        return out_of_memory(self.written) or "\ncurl: (27)" in f"\n{self.written}"

    @property
    def evidence(self) -> str:
        """The whole story of the run, for a student to read."""
        lines = [f"$ {self.command}", self.attempt.summary]
        if self.status is None:
            lines.append("It had not ended when its time was up, and was killed.")
        else:
            lines.append(f"It ended with status {self.status}.")
        if is_plain(self.output):
            lines.append(f"{self.output.name} has {self.output.stat().st_size} bytes.")
        else:
            lines.append(f"There is no {self.output.name}.")
        words = [line[:200] for line in self.written.strip().splitlines()]
        if words:
            lines += ["It wrote:", "", textwrap.indent("\n".join(words[-12:]), "    "), ""]
        return "\n".join([*lines, self.trace.line.replace("the server", "it")])

    @property
    def by_hand(self) -> str:
        """The commands that show the same by hand; empty if that takes more than one line."""
        path = self.attempt.by_hand
        if not path:
            return ""
        return (
            "python -m streamlab.origin --port 8000  # and, in another terminal: "
            f"python client.py http://127.0.0.1:8000{path} got; echo $?"
        )


class ClientRunner:
    """Runs clients: it has an origin that answers them, and an empty folder for each run."""

    def __init__(self, workspace: LabWorkspace, rng: Random) -> None:
        self.workspace = workspace
        self.rng = rng
        self.origin = Origin()
        self.base = Path(tempfile.mkdtemp(dir=workspace.outputs))

    def __enter__(self) -> ClientRunner:
        self.origin.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.origin.__exit__(kind, error, trace)
        with suppress(RecursionError):  # folders nested too deep to remove
            shutil.rmtree(self.base, ignore_errors=True)

    def river(self) -> SampleFile:
        """A file larger than the cup: zeros between two islands, as one line."""
        return river_in(self.workspace.private, self.rng, islands=2)

    def dense_river(self) -> SampleFile:
        """A file larger than the cup that can't be compressed."""
        return dense_file(
            self.rng.randrange(*LARGER),
            name_of(self.rng, ".dense"),
            self.workspace.private,
            self.rng,
        )

    def run_all(self, tries: Sequence[Scenario], timeout: float = TRANSFER) -> list[Run]:
        """Run the client once for each scenario, `AT_ONCE` at a time; the runs are in the same
        order.

        The check fails at the first run that hangs, because the others would hang as well.
        """
        with promise("in-time"), ThreadPoolExecutor(AT_ONCE) as pool:
            runs = [pool.submit(self.run, each, name_of(self.rng), timeout) for each in tries]
            for future in as_completed(runs):
                if (run := future.result()).status is None:
                    pool.shutdown(wait=False, cancel_futures=True)
                    fail("hangs", run.evidence, run.by_hand)
            return [future.result() for future in runs]

    def run(
        self,
        attempt: Scenario,
        name: str,
        timeout: float = TRANSFER,
        watch: Callable[[int], None] | None = None,
        folder: Path | None = None,
    ) -> Run:
        """Run the client in a folder of its own, or in `folder`, with `name` as OUTPUT."""
        folder = folder or self.base / f"run-{name}"
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        output = folder / name
        if attempt.before is not None:
            output.write_bytes(attempt.before)
            output.chmod(0o444 if attempt.read_only else 0o644)
        if attempt.left is not None:
            for part in parts_of(output):
                part.write_bytes(attempt.left)
        trace, looked = Trace(), 0.0

        def look(pid: int) -> None:
            nonlocal looked
            if time.monotonic() > looked + 0.12:  # a look takes some milliseconds of CPU time
                with suppress(MeterError):
                    trace.sizes.append(memory_of(pid).private)
                looked = time.monotonic()
            if watch is not None:
                watch(pid)

        with ExitStack() as stack:
            if attempt.answer is None:
                url = stack.enter_context(refused_url()) + "/" + name
            else:
                url = self.origin.put("/" + (attempt.path or name), attempt.answer)
            arguments = [url, name]
            if attempt.sha256 is not None:
                arguments += ["--sha256", attempt.sha256]
            finished = self._start(arguments, folder, timeout, look, attempt)
        return Run(
            attempt=attempt,
            command=shlex.join(["python", CLIENT, *arguments]),
            status=finished.status,
            written=finished.output.replace(str(self.workspace.folder) + "/", ""),
            trace=trace,
            folder=folder,
            output=output,
        )

    def call(self, arguments: Sequence[str]) -> Finished:
        """Run the client with any arguments."""
        conditions = Conditions(cwd=tempfile.mkdtemp(dir=self.base))
        return self.workspace.run(CLIENT, *arguments, conditions=conditions, timeout=TRANSFER)

    def _start(
        self,
        arguments: Sequence[str],
        folder: Path,
        timeout: float,
        watch: Callable[[int], None],
        attempt: Scenario,
    ) -> Finished:
        environment = {
            "TMPDIR": str(folder / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **attempt.environment,
        }
        conditions = Conditions(attempt.cup, environment, folder)
        return self.workspace.run(
            CLIENT, *arguments, conditions=conditions, timeout=timeout, watch=watch
        )


def river_in(folder: Path, rng: Random, islands: int, ending: str = ".bin") -> SampleFile:
    """A file that is larger than the lab's cup, but not by so much that it takes long."""
    size = rng.randrange(*LARGER)
    return sparse_file(size, name_of(rng, ending), folder, islands, rng.randrange(2**32))


@contextmanager
def refused_url() -> Iterator[str]:
    """The address of a port that refuses connections and that nobody else can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def expect(run: Run, cause: str, refused: str = "refuses_good") -> None:
    """The check fails unless a run has the right exit status and the right OUTPUT.

    `cause` is the cause if a failure was reported as a success, `refused` the other way round.
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
            before = run.attempt.before
            kept = before is not None and not difference(run.output, before)
            why = "It is still the file that was there before the run." if kept else problem
            cause = "keeps_older" if kept or run.attempt.left is not None else "wrong_bytes"
            fail(cause, f"{run.evidence}\n\n{why}", run.by_hand)


def difference(output: Path, body: bytes | Path) -> str:
    """How OUTPUT differs from `body`, in a sentence; empty if they are equal."""
    if not is_plain(output):
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
                return (
                    f"Byte {at + same_length(have, block)} of {output.name} is not as it was sent."
                )
            at += len(block)
    return ""


def parts_of(output: Path) -> list[Path]:
    """The names that downloaders often give to what they have so far of OUTPUT."""
    name = output.name
    names = [f"{name}{ending}" for ending in (".part", ".partial", ".tmp", ".download")]
    names += [f".{name}.part", f".{name}.tmp", f"{output.stem}.part", f"{output.stem}.tmp"]
    return [folder / each for folder in (output.parent, output.parent / "tmp") for each in names]


def is_plain(output: Path) -> bool:
    """Whether a program left a regular file there, and not a link to another one."""
    return output.is_file() and not output.is_symlink()


def blocks_of(path: Path) -> Iterator[bytes]:
    """A file's bytes, a MiB at a time."""
    with path.open("rb") as file:
        while block := file.read(MiB):
            yield block


def good_scenario(
    body: bytes,
    promised: str,
    framing: Framing = "length",
    *,
    odd_chunks: bool = False,
    stays_open: bool = False,
) -> Scenario:
    """A run in which the server answers rightly, with a body that OUTPUT must have."""
    forms = ", with extensions and trailers" if odd_chunks else ""
    forms += ", and kept the connection open" if stays_open else ""
    return Scenario(
        f"The server sent {len(body)} bytes, {FRAMINGS[framing]}{forms}.",
        Answer(body, framing=framing, odd_chunks=odd_chunks, stall=stays_open),
        promised,
        body=body,
        by_hand="" if forms else f"/{framing}" if body else "/empty",
    )


def left_by_a_killed_run(body: bytes, left: bytes) -> Scenario:
    """A good run in a folder where another run, which was killed, has left its part."""
    return Scenario(
        f"A run that was killed had left a part of {len(left)} bytes in that folder, and in the "
        f"one for temporary files. The server sent {len(body)} bytes, Content-Length, and none of "
        "them was in that part.",
        with_ranges(body),
        "left-over",
        body=body,
        left=left,
    )


def in_turn(*answers: Answer) -> Order:
    """The first of these answers for the first GET, and so on; the last one for all later GETs."""
    left = list(answers)

    def answer(exchange: Exchange) -> Answer:
        return left.pop(0) if exchange.method == "GET" and len(left) > 1 else left[0]

    return answer


def with_ranges(body: bytes) -> Order:
    """The answers of a server that sends a file, or the rest of it if it is asked for that.

    It tells no ETag and no date, so a request with If-Range gets the whole (RFC 9110, section
    13.1.5).
    """
    size = len(body)

    def answer(exchange: Exchange) -> Answer:
        asked = re.fullmatch(r"bytes=(\d{1,9})-", exchange.header("range") or "")
        if asked is None or exchange.header("if-range") is not None:
            return Answer(body, headers=(("Accept-Ranges", "bytes"),))
        start = int(asked[1])
        if start >= size:
            return Answer(b"", 416, headers=(("Content-Range", f"bytes */{size}"),))
        told = ("Content-Range", f"bytes {start}-{size - 1}/{size}")
        return Answer(body[start:], 206, headers=(told,))

    return answer


GZIP_HEADER = (("Content-Encoding", "gzip"),)
