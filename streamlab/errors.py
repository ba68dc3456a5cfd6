"""The errors that this library raises, each with a message that says what to do next."""

from __future__ import annotations

from typing import ClassVar, Literal

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


class CapacityError(StreamlabError):
    """Numbers that no server can have, such as no users; the message says which."""


class ServerError(StreamlabError):
    """A server did not start, never listened, or died; the message ends with its log."""


class NotListening(ServerError):
    """A server did not listen in time. Nothing but a lack of time may have caused that."""


class DownloadError(StreamlabError):
    """A download failed, was cut short, or brought other bytes than the file's.

    `failure` is what was seen, for those who draw conclusions; the message is for people. `reason`
    is the message without the URL.
    """

    def __init__(self, message: str, failure: Failure = "other", reason: str = "") -> None:
        super().__init__(message)
        self.failure: Failure = failure
        self.reason = reason or message


class UploadError(StreamlabError):
    """An upload could not go on: the server is gone, takes no more, or does not answer."""


AnswerPart = Literal["status line", "head", "chunk line", "chunk", "body", "trailer"]
"""The part of an answer in which an error is."""


class AnswerError(StreamlabError):
    """What came is not the answer that HTTP allows (RFC 9112). Its subclasses say which rule broke.

    `position` counts the bytes of the answer before the one where it went wrong. `before` and
    `after` are a few bytes on both sides of that place, `part` is where it is.
    """

    fault: ClassVar[Failure] = "malformed"
    """The same in one word."""

    def __init__(
        self,
        what: str,
        position: int,
        before: bytes = b"",
        after: bytes = b"",
        part: AnswerPart = "head",
    ) -> None:
        super().__init__(what, position, before, after, part)
        self.what = what
        self.position = position
        self.before = before
        self.after = after
        self.part: AnswerPart = part

    def __str__(self) -> str:
        return f"{self.what} (byte {self.position}: {self.piece})"

    @property
    def piece(self) -> str:
        """The bytes around the place, escaped as Python does it."""
        begins = f"after {repr(self.before)[1:]} " if self.before else ""
        return f"{begins}comes {repr(self.after)[1:] if self.after else 'nothing'}"


class BadStatusLine(AnswerError):
    """The first line is not `HTTP/1.1`, a status and its reason (RFC 9112, section 4)."""


class BadHeader(AnswerError):
    """A line is no field line, or what it says of the body can't be (sections 5 and 6.3)."""


class BadChunk(AnswerError):
    """A chunk does not begin with the line of its size, or does not end with CR LF (section 7.1).

    In the second case its `part` is "chunk", and in the first one "chunk line".
    """


class CutShort(AnswerError):
    """The connection was closed before the answer's end (section 8)."""

    fault: ClassVar[Failure] = "cut_short"


class NoAnswer(CutShort):
    """The connection was closed before the first byte of an answer."""

    fault: ClassVar[Failure] = "no_answer"


class TooLarge(AnswerError):
    """A part has more bytes than the reader's limit for it."""


class ToolError(StreamlabError):
    """A program that a lesson uses is not installed, or could not do what it was asked for."""


class MeterError(StreamlabError):
    """Memory could not be read: the process is gone, or the system does not tell."""


class ProcessGoneError(MeterError):
    """There is nothing to be read of a process any more: it has ended."""


class IsolationError(StreamlabError):
    """A program can't be shut in as it should be: it must not start."""


class ProbeError(StreamlabError):
    """A server can't be probed: a wrong address or process, or a limit; the message says which."""
