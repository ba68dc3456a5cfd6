# EXPECT: could_not_run bytes: did not listen
"""Loops, never listens, and ignores the signals that should end it."""

import signal
import time

MARKER = "@MARKER@"
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
    signal.signal(number, signal.SIG_IGN)
end = time.monotonic() + 120
while time.monotonic() < end:
    pass
