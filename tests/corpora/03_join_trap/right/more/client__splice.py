# os.splice moves the bytes from the socket to the file; hashed in a second pass

import argparse
import hashlib
import os
import select
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
    lines = [f"GET {target_of(parts)} HTTP/1.0", f"Host: {parts.netloc}", "Connection: close"]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = connection.makefile("rb", buffering=0)
    connection.close()
    words = answer.readline().split()
    if not words:
        raise ValueError("no answer")
    headers = {}
    while (line := answer.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip().lower()
    return answer, int(words[1]), headers


def pour(url, file):
    answer, status, headers = ask(url)
    reading, writing = os.pipe()
    size = 0
    try:
        with answer:
            if status >= 400:
                raise ValueError(f"status {status}")
            length = int(headers.get(b"content-length", -1))
            while size != length and (count := take(answer, writing)):
                size += count
                while count:
                    count -= os.splice(reading, file.fileno(), count)
    finally:
        os.close(reading)
        os.close(writing)
    if length not in (-1, size):
        raise ValueError("cut short")
    with open(f"/proc/self/fd/{file.fileno()}", "rb") as again:
        return hashlib.file_digest(again, "sha256").hexdigest()


def take(answer, writing):
    """Move what has come into a pipe; a socket with a timeout may have to be waited for."""
    while True:
        try:
            return os.splice(answer.fileno(), writing, CHUNK)
        except BlockingIOError:
            select.select([answer], [], [], 30)


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
