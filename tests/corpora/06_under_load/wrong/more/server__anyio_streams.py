# STALL unread: a stream of anyio reads on what is there before its first receive, and keeps it

import argparse
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


async def send_file(client, path):
    await client.send(headers("200 OK", path.stat().st_size))
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            await client.send(chunk)


async def answer(client, root):
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 65536:
        head += await client.receive()
    method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
    path = find_file(target, root)
    if path is None:
        await client.send(headers("404 Not Found", 0))
    elif method == "HEAD":
        await client.send(headers("200 OK", path.stat().st_size))
    else:
        await send_file(client, path)


async def serve(client, root):
    with suppress(OSError, ValueError, anyio.BrokenResourceError, anyio.EndOfStream):
        async with client:
            await answer(client, root)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = await anyio.create_tcp_listener(
        local_host="127.0.0.1", local_port=options.port, backlog=512
    )
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    async with anyio.create_task_group() as clients:
        while True:
            try:
                client = await listener.listeners[0].accept()
            except OSError:
                await anyio.sleep(0.2)
            else:
                clients.start_soon(serve, client, root)


if __name__ == "__main__":
    anyio.run(main)
