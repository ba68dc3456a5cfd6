"""Films for the tests of the browser: `/ranges/NAME` with ranges, `/plain/NAME` without."""

import os
from functools import partial
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, StreamingResponse

ROOT = Path(os.environ["STREAMLAB_ROOT"])
app = FastAPI()
app.get("/ranges/{name}")(lambda name: FileResponse(ROOT / name))


@app.get("/plain/{name}")
def plain(name: str) -> StreamingResponse:
    return StreamingResponse(iter(partial((ROOT / name).open("rb").read, 65536), b""))
