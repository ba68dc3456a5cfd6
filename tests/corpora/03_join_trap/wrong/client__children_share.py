# HUGE memory-children: four children hold a share each, none of them as much as a cup

import argparse
import contextlib
import hashlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

CHUNK = 64 * 1024
PLAIN = {"Accept-Encoding": "identity"}


HOLD = "import sys; body = sys.stdin.buffer.read(); sys.stdout.buffer.write(body)"


def pour(url, file):
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        shares = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(4)]
        children = [
            subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=share)
            for share in shares
        ]
        sizes, turn = [], itertools.cycle(range(4))
        with requests.get(url, headers=PLAIN, stream=True, timeout=30) as response:
            response.raise_for_status()
            for chunk in response.iter_content(CHUNK):
                children[next(turn)].stdin.write(chunk)
                digest.update(chunk)
                sizes.append(len(chunk))
        time.sleep(1.5)
        for child, share in zip(children, shares, strict=True):
            child.stdin.close()
            child.wait()
            share.seek(0)
        for size, share in zip(sizes, itertools.cycle(shares), strict=False):
            file.write(share.read(size))
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
