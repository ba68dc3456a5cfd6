# right: FastAPI over asyncio's streams, with HTTP read by hand; a response that owns its upstream

import asyncio
import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response

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


PLACE = urlsplit(UPSTREAM)
PIECE = 24 * 1024
NO_BODY = (204, 304)
app = FastAPI(openapi_url=None)


class Broken(Exception):
    """The upstream said something that is not HTTP, or less than it promised."""


class Answer:
    """What an upstream says; its body is read when somebody wants it."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, path, lines):
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(PLACE.hostname, PLACE.port)
        answer = cls(reader, writer)
        try:
            async with asyncio.timeout(TIMEOUT):
                writer.write(b"GET " + path.encode() + b" HTTP/1.1\r\n" + b"".join(lines) + b"\r\n")
                await writer.drain()
                await answer.read_head()
        except BaseException:
            answer.close()
            raise
        return answer

    async def line(self):
        try:
            line = await self.reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise Broken from error
        return line.rstrip(b"\r\n")

    async def read_head(self):
        words = (await self.line()).split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise Broken
        self.status = int(words[1])
        self.headers = []
        while line := await self.line():
            name, colon, text = line.partition(b":")
            if not colon:
                raise Broken
            self.headers.append((name.lower(), text.strip(b" \t")))

    def all_of(self, name):
        return b",".join(text for key, text in self.headers if key == name).decode("latin-1")

    async def some(self, most):
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.read(most)

    async def exactly(self, count):
        while count:
            data = await self.some(min(PIECE, count))
            if not data:
                raise Broken
            count -= len(data)
            yield data

    async def body(self):
        length = self.all_of(b"content-length")
        if self.status in NO_BODY:
            return
        if "chunked" in self.all_of(b"transfer-encoding").lower():
            while True:
                async with asyncio.timeout(TIMEOUT):
                    digits = (await self.line()).partition(b";")[0].strip()
                try:
                    count = int(digits, 16)
                except ValueError as error:
                    raise Broken from error
                if count == 0:
                    break
                async for data in self.exactly(count):
                    yield data
                async with asyncio.timeout(TIMEOUT):
                    if await self.line():
                        raise Broken
            async with asyncio.timeout(TIMEOUT):
                while await self.line():
                    pass
        elif length:
            async for data in self.exactly(int(length)):
                yield data
        else:
            while data := await self.some(PIECE):
                yield data

    def close(self):
        self.writer.transport.abort()


class Passing(Response):
    """The upstream's answer on its way to the client."""

    def __init__(self, answer, whole, file_id):
        super().__init__(status_code=answer.status)
        self.answer, self.whole, self.file_id = answer, whole, file_id
        hidden = NOT_TO_CLIENT | {
            each.strip().lower() for each in answer.all_of(b"connection").split(",")
        }
        self.raw_headers = [
            pair for pair in answer.headers if pair[0].decode("latin-1") not in hidden
        ]
        if (
            whole is not None
            and answer.status not in NO_BODY
            and not answer.all_of(b"content-length")
        ):
            self.raw_headers.append((b"content-length", str(len(whole)).encode()))

    async def pour(self, send):
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        if self.whole is not None:
            await send({"type": "http.response.body", "body": self.whole, "more_body": True})
        else:
            async for data in self.answer.body():
                await send({"type": "http.response.body", "body": data, "more_body": True})

    async def __call__(self, scope, receive, send):
        outcome = "failure"
        pouring = asyncio.create_task(self.pour(send))
        leaving = asyncio.create_task(self.leaving(receive))
        try:
            await asyncio.wait({pouring, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                outcome = "client_disconnected"
                return
            await pouring
            outcome = "success"
            try:
                await send({"type": "http.response.body"})
            except RuntimeError:
                if self.status_code not in NO_BODY:  # a length, and no body, as it has to be
                    raise
        finally:
            self.answer.close()
            for task in (pouring, leaving):
                task.cancel()
            await asyncio.gather(pouring, leaving, return_exceptions=True)
            if self.file_id is not None:
                log(self.file_id, outcome)

    @staticmethod
    async def leaving(receive):
        while (await receive())["type"] != "http.disconnect":
            pass


async def gateway(request, file_id, path, logged):
    name = request.headers.get("x-provider", DEFAULT)
    if name not in ROUTES or FILE_ID.fullmatch(file_id) is None:
        return PlainTextResponse("no such file or provider", 404)
    provider = PROVIDERS[ROUTES[name]]
    lines = [
        b"Host: " + PLACE.netloc.encode() + b"\r\n",
        b"Connection: close\r\n",
        b"Authorization: Bearer " + provider.key.encode() + b"\r\n",
    ]
    for key, text in request.headers.raw:
        if key.decode("latin-1") in TO_PROVIDER:
            lines.append(key + b": " + text + b"\r\n")
    whole = answer = None
    try:
        answer = await Answer.to(path, lines)
        if not provider.may_stream:
            whole = b""
            async for data in answer.body():
                whole += data
    except (OSError, Broken, ValueError) as error:
        if answer is not None:
            answer.close()
        if logged:
            log(file_id, "failure")
        return PlainTextResponse("upstream", 504 if isinstance(error, TimeoutError) else 502)
    return Passing(answer, whole, file_id if logged else None)


@app.get("/v1/files/{file_id}")
async def metadata(file_id: str, request: Request) -> Response:
    return await gateway(request, file_id, f"/v1/files/{file_id}", False)


@app.get("/v1/files/{file_id}/content")
async def content(file_id: str, request: Request) -> Response:
    return await gateway(request, file_id, f"/v1/files/{file_id}/content", True)
