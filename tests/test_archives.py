"""A tar file can write nothing outside of the folder, on Pythons with and without PEP 706."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from streamlab.archives import unpack
from streamlab.errors import FileError

HERE = hasattr(tarfile, "data_filter")


@pytest.fixture(params=["without filters", *(["with filters"] if HERE else [])], autouse=True)
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python as it was before 3.11.4, and as it is, if it is newer."""
    if request.param == "with filters" or not HERE:
        return
    for name in ("data_filter", "tar_filter", "fully_trusted_filter"):
        monkeypatch.delattr(tarfile, name, raising=False)
    old = tarfile.TarFile.extractall

    def extractall(self: tarfile.TarFile, path: Path, members: list[tarfile.TarInfo]) -> None:
        trusting = (
            {"filter": lambda member, path: member} if hasattr(self, "_get_filter_function") else {}
        )
        old(self, path, members, **trusting)  # type: ignore[arg-type]

    monkeypatch.setattr(tarfile.TarFile, "extractall", extractall)


def packed(*members: tarfile.TarInfo, content: bytes = b"river") -> bytes:
    """A tar file of these members; the plain files among them have `content`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for member in members:
            if member.isreg():
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return file.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, to: str = ""
) -> tarfile.TarInfo:
    """A member of an archive."""
    made = tarfile.TarInfo(name)
    made.type, made.mode, made.linkname = kind, mode, to
    return made


def test_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    unpack(
        packed(member("a", tarfile.DIRTYPE, 0o755), member("a/b.txt"), member("c/d.txt")), folder
    )
    assert (
        (folder / "a" / "b.txt").read_bytes() == (folder / "c" / "d.txt").read_bytes() == b"river"
    )


@pytest.mark.parametrize(
    "name",
    ["/etc/streamlab", "//etc/streamlab", "../out", "a/../../out", "a/..", "..", "a\\..\\..\\out"],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE], ids=["file", "folder"])
def test_names_that_lead_out(tmp_path: Path, name: str, kind: bytes) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(FileError, match="leads out of the folder"):
        unpack(packed(member("good"), member(name, kind)), folder)
    assert list(tmp_path.rglob("*")) == [folder], "something was written"


@pytest.mark.parametrize(
    ("kind", "to"),
    [
        (tarfile.SYMTYPE, "good"),
        (tarfile.SYMTYPE, "/etc"),
        (tarfile.SYMTYPE, "../.."),
        (tarfile.LNKTYPE, "good"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
    ids=["symlink", "symlink out", "symlink up", "link", "link out", "char", "block", "fifo"],
)
def test_what_is_no_file(tmp_path: Path, kind: bytes, to: str) -> None:
    """A file after it, which a link would lead out, is not written either."""
    folder = tmp_path / "in"
    folder.mkdir()
    archive = packed(member("good"), member("way", kind, to=to), member("way/file"))
    with pytest.raises(FileError, match="'way' is neither a file nor a folder"):
        unpack(archive, folder)
    assert list(tmp_path.rglob("*")) == [folder], "something was written"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        (0o644, 0o644),
        (0o4755, 0o755),
        (0o2711, 0o755),
        (0o1666, 0o644),
        (0o7777, 0o755),
        (0, 0o644),
    ],
)
def test_modes(tmp_path: Path, mode: int, wanted: int) -> None:
    """No setuid, setgid or sticky bit, nothing others may write or the owner can't read."""
    unpack(packed(member("file", mode=mode), member("folder", tarfile.DIRTYPE, mode)), tmp_path)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == wanted
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o755


@pytest.mark.skipif(os.name != "posix", reason="owners are POSIX's")
def test_owner(tmp_path: Path) -> None:
    """Unpacked files belong to the user that unpacks them."""
    foreign = member("file")
    foreign.uid = foreign.gid = 4242
    foreign.uname = foreign.gname = "daemon"
    unpack(packed(foreign), tmp_path)
    found = (tmp_path / "file").stat()
    assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())


@pytest.mark.parametrize("archive", [b"", b"no archive", packed(member("a"))[:700]])
def test_no_archive(tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(FileError, match="the archive can't be unpacked"):
        unpack(archive, tmp_path)
