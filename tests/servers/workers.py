"""Takes AMOUNT bytes, forks three workers that share them, and says `listening`; POSIX only."""

import os
import time
from socket import create_server

from streamlab.serve import HOST, announce

ballast = bytearray(b"\xff") * int(os.environ["AMOUNT"])
told, telling = os.pipe()
workers = []
for _ in range(3):
    worker = os.fork()
    if worker == 0:
        os.write(telling, b".")
        time.sleep(600)
        os._exit(0)
    workers.append(worker)
for _ in workers:
    os.read(told, 1)  # only then listen: each has run, and its pages are in place
print("workers", *workers, flush=True)
with create_server((HOST, 0)) as listener:
    announce(listener.getsockname()[1])
    time.sleep(600)
