"""Whether a server serves byte ranges right, refuses them, or ignores them (RFC 9110, section 14).

Sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from streamlab.checks.ranges.parts import CONTENT_RANGE, BadParts, read_parts
from streamlab.errors import AnswerError
from streamlab.files import KiB
from streamlab.http.parts import Head
from streamlab.probe.client import Budget, Client, field_of, told
from streamlab.probe.target import Target
from streamlab.probe.wire import Whole

What = Literal["served", "refused", "ignored", "wrong"]
LONGEST = 16 * KiB
"""Bytes of an answer that are read at most: all that is asked for is shorter."""


@dataclass(frozen=True)
class Asked:
    """One request with Range, and what came of it."""

    name: str
    fields: tuple[str, ...]
    """The field lines with Range, and If-Range where it has one."""
    what: What
    why: str = ""
    """What is wrong, in words."""


@dataclass
class Ranges:
    """All of them."""

    asked: list[Asked] = field(default_factory=list)

    def named(self, what: What) -> list[str]:
        """The names of those that came out in this way."""
        return [each.name for each in self.asked if each.what == what]


def ranges(target: Target, budget: Budget, file: Whole) -> Ranges:
    """Ask for ranges of a file whose samples are known; of each answer at most 16 KiB are read."""
    size = file.size
    found = Ranges()
    if not size:
        return found
    first = file.samples.middle
    last = min(first + 999, size - 1)
    some = f"bytes={first}-{last}"
    short = min(500, size)
    tag = file.header("etag") or file.header("last-modified")
    strong = bool(tag) and not tag.startswith("W/")

    def ask(name: str, header: str, spans: list[tuple[int, int]] | None, *fields: str) -> None:
        lines = (f"Range: {header}", *fields)
        found.asked.append(Asked(name, lines, *_ask(target, budget, file, spans, *lines)))

    ask("single", some, [(first, last)])
    ask("suffix", f"bytes=-{short}", [(size - short, size - 1)])
    ask("past the end", f"bytes={size}-", None)
    if strong:
        ask("If-Range that fits", some, [(first, last)], f"If-Range: {tag}")
    lines = (f"Range: {some}", 'If-Range: "no-such-version"')
    what, why = _ask(target, budget, file, [(first, last)], *lines)
    if what == "served":
        why = "a part comes, though the client has another version: it stores half of each"
    guarded: What = "served" if what == "ignored" else "wrong"
    if found.named("served") or guarded == "wrong":
        found.asked.append(Asked("If-Range that does not fit", lines, guarded, why))
    if size > 4 * KiB:
        spans = [(0, 99), (first + 500, min(first + 599, size - 1))]
        ask("several", f"bytes={','.join(f'{one}-{end}' for one, end in spans)}", spans)
    return found


def _ask(
    target: Target, budget: Budget, file: Whole, spans: list[tuple[int, int]] | None, *fields: str
) -> tuple[What, str]:
    """What came of one request; `spans` are what is asked for, None where nothing can be served."""
    with Client(target, budget, 64 * KiB) as client:
        try:
            client.ask("GET", *fields, last=True)
            head = client.head()
            if head.status == 200:
                length = head.length
                if length is not None and length != file.size:
                    return "wrong", f"200, but with a Content-Length of {length}"
                start = client.body(1000, 16 * KiB)[:1000]
                same = start == file.samples.at(0, len(start) - 1)
                return ("ignored", "") if same else ("wrong", "200, but not with the whole file")
            if head.status == 416:
                return _refused(head, file, spans)
            if head.status != 206:
                return "wrong", f"the status is {head.status}"
            body = client.body(LONGEST)
            if client.reader.stage == "end" and client.reader.rest:
                return "wrong", "206, and more bytes come than Content-Length tells"
        except TimeoutError:
            return "wrong", "the answer does not end"
        except (AnswerError, OSError) as error:
            return "wrong", told(error)
    return _served(head, body, file, spans)


def _refused(head: Head, file: Whole, spans: list[tuple[int, int]] | None) -> tuple[What, str]:
    if spans is not None and len(spans) == 1:
        return "wrong", "416 for bytes that the file has"
    told_size = field_of(head.headers, "content-range")
    if spans is None and told_size and told_size != f"bytes */{file.size}":
        return "wrong", f"416, but Content-Range is {told_size!r}, not 'bytes */{file.size}'"
    return ("served", "") if spans is None else ("refused", "")


def _served(
    head: Head, body: bytes, file: Whole, spans: list[tuple[int, int]] | None
) -> tuple[What, str]:
    """Judge a 206: the bytes are those of the file at the place that it names, and were asked for.

    Several ranges may come as one that covers them, or as some of them in parts of any order
    (section 15.3.7).
    """
    if spans is None:
        return "wrong", "206 for bytes that the file does not have"
    kind = field_of(head.headers, "content-type")
    if kind.lower().startswith("multipart/byteranges"):
        try:
            parts = [
                (each.first, each.last, each.size, each.data) for each in read_parts(kind, body)
            ]
        except BadParts as error:
            return "wrong", str(error)
    else:
        named = field_of(head.headers, "content-range")
        if not (place := CONTENT_RANGE.fullmatch(named)):
            return "wrong", f"206 with Content-Range {named!r}, which names no place"
        first, last, size = (int(each) for each in place.groups())
        parts = [(first, last, size, body)]
    for first, last, size, data in parts:
        if size != file.size:
            return "wrong", f"Content-Range says that the file has {size} bytes, not {file.size}"
        if len(spans) == 1 and (first, last) != spans[0]:
            return "wrong", f"bytes {first}-{last} come, but {spans[0][0]}-{spans[0][1]} were asked"
        if not any(first <= one and end <= last for one, end in spans):
            return "wrong", f"bytes {first}-{last} come, which were not asked for"
        wanted = file.samples.at(first, last)
        if len(data) != last + 1 - first and len(data) < LONGEST:
            return "wrong", f"bytes {first}-{last} are {last + 1 - first}, but {len(data)} came"
        if wanted is not None and data != wanted:
            return "wrong", f"what comes as bytes {first}-{last} is something else in the file"
    return "served", ""
