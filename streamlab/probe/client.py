"""The probe's clients: GET and HEAD over a socket, answers read strictly, all of it bounded.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from streamlab.errors import AnswerError, ProbeError
from streamlab.files import KiB, MiB, TiB, size_text
from streamlab.http.parts import Data, End, Fields, Head, Limits, Part
from streamlab.http.reader import AnswerReader
from streamlab.probe.target import Target
from streamlab.process.patience import PatientSocket

LIMITS = Limits(head=256 * KiB, line=8 * KiB, trailer=64 * KiB, body=1024 * TiB)
"""Of an answer. Nothing of its body is kept."""
PIECE = 256 * KiB


class LimitReached(ProbeError):
    """The probe has read, or waited, as much as it may."""


@dataclass
class Budget:
    """What a probe may cost at most, and what it has cost."""

    most_bytes: int = 8 * 1024 * MiB
    most_seconds: float = 120.0
    most_connections: int = 150
    patience: float = 10.0
    """For how many seconds one answer may bring nothing."""
    received: int = 0
    connections: int = 0
    began: float = field(default_factory=time.monotonic)

    def connect(self) -> None:
        """Count a connection; raises `LimitReached`."""
        self.look()
        if self.connections >= self.most_connections:
            raise LimitReached(
                f"more than {self.most_connections} connections: raise --connections"
            )
        self.connections += 1

    def count(self, size: int) -> None:
        """Count bytes; raises `LimitReached`."""
        self.received += size
        self.look()
        if self.received > self.most_bytes:
            limit = size_text(self.most_bytes)
            raise LimitReached(f"more than {limit} came: give a smaller file, or raise --bytes")

    def look(self) -> None:
        """Raises `LimitReached` if the time is up."""
        if time.monotonic() > self.began + self.most_seconds:
            raise LimitReached(f"more than {self.most_seconds:g} s were needed: raise --seconds")


class Client:
    """One connection to a target, a context manager. It sends GET and HEAD, and nothing else.

    `buffer` is what it asks the kernel to keep for it (SO_RCVBUF); None: the kernel chooses.
    """

    def __init__(self, target: Target, budget: Budget, buffer: int | None = None) -> None:
        budget.connect()
        self.target = target
        self.budget = budget
        self.reader = AnswerReader(LIMITS)
        self.closed = False
        """Whether the server has closed the connection."""
        self.sock = PatientSocket(socket.AF_INET6 if target.ipv6 else socket.AF_INET)
        try:
            if buffer is not None:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self.sock.settimeout(budget.patience)
            self.sock.connect((target.address, target.port))
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def ask(self, method: str = "GET", *fields: str, last: bool = False) -> None:
        """Send a request; `last` asks the server to close the connection after its answer."""
        if method not in ("GET", "HEAD"):
            raise ValueError(method)
        came = self.reader.rest
        self.reader = AnswerReader(LIMITS, method)
        self.reader.feed(came)
        lines = [
            f"{method} {self.target.path} HTTP/1.1",
            f"Host: {self.target.host}",
            "User-Agent: streamlab-probe",
            "Accept-Encoding: identity",
            *fields,
            *(["Connection: close"] if last else []),
        ]
        with suppress(ConnectionError):  # it was closed before: the answer says so
            self.sock.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii"))

    def parts(self, piece: int = PIECE) -> Iterator[Part]:
        """The rest of the answer, part by part, with at most `piece` bytes of it taken at a time.

        Raises `AnswerError`, `TimeoutError` if nothing comes, and `LimitReached`.
        """
        while self.reader.stage != "end":
            while (part := self.reader.next()) is not None:
                yield part
                if isinstance(part, End):
                    return
            self._receive(piece)

    def head(self) -> Head:
        """The head of the answer, without interim answers (RFC 9110, section 15.2)."""
        for part in self.parts(16 * KiB):
            if isinstance(part, Head) and part.status >= 200:
                return part
        raise AssertionError  # an answer has a head, or its reader has raised an error

    def body(self, most: int, piece: int = PIECE) -> bytes:
        """The next bytes of the body: those up to its end, or `most` and what came along."""
        data = bytearray()
        for part in self.parts(piece) if most else ():
            if isinstance(part, Data):
                data += part.data
                if len(data) >= most:
                    break
        return bytes(data)

    def closes(self) -> bytes:
        """Wait until the server closes; returns what it still sent, of which 64 KiB are enough.

        Raises `TimeoutError` if it does not close.
        """
        came = self.reader.rest
        while not self.closed and len(came) < 64 * KiB:
            came += self._recv(PIECE)
        return came

    def _receive(self, piece: int) -> None:
        if data := self._recv(piece):
            self.reader.feed(data)
        else:
            self.reader.close()

    def _recv(self, piece: int) -> bytes:
        self.budget.look()
        try:
            data = self.sock.recv(piece)
        except ConnectionError:
            data = b""
        self.closed = not data
        self.budget.count(len(data))
        return data


def stays_open(head: Head) -> bool:
    """Whether an answer says that its connection stays open (RFC 9112, section 9.3)."""
    options = {option.strip().lower() for option in field_of(head.headers, "connection").split(",")}
    if "close" in options:
        return False
    return "keep-alive" in options or not head.raw.startswith(b"HTTP/1.0")


def field_of(headers: Fields, name: str) -> str:
    """The value of a field (its name in lower case), several joined by commas; empty if none."""
    return ", ".join(value for key, value in headers if key.lower() == name)


def told(error: Exception) -> str:
    """What went wrong in an exchange, in words."""
    if isinstance(error, TimeoutError):
        return "nothing more came"
    if isinstance(error, AnswerError):
        return error.what
    return str(error)
