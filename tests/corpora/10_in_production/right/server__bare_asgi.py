# No framework: one function is the app, and uvicorn is told to end without its signal.
"""A download service, ready for production: `python server.py --root DIR --port 8000`."""

import argparse
import asyncio
import os
import socket
import time
from email.utils import formatdate
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import h11
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

CHUNK = 64 * 1024
FILES = "/files/"
HEAD_SECONDS = 3
STALL_SECONDS = 3
GRACE_SECONDS = 4
DOWNLOADS = 100
RETRY_AFTER = 10
ACCEL_PREFIX = os.environ.get("ACCEL_PREFIX", "")
UNSENT = 64 * 1024

ROOT = Path()


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


async def answer(send: Send, status: int, headers: dict[str, str], body: bytes = b"") -> None:
    """A small answer, whole."""
    every = {"Content-Length": str(len(body)), **headers}
    lines = [(name.encode(), value.encode()) for name, value in every.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


def found(name: str) -> Path | None:
    """The file of that name; None if there is none."""
    path = ROOT / name
    inside = "\0" not in name and os.path.isfile(path) and path.resolve().is_relative_to(ROOT)
    return path if inside else None


async def pour(path: Path, send: Send, gone: asyncio.Event) -> None:
    """A file in chunks, until its client has left."""
    with path.open("rb") as file:
        length = str(os.fstat(file.fileno()).st_size).encode()
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while not gone.is_set() and (chunk := await asyncio.to_thread(file.read, CHUNK)):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not gone.is_set():
            await send({"type": "http.response.body"})


taken = 0


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request."""
    global taken
    name = scope["path"].removeprefix(FILES)
    if scope["path"] == "/health":
        await answer(send, 200, {}, b"ok\n")
    elif name == scope["path"] or scope["method"] != "GET" or not (path := found(name)):
        await answer(send, 404, {}, b"no such file\n")
    elif ACCEL_PREFIX:
        await answer(send, 200, {"X-Accel-Redirect": ACCEL_PREFIX + quote(name)})
    elif taken >= DOWNLOADS:
        when = formatdate(time.time() + RETRY_AFTER, usegmt=True)
        await answer(send, 503, {"Retry-After": when})
    else:
        taken += 1
        gone = asyncio.Event()
        watching = asyncio.create_task(watch(receive, gone))
        try:
            await pour(path, send, gone)
        finally:
            watching.cancel()
            taken -= 1


async def watch(receive: Receive, gone: asyncio.Event) -> None:
    """Notice when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


class Ending(uvicorn.Server):
    """uvicorn, which does not raise the signal again that it was ended by."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True


def main() -> None:
    """Read the command line, listen, say where, and serve until SIGTERM."""
    global ROOT
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    ROOT = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app,
        lifespan="off",
        http=Guarded,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    Ending(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
