"""Sample files to serve, and sizes to speak of them. All sizes are in bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal

from streamlab.errors import FileError
from streamlab.executables import tool

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB
TiB = 1024 * GiB

FOLDER = Path(".streamlab/files")
"""Where sample files lie unless told otherwise: beside the notebook, ignored by git."""

_UNITS = {"B": 1, "KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB}
_BLOCK = MiB
Filler = Callable[[BinaryIO], None]


def size_text(size: float) -> str:
    """A size in bytes as a person would say it: `size_text(67108864) == '64 MiB'`."""
    sign = "-" if size < 0 else ""
    size = abs(size)
    unit = next((u for u in ("TiB", "GiB", "MiB", "KiB") if size >= _UNITS[u]), "B")
    value = size / _UNITS[unit]
    digits = f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.3g}"
    return f"{sign}{digits} {unit}"


def parse_size(text: str) -> int:
    """The bytes that a text such as `'64 MiB'`, `'1.5GiB'` or `'100'` stands for.

    Raises `FileError` for anything else.
    """
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(B|KiB|MiB|GiB|TiB)?\s*", text)
    if found is None:
        raise FileError(f"{text!r} is not a size: write it like 64 MiB")
    return int(float(found[1]) * _UNITS[found[2] or "B"])


def same_length(one: bytes | bytearray, other: bytes) -> int:
    """How many bytes at the beginning of both are the same; that is where they begin to differ."""
    if other.startswith(one) or one.startswith(other):
        return min(len(one), len(other))
    low, high = 0, min(len(one), len(other))
    while high - low > 1:  # the beginnings of length `low` are the same, those of `high` are not
        middle = (low + high) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle)
    return low


def drop_cache(descriptor: int, dropped: int, end: int) -> int:
    """Let the page cache drop bytes `dropped` to `end` of a file; returns what is dropped now.

    It asks the kernel (posix_fadvise(2)) once 32 MiB have come together. Otherwise a file of a few
    GiB fills the cache, and getting fresh memory for it takes longer than reading the file. Only
    for files that nobody reads again. It does nothing where the system has no such call.
    """
    if end - dropped < 32 * MiB or not hasattr(os, "posix_fadvise"):
        return dropped
    os.posix_fadvise(descriptor, dropped, end - dropped, os.POSIX_FADV_DONTNEED)
    return end


def forget(file: SampleFile) -> None:
    """Have the page cache drop a file, so that who reads it next brings it in (posix_fadvise(2)).

    It does nothing where the system has no such call.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    with file.path.open("rb") as opened:
        os.fsync(opened.fileno())  # what is not written yet stays
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def remember(file: SampleFile) -> None:
    """Have the page cache hold a file, brought in by this process."""
    with file.path.open("rb") as opened:
        while opened.read(1 << 20):
            pass


def is_memory(device: int) -> bool:
    """Whether files on a device (`st_dev`) are memory: it is a tmpfs or a ramfs (tmpfs(5))."""
    import psutil

    for each in psutil.disk_partitions(all=True):
        if each.fstype in ("tmpfs", "ramfs"):
            with suppress(OSError):  # not ours to look at
                if os.stat(each.mountpoint).st_dev == device:
                    return True
    return False


def folder_on(kind: Literal["tmpfs", "disk"], room: int) -> Path | None:
    """A folder for temporary files on a tmpfs or on a disk, with `room` bytes; None without one.

    Looked at are the folders that systems have for that, and for a disk this one, too.
    """
    systems = [tempfile.gettempdir(), "/dev/shm", "/var/tmp", "/run/shm"]
    for folder in [*map(Path, systems), FOLDER.parent, Path.cwd()]:
        with suppress(OSError):
            fits = os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= room
            if fits and is_memory(folder.stat().st_dev) == (kind == "tmpfs"):
                return folder.resolve()
    return None


def open_plain(file: Path) -> BufferedReader:
    """Open a file that somebody else has made, to read it.

    It may be a link to somewhere else, or a pipe that never ends. Raises `OSError` unless it is a
    plain file.
    """
    handle = os.open(
        file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    )
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("it is no plain file")
    return open(handle, "rb")


def read_plain(file: Path, most: int) -> bytes:
    """The first `most` bytes of a file that somebody else has made, and that may be very large.

    Raises `OSError` unless it is a plain file.
    """
    with open_plain(file) as opened:
        return opened.read(most)


@dataclass(frozen=True)
class Island:
    """A stretch of random data in a sparse file, `data` beginning at byte `offset`."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class SampleFile:
    """A file to serve: where it lies, how many bytes it has, and the islands of a sparse one."""

    path: Path
    size: int
    islands: tuple[Island, ...] = ()

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def url(self) -> str:
        """The path to ask a server for, whose root is the file's folder: `'/64MiB.bin'`."""
        return "/" + self.path.name

    @cached_property
    def sha256(self) -> str:
        """The hash of the content, as 64 hexadecimal digits, read in chunks."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def __str__(self) -> str:
        return f"{self.name} ({size_text(self.size)})"


def random_file(
    size: int, name: str | None = None, folder: Path | str = FOLDER, seed: int = 0
) -> SampleFile:
    """A file of `size` random bytes, the same bytes for the same seed; made once, then reused."""

    def fill(file: BinaryIO) -> None:
        source = random.Random(seed)
        for start in range(0, size, _BLOCK):
            file.write(source.randbytes(min(_BLOCK, size - start)))

    path = _path(folder, name or f"{_compact(size)}.bin")
    first = random.Random(seed).randbytes(min(_BLOCK, max(size, 0)))
    return _make(path, size, fill, begins=first)


def text_file(
    size: int, name: str | None = None, folder: Path | str = FOLDER, last: str = "\n"
) -> SampleFile:
    """A file of `size` bytes of ASCII text in lines, but for its `last` character (UTF-8)."""
    line = b"the river runs through the cup, a sip at a time, all day long\r\n"
    tail = last.encode()
    if 0 <= size < len(tail):
        raise FileError(f"a text that ends in {last!r} has {len(tail)} bytes at least, not {size}")

    def fill(file: BinaryIO) -> None:
        block = line * (_BLOCK // len(line))
        left = size - len(tail)
        while left > 0:
            left -= file.write(block[:left])
        file.write(tail)

    path = _path(folder, name or f"{_compact(size)}.txt")
    return _make(path, size, fill, begins=line[: size - len(tail)], ends=tail)


def sparse_file(
    size: int,
    name: str | None = None,
    folder: Path | str = FOLDER,
    islands: int = 4,
    seed: int = 0,
) -> SampleFile:
    """A file of `size` bytes that takes almost no disk: holes that read as zeros, and `islands`.

    Each island is 64 KiB of random data (less in a small file); the first one begins at byte 0 and
    the last one ends with the file. Without islands all of it is one hole.
    """
    _check_size(size)
    source = random.Random(seed)
    length = min(64 * KiB, size // 2 or size)
    last = size - length
    between = [source.randrange(last + 1) for _ in range(islands - 2)]
    offsets = sorted({*(0, last)[:islands], *between})
    placed: list[Island] = []
    for offset in offsets:
        clear_of_last = offset == last or offset + length <= last
        if clear_of_last and (not placed or offset >= placed[-1].offset + length):
            placed.append(Island(offset, source.randbytes(length)))

    def fill(file: BinaryIO) -> None:
        file.truncate(size)
        for island in placed:
            file.seek(island.offset)
            file.write(island.data)

    path = _path(folder, name or f"{_compact(size)}.sparse")
    path.unlink(missing_ok=True)
    made = _make(path, size, fill)
    return SampleFile(made.path, size, tuple(placed))


def sample_video(
    seconds: int = 60, name: str | None = None, folder: Path | str = FOLDER
) -> SampleFile:
    """A film of so many seconds, its clock in the picture, as MP4 (H.264, 640 x 360, no sound).

    About 100 KiB a second; a picture that can be started from (a keyframe) every two seconds. The
    index, which a player needs first (`moov`), is the last thing in the file, as recorders and
    ffmpeg write it. Made once, by ffmpeg, then reused; the same ffmpeg makes the same bytes.
    Raises `ToolError` where there is no ffmpeg.
    """
    path = _path(folder, name or f"{seconds}s.mp4")
    recipe = f"streamlab film 1, {seconds} s"
    if not _is_film(path, recipe):
        command = [tool("ffmpeg"), "-nostdin", "-v", "error", "-y", *_film(seconds, recipe)]
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as part:
                made = Path(part) / "film.mp4"
                ran = subprocess.run([*command, str(made)], capture_output=True, text=True)
                if ran.returncode != 0:
                    why = ran.stderr.strip().splitlines()[-1:] or ["it does not say why"]
                    raise FileError(f"ffmpeg could not make {path.name}: {why[0]}")
                os.replace(made, path)
    return SampleFile(path, path.stat().st_size)


def _film(seconds: int, recipe: str) -> list[str]:
    """What ffmpeg is told: a test picture with a clock, and grain, to have the size of a film."""
    picture = f"testsrc=size=640x360:rate=25:duration={seconds},noise=alls=8:allf=t"
    return [
        *("-f", "lavfi", "-i", picture, "-pix_fmt", "yuv420p"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-g", "50"),
        *("-b:v", "800k", "-maxrate", "800k", "-bufsize", "800k"),
        *("-fflags", "+bitexact", "-flags:v", "+bitexact"),
        *("-metadata", f"comment={recipe}", "-f", "mp4"),
    ]


def _is_film(path: Path, recipe: str) -> bool:
    """Whether a whole film of that recipe is there: its index, at the end, has the comment."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4 * KiB))
        return recipe.encode() in file.read()


def _compact(size: int) -> str:
    return size_text(size).replace(" ", "")


def _path(folder: Path | str, name: str) -> Path:
    return Path(folder) / name


def _check_size(size: int) -> None:
    if size < 0:
        raise FileError(f"a file can't have {size} bytes")


def _make(
    path: Path, size: int, fill: Filler, begins: bytes = b"", ends: bytes = b""
) -> SampleFile:
    """Write `path` whole or not at all; keep one of the right size that begins and ends so."""
    _check_size(size)
    if not _is_made(path, size, begins, ends):
        with _explained(path, size):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(prefix=".part-", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    fill(file)
                os.chmod(part, 0o644)
                os.replace(part, path)
            finally:
                Path(part).unlink(missing_ok=True)
    return SampleFile(path, size)


def _is_made(path: Path, size: int, begins: bytes, ends: bytes) -> bool:
    if not (path.is_file() and path.stat().st_size == size):
        return False
    with path.open("rb") as file:
        if file.read(len(begins)) != begins:
            return False
        file.seek(size - len(ends))
        return file.read(len(ends)) == ends


@contextmanager
def _explained(path: Path, size: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = path.name if size is None else f"{path.name} ({size_text(size)})"
        raise FileError(f"could not make {what}: {reason_of(error)}") from error


def reason_of(error: OSError) -> str:
    """Why a file could not be written, in words that say what to do."""
    return {
        errno.ENOSPC: "the disk is full: free some space and run this again",
        errno.EDQUOT: "your disk quota is used up: free some space and run this again",
        errno.EFBIG: "the file system takes no file of that size: choose a smaller one",
        errno.EACCES: "the folder is not yours to write to",
        errno.EROFS: "the disk is read-only: copy the course into a folder of yours",
    }.get(error.errno or 0, str(error))


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
"""The errors of a file system that `reason_of` explains."""
