"""Lab 02's file server: targets and heads of requests.

Inputs that have many forms are drawn, and a model that follows RFC 3986 and RFC 9112 says which
answer is right. Sizes are in bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from hypothesis import strategies as st

from streamlab.checks.evidence import by_hand, cause_of, shown, state_of
from streamlab.checks.examples import for_all, texts
from streamlab.checks.exchange import ask, ask_over, connected, request_for
from streamlab.checks.outcome import CheckFailed, fail, promise
from streamlab.checks.probes.common import folder_in, name_of
from streamlab.checks.probes.requests import (
    expect_answer,
    split_requests,
    stays_below_root,
    stays_in_step,
    stays_inside,
)
from streamlab.files import KiB, random_file
from streamlab.process.server import Server

Launch = Callable[..., Server]
HEAD = 16 * KiB
"""The longest head of a request that the server has to answer."""
LINES = 80
"""The most lines of such a head, without the empty one."""


# WIRE


def check_http_syntax(launch: Launch, rng: Random) -> None:
    """Answers are HTTP; names are found in every encoding; nothing outside is given out."""
    server = launch()
    content = b"line\r\n\r\n\0\xff" + rng.randbytes(rng.randrange(2000, 3000))
    name = name_of(rng, "-2.tar.gz")
    (server.root / name).write_bytes(content)
    folder_in(server.root)
    (server.root / "folder" / "inside.txt").write_bytes(b"in a folder")
    with promise("first-line"):
        _listens(server)
    with promise("head", no_end="end", cut_short="end"):
        expect_answer(server, server.path_of(name), 200, content)
    with promise("folders"):
        expect_answer(server, server.path_of("folder/inside.txt"), 200, b"in a folder")
    with promise("no-file"):
        expect_answer(server, server.path_of(name_of(rng)), 404)
        expect_answer(server, f"{server.path_of(name)}/{name_of(rng)}", 404)
    folder_in(server.root, ".")
    for folder in ("/folder", "/folder/", "/"):
        with promise("folder"):
            expect_answer(server, folder, 404)
    with promise("outside"):
        stays_inside(server, rng)
    empty = random_file(0, name_of(rng), server.root)
    with promise("next-request", no_end="end"):
        stays_in_step(server, name, content, [empty.name, "folder", name_of(rng)])
    names_are_found(server, rng)
    with promise("no-file"):
        expect_answer(server, server.path_of(name), 200, content)
    server.stop()
    with promise("run"):
        _takes_the_port(launch)


def _listens(server: Server) -> None:
    """The server accepts a connection directly after its first line."""
    try:
        with connected(server):
            pass
    except OSError as error:
        fail(
            cause_of("refused", server),
            f"Its first line said {server.url}. A connection to that port, directly after the "
            f"line, failed: {error}.{state_of(server)}",
        )


def _takes_the_port(launch: Launch) -> None:
    """The server listens on the port that `--port` names."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = launch(port=port)
    if server.url != f"http://127.0.0.1:{port}":
        fail(
            "wrong_port",
            f"Started with --port {port}, the server's first line names {server.url}."
            f"{state_of(server)}",
        )
    server.stop()


LETTERS = "abcXYZ019"
AWKWARD = (
    *("...", "..a", "a..b", "a.", ".hidden", "-", "--", "-a", "0", "A", "a.tar.gz", "b-2.0.bin"),
)
"""Names that a careless filter takes for a way out, or for something else."""


def segments() -> st.SearchStrategy[str]:
    """Names of files and folders, of letters, digits, dots and dashes; awkward ones are likely."""
    return st.one_of(
        st.sampled_from(AWKWARD),
        texts(LETTERS + ".-", 1, 12).filter(lambda name: name not in (".", "..")),
        st.integers(100, 250).map(lambda length: "n" * length),
    )


@st.composite
def encoded(pick: st.DrawFn, text: str) -> str:
    """A text as it may stand in a target: any byte but a slash may be `%` and two hex digits."""
    written = pick(st.lists(st.sampled_from("====xX"), min_size=len(text), max_size=len(text)))
    return "".join(
        letter if how == "=" or letter == "/" else f"%{ord(letter):02{how}}"
        for letter, how in zip(text, written, strict=True)
    )


def names_are_found(server: Server, rng: Random) -> None:
    """Files with all names that the lab allows are found, in folders too, plain and encoded."""
    folder = server.root / name_of(rng, "")
    folder.mkdir()
    paths = st.lists(segments(), min_size=1, max_size=4).map("/".join)

    def found(path: str, target: str) -> None:
        file = folder / path
        content = b"this is " + path.encode()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():
                return  # an earlier example made a folder of this name
            file.write_bytes(content)
        except (FileExistsError, NotADirectoryError):
            return  # an earlier example made a file where this one needs a folder
        answer = expect_answer(server, server.path_of(f"{folder.name}/{target}"), 200, content)
        assert answer.status == 200

    with promise("names"):
        for name in AWKWARD:  # directly below DIR, with no folder before them
            content = b"this is " + name.encode()
            (server.root / name).write_bytes(content)
            expect_answer(server, server.path_of(name), 200, content)
        for_all(paths, rng, lambda path: found(path, path), examples=30)
    with promise("encoded"):
        both = paths.flatmap(lambda path: st.tuples(st.just(path), encoded(path)))
        name = name_of(rng)  # with a dash or a dot, whose hex digits have a letter
        whole = [(name, "".join(f"%{ord(letter):02{how}}" for letter in name)) for how in "xX"]
        for_all(both, rng, lambda pair: found(*pair), known=whole, examples=30)
    with promise("outside"):
        secret = server.root.parent / name_of(rng, ".secret")
        secret.write_bytes(b"not for clients")
        out = ways_out(folder.name, server.root.name, secret.name)
        known = [
            _in_codes([folder.name, "..", "..", secret.name], dot, slash)
            for dot in DOTS
            for slash in SLASHES
        ]
        for_all(out, rng, lambda target: stays_below_root(server, target), known=known, examples=50)
    with promise("no-file"):
        (server.root / name).write_bytes(b"this has no % in its name")
        expect_answer(server, server.path_of(f"%25{ord(name[0]):02x}{name[1:]}"), 404)


DOTS = (".", "%2e", "%2E", "%252e")
SLASHES = ("/", "%2f", "%2F", "%252F")
"""A dot and a slash as they may be written in a target; the last of each is encoded twice."""


def _in_codes(steps: Sequence[str], dot: str, slash: str) -> str:
    return "/".join(steps).replace("/", slash).replace(".", dot)


@st.composite
def ways_out(pick: st.DrawFn, folder: str, root: str, secret: str) -> str:
    """Targets that lead to a file beside the root, with dots and slashes in all encodings."""
    inside = pick(st.lists(st.sampled_from([".", "", f"{folder}/.."]), max_size=3))
    deep = pick(st.booleans())
    steps = [*inside, *[folder] * deep, *[".."] * (1 + deep)]
    if pick(st.booleans()):
        steps += [root, ".."]
    return _in_codes([*steps, secret], pick(st.sampled_from(DOTS)), pick(st.sampled_from(SLASHES)))


# SPLIT and SHORT


@dataclass(frozen=True)
class Head:
    """The head of a request: its first line asks for a file, the others are drawn."""

    lines: tuple[bytes, ...]
    padding: int
    """The length of the value of one more header. It fills the head, at most up to the limit."""
    cuts: tuple[int, ...]
    """Where the head is cut into pieces, in thousandths of its length."""
    host: bytes = b"127.0.0.1"
    """The value of Host: one server may have many names."""

    def pieces(self, path: str) -> list[bytes]:
        """The pieces to send for a path: at most `HEAD` bytes in all."""
        first = [f"GET {path} HTTP/1.1".encode(), b"Host: " + self.host, b"Connection: close"]
        lines = [*first, *self.lines]
        room = HEAD - sum(len(line) + 2 for line in lines) - len(b"X-Fill: \r\n\r\n")
        if self.padding and room > 0:
            lines.append(b"X-Fill: " + b"x" * min(self.padding, room))
        head = b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        edges = [0, *sorted(len(head) * cut // 1000 for cut in self.cuts), len(head)]
        return [head[a:b] for a, b in pairwise(edges) if b > a]


def heads(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[Head]:
    """Heads of up to `LINES` lines and `HEAD` bytes, often full; `values` are of headers."""
    names = st.sampled_from([b"Accept", b"Cookie", b"X-A", b"x-odd_name.2", b"User-Agent", b"DNT"])
    spaces = st.sampled_from([b" ", b"", b"  ", b"\t"])
    lines = st.builds(lambda name, space, value: name + b":" + space + value, names, spaces, values)
    most = LINES - 4  # the lines of `first`, and the padding
    return st.builds(
        Head,
        st.one_of(
            st.lists(lines, max_size=5),
            st.lists(lines, min_size=most, max_size=most),
            st.lists(lines, max_size=most),
        ).map(tuple),
        st.one_of(
            st.just(0), st.just(HEAD), st.sampled_from([4000, 8192, 9000]), st.integers(1, HEAD)
        ),
        st.lists(st.integers(0, 1000), max_size=3).map(tuple),
    )


FULL_HEADS = (
    Head((), HEAD, ()),
    Head((), 9000, ()),
    Head(tuple(b"X-%02d: %b" % (number, b"x" * 150) for number in range(LINES - 4)), 0, ()),
    Head((b"X-A: x",) * (LINES - 4), HEAD, (500,)),
)
"""As long as promised in one line or in many, and one line that is longer than many limits."""

BROWSER = (
    b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
    b"Accept-Encoding: gzip, deflate, br, zstd",
    b"Accept-Language: de-CH,de;q=0.9,en;q=0.8",
    b"Upgrade-Insecure-Requests: 1",
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    b"Sec-Fetch-Dest: document",
    b"Cookie: a=1; b=2",
)
"""Header lines of a browser."""
COMMON_HEADS = (
    Head(BROWSER, 0, ()),
    Head(BROWSER, 0, (), b"files.example:8080"),
    Head((b"Accept: image/x-none", b"Accept-Encoding: gzip"), 0, (), b"[::1]:8000"),
)
"""Heads that change nothing here, though other servers look at them."""

ASCII = st.one_of(
    st.just(b""), texts('ab =;,"/:1', most=30).map(lambda text: text.strip().encode())
)
OBS_TEXT = bytes(range(0x80, 0x100))
"""The bytes from 0x80 on (RFC 9110, section 5.5). As Latin-1 text, one of them ends a line for
Python (0x85), and two are spaces (0x85, 0xA0)."""
LATIN = st.one_of(
    st.sampled_from([b"caf\xe9", b"\xff", b"\xc3\xa9", b"\x80x", b"a\x85b", b"\xa0"]), ASCII
)


def heads_are_read(server: Server, rng: Random) -> None:
    """Heads up to the promised size, with any headers, are read; a longer one does no harm."""
    content = rng.randbytes(5000)
    name = name_of(rng)
    (server.root / name).write_bytes(content)
    path = server.path_of(name)

    def answered(head: Head) -> None:
        pieces = head.pieces(path)
        answer = ask(server, pieces)
        if answer.problem or (answer.status, answer.body) != (200, content):
            size, lines = sum(map(len, pieces)), len(b"".join(pieces).split(b"\r\n")) - 2
            longest = max(map(len, b"".join(pieces).split(b"\r\n")))
            fail(
                "head_refused",
                f"The head of a request for {path} had {size} bytes in {lines} lines, the longest "
                f"of {longest} bytes:\n\n{shown(b''.join(pieces))}\n\nCame back:\n\n"
                f"{shown(answer.raw)}\n\n{answer.problem or 'It should be status 200 and the file'}"
                f". A head of 4 short lines was answered right.{state_of(server)}",
                by_hand(pieces),
            )

    with promise("pieces"):
        # First, because the heads below are sent in pieces too.
        split_requests(server, rng, long_heads=False)
    with promise("head-size"):
        for_all(heads(ASCII), rng, answered, known=FULL_HEADS, examples=30)
    with promise("any-header"):
        for head in COMMON_HEADS:
            answered(head)
        answered(Head((b"X-All: x" + OBS_TEXT + b"x",), 0, ()))
        for_all(heads(LATIN), rng, answered, examples=15)
    with promise("longer-head"):
        with suppress(OSError), connected(server, 2) as sock:
            ask_over(sock, [request_for(path, f"X-Long: {'x' * 200_000}")], patience=2)
        try:
            expect_answer(server, path, 200, content)
        except CheckFailed as failure:
            failure.evidence = (
                "After a request whose head had 200 KB, which may be refused, a request like the "
                f"one that was answered right before:\n\n{failure.evidence}"
            )
            raise
