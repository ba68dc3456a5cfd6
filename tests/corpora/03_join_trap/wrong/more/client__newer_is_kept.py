# CLEAN older-replaced: an OUTPUT that is newer than what the server has is taken for it

import argparse
import hashlib
import os
import sys
import tempfile
import urllib.error
import urllib.request
from email.utils import formatdate
from pathlib import Path

CHUNK = 64 * 1024


class NotNewer(Exception):
    """The server says that nothing has changed since OUTPUT was written."""


def pour(url, file, since):
    digest, size = hashlib.sha256(), 0
    headers = {} if since is None else {"If-Modified-Since": formatdate(since, usegmt=True)}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 304:
            raise NotNewer from error
        raise
    with response:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        wanted = response.headers["Content-Length"]
    if wanted is not None and size != int(wanted):
        raise ValueError(f"cut short: {size} of {wanted}")
    return digest.hexdigest()


def download(url, output, sha256):
    """Fetch `url` into a part beside `output`, then put it in its place."""
    handle, name = tempfile.mkstemp(prefix=".part-", dir=output.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            since = output.stat().st_mtime if output.is_file() else None
            found = pour(url, file, since)
        if sha256 is not None and found != sha256.lower():
            raise ValueError(f"its sha256 is {found}")
        part.replace(output)
    except NotNewer:
        pass
    finally:
        part.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("output", type=Path)
    parser.add_argument("--sha256")
    options = parser.parse_args()
    try:
        download(options.url, options.output, options.sha256)
    except Exception as error:
        print(f"{options.url}: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
