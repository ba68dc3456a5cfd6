# BYTES left-over: a part that is as long as the body is taken for it, whoever left it

import argparse
import hashlib
import sys
import urllib.request
from pathlib import Path

CHUNK = 64 * 1024


def pour(url, part):
    digest, size = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=30) as response:
        wanted = response.headers["Content-Length"]
        if not part.is_file() or wanted != str(part.stat().st_size):
            with part.open("wb") as file:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
    with part.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    if wanted is not None and size != int(wanted):
        raise ValueError(f"cut short: {size} of {wanted}")
    return digest.hexdigest()


def download(url, output, sha256):
    """Fetch `url` into a part beside `output`, then put it in its place."""
    part = output.with_name(output.name + ".part")
    try:
        found = pour(url, part)
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
