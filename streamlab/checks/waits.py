"""How long a check waits, in seconds, before it takes something for missing.

Each constant is the length of a `Deadline` (`streamlab.process.patience`), which does not count the
time in which a process has no CPU, or of a socket's timeout. A right program needs a small part of
it. A check of a wrong program may wait that long several times, so none of these is longer than
its reason asks for.
"""

ANSWER = 6.0
"""For the next byte of an answer: the silence that lab 09 allows a gateway (2 s + 3 s), and 1 s."""
SHORT_ANSWER = 4.0
"""The same in lab 05, where one check may wait through several silences, one after the other."""
TRANSFER = 15.0
"""For a small file, whole. In lab 03 this includes the start of the client, which is a Python."""
LARGE_TRANSFER = 30.0
"""For hundreds of MiB, which the checking process receives."""
LARGE_DOWNLOAD = 45.0
"""For hundreds of MiB that a client of lab 03 receives, hashes and writes to the disk."""
CROWD = 20.0
"""For a step of the thousand clients of lab 06, all of them together."""
