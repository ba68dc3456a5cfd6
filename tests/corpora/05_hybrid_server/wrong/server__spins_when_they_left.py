# DROP leaves-request: goes on receiving when the client has left before its request was complete

import argparse
import os
import socket
import threading
from email.utils import formatdate
from urllib.parse import unquote

THRESHOLD = 1024 * 1024
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".txt": "text/plain",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".pdf": "application/pdf",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".zip": "application/zip",
}
OTHER_TYPE = "application/octet-stream"


def send_error(connection, status, head_only):
    body = f"{status}\n".encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        f"Date: {formatdate(usegmt=True)}\r\nServer: me\r\nConnection: close\r\n\r\n"
    ).encode()
    connection.sendall(head + (b"" if head_only else body))


def answer(connection, head, root):
    method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
    head_only = method == "HEAD"
    if "%00" in target:
        send_error(connection, "400 Bad Request", head_only)
        return False
    path = os.path.realpath(os.path.join(root, unquote(target.partition("?")[0]).lstrip("/")))
    if not path.startswith(root + "/"):
        send_error(connection, "403 Forbidden", head_only)
        return False
    if not os.path.isfile(path):
        send_error(connection, "404 Not Found", head_only)
        return False
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError:
        send_error(connection, "500 Internal Server Error", head_only)
        return False
    size = os.fstat(file.fileno()).st_size
    kind = TYPES.get(os.path.splitext(path)[1].lower(), OTHER_TYPE)
    headers = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n"
        "Cache-Control: public, max-age=3600\r\n"
        f"Date: {formatdate(usegmt=True)}\r\nServer: me\r\nConnection: close\r\n\r\n"
    ).encode()
    with file:
        if head_only:
            connection.sendall(headers)
        elif size <= THRESHOLD:
            connection.sendall(headers + file.read(size))
        else:
            connection.sendall(headers)
            left = size
            while left:
                chunk = file.read(min(left, 64 * 1024))
                if not chunk:
                    return False
                connection.sendall(chunk)
                left -= len(chunk)
    return False


def serve(connection, root):
    with connection:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        answer(connection, data, root)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    root = os.path.realpath(options.root)
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, root), daemon=True).start()


if __name__ == "__main__":
    main()
