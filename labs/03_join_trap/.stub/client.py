"""A downloader: `python client.py URL OUTPUT [--sha256 HEX]`.

Exit status: 0 when OUTPUT is complete, 1 when it could not be had, 2 when called wrongly.
"""

import argparse
import sys
from pathlib import Path

import requests

CHUNK = 64 * 1024


def download(url: str, output: Path, sha256: str | None) -> None:
    """Fetch `url` into `output`, with that hash if one is given, or raise an exception."""
    # TODO: stream the body, see that all of it came, and only then make it `output`
    response = requests.get(url, timeout=30)
    output.write_bytes(response.content)


def main() -> int:
    """Read the arguments, download, and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("--sha256", help="64 hexadecimal digits that the file must hash to")
    options = parser.parse_args()
    # TODO: return 1 if the download failed, and say why
    download(options.url, options.output, options.sha256)
    return 0


if __name__ == "__main__":
    sys.exit(main())
