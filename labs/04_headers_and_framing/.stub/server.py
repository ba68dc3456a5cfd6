"""A file server that frames its answers: `python server.py --root DIR --port 0`."""

import argparse
import mimetypes
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

CHUNK = 64 * 1024


def find_file(root: Path, target: str) -> Path | None:
    """The file below `root` that a request's target names; None if there is none."""
    name = unquote(target.partition("?")[0]).lstrip("/")
    if "\0" in name:
        return None
    with suppress(OSError):  # a name too long for any file
        path = (root / name).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None
    return None


def find_report(target: str) -> Iterator[bytes] | None:
    """The report that `/report/LINES` or `/report/LINES?fail=LINE` names; None for other targets.

    Its source fails, with a RuntimeError, when it comes to line number LINE.
    """
    found = re.fullmatch(r"/report/([0-9]{1,15})(?:\?fail=([0-9]{1,15}))?", target)
    return report(int(found[1]), int(found[2] or found[1])) if found else None


def report(lines: int, fail: int) -> Iterator[bytes]:
    """The lines of a report, made one after the other: nobody knows beforehand how long it gets.

    Every tenth sensor is silent: its piece is empty.
    """
    for number in range(lines):
        if number == fail:
            raise RuntimeError(f"the source failed at line {number}")
        yield b"" if number % 10 == 7 else b"sensor %d: %d\n" % (number, number * number % 997)


def serve(connection: socket.socket, root: Path) -> None:
    """Answer one client's requests, one after the other, and close the connection."""
    # TODO: read one request after the other, and answer each with a body that has an end
    with connection:
        print("asked:", connection.recv(CHUNK))
        connection.sendall(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n")


def main() -> None:
    """Listen, say where, and give each client a thread."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, root), daemon=True).start()


if __name__ == "__main__":
    main()
