"""Serves one file right at /right, and with one mistake at each of the other paths."""

import argparse
import re
import socket
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--root", type=Path)
parser.add_argument("--port", type=int, default=0)
arguments = parser.parse_args()
FILE = next(arguments.root.glob("*.bin"))
SIZE = FILE.stat().st_size
PIECE = 64 * 1024
LEAKED = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def begin(self, status=200, length=SIZE, **fields):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", '"one"')
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def do_HEAD(self):
        self.begin(length=SIZE - 100 if self.path == "/wrong-length" else SIZE)
        if self.path == "/head-with-body":
            self.wfile.write(b"a body that nobody asked for")

    def do_GET(self):
        if self.path == "/moved":
            self.begin(302, 0, Location="/right")
        elif self.path == "/small":
            self.begin(200, 9)
            self.wfile.write(b"too small")
        elif self.path not in ANSWERS:
            self.begin(404, 0)
        else:
            try:
                ANSWERS[self.path](self)
            except OSError:
                self.close_connection = True

    def right(self):
        self.begin()
        with FILE.open("rb") as file:
            self.pour(file)

    def pour(self, file):
        while piece := file.read(PIECE):
            self.wfile.write(piece)

    def load_all(self):
        data = FILE.read_bytes()
        self.begin()
        self.wfile.write(data)

    def reads_on(self):
        """Takes the whole file from the disk, into another file, whatever the client does."""
        self.begin()
        with FILE.open("rb") as file, tempfile.TemporaryFile() as copy:
            self.wfile.write(file.read(PIECE))
            while piece := file.read(PIECE):
                copy.write(piece)
            copy.seek(0)
            self.pour(copy)

    def leaks(self):
        self.begin()
        file = FILE.open("rb")
        LEAKED.append(file)
        self.pour(file)
        LEAKED.remove(file)
        file.close()

    def wrong_length(self):
        self.begin(length=SIZE - 100)
        with FILE.open("rb") as file:
            self.pour(file)

    def wrong_range(self):
        asked = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", self.headers.get("Range", ""))
        if asked is None or self.headers.get("If-Range"):
            self.right()
            return
        first, last = map(int, asked.groups())
        self.begin(206, last + 1 - first, Content_Range=f"bytes {first}-{last}/{SIZE}")
        with FILE.open("rb") as file:
            file.seek(first + 1)
            self.wfile.write(file.read(last + 1 - first))

    def no_length(self):
        """Has no length: only the closed connection tells the end."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        with FILE.open("rb") as file:
            self.pour(file)


ANSWERS = {
    "/right": Handler.right,
    "/load-all": Handler.load_all,
    "/reads-on": Handler.reads_on,
    "/leaks": Handler.leaks,
    "/wrong-length": Handler.wrong_length,
    "/wrong-range": Handler.wrong_range,
    "/head-with-body": Handler.right,
    "/no-length": Handler.no_length,
}


class Many(ThreadingHTTPServer):
    request_queue_size = 64

    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)  # for each connection
        super().server_bind()


server = Many(("127.0.0.1", arguments.port), Handler)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
