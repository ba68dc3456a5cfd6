"""What `measure_client` runs: a function in a fresh process, and how much memory it takes there.

    python -m streamlab.lesson.client_process SOURCE NAME SMALL LARGE

calls the function NAME of a Python text, once with the URL of a small file and once with that of a
large one, and writes `grew by N`: bytes of RSS, at its worst moment, above those after the first.
"""

from __future__ import annotations

import os
import sys

from streamlab.process.memory import high_water, reset_high_water


def main(source: str, name: str, small: str, large: str) -> None:
    """Call the function twice; what it raises goes on (Linux)."""
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(source, "<function>", "exec"), names)
    fetch = names[name]
    assert callable(fetch)
    fetch(small)
    reset_high_water(os.getpid())
    before = high_water(os.getpid())
    fetch(large)
    after = high_water(os.getpid())
    assert before is not None and after is not None
    print("grew by", after - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
