# GZIP gzip-length: what is decoded is compared with Content-Length, and must not be less

import argparse
import hashlib
import http.client
import os
import sys
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

CHUNK = 64 * 1024


class Failed(Exception):
    """The download can't be had."""


def received(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body as it comes."""
    while chunk := response.read(CHUNK):
        yield chunk


def unpacked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What the members of a gzip hold, at most a chunk at a time."""
    member = zlib.decompressobj(wbits=31)
    begun = False
    for piece in pieces:
        while piece:
            if member.eof:
                member, begun = zlib.decompressobj(wbits=31), False
            begun = True
            yield member.decompress(piece, CHUNK)
            while member.unconsumed_tail:
                yield member.decompress(member.unconsumed_tail, CHUNK)
            piece = member.unused_data
    while begun and not member.eof:
        rest = member.decompress(b"", CHUNK)
        if not rest:
            raise Failed("the gzip has no end")
        yield rest


def download(url: str, output: Path, sha256: str | None) -> None:
    """Fetch `url` into `output`, with that hash if one is given, or raise an exception."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    handle, part = tempfile.mkstemp(dir=output.parent)
    hashed = hashlib.sha256()
    try:
        with open(handle, "wb") as file, urllib.request.urlopen(request, timeout=60) as response:
            pieces = received(response)
            if response.headers.get("Content-Encoding", "").lower() in ("gzip", "x-gzip"):
                pieces = unpacked(pieces)
            expected = response.length or 0
            for piece in pieces:
                file.write(piece)
                hashed.update(piece)
            if file.tell() < expected:
                raise Failed(f"{expected - file.tell()} bytes are missing")
        if sha256 is not None and hashed.hexdigest() != sha256.lower():
            raise Failed("another sha256")
        os.replace(part, output)
    except BaseException:
        os.unlink(part)
        raise


def main() -> int:
    """Read the arguments, download, and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("--sha256", help="64 hexadecimal digits that the file must hash to")
    options = parser.parse_args()
    try:
        download(options.url, options.output, options.sha256)
    except (Failed, OSError, http.client.HTTPException, zlib.error, ValueError) as error:
        print(f"{options.url}: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
