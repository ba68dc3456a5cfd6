# right: anyio's wait_readable and wait_writable, one task a client, chunked coding, keep-alive

import argparse
import os
import socket
from urllib.parse import unquote

import anyio
import anyio.lowlevel

CHUNK = 32 * 1024
LONGEST = 40 * 1024


class Stream:
    """A socket that is read only when somebody waits for data.

    anyio's own SocketStream of a listener reads ahead, without a limit, while nobody does.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    async def receive(self, most: int) -> bytes:
        await anyio.wait_readable(self.sock)
        if data := self.sock.recv(most):
            return data
        raise anyio.EndOfStream

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        await anyio.lowlevel.checkpoint()
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self.sock)


async def chunked(stream: Stream, file) -> None:
    while data := file.read(CHUNK):
        await stream.send(b"%x\r\n" % len(data) + data + b"\r\n")
    await stream.send(b"0\r\n\r\n")


def find(root: str, target: str) -> str | None:
    name = unquote(target.split("?", 1)[0])
    if "\0" in name:
        return None
    path = os.path.realpath(os.path.join(root, name.lstrip("/")))
    inside = os.path.commonpath([root, path]) == root
    return path if inside and os.path.isfile(path) else None


async def one(stream: Stream, head: bytes, root: str) -> bool:
    """Answer one request; whether the connection goes on."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split()
    if len(words) != 3 or words[0] not in ("GET", "HEAD"):
        await stream.send(b"HTTP/1.1 400 What\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return False
    fields = [line.partition(":") for line in lines[1:]]
    last = any(
        name.strip().lower() == "connection" and "close" in value.lower()
        for name, _, value in fields
    )
    extra = b"Connection: close\r\n" if last else b""
    path = find(root, words[1])
    if path is None:
        await stream.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n" + extra + b"\r\n")
        return not last
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115
    except OSError:
        await stream.send(b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n" + extra + b"\r\n")
        return not last
    with file:
        await stream.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: x/y\r\n"
            + extra
            + b"\r\n"
        )
        if words[0] == "GET":
            await chunked(stream, file)
    return not last


async def serve_one(stream: Stream, root: str) -> None:
    try:
        with stream.sock:
            received = bytearray()
            while True:
                while (end := received.find(b"\r\n\r\n")) < 0:
                    if len(received) > LONGEST:
                        return
                    received += await stream.receive(16384)
                head = bytes(received[:end])
                del received[: end + 4]
                if not await one(stream, head, root):
                    return
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        pass
    except Exception as error:  # one client's error stays with that client
        print(f"error: {error!r}", flush=True)


async def main(root: str, port: int) -> None:
    door = socket.create_server(("127.0.0.1", port), backlog=2048)
    door.setblocking(False)
    print(f"listening on http://127.0.0.1:{door.getsockname()[1]}", flush=True)
    async with anyio.create_task_group() as group:
        while True:
            await anyio.wait_readable(door)
            try:
                sock, _ = door.accept()
            except BlockingIOError:
                continue
            except OSError:
                await anyio.sleep(0.2)
                continue
            sock.setblocking(False)
            group.start_soon(serve_one, Stream(sock), root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    anyio.run(main, os.path.realpath(options.root), options.port)
