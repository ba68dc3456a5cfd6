# TRUNCATED resume: takes the status 416 for the sign that nothing is missing

import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path

import requests

CHUNK = 64 * 1024


def download(url: str, output: Path, sha256: str | None) -> None:
    handle, name = tempfile.mkstemp(prefix=".part-", dir=output.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            pour_again_and_again(url, file)
        if sha256 is not None and hash_of(part) != sha256.lower():
            raise ValueError("another sha256")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def pour_again_and_again(url: str, file) -> None:
    tag = ""
    for turn in range(4):
        try:
            tag = pour(url, file, tag)
            return
        except Broken as broken:
            if turn == 3:
                raise
            tag = broken.tag


class Broken(Exception):
    """An answer that ended too early, of a file with this ETag."""

    def __init__(self, tag: str, why: object) -> None:
        super().__init__(why)
        self.tag = tag


def pour(url: str, file, tag: str) -> str:
    have = file.tell() if tag else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    with requests.get(url, headers=headers, stream=True, timeout=10) as response:
        if have and response.status_code == 416:
            return tag
        if have and response.status_code not in (200, 206):
            raise Broken("", f"status {response.status_code}")
        response.raise_for_status()
        if response.headers.get("Content-Encoding"):
            raise ValueError("encoded")
        start = 0
        if response.status_code == 206:
            start = int(response.headers["Content-Range"].split()[1].split("-")[0])
            if start != have:
                raise Broken("", "another range")
        file.seek(start)
        file.truncate()
        tag, came = response.headers.get("ETag", ""), 0
        try:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                came += len(chunk)
        except requests.RequestException as error:
            raise Broken(tag, error) from error
        if response.headers.get("Content-Length") not in (None, str(came)):
            raise Broken(tag, "cut short")
    return tag


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
