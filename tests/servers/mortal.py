"""Serves one connection, writes a line, and ends with status 3."""

import sys
from socket import create_server

from streamlab.serve import HOST, announce

with create_server((HOST, 0)) as listener:
    announce(listener.getsockname()[1])
    while True:
        connection, _ = listener.accept()
        with connection:
            if connection.recv(65536):
                break
print("that was all", flush=True)
sys.exit(3)
