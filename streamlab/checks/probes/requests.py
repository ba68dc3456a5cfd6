"""Probes that labs share: what a server answers is valid HTTP, however a request comes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from random import Random
from urllib.parse import quote

from streamlab.checks.evidence import by_hand, cause_of, curl, shown, state_of
from streamlab.checks.exchange import ask, ask_over, connected, request_for
from streamlab.checks.observe import wait_until_idle
from streamlab.checks.outcome import fail
from streamlab.checks.probes.common import folder_in, name_of
from streamlab.http.answer import RawAnswer
from streamlab.process.server import Server


def well_formed(server: Server, rng: Random) -> None:
    """Answers are HTTP to the letter; no file, a folder, a way out of the root are refused."""
    content = b"line\r\n\r\n\0\xff" + rng.randbytes(rng.randrange(2000, 3000))
    name = name_of(rng, "-2.tar.gz")
    (server.root / name).write_bytes(content)
    folder_in(server.root)
    (server.root / "folder" / "inside.txt").write_bytes(b"in a folder")

    expect_answer(server, server.path_of(name), 200, content)
    expect_answer(server, server.path_of("folder/inside.txt"), 200, b"in a folder")
    for gone in (name_of(rng), "folder", "folder/"):
        expect_answer(server, server.path_of(gone), 404)
    stays_inside(server, rng)
    stays_in_step(server, name, content, ["folder"])
    expect_answer(server, server.path_of(name), 200, content)


def stays_inside(server: Server, rng: Random) -> None:
    """What leads out of the root is refused."""
    root = server.root
    secret = root.parent / name_of(rng, ".secret")
    beside = root.parent / f"{root.name}-{name_of(rng, '')}" / name_of(rng, ".secret")
    beside.parent.mkdir()
    for file in (secret, beside):
        file.write_bytes(b"not for clients")
    for name in (
        f"../{secret.name}",
        f"%2e%2e/{secret.name}",
        f"..%2f{secret.name}",
        f"folder/../../{secret.name}",
        f"{secret}",
        "%2F" + str(secret)[1:],
        quote(str(secret), safe=""),
        f"../{root.name}/../{secret.name}",
        f"../{beside.parent.name}/{beside.name}",
    ):
        stays_below_root(server, name)


def stays_below_root(server: Server, target: str) -> None:
    """No target gives out the file beside the root, and each has an answer: it is no file below."""
    path = server.path_of(target)
    answer = ask(server, [request_for(path)])
    if b"not for clients" in answer.raw:
        fail(
            "traversal",
            f"GET {path} gave out a file outside the root:\n\n{shown(answer.raw)}",
            curl(server, path, "--path-as-is -i"),
        )
    expect_answer(server, path, 404)


def stays_in_step(server: Server, name: str, content: bytes, others: Sequence[str]) -> None:
    """After an answer the server closes the connection, or answers the next request as well.

    `name` is a file with that content; the first answer is also one for each of `others`.
    """
    again = server.path_of(name)
    for path in (again, *map(server.path_of, others)):
        with suppress(OSError), connected(server) as sock:
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
            first = ask_over(sock, [request])
            second = ask_over(sock, [request_for(again)])
            wrong, cause = first.problem, cause_of(first.fault, server)
            if not wrong and not first.ended:
                cause = "no_end"
                wrong = "After 5 s the first answer had no end, and the connection stays open"
            if not wrong and second.raw:
                cause = "out_of_step"
                wrong = second.problem
                if not wrong and (second.status, second.body) != (200, content):
                    wrong = "the second answer is not the file"
            if wrong:
                fail(
                    cause,
                    f"Sent GET {path} and, when all of the answer was there, GET {again} over the "
                    f"same connection. First came\n\n{shown(first.raw, 200)}\n\nand then\n\n"
                    f"{shown(second.raw)}\n\n{wrong}."
                    f"{state_of(server)}",
                    by_hand([request, request_for(again)], 0.5),
                )


def expect_answer(server: Server, path: str, status: int, body: bytes | None = None) -> RawAnswer:
    """One raw request gets a well-formed answer with a status (404: any refusal, 400 to 499)."""
    answer = ask(server, [request_for(path)])
    summary = f"Sent GET {path}. Came back:\n\n{shown(answer.raw)}\n\n"
    line = curl(server, path, "--path-as-is -i")
    if answer.problem:
        surplus = answer.fault == "too_many" and server.running
        cause = "out_of_step" if surplus else cause_of(answer.fault, server)
        fail(cause, f"{summary}{answer.problem}.{state_of(server)}", line)
    if not answer.ended:
        fail(
            "no_end",
            f"{summary}After 5 s the answer had no end: no Content-Length that was reached, no "
            f"last chunk, and the connection stays open.{state_of(server)}",
            line,
        )
    refused = status == 404 and 400 <= answer.status < 500
    if answer.status != status and not refused:
        wanted = "404, or another one from 400 to 499" if status == 404 else status
        fail("wrong_status", f"{summary}The status should be {wanted}.{state_of(server)}", line)
    if body is not None and answer.body != body:
        fail("wrong_bytes", f"{summary}The body is not the file's {len(body)} bytes.", line)
    return answer


def split_requests(server: Server, rng: Random, *, long_heads: bool = True) -> None:
    """A request may come in one piece, a byte at a time, or in three pieces with pauses.

    With `long_heads` its head may also have 15 KB.
    """
    content = rng.randbytes(5000)
    name = name_of(rng)
    (server.root / name).write_bytes(content)
    path = server.path_of(name)
    expect_answer(server, path, 200, content)
    request = request_for(path)
    slow = [bytes([byte]) for byte in request]
    three = [request[:9], request[9:-2], request[-2:]]
    padded = request_for(path, *(f"X-Padding-{number}: {'x' * 400}" for number in range(36)))
    ways: list[tuple[Iterable[bytes], list[bytes], float, str]] = [
        (slow, slow, 0.002, "a byte at a time"),
        (_one_by_one(server, three), three, 0, "in three pieces, with a pause after each"),
    ]
    if long_heads:
        ways.append(([padded], [padded], 0, "with 15 KB of headers"))
    for pieces, shown_pieces, pause, how in ways:
        answer = ask(server, pieces, pause)
        if answer.status != 200 or answer.body != content or answer.problem:
            fail(
                "one_recv",
                f"A request for {path} in one piece was answered right. Then it was sent {how}. "
                f"Came back:\n\n{shown(answer.raw)}\n\n"
                f"{answer.problem or 'It should be status 200 and the file'}.{state_of(server)}",
                by_hand(shown_pieces, pause or 0.3),
            )


def _one_by_one(server: Server, pieces: Sequence[bytes]) -> Iterator[bytes]:
    """Pieces of a request, each one when the server has done what it can with those before."""
    for piece in pieces[:-1]:
        yield piece
        wait_until_idle(server)
        time.sleep(0.2)  # one that does not wait for the rest any longer has something to do now
        wait_until_idle(server)
    yield pieces[-1]
