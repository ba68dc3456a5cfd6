# STRICT only-python: FileResponse as it is: 400 for what is malformed, int() for numbers
import os
from pathlib import Path

from fastapi import FastAPI, HTTPException
from starlette.responses import FileResponse

ROOT = Path(os.environ.get("STREAMLAB_ROOT", ".")).resolve()

app = FastAPI()


@app.api_route("/stream-video/{name:path}", methods=["GET", "HEAD"])
def stream_video(name: str):
    path = (ROOT / name).resolve()
    if not path.is_relative_to(ROOT) or not path.is_file():
        raise HTTPException(404)
    return FileResponse(path)
