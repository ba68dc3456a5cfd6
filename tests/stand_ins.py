"""What stands in for a server in tests that ask nothing else of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def stand_in(url: str, **facts: Any) -> Any:
    """What a conversation asks of a server: here it has written nothing."""
    known = {"running": True, "exit_status": None, "output_limit": None, **facts}
    return SimpleNamespace(
        url=url, log=lambda: "", mark=lambda: None, recent_log=lambda: "", listens_on=list, **known
    )
