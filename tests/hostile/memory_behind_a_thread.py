# EXPECT: could_not_run bytes: held more than 1024 MiB
"""Ends the first thread of each process, as if it had ended, and holds two gigabytes in others."""

import ctypes
import os
import threading
import time

EXIT = {"x86_64": 60}.get(os.uname().machine, 93)


def hoard():
    time.sleep(1)  # until the first thread is gone
    held = bytearray(os.urandom(1 << 20) * 100)
    time.sleep(20)
    os._exit(len(held) == 0)


for _ in range(20):
    if os.fork() == 0:
        threading.Thread(target=hoard).start()
        ctypes.CDLL(None).syscall(EXIT, 0)
time.sleep(20)
