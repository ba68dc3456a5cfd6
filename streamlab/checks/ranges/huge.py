"""Lab 08: ranges of files larger than memory, and clients that stop in the middle of one."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from streamlab.checks.connection import Connection, Wanted, open_connection
from streamlab.checks.evidence import log_of
from streamlab.checks.observe import busy_at_rest, held_by, peak_memory, traced, wait_until_idle
from streamlab.checks.outcome import CheckFailed, fail, promise
from streamlab.checks.probes.common import dense_file, name_of
from streamlab.checks.ranges.answers import (
    Range,
    Step,
    converse,
    expect_full,
    expect_multipart,
    expect_partial,
    no_crash,
    out_of_place,
    put_to_the_test,
    ranged,
    write_fixture,
)
from streamlab.checks.ranges.common import head_of_whole, text_of
from streamlab.checks.ranges.parts import is_multipart, parts_read
from streamlab.files import GiB, KiB, MiB, SampleFile, TiB, size_text, sparse_file
from streamlab.http.answer import RawAnswer
from streamlab.process.patience import Deadline
from streamlab.process.proc import descriptors
from streamlab.process.server import Server

# HUGE


def huge_ranges(server: Server, rng: Random) -> None:
    """Parts beyond 4 GiB and of a huge file, small and large, from inside the cup."""
    large = _marked(server, rng, rng.randrange(5 * GiB, 9 * GiB), (2 * GiB, 4 * GiB))
    size = rng.choice([300 * GiB, 600 * GiB, TiB]) + rng.randrange(MiB)
    far = rng.randrange(size // 3 * 2, size - GiB)
    huge = _marked(server, rng, size, (far,))
    end = huge.size - 1
    with ExitStack() as stack:

        def asking() -> Connection:
            connection = stack.enter_context(open_connection(server))
            connection.note(
                f"({large.name} has {size_text(large.size)}, {huge.name} {huge.size} bytes)"
            )
            return connection

        with put_to_the_test("anywhere"):
            connection = asking()
            _piece(connection, large, 100, 1099)
            for edge in (2 * GiB, 4 * GiB):
                _piece(connection, large, edge - 500, edge + 499)
            _piece(connection, large, large.size - 1000, large.size - 1, "-1000")
            _piece(connection, huge, far - 500, far + 523)
            _piece(connection, huge, end - 65_999, end, "-66000")
            _far_apart(connection, huge, [(0, 99), (far - 300, far + 300), (end - 99, end)])
        with put_to_the_test("cup"):
            _poured(asking(), huge, rng.randrange(1, MiB), rng.randrange(280, 320) * MiB)
            _begun(asking(), huge, [(1, huge.size // 3), (far - 1, end - 5)])
            _piece(asking(), huge, end, end, f"{end}-")


def _marked(server: Server, rng: Random, size: int, places: Sequence[int]) -> SampleFile:
    """A sparse file with islands of random bytes, also 64 KiB around each of these places."""
    file = sparse_file(size, name_of(rng, ".mp4"), server.root, 6, rng.randrange(2**32))
    with file.path.open("r+b") as content:
        for place in places:
            content.seek(place - 32 * KiB)
            content.write(rng.randbytes(64 * KiB))
    return file


def _read(file: SampleFile, first: int, length: int) -> bytes:
    with file.path.open("rb") as content:
        content.seek(first)
        return content.read(length)


def _ask(connection: Connection, file: SampleFile, spec: str) -> None:
    connection.send(Wanted(connection.server.path_of(file), None).request(f"Range: bytes={spec}"))


def _piece(connection: Connection, file: SampleFile, first: int, last: int, spec: str = "") -> None:
    """A small range of a large file comes, and nothing else."""
    _ask(connection, file, spec or f"{first}-{last}")
    head = _head_of_part(connection, file, first, last)
    with in_time(connection):
        came = connection.take(last + 1 - first)
    if came != _read(file, first, last + 1 - first):
        what = f"The {len(came)} bytes that came are not those from {first} on"
        connection.fault("wrong_bytes", what, head.raw + came)


@contextmanager
def in_time(connection: Connection) -> Iterator[None]:
    """An answer that comes only after seconds, over an open connection, is late."""
    try:
        yield
    except CheckFailed as failure:
        if connection.timed_out and failure.cause in ("no_end", "no_answer"):
            failure.cause = "late"
        raise


def _head_of_part(connection: Connection, file: SampleFile, first: int, last: int) -> RawAnswer:
    """The head of a 206 with this range; its body is still to be read."""
    with in_time(connection):
        head = connection.receive_head()
    no_crash(connection, head)
    if head.status == 200:
        connection.fault("ignores_range", "Status 200 means: here is the whole file", head.raw)
    wanted = f"bytes {first}-{last}/{file.size}"
    if head.status != 206 or (head.header("content-range") or "").lower() != wanted:
        what = f"There should be status 206 and Content-Range: {wanted}"
        connection.fault("wrong_content_range", what, head.raw)
    if head.header("content-length") != str(last + 1 - first):
        what = f"There should be Content-Length: {last + 1 - first}"
        connection.fault("no_length", what, head.raw)
    connection.note(f"came 206 (Content-Length: {head.header('content-length')})")
    return head


def _far_apart(connection: Connection, file: SampleFile, ranges: Sequence[Range]) -> None:
    """Small parts from both ends of a huge file."""
    _ask(connection, file, text_of(ranges))
    with in_time(connection):
        answer = connection.receive()
    no_crash(connection, answer)
    if answer.status != 206 or not is_multipart(answer):
        what = "There should be status 206, and multipart/byteranges"
        connection.fault("ignores_sets", what, answer.raw)
    parts = parts_read(connection, answer)
    for each in parts:
        if each.data != _read(file, each.first, len(each.data)) or each.size != file.size:
            what = f"The part {each.first}-{each.last}/{each.size} has other bytes than the file"
            connection.fault("wrong_bytes", what, answer.raw)
    wrong, what = out_of_place(ranges, [(each.first, each.last) for each in parts])
    if wrong:
        connection.fault(wrong, what, answer.raw)


def _poured(connection: Connection, file: SampleFile, first: int, length: int) -> None:
    """The first `length` bytes of a part from `first` to the end: more than fit into the cup."""
    _ask(connection, file, f"{first}-")
    _head_of_part(connection, file, first, file.size - 1)
    _goes_on(connection, file, first, length)


def _goes_on(
    connection: Connection, file: SampleFile, first: int, length: int, cause: str = "wrong_bytes"
) -> None:
    """The next `length` bytes of a body (whole MiB) are those of the file from `first` on."""
    with file.path.open("rb") as content:
        content.seek(first)
        for at in range(0, length, MiB):
            came = connection.take(MiB)
            if came != content.read(MiB):
                what = f"The bytes that come are not those of the file from byte {first + at} on"
                connection.fault(cause, what)


def _begun(
    connection: Connection, file: SampleFile, ranges: Sequence[Range], cause: str = "wrong_bytes"
) -> None:
    """The beginning of an answer in parts that are larger than memory."""
    _ask(connection, file, text_of(ranges))
    with in_time(connection):
        head = connection.receive_head()
    no_crash(connection, head)
    if head.status != 206 or not is_multipart(head):
        connection.fault("ignores_sets", "There should be status 206 and two parts", head.raw)
    came = connection.take(MiB)
    first = ranges[0][0]
    if _read(file, first, 64 * KiB) not in came:
        what = f"In the first MiB there should be the bytes from {first} on"
        connection.fault(cause, what, head.raw + came)


# HOLD


def held_ranges(server: Server, rng: Random, clients: int = 16, each: int = 4 * MiB) -> None:
    """Clients that stop in the middle of a part cost a few MiB, and when they leave, nothing."""
    small = write_fixture(server, rng, 100_000)
    tag = '"of another version"'

    def only_told(connection: Connection, answer: RawAnswer) -> None:
        """Accept an answer without a body: other checks test it."""

    first = [
        ranged("one-range", small, "5-99999", expect_partial(small, 5, 99_999)),
        ranged("parts", small, "0-9,5000-99999", expect_multipart(small, [(0, 9), (5000, 99_999)])),
        Step("whole", small.path, expect_full(small, "No range was asked for", "wrong_status")),
        Step("head", small.path, head_of_whole(small), method="HEAD"),
        Step("not-there", small.path, only_told, ("Range: bytes=100000-",)),
        Step("if-none-match-list", small.path, only_told, ("If-None-Match: *",)),
        Step("if-none-match-list", small.path, only_told, ("If-None-Match: *",), "HEAD"),
        ranged("if-range-other", small, "0-9", only_told, f"If-Range: {tag}"),
    ]
    with promise("ended"):
        converse(server, first)
        fresh = len(descriptors(server.supervisor_pid))
        for _ in range(clients):
            converse(server, first)
        _left_nothing(server, small.file, f"{clients * len(first)} answers have ended", fresh)
    wait_until_idle(server)  # until then it may still have what the last one had
    baseline, before = held_by(server), len(descriptors(server.supervisor_pid))
    size = rng.randrange(64 * MiB, 80 * MiB)
    file = dense_file(size, name_of(rng, ".mp4"), server.root, rng)
    allowed = clients * each
    line = f"curl -sS --limit-rate 1M -r 9- -o got http://127.0.0.1:PORT{server.path_of(file)}"
    waiting: list[tuple[Connection, int]] = []
    with put_to_the_test("waiting"), traced(server) as trace, ExitStack() as stack:
        for number in range(clients):
            connection = stack.enter_context(open_connection(server))
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * KiB)
            connection.note(f"{number} other clients have taken 1 MiB of such a part, and wait")
            begin = rng.randrange(1, size // 8)
            wrong = "mixed_up" if number else "wrong_bytes"
            if number % 2:
                _begun(connection, file, [(begin, size // 2), (size // 4 * 3, size - 1)], wrong)
            else:
                _ask(connection, file, f"{begin}-")
                _head_of_part(connection, file, begin, size - 1)
                waiting.append((connection, begin))
                _goes_on(connection, file, begin, MiB, wrong)
        held = peak_memory(server, baseline + allowed)
        if held > baseline + allowed:
            fail(
                "holds_much",
                f"{clients} clients each asked for a part of {server.path_of(file)} "
                f"({size_text(size)}), took 1 MiB of it and waited. The server held "
                f"{size_text(held - baseline)} more than when idle; {size_text(allowed)} are "
                f"allowed.\n{trace.line}{log_of(server)}",
                line,
            )
        for connection, begin in rng.sample(waiting, 3):
            connection.note("(the others have begun meanwhile)")
            _goes_on(connection, file, begin + MiB, 8 * MiB, "mixed_up")
        # The rest of the parts above is so small that a server could read it in a moment.
        endless = sparse_file(rng.randrange(400, 600) * GiB, name_of(rng, ".mp4"), server.root, 4)
        with open_connection(server) as one, open_connection(server) as two:
            _ask(one, endless, "9-")
            _head_of_part(one, endless, 9, endless.size - 1)
            _goes_on(one, endless, 9, MiB)
            _begun(
                two, endless, [(9, endless.size // 2), (endless.size // 4 * 3, endless.size - 1)]
            )
    with promise("leaves"):
        what = f"{clients + 2} clients left in the middle of a part"
        for left in (file, endless):
            _left_nothing(server, left.path, what, before)
        if busy := busy_at_rest(server, 0.8):
            fail("spins", f"{what}. Now there is no request, and the server {busy}")
        converse(server, first)


def _left_nothing(
    server: Server, file: Path, what: str, before: int, patience: float = 5.0
) -> None:
    """Within some seconds nothing is left of ended answers: descriptors, handles on the file."""
    deadline = Deadline(patience)
    while True:
        now = descriptors(server.supervisor_pid)
        handles = sum(target.endswith(file.name) for target in now)
        if len(now) <= before + 3 and handles <= 3:
            return
        if deadline.passed:
            break
        deadline.pause(0.05)
    fail(
        "leaks",
        f"{what}. {patience:g} s later the server has {len(now)} descriptors, {handles} of them on "
        f"{file.name}; before there were {before}.{log_of(server)}",
        f"curl -sS -m 0.1 -r 1000- -o /dev/null http://127.0.0.1:PORT{server.path_of(file.name)}",
    )
