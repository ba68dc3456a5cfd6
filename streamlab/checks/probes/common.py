"""Files, downloads and waiting clients that several probes need. Sizes are in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from streamlab.checks import waits
from streamlab.checks.evidence import cause_of, curl, state_of
from streamlab.checks.observe import wait_until_idle
from streamlab.checks.outcome import fail, waiting
from streamlab.errors import DownloadError
from streamlab.files import KiB, MiB, SampleFile, random_file, size_text
from streamlab.http.clients import Crowd, Download, Job, Load, download
from streamlab.process.server import Server

CHUNK = 64 * KiB


def name_of(rng: Random, ending: str = ".bin") -> str:
    """A file name that tells nothing: eight random letters."""
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=8)) + ending


def folder_in(root: Path, name: str = "folder") -> None:
    """Make a folder that has an index page, so that a server which gives that is noticed."""
    (root / name).mkdir(parents=True, exist_ok=True)
    for index in ("index.html", "index.htm"):
        (root / name / index).write_bytes(b"an index page that nobody may see\n")


@waiting("until a client has all of a file")
def expect_download(server: Server, file: SampleFile, what: str) -> Download:
    """One client gets a file whole and right; else the check fails with the likeliest cause."""
    path = server.path_of(file)
    server.mark()
    try:
        return download(server.url + path, file.path, timeout=waits.TRANSFER)
    except DownloadError as error:
        reason = error.reason
        options = "-v -o got" if error.failure == "too_many" else "-o got"  # curl counts the excess
        fail(
            cause_of(error.failure, server),
            f"GET {path}, {what}: {reason}.{state_of(server)}",
            curl(server, path, options),
        )


@waiting("until a client has the first bytes of a file")
def right_alone(server: Server, file: SampleFile, first: int, path: str = "") -> None:
    """One client, with no other there, gets the first bytes of a file right: `first` of them.

    A check that asks for more than that asks this first. What is wrong here is the cause, and the
    question of the check stays open.
    """
    path = path or server.path_of(file)
    server.mark()
    try:
        download(server.url + path, file.path, timeout=waits.TRANSFER, first=min(first, file.size))
    except DownloadError as error:
        fail(
            cause_of(error.failure, server),
            f"With no other client there, GET {path} ({size_text(file.size)}) already goes wrong: "
            f"{error.reason}.{state_of(server)}",
            curl(server, path, "-o got"),
        )


def dense_file(size: int, name: str, folder: Path, rng: Random) -> SampleFile:
    """A file without a hole, without a repetition that one could find, and quickly written."""
    block = rng.randbytes(MiB)
    with (folder / name).open("wb") as file:
        for turn in range(0, size, MiB):
            cut = turn // MiB * 4099  # no chunk of one block is a chunk of another
            file.write((block[cut:] + block[:cut])[: size - turn])
    return SampleFile(folder / name, size)


def warm_up(server: Server, rng: Random) -> None:
    """One small request, after which a baseline is honest."""
    small = random_file(4 * KiB, name_of(rng), server.root, seed=rng.randrange(2**32))
    expect_download(server, small, "a small file")
    wait_until_idle(server)


@contextmanager
def crowd(
    server: Server, file: SampleFile, load: Load, timeout: float = waits.TRANSFER
) -> Iterator[Crowd]:
    """Clients that load a server, and get the bytes of `file`, or the first ones of a longer body.

    All of them together have `timeout` seconds.
    """
    port = int(server.url.rpartition(":")[2])
    server.mark()
    job = Job(port, replace(load, source=file.path), timeout, drop_cache=load.clients == 1)
    try:
        with waiting(f"for clients to take a file: {load.clients}"), Crowd(job) as many:
            yield many
    except DownloadError as error:
        if error.failure != "overdue":
            raise
        fail(
            "no_answer",
            f"{load.clients} clients of {load.path} ({size_text(file.size)}) were answered so "
            f"slowly that their time was up: {error}.{state_of(server)}",
            curl(server, load.path),
        )
