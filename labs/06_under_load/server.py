"""A file server for a thousand slow clients: `python server.py --root DIR --port 0`."""

import argparse
import asyncio
import errno
import os
import socket
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

CHUNK = 64 * 1024


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, root: Path) -> None:
    """Read one request from `reader`, and send the answer by `writer`."""
    # TODO: read the whole head, find the file, and send no more than the client takes
    request = await reader.readline()
    print("asked:", request)
    writer.write(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def serve(root: Path, port: int) -> None:
    """Listen, say where, and serve until the end."""
    # TODO: go on when there are more clients than descriptors
    server = await asyncio.start_server(
        lambda reader, writer: answer(reader, writer, root), "127.0.0.1", port
    )
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(serve(Path(options.root).resolve(), options.port))


if __name__ == "__main__":
    main()
