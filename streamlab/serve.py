"""Two ways to run a server by the course's contract; standard library only until an app is loaded.

A script serves files under `--root` on 127.0.0.1 and prints `listening on http://127.0.0.1:PORT` as
its first line. In the first lessons `serve_files` is the last line of such a script: it does
threads, request line and headers, and the lesson writes how the bytes go out. `serve_files_async`
is the same on an event loop.

An ASGI app runs with `python -m streamlab.serve FILE:app --port 0`: uvicorn on a socket of ours.
"""

from __future__ import annotations

import _thread
import argparse
import importlib.util
import os
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, StreamReader, StreamWriter, WriteTransport

HOST = "127.0.0.1"
BACKLOG = 2048
"""Connections that may wait to be accepted: in later lessons a thousand clients arrive at once."""


class Response:
    """Where a lesson's `send` writes its answer: `start` once, then `write` as often as needed."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler
        self.connection: socket.socket = handler.connection
        """The client's socket, for servers that write to it directly."""

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


class AsyncResponse:
    """Where a lesson's `async def send` writes its answer.

    The transport's buffer keeps what `write` can't send yet, and `drain` waits until it has room.
    """

    def __init__(self, writer: StreamWriter) -> None:
        self._writer = writer
        self.transport: WriteTransport = writer.transport
        """The client's transport, for servers that bypass its buffer (`loop.sendfile`)."""
        self.connection: socket.socket = writer.get_extra_info("socket")
        """The client's socket, for its options only: asyncio reads and writes it."""

    def start(self, length: int) -> None:
        """Write status 200 and the headers; `length` is the number of bytes of body to come."""
        self._writer.write(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {length}\r\nConnection: close\r\n\r\n".encode()
        )

    def write(self, data: Any) -> None:
        """Take all of `data` (bytes or a buffer), at once, whatever the client takes."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait while the transport's buffer holds more than its high-water mark."""
        await self._writer.drain()


AsyncSend = Callable[[Path, AsyncResponse], Awaitable[None]]


class _Door(HTTPServer):
    """What servers with threads and with processes have in common."""

    request_queue_size = BACKLOG

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if isinstance(error, ConnectionError):
            return  # the client left, which is no error
        traceback.print_exc()
        _give_up_without_memory(error)


def _give_up_without_memory(error: BaseException | None) -> None:
    """End this process after a `MemoryError`.

    Threads share one memory. The kernel's out-of-memory killer would not ask which thread had no
    memory either: every client of this process loses its download.
    """
    sys.stderr.flush()
    if isinstance(error, MemoryError):
        os._exit(1)


class _Server(_Door, ThreadingHTTPServer):
    def process_request(self, request: Any, client_address: Any) -> None:
        # `Thread.start` waits until the new thread runs: for ever, if that has no memory for its
        # first step. So a client without a thread is refused, and the next one may get one.
        _thread.start_new_thread(self.process_request_thread, (request, client_address))


def serve_files(
    send: Send,
    *,
    processes: bool = False,
    threads: int | None = None,
    send_buffer: int | None = None,
) -> None:
    """Serve the files of a folder, each request in a thread: `send(path, response)` answers one.

    With `processes`, each request has a process of its own, a fork of this one (not on Windows).
    With `threads`, there is a pool of that many threads, and a client waits until one is free.
    `send_buffer` is the `SO_SNDBUF` of all connections, in bytes (socket(7)).

    Takes `--root DIR` (default: this folder) and `--port N` (default 0: any free one) from the
    command line. A path outside the root, or no file, is a 404. A client that leaves ends only its
    own request; a `MemoryError` ends the process with status 1.
    """
    options = arguments()
    root = Path(options.root).resolve()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = _inside(root, self.path)
            if path is None:
                self.send_error(404)
                return
            send(path, Response(self))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    kind = _forking() if processes else _pooled(threads) if threads else _Server
    try:
        bound = kind((HOST, options.port), Handler)
    except OSError as error:
        raise SystemExit(_taken(options.port, error)) from None
    with bound as server:
        if send_buffer is not None:  # each connection inherits it
            server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        announce(server.server_port)
        server.serve_forever()


def _forking() -> type[HTTPServer]:
    """A server with a process for each client (not on Windows, which can't fork)."""
    from socketserver import ForkingMixIn

    class Forking(ForkingMixIn, _Door):
        max_children = BACKLOG
        block_on_close = False

    return Forking


def _pooled(threads: int) -> type[HTTPServer]:
    """A server with `threads` threads, whatever the number of clients."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads)

    class Pooled(_Server):
        def process_request(self, request: Any, client_address: Any) -> None:
            pool.submit(self.process_request_thread, request, client_address)

    return Pooled


def _inside(root: Path, path: str) -> Path | None:
    """The file that a request's path names below `root`; None if there is none."""
    found = (root / path.lstrip("/")).resolve()
    return found if found.is_relative_to(root) and found.is_file() else None


def serve_files_async(send: AsyncSend, *, send_buffer: int | None = None) -> None:
    """Serve the files of a folder on one event loop: `await send(path, response)` answers one.

    `send_buffer`, the command line, a 404, a client that leaves and a `MemoryError` are handled as
    in `serve_files`.
    """
    import asyncio  # a server with threads must not load it

    options = arguments()
    root = Path(options.root).resolve()

    async def answer(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            path = _inside(root, request.decode("latin-1").split()[1])
            if path is None:
                writer.write(
                    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            else:
                await send(path, AsyncResponse(writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left, which is no error
        except Exception as error:
            traceback.print_exc()
            _give_up_without_memory(error)
        finally:
            writer.close()

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(_LoopErrors())
        listener = _listener(options.port)
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        server = await asyncio.start_server(answer, sock=listener)
        # Not as asyncio's `backlog`: without descriptors, asyncio calls accept(2) that many times.
        listener.listen(BACKLOG)
        announce(listener.getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


class _LoopErrors:
    """Print errors of the event loop itself, each in one line, and once."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, ConnectionError):
            return
        line = f"{context['message']}: {error!r}"
        if line != self._last:  # accept(2) without descriptors: a hundred in a row
            self._last = line
            print(line, file=sys.stderr, flush=True)
        _give_up_without_memory(error)


def _listener(port: int) -> socket.socket:
    """A socket bound to that port, or to any free one; ends the program where that fails."""
    # IPPROTO_TCP by name: asyncio sets TCP_NODELAY only on sockets that say they are TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise SystemExit(_taken(port, error)) from None
    return listener


def _taken(port: int, error: OSError) -> str:
    """Why nothing can listen on a port, in one line."""
    from streamlab.environment import taken  # imported only then: a server stays small

    return taken(port, error)


def announce(port: int) -> None:
    """Print the line that says that a server listens, and where."""
    # In one write: a child that prints at the same moment must not come between.
    sys.stdout.write(f"listening on http://{HOST}:{port}\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """The options of a script: `--root DIR` (default: this folder), `--port N`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".", help="folder of the files to serve")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (0: any free one)")
    return parser.parse_args()


def load_app(target: str) -> Any:
    """The object that `FILE:NAME` names; runs the file as a module of its own.

    Like a script, it can import what is in its folder.
    """
    file, _, name = target.rpartition(":")
    path = Path(file).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not file or spec is None or spec.loader is None:
        raise SystemExit(f"{target!r} is not FILE:NAME, such as app.py:app")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.append(str(path.parent))
    spec.loader.exec_module(module)
    try:
        return getattr(module, name)
    except AttributeError:
        raise SystemExit(f"{path.name} has no {name!r}: name your app {name}") from None


def serve_app(app: Any, **settings: Any) -> None:
    """Run an ASGI app as the last line of a script, with these settings of uvicorn's.

    Takes `--root` and `--port` from the command line, as `serve_files` does. The settings are those
    of `uvicorn.Config` (uvicorn's documentation, "Settings").
    """
    _run_app(app, arguments().port, **settings)


def _run_app(app: Any, port: int, **settings: Any) -> None:
    """Run an ASGI app under uvicorn on a socket that this process opens."""
    import uvicorn

    listener = _listener(port)
    listener.listen(BACKLOG)
    announce(listener.getsockname()[1])
    config = uvicorn.Config(app, log_level="warning", access_log=False, backlog=BACKLOG, **settings)
    uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    """Run an ASGI app under uvicorn on a socket that this process opened."""
    parser = argparse.ArgumentParser(prog="python -m streamlab.serve", description=main.__doc__)
    parser.add_argument("app", help="FILE:NAME, such as app.py:app")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (0: any free one)")
    options = parser.parse_args()

    from streamlab.environment import prepare

    prepare()
    _run_app(load_app(options.app), options.port, timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
