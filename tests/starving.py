"""Starve processes of the CPU, for tests: burners outside their tree, and a low priority."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST = 60
"""Seconds after which a burner ends by itself."""

_BURN = f"""
import os, sys, threading, time
os.sched_setaffinity(0, {{int(sys.argv[1])}})
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
end = time.monotonic() + {LONGEST}
os.write(1, b".")
while time.monotonic() < end:
    sum(range(10000))
"""
_START = """
import subprocess, sys
for _ in range(int(sys.argv[3])):
    subprocess.Popen([sys.executable, "-c", *sys.argv[1:3]])
"""


@contextmanager
def starved(burners: int = 2) -> Iterator[int]:
    """Keep a CPU busy with processes that do not descend from this one; yields its number.

    They end with this block, or when this process ends, because their standard input does.
    """
    cpu = max(os.sched_getaffinity(0))
    reading, writing = os.pipe()
    try:
        command = [sys.executable, "-c", _START, _BURN, str(cpu), str(burners)]
        # Its end makes them children of the system, so they do not count as part of this test.
        starter = subprocess.Popen(command, stdin=reading, stdout=subprocess.PIPE)
        os.close(reading)
        starter.wait()
        assert starter.stdout is not None
        with starter.stdout as started:
            assert len(started.read(burners)) == burners, "the burners did not start"
        yield cpu
    finally:
        os.close(writing)


def last_in_line(cpu: int) -> None:
    """Let this process run on that CPU alone, where it has a seventh beside two burners.

    That is 335 of 2383 parts (sched(7), the nice value). SCHED_IDLE has 3 of 2051: too little to
    start in a minute. Where the kernel groups processes by session (sched(7), autogroup), the two
    burners are one group, and this process's session another: 172 of 1196 parts.
    """
    os.sched_setaffinity(0, {cpu})
    os.nice(5)
    with suppress(OSError):
        os.setsid()  # unless it leads one: a session with other processes must not become slower
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text("8")
