# EXPECT: could_not_run bytes: more than 128 processes|can't start new thread
"""Two thousand threads, some in each of many processes."""

import os
import threading
import time

threading.stack_size(64 * 1024)
for _ in range(4):
    os.fork()
for _ in range(125):
    threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
time.sleep(20)
