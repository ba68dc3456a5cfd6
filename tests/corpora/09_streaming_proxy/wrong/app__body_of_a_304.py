# WIRE lake-head or statuses: waits for the body of a 304
"""The streaming file proxy of a gateway: `python -m streamlab.serve app.py:app --port 0`.

An ASGI app by hand, on asyncio's streams: what HTTP says about an answer's length is read here.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

UPSTREAM = os.environ.get("STREAMLAB_UPSTREAM", "http://127.0.0.1:9000")
TIMEOUT = float(os.environ.get("STREAMLAB_TIMEOUT", "60"))  # seconds of silence, not of a download


# What is given: who is asked, what is passed on, what is written into the log


@dataclass(frozen=True)
class Provider:
    """Who has files. All of them are reached at UPSTREAM, which tells them apart by their keys."""

    key: str
    may_stream: bool


PROVIDERS = {
    "river": Provider("key-of-the-river", may_stream=True),
    "lake": Provider("key-of-the-lake", may_stream=False),
}
ROUTES = {"river": "river", "fast": "river", "lake": "lake", "cheap": "lake"}
"""By what a client may write into X-Provider. It may be a provider's name, or an alias."""
DEFAULT = "river"

FILE_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")

TO_PROVIDER = (
    *("accept", "accept-encoding", "range", "if-range"),
    *("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"),
)
"""Of a client's headers, those that are passed on."""
NOT_TO_CLIENT = {
    *("connection", "keep-alive", "proxy-connection", "proxy-authenticate"),
    *("te", "trailer", "transfer-encoding", "upgrade"),
    "set-cookie",
}
"""Of a provider's headers, those that end here; and so do those that `Connection` names."""


Outcome = Literal["success", "failure", "client_disconnected"]


def log(file_id: str, outcome: Outcome) -> None:
    """Write how a download ended. Each has one such line, once its end is known."""
    print(f"download {file_id} {outcome}", flush=True)


CHUNK = 32 * 1024
HEAD_LIMIT = 256 * 1024
PLACE = urlsplit(UPSTREAM)
PATH = re.compile(r"/v1/files/([^/]*)(/content)?", re.DOTALL)
Fields = list[tuple[bytes, bytes]]


class Broken(Exception):
    """The upstream has broken off, or says what is no HTTP."""


class Upstream:
    """A connection to a provider, for one answer."""

    async def ask(self, path: str, headers: Fields) -> None:
        """Send a request, and read the head of its answer."""
        async with asyncio.timeout(TIMEOUT):
            connecting = asyncio.open_connection(PLACE.hostname, PLACE.port or 80, limit=CHUNK)
            self.reader, self.writer = await connecting
        lines = [
            f"GET {path} HTTP/1.1".encode(),
            *(name + b": " + value for name, value in headers),
        ]
        self.writer.write(b"\r\n".join([*lines, b"", b""]))
        self.came = bytearray()
        status = await self.line()
        words = status.split(b" ", 2)
        if not words[0].startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            raise Broken(status)
        self.status = int(words[1])
        self.headers: Fields = []
        while line := await self.line():
            name, colon, value = line.partition(b":")
            if not colon:
                raise Broken(line)
            self.headers.append((name.lower(), value.strip(b" \t")))

    async def more(self) -> bool:
        """Take in what comes next; whether there was anything."""
        async with asyncio.timeout(TIMEOUT):
            data = await self.reader.read(CHUNK)
        self.came += data
        return bool(data)

    async def line(self) -> bytes:
        """A line, without its end."""
        while (end := self.came.find(b"\n")) < 0:
            if len(self.came) > HEAD_LIMIT or not await self.more():
                raise Broken("no line")
        line = bytes(self.came[:end]).rstrip(b"\r")
        del self.came[: end + 1]
        return line

    async def exactly(self, length: int) -> AsyncIterator[bytes]:
        """So many bytes, in pieces."""
        while length:
            if not self.came and not await self.more():
                raise Broken("too short")
            piece = bytes(self.came[:length])
            del self.came[: len(piece)]
            length -= len(piece)
            yield piece

    def all(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.headers if each == name]

    async def body(self) -> AsyncIterator[bytes]:
        """The body, decoded from its chunks; `Broken` if some of it is missing."""
        if self.status == 204:
            return
        if b"chunked" in b",".join(self.all(b"transfer-encoding")).lower():
            while length := self.size_of(await self.line()):
                async for piece in self.exactly(length):
                    yield piece
                if await self.line():
                    raise Broken("a chunk without end")
            while await self.line():
                pass  # a trailer: nobody needs it
        elif lengths := self.all(b"content-length"):
            async for piece in self.exactly(int(lengths[0])):
                yield piece
        else:
            while self.came or await self.more():
                piece = bytes(self.came)
                self.came.clear()
                yield piece

    @staticmethod
    def size_of(line: bytes) -> int:
        """The size in a chunk's first line. What follows a semicolon is an extension."""
        try:
            return int(line.partition(b";")[0].strip(), 16)
        except ValueError:
            raise Broken(line) from None

    def leave(self) -> None:
        if hasattr(self, "writer"):
            self.writer.transport.abort()


async def refuse(send, status: int) -> None:
    body = f"{status}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def for_client(upstream: Upstream) -> Fields:
    """The headers of an answer that go on."""
    named = b",".join(upstream.all(b"connection")).lower().split(b",")
    ending = {name.encode() for name in NOT_TO_CLIENT} | {name.strip() for name in named}
    return [field for field in upstream.headers if field[0] not in ending]


async def answer(
    provider: Provider, path: str, fields: Fields, upstream: Upstream, receive, send
) -> Outcome:
    """Pour an answer on, or send it in one piece; how it ended."""
    try:
        await upstream.ask(path, fields)
        headers = for_client(upstream)
        pieces = upstream.body()
        if not provider.may_stream:
            whole = b"".join([piece async for piece in pieces])
            if not upstream.all(b"content-length") and upstream.status not in (204, 304):
                headers.append((b"content-length", str(len(whole)).encode()))
    except TimeoutError:
        await refuse(send, 504)
        return "failure"
    except (OSError, Broken):
        await refuse(send, 502)
        return "failure"
    await send({"type": "http.response.start", "status": upstream.status, "headers": headers})
    if provider.may_stream:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        whole = b""
    await send({"type": "http.response.body", "body": whole})
    return "success"


async def left(receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def app(scope, receive, send) -> None:
    """GET of a file, or of what is known about it."""
    if scope["type"] != "http":
        return
    asked = PATH.fullmatch(scope["path"])
    headers: Fields = list(scope["headers"])
    names = [value.decode("latin-1") for name, value in headers if name == b"x-provider"]
    name = names[0] if names else DEFAULT
    if not asked or not FILE_ID.fullmatch(asked[1]) or name not in ROUTES:
        await refuse(send, 404)
        return
    if scope["method"] != "GET":
        await refuse(send, 405)
        return
    provider = PROVIDERS[ROUTES[name]]
    fields = [
        (b"Host", PLACE.netloc.encode()),
        (b"Authorization", f"Bearer {provider.key}".encode()),
        (b"Connection", b"close"),
        (b"Via", b"1.1 gateway"),
        *(field for field in headers if field[0].decode("latin-1") in TO_PROVIDER),
    ]
    upstream = Upstream()
    outcome: Outcome = "failure"
    sending = asyncio.create_task(answer(provider, scope["path"], fields, upstream, receive, send))
    leaving = asyncio.create_task(left(receive))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        # An error of the upstream goes on to the server, which breaks the connection.
        if leaving.done() and not sending.done():
            outcome = "client_disconnected"
        else:
            outcome = sending.result()
    finally:
        for task in (sending, leaving):
            task.cancel()
        upstream.leave()
        if asked[2]:
            log(asked[1], outcome)
