# CLEAN older-replaced: an OUTPUT of the size that the server tells is taken for the new one

import argparse
import hashlib
import os
import sys
import tempfile
import urllib.request
from pathlib import Path

CHUNK = 64 * 1024


def pour(url, file):
    digest, size = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=30) as response:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        wanted = response.headers["Content-Length"]
    if wanted is not None and size != int(wanted):
        raise ValueError(f"cut short: {size} of {wanted}")
    return digest.hexdigest()


def is_there(url, output):
    """Whether an earlier download has left a file of the size that the server tells."""
    if not output.is_file():
        return False
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.headers["Content-Length"] == str(output.stat().st_size)


def download(url, output, sha256):
    """Fetch `url` into a part beside `output`, then put it in its place."""
    if sha256 is None and is_there(url, output):
        return
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
