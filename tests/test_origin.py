"""The origin sends each kind of answer, as a client of the standard library sees it."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamlab.origin import Answer, Bomb, Exchange, Framing, Origin, block_of
from streamlab.origin import server as origin_server

BODY = random.Random(0).randbytes(700_000)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin
    assert not origin._accepting.is_alive() and not origin._serving


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
def test_a_body_arrives_in_each_framing(
    origin: Origin, becomes: Callable[[Callable[[], bool]], bool], framing: Framing, body: bytes
) -> None:
    assert get(origin, Answer(body, framing=framing)) == body
    assert becomes(lambda: origin.sent["/body"] == len(body))
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


def asking(origin: Origin, path: str, *headers: str) -> socket.socket:
    """A client that has asked for a path, and has read nothing."""
    client = socket.create_connection(("127.0.0.1", origin.port), timeout=5)
    client.sendall("\r\n".join([f"GET {path} HTTP/1.1", *headers, "", ""]).encode())
    return client


def test_what_was_asked_is_kept(
    origin: Origin, becomes: Callable[[Callable[[], bool]], bool]
) -> None:
    """Headers in the order they came, also those that came twice."""
    origin.put("/body", Answer(BODY))
    with asking(origin, "/body", "Range: bytes=1-", "X-Twice: 1", "X-Twice: 2") as client:
        while client.recv(1 << 20):
            pass
    [exchange] = origin.exchanges
    assert becomes(lambda: exchange.ended is not None)
    assert (exchange.method, exchange.path) == ("GET", "/body")
    assert exchange.headers == [("range", "bytes=1-"), ("x-twice", "1"), ("x-twice", "2")]
    assert exchange.header("range") == "bytes=1-"
    assert exchange.header("cookie") is None
    assert (exchange.sent, exchange.left) == (len(BODY), False)


def test_an_answer_can_depend_on_the_request(origin: Origin) -> None:
    """What makes the answer sees the request."""

    def answer(exchange: Exchange) -> Answer:
        told = exchange.header("range") or "none"
        headers = (("Content-Type", "text/plain"), ("Content-Range", told))
        return Answer(BODY[:5], 206 if exchange.header("range") else 200, headers=headers)

    origin.put("/body", answer)
    for headers, status, told in (([], b"200", b"none"), (["Range: x"], b"206", b"x")):
        with asking(origin, "/body", *headers) as client:
            head, _, body = client.makefile("rb").read().partition(b"\r\n\r\n")
        assert status in head.split(b"\r\n")[0]
        assert b"Content-Range: " + told in head
        assert head.count(b"Content-Type") == 1
        assert body == BODY[:5]


def test_not_modified_has_no_body(origin: Origin) -> None:
    origin.put("/body", Answer(b"", 304))
    with asking(origin, "/body") as client:
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 304 ") and answer.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in answer


@pytest.mark.parametrize(
    ("answer", "first", "sent"),
    [
        (Answer(BODY, stop=200_000, stall=True), 100_000, 200_000),
        (Answer(BODY, framing="chunked", stop=200_000, stall=True), 100_000, 200_000),
        (Answer(BODY, stop=0, stall=True), 1, 0),
        (Answer(status=0, stall=True), 0, 0),
        (Answer(BODY, delay=60), 0, 0),
        (Answer(BODY, piece=1000, pause=60), 500, 1000),
        (Answer(bytes(50_000_000)), 100_000, None),
    ],
)
def test_the_client_is_seen_to_leave(
    origin: Origin,
    becomes: Callable[[Callable[[], bool]], bool],
    answer: Answer,
    first: int,
    sent: int | None,
) -> None:
    """In each state of the answer, the end of the connection is noticed at once, and recorded."""
    origin.put("/body", answer)
    with asking(origin, "/body") as client:
        got = 0
        while got < first:
            got += len(client.recv(first - got))
        assert becomes(lambda: bool(origin.exchanges))
        exchange = origin.exchanges[0]
        time.sleep(0.1)
        assert exchange.ended is None
        assert becomes(lambda: sent is None or exchange.sent == sent)
    left = time.monotonic()
    assert becomes(lambda: exchange.ended is not None)
    assert exchange.left
    assert exchange.ended is not None and exchange.ended - left < 5
    if sent is not None:
        assert exchange.sent == sent


def test_a_trickle_comes_piece_by_piece(origin: Origin) -> None:
    """A piece is sent when its time has come, and not before."""
    origin.put("/body", Answer(b"ab" * 4, framing="chunked", piece=2, pause=0.2))
    began = time.monotonic()
    with asking(origin, "/body") as client:
        raw = client.makefile("rb").read()
    assert time.monotonic() - began > 0.5
    assert origin.exchanges[0].paused > 0.15
    assert raw.endswith(b"2\r\nab\r\n" * 4 + b"0\r\n\r\n")


def test_who_comes_later_is_refused(
    origin: Origin, becomes: Callable[[Callable[[], bool]], bool]
) -> None:
    """Present clients are served to the end; new ones are refused."""
    origin.put("/body", Answer(BODY, delay=0.3))
    with asking(origin, "/body") as client:
        assert becomes(lambda: bool(origin.exchanges))
        origin.refuse()
        with pytest.raises(ConnectionRefusedError):
            asking(origin, "/body")
        assert client.makefile("rb").read().endswith(BODY[-100:])


@pytest.mark.needs("linux")
def test_who_comes_later_is_kept_waiting(origin: Origin) -> None:
    """With a full queue, new clients are neither accepted nor refused; the others go on."""
    origin.put("/late", Answer(b"river", delay=0.5))
    with socket.create_connection(("127.0.0.1", origin.port), timeout=5) as early:
        early.sendall(b"GET /late HTTP/1.1\r\n\r\n")
        while not origin.exchanges:
            time.sleep(0.01)
        assert origin.stop_accepting()
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", origin.port), timeout=0.3)
        assert early.recv(100).startswith(b"HTTP/1.1 200")


def test_bytes_instead_of_an_answer(origin: Origin) -> None:
    """They go out as they are, and the version that a client speaks is kept."""
    origin.put("/odd", Answer(wire=b"HTTP/1."))
    with socket.create_connection(("127.0.0.1", origin.port), timeout=5) as sock:
        sock.sendall(b"GET /odd HTTP/1.0\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1."
        assert sock.recv(100) == b""
    assert origin.exchanges[0].version == "HTTP/1.0"


def test_a_small_send_buffer(tmp_path: Path) -> None:
    """With it, little is on its way to a client that does not read."""
    with (tmp_path / "river").open("wb") as file:
        file.truncate(10**9)
    with Origin(send_buffer=64 * 1024) as origin:
        origin.put("/body", Answer(tmp_path / "river"))
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        with client:
            client.connect(("127.0.0.1", origin.port))
            client.sendall(b"GET /body HTTP/1.1\r\n\r\n")
            assert client.recv(1000)
            time.sleep(0.3)
            assert origin.sent["/body"] < 2_000_000


def test_silent_clients_have_a_limit(
    origin: Origin, becomes: Callable[[Callable[[], bool]], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who come beyond it are sent away, and when some leave others are served again."""
    monkeypatch.setattr(origin_server, "MOST_CONNECTIONS", 8)
    silent = [socket.create_connection(("127.0.0.1", origin.port), timeout=20) for _ in range(20)]
    assert [sock.recv(1) for sock in silent[8:]] == [b""] * 12
    assert len(origin._serving) == 8
    for sock in silent:
        sock.close()
    assert becomes(lambda: not origin._open)
    assert get(origin, Answer(b"river")) == b"river"


@pytest.mark.parametrize(
    ("lines", "kept"), [(b"x:\r\n" * 200, True), (b"x:\r\n" * 201, False), (b"x" * 70_000, False)]
)
def test_a_request_has_a_limit(origin: Origin, lines: bytes, kept: bool) -> None:
    with socket.create_connection(("127.0.0.1", origin.port), timeout=20) as sock:
        came = b""
        with contextlib.suppress(ConnectionError):  # it is closed before all has been read
            sock.sendall(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
            came = sock.recv(8)
    assert came == (b"HTTP/1.1" if kept else b"")
    assert len(origin.exchanges) == kept


def test_all_requests_have_a_limit(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of them is answered until it is too much, and then no more is kept."""
    monkeypatch.setattr(origin_server, "MOST_KEPT", 200_000)
    answered = 0
    for _ in range(20):
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection(("127.0.0.1", origin.port), timeout=20) as sock,
        ):
            sock.sendall(b"GET / HTTP/1.1\r\n" + b"x:\r\n" * 100 + b"\r\n")
            answered += sock.recv(8) == b"HTTP/1.1"
    assert answered == len(origin.exchanges)
    assert 0 < answered < 10


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
        for path, size in (("/length", 5 << 20), ("/v1/files/length/content", 5 << 20)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            assert len(connection.getresponse().read()) == size
            connection.close()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/v1/files/river")
        told = json.loads(connection.getresponse().read())
        assert told == {"id": "river", "object": "file", "bytes": 1 << 30}
        connection.close()
        process.terminate()
