# BYTES chunk-forms: a socket by hand that knows the last chunk by a line with a single 0

import argparse
import hashlib
import os
import socket
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

CHUNK = 64 * 1024


def target_of(parts):
    return f"{parts.path or '/'}?{parts.query}".rstrip("?")


def ask(url):
    """Send a request by hand; returns a file to read from, the status and the headers."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port or 80), timeout=30)
    lines = [f"GET {target_of(parts)} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = connection.makefile("rb")
    connection.close()
    words = answer.readline().split()
    if not words:
        raise ValueError("no answer")
    headers = {}
    while (line := answer.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip().lower()
    return answer, int(words[1]), headers


def pieces(answer, headers):
    """The pieces of a body, however it is framed."""
    if headers.get(b"transfer-encoding") == b"chunked":
        while (line := answer.readline()) != b"0\r\n":
            left = int(line.partition(b";")[0], 16)
            while left:
                piece = answer.read(min(CHUNK, left))
                if not piece:
                    raise ValueError("cut short")
                yield piece
                left -= len(piece)
            answer.readline()
        return
    left = int(headers.get(b"content-length", 1 << 60))
    while left and (piece := answer.read(min(CHUNK, left))):
        yield piece
        left -= len(piece)
    if left and b"content-length" in headers:
        raise ValueError("cut short")


def pour(url, file):
    digest = hashlib.sha256()
    answer, status, headers = ask(url)
    with answer:
        if status >= 400:
            raise ValueError(f"status {status}")
        for piece in pieces(answer, headers):
            file.write(piece)
            digest.update(piece)
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
