"""streamlab: real servers, real clients and honest memory meters for a course on streaming.

The names below are the public surface for notebooks and labs. They load on first use, so that
the small processes that run beside a server (`streamlab.supervise`, `streamlab.serve`) stay small.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # typing's own takes 7 ms to load, in each of the small processes
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_HOME = {
    "DownloadError": "errors",
    "FileError": "errors",
    "MeterError": "errors",
    "ServerError": "errors",
    "StreamlabError": "errors",
    "ToolError": "errors",
    "KiB": "files",
    "MiB": "files",
    "GiB": "files",
    "TiB": "files",
    "random_file": "files",
    "sample_video": "files",
    "sparse_file": "files",
    "text_file": "files",
    "size_text": "files",
    "Cup": "server",
    "Server": "server",
    "Sampler": "memory",
    "memory_of": "memory",
    "high_water": "memory",
    "reset_high_water": "memory",
    "bytes_read": "memory",
    "cpu_seconds": "memory",
    "open_files": "memory",
    "settled": "patience",
    "socket_buffers": "memory",
    "Download": "clients",
    "download": "clients",
    "connection_buffer": "buffers",
    "Measurement": "experiment",
    "fill": "experiment",
    "waiting": "experiment",
    "on_one_cpu": "experiment",
    "less_than_times": "display",
    "measure": "experiment",
    "measure_client": "experiment",
    "check": "display",
    "Chart": "display",
    "Verdict": "display",
    "about": "display",
    "at_least": "display",
    "at_least_times": "display",
    "below": "display",
    "canvas": "display",
    "cost_chart": "display",
    "counted": "display",
    "cup_chart": "display",
    "growth_chart": "display",
    "size_axis": "display",
    "timeline_chart": "display",
    "multiple_of": "display",
    "row": "display",
    "size_chart": "display",
    "straight_line": "display",
    "sweep_chart": "display",
    "two_ways_chart": "display",
    "verdicts": "display",
    "watch": "browser",
    "wire": "conversation",
}

__all__ = ["__version__", "load_ipython_extension", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    try:
        module = _HOME[name]
    except KeyError:
        raise AttributeError(f"module 'streamlab' has no attribute {name!r}") from None
    return getattr(importlib.import_module(f"streamlab.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """Register the `%%server` magic (what `%load_ext streamlab` calls)."""
    from streamlab import environment, magics

    environment.prepare()
    environment.give_matplotlib_a_folder()
    magics.register(shell)
