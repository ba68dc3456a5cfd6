"""A download service, ready for production: `python server.py --root DIR --port 8000`."""

import argparse
import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import h11
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

CHUNK = 64 * 1024
FILES = "/files/"
HEAD_SECONDS = 3
STALL_SECONDS = 3
GRACE_SECONDS = 4
DOWNLOADS = 100
RETRY_AFTER = 10
ACCEL_PREFIX = os.environ.get("ACCEL_PREFIX", "")

app = FastAPI()


class Guarded(H11Protocol):
    """uvicorn's protocol for one connection. The event loop calls its methods."""

    # TODO: end a connection whose head does not end, and one whose client does not read


class Places:
    """Middleware around the whole app: it sees each request first, and the end of each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # TODO: let no more than DOWNLOADS downloads in at once
        await self.app(scope, receive, send)


app.add_middleware(Places)


async def chunks_of(path: Path, size: int) -> AsyncIterator[bytes]:
    """The first `size` bytes of a file."""
    with await run_in_threadpool(path.open, "rb") as file:
        while size > 0 and (chunk := await run_in_threadpool(file.read, min(CHUNK, size))):
            yield chunk
            size -= len(chunk)


@app.get("/health")
async def health() -> Response:
    """What a load balancer asks: whether this process answers."""
    return PlainTextResponse("ok\n")


@app.get(FILES + "{name}")
async def download(name: str, request: Request) -> Response:
    """A file of the root."""
    root: Path = request.app.state.root
    path = root / name
    if not os.path.isfile(path) or not path.resolve().is_relative_to(root):
        raise HTTPException(404, "no such file")
    kind = "application/octet-stream"
    # TODO: with ACCEL_PREFIX, leave the sending to nginx
    size = path.stat().st_size
    headers = {"Content-Length": str(size)}
    return StreamingResponse(chunks_of(path, size), headers=headers, media_type=kind)


def main() -> None:
    """Read the command line, listen, say where, and serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    app.state.root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    # TODO: end well on SIGTERM
    config = uvicorn.Config(app, http=Guarded, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
