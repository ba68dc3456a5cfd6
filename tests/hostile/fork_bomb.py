# EXPECT: could_not_run bytes: more than 128 processes|Resource temporarily unavailable
"""Forks, and each child forks: at most a thousand of them if there is no limit."""

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
