"""Downloads, one or many: what is measured of them, and that a failed one is an error."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from streamlab import Download, DownloadError, Server, download
from streamlab.files import KiB, MiB, SampleFile, random_file, sparse_file
from streamlab.http.clients import FIRST, Crowd, Job, Load, receive_buffer

Launch = Callable[..., Server]
Becomes = Callable[[Callable[[], bool]], bool]

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def sample(tmp_path: Path) -> SampleFile:
    """A file of 1000 random bytes."""
    return random_file(1000, folder=tmp_path)


def with_length(length: int) -> bytes:
    """The head of an answer that declares so many bytes."""
    return OK + b"Content-Length: %d\r\n\r\n" % length


def chunks(*pieces: bytes) -> bytes:
    """Pieces in chunked coding, the last chunk not yet among them."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def test_a_whole_download(answering: Any, sample: SampleFile) -> None:
    """Status, headers, size and times of a download are told."""
    url = answering(with_length(1000), sample.path.read_bytes())
    done = download(url, sample.path)
    assert isinstance(done, Download)
    assert (done.status, done.size, done.error) == (200, 1000, None)
    assert done.headers == {"content-length": "1000"}
    assert done.first_byte is not None
    assert 0 < done.first_byte <= done.seconds


def test_the_request(answering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks for the path with its query, uncompressed, once, and around any proxy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    url = answering(with_length(0)).replace("file.bin", "a/b?rate=7&x=%20")
    download(url)
    lines = answering.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /a/b?rate=7&x=%20 HTTP/1.1"
    assert "Accept-Encoding: identity" in lines
    assert "Connection: close" in lines


def test_without_a_path(answering: Any) -> None:
    """A URL without a path asks for `/`."""
    download(answering(with_length(0)).replace("/file.bin", ""))
    assert answering.requests[0].startswith(b"GET / HTTP/1.1\r\n")


def test_an_empty_body(answering: Any) -> None:
    """No bytes are a download too, without a first byte."""
    done = download(answering(with_length(0)))
    assert (done.size, done.first_byte) == (0, None)


def test_head_and_body_in_any_pieces(answering: Any, sample: SampleFile) -> None:
    """Where the network cuts an answer does not matter."""
    answer = with_length(1000) + sample.path.read_bytes()
    url = answering(*(answer[start : start + 7] for start in range(0, len(answer), 7)))
    assert download(url, sample.path).size == 1000


def test_a_body_that_ends_with_the_connection(answering: Any, sample: SampleFile) -> None:
    """Without any length the end of the connection ends the body; the file says if it is whole."""
    body = sample.path.read_bytes()
    assert download(answering(OK + b"\r\n", body), sample.path).size == 1000
    with pytest.raises(DownloadError, match="cut short: 999 B of 1000 B"):
        download(answering(OK + b"\r\n", body[:-1]), sample.path)


def test_chunked(answering: Any, sample: SampleFile) -> None:
    """Chunked coding is read, with sizes in either case, extensions and trailers."""
    body = sample.path.read_bytes()
    url = answering(
        CHUNKED,
        chunks(body[:10], body[10:500]),
        b'0AA;name="value"\r\n' + body[500:670] + b"\r\n",
        b"14a ;x\r\n" + body[670:] + b"\r\n",
        b"0\r\nTrailer: x\r\n\r\n",
    )
    assert download(url, sample.path).size == 1000


def test_chunked_in_any_pieces(answering: Any, sample: SampleFile) -> None:
    """Where the network cuts chunks does not matter."""
    body = sample.path.read_bytes()
    answer = CHUNKED + chunks(body[:300], body[300:]) + b"0\r\n\r\n"
    url = answering(*(answer[start : start + 3] for start in range(0, len(answer), 3)))
    assert download(url, sample.path).size == 1000


def test_cut_short_of_its_length(answering: Any, sample: SampleFile) -> None:
    """Fewer bytes than declared is an error, with or without a file to compare with."""
    body = sample.path.read_bytes()
    for source in (None, sample.path):
        url = answering(with_length(1000), body[:600])
        with pytest.raises(DownloadError, match=r"^http://.*: cut short: 600 B of 1000 B$"):
            download(url, source)


@pytest.mark.parametrize(
    "cut",
    [
        lambda body: chunks(body),
        lambda body: chunks(body) + b"0",
        lambda body: chunks(body)[:-2],
        lambda body: chunks(body)[:-100],
        lambda body: chunks(body[:500]),
        lambda body: b"3e",
        lambda body: b"",
    ],
    ids=["last chunk", "in last chunk", "line end", "data", "chunk", "size", "all"],
)
def test_chunks_cut_before_the_last(
    answering: Any, sample: SampleFile, cut: Callable[[bytes], bytes]
) -> None:
    """A chunked body that ends before its last chunk is cut short, all bytes there or not."""
    url = answering(CHUNKED, cut(sample.path.read_bytes()))
    with pytest.raises(DownloadError, match="cut short: the connection closed before the last"):
        download(url, sample.path)


@pytest.mark.parametrize(
    ("coded", "why"),
    [
        (b"xyz\r\n", "'xyz' is no chunk size"),
        (b"-5\r\nhello\r\n", "'-5' is no chunk size"),
        (b"5 \r\nhello\r\n", "'5 ' is no chunk size"),
        (b"\r\nhello", "'' is no chunk size"),
        (b"3\r\nhello\r\n0\r\n\r\n", "a chunk of 3 bytes does not end with CR LF"),
    ],
)
def test_chunks_that_are_none(answering: Any, coded: bytes, why: str) -> None:
    """Broken chunked coding is an error of the download, in one line."""
    with pytest.raises(DownloadError, match=why):
        download(answering(CHUNKED, coded))


@pytest.mark.parametrize("length", [b"", b"many", b"-1", b"1.5", b"0x10"])
def test_a_length_that_is_none(answering: Any, length: bytes) -> None:
    """A Content-Length that is no number is an error of the download."""
    with pytest.raises(DownloadError, match=r"Content-Length is '.*', not a number"):
        download(answering(OK + b"Content-Length: " + length + b"\r\n\r\n"))


@pytest.mark.parametrize("place", [0, 1, 499, 999])
def test_wrong_bytes(answering: Any, sample: SampleFile, place: int) -> None:
    """A wrong byte at any place is an error that names its position."""
    body = bytearray(sample.path.read_bytes())
    body[place] ^= 1
    url = answering(with_length(1000), bytes(body))
    with pytest.raises(DownloadError, match=f"byte {place} is not as in the file"):
        download(url, sample.path)


def test_fewer_bytes_than_the_file(answering: Any, sample: SampleFile) -> None:
    """An answer that is whole by its own length, but shorter than the file, is cut short."""
    url = answering(with_length(999), sample.path.read_bytes()[:999])
    with pytest.raises(DownloadError, match="cut short: 999 B of 1000 B"):
        download(url, sample.path)


def test_more_bytes_than_the_file(answering: Any, sample: SampleFile) -> None:
    """An answer longer than the file is an error."""
    url = answering(with_length(1001), sample.path.read_bytes() + b"!")
    with pytest.raises(DownloadError, match="byte 1000 is not as in the file"):
        download(url, sample.path)


def test_more_bytes_than_declared(answering: Any) -> None:
    """Bytes beyond the declared length are an error."""
    with pytest.raises(DownloadError, match="5 bytes too many"):
        download(answering(with_length(1000) + bytes(1005)))


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oops", "206 Partial", "302 Found"])
def test_any_other_status(answering: Any, status: str) -> None:
    """Any status but 200 is an error."""
    url = answering(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
    with pytest.raises(DownloadError, match=f"answered with status {status[:3]}"):
        download(url)


def test_nobody_listens(closed_port: int) -> None:
    """A refused connection is reported in words."""
    with pytest.raises(DownloadError, match="no server listens there: it has ended, or never"):
        download(f"http://127.0.0.1:{closed_port}/")


@pytest.mark.parametrize("answer", [b"SSH-2.0-nobody\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"\r\n\r\n"])
def test_another_protocol(answering: Any, answer: bytes) -> None:
    """An answer that is not HTTP is an error that shows its beginning."""
    with pytest.raises(DownloadError, match=r"begins with '.*', not with a status line"):
        download(answering(answer))


def test_no_answer(answering: Any) -> None:
    """A connection that closes without a word is an error."""
    with pytest.raises(DownloadError, match="closed the connection before any answer"):
        download(answering(b""))


@pytest.mark.parametrize(
    ("answer", "why", "failure"),
    [
        (b"HTTP/1.1 200 OK\r\n", "no empty line", "cut_short"),
        (b"HTTP/1.1 200 OK\n\nhello", "a line ends in CR LF", "malformed"),
    ],
)
def test_headers_without_an_end(answering: Any, answer: bytes, why: str, failure: str) -> None:
    """A connection that closes before the headers end is an error, with the reason."""
    with pytest.raises(DownloadError, match=why) as caught:
        download(answering(answer))
    assert caught.value.failure == failure


def test_endless_headers(answering: Any) -> None:
    """An answer that never comes to its body is given up."""
    with pytest.raises(DownloadError, match="longer than this reader's limit") as caught:
        download(answering(OK + b"X: " + b"x" * 400 * KiB))
    assert caught.value.failure == "malformed"


def test_an_interim_answer_comes_first(answering: Any, sample: SampleFile) -> None:
    """A client has to take it, whether it has asked for it or not (RFC 9110, section 15.2)."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    done = download(answering(hints + with_length(1000), sample.path.read_bytes()), sample.path)
    assert (done.status, done.headers) == (200, {"content-length": "1000"})


def test_a_broken_connection(sample: SampleFile) -> None:
    """A connection that the server resets in the middle is an error in words."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(with_length(1000) + bytes(10))
            time.sleep(0.2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(DownloadError, match="the server broke the connection"):
            download(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()


def test_a_silent_server() -> None:
    """A server that never answers is given up after the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        with pytest.raises(DownloadError, match=r"not finished after 0\.5 s"):
            download(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=0.5)
        assert time.monotonic() - began >= 0.5


def job(server: Server, sample: SampleFile, **options: Any) -> Job:
    """An order for downloads of a sample from a server."""
    port = int(server.url.rpartition(":")[2])
    return Job(port, Load(sample.url, source=sample.path, **options))


@pytest.fixture
def big(tmp_path: Path) -> SampleFile:
    """A file that no socket's buffers can hold, of 40 MiB and almost no disk."""
    return sparse_file(40 * MiB, folder=tmp_path)


def test_slow_clients_wait_for_each_other(launch: Launch, big: SampleFile) -> None:
    """Slow clients take their first bytes, wait until told to finish, and then have the file."""
    with Crowd(job(launch("streaming").start(), big, clients=3)) as crowd:
        arrived = crowd.arrive()
        assert all(FIRST <= each.size < big.size for each in arrived)
        time.sleep(1)
        finished = crowd.finish()
    assert all(each.seconds >= 1 for each in finished), "none was done before it was told to"
    assert [each.size for each in finished] == [big.size] * 3
    assert [each.error for each in finished] == [None] * 3


def test_fast_clients_do_not_wait(launch: Launch, big: SampleFile) -> None:
    """Fast clients have the whole file when they have arrived."""
    with Crowd(job(launch("streaming").start(), big, clients=2, pace="fast")) as crowd:
        assert [each.size for each in crowd.arrive()] == [big.size] * 2
        assert [each.size for each in crowd.finish()] == [big.size] * 2


@pytest.mark.parametrize("pace", ["stalled", "leaving"])
def test_clients_that_never_finish(launch: Launch, big: SampleFile, pace: Any) -> None:
    """Stalled and leaving clients end without the rest, which is no error."""
    with Crowd(job(launch("streaming").start(), big, clients=2, pace=pace)) as crowd:
        crowd.arrive()
        finished = crowd.finish()
    assert [each.error for each in finished] == [None] * 2
    assert all(FIRST <= each.size < big.size for each in finished)


def test_clients_one_by_one(launch: Launch, big: SampleFile) -> None:
    """Clients may come one after the other, and all finish together."""
    with Crowd(job(launch("streaming").start(), big)) as crowd:
        for _ in range(3):
            assert FIRST <= crowd.arrive_one().size < big.size
        assert [each.size for each in crowd.finish()] == [big.size] * 3


def test_clients_live_in_a_process_of_their_own(launch: Launch, big: SampleFile) -> None:
    """A crowd is one child process, and its end leaves none."""
    started = launch("streaming").start()
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with Crowd(job(started, big, clients=5)) as crowd:
        crowd.arrive()
        during = {child.pid for child in psutil.Process().children(recursive=True)}
        assert len(during - before) == 1
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before


def test_warmup_comes_first(launch: Launch, big: SampleFile, tmp_path: Path) -> None:
    """The small request is made before any other, and its failure is an error."""
    started = launch("streaming").start()
    random_file(10, "small.bin", folder=tmp_path)
    with Crowd(job(started, big, warmup="/small.bin")) as crowd:
        assert crowd.arrive()[0].error is None
    with (
        pytest.raises(DownloadError, match=r"/none\.bin: the server answered with status 404"),
        Crowd(job(started, big, warmup="/none.bin")),
    ):
        pass


def test_every_client_checks_its_bytes(launch: Launch, big: SampleFile, tmp_path: Path) -> None:
    """Each client of a crowd says what was wrong with its own download."""
    other = random_file(big.size, "other.bin", folder=tmp_path / "other", seed=9)
    started = launch("streaming").start()
    port = int(started.url.rpartition(":")[2])
    wrong = Load(big.url, clients=2, pace="fast", source=other.path)
    with Crowd(Job(port, wrong)) as crowd:
        errors = [each.error for each in crowd.arrive()]
    assert errors == ["byte 0 is not as in the file"] * 2


def test_crowd_without_a_server(closed_port: int) -> None:
    """Refused clients of a crowd have errors, not exceptions."""
    with Crowd(Job(closed_port, Load("/", clients=2))) as crowd:
        assert all("no server listens" in str(each.error) for each in crowd.arrive())


def test_crowd_gives_up() -> None:
    """Clients that get no answer end after the job's timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with Crowd(Job(port, Load("/", clients=2), timeout=0.5)) as crowd:
            assert [each.error for each in crowd.arrive()] == ["not finished after 0.5 s"] * 2


def test_crowd_that_dies(launch: Launch, big: SampleFile) -> None:
    """The end of the clients' own process is an error, not an endless wait."""
    started = launch("streaming").start()
    before = set(psutil.Process().children())
    with Crowd(job(started, big)) as crowd:
        (process,) = set(psutil.Process().children()) - before
        process.kill()
        with pytest.raises(DownloadError):
            crowd.arrive()


@pytest.mark.needs("linux")
def test_more_clients_than_descriptors(launch: Launch, tmp_path: Path) -> None:
    """The clients' process raises its own limit of descriptors as far as it may."""
    import resource

    small = sparse_file(4 * MiB, folder=tmp_path)
    started = launch("streaming").start()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        with Crowd(job(started, small, clients=100)) as crowd:
            assert [each.error for each in crowd.arrive()] == [None] * 100
            assert {each.size for each in crowd.finish()} == {small.size}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_share_the_kernels_room() -> None:
    """Up to 256 clients each have 256 KiB of receive buffer, and more of them share 64 MiB."""
    assert receive_buffer(1) == receive_buffer(256) == 256 * KiB
    assert 63 * MiB < 1000 * receive_buffer(1000) <= 64 * MiB
