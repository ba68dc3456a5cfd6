"""Whole answers, read by an `AnswerReader`: what came, and what is wrong with it.

An `AnswerSoFar` keeps an answer that comes in pieces; `read_answer` reads one that has already
come. Sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamlab.errors import (
    AnswerError,
    Failure,
    TooLarge,
)
from streamlab.files import KiB, MiB
from streamlab.http.parts import Data, Fields, Limits
from streamlab.http.reader import NO_EMPTY_LINE, AnswerReader

WHOLE = Limits(head=1 * MiB, line=8 * KiB, trailer=64 * KiB, body=64 * MiB)
"""The usual limits for an answer that is kept whole."""


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came over the wire."""

    raw: bytes
    status: int
    headers: Fields
    body: bytes
    problem: str
    """What is wrong by RFC 9112, in a sentence; empty if nothing is."""
    ended: bool
    """Whether its end has come: by length, by the last chunk, or by a closed connection."""
    fault: Failure | None = None
    """The same in one word."""

    def header(self, name: str) -> str | None:
        """The value of a header (its name in lower case); None if it is missing."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class AnswerSoFar:
    """An answer that is kept as it comes, with interim answers (1xx) before it and bytes after it.

    `full` says that its limits are reached.
    """

    def __init__(self, limits: Limits = WHOLE, method: str = "GET") -> None:
        self.limits = limits
        self.method = method
        self.raw = bytearray()
        self.body = bytearray()
        self.error: AnswerError | None = None
        """What is wrong with it; None if nothing is so far."""
        self.closed = False
        self._reader = AnswerReader(limits, method)

    def feed(self, data: bytes) -> None:
        """Take more bytes of the connection. Bytes beyond the limits are not kept."""
        self.raw += data[: self._most - len(self.raw)]
        if self.error is None and not self.ended:
            self._reader.feed(data)
            self._read()

    def take(self, received: bytes) -> None:
        """Take what `recv` returned: bytes, or none if the connection was closed."""
        if received:
            self.feed(received)
        else:
            self.close()

    def close(self) -> None:
        """Note that the connection was closed."""
        self.closed = True
        if self.error is None and not self.ended:
            self._reader.close()
            self._read()

    def _read(self) -> None:
        try:
            for part in self._reader.parts():
                if isinstance(part, Data):
                    self.body += part.data
        except AnswerError as error:
            self.error = error

    @property
    def _most(self) -> int:
        return self.limits.head + self.limits.body

    @property
    def full(self) -> bool:
        """Whether no more can be kept, so there is no use in waiting for the rest."""
        return len(self.raw) >= self._most or isinstance(self.error, TooLarge)

    @property
    def status(self) -> int:
        """Its status; 0 if that has not come."""
        return self._reader.status

    @property
    def headers(self) -> Fields:
        """Its headers, as far as they have come."""
        return self._reader.headers

    @property
    def ended(self) -> bool:
        """Whether its end has come."""
        return self._reader.stage == "end"

    @property
    def goes_on(self) -> bool:
        """Whether more of it may come: it has not ended, and nothing is wrong with it."""
        return not (self.ended or self.error or self.closed)

    @property
    def whole(self) -> bool:
        """Whether it has ended, with no byte after its end."""
        return self.ended and len(self.raw) <= self._reader.position

    @property
    def surplus(self) -> bytes:
        """The bytes that have come after its end."""
        return bytes(self.raw[self._reader.position :]) if self.ended else b""

    def head_alone(self) -> RawAnswer:
        """Its head, as if nothing followed it; `problem` says what is wrong if there is no head."""
        head = self._reader.head
        if head is None:
            return self.answer()
        return RawAnswer(head.raw, head.status, list(head.headers), b"", "", ended=False)

    def answer(self) -> RawAnswer:
        """All of it so far, and what is wrong with it."""
        surplus = self.surplus
        head = self._reader.head
        if surplus and head is not None and not (head.chunked and self._reader.has_body):
            counted = head.length is not None
            ends = "body that Content-Length tells of" if counted else "end of the answer"
            told = f"{len(surplus)} bytes follow the {ends}"
            return self._answer(told, "too_many", surplus=surplus)
        if surplus:
            return self._answer(f"{len(surplus)} bytes follow the last chunk", ended=True)
        if not self.raw:
            return self._answer("nothing came back", "no_answer")
        if isinstance(self.error, TooLarge) and self.error.part in ("body", "chunk"):
            return self._answer("")  # more may come
        if isinstance(self.error, TooLarge):
            endless = self.error.part in ("status line", "head")
            return self._answer(str(self.error), "unfinished" if endless else "malformed")
        if self.error is not None:
            return self._answer(str(self.error), self.error.fault)
        if self._reader.stage in ("start", "head"):
            return self._answer(NO_EMPTY_LINE, "unfinished")
        return self._answer("", ended=self.ended)

    def _answer(
        self,
        problem: str,
        fault: Failure = "malformed",
        ended: bool = False,
        surplus: bytes = b"",
    ) -> RawAnswer:
        return RawAnswer(
            bytes(self.raw),
            self.status,
            list(self.headers),
            bytes(self.body) + surplus,
            problem,
            ended,
            fault if problem else None,
        )


def read_answer(raw: bytes, closed: bool, limits: Limits = WHOLE) -> RawAnswer:
    """Read the bytes of an answer; `closed` says whether the connection was closed after them."""
    so_far = AnswerSoFar(limits)
    for at in range(0, len(raw), 256 * KiB):
        so_far.feed(raw[at : at + 256 * KiB])
    if closed:
        so_far.close()
    return so_far.answer()
