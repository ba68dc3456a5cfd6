# EXPECT: could_not_run bytes: held more than 1024 MiB
"""The kernel keeps what was sent and not received: no process's memory. At most 4 GiB."""

import os
import socket
import time
from contextlib import suppress

piece = b"x" * 65536
for _ in range(40):
    if os.fork() == 0:
        pairs = []
        while len(pairs) < 200:
            pairs.append(socket.socketpair())
            pairs[-1][0].setblocking(False)
            with suppress(BlockingIOError):
                for _ in range(8):
                    pairs[-1][0].send(piece)
        time.sleep(20)
        os._exit(0)
time.sleep(20)
