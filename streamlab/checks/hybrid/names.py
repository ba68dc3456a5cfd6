"""Lab 05: files of any name and size arrive, on both sides of the threshold."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from random import Random

from hypothesis import strategies as st

from streamlab.checks.connection import Wanted, open_connection
from streamlab.checks.examples import for_all, texts
from streamlab.checks.hybrid.common import PLAIN, THRESHOLD, target_of
from streamlab.checks.outcome import promise
from streamlab.checks.probes import files, transfers
from streamlab.process.server import Server

# BYTES


def both_sides(launch: Callable[..., Server], rng: Random, scratch: Path) -> None:
    """Files near the threshold arrive unchanged, also through slow sockets."""
    sizes = (0, 1, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 2 * THRESHOLD)
    server = launch()
    with promise("first-line"), open_connection(server):
        pass
    with promise("file"):
        files.bytes_arrive(server, rng, sizes)
    names_are_found(server, rng)
    with promise("part-sent", one_recv="part-received"):
        more = [THRESHOLD + rng.randrange(1, 9999)]
        transfers.short_transfers(launch, rng, scratch, more)


LONGEST_NAME = 255
"""The bytes of the longest name that a file can have (`NAME_MAX`, pathconf(3))."""
AWKWARD = (
    *("a b.txt", "c++.html", "100%.txt", "a%20b.txt", "%41.txt", "what?.html", "#1.html"),
    *("a&b=c.txt", "caf\u00e9.pdf", "cafe\u0301.pdf", "\u6587\u4ef6.zip", "\U0001f600.png"),
    *("...", "..a", "a..b", "a.", "-rf", "~", "a;b", "C:\\x.txt", "'a'", "[1]", "a,b", " a "),
    *(".hidden", ".a", "X", "XX.txt", "$HOME", "`id`", "{a}", "a|b", "^", '"a"', "<b>", "a:b", "@"),
    "n" * LONGEST_NAME,
    "\u00e9" * (LONGEST_NAME // 2),
)
"""Names with characters of a target's syntax, or that a careless filter takes for a way out."""


def segments() -> st.SearchStrategy[str]:
    """Names of files and folders, of any characters; awkward ones are likely."""
    letters = PLAIN + ' "#%<>?[\\]^`{|}' + "\u00e9\u00df\u0416\u6587\U0001f600"
    return st.one_of(st.sampled_from(AWKWARD), texts(letters, 1, 12)).filter(
        lambda name: name not in (".", "..")
    )


@st.composite
def encoded(pick: st.DrawFn, path: str) -> str:
    """A path as it may stand in a target: any byte but a slash may be `%` and two hex digits."""
    raw = path.encode()
    ways = pick(st.lists(st.sampled_from("===xX"), min_size=len(raw), max_size=len(raw)))
    return "".join(
        target_of(chr(byte)) if byte < 128 and (how == "=" or byte == ord("/")) else _hex(byte, how)
        for byte, how in zip(raw, ways, strict=True)
    )


def _hex(byte: int, how: str) -> str:
    return f"%{byte:02x}" if how == "x" else f"%{byte:02X}"


def names_are_found(server: Server, rng: Random) -> None:
    """Files of all names are found, in folders too, in each encoding of the name."""
    paths = st.lists(segments(), min_size=1, max_size=3).map("/".join)

    def found(path: str, target: str) -> None:
        content = b"this is " + path.encode()
        file = server.root / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except OSError:
            return  # an earlier example made a file where this one needs a folder, or a folder
        with open_connection(server, {}) as connection:
            connection.note(f"there is a file {path!r} below DIR")
            # A file is a file, whatever lies beside it and whatever the client could unpack.
            accepted = "Accept-Encoding: gzip, deflate, br"
            connection.ask(Wanted(f"/{target}", content), accepted, "Connection: close")

    with promise("file"):
        for packed in ("page.css.gz", "page.css.br"):
            (server.root / packed).write_bytes(gzip.compress(b"a page, packed"))
        found("page.css", "page.css")
    with promise("names"):
        for name in rng.sample(AWKWARD, len(AWKWARD)):
            found(name, target_of(name))
        known = ["a folder/inner.txt", "a folder/one more/inner.txt"]
        for_all(paths, rng, lambda path: found(path, target_of(path)), known=known, examples=40)
    with promise("encoded"):
        both = paths.flatmap(lambda path: st.tuples(st.just(path), encoded(path)))
        name = "caf\u00e9-\u0416 .txt"
        whole = [(name, "".join(_hex(byte, how) for byte in name.encode())) for how in "xX"]
        for_all(both, rng, lambda pair: found(*pair), known=whole, examples=40)
