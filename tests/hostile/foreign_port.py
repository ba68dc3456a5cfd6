# EXPECT: failed bytes
"""Says that it listens where another service does, on the grader's machine."""

import time

PORT = "@PORT@"
print(f"listening on http://127.0.0.1:{PORT}", flush=True)
time.sleep(60)
