"""Lab 11: what an upload may be called, and what it may not."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from hypothesis import strategies as st

from streamlab.checks.evidence import by_hand
from streamlab.checks.examples import for_all
from streamlab.checks.outcome import promise
from streamlab.checks.request_forms import (
    AWKWARD_NAMES,
    LONGEST_NAME,
    file_names,
    percent_encoded,
)
from streamlab.checks.uploads.common import (
    FILES,
    REFUSED,
    Launch,
    content,
    end_check,
    letters,
    path_of,
    put_head,
    right_alone,
    stored_below,
    talk,
)
from streamlab.process.server import Server

FOLDER = "folder"
"""A folder that is there before the server starts, with a file in it."""
LITERAL = ("%2e%2e%2fevil", "a%2Fb", "100%.bin", "a+b&c=d", "%25", "what?#x", "C:\\evil")
"""Names that look like something else when they are decoded twice, or as a query."""
LONGEST = ("n" * LONGEST_NAME, "\u0436" * 127 + "x", "\U0001f3a5" * 63 + ".mp")
"""Names of 255 bytes."""
DOTTED = (".", "..", "%2e", "%2e%2e", ".hidden", "%2Ehidden", "...", ".parts", "..mp4")
OUTSIDE = (
    *("..%2Fevil", "%2e%2e%2fevil", "..%2F..%2Fevil", "folder%2F..%2F..%2Fevil", "a%2Fb"),
    *("folder%2Fevil", "%2Fevil", "%2Ftmp%2Fevil", "../evil", "folder/../../evil", "a/b"),
    *("%2e%2e/evil", "..%2f/evil", "", "%00", "a%00b", "evil%00.bin"),
)
"""Paths behind `/files/` that are no name: with a slash or a NUL in them, or empty."""

# NAMES


def names_are_kept(launch: Launch, root: Path, rng: Random) -> None:
    """A file gets the name that was sent, byte for byte, or none at all."""
    (root / FOLDER).mkdir()
    (root / FOLDER / "kept").write_bytes(b"a file in a folder\n")
    server = launch()
    right_alone(server, rng)
    usual = [name for name in (*AWKWARD_NAMES, *LITERAL) if is_allowed(name)]
    known = [(name, path_of(name)) for name in usual]
    with promise("names"):
        drawn = file_names().filter(is_allowed)
        encoded = drawn.flatmap(
            lambda name: st.tuples(st.just(name), percent_encoded(name).map(FILES.__add__))
        )
        for_all(encoded, rng, lambda each: _stored(server, rng, *each), known=known)
    with promise("longest"):
        for name in LONGEST:
            _stored(server, rng, name, path_of(name))
        for name in (*(f"{name}x" for name in LONGEST), "n" * 5000):
            _refused(server, rng, path_of(name), "a name of more than 255 bytes")
    with promise("dotted"):
        for path in DOTTED:
            _refused(server, rng, FILES + path, "a name that begins with a dot")
    with promise("outside"):
        for path in OUTSIDE:
            _refused(server, rng, FILES + path, "no name of a file")
    with promise("folder"):
        _refused(server, rng, path_of(FOLDER), "the name of a folder")
        if content(root / FOLDER / "kept") is None:
            end_check("old_lost", server, f"PUT {path_of(FOLDER)}: the folder's file is gone")


def is_allowed(name: str) -> bool:
    """Whether the lab's text allows a name: no dot at its beginning, no line end.

    The longest names have a probe of their own.
    """
    return not name.startswith(".") and not set(name) & {"\n", "\r"} and len(name.encode()) < 200


def _stored(server: Server, rng: Random, name: str, path: str) -> None:
    """A file of that name is there after an upload to the path, and nothing else is new."""
    data = letters(rng, 30)
    before = set(os.listdir(server.root))
    with talk(server) as connection:
        connection.note(f"The name is {name!r}. An ordinary name was stored before")
        connection.send(put_head(path, len(data)) + data)
        answer = connection.receive("PUT")
        if answer.status not in (200, 201, 204):
            what = f"The status should be 201, and {answer.status} came"
            connection.fault("odd_name", what, answer.raw)
        if content(server.root / name) != data:
            new = sorted(set(os.listdir(server.root)) - before)[:3]
            what = (
                f"There is no such file afterwards. New are {', '.join(map(repr, new)) or 'none'}"
            )
            connection.fault("odd_name", what, answer.raw)


def _refused(server: Server, rng: Random, path: str, what: str) -> None:
    """An upload to this path is refused, and changes nothing in the folder or beside it."""
    data = letters(rng, 30)
    around = server.root.parent
    before = stored_below(around)
    raw = put_head(path, len(data)) + data
    with talk(server, by_hand([raw])) as connection:
        connection.note(f"The path has {what}")
        connection.send(raw)
        answer = connection.receive("PUT")
        if new := sorted(stored_below(around).keys() - before.keys()):
            inside = all(Path(name).is_relative_to(server.root.name) for name in new)
            told = f"There is a new file now: {new[0]!r}, seen from the folder's parent"
            connection.fault("bad_name" if inside else "traversal", told, answer.raw)
        if answer.status not in REFUSED:
            told = f"The status should be one from 400 to 499, and {answer.status} came"
            connection.fault("bad_name", told, answer.raw)
