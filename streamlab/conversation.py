"""The bytes of a conversation as a client reads them: line by line, every CR LF to be seen.

    wire(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")

shows four lines, each with what a client takes it for. Where the bytes are out of step with the
rules (RFC 9112), the line on which a client stumbles says so.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["start", "field", "end", "chunk", "body", "fault"]

LIVE = ("date", "last-modified", "server", "user-agent")
"""Fields whose value differs from run to run or from machine to machine, in lower case."""

RENAMED = (413, 414, 416, 422)
"""Statuses whose words differ between Python's versions: 3.13 took those of RFC 9110."""

_START = re.compile(rb"HTTP/\d\.\d (\d{3})\b")
_REQUEST = re.compile(rb"[A-Z]+ \S+ HTTP/\d\.\d$")
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(;.*)?$")


@dataclass(frozen=True)
class Line:
    """Some bytes of a conversation, and what a client takes them for."""

    data: bytes
    role: Role
    meaning: str
    first: bool = False
    """Whether a message begins here."""


class Wire:
    """What came over a connection, one row a line; end a cell with it."""

    def __init__(
        self,
        data: bytes,
        asked: Sequence[str] = (),
        live: Collection[str] = LIVE,
        most: int = 60,
    ) -> None:
        self.lines = read(data, asked)
        self._live = {name.lower() for name in live}
        self._most = most

    def __repr__(self) -> str:
        shown = [self._text(line) for line in self.lines]
        width = max(map(len, shown), default=0)
        rows: list[str] = []
        for text, line in zip(shown, self.lines, strict=True):
            gap = "\n" if line.first and rows else ""
            rows.append(f"{gap}{text:<{width}}   {line.meaning}".rstrip(" "))
        return "\n".join(rows)

    def _repr_mimebundle_(self, **options: object) -> dict[str, Any]:
        return {"text/plain": repr(self), "text/html": self._html()}

    def _split(self, line: Line) -> tuple[bytes, str]:
        """A line as it is shown, and the value that is left out of it, being live."""
        name, colon, value = line.data.partition(b":")
        if line.role == "field" and colon and name.decode("latin-1").lower() in self._live:
            return name + b": ...\r\n", value.strip().decode("latin-1")
        found = _START.match(line.data) if line.role == "start" else None
        if found and int(found[1]) in RENAMED:
            words = line.data[found.end() :].strip()
            return found[0] + b" ...\r\n", words.decode("latin-1")
        return line.data, ""

    def _text(self, line: Line) -> str:
        return _visible(self._split(line)[0], self._most)

    def _html(self) -> str:
        rows = []
        for number, line in enumerate(self.lines):
            data, value = self._split(line)
            text = html.escape(_visible(data, self._most))
            text = text.replace("\\r", _chip("CR")).replace("\\n", _chip("LF"))
            style = f"{_CELL};{_GAP}" if line.first and number else _CELL
            kind = ' class="live"' if value else ""
            rows.append(
                f'<tr><td style="{style};{_MONO};{_ROLES[line.role]}">{text}</td>'
                f'<td{kind} style="{style};opacity:.75">{html.escape(value)}</td>'
                f'<td style="{style};opacity:.75">{html.escape(line.meaning)}</td></tr>'
            )
        return f'<table style="{_TABLE}">{"".join(rows)}</table>'


def wire(
    data: bytes, asked: Sequence[str] = (), live: Collection[str] = LIVE, most: int = 60
) -> Wire:
    """Show the bytes of requests, or of answers, line by line.

    `asked` are the methods of the requests that the answers belong to (those not named: GET), since
    an answer to HEAD has no body. The values of `live` fields stand in the live cell alone, and so
    do the words of a status that Python's versions name differently (RFC 9112, section 4: a client
    ignores them). Of a long line the first and the last bytes are shown, about `most` characters
    in all.
    """
    return Wire(data, asked, live, most)


def read(data: bytes, asked: Sequence[str] = ()) -> list[Line]:
    """All lines of a conversation, as a client takes them (RFC 9112, sections 2, 6.3 and 7.1)."""
    lines: list[Line] = []
    methods = list(asked)
    while data:
        method = methods.pop(0) if methods else "GET"
        message, data = _message(data, method)
        lines += message
    return lines


def _message(data: bytes, method: str) -> tuple[list[Line], bytes]:
    """The lines of the next message, and what is left after it."""
    head, rest = _head(data)
    start = head[0].data.rstrip(b"\r\n")
    found = _START.match(start)
    if found is None and not _REQUEST.match(start):
        return [Line(data, "fault", "no status line: out of step", first=True)], b""
    if head[-1].role != "end":
        return [*head, Line(b"", "fault", "no empty line: the head does not end")], b""
    body, rest = _body(head, rest, method, int(found[1]) if found else None)
    return head + body, rest


def _head(data: bytes) -> tuple[list[Line], bytes]:
    lines: list[Line] = []
    while data and (not lines or lines[-1].role != "end"):
        line, found, data = data.partition(b"\n")
        line += found
        if not lines:
            what = "request line" if _REQUEST.match(line.rstrip(b"\r\n")) else "status line"
            lines.append(Line(line, "start", what, first=True))
        elif line in (b"\r\n", b"\n"):
            lines.append(Line(line, "end", "the head ends"))
        else:
            lines.append(Line(line, "field", ""))
    return lines, data


def _fields(head: list[Line]) -> dict[str, str]:
    pairs = (line.data.decode("latin-1").partition(":") for line in head if line.role == "field")
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _body(
    head: list[Line], data: bytes, method: str, status: int | None
) -> tuple[list[Line], bytes]:
    """The body's lines, by the first rule that applies (RFC 9112, section 6.3)."""
    fields = _fields(head)
    if status is not None and (method == "HEAD" or status < 200 or status in (204, 304)):
        head[-1] = Line(head[-1].data, "end", "the answer ends: no body")
        return [], data
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return _chunks(data)
    length = fields.get("content-length", "0" if status is None else "")
    if length.isdecimal():
        size = int(length)
        if len(data) < size:
            text = f"{len(data):,} bytes of {size:,}: cut short"
            return [Line(data, "fault", text)], b""
        return ([Line(data[:size], "body", f"body: {size:,} bytes")] if size else []), data[size:]
    return [Line(data, "body", f"body: {len(data):,} bytes, until the connection closed")], b""


def _chunks(data: bytes) -> tuple[list[Line], bytes]:
    lines: list[Line] = []
    while True:
        line, end, rest = data.partition(b"\r\n")
        found = _CHUNK.match(line)
        if not end or found is None:
            what = "no size of a chunk: out of step" if data else "no last chunk: cut short"
            return [*lines, Line(data, "fault", what)], b""
        size = int(found[1], 16)
        if size == 0:
            lines.append(Line(line + end, "chunk", "a chunk of 0 bytes: the last one"))
            break
        lines.append(Line(line + end, "chunk", f"a chunk of {size:,} bytes"))
        piece, data = rest[: size + 2], rest[size + 2 :]
        if piece[size:] != b"\r\n":
            short = len(piece) < size + 2
            what = f"{len(piece):,} bytes: cut short" if short else "longer than its size says"
            return [*lines, Line(piece + data, "fault", what)], b""
        lines.append(Line(piece, "body", f"body: {size:,} bytes, and the end of the line"))
    while True:  # trailer fields, if there are any, and the empty line
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            return [*lines, Line(line, "fault", "no empty line: cut short")], b""
        if not line:
            return [*lines, Line(end, "end", "the answer ends")], rest
        lines.append(Line(line + end, "field", "a trailer"))


# How it looks

_TABLE = "border-collapse:collapse;font-size:13px;margin:6px 0"
_CELL = "text-align:left;padding:1px 18px 1px 6px;white-space:nowrap"
_GAP = "border-top:2px dashed rgba(128,128,128,.5)"
_MONO = "font-family:monospace;white-space:pre"
_ROLES: dict[Role, str] = {
    "start": "font-weight:bold",
    "field": "",
    "end": "",
    "chunk": "color:#b7791f;font-weight:bold",
    "body": "background:rgba(31,119,164,.14)",
    "fault": "background:rgba(192,57,43,.18);color:#c0392b",
}


def _chip(text: str) -> str:
    """A control character as a small box."""
    style = "font-size:9px;border:1px solid rgba(128,128,128,.6);border-radius:3px"
    return f'<span style="{style};padding:0 2px;margin-left:2px;opacity:.7">{text}</span>'


def _visible(data: bytes, most: int) -> str:
    """Bytes as text, those that can't be read escaped as Python does it."""
    if len(data) <= most:
        return _escaped(data)
    return f"{_escaped(data[: most - 20])} ... {_escaped(data[-15:])}"


def _escaped(data: bytes) -> str:
    short = {10: "\\n", 13: "\\r", 9: "\\t"}
    return "".join(
        short.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in data
    )
