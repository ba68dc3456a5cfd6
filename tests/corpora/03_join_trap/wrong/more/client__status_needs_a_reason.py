# BYTES end-by-length: a status line without a reason is taken for a fault

import argparse
import hashlib
import os
import socket
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit


class Failed(Exception):
    pass


def line(stream):
    text = stream.readline(65536)
    if not text.endswith(b"\n"):
        raise Failed("the head ends early")
    return text.rstrip(b"\r\n").decode("latin-1")


def pieces(stream, size):
    while size:
        chunk = stream.read(min(size, 65536))
        if not chunk:
            raise Failed("the body ends early")
        size -= len(chunk)
        yield chunk


def body(stream, headers):
    coding = headers.get("transfer-encoding", "")
    if coding.lower() == "chunked":
        while size := int(line(stream).partition(";")[0], 16):
            yield from pieces(stream, size)
            line(stream)
        while line(stream):
            pass
    elif "content-length" in headers:
        yield from pieces(stream, int(headers["content-length"]))
    else:
        while chunk := stream.read(65536):
            yield chunk


def fetch(url, file):
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    digest = hashlib.sha256()
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=30) as connection:
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept-Encoding: identity\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        with connection.makefile("rb") as stream:
            _, status, _ = line(stream).split(maxsplit=2)
            status = int(status)
            if status >= 400:
                raise Failed(f"status {status}")
            headers = {}
            while text := line(stream):
                name, _, value = text.partition(":")
                headers[name.lower()] = value.strip()
            if "content-encoding" in headers:
                raise Failed("not asked for")
            for chunk in body(stream, headers):
                file.write(chunk)
                digest.update(chunk)
    return digest.hexdigest()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("--sha256")
    options = parser.parse_args()
    part = None
    try:
        handle, part = tempfile.mkstemp(prefix=".part-", dir=options.output.parent)
        with os.fdopen(handle, "wb") as file:
            found = fetch(options.url, file)
        if options.sha256 and found != options.sha256.lower():
            raise Failed("another hash")
        os.replace(part, options.output)
    except Exception as error:
        if part:
            os.unlink(part)
        print(repr(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
