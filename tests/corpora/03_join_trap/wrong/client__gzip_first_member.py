# GZIP gzip-members: decodes the first member of a gzip body, and drops the others
"""One decompressobj, whatever comes after its end."""

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
            pour(url, file)
        if sha256 is not None and hash_of(part) != sha256.lower():
            raise ValueError("another sha256")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def pour(url: str, file) -> None:
    with requests.get(url, stream=True, timeout=10) as response:
        response.raise_for_status()
        decoder = zlib.decompressobj(31) if response.headers.get("Content-Encoding") else None
        size = 0
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            size += len(chunk)
            if decoder is None:
                file.write(chunk)
                continue
            data = decoder.decompress(chunk, CHUNK)
            while data:
                file.write(data)
                data = decoder.decompress(decoder.unconsumed_tail, CHUNK)
        if response.headers.get("Content-Length") not in (None, str(size)):
            raise ValueError("cut short")
        if decoder is not None and not decoder.eof:
            raise ValueError("the gzip has no end")


def hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
