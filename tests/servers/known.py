"""Streams, but takes AMOUNT bytes of memory for a large file, and keeps or, with PEAK, frees it.

Before it listens it takes EARLIER bytes, and frees them.
"""

import os
from pathlib import Path

from streamlab.serve import Response, serve_files

amount = int(os.environ["AMOUNT"])
short_peak = "PEAK" in os.environ
earlier = bytearray(b"\xff") * int(os.environ.get("EARLIER", "0"))
del earlier


def send(path: Path, response: Response) -> None:
    size = path.stat().st_size
    ballast = bytearray(b"\xff") * (amount if size > 64 * 1024 else 0)
    if short_peak:
        del ballast
    response.start(size)
    with path.open("rb") as file:
        while piece := file.read(64 * 1024):
            response.write(piece)


serve_files(send)
