# asyncio's streams and an HTTP/1.0 request, so that there are no chunks to take apart

import asyncio
import os
import re
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


async def serve(path, headers, may_stream, send):
    writer = None
    try:
        try:
            async with asyncio.timeout(TIMEOUT):
                reader, writer = await asyncio.open_connection(
                    UPSTREAM.hostname, UPSTREAM.port, limit=16384
                )
                lines = [f"GET {path} HTTP/1.0", f"Host: {UPSTREAM.netloc}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = head.strip().split("\r\n")
            status = int(line.split()[1])
            pairs = [(k, v.strip()) for k, _, v in (each.partition(":") for each in lines)]
            length = int({k.lower(): v for k, v in pairs}.get("content-length", -1))
            if status == 304:
                length = 0
            body = None
            if not may_stream:
                body = b"".join([chunk async for chunk in chunks(reader, length)])
        except TimeoutError:
            await refuse(send, 504)
            return "failure"
        except (OSError, ValueError, asyncio.IncompleteReadError):
            await refuse(send, 502)
            return "failure"
        out = for_client(pairs)
        if body is not None:
            out = [pair for pair in out if pair[0] != b"content-length"]
            out.append((b"content-length", str(len(body)).encode()))
            await start(send, status, out)
            await send({"type": "http.response.body", "body": body})
            return "success"
        await start(send, status, out)
        async for chunk in chunks(reader, length):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return "success"
    finally:
        if writer is not None:
            writer.close()


async def chunks(reader, length):
    """The body, of so many bytes, or to the end (-1)."""
    left = length
    while left:
        async with asyncio.timeout(TIMEOUT):
            chunk = await reader.read(65536 if left < 0 else min(left, 65536))
        if not chunk and left > 0:
            raise asyncio.IncompleteReadError(b"", left)
        if not chunk:
            return
        if left > 0:
            left -= len(chunk)
        yield chunk


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
