"""HTTP/1.1 answers, read strictly as they come from a socket (RFC 9112).

An `AnswerReader` is fed bytes, in pieces of any size, and returns the complete parts of one answer:
its head, the lines of its chunks, pieces of its body, its end. It looks at each byte once, keeps no
body, and accepts no more of a part than its `Limits` allow:

    reader = AnswerReader(limits)
    while reader.stage != "end":
        piece = sock.recv(65536)
        reader.feed(piece) if piece else reader.close()
        for part in reader.parts():
            ...

A broken rule is an `AnswerError` with the position of the byte, raised as soon as no later byte can
mend it. An `AnswerSoFar` keeps a whole answer, and `read_answer` reads one that has already come:
both end in a `RawAnswer`, whose `fault` says what is wrong.

Why this is not h11: h11 accepts a line that ends in a bare LF, and a space after the size of a
chunk, and its errors do not say at which byte an answer goes wrong. Here students learn what a
server has to send, so the reader accepts nothing else, and points at the byte.

- A line ends in CR LF. A CR or LF alone, or a NUL, is an error wherever a line is read.
- The line of a chunk is `chunk-size [ chunk-ext ]` (section 7.1). Before and after the `;` and the
  `=` of an extension, BWS may stand: "bad whitespace", which a sender must not send and a recipient
  must accept (RFC 9110, section 5.6.3). So `5 ;x` is a chunk of 5 bytes. A size without an
  extension has no BWS: `5 ` is an error.
- Several lines of Content-Length must be equal. With Transfer-Encoding there must be none, and
  that coding must be `chunked` (section 6.3).

Sizes and positions are in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from typing import Literal, NoReturn

from streamlab.errors import (
    AnswerError,
    AnswerPart,
    BadChunk,
    BadHeader,
    BadStatusLine,
    CutShort,
    NoAnswer,
    TooLarge,
)
from streamlab.files import KiB
from streamlab.http.parts import Chunk, Data, End, Fields, Head, Limits, Part

Stage = Literal[
    "start", "head", "length", "close", "chunk line", "chunk", "chunk end", "trailer", "end"
]
"""What a reader reads next: the first line, field lines, a body with a length, a body that ends
with the connection, the line of a chunk, its data, the line end after it, the trailer, or
nothing."""

_PARTS: dict[Stage, AnswerPart] = {
    "start": "status line",
    "head": "head",
    "length": "body",
    "close": "body",
    "chunk line": "chunk line",
    "chunk": "chunk",
    "chunk end": "chunk",
    "trailer": "trailer",
    "end": "body",
}
_Reading = Generator[Part | None, None, None]
"""Yields parts when they are complete, and None when it needs more bytes."""

_CONTROL = re.compile(rb"[\r\n\0]")
_STATUS_SIGNS = (
    *(b"H", b"T", b"T", b"P", b"/", b"1", b".", b"01"),
    *(b" ", b"12345", b"0123456789", b"0123456789", b" "),
)
"""The bytes that may stand at each place of a status line, up to its reason."""
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9](?: .*)?", re.DOTALL)
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [^ ]+ HTTP/1\.[01]")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_HEX = re.compile(rb"[0-9A-Fa-f]*")
_LONGEST_NUMBER = 30
"""The most digits of a length: int() refuses thousands of them."""
_DIGITS = re.compile(r"[0-9]{0,30}")
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,30})"
    rb"(?:[ \t]*;[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+"
    rb"(?:[ \t]*=[ \t]*(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+"
    rb'|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?)*'
)
_AROUND = 24
"""Bytes before and after a place that an error shows."""
_SHOWN = 60
"""Bytes of a line that a message shows."""
_ALONE = {b"\r": "a CR without a LF", b"\n": "a LF without a CR", b"\0": "a NUL"}


NO_EMPTY_LINE = "no empty line (CR LF CR LF) ends the headers"


class AnswerReader:
    """Reads one answer as it comes; see this module.

    `method` is that of the request: an answer to HEAD has no body. Interim answers (1xx) may come
    first: each is a `Head`, and the limit counts all heads together (RFC 9110, section 15.2). If an
    answer has Transfer-Encoding and Content-Length, this is an error; with `coding_wins`,
    Transfer-Encoding counts, as clients may do (RFC 9112, section 6.3).
    """

    def __init__(self, limits: Limits, method: str = "GET", *, coding_wins: bool = False) -> None:
        self.limits = limits
        self.method = method
        self.stage: Stage = "start"
        self.status = 0
        """The status, as soon as its line is there."""
        self.headers: Fields = []
        """The fields of the head so far."""
        self.head: Head | None = None
        """The head of the answer, once it is complete; not that of an interim answer."""
        self.size = 0
        """Bytes of the body that were returned."""
        self.missing = 0
        """Bytes that are missing from the body, or its chunk; 0 if its length is not known."""
        self._coding_wins = coding_wins
        self._came = bytearray()
        self._at = 0
        """The index in `_came` of the first byte that has not been read."""
        self._begins = 0
        """The position of the first byte of `_came`."""
        self._fresh = True
        """Whether nothing has come."""
        self._closed = False
        self._error: AnswerError | None = None
        self._reading = self._read()

    # What a reader offers

    def feed(self, data: bytes) -> None:
        """Take more bytes of the connection."""
        if (read := self._at - _AROUND) > 4 * KiB:
            del self._came[:read]
            self._begins += read
            self._at -= read
        self._came += data
        self._fresh = self._fresh and not data

    def close(self) -> None:
        """Note that no more bytes come, because the connection was closed."""
        self._closed = True

    def next(self) -> Part | None:
        """The next complete part; None if there is none yet, or no more.

        Raises an `AnswerError`, and raises it again at each later call.
        """
        if self._error is not None:
            raise self._error
        try:
            part = next(self._reading, None)
            if part is None and self._closed and self.stage != "end":
                self._cut_short()
        except AnswerError as error:
            self._error = error
            raise
        return part

    def parts(self) -> Iterator[Part]:
        """All complete parts, as `next` returns them."""
        while (part := self.next()) is not None:
            yield part

    @property
    def position(self) -> int:
        """The position of the first byte that has not been read."""
        return self._begins + self._at

    @property
    def rest(self) -> bytes:
        """The bytes that have come and were not read: after the end, those behind the answer."""
        return bytes(self._came[self._at :])

    # Errors

    def _fail(self, kind: type[AnswerError], what: str, at: int) -> NoReturn:
        """Raise an error at this place of `_came`."""
        before, after = self._came[max(0, at - _AROUND) : at], self._came[at : at + _AROUND]
        place = self._begins + at
        raise kind(what, place, bytes(before), bytes(after), _PARTS[self.stage])

    def _cut_short(self) -> NoReturn:
        end = len(self._came)
        if self._fresh:
            self._fail(NoAnswer, "nothing came back", end)
        if self.stage in ("start", "head"):
            self._fail(CutShort, NO_EMPTY_LINE, end)
        if self.stage == "length" and self.head is not None:
            told = f"Content-Length is {self.head.length}, but only {self.size} bytes came"
            self._fail(CutShort, told, end)
        self._fail(CutShort, "it was closed before the last chunk was complete", end)

    def _begun(self, start: int) -> str:
        """The line that begins at this place of `_came`, as far as it has come, for a message."""
        line = self._came[start : start + _SHOWN].partition(b"\r\n")[0]
        return repr(bytes(line))[1:]

    # Lines

    def _line(
        self, check: Callable[[int, int, int], bool], wrong: type[AnswerError], most: int
    ) -> Generator[None, None, bytes]:
        """The next line, without its CR LF; it has at most `most` bytes, with CR LF.

        `check(start, end, seen)` looks at the beginning of a line, of which it saw `seen` bytes
        before, and returns whether it has seen enough.
        """
        seen, checked = 0, False
        while True:
            start = self._at
            stop = _CONTROL.search(self._came, start + seen)
            end = stop.start() if stop else len(self._came)
            room = start + max(0, most - 2)
            checked = checked or check(start, min(end, room), seen)
            if end > room or most < 2:
                what = f"the {_PARTS[self.stage]} is longer than this reader's limit"
                self._fail(TooLarge, what, room)
            follows = bytes(self._came[end : end + 2])
            if follows == b"\r\n":
                self._at = end + 2
                return bytes(self._came[start:end])
            if follows not in (b"", b"\r"):
                alone = _ALONE[follows[:1]]
                what = f"{alone} is in {self._begun(start)}: a line ends in CR LF"
                self._fail(wrong, what, end)
            seen = end - start
            yield None

    def _starts_right(self, start: int, end: int, seen: int) -> bool:
        """Whether the beginning of a status line has come; raises an error if it is wrong."""
        length = len(_STATUS_SIGNS)
        for place in range(start + seen, min(end, start + length)):
            if self._came[place] not in _STATUS_SIGNS[place - start]:
                self._no_start(start, place)
        return end - start >= length

    def _no_start(self, start: int, at: int) -> NoReturn:
        told = f"the answer begins with {self._begun(start)}, not with a status line"
        self._fail(BadStatusLine, told, at)

    def _names_right(self, start: int, end: int, seen: int) -> bool:
        """Whether the name of a field line and its colon have come."""
        found = _NAME.match(self._came, start + seen, end)
        after = found.end() if found else start
        if after == end:
            return False
        if after == start or self._came[after] != ord(":"):
            self._no_field(start, after)
        return True

    def _no_field(self, start: int, at: int) -> NoReturn:
        self._fail(BadHeader, f"{self._begun(start)} is no header line", at)

    def _counts_right(self, start: int, end: int, seen: int) -> bool:
        """Whether the digits of a chunk's size have come."""
        found = _HEX.match(self._came, start + seen, end)
        after = found.end() if found else start
        if after - start > _LONGEST_NUMBER:
            self._no_size(start, start + _LONGEST_NUMBER)
        if after == end:
            return False
        if after == start or self._came[after] not in b" \t;":
            self._no_size(start, after)
        return True

    def _no_size(self, start: int, at: int) -> NoReturn:
        self._fail(BadChunk, f"{self._begun(start)} is no chunk size", at)

    # An answer

    def _read(self) -> _Reading:
        left = self.limits.head
        while self.head is None:
            head = yield from self._head(left)
            left -= len(head.raw)
            if not 100 <= head.status < 200:
                self.head = head
            yield head
        if not self.has_body:
            pass
        elif self.head.chunked:
            yield from self._chunks()
        elif self.head.length is not None:
            self.stage = "length"
            yield from self._data(self.head.length)
        else:
            self.stage = "close"
            yield from self._data(None)
        trailer: Fields = []
        if self.stage == "trailer":
            yield from self._fields(trailer, self.limits.trailer)
        self.stage = "end"
        yield End(trailer)

    def _head(self, most: int) -> Generator[None, None, Head]:
        self.stage = "start"
        begins = self.position
        line = yield from self._first_line(most)
        self.stage = "head"
        self.headers = []
        raw = yield from self._fields(self.headers, most - len(line) - 2)
        raw = line + b"\r\n" + raw
        return Head(raw, self.status, self.headers, *self._framing(raw, begins))

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head (RFC 9112, section 6.3)."""
        return self.method != "HEAD" and self.status >= 200 and self.status not in (204, 304)

    def _first_line(self, most: int) -> Generator[None, None, bytes]:
        line = yield from self._line(self._starts_right, BadStatusLine, most)
        if not _STATUS_LINE.fullmatch(line):
            start = self._at - len(line) - 2
            self._no_start(start, start + len(line))
        self.status = int(line[9:12])
        return line

    def _fields(self, fields: Fields, most: int) -> Generator[None, None, bytes]:
        """Read field lines up to the empty line; returns all their bytes."""
        raw = bytearray()
        while line := (yield from self._line(self._names_right, BadHeader, most - len(raw))):
            raw += line + b"\r\n"
            name, colon, value = line.partition(b":")
            if not colon:
                start = self._at - len(line) - 2
                self._no_field(start, start + len(line))
            fields.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
        return bytes(raw + b"\r\n")

    def _framing(self, raw: bytes, begins: int) -> tuple[int | None, bool]:
        """The value of Content-Length, and whether the body is chunked; raises an error if they are
        wrong.

        `raw` is the head, and `begins` its position.
        """
        lengths = list(_values(raw, b"content-length"))
        codings = list(_values(raw, b"transfer-encoding"))

        def fail(what: str, at: int) -> NoReturn:
            before, after = raw[max(0, at - _AROUND) : at], raw[at : at + _AROUND]
            raise BadHeader(what, begins + at, before, after)

        if lengths and codings and not self._coding_wins:
            told = "it has both Content-Length and Transfer-Encoding"
            fail(told, max(lengths[0][1], codings[0][1]))
        for value, at in [] if codings else lengths:
            right = len(_DIGITS.match(value)[0])  # type: ignore[index]  # it matches anything
            if not right or right < len(value):
                fail(f"Content-Length is {value[:40]!r}, not a number", at + right)
            if value != lengths[0][0]:
                fail(f"Content-Length is {lengths[0][0]!r}, and then {value[:40]!r}", at)
        coding = ", ".join(value for value, _ in codings)
        if codings and self.has_body and coding.lower() != "chunked":
            told = f"Transfer-Encoding is {coding[:40]!r}, which is no coding that one can end"
            fail(told, codings[0][1])
        length = int(lengths[0][0]) if lengths and not codings else None
        return length, bool(codings)

    def _data(self, size: int | None) -> _Reading:
        """Read `size` bytes of the body; None: all that come until the connection is closed."""
        self.missing = size or 0
        while size is None or self.missing:
            there = len(self._came) - self._at
            wanted = there if size is None else min(there, self.missing)
            taken = min(wanted, self.limits.body - self.size)
            if taken:
                with memoryview(self._came) as came:
                    data = bytes(came[self._at : self._at + taken])
                self._at += taken
                self.size += taken
                self.missing -= 0 if size is None else taken
                yield Data(data)
            elif wanted:
                what = f"the body has more than the {self.limits.body} bytes of this reader's limit"
                self._fail(TooLarge, what, self._at)
            elif size is None and self._closed:
                return
            else:
                yield None

    def _chunks(self) -> _Reading:
        """Read a chunked body up to its last chunk (section 7.1), without its trailer."""
        while True:
            self.stage = "chunk line"
            line = yield from self._line(self._counts_right, BadChunk, self.limits.line)
            found = _CHUNK_LINE.match(line)
            right = found.end() if found else 0
            if found is None or right < len(line):
                start = self._at - len(line) - 2
                self._no_size(start, start + right)
            size = int(found[1], 16)
            if size == 0:
                self.stage = "trailer"
                yield Chunk(line + b"\r\n", size)
                return
            self.stage = "chunk"
            self.missing = size
            yield Chunk(line + b"\r\n", size)
            yield from self._data(size)
            self.stage = "chunk end"
            for expected in b"\r\n":
                while self._at == len(self._came):
                    yield None
                if self._came[self._at] != expected:
                    what = f"a chunk of {size} bytes does not end with CR LF"
                    self._fail(BadChunk, what, self._at)
                self._at += 1


class RequestReader(AnswerReader):
    """Reads a request by the same rules, to show it. Its `status` is 0.

    A request without a length has no body.
    """

    @property
    def has_body(self) -> bool:
        return True

    def _starts_right(self, start: int, end: int, seen: int) -> bool:
        return True

    def _first_line(self, most: int) -> Generator[None, None, bytes]:
        line = yield from self._line(self._starts_right, BadStatusLine, most)
        if not _REQUEST_LINE.fullmatch(line):
            start = self._at - len(line) - 2
            self._fail(BadStatusLine, f"{self._begun(start)} is no request line", start)
        return line

    def _framing(self, raw: bytes, begins: int) -> tuple[int | None, bool]:
        length, chunked = super()._framing(raw, begins)
        return length if length is not None or chunked else 0, chunked


def _values(raw: bytes, name: bytes) -> Iterator[tuple[str, int]]:
    """The values of the fields of that name (lower case), and their positions in the head."""
    at = 0
    for line in raw.split(b"\r\n"):
        key, colon, value = line.partition(b":")
        if colon and key.lower() == name:
            inner = value.lstrip(b" \t")
            yield inner.rstrip(b" \t").decode("latin-1"), at + len(line) - len(inner)
        at += len(line) + 2


def begins_chunk(data: bytes) -> bool:
    """Whether these bytes begin with the line of a chunk."""
    found = _CHUNK_LINE.match(data)
    return found is not None and data.startswith(b"\r\n", found.end())
