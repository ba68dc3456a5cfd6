"""Where the bytes of a download are: measured on servers that pour, load and queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamlab import MiB, Server, random_file
from streamlab.errors import DownloadError
from streamlab.lesson.chain import Chain, chain_chart, chain_of
from streamlab.lesson.verdicts import Verdict, Verdicts, row, verdicts

pytestmark = pytest.mark.needs("linux")

CHUNK = 64 * 1024
LOOP = """
from streamlab.serve import serve_files


def send(path, response):
    response.start(path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(65536):
            response.write(chunk)


serve_files(send)
"""
LOAD_ALL = """
from streamlab.serve import serve_files


def send(path, response):
    body = path.read_bytes()
    response.start(len(body))
    response.write(body)


serve_files(send)
"""
SHORT = """
from streamlab.serve import serve_files


def send(path, response):
    response.start(1000)
    response.write(bytes(1000))


serve_files(send)
"""


def program(folder: Path, text: str) -> Path:
    """A server's program, in a file."""
    file = folder / "program.py"
    file.write_text(text)
    return file


def table() -> Verdicts:
    """A table with one row."""
    return verdicts(row("one", Verdict("right", "1")))


def test_a_loop_holds_a_chunk_and_the_kernel_holds_more(tmp_path: Path) -> None:
    river = random_file(64 * MiB)
    with Server(program(tmp_path, LOOP)) as server:
        chain = chain_of(server, river)
    assert chain.in_process <= CHUNK
    assert chain.in_kernel > chain.in_process
    assert chain.in_client == CHUNK
    assert chain.read == chain.in_process + chain.in_kernel + CHUNK < river.size / 2


def test_load_all_holds_the_rest_of_the_file(tmp_path: Path) -> None:
    river = random_file(64 * MiB)
    with Server(program(tmp_path, LOAD_ALL)) as server:
        chain = chain_of(server, river)
    assert chain.read == river.size
    assert chain.in_process > river.size / 2


def test_an_answer_that_is_too_short_is_an_error(tmp_path: Path) -> None:
    river = random_file(64 * MiB)
    with (
        Server(program(tmp_path, SHORT)) as server,
        pytest.raises(DownloadError, match="sent fewer than 65536 bytes"),
    ):
        chain_of(server, river)


def test_the_chart_shows_more_where_more_is_held() -> None:
    little, much = Chain(CHUNK, 4 * MiB, CHUNK, CHUNK), Chain(60 * MiB, 4 * MiB, CHUNK, CHUNK)
    one, two = (
        chain_chart({"stream": each}, "Where the bytes are", table()) for each in (little, much)
    )
    assert one.says == two.says == "Chart: Where the bytes are. one: right."
    assert one.png != two.png
