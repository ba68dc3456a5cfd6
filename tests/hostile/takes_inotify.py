# EXPECT: passed bytes
"""Takes the instances of inotify that all programs of a user share. At most 200."""

import ctypes
import sys

libc = ctypes.CDLL(None)
taken = 0
while taken < 200 and libc.inotify_init() >= 0:
    taken += 1
if taken > 64:
    sys.exit(f"took {taken} instances of inotify")
