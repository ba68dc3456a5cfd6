"""Lab 11: many uploads at once cost little, and none of them waits for another one."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from streamlab.checks.connection import Connection
from streamlab.checks.observe import at_work, held_by, peak_memory, traced
from streamlab.checks.outcome import promise
from streamlab.checks.shims import held_writes_in
from streamlab.checks.uploads.common import (
    LAST_CHUNK,
    PROMPT,
    STORED,
    Framed,
    Launch,
    chunk,
    content,
    end_check,
    expect_status,
    letters,
    path_of,
    put_by_hand,
    put_head,
    random_name,
    rest,
    right_alone,
    say,
    talk,
)
from streamlab.checks.uploads.tus import Upload, new_upload, resume_by_hand
from streamlab.checks.waits import LARGE_TRANSFER
from streamlab.files import KiB, MiB, open_plain, size_text
from streamlab.process.server import Server

CLIENTS = 8
EACH = MiB
"""Bytes that a server may hold for each upload."""
SLACK = 16 * MiB
"""Bytes that it may hold besides, for what Python and the C library keep."""
SENT = 10 * MiB
"""What each client has sent when it pauses: a server that keeps it holds far more than `EACH`."""
MORE = 128 * KiB + 5
"""What each client sends after its pause."""
LARGER = 8 * MiB
"""By how much the largest upload is larger than the cup."""

FIRST = 12
"""Bytes that show an answer: its version and its status."""

# HOLD


def crowd_is_served(launch: Launch, rng: Random, scratch: Path) -> None:
    """Eight clients at once, a file larger than the cup, clients that are slow, a slow disk."""
    server = launch()
    right_alone(server, rng)
    baseline = held_by(server)
    with ExitStack() as stack:
        many = _let_send(server, rng, baseline, stack)
        summary = f"{CLIENTS} clients had each sent {size_text(SENT)} of an upload and paused"
        with promise("slow"):
            others_are_served(server, rng, summary)
            _beside_half_requests(server, rng, summary)
        with promise("clients"):
            for each in many:
                each.finish(server)
    with promise("cup"):
        _larger_than_the_cup(server, rng)
    server.stop()
    _beside_a_slow_disk(launch, rng, scratch)


class Source:
    """Data without end that differ from client to client and need no memory."""

    def __init__(self, rng: Random) -> None:
        self._block = rng.randbytes(256 * KiB)

    def pieces(self, begin: int, end: int) -> Iterator[bytes]:
        """The bytes from `begin` to `end`."""
        while begin < end:
            at = begin % len(self._block)
            piece = self._block[at : at + end - begin]
            yield piece
            begin += len(piece)

    def digest(self, size: int) -> str:
        digest = hashlib.sha256()
        for piece in self.pieces(0, size):
            digest.update(piece)
        return digest.hexdigest()


@dataclass
class Client:
    """One of many clients, in the middle of its upload."""

    name: str
    connection: Connection
    source: Source
    chunked: bool
    upload: Upload | None
    command: str

    def send(self, begin: int, end: int) -> None:
        """Send these bytes of the body; an error of the connection is raised."""
        for piece in self.source.pieces(begin, end):
            self.connection.sock.sendall(chunk(piece) if self.chunked else piece)

    def finish(self, server: Server) -> None:
        """Send the rest, and see the file."""
        total = SENT + MORE
        self.connection.note(f"sent the last {MORE} bytes of {self.name}, after a pause")
        with suppress(OSError):
            self.send(SENT, total)
            self.connection.sock.sendall(LAST_CHUNK if self.chunked else b"")
        answer = self.connection.receive("PUT", "one_at_a_time")
        expect_status(self.connection, answer, STORED, "wrong_status", self.name)
        _expect_same(server, self.name, total, self.source, self.command)


def _expect_same(server: Server, name: str, size: int, source: Source, command: str) -> None:
    """A file is what was sent; it is hashed, not held."""
    file = server.root / name
    found = -1
    with suppress(OSError), open_plain(file) as opened:
        found = os.fstat(opened.fileno()).st_size
        digest = hashlib.file_digest(opened, "sha256") if found == size else None
        if digest is not None and digest.hexdigest() == source.digest(size):
            return
    told = f"The answer tells of success, and {name!r} is not what was sent"
    end_check("wrong_bytes", server, f"{told}: it has {found} of {size} bytes", command)


def _let_send(server: Server, rng: Random, baseline: int, stack: ExitStack) -> list[Client]:
    """Clients send most of their uploads and pause; the server holds little."""
    clients: list[Client] = []
    total = SENT + MORE
    with traced(server) as trace:
        for number in range(CLIENTS):
            client = _arrives(server, rng, number, stack)
            clients.append(client)
            try:
                client.send(0, SENT)
            except OSError:
                cause = "one_at_a_time" if number else "no_answer"
                told = f"client {number + 1} of {CLIENTS}, of an upload of {size_text(total)}"
                with promise("clients"):
                    end_check(
                        cause,
                        server,
                        f"{told}, could not send {size_text(SENT)}: the server took no more for "
                        f"{PROMPT:g} s. The others paused, after as many bytes",
                        client.command,
                    )
        with promise("memory"):
            allowed = baseline + SLACK + CLIENTS * EACH
            if (held := peak_memory(server, allowed)) > allowed:
                end_check(
                    "holds_much",
                    server,
                    f"{CLIENTS} clients have sent {size_text(SENT)} each. The server holds "
                    f"{size_text(held - baseline)} more than when idle; "
                    f"{size_text(allowed - baseline)} are allowed.\n{trace.line}\n",
                    clients[-1].command,
                )
    return clients


def _arrives(server: Server, rng: Random, number: int, stack: ExitStack) -> Client:
    """A client begins its upload: by PUT or PATCH, with a length or in chunks."""
    name, chunked, total = random_name(rng), number % 2 == 1, SENT + MORE
    resumed = new_upload(server, name, total) if number % 4 > 1 else None
    size = None if chunked else total
    head = resumed.patch(0, size) if resumed else put_head(path_of(name), size)
    command = put_by_hand(path_of(name), total, chunked=chunked, name=name)
    if resumed:
        command = resume_by_hand(total, f"0 {total}")
    connection = stack.enter_context(talk(server, command))
    say(connection, head, f"sent the head of an upload of {total} bytes, {name}, and most of it")
    return Client(name, connection, Source(rng), chunked, resumed, command)


def others_are_served(server: Server, rng: Random, summary: str) -> None:
    """One more client's small file is stored at once, whatever the others do."""
    for chunked in (False, True):
        name, framed = random_name(rng), Framed(letters(rng, 500), chunked)
        with talk(server, put_by_hand(path_of(name), 500, chunked=chunked)) as connection:
            connection.note(summary)
            body = framed.part(0, 500) + framed.end
            say(connection, put_head(path_of(name), framed.length) + body, f"sent a PUT of {name}")
            connection.sock.settimeout(PROMPT)
            connection.patience = PROMPT
            came, stop = connection.everything(FIRST)
            if not came and stop == "silent":
                cause, told = why_no_answer(server)
                connection.fault(cause, f"No answer within {PROMPT:g} s{told}")
            if content(server.root / name) != framed.data:
                told = "The file is not there when the answer is"
                connection.fault("no_file", told, came)


def why_no_answer(server: Server) -> tuple[str, str]:
    """The cause, and what was seen: a path without a route is answered in the event loop alone."""
    looks = []
    for _ in range(20):
        looks.append(at_work(server))
        time.sleep(0.02)
    with talk(server) as connection:
        connection.patience = PROMPT
        connection.send(b"GET /no-such-route HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        came, _ = connection.everything(FIRST)
    if came:
        told = ". The event loop turns: GET /no-such-route is answered"
        return "one_at_a_time", told
    return "blocks", ". The event loop does not turn: GET /no-such-route is not answered either"


def _beside_half_requests(server: Server, rng: Random, summary: str) -> None:
    """Others are served while clients have sent half a head, or ask whether they may go on."""
    with ExitStack() as stack:
        for _ in range(4):
            asks = put_head(path_of(random_name(rng)), 1000, "Expect: 100-continue")
            for raw in (asks[:25], asks):
                connection = stack.enter_context(talk(server))
                say(connection, raw, "")
        rest(server)
        others_are_served(server, rng, f"{summary}; 4 more had sent half a head, 4 only a head")


def _larger_than_the_cup(server: Server, rng: Random) -> None:
    """An upload that is larger than the memory that the server may have, in three requests."""
    assert server.cup is not None and server.cup.data_mib is not None
    size = server.cup.data_mib * MiB + LARGER + rng.randrange(MiB)
    source, name = Source(rng), random_name(rng)
    each = new_upload(server, name, size)
    hand = resume_by_hand(size, f"0 {size}")
    for begin, end in ((0, size // 2), (size // 2, size)):
        with talk(server, hand) as connection:
            connection.sock.settimeout(LARGE_TRANSFER)
            head = each.patch(begin, end - begin)
            say(connection, head, f"sent {size_text(end - begin)} of {size_text(size)} of {name}")
            with suppress(OSError):
                for piece in source.pieces(begin, end):
                    connection.sock.sendall(piece)
            connection.patience = LARGE_TRANSFER
            answer = connection.receive("PATCH")
            told = f"An upload of {size_text(size)}, in {server.cup}"
            expect_status(connection, answer, (204, 200), "wrong_status", told)
    _expect_same(server, name, size, source, hand)


def _beside_a_slow_disk(launch: Launch, rng: Random, scratch: Path) -> None:
    """Others are served while uploads wait for the disk; these are whole in the end."""
    mark = letters(rng, 24)
    environment, gate = held_writes_in(scratch / "shim", mark)
    server = launch(environment=environment)
    right_alone(server, rng)
    data = mark * 4000
    name = random_name(rng)
    each = new_upload(server, name, len(data))
    with promise("disk"), ExitStack() as stack:
        waiting: list[tuple[str, Connection]] = []
        for number in range(4):
            head = each.patch(0, len(data))
            if number:
                name = random_name(rng)
                head = put_head(path_of(name), len(data))
            connection = stack.enter_context(talk(server, put_by_hand(path_of(name), len(data))))
            say(connection, head + data, f"sent {len(data)} bytes of {name}, on a slow disk")
            waiting.append((name, connection))
        rest(server)
        also = "4 clients had sent an upload, on a disk where each write of theirs takes long"
        others_are_served(server, rng, also)
        _answers_head(server, each, also)
        gate.touch()
        for name, connection in waiting:
            connection.note("the disk was quick again")
            answer = connection.receive("PUT", "one_at_a_time")
            expect_status(connection, answer, STORED, "wrong_status", name)
            if content(server.root / name) != data:
                connection.fault("wrong_bytes", f"{name} is not what was sent", answer.raw)


def _answers_head(server: Server, each: Upload, summary: str) -> None:
    """An upload that waits for the disk still tells how far it is."""
    with talk(server, resume_by_hand(each.length, "HEAD")) as connection:
        connection.note(summary)
        connection.send(each.head())
        came, stop = connection.everything(FIRST)
        if not came and stop == "silent":
            cause, told = why_no_answer(server)
            connection.fault(cause, f"No answer to HEAD within {PROMPT:g} s{told}")
