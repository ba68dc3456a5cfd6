"""Two ways to run a server by the course's contract; standard library only until an app is loaded.

A script serves files under `--root` on 127.0.0.1 and prints `listening on http://127.0.0.1:PORT`
as its first line. `serve_files` is such a script's last line in the first lessons: threads, request
line and headers are done here, and the lesson writes the part that matters, how the bytes go out.

An ASGI app runs with `python -m streamlab.serve FILE:app --port 0`: uvicorn on a socket of ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import sys
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
BACKLOG = 2048
"""Connections that may wait to be accepted: a thousand clients arrive at once in later lessons."""


class Response:
    """Where a lesson's `send` writes its answer: `start` once, then `write` as often as needed."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler
        self.connection: socket.socket = handler.connection
        """The client's socket, for those who write to it directly."""

    def start(self, length: int) -> None:
        """Send status 200 and the headers; `length` is the number of bytes of body to come."""
        self._handler.send_response(200)
        self._handler.send_header("Content-Type", "application/octet-stream")
        self._handler.send_header("Content-Length", str(length))
        self._handler.end_headers()

    def write(self, data: Any) -> None:
        """Send all of `data` (bytes or a buffer), waiting for the client where it is slow."""
        self.connection.sendall(data)


Send = Callable[[Path, Response], None]


class _Server(ThreadingHTTPServer):
    request_queue_size = BACKLOG
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if isinstance(error, ConnectionError):
            return  # the client left: nobody to answer, nothing broken
        traceback.print_exc()
        sys.stderr.flush()
        if isinstance(error, MemoryError):
            # One process has one memory. The kernel's out-of-memory killer would not ask which
            # thread was unlucky either: every client of this process loses its download.
            os._exit(1)


def serve_files(send: Send) -> None:
    """Serve the files of a folder, each request in a thread: `send(path, response)` answers one.

    Takes `--root DIR` (default: this folder) and `--port N` (default 0: any free one) from the
    command line. A path outside the root, or no file, is a 404. A client that leaves ends its own
    request alone; a `MemoryError` ends the process with status 1.
    """
    options = arguments()
    root = Path(options.root).resolve()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = (root / self.path.lstrip("/")).resolve()
            if not (path.is_relative_to(root) and path.is_file()):
                self.send_error(404)
                return
            send(path, Response(self))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with _Server((HOST, options.port), Handler) as server:
        announce(server.server_port)
        server.serve_forever()


def announce(port: int) -> None:
    """Print the line by which a server says that it can be asked, and where."""
    print(f"listening on http://{HOST}:{port}", flush=True)


def arguments() -> argparse.Namespace:
    """What a script's command line says: `--root DIR` (default: this folder), `--port N`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".", help="folder of the files to serve")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (0: any free one)")
    return parser.parse_args()


def load_app(target: str) -> Any:
    """The object that `FILE:NAME` names, the file run as a module of its own."""
    file, _, name = target.rpartition(":")
    path = Path(file).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not file or spec is None or spec.loader is None:
        raise SystemExit(f"{target!r} is not FILE:NAME, such as app.py:app")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    try:
        return getattr(module, name)
    except AttributeError:
        raise SystemExit(f"{path.name} has no {name!r}: name your app {name}") from None


def main() -> None:
    """Run an ASGI app under uvicorn on a socket that this process opened."""
    parser = argparse.ArgumentParser(prog="python -m streamlab.serve", description=main.__doc__)
    parser.add_argument("app", help="FILE:NAME, such as app.py:app")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (0: any free one)")
    options = parser.parse_args()
    app = load_app(options.app)

    import uvicorn

    # IPPROTO_TCP by name: asyncio sets TCP_NODELAY only on sockets that say they are TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, options.port))
    listener.listen(BACKLOG)
    announce(listener.getsockname()[1])
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, backlog=BACKLOG
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
