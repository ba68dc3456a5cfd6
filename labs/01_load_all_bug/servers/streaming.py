"""Fills one buffer of CHUNK bytes again and again, and sends what is in it."""

import os

from streamlab.serve import serve_files

CHUNK = int(os.environ.get("CHUNK", 65536))


def send(path, response):
    response.start(path.stat().st_size)
    buffer = bytearray(min(CHUNK, path.stat().st_size))
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(view):
            response.write(view[:count])


serve_files(send)
