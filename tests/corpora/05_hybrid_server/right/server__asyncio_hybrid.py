# asyncio: a write for the small, the loop's sendfile for the large

import argparse
import asyncio
import os
from contextlib import suppress
from email.utils import formatdate
from urllib.parse import unquote

THRESHOLD = 1024 * 1024
OTHER = "application/octet-stream"
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".txt": "text/plain",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".pdf": "application/pdf",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".zip": "application/zip",
}


def open_file(root, name):
    path = os.path.join(root, name.lstrip("/"))
    if ".." in name.split("/") or not os.path.isfile(path):
        raise FileNotFoundError(name)
    return open(path, "rb")


def type_of(name):
    return TYPES.get(os.path.splitext(name)[1].lower(), OTHER)


def headers(status, kind, length, cache="public, max-age=3600"):
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
        f"Cache-Control: {cache}\r\nDate: {formatdate(usegmt=True)}\r\n"
        "Server: mine\r\nConnection: close\r\n\r\n"
    ).encode("latin-1")


async def answer(reader, writer, root):
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
    name = unquote(target)
    try:
        file = open_file(root, name)
    except OSError as error:
        status = "404 Not Found" if isinstance(error, FileNotFoundError) else "500 Server Error"
        body = b"" if method == "HEAD" else f"<h1>{status}</h1>".encode()
        writer.write(headers(status, "text/html", len(status) + 9, "no-store") + body)
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        if method == "HEAD":
            writer.write(headers("200 OK", type_of(name), size))
        elif size <= THRESHOLD:
            body = file.read(size)
            writer.write(headers("200 OK", type_of(name), len(body)) + body)
            await writer.drain()
        else:
            writer.write(headers("200 OK", type_of(name), size))
            await asyncio.get_running_loop().sendfile(writer.transport, file, 0, size)


async def serve(reader, writer, root):
    with suppress(OSError, ValueError, asyncio.IncompleteReadError):
        await answer(reader, writer, root)
    writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = os.path.realpath(options.root)
    server = await asyncio.start_server(
        lambda reader, writer: serve(reader, writer, root), "127.0.0.1", options.port
    )
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
