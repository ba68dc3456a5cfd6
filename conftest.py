"""How tests and notebooks say what they need, and what happens where it is missing.

A test says `@pytest.mark.needs("linux", "curl")`, a notebook `"streamlab": {"needs": [...]}` in its
metadata. Where something is missing it is skipped with the reason; with CI set, it fails.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import pytest

from streamlab.doctor import missing


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
        json.loads(path.read_text())["metadata"].get("streamlab", {}).get("needs", [])
    )
    return needs
