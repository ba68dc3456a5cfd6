"""How the tables of lessons look, on JupyterLab's light and dark.

What has a colour brings its own ground along, so its contrast is the same on both. A colour never
stands alone: a sign or a word says the same.
"""

from __future__ import annotations


def table_style(pixels: int) -> str:
    """How a table looks whose letters have that size."""
    return f"border-collapse:collapse;font-size:{pixels}px;margin:6px 0"


def on_ground(colour: str) -> str:
    """White letters on a ground of that colour."""
    return f"color:#ffffff;background-color:{colour};font-weight:600"


TABLE = table_style(14)
CELL = "text-align:left;padding:5px 12px 5px 6px;border-bottom:1px solid rgba(128,128,128,.3)"
LINE = f"{CELL};white-space:nowrap"
QUIET = "opacity:.75"
HEAD = f"{LINE};font-weight:normal;{QUIET}"
FAILS = on_ground("#a3262a")
"""A law that did not hold, a check that failed."""

GUESS_LOOKS = {
    "hit": on_ground("#1b6b45"),
    "near": on_ground("#7a5600"),
    "off": on_ground("#3d5a80"),
}
"""How a guess looks that was a hit, near (within a factor of 2) or off."""
