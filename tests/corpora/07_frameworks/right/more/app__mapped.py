# slices of a map; the log opened anew each time

import asyncio
import mmap
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


async def slices_of(path, size):
    if size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for at in range(0, size, CHUNK):
            yield await run_in_threadpool(mapped.__getitem__, slice(at, at + CHUNK))


@app.api_route("/stream-video/{filename}", methods=["GET", "HEAD"])
def stream_video(filename: str, request: Request) -> Response:
    path = FOLDER / filename
    if not os.path.isfile(path):
        raise HTTPException(404)
    size = path.stat().st_size
    headers = {"Content-Length": str(size)}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="video/mp4")
    return StreamingResponse(slices_of(path, size), headers=headers, media_type="video/mp4")


def pieces_of_report(rows):
    yield REPORT_HEAD
    for first in range(1, rows + 1, 500):
        yield "".join(map(report_row, range(first, min(first + 500, rows + 1))))


@app.get("/report.csv")
def report(rows: Annotated[int, Query(ge=0)] = 1000) -> Response:
    return StreamingResponse(pieces_of_report(rows), media_type="text/csv")


def read_from(at):
    with LOG.open("rb") as file:
        file.seek(at)
        return file.read(CHUNK)


async def follow():
    at = 0
    while True:
        chunk = await run_in_threadpool(read_from, at)
        at += len(chunk)
        if chunk:
            yield chunk
        else:
            await asyncio.sleep(0.1)


@app.get("/log")
def log() -> Response:
    return StreamingResponse(follow(), media_type="text/plain")
