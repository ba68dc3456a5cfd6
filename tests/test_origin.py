"""The origin answers to order: each kind of answer as a client of the standard library sees it."""

from __future__ import annotations

import http.client
import random
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamlab.origin import Answer, Bomb, Framing, Origin, block_of

BODY = random.Random(0).randbytes(700_000)


@pytest.fixture
def origin() -> Iterator[Origin]:
    before = threading.active_count()
    with Origin() as origin:
        yield origin
    assert threading.active_count() == before


def get(origin: Origin, answer: Answer, method: str = "GET") -> bytes:
    """The body of an answer; raises what http.client raises."""
    origin.put("/body", answer)
    connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=5)
    try:
        connection.request(method, "/body")
        response = connection.getresponse()
        assert response.status == answer.status
        return response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("body", [b"", b"x", BODY])
def test_a_body_arrives_in_each_framing(origin: Origin, framing: Framing, body: bytes) -> None:
    assert get(origin, Answer(body, framing=framing)) == body
    assert origin.sent["/body"] == len(body)
    assert origin.asked == ["/body"]


def test_a_file_is_a_body(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "river").write_bytes(BODY)
    for framing in ("length", "chunked", "close"):
        assert get(origin, Answer(tmp_path / "river", framing=framing)) == BODY


@pytest.mark.parametrize(
    "answer",
    [
        Answer(BODY, stop=420_000),
        Answer(BODY, stop=0),
        Answer(BODY, stop=len(BODY) - 1),
        Answer(BODY, framing="chunked", stop=420_000),
        Answer(BODY, framing="chunked", last_chunk=False),
    ],
)
def test_a_body_that_is_cut_short_is_incomplete(origin: Origin, answer: Answer) -> None:
    with pytest.raises(http.client.IncompleteRead):
        get(origin, answer)


def test_a_reset_and_silence_are_no_answer(origin: Origin) -> None:
    with pytest.raises(ConnectionResetError):
        get(origin, Answer(BODY, stop=420_000, reset=True))
    with pytest.raises(http.client.RemoteDisconnected):
        get(origin, Answer(status=0))


def test_errors_and_heads(origin: Origin) -> None:
    assert get(origin, Answer(b"no such file\n", 404)) == b"no such file\n"
    assert get(origin, Answer(BODY), "HEAD") == b""


def test_chunks_are_not_for_http_1_0(origin: Origin) -> None:
    origin.put("/body", Answer(b"all", framing="chunked"))
    with socket.create_connection(("127.0.0.1", origin.port), timeout=5) as client:
        client.sendall(b"GET /body HTTP/1.0\r\n\r\n")
        head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert b"Content-Length: 3\r\n" in head
    assert body == b"all"


def test_it_ends_though_a_client_does_not_read(origin: Origin) -> None:
    """The fixture waits for the thread that sends: it must not wait for the client."""
    origin.put("/body", Answer(bytes(50_000_000)))
    client = socket.create_connection(("127.0.0.1", origin.port), timeout=5)
    client.sendall(b"GET /body HTTP/1.1\r\n\r\n")
    assert client.recv(1000)
    client.detach()


def test_a_bomb_becomes_what_it_says() -> None:
    bomb = Bomb(block_of(random.Random(1)), 7)
    packed = bomb.packed()
    assert len(packed) * 50 < bomb.size
    assert zlib.decompress(packed, wbits=31) == bomb.block * 7


def test_by_hand() -> None:
    """The command serves every kind of answer, and ends with an interrupt."""
    command = [sys.executable, "-m", "streamlab.origin"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        assert "/length" in process.stdout.readline()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/length")
        assert len(connection.getresponse().read()) == 5 * 1024 * 1024
        connection.close()
        process.terminate()
