# asynchronous files of anyio; the report row by row from an async generator

import asyncio
import os
from pathlib import Path
from typing import Annotated

import anyio
from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.responses import StreamingResponse

FOLDER = Path(os.environ.get("STREAMLAB_ROOT", "files")).resolve()
LOG = FOLDER / "river.log"
REPORT_HEAD = "number,square,cube\r\n"
CHUNK = 64 * 1024

app = FastAPI()


def report_row(number: int) -> str:
    return f"{number},{number**2},{number**3}\r\n"


async def chunks_of(path):
    async with await anyio.open_file(path, "rb") as file:
        while chunk := await file.read(256 * 1024):
            yield chunk


async def is_there(path):
    return os.path.isfile(path)


@app.get("/stream-video/{filename}")
async def stream_video(filename: str) -> Response:
    path = FOLDER / filename
    if not await is_there(path):
        raise HTTPException(status_code=404, detail="gone")
    size = (await anyio.Path(path).stat()).st_size
    return StreamingResponse(
        chunks_of(path), media_type="video/mp4", headers={"Content-Length": str(size)}
    )


@app.head("/stream-video/{filename}")
async def video_head(filename: str) -> Response:
    path = FOLDER / filename
    if not await is_there(path):
        raise HTTPException(status_code=404)
    response = Response(media_type="video/mp4")
    response.headers["Content-Length"] = str((await anyio.Path(path).stat()).st_size)
    return response


async def rows_of(rows):
    yield REPORT_HEAD
    for number in range(1, rows + 1):
        yield report_row(number)
        if number % 20 == 0:
            await asyncio.sleep(0)


@app.get("/report.csv")
async def report(rows: Annotated[int, Query(ge=0)] = 1000) -> Response:
    return StreamingResponse(rows_of(rows), media_type="text/csv")


async def follow():
    async with await anyio.open_file(LOG, "rb") as file:
        while True:
            line = await file.readline()
            if not line:
                await anyio.sleep(0.25)
                continue
            yield line


@app.get("/log")
async def log() -> Response:
    return StreamingResponse(follow(), media_type="text/plain")
