"""A result as JSON, and as a page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import streamlab
from streamlab.probe.run import ProbeResult, machine


def as_json(found: ProbeResult) -> dict[str, Any]:
    """The result as an object for JSON; `docs/probe.md` explains its keys.

    Names end in their unit: `_bytes`, `_seconds`.
    """
    return {
        "streamlab": streamlab.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "url": found.url,
        "pid": found.pid,
        "file_size_bytes": found.file_size,
        "notes": list(found.notes),
        "rows": [
            {
                "id": each.id,
                "question": each.question,
                "outcome": each.outcome,
                "verdict": each.verdict.text,
                "figure": each.verdict.live,
                "figures": each.figures,
                "curl": each.curl,
            }
            for each in found.rows
        ],
    }


def as_page(found: ProbeResult) -> str:
    """The result as one HTML page, without scripts, for light and dark screens."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("streamlab", "probe/templates")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return pages.get_template("probe.html").render(as_json(found))
