# Starlette alone, with a reader thread and a queue of four

import asyncio
import os
import queue as queue_module
import threading
from contextlib import suppress
from pathlib import Path

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.routing import Route

FOLDER = Path(os.environ.get("STREAMLAB_ROOT", "files")).resolve()
LOG = FOLDER / "river.log"
REPORT_HEAD = "number,square,cube\r\n"
CHUNK = 64 * 1024


def report_row(number: int) -> str:
    return f"{number},{number**2},{number**3}\r\n"


def put(queue, stop, chunk):
    while not stop.is_set():
        with suppress(queue_module.Full):
            queue.put(chunk, timeout=0.2)
            return


def read_file(path, queue, stop):
    with path.open("rb") as file:
        while not stop.is_set():
            chunk = file.read(CHUNK)
            put(queue, stop, chunk)
            if not chunk:
                return


async def chunks_of(path):
    queue, stop = queue_module.Queue(4), threading.Event()
    threading.Thread(target=read_file, args=(path, queue, stop), daemon=True).start()
    try:
        while True:
            try:
                chunk = queue.get_nowait()
            except queue_module.Empty:
                await asyncio.sleep(0.002)
                continue
            if not chunk:
                return
            yield chunk
    finally:
        stop.set()


def stream_video(request: Request) -> Response:
    path = FOLDER / request.path_params["filename"]
    if not os.path.isfile(path):
        return Response("gone", status_code=404)
    headers = {"Content-Length": str(path.stat().st_size)}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="video/mp4")
    return StreamingResponse(chunks_of(path), headers=headers, media_type="video/mp4")


def pieces_of_report(rows):
    yield REPORT_HEAD
    for first in range(1, rows + 1, 500):
        yield "".join(map(report_row, range(first, min(first + 500, rows + 1))))


def report(request: Request) -> Response:
    rows = request.query_params.get("rows", "1000")
    if not rows.isdecimal() or len(rows) > 18:
        return Response("how many?", status_code=400)
    return StreamingResponse(pieces_of_report(int(rows)), media_type="text/csv")


async def follow(path):
    with path.open("rb") as file:
        while True:
            if chunk := await run_in_threadpool(file.read, CHUNK):
                yield chunk
            else:
                await asyncio.sleep(0.1)


def log(request: Request) -> Response:
    return StreamingResponse(follow(LOG), media_type="text/plain")


app = Starlette(
    routes=[
        Route("/stream-video/{filename}", stream_video),
        Route("/report.csv", report),
        Route("/log", log),
    ]
)
