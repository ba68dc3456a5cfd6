"""Starlette's FileResponse under uvicorn."""

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

ROOT = Path(os.environ["STREAMLAB_ROOT"])


async def file(request: Request) -> FileResponse:
    return FileResponse(ROOT / request.path_params["name"])


app = Starlette(routes=[Route("/{name}", file)])
