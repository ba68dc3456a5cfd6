# FastAPI and anyio's files, a database for the uploads, and one lock for each of them.

import hashlib
import os
import sqlite3
from collections import defaultdict
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

import anyio
from fastapi import FastAPI, Header, HTTPException, Request, Response
from starlette.requests import ClientDisconnect

FOLDER = Path(os.environ["STREAMLAB_ROOT"])
LIMIT = int(os.environ.get("STREAMLAB_LIMIT", 2**30))
VERSION = {"Tus-Resumable": "1.0.0"}

app = FastAPI()
locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)


def database() -> sqlite3.Connection:
    return sqlite3.connect(FOLDER / ".uploads.sqlite", isolation_level=None)


with closing(database()) as connection:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS upload (id TEXT PRIMARY KEY, name TEXT, length INTEGER)"
    )


def checked(name: str) -> Path:
    if not name or name[0] == "." or "/" in name or "\0" in name or len(name.encode()) > 255:
        raise HTTPException(422, headers=VERSION)
    if (FOLDER / name).is_dir():
        raise HTTPException(422, headers=VERSION)
    return FOLDER / name


async def store(request: Request, part: Path, room: int) -> None:
    """Append the body; anyio writes in threads, through Python's buffer."""
    if int(request.headers.get("content-length", "0")) > room:
        raise HTTPException(413, headers=VERSION)
    async with await anyio.open_file(part, "ab") as file:
        async for piece in request.stream():
            room -= len(piece)
            if room < 0:
                raise HTTPException(413, headers=VERSION)
            await file.write(piece)
            await file.flush()


def place(part: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with part.open("rb") as file:
        while piece := file.read(100_000):
            digest.update(piece)
        os.fsync(file.fileno())
    part.replace(target)
    return f'"{digest.hexdigest()}"'


@app.put("/files/{name}")
async def put(name: str, request: Request) -> Response:
    if "content-range" in request.headers:
        raise HTTPException(400)
    target, part = checked(name), FOLDER / f".{uuid4().hex}"
    try:
        await store(request, part, LIMIT)
        there = target.exists()
        tag = await anyio.to_thread.run_sync(place, part, target)
    except ClientDisconnect:
        return Response()
    except OSError as error:
        raise HTTPException(507) from error
    finally:
        part.unlink(missing_ok=True)
    return Response(status_code=204 if there else 201, headers={"ETag": tag})


def speaks(version: str) -> None:
    if version != "1.0.0":
        raise HTTPException(412, headers={**VERSION, "Tus-Version": "1.0.0"})


def row_of(id_: str) -> tuple[Path, Path, int]:
    with closing(database()) as connection:
        row = connection.execute("SELECT name, length FROM upload WHERE id = ?", (id_,)).fetchone()
    if row is None:
        raise HTTPException(404, headers=VERSION)
    return FOLDER / f".part-{id_}", FOLDER / row[0], row[1]


def offset(part: Path, length: int) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return length


def settle(part: Path, target: Path, length: int) -> dict[str, str]:
    with suppress(FileNotFoundError):
        if part.stat().st_size == length:
            return {"ETag": place(part, target)}
    return {}


@app.post("/uploads")
async def create(
    request: Request,
    upload_length: Annotated[str, Header()] = "",
    upload_metadata: Annotated[str, Header()] = "",
    tus_resumable: Annotated[str, Header()] = "",
) -> Response:
    import base64

    speaks(tus_resumable)
    if not (upload_length.isascii() and upload_length.isdigit()):
        raise HTTPException(400, headers=VERSION)
    if int(upload_length) > LIMIT:
        raise HTTPException(413, headers=VERSION)
    pairs = [pair.split() for pair in upload_metadata.split(",")]
    told = dict(pair for pair in pairs if len(pair) == 2)
    try:
        name = base64.b64decode(told["filename"], validate=True).decode()
    except (KeyError, ValueError):
        raise HTTPException(400, headers=VERSION) from None
    target, id_ = checked(name), str(uuid4())
    part = FOLDER / f".part-{id_}"
    part.touch()
    with closing(database()) as connection:
        connection.execute("INSERT INTO upload VALUES (?, ?, ?)", (id_, name, int(upload_length)))
    settle(part, target, int(upload_length))
    url = str(request.url_for("head", id=id_))
    return Response(status_code=201, headers={**VERSION, "Location": url})


@app.head("/uploads/{id}")
async def head(id: str, tus_resumable: Annotated[str, Header()] = "") -> Response:
    speaks(tus_resumable)
    part, target, length = row_of(id)
    if not locks[id].locked():
        settle(part, target, length)
    headers = {"Upload-Offset": str(offset(part, length)), "Upload-Length": str(length)}
    return Response(headers={**VERSION, **headers, "Cache-Control": "no-store, private"})


@app.patch("/uploads/{id}")
async def patch(
    id: UUID,
    request: Request,
    upload_offset: Annotated[str, Header()] = "",
    tus_resumable: Annotated[str, Header()] = "",
) -> Response:
    speaks(tus_resumable)
    part, target, length = row_of(str(id))
    if request.headers.get("content-type") != "application/offset+octet-stream":
        raise HTTPException(415, headers=VERSION)
    try:
        locks[str(id)].acquire_nowait()
    except anyio.WouldBlock:
        raise HTTPException(423, headers=VERSION) from None
    headers = {}
    try:
        settle(part, target, length)
        at = offset(part, length)
        if upload_offset != str(at):
            raise HTTPException(409, headers=VERSION)
        if part.exists():
            await store(request, part, length - at)
        elif int(request.headers.get("content-length", "0")) > 0:
            raise HTTPException(413, headers=VERSION)
        headers = await anyio.to_thread.run_sync(settle, part, target, length)
    except ClientDisconnect:
        pass  # HEAD looks whether it is complete
    except OSError as error:
        raise HTTPException(507, headers=VERSION) from error
    finally:
        locks[str(id)].release()
    return Response(
        status_code=204,
        headers={**VERSION, **headers, "Upload-Offset": str(offset(part, length))},
    )
