"""The samples that the origin serves by hand: an answer of every kind, and a gzip bomb."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamlab.errors import ServerError
from streamlab.files import GiB, KiB, MiB
from streamlab.origin.server import Answer, Origin

# A gzip bomb


@dataclass(frozen=True)
class Bomb:
    """A gzip body that becomes `count` times `block` when it is decoded."""

    block: bytes
    count: int

    @property
    def size(self) -> int:
        """The size of the decoded body, in bytes."""
        return len(self.block) * self.count

    def packed(self) -> bytes:
        """The body as it is sent (RFC 1952): one deflate stream that repeats the same piece."""
        deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        # After a full flush a piece begins on a byte, and refers to nothing before it.
        piece = deflate.compress(self.block) + deflate.flush(zlib.Z_FULL_FLUSH)
        check = 0
        for _ in range(self.count):
            check = zlib.crc32(self.block, check)
        head = gzip.compress(b"", mtime=0)[:10]
        last = b"\x03\x00"  # an empty block, marked as the last one
        return head + piece * self.count + last + struct.pack("<II", check, self.size % 2**32)


def block_of(source: random.Random, size: int = MiB) -> bytes:
    """Bytes that gzip shrinks to a hundredth or less: a few random ones, and zeros."""
    return source.randbytes(4 * KiB) + bytes(size - 4 * KiB)


# By hand


def _samples() -> dict[str, tuple[str, Callable[[], Answer]]]:
    """An answer of every kind, by path, each with a description."""
    river = random.Random(0).randbytes(5 * MiB)
    cut = len(river) * 6 // 10
    packed = gzip.compress(river[: 64 * KiB] * 16, mtime=0)
    return {
        "/length": ("5 MiB, told by Content-Length", lambda: Answer(river)),
        "/chunked": ("the same in chunked coding", lambda: Answer(river, framing="chunked")),
        "/close": ("the same, ended by closing", lambda: Answer(river, framing="close")),
        "/empty": ("a body of 0 bytes", lambda: Answer(b"")),
        "/cut": ("60 % of what Content-Length says", lambda: Answer(river, stop=cut)),
        "/cut-chunked": (
            "60 % of it, cut inside a chunk",
            lambda: Answer(river, framing="chunked", stop=cut),
        ),
        "/no-last-chunk": (
            "all of it, but no last chunk",
            lambda: Answer(river, framing="chunked", last_chunk=False),
        ),
        "/reset": ("60 %, then a reset", lambda: Answer(river, stop=cut, reset=True)),
        "/silent": ("closed without an answer", lambda: Answer(status=0)),
        "/stall": ("60 %, and then nothing", lambda: Answer(river, stop=cut, stall=True)),
        "/never": ("no answer, ever", lambda: Answer(status=0, stall=True)),
        "/trickle": (
            "a line every half a second, 20 times",
            lambda: Answer(b"one more sip\n" * 20, framing="chunked", piece=13, pause=0.5),
        ),
        "/redirect": (
            "a redirection to /404",
            lambda: Answer(b"", 302, headers=(("Location", "/404"),)),
        ),
        "/hop": (
            "with headers for the next hop alone, and a cookie",
            lambda: Answer(
                river[: 64 * KiB],
                headers=(
                    ("Connection", "X-Hop"),
                    ("X-Hop", "for the next hop"),
                    ("Keep-Alive", "timeout=77"),
                    ("Set-Cookie", "session=1"),
                ),
            ),
        ),
        "/twice": (
            "a text, with two lines of one header, and a name that is not ASCII",
            lambda: Answer(
                b"two\r\nlines\r\n",
                headers=(
                    ("Content-Type", "text/csv"),
                    ("Link", '</a>; rel="next"'),
                    ("Link", '</b>; rel="last"'),
                    ("X-Name", "Fluß.csv".encode().decode("latin-1")),
                ),
            ),
        ),
        "/odd-chunks": (
            "64 KiB in chunks with extensions, and a trailer",
            lambda: Answer(river[: 64 * KiB], framing="chunked", odd_chunks=True),
        ),
        "/half-head": (
            "the first half of a head, and then nothing",
            lambda: Answer(wire=b"HTTP/1.1 200 As Ordered\r\nContent-Le", stall=True),
        ),
        "/404": ("an error, with a body", lambda: Answer(b"no such file\n", 404)),
        "/500": ("an error, with a body", lambda: Answer(b"it broke\n", 500)),
        "/gzip": (
            "1 MiB in gzip, though the client has not asked for it",
            lambda: Answer(packed, headers=(("Content-Encoding", "gzip"),)),
        ),
        "/bomb": (
            "4 MB in gzip that become 600 MiB",
            lambda: Answer(
                Bomb(block_of(random.Random(0)), 600).packed(),
                headers=(("Content-Encoding", "gzip"),),
            ),
        ),
    }


def main() -> None:
    """Serve an answer of every kind until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m streamlab.origin", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="port to listen on (0: any free one)")
    parser.add_argument("--river", type=Path, help="a file of yours, to serve as /river")
    options = parser.parse_args()
    try:
        _serve_samples(options)
    except ServerError as error:
        raise SystemExit(str(error)) from None


def _serve_samples(options: argparse.Namespace) -> None:
    """Serve the samples, with the options of the command line, until interrupted."""
    with Origin(options.port) as origin, tempfile.TemporaryDirectory() as scratch:
        samples = {path: (what, make()) for path, (what, make) in _samples().items()}
        if options.river is None:
            zeros = Path(scratch) / "river"
            with zeros.open("wb") as file:
                file.truncate(GiB)
            samples["/river"] = "1 GiB of zeros", Answer(zeros)
        else:
            samples["/river"] = os.fspath(options.river), Answer(options.river)
        for path, (_, answer) in samples.items():
            origin.put(path, answer)
            origin.put(f"/v1/files{path}/content", answer)
            origin.put(f"/v1/files{path}", _metadata(path, answer))
        # Only when all samples are there, because a reader of this line may ask at once.
        print(f"listening on {origin.url}", flush=True)
        for path, (what, _) in samples.items():
            print(f"    {path:<16} {what}", flush=True)
        print("and the same as files of an API: /v1/files/length/content", flush=True)
        told = 0
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(0.1)
                for asked in origin.exchanges[told:]:
                    told += 1
                    lines = [f"{name}: {value}" for name, value in asked.headers]
                    print(
                        "\n    ".join([f"asked: {asked.method} {asked.path}", *lines]), flush=True
                    )


def _metadata(path: str, answer: Answer) -> Answer:
    """The metadata that the API of files has for an answer."""
    content = {"id": path[1:], "object": "file", "bytes": answer.size}
    return Answer(json.dumps(content).encode(), headers=(("Content-Type", "application/json"),))
