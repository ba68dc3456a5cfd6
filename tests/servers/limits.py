"""Answers any request with its limits, and whether 300 MiB can be had, as JSON; POSIX only."""

import json
import os
import resource
from http.server import BaseHTTPRequestHandler, HTTPServer

from streamlab.serve import HOST, announce


def can_have(size: int) -> bool:
    try:
        bytearray(size)
    except MemoryError:
        return False
    return True


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
        limits = {name: resource.getrlimit(getattr(resource, name)) for name in names}
        answer = json.dumps(
            {
                "limits": limits,
                "holds": can_have(300 << 20),
                "leads": os.getpid() == os.getpgrp() == os.getsid(0),
                "extra": os.environ.get("EXTRA"),
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


with HTTPServer((HOST, 0), Handler) as server:
    announce(server.server_port)
    server.serve_forever()
