# right: no transports: loop.sock_recv and loop.sock_sendall, one small task for each connection

import argparse
import asyncio
import os
import socket
from urllib.parse import unquote_to_bytes

PIECE = 48 * 1024
MOST = 32 * 1024


class Gone(Exception):
    pass


async def head_of(sock, rest):
    loop = asyncio.get_running_loop()
    while b"\r\n\r\n" not in rest:
        if len(rest) > MOST:
            raise Gone
        more = await loop.sock_recv(sock, 8192)
        if not more:
            raise Gone
        rest += more
    head, _, tail = bytes(rest).partition(b"\r\n\r\n")
    rest[:] = tail
    return head


def wanted(root, target):
    name = unquote_to_bytes(target.partition(b"?")[0])
    if b"\0" in name:
        raise FileNotFoundError
    path = os.path.realpath(root + b"/" + name)
    if not path.startswith(root + b"/") or not os.path.isfile(path):
        raise FileNotFoundError
    return os.open(path, os.O_RDONLY)


async def pour(sock, fd, size):
    loop = asyncio.get_running_loop()
    at = 0
    while at < size:
        data = os.pread(fd, min(PIECE, size - at), at)
        if not data:
            raise Gone
        await loop.sock_sendall(sock, data)
        at += len(data)
        await asyncio.sleep(0)  # a client that reads all the time is not alone


async def converse(sock, root):
    loop = asyncio.get_running_loop()
    rest = bytearray()
    while True:
        head = await head_of(sock, rest)
        first, *fields = head.split(b"\r\n")
        words = first.split(b" ")
        last = any(each.lower().replace(b" ", b"") == b"connection:close" for each in fields)
        if len(words) != 3 or words[0] not in (b"GET", b"HEAD"):
            await loop.sock_sendall(
                sock, b"HTTP/1.1 405 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return
        closing = b"Connection: close\r\n" if last else b""
        try:
            fd = wanted(root, words[1])
        except FileNotFoundError:
            text = b"nothing here"
            answer = b"HTTP/1.1 404 Nothing\r\nContent-Length: 12\r\n" + closing + b"\r\n"
            await loop.sock_sendall(sock, answer + (text if words[0] == b"GET" else b""))
        else:
            try:
                size = os.fstat(fd).st_size
                await loop.sock_sendall(
                    sock, b"HTTP/1.1 200 Yes\r\nContent-Length: %d\r\n%s\r\n" % (size, closing)
                )
                if words[0] == b"GET":
                    await pour(sock, fd, size)
            finally:
                os.close(fd)
        if last:
            return


async def client(sock, root):
    try:
        await converse(sock, root)
        sock.shutdown(socket.SHUT_WR)
    except (Gone, OSError):  # has left; or no descriptor for its file: it is disconnected
        pass
    finally:
        sock.close()


async def main(root, port):
    loop = asyncio.get_running_loop()
    door = socket.create_server(("127.0.0.1", port), backlog=2048)
    door.setblocking(False)
    print(f"listening on http://127.0.0.1:{door.getsockname()[1]}", flush=True)
    tasks = set()
    while True:
        try:
            sock, _ = await loop.sock_accept(door)
        except OSError:
            await asyncio.sleep(0.3)
            continue
        task = asyncio.create_task(client(sock, root))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default=".")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(main(os.fsencode(os.path.realpath(options.root)), options.port))
