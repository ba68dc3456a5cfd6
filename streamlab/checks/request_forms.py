"""The forms of requests, drawn by hypothesis: framings, header lines, pieces, mistakes.

Each strategy draws from what RFC 9110 and RFC 9112 allow, or from what they forbid, and says which.
Awkward forms are likely. A model that follows the rules of the RFC, such as `length_of` and
`options_in`, says what a server has to make of a form.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from streamlab.checks.examples import texts, texts_of_any_letters

TOKEN = "!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters
"""The characters of methods, header names and options: `tchar` (RFC 9110, section 5.6.2)."""


# Pieces of requests


def cuts(most: int = 3) -> SearchStrategy[list[float]]:
    """Where bytes are cut into pieces: places from 0 (beginning) to 1 (end)."""
    place = st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]) | st.floats(0, 1)
    return st.lists(place, max_size=most)


def cut(raw: bytes, places: Sequence[float]) -> list[bytes]:
    """The pieces of `raw`, cut at these places; none is empty."""
    at = sorted({round(place * len(raw)) for place in places} | {0, len(raw)})
    return [raw[begin:end] for begin, end in itertools.pairwise(at)]


# Header lines


def spelled(name: str) -> SearchStrategy[str]:
    """A header name or an option in upper and lower case: all spellings mean the same."""
    ways = [name, name.lower(), name.upper(), name.swapcase(), name.capitalize()]
    return st.sampled_from(list(dict.fromkeys(ways)))


def spaces() -> SearchStrategy[str]:
    """The white space that may stand before and after a value (RFC 9110, section 5.6.3)."""
    return st.sampled_from([" ", "", "  ", "\t", " \t "])


def field(name: str, value: SearchStrategy[str]) -> SearchStrategy[str]:
    """A header line in any allowed spelling."""
    return st.builds("{}:{}{}{}".format, spelled(name), spaces(), value, spaces())


BAD_FIELDS = (
    *("X-Note : x", "X-Note\t: x", "Content-Length : 0", "Connection : close"),
    *("X Note: x", ": x", ":", "X-Note", "Content-Length 0", "close"),
)
"""Malformed header lines that are often read as if they were right."""


def bad_fields() -> SearchStrategy[str]:
    """A malformed header line: no name, no colon, a space before the colon (RFC 9112, 5.1)."""
    names = st.sampled_from(["Content-Length", "Transfer-Encoding", "Connection", "X-Note"])
    values = st.sampled_from(["5", "chunked", "close", "x", ""])
    space = st.sampled_from([" ", "\t", "  "])
    return st.one_of(
        st.builds("{}{}: {}".format, names, space, values),
        st.builds("X{}{}: {}".format, space, names, values),
        st.sampled_from(["Content-Length 5", "close", "X-Note", "Transfer-Encoding=chunked"]),
        values.map(": {}".format),
    )


def padding(size: int, lines: int) -> list[str]:
    """`lines` header lines of `size` bytes in all, each with its CR LF."""
    each, rest = divmod(size, lines)
    sizes = [each + (number < rest) for number in range(lines)]
    return [f"X-{number:02}: ".ljust(length - 2, "x") for number, length in enumerate(sizes)]


# Connection


OTHER_OPTIONS = ("TE", "x-close", "closed", "close-later", "keep", "upgrade")
"""Options of `Connection` that a server need not know; some contain the word close."""


def connections() -> SearchStrategy[tuple[str, ...]]:
    """Lines of `Connection`: options in any case, in one list or in several lines."""
    others = st.sampled_from(OTHER_OPTIONS)
    option = st.one_of(spelled("close"), spelled("keep-alive"), others)
    comma = st.builds("{},{}".format, spaces(), spaces())
    values = st.builds(str.join, comma, st.lists(option, max_size=3))
    return st.lists(field("Connection", values), max_size=2).map(tuple)


def options_in(fields: Sequence[str]) -> set[str]:
    """The options of `Connection` lines, in lower case (RFC 9110, sections 5.6.1 and 7.6.1)."""
    values = ",".join(line.partition(":")[2] for line in fields)
    return {option.strip(" \t").lower() for option in values.split(",")} - {""}


# Bodies


@dataclass(frozen=True)
class Body:
    """A request's body as it is sent, and the header lines that say where it ends."""

    fields: tuple[str, ...]
    raw: bytes


def contents(hidden: bytes) -> SearchStrategy[bytes]:
    """Bodies that look like something else: a request, an end, the size of a chunk."""
    awkward = [hidden, b"0\r\n\r\n" + hidden, b"\r\n" + hidden, b"0\r\n\r\n", b"\r\n\r\n", b"5"]
    return st.sampled_from(awkward) | st.binary(min_size=1, max_size=40)


def counted(hidden: bytes) -> SearchStrategy[Body]:
    """A body with a Content-Length, which may have leading zeros (RFC 9110, section 8.6)."""
    content = st.lists(contents(hidden), max_size=3).map(b"".join)
    zeros = st.sampled_from(["", "", "0", "000"])

    def with_length(content: bytes, zeros: str) -> SearchStrategy[Body]:
        line = field("Content-Length", st.just(f"{zeros}{len(content)}"))
        return line.map(lambda line: Body((line,), content))

    return st.tuples(content, zeros).flatmap(lambda drawn: with_length(*drawn))


def chunk(content: bytes, zeros: str, large: bool, extension: str) -> bytes:
    """One chunk (RFC 9112, section 7.1)."""
    digits = f"{len(content):X}" if large else f"{len(content):x}"
    return b"%b%b%b\r\n%b\r\n" % (zeros.encode(), digits.encode(), extension.encode(), content)


def chunks(hidden: bytes) -> SearchStrategy[bytes]:
    """A body in chunks, with extensions and a trailer (RFC 9112, sections 7.1.1 and 7.1.2)."""
    zeros = st.sampled_from(["", "", "0", "0000"])
    extension = st.sampled_from(["", "", ";last", ";a=1", ';note="0"', ";a;b=2"])
    one = st.builds(chunk, contents(hidden), zeros, st.booleans(), extension)
    last = st.builds("{}0{}\r\n".format, zeros, extension).map(str.encode)
    lines = ["X-Done: yes", "X-Sum: 0", "X-Next: GET / HTTP/1.1", "X-Empty:"]
    trailer = st.lists(st.sampled_from(lines), max_size=3).map(
        lambda some: "".join(f"{line}\r\n" for line in some).encode()
    )
    body = st.lists(one, max_size=4).map(b"".join)
    return st.builds(lambda *parts: b"".join(parts) + b"\r\n", body, last, trailer)


def chunked(hidden: bytes) -> SearchStrategy[Body]:
    """A body in chunks, and its header line in any spelling."""
    line = field("Transfer-Encoding", spelled("chunked"))
    return st.builds(lambda line, raw: Body((line,), raw), line, chunks(hidden))


def unclear(hidden: bytes) -> SearchStrategy[Body]:
    """A body in chunks whose header lines contradict it (RFC 9112, sections 6.1 and 6.3).

    They name another coding, or also have a Content-Length. After the answer the connection has to
    close.
    """
    other = st.sampled_from(
        ["gzip", "identity", "gzip, chunked", "chunked, gzip", "chunked, chunked", "xchunked"]
    )

    def fields(raw: bytes) -> SearchStrategy[tuple[str, ...]]:
        length = st.sampled_from([0, 1, 3, len(raw), len(raw) + 5]).map(str)
        both = [field("Content-Length", length), field("Transfer-Encoding", spelled("chunked"))]
        return st.one_of(
            field("Transfer-Encoding", other).map(lambda line: (line,)),
            st.tuples(*both),
            st.tuples(*reversed(both)),
        )

    return chunks(hidden).flatmap(lambda raw: fields(raw).map(lambda lines: Body(lines, raw)))


def length_of(values: Sequence[str]) -> int | None:
    """The length that these values of `Content-Length` give; None if none (RFC 9112, 6.3)."""
    numbers = [each.strip(" \t") for value in values for each in value.split(",")]
    if not all(re.fullmatch("[0-9]+", each) for each in numbers):
        return None
    return int(numbers[0]) if len({int(each) for each in numbers}) == 1 else None


BAD_LENGTHS = (
    *(("+5",), ("-5",), ("0_5",), ("five",), ("",), ("5.0",), ("0x5",), ("5 5",), ("1e1",)),
    # A no-break space, a vertical tab, a superscript two.
    *(("\xa05",), ("5\x0b",), ("\xb2",)),
    *(("5", "6"), ("5, 6",), ("6", "5"), ("0", "5"), ("5", "five")),
)
"""Values of `Content-Length` that are often taken for a length, and are none."""


def bad_lengths() -> SearchStrategy[tuple[str, ...]]:
    """Values of `Content-Length` that are no length: no digits, or two that differ."""
    one = texts("0123456789+-_.x, \xa0\xb2", most=5).map(lambda value: (value,))
    return (st.sampled_from(BAD_LENGTHS) | one).filter(lambda values: length_of(values) is None)


# Request lines


def methods() -> SearchStrategy[str]:
    """Methods that are neither GET nor HEAD; names of methods are case-sensitive."""
    known = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get", "Head", "GETS"]
    return st.sampled_from(known) | texts(TOKEN, 1, 12).filter(
        lambda name: name not in ("GET", "HEAD")
    )


def bad_request_lines(path: str) -> list[str]:
    """Malformed request lines (RFC 9112, section 3)."""
    known = ["HELLO", f"GET {path}", f"{path} HTTP/1.1", f"GET {path} twice HTTP/1.1", "HTTP/1.1"]
    known += [f"GET {path} HTTP/1.1 again", f"GET: {path} HTTP/1.1 x"]
    versions = ["HTTP/one", "http/1.1", "HTTP/1.1.1", "HTTP/11", "HTTP", "HTTP/", "FTP/1.1", "1.1"]
    return [*known, *(f"GET {path} {version}" for version in versions)]


# Names


AWKWARD_NAMES = (
    "\u0444\u0438\u043b\u044c\u043c.mp4",
    "\U0001f3a5.mp4",
    "\u540d\u524d",
    "caf\u00e9.mp4",
    "cafe\u0301.mp4",
    "a film.mp4",
    "100%25 a+b.mp4",
    "%2e%2e",
    "what?#1&b=c;d.mp4",
    '"it\'s".mp4',
    "back\\slash.mp4",
    " ends in a space ",
    "two\nlines\n",
    "...",
    "..mp4",
    "\u202egpj.mp4",
    "\x7f\x01\x80",
    "\u00e9" * 127 + "x",
)
"""File names that some programs do not handle; the last has 255 bytes."""

LONGEST_NAME = 255
"""Bytes of the longest file name (`NAME_MAX` of Linux, limits.h)."""


def file_names() -> SearchStrategy[str]:
    """File names that Linux allows: all of Unicode but NUL and the slash (path(7))."""
    letters = texts_of_any_letters(1, 20).filter(lambda text: not set(text) & {"/", "\0"})
    endings = st.sampled_from(["", ".mp4", ".MP4", ".bin"])
    drawn = st.builds(str.__add__, letters, endings)
    return (st.sampled_from(AWKWARD_NAMES) | drawn).filter(
        lambda name: name not in (".", "..") and len(name.encode()) <= LONGEST_NAME
    )


def percent_encoded(name: str) -> SearchStrategy[str]:
    """A name as a segment of a path (RFC 3986, section 3.3): allowed characters may stay.

    All other bytes of its UTF-8 are percent-encoded, in digits of either case.
    """
    least = quote(name, safe="!$&'()*+,;=:@~")
    if name.strip(".") == "":  # a client would remove such a segment
        least = quote(name, safe="").replace(".", "%2E")
    every = "".join(f"%{byte:02X}" for byte in name.encode())
    ways = [quote(name, safe=""), least, every, every.lower()]
    return st.sampled_from(list(dict.fromkeys(ways)))
