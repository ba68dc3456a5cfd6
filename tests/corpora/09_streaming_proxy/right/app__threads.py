# A thread for each download, http.client, and an event loop that only sends

import asyncio
import http.client
import os
import re
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

UPSTREAM = urlsplit(os.environ["STREAMLAB_UPSTREAM"])
TIMEOUT = float(os.environ["STREAMLAB_TIMEOUT"])
PATH = re.compile(r"/v1/files/([A-Za-z0-9_-]{1,100})(/content)?")
PROVIDERS = {"river": ("key-of-the-river", True), "lake": ("key-of-the-lake", False)}
ROUTES = {"river": "river", "fast": "river", "lake": "lake", "cheap": "lake"}
TO_PROVIDER = {
    *("accept", "accept-encoding", "range", "if-range"),
    *("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"),
}
NOT_TO_CLIENT = {
    *("connection", "keep-alive", "proxy-connection", "proxy-authenticate"),
    *("te", "trailer", "transfer-encoding", "upgrade", "set-cookie"),
}


def plan(scope):
    """The file, whether it is a download, and the provider; None for what is not served."""
    found = PATH.fullmatch(scope["path"])
    sent = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]]
    name = dict(sent).get("x-provider", "river")
    if scope["method"] != "GET" or not found or name not in ROUTES:
        return None
    key, may_stream = PROVIDERS[ROUTES[name]]
    headers = {}
    for field, value in sent:
        if field in TO_PROVIDER:
            headers[field] = f"{headers[field]}, {value}" if field in headers else value
    headers.setdefault("accept-encoding", "identity")
    return found[1], bool(found[2]), headers | {"authorization": f"Bearer {key}"}, may_stream


def for_client(pairs):
    pairs = [(name.lower(), value) for name, value in pairs]
    named = ",".join(value for name, value in pairs if name == "connection")
    ending = NOT_TO_CLIENT | {each.strip().lower() for each in named.split(",")}
    return [(n.encode("latin-1"), v.encode("latin-1")) for n, v in pairs if n not in ending]


async def refuse(send, status):
    await start(send, status, [(b"content-length", b"0")])
    await send({"type": "http.response.body", "body": b""})


async def start(send, status, headers):
    await send({"type": "http.response.start", "status": status, "headers": headers})


def read_all(answer, loop, send):
    """In a thread: hand each chunk to the loop, and wait until it has been sent."""

    def hand(chunk, more=True):
        message = {"type": "http.response.body", "body": chunk, "more_body": more}
        asyncio.run_coroutine_threadsafe(send(message), loop).result()

    left = answer.length
    while chunk := answer.read1(65536):
        left = left and left - len(chunk)
        hand(chunk)
    if left:
        raise http.client.IncompleteRead(b"", left)
    hand(b"", False)


async def in_thread(function):
    """Run a function in a thread of its own, which ends when its connection is shut down."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def settle(method, value):
        if not done.done():
            method(value)

    def run():
        try:
            result = function()
        except BaseException as error:
            loop.call_soon_threadsafe(settle, done.set_exception, error)
        else:
            loop.call_soon_threadsafe(settle, done.set_result, result)

    threading.Thread(target=run, daemon=True).start()
    return await done


async def serve(path, headers, may_stream, send):
    connection = http.client.HTTPConnection(UPSTREAM.hostname, UPSTREAM.port, timeout=TIMEOUT)

    def ask():
        connection.request("GET", path, headers={**headers, "Connection": "close"})
        sockets.append(connection.sock)
        return connection.getresponse()

    sockets = []
    answer = None
    try:
        try:
            answer = await in_thread(ask)
            body = None
            if not may_stream:
                body = await in_thread(answer.read)
        except TimeoutError:
            await refuse(send, 504)
            return "failure"
        except (OSError, http.client.HTTPException):
            await refuse(send, 502)
            return "failure"
        out = for_client(answer.getheaders())
        if body is not None:
            out = [pair for pair in out if pair[0] != b"content-length"]
            out.append((b"content-length", str(len(body)).encode()))
            await start(send, answer.status, out)
            await send({"type": "http.response.body", "body": body})
            return "success"
        await start(send, answer.status, out)
        loop = asyncio.get_running_loop()
        await in_thread(lambda: read_all(answer, loop, send))
        return "success"
    finally:
        for sock in sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if answer is not None:
            answer.close()
        connection.close()


async def until_gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if (what := plan(scope)) is None:
        await refuse(send, 404)
        return
    file_id, download, headers, may_stream = what
    finished = False

    async def tell(message):
        nonlocal finished
        await send(message)
        finished = message["type"] == "http.response.body" and not message.get("more_body")

    work = asyncio.create_task(serve(scope["path"], headers, may_stream, tell))
    watch = asyncio.create_task(until_gone(receive))
    await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
    watch.cancel()
    if finished:
        await asyncio.wait({work})
    outcome = "client_disconnected"
    try:
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
        elif not work.cancelled():
            outcome = work.result()
    except Exception:
        outcome = "failure"
        raise
    finally:
        if download:
            print(f"download {file_id} {outcome}", flush=True)
