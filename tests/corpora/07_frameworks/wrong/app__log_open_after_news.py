# DROP leave-log: closes the log only if its client leaves without news

import asyncio
import os
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

FOLDER = Path(os.environ.get("STREAMLAB_ROOT", "files")).resolve()
LOG = FOLDER / "river.log"
REPORT_HEAD = "number,square,cube\r\n"
CHUNK = 64 * 1024

app = FastAPI()


def report_row(number: int) -> str:
    return f"{number},{number**2},{number**3}\r\n"


async def chunks_of(path, size):
    with await run_in_threadpool(path.open, "rb") as file:
        while size > 0 and (chunk := await run_in_threadpool(file.read, min(CHUNK, size))):
            yield chunk
            size -= len(chunk)


def find(filename):
    path = FOLDER / filename
    if not os.path.isfile(path) or not path.resolve().is_relative_to(FOLDER):
        raise HTTPException(404, "no such video")
    return path


@app.head("/stream-video/{filename}")
@app.get("/stream-video/{filename}")
def stream_video(filename: str, request: Request) -> Response:
    path = find(filename)
    size = path.stat().st_size
    headers = {"Content-Length": str(size)}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="video/mp4")
    return StreamingResponse(chunks_of(path, size), headers=headers, media_type="video/mp4")


def pieces_of_report(rows):
    yield REPORT_HEAD
    for first in range(1, rows + 1, 500):
        yield "".join(map(report_row, range(first, min(first + 500, rows + 1))))


@app.get("/report.csv")
def report(rows: Annotated[int, Query(ge=0)] = 1000) -> Response:
    return StreamingResponse(pieces_of_report(rows), media_type="text/csv")


opened = set()


async def follow(path):
    file = await run_in_threadpool(path.open, "rb")
    opened.add(file)
    try:
        while True:
            while chunk := await run_in_threadpool(file.read, CHUNK):
                yield chunk
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        if not file.read(1):  # nothing is left to send
            opened.remove(file)
            file.close()
        raise


@app.get("/log")
def log() -> Response:
    return StreamingResponse(follow(LOG), media_type="text/plain")
