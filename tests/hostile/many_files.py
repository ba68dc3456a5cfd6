# EXPECT: could_not_run bytes: had more than 50000 files
"""Empty files: no process's memory shows them, and no tmpfs's size bounds them. 1,000,000."""

import os
import time

for number in range(1_000_000):
    if number % 10_000 == 0:
        os.mkdir(f"/tmp/{number}")
        os.chdir(f"/tmp/{number}")
    os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY))
print("a million files", flush=True)
time.sleep(20)
