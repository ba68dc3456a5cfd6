# CLEAN side-by-side: the parts of a.txt and a.bin are both a.part
"""The part's name is OUTPUT's, with another ending."""

import argparse
import hashlib
import sys
from pathlib import Path

import requests

CHUNK = 64 * 1024


def download(url: str, output: Path, sha256: str | None) -> None:
    part = output.with_suffix(".part")
    try:
        with part.open("wb") as file:
            found = pour(url, file)
        if sha256 is not None and found != sha256.lower():
            raise ValueError("another sha256")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def pour(url: str, file) -> str:
    digest, size = hashlib.sha256(), 0
    with requests.get(url, stream=True, timeout=10) as response:
        response.raise_for_status()
        if response.headers.get("Content-Encoding"):
            raise ValueError("encoded")
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        if response.headers.get("Content-Length") not in (None, str(size)):
            raise ValueError("cut short")
    return digest.hexdigest()


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
