# HOLD large: StreamingResponse takes an open file by lines; a film of zeros is one line

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


class Closing(StreamingResponse):
    async def __call__(self, scope, receive, send):
        with self.file:
            await super().__call__(scope, receive, send)


@app.api_route("/stream-video/{filename}", methods=["GET", "HEAD"])
def stream_video(filename: str, request: Request) -> Response:
    path = FOLDER / filename
    if not os.path.isfile(path):
        raise HTTPException(404)
    headers = {"Content-Length": str(path.stat().st_size)}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="video/mp4")
    file = path.open("rb")
    response = Closing(file, headers=headers, media_type="video/mp4")
    response.file = file
    return response


def pieces_of_report(rows):
    yield REPORT_HEAD
    for first in range(1, rows + 1, 500):
        yield "".join(map(report_row, range(first, min(first + 500, rows + 1))))


@app.get("/report.csv")
def report(rows: Annotated[int, Query(ge=0)] = 1000) -> Response:
    return StreamingResponse(pieces_of_report(rows), media_type="text/csv")


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
