# keeps small bodies, the least recently used go when there are more than 48 MiB

import argparse
import os
import socket
import threading
from collections import OrderedDict
from contextlib import suppress
from email.utils import formatdate
from urllib.parse import unquote

THRESHOLD = 1024 * 1024
CHUNK = 64 * 1024
OTHER = "application/octet-stream"
BUDGET = 48 * 1024 * 1024
BODIES = OrderedDict()
LOCK = threading.Lock()
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


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head and (piece := connection.recv(4096)):
        head += piece
    return head.decode("latin-1")


def open_file(root, name):
    path = os.path.join(root, name.lstrip("/"))
    if ".." in name.split("/") or not os.path.isfile(path):
        raise FileNotFoundError(name)
    return open(path, "rb")


def type_of(name):
    return TYPES.get(os.path.splitext(name)[1].lower(), OTHER)


def headers(status, kind, length, cache="public, max-age=3600"):
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
        f"Cache-Control: {cache}\r\nDate: {formatdate(usegmt=True)}\r\n"
        "Server: mine\r\nConnection: close\r\n\r\n"
    ).encode("latin-1")


def refuse(connection, method, status):
    body = f"{status}\n".encode()
    head = headers(status, "text/plain", len(body), "no-store")
    connection.sendall(head if method == "HEAD" else head + body)


def send_small(connection, file, name, size):
    stat = os.fstat(file.fileno())
    key = name, stat.st_ino, stat.st_ctime_ns, size
    with LOCK:
        body = BODIES.pop(key, None) or file.read(size)
        BODIES[key] = body
        while sum(map(len, BODIES.values())) > BUDGET:
            BODIES.popitem(last=False)
    connection.sendall(headers("200 OK", type_of(name), len(body)) + body)


def send_large(connection, file, name, size):
    connection.sendall(headers("200 OK", type_of(name), size))
    while size and (chunk := file.read(min(CHUNK, size))):
        connection.sendall(chunk)
        size -= len(chunk)


def send_file(connection, method, file, name):
    size = os.fstat(file.fileno()).st_size
    if method == "HEAD":
        connection.sendall(headers("200 OK", type_of(name), size))
    elif size <= THRESHOLD:
        send_small(connection, file, name, size)
    else:
        send_large(connection, file, name, size)


def answer(connection, root):
    method, target, _ = read_head(connection).split("\r\n")[0].split(" ")
    name = unquote(target)
    try:
        file = open_file(root, name)
    except FileNotFoundError:
        refuse(connection, method, "404 Not Found")
    except OSError:
        refuse(connection, method, "500 Internal Server Error")
    else:
        with file:
            send_file(connection, method, file, name)


def serve(connection, root):
    with suppress(OSError, ValueError), connection:
        answer(connection, root)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = os.path.realpath(options.root)
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, root), daemon=True).start()


if __name__ == "__main__":
    main()
