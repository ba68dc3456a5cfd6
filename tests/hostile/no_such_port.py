# EXPECT: could_not_run bytes: ended at its start
"""Says that it listens on ports that there can't be."""

import time

for port in ("99999", "9" * 5000, "-1", "\u0661\u0662", "0x50", "80.5"):
    print(f"listening on http://127.0.0.1:{port}", flush=True)
time.sleep(1)
