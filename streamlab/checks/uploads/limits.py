"""Lab 11: what is too long is refused before it is there, and what is not is taken."""

from __future__ import annotations

from random import Random

from streamlab.checks.connection import Connection
from streamlab.checks.evidence import by_hand
from streamlab.checks.outcome import promise
from streamlab.checks.uploads.common import (
    BOTH,
    LAST_CHUNK,
    LIMIT,
    PROMPT,
    STORED,
    Framed,
    Launch,
    chunk,
    difference,
    expect_as_before,
    expect_status,
    expect_stored,
    leftovers,
    letters,
    path_of,
    put_by_hand,
    put_head,
    random_name,
    rest,
    right_alone,
    say,
    send_whole,
    stored_below,
    talk,
    upload,
)
from streamlab.checks.uploads.tus import create, create_by_hand
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server

EXPECT = "Expect: 100-continue"
CONTINUE = b"HTTP/1.1 100"

# LIMIT


def limits_are_kept(launch: Launch, rng: Random) -> None:
    """LIMIT bytes are taken, and one more is refused: at once, or in the middle of a body."""
    limit = rng.randrange(300_000, 400_000)
    server = launch(environment={LIMIT: str(limit)})
    right_alone(server, rng)
    with promise("limit"):
        for chunked in BOTH:
            _takes(server, rng, Framed(rng.randbytes(limit), chunked))
    with promise("run"):
        _refuses(server, rng, limit)
    _before_the_body(server, rng, limit)
    _continue(server, rng, limit)
    _in_the_middle(server, rng, limit)
    with promise("limit-tus"):
        for length, wanted in ((limit, (201,)), (limit + 1, (413,))):
            with talk(server, create_by_hand(length)) as connection:
                answer = create(connection, random_name(rng), str(length))
                told = f"Upload-Length: {length}, where the limit is {limit}"
                cause = "too_much" if length > limit else "too_little"
                expect_status(connection, answer, wanted, cause, told)


def _takes(server: Server, rng: Random, framed: Framed) -> None:
    name = random_name(rng)
    limit = len(framed.data)
    with talk(server, put_by_hand(path_of(name), limit, chunked=framed.chunked)) as connection:
        send_whole(connection, name, framed)
        answer = connection.receive("PUT")
        told = f"A body of {limit} bytes, which is the limit"
        expect_status(connection, answer, STORED, "too_little", told)
        expect_stored(connection, server, name, framed.data, answer, told)


def _refuses(server: Server, rng: Random, limit: int) -> None:
    """The limit is that of the variable: a byte more, all of it there, is refused."""
    name, framed = random_name(rng), Framed(rng.randbytes(limit + 1))
    with talk(server, put_by_hand(path_of(name), limit + 1)) as connection:
        send_whole(connection, name, framed)
        answer = connection.receive("PUT")
        _expect_refusal(connection, answer, f"{limit + 1} bytes, with {LIMIT}={limit}")


def _before_the_body(server: Server, rng: Random, limit: int) -> None:
    """A length above the limit is refused when no byte of the body has been sent."""
    for length in (limit + 1, 10 * limit, 2**32 + 5):
        name, old = random_name(rng), letters(rng, 100)
        upload(server, name, Framed(old))
        head = put_head(path_of(name), length)
        with promise("before"), talk(server, by_hand([head])) as connection:
            connection.send(head)
            connection.note("sent no byte of the body")
            answer = connection.receive("PUT", "reads_first")
            _expect_refusal(connection, answer, f"{length} bytes, where the limit is {limit}")
        with promise("kept-none"):
            expect_as_before(server, name, old, f"PUT of {length} bytes was refused with 413")


def _expect_refusal(connection: Connection, answer: RawAnswer, what: str) -> None:
    expect_status(connection, answer, (413,), "too_much", what)


def _continue(server: Server, rng: Random, limit: int) -> None:
    """A client that asks is told to go on if its body will be taken, and only then."""
    name, framed = random_name(rng), Framed(letters(rng, 2000))
    head = put_head(path_of(name), len(framed.data), EXPECT)
    with promise("continue"), talk(server, by_hand([head])) as connection:
        connection.send(head)
        came, _ = connection.everything(len(CONTINUE))
        if not came.startswith(CONTINUE):
            told = f"No 100 Continue within {PROMPT:g} s, and the client does not send its body"
            connection.fault("no_continue", told, came)
        connection.send(framed.data)
        came, stop = b"", None
        while b"HTTP/1.1 2" not in came and not stop:
            more, stop = connection.everything(1)
            came += more
        if problem := difference(server.root / name, framed.data):
            connection.fault("no_file", f"After 100 Continue and the body there is {problem}")
    for length in (limit + 1, 2**32 + 5):
        name = random_name(rng)
        head = put_head(path_of(name), length, EXPECT)
        with promise("not-asked"), talk(server, by_hand([head])) as connection:
            connection.send(head)
            came, _ = connection.everything(len(CONTINUE))
            if came.startswith(CONTINUE):
                told = f"The client is asked for {length} bytes, where the limit is {limit}"
                connection.fault("asks_in_vain", told, came)
            if not came.startswith(b"HTTP/1.1 413"):
                cause = "too_much" if came else "reads_first"
                connection.fault(cause, f"The status of {length} bytes should be 413", came)


def _in_the_middle(server: Server, rng: Random, limit: int) -> None:
    """A body without a length is refused as soon as it is too long, and leaves nothing."""
    name, old = random_name(rng), letters(rng, 100)
    with promise("limit"):
        upload(server, name, Framed(old))
    for target, kept in ((name, old), (random_name(rng), None)):
        before = stored_below(server.root)
        hand = put_by_hand(path_of(target), limit + 1, chunked=True)
        summary = f"PUT {path_of(target)} in chunks, {limit + 1} bytes where the limit is {limit}"
        with talk(server, hand) as connection:
            with promise("middle"):
                connection.send(put_head(path_of(target), None), how="its head, and its chunks")
                data = rng.randbytes(limit + 1)
                for at in range(0, len(data), 40_000):
                    say(connection, chunk(data[at : at + 40_000]), "")
                connection.note(f"sent {limit + 1} bytes in chunks, and no end of the body")
                answer = connection.receive("PUT", "too_much")
                _expect_refusal(connection, answer, summary)
            say(connection, LAST_CHUNK, "sent the last chunk")
            rest(server)
        with promise("kept-none"):
            expect_as_before(server, target, kept, f"{summary}, was refused", hand)
            if left := leftovers(server.root, before):
                connection.fault("leftovers", f"{summary}, was refused. It has left\n\n{left}\n")
