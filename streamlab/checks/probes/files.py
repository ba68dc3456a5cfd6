"""Probes that labs share: files of any size arrive byte for byte. Sizes are in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from streamlab.checks.evidence import cause_of, curl, state_of
from streamlab.checks.observe import traced, wait_until_idle
from streamlab.checks.outcome import fail
from streamlab.checks.probes.common import CHUNK, crowd, expect_download, name_of
from streamlab.checks.waits import LARGE_TRANSFER
from streamlab.files import GiB, MiB, SampleFile, TiB, random_file, size_text, sparse_file
from streamlab.http.clients import Load, Pace
from streamlab.process.server import Server

# BYTES


AWKWARD = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK)
"""Sizes at which a loop of chunks goes wrong."""


def bytes_arrive(server: Server, rng: Random, awkward: Sequence[int] = AWKWARD) -> None:
    """Files of awkward sizes and contents arrive as they are."""
    sizes = [*awkward, 24 * MiB + rng.randrange(1, 9999)]
    files = [
        random_file(size, name_of(rng), server.root, seed=rng.randrange(2**32)) for size in sizes
    ]
    spaces = server.root / name_of(rng, ".txt")
    spaces.write_bytes(b"begin" + b" \r\n\t" * (CHUNK // 2) + b"\0end\x80\xff")
    files.append(SampleFile(spaces, spaces.stat().st_size))
    for file in rng.sample(files, len(files)):
        what = "white space" if file.path == spaces else "random bytes"
        expect_download(server, file, f"a file of {file.size} bytes ({what})")
    _rest_arrives(server, files[len(awkward)])


def _rest_arrives(server: Server, file: SampleFile) -> None:
    """A client that waits until the sockets are full gets the rest too: a send took only a part."""
    path = server.path_of(file)
    with crowd(server, file, Load(path, 1, "slow", CHUNK)) as one:
        one.arrive()
        wait_until_idle(server)
        [result] = one.finish()
    if result.error is not None:
        fail(
            cause_of(result.failure, server),
            f"A client took {size_text(CHUNK)} of {path} ({size_text(file.size)}), waited a "
            f"moment, and took the rest: {result.error}.{state_of(server)}",
            curl(server, path, "--limit-rate 20M -o got"),
        )


# HUGE


def huge_files(server: Server, rng: Random) -> None:
    """Files larger than the server's memory pour through it: one whole, a huge one in part."""
    whole = sparse_file(
        rng.randrange(320 * MiB, 400 * MiB), name_of(rng), server.root, 6, rng.randrange(2**32)
    )
    # Too large to be gone through beforehand, even where it is nothing but holes.
    sizes = [70 * GiB, 300 * GiB, TiB]
    part = sparse_file(
        rng.choice(sizes) + rng.randrange(MiB), name_of(rng), server.root, 6, rng.randrange(99)
    )
    orders: list[tuple[SampleFile, Pace, int]] = [
        (whole, "fast", whole.size),
        (part, "stalled", 270 * MiB),
    ]
    for file, pace, first in rng.sample(orders, 2):
        _pour(server, file, pace, first)


def _pour(server: Server, file: SampleFile, pace: Pace, first: int) -> None:
    path = server.path_of(file)
    load = Load(path, 1, pace, first)
    with traced(server) as trace, crowd(server, file, load, LARGE_TRANSFER) as clients:
        clients.arrive()
        [result] = clients.finish()
    if result.error is not None:
        fail(
            cause_of(result.failure, server),
            f"GET {path}, {size_text(file.size)}, in {server.cup}: {result.error}, after "
            f"{size_text(result.size)} that were right.\n{trace.line}{state_of(server)}",
            curl(server, path),
        )
