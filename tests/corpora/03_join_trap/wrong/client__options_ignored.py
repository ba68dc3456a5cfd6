# STATUS usage: an option that does not exist is ignored

import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path

import requests

CHUNK = 64 * 1024
PLAIN = {"Accept-Encoding": "identity"}


def pour(url, file):
    """Write the body of `url` into `file`; returns its sha256."""
    digest = hashlib.sha256()
    with requests.get(url, headers=PLAIN, stream=True, timeout=30) as response:
        response.raise_for_status()
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            digest.update(chunk)
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
    options, _ = parser.parse_known_args()
    try:
        download(options.url, options.output, options.sha256)
    except Exception as error:
        print(f"{options.url}: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
