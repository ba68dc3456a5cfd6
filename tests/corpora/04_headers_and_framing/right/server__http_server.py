# http.server of the standard library, which closes after errors

import argparse
import mimetypes
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024


def find_file(root, target):
    try:
        path = (root / unquote(target.partition("?")[0]).lstrip("/")).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def find_report(target):
    found = re.fullmatch(r"/report/([0-9]{1,15})(?:\?fail=([0-9]{1,15}))?", target)
    return report(int(found[1]), int(found[2] or found[1])) if found else None


def report(lines, fail):
    for number in range(lines):
        if number == fail:
            raise RuntimeError(f"the source failed at line {number}")
        yield b"" if number % 10 == 7 else b"sensor %d: %d\n" % (number, number * number % 997)


class Handler(BaseHTTPRequestHandler):
    protocol_version = default_request_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        length = ",".join(self.headers.get_all("Content-Length", ["0"])).strip(" \t")
        if not re.fullmatch("[0-9]{1,15}", length) or "Transfer-Encoding" in self.headers:
            self.send_error(400)
            return
        lines, path = find_report(self.path), find_file(self.server.root, self.path)
        if lines is not None:
            self.send_report(lines)
        elif path is None:
            self.send_error(404)
        else:
            self.send_file(path)
        while length := int(length):
            length -= len(self.rfile.read(min(length, CHUNK))) or length

    do_HEAD = do_GET

    def do_POST(self):
        self.send_error(405)

    do_PUT = do_DELETE = do_PATCH = do_POST

    def send_error(self, code, message=None, explain=None):
        body = b"%d\n" % code
        self.send_response(code, message)
        self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_head(self, name, value):
        self.send_response(200)
        self.send_header(name, value)
        if "keep-alive" in self.options() and not self.close_connection:
            self.send_header("Connection", "keep-alive")

    def parse_request(self):
        if not super().parse_request():
            return False
        if self.headers.defects or len(self.requestline.split()) != 3:
            self.send_error(400)
            return False
        if "close" in self.options():
            self.close_connection = True
        return True

    def options(self):
        values = ",".join(self.headers.get_all("Connection", []))
        return {option.strip().lower() for option in values.split(",")}

    def send_file(self, path):
        with path.open("rb") as file:
            left = os.fstat(file.fileno()).st_size
            self.send_head("Content-Length", str(left))
            kind, packing = mimetypes.guess_type(path.name)
            kind = kind if kind and not packing else "application/octet-stream"
            self.send_header("Content-Type", kind)
            self.end_headers()
            while left and self.command == "GET":
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise ConnectionError("the file has shrunk")
                self.wfile.write(chunk)
                left -= len(chunk)

    def send_report(self, lines):
        chunked = self.request_version == "HTTP/1.1"
        if chunked:
            self.send_head("Transfer-Encoding", "chunked")
        else:
            self.close_connection = True
            self.send_head("Content-Type", "text/plain")
        self.end_headers()
        if self.command == "HEAD":
            return
        for line in filter(None, lines):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line) if chunked else line)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.root = Path(options.root).resolve()
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
