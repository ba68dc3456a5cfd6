"""A disk that makes some writers wait: writes of marked data begin when a gate opens.

Beside this file are `mark`, with the bytes that mark data, and, once the gate is open, a file
`open`. Only writes to plain files wait: those of Python's own files, and of the calls of `os`.
"""

from __future__ import annotations

import builtins
import io
import os
import stat
import time
from collections.abc import Callable

HERE = os.path.dirname(os.path.abspath(__file__))

Data = bytes | bytearray | memoryview


def wait_if(marked: Callable[[Data], bool], descriptor: int, data: Data) -> None:
    """Wait until the gate is open, if these are marked data for a plain file."""
    if marked(data) and stat.S_ISREG(os.fstat(descriptor).st_mode):
        while not os.path.exists(os.path.join(HERE, "open")):
            time.sleep(0.05)


def install(mark: bytes) -> None:
    """Change how this process writes data that have `mark` in them."""
    quick_open: Callable[..., object] = io.open

    def marked(data: Data) -> bool:
        return mark in bytes(data)

    class HeldFile(io.FileIO):
        """A file whose disk waits for the gate."""

        def write(self, data: Data) -> int:  # type: ignore[override]
            wait_if(marked, self.fileno(), data)
            return super().write(data)

    def held_open(  # type: ignore[no-untyped-def]
        file, mode="r", buffering=-1, *rest, closefd=True, opener=None, **named
    ):
        if "b" not in mode or not set(mode) & set("wxa+"):
            return quick_open(file, mode, buffering, *rest, closefd=closefd, opener=opener, **named)
        raw = HeldFile(file, mode.replace("b", ""), closefd, opener)
        if buffering == 0:
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        return io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)

    def held(call: Callable[..., object]) -> Callable[..., object]:
        def called(descriptor: int, data: object, *more: int) -> object:
            pieces = data if isinstance(data, list | tuple) else [data]
            for piece in pieces:
                wait_if(marked, descriptor, piece)  # type: ignore[arg-type]
            return call(descriptor, data, *more)

        return called

    builtins.open = io.open = held_open
    for call in ("write", "pwrite", "writev", "pwritev"):
        if hasattr(os, call):
            setattr(os, call, held(getattr(os, call)))


if __name__ == "sitecustomize":
    with open(os.path.join(HERE, "mark"), "rb") as file:
        install(file.read())
