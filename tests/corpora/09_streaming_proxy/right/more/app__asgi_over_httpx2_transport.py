# right: ASGI by hand over the transport of httpx2: no client, no cookies, a watcher for the leaving

import asyncio
import os
import re
from dataclasses import dataclass
from typing import Literal

import httpx2

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


PATH = re.compile(r"/v1/files/([^/]*)(/content)?")
LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
transport = httpx2.AsyncHTTPTransport(limits=LIMITS, retries=0)
WAIT = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT)}


def to_upstream(scope, provider):
    wanted = [pair for pair in scope["headers"] if pair[0].decode("latin-1") in TO_PROVIDER]
    ours = [
        (b"authorization", f"Bearer {provider.key}".encode()),
        (b"connection", b"close"),
        (b"via", b"1.1 gateway"),
    ]
    return httpx2.Request("GET", UPSTREAM + scope["path"], headers=ours + wanted, extensions=WAIT)


def to_client(pairs):
    named = set()
    for name, text in pairs:
        if name.lower() == b"connection":
            named |= {each.strip().lower() for each in text.decode("latin-1").split(",")}
    return [
        (name.lower(), text)
        for name, text in pairs
        if name.decode("latin-1").lower() not in NOT_TO_CLIENT | named
    ]


async def refuse(send, status):
    headers = [(b"content-length", b"4"), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"sad\n"})


async def left(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def pump(send, response, whole, watch):
    """Send the answer; whether the client was there at the end."""
    headers = to_client(response.headers.raw)
    if whole is not None and response.status_code not in (204, 304):
        headers = [pair for pair in headers if pair[0] != b"content-length"]
        headers.append((b"content-length", str(len(whole)).encode()))
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    if whole is not None:
        for at in range(0, len(whole), 65536):
            part = whole[at : at + 65536]
            await send({"type": "http.response.body", "body": part, "more_body": True})
    else:
        async for chunk in response.stream:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    there = not watch.done()
    try:
        await send({"type": "http.response.body"})
    except RuntimeError:
        if response.status_code not in (204, 304):  # they have a length, and no body
            raise
    return there


async def pass_on(scope, receive, send, provider, done):
    watch = asyncio.create_task(left(receive))
    response = work = None
    try:
        try:
            response = await transport.handle_async_request(to_upstream(scope, provider))
            whole = None
            if not provider.may_stream:
                whole = b"".join([chunk async for chunk in response.stream])
        except httpx2.TimeoutException:
            done("failure")
            await refuse(send, 504)
            return
        except (httpx2.TransportError, OSError):
            done("failure")
            await refuse(send, 502)
            return
        work = asyncio.create_task(pump(send, response, whole, watch))
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and watch.done():
            # The watcher also ends when the last byte has been sent.
            await asyncio.wait({work}, timeout=0.02)
        if work.done():
            if work.exception() is not None:
                done("failure")
                raise work.exception()
            done("success" if work.result() else "client_disconnected")
        else:
            done("client_disconnected")
    finally:
        watch.cancel()
        if work is not None:
            work.cancel()
        await asyncio.gather(*filter(None, (watch, work)), return_exceptions=True)
        if response is not None:
            await response.stream.aclose()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    found = PATH.fullmatch(scope["path"])
    names = [text.decode("latin-1") for name, text in scope["headers"] if name == b"x-provider"]
    name = names[-1] if names else DEFAULT
    if scope["method"] != "GET" or found is None or not FILE_ID.fullmatch(found[1]):
        await refuse(send, 404)
        return
    if name not in ROUTES:
        await refuse(send, 400)
        return

    said = []

    def done(outcome):
        if found[2] and not said:
            said.append(outcome)
            log(found[1], outcome)

    await pass_on(scope, receive, send, PROVIDERS[ROUTES[name]], done)
