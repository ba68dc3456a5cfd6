# http.server of the standard library

import argparse
import shutil
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

CHUNK = 64 * 1024


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        root = self.server.root
        path = (root / unquote(self.path).lstrip("/")).resolve()
        if not (path.is_relative_to(root) and path.is_file()):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        with suppress(ConnectionError), path.open("rb") as file:
            shutil.copyfileobj(file, self.wfile)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.root = Path(options.root).resolve()
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
