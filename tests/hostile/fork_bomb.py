# EXPECT: could_not_run bytes: more than 128 processes|Resource temporarily unavailable
"""Forks, and each child forks: no more than a thousand of them, if nobody else bounds it."""

import multiprocessing
import os
import time

count = multiprocessing.Value("i", 0)
while True:
    with count.get_lock():
        count.value += 1
        if count.value > 1000:
            break
    os.fork()
time.sleep(20)
