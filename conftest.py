"""How tests and notebooks name what they need, and how nbval talks to its kernels.

A test says `@pytest.mark.needs("linux", "curl")`, a notebook `"streamlab": {"needs": [...]}` in its
metadata. If something is missing, it is skipped with the reason; with CI set, it fails. A memory
control group is an exception: no package brings the right to make one, so without it CI skips too.

On Linux nbval talks to its kernels over Unix sockets. With ports, another program could get a
chosen port before the kernel listens on it.
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
"""The longest path, in bytes, of a folder for a kernel's sockets (unix(7), `sun_path`)."""


class KernelByFiles(KernelManager):
    """A kernel whose sockets are in a temporary folder of its own, with a short path."""

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
        installable = [each for each in lacking if not each.startswith("cgroup: ")]
        if os.environ.get("CI") and installable:
            pytest.fail(f"CI may skip nothing, but this is missing: {reason}", pytrace=False)
        pytest.skip(f"missing here: {reason}")


@cache
def _needs_of(path: Path) -> list[str]:
    needs: list[str] = (
        json.loads(path.read_text(encoding="utf-8"))["metadata"]
        .get("streamlab", {})
        .get("needs", [])
    )
    return needs
