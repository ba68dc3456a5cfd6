"""`python -m http.server` on any free port, which it prints as the other servers do."""

import argparse
import functools
import http.server

parser = argparse.ArgumentParser()
parser.add_argument("--root")
parser.add_argument("--port", type=int, default=0)
ROOT = parser.parse_args().root
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=ROOT)
with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
