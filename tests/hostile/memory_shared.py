# EXPECT: could_not_run bytes: held more than 1024 MiB
"""A map that is shared is no process's data, and so within every process's limit."""

import mmap
import time

hoard = mmap.mmap(-1, 4 << 30)
for place in range(0, len(hoard), 4096):
    hoard[place] = 1
time.sleep(20)
