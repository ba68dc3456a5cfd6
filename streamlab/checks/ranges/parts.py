"""The parts of a multipart/byteranges body (RFC 9110, section 14.6), read strictly."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from streamlab.checks.connection import Connection
from streamlab.checks.outcome import promise
from streamlab.http.answer import RawAnswer

# Reading a 206


@dataclass(frozen=True)
class Part:
    """A range as it came: its first and last byte, the size of the file, and the bytes."""

    first: int
    last: int
    size: int
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)
    """The part's own headers, their names in lower case."""


class BadParts(Exception):
    """A multipart body can't be read; the message says where it goes wrong."""

    cause = "bad_parts"


class BoundaryInPart(BadParts):
    """The boundary also stands in the bytes of a part."""

    cause = "boundary_in_file"


CONTENT_RANGE = re.compile(r"(?i:bytes) ([0-9]{1,30})-([0-9]{1,30})/([0-9]{1,30})")
_BOUNDARY = re.compile(r"(?i:boundary)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]*))[ \t]*")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BOUNDARY_SIGNS = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


def is_multipart(answer: RawAnswer) -> bool:
    """Whether an answer says that it has several parts."""
    kind = (answer.header("content-type") or "").partition(";")[0]
    return kind.strip().lower() == "multipart/byteranges"


def parts_read(connection: Connection, answer: RawAnswer) -> list[Part]:
    """The parts of a multipart answer; the check fails if they can't be read."""
    with promise("part-lines"):
        try:
            return read_parts(answer.header("content-type") or "", answer.body)
        except BadParts as error:
            with promise("boundary" if isinstance(error, BoundaryInPart) else "part-lines"):
                connection.fault(error.cause, str(error), answer.raw)


def read_parts(content_type: str, body: bytes) -> list[Part]:
    """Read a multipart/byteranges body strictly; raises `BadParts`.

    RFC 2046, section 5.1.1: the boundary may be quoted, and text may stand before the first part
    and after the last. RFC 9110, section 14.6: each part has its Content-Range.
    """
    delimiter = b"--" + boundary_in(content_type)
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if at == 1:
        raise BadParts(f"Nowhere in the body is there a line {delimiter.decode()}")
    at += len(delimiter)
    parts: list[Part] = []
    while not body.startswith(b"--", at):
        end = body.find(b"\r\n", at)
        if end < 0 or body[at:end].strip(b" \t"):
            raise BadParts(f"After a boundary there should be CR LF, not {body[at : at + 30]!r}")
        found, at = _read_part(body, end)
        if delimiter in found.data and b"\r\n" + delimiter in b"\r\n" + found.data:
            raise BoundaryInPart("The boundary stands in the middle of a part: the file has it too")
        if not body.startswith(b"\r\n" + delimiter, at):
            came = f"not {body[at : at + 30]!r}" if body[at:] else "and the body ends"
            raise BadParts(
                f"After the {len(found.data)} bytes of a part there should be CR LF and the "
                f"boundary, {came}"
            )
        at += len(delimiter) + 2
        parts.append(found)
    rest = body[at + 2 :].lstrip(b" \t")
    if rest and not rest.startswith(b"\r\n"):
        raise BadParts(f"After the last boundary comes {rest[:30]!r}")
    if not parts:
        raise BadParts("There is no part in it")
    return parts


def boundary_in(content_type: str) -> bytes:
    """The boundary in a Content-Type, without quotes; raises `BadParts`."""
    _, _, options = content_type.partition(";")
    found = next(filter(None, (_BOUNDARY.fullmatch(o.strip()) for o in _split(options))), None)
    if found is None:
        raise BadParts(f"Content-Type: {content_type} says no boundary")
    quoted, plain = found.groups()
    if quoted is None and not _TOKEN.fullmatch(plain):
        raise BadParts(f"The boundary {plain!r} would have to stand in quotes")
    boundary = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    if not _BOUNDARY_SIGNS.fullmatch(boundary):
        raise BadParts(f"{boundary!r} can't be a boundary: at most 70 signs, and not all of them")
    return boundary.encode("ascii")


def _split(options: str) -> list[str]:
    """The parameters of a media type, split at semicolons that are not in quotes."""
    return re.findall(r'(?:[^;"]|"(?:[^"\\]|\\.)*")+', options)


def _read_part(body: bytes, at: int) -> tuple[Part, int]:
    """The part whose boundary line ends at `at`, and where its data ends."""
    end = body.find(b"\r\n\r\n", at)
    if end < 0:
        raise BadParts("No empty line (CR LF CR LF) ends the headers of a part")
    headers: dict[str, str] = {}
    ranges = []
    for line in filter(None, body[at:end].split(b"\r\n")):
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not _TOKEN.fullmatch(name):
            raise BadParts(f"{line[:60]!r} is no header of a part")
        headers[name.lower()] = value.strip()
        ranges += [value.strip()] if name.lower() == "content-range" else []
    told = CONTENT_RANGE.fullmatch(ranges[0]) if len(ranges) == 1 else None
    if told is None:
        came = " and ".join(ranges) or "none"
        raise BadParts(f"A part has one Content-Range: bytes FIRST-LAST/SIZE. This has {came}")
    first, last, size = map(int, told.groups())
    if last < first:
        raise BadParts(f"Content-Range: {ranges[0]} ends before it begins")
    data = body[end + 4 : end + 5 + last - first]
    if len(data) < last + 1 - first:
        raise BadParts(f"The body ends in the middle of the part {first}-{last}")
    return Part(first, last, size, data, headers), end + 4 + len(data)
