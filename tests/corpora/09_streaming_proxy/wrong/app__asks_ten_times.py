# TIME silence: asks a silent upstream ten times, each time with the whole limit
"""The streaming file proxy of a gateway: `python -m streamlab.serve app.py:app --port 0`."""

import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import httpx2
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


PLACE = urlsplit(UPSTREAM)
Fields = list[tuple[bytes, bytes]]

client = httpx2.AsyncClient(
    timeout=httpx2.Timeout(TIMEOUT, pool=None),
    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
    trust_env=False,
)


class Body:
    """What the upstream sends, piece by piece, and whether that was all of it."""

    def __init__(self, answer: httpx2.Response) -> None:
        self.answer = answer
        self.ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.answer.aiter_raw():
            yield chunk
        self.ended = True


def for_provider(request: Request, provider: Provider) -> Fields:
    """The headers for a provider: those of the client that pass, each line of them, and ours."""
    key, via = f"Bearer {provider.key}", f"{request.scope['http_version']} gateway"
    ours = {"host": PLACE.netloc, "connection": "close", "authorization": key, "via": via}
    wanted = [pair for pair in request.headers.raw if pair[0].decode() in TO_PROVIDER]
    return [*((name.encode(), value.encode()) for name, value in ours.items()), *wanted]


def for_client(answer: httpx2.Response) -> Headers:
    """A provider's headers, without those that are none of the client's business."""
    fields = [(name.lower(), value) for name, value in answer.headers.raw]
    named = Headers(raw=fields).getlist("connection")
    ending = NOT_TO_CLIENT | {each.strip().lower() for each in ",".join(named).split(",")}
    return Headers(raw=[pair for pair in fields if pair[0].decode("latin-1") not in ending])


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
        answer: httpx2.Response | None = None
        try:
            try:
                url = f"http://{PLACE.netloc}{request.url.path}"
                asked = httpx2.Request("GET", url, headers=for_provider(request, provider))
                for left in range(9, -1, -1):
                    try:
                        answer = await client.send(asked, stream=True)
                        break
                    except httpx2.TimeoutException:
                        if not left:
                            raise
                assert answer is not None
                body = Body(answer)
                response = await self.response(answer, body, provider)
            except httpx2.TimeoutException:
                raise HTTPException(504) from None
            except httpx2.TransportError:
                raise HTTPException(502) from None
            gone = await request.is_disconnected()  # to whom nothing has been sent
            # Returns when all has been sent, or the client has left. An error of the upstream
            # goes on to the server, which breaks the connection: nobody takes it for the end.
            await response(scope, receive, send)
            outcome = "success" if body.ended and not gone else "client_disconnected"
        finally:
            if answer is not None:
                await answer.aclose()
            if request.scope["path"].endswith(f"/{file_id}/content"):
                log(file_id, outcome)

    async def response(self, answer: httpx2.Response, body: Body, provider: Provider) -> Response:
        """What the provider answers, to be poured on, or, where that may not be, in one piece."""
        if provider.may_stream:
            return StreamingResponse(body, answer.status_code, for_client(answer))
        whole = b"".join([chunk async for chunk in body])
        return Response(whole, answer.status_code, for_client(answer))


files = Files()
app = Starlette(
    routes=[
        Route("/v1/files/{file_id}", files, methods=["GET"]),
        Route("/v1/files/{file_id}/content", files, methods=["GET"]),
    ]
)
