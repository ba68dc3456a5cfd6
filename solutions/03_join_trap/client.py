"""A downloader: `python client.py URL OUTPUT [--sha256 HEX]`.

Exit status: 0 when OUTPUT is complete, 1 when it could not be had, 2 when called wrongly.
"""

# BEGIN SOLUTION
# BEGIN STUB
# import argparse
# import sys
# from pathlib import Path
#
# import requests
#
# END STUB
import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path

import requests

# END SOLUTION
CHUNK = 64 * 1024


# BEGIN SOLUTION
class Failed(Exception):
    """The download is not what it should be; the message says why."""


# END SOLUTION
def download(url: str, output: Path, sha256: str | None) -> None:
    """Fetch `url` into `output`, with that hash if one is given, or raise an exception."""
    # BEGIN SOLUTION
    # BEGIN STUB
    # # TODO: stream the body, see that all of it came, and only then make it `output`
    # response = requests.get(url, timeout=30)
    # output.write_bytes(response.content)
    # END STUB
    handle, name = tempfile.mkstemp(prefix=".part-", dir=output.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = pour(url, file)
        if sha256 is not None and found != sha256.lower():
            raise Failed(f"its sha256 is {found}, not {sha256}")
        part.chmod(0o644)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    # END SOLUTION


# BEGIN SOLUTION
def pour(url: str, file) -> str:
    """Write the body of `url` into an open file, a chunk at a time; returns its sha256."""
    digest, size = hashlib.sha256(), 0
    plain = {"Accept-Encoding": "identity"}
    with requests.get(url, headers=plain, stream=True, timeout=30) as response:
        response.raise_for_status()
        if coding := response.headers.get("Content-Encoding"):
            raise Failed(f"it came in {coding}, which nobody had asked for")
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        wanted = response.headers.get("Content-Length")
        if wanted not in (None, str(size)):
            raise Failed(f"it has {size} bytes of {wanted}")
    return digest.hexdigest()


# END SOLUTION
def main() -> int:
    """Read the arguments, download, and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("--sha256", help="64 hexadecimal digits that the file must hash to")
    options = parser.parse_args()
    # BEGIN SOLUTION
    # BEGIN STUB
    # # TODO: return 1 if the download failed, and say why
    # download(options.url, options.output, options.sha256)
    # return 0
    # END STUB
    try:
        download(options.url, options.output, options.sha256)
    except (Failed, requests.RequestException, OSError) as error:
        print(f"{options.url}: {error}", file=sys.stderr)
        return 1
    return 0
    # END SOLUTION


if __name__ == "__main__":
    sys.exit(main())
