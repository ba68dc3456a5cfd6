"""Probes that labs share: calls of the system that take a part of what they are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from streamlab.checks.evidence import state_of
from streamlab.checks.outcome import fail
from streamlab.checks.probes.common import CHUNK, expect_download, name_of
from streamlab.checks.shims import Shim, shim_in
from streamlab.checks.waits import TRANSFER
from streamlab.errors import DownloadError
from streamlab.files import random_file
from streamlab.http.clients import download
from streamlab.process.server import Server

# SHORT

SHIMS: tuple[tuple[Shim, str, str], ...] = (
    ("short_recv", "give at most 16 bytes to each call of recv", "one_recv"),
    (
        "short_send",
        "take half of what a call of send gives, and at most 4096 bytes",
        "ignores_send",
    ),
)
"""What is put before a program's own code, so that calls on sockets transfer little: what that
makes sockets do, and the cause of a failure."""


def short_transfers(
    launch: Callable[..., Server], rng: Random, scratch: Path, more: Sequence[int] = ()
) -> None:
    """On sockets that give little at a time, or take little, files still arrive whole.

    The same files are asked for three times: on plain sockets, where a failure has nothing to do
    with short transfers; where a `recv` gives at most 16 bytes; where a `send` takes half of what
    it is given, and at most 4096 bytes.
    """
    plain = launch()
    files = [
        random_file(size, name_of(rng), plain.root, seed=rng.randrange(2**32))
        for size in (300_000 + rng.randrange(9999), 0, 5 * CHUNK, *more)
    ]
    for file in files:
        expect_download(plain, file, f"a file of {file.size} bytes, on plain sockets")
    plain.stop()
    for shim, what, cause in SHIMS:
        server = launch(environment=shim_in(scratch / shim, shim))
        for file in files:
            path = server.path_of(file)
            server.mark()
            try:
                download(server.url + path, file.path, timeout=TRANSFER)
            except DownloadError as error:
                fail(
                    cause,
                    f"On sockets that {what}, GET {path} ({file.size} bytes): "
                    f"{error.reason}. On plain sockets the same file arrived "
                    f"right.{state_of(server)}",
                )
        server.stop()
