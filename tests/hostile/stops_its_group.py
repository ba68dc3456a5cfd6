# EXPECT: could_not_run bytes: did not listen
"""Stops its keeper instead of ending it, and itself with it."""

import os
import signal
import time

os.kill(0, signal.SIGSTOP)
time.sleep(100)
