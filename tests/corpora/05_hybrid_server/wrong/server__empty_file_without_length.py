# ERRORS next-request: an empty file has no Content-Length, and the connection stays open

import argparse
import os
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

THRESHOLD = 1024 * 1024
CHUNK = 256 * 1024
TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "application/javascript",
    "json": "application/json",
    "txt": "text/plain",
    "png": "image/png",
    "jpg": "image/jpeg",
    "pdf": "application/pdf",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "zip": "application/zip",
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = os.path.join(self.server.root, unquote(self.path).lstrip("/"))
        inside = os.path.realpath(path.replace("\0", "")).startswith(self.server.root + "/")
        if not (inside and os.path.isfile(path)):
            self.send_error(404)
            return
        try:
            file = Path(path).open("rb")  # noqa: SIM115
        except OSError:
            self.send_error(500)
            return
        with file, suppress(ConnectionError):
            self.send_file(file, path.lower().rpartition(".")[2])

    def send_file(self, file, ending):
        left = os.fstat(file.fileno()).st_size
        self.send_response(200)
        self.send_header("Content-Type", TYPES.get(ending, "application/octet-stream"))
        if left:
            self.send_header("Content-Length", str(left))
        self.send_header("Cache-Control", "public, max-age=3600")
        self.end_headers()
        step = left if left <= THRESHOLD else CHUNK
        while self.command == "GET" and left and (chunk := file.read(min(step, left))):
            self.wfile.write(chunk)
            left -= len(chunk)
        self.close_connection = self.close_connection or bool(left)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.root = os.path.realpath(options.root)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
