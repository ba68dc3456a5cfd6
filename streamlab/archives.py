"""Tar files are unpacked safely on every Python: plain files and folders, all inside one folder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path, PurePosixPath

from streamlab.errors import FileError


def unpack(archive: bytes, folder: Path) -> None:
    """Unpack a tar file into `folder`, which exists.

    Files get the mode 0644, or 0755 if their owner may execute them, folders 0755, and all belong
    to the user who unpacks. Raises `FileError`, before anything is written, if a member is neither
    a file nor a folder (a link, a device) or its name leads out of `folder`, and if this is no tar
    file.

    `tarfile.data_filter` (PEP 706) is used where it exists: Python has it since 3.11.4.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            members = opened.getmembers()
            for member in members:
                _refuse(member)
            for member in members:
                executable = member.isdir() or member.mode & 0o100
                member.mode = 0o755 if executable else 0o644
                member.uid = member.gid = -1
                member.uname = member.gname = ""
            if hasattr(tarfile, "data_filter"):
                opened.extractall(folder, members, filter="data")
            else:
                opened.extractall(folder, members)
    except tarfile.TarError as error:
        raise FileError(f"the archive can't be unpacked: {error}") from error


def _refuse(member: tarfile.TarInfo) -> None:
    """Raise `FileError` if a member could write outside of the folder, or is no plain content."""
    name = member.name
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or Path(name).is_absolute() or Path(name).drive:
        raise FileError(f"the archive can't be unpacked: {name!r} leads out of the folder")
    if not (member.isreg() or member.isdir()):
        raise FileError(f"the archive can't be unpacked: {name!r} is neither a file nor a folder")
