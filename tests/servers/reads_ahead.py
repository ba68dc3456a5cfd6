"""Sends the beginning of a file, and only then takes the rest into memory, bit by bit."""

import time
from pathlib import Path

from streamlab.serve import Response, serve_files

MIB = 1024 * 1024


def send(path: Path, response: Response) -> None:
    response.start(path.stat().st_size)
    with path.open("rb") as file:
        response.write(file.read(MIB))
        pieces = []
        while piece := file.read(MIB):
            pieces.append(piece)
            time.sleep(0.02)
    for piece in pieces:
        response.write(piece)


serve_files(send)
