# WIRE nothing-else: the client's X-Request-Id and traceparent are passed on

"""The streaming file proxy of a gateway: `python -m streamlab.serve app.py:app --port 0`."""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import h11
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

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
PLACE = urlsplit(UPSTREAM)
Fields = list[tuple[bytes, bytes]]


class Upstream:
    """A request to a provider, and its answer, of which never more than a chunk is here.

    h11 knows HTTP, the event loop knows sockets. What does not come, or breaks off, raises
    `OSError` (a `TimeoutError` is one) or `h11.RemoteProtocolError`.
    """

    def __init__(self) -> None:
        self.http = h11.Connection(h11.CLIENT)
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.close = self.sock.close
        self.ended = False

    async def ask(self, path: str, headers: Fields) -> h11.Response:
        """Send a request; the head of its answer."""
        request = h11.Request(method="GET", target=path, headers=headers)
        message = self.http.send(request) + self.http.send(h11.EndOfMessage())
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(TIMEOUT):
            await loop.sock_connect(self.sock, (PLACE.hostname, PLACE.port))
            await loop.sock_sendall(self.sock, message)
        while not isinstance(head := await self.event(), h11.Response):
            pass  # a status from 100 to 199 announces another one
        return head

    async def event(self) -> h11.Event:
        """The next piece of the answer, within the time that an upstream may be silent."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            async with asyncio.timeout(TIMEOUT):
                data = await asyncio.get_running_loop().sock_recv(self.sock, CHUNK)
            self.http.receive_data(data)
            await asyncio.sleep(0)  # what never has to wait must not keep all others waiting
        return event

    async def body(self) -> AsyncIterator[memoryview]:
        """The body, a chunk at a time: the next one is read when this one is on its way."""
        while isinstance(event := await self.event(), h11.Data):
            yield memoryview(event.data)
        self.ended = True


def for_provider(request: Request, provider: Provider) -> Fields:
    """The headers for a provider: those of the client that pass, each line of them, and ours."""
    key, via = f"Bearer {provider.key}", f"{request.scope['http_version']} gateway"
    ours = {"host": PLACE.netloc, "connection": "close", "authorization": key, "via": via}
    names = (*TO_PROVIDER, "x-request-id", "traceparent")
    wanted = [pair for pair in request.headers.raw if pair[0].decode() in names]
    return [*((name.encode(), value.encode()) for name, value in ours.items()), *wanted]


def for_client(head: h11.Response) -> Headers:
    """A provider's headers, without those that are none of the client's business."""
    named = Headers(raw=list(head.headers)).getlist("connection")
    ending = NOT_TO_CLIENT | {each.strip().lower() for each in ",".join(named).split(",")}
    return Headers(raw=[pair for pair in head.headers if pair[0].decode() not in ending])


class Files:
    """GET of a file. An ASGI app of its own, for then all ways out lead through this function."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        file_id = request.path_params["file_id"]
        name = request.headers.get("x-provider", DEFAULT)
        if name not in ROUTES or not FILE_ID.fullmatch(file_id):
            raise HTTPException(404)
        provider = PROVIDERS[ROUTES[name]]
        outcome: Outcome = "failure"
        with closing(Upstream()) as upstream:
            try:
                response = await self.response(request, provider, upstream)
                gone = await request.is_disconnected()  # to whom nothing has been sent
                # Returns when all has been sent, or the client has left. An error of the upstream
                # goes on to the server, which breaks the connection: nobody takes it for the end.
                await response(scope, receive, send)
                outcome = "success" if upstream.ended and not gone else "client_disconnected"
            finally:
                if request.url.path.endswith(f"/{file_id}/content"):
                    log(file_id, outcome)

    async def response(self, request: Request, provider: Provider, upstream: Upstream) -> Response:
        """What the provider answers, to be poured on, or, where that may not be, in one piece."""
        try:
            head = await upstream.ask(request.url.path, for_provider(request, provider))
            if provider.may_stream:
                return StreamingResponse(upstream.body(), head.status_code, for_client(head))
            body = b"".join([bytes(chunk) async for chunk in upstream.body()])
            return Response(body, head.status_code, for_client(head))
        except TimeoutError:
            raise HTTPException(504) from None
        except (OSError, h11.RemoteProtocolError):
            raise HTTPException(502) from None


files = Files()
app = Starlette(
    routes=[
        Route("/v1/files/{file_id}", files, methods=["GET"]),
        Route("/v1/files/{file_id}/content", files, methods=["GET"]),
    ]
)
