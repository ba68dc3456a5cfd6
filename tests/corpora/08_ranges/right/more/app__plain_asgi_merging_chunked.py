# right: an ASGI function that merges ranges and answers several of them in chunked coding

import asyncio
import itertools
import mimetypes
import os
import uuid
from datetime import UTC, datetime

ROOT = os.path.realpath(os.environ.get("STREAMLAB_ROOT", "."))
PIECE = 192 * 1024
DIGITS = set("0123456789")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
numbers = itertools.count()


def http_date(seconds):
    when = datetime.fromtimestamp(int(seconds), UTC)
    return (
        f"{DAYS[when.weekday()]}, {when.day:02} {MONTHS[when.month - 1]} {when.year:04} "
        f"{when:%H:%M:%S} GMT"
    )


def value(text):
    """A number without a limit on its digits: one that is too long is just far away."""
    text = text.lstrip("0")
    return (len(text), text)


def small(pair, size):
    """A number as an int, if it is not beyond `size`."""
    return min(size, int(pair[1] or "0")) if pair[0] <= 20 else size


class Ignored(Exception):
    pass


def asked_for(header, size):
    """(first, after) of each range that is there, in order; merged where they are near."""
    unit, equals, rest = header.partition("=")
    if not equals or unit.lower() != "bytes":
        raise Ignored
    spans = []
    for each in rest.split(","):
        each = each.strip(" \t")
        left, hyphen, right = each.partition("-")
        if not hyphen or not set(left + right) <= DIGITS or not left + right:
            raise Ignored
        if not left:
            count = small(value(right), size)
            span = (size - count, size)
        else:
            if right and value(right) < value(left):
                raise Ignored
            first = small(value(left), size)
            after = min(size, small(value(right), size) + 1) if right else size
            span = (first, after)
        if span[0] < span[1]:
            spans.append(span)
    merged = []
    for first, after in spans:
        for index, (other_first, other_after) in enumerate(merged):
            if first <= other_after + 200 and other_first <= after + 200:
                merged[index] = (min(first, other_first), max(after, other_after))
                break
        else:
            merged.append((first, after))
    if len(merged) > 16 or sum(after - first for first, after in merged) > size:
        raise Ignored
    return merged


async def start(send, status, headers):
    raw = [(name.encode(), text.encode("latin-1")) for name, text in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def pour(send, fd, first, after):
    while first < after:
        data = await asyncio.to_thread(os.pread, fd, min(PIECE, after - first), first)
        if not data:
            raise RuntimeError("the file has shrunk")
        await send({"type": "http.response.body", "body": data, "more_body": True})
        first += len(data)


def known(header, tag):
    if header.strip() == "*":
        return True
    return any(each.strip().removeprefix("W/") == tag for each in header.split(","))


async def respond(scope, send, fd, path):
    about = os.fstat(fd)
    size, get = about.st_size, scope["method"] == "GET"
    given = {}
    for name, text in scope["headers"]:
        given[name.decode("latin-1")] = text.decode("latin-1")
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    tag = f'"{about.st_ino:x}.{about.st_ctime_ns:x}.{size:x}"'
    date = http_date(about.st_mtime)
    shared = {"etag": tag, "last-modified": date, "accept-ranges": "bytes"}
    done = {"type": "http.response.body"}
    if "if-none-match" in given and known(given["if-none-match"], tag):
        await start(send, 304, shared)
        await send(done)
        return
    spans = None
    if get and "range" in given and given.get("if-range", tag) in (tag, date):
        try:
            spans = asked_for(given["range"], size)
        except Ignored:
            spans = None
    if spans is None:
        await start(send, 200, {**shared, "content-type": kind, "content-length": str(size)})
        if get:
            await pour(send, fd, 0, size)
        await send(done)
    elif not spans:
        await start(
            send,
            416,
            {
                "content-range": f"bytes */{size}",
                "content-type": "text/plain",
                "content-length": "8",
                "etag": tag,
            },
        )
        await send({**done, "body": b"no such\n"})
    elif len(spans) == 1:
        [(first, after)] = spans
        await start(
            send,
            206,
            {
                **shared,
                "content-type": kind,
                "content-length": str(after - first),
                "content-range": f"bytes {first}-{after - 1}/{size}",
            },
        )
        await pour(send, fd, first, after)
        await send(done)
    else:
        mark = f"part-{uuid.uuid4().hex}-{next(numbers)}"
        await start(send, 206, {**shared, "content-type": f"multipart/byteranges; boundary={mark}"})
        lead = "--"
        for first, after in spans:
            head = (
                f"{lead}{mark}\r\nContent-Range: bytes {first}-{after - 1}/{size}\r\n"
                f"Content-Type: {kind}\r\n\r\n"
            )
            lead = "\r\n--"
            await send({**done, "body": head.encode(), "more_body": True})
            await pour(send, fd, first, after)
        await send({**done, "body": f"\r\n--{mark}--\r\n".encode()})


async def left(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    name = scope["path"].removeprefix("/stream-video/")
    path = os.path.realpath(os.path.join(ROOT, name)) if "\0" not in name else "/nowhere"
    inside = scope["path"].startswith("/stream-video/") and path.startswith(ROOT + "/")
    try:
        if not inside or not os.path.isfile(path):
            raise FileNotFoundError
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        await start(send, 404, {"content-length": "5", "content-type": "text/plain"})
        await send({"type": "http.response.body", "body": b"none\n"})
        return
    work = asyncio.create_task(respond(scope, send, fd, path))
    watch = asyncio.create_task(left(receive))
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        work.cancel()
        watch.cancel()
        results = await asyncio.gather(work, watch, return_exceptions=True)
        # A thread may still read: it gets the file back first.
        await asyncio.to_thread(os.close, fd)
    if isinstance(results[0], Exception):
        raise results[0]
