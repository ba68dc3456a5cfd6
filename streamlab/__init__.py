"""streamlab: real servers, real clients and honest memory meters for a course on streaming.

The names below are the public surface for notebooks and labs. They load on first use, so that the
small processes that run beside a server (`streamlab.process.supervise`, `streamlab.serve`) stay
small.
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
    "forget": "files",
    "remember": "files",
    "sample_video": "files",
    "sparse_file": "files",
    "text_file": "files",
    "size_text": "files",
    "Cup": "process.program",
    "Server": "process.server",
    "Sampler": "process.memory",
    "memory_of": "process.memory",
    "MemoryGroup": "process.groups",
    "GroupTimeline": "process.groups",
    "high_water": "process.memory",
    "deleted_files": "process.memory",
    "orphans": "process.memory",
    "reset_high_water": "process.memory",
    "bytes_read": "process.proc",
    "cpu_seconds": "process.proc",
    "open_files": "process.proc",
    "Deadline": "process.patience",
    "settled": "process.patience",
    "socket_buffers": "process.proc",
    "Download": "http.clients",
    "download": "http.clients",
    "connection_buffer": "http.buffers",
    "Upload": "http.upload",
    "curl_upload": "http.upload",
    "SlowClients": "http.slow",
    "at_door": "http.slow",
    "Measurement": "lesson.experiment",
    "fill": "lesson.experiment",
    "group_chart": "lesson.charts",
    "waiting": "lesson.experiment",
    "on_one_cpu": "lesson.experiment",
    "less_than_times": "lesson.verdicts",
    "measure": "lesson.experiment",
    "measure_client": "lesson.experiment",
    "check": "lesson.lab_results",
    "nginx": "lesson.magics",
    "Chart": "lesson.charts",
    "Verdict": "lesson.verdicts",
    "about": "lesson.verdicts",
    "at_least": "lesson.verdicts",
    "at_least_times": "lesson.verdicts",
    "below": "lesson.verdicts",
    "canvas": "lesson.charts",
    "cost_chart": "lesson.charts",
    "counted": "lesson.verdicts",
    "chain_chart": "lesson.chain",
    "chain_of": "lesson.chain",
    "cup_chart": "lesson.charts",
    "growth_chart": "lesson.charts",
    "size_axis": "lesson.charts",
    "timeline_chart": "lesson.charts",
    "kept_by": "process.memory",
    "kept_of_uploads": "lesson.upload_meters",
    "multiple_of": "lesson.verdicts",
    "places_chart": "lesson.upload_meters",
    "sent_before": "lesson.upload_meters",
    "temporary_on": "lesson.upload_meters",
    "upload_peak": "lesson.upload_meters",
    "row": "lesson.verdicts",
    "score": "lesson.guesses",
    "size_chart": "lesson.charts",
    "straight_line": "lesson.verdicts",
    "sweep_chart": "lesson.charts",
    "two_ways_chart": "lesson.charts",
    "verdicts": "lesson.verdicts",
    "watch": "lesson.browser",
    "wire": "lesson.wire_view",
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
    from streamlab import environment
    from streamlab.lesson import magics

    environment.prepare()
    environment.give_matplotlib_a_folder()
    magics.register(shell)
