# an ASGI app without a framework, in one function for each route

import asyncio
import os
from pathlib import Path
from urllib.parse import parse_qs

FOLDER = Path(os.environ["STREAMLAB_ROOT"]).resolve()
CHUNK = 64 * 1024


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    path = scope["path"]
    if path.startswith("/stream-video/"):
        answer = video(path.removeprefix("/stream-video/"), scope["method"], send)
    elif path == "/report.csv":
        answer = report(parse_qs(scope["query_string"].decode(), keep_blank_values=True), send)
    elif path == "/log":
        answer = log(send)
    else:
        answer = refuse(send)
    await while_here(receive, answer)


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def while_here(receive, answer):
    """Answer until that is done, or the client has left."""

    async def leave():
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.create_task(answer), asyncio.create_task(leave())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def start(send, kind, *headers, status=200):
    headers = [(b"content-type", kind), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def body(send, chunk, more=True):
    await send({"type": "http.response.body", "body": chunk, "more_body": more})


async def refuse(send, status=404):
    await start(send, b"text/plain", (b"content-length", b"3"), status=status)
    await body(send, b"no\n", more=False)


async def video(name, method, send):
    path = FOLDER if "\0" in name else (FOLDER / name).resolve()
    if not path.is_relative_to(FOLDER) or not os.path.isfile(path):
        await refuse(send)
        return
    size = path.stat().st_size
    await start(send, b"video/mp4", (b"content-length", str(size).encode()))
    if method == "GET":
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                await body(send, chunk)
    await body(send, b"", more=False)


async def report(query, send):
    rows = query.get("rows", ["1000"])[0]
    if not rows.isdecimal() or len(rows) > 18:
        await refuse(send, 400)
        return
    await start(send, b"text/csv; charset=utf-8")
    await body(send, b"number,square,cube\r\n")
    for first in range(1, int(rows) + 1, 200):
        numbers = range(first, min(first + 200, int(rows) + 1))
        lines = "".join(f"{n},{n * n},{n * n * n}\r\n" for n in numbers)
        await body(send, lines.encode())
        await asyncio.sleep(0)
    await body(send, b"", more=False)


async def log(send):
    await start(send, b"text/plain")
    with (FOLDER / "river.log").open("rb") as file:
        while True:
            if chunk := file.read(CHUNK):
                await body(send, chunk)
            else:
                await asyncio.sleep(0.1)
