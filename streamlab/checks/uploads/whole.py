"""Lab 11: a file is whole or it is not there, whatever happens to its upload."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from random import Random
from typing import BinaryIO

from streamlab.checks.connection import Connection
from streamlab.checks.evidence import log_of
from streamlab.checks.observe import busy_at_rest
from streamlab.checks.outcome import CheckFailed, promise, waiting
from streamlab.checks.uploads.common import (
    BOTH,
    BROKEN,
    PROMPT,
    Framed,
    Launch,
    end_check,
    expect_as_before,
    expect_status,
    expect_stored,
    half_by_hand,
    kill,
    leftovers,
    letters,
    path_of,
    put_by_hand,
    put_head,
    random_name,
    rest,
    right_alone,
    say,
    stored_below,
    talk,
    upload,
    visible,
)
from streamlab.files import KiB, MiB, open_plain
from streamlab.process.patience import Deadline
from streamlab.process.proc import descriptors
from streamlab.process.server import Server

DISK = 2
"""How large a file can become where the disk is full (MiB, `RLIMIT_FSIZE` of setrlimit(2))."""
BEYOND = 200 * KiB
"""By how much an upload is larger than that."""

SHARED_MEMORY = "/dev/shm"
"""A file system in memory, which Linux has (shm_overview(7))."""

# WHOLE


def files_are_whole(launch: Launch, rng: Random) -> None:
    """Readers see the old file or the new one, and what breaks off changes nothing."""
    with _another_disk() as environment:
        server = launch(environment=environment)
        right_alone(server, rng)
        _while_it_runs(server, rng)
        _second_half(server, rng)
        _two_at_once(server, rng)
        _clients_leave(server, rng)
        _killed(launch, server, rng)
    _disk_is_full(launch, rng)


@contextmanager
def _another_disk() -> Iterator[dict[str, str]]:
    """Variables that put Python's temporary files on another file system than most folders.

    There a rename into the folder fails, and `shutil.move` copies. Empty where there is none.
    """
    if not os.access(SHARED_MEMORY, os.W_OK):
        yield {}
        return
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        yield {"TMPDIR": folder}


@contextmanager
def half_sent(server: Server, name: str, framed: Framed, command: str) -> Iterator[Connection]:
    """An upload of which half has been sent, and which the server has done all it can with."""
    half = len(framed.data) // 2
    with talk(server, command) as connection:
        head = put_head(path_of(name), framed.length)
        how = f"sent half a PUT of {name}, {half} of {len(framed.data)} bytes {framed.how}"
        say(connection, head + framed.part(0, half), how)
        yield connection


def finish(connection: Connection, server: Server, name: str, framed: Framed, what: str) -> None:
    """Send the other half; then the file is there."""
    half = len(framed.data) // 2
    say(connection, framed.part(half, len(framed.data)) + framed.end, "sent the other half")
    answer = connection.receive("PUT")
    expect_stored(connection, server, name, framed.data, answer, what)


def old_and_new(server: Server, rng: Random) -> list[tuple[str, bytes | None, Framed]]:
    """Uploads in both forms, of names with a file and without: the name, the file, the upload."""
    found: list[tuple[str, bytes | None, Framed]] = []
    for chunked in BOTH:
        for is_there in BOTH:
            name, old = random_name(rng), None
            if is_there:
                old = letters(rng, rng.randrange(30_000, 40_000))
                upload(server, name, Framed(old))
            data = rng.randbytes(rng.randrange(400_000, 500_000))
            found.append((name, old, Framed(data, chunked)))
    return found


def _while_it_runs(server: Server, rng: Random) -> None:
    """During an upload the name has what it had, and one who has the old file open keeps it."""
    for name, old, framed in old_and_new(server, rng):
        hand = half_by_hand(path_of(name), framed)
        before = visible(server.root)
        with half_sent(server, name, framed, hand) as connection, ExitStack() as stack:
            rest(server)
            with promise("hidden"):
                if new := sorted(visible(server.root) - before - {name}):
                    told = f"Half an upload of {name!r} has come, and clients see {new[0]!r} now"
                    end_check("seen", server, told, hand)
            with promise("old"):
                summary = f"Half an upload of {path_of(name)} has come, {framed.how}"
                expect_as_before(server, name, old, summary, hand)
            opened = stack.enter_context(open_plain(server.root / name)) if old else None
            with promise("old"):
                finish(connection, server, name, framed, "an upload in two halves")
            if opened is not None and old is not None:
                with promise("opened"):
                    _expect_kept(server, opened, old, name)


def _expect_kept(server: Server, opened: BinaryIO, old: bytes, name: str) -> None:
    """The file that was opened before an upload is what it was."""
    if opened.read(4 * MiB) != old:
        end_check(
            "old_lost",
            server,
            f"A reader opened {name!r}, then an upload took its place, and the reader read on. It "
            "should get the old file to its end, and got other bytes",
            put_by_hand(path_of(name), 1000),
        )


def _second_half(server: Server, rng: Random) -> None:
    """A part of a file does not take the place of the whole (RFC 9110, section 9.3.4)."""
    for there in BOTH:
        name, old = random_name(rng), letters(rng, 1000) if there else None
        if old is not None:
            upload(server, name, Framed(old))
        line = "Content-Range: bytes 500-999/1000"
        hand = (
            "head -c 1000 /dev/zero > sent && curl -sS -i -C 500 -T sent "
            f"http://127.0.0.1:PORT{path_of(name)}; ls -lA ROOT"
        )
        with promise("part"), talk(server, hand) as connection:
            connection.send(put_head(path_of(name), 500, line) + letters(rng, 500))
            answer = connection.receive("PUT")
            summary = "The second half of a file was sent with Content-Range"
            expect_as_before(server, name, old, summary, hand)
            expect_status(connection, answer, (400,), "half_file", "PUT with Content-Range")


def _two_at_once(server: Server, rng: Random) -> None:
    """Two uploads of one name do not mix: each is whole when it is answered."""
    with promise("two"):
        name = random_name(rng)
        one, other = (Framed(letters(rng, 200_000), chunked) for chunked in BOTH)
        with (
            half_sent(server, name, one, "") as first,
            half_sent(server, name, other, "") as second,
        ):
            rest(server)
            told = "two uploads of one name at the same time"
            with _mixed():
                finish(first, server, name, one, told)
                finish(second, server, name, other, told)


@contextmanager
def _mixed() -> Iterator[None]:
    """A failure inside says that the two got into each other's way."""
    try:
        yield
    except CheckFailed as failure:
        if failure.cause in ("wrong_bytes", "no_file", "wrong_status"):
            failure.cause = "mixed"
        raise


def _clients_leave(server: Server, rng: Random) -> None:
    """Nothing of an upload is left when its client has left in the middle."""
    uploads = old_and_new(server, rng)
    before = stored_below(server.root)
    open_before = len(descriptors(server.supervisor_pid))
    for _ in range(2):
        with ExitStack() as stack:
            for number, (name, _, framed) in enumerate(uploads):
                connection = stack.enter_context(half_sent(server, name, framed, ""))
                if number % 2:  # the kernel sends a reset (socket(7), SO_LINGER)
                    linger = struct.pack("ii", 1, 0)
                    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            rest(server)
        rest(server)
        for name, old, framed in uploads:
            hand = half_by_hand(path_of(name), framed)
            summary = f"A client sent half an upload of {path_of(name)}, {framed.how}, and left"
            with promise("leaves"):
                expect_as_before(server, name, old, summary, hand)
    with promise("nothing-left"):
        framed = uploads[0][2]
        hand = half_by_hand(path_of(uploads[0][0]), framed)
        summary = "8 clients sent half an upload and left"
        if left := leftovers(server.root, before):
            told = f"{summary}. {PROMPT:g} s later their parts are still there:\n\n{left}\n"
            end_check("leftovers", server, told, hand)
        if (now := _descriptors(server, open_before)) > open_before + 3:
            told = f"{summary}. Before, the server had {open_before} descriptors, and {now} after"
            end_check("leaks", server, f"{told} {PROMPT:g} s{log_of(server)}", hand)
        if busy := busy_at_rest(server, 0.3):
            end_check("busy_loop", server, f"{summary}. With all of them gone, it {busy}", hand)
    for name, _, framed in uploads[:2]:
        with promise("leaves"):
            upload(server, name, framed, "an upload after one that was broken off")


@waiting("until the server has put away what it opened")
def _descriptors(server: Server, before: int) -> int:
    """How many descriptors a server has once they are as before, or time is up."""
    deadline = Deadline(PROMPT)
    while (now := len(descriptors(server.supervisor_pid))) > before + 3 and not deadline.passed:
        deadline.pause(0.1)
    return now


def _killed(launch: Launch, server: Server, rng: Random) -> None:
    """A server that is killed leaves no half file, and starts again."""
    uploads = old_and_new(server, rng)
    with ExitStack() as stack:
        for name, _, framed in uploads:
            stack.enter_context(half_sent(server, name, framed, ""))
        rest(server)
        kill(server)
    again = launch()
    with promise("killed"):
        for name, old, framed in uploads:
            summary = f"The server was killed when half of {name!r} had come, and started again"
            expect_as_before(again, name, old, summary)
            upload(again, name, framed, "an upload after a new start")
    again.stop()


def _disk_is_full(launch: Launch, rng: Random) -> None:
    """Where there is no room for an upload, its client is told, and the old file stays.

    The limit on the size of a file makes a write fail as on a full disk, for any user.
    """
    first = launch()
    cup = first.cup
    assert cup is not None
    first.stop()
    server = launch(cup=replace(cup, fsize_mib=DISK))
    right_alone(server, rng)
    for chunked in BOTH:
        name, old = random_name(rng), letters(rng, 1000)
        upload(server, name, Framed(old))
        for target, kept in ((name, old), (random_name(rng), None)):
            before = stored_below(server.root)
            framed = Framed(rng.randbytes(DISK * MiB + BEYOND), chunked)
            hand = f"ulimit -f {DISK * 1024}  # for the server; then: " + put_by_hand(
                path_of(target), len(framed.data), chunked=chunked
            )
            summary = f"PUT of {len(framed.data)} bytes, where a file can have {DISK} MiB"
            with promise("full"), talk(server, hand) as connection:
                body = framed.part(0, len(framed.data)) + framed.end
                head = put_head(path_of(target), framed.length)
                say(connection, head + body, f"sent {summary}, {framed.how}")
                answer = connection.receive("PUT")
                expect_status(connection, answer, BROKEN, "full_unseen", summary)
            with promise("full-old"):
                expect_as_before(server, target, kept, summary, hand)
                if left := leftovers(server.root, before):
                    told = f"{summary}: what was stored of it is still there:\n\n{left}\n"
                    end_check("leftovers", server, told, hand)
        with promise("full-old"):
            upload(server, name, Framed(letters(rng, 2000), chunked), "a small upload after that")
