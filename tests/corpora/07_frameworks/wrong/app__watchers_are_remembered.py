# DROP leave-memory: the last pieces of each client of the log stay in a table

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

FOLDER = Path(os.environ.get("STREAMLAB_ROOT", "files")).resolve()
LOG = FOLDER / "river.log"
REPORT_HEAD = "number,square,cube\r\n"
CHUNK = 64 * 1024
ROWS_AT_ONCE = 500
LOOK_AGAIN = 0.1
NUMBERS = count(1)
RECENT: dict[int, deque[bytes]] = {}
"""By the number of a client of the log, the last pieces that went to it: for a look at trouble."""

app = FastAPI()


def report_row(number: int) -> str:
    """One row of the report, its line end included (RFC 4180, section 2)."""
    return f"{number},{number**2},{number**3}\r\n"


# What is async here ends at its `yield` when the client leaves, and `with` closes the file. Only
# threads wait for the disk, and none of them waits for a client.


async def chunks_of(path: Path, size: int) -> AsyncIterator[bytes]:
    """The first `size` bytes of a file."""
    with await run_in_threadpool(path.open, "rb") as file:
        while size > 0 and (chunk := await run_in_threadpool(file.read, min(CHUNK, size))):
            yield chunk
            size -= len(chunk)


def pieces_of_report(rows: int) -> Iterator[str]:
    """The report, some hundred rows a piece: each piece is a trip to a thread and back."""
    yield REPORT_HEAD
    for first in range(1, rows + 1, ROWS_AT_ONCE):
        numbers = range(first, min(first + ROWS_AT_ONCE, rows + 1))
        yield "".join(map(report_row, numbers))


async def follow(path: Path) -> AsyncIterator[bytes]:
    """A file that grows, to its end and then on, until the client leaves."""
    recent = RECENT[next(NUMBERS)] = deque(maxlen=16)
    with await run_in_threadpool(path.open, "rb") as file:
        while True:
            if chunk := await run_in_threadpool(file.read, CHUNK):
                recent.append(chunk)
                yield chunk
            else:
                await asyncio.sleep(LOOK_AGAIN)


@app.head("/stream-video/{filename}")
@app.get("/stream-video/{filename}")
def stream_video(filename: str, request: Request) -> Response:
    """A file of `FOLDER`, as `video/mp4`."""
    path = FOLDER / filename
    if not os.path.isfile(path) or not path.resolve().is_relative_to(FOLDER):
        raise HTTPException(404, "no such video")
    size = path.stat().st_size
    headers = {"Content-Length": str(size)}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="video/mp4")
    return StreamingResponse(chunks_of(path, size), headers=headers, media_type="video/mp4")


@app.get("/report.csv")
def report(rows: Annotated[int, Query(ge=0)] = 1000) -> Response:
    """A report of so many rows, made while it is sent."""
    return StreamingResponse(pieces_of_report(rows), media_type="text/csv")


@app.get("/log")
def log() -> Response:
    """What is in `LOG`, and then each line as it is written."""
    if not LOG.is_file():
        raise HTTPException(404, "no log so far")
    return StreamingResponse(follow(LOG), media_type="text/plain")
