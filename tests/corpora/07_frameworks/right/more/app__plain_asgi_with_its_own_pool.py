# right: an ASGI function without a framework: os.pread in its own pool, it watches for the leaving

import asyncio
import os
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

FOLDER = os.path.realpath(os.environ.get("STREAMLAB_ROOT", "files"))
REPORT_HEAD = "number,square,cube\r\n"
PIECE = 128 * 1024
disk = ThreadPoolExecutor(24)


def report_row(number: int) -> str:
    """One row of the report, its line end included (RFC 4180, section 2)."""
    return f"{number},{number**2},{number**3}\r\n"


class File:
    """A file that is read in the pool, and closed when nobody reads it any more."""

    def __init__(self, fd):
        self.fd = fd
        self.reading = None

    async def read(self, count, at):
        self.reading = disk.submit(os.pread, self.fd, count, at)
        return await asyncio.wrap_future(self.reading)

    def close(self):
        if self.reading is None or self.reading.done():
            os.close(self.fd)
        else:
            self.reading.cancel()
            self.reading.add_done_callback(lambda _: os.close(self.fd))


def open_file(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not os.path.isfile(f"/proc/self/fd/{fd}"):
            raise FileNotFoundError(path)
        return fd, os.fstat(fd).st_size
    except BaseException:
        os.close(fd)
        raise


async def start(send, status, *headers):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def more(send, data):
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def end(send):
    await send({"type": "http.response.body"})


async def refuse(send, status):
    await start(send, status, (b"content-length", b"3"), (b"content-type", b"text/plain"))
    await send({"type": "http.response.body", "body": b"no\n"})


async def video(scope, send):
    name = scope["path"].removeprefix("/stream-video/")
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        await refuse(send, 404)
        return
    loop = asyncio.get_running_loop()
    try:
        fd, size = await loop.run_in_executor(disk, open_file, os.path.join(FOLDER, name))
    except (OSError, ValueError):
        await refuse(send, 404)
        return
    file = File(fd)
    try:
        await start(
            send, 200, (b"content-type", b"video/mp4"), (b"content-length", str(size).encode())
        )
        at = 0
        while scope["method"] == "GET" and at < size:
            data = await file.read(min(PIECE, size - at), at)
            if not data:
                raise RuntimeError("the file has shrunk")
            await more(send, data)
            at += len(data)
        await end(send)
    finally:
        file.close()


async def report(scope, send):
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    asked = query.get("rows", ["1000"])[-1]
    if not re.fullmatch("[0-9]{1,18}", asked):
        await refuse(send, 422)
        return
    rows = int(asked)
    await start(send, 200, (b"content-type", b"text/csv; charset=utf-8"))
    await more(send, REPORT_HEAD.encode())
    first = 1
    while first <= rows:
        after = min(first + 200, rows + 1)
        await more(send, "".join(report_row(n) for n in range(first, after)).encode())
        first = after
        await asyncio.sleep(0)
    await end(send)


async def log(scope, send):
    try:
        fd = os.open(os.path.join(FOLDER, "river.log"), os.O_RDONLY)
    except OSError:
        await refuse(send, 404)
        return
    file, at = File(fd), 0
    try:
        await start(send, 200, (b"content-type", b"text/plain; charset=utf-8"))
        while True:
            # fstat takes a microsecond, unlike a trip to the pool: sixty clients look without one.
            if os.fstat(fd).st_size > at:
                data = await file.read(PIECE, at)
                await more(send, data)
                at += len(data)
            else:
                await asyncio.sleep(0.12)
    finally:
        file.close()


async def left(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path, method = scope["path"], scope["method"]
    if path.startswith("/stream-video/") and method in ("GET", "HEAD"):
        work = video(scope, send)
    elif path == "/report.csv" and method == "GET":
        work = report(scope, send)
    elif path == "/log" and method == "GET":
        work = log(scope, send)
    else:
        await refuse(send, 404)
        return
    task, watch = asyncio.create_task(work), asyncio.create_task(left(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (task, watch):
            each.cancel()
        results = await asyncio.gather(task, watch, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]
