"""Lab 07: real errors, HEAD without reading the file, connections that stay open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from random import Random

from streamlab.checks.connection import Connection, Wanted, open_connection
from streamlab.checks.evidence import curl, shown
from streamlab.checks.exchange import ask, request_for
from streamlab.checks.frameworks.common import GZIP, PROMPT, REPORT, expect_video_head, report_of
from streamlab.checks.observe import at_work
from streamlab.checks.outcome import CheckFailed, fail, promise
from streamlab.checks.probes.common import name_of
from streamlab.checks.probes.requests import expect_answer, stays_inside
from streamlab.files import GiB, MiB, TiB, random_file, size_text, sparse_file
from streamlab.process.proc import bytes_read
from streamlab.process.server import Server

# WIRE


def check_http_syntax(server: Server, rng: Random) -> None:
    """A path that is no video is refused with a real status, and HEAD is GET without its body."""
    video = random_file(rng.randrange(3000, 5000), name_of(rng, ".mp4"), server.root)
    folder = name_of(rng, ".mp4")
    (server.root / folder).mkdir()
    (server.root / "folder").mkdir()
    there = Wanted(server.path_of(video), video.path.read_bytes())
    with promise("stays-open"), open_connection(server) as connection:
        connection.ask(there)
    longest = name_of(rng, ".mp4").rjust(255, "n")
    for name in (
        *(name_of(rng, ".mp4"), folder, f"{video.name}%00", f"%00{video.name}", "%00"),
        *("", ".", "%2e", "n" * 256, longest, "%D1%84" * 200, "n" * 5000),
        *(f"{video.name}%20", f"{video.name}x", "%FF.mp4"),
    ):
        for method in ("GET", "HEAD"):
            with promise("refusals"):
                _expect_refusal(server, server.path_of(name), method)
    with promise("outside"):
        for name in ("%2e%2e", "..", f"{folder}%2F..%2F{video.name}x"):
            for method in ("GET", "HEAD"):
                _expect_refusal(server, server.path_of(name), method)
        stays_inside(server, rng)
        _stays_inside_when_decoded_twice(server, rng)
    _heads(server, rng, there)
    _stays_open(server, rng, there, server.path_of(folder))


def _expect_refusal(server: Server, path: str, method: str = "GET") -> None:
    """A request is refused with a status from 400 to 499, in a whole answer."""
    with open_connection(server) as connection:
        connection.send(Wanted(path, None).request("Connection: close", method=method))
        head = connection.receive_head()
        if not 400 <= head.status < 500:  # the status counts first, whatever follows
            what = f"The status should be one from 400 to 499, and {head.status} came"
            connection.fault("wrong_status", what, head.raw)
    if method == "GET":
        expect_answer(server, path, 404)


def _stays_inside_when_decoded_twice(server: Server, rng: Random) -> None:
    secret = server.root.parent / name_of(rng, ".secret")
    secret.write_bytes(b"not for clients")
    path = server.path_of(f"%252e%252e%252f{secret.name}")
    answer = ask(server, [request_for(path)])
    if b"not for clients" in answer.raw:
        fail(
            "traversal",
            f"GET {path} gave out a file outside the folder:\n\n{shown(answer.raw)}\n\nThe "
            "framework has decoded the name once; your code decoded it again.",
            curl(server, path, "--path-as-is -i"),
        )
    expect_answer(server, path, 404)


def _heads(server: Server, rng: Random, there: Wanted) -> None:
    """HEAD has the status and the two headers of GET, at once, however large the file is."""
    sizes = (rng.randrange(300 * GiB, TiB), 0, rng.randrange(MiB, 2 * MiB))
    files = [
        sparse_file(size, name_of(rng, ending), server.root, min(2, size), rng.randrange(99))
        for size, ending in zip(sizes, rng.sample([".mp4", ".bin", ".txt"], 3), strict=True)
    ]
    small = (there.path, len(there.body or b""))
    for path, size in (small, *((server.path_of(file), file.size) for file in files)):
        for asks in ([], [GZIP]):
            with promise("head"), open_connection(server) as connection:
                connection.patience = PROMPT
                already = bytes_read(server.supervisor_pid, itself=False)
                with promise("head", head_reads="head-cheap"), _not_reading_on(connection, already):
                    connection.send(Wanted(path, None).request(*asks, method="HEAD"))
                    answer = connection.receive("HEAD")
                    if answer.status != 200:
                        refused = answer.status in (404, 405, 501)
                        cause = "head_refused" if refused else "wrong_status"
                        connection.fault(
                            cause, f"The status should be 200, as for GET {path}", answer.raw
                        )
                    expect_video_head(connection, answer, size, "HEAD")
                    if connection.goes_on(answer, "head_body"):
                        connection.ask(there)


@contextmanager
def _not_reading_on(connection: Connection, already: int | None) -> Iterator[None]:
    """If an answer is late because the server reads a file that no client gets, that is the cause.

    `already` is what the server had read before, in bytes. Any other failure keeps its cause.
    """
    try:
        yield
    except CheckFailed as failure:
        if not connection.timed_out or failure.cause not in ("no_answer", "no_end"):
            raise
        now = bytes_read(connection.server.supervisor_pid, itself=False)
        read = None if now is None or already is None else now - already
        if read is not None and read > 64 * MiB:
            told = f"Since HEAD was sent the server has read {size_text(read)}."
        elif at_work(connection.server):
            told = "Since HEAD was sent the server has been at work."
        else:
            raise
        raise CheckFailed("head_reads", f"{failure.evidence} {told}", failure.curl) from None


def _stays_open(server: Server, rng: Random, there: Wanted, folder: str) -> None:
    """Over one connection, the next answer follows each kind of answer."""
    gone = Wanted(server.path_of(name_of(rng, ".mp4")), None, 404)
    steps: list[tuple[Wanted, str, tuple[str, ...]]] = [
        (there, "GET", ()),
        (there, "GET", (GZIP,)),
        (there, "HEAD", ()),
        (gone, "GET", ()),
        (gone, "HEAD", ()),
        (Wanted(folder, None, 404), "GET", ()),
        (Wanted(f"{REPORT}?rows=9", report_of(9)), "GET", ()),
        (Wanted(f"{REPORT}?rows=-9", None, 404), "GET", ()),
    ]
    with ExitStack() as stack:
        connection, after_refusal = stack.enter_context(open_connection(server)), False
        for wanted, method, headers in (*rng.sample(steps, len(steps)), steps[0]):
            closed = "says-close" if after_refusal else "stays-open"
            with promise("stays-open", closes=closed, stays_open="says-close"):
                answer = connection.ask(wanted, *headers, method=method)
            after_refusal = wanted.status != 200
            with promise("stays-open"):  # an answer that says close without a reason
                goes_on = connection.goes_on(answer)
            if not goes_on:
                connection, after_refusal = stack.enter_context(open_connection(server)), False
