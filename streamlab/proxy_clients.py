"""A gateway under test, its upstream at one end, and clients at the other who read in steps.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import http.client
import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import NoReturn

from streamlab.checks import (
    RawAnswer,
    connected,
    name_of,
    read_answer,
    request_for,
    shown,
    state_of,
)
from streamlab.files import KiB, MiB, size_text
from streamlab.origin import Exchange, Order, Origin
from streamlab.patience import Deadline, PatientSocket
from streamlab.server import Server, out_of_memory
from streamlab.testing import fail

LONG = 30.0
"""The silence that a gateway allows its upstream, where nothing should depend on it."""
PATIENCE = 6.0
"""Seconds without a byte after which an answer counts as hanging."""
WINDOW = 64 * KiB
"""What a client's kernel keeps for it (`SO_RCVBUF`)."""
NAP = 0.02
"""Seconds between two looks of who waits for something."""

Launch = Callable[..., Server]


# A gateway and its upstream


@dataclass
class Gateway:
    """A student's gateway that runs, and its upstream."""

    server: Server
    origin: Origin
    draw: Random

    def put(self, order: Order, *, metadata: bool = False) -> str:
        """Let the upstream have a file that it answers for so; the path of it, or its metadata."""
        path = f"/v1/files/file-{name_of(self.draw, '')}" + ("" if metadata else "/content")
        self.origin.put(path, order)
        return path

    def asked(self, path: str) -> list[Exchange]:
        """What the upstream was asked for under that path, and what became of it."""
        return [each for each in self.origin.exchanges if each.path == path]

    def fail(self, cause: str, story: str, by_hand: str = "") -> NoReturn:
        """End the check; `by_hand` is what to ask the origin of `python -m streamlab.origin` for.

        Whatever the story is, a gateway that ran out of memory has done so because of that.
        """
        state = state_of(self.server)
        if self.server.output_limit is not None:
            cause = "too_much_output"
        elif out_of_memory(self.server.recent_log()):
            cause = "whole_file"
        elif not self.server.running:
            cause = "died"
        line = f"curl -sS {by_hand}  # its upstream: python -m streamlab.origin --port 9000"
        fail(cause, f"{story}{state}", line if by_hand else "")


@contextmanager
def gateway(launch: Launch, draw: Random, timeout: float = LONG) -> Iterator[Gateway]:
    """A gateway that has been started, with an upstream behind it."""
    # On a crowded machine many clients who wait take their time: the upstream has more of it.
    with Origin(send_buffer=64 * KiB, patience=300.0) as origin:
        environment = {"STREAMLAB_UPSTREAM": origin.url, "STREAMLAB_TIMEOUT": f"{timeout:g}"}
        yield Gateway(launch(environment=environment), origin, draw)


def url(file: str, options: str = "-i") -> str:
    """Arguments of curl that ask a gateway started by hand for a sample of the origin's."""
    return f"{options} http://127.0.0.1:PORT/v1/files/{file}/content"


def waited_so_far(nap: float = NAP) -> Iterator[float]:
    """How long one has waited so far, and then a nap, again and again.

    Naps are counted, and not what the clock says: it also goes on while nobody on this machine
    does, and the gateway can't be told off for that. Nor do naps count in which it had no CPU.
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


def fetch(gate: Gateway, path: str, *headers: str, patience: float = PATIENCE) -> Fetched:
    """Ask for a path and read the answer, as long as it comes."""
    raw, closed, parsed = bytearray(), False, -1
    began, silent, look = time.monotonic(), 0.0, 0.2
    with suppress(OSError), connected(gate.server, patience) as sock:
        sock.sendall(request_for(path, *headers))
        sock.settimeout(look)
        while not closed and len(raw) < 64 * MiB:
            try:
                more = sock.recv(256 * KiB)
                closed, silent = not more, 0.0
                raw += more
            except TimeoutError:
                silent += look  # counted, as in `waited_so_far`
                # The end of an answer does not have to be that of the connection.
                if silent > patience or (len(raw) != parsed and _is_complete(bytes(raw))):
                    break
                parsed = len(raw)
            except ConnectionError:
                closed = True
    return Fetched(read_answer(bytes(raw), closed), closed, time.monotonic() - began)


def _is_complete(raw: bytes) -> bool:
    answer = read_answer(raw, closed=False)
    return answer.ended and not answer.problem


def expect(
    gate: Gateway, path: str, *headers: str, status: int, body: bytes, what: str, by_hand: str = ""
) -> RawAnswer:
    """Ask for a path: a well-formed answer with that status and body comes; else the check ends."""
    answer = fetch(gate, path, *headers).answer
    sent = "".join(f"\n    {header}" for header in headers)
    story = f"GET {path}, {what}.{sent}\nCame back:\n\n{shown(answer.raw, 500)}\n\n"
    if not answer.raw:
        gate.fail("no_answer", f"GET {path}, {what}.{sent}\nNothing came back.", by_hand)
    if answer.status and answer.status != status:
        gate.fail("wrong_status", f"{story}The status should be {status}.", by_hand)
    if answer.problem:
        cause = "cut_short" if answer.fault == "cut_short" else "malformed"
        gate.fail(cause, f"{story}{answer.problem}.", by_hand)
    if not answer.ended:
        gate.fail("no_end", f"{story}After {PATIENCE:g} s it had not come to its end.", by_hand)
    if answer.body != body:
        gate.fail("wrong_bytes", f"{story}The body is not the upstream's {len(body)} bytes.")
    return answer


class Visit:
    """A client who reads an answer in steps. Used as a context manager: its end is a departure."""

    def __init__(self, gate: Gateway, path: str, *headers: str, what: str) -> None:
        self.gate = gate
        self.story = f"GET {path}, {what}"
        self.began = time.monotonic()
        self.size = 0
        """Bytes of the body that have been read."""
        self.silence = "no_answer"
        """The likeliest cause when nothing comes."""
        self.sock = PatientSocket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        try:
            self.sock.connect(("127.0.0.1", int(gate.server.url.rpartition(":")[2])))
            self.sock.sendall(request_for(path, *headers))
        except OSError:
            self.close()
            gate.fail("died", f"{self.story}: nobody listens any more.")
        self.response = http.client.HTTPResponse(self.sock, method="GET")
        self._begun = False

    def take(self, size: int, source: Path | None = None, status: int = 200) -> None:
        """Read so many bytes of the body, and compare them with the file that they come from."""
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
        """See that nothing more comes."""
        with self._watched():
            if self.response.read(1):
                self.fail("wrong_bytes", "more came than the upstream sent")

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            cause = "no_end" if self.size else self.silence
            self.fail(cause, f"after {size_text(self.size)} nothing came for {PATIENCE:g} s")
        except (http.client.IncompleteRead, ConnectionError):
            cause = "cut_short" if self._begun else "no_answer"
            self.fail(cause, f"the connection broke after {size_text(self.size)}")
        except (http.client.HTTPException, ValueError) as error:
            self.fail("malformed", f"what came can't be read: {error!r}"[:300])

    def fail(self, cause: str, problem: str) -> NoReturn:
        """End the check with this client's story."""
        self.gate.fail(cause, f"{self.story}: {problem}.")

    def close(self) -> None:
        """Leave."""
        self.sock.close()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *exc: object) -> None:
        self.response.close()
        self.close()
