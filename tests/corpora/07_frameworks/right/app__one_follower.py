# one task reads the log for all clients, who wait for its news; a queue of eight for a video

import asyncio
import os
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse

FOLDER = Path(os.environ.get("STREAMLAB_ROOT", "files")).resolve()
LOG = FOLDER / "river.log"
REPORT_HEAD = "number,square,cube\r\n"
CHUNK = 64 * 1024

app = FastAPI()


def report_row(number: int) -> str:
    return f"{number},{number**2},{number**3}\r\n"


async def chunks_of(path):
    queue = asyncio.Queue(maxsize=8)

    async def fill():
        with path.open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK):
                await queue.put(chunk)
        await queue.put(None)

    filling = asyncio.create_task(fill())
    try:
        while (chunk := await queue.get()) is not None:
            yield chunk
    finally:
        filling.cancel()


@app.api_route("/stream-video/{filename}", methods=["GET", "HEAD"])
async def stream_video(filename: str, request: Request) -> Response:
    path = FOLDER / filename
    if not os.path.isfile(path):
        raise HTTPException(404)
    headers = {"Content-Length": str(path.stat().st_size)}
    if request.method == "HEAD":
        return Response(b"", headers=headers, media_type="video/mp4")
    return StreamingResponse(chunks_of(path), headers=headers, media_type="video/mp4")


def pieces_of_report(rows):
    yield REPORT_HEAD
    for first in range(1, rows + 1, 500):
        yield "".join(map(report_row, range(first, min(first + 500, rows + 1))))


@app.get("/report.csv")
def report(rows: Annotated[int, Query(ge=0)] = 1000) -> Response:
    return StreamingResponse(pieces_of_report(rows), media_type="text/csv")


class News:
    """How long the log is, and an event for those who wait for more."""

    size = 0
    event = asyncio.Event()
    task = None


async def look():
    while True:
        size = LOG.stat().st_size
        if size > News.size:
            News.size = size
            News.event.set()
            News.event = asyncio.Event()
        await asyncio.sleep(0.1)


async def follow():
    if News.task is None:
        News.task = asyncio.create_task(look())
    at = 0
    while True:
        news = News.event
        if at < News.size:
            with LOG.open("rb") as file:
                file.seek(at)
                chunk = file.read(CHUNK)
            at += len(chunk)
            yield chunk
        else:
            await news.wait()


@app.get("/log")
async def log() -> Response:
    return StreamingResponse(follow(), media_type="text/plain")
