"""aiohttp's own static files."""

import argparse
import asyncio
import socket

from aiohttp import web

parser = argparse.ArgumentParser()
parser.add_argument("--root")
parser.add_argument("--port", type=int, default=0)
ROOT = parser.parse_args().root


async def main() -> None:
    app = web.Application()
    app.router.add_static("/", ROOT)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    await web.SockSite(runner, sock).start()
    print(f"listening on http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
