# EXPECT: passed stall
"""Calls itself by a name that is no text: who reads the list of processes must bear it."""

import ctypes

for name in (b"\xff\xfe) R 1 1", b"\xe2\x28\nVmRSS: 0"):
    ctypes.CDLL(None).prctl(15, name, 0, 0, 0)
