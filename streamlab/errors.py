"""The errors that this library raises, each with a message that says what to do next."""

from __future__ import annotations

from typing import Literal

Failure = Literal[
    "refused",  # no server listens on the port
    "no_answer",  # the connection was closed before the first byte of an answer
    "malformed",  # what came is not HTTP
    "status",  # an answer with another status than 200
    "wrong_bytes",  # a byte that is not as in the file
    "too_many",  # more bytes than the file has
    "cut_short",  # closed before the length that was announced, or that of the file, had come
    "broken",  # the connection was reset
    "unfinished",  # not at its end when the time was up
    "overdue",  # a whole crowd that was not at its end when its time was up
    "other",
]
"""What was seen of a download that failed."""


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
    """A download failed, was cut short, or brought other bytes than the file's.

    `failure` is what was seen, for those who draw conclusions; the message is for people.
    """

    def __init__(self, message: str, failure: Failure = "other") -> None:
        super().__init__(message)
        self.failure: Failure = failure


class ToolError(StreamlabError):
    """A program that a lesson uses is not installed, or could not do what it was asked for."""


class MeterError(StreamlabError):
    """Memory could not be read: the process is gone, or the system does not tell."""
