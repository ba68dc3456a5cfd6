"""The server of `streaming`, with what waits for a client chosen by `KEEPER`."""

import os
from pathlib import Path

from streamlab.serve import AsyncResponse, Response, serve_files, serve_files_async


def send(path: Path, response: Response) -> None:
    if path.name == "bad":
        raise ValueError("muddy")
    response.start(path.stat().st_size)
    with path.open("rb") as file:
        while piece := file.read(64 * 1024):
            response.write(piece)


async def send_async(path: Path, response: AsyncResponse) -> None:
    if path.name == "bad":
        raise ValueError("muddy")
    response.start(path.stat().st_size)
    with path.open("rb") as file:
        while piece := file.read(64 * 1024):
            response.write(piece)
            if "DRAIN" not in os.environ:
                await response.drain()


SEND_BUFFER = int(os.environ.get("SEND_BUFFER", 0)) or None

match os.environ["KEEPER"]:
    case "loop":
        serve_files_async(send_async, send_buffer=SEND_BUFFER)
    case "process":
        serve_files(send, processes=True)
    case "pool":
        serve_files(send, threads=2, send_buffer=SEND_BUFFER)
