# a report that is compressed on the way, for those who accept that

import asyncio
import os
import zlib
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
    yield REPORT_HEAD.encode()
    for first in range(1, rows + 1, 500):
        numbers = range(first, min(first + 500, rows + 1))
        yield "".join(map(report_row, numbers)).encode()


def compressed(pieces):
    packer = zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


@app.get("/report.csv")
def report(request: Request, rows: Annotated[int, Query(ge=0)] = 1000) -> Response:
    pieces = pieces_of_report(rows)
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return StreamingResponse(pieces, media_type="text/csv")
    headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return StreamingResponse(compressed(pieces), media_type="text/csv", headers=headers)


async def follow(path):
    with await run_in_threadpool(path.open, "rb") as file:
        while True:
            if chunk := await run_in_threadpool(file.read, CHUNK):
                yield chunk
            else:
                await asyncio.sleep(0.1)


@app.get("/log")
def log() -> Response:
    return StreamingResponse(follow(LOG), media_type="text/plain")
