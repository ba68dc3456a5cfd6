"""An ASGI app that knows its folder and what is set on the connections of its process."""

import os
import socket
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

app = FastAPI()
root = Path(os.environ["STREAMLAB_ROOT"])


@app.get("/nodelay")
def nodelay() -> list[bool]:
    """Whether TCP_NODELAY is set, for each connection that this process has accepted."""
    found = []
    for descriptor in range(3, 256):
        try:
            copy = socket.socket(fileno=os.dup(descriptor))
        except OSError:
            continue
        with copy:
            try:
                copy.getpeername()
            except OSError:
                continue
            if copy.family == socket.AF_INET:
                found.append(bool(copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
    return found


@app.get("/pid")
def pid() -> int:
    return os.getpid()


@app.get("/root")
def folder() -> str:
    return os.environ["STREAMLAB_ROOT"]


@app.get("/{name}")
def file(name: str) -> FileResponse:
    return FileResponse(root / name)
