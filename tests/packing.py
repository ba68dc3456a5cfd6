"""Archives as students hand them in, made in memory."""

from __future__ import annotations

import io
import tarfile
import zipfile

Files = dict[str, bytes]
"""Files of an archive: their bytes by name."""


def zipped(files: Files) -> bytes:
    """A zip file's bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(files: Files) -> bytes:
    """A tar file's bytes, not compressed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
