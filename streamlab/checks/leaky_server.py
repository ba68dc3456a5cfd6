"""Lab 03's server with three leaks: they are mended, and all features stay.

Each function is one kind of check, as in `streamlab.checks.downloader`. Sizes are in bytes.
"""

from __future__ import annotations

import base64
import http.client
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NoReturn

from streamlab.checks.downloader.body import CHUNK
from streamlab.checks.downloader.runner import blocks_of, river_in
from streamlab.checks.evidence import log_of, state_of
from streamlab.checks.exchange import ask, request_for
from streamlab.checks.observe import held_by, peak_memory, traced
from streamlab.checks.outcome import fail, promise
from streamlab.checks.probes.common import name_of
from streamlab.checks.waits import TRANSFER
from streamlab.checks.workspace import LabWorkspace
from streamlab.errors import DownloadError
from streamlab.files import GiB, KiB, MiB, SampleFile, random_file, same_length, size_text
from streamlab.http.capped import capped_connection
from streamlab.http.clients import Crowd, Job, Load
from streamlab.process.server import Server, out_of_memory

LEAKY = "leaky_server.py"
NO_LINE_ENDS = bytes.maketrans(b"\r\n", b"..")
MOST = 4 * GiB
"""What an answer may have, in bytes: more than any file in base64."""
SLACK = 16 * MiB
"""Bytes that a server with eight threads may hold besides: the allocator keeps some for each."""


@dataclass(frozen=True)
class Asked:
    """A request to the leaky server, and the head of its answer; its body is still to be read."""

    command: str
    status: int
    headers: dict[str, str]
    response: http.client.HTTPResponse


@contextmanager
def asking(
    server: Server, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> Iterator[Asked]:
    """Send a request and read the head of its answer; the check fails if none comes."""
    command = "curl -sS -o got " + ("-I " if method == "HEAD" else "")
    command += "".join(f"-H {shlex.quote(f'{k}: {v}')} " for k, v in (headers or {}).items())
    command += shlex.quote(f"http://127.0.0.1:PORT{path}")
    port = int(server.url.rpartition(":")[2])
    connection = capped_connection(port, TRANSFER, MOST, 2 * MiB)
    try:
        connection.request(method, path, headers={"Connection": "close", **(headers or {})})
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        _fail_server(server, command, f"no answer came ({type(error).__name__})", "no_answer")
    found = {key.lower(): value for key, value in response.getheaders()}
    try:
        yield Asked(command, response.status, found, response)
    finally:
        connection.close()


def _fail_server(server: Server, command: str, what: str, cause: str, memory: str = "") -> NoReturn:
    log = server.log()
    if out_of_memory(log):
        cause = "whole_file"
    memory = f"\n{memory}" if memory else ""
    fail(cause, f"$ {command}\n{what}.{memory}{state_of(server)}", command)


def expect_body(
    server: Server, asked: Asked, blocks: Iterator[bytes], memory: Callable[[], str] = str
) -> None:
    """The check fails unless the status is 200 and the body consists of these blocks."""
    if asked.status != 200:
        _fail_server(server, asked.command, f"Status {asked.status} came", "wrong_status")
    at = 0
    problem, cause = "", "wrong_answer"
    try:
        for block in blocks:
            came = asked.response.read(len(block))
            if came != block:
                same = same_length(came, block)
                problem = (
                    f"The answer ended after {at + same} bytes of body"
                    if same == len(came)
                    else f"Byte {at + same} of the body is not what it should be"
                )
                break
            at += len(block)
        else:
            length = asked.headers.get("content-length", str(at))
            if extra := asked.response.read(MiB):
                problem = f"{len(extra)} bytes or more follow the {at} of the body"
            elif length != str(at):  # http.client does not notice that a body ends early
                problem = f"Content-Length is {length}, and {at} bytes of body came"
    except (OSError, http.client.HTTPException) as error:
        problem = f"The answer broke off after {at} bytes of body or more ({type(error).__name__})"
        cause = "no_answer" if isinstance(error, TimeoutError) else cause
    if problem:
        _fail_server(server, asked.command, problem, cause, memory())


def base64_of(path: Path) -> Iterator[bytes]:
    """A file in base64, in blocks."""
    with path.open("rb") as file:
        while block := file.read(3 * 256 * KiB):
            yield base64.b64encode(block)


def repr_digest(sha256: bytes) -> str:
    """The value of a Repr-Digest header (RFC 9530, section 2)."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


WANTS = {"Want-Repr-Digest": "sha-256=1"}


def digest_in_chunks(workspace: LabWorkspace, rng: Random) -> None:
    """A file larger than memory is sent with its digest."""
    with promise("leak-digest"):
        server = workspace.launch(LEAKY)
        _small_with_digest(server, rng)
        river = river_in(server.root, rng, 2)
        with asking(server, river.url, WANTS, "HEAD") as asked:
            _expect_digest(server, asked, river)
        with traced(server) as trace, asking(server, river.url, WANTS) as asked:
            _expect_digest(server, asked, river)
            problem = "The answer's body does not begin as the file does"
            if asked.response.read(CHUNK) != next(blocks_of(river.path))[:CHUNK]:
                _fail_server(server, asked.command, problem, "wrong_answer", trace.line)
        river.path.unlink()


def _small_with_digest(server: Server, rng: Random, ending: str = ".bin") -> None:
    path = server.root / name_of(rng, ending)
    for turn in range(2):  # the second time with other content of the same length
        path.write_bytes(rng.randbytes(200_000))
        # Within a few milliseconds the file system's clock may not have moved.
        os.utime(path, ns=(0, 1_500_000_000_600_000_000 + turn * 250_000_000))
        small = SampleFile(path, 200_000)
        with asking(server, small.url, WANTS) as asked:
            _expect_digest(server, asked, small)
            expect_body(server, asked, blocks_of(small.path))


def _expect_digest(server: Server, asked: Asked, file: SampleFile) -> None:
    wanted = repr_digest(bytes.fromhex(file.sha256))
    found = asked.headers.get("repr-digest")
    if asked.status == 200 and found != wanted:
        what = f"The answer has {f'Repr-Digest: {found}' if found else 'no Repr-Digest'}; the "
        what += f"file's is {wanted}"
        _fail_server(server, asked.command, what, "feature_lost")


def texts_in_chunks(workspace: LabWorkspace, rng: Random) -> None:
    """A text larger than memory is sent, even if it is one line."""
    with promise("leak-lines"):
        server = workspace.launch(LEAKY)
        river = river_in(server.root, rng, 2, rng.choice([".log", ".txt"]))
        with traced(server) as trace, asking(server, river.url) as asked:
            expect_body(server, asked, blocks_of(river.path), lambda: trace.line)
        river.path.unlink()
        many = _text(server, rng, ".log")
        with asking(server, many.url) as asked:
            expect_body(server, asked, blocks_of(many.path))


def _text(server: Server, rng: Random, ending: str) -> SampleFile:
    """A text with lines of many lengths, both kinds of line end, and none at its end."""
    lines = [rng.randbytes(rng.choice([0, 1, 9, 80, 3000])).hex() for _ in range(600)]
    text = "".join(line + rng.choice(["\n", "\r\n", "\r"]) for line in lines) + "the end \xe9"
    path = server.root / name_of(rng, ending)
    path.write_bytes(text.encode())
    return SampleFile(path, path.stat().st_size)


def base64_in_chunks(workspace: LabWorkspace, rng: Random) -> None:
    """A file larger than memory is sent in base64."""
    with promise("leak-base64"):
        server = workspace.launch(LEAKY)
        river = river_in(server.root, rng, 2, rng.choice([".bin", ".log"]))
        with asking(server, f"{river.url}?as=base64", method="HEAD") as asked:
            if asked.status != 200:
                _fail_server(server, asked.command, f"Status {asked.status} came", "wrong_status")
        with traced(server) as trace, asking(server, f"{river.url}?as=base64") as asked:
            expect_body(server, asked, base64_of(river.path), lambda: trace.line)
        river.path.unlink()


def features_stay(workspace: LabWorkspace, rng: Random) -> None:
    """All that the server could do before still works."""
    server = workspace.launch(LEAKY)
    for size in rng.sample([0, 1, 2, 48 * KiB - 1, 48 * KiB + 1, CHUNK, 777_777], 7):
        file = random_file(size, name_of(rng), server.root, seed=rng.randrange(2**32))
        with promise("leaky-file"), asking(server, file.url) as asked:
            _expect_type(server, asked, "application/octet-stream")
            expect_body(server, asked, blocks_of(file.path))
        with promise("leaky-base64"), asking(server, f"{file.url}?as=base64") as asked:
            _expect_type(server, asked, "text/plain")
            expect_body(server, asked, base64_of(file.path))
    for ending in (".log", ".txt"):
        text = _text(server, rng, ending)
        with promise("leaky-digest"), asking(server, text.url, WANTS) as asked:
            _expect_type(server, asked, "text/plain")
            _expect_digest(server, asked, text)
            with promise("leaky-file"):
                expect_body(server, asked, blocks_of(text.path))
        with promise("leaky-base64"), asking(server, f"{text.url}?as=base64") as asked:
            expect_body(server, asked, base64_of(text.path))
    with promise("leaky-digest"):
        _small_with_digest(server, rng, rng.choice([".bin", ".log"]))
    with promise("leaky-head"):
        _heads_have_no_body(server, text)
    secret = server.root.parent / name_of(rng, ".secret")
    secret.write_bytes(b"not for clients")
    gone = name_of(rng)
    paths = (f"/{gone}", f"/{gone}?as=base64", "/", f"/../{secret.name}", f"/%2e%2e/{secret.name}")
    with promise("leaky-missing"):
        for path in paths:
            for method in ("GET", "HEAD"):
                with asking(server, path, method=method) as asked:
                    if asked.status != 404:
                        what = f"Status {asked.status} came; it should be 404"
                        _fail_server(server, asked.command, what, "wrong_status")


def _heads_have_no_body(server: Server, file: SampleFile) -> None:
    """HEAD has the headers of GET (the length may be left out), and no body on the wire."""
    encoded = -(-file.size // 3) * 4
    for path, length in ((file.url, file.size), (f"{file.url}?as=base64", encoded)):
        with asking(server, path, WANTS) as got, asking(server, path, WANTS, "HEAD") as asked:
            told = asked.headers.get("content-length")
            if asked.status != 200 or told not in (None, str(length)):
                what = f"Status {asked.status}, Content-Length {told} came; it should be 200 and"
                what += f" {length}, or no length"
                _fail_server(server, asked.command, what, "feature_lost")
            for name in ("content-type", "repr-digest"):
                if asked.headers.get(name) != got.headers.get(name):
                    what = f"The header {name} is {asked.headers.get(name)}; GET has "
                    what += f"{got.headers.get(name)}"
                    _fail_server(server, asked.command, what, "feature_lost")
        request = request_for(path).replace(b"GET", b"HEAD", 1)
        body = ask(server, [request]).raw.partition(b"\r\n\r\n")[2]
        if body:
            what = f"{len(body)} bytes or more followed the headers: an answer to HEAD has no body"
            _fail_server(server, asked.command, what, "feature_lost")


def _expect_type(server: Server, asked: Asked, value: str) -> None:
    found = asked.headers.get("content-type")
    with promise("leaky-type"):
        if asked.status == 200 and (found or "").partition(";")[0].strip() != value:
            what = f"The answer has Content-Type: {found}; it should be {value}"
            _fail_server(server, asked.command, what, "feature_lost")


def routes_hold_little(
    workspace: LabWorkspace, rng: Random, clients: int = 8, each: int = 4 * MiB
) -> None:
    """While clients of each kind wait, the server holds a few MiB for each."""
    with promise("leaky-hold"):
        # In glibc's allocator each thread has an arena of its own, which keeps freed memory: how
        # much of that counts would be chance.
        server = workspace.launch(LEAKY, environment={"MALLOC_ARENA_MAX": "1"})
        baseline = 0
        kinds = [(".log", "", False), (".log", "", True), (".bin", "?as=base64", False)]
        for ending, query, one_line in rng.sample(kinds, len(kinds)):
            file = random_file(24 * MiB, name_of(rng, ending), server.root, rng.randrange(2**32))
            if one_line:  # in place: the size stays
                file.path.write_bytes(file.path.read_bytes().translate(NO_LINE_ENDS))
            if not baseline:
                with asking(server, f"{file.url}{query}", method="HEAD"):
                    baseline = held_by(server)
            _hold(server, file, query, clients, each, baseline)


def _hold(
    server: Server, file: SampleFile, query: str, clients: int, each: int, baseline: int
) -> None:
    port = int(server.url.rpartition(":")[2])
    job = Job(port, Load(file.url + query, clients, "stalled", 2 * MiB), TRANSFER)
    allowed = clients * each + SLACK
    grown = 0
    with traced(server) as trace:
        try:
            with Crowd(job) as many:
                arrived = many.arrive()
                errors = [one.error for one in arrived if one.error]
                late = any(one.failure == "unfinished" for one in arrived)
                if not errors:
                    grown = peak_memory(server, baseline + allowed) - baseline
        except DownloadError as error:
            if error.failure != "overdue":
                raise
            errors, late = [str(error)], True
    command = f"curl -sS --limit-rate 1M -o got 'http://127.0.0.1:PORT{file.url}{query}'"
    summary = f"{clients} clients at once took 2 MiB each of {size_text(file.size)}, and waited"
    if errors:
        what = f"{summary}; {len(errors)} of them failed: {errors[0]}"
        _fail_server(server, command, what, "no_answer" if late else "wrong_answer", trace.line)
    if grown > allowed:
        fail(
            "holds_much",
            f"$ {command}\n{summary}. The server held {size_text(grown)} more than when idle, "
            f"{size_text(grown / clients)} for each; {size_text(each)} each are allowed.\n"
            f"{trace.line}{log_of(server)}",
            command,
        )
