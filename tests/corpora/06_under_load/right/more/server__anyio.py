# anyio instead of asyncio, on bare sockets

import argparse
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import anyio

CHUNK = 64 * 1024


def find_file(target, root):
    path = (root / unquote(target).lstrip("/")).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def headers(status, size):
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()


async def receive(client):
    await anyio.wait_readable(client)
    return client.recv(4096)


async def send(client, data):
    while data:
        await anyio.wait_writable(client)
        data = data[client.send(data) :]


async def send_file(client, path):
    await send(client, headers("200 OK", path.stat().st_size))
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            await send(client, chunk)


async def answer(client, root):
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 65536:
        if not (piece := await receive(client)):
            return
        head += piece
    method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
    path = find_file(target, root)
    if path is None:
        await send(client, headers("404 Not Found", 0))
    elif method == "HEAD":
        await send(client, headers("200 OK", path.stat().st_size))
    else:
        await send_file(client, path)


async def serve(client, root):
    with suppress(OSError, ValueError), client:
        await answer(client, root)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=512)
    listener.setblocking(False)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    async with anyio.create_task_group() as clients:
        while True:
            await anyio.wait_readable(listener)
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                continue
            except OSError:
                await anyio.sleep(0.2)
                continue
            client.setblocking(False)
            clients.start_soon(serve, client, root)


if __name__ == "__main__":
    anyio.run(main)
