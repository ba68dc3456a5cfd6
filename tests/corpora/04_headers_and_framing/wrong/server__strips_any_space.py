# ERROR length-digits: all that Python takes for white space is cut off

import argparse
import mimetypes
import os
import re
import socket
import threading
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024
HEAD_LIMIT = 64 * 1024
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    431: "Too Large",
}


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


class Client:
    def __init__(self, sock, root):
        self.sock = sock
        self.root = root
        self.rest = b""

    def read_head(self):
        while b"\r\n\r\n" not in self.rest:
            if len(self.rest) > HEAD_LIMIT:
                self.send_error(431)
                return None
            piece = self.sock.recv(CHUNK)
            if not piece:
                return None
            self.rest += piece
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        return head.decode("latin-1").split("\r\n")

    def skip(self, size):
        while size > len(self.rest):
            size -= len(self.rest)
            self.rest = self.sock.recv(CHUNK)
            if not self.rest:
                raise ConnectionError
        self.rest = self.rest[size:]

    def serve(self):
        self.keep = True
        while self.keep:
            self.keep, self.method, self.version = False, "GET", "HTTP/1.1"
            lines = self.read_head()
            if lines is None:
                return
            words = lines[0].split(" ")
            if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
                self.send_error(400)
                return
            self.method, target, self.version = words
            headers = {}
            for line in lines[1:]:
                name, colon, value = line.partition(":")
                if not colon or not re.fullmatch("[!-9;-~]+", name):
                    self.send_error(400)
                    return
                headers.setdefault(name.lower(), []).append(value.strip())
            length = ",".join(headers.get("content-length", ["0"]))
            if not re.fullmatch("[0-9]{1,15}", length):
                self.send_error(400)
                return
            if "transfer-encoding" in headers:
                self.send_error(411)
                return
            options = re.split(r"\s*,\s*", ",".join(headers.get("connection", [])).lower())
            self.keep = "close" not in options
            if self.version == "HTTP/1.0":
                self.keep = self.keep and "keep-alive" in options
            self.answer(target)
            self.skip(int(length))

    def answer(self, target):
        lines, path = find_report(target), find_file(self.root, target)
        if self.method not in ("GET", "HEAD"):
            self.send_error(405)
        elif lines is not None:
            self.send_report(lines)
        elif path is None:
            self.send_error(404)
        else:
            self.send_file(path)

    def send_head(self, status, *headers):
        lines = [
            f"HTTP/1.1 {status} {REASONS[status]}",
            f"Date: {formatdate(usegmt=True)}",
            "Connection: " + ("keep-alive" if self.keep else "close"),
            *headers,
        ]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())

    def send_error(self, status):
        body = b"error %d\n" % status
        more = ["Allow: GET, HEAD"] if status == 405 else []
        self.send_head(status, f"Content-Length: {len(body)}", *more)
        if self.method != "HEAD":
            self.sock.sendall(body)

    def send_file(self, path):
        kind, packing = mimetypes.guess_type(path.name)
        kind = kind if kind and not packing else "application/octet-stream"
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.send_head(200, f"Content-Type: {kind}", f"Content-Length: {size}")
            if self.method == "HEAD":
                return
            left = size
            while left:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise ConnectionError("the file has shrunk")
                self.sock.sendall(chunk)
                left -= len(chunk)

    def send_report(self, lines):
        chunked = self.version == "HTTP/1.1"
        if chunked:
            self.send_head(200, "Transfer-Encoding: chunked")
        else:
            self.keep = False
            self.send_head(200)
        if self.method == "HEAD":
            return
        for line in lines:
            if not chunked:
                self.sock.sendall(line)
            elif line:
                self.sock.sendall(b"%x\r\n%b\r\n" % (len(line), line))
        if chunked:
            self.sock.sendall(b"0\r\n\r\n")


def serve(sock, root):
    with suppress(OSError), sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Client(sock, root).serve()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock, root), daemon=True).start()


if __name__ == "__main__":
    main()
