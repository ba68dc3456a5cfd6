"""Three things that stream: `python -m streamlab.serve app.py:app --port 8000`."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

FOLDER = Path(os.environ.get("STREAMLAB_ROOT", "files")).resolve()
LOG = FOLDER / "river.log"
REPORT_HEAD = "number,square,cube\r\n"

app = FastAPI()


def report_row(number: int) -> str:
    """One row of the report, its line end included (RFC 4180, section 2)."""
    return f"{number},{number**2},{number**3}\r\n"


@app.get("/stream-video/{filename}")
def stream_video(filename: str, request: Request) -> Response:
    """A file of `FOLDER`, as `video/mp4`."""
    # TODO: send the file in pieces, and nothing from outside of `FOLDER`
    raise HTTPException(501, "not written yet")


@app.get("/report.csv")
def report(rows: Annotated[int, Query(ge=0)] = 1000) -> Response:
    """A report of so many rows, made while it is sent."""
    # TODO: send the rows while they are made
    raise HTTPException(501, "not written yet")


@app.get("/log")
def log() -> Response:
    """What is in `LOG`, and then each line as it is written."""
    # TODO: send what is there, then each new line, until the client leaves
    raise HTTPException(501, "not written yet")
