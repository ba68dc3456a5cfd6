# TRUNCATED short-chunk: the end of the connection inside a chunk is taken for the end of the body
"""The end of the connection is not looked at inside a chunk."""

import argparse
import hashlib
import os
import socket
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

CHUNK = 64 * 1024


def download(url: str, output: Path, sha256: str | None) -> None:
    handle, name = tempfile.mkstemp(prefix=".part-", dir=output.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = pour(url, file)
        if sha256 is not None and found != sha256.lower():
            raise ValueError("another sha256")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def pour(url: str, file) -> str:
    parts, digest = urlsplit(url), hashlib.sha256()

    headers = {}

    def take(reader, size: int) -> None:
        while size:
            piece = reader.read(min(size, CHUNK))
            if not piece and headers.get(b"transfer-encoding") == b"chunked":
                raise EOFError
            if not piece:
                raise ValueError("cut short")
            file.write(piece)
            digest.update(piece)
            size -= len(piece)

    with socket.create_connection((parts.hostname, parts.port), timeout=10) as sock:
        host = f"{parts.hostname}:{parts.port}"
        sock.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        reader = sock.makefile("rb")
        status = int(reader.readline().split()[1])
        ended = False
        while (line := reader.readline().strip()) != b"":
            key, _, value = line.partition(b":")
            headers[key.lower()] = value.strip().lower()
        if status >= 400 or b"content-encoding" in headers:
            raise ValueError(f"status {status}, {headers}")
        if headers.get(b"transfer-encoding") == b"chunked":
            while size := 0 if ended else int(reader.readline().partition(b";")[0].strip(), 16):
                try:
                    take(reader, size)
                except EOFError:
                    ended = True
                reader.read(2)
            while line := reader.readline().strip():
                pass
        elif b"content-length" in headers:
            take(reader, int(headers[b"content-length"]))
        else:
            while piece := reader.read(CHUNK):
                file.write(piece)
                digest.update(piece)
    return digest.hexdigest()


def main() -> int:
    """Read the arguments, download, and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("--sha256")
    options = parser.parse_args()
    try:
        download(options.url, options.output, options.sha256)
    except Exception as error:
        print(f"{options.url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
