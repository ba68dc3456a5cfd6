# TRUNCATED left-over: the rest is asked for, after a part that was left by whoever

import argparse
import hashlib
import sys
import urllib.request
from pathlib import Path

CHUNK = 64 * 1024


def pour(url, file):
    digest, size = hashlib.sha256(), 0
    headers = {"Range": f"bytes={file.tell()}-"} if file.tell() else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        if headers and response.status != 206:
            file.truncate(0)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        wanted = response.headers["Content-Length"]
    if wanted is not None and size != int(wanted):
        raise ValueError(f"cut short: {size} of {wanted}")
    return digest.hexdigest()


def download(url, output, sha256):
    """Fetch `url` into a part beside `output`, then put it in its place."""
    part = output.with_name(output.name + ".part")
    try:
        with part.open("ab") as file:
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
