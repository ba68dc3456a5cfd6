"""Experiments: traffic and meters together, one `Measurement` out.

The recipe, for each measurement: a fresh process of the server; one small request on the route
under test; the baseline; then all clients take their first bytes and wait until the last one has
them. On that plateau the memory is read. Without the wait, clients on a busy machine would not
overlap, and the figure would be an accident.
"""

from __future__ import annotations

import inspect
import os
import re
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from streamlab.errors import DownloadError, MeterError, ServerError
from streamlab.files import KiB, MiB, size_text, text_file
from streamlab.http.clients import FIRST, Crowd, Download, Job, Load, Pace
from streamlab.process.memory import Memory, Sampler, high_water, memory_of, reset_high_water
from streamlab.process.patience import Deadline
from streamlab.process.proc import at_work, bytes_read, exact, socket_buffers, thread_states
from streamlab.process.program import run_program
from streamlab.process.server import Server

WARMUP = 4 * KiB
"""Bytes of the small file that is asked for before the baseline."""


@dataclass(frozen=True)
class Measurement:
    """What a crowd of clients did to a server. Sizes in bytes, times in seconds."""

    server: str
    path: str
    clients: int
    pace: Pace
    baseline: int
    """Private memory after one small request."""
    growth: int
    """Private memory above the baseline while all clients were being served. With pace "fast" or
    "leaving" there is no such moment, and it is the high-water mark above the baseline's RSS."""
    peak: int | None
    """The kernel's high-water mark above the RSS of the baseline; None where there is none."""
    resident: int
    """RSS above that of the baseline, on the same plateau: also counts mapped files."""
    socket_buffers: int | None
    """What the kernel held for all TCP connections of this machine above the baseline, on the same
    plateau: no process's memory. None where the system does not tell."""
    read: int | None
    """What the server's processes had read by then, from files and sockets; None as above."""
    first_bytes: tuple[float, ...]
    """Each client's time to the first byte of its body."""
    seconds: float
    """From the first request to the end of the last download, the waiting included."""
    received: int
    """Bytes of body that all clients received and checked."""
    headers: dict[str, str]
    """The first client's response headers, names in lower case."""
    times: tuple[float, ...] = field(repr=False)
    """When the server's RSS was sampled, from the baseline on."""
    timeline: tuple[int, ...] = field(repr=False)
    """The sampled RSS above that of the baseline, one value for each of `times`."""
    processes: int | None
    """How many processes the server had on the plateau; None where the system does not tell."""
    threads: int | None
    """How many threads these had together."""

    @property
    def first_byte(self) -> float:
        """The median time to first byte, in seconds."""
        return statistics.median(self.first_bytes)

    @property
    def first_byte_p95(self) -> float:
        """The time within which 19 of 20 clients had their first byte, in seconds."""
        ordered = sorted(self.first_bytes)
        return ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]

    @property
    def throughput(self) -> float:
        """Bytes a second over all clients (telling for pace "fast" only)."""
        return self.received / self.seconds

    def _repr_mimebundle_(self, **options: object) -> dict[str, str]:
        what = f"Measurement of {self.server}: {self.path}, {self.clients} clients, {self.pace}"
        live = f"growth {size_text(self.growth)}"
        row = f'<tr><td>{what}</td><td class="live">{live}</td></tr>'
        return {"text/plain": what, "text/html": f"<table>{row}</table>"}


@dataclass(frozen=True)
class Filling:
    """How many clients a server could serve at once, coming one after the other."""

    clients: int
    """How many were to come."""
    served: int
    """How many got their first bytes from a server that lived on, all before them connected."""
    completed: int
    """How many had the whole file in the end, once nobody else was to come."""
    error: str | None
    """What the first client that was not served was told; None if all were."""
    lost: str | None
    """What became of the first download that was served and not completed; None if all were."""
    baseline: int
    """Private memory after one small request."""
    steps: tuple[int, ...]
    """Private memory above the baseline as each client served had its first bytes."""
    exit_status: int | None
    """The server's, if it died."""
    log: str
    """What the server wrote."""

    @property
    def failed_at(self) -> int | None:
        """The number of the first client that was not served, counted from 1."""
        return None if self.error is None else self.served + 1


def measure(
    server: Server,
    path: str,
    clients: int = 10,
    pace: Pace = "slow",
    *,
    source: Path | str | None = None,
    warmup: str | None = None,
    first: int = FIRST,
    fresh: bool = True,
    timeout: float = 60.0,
    interval: float = 0.02,
) -> Measurement:
    """Download `path` with `clients` at once and read what the server holds meanwhile.

    `source` is the file that the bytes are compared with (default: the one of that name in the
    server's root); `warmup` is the path of the small request (default: `warmup.txt` beside `path`,
    which is made in that root); `first` is how many bytes a client takes before it waits. With
    `fresh` the server is restarted first, as an honest baseline demands. `timeout` is for all
    downloads together and `interval` for the timeline's samples, in seconds.

    Raises `DownloadError` if any download fails, is cut short or brings wrong bytes, and
    `ServerError` or `MeterError` if the server is gone: a failure is never a measurement.
    """
    load = Load(path, clients, pace, first, source, warmup)
    with _crowd(server, load, timeout, fresh) as crowd:
        before, buffers_before = memory_of(server.pid), socket_buffers()
        read_before = bytes_read(server.pid)
        reset_high_water(server.pid)
        with Sampler(server.pid, interval) as sampler:
            _all_well(crowd.arrive())
            plateau, buffers = at_rest(server.pid), socket_buffers()
            read = bytes_read(server.pid)
            states = thread_states(server.pid) if exact() else None
            downloads = _all_well(crowd.finish())
            time.sleep(2 * interval)  # for the timeline, to show the server back at rest
        mark = high_water(server.pid)
        peak = None if mark is None else mark - before.resident
    growth = plateau.private - before.private
    if pace in ("fast", "leaving"):
        growth = peak if peak is not None else sampler.peak - before.resident
    return Measurement(
        server=server.name,
        path=path,
        clients=clients,
        pace=pace,
        baseline=before.private,
        growth=max(0, growth),
        peak=None if peak is None else max(0, peak),
        resident=max(0, plateau.resident - before.resident),
        socket_buffers=None if buffers is None else max(0, buffers - (buffers_before or 0)),
        read=None if read is None or read_before is None else read - read_before,
        first_bytes=tuple(each.first_byte for each in downloads if each.first_byte is not None),
        seconds=max(each.seconds for each in downloads),
        received=sum(each.size for each in downloads),
        headers=downloads[0].headers,
        times=tuple(sampler.times),
        timeline=tuple(resident - before.resident for resident in sampler.resident),
        processes=None if states is None else len(states),
        threads=None if states is None else sum(map(len, states.values())),
    )


def fill(
    server: Server,
    path: str,
    clients: int = 200,
    *,
    source: Path | str | None = None,
    warmup: str | None = None,
    first: int = FIRST,
    fresh: bool = True,
    timeout: float = 60.0,
) -> Filling:
    """Let clients come one after the other and stay, until one is not served or all are.

    Each takes its first bytes and waits while the next one comes; after the last one, all of them
    read on to the end. Here a failure is a result: see `Filling`. Arguments as for `measure`.
    """
    load = Load(path, clients, "slow", first, source, warmup)
    steps: list[int] = []
    error: str | None = None
    with _crowd(server, load, timeout, fresh) as crowd:
        baseline = memory_of(server.pid).private
        while error is None and len(steps) < clients:
            error = crowd.arrive_one().error
            try:
                if error is None:
                    _until_idle(server.pid, timeout=1)  # who is about to end has something to do
                    steps.append(max(0, memory_of(server.pid).private - baseline))
            except MeterError:
                error = "the server ended after the first bytes"
        served = crowd.finish()[: len(steps)]
        losses = [each.error for each in served if each.error is not None]
        if error is not None:
            _await_end(server)
    return Filling(
        clients=clients,
        served=len(steps),
        completed=len(steps) - len(losses),
        error=error,
        lost=losses[0] if losses else None,
        baseline=baseline,
        steps=tuple(steps),
        exit_status=server.exit_status,
        log=server.log(),
    )


@contextmanager
def waiting(
    server: Server,
    path: str,
    clients: int,
    pace: Pace = "stalled",
    *,
    source: Path | str | None = None,
    warmup: str | None = None,
    first: int = FIRST,
    fresh: bool = True,
    timeout: float = 60.0,
    may_fail: bool = False,
) -> Iterator[list[Download]]:
    """Keep `clients` waiting while a `with` block runs, to see what the server does meanwhile.

    All have their first bytes when the block begins. At its end they leave, or with pace "slow"
    read on to the end of the file. Bound is a list of how far each of them is: as the block
    begins, and once more after its end. With `may_fail` a download that fails after its first bytes
    is a result, told by its `error`. Other arguments and errors as for `measure`.
    """
    load = Load(path, clients, pace, first, source, warmup)
    with _crowd(server, load, timeout, fresh) as crowd:
        downloads = _all_well(crowd.arrive())
        yield downloads
        ended = crowd.finish()
        downloads[:] = ended if may_fail else _all_well(ended)


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """Keep this thread, and the programs that it starts, on one CPU (Linux; else on all of them).

    A server and its client on two CPUs hand each byte from one CPU's cache to the other's. What
    that costs differs by where the kernel happens to put the two. See sched_setaffinity(2).
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _await_end(server: Server, timeout: float = 10.0) -> None:
    """Wait for the news of a server's end, unless it rests for a second, and so goes on.

    Who is about to end has something to do, and who has ended is not seen any more.
    """
    deadline, rests = Deadline(timeout), Deadline(1)
    while server.running and not deadline.passed and not rests.passed:
        if exact() and (at_work(server.pid) or not thread_states(server.pid)):
            rests = Deadline(1)
        time.sleep(0.01)


def _until_idle(pid: int, timeout: float) -> None:
    """Wait until no thread of a server runs or waits for a CPU, or `timeout` seconds are over."""
    deadline = Deadline(timeout)
    while at_work(pid) and not deadline.passed:
        time.sleep(0.01)


def at_rest(pid: int, timeout: float = 10.0) -> Memory:
    """The memory of a server that has done what it does for clients that wait.

    Its clients have their first bytes, and it may go on reading ahead of them. Within a tenth of a
    second it reads nothing, and gains and loses less than a MiB, and it does not wait for a CPU: on
    a busy machine it may have had none. Or `timeout` seconds are over.
    """
    deadline = Deadline(timeout)
    _until_idle(pid, timeout)
    reading, read = memory_of(pid), bytes_read(pid)
    while not deadline.passed:
        before, read_before = reading, read
        time.sleep(0.1)
        working = at_work(pid)
        reading, read = memory_of(pid), bytes_read(pid)
        same = read == read_before and abs(reading.private - before.private) < MiB
        if same and not working:
            break
    return reading


def measure_client(
    fetch: Callable[[str], object], server: Server, path: str, timeout: float = 60.0
) -> int:
    """The growth of a *client's* memory at its worst moment, in bytes (Linux).

    `fetch(url)` is a function that has all it needs in its own lines, imports too. It runs in a
    fresh process: once for a small file, for a baseline, and once for `path`. The growth is the
    high-water mark of RSS above that baseline. Raises `DownloadError` if `fetch` raises.
    """
    text_file(WARMUP, "warmup.txt", folder=server.root)
    source = textwrap.dedent(inspect.getsource(fetch))
    client = [sys.executable, "-m", "streamlab.lesson.client_process", source, fetch.__name__]
    urls = [f"{server.url}/warmup.txt", server.url + path]
    ended = run_program([*client, *urls], timeout=timeout)
    found = re.search(r"^grew by (\d+)$", ended.output, re.MULTILINE)
    if ended.status != 0 or found is None:
        raise DownloadError(f"{fetch.__name__} failed. It wrote:\n\n{ended.output[-2000:]}")
    return max(0, int(found[1]))


def _completed(load: Load, server: Server) -> Load:
    """A load with all that its paths leave open: the file to compare with, and the small request.

    Makes the small file. Raises `DownloadError` if there is no client, or nothing to compare with.
    """
    if load.clients < 1:
        raise DownloadError(f"{load.clients} clients can't be measured: one at least")
    folder, _, name = load.path.rpartition("/")
    source = Path(load.source) if load.source is not None else server.root / name
    if not source.is_file():
        raise DownloadError(
            f"there is no {source} to compare the bytes with: make the file first, "
            "or say source=..."
        )
    text_file(WARMUP, "warmup.txt", folder=server.root)  # text, for servers that read it as such
    warmup = f"{folder}/warmup.txt" if load.warmup is None else load.warmup
    return replace(load, source=source.resolve(), warmup=warmup)


@contextmanager
def _crowd(server: Server, load: Load, timeout: float, fresh: bool) -> Iterator[Crowd]:
    """A crowd at the door of a server that has answered one small request."""
    load = _completed(load, server)
    if fresh:
        server.restart()
    elif not server.running:
        raise ServerError(f"{server.name} is not running: start it first")
    port = int(server.url.rpartition(":")[2])
    try:
        with Crowd(Job(port, load, timeout)) as crowd:
            # The small request has all its bytes; the server may still have its file to close.
            _until_idle(server.pid, timeout=2)
            yield crowd
    except DownloadError as error:
        log = server.log().strip()
        words = f" The server wrote:\n\n{log[-2000:]}" if log else ""
        raise DownloadError(f"{error}.{words}", error.failure) from None


def _all_well(downloads: list[Download]) -> list[Download]:
    failed = [each for each in downloads if each.error is not None]
    if failed:
        raise DownloadError(
            f"{len(failed)} of {len(downloads)} downloads failed: {failed[0].error}",
            failed[0].failure or "other",
        )
    return downloads
