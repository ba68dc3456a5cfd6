"""Lab 11: an upload that broke off goes on from where it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from streamlab.checks.connection import Connection
from streamlab.checks.outcome import promise
from streamlab.checks.uploads.common import (
    BOTH,
    Framed,
    Launch,
    content,
    difference,
    end_check,
    expect_status,
    expect_tag,
    kill,
    random_name,
    rest,
    right_alone,
    say,
    talk,
    visible,
)
from streamlab.checks.uploads.tus import Upload, append, new_upload, offset_of, resume_by_hand
from streamlab.files import MiB, size_text
from streamlab.process.server import Server

BEHIND = MiB
"""By how much HEAD may be behind what had arrived when a connection broke."""

# RESUME


def uploads_resume(launch: Launch, rng: Random) -> None:
    """Clients leave, the server is killed, and each upload comes to its end."""
    server = launch()
    right_alone(server, rng)
    for chunked in BOTH:
        with promise("broken"):
            _client_leaves(server, rng, chunked)
    with promise("last-byte", forgotten="done"):
        _leaves_after_the_last_byte(server, rng)
    with promise("both"):
        for chunked in BOTH:
            _two_at_once(server, rng, chunked)
    _server_is_killed(launch, server, rng)


@contextmanager
def sending(each: Upload, framed: Framed, begin: int, end: int, hand: str) -> Iterator[Connection]:
    """A PATCH that announces all that is missing and has sent the bytes from `begin` to `end`."""
    size = None if framed.chunked else each.length - begin
    with talk(each.server, hand) as connection:
        what = f"sent a PATCH {framed.how}, and the bytes from {begin} to {end} of {each.length}"
        say(connection, each.patch(begin, size) + framed.part(begin, end), what)
        yield connection
    # leaving the block is leaving the server


def _expect_offset(each: Upload, sent: int, what: str, hand: str, cause: str) -> int:
    """How far an upload is after it was broken: about as far as what was sent."""
    offset = offset_of(each, what, hand, "forgotten")
    if not sent - BEHIND <= offset <= sent:
        behind = f"{size_text(sent)} had arrived a while before"
        told = f"{what}. HEAD says {offset} bytes, and {behind}; {size_text(BEHIND)} may be missing"
        end_check(cause, each.server, told, hand)
    if each.name in visible(each.server.root):
        told = f"{what}: {offset} of {each.length} bytes have come, and {each.name!r} is there"
        end_check("half_file", each.server, told, hand)
    return offset


def _expect_end(each: Upload, framed: Framed, offset: int, what: str, hand: str) -> None:
    """The rest of an upload makes the file whole."""
    answer = append(each, offset, framed.data[offset:], what, hand)
    with talk(each.server, hand) as connection:
        connection.note(f"{what}, the upload went on at {offset}, to its end")
        if problem := difference(each.server.root / each.name, framed.data):
            cause = "no_file" if problem.startswith("no file") else "wrong_bytes"
            connection.fault(cause, f"There is {problem}", answer.raw)
        expect_tag(connection, answer, framed.data)


def _drawn(server: Server, rng: Random, chunked: bool) -> tuple[Upload, Framed]:
    framed = Framed(rng.randbytes(rng.randrange(4 * MiB, 5 * MiB)), chunked)
    return new_upload(server, random_name(rng), len(framed.data)), framed


def _client_leaves(server: Server, rng: Random, chunked: bool) -> None:
    """A client breaks off twice, and then its upload comes to its end."""
    each, framed = _drawn(server, rng, chunked)
    hand = resume_by_hand(5_000_000, "0 3000000<", "HEAD")
    offset = 0
    for sent in (rng.randrange(2 * MiB, 3 * MiB), rng.randrange(3 * MiB + 1, 4 * MiB)):
        with sending(each, framed, offset, sent, hand):
            rest(server)
        rest(server)
        what = f"the client had sent {sent} of {each.length} bytes, and left"
        offset = _expect_offset(each, sent, what, hand, "lost_bytes")
    _expect_end(each, framed, offset, "after the client had left twice", hand)


def _leaves_after_the_last_byte(server: Server, rng: Random) -> None:
    """All bytes have come, but not the end of the chunked body: what HEAD tells has to be so."""
    each, framed = _drawn(server, rng, chunked=True)
    with sending(each, framed, 0, each.length, ""):
        rest(server)
    rest(server)
    what = "the client sent all bytes in chunks, and left before the last chunk"
    offset = offset_of(each, what, "", "forgotten")
    if offset < each.length - BEHIND:
        told = f"{what}. HEAD says {offset} of {each.length} bytes; {BEHIND} may be missing"
        end_check("lost_bytes", server, told)
    if offset < each.length:
        _expect_end(each, framed, offset, what, "")
    elif problem := difference(server.root / each.name, framed.data):
        told = f"{what}. HEAD says that all {offset} bytes are there, so it will not come again"
        end_check("never_ends", server, f"{told}. But there is {problem}")


def _two_at_once(server: Server, rng: Random, chunked: bool) -> None:
    """Two requests for one upload at once: one of them writes, and the file is right."""
    each, framed = _drawn(server, rng, chunked)
    half = each.length // 2
    wrong = bytes(each.length - half)
    with sending(each, framed, 0, half, "") as first:
        rest(server)
        offset = offset_of(each, "one PATCH is in its middle")
        with talk(server) as second:
            second.note("one PATCH is in its middle")
            head = each.patch(offset, len(wrong))
            say(second, head, f"sent the head of a second PATCH, from {offset} on")
            came, stop = second.everything(12)
            if stop == "silent":  # it is let in, or waits: what it sends must not be mixed in
                say(second, wrong, f"sent {len(wrong)} zeros")
                rest(server)
            say(first, framed.part(half, each.length) + framed.end, "sent the rest of the first")
            if came and b" 409 " not in came[:13] and b" 423 " not in came[:13]:
                second.fault("both_write", "The second PATCH should get 409 or 423", came)
            if stop == "silent":
                told = "The second PATCH should get 409 or 423 at once, and got no answer"
                second.fault("both_write", told, came)
        answer = first.receive("PATCH")
        expect_status(first, answer, (204, 200), "both_write", "The first PATCH")
    if problem := difference(server.root / each.name, framed.data):
        told = "Two PATCH were sent at once, and one was refused. There is"
        end_check("both_write", server, f"{told} {problem}")


def _server_is_killed(launch: Launch, server: Server, rng: Random) -> None:
    """Uploads survive their server: those in their middle, and those that are complete."""
    each, framed = _drawn(server, rng, chunked=False)
    chunked, other = _drawn(server, rng, chunked=True)
    done, whole = _drawn(server, rng, chunked=False)
    hand = resume_by_hand(5_000_000, "0 3000000<", "HEAD")
    with promise("broken"):
        _expect_end(done, whole, 0, "in one piece", hand)
    with promise("done"):
        _expect_done(done, "the upload is complete")
        _nothing_more(done, whole)
    sent = rng.randrange(2 * MiB, 3 * MiB)
    with sending(each, framed, 0, sent, hand), sending(chunked, other, 0, chunked.length, hand):
        rest(server)
        kill(server)
    again = launch()
    what = f"the server was killed when {sent} of {each.length} bytes had come, and started again"
    with promise("killed-upload"):
        offset = _expect_offset(each.on(again), sent, what, hand, "lost_bytes")
        _expect_end(each.on(again), framed, offset, what, hand)
    with promise("last-byte"):
        told = "the server was killed when all bytes had come, but not the last chunk"
        offset = offset_of(chunked.on(again), told, hand, "forgotten")
        if offset == chunked.length and content(again.root / chunked.name) != other.data:
            said = f"{told}. After a new start HEAD says that all {offset} bytes are there"
            end_check("never_ends", again, f"{said}, and there is no such file")
        if offset < chunked.length:
            _expect_end(chunked.on(again), other, offset, told, hand)
    with promise("done"):
        _expect_done(done.on(again), "the upload was complete before a new start")


def _nothing_more(each: Upload, framed: Framed) -> None:
    """A PATCH that comes again, of nothing or too much, leaves a complete upload as it is."""
    for more in (b"", b"xyz"):
        what = f"a PATCH with {len(more)} bytes came when the upload was complete"
        with talk(each.server) as connection:
            connection.send(each.patch(each.length, len(more)) + more)
            answer = connection.receive("PATCH")
            if more:
                expect_status(connection, answer, (413,), "beyond_length", what)
        _expect_done(each, what)
        if problem := difference(each.server.root / each.name, framed.data):
            end_check("beyond_length", each.server, f"{what}. There is {problem}")


def _expect_done(each: Upload, what: str) -> None:
    """A complete upload says so: the client may have missed the last answer."""
    if (offset := offset_of(each, what, "", "forgotten")) != each.length:
        told = f"{what}: HEAD should say {each.length}, and says {offset}"
        end_check("forgotten", each.server, told)
