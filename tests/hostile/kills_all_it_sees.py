# EXPECT: passed bytes
"""Ends its parent and everything it sees: which is nothing but its own."""

import contextlib
import os
import signal
import sys

seen = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
if len(seen) > 4:
    sys.exit(f"seen: {seen}")
for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
    for pid in (os.getppid(), 1, -1, *(each for each in seen if each != os.getpid())):
        with contextlib.suppress(OSError):
            os.kill(pid, number)
