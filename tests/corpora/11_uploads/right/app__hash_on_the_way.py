# A bare ASGI app. It hashes while the bytes pass, and again only what came before a new start.

import asyncio
import hashlib
import os
import re
import secrets
from base64 import b64decode
from pathlib import Path
from urllib.parse import unquote_to_bytes

FOLDER = Path(os.environ["STREAMLAB_ROOT"])
LIMIT = int(os.environ.get("STREAMLAB_LIMIT", 1 << 30))
PARTS = FOLDER / ".uploads"
PARTS.mkdir(exist_ok=True)
STREAM = b"application/offset+octet-stream"


class Refused(Exception):
    """An answer without success: its status, and more headers."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status, self.headers = status, headers


class Gone(Exception):
    """The client has left."""


def target_of(name: bytes) -> bytes:
    """The path of a file; the name is bytes, as the system has it."""
    try:
        name.decode()
    except UnicodeDecodeError:
        raise Refused(400) from None
    path = os.path.join(os.fsencode(FOLDER), name)
    if not 1 <= len(name) <= 255 or name[:1] == b"." or b"/" in name or b"\0" in name:
        raise Refused(400)
    if os.path.isdir(path):
        raise Refused(409)
    return path


class Hashed:
    """A part, and the hash of what it has."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self.digest = hashlib.sha256()
        self.size = 0
        while piece := os.pread(self.descriptor, 1 << 18, self.size):
            self.digest.update(piece)
            self.size += len(piece)

    def append(self, piece: bytes) -> None:
        self.digest.update(piece)
        while piece:
            written = os.write(self.descriptor, piece)
            self.size += written
            piece = piece[written:]

    def close(self) -> None:
        os.close(self.descriptor)


async def pour(receive, headers, part: Hashed, room: int) -> None:
    """All of a body, into a part."""
    if int(headers.get(b"content-length", b"0")) > room:
        raise Refused(413)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        piece, more = message.get("body", b""), message.get("more_body", False)
        if len(piece) > room:
            raise Refused(413)
        room -= len(piece)
        if piece:
            await asyncio.to_thread(part.append, piece)


def publish(part: Hashed, path: Path, target: bytes) -> dict[str, str]:
    os.fsync(part.descriptor)
    os.rename(path, target)
    return {"etag": f'"{part.digest.hexdigest()}"'}


async def put(receive, headers, name: bytes) -> tuple[int, dict[str, str]]:
    if b"content-range" in headers:
        raise Refused(400)
    target, path = target_of(name), PARTS / secrets.token_hex()
    if int(headers.get(b"content-length", b"0")) > LIMIT:
        raise Refused(413)
    part = Hashed(path)
    try:
        await pour(receive, headers, part, LIMIT)
        status = 200 if os.path.exists(target) else 201
        return status, await asyncio.to_thread(publish, part, path, target)
    finally:
        part.close()
        path.unlink(missing_ok=True)


# An upload is two files: ID.part, and ID.LENGTH, which has the name of the file in it.

WRITERS: set[str] = set()


def found(id_: str) -> tuple[Path, int, bytes]:
    notes = list(PARTS.glob(f"{id_}.[0-9]*")) if re.fullmatch("[0-9a-f]{64}", id_) else []
    if not notes:
        raise Refused(404)
    return PARTS / f"{id_}.part", int(notes[0].suffix[1:]), notes[0].read_bytes()


def offset_of(path: Path, length: int) -> int:
    return path.stat().st_size if path.exists() else length


def metadata(headers) -> bytes:
    for pair in headers.get(b"upload-metadata", b"").split(b","):
        key, _, value = pair.strip().partition(b" ")
        if key == b"filename":
            try:
                return b64decode(value, validate=True)
            except ValueError:
                break
    raise Refused(400)


async def create(headers) -> tuple[int, dict[str, str]]:
    length = headers.get(b"upload-length", b"").decode("latin-1")
    if not re.fullmatch("[0-9]+", length, re.ASCII):
        raise Refused(400)
    if int(length) > LIMIT:
        raise Refused(413)
    name = metadata(headers)
    target_of(name)
    id_ = secrets.token_hex()
    (PARTS / f"{id_}.part").touch()
    note = PARTS / f"{id_}.new"
    note.write_bytes(name)
    note.rename(PARTS / f"{id_}.{int(length)}")
    return 201, {"location": f"http://127.0.0.1/uploads/{id_}", **finish(id_)}


def finish(id_: str, part: Hashed | None = None) -> dict[str, str]:
    """Publish an upload that has all its bytes."""
    path, length, name = found(id_)
    if not path.exists() or path.stat().st_size < length:
        return {}
    opened = part or Hashed(path)
    try:
        return publish(opened, path, target_of(name))
    finally:
        if part is None:
            opened.close()


def told(path: Path, length: int) -> dict[str, str]:
    return {"upload-offset": str(offset_of(path, length)), "upload-length": str(length)}


async def head(id_: str) -> tuple[int, dict[str, str]]:
    path, length, _ = found(id_)
    return 200, {**told(path, length), "cache-control": "no-store"}


async def patch(receive, headers, id_: str) -> tuple[int, dict[str, str]]:
    path, length, _ = found(id_)
    if headers.get(b"content-type") != STREAM:
        raise Refused(415)
    offset = offset_of(path, length)
    if id_ in WRITERS or headers.get(b"upload-offset") != str(offset).encode():
        raise Refused(409, **{"upload-offset": str(offset)})
    if int(headers.get(b"content-length", b"0")) > length - offset:
        raise Refused(413)
    if not path.exists():
        return 204, told(path, length)
    WRITERS.add(id_)
    try:
        part = await asyncio.to_thread(Hashed, path)
        try:
            await pour(receive, headers, part, length - offset)
        finally:
            try:
                more = await asyncio.to_thread(finish, id_, part)
            finally:
                part.close()
    finally:
        WRITERS.discard(id_)
    return 204, {**told(path, length), **more}


async def answer(scope, receive) -> tuple[int, dict[str, str]]:
    headers, method = dict(scope["headers"]), scope["method"]
    kind, _, rest = scope["raw_path"].lstrip(b"/").partition(b"/")
    if (method, kind) == ("PUT", b"files"):
        return await put(receive, headers, unquote_to_bytes(rest))
    if kind != b"uploads":
        raise Refused(404)
    if headers.get(b"tus-resumable") != b"1.0.0":
        raise Refused(412, **{"tus-version": "1.0.0"})
    if method == "POST" and not rest:
        return await create(headers)
    if method == "HEAD":
        return await head(rest.decode("latin-1"))
    if method == "PATCH":
        return await patch(receive, headers, rest.decode("latin-1"))
    raise Refused(405)


async def app(scope, receive, send) -> None:
    if scope["type"] != "http":
        return
    try:
        status, headers = await answer(scope, receive)
    except Refused as refused:
        status, headers = refused.status, refused.headers
    except OSError:
        status, headers = 507, {}
    except Gone:
        return
    headers["tus-resumable"] = "1.0.0"
    if status != 204:
        headers["content-length"] = "0"
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body"})


for note in list(PARTS.glob("*.[0-9]*")):
    finish(note.stem)
