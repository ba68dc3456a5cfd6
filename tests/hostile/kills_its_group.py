# EXPECT: could_not_run bytes: ended at its start with status
"""Its process group has members outside of its sandbox: of those it can end its own keeper only."""

import os
import signal
import time

os.kill(0, signal.SIGKILL)
time.sleep(100)
