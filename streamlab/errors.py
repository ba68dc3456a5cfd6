"""The errors that this library raises, each with a message that says what to do next."""

from __future__ import annotations


class StreamlabError(Exception):
    """Base of every error of this library. In a notebook only its message is shown."""

    def _render_traceback_(self) -> list[str]:
        """Show the message alone: the frames of the library would bury it (IPython's hook)."""
        return [f"{type(self).__name__}: {self}"]


class FileError(StreamlabError):
    """A sample file could not be made: no space, no permission, or a bad size."""


class ServerError(StreamlabError):
    """A server did not start, never listened, or died; the message ends with its log."""


class DownloadError(StreamlabError):
    """A download failed, was cut short, or brought other bytes than the file's."""


class ToolError(StreamlabError):
    """A program that a lesson uses is not installed, or could not do what it was asked for."""


class MeterError(StreamlabError):
    """Memory could not be read: the process is gone, or the system does not tell."""
