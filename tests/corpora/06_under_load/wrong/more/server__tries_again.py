# DROP leave: an error is logged, and the chunk tried again, for ever

import argparse
import asyncio
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024


def find_file(target, root):
    path = (root / unquote(target).lstrip("/")).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def headers(status, size):
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()


async def answer(connection, root):
    loop = asyncio.get_running_loop()
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 65536:
        if not (piece := await loop.sock_recv(connection, 4096)):
            return
        head += piece
    method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
    path = find_file(target, root)
    if path is None:
        await loop.sock_sendall(connection, headers("404 Not Found", 0))
        return
    await loop.sock_sendall(connection, headers("200 OK", path.stat().st_size))
    if method == "GET":
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                while True:
                    try:
                        await loop.sock_sendall(connection, chunk)
                        break
                    except OSError:
                        await asyncio.sleep(0.001)


async def serve(connection, root):
    with suppress(OSError), connection:
        await answer(connection, root)


async def accept(listener, root):
    tasks = set()
    while True:
        try:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        except OSError:
            await asyncio.sleep(0.2)
            continue
        task = asyncio.create_task(serve(connection, root))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=512)
    listener.setblocking(False)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await accept(listener, root)


if __name__ == "__main__":
    asyncio.run(main())
