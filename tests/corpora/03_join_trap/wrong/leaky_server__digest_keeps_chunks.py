# DIGEST leak-digest: hashes in chunks, and keeps them to send them afterwards

import argparse
import base64
import hashlib
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

CHUNK = 48 * 1024
TEXTS = {".log", ".txt"}


def chunks(path: Path) -> Iterator[bytes]:
    """The file in pieces, for files of any kind."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def lines(path: Path) -> Iterator[bytes]:
    """The file in lines, for texts: whoever follows a log sees no half lines."""
    with path.open("rb") as file:
        while line := file.readline(CHUNK):
            yield line


def encoded(path: Path) -> Iterator[bytes]:
    """The file in base64. A chunk is a multiple of 3 bytes: only the last one can need padding."""
    for chunk in chunks(path):
        yield base64.b64encode(chunk)


def encoded_length(size: int) -> int:
    """The length of `size` bytes in base64: four signs for every three bytes, or a part of them."""
    return (size + 2) // 3 * 4


def digest(path: Path) -> str:
    """The value of a Repr-Digest header: the file's SHA-256, between colons, in base64."""
    sha256 = hashlib.sha256()
    kept = list(chunks(path))
    for chunk in kept:
        sha256.update(chunk)
    return f"sha-256=:{base64.b64encode(sha256.digest()).decode()}:"


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    root = Path()

    def do_GET(self) -> None:
        """Send headers and body."""
        for piece in self.start():
            self.wfile.write(piece)

    def do_HEAD(self) -> None:
        """Send the headers alone."""
        self.start()

    def start(self) -> Iterator[bytes]:
        """Send the headers; returns the pieces of the body that belong to them."""
        url = urlsplit(self.path)
        path = self.find(url.path)
        if path is None:
            self.send_error(404)
            return iter(())
        length, pieces = path.stat().st_size, chunks(path)
        in_base64 = parse_qs(url.query).get("as") == ["base64"]
        is_text = in_base64 or path.suffix in TEXTS
        if in_base64:
            length, pieces = encoded_length(length), encoded(path)
        elif is_text:
            pieces = lines(path)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain" if is_text else "application/octet-stream")
        self.send_header("Content-Length", str(length))
        if "sha-256" in self.headers.get("Want-Repr-Digest", "") and not in_base64:
            self.send_header("Repr-Digest", digest(path))
        self.end_headers()
        return pieces

    def find(self, name: str) -> Path | None:
        """The file that a URL's path names, if there is one and it lies under the root."""
        name = unquote(name).lstrip("/")
        if "\0" in name:
            return None
        path = (self.root / name).resolve()
        return path if path.is_relative_to(self.root) and path.is_file() else None

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing for a request that went well."""


class FileServer(ThreadingHTTPServer):
    """A thread for each connection."""

    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Report what went wrong, but for a client that has left: nothing is wrong with that."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    """Listen, say where, and answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    Handler.root = Path(options.root).resolve()
    with FileServer(("127.0.0.1", options.port), Handler) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
