"""Parts of lab 09's checks: answers read to their end, clients that read step by step."""

from __future__ import annotations

import ast
import random
import runpy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from stand_ins import source_of, stand_in

from streamlab.checks.outcome import CheckFailed
from streamlab.checks.probes.common import CHUNK
from streamlab.checks.proxy import breaks, clients, common, silence
from streamlab.checks.proxy.clients import Gateway, SteppedDownload, expect, fetch
from streamlab.files import MiB
from streamlab.labs.manifest import Lab
from streamlab.origin import Answer, Framing, Order, Origin

Becomes = Callable[[Callable[[], bool]], bool]

LAB = Lab(Path(__file__).parents[2] / "solutions" / "09_streaming_proxy")
BODY = Random(9).randbytes(300_000)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway whose clients talk to the origin directly."""
    # Tests without an answer wait that long, and on a busy machine each thread needs it.
    monkeypatch.setattr(clients, "ANSWER", 2.0)
    with Origin() as origin:
        server = stand_in(origin.url)
        yield Gateway(server, origin, Random(9))


def cause_of(error: pytest.ExceptionInfo[CheckFailed]) -> str:
    return error.value.cause


# Values in the stub


def test_the_checks_know_what_the_stub_gives() -> None:
    """Keys, names and which providers may stream are equal in the lab's program and its checks."""
    names = runpy.run_path(str(LAB.folder / "app.py"))
    providers, routes = names["PROVIDERS"], names["ROUTES"]
    assert set(common.ROUTES) == {None, *routes}
    for name, (key, may_stream) in common.ROUTES.items():
        provider = providers[routes[name or names["DEFAULT"]]]
        assert (provider.key, provider.may_stream) == (key, may_stream)


def test_every_cause_has_its_words() -> None:
    """lab.toml explains each cause that a check can find, and no others."""
    nodes = list(ast.walk(ast.parse(source_of("proxy/*.py"))))
    words = {
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    causes = set(LAB.manifest["causes"])
    assert causes - {"could_not_run"} <= words
    assert set(LAB.manifest["timing"]) <= causes
    for node in nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("gate.fail", "visit.fail"):
            cause = node.args[0]
            assert not isinstance(cause, ast.Constant) or cause.value in causes


# Random numbers


class Seen(Exception):
    """Ends a thread once its first draw was seen."""


def first_draws(seed: int, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """The first answer and the first path that each thread of a check draws.

    Each thread first sleeps for a different time, as on a busy machine.
    """
    drawn = set()

    class Late(Gateway):
        def put(self, order: Order, *, metadata: bool = False) -> str:
            time.sleep(random.random() / 10)
            path = super().put(order, metadata=metadata)
            drawn.add((f"{type(order).__name__} {order!r}"[:200], path))
            raise Seen

    @contextmanager
    def fake_gateway(launch: object, rng: Random, timeout: float) -> Iterator[Gateway]:
        yield Late(stand_in(""), SimpleNamespace(put=lambda *_: None), rng)  # type: ignore[arg-type]

    monkeypatch.setattr(silence, "gateway", fake_gateway)
    monkeypatch.setattr(silence, "alone", lambda gate: None)
    with pytest.raises(Seen):
        silence.waits_as_told(lambda: None, Random(seed), scratch)  # type: ignore[arg-type,return-value]
    return drawn


def test_a_seed_gives_the_same_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread draws from a source of its own, so their order does not matter."""
    one, two = (first_draws(1, tmp_path, monkeypatch) for _ in range(2))
    assert len(one) > 9 and one == two
    assert one.isdisjoint(first_draws(2, tmp_path, monkeypatch))


# Clients


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_whole_answer(gate: Gateway, framing: Framing) -> None:
    """An answer is complete in every framing."""
    path = gate.put(Answer(BODY, framing=framing))
    found = fetch(gate, path)
    assert found.complete and found.answer.body == BODY
    assert expect(gate, path, status=200, body=BODY, what="a file").status == 200
    assert [each.path for each in gate.asked(path)] == [path, path]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(BODY, stop=100_000),
        Answer(BODY, stop=100_000, reset=True),
        Answer(BODY, framing="chunked", stop=100_000),
        Answer(BODY, framing="chunked", last_chunk=False),
        Answer(status=0),
    ],
)
def test_a_broken_answer(gate: Gateway, answer: Answer) -> None:
    """A broken answer is closed, and not complete."""
    found = fetch(gate, gate.put(answer))
    assert found.closed and not found.complete


def test_an_answer_without_end(gate: Gateway) -> None:
    """A client that waits for the rest gives up after its patience."""
    found = fetch(gate, gate.put(Answer(BODY, stop=100_000, stall=True)), patience=2)
    assert not found.closed and not found.complete
    assert len(found.answer.body) == 100_000


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Answer(BODY, 404), "wrong_status"),
        (Answer(BODY[:-1]), "wrong_bytes"),
        (Answer(BODY, stop=100), "cut_short"),
        (Answer(BODY, framing="chunked", last_chunk=False), "cut_short"),
        (Answer(status=0), "no_answer"),
        (Answer(BODY, headers=(("Transfer-Encoding", "chunked"),)), "malformed"),
    ],
)
def test_what_was_not_expected_has_its_cause(gate: Gateway, answer: Answer, cause: str) -> None:
    with pytest.raises(CheckFailed) as error:
        expect(gate, gate.put(answer), status=200, body=BODY, what="a file")
    assert cause_of(error) == cause


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Answer(BODY[:100_000]), "truncation_hidden"),
        (Answer(BODY, stop=100_000), "not_buffered"),
        (Answer(BODY, 500), "wrong_status"),
    ],
)
def test_half_a_file_of_the_lake_has_its_cause(gate: Gateway, answer: Answer, cause: str) -> None:
    """A gateway that takes in half a file makes another mistake than one that streams it."""
    with pytest.raises(CheckFailed) as error:
        common.expect_error(gate, gate.put(answer), what="", cause="not_buffered", by_hand="")
    assert cause_of(error) == cause


@pytest.mark.parametrize(
    ("answer", "cause"),
    [(Answer(BODY[:100_000]), "truncation_hidden"), (Answer(BODY, 500), "wrong_status")],
)
def test_a_break_that_is_not_told_has_its_cause(gate: Gateway, answer: Answer, cause: str) -> None:
    """A whole answer with an error status hides nothing from the client."""
    with pytest.raises(CheckFailed) as error:
        breaks._expect_broken(gate, answer, BODY, "60 %", "cut")
    assert cause_of(error) == cause


def test_no_answer_is_no_wrong_status(gate: Gateway) -> None:
    """If nothing comes, either the connection was closed or the client still waits."""
    for answer, cause in ((Answer(status=0), "no_answer"), (Answer(status=0, stall=True), "hangs")):
        with pytest.raises(CheckFailed) as error:
            common.expect_error(
                gate, gate.put(answer), what="", cause="begins_early", by_hand="", patience=1
            )
        assert cause_of(error) == cause


class Spoilt(Gateway):
    """An upstream that sends one answer in place of all others."""

    instead = Answer()

    def put(self, order: object, *, metadata: bool = False) -> str:
        return super().put(self.instead, metadata=metadata)


def spoilt(gate: Gateway, instead: Answer) -> Gateway:
    """The same gateway with that answer for all paths."""
    gateway = Spoilt(gate.server, gate.origin, gate.rng)
    gateway.instead = instead
    return gateway


def test_a_slow_download_that_breaks_at_once_was_not_cut_for_being_slow(gate: Gateway) -> None:
    """A limit on the whole can be the cause only after that much time."""
    lines = b"".join(b"%-63d\n" % number for number in range(16))
    with pytest.raises(CheckFailed) as error:
        silence._trickle(spoilt(gate, Answer(lines, stop=128)))
    assert cause_of(error) == "cut_short"


def test_a_slow_download_that_breaks_in_the_end(
    gate: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "TIMEOUT", 1.0)
    lines = b"".join(b"%-63d\n" % number for number in range(16))
    with pytest.raises(CheckFailed) as error:
        silence._trickle(spoilt(gate, Answer(lines, stop=704, piece=64, pause=0.15)))
    assert cause_of(error) == "cuts_the_slow"


def test_a_slow_client_whose_download_broke_before_it_paused(
    gate: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The download was cut short, and not because of the pause."""
    monkeypatch.setattr(silence, "TIMEOUT", 0.2)
    path = tmp_path / "short"
    path.write_bytes(bytes(200_000))
    monkeypatch.setattr(silence, "file_with_islands", lambda *_: path)
    with pytest.raises(CheckFailed) as error:
        silence._slow_client(spoilt(gate, Answer(path, stop=150_000)), tmp_path)
    assert cause_of(error) == "cut_short"


@pytest.mark.parametrize(
    ("instead", "cause"),
    [
        (Answer(b"sea"), "wrong_besides"),
        (Answer(status=0), "wrong_besides"),
        (Answer(status=0, stall=True), "blocks"),
    ],
)
def test_others_are_blocked_only_if_nothing_comes(
    gate: Gateway, instead: Answer, cause: str
) -> None:
    with pytest.raises(CheckFailed) as error:
        silence._others_go_on(spoilt(gate, instead))
    assert cause_of(error) == cause


def test_a_visit_reads_in_steps(gate: Gateway, tmp_path: Path) -> None:
    """It compares what comes with its source, and sees the end."""
    (tmp_path / "body").write_bytes(BODY)
    for framing in ("length", "chunked"):
        path = gate.put(Answer(BODY, framing=framing))
        with SteppedDownload(gate, path, what="a file") as visit:
            visit.take(CHUNK, tmp_path / "body")
            visit.take(len(BODY) - CHUNK, tmp_path / "body")
            visit.ends()


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Answer(BODY, 500), "wrong_status"),
        (Answer(BODY, stop=100_000), "cut_short"),
        (Answer(BODY, framing="chunked", stop=100_000), "cut_short"),
        (Answer(BODY, stop=100_000, stall=True), "no_end"),
        (Answer(status=0, stall=True), "no_answer"),
        (Answer(status=0), "no_answer"),
        (Answer(BODY[:-1] + b"?"), "wrong_bytes"),
        (Answer(BODY + b"?"), "wrong_bytes"),
    ],
)
def test_a_visit_that_fails_has_its_cause(
    gate: Gateway, tmp_path: Path, answer: Answer, cause: str
) -> None:
    (tmp_path / "body").write_bytes(BODY)
    with (
        pytest.raises(CheckFailed) as error,
        SteppedDownload(gate, gate.put(answer), what="a file") as visit,
    ):
        visit.take(len(BODY), tmp_path / "body")
        visit.ends()
    assert cause_of(error) == cause


@pytest.mark.parametrize("first", [0, 1000])
def test_a_visit_ends_with_a_departure(gate: Gateway, becomes: Becomes, first: int) -> None:
    """The other side sees the departure at once, even if nothing was read."""
    path = gate.put(Answer(bytes(50 * MiB)))
    with SteppedDownload(gate, path, what="a file") as visit:
        if first:
            visit.take(first)
        assert becomes(lambda: bool(gate.asked(path)))
    assert becomes(lambda: gate.asked(path)[0].left)


def test_nobody_listens(gate: Gateway) -> None:
    gate.origin.refuse()
    with pytest.raises(CheckFailed) as error:
        SteppedDownload(gate, "/v1/files/a/content", what="a file")
    assert cause_of(error) == "died"
    assert fetch(gate, "/v1/files/a/content").answer.raw == b""


def test_want_of_memory_goes_before_all_else(
    gate: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lack of memory is the cause, whatever a client saw."""
    monkeypatch.setattr(gate.server, "recent_log", lambda: "MemoryError")
    with pytest.raises(CheckFailed) as error:
        gate.fail("no_answer", "A story.")
    assert cause_of(error) == "whole_file"
    monkeypatch.setattr(gate.server, "output_limit", 512 * MiB)
    with pytest.raises(CheckFailed) as error:
        gate.fail("no_answer", "A story.")
    assert cause_of(error) == "too_much_output"


def test_want_of_memory_long_ago_is_no_cause(gate: Gateway) -> None:
    """A log line of another request is no cause for this one."""
    gate.server.log = lambda: "MemoryError"  # type: ignore[method-assign]
    with pytest.raises(CheckFailed) as error:
        gate.fail("no_answer", "A story.")
    assert cause_of(error) == "no_answer"


# The log


@pytest.mark.parametrize(
    ("written", "cause"),
    [
        ("download file-a success", ""),
        ("12:00 INFO download file-a success", ""),
        ("download file-ab success", "not_logged"),
        ("", "not_logged"),
        ("download file-a failure", "logged_wrong"),
        ("download file-a success\ndownload file-a success", "logged_twice"),
    ],
)
def test_the_log_is_read(gate: Gateway, written: str, cause: str) -> None:
    """The log needs one line, for this download, with this outcome."""
    gate.server.log = lambda: f"listening on x\n{written}\n"  # type: ignore[method-assign]
    try:
        common.expect_line(gate, "/v1/files/file-a/content", "success", "all of it")
    except CheckFailed as error:
        assert error.cause == cause
    else:
        assert not cause
