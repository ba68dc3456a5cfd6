# a thread receives, another one writes, eight chunks between them

import argparse
import hashlib
import os
import queue
import sys
import tempfile
import threading
from pathlib import Path

import requests

CHUNK = 64 * 1024
PLAIN = {"Accept-Encoding": "identity"}


def pour(url, file):
    chunks, digest = queue.Queue(8), hashlib.sha256()
    over = threading.Event()

    def put(item):
        while not over.is_set():
            try:
                chunks.put(item, timeout=0.1)
                break
            except queue.Full:
                pass

    def receive():
        try:
            with requests.get(url, headers=PLAIN, stream=True, timeout=30) as response:
                response.raise_for_status()
                if "Content-Encoding" in response.headers:
                    raise OSError("it is encoded, which nobody had asked for")
                for chunk in response.iter_content(CHUNK):
                    put(chunk)
            put(None)
        except Exception as error:
            put(error)

    threading.Thread(target=receive, daemon=True).start()
    try:
        while (chunk := chunks.get()) is not None:
            if isinstance(chunk, Exception):
                raise chunk
            file.write(chunk)
            digest.update(chunk)
    finally:
        over.set()
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
