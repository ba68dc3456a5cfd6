"""Uploads that are whole or not there: `python -m streamlab.serve app.py:app --port 8000`."""

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(os.environ.get("STREAMLAB_ROOT", "files")).resolve()
LIMIT = int(os.environ.get("STREAMLAB_LIMIT", 1024**3))  # bytes of a file

PARTS = FOLDER / ".parts"  # for what is not complete. No client sees names that begin with a dot
PARTS.mkdir(parents=True, exist_ok=True)

TUS = {"Tus-Resumable": "1.0.0"}  # in each answer of the three resumable requests


async def put(request: Request) -> Response:
    """PUT: one request, one file."""
    # TODO: into a part in PARTS, a piece at a time, and from there to its name in one step
    raise HTTPException(501)


async def create(request: Request) -> Response:
    """POST: a new upload."""
    # TODO: remember its name and its length, also for the next start of this program
    raise HTTPException(501, headers=TUS)


async def head(request: Request) -> Response:
    """HEAD: how far an upload is."""
    # TODO: how many of its bytes are there?
    raise HTTPException(501, headers=TUS)


async def patch(request: Request) -> Response:
    """PATCH: more of an upload, from where it is."""
    # TODO: append what comes; after the last byte the file gets its name
    raise HTTPException(501, headers=TUS)
routes = [
    Route("/files/{name}", put, methods=["PUT"]),
    Route("/uploads", create, methods=["POST"]),
    Route("/uploads/{id}", head, methods=["HEAD"]),
    Route("/uploads/{id}", patch, methods=["PATCH"]),
]
app = Starlette(routes=routes)
