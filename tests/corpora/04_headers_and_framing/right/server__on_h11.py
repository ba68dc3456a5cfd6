# h11 does the framing, sixty-four threads the rest

import argparse
import mimetypes
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

import h11

CHUNK = 64 * 1024


def find_file(root, target):
    try:
        path = (root / unquote(target.partition("?")[0]).lstrip("/")).resolve()
        return path if path.is_relative_to(root) and path.is_file() else None
    except (OSError, ValueError):  # a name that no file can have
        return None


def find_report(target):
    found = re.fullmatch(r"/report/([0-9]{1,15})(?:\?fail=([0-9]{1,15}))?", target)
    return report(int(found[1]), int(found[2] or found[1])) if found else None


def report(lines, fail):
    for number in range(lines):
        if number == fail:
            raise RuntimeError(f"the source failed at line {number}")
        yield b"" if number % 10 == 7 else b"sensor %d: %d\n" % (number, number * number % 997)


def next_event(sock, http):
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(sock.recv(CHUNK))
    return event


def answer(sock, http, status, pieces, *headers):
    headers = [("Date", formatdate(usegmt=True)), *headers]
    sock.sendall(http.send(h11.Response(status_code=status, headers=headers)))
    for piece in pieces:
        sock.sendall(http.send(h11.Data(data=piece)))
    sock.sendall(http.send(h11.EndOfMessage()))


def pieces_of(file, left):
    while left:
        chunk = file.read(min(CHUNK, left))
        left -= len(chunk)
        if not chunk:
            raise ConnectionError("the file has shrunk")
        yield chunk


def exchange(sock, http, root):
    request = next_event(sock, http)
    if not isinstance(request, h11.Request):
        return False
    target = request.target.decode()
    names = [name for name, _ in request.headers]
    unclear = b"transfer-encoding" in names and b"content-length" in names
    last = [("Connection", "close")] if unclear else []
    lines, path = find_report(target), find_file(root, target)
    head = request.method == b"HEAD"
    if request.method not in (b"GET", b"HEAD"):
        answer(sock, http, 405, [b"no\n"], *last, ("Allow", "GET, HEAD"), ("Content-Length", "3"))
    elif lines is not None:
        answer(sock, http, 200, [] if head else lines, *last, ("Content-Type", "text/plain"))
    elif path is None:
        answer(sock, http, 404, [] if head else [b"no\n"], *last, ("Content-Length", "3"))
    else:
        kind, packing = mimetypes.guess_type(path.name)
        kind = kind if kind and not packing else "application/octet-stream"
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            pieces = [] if head else pieces_of(file, size)
            length = ("Content-Length", str(size))
            answer(sock, http, 200, pieces, *last, ("Content-Type", kind), length)
    while http.their_state is h11.SEND_BODY:
        next_event(sock, http)
    if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
        return False
    http.start_next_cycle()
    return True


def serve(sock, root):
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=CHUNK)
    with suppress(OSError, RuntimeError), sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while exchange(sock, http, root):
                pass
        except h11.RemoteProtocolError as error:
            if http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                no_more = ("Content-Length", "0"), ("Connection", "close")
                answer(sock, http, error.error_status_hint, [], *no_more)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    pool = ThreadPoolExecutor(64)
    while True:
        sock, _ = listener.accept()
        pool.submit(serve, sock, root)


if __name__ == "__main__":
    main()
