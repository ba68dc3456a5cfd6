# WIRE host: the client's Host is passed on

import os
import re
from http.cookiejar import DefaultCookiePolicy

import httpx2
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

UPSTREAM = os.environ["STREAMLAB_UPSTREAM"]
TIMEOUT = float(os.environ["STREAMLAB_TIMEOUT"])
KEYS = {"river": "key-of-the-river", "lake": "key-of-the-lake"}
MAY_STREAM = {"river"}
ROUTES = {"river": "river", "fast": "river", "lake": "lake", "cheap": "lake"}
TO_PROVIDER = (
    *("host", "accept", "accept-encoding", "range", "if-range"),
    *("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"),
)
NOT_TO_CLIENT = {
    *("connection", "keep-alive", "proxy-connection", "proxy-authenticate"),
    *("te", "trailer", "transfer-encoding", "upgrade", "set-cookie"),
}

app = FastAPI()
client = httpx2.AsyncClient(
    timeout=httpx2.Timeout(TIMEOUT, pool=None),
    limits=httpx2.Limits(max_connections=None),
)
client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))


def log(file_id, outcome):
    print(f"download {file_id} {outcome}", flush=True)


async def ask(request, provider):
    headers = {"accept-encoding": "identity"}
    for name in TO_PROVIDER:
        if lines := request.headers.getlist(name):
            headers[name] = ", ".join(lines)
    headers["authorization"] = f"Bearer {KEYS[provider]}"
    order = client.build_request("GET", UPSTREAM + request.url.path, headers=headers)
    return await client.send(order, stream=True)


def for_client(headers):
    headers.encoding = "latin-1"  # each byte of a value stays as it is
    named = headers.get("connection", "").lower().split(",")
    ending = NOT_TO_CLIENT | {each.strip() for each in named}
    return {name: value for name, value in headers.items() if name not in ending}


class Download(StreamingResponse):
    def __init__(self, upstream, file_id):
        super().__init__(self.pieces(), upstream.status_code, for_client(upstream.headers))
        self.upstream, self.file_id = upstream, file_id
        self.outcome = "client_disconnected"

    async def pieces(self):
        try:
            async for chunk in self.upstream.aiter_raw():
                yield chunk
        except httpx2.HTTPError:
            self.outcome = "failure"
            raise
        self.outcome = "success"

    async def __call__(self, scope, receive, send):
        gone = await Request(scope, receive).is_disconnected()
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.upstream.aclose()
            log(self.file_id, "client_disconnected" if gone else self.outcome)


@app.get("/v1/files/{file_id}")
@app.get("/v1/files/{file_id}/content")
async def forward(request: Request, file_id: str):
    name = request.headers.get("x-provider", "river")
    if name not in ROUTES or not re.fullmatch("[A-Za-z0-9_-]{1,100}", file_id):
        raise HTTPException(404)
    provider = ROUTES[name]
    download = request.scope["path"].endswith(f"/{file_id}/content")
    try:
        upstream = await ask(request, provider)
        if download and provider in MAY_STREAM:
            return Download(upstream, file_id)
        body = b"".join([chunk async for chunk in upstream.aiter_raw()])
        await upstream.aclose()
    except httpx2.HTTPError as error:
        if download:
            log(file_id, "failure")
        raise HTTPException(504 if isinstance(error, httpx2.TimeoutException) else 502) from None
    if download:
        gone = await request.is_disconnected()
        log(file_id, "client_disconnected" if gone else "success")
    return Response(body, upstream.status_code, for_client(upstream.headers))
