# STALL stops-receiving: asyncio, and a queue between two tasks that never is full

import argparse
import asyncio
import hashlib
import os
import sys
import tempfile
from pathlib import Path

import httpx2

CHUNK = 64 * 1024
PLAIN = {"Accept-Encoding": "identity"}


async def fetch(url, file):
    digest = hashlib.sha256()
    chunks = asyncio.Queue()

    async def receive():
        try:
            async with (
                httpx2.AsyncClient(timeout=30) as client,
                client.stream("GET", url, headers=PLAIN) as response,
            ):
                response.raise_for_status()
                async for chunk in response.aiter_bytes(CHUNK):
                    await chunks.put(chunk)
            await chunks.put(None)
        except Exception as error:
            await chunks.put(error)

    receiving = asyncio.create_task(receive())
    while (chunk := await chunks.get()) is not None:
        if isinstance(chunk, Exception):
            raise chunk
        await asyncio.to_thread(file.write, chunk)
        digest.update(chunk)
    await receiving
    return digest.hexdigest()


def pour(url, file):
    return asyncio.run(fetch(url, file))


def download(url, output, sha256):
    """Fetch `url` into a part beside `output`, then put it in its place."""
    handle, name = tempfile.mkstemp(prefix=".part-", dir=output.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = pour(url, file)
        if sha256 is not None and found != sha256.lower():
            raise ValueError(f"its sha256 is {found}")
        part.replace(output)
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
