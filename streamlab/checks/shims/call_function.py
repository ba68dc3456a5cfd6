"""Call a function of a program, and write what it returns into a file, as JSON.

The arguments are the program's module, the function, its arguments as a JSON list, and the file.
"""

from __future__ import annotations

import importlib
import json
import sys


def main(module: str, function: str, arguments: str, answer: str) -> None:
    """Call it. An exception goes through, and leaves no file."""
    result = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    text = json.dumps(result)
    with open(answer, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
