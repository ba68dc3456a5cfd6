# RIGHT: no framework, os.pread, positions from 0, heads of parts in small letters, CR LF before all
import asyncio
import os
import re
import uuid
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(os.environ.get("STREAMLAB_ROOT", ".")).resolve()
ROUTE = "/stream-video/"
CHUNK = 128 * 1024


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    asked = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    path = (ROOT / scope["path"].removeprefix(ROUTE)).resolve()
    inside = scope["path"].startswith(ROUTE) and path.is_relative_to(ROOT) and path.is_file()
    if not inside or "\0" in unquote(scope["path"]) or scope["method"] not in ("GET", "HEAD"):
        await answer(send, 404, {"content-length": "0"})
        return
    descriptor = os.open(path, os.O_RDONLY)
    gone = asyncio.ensure_future(disconnected(receive))
    serving = asyncio.ensure_future(serve(descriptor, scope["method"], asked, send))
    try:
        await asyncio.wait([gone, serving], return_when=asyncio.FIRST_COMPLETED)
        serving.cancel() if not serving.done() else serving.result()
        await asyncio.wait([serving])
    finally:
        gone.cancel()
        os.close(descriptor)


async def disconnected(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(send, status, headers):
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": b""})


async def serve(descriptor, method, asked, send):
    about = os.fstat(descriptor)
    size, tag = about.st_size, f'"{about.st_ino:x}.{about.st_ctime_ns:x}.{about.st_size:x}"'
    date = formatdate(about.st_mtime, usegmt=True)
    headers = {"etag": tag, "last-modified": date, "accept-ranges": "bytes"}
    kind = "video/mp4"
    names = re.findall(r'\*|(?:W/)?"[^"]*"', asked.get("if-none-match", ""))
    if "*" in names or tag in [name.removeprefix("W/") for name in names]:
        await answer(send, 304, headers)
        return
    ranges = None
    if method == "GET" and asked.get("if-range", date) in (tag, date):
        ranges = parse(asked.get("range", ""), size)
    if ranges == []:
        headers |= {"content-range": f"bytes */{size}", "content-length": "0"}
        await answer(send, 416, headers)
        return
    if ranges and len(ranges) > 1:
        boundary = uuid.uuid4().hex
        pieces, length = [], 0
        for start, stop in ranges:
            head = f"\r\n--{boundary}\r\ncontent-range: bytes {start}-{stop - 1}/{size}\r\n"
            pieces += [f"{head}content-type: {kind}\r\n\r\n".encode(), (start, stop)]
        pieces.append(f"\r\n--{boundary}--".encode())
        status, kind = 206, f"multipart/byteranges;boundary={boundary}"
    elif ranges:
        [(start, stop)] = pieces = ranges
        status = 206
        headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
    else:
        status, pieces = 200, [(0, size)]
    length = sum(len(p) if isinstance(p, bytes) else p[1] - p[0] for p in pieces)
    headers |= {"content-type": kind, "content-length": str(length)}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    for piece in pieces if method == "GET" else []:
        if isinstance(piece, bytes):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            continue
        at, stop = piece
        while at < stop:
            chunk = os.pread(descriptor, min(CHUNK, stop - at), at)
            if not chunk:
                raise EOFError("the file has shrunk")
            at += len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


def parse(header, size):
    whole = re.fullmatch(r"[Bb][Yy][Tt][Ee][Ss]=([0-9, \t-]+)", header)
    if whole is None:
        return None
    ranges = []
    for spec in whole[1].split(","):
        spec = spec.strip(" \t")
        if not re.fullmatch(r"[0-9]+-[0-9]*|-[0-9]+", spec):
            return None
        first, last = ((part.lstrip("0") or "0")[:1000] if part else "" for part in spec.split("-"))
        if not first:
            ranges.append((max(size - int(last), 0), size))
            continue
        if last and (len(last), last) < (len(first), first):
            return None
        start = int(first)
        ranges.append((start, min(int(last) + 1 if last else size, size)))
    ranges = [(start, stop) for start, stop in ranges if start < stop]
    total = sum(stop - start for start, stop in ranges)
    return ranges if len(ranges) <= 16 and total <= size else None
