# TRUNCATED no-last-chunk: http.client's IncompleteRead has a partial body, and that is saved

import argparse
import hashlib
import http.client
import os
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

CHUNK = 64 * 1024


def target_of(parts):
    return f"{parts.path or '/'}?{parts.query}".rstrip("?")


def pour(url, file):
    parts = urlsplit(url)
    digest, size = hashlib.sha256(), 0
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("GET", target_of(parts))
    response = connection.getresponse()
    if response.status != 200:
        raise ValueError(f"status {response.status}")
    more = True
    while more:
        try:
            chunk = response.read(CHUNK)
            more = bool(chunk)
        except http.client.IncompleteRead as error:
            chunk, more = error.partial, False
        file.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    wanted = response.headers["Content-Length"]
    if wanted is not None and size != int(wanted):
        raise ValueError("cut short")
    return digest.hexdigest()


def download(url, output, sha256):
    """Fetch `url` into a part beside `output`, then put it in its place."""
    handle, name = tempfile.mkstemp(prefix=".part-", dir=output.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = pour(url, file)
        if sha256 is not None and found != sha256.lower():
            raise ValueError(f"its sha256 is {found}")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("--sha256")
    options = parser.parse_args()
    try:
        download(options.url, options.output, options.sha256)
    except Exception as error:
        print(f"{options.url}: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
