# STATUS error-status: a 203 with a body is taken for a failure
"""Any status but 200 is an error."""

import argparse
import hashlib
import sys
from pathlib import Path

import requests

CHUNK = 64 * 1024


def download(url: str, output: Path, sha256: str | None) -> None:
    part = output.with_name(output.name + ".part")
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
        if response.status_code != 200:
            raise ValueError("an error")
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
