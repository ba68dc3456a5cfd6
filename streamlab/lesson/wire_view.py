"""The bytes of a conversation as a client reads them: line by line, every CR LF to be seen.

    wire(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")

shows four lines, each with what a client takes it for. Where the bytes are out of step with the
rules (RFC 9112), the line on which a strict client stumbles says so: they are read by an
`AnswerReader` of `streamlab.http.answer`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from streamlab.errors import AnswerError, CutShort
from streamlab.http.parts import Chunk, End, Head, Limits
from streamlab.http.reader import AnswerReader, RequestReader
from streamlab.lesson.looks import table_style

Role = Literal["start", "field", "end", "chunk", "body", "fault"]

LIVE = ("date", "last-modified", "server", "user-agent")
"""Fields whose value differs from run to run or from machine to machine, in lower case."""
RENAMED = (413, 414, 416, 422)
"""Statuses whose words differ between Python's versions: 3.13 took those of RFC 9110."""

_START = re.compile(rb"HTTP/\d\.\d (\d{3})\b")
_REQUEST = re.compile(rb"[A-Z]+ \S+ HTTP/\d\.\d\r\n")


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
    limits = Limits(*[len(data) + 2] * 4)
    if _REQUEST.match(data):
        reader: AnswerReader = RequestReader(limits, coding_wins=True)
    else:
        reader = AnswerReader(limits, method, coding_wins=True)
    reader.feed(data)
    reader.close()
    lines: list[Line] = []
    begins = 0
    """Where what comes next begins."""
    try:
        for part in reader.parts():
            match part:
                case Head():
                    ends = "the head ends" if reader.has_body else "the answer ends: no body"
                    lines += _head(part.raw, ends)
                    begins = reader.position
                case Chunk():
                    lines += _chunk(data[begins : reader.position - len(part.raw)])
                    what = f"a chunk of {part.size:,} bytes"
                    what += "" if part.size else ": the last one"
                    lines.append(Line(part.raw, "chunk", what))
                    begins = reader.position
                case End():
                    lines += _end(data[begins : reader.position], reader)
    except AnswerError as error:
        return lines + _fault(data, begins, reader, error), b""
    return lines, data[reader.position :]


def _head(raw: bytes, ends: str) -> list[Line]:
    """The lines of a head, or of its beginning."""
    first, *others = raw.splitlines(keepends=True)
    start = "request line" if _REQUEST.match(raw) else "status line"
    lines = [Line(first, "start", start, first=True)]
    for line in others:
        lines.append(Line(line, "end", ends) if line == b"\r\n" else Line(line, "field", ""))
    return lines


def _chunk(data: bytes) -> list[Line]:
    """The data of a chunk, and its line end; nothing before the first chunk."""
    what = f"body: {len(data) - 2:,} bytes, and the end of the line"
    return [Line(data, "body", what)] if data else []


def _end(rest: bytes, reader: AnswerReader) -> list[Line]:
    """The last lines of a message that ends as it should."""
    head = reader.head
    if head is not None and head.chunked and reader.has_body:
        return _trailer(rest)
    to_the_end = head is not None and head.length is None
    what = f"body: {len(rest):,} bytes" + (", until the connection closed" if to_the_end else "")
    return [Line(rest, "body", what)] if rest or (to_the_end and reader.has_body) else []


def _trailer(raw: bytes) -> list[Line]:
    """The trailer of a chunked body, or its beginning, and the empty line."""
    lines = raw.splitlines(keepends=True)
    blank = Line(b"\r\n", "end", "the answer ends")
    return [blank if line == b"\r\n" else Line(line, "field", "a trailer") for line in lines]


def _fault(data: bytes, begins: int, reader: AnswerReader, error: AnswerError) -> list[Line]:
    """What was right from `begins` on, and the line at which a client stumbles."""
    right, rest = data[begins : reader.position], data[reader.position :]
    cut = isinstance(error, CutShort)
    match reader.stage:
        case "start":
            what = "no status line: out of step"
            return [Line(rest, "fault", what, first=True)] if rest else []
        case "head":
            what = "no empty line: the head does not end" if cut else f"{error.what}: out of step"
            return [*_head(right, "the head ends"), Line(rest, "fault", what)]
        case "length":
            length = reader.size + reader.missing
            what = f"{reader.size:,} bytes of {length:,}: cut short"
            return [Line(data[begins:], "fault", what)]
        case "chunk line":
            what = "no last chunk: cut short" if cut else "no size of a chunk: out of step"
            return [*_chunk(right), Line(rest, "fault", what)]
        case "trailer":
            what = "no empty line: cut short" if cut else "no trailer: out of step"
            return [*_trailer(right), Line(rest, "fault", what)]
    got = f"{len(data) - begins:,} bytes: cut short"
    return [Line(data[begins:], "fault", got if cut else "longer than its size says")]


# How it looks

_TABLE = table_style(13)
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
