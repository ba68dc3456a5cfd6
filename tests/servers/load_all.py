"""Reads the whole file, then sends it."""

from pathlib import Path

from streamlab.serve import Response, serve_files


def send(path: Path, response: Response) -> None:
    data = path.read_bytes()
    response.start(len(data))
    response.write(data)


serve_files(send)
