"""Lab 11: every byte of an upload is there, however it comes, and the answer says so in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from hypothesis import strategies as st

from streamlab.checks.connection import Connection
from streamlab.checks.evidence import by_hand
from streamlab.checks.examples import for_all
from streamlab.checks.observe import wait_until_idle
from streamlab.checks.outcome import promise
from streamlab.checks.request_forms import cut, cuts
from streamlab.checks.uploads.common import (
    BOTH,
    LAST_CHUNK,
    REFUSED,
    STORED,
    Framed,
    chunk,
    content,
    expect_status,
    expect_stored,
    expect_tag,
    letters,
    path_of,
    put_by_hand,
    put_head,
    random_name,
    right_alone,
    send_whole,
    talk,
    upload,
)
from streamlab.files import KiB, MiB
from streamlab.process.server import Server

TRAPS = b"\r\n0\r\n\r\n\x00\x80\xff\x1a--\r\n5\r\n"
"""Bytes that mean something elsewhere: to text, to forms, to chunks."""
SIZES = (1, 1, 64 * KiB, 64 * KiB + 1, 256 * KiB + 1, 2 * MiB + 7)
"""Sizes around those of usual buffers."""

# WIRE


def uploads_arrive(server: Server, rng: Random) -> None:
    """Bodies of any size and content become files, in both forms, over one connection or many."""
    right_alone(server, rng)
    with promise("put"):  # in one packet
        upload(server, random_name(rng), Framed(TRAPS + bytes(range(256))))
    _statuses(server, rng)
    with promise("empty"):
        for chunked in BOTH:
            upload(server, random_name(rng), Framed(b"", chunked))
    _in_pieces(server, rng)
    with promise("put"):
        for number, size in enumerate(SIZES):
            data = rng.randbytes(size)
            upload(server, random_name(rng), Framed(data, chunked=number % 2 == 1))
    _tags(server, rng)
    _answers_late(server, rng)
    _stays_open(server, rng)


def _statuses(server: Server, rng: Random) -> None:
    """201 for a new name, 200 or 204 for one that has a file."""
    name = random_name(rng)
    with promise("status"):
        for wanted, what in (((201,), "of a new name"), ((200, 204), "of a name with a file")):
            framed = Framed(letters(rng, rng.randrange(100, 300)))
            with talk(server, put_by_hand(path_of(name), 100)) as connection:
                send_whole(connection, name, framed)
                answer = connection.receive("PUT")
                told = f"PUT {path_of(name)}, {what}"
                expect_status(connection, answer, wanted, "wrong_status", told)
                expect_stored(connection, server, name, framed.data, answer, "")


def _tags(server: Server, rng: Random) -> None:
    """The ETag is the hash of what was sent."""
    with promise("tag"):
        for chunked in BOTH:
            framed = Framed(TRAPS + rng.randbytes(rng.randrange(70_000, 90_000)), chunked)
            name = random_name(rng)
            hand = put_by_hand(path_of(name), 100, chunked=chunked, name=name) + "; sha256sum sent"
            with talk(server, hand) as connection:
                send_whole(connection, name, framed)
                answer = connection.receive("PUT")
                expect_stored(connection, server, name, framed.data, answer, "")
                expect_tag(connection, answer, framed.data)


@dataclass(frozen=True)
class Pieces:
    """How an upload is cut: where its packets end, and how long its chunks are (0: no chunks)."""

    cuts: tuple[float, ...] = ()
    chunks: int = 0
    each_byte: bool = False

    def wire(self, path: str, data: bytes) -> bytes:
        """The bytes of the request."""
        if not self.chunks:
            return put_head(path, len(data)) + data
        parts = (data[at : at + self.chunks] for at in range(0, len(data), self.chunks))
        return put_head(path, None) + b"".join(map(chunk, parts)) + LAST_CHUNK

    def packets(self, raw: bytes) -> Sequence[bytes]:
        """The request as it is sent."""
        return [bytes([byte]) for byte in raw] if self.each_byte else cut(raw, self.cuts)


KNOWN = (
    Pieces(),
    Pieces(chunks=7),
    Pieces(chunks=1),
    Pieces(cuts=(0.3, 0.6, 0.9)),
    Pieces(cuts=(0.5, 0.7, 0.99), chunks=30),
    Pieces(each_byte=True),
    Pieces(each_byte=True, chunks=50),
)


def _in_pieces(server: Server, rng: Random) -> None:
    """It makes no difference where packets and chunks end."""

    def attempt(pieces: Pieces) -> None:
        name, data = random_name(rng), TRAPS + rng.randbytes(rng.randrange(60, 200))
        raw = pieces.wire(path_of(name), data)
        packets = pieces.packets(raw)
        with talk(server, by_hand(packets, 0.01 if pieces.each_byte else 0.3)) as connection:
            for packet in packets[:-1]:
                connection.send(packet)
                if not pieces.each_byte:
                    wait_until_idle(server)
            connection.send(packets[-1])
            answer = connection.receive("PUT")
            expect_stored(connection, server, name, data, answer, "An upload that came in pieces")

    drawn = st.builds(
        Pieces, cuts=cuts().map(tuple), chunks=st.sampled_from([0, 0, 1, 2, 16, 4096])
    )
    with promise("pieces"):
        for_all(drawn, rng, attempt, known=KNOWN, examples=15)


def _answers_late(server: Server, rng: Random) -> None:
    """No answer comes while a byte of the body is missing: it could not be true."""
    with promise("there"):
        for chunked in BOTH:
            framed, name = Framed(letters(rng, 300), chunked), random_name(rng)
            pieces = [put_head(path_of(name), framed.length) + framed.part(0, 299)]
            with talk(server, by_hand(pieces)) as connection:
                connection.send(*pieces)
                _expect_silence(connection, server)
                connection.send(framed.part(299, 300) + framed.end)
                answer = connection.receive("PUT")
                expect_stored(connection, server, name, framed.data, answer, "")


def _expect_silence(connection: Connection, server: Server) -> None:
    wait_until_idle(server)
    connection.sock.settimeout(0.2)
    try:
        came = connection.sock.recv(KiB)
    except TimeoutError:
        return
    except OSError:
        came = b""
    told = "The last byte of the body is still missing, and there is an answer"
    connection.fault("answers_early", told, came)


def _stays_open(server: Server, rng: Random) -> None:
    """One upload after the other, over one connection; a refusal may close it, and says so."""
    refused = "/files/.hidden"
    with promise("stays-open"), talk(server) as connection:
        for chunked in (False, True, False):
            framed, name = Framed(letters(rng, 40), chunked), random_name(rng)
            connection.send(
                put_head(path_of(name), framed.length) + framed.part(0, 40) + framed.end,
                how=framed.how,
            )
            answer = connection.receive("PUT")
            expect_stored(connection, server, name, framed.data, answer, "")
            if not connection.goes_on(answer):
                break
    with promise("stays-open"):
        for chunked in BOTH:
            framed, name = Framed(letters(rng, 40), chunked), random_name(rng)
            with talk(server) as connection:
                connection.send(
                    put_head(refused, framed.length) + framed.part(0, 40) + framed.end,
                    how=framed.how,
                )
                answer = connection.receive("PUT")
                if answer.status in REFUSED and connection.goes_on(answer):
                    connection.send(put_head(path_of(name), 40) + framed.data)
                    answer = connection.receive("PUT", "out_of_step")
                    if answer.status not in STORED or content(server.root / name) != framed.data:
                        told = "After a refused upload the next one went wrong"
                        connection.fault("out_of_step", told, answer.raw)
