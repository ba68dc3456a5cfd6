"""An app that takes uploads, each path in its own way, and writes what it does to its log."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("STREAMLAB_ROOT", "."))


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    way = scope["path"].split("/")[1]
    if way == "refuse":
        await answer(send, 413)
        return
    if way == "whole":
        data = b"".join([piece async for piece in pieces(receive)])
        print(f"has {len(data)}", flush=True)
    elif way == "hang":
        async for piece in pieces(receive):
            print(f"has {len(piece)}", flush=True)
            await asyncio.sleep(600)
    elif way == "file":
        print("begins", flush=True)
        with (ROOT / "came.bin").open("wb", buffering=0) as file:
            async for piece in pieces(receive):
                file.write(piece)
        print("ends", flush=True)
    await answer(send, 200)


async def pieces(receive: Any) -> Any:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            print("the client left", flush=True)
            return
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


async def answer(send: Any, status: int) -> None:
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
