"""Has a grandchild that ignores SIGTERM and whose parent has ended; POSIX only."""

import os
import signal
import time
from socket import create_server

from streamlab.serve import HOST, announce

told, telling = os.pipe()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.write(1, b"grandchild %d\n" % os.getpid())
        os.write(telling, b".")
        time.sleep(600)
    os._exit(0)
os.waitpid(child, 0)
os.read(told, 1)  # only then listen: its line stands in the log
with create_server((HOST, 0)) as listener:
    announce(listener.getsockname()[1])
    time.sleep(600)
