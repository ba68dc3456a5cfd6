# EXPECT: could_not_run bytes: held more than 1024 MiB
"""Each process is within its limit; all together hold four gigabytes."""

import os
import time

for _ in range(40):
    if os.fork() == 0:
        hoard = bytearray(os.urandom(1 << 20) * 100)
        time.sleep(20)
        os._exit(0)
time.sleep(20)
