"""A process that is forked ahead, and from which helpers are forked at once (Linux).

A helper is the supervisor of a server or a crowd of clients: a process with a pipe to its standard
input and one from its standard output. A new Python needs 40 to 90 ms of CPU time to start and to
load its modules. A copy of a process that has loaded them needs a tenth of that.

A process that has several threads must not be copied, because another thread may hold a lock in
that moment (fork(2), pthread_atfork(3)). So `prepare` copies this process while it has one thread.
The copy waits for orders on a socket and starts helpers as its own children, so they descend from
this process. `start` gives None where nothing is prepared: start a new Python then.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

_ORDER = 1024 * 1024
"""Most bytes of an order: arguments, environment and folder, as JSON."""


class Helper:
    """A helper as `subprocess.Popen` has a process, as far as it is needed."""

    def __init__(self, pid: int, handle: int, stdin: IO[str], stdout: IO[str]) -> None:
        self.pid = pid
        self.stdin: IO[str] | None = stdin
        self.stdout: IO[str] | None = stdout
        self._handle = handle
        """A pidfd, which can be read when the process has ended (pidfd_open(2))."""

    def wait(self) -> None:
        """Wait for its end."""
        poller = select.poll()
        poller.register(self._handle, select.POLLIN)
        poller.poll()

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def close(self) -> None:
        """Let go of its pipes and of its handle."""
        for stream in (self.stdin, self.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        self.close()


class _Copy:
    """The process that was forked ahead, and the socket for its orders."""

    def __init__(self, pid: int, orders: socket.socket) -> None:
        self.owner = os.getpid()
        self.pid = pid
        self.orders = orders
        self.lock = threading.Lock()


_copy: _Copy | None = None


def prepare(*modules: str) -> bool:
    """Copy this process for helpers to come, if it has one thread; whether there is a copy now.

    `modules` are loaded first, for the helpers. Call it early: what is open now stays open in the
    copy until this process ends or calls `release`.
    """
    global _copy
    if _ready() is not None:
        return True
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    with suppress(OSError):
        os.close(os.pidfd_open(os.getpid()))  # not before Linux 5.3
        for module in modules:
            importlib.import_module(module)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ORDER)
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # a collection writes into each object, and so copies each page
        pid = os.fork()
        if pid == 0:
            ours.close()
            _obey(theirs)
        theirs.close()
        _copy = _Copy(pid, ours)
        return True
    return False


def release() -> None:
    """End the copy that `prepare` made. Helpers that run go on."""
    global _copy
    copy, _copy = _ready(), None
    if copy is not None:
        copy.orders.close()
        with suppress(ChildProcessError):
            os.waitpid(copy.pid, 0)


atexit.register(release)


def start(
    main: str,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    errors: IO[str] | None = None,
) -> Helper | None:
    """Start a helper that runs `main`, as `"module:function"`; None if it can't be done this way.

    The function gets `arguments`, a list, if there are any. What it returns is the exit status.
    The helper leads a session of its own. It has `environment` and runs in the folder `cwd`, or has
    those of this process. `errors` is its standard error (default: that of the copy).
    """
    copy = _ready()
    if copy is None:
        return None
    order = json.dumps(
        {
            "main": main,
            "arguments": list(arguments),
            "environment": dict(os.environ if environment is None else environment),
            "cwd": os.fspath(os.getcwd() if cwd is None else cwd),
        }
    ).encode("utf-8", "surrogateescape")
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    given = [in_read, out_write, *([errors.fileno()] if errors is not None else [])]
    try:
        with copy.lock:
            socket.send_fds(copy.orders, [order], given)
            answer, handles, _, _ = socket.recv_fds(copy.orders, 64, 1)
        if not handles:
            raise OSError("the process that was forked ahead has ended")
    except OSError:  # too long an order, or too many processes
        os.close(in_write)
        os.close(out_read)
        return None
    finally:
        os.close(in_read)
        os.close(out_write)
    return Helper(
        int(answer),
        handles[0],
        open(in_write, "w", encoding="utf-8"),
        open(out_read, encoding="utf-8"),
    )


def _ready() -> _Copy | None:
    """The copy of this process. A process that was forked from this one has none."""
    return _copy if _copy is not None and _copy.owner == os.getpid() else None


def _obey(orders: socket.socket) -> NoReturn:
    """The copy: start a helper for each order, and wait for those that end. It never returns."""
    children: dict[int, int] = {}  # by pidfd
    poller = select.poll()
    poller.register(orders, select.POLLIN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that was copied decides
    try:
        while True:
            for ready, _ in poller.poll():
                if ready in children:
                    poller.unregister(ready)
                    os.waitpid(children.pop(ready), 0)
                    os.close(ready)
                    continue
                order, given, _, _ = socket.recv_fds(orders, _ORDER, 3)
                if not order:
                    os._exit(0)
                pid = os.fork()
                if pid == 0:
                    orders.close()
                    for handle in children:
                        os.close(handle)
                    _become(json.loads(order.decode("utf-8", "surrogateescape")), given)
                for descriptor in given:
                    os.close(descriptor)
                handle = os.pidfd_open(pid)
                children[handle] = pid
                poller.register(handle, select.POLLIN)
                socket.send_fds(orders, [str(pid).encode()], [handle])
    except BaseException:
        os._exit(1)


def _become(order: dict[str, object], given: list[int]) -> NoReturn:
    """A helper: give it what is its own, and run its function. It never returns."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        os.chdir(str(order["cwd"]))
        environment = order["environment"]
        assert isinstance(environment, dict)
        os.environ.clear()
        os.environ.update(environment)
        for number, descriptor in enumerate(given):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8"),
            io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding="utf-8"),
            io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8"),
        )
        sys.path[:] = [folder for folder in sys.path if folder]  # not the folder that it runs in
        module, _, name = str(order["main"]).partition(":")
        arguments = order["arguments"]
        function = getattr(importlib.import_module(module), name)
        status = int(function(arguments) if arguments else function()) or 0
        sys.stdout.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    os._exit(status)
