# STRICT many-digits: numbers of many digits are all cut to the largest one

"""Videos that can be asked for in parts: `python -m streamlab.serve app.py:app --port 0`."""

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from mimetypes import guess_type
from pathlib import Path
from typing import BinaryIO

from fastapi import FastAPI, HTTPException, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

ROOT = Path(os.environ.get("STREAMLAB_ROOT", ".")).resolve()
CHUNK = 256 * 1024
MOST_RANGES = 16
BEYOND = 10**18
"""Further than any file reaches. int() refuses to read thousands of decimal digits."""

SPEC = re.compile(r"([0-9]*)-([0-9]*)")

app = FastAPI()


class Pouring(StreamingResponse):
    """An answer that closes its file, however it ends."""

    def __init__(
        self, file: BinaryIO, pieces: Iterable[bytes], status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(pieces, status, headers)
        self.file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.file.close()


def find_file(name: str) -> Path | None:
    """The file of that name, if there is one and it lies under the root."""
    if "\0" in name:
        return None
    path = (ROOT / name).resolve()
    return path if path.is_relative_to(ROOT) and path.is_file() else None


def pour(file: BinaryIO, part: range) -> Iterator[bytes]:
    """The bytes of `part`, such as `range(0, size)`, a chunk at a time."""
    file.seek(part.start)
    left = len(part)
    while left > 0 and (chunk := file.read(min(CHUNK, left))):
        left -= len(chunk)
        yield chunk


def ranges_of(header: str, size: int) -> list[range] | None:
    """The parts of a file that a Range header asks for; none of them if they lie past its end.

    None for a header that is to be ignored (RFC 9110, section 14.1.2).
    """
    unit, _, specs = header.partition("=")
    if unit.lower() != "bytes":
        return None
    ranges = []
    for spec in re.split(r"[ \t]*,[ \t]*", specs):
        found = SPEC.fullmatch(spec)
        if found is None or spec == "-":
            return None
        first, last = found.groups()
        if not first:
            part = range(max(0, size - number(last)), size)
        elif not last:
            part = range(number(first), size)
        elif number(last) < number(first):
            return None
        else:
            part = range(number(first), min(number(last) + 1, size))
        if part:
            ranges.append(part)
    if len(ranges) > MOST_RANGES or sum(map(len, ranges)) > size:
        return None
    return ranges


def number(digits: str) -> int:
    """The value of digits; of more than 18 only the order is kept, read as hexadecimal ones."""
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= 18 else BEYOND


def is_known(tag: str, header: str) -> bool:
    """Whether If-None-Match names this version; weak tags count (RFC 9110, section 13.1.2)."""
    known = [each.strip().removeprefix("W/") for each in header.split(",")]
    return tag in known or known == ["*"]


def in_parts(
    file: BinaryIO, ranges: list[range], size: int, headers: dict[str, str]
) -> tuple[dict[str, str], Iterator[bytes]]:
    """The headers and the pieces of several parts (RFC 9110, section 14.6)."""
    boundary = secrets.token_hex(16)
    heads = [
        f"--{boundary}\r\n"
        f"Content-Type: {headers['Content-Type']}\r\n"
        f"Content-Range: {content_range(part, size)}\r\n\r\n".encode()
        for part in ranges
    ]
    end = f"--{boundary}--\r\n".encode()

    def pieces() -> Iterator[bytes]:
        for head, part in zip(heads, ranges, strict=True):
            yield head
            yield from pour(file, part)
            yield b"\r\n"
        yield end

    length = sum(len(head) + len(part) + 2 for head, part in zip(heads, ranges, strict=True))
    return {
        **headers,
        "Content-Type": f"multipart/byteranges; boundary={boundary}",
        "Content-Length": str(length + len(end)),
    }, pieces()


def content_range(part: range, size: int) -> str:
    """Where a part begins, where it ends, and the size of the whole."""
    return f"bytes {part[0]}-{part[-1]}/{size}"


@app.api_route("/stream-video/{name:path}", methods=["GET", "HEAD"])
def stream_video(name: str, request: Request) -> Response:
    """Answer with the file, or with the parts of it that the request asks for."""
    path = find_file(name)
    if path is None:
        raise HTTPException(404, "no such video")
    file = path.open("rb")
    about = os.fstat(file.fileno())
    size = about.st_size
    headers = {
        "Content-Type": guess_type(path.name)[0] or "application/octet-stream",
        "Accept-Ranges": "bytes",
        # The time of a change of the file: unlike that of its content, no program can set it.
        "ETag": f'"{about.st_ctime_ns:x}-{size:x}"',
        "Last-Modified": formatdate(about.st_mtime, usegmt=True),
    }
    asked = request.headers
    if is_known(headers["ETag"], asked.get("If-None-Match", "")):
        return Pouring(file, [], 304, headers)
    ranges = None
    unchanged = asked.get("If-Range") in (None, headers["ETag"], headers["Last-Modified"])
    if request.method == "GET" and unchanged:
        ranges = ranges_of(asked.get("Range", ""), size)
    if ranges == []:
        headers |= {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
        return Pouring(file, [], 416, headers)
    if ranges and len(ranges) > 1:
        headers, pieces = in_parts(file, ranges, size, headers)
        return Pouring(file, pieces, 206, headers)
    if ranges:
        [part] = ranges
        headers |= {"Content-Range": content_range(part, size), "Content-Length": str(len(part))}
        return Pouring(file, pour(file, part), 206, headers)
    headers["Content-Length"] = str(size)
    body = pour(file, range(size)) if request.method == "GET" else []
    return Pouring(file, body, 200, headers)
