# EXPECT: passed bytes
"""Looks for a way out: the grader's own loopback, sockets without a file, other families."""

import socket
import sys

PORT, ABSTRACT = "@PORT@", "@ABSTRACT@"  # where a listener of the test waits, outside
reached = []
for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
    try:
        with socket.socket(family) as sock:
            sock.settimeout(1)
            sock.connect((host, PORT))
        reached.append(host)
    except OSError:
        pass
try:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + ABSTRACT)
    reached.append("abstract")
except OSError:
    pass
for family in (17, 30, 31, 38, 40):  # packets, TIPC, Bluetooth, the kernel's ciphers, vsock
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
        reached.append(f"family {family}")
    except OSError:
        pass
with open("/proc/net/dev") as file:
    reached += [line.split(":")[0].strip() for line in file if ":" in line and "lo:" not in line]
if reached:
    sys.exit(f"reached: {reached}")
