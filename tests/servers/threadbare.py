"""Serves files, but the first thread finds no memory for its first step; as CPython reports it."""

import _thread
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamlab.serve import Response, serve_files


def without_memory() -> None:
    raise MemoryError


def start_new_thread(function: Callable[..., object], arguments: tuple[Any, ...]) -> int:
    _thread.start_new_thread = threading._start_new_thread = start
    return start(without_memory, ())


def send(path: Path, response: Response) -> None:
    response.start(path.stat().st_size)
    response.write(path.read_bytes())


start = _thread.start_new_thread
_thread.start_new_thread = threading._start_new_thread = start_new_thread
serve_files(send)
