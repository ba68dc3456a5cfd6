# READERS stalled: a client is given up after a minute
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
STALL_SECONDS = 60
GRACE_SECONDS = 4
DOWNLOADS = 100
RETRY_AFTER = 10
ACCEL_PREFIX = os.environ.get("ACCEL_PREFIX", "")
UNSENT = 64 * 1024

app = FastAPI()


class Guarded(H11Protocol):
    """uvicorn's protocol for one connection. The event loop calls its methods."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        # With 0, each byte that the kernel does not take pauses the writing. With the second one,
        # the kernel takes little ahead: else it takes megabytes, and a client that reads them
        # slowly looks like one that does not read.
        transport.set_write_buffer_limits(high=0)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self.head_clock = self.abort_after(HEAD_SECONDS)
        self.stall_clock: asyncio.TimerHandle | None = None

    def abort_after(self, seconds: float) -> asyncio.TimerHandle:
        """End the connection then. close() would first wait until the client has read the rest."""
        return self.loop.call_later(seconds, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self.head_clock.cancel()  # the head is whole
        elif self.head_clock.cancelled():
            self.head_clock = self.abort_after(HEAD_SECONDS)  # the next one has begun

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stall_clock = self.abort_after(STALL_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stall_clock:
            self.stall_clock.cancel()

    def connection_lost(self, error: Exception | None) -> None:
        self.head_clock.cancel()
        if self.stall_clock:
            self.stall_clock.cancel()
        super().connection_lost(error)


class Places:
    """Middleware around the whole app: it sees each request first, and the end of each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.taken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(FILES):
            await self.app(scope, receive, send)
        elif self.taken >= DOWNLOADS:
            headers = {"Retry-After": str(RETRY_AFTER)}
            refusal = PlainTextResponse("all places are taken\n", 503, headers)
            await refusal(scope, receive, send)
        else:
            self.taken += 1
            try:
                await self.app(scope, receive, send)
            finally:  # whichever way the answer ends, the place is free
                self.taken -= 1


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
    if ACCEL_PREFIX:
        # nginx decodes the path, and a header takes ASCII alone.
        where = {"X-Accel-Redirect": ACCEL_PREFIX + quote(name, safe="")}
        return Response(headers=where, media_type=kind)
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
    # uvicorn ends on SIGTERM, and then raises the signal again, for the handler that was there
    # before its own. Python's default handler would end the process with that signal.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    config = uvicorn.Config(
        app,
        http=Guarded,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
