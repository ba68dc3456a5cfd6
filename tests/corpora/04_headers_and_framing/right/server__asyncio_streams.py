# asyncio: an event loop, streams, drain

import argparse
import asyncio
import mimetypes
import os
import re
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024


def find_file(root, target):
    try:
        path = (root / unquote(target.partition("?")[0]).lstrip("/")).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def find_report(target):
    found = re.fullmatch(r"/report/([0-9]{1,15})(?:\?fail=([0-9]{1,15}))?", target)
    return report(int(found[1]), int(found[2] or found[1])) if found else None


def report(lines, fail):
    for number in range(lines):
        if number == fail:
            raise RuntimeError(f"the source failed at line {number}")
        yield b"" if number % 10 == 7 else b"sensor %d: %d\n" % (number, number * number % 997)


async def serve(root, reader, writer):
    with suppress(OSError, EOFError, RuntimeError):
        while await exchange(root, reader, writer):
            pass
    writer.close()


async def exchange(root, reader, writer):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        await send(writer, "431 Too Large", False, "Content-Length: 0")
        return False
    line, *lines = head.decode("latin-1").strip("\r\n").split("\r\n")
    found = re.fullmatch(r"([!-~]+) (/\S*) HTTP/1\.([01])", line)
    parts = [line.partition(":") for line in lines]
    pairs = [(name.lower(), value.strip(" \t")) for name, _, value in parts]
    fine = all(colon and re.fullmatch("[!-9;-~]+", name) for name, colon, _ in parts)
    lengths = {value for name, value in pairs if name == "content-length"} or {"0"}
    length = lengths.pop() if len(lengths) == 1 else "many"
    if found is None or not fine or not re.fullmatch("[0-9]{1,15}", length):
        await send(writer, "400 Bad Request", False, "Content-Length: 0")
        return False
    method, target, minor = found.groups()
    options = [o.strip().lower() for n, v in pairs if n == "connection" for o in v.split(",")]
    keep = "close" not in options and (minor == "1" or "keep-alive" in options)
    keep = keep and "transfer-encoding" not in dict(pairs)
    if method not in ("GET", "HEAD"):
        await send(writer, "405 No", keep, "Allow: GET, HEAD", "Content-Length: 0")
    elif lines := find_report(target):
        keep = await send_report(writer, lines, method, minor, keep)
    elif path := find_file(root, target):
        await send_file(writer, path, method, keep)
    else:
        await send(writer, "404 Not Found", keep, "Content-Length: 0")
    left = int(length) if keep else 0
    while left:
        piece = await reader.read(min(left, CHUNK))
        if not piece:
            return False
        left -= len(piece)
    return keep


async def send(writer, status, keep, *headers):
    stays = "keep-alive" if keep else "close"
    date = formatdate(usegmt=True)
    lines = [f"HTTP/1.1 {status}", *headers, f"Connection: {stays}", f"Date: {date}", "", ""]
    writer.write("\r\n".join(lines).encode())
    await writer.drain()


async def send_file(writer, path, method, keep):
    kind, packing = mimetypes.guess_type(path.name)
    kind = kind if kind and not packing else "application/octet-stream"
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        await send(writer, "200 OK", keep, f"Content-Length: {left}", f"Content-Type: {kind}")
        while left and method == "GET":
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise ConnectionError("the file has shrunk")
            writer.write(chunk)
            await writer.drain()
            left -= len(chunk)


async def send_report(writer, lines, method, minor, keep):
    chunked = minor == "1"
    keep = keep and chunked
    coding = ["Transfer-Encoding: chunked"] if chunked else []
    await send(writer, "200 OK", keep, "Content-Type: text/plain", *coding)
    if method == "HEAD":
        return keep
    for number, line in enumerate(filter(None, lines)):
        writer.write(b"%x\r\n%b\r\n" % (len(line), line) if chunked else line)
        if number % 100 == 0:
            await writer.drain()
            await asyncio.sleep(0)
    if chunked:
        writer.write(b"0\r\n\r\n")
    return keep


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()

    async def serve_one(reader, writer):
        await serve(root, reader, writer)

    server = await asyncio.start_server(serve_one, "127.0.0.1", options.port, backlog=128)
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
