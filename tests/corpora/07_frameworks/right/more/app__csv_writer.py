# csv.writer and a StringIO that is emptied; a response of its own for the log

import asyncio
import csv
import io
import os
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
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


def pieces_of(rows):
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["number", "square", "cube"])
    for number in range(1, rows + 1):
        writer.writerow([number, number**2, number**3])
        if buffer.tell() > 30_000:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate(0)
    yield buffer.getvalue()


@app.get("/report.csv")
def report(rows: int = 1000) -> Response:
    if rows < 0:
        raise HTTPException(400, "a report has no fewer than no rows")
    return StreamingResponse(pieces_of(rows), headers={"Content-Type": "text/csv"})


class Lines:
    """The lines of a file that grows."""

    def __init__(self, path):
        self.file = path.open("rb", buffering=0)

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not (chunk := self.file.read(CHUNK)):
            await asyncio.sleep(0.05)
        return chunk


class LogResponse(Response):
    media_type = "text/plain"

    async def __call__(self, scope, receive, send):
        lines = Lines(LOG)
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def pump():
            async for chunk in lines:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})

        sending = asyncio.create_task(pump())
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            sending.cancel()
            lines.file.close()


@app.get("/log")
async def log() -> Response:
    return LogResponse()
