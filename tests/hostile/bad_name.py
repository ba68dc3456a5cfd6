# EXPECT: passed stall
"""Has a process name that is not UTF-8: programs that list processes must cope with it."""

import ctypes

for name in (b"\xff\xfe) R 1 1", b"\xe2\x28\nVmRSS: 0"):
    ctypes.CDLL(None).prctl(15, name, 0, 0, 0)
