"""A program that becomes a command (execve(2)): see `streamlab.labs.command`.

It is copied to where a check runs it, so it imports nothing of the course.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def become(words: Sequence[str], folder: str) -> NoReturn:
    """Run a command in place of this process: with `--root` and `--port`, and in `folder`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--port", required=True)
    options = parser.parse_args()
    words = [word.replace("{root}", options.root).replace("{port}", options.port) for word in words]
    try:
        os.chdir(folder)
        os.execvp(words[0], words)
    except OSError as error:
        sys.exit(f"{words[0]}: {error.strerror}. Build it first, or give its path from {folder}")
