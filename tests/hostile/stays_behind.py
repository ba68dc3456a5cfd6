# EXPECT: passed bytes
"""Leaves programs running: away from its session, deaf to signals, with another name."""

import subprocess
import sys

MARKER = "@MARKER@"
LOOP = """
import os, signal, sys, time
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
end = time.monotonic() + 120
while time.monotonic() < end:
    time.sleep(0.1)
"""
for session in (False, True):
    subprocess.Popen([sys.executable, "-c", LOOP, MARKER], start_new_session=session)
