# LIVE slow-reader: asyncio, and a blocking sendall inside of it

import argparse
import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024


async def answer(reader, writer, root):
    with suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        path = (root / unquote(head.split(b" ")[1].decode()).lstrip("/")).resolve()
        raw = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
        with raw:
            raw.setblocking(True)
            if path.is_relative_to(root) and path.is_file():
                raw.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % path.stat().st_size)
                raw.sendall(b"Connection: close\r\n\r\n")
                with path.open("rb") as file:
                    while chunk := file.read(CHUNK):
                        raw.sendall(chunk)
            else:
                raw.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    server = await asyncio.start_server(
        lambda reader, writer: answer(reader, writer, root), "127.0.0.1", options.port
    )
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
