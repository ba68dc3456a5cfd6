"""Stand-ins for a server, in tests that need nothing more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import streamlab

CHECKS = Path(streamlab.__file__).parent / "checks"


def stand_in(url: str, **facts: Any) -> Any:
    """The parts of a server that a conversation uses; this one has written no log."""
    known = {"running": True, "exit_status": None, "output_limit": None, **facts}
    return SimpleNamespace(
        url=url, log=lambda: "", mark=lambda: None, recent_log=lambda: "", listens_on=list, **known
    )


def source_of(*patterns: str) -> str:
    """The text of the modules below `streamlab/checks/` whose paths match."""
    files = sorted(file for pattern in patterns for file in CHECKS.glob(pattern))
    assert files
    return "".join(file.read_text(encoding="utf-8") for file in files)
