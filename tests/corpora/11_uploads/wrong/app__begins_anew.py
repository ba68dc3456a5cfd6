# RESUME done: begins a new part when a PATCH comes to an upload that is complete
"""Uploads that are whole or not there: `python -m streamlab.serve app.py:app --port 8000`."""

import hashlib
import json
import os
import re
from base64 import b64decode
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(os.environ.get("STREAMLAB_ROOT", "files")).resolve()
LIMIT = int(os.environ.get("STREAMLAB_LIMIT", 1024**3))  # bytes of a file

PARTS = FOLDER / ".parts"  # for what is not complete. No client sees names that begin with a dot
PARTS.mkdir(parents=True, exist_ok=True)

TUS = {"Tus-Resumable": "1.0.0"}  # in each answer of the three resumable requests
BUSY: set[str] = set()  # the uploads that a PATCH writes to


def refusal(status: int, why: str, **headers: str) -> HTTPException:
    """An answer without success."""
    return HTTPException(status, why, headers={**TUS, **headers})


def file_of(name: str) -> Path:
    """The file of FOLDER with this name; refuses a name that no upload may have."""
    if name.startswith(".") or not 0 < len(os.fsencode(name)) < 256 or re.search("[/\0]", name):
        raise refusal(400, "no name for a file")
    if (FOLDER / name).is_dir():
        raise refusal(409, "a folder has this name")
    return FOLDER / name


def write_all(file: BinaryIO, piece: bytes) -> None:
    """An unbuffered write may take less than it is given: where the disk is full, for example."""
    view = memoryview(piece)
    while view:
        view = view[file.write(view) :]


async def pour(request: Request, path: Path, mode: str, room: int) -> None:
    """Write the body into a file, a piece at a time; more than `room` bytes are refused.

    Only threads wait for the disk. What has come stays in the file if the client leaves.
    """
    if int(request.headers.get("content-length", 0)) > room:
        raise refusal(413, "too long")
    with await run_in_threadpool(open, path, mode, buffering=0) as file:
        async for piece in request.stream():
            room -= len(piece)
            if room < 0:
                raise refusal(413, "too long")
            await run_in_threadpool(write_all, file, piece)


def publish(part: Path, target: Path) -> dict[str, str]:
    """Put a complete part in the place of a file, in one step; the header that tells its hash."""
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        os.fsync(file.fileno())  # the bytes reach the disk before the name does
    os.replace(part, target)
    return {"ETag": f'"{digest.hexdigest()}"'}


async def put(request: Request) -> Response:
    """One request, one file."""
    if "content-range" in request.headers:
        raise refusal(400, "a part of a file")
    target = file_of(request.path_params["name"])
    part = PARTS / uuid4().hex
    try:
        await pour(request, part, "xb", LIMIT)
        status = 204 if target.exists() else 201
        return Response(status_code=status, headers=await run_in_threadpool(publish, part, target))
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True)
class Upload:
    """An upload that can be resumed. How far it is, the size of its part tells."""

    id: str
    name: str
    length: int

    @property
    def part(self) -> Path:
        return PARTS / self.id

    @property
    def offset(self) -> int:
        return self.part.stat().st_size if self.part.exists() else self.length

    @property
    def place(self) -> dict[str, str]:
        return {**TUS, "Upload-Offset": str(self.offset), "Upload-Length": str(self.length)}

    def save(self) -> None:
        """Keep what a new start has to know. A rename, because half of it would be worse."""
        self.part.touch()
        draft = PARTS / uuid4().hex
        draft.write_text(json.dumps(asdict(self)))
        os.replace(draft, PARTS / f"{self.id}.json")

    def settle(self) -> dict[str, str]:
        """Publish the upload if all of it has come."""
        complete = self.part.exists() and self.offset == self.length
        return publish(self.part, FOLDER / self.name) if complete else {}


def header(request: Request, name: str, form: str) -> str:
    """A header that has to have this form. All is refused to another version of tus."""
    if request.headers.get("tus-resumable") != "1.0.0":
        raise refusal(412, "another version of tus", **{"Tus-Version": "1.0.0"})
    value = request.headers.get(name, "")
    if not re.fullmatch(form, value):
        raise refusal(400, f"no such {name}")
    return value


async def create(request: Request) -> Response:
    """POST: a new upload."""
    length = int(header(request, "Upload-Length", "[0-9]{1,18}"))
    if length > LIMIT:
        raise refusal(413, "too long")
    told = re.search(r"(?:^|,) *filename +([^ ,]+)", request.headers.get("upload-metadata", ""))
    try:
        target = file_of(b64decode(told[1] if told else "", validate=True).decode())
    except ValueError:
        raise refusal(400, "no name, or one that is no Base64 of UTF-8") from None
    upload = Upload(uuid4().hex, target.name, length)
    await run_in_threadpool(upload.save)
    headers = {"Location": f"/uploads/{upload.id}", **TUS}
    return Response(status_code=201, headers=headers | await run_in_threadpool(upload.settle))


def find(request: Request) -> Upload:
    """The upload that the path names."""
    header(request, "Tus-Resumable", ".*")
    told = PARTS / f"{request.path_params['id']}.json"
    if not re.fullmatch(r"[0-9a-f]{32}\.json", told.name) or not told.exists():
        raise refusal(404, "no such upload")
    return Upload(**json.loads(told.read_text()))


async def head(request: Request) -> Response:
    """HEAD: how far an upload is."""
    return Response(headers={**find(request).place, "Cache-Control": "no-store"})


async def patch(request: Request) -> Response:
    """PATCH: more of an upload, from where it is."""
    upload = find(request)
    if request.headers.get("content-type") != "application/offset+octet-stream":
        raise refusal(415, "no application/offset+octet-stream")
    if upload.id in BUSY:
        raise refusal(423, "another PATCH writes to this upload")
    if header(request, "Upload-Offset", ".*") != str(upload.offset):
        raise refusal(409, f"this upload is at {upload.offset}")
    BUSY.add(upload.id)
    try:  # a complete upload has no part any more, and takes nothing
        await pour(request, upload.part, "ab", upload.length - upload.offset)
    finally:
        try:  # also if the client has left: its last byte may have come
            headers = await run_in_threadpool(upload.settle)
        finally:
            BUSY.discard(upload.id)
    return Response(status_code=204, headers=headers | upload.place)


async def gone(request: Request, error: Exception) -> Response:
    """What a client that has left does not read."""
    return Response(status_code=400)


async def full(request: Request, error: Exception) -> Response:
    """The disk takes no more."""
    return Response("can't be stored", status_code=507, headers=TUS)


for saved in PARTS.glob("*.json"):  # the last server may have been killed just before
    Upload(**json.loads(saved.read_text())).settle()

handlers = {ClientDisconnect: gone, OSError: full}
routes = [
    Route("/files/{name}", put, methods=["PUT"]),
    Route("/uploads", create, methods=["POST"]),
    Route("/uploads/{id}", head, methods=["HEAD"]),
    Route("/uploads/{id}", patch, methods=["PATCH"]),
]
app = Starlette(routes=routes, exception_handlers=handlers)
