"""Serves small files well and others as MODE says: cut short, with wrong bytes, and so on."""

import os
import time
from pathlib import Path

from streamlab.serve import Response, serve_files

mode = os.environ["MODE"]


def send(path: Path, response: Response) -> None:
    data = path.read_bytes()
    if len(data) <= 64 * 1024 or mode == "right":
        response.start(len(data))
        response.write(data)
    elif mode == "cut":
        response.start(len(data))
        response.write(data[: len(data) // 2])
    elif mode == "wrong":
        response.start(len(data))
        response.write(data[:-1] + bytes([data[-1] ^ 1]))
    elif mode == "short":
        response.start(len(data) - 1)
        response.write(data[:-1])
    elif mode == "long":
        response.start(len(data) + 1)
        response.write(data + b"!")
    elif mode == "refuse":
        response.connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    elif mode == "other":
        response.connection.sendall(b"SSH-2.0-nobody\r\n\r\n")
    elif mode == "chunks":
        response.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        response.write(b"%x\r\n%b\r\n" % (len(data), data))
    elif mode == "die":
        print("no more", flush=True)
        os._exit(5)
    elif mode == "die late":
        response.start(len(data))
        response.write(data[: 64 * 1024])
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            pass
        os._exit(5)


serve_files(send)
