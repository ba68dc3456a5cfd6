# SEVERAL part-headers: the type in a part has no charset, that of the file has one

import os
import secrets
from email.utils import formatdate
from itertools import chain
from mimetypes import guess_type
from pathlib import Path

import anyio
from fastapi import FastAPI, HTTPException, Request
from starlette.responses import Response

ROOT = Path(os.environ.get("STREAMLAB_ROOT", ".")).resolve()
CHUNK = 128 * 1024
TOO_FAR = 1 << 80

app = FastAPI()


class FromDescriptor(Response):
    """Sends segments: bytes as they are, ranges from the file; owns the descriptor."""

    def __init__(self, fd: int, status: int, headers: dict[str, str], segments: list) -> None:
        self.fd = fd
        self.segments = segments
        self.status_code = status
        self.background = None
        self.body = b""
        self.init_headers(headers)
        if status in (304, 206) and "Content-Length" not in headers:
            del self.headers["content-length"]

    async def pour(self, send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        buffer = bytearray(CHUNK)
        for segment in self.segments:
            if isinstance(segment, bytes):
                await send({"type": "http.response.body", "body": segment, "more_body": True})
                continue
            place = segment.start
            while place < segment.stop:
                room = memoryview(buffer)[: min(CHUNK, segment.stop - place)]
                count = await anyio.to_thread.run_sync(os.preadv, self.fd, [room], place)
                if not count:
                    raise OSError("the file has become shorter")
                place += count
                data = bytes(room[:count])
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def __call__(self, scope, receive, send) -> None:
        try:
            async with anyio.create_task_group() as group:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    group.cancel_scope.cancel()

                group.start_soon(watch)
                await self.pour(send)
                group.cancel_scope.cancel()
        finally:
            os.close(self.fd)


def natural(text: str) -> int | None:
    """The value of some of the ten digits, and of nothing else; TOO_FAR for very many."""
    if not text or text.strip("0123456789"):
        return None
    text = text.lstrip("0") or "0"
    if len(text) < 25:
        return int(text)
    return TOO_FAR


def compare_long(first: str, last: str) -> bool:
    """Whether `last` is less than `first`, whatever their length."""
    first, last = first.lstrip("0"), last.lstrip("0")
    return (len(last), last) < (len(first), first)


def one(member: str, size: int) -> range | None:
    """A range, empty if it is not there; None if it is malformed."""
    first, hyphen, last = member.partition("-")
    low, high = natural(first), natural(last)
    if not hyphen or (first and low is None) or (last and high is None):
        return None
    if low is None:
        return None if high is None else range(size - min(size, high), size)
    if high is None:
        return range(low, size)
    if compare_long(first, last):
        return None
    return range(low, min(size, high + 1))


def ranges_in(header: str, size: int) -> list[range] | None:
    unit, _, members = header.partition("=")
    if unit.casefold() != "bytes":
        return None
    ranges = [one(member.strip(" \t"), size) for member in members.split(",")]
    if None in ranges:
        return None
    there = [each for each in ranges if each is not None and each.start < each.stop]
    return None if len(there) > 16 or sum(map(len, there)) > size else there


def open_video(name: str) -> tuple[int, os.stat_result] | None:
    if "\0" in name:
        return None
    path = os.path.realpath(ROOT / name)
    if not path.startswith(f"{ROOT}/") or not os.path.isfile(path):
        return None
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return fd, os.fstat(fd)


def answer_for(method: str, asked, fd: int, about: os.stat_result, kind: str) -> FromDescriptor:
    size = about.st_size
    tag = f'"v{about.st_ctime_ns:016x}{size:012x}"'
    stamp = formatdate(about.st_mtime_ns // 1_000_000_000, usegmt=True)
    headers = {"ETag": tag, "Last-Modified": stamp, "Accept-Ranges": "bytes"}
    if asked.get("if-none-match", "").strip() == "*" or any(
        each.strip() in (tag, "W/" + tag) for each in asked.get("if-none-match", "").split(",")
    ):
        return FromDescriptor(fd, 304, headers, [])
    headers["Content-Type"] = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    ranges = None
    if method == "GET" and asked.get("if-range", tag) in (tag, stamp):
        ranges = ranges_in(asked.get("range", ""), size)
    if ranges is None:
        headers["Content-Length"] = str(size)
        return FromDescriptor(fd, 200, headers, [range(size)] if method == "GET" else [])
    if not ranges:
        headers |= {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
        return FromDescriptor(fd, 416, headers, [])
    spans = [f"bytes {each[0]}-{each[-1]}/{size}" for each in ranges]
    if len(ranges) == 1:
        headers |= {"Content-Range": spans[0], "Content-Length": str(len(ranges[0]))}
        return FromDescriptor(fd, 206, headers, ranges)
    mark = secrets.token_urlsafe(24).replace("-", "x").replace("_", "y")
    heads = [
        f"--{mark}\r\nContent-Type: {kind}\r\nContent-Range: {span}\r\n\r\n".encode()
        for span in spans
    ]
    ends = [b"\r\n"] * (len(ranges) - 1) + [f"\r\n--{mark}--\r\n".encode()]
    segments = list(chain.from_iterable(zip(heads, ranges, ends, strict=True)))
    headers["Content-Type"] = f"multipart/byteranges; boundary={mark}"
    headers["Content-Length"] = str(sum(map(len, segments)))
    return FromDescriptor(fd, 206, headers, segments)


@app.api_route("/stream-video/{name:path}", methods=["GET", "HEAD"])
async def stream_video(name: str, request: Request) -> Response:
    """Answer with the file, or with the parts of it that the request asks for."""
    opened = await anyio.to_thread.run_sync(open_video, name)
    if opened is None:
        raise HTTPException(404, "no such video")
    fd, about = opened
    kind = guess_type(name)[0] or "application/octet-stream"
    return answer_for(request.method, request.headers, fd, about, kind)
