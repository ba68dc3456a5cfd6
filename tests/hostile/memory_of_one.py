# EXPECT: could_not_run bytes: MemoryError
"""Ten gigabytes in one process."""

hoard = [bytearray(1 << 20) for _ in range(10_000)]
