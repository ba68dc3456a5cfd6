"""Reads 64 KiB, sends them, and so on."""

from pathlib import Path

from streamlab.serve import Response, serve_files


def send(path: Path, response: Response) -> None:
    response.start(path.stat().st_size)
    with path.open("rb") as file:
        while piece := file.read(64 * 1024):
            response.write(piece)


serve_files(send)
