# RANGE clamp: believes the end that was asked for: Content-Length is more than there is
import os
import re
import secrets
from email.utils import formatdate
from mimetypes import guess_type
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from starlette.responses import StreamingResponse

ROOT = Path(os.environ.get("STREAMLAB_ROOT", ".")).resolve()
CHUNK = 64 * 1024

app = FastAPI()


class Pouring(StreamingResponse):
    def __init__(self, file, pieces, status, headers):
        super().__init__(pieces, status, headers)
        self.file = file

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.file.close()


def find_file(name):
    path = (ROOT / name).resolve()
    return path if path.is_relative_to(ROOT) and path.is_file() else None


def pour(file, first, last):
    file.seek(first)
    left = last - first + 1
    while left > 0 and (chunk := file.read(min(CHUNK, left))):
        left -= len(chunk)
        yield chunk


def number(digits):
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) < 4000 else 10**4000 + int(digits[:4000])


def parse(header, size):
    unit, _, specs = header.partition("=")
    if unit.lower() != "bytes":
        return None
    ranges = []
    for spec in specs.split(","):
        found = re.fullmatch("([0-9]*)-([0-9]*)", spec.strip(" \t"))
        if found is None or not any(found.groups()):
            return None
        first, last = found.groups()
        if not first:
            first, last = max(0, size - number(last)), size - 1
        elif last:
            first, last = number(first), number(last)
            if last < first:
                return None
        else:
            first, last = number(first), size - 1
        if first < size:
            ranges.append((first, last))
    if len(ranges) > 16 or sum(last - first + 1 for first, last in ranges) > size:
        return None
    return ranges


def multipart(file, ranges, size, headers):
    boundary = secrets.token_hex(12)
    heads = [
        f"--{boundary}\r\nContent-Type: {headers['Content-Type']}\r\n"
        f"Content-Range: bytes {first}-{last}/{size}\r\n\r\n".encode()
        for first, last in ranges
    ]
    end = f"--{boundary}--\r\n".encode()

    def body():
        for head, (first, last) in zip(heads, ranges, strict=True):
            yield head
            yield from pour(file, first, last)
            yield b"\r\n"
        yield end

    length = len(end) + sum(map(len, heads))
    length += sum(last - first + 3 for first, last in ranges)
    headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
    headers["Content-Length"] = str(length)
    return Pouring(file, body(), 206, headers)


@app.api_route("/stream-video/{name:path}", methods=["GET", "HEAD"])
def stream_video(name: str, request: Request):
    path = find_file(name)
    if path is None:
        raise HTTPException(404)
    file = path.open("rb")
    about = os.fstat(file.fileno())
    size = about.st_size
    tag = f'"{about.st_ctime_ns:x}-{size:x}"'
    date = formatdate(about.st_mtime, usegmt=True)
    headers = {
        "Content-Type": guess_type(path.name)[0] or "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Last-Modified": date,
    }
    known = [each.strip() for each in request.headers.get("If-None-Match", "").split(",")]
    if "*" in known or tag in known or f"W/{tag}" in known:
        return Pouring(file, [], 304, headers)
    ranges = None
    if request.method == "GET" and request.headers.get("If-Range", tag) in (tag, date):
        ranges = parse(request.headers.get("Range", ""), size)
    if ranges is None:
        headers["Content-Length"] = str(size)
        body = pour(file, 0, size - 1) if request.method == "GET" else []
        return Pouring(file, body, 200, headers)
    if not ranges:
        headers["Content-Range"] = f"bytes */{size}"
        headers["Content-Length"] = "0"
        return Pouring(file, [], 416, headers)
    if len(ranges) > 1:
        return multipart(file, ranges, size, headers)
    [(first, last)] = ranges
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1)
    return Pouring(file, pour(file, first, last), 206, headers)
