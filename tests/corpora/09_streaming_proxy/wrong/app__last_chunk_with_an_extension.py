# BYTES chunks: the last chunk has to be 0, without zeros or an extension

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


PIECE = 32 * 1024
AT = urlsplit(UPSTREAM)
BODYLESS = (204, 304)
Lines = list[tuple[bytes, bytes]]


class Broken(Exception):
    """The upstream has not kept to what it has said."""


class Answer:
    """A provider's answer, of which the head has been read."""

    def __init__(self, status: int, lines: Lines, reader: asyncio.StreamReader) -> None:
        self.status, self.lines, self.reader = status, lines, reader

    def values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.lines if each == name]

    async def some(self, most: int) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.read(most)

    async def line(self) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise Broken("the connection ended within a line, or before one")
        return line.strip()

    async def exactly(self, left: int) -> AsyncIterator[bytes]:
        while left > 0:
            data = await self.some(min(PIECE, left))
            if not data:
                raise Broken("the connection ended too early")
            left -= len(data)
            yield data

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            line = await self.line()
            size = int(line.split(b";")[0].strip(), 16)
            if line == b"0":
                break
            async for data in self.exactly(size):
                yield data
            if await self.line():
                raise Broken("something stands behind a chunk")
        while await self.line():
            pass  # a trailer

    async def body(self) -> AsyncIterator[bytes]:
        if self.status in BODYLESS:
            return
        coding = b",".join(self.values(b"transfer-encoding")).lower()
        lengths = self.values(b"content-length")
        if b"chunked" in coding:
            async for data in self.chunks():
                yield data
        elif lengths:
            async for data in self.exactly(int(lengths[0])):
                yield data
        else:
            while data := await self.some(PIECE):
                yield data

    def for_client(self) -> Lines:
        ending = {name.encode() for name in NOT_TO_CLIENT}
        for value in self.values(b"connection"):
            ending |= {token.strip().lower() for token in value.split(b",")}
        return [(name, value) for name, value in self.lines if name not in ending]


async def read_head(reader: asyncio.StreamReader) -> tuple[int, Lines]:
    """Status and lines of an answer, within the time of silence between any two pieces."""
    head = b""
    while b"\r\n\r\n" not in head:
        async with asyncio.timeout(TIMEOUT):
            line = await reader.readline()
        if not line:
            raise Broken("no answer")
        head += line
        if len(head) > 256 * 1024:
            raise Broken("a head without an end")
    first, *rest = head.split(b"\r\n")[:-2]
    lines = []
    for line in rest:
        name, colon, value = line.partition(b":")
        if not colon:
            raise Broken("a line without a colon")
        lines.append((name.strip().lower(), value.strip(b" \t")))
    return int(first.split(b" ")[1]), lines


async def say(send, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def question(scope, provider: Provider, path: str) -> bytes:
    lines = [b"GET %s HTTP/1.1" % path.encode(), b"Host: " + AT.netloc.encode()]
    lines += [b"Connection: close", b"Authorization: Bearer " + provider.key.encode()]
    wanted = {name.encode() for name in TO_PROVIDER}
    lines += [name + b": " + value for name, value in scope["headers"] if name in wanted]
    return b"\r\n".join([*lines, b"", b""])


async def pour(receive, send, answer: Answer) -> bool:
    """Send an answer while it comes; whether the client has taken all of it."""

    async def sending() -> None:
        head = {"status": answer.status, "headers": answer.for_client()}
        await send({"type": "http.response.start", **head})
        async for data in answer.body():
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def leaving() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.create_task(leaving())
    await asyncio.sleep(0)
    if gone.done():
        return False
    work = asyncio.create_task(sending())
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        complete = work.done()
        work.cancel()
        gone.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
    if complete:
        work.result()
    return complete


async def proxy(receive, send, scope, provider: Provider, path: str) -> Outcome:
    """Ask, and pass on; how it ended."""
    writer = None
    try:
        try:
            async with asyncio.timeout(TIMEOUT):
                reader, writer = await asyncio.open_connection(AT.hostname, AT.port or 80)
                writer.write(question(scope, provider, path))
                await writer.drain()
            answer = Answer(*await read_head(reader), reader)
            whole = None
            if not provider.may_stream:
                whole = b"".join([data async for data in answer.body()])
        except TimeoutError:
            await say(send, 504, b"the provider is silent\n")
            return "failure"
        except (OSError, ValueError, Broken):
            await say(send, 502, b"the provider has failed\n")
            return "failure"
        if whole is None:
            return "success" if await pour(receive, send, answer) else "client_disconnected"
        headers = answer.for_client()
        if answer.status not in BODYLESS and not answer.values(b"content-length"):
            headers.append((b"content-length", b"%d" % len(whole)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        message = await hurry(receive)
        await send({"type": "http.response.body", "body": whole})
        return "client_disconnected" if message else "success"
    except (OSError, Broken) as error:
        raise ConnectionError(f"the upstream broke off: {error!r}") from error
    finally:
        if writer is not None:
            writer.transport.abort()


async def hurry(receive) -> bool:
    """Whether the client has left by now."""
    for _ in range(2):
        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return False
        if task.result()["type"] == "http.disconnect":
            return True
    return False


async def app(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    parts = scope["path"].split("/")
    shape = parts[:3] == ["", "v1", "files"] and (len(parts) == 4 or parts[4:] == ["content"])
    name = dict(scope["headers"]).get(b"x-provider", DEFAULT.encode()).decode("latin-1")
    if not shape or not FILE_ID.fullmatch(parts[3]) or name not in ROUTES:
        await say(send, 404, b"there is no such file\n")
        return
    if scope["method"] != "GET":
        await say(send, 405, b"only GET\n")
        return
    outcome: Outcome = "failure"
    try:
        provider = PROVIDERS[ROUTES[name]]
        outcome = await proxy(receive, send, scope, provider, "/".join(parts))
    finally:
        if len(parts) == 5:
            log(parts[3], outcome)
