"""Reads the whole file, then sends it."""

from streamlab.serve import serve_files


def send(path, response):
    data = path.read_bytes()
    response.start(len(data))
    response.write(data)


serve_files(send)
