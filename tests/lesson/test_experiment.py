"""Measurements agree with what a server really took, and a failure is never one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from streamlab import Cup, DownloadError, Server, ServerError
from streamlab.files import KiB, MiB, SampleFile, random_file, sparse_file
from streamlab.lesson import experiment
from streamlab.lesson.experiment import (
    Filling,
    Measurement,
    fill,
    measure,
    measure_client,
    on_one_cpu,
    waiting,
)
from streamlab.process import patience, proc
from streamlab.process.memory import Memory

Launch = Callable[..., Server]
Becomes = Callable[[Callable[[], bool]], bool]

AMOUNT = 100 * MiB


def near(size: int, wanted: int) -> bool:
    """Whether a size agrees with another to 1 MiB or 2 %, whichever is more."""
    return abs(size - wanted) <= max(MiB, wanted // 50)


@pytest.mark.needs("linux")
def test_growth_is_what_the_server_took(launch: Launch, large: SampleFile) -> None:
    """A server that takes 100 MiB grows by 100 MiB, as the kernel's own mark says too."""
    known = launch("known", large.path.parent, environment={"AMOUNT": str(AMOUNT)})
    found = measure(known, large.url, clients=1)
    assert near(found.growth, AMOUNT)
    assert found.peak is not None and near(found.peak, AMOUNT)
    assert near(found.growth, found.peak)
    assert near(found.resident, AMOUNT)
    assert found.baseline > MiB
    assert found.received == large.size
    assert max(found.timeline) < 1.1 * AMOUNT, "a sample may miss the peak, but not exceed it"
    assert len(found.times) == len(found.timeline)
    assert found.headers["content-length"] == str(large.size)


def test_the_small_request_can_be_another_one(launch: Launch, tmp_path: Path) -> None:
    """If the usual small request would be a 404, `warmup` names another path."""
    sample = random_file(200 * KiB, folder=tmp_path / "deep")
    streaming = launch("streaming", tmp_path)
    path, source = f"/deep{sample.url}", sample.path
    with pytest.raises(DownloadError, match=r"/deep/warmup\.txt: .* 404"):
        measure(streaming, path, 1, source=source)
    found = measure(streaming, path, 1, source=source, warmup="/warmup.txt")
    assert found.received == sample.size


@pytest.mark.needs("linux")
def test_what_a_server_takes_while_its_clients_wait_counts(
    launch: Launch, large: SampleFile
) -> None:
    """It is measured when it has come to rest, not when the clients have their first bytes."""
    found = measure(launch("reads_ahead", large.path.parent), large.url, clients=1)
    assert near(found.growth, large.size)


@pytest.mark.needs("linux")
@pytest.mark.parametrize(
    ("states", "read"),
    [(["SR", "SD", "RR"], []), ([], [1, 2])],
    ids=["waits for a CPU", "reads"],
)
def test_who_has_something_to_do_is_not_at_rest(
    monkeypatch: pytest.MonkeyPatch, states: list[str], read: list[int]
) -> None:
    """A busy server is not at rest, even if its memory stays the same."""
    letters, sizes = iter(states), iter(read)
    monkeypatch.setattr(experiment, "memory_of", lambda _: Memory(0, 0))
    monkeypatch.setattr(experiment, "bytes_read", lambda _: next(sizes, 3))
    monkeypatch.setattr(proc, "thread_states", lambda _: {7: next(letters, "SS")})
    experiment.at_rest(7)
    assert [*letters, *sizes] == []


@pytest.mark.needs("linux")
@pytest.mark.parametrize(("states", "waits"), [({}, True), ({7: "SR"}, True), ({7: "SS"}, False)])
def test_the_news_of_an_end_may_be_late(
    monkeypatch: pytest.MonkeyPatch, states: dict[int, str], waits: bool
) -> None:
    """The wait goes on for a server that has ended or is ending, and not for one at rest."""

    class Ending:
        pid = 7
        running = property(lambda _: next(running))

    hundredths, running = count(), iter([*[True] * 50, False])
    slow = SimpleNamespace(monotonic=lambda: next(hundredths) / 100, sleep=lambda _: None)
    monkeypatch.setattr(experiment, "time", slow)
    monkeypatch.setattr(patience, "time", slow)
    monkeypatch.setattr(patience, "_CLOCKS", {})
    monkeypatch.setattr(patience, "threads_below", lambda _: {})
    monkeypatch.setattr(patience, "pressure", lambda: None)
    for module in (experiment, proc):
        monkeypatch.setattr(module, "thread_states", lambda _: states)
    ending: Any = Ending()
    experiment._await_end(ending)
    assert (next(running, None) is None) == waits


@pytest.mark.needs("linux")
def test_streaming_does_not_grow(launch: Launch, large: SampleFile) -> None:
    """A loop of 64 KiB shows less than 1 MiB for one client."""
    found = measure(launch("streaming", large.path.parent), large.url, clients=1)
    assert found.growth < MiB
    assert found.received == large.size


@pytest.mark.needs("linux")
def test_load_all_holds_a_copy_a_client(launch: Launch, large: SampleFile) -> None:
    """Three clients of a load-all server cost three times the file, each time."""
    server = launch("load_all", large.path.parent)
    for _ in range(2):
        found = measure(server, large.url, clients=3)
        assert near(found.growth, 3 * large.size)
    assert len(found.first_bytes) == 3
    assert found.received == 3 * large.size


@pytest.mark.needs("linux")
def test_a_short_peak(launch: Launch, large: SampleFile) -> None:
    """Memory that was freed before the answer is in the peak, and not in the growth."""
    known = launch("known", large.path.parent, environment={"AMOUNT": str(AMOUNT), "PEAK": "1"})
    found = measure(known, large.url, clients=1)
    assert found.peak is not None and near(found.peak, AMOUNT)
    assert found.growth < MiB


@pytest.mark.needs("linux")
def test_an_earlier_peak_is_not_counted(launch: Launch, large: SampleFile) -> None:
    """What a server took and freed before the baseline is not in the peak."""
    both = {"AMOUNT": str(AMOUNT), "EARLIER": str(3 * AMOUNT)}
    found = measure(launch("known", large.path.parent, environment=both), large.url, clients=1)
    assert found.peak is not None and near(found.peak, AMOUNT)


@pytest.mark.needs("linux")
@pytest.mark.parametrize("pace", ["fast", "leaving"])
def test_growth_without_a_plateau_is_the_peak(launch: Launch, large: SampleFile, pace: Any) -> None:
    """Where clients do not wait, growth is the high-water mark."""
    known = launch("known", large.path.parent, environment={"AMOUNT": str(AMOUNT)})
    found = measure(known, large.url, clients=1, pace=pace)
    assert found.growth == found.peak
    assert near(found.growth, AMOUNT)


@pytest.mark.needs("linux")
def test_stalled_clients_are_measured_too(launch: Launch, large: SampleFile) -> None:
    """Clients that never read on hold the server's memory, and end without an error."""
    found = measure(launch("load_all", large.path.parent), large.url, clients=2, pace="stalled")
    assert near(found.growth, 2 * large.size)
    assert found.received < 2 * large.size


@pytest.mark.needs("linux")
def test_buffers_of_the_kernel_are_told_apart(
    launch: Launch, large: SampleFile, becomes: Becomes
) -> None:
    """What waits in socket buffers is no memory of the server, and has a field of its own.

    The figure is for the whole machine: it falls if other programs release theirs meanwhile.
    """
    server = launch("streaming", large.path.parent)

    def seen() -> bool:
        found = measure(server, large.url, clients=4)
        assert found.growth < 4 * MiB
        return (found.socket_buffers or 0) > 4 * 64 * KiB

    assert becomes(seen)


def test_a_machine_without_proc(
    launch: Launch, large: SampleFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without `/proc` a measurement has sampled figures, and None where there are none."""
    monkeypatch.setattr(proc, "PROC", tmp_path)
    found = measure(launch("load_all", large.path.parent), large.url, clients=2)
    assert found.peak is None
    assert found.socket_buffers is None
    assert found.growth == found.resident
    assert near(found.growth, 2 * large.size)
    fast = measure(launch("load_all", large.path.parent), large.url, clients=1, pace="fast")
    assert fast.peak is None
    assert fast.growth == max(0, *fast.timeline)


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("cut", r"2 of 2 downloads failed: cut short: 512 KiB of 1 MiB\."),
        ("wrong", r"2 of 2 downloads failed: byte 1048575 is not as in the file"),
        ("short", r"2 of 2 downloads failed: cut short: 1024 KiB of 1 MiB"),
        ("long", r"2 of 2 downloads failed: byte 1048576 is not as in the file"),
        ("refuse", r"2 of 2 downloads failed: the server answered with status 404"),
        ("other", r"2 of 2 downloads failed: the answer begins with 'SSH-2.0-nobody'"),
        ("chunks", r"2 of 2 downloads failed: cut short: the connection closed before the last"),
    ],
)
@pytest.mark.parametrize("pace", ["fast", "slow"])
def test_a_failed_download_is_no_measurement(
    launch: Launch, tmp_path: Path, mode: str, why: str, pace: Any
) -> None:
    """Each fault of a download is an error with the server's log."""
    sample = random_file(MiB, folder=tmp_path)
    server = launch("misbehaving", environment={"MODE": mode}).start()
    with pytest.raises(DownloadError, match=why) as caught:
        measure(server, sample.url, clients=2, pace=pace, fresh=False)
    assert "The server wrote:\n\nlistening on http://127.0.0.1:" in str(caught.value)


def test_a_right_download_is_one(launch: Launch, tmp_path: Path) -> None:
    """The same server, behaving, is measured."""
    sample = random_file(MiB, folder=tmp_path)
    server = launch("misbehaving", environment={"MODE": "right"})
    assert measure(server, sample.url, clients=2).received == 2 * MiB


def test_a_server_that_dies_is_no_measurement(launch: Launch, tmp_path: Path) -> None:
    """The end of the server is an error with its last words."""
    sample = random_file(MiB, folder=tmp_path)
    server = launch("misbehaving", environment={"MODE": "die"})
    with pytest.raises(DownloadError, match=r"downloads failed: the server .*") as caught:
        measure(server, sample.url, clients=1)
    assert "no more" in str(caught.value)


def test_a_server_that_does_not_run(launch: Launch, tmp_path: Path) -> None:
    """Without a restart, a server that does not run can't be measured."""
    sample = random_file(10, folder=tmp_path)
    with pytest.raises(ServerError, match="streaming is not running: start it first"):
        measure(launch("streaming"), sample.url, fresh=False)


def test_a_fresh_server_each_time(launch: Launch, tmp_path: Path) -> None:
    """A measurement restarts the server, unless told not to; afterwards it still runs."""
    sample = random_file(10, folder=tmp_path)
    server = launch("streaming").start()
    first = server.pid
    measure(server, sample.url, clients=1, fresh=False)
    assert server.pid == first
    measure(server, sample.url, clients=1)
    assert server.pid != first
    assert server.running


def test_source_elsewhere(launch: Launch, tmp_path: Path) -> None:
    """The file to compare with may lie elsewhere, and is what decides."""
    sample = random_file(MiB, folder=tmp_path)
    twin = random_file(MiB, "twin", folder=tmp_path / "other")
    stranger = random_file(MiB, "stranger", folder=tmp_path / "other", seed=1)
    server = launch("streaming").start()
    assert measure(server, sample.url, 1, source=twin.path).received == MiB
    with pytest.raises(DownloadError, match="byte 0 is not as in the file"):
        measure(server, sample.url, 1, source=stranger.path)


def test_no_file_to_compare_with(launch: Launch) -> None:
    """A file that was not made is an error before any server starts."""
    server = launch("streaming")
    with pytest.raises(DownloadError, match=r"there is no .*none\.bin to compare the bytes with"):
        measure(server, "/none.bin")
    assert not server.running


@pytest.mark.parametrize("clients", [0, -1])
def test_no_clients(launch: Launch, tmp_path: Path, clients: int) -> None:
    """Without a client there is nothing to measure."""
    sample = random_file(10, folder=tmp_path)
    with pytest.raises(DownloadError, match="clients can't be measured: one at least"):
        measure(launch("streaming"), sample.url, clients)


def test_no_process_is_left(launch: Launch, tmp_path: Path) -> None:
    """After a measurement, good or bad, the clients' process is gone."""
    sample = random_file(MiB, folder=tmp_path)
    good = launch("streaming").start()
    bad = launch("misbehaving", environment={"MODE": "wrong"}).start()
    before = set(psutil.Process().children())
    measure(good, sample.url, 1, fresh=False)
    with pytest.raises(DownloadError):
        measure(bad, sample.url, 1, fresh=False)
    assert set(psutil.Process().children()) == before


def test_arithmetic(measured: Measurement) -> None:
    """Median, 95th percentile and throughput are what their names say."""
    assert measured.first_byte == 0.25
    assert measured.first_byte_p95 == 0.4
    assert replace(measured, first_bytes=tuple(range(100))).first_byte_p95 == 95
    assert measured.throughput == 4 * MiB


def test_a_measurement_shows_stable_text(measured: Measurement) -> None:
    """Figures stand in the live cell alone."""
    shown = measured._repr_mimebundle_()
    assert shown["text/plain"] == "Measurement of demo: /a.bin, 4 clients, slow"
    assert shown["text/plain"] in shown["text/html"]
    assert '<td class="live">growth 4 MiB</td>' in shown["text/html"]
    other = replace(measured, growth=9 * MiB)._repr_mimebundle_()
    assert other["text/plain"] == shown["text/plain"]
    assert other["text/html"] != shown["text/html"]


@pytest.mark.needs("linux")
def test_load_all_fills_the_cup(launch: Launch, tmp_path: Path) -> None:
    """In 256 MiB a load-all server of a 44 MiB file dies at its sixth client, and all lose."""
    sample = sparse_file(44 * MiB, folder=tmp_path)
    filling = fill(launch("load_all", cup=Cup(256)), sample.url, clients=10)
    assert (filling.served, filling.failed_at, filling.completed) == (5, 6, 0)
    assert filling.exit_status == 1
    assert "MemoryError" in filling.log
    assert filling.error is not None and "\n" not in filling.error
    assert len(filling.steps) == 5
    assert all(
        near(step, number * sample.size) for number, step in enumerate(filling.steps, start=1)
    )


@pytest.mark.needs("linux")
def test_streaming_never_fills_the_cup(launch: Launch, tmp_path: Path) -> None:
    """In the same cup a streaming server serves 40 of 40."""
    sample = sparse_file(44 * MiB, folder=tmp_path)
    filling = fill(launch("streaming", cup=Cup(256)), sample.url, clients=40)
    assert (filling.served, filling.completed, filling.clients) == (40, 40, 40)
    assert (filling.failed_at, filling.error, filling.exit_status) == (None, None, None)
    assert filling.steps[-1] < sample.size


@pytest.mark.needs("linux")
def test_a_filling_of_clients_who_take_more(launch: Launch, tmp_path: Path) -> None:
    """`first` says how much each takes before the next one comes."""
    sample = random_file(2 * MiB, folder=tmp_path)
    filling = fill(launch("streaming"), sample.url, clients=2, first=MiB)
    assert (filling.served, filling.completed) == (2, 2)


@pytest.mark.needs("linux")
def test_waiting(launch: Launch, tmp_path: Path, becomes: Becomes) -> None:
    """Clients wait while the block runs: stalled ones leave at its end, slow ones read on."""
    sample = random_file(16 * MiB, folder=tmp_path)
    server = launch("streaming")
    with waiting(server, sample.url, 2) as stalled:
        with waiting(server, sample.url, 3, "slow", fresh=False) as slow:
            # That of the small request may still be on its way out.
            assert becomes(lambda: proc.threads_of(server.pid) == 6)
            assert all(0 < each.size < sample.size for each in [*stalled, *slow])
        assert [each.size for each in slow] == [sample.size] * 3
        assert proc.threads_of(server.pid) >= 3
    assert all(each.size < sample.size for each in stalled)


def test_waiting_is_not_for_those_who_fail(launch: Launch, tmp_path: Path) -> None:
    """If a client is not served, the block does not run."""
    sample = random_file(MiB, folder=tmp_path)
    server = launch("misbehaving", environment={"MODE": "refuse"})
    with pytest.raises(DownloadError, match="404"), waiting(server, sample.url, 2):
        pytest.fail("nobody waits here")


def test_a_filling_may_fail_without_an_end(launch: Launch, tmp_path: Path) -> None:
    """A client that is refused ends the filling; the server lives on, without an exit status."""
    sample = random_file(MiB, folder=tmp_path)
    filling = fill(launch("misbehaving", environment={"MODE": "refuse"}), sample.url, clients=3)
    assert (filling.served, filling.failed_at, filling.completed) == (0, 1, 0)
    assert filling.error == "the server answered with status 404"
    assert filling.exit_status is None


@pytest.mark.needs("linux")
def test_who_takes_the_server_along_is_not_served(launch: Launch, tmp_path: Path) -> None:
    """A server without memory for the second chunk has sent first bytes all the same."""
    sample = random_file(MiB, folder=tmp_path)
    filling = fill(launch("misbehaving", environment={"MODE": "die late"}), sample.url, clients=3)
    assert (filling.served, filling.failed_at, filling.completed) == (0, 1, 0)
    assert filling.error == "the server ended after the first bytes"
    assert filling.exit_status == 5


def test_a_filling_knows_where_it_failed(filling: Filling) -> None:
    """The first client not served is the one after those that were."""
    assert filling.failed_at == 3
    assert replace(filling, served=4).failed_at == 5
    assert replace(filling, served=9, error=None).failed_at is None


def keeps(url: str) -> bytearray:
    """A client that holds the whole body once."""
    from urllib.request import urlopen

    with urlopen(url) as response:
        # Not read(): since CVE-2025-13836 that makes room for more than it reads.
        body = bytearray(int(response.headers["Content-Length"]))
        rest = memoryview(body)
        while rest:
            rest = rest[response.readinto(rest) :]
        return body


def lets_go(url: str) -> None:
    """A client that holds one chunk."""
    from urllib.request import urlopen

    with urlopen(url) as response:
        while response.read(65536):
            pass


def breaks(url: str) -> None:
    """A client that gives up on the second file."""
    if not url.endswith("warmup.txt"):
        raise RuntimeError("not this one")


@pytest.mark.needs("linux")
def test_what_a_client_takes(launch: Launch, large: SampleFile) -> None:
    """A client that keeps the body grows by it, one that frees it does not; errors are reported."""
    with launch("streaming", large.path.parent) as server:
        assert near(measure_client(keeps, server, large.url), large.size)
        assert measure_client(lets_go, server, large.url) < 2 * MiB
        with pytest.raises(DownloadError, match="not this one"):
            measure_client(breaks, server, large.url)


@pytest.mark.needs("linux")
def test_on_one_cpu_are_this_thread_and_what_it_starts() -> None:
    ask = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
    before = os.sched_getaffinity(0)
    with pytest.raises(KeyError), on_one_cpu():
        assert len(os.sched_getaffinity(0)) == 1
        assert int(subprocess.check_output(ask)) == 1
        raise KeyError
    assert os.sched_getaffinity(0) == before


def test_where_no_cpu_can_be_chosen_all_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with on_one_cpu():
        pass


def test_waiting_may_end_in_failures(launch: Launch, tmp_path: Path) -> None:
    """With `may_fail`, downloads that break are results; without it they are an error."""
    sample = random_file(32 * MiB, folder=tmp_path)
    server = launch("streaming")
    with waiting(server, sample.url, 3, "slow", may_fail=True) as broken:
        server.stop()
    assert [each.failure in ("cut_short", "broken") for each in broken] == [True] * 3
    server = launch("streaming")
    with (
        pytest.raises(DownloadError, match="3 of 3 downloads failed"),
        waiting(server, sample.url, 3, "slow"),
    ):
        server.stop()
