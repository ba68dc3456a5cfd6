"""Sample files and sizes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest

from streamlab import (
    FileError,
    GiB,
    KiB,
    MiB,
    StreamlabError,
    TiB,
    ToolError,
    random_file,
    sample_video,
    size_text,
    sparse_file,
    text_file,
)
from streamlab.files import (
    drop_cache,
    folder_on,
    is_memory,
    parse_size,
    read_plain,
    same_length,
)


def test_units_are_powers_of_1024() -> None:
    """Each unit is 1024 of the one before."""
    assert (KiB, MiB, GiB, TiB) == (1024, 1024**2, 1024**3, 1024**4)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (67108864, "64 MiB"),
        (int(12.345 * MiB), "12.3 MiB"),
        (200 * GiB, "200 GiB"),
        (TiB, "1 TiB"),
        (-3 * MiB, "-3 MiB"),
    ],
)
def test_size_text(size: int, text: str) -> None:
    """A size reads as a person would say it."""
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("text", "size"), [("64 MiB", 64 * MiB), ("1.5GiB", 3 * GiB // 2), ("100", 100), (" 7 B ", 7)]
)
def test_parse_size(text: str, size: int) -> None:
    """A size that a person wrote is read."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "64 MB", "-1 KiB", "1e3", "1,5 GiB"])
def test_parse_size_refuses_anything_else(text: str) -> None:
    """What is not a size is named, with an example of one."""
    with pytest.raises(FileError, match=r"not a size: write it like 64 MiB"):
        parse_size(text)


def test_random_file_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    """The bytes depend on the seed alone, not on folder or name."""
    one = random_file(MiB + 5, folder=tmp_path / "a", seed=7)
    other = random_file(MiB + 5, "other.bin", folder=tmp_path / "b", seed=7)
    assert one.path.stat().st_size == one.size == MiB + 5
    assert one.path.read_bytes() == other.path.read_bytes()


def test_random_file_differs_with_the_seed(tmp_path: Path) -> None:
    """Another seed makes other bytes, even where a file of that name and size lies already."""
    one = random_file(1000, folder=tmp_path, seed=1)
    old = one.path.read_bytes()
    other = random_file(1000, folder=tmp_path, seed=2)
    assert other.path == one.path
    assert other.path.read_bytes() != old


def test_random_file_is_made_once(tmp_path: Path) -> None:
    """A second call finds the file and leaves it alone; after damage it is made again."""
    made = random_file(MiB, folder=tmp_path)
    before = made.path.stat()
    assert random_file(MiB, folder=tmp_path) == made
    assert made.path.stat().st_ino == before.st_ino
    made.path.write_bytes(b"cut")
    assert random_file(MiB, folder=tmp_path).path.stat().st_size == MiB


def test_random_file_can_not_be_compressed(tmp_path: Path) -> None:
    """Its bytes look random: a middlebox that compresses gains nothing."""
    import zlib

    data = random_file(100 * KiB, folder=tmp_path).path.read_bytes()
    assert len(zlib.compress(data)) > 0.99 * len(data)


def test_sample_file_describes_itself(tmp_path: Path) -> None:
    """Name, URL path, hash and text of a sample file agree with what lies on the disk."""
    made = random_file(64 * KiB, folder=tmp_path)
    assert made.name == "64KiB.bin"
    assert made.url == "/64KiB.bin"
    assert made.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert str(made) == "64KiB.bin (64 KiB)"


def test_files_lie_beside_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder, files go into `.streamlab/files` of the working folder."""
    monkeypatch.chdir(tmp_path)
    assert random_file(10).path == Path(".streamlab/files/10B.bin")
    assert (tmp_path / ".streamlab/files/10B.bin").is_file()


def test_text_file_is_ascii_lines(tmp_path: Path) -> None:
    """All lines are ASCII, and the size is kept to the byte."""
    made = text_file(3 * MiB + 1, folder=tmp_path)
    text = made.path.read_bytes().decode("ascii")
    assert len(text) == 3 * MiB + 1
    assert text.endswith("\n")
    assert {len(line) for line in text.split("\r\n")[:1000]} == {61}


def test_text_file_ends_in_its_last_character(tmp_path: Path) -> None:
    """The last character may take more than one byte; a change of it makes the file again."""
    plain = text_file(1000, folder=tmp_path).path.read_bytes()
    made = text_file(1000, folder=tmp_path, last="€")
    assert made.path.stat().st_size == 1000
    assert made.path.read_bytes().decode()[-1] == "€"
    assert text_file(1000, folder=tmp_path).path.read_bytes() == plain


def test_text_file_too_small_for_its_last_character(tmp_path: Path) -> None:
    """A size that can't be kept is refused."""
    with pytest.raises(FileError, match=r"3 bytes at least, not 2"):
        text_file(2, folder=tmp_path, last="€")
    assert list(tmp_path.iterdir()) == []


def test_sparse_file_of_a_terabyte_takes_almost_no_disk(tmp_path: Path) -> None:
    """1 TiB is made at once, and the disk holds little more than its islands."""
    made = sparse_file(TiB, folder=tmp_path)
    facts = made.path.stat()
    assert facts.st_size == made.size == TiB
    assert facts.st_blocks * 512 < 2 * MiB


def test_sparse_file_has_islands_at_both_ends(tmp_path: Path) -> None:
    """The first island begins the file, the last one ends it, and all lie where it says."""
    made = sparse_file(TiB, folder=tmp_path, islands=6)
    assert len(made.islands) == 6
    assert made.islands[0].offset == 0
    assert made.islands[-1].offset + len(made.islands[-1].data) == TiB
    with made.path.open("rb") as file:
        for island in made.islands:
            file.seek(island.offset)
            assert file.read(len(island.data)) == island.data
            assert file.read(16) in (bytes(16), b"")


def test_sparse_file_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    """Islands depend on the seed alone."""
    islands = sparse_file(GiB, folder=tmp_path, seed=3).islands
    assert sparse_file(GiB, "b", folder=tmp_path, seed=3).islands == islands
    assert sparse_file(GiB, "c", folder=tmp_path, seed=4).islands != islands


@pytest.mark.parametrize("size", [0, 1, 3, 1000, 100 * KiB, 200 * KiB])
@pytest.mark.parametrize("seed", range(5))
def test_small_sparse_file_still_ends_in_an_island(tmp_path: Path, size: int, seed: int) -> None:
    """However small, it begins and ends with random data, and no two islands overlap."""
    made = sparse_file(size, folder=tmp_path, islands=5, seed=seed)
    assert made.path.stat().st_size == size
    first, last = made.islands[0], made.islands[-1]
    assert first.offset == 0
    assert last.offset + len(last.data) == size
    ends = [island.offset + len(island.data) for island in made.islands]
    assert all(end <= after.offset for end, after in zip(ends[:-1], made.islands[1:], strict=True))


def test_sparse_file_is_never_a_stale_one(tmp_path: Path) -> None:
    """A file with other islands under the same name is replaced."""
    old = sparse_file(MiB, folder=tmp_path, seed=1)
    new = sparse_file(MiB, folder=tmp_path, seed=2)
    assert new.path == old.path
    assert new.path.read_bytes().startswith(new.islands[0].data)


@pytest.mark.parametrize("make", [random_file, text_file, sparse_file])
def test_negative_size(make: Any, tmp_path: Path) -> None:
    """Fewer than no bytes is an error, and leaves nothing behind."""
    with pytest.raises(FileError, match=r"can't have -1 bytes"):
        make(-1, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is reported in words, no part of the file is left, and an old file stays."""
    old = random_file(10, "data.bin", folder=tmp_path)
    make_part = tempfile.mkstemp

    def on_a_full_disk(**options: Any) -> tuple[int, str]:
        handle, part = make_part(**options)
        os.close(handle)
        return os.open("/dev/full", os.O_WRONLY), part

    monkeypatch.setattr(tempfile, "mkstemp", on_a_full_disk)
    with pytest.raises(FileError, match=r"could not make data.bin \(2 MiB\): the disk is full"):
        random_file(2 * MiB, "data.bin", folder=tmp_path)
    assert list(tmp_path.iterdir()) == [old.path]
    assert old.path.stat().st_size == 10


@pytest.mark.skipif(os.name != "posix", reason="RLIMIT_FSIZE is of POSIX")
def test_file_too_large_for_the_file_system(tmp_path: Path) -> None:
    """EFBIG (here from a limit on file sizes) is reported in words; no part of the file is left."""
    program = (
        "import resource, streamlab\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20,) * 2)\n"
        f"for make in (streamlab.random_file, streamlab.sparse_file):\n"
        f"    try: make(2 << 20, folder={str(tmp_path)!r})\n"
        "    except streamlab.FileError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.splitlines() == [
        "could not make 2MiB.bin (2 MiB): the file system takes no file of that size: "
        "choose a smaller one",
        "could not make 2MiB.sparse (2 MiB): the file system takes no file of that size: "
        "choose a smaller one",
    ], ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_folder_that_can_not_be(tmp_path: Path) -> None:
    """A folder that is a file is an error of this library, not a bare OSError."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"could not make 10B\.bin"):
        random_file(10, folder=tmp_path / "file")


def test_error_is_of_the_library() -> None:
    """Every error of the library can be caught by its base, and shows as one line in a notebook."""
    assert issubclass(FileError, StreamlabError)
    assert FileError("no room")._render_traceback_() == ["FileError: no room"]


# A film


def boxes(path: Path) -> list[bytes]:
    """The names of an MP4 file's boxes, in order."""
    names, rest = [], path.read_bytes()
    while rest:
        names.append(rest[4:8])
        rest = rest[int.from_bytes(rest[:4]) :]
    return names


@pytest.mark.needs("ffmpeg")
def test_film(tmp_path: Path) -> None:
    """A film has its index at the end, is made once, and made the same again."""
    film = sample_video(4, folder=tmp_path)
    assert (film.name, film.url) == ("4s.mp4", "/4s.mp4")
    assert film.size == film.path.stat().st_size
    assert 4 * 50 * KiB < film.size < 4 * 200 * KiB
    assert boxes(film.path)[0] == b"ftyp"
    assert boxes(film.path)[-1] == b"moov"
    made, content = film.path.stat().st_mtime_ns, film.path.read_bytes()
    assert sample_video(4, folder=tmp_path) == film
    assert film.path.stat().st_mtime_ns == made
    film.path.unlink()
    assert sample_video(4, folder=tmp_path).path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [film.path]


@pytest.mark.needs("ffmpeg")
def test_a_film_that_is_broken_or_another_is_made_anew(tmp_path: Path) -> None:
    """Half of a film, or one of another length under its name, is not taken for it."""
    film = sample_video(2, "film.mp4", tmp_path)
    content = film.path.read_bytes()
    film.path.write_bytes(content[: film.size // 2])
    assert sample_video(2, "film.mp4", tmp_path).path.read_bytes() == content
    assert sample_video(1, "film.mp4", tmp_path).size < film.size


def test_no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ffmpeg there is one line that names it, and its package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"^ffmpeg is not installed here \(package ffmpeg\)$"):
        sample_video(1, folder=tmp_path)


def test_ffmpeg_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ffmpeg complains about is reported, and nothing is left of the film."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'Unknown encoder' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(FileError, match=r"could not make 1s.mp4: Unknown encoder$"):
        sample_video(1, folder=tmp_path / "films")
    assert list((tmp_path / "films").iterdir()) == []


@pytest.mark.parametrize("at", [0, 1, 4999, 9999])
def test_where_two_bodies_part(at: int) -> None:
    """The first byte that differs, wherever it is."""
    body = bytearray(Random(at).randbytes(10_000))
    other = bytes(body)
    body[at] ^= 1
    assert same_length(body, other) == at
    assert same_length(other[:at], other) == at
    assert same_length(other, other) == len(other)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are of POSIX")
def test_only_a_plain_file_of_others_is_read(tmp_path: Path) -> None:
    """No more of it than asked for; a link is not followed, and a pipe is not waited for."""
    (tmp_path / "plain").write_bytes(b"content")
    assert read_plain(tmp_path / "plain", 4) == b"cont"
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe", "missing"):
        with pytest.raises(OSError):
            read_plain(tmp_path / name, 4)


@pytest.mark.needs("linux")
def test_the_page_cache_drops_what_has_arrived_in_large_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is asked once 32 MiB have come together, for these bytes and no others."""
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *rest: asked.append(rest))
    with (tmp_path / "file").open("wb") as file:
        dropped = 0
        for end in (MiB, 32 * MiB - 1, 40 * MiB, 71 * MiB, 72 * MiB):
            dropped = drop_cache(file.fileno(), dropped, end)
    assert dropped == 72 * MiB
    assert asked == [
        (0, 40 * MiB, os.POSIX_FADV_DONTNEED),
        (40 * MiB, 32 * MiB, os.POSIX_FADV_DONTNEED),
    ]
    monkeypatch.delattr(os, "posix_fadvise")
    assert drop_cache(-1, 0, 99 * MiB) == 0


@pytest.mark.needs("linux")
def test_what_is_memory_and_what_is_a_disk() -> None:
    """The kernel's own list of file systems tells a tmpfs."""
    kinds = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kinds[fields[4]] = fields[fields.index("-") + 1]
    for folder, kind in kinds.items():
        if kind in ("tmpfs", "ext4", "overlay") and os.access(folder, os.R_OK):
            assert is_memory(os.stat(folder).st_dev) == (kind == "tmpfs"), folder


@pytest.mark.needs("linux")
def test_a_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies where it was wanted and has room; otherwise there is none."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    here = "tmpfs" if is_memory(tmp_path.stat().st_dev) else "disk"
    assert folder_on(here, 1000) == tmp_path.resolve()  # type: ignore[arg-type]
    for kind in ("tmpfs", "disk"):
        assert folder_on(kind, 2**60) is None
        found = folder_on(kind, 1)
        assert found is None or is_memory(found.stat().st_dev) == (kind == "tmpfs")
