# HUGE memory: reads a chunk in one piece, however large it says it is
"""A downloader on a bare socket: `python client.py URL OUTPUT [--sha256 HEX]`.

Exit status: 0 when OUTPUT is complete, 1 when it could not be had, 2 when called wrongly.
"""

import argparse
import hashlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

CHUNK = 64 * 1024
LINE = 64 * 1024


class Failed(Exception):
    """The download is not what it should be; the message says why."""


def download(url: str, output: Path, sha256: str | None) -> None:
    """Fetch `url` into `output`, with that hash if one is given, or raise an exception."""
    handle, name = tempfile.mkstemp(prefix=".part-", dir=output.parent)
    part = Path(name)
    digest = hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in body(url):
                file.write(piece)
                digest.update(piece)
        if sha256 is not None and digest.hexdigest() != sha256.lower():
            raise Failed(f"its sha256 is {digest.hexdigest()}, not {sha256}")
        part.chmod(0o644)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def body(url: str) -> Iterator[bytes]:
    """The body of `url` in pieces."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    address = parts.hostname or "", parts.port or 80
    with socket.create_connection(address, timeout=30) as connection:
        request = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode("ascii"))
        with connection.makefile("rb") as stream:
            headers = head(stream)
            if "content-encoding" in headers:
                raise Failed("it came in a coding that nobody had asked for")
            if "chunked" in headers.get("transfer-encoding", "").lower():
                yield from chunks(stream)
            elif "content-length" in headers:
                yield from exactly(stream, int(headers["content-length"]))
            else:
                yield from to_the_end(stream)


def head(stream: BinaryIO) -> dict[str, str]:
    """The headers of the answer, if its status is a good one."""
    words = stream.readline(LINE).decode("latin-1").split(None, 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise Failed("that is no answer")
    if int(words[1]) >= 400:
        raise Failed(f"the server says {words[1]}")
    headers = {}
    while (line := stream.readline(LINE)).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if not line:
        raise Failed("the head is not complete")
    return headers


def exactly(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """So many bytes, or a failure."""
    while size > 0:
        piece = stream.read(min(CHUNK, size))
        if not piece:
            raise Failed(f"{size} bytes are missing")
        size -= len(piece)
        yield piece


def to_the_end(stream: BinaryIO) -> Iterator[bytes]:
    """All that comes until the server closes."""
    while piece := stream.read(CHUNK):
        yield piece


def chunks(stream: BinaryIO) -> Iterator[bytes]:
    """A body in chunks, up to the last, empty one and its trailer."""
    while True:
        line = stream.readline(LINE)
        if not line.endswith(b"\n"):
            raise Failed("the last chunk is missing")
        digits = line.split(b";")[0].strip()
        try:
            size = int(digits, 16)
        except ValueError:
            raise Failed(f"that is no size of a chunk: {line!r}") from None
        if size == 0:
            break
        piece = stream.read(size)
        if len(piece) < size:
            raise Failed(f"{size - len(piece)} bytes of a chunk are missing")
        yield piece
        if stream.readline(LINE).strip():
            raise Failed("the chunk is longer than it said")
    while (line := stream.readline(LINE)).strip():
        pass  # the trailer
    if not line:
        raise Failed("the end of the trailer is missing")


def main() -> int:
    """Read the arguments, download, and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("--sha256", help="64 hexadecimal digits that the file must hash to")
    options = parser.parse_args()
    try:
        download(options.url, options.output, options.sha256)
    except (Failed, OSError, ValueError) as error:
        print(f"{options.url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
