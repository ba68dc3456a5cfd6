# DROP leave: the file is closed after the last chunk, and only then

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024


def find_file(target, root):
    path = (root / unquote(target).lstrip("/")).resolve()
    return path if path.is_relative_to(root) and path.is_file() else None


def headers(status, size):
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()


OPEN = {}


async def send_file(writer, path):
    writer.write(headers("200 OK", path.stat().st_size))
    file = OPEN[writer] = path.open("rb")
    while chunk := file.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    OPEN.pop(writer).close()


async def answer(reader, writer, root):
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
    path = find_file(target, root)
    if path is None:
        writer.write(headers("404 Not Found", 0))
    elif method == "HEAD":
        writer.write(headers("200 OK", path.stat().st_size))
    else:
        await send_file(writer, path)


async def serve(reader, writer, root):
    try:
        with suppress(OSError, asyncio.IncompleteReadError):
            await answer(reader, writer, root)
    finally:
        writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, root), "127.0.0.1", options.port
    )
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
