"""Uploads: `python server.py --root DIR --port 0`."""

from streamlab.serve import serve_files

CHUNK = 64 * 1024


def send(path, response):
    """Answer with the file at `path`."""
    # TODO: send the file
    response.start(0)


serve_files(send)
