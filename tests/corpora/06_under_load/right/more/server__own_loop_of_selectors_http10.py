# right: an event loop of its own on selectors and os.sendfile; HTTP/1.0, each answer is the last

import argparse
import collections
import errno
import os
import selectors
import socket
import time
from urllib.parse import unquote_to_bytes

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
BURST = 512 * 1024
MOST_HEAD = 64 * 1024


class Client:
    __slots__ = ("at", "end", "fd", "head", "out", "phase", "sock", "until")

    def __init__(self, sock):
        self.sock = sock
        self.head = bytearray()
        self.out = b""
        self.fd = -1
        self.at = self.end = 0
        self.phase = "head"
        self.until = 0.0


class Server:
    def __init__(self, root, port):
        self.root = os.fsencode(os.path.realpath(root))
        self.selector = selectors.DefaultSelector()
        self.door = socket.create_server(("127.0.0.1", port), backlog=2048)
        self.door.setblocking(False)
        self.selector.register(self.door, READ, None)
        self.door_opens = None
        self.leaving = collections.deque()
        print(f"listening on http://127.0.0.1:{self.door.getsockname()[1]}", flush=True)

    def run(self):
        while True:
            now = time.monotonic()
            times = []
            if self.door_opens is not None:
                times.append(self.door_opens)
            if self.leaving:
                times.append(self.leaving[0].until)
            wait = max(0.0, min(times) - now) if times else None
            for key, _ in self.selector.select(wait):
                if key.data is None:
                    self.accept()
                else:
                    self.step(key.data)
            now = time.monotonic()
            if self.door_opens is not None and now >= self.door_opens:
                self.door_opens = None
                self.selector.register(self.door, READ, None)
            while self.leaving and (
                self.leaving[0].until <= now or self.leaving[0].phase == "gone"
            ):
                self.close(self.leaving.popleft())

    def accept(self):
        for _ in range(16):
            try:
                sock, _address = self.door.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.selector.unregister(self.door)
                    self.door_opens = time.monotonic() + 0.25
                return
            sock.setblocking(False)
            self.selector.register(sock, READ, Client(sock))

    def step(self, client):
        try:
            if client.phase == "head":
                self.read_head(client)
            elif client.phase == "body":
                self.write(client)
            elif client.phase == "drain" and not client.sock.recv(65536):
                self.close(client)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close(client)

    def read_head(self, client):
        data = client.sock.recv(65536)
        if not data:
            self.close(client)
            return
        start = max(0, len(client.head) - 3)
        client.head += data
        end = client.head.find(b"\r\n\r\n", start)
        if end < 0:
            if len(client.head) > MOST_HEAD:
                self.answer(client, 431, b"too long\n", False)
            return
        words = bytes(client.head[: client.head.find(b"\r\n")]).split(b" ")
        client.head = bytearray()
        if len(words) != 3 or words[0] not in (b"GET", b"HEAD"):
            self.answer(client, 400, b"not understood\n", False)
            return
        self.find(client, words[1], words[0] == b"HEAD")

    def find(self, client, target, only_head):
        name = unquote_to_bytes(target.split(b"?")[0])
        if b"\0" in name or not name.startswith(b"/"):
            self.answer(client, 400, b"no such name\n", only_head)
            return
        path = os.path.realpath(self.root + b"/" + name.lstrip(b"/"))
        fd = -1
        try:
            if os.path.commonpath([path, self.root]) != self.root:
                raise FileNotFoundError
            if not os.path.isfile(path):
                raise FileNotFoundError
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            size = os.fstat(fd).st_size
        except OSError as error:
            full = error.errno in (errno.EMFILE, errno.ENFILE)
            self.answer(client, 503 if full else 404, b"no file\n", only_head)
            return
        client.out = (
            b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\ncontent-type: application/x-thing\r\n\r\n"
            % size
        )
        if only_head:
            os.close(fd)
        else:
            client.fd, client.at, client.end = fd, 0, size
        self.begin(client)

    def answer(self, client, status, body, only_head):
        client.out = b"HTTP/1.0 %d Sorry\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        if not only_head:
            client.out += body
        self.begin(client)

    def begin(self, client):
        client.phase = "body"
        self.selector.modify(client.sock, WRITE, client)

    def write(self, client):
        if client.out:
            client.out = client.out[client.sock.send(client.out) :]
            if client.out:
                return
        if client.at < client.end:
            sent = os.sendfile(
                client.sock.fileno(), client.fd, client.at, min(BURST, client.end - client.at)
            )
            if sent == 0:
                raise OSError("the file has shrunk")
            client.at += sent
            if client.at < client.end:
                return
        if client.fd >= 0:
            os.close(client.fd)
            client.fd = -1
        # What the client still sends is read for a moment: closing with unread bytes would reset.
        client.sock.shutdown(socket.SHUT_WR)
        client.phase = "drain"
        client.until = time.monotonic() + 2
        self.leaving.append(client)
        self.selector.modify(client.sock, READ, client)

    def close(self, client):
        if client.phase == "gone":
            return
        client.phase = "gone"
        self.selector.unregister(client.sock)
        client.sock.close()
        if client.fd >= 0:
            os.close(client.fd)
            client.fd = -1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    Server(options.root, options.port).run()
