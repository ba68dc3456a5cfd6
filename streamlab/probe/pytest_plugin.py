"""A fixture for the reader's own tests: `pytest_plugins = ["streamlab.probe.pytest_plugin"]`.

    def test_it_streams(probe):
        result = probe("http://127.0.0.1:8000/big.bin", pid=server.pid)
        assert result.memory_per_client < 4 * MiB
        assert not result.bad, result

What it needs is imported when a test uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from streamlab.probe.run import ProbeResult

Probe = Callable[..., "ProbeResult"]


def run_probe(
    url: str,
    pid: int | None = None,
    *,
    only: Sequence[str] = (),
    clients: int = 30,
    seconds: float = 120.0,
    patience: float = 10.0,
) -> ProbeResult:
    """Probe a server on this machine; see `streamlab probe --help`.

    `pid` is its main process (None: what can be seen from outside alone), `only` are ids of
    questions (default: all), `clients` is how many come at most. `seconds` is for the whole probe,
    and `patience` is how many seconds an answer may bring nothing. Raises `ProbeError` if the
    server can't be probed.
    """
    from streamlab.probe.client import Budget
    from streamlab.probe.judge import QUESTIONS
    from streamlab.probe.load import Plan
    from streamlab.probe.run import Wish, examine
    from streamlab.probe.target import find

    plan = Plan(tuple(sorted({1, max(1, clients // 3), clients})))
    budget = Budget(most_seconds=seconds, patience=patience, most_connections=4 * clients + 40)
    wish = Wish(tuple(only) or tuple(QUESTIONS), plan)
    return examine(find(url, pid), budget, wish)


@pytest.fixture
def probe() -> Probe:
    """A function that measures a running server and returns a `ProbeResult`."""
    return run_probe
