"""A slow disk: writes to a file take their time, as on a busy machine.

It slows Python's own files and `os.write`. Other ways to write are as fast as before, and then the
check sees nothing: it never fails a client for the way in which it writes.
"""

from __future__ import annotations

import builtins
import io
import os
import stat
import time
from collections.abc import Callable

RATE = 16 * 1024 * 1024
"""Bytes that the disk takes in a second."""

Data = bytes | bytearray | memoryview


def take_time(descriptor: int, data: Data) -> None:
    """Sleep for as long as the disk needs for `data`, if `descriptor` is a file."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        time.sleep(memoryview(data).nbytes / RATE)


class SlowFile(io.FileIO):
    """A file whose disk is slow."""

    def write(self, data: Data) -> int:  # type: ignore[override]
        take_time(self.fileno(), data)
        return super().write(data)


def install() -> None:
    """Change how this process writes."""
    quick_open: Callable[..., object] = io.open
    quick_write = os.write

    def slow_open(  # type: ignore[no-untyped-def]
        file, mode="r", buffering=-1, *rest, closefd=True, opener=None, **named
    ):
        if "b" not in mode or not set(mode) & set("wxa+"):
            return quick_open(file, mode, buffering, *rest, closefd=closefd, opener=opener, **named)
        raw = SlowFile(file, mode.replace("b", ""), closefd, opener)
        if buffering == 0:
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        return io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)

    def write(descriptor: int, data: Data) -> int:
        take_time(descriptor, data)
        return quick_write(descriptor, data)

    builtins.open = io.open = slow_open
    os.write = write  # type: ignore[assignment]


if __name__ == "sitecustomize":
    install()
