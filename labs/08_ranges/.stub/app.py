"""Videos that can be asked for in parts: `python -m streamlab.serve app.py:app --port 0`."""

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from email.utils import formatdate
from mimetypes import guess_type
from pathlib import Path
from typing import BinaryIO

from fastapi import FastAPI, HTTPException, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

ROOT = Path(os.environ.get("STREAMLAB_ROOT", ".")).resolve()
CHUNK = 256 * 1024

app = FastAPI()


class Pouring(StreamingResponse):
    """An answer that closes its file, however it ends."""

    def __init__(
        self, file: BinaryIO, pieces: Iterable[bytes], status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(pieces, status, headers)
        self.file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.file.close()


def find_file(name: str) -> Path | None:
    """The file of that name, if there is one and it lies under the root."""
    if "\0" in name:
        return None
    path = (ROOT / name).resolve()
    return path if path.is_relative_to(ROOT) and path.is_file() else None


def pour(file: BinaryIO, part: range) -> Iterator[bytes]:
    """The bytes of `part`, such as `range(0, size)`, a chunk at a time."""
    file.seek(part.start)
    left = len(part)
    while left > 0 and (chunk := file.read(min(CHUNK, left))):
        left -= len(chunk)
        yield chunk


@app.api_route("/stream-video/{name:path}", methods=["GET", "HEAD"])
def stream_video(name: str, request: Request) -> Response:
    """Answer with the file, or with the parts of it that the request asks for."""
    path = find_file(name)
    if path is None:
        raise HTTPException(404, "no such video")
    file = path.open("rb")
    about = os.fstat(file.fileno())
    size = about.st_size
    headers = {
        "Content-Type": guess_type(path.name)[0] or "application/octet-stream",
    }
    # TODO: answer `Range` and the conditions, and give the file a tag and a date
    headers["Content-Length"] = str(size)
    body = pour(file, range(size)) if request.method == "GET" else []
    return Pouring(file, body, 200, headers)
