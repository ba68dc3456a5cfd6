"""What reaches a proxy from both sides, drawn by hypothesis: answers, requests, names.

Each strategy draws from what RFC 9110 and RFC 9112 allow, awkward forms among them. A model that
follows the rules says what has to come out at the other side: `combined` for header lines of one
name, `named_by_connection` for those that end at the next hop.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from streamlab.checks.examples import texts
from streamlab.checks.request_forms import chunk, spelled
from streamlab.origin import Answer, Framing

Pair = tuple[str, str]
"""A header line: its name and its value."""

STATUSES = (
    *(200, 201, 203, 299, 400, 401, 403, 404, 409, 410, 416, 418, 422, 429, 451, 500, 501, 503),
    *(520, 599),  # names that stand in no RFC
)
"""Statuses of answers with a body that a proxy passes on."""
NOT_TO_CLIENT = (
    ("Keep-Alive", "timeout=77"),
    ("Proxy-Connection", "x-keep"),
    ("Proxy-Authenticate", "Basic"),
    ("TE", "trailers"),
    ("Trailer", "X-Later"),
    ("Upgrade", "h2c"),
    ("Set-Cookie", "session=of-the-gateway"),
    ("Set-Cookie", "visits=2; Path=/"),
)
"""Header lines of an upstream that end at the gateway, besides those that `Connection` names."""


# Header lines


def combined(pairs: Iterable[Pair], name: str) -> str | None:
    """The values of all lines of one name, as a list (RFC 9110, section 5.3), or None."""
    values = [value for key, value in pairs if key.lower() == name.lower()]
    return re.sub(r"[ \t]*,[ \t]*", ", ", ", ".join(values)) if values else None


def lines_lost(wanted: str | None, found: str | None) -> bool:
    """Whether some of several values have come unchanged, and some have not."""
    values, came = (wanted or "").split(", "), (found or "").split(", ")
    return found is not None and len(came) < len(values) and set(came) <= set(values)


def named_by_connection(pairs: Iterable[Pair]) -> set[str]:
    """The names in `Connection`, in lower case (RFC 9110, section 7.6.1)."""
    values = ",".join(value for key, value in pairs if key.lower() == "connection")
    return {each.strip(" \t").lower() for each in values.split(",")} - {""}


def utf8(text: str) -> str:
    """The text that, written as Latin-1 (as a head is), has the bytes of `text` in UTF-8."""
    return text.encode().decode("latin-1")


def _lines(name: str, values: Sequence[str], most: int = 2) -> SearchStrategy[list[Pair]]:
    """No line of this name, one, or several with different values."""
    pairs = st.tuples(spelled(name), st.sampled_from(values))
    return st.lists(pairs, max_size=most, unique_by=lambda pair: pair[1])


def content_types() -> SearchStrategy[list[Pair]]:
    """The Content-Type of a body, with or without parameters."""
    types = ["application/octet-stream", "text/csv", "text/plain", "application/jsonl"]
    types += ["TEXT/html", "text/csv; header=present", 'text/plain; charset="latin-1"']
    return st.sampled_from(types).map(lambda value: [("Content-Type", value)])


def headers_on() -> SearchStrategy[tuple[Pair, ...]]:
    """Header lines that go on to the client; some names have two lines."""
    named = utf8('attachment; filename="Fluß.csv"')
    return st.tuples(
        content_types(),
        _lines("Content-Disposition", ['attachment; filename="a.bin"', "inline", named], 1),
        _lines("x-request-id", ["req_1", "a,b"], 1),
        _lines("ETag", ['"v1"', 'W/"v1"'], 1),
        _lines("Link", ['</a>; rel="next"', '</b>; rel="last"', "</c>"], 3),
        _lines("Vary", ["Accept", "Accept-Language"]),
        _lines("WWW-Authenticate", ['Basic realm="a, b"', 'Bearer realm="c"']),
        _lines("Cache-Control", ["no-store", "max-age=5"]),
        _lines("X-Note", ["one", "two  words", utf8("ü"), "\xfc"]),
        _lines("X-Empty", [""], 1),
        _lines("Retry-After", ["7"], 1),
    ).map(lambda some: tuple(pair for lines in some for pair in lines))


TWO_LINES = (
    ("Link", '</a>; rel="next"'),
    ("Link", '</b>; rel="last"'),
    ("Vary", "Accept"),
    ("Vary", "Accept-Language"),
    ("WWW-Authenticate", 'Basic realm="a, b"'),
    ("WWW-Authenticate", 'Bearer realm="c"'),
)
"""Header lines that go on to the client, two of each name."""


ABOUT_THE_ANSWER = (
    ("Date", "Sun, 22 Nov 2026 10:00:00 GMT"),
    ("Server", "an-upstream/1.0"),
    ("Age", "77"),
    ("Via", "1.1 a-cache"),
    ("Expires", "Sun, 22 Nov 2026 11:00:00 GMT"),
    ("Last-Modified", "Sat, 21 Nov 2026 10:00:00 GMT"),
    ("Accept-Ranges", "bytes"),
    ("Content-Language", "de"),
    ("Content-Location", "/v1/files/other"),
    ("Allow", "GET, HEAD"),
    ("Alt-Svc", "clear"),
    ("Strict-Transport-Security", "max-age=77"),
    ("Access-Control-Allow-Origin", "https://example.org"),
)
"""Header lines that go on to the client, of names that servers and frameworks write themselves, or
that gateways drop by a list of their own (RFC 9110, sections 6.6.1, 7.6.3, 8 and 10.2)."""


def headers_off() -> SearchStrategy[tuple[Pair, ...]]:
    """Header lines that end at the gateway, and the `Connection` lines that name some of them."""
    ending = st.lists(st.sampled_from(NOT_TO_CLIENT), max_size=4, unique=True).flatmap(
        lambda pairs: st.tuples(*(st.tuples(spelled(k), st.just(v)) for k, v in pairs))
    )
    hops = st.lists(st.sampled_from(["X-Hop", "X-Other-Hop", "Fixed"]), max_size=2, unique=True)

    def named(names: list[str]) -> SearchStrategy[list[Pair]]:
        if not names:
            return st.just([])
        values = st.tuples(*map(spelled, names))
        space = st.sampled_from([",", ", ", " ,\t", ",,"])
        one = st.builds(lambda v, s: [("Connection", s.join(v))], values, space)
        two = values.map(lambda v: [("connection", each) for each in v])
        return st.one_of(one, two).map(
            lambda lines: [*lines, *((each, "for the next hop") for each in names)]
        )

    return st.tuples(ending, hops.flatmap(named)).map(lambda both: (*both[0], *both[1]))


# An upstream's answers


@dataclass(frozen=True)
class Given:
    """An answer of the upstream.

    Header lines `on` go on to the client, those in `off` end at the gateway.
    """

    body: bytes
    status: int = 200
    framing: Framing = "length"
    odd: bool = False
    on: tuple[Pair, ...] = ()
    off: tuple[Pair, ...] = ()

    @property
    def answer(self) -> Answer:
        lines = (*self.on, *self.off)
        return Answer(self.body, self.status, self.framing, odd_chunks=self.odd, headers=lines)

    def __str__(self) -> str:
        told = {"length": "Content-Length", "chunked": "chunks", "close": "the connection's end"}
        odd = " with extensions and a trailer" if self.odd else ""
        return f"status {self.status}, {len(self.body)} bytes, told by {told[self.framing]}{odd}"


def bodies() -> SearchStrategy[bytes]:
    """Bodies, some of which look like a chunk, an end, or another answer."""
    known = [b"", b"0\r\n\r\n", b"\r\n", b"5\r\nriver\r\n0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"]
    known += [b"\xef\xbb\xbfriver\n", b"\xff\xfe\r\n\0", bytes(70_000), b"river\r\n" * 9000]
    return st.sampled_from(known) | st.binary(max_size=60)


def given_answers() -> SearchStrategy[Given]:
    """Answers with a body, in every framing, with header lines of both kinds."""
    framings: list[Framing] = ["length", "chunked", "close"]
    statuses = st.just(200) | st.sampled_from(STATUSES)
    return st.builds(
        Given,
        bodies(),
        statuses,
        st.sampled_from(framings),
        st.booleans(),
        headers_on(),
        headers_off(),
    )


def broken_answers() -> SearchStrategy[tuple[bytes, bytes]]:
    """A body, and the bytes of an answer in chunks that breaks off before the last, empty one.

    The break may be anywhere: before a chunk, in its size, in its data, or in the line end after
    it.
    """
    content = st.sampled_from([b"river", b"0\r\n\r\n", b"x" * 300, b"\r\n"])

    def cut(body: list[bytes], at: float) -> tuple[bytes, bytes]:
        raw = b"".join(chunk(each, "", False, "") for each in body)
        head = b"HTTP/1.1 200 As Ordered\r\nTransfer-Encoding: chunked\r\n\r\n"
        return b"".join(body), head + raw[: round(at * len(raw))]

    places = st.sampled_from([0.0, 1.0, 0.99, 0.5]) | st.floats(0, 1)
    return st.builds(cut, st.lists(content, min_size=1, max_size=3), places)


# A client's requests


@dataclass(frozen=True)
class Asked:
    """The header lines of a request: `on` go on to the upstream, `off` end at the gateway."""

    on: tuple[Pair, ...]
    off: tuple[Pair, ...]

    @property
    def lines(self) -> list[str]:
        return [f"{name}: {value}" for name, value in (*self.on, *self.off)]


TWO_LINES_UP = (
    ("Accept", "text/csv"),
    ("Accept", "*/*;q=0.1"),
    ("Accept-Encoding", "identity"),
    ("Accept-Encoding", "gzip;q=0"),
    ("If-Match", '"a"'),
    ("If-Match", '"b", "c"'),
    ("If-None-Match", '"d"'),
    ("If-None-Match", 'W/"e"'),
)
"""Header lines that go on to the upstream, two of each name."""


EMPTY_UP = tuple((name, "") for name in ("Accept", "Accept-Encoding", "If-Match"))
"""Header lines without a value, which go on to the upstream as they are: an empty Accept-Encoding
says that the client wants no coding (RFC 9110, section 12.5.3)."""


NOT_UP = (
    *("Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "X-Note", "Referer"),
    *("Accept-Language", "Origin", "Range-Unit", "Accepted", "If"),
    *("X-Request-Id", "Traceparent", "Baggage", "Forwarded", "X-Forwarded-For", "X-Real-Ip"),
)
"""Names of header lines that end at the gateway; some resemble names of those that go on."""

ABOUT_THE_CLIENT = ("forwarded", "x-forwarded-for", "x-real-ip", "x-client-ip")
"""Lines in which a gateway tells for whom it asks, in lower case (RFC 7239)."""


def all_off(tag: str) -> Asked:
    """A request with each of these lines, and one that `Connection` names."""
    lines = tuple((name, f"{tag}-{number}") for number, name in enumerate(NOT_UP))
    return Asked((("Accept", "*/*"),), (*lines, ("Connection", "X-Hop"), ("X-Hop", tag)))


def asked(tag: str) -> SearchStrategy[Asked]:
    """Header lines of a client; each value that must not go on contains the tag."""
    on = st.tuples(
        _lines("Accept", ["text/csv", "*/*;q=0.1", "application/x-none"]),
        _lines("Accept-Encoding", ["identity", "gzip;q=0", "br;q=0.5", "x-none"]),
        _lines("Range", ["bytes=0-", "bytes=5-9", "bytes=-1, 3-4"], 1),
        _lines("If-Range", ['"v1"', "Sat, 21 Nov 2026 10:00:00 GMT"], 1),
        _lines("If-Match", ['"a"', '"b", "c"', "*"]),
        _lines("If-None-Match", ['"d"', 'W/"e"', '"f", "g"']),
        _lines("If-Modified-Since", ["Sat, 21 Nov 2026 10:00:00 GMT"], 1),
        _lines("If-Unmodified-Since", ["Sun, 22 Nov 2026 10:00:00 GMT"], 1),
    ).map(lambda some: tuple(pair for lines in some for pair in lines))
    off = st.lists(spelled_any(NOT_UP), max_size=4).map(
        lambda some: tuple((name, f"{tag}-{number}") for number, name in enumerate(some))
    )
    hop = st.sampled_from([(), (("Connection", "X-Hop"), ("X-Hop", tag)), (("TE", "trailers"),)])
    kept = st.sampled_from([(), (("Keep-Alive", "timeout=77"),)])
    return st.builds(lambda on, *off: Asked(on, sum(off, ())), on, off, hop, kept)


def spelled_any(names: Sequence[str]) -> SearchStrategy[str]:
    """One of these names, in any mixture of upper and lower case."""
    return st.sampled_from(names).flatmap(spelled)


# Names


ID_LETTERS = string.ascii_letters + string.digits + "-_"


def good_ids() -> SearchStrategy[str]:
    """IDs of 1 to 100 characters; the shortest and the longest are likely."""
    known = ["a", "-", "_", "0", "content", "files", "Z" * 100, "-" * 99, "none", "null"]
    return st.sampled_from(known) | texts(ID_LETTERS, 1, 100)


BAD_IDS = (
    *("..", ".", "%2e%2e", "%2E", "a%3Fkey=b", "..%2f..%2fadmin", "a%23b", "a%5Cb", "a.b"),
    *("a%252e", "a~b", "a:b", "a@b", "a+b", "a,b", "a'b", "(a)", "a!", "$a", "b" * 101),
    *("c" * 5000, "", "a%0A", "a%0D%0A", "%0Aa", "a%00", "%20a", "a%20"),
    # An accented letter, a digit of another script, the Kelvin sign, a long s.
    *("%C3%A9", "%D9%A3", "%E2%84%AA", "a%C5%BF", "%EF%BC%A1"),
)
"""Texts that are often taken for IDs, as they stand in a path."""


def bad_ids() -> SearchStrategy[str]:
    """Texts that are no IDs, as they stand in a path: with another character, empty, or too long.

    Letters and digits of other scripts are not allowed (RFC 3986, section 2.3), nor are line ends.
    """
    others = ["\n", "\r\n", "\0", " ", ".", "/", "\\", "?", "#", "%", "+", "~", ":", "@", "\u0663"]
    others += [
        "\xe9",
        "\u212a",
        "\u017f",
        "\uff21",
        "\u2028",
        "\x7f",
        ";",
        "=",
        "&",
        "..",
        "$",
        "*",
    ]
    good = texts(ID_LETTERS, most=8)
    ends = st.builds(lambda a, b: quote(a + b, safe=""), good.filter(bool), st.sampled_from(others))
    inside = st.builds(
        lambda a, b, c: quote(a + b, safe="") + c, good, st.sampled_from(others), good
    )
    # Some servers redirect a path that ends in a slash: there is no file at its end either.
    drawn = st.one_of(ends, inside).filter(lambda name: not name.endswith("%2F"))
    return st.sampled_from(BAD_IDS) | drawn


def unknown_providers() -> SearchStrategy[str]:
    """Names that are not the name of any provider."""
    known = ["sea", "rivers", "riv", "lake lake", "river;lake", "default", "key-of-the-lake", "0"]
    known += ["__class__", "None", "*", "../lake", "river/", "fastest", "chea", "r\xedver"]
    return st.sampled_from(known) | texts(ID_LETTERS, 1, 9).filter(
        lambda name: name.lower() not in ("river", "fast", "lake", "cheap")
    )
