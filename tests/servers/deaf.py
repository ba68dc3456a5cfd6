"""Says something, but never listens."""

import os
import time

print("I am", os.getpid(), flush=True)
time.sleep(600)
