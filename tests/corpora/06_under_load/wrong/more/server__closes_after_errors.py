# WIRE says-close: closes after an error, without a word

import argparse
import asyncio
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024
LONGEST = 64 * 1024


def find_file(target, root):
    path = (root / unquote(target).lstrip("/")).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def headers(status, size):
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n".encode()


class Client(asyncio.Protocol):
    def __init__(self, root):
        self.root = root
        self.received = b""
        self.paused = False
        self.last = False
        self.file = None
        self.left = 0

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        if self.file:
            self.file.close()
            self.file = None

    def data_received(self, data):
        self.received += data
        self.go_on()

    def pause_writing(self):
        self.paused = True
        self.transport.pause_reading()

    def resume_writing(self):
        self.paused = False
        self.transport.resume_reading()
        self.go_on()

    def go_on(self):
        while not (self.paused or self.transport.is_closing()):
            if self.file:
                self.send_chunk()
            elif self.last:
                self.transport.close()
            elif b"\r\n\r\n" in self.received:
                head, _, self.received = self.received.partition(b"\r\n\r\n")
                self.answer(head)
            else:
                if len(self.received) > LONGEST:
                    self.transport.close()
                return

    def send_chunk(self):
        chunk = self.file.read(min(CHUNK, self.left))
        self.left -= len(chunk)
        self.transport.write(chunk)
        if not chunk or not self.left:
            self.file.close()
            self.file = None

    def answer(self, head):
        method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
        self.last = b"\r\nconnection: close" in head.lower()
        path = find_file(target, self.root)
        if path is None:
            self.transport.write(headers("404 Not Found", 0))
            self.last = True
            return
        try:
            file = path.open("rb")
        except OSError:
            self.transport.close()
            return
        self.left = path.stat().st_size
        self.transport.write(headers("200 OK", self.left))
        if method == "GET" and self.left:
            self.file = file
        else:
            file.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(root), "127.0.0.1", options.port)
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
