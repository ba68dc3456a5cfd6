# HASH hash-wrong: what comes is hashed, and what it is decoded to is saved
"""The hash is taken before a body in gzip is decoded."""

import argparse
import hashlib
import os
import sys
import tempfile
import zlib
from pathlib import Path

import requests

CHUNK = 64 * 1024


def download(url: str, output: Path, sha256: str | None) -> None:
    handle, name = tempfile.mkstemp(prefix=".part-", dir=output.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = pour(url, file)
        if sha256 is not None and found != sha256.lower():
            raise ValueError("another sha256")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def pour(url: str, file) -> str:
    digest = hashlib.sha256()
    with requests.get(url, stream=True, timeout=10) as response:
        response.raise_for_status()
        packed = bool(response.headers.get("Content-Encoding"))
        decoder = zlib.decompressobj(31)
        size = 0
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            size += len(chunk)
            digest.update(chunk)
            if packed:
                decoder = decode(decoder, chunk, file)
            else:
                file.write(chunk)
        if response.headers.get("Content-Length") not in (None, str(size)):
            raise ValueError("cut short")
        if packed and not decoder.eof:
            raise ValueError("the gzip has no end")
    return digest.hexdigest()


def decode(decoder, chunk: bytes, file):
    """Write what a chunk becomes; returns the decoder of the member in which it ends."""
    full = False
    while chunk or full:
        if decoder.eof:
            decoder = zlib.decompressobj(31)
        data = decoder.decompress(chunk, CHUNK)
        file.write(data)
        chunk = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        full = len(data) == CHUNK and not decoder.eof  # more may come of what it has taken
    return decoder


def main() -> int:
    """Read the arguments, download, and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("--sha256")
    options = parser.parse_args()
    try:
        download(options.url, options.output, options.sha256)
    except Exception as error:
        print(f"{options.url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
