"""Listens, and ignores SIGTERM."""

import signal
import time
from socket import create_server

from streamlab.serve import HOST, announce

signal.signal(signal.SIGTERM, signal.SIG_IGN)
with create_server((HOST, 0)) as listener:
    announce(listener.getsockname()[1])
    time.sleep(600)
