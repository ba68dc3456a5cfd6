"""How tests and notebooks say what they need, and how nbval speaks with its kernels.

A test says `@pytest.mark.needs("linux", "curl")`, a notebook `"streamlab": {"needs": [...]}` in its
metadata. Where something is missing it is skipped with the reason; with CI set, it fails.

On Linux nbval's kernels are spoken with by files: of the ports that it would choose for them,
another program can be given one before the kernel listens there.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import nbval.kernel
import pytest
from jupyter_client.manager import KernelManager

from streamlab import environment
from streamlab.doctor import missing

environment.prepare()

LONGEST = 107 - len("/nbval-12345678/kernel-ipc-99")
"""How long the path of a folder may be, in bytes, that holds the folder of a kernel's sockets."""


class KernelByFiles(KernelManager):
    """A kernel whose sockets lie in a temporary folder of its own, in a place with a short path."""

    def __init__(self, **options: Any) -> None:
        self._folder = tempfile.TemporaryDirectory(
            prefix="nbval-", dir=environment.short_folder(LONGEST), ignore_cleanup_errors=True
        )
        connection_file = str(Path(self._folder.name) / "kernel.json")
        super().__init__(transport="ipc", connection_file=connection_file, **options)


if sys.platform == "linux":
    nbval.kernel.KernelManager = KernelByFiles


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    needs = [name for marker in item.iter_markers("needs") for name in marker.args]
    if item.path.suffix == ".ipynb":
        needs += _needs_of(item.path)
    if lacking := missing(needs):
        reason = "; ".join(lacking)
        if os.environ.get("CI"):
            pytest.fail(f"CI may skip nothing, but here is missing {reason}", pytrace=False)
        pytest.skip(f"missing here: {reason}")


@cache
def _needs_of(path: Path) -> list[str]:
    needs: list[str] = (
        json.loads(path.read_text(encoding="utf-8"))["metadata"]
        .get("streamlab", {})
        .get("needs", [])
    )
    return needs
