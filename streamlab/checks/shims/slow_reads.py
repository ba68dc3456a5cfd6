"""A disk that makes its readers wait: a read of one file begins when a gate opens.

Beside this file are `slow`, with the name of that file below the folder in `STREAMLAB_ROOT`, and,
once the gate is open, a file `open`.
"""

from __future__ import annotations

import builtins
import io
import os
import time
from collections.abc import Callable

HERE = os.path.dirname(os.path.abspath(__file__))


def wait() -> None:
    """Wait until the gate is open."""
    while not os.path.exists(os.path.join(HERE, "open")):
        time.sleep(0.05)


class SlowFile(io.FileIO):
    """The slow file."""

    def read(self, *size: int) -> bytes:  # type: ignore[override]
        wait()
        return super().read(*size)

    def readall(self) -> bytes:
        wait()
        return super().readall()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wait()
        return super().readinto(buffer)


def install(name: str) -> None:
    """Change how this process reads the file of that name below `STREAMLAB_ROOT`."""
    slow = os.path.join(os.environ.get("STREAMLAB_ROOT", ""), name)
    quick_open = io.open

    def is_slow(file: int | str | bytes) -> bool:
        try:
            return os.path.samestat(os.stat(file), os.stat(slow))
        except (OSError, TypeError, ValueError):
            return False

    def slow_open(file, mode="r", buffering=-1, *more, **options):  # type: ignore[no-untyped-def]
        if sorted(mode) != ["b", "r"] or not is_slow(file):
            return quick_open(file, mode, buffering, *more, **options)
        allowed = {key: value for key, value in options.items() if key in ("closefd", "opener")}
        raw = SlowFile(file, "rb", **allowed)
        if buffering == 0:
            return raw
        return io.BufferedReader(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)

    def slowly(call: Callable[..., object], place: int) -> Callable[..., object]:
        def called(*arguments: int, **options: int) -> object:
            if len(arguments) > place and is_slow(arguments[place]):
                wait()
            return call(*arguments, **options)

        return called

    builtins.open = io.open = slow_open
    # Each function, and which of its arguments is the file.
    calls = {"read": 0, "readv": 0, "pread": 0, "preadv": 0, "splice": 0, "copy_file_range": 0}
    for call, place in {**calls, "sendfile": 1}.items():
        if hasattr(os, call):
            setattr(os, call, slowly(getattr(os, call), place))


if __name__ == "sitecustomize":
    with open(os.path.join(HERE, "slow"), encoding="utf-8") as file:
        install(file.read())
