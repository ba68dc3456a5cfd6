"""The parts of an answer that a reader returns (heads, chunks, data, ends), and its limits.

Sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The most bytes that a reader accepts of each part of an answer."""

    head: int
    line: int
    """Of the line with a chunk's size."""
    trailer: int
    body: int
    """Of the body without its framing, kept or not."""


Fields = list[tuple[str, str]]
"""Names and values of field lines, in their order."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer: its first line, its fields, and how its body ends."""

    raw: bytes
    """All of its bytes, with the empty line."""
    status: int
    headers: Fields
    length: int | None
    """The value of Content-Length; None if it is missing."""
    chunked: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """The line of a chunk: `size` bytes follow; 0 for the last chunk."""

    raw: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of the body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The end of the answer; the bytes after it are the reader's `rest`."""

    trailer: Fields


Part = Head | Chunk | Data | End
