# a buffered file for what comes, another for what goes

import argparse
import mimetypes
import os
import re
import socket
import threading
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

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


class Refused(Exception):
    pass


def read_request(came):
    line = came.readline(CHUNK)
    headers, total = {}, len(line)
    while (field := came.readline(CHUNK)) not in (b"\r\n", b""):
        name, colon, value = field.decode("latin-1").partition(":")
        total += len(field)
        if total > CHUNK:
            raise Refused("431 Too Large")
        if not colon or not re.fullmatch("[!-9;-~]+", name):
            raise Refused("400 Bad Request")
        values = headers.setdefault(name.lower(), [])
        values.append(value.strip(" \t\r\n"))
    if not field:
        return None
    words = line.decode("latin-1").split()
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise Refused("400 Bad Request")
    return words, headers


def conversation(came, goes, root):
    while request := read_request(came):
        (method, target, version), headers = request
        lengths = headers.get("content-length", ["0"])
        if len(lengths) > 1 or not re.fullmatch("[0-9]{1,15}", lengths[0]):
            raise Refused("400 Bad Request")
        if "transfer-encoding" in headers:
            raise Refused("501 Not Implemented")
        said = {word.strip().lower() for word in ",".join(headers.get("connection", [])).split(",")}
        keep = "close" not in said and ("keep-alive" in said or version == "HTTP/1.1")
        left = int(lengths[0])
        while left:
            left -= len(came.read1(min(left, CHUNK))) or left
        keep = answer(goes, root, method, target, version, keep)
        goes.flush()
        if not keep:
            return


def answer(goes, root, method, target, version, keep):
    if method not in ("GET", "HEAD"):
        say(goes, "501 Not Implemented", keep, "Content-Length: 0")
    elif (lines := find_report(target)) is not None:
        return send_report(goes, lines, method, version, keep)
    elif (path := find_file(root, target)) is None:
        say(goes, "404 Not Found", keep, "Content-Length: 0")
    else:
        send_file(goes, path, method, keep)
    return keep


def say(goes, status, keep, *headers):
    stays = "Keep-Alive" if keep else "Close"
    date = formatdate(usegmt=True)
    lines = [f"HTTP/1.1 {status}", f"Date: {date}", *headers, f"Connection: {stays}", "", ""]
    goes.write("\r\n".join(lines).encode())


def send_file(goes, path, method, keep):
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        kind, packing = mimetypes.guess_type(path.name)
        kind = [f"Content-Type: {kind}"] if kind and not packing else []
        say(goes, "200 OK", keep, f"Content-Length: {size}", *kind)
        sent = 0
        while method == "GET" and sent < size and (chunk := file.read(min(CHUNK, size - sent))):
            sent += goes.write(chunk)
        if method == "GET" and sent < size:
            goes.flush()
            raise ConnectionError("the file has shrunk")


def send_report(goes, lines, method, version, keep):
    if version == "HTTP/1.0":
        say(goes, "200 OK", False)
        if method == "GET":
            goes.writelines(lines)
        return False
    say(goes, "200 OK", keep, "Transfer-Encoding: chunked")
    if method == "GET":
        for line in filter(None, lines):
            goes.write(b"%X\r\n" % len(line))
            goes.write(line + b"\r\n")
        goes.write(b"0\r\n\r\n")
    return keep


def serve(sock, root):
    came, goes = sock.makefile("rb", CHUNK), sock.makefile("wb", CHUNK)
    with suppress(OSError, RuntimeError, ValueError), sock, came, goes:
        try:
            conversation(came, goes, root)
        except Refused as error:
            say(goes, str(error), False, "Content-Length: 0")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    root = Path(options.root).resolve()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock, root), daemon=True).start()


if __name__ == "__main__":
    main()
