"""Uploads at any pace: each sends what it is told, and an upload that can't go on is an error."""

from __future__ import annotations

import email
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Launch
from streamlab.errors import UploadError
from streamlab.files import KiB, MiB, SampleFile, random_file
from streamlab.http import upload
from streamlab.http.upload import Upload, curl_upload
from streamlab.process.server import Server

Becomes = Callable[[Callable[[], bool]], bool]

ODD = 300 * KiB + 7


@pytest.fixture
def server(launch: Launch) -> Iterator[Server]:
    """A server that takes uploads."""
    with launch("receiving", app="app") as running:
        yield running


@pytest.fixture
def sample(tmp_path: Path) -> SampleFile:
    """A file of no round size."""
    return random_file(ODD, "sample.bin", tmp_path)


def came(server: Server) -> bytes:
    """What the server has written of the body."""
    return (server.root / "came.bin").read_bytes()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_arrives_byte_for_byte(server: Server, sample: SampleFile, chunked: bool) -> None:
    with Upload(server, "/file", sample, chunked=chunked) as client:
        assert (client.sent, client.left, client.size) == (0, ODD, ODD)
        client.send(5)
        assert client.end() == 200
        assert (client.sent, client.left) == (ODD, 0)
    assert came(server) == sample.path.read_bytes()


def test_a_form_is_one(server: Server, sample: SampleFile) -> None:
    with Upload(server, "/file", sample, form="film") as client:
        assert client.size > ODD
        client.send(client.size - 1)
        assert client.left == 1
        assert client.end() == 200
    kind = b"Content-Type: multipart/form-data; boundary=" + upload.BOUNDARY.encode()
    message: Any = email.message_from_bytes(kind + b"\r\n\r\n" + came(server))
    [told] = message.get_payload()
    assert told.get_param("name", header="content-disposition") == "film"
    assert told.get_filename() == "upload.bin"
    assert told.get_payload(decode=True) == sample.path.read_bytes()


def test_zeros_need_no_file(server: Server) -> None:
    with Upload(server, "/file", 100_000) as client:
        assert client.end() == 200
    assert came(server) == bytes(100_000)


@pytest.mark.needs("linux")
def test_it_sends_no_more_than_it_is_told(server: Server, sample: SampleFile) -> None:
    with Upload(server, "/file", sample) as client:
        assert client.send(100_000) == 100_000
        assert client.settle() == client.on_the_way == 0
        assert came(server) == sample.path.read_bytes()[:100_000]
        assert client.send(1) == 100_001
        client.settle()
        assert len(came(server)) == 100_001


@pytest.mark.needs("linux")
def test_a_server_that_hangs_stops_the_client(server: Server) -> None:
    with Upload(server, "/hang", 1024 * MiB) as client:
        client.send(64 * KiB)
        assert client.settle() == 0
        sent = client.fill()
        assert 64 * KiB < sent < 256 * MiB
        assert client.settle() == client.on_the_way > 0
        assert client.fill() - sent < 1 * MiB  # it was full
    assert server.log().count("has ") == 1


@pytest.mark.needs("linux")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_server_that_reads_takes_all(server: Server, sample: SampleFile, chunked: bool) -> None:
    with Upload(server, "/file", sample, chunked=chunked) as client:
        assert client.fill(200_000) == 200_000
        assert client.on_the_way == 0
        assert came(server) == sample.path.read_bytes()[:200_000]
        assert client.fill() == ODD
        assert client.end() == 200
    assert came(server) == sample.path.read_bytes()


def test_a_client_that_leaves_is_gone(server: Server, sample: SampleFile, becomes: Becomes) -> None:
    with Upload(server, "/file", sample) as client:
        client.send(1000)
    assert becomes(lambda: "ends" in server.log())
    assert "the client left" in server.log()
    assert len(came(server)) == 1000


def test_an_early_answer_is_heard(server: Server, sample: SampleFile) -> None:
    with Upload(server, "/refuse", sample) as client:
        assert client.answer() == 413
        assert client.sent == 0


def test_no_server_is_an_error(server: Server, sample: SampleFile) -> None:
    url = server.url
    server.stop()
    server.url = url
    with pytest.raises(UploadError, match=r"^/file, 0 bytes sent: "), Upload(server, "/file", 10):
        pass


def test_no_answer_is_an_error(sample: SampleFile) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server("no.py")
        server.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(65536)[-10:] != bytes(10):
                    pass

        closing = threading.Thread(target=hang_up)
        closing.start()
        with Upload(server, "/file", 10) as client:
            client.send()
            with pytest.raises(UploadError, match="closed the connection without an answer"):
                client.answer()
        closing.join()


def test_a_server_that_takes_nothing_is_an_error(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PATIENCE", 0.5)
    with Upload(server, "/hang", 1024 * MiB) as client:
        with pytest.raises(UploadError, match="the server takes no more"):
            client.send()
        assert client.sent < 256 * MiB


@pytest.mark.needs("curl")
def test_curl_says_what_it_sent(server: Server, sample: SampleFile) -> None:
    done = curl_upload(server.url + "/file", sample)
    assert (done.status, done.sent, done.exit) == (200, ODD, 0)
    assert came(server) == sample.path.read_bytes()


@pytest.mark.needs("curl")
def test_curl_without_a_length_and_with_a_form(server: Server, sample: SampleFile) -> None:
    done = curl_upload(server.url + "/file", sample, "-T", "-")
    assert (done.status, came(server)) == (200, sample.path.read_bytes())
    assert ODD < done.sent < 1.1 * ODD  # with the framing of the chunks
    done = curl_upload(server.url + "/file", sample, "-F", f"file=@{sample.path}")
    assert done.status == 200
    assert sample.path.read_bytes() in came(server)
    assert len(came(server)) > ODD


@pytest.mark.needs("curl")
def test_curl_that_asks_first_sends_nothing(server: Server, tmp_path: Path) -> None:
    large = random_file(4 * MiB, "large.bin", tmp_path)
    done = curl_upload(server.url + "/refuse", large, "-H", "Expect: 100-continue")
    assert (done.status, done.sent) == (413, 0)


@pytest.mark.needs("curl")
def test_curl_without_an_answer_is_an_error(server: Server, sample: SampleFile) -> None:
    with pytest.raises(UploadError, match="curl did not finish: status 28"):
        curl_upload(server.url + "/hang", sample, timeout=0.5)
