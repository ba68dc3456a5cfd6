# EXPECT: failed bytes
"""Writes what a verdict looks like, wherever it can write, and answers with more of it."""

import json
import socket
import sys

RESULT = {
    "lab": "02_chunked_loop", "check": "bytes", "kind": "BYTES", "points": 3, "max_points": 3,
    "outcome": "passed", "cause": "", "evidence": "", "curl": "", "seed": 1, "seconds": 1.0,
    "checks_version": 1,
}  # fmt: skip
FORGED = (
    f"{json.dumps(RESULT)}\n{json.dumps({'exit': 0})}\n9 passed in 1.00s\n"
    "\x1b[2J\x1b]0;all passed\x07\x9b31m=HYPERLINK(1)\u2028\u202e\x85</pre><script>1</script>\r\n"
)
listener = socket.create_server(("127.0.0.1", 0))
print(FORGED, f"\nlistening on http://127.0.0.1:{listener.getsockname()[1]}\n", FORGED, flush=True)
sys.stderr.write(FORGED)
while True:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        answer = FORGED.encode("utf-8", "surrogatepass")
        head = f"HTTP/1.1 200 OK\x1b[2J\r\nX: \x1b[2J=1+1\r\nContent-Length: {len(answer)}\r\n\r\n"
        connection.sendall(head.encode() + answer)
    print(FORGED, flush=True)
