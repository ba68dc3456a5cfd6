# CONDITION last-modified: the day has no leading zero

import asyncio
import os
import uuid
from datetime import UTC, datetime
from mimetypes import guess_type
from pathlib import Path

ROOT = Path(os.environ.get("STREAMLAB_ROOT", ".")).resolve()
CHUNK = 192 * 1024
PREFIX = "/stream-video/"
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
DIGITS = set("0123456789")


def http_date(seconds: float) -> str:
    moment = datetime.fromtimestamp(int(seconds // 1), UTC)
    return (
        f"{DAYS[moment.weekday()]}, {moment.day} {MONTHS[moment.month - 1]} "
        f"{moment.year:04d} {moment:%H:%M:%S} GMT"
    )


class Malformed(Exception):
    """A Range header that says nothing."""


def value(text: str) -> tuple[int, str]:
    """A number by its length and its digits: such pairs compare as the numbers do."""
    if not text or set(text) - DIGITS:
        raise Malformed
    text = text.lstrip("0")
    return len(text), text


def parse(header: str, size: int) -> list[tuple[int, int]] | None:
    """First and last of each range that is there; None to ignore the header."""
    unit, equals, rest = header.partition("=")
    if unit.lower() != "bytes" or not equals:
        return None
    limit = value(str(size))
    found = []
    try:
        for member in rest.split(","):
            member = member.strip(" \t")
            first, hyphen, last = member.partition("-")
            if not hyphen:
                raise Malformed
            if not first:
                count = value(last)
                if count == value("0"):
                    continue
                start = 0 if count >= limit else size - int(count[1])
                if size:
                    found.append((start, size - 1))
                continue
            begin = value(first)
            if last and value(last) < begin:
                raise Malformed
            if begin >= limit:
                continue
            end = size - 1
            if last and value(last) < limit:
                end = int(value(last)[1] or "0")
            found.append((int(begin[1] or "0"), end))
    except Malformed:
        return None
    if len(found) > 16 or sum(last - first + 1 for first, last in found) > size:
        return None
    return found


def open_file(name: str) -> int | None:
    if "\0" in name:
        return None
    path = (ROOT / name).resolve()
    try:
        if path.is_relative_to(ROOT) and path.is_file():
            return os.open(path, os.O_RDONLY)
    except OSError:
        pass
    return None


def decide(method: str, asked: dict[str, str], fd: int, kind: str):
    """Status, headers and the plan of what is sent."""
    about = os.fstat(fd)
    size = about.st_size
    tag = f'"{size:x}.{about.st_ctime_ns:x}.{about.st_ino:x}"'
    modified = http_date(about.st_mtime)
    headers = {"accept-ranges": "bytes", "etag": tag, "last-modified": modified}
    known = [
        each.strip(" \t").removeprefix("W/") for each in asked.get("if-none-match", "").split(",")
    ]
    if tag in known or known == ["*"]:
        return 304, headers, []
    headers["content-type"] = kind
    whole = 200, {**headers, "content-length": str(size)}, [(0, size - 1)] if size else []
    if method == "HEAD" or "range" not in asked:
        return whole
    if asked.get("if-range", tag) not in (tag, modified):
        return whole
    ranges = parse(asked["range"], size)
    if ranges is None:
        return whole
    if not ranges:
        headers |= {"content-range": f"bytes */{size}", "content-length": "0"}
        return 416, headers, []
    if len(ranges) == 1:
        first, last = ranges[0]
        headers["content-range"] = f"bytes {first}-{last}/{size}"
        headers["content-length"] = str(last - first + 1)
        return 206, headers, ranges
    boundary = uuid.uuid4().hex
    plan: list[bytes | tuple[int, int]] = []
    for first, last in ranges:
        plan.append(
            f"\r\n--{boundary}\r\nContent-Type: {kind}\r\n"
            f"Content-Range: bytes {first}-{last}/{size}\r\n\r\n".encode()
        )
        plan.append((first, last))
    plan.append(f"\r\n--{boundary}--\r\n".encode())
    length = sum(len(each) if isinstance(each, bytes) else each[1] - each[0] + 1 for each in plan)
    headers["content-type"] = f"multipart/byteranges; boundary={boundary}"
    headers["content-length"] = str(length)
    return 206, headers, plan


async def carry_out(send, fd: int, plan) -> None:
    for each in plan:
        if isinstance(each, bytes):
            await send({"type": "http.response.body", "body": each, "more_body": True})
            continue
        place, last = each
        while place <= last:
            data = await asyncio.to_thread(os.pread, fd, min(CHUNK, last + 1 - place), place)
            if not data:
                raise OSError("the file has shrunk")
            place += len(data)
            await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def until_gone(receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def respond(receive, send, status: int, headers: dict[str, str], fd: int, plan) -> None:
    raw = [(name.encode(), text.encode()) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    if not plan:
        await send({"type": "http.response.body", "body": b""})
        return
    sending = asyncio.ensure_future(carry_out(send, fd, plan))
    leaving = asyncio.ensure_future(until_gone(receive))
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not sending.done():
            sending.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)
    if not sending.cancelled():
        sending.result()


async def app(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path, method = scope["path"], scope["method"]
    fd = None
    if path.startswith(PREFIX) and method in ("GET", "HEAD"):
        fd = await asyncio.to_thread(open_file, path[len(PREFIX) :])
    if fd is None:
        start = {
            "type": "http.response.start",
            "status": 404,
            "headers": [(b"content-length", b"0")],
        }
        await send(start)
        await send({"type": "http.response.body", "body": b""})
        return
    try:
        asked = {name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]}
        kind = guess_type(path)[0] or "application/octet-stream"
        status, headers, plan = decide(method, asked, fd, kind)
        await respond(receive, send, status, headers, fd, plan if method == "GET" else [])
    finally:
        os.close(fd)
