"""Python's own clients with a limit: what is right comes through, what has no end does not."""

from __future__ import annotations

import gzip
import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import requests

from streamlab.files import MiB
from streamlab.http.capped import TooMuch, capped_connection, capped_session, content_of

MOST = 2 * MiB
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
RIGHT = {
    "length": HEAD + b"Content-Length: 5\r\n\r\nriver",
    "chunked": CHUNKED + b"5\r\nriver\r\n0\r\n\r\n",
    "close": HEAD + b"\r\nriver",
}
ENDLESS = {
    "chunks": (CHUNKED, b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n"),
    "a chunk of -1": (CHUNKED + b"-1\r\n", b"x" * 65536),
    "a chunk of -5": (CHUNKED + b"-5\r\n", b"x" * 65536),
    "a chunk of 2**60": (CHUNKED + b"%x\r\n" % 2**60, b"x" * 65536),
    "a chunk of 5000 digits": (CHUNKED + b"f" * 5000 + b"\r\n", b"x" * 65536),
    "a length of 2**60": (HEAD + b"Content-Length: %d\r\n\r\n" % 2**60, b"x" * 65536),
    "no length": (HEAD + b"\r\n", b"x" * 65536),
    "headers": (HEAD, b"x: y\r\n" * 1000),
}
BOMB = gzip.compress(bytes(64 * MiB))


@contextmanager
def sending(first: bytes, again: bytes = b"") -> Iterator[int]:
    """The port of a server that sends this, and then the other over and over (1 GiB at most)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                connection.recv(65536)
                try:
                    connection.sendall(first)
                    for _ in range(2**30 // len(again) if again else 0):
                        connection.sendall(again)
                except OSError:
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(20)


def by_http_client(port: int, size: int | None = None) -> bytes:
    connection = capped_connection(port, 20, MOST, MOST)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read(size)
    finally:
        connection.close()


def by_requests(port: int) -> bytes:
    with capped_session(MOST) as session:
        answer = session.get(f"http://127.0.0.1:{port}/", timeout=20, stream=True)
        return content_of(answer, MOST)


@pytest.mark.parametrize("client", [by_http_client, by_requests])
@pytest.mark.parametrize("how", RIGHT)
def test_what_is_right_comes_through(client: Callable[[int], bytes], how: str) -> None:
    with sending(RIGHT[how]) as port:
        assert client(port) == b"river"


@pytest.mark.parametrize("client", [by_http_client, by_requests])
@pytest.mark.parametrize("how", ENDLESS)
def test_what_has_no_end_is_an_error(client: Callable[[int], bytes], how: str) -> None:
    """One that those who call it know, and no lack of memory."""
    first, again = ENDLESS[how]
    kinds = (http.client.HTTPException, requests.RequestException, OSError, ValueError)
    with sending(first, again) as port, pytest.raises(kinds):
        client(port)


@pytest.mark.parametrize("how", ["a chunk of -1", "a chunk of 2**60"])
def test_a_small_read_stays_small(how: str) -> None:
    """The plain client reads what comes up to the end, for a chunk of -1 bytes."""
    with sending(*ENDLESS[how]) as port, suppress(TooMuch):
        assert len(by_http_client(port, 1000)) <= MOST


def test_gzip_has_a_limit() -> None:
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB)
    with sending(head + BOMB) as port, pytest.raises(TooMuch):
        by_requests(port)


def test_the_attack_is_real() -> None:
    """Without a limit http.client takes all that comes: more than a process of 300 MiB can hold."""
    text = (
        "import http.client, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))\n"
        "connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=20)\n"
        "connection.request('GET', '/')\n"
        "connection.getresponse().read(1)\n"
    )
    with sending(*ENDLESS["a chunk of -1"]) as port:
        command = [sys.executable, "-c", text, str(port)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "MemoryError" in ran.stderr
