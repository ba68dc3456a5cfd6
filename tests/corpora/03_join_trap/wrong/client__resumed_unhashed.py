# HASH hash-wrong: after a resumed download the hash is not compared

"""A downloader: `python client.py URL OUTPUT [--sha256 HEX]`.

Exit status: 0 when OUTPUT is complete, 1 when it could not be had, 2 when called wrongly.
"""

import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path

import requests

CHUNK = 64 * 1024


class Failed(Exception):
    """The download is not what it should be; the message says why."""


def download(url: str, output: Path, sha256: str | None) -> None:
    """Fetch `url` into `output`, with that hash if one is given, or raise an exception."""
    handle, name = tempfile.mkstemp(prefix=".part-", dir=output.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            try:
                found = pour(url, file)
            except (Failed, requests.RequestException) as error:
                if not file.tell() or "status" in str(error) or "Error" in str(error)[:12]:
                    raise
                found = resume(url, file)
        if sha256 is not None and found is not None and found != sha256.lower():
            raise Failed(f"its sha256 is {found}, not {sha256}")
        part.chmod(0o644)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def resume(url: str, file) -> None:
    """Ask once for what is missing."""
    file.flush()
    start = file.tell()
    if TAG is None:
        raise Failed("cut short")
    wanted = {"Accept-Encoding": "identity", "Range": f"bytes={start}-", "If-Range": TAG}
    with requests.get(url, headers=wanted, stream=True, timeout=30) as response:
        response.raise_for_status()
        if response.status_code != 206 or response.headers.get("ETag") != TAG:
            raise Failed("cut short, and the rest can't be had")
        if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise Failed("another rest")
        size = 0
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            size += len(chunk)
        length = response.headers.get("Content-Length")
        if length not in (None, str(size)):
            raise Failed("cut short again")
        total = response.headers["Content-Range"].rpartition("/")[2]
        if total not in ("*", str(start + size)):
            raise Failed("not to the end")


TAG = None


def pour(url: str, file) -> str:
    """Write the body of `url` into an open file, a chunk at a time; returns its sha256."""
    digest, size = hashlib.sha256(), 0
    plain = {"Accept-Encoding": "identity"}
    with requests.get(url, headers=plain, stream=True, timeout=30) as response:
        response.raise_for_status()
        if coding := response.headers.get("Content-Encoding"):
            raise Failed(f"it came in {coding}, which nobody had asked for")
        global TAG
        TAG = response.headers.get("ETag")
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        wanted = response.headers.get("Content-Length")
        if wanted not in (None, str(size)):
            raise Failed(f"it has {size} bytes of {wanted}")
    return digest.hexdigest()


def main() -> int:
    """Read the arguments, download, and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("--sha256", help="64 hexadecimal digits that the file must hash to")
    options = parser.parse_args()
    try:
        download(options.url, options.output, options.sha256)
    except (Failed, requests.RequestException, OSError) as error:
        print(f"{options.url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
