# plain generators, whose files the response closes; small chunks, as in the chapter

import asyncio
import os
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.responses import StreamingResponse

FOLDER = Path(os.environ.get("STREAMLAB_ROOT", "files")).resolve()
LOG = FOLDER / "river.log"
REPORT_HEAD = "number,square,cube\r\n"
CHUNK = 64 * 1024

app = FastAPI()


def report_row(number: int) -> str:
    return f"{number},{number**2},{number**3}\r\n"


class ClosingResponse(StreamingResponse):
    """A streamed response that closes its source, however it ends."""

    def __init__(self, source, chunks, **options):
        super().__init__(chunks, **options)
        self.source = source

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.source.close()


def chunks_of(file):
    while chunk := file.read(8 * 1024):
        yield chunk


@app.head("/stream-video/{filename}")
def video_head(filename: str) -> Response:
    size = find(filename).stat().st_size
    return Response(headers={"Content-Length": str(size)}, media_type="video/mp4")


def find(filename):
    path = FOLDER / filename
    if not os.path.isfile(path):
        raise HTTPException(404)
    return path


@app.get("/stream-video/{filename}")
def stream_video(filename: str) -> Response:
    file = find(filename).open("rb")
    size = os.fstat(file.fileno()).st_size
    headers = {"content-length": str(size)}
    return ClosingResponse(file, chunks_of(file), headers=headers, media_type="video/mp4")


def pieces_of_report(rows):
    yield REPORT_HEAD
    for first in range(1, rows + 1, 500):
        yield "".join(map(report_row, range(first, min(first + 500, rows + 1))))


@app.get("/report.csv")
def report(rows: Annotated[int, Query(ge=0)] = 1000) -> Response:
    return StreamingResponse(pieces_of_report(rows), media_type="text/csv")


async def lines_of(file):
    while True:
        if line := file.readline():
            yield line
        else:
            await asyncio.sleep(0.2)


@app.get("/log")
async def log() -> Response:
    file = LOG.open("rb")
    return ClosingResponse(file, lines_of(file), media_type="text/plain")
