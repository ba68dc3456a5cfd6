"""A gateway under test, its upstream, and clients that read step by step.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import http.client
import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from random import Random
from typing import NoReturn

from streamlab.checks.evidence import shown, state_of
from streamlab.checks.exchange import connected, request_for
from streamlab.checks.outcome import fail
from streamlab.checks.probes.common import name_of
from streamlab.checks.waits import ANSWER
from streamlab.files import KiB, size_text
from streamlab.http.answer import AnswerSoFar, RawAnswer
from streamlab.origin import Exchange, Order, Origin
from streamlab.process.patience import Deadline, PatientSocket
from streamlab.process.server import Server, out_of_memory

LONG = 30.0
"""Seconds of silence that a gateway allows its upstream in checks of other things."""

WINDOW = 64 * KiB
"""A client's receive buffer (`SO_RCVBUF`), in bytes."""
NAP = 0.02
"""Seconds between two looks, while a check waits for something."""


Launch = Callable[..., Server]


# A gateway and its upstream


@dataclass
class Gateway:
    """A running gateway of a student, and its upstream."""

    server: Server
    origin: Origin
    rng: Random

    def for_thread(self) -> Gateway:
        """The same gateway for another thread, with random numbers of its own.

        They are drawn from this one's. If threads shared a source, the order in which they draw
        would be accidental, and a seed would not repeat a run.
        """
        return replace(self, rng=Random(self.rng.getrandbits(64)))

    def put(self, order: Order, *, metadata: bool = False) -> str:
        """Give the upstream a file and its answer; returns the path to ask the gateway for."""
        path = f"/v1/files/file-{name_of(self.rng, '')}" + ("" if metadata else "/content")
        self.origin.put(path, order)
        return path

    def asked(self, path: str) -> list[Exchange]:
        """The requests that the upstream got for that path, and the state of their answers."""
        return [each for each in self.origin.exchanges if each.path == path]

    def fail(self, cause: str, summary: str, by_hand: str = "") -> NoReturn:
        """End the check. `by_hand` names a sample of `python -m streamlab.origin` that shows the
        same.

        If the gateway has run out of memory, that is the cause, whatever else was seen.
        """
        state = state_of(self.server)
        if self.server.output_limit is not None:
            cause = "too_much_output"
        elif out_of_memory(self.server.recent_log()):
            cause = "whole_file"
        elif not self.server.running:
            cause = "died"
        line = f"curl -sS {by_hand}  # its upstream: python -m streamlab.origin --port 9000"
        fail(cause, f"{summary}{state}", line if by_hand else "")


@contextmanager
def gateway(launch: Launch, rng: Random, timeout: float = LONG) -> Iterator[Gateway]:
    """A started gateway with an upstream behind it."""
    # On a busy machine many clients take their time, so the upstream allows more of it.
    with Origin(send_buffer=64 * KiB, patience=300.0) as origin:
        environment = {"STREAMLAB_UPSTREAM": origin.url, "STREAMLAB_TIMEOUT": f"{timeout:g}"}
        yield Gateway(launch(environment=environment), origin, rng)


def url(file: str, options: str = "-i") -> str:
    """Arguments with which curl asks a gateway, started by hand, for a sample of the origin."""
    return f"{options} http://127.0.0.1:PORT/v1/files/{file}/content"


def waited_so_far(nap: float = NAP) -> Iterator[float]:
    """Yields the seconds waited so far, sleeps for `nap` seconds, and so on.

    Naps are counted, and not the clock's seconds, because the clock also runs while nothing on this
    machine does. Naps in which the gateway had no CPU do not count either.
    """
    clock = Deadline(math.inf)
    for naps in count():
        yield min(naps * nap, clock.spent)
        time.sleep(nap)


# Clients


@dataclass(frozen=True)
class Fetched:
    """An answer as it came, and whether the connection was closed at its end."""

    answer: RawAnswer
    closed: bool
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether a client takes it for a whole answer."""
        return self.answer.ended and not self.answer.problem


def fetch(gate: Gateway, path: str, *headers: str, patience: float = ANSWER) -> Fetched:
    """Ask for a path and read the answer until it ends, or stops for `patience` seconds."""
    so_far, began, silent, look = AnswerSoFar(), time.monotonic(), 0.0, 0.2
    with suppress(OSError), connected(gate.server, patience) as sock:
        sock.sendall(request_for(path, *headers))
        sock.settimeout(look)
        while not (so_far.closed or so_far.full):
            try:
                so_far.take(sock.recv(256 * KiB))
                silent = 0.0
            except TimeoutError:
                silent += look  # counted, as in `waited_so_far`
                # The end of an answer need not be the end of the connection.
                if silent > patience or so_far.whole:
                    break
            except ConnectionError:
                so_far.close()
    return Fetched(so_far.answer(), so_far.closed, time.monotonic() - began)


def expect(
    gate: Gateway, path: str, *headers: str, status: int, body: bytes, what: str, by_hand: str = ""
) -> RawAnswer:
    """Ask for a path. The check fails unless a well-formed answer has this status and body."""
    answer = fetch(gate, path, *headers).answer
    sent = "".join(f"\n    {header}" for header in headers)
    summary = f"GET {path}, {what}.{sent}\nCame back:\n\n{shown(answer.raw, 500)}\n\n"
    if not answer.raw:
        gate.fail("no_answer", f"GET {path}, {what}.{sent}\nNothing came back.", by_hand)
    if answer.status and answer.status != status:
        gate.fail("wrong_status", f"{summary}The status should be {status}.", by_hand)
    if answer.problem:
        cause = "cut_short" if answer.fault == "cut_short" else "malformed"
        gate.fail(cause, f"{summary}{answer.problem}.", by_hand)
    if not answer.ended:
        gate.fail("no_end", f"{summary}After {ANSWER:g} s it had not come to its end.", by_hand)
    if answer.body != body:
        gate.fail("wrong_bytes", f"{summary}The body is not the upstream's {len(body)} bytes.")
    return answer


class SteppedDownload:
    """A client that reads an answer step by step. A context manager: at its end it leaves."""

    def __init__(self, gate: Gateway, path: str, *headers: str, what: str) -> None:
        self.gate = gate
        self.summary = f"GET {path}, {what}"
        self.began = time.monotonic()
        self.size = 0
        """Bytes of the body that have been read."""
        self.silence = "no_answer"
        """The likeliest cause when nothing comes."""
        self.sock = PatientSocket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        try:
            self.sock.connect(("127.0.0.1", int(gate.server.url.rpartition(":")[2])))
            self.sock.sendall(request_for(path, *headers))
        except OSError:
            self.close()
            gate.fail("died", f"{self.summary}: nothing listens any more.")
        self.response = http.client.HTTPResponse(self.sock, method="GET")
        self._begun = False

    def take(self, size: int, source: Path | None = None, status: int = 200) -> None:
        """Read `size` bytes of the body, and compare them with the file `source`."""
        with self._watched(), ExitStack() as files:
            if not self._begun:
                self.response.begin()
                self._begun = True
            if self.response.status != status:
                self.fail("wrong_status", f"the status is {self.response.status}, not {status}")
            file = files.enter_context(source.open("rb", buffering=0)) if source else None
            goal = self.size + size
            while self.size < goal:
                piece = self.response.read1(min(goal - self.size, 256 * KiB))
                if not piece:
                    self.fail("cut_short", f"cut short after {size_text(self.size)}")
                if file is not None:
                    file.seek(self.size)
                    if file.read(len(piece)) != piece:
                        self.fail("wrong_bytes", "what came is not what the upstream sent")
                self.size += len(piece)

    def ends(self) -> None:
        """The check fails if more bytes come."""
        with self._watched():
            if self.response.read1(1):  # read(1) takes all that comes for a chunk of -1 bytes
                self.fail("wrong_bytes", "more came than the upstream sent")

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            cause = "no_end" if self.size else self.silence
            self.fail(cause, f"after {size_text(self.size)} nothing came for {ANSWER:g} s")
        except (http.client.IncompleteRead, ConnectionError):
            cause = "cut_short" if self._begun else "no_answer"
            self.fail(cause, f"the connection broke after {size_text(self.size)}")
        except (http.client.HTTPException, ValueError, OverflowError) as error:
            self.fail("malformed", f"what came can't be read: {error!r}"[:300])

    def fail(self, cause: str, problem: str) -> NoReturn:
        """End the check, with what this client saw as evidence."""
        self.gate.fail(cause, f"{self.summary}: {problem}.")

    def close(self) -> None:
        """Leave."""
        self.sock.close()

    def __enter__(self) -> SteppedDownload:
        return self

    def __exit__(self, *exc: object) -> None:
        self.response.close()
        self.close()
