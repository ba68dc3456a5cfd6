"""A conversation with a server over one connection, byte for byte.

A `Talk` sends requests as they are given, and reads one answer after the other by its framing
alone (RFC 9112, section 6), so that a byte too many or too few shows in the next one. Whatever is
wrong ends in `fail`, with the conversation so far as evidence. Sizes are in bytes, times in
seconds.
"""

from __future__ import annotations

import re
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from streamlab.checks import (
    HEAD_SO_FAR,
    RawAnswer,
    by_hand,
    connected,
    read_answer,
    shown,
    state_of,
)
from streamlab.files import KiB, MiB
from streamlab.server import Server, out_of_memory
from streamlab.testing import fail

PATIENCE = 6.0
"""Seconds without a byte after which an answer counts as hanging."""
CLOSING = 4.0
"""Seconds in which a connection that has to be closed must be closed."""
RENAMED = {"not_found": "wrong_status"}
"""What a lab calls the causes that a conversation finds, where it has other names for them."""
LONGEST_HEAD = 1 * MiB
LONGEST_COMMAND = 4000
"""Letters of a command to try by hand: a longer one can't be pasted into a terminal."""
LARGEST_BODY = 256 * MiB
"""Bytes after which a body that only its connection could end is not read on."""


@dataclass(frozen=True)
class Wanted:
    """A request's path, and the answer that is right for it."""

    path: str
    body: bytes | None
    """The body that must come; None: any, as for an error."""
    status: int = 200

    def request(self, *headers: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
        """The request's bytes, with these headers besides `Host`."""
        lines = [f"{method} {self.path} {version}", "Host: 127.0.0.1", *headers, "", ""]
        return "\r\n".join(lines).encode("latin-1")


class Talk:
    """A conversation over one connection. What was said is kept, for evidence."""

    def __init__(
        self, server: Server, sock: socket.socket, renamed: Mapping[str, str] | None = None
    ) -> None:
        self.server = server
        self.sock = sock
        self._renamed = RENAMED if renamed is None else renamed
        server.mark()
        self.patience = PATIENCE
        self.answers = 0
        """How many answers were heard in full."""
        self.timed_out = False
        """Whether the last attempt to receive something took all of the patience."""
        self._story: list[str] = []
        self._heard: bytes | None = None
        """The last answer that was heard in full."""
        self._commands: list[str] | None = []
        """The requests as options of curl; None once there was something that curl can't say."""
        self._came = b""
        self._said: tuple[Sequence[bytes], float] | None = None
        """The pieces that were said last, and the seconds after each."""

    # Saying

    def say(self, *pieces: bytes, pause: float = 0, how: str = "") -> None:
        """Send bytes, `pause` seconds after each piece; a server that has closed takes none."""
        raw = b"".join(pieces)
        command = "" if how else as_curl(raw)
        self._commands = (
            [*self._commands, command] if command and self._commands is not None else None
        )
        self._said = pieces, pause
        self._story.append(f"sent{how and ' ' + how}\n\n{shown(raw, 400).rstrip()}")
        with suppress(OSError):
            for piece in pieces:
                self.sock.sendall(piece)
                time.sleep(pause)

    def say_again(self, raw: bytes, times: int) -> None:
        """Send a request so many times at once; the story tells of it in one line."""
        self._commands, self._said = None, ([raw] * min(times, 3), 0.0)
        self._story.append(f"sent {times} times, at once\n\n{shown(raw, 400).rstrip()}")
        with suppress(OSError):
            self.sock.sendall(raw * times)

    def note(self, what: str) -> None:
        """Add to the story what happened besides."""
        self._story.append(what)

    # Hearing

    def hear(self, method: str = "GET", cause: str = "") -> RawAnswer:
        """The next answer, and no byte of what follows it; the check fails if it has no form.

        `cause` is named instead of the likeliest one.
        """
        plain = self.hear_head(cause)
        head, body = plain.raw, b""
        coding, length = plain.header("transfer-encoding"), plain.header("content-length")
        if method == "HEAD" or plain.status in (204, 304):
            pass
        elif coding is not None:
            if coding.lower() != "chunked":
                self.fault(cause or "malformed", f"{coding!r} is no coding one can end", head)
            body = self._chunks(head, cause)
        elif length is not None:
            body = self._exactly(int(length), head, cause)
        else:
            body = self._to_the_end(head, cause)
        self.answers += 1
        says = ", ".join(
            f"{name}: {plain.header(name.lower())}"
            for name in ("Content-Length", "Transfer-Encoding", "Connection")
            if plain.header(name.lower()) is not None
        )
        told = f"{len(body)} bytes of body" if body or method != "HEAD" else "no body"
        self._story.append(f"came {plain.status} ({says}), {told}")
        self._heard = head + body
        return RawAnswer(self._heard, plain.status, plain.headers, body, "", True)

    def hear_head(self, cause: str = "") -> RawAnswer:
        """The head of the next answer; its body is still to be taken."""
        while True:
            head = self._until(b"\r\n\r\n", cause)
            plain = read_answer(head, closed=False)
            if plain.problem:
                self.fault(cause or self._slipped, plain.problem, head + self._came)
            if plain.status >= 200:
                return plain

    def expect(self, wanted: Wanted, method: str = "GET", cause: str = "") -> RawAnswer:
        """The next answer is the one that is wanted."""
        answer = self.hear(method, cause)
        right = answer.status == wanted.status or (
            wanted.status == 404 and 400 <= answer.status < 500
        )
        if not right:
            likely = "not_found" if (wanted.status, answer.status) == (200, 404) else "wrong_status"
            self.fault(
                cause or likely,
                f"For {method} {wanted.path} the status should be {wanted.status}, "
                f"and {answer.status} came",
                answer.raw,
            )
        if method != "HEAD" and wanted.body is not None and answer.body != wanted.body:
            likely = "out_of_step" if self.answers > 1 else "wrong_bytes"
            if answer.header("transfer-encoding") and self.more_chunks():
                likely = "empty_chunk"
            self.fault(
                cause or likely,
                f"{len(answer.body)} bytes of body came. They are not the {len(wanted.body)} of "
                f"{wanted.path}",
                answer.raw,
            )
        return answer

    def ask(self, wanted: Wanted, *headers: str, method: str = "GET", cause: str = "") -> RawAnswer:
        """Ask for what is wanted, and get it."""
        self.say(wanted.request(*headers, method=method))
        return self.expect(wanted, method, cause)

    def peek(self, end: bytes, cause: str = "") -> None:
        """Receive until `end` has come; it is still to be heard."""
        self._came = self._until(end, cause) + self._came

    def take(self, size: int, cause: str = "") -> bytes:
        """The next `size` bytes, whatever they are; `cause` is named instead of the likeliest."""
        return self._exactly(size, b"", cause)

    def everything(self, most: int, end: bytes = b"") -> tuple[bytes, str]:
        """All that comes, up to `most` bytes or to this end, and why no more does, in words."""
        pieces, came, why = [self._came], len(self._came), ""
        while came < most and not why and not (end and pieces[-1].endswith(end)):
            self._came = b""
            why = self._more()
            pieces.append(self._came)
            came += len(self._came)
        self._came = b""
        return b"".join(pieces), why

    def more_chunks(self) -> bool:
        """Whether chunks follow a body in chunks: the last chunk was not meant to be the last."""
        if not self._came:
            self.sock.settimeout(0.5)
            with suppress(OSError):
                self._came = self.sock.recv(KiB)
        return re.match(rb"[0-9A-Fa-f]+\r\n", self._came) is not None

    def ends(self, cause: str, why: str, extra_cause: str = "out_of_step") -> None:
        """The server closes the connection, and nothing more comes; `why` it has to."""
        extra, open_still = b"", False
        self.sock.settimeout(CLOSING)
        try:
            extra = self._came or self.sock.recv(KiB)
        except TimeoutError:
            open_still = True
        except OSError:
            pass
        if extra:
            self.fault(extra_cause, "After the end of the answer more bytes came", extra)
        if open_still:
            self.fault(cause, f"{why}. {CLOSING:g} s later the connection is still open")

    def goes_on(self, answer: RawAnswer, extra: str = "out_of_step") -> bool:
        """Whether another request may follow: not after an error that says `Connection: close`."""
        if "close" not in options_of(answer):
            return True
        if answer.status < 400:
            what = "The answer says Connection: close. Nobody has asked for that"
            self.fault("closes", what, answer.raw)
        self.ends("stays_open", "The answer says Connection: close", extra)
        return False

    def fault(self, cause: str, what: str, raw: bytes | None = None) -> NoReturn:
        """End the check, with the conversation as evidence and a command to try by hand."""
        if self.server.output_limit is not None:
            cause = "too_much_output"
        elif out_of_memory(self.server.recent_log()):
            cause = "whole_file"
        elif not self.server.running:
            cause = "died"
        cause = self._renamed.get(cause, cause)
        story = self._story
        if raw is not None:
            if raw is self._heard:  # it is shown in full below
                story = story[:-1]
            story = [*story, f"came\n\n{shown(raw).rstrip()}" if raw else "came nothing"]
        if left_out := max(0, len(story) - 5):
            story = [f"({left_out} steps, all right)", *story[left_out:]]
        text = "Over one connection:\n\n" + "\n\n".join(f"- {step}" for step in story)
        command = "curl -sS " + " --next ".join(self._commands[-2:]) if self._commands else ""
        if self._commands is None and self._said:
            command = by_hand(*self._said)
            if len(command) > LONGEST_COMMAND:
                command = ""
        what = what[0].upper() + what[1:]
        fail(cause, f"{text}\n\n{what}.{state_of(self.server)}", command)

    # Reading

    @property
    def _slipped(self) -> str:
        return "out_of_step" if self.answers else "malformed"

    def _more(self) -> str:
        """Receive more; why there is none, in words, or nothing."""
        self.sock.settimeout(self.patience)
        self.timed_out = False
        try:
            piece = self.sock.recv(256 * KiB)
        except TimeoutError:
            self.timed_out = True
            return f"nothing more came for {self.patience:g} s, and the connection stays open"
        except OSError:
            piece = b""
        self._came += piece
        return "" if piece else "the server closed the connection"

    def _until(self, end: bytes, cause: str) -> bytes:
        while end not in self._came:
            at = len(self._came)
            if at > LONGEST_HEAD:
                self.fault(cause or self._slipped, "No empty line ends the head", self._came)
            if why := self._more():
                if not at:
                    likely = cause or "no_answer"
                    if self.answers and "stays open" not in why and cause != "lost_request":
                        likely = "closes"
                    which = "the next" if self.answers else "an"
                    self.fault(likely, f"Instead of {which} answer, {why}", b"")
                likely = self._slipped
                if HEAD_SO_FAR.fullmatch(self._came):
                    likely = "no_end" if "stays open" in why else "cut_short"
                self.fault(cause or likely, f"No empty line ends the head: {why}", self._came)
        found, _, self._came = self._came.partition(end)
        return found + end

    def _exactly(self, size: int, head: bytes, cause: str) -> bytes:
        pieces, left = [], size
        while left > len(self._came):
            pieces.append(self._came)
            left -= len(self._came)
            self._came = b""
            if why := self._more():
                self.fault(
                    cause or ("no_end" if "stays open" in why else "cut_short"),
                    f"{left} of {size} bytes of the body are missing: {why}",
                    head + b"".join(pieces)[:100],
                )
        pieces.append(self._came[:left])
        self._came = self._came[left:]
        return b"".join(pieces)

    def _chunks(self, head: bytes, cause: str) -> bytes:
        """A chunked body, its trailer left out (RFC 9112, section 7.1)."""
        body: list[bytes] = []
        raw = head

        def line() -> bytes:
            nonlocal raw
            while b"\r\n" not in self._came:
                if len(self._came) > 8 * KiB:
                    wrong(f"{self._came[:40]!r} is no chunk size")
                if why := self._more():
                    likely = "no_end" if "stays open" in why else "cut_short"
                    self.fault(
                        cause or likely,
                        f"The last chunk, which is empty, has not come: {why}",
                        head + self._came if len(body) < 3 else head + b"..." + self._came,
                    )
            found, _, self._came = self._came.partition(b"\r\n")
            raw = (raw + found + b"\r\n")[:400]
            return found

        def wrong(what: str) -> NoReturn:
            self.fault(cause or "bad_chunks", what, raw + self._came)

        while True:
            size_line = line()
            digits = size_line.partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]+", digits):
                wrong(f"{size_line[:40]!r} is no chunk size")
            size = int(digits, 16)
            if size == 0:
                while line():
                    pass
                return b"".join(body)
            data = self._exactly(size + 2, head, cause)
            raw = (raw + data)[:400]
            if not data.endswith(b"\r\n"):
                wrong(f"A chunk of {size_line.decode()} (that is {size}) does not end in CR LF")
            body.append(data[:-2])

    def _to_the_end(self, head: bytes, cause: str) -> bytes:
        """A body that ends with its connection."""
        body, why = self.everything(LARGEST_BODY)
        if "stays open" in why:
            self.fault(
                cause or "no_end",
                f"There is no Content-Length and no chunked coding, and {why}",
                head + body,
            )
        return body


def options_of(answer: RawAnswer) -> set[str]:
    """What an answer says in `Connection`, in lower case (RFC 9110, section 7.6.1)."""
    return {each.strip().lower() for each in (answer.header("connection") or "").split(",")}


@contextmanager
def talking(server: Server, renamed: Mapping[str, str] | None = None) -> Iterator[Talk]:
    """A new connection to talk over; it is closed at the end.

    `renamed` has this lab's names for the causes that a conversation finds (default: `RENAMED`).
    """
    with ExitStack() as stack:
        try:
            sock = stack.enter_context(connected(server, PATIENCE))
        except OSError as error:
            told = state_of(server)
            cause = "elsewhere" if server.running else "died"
            names = RENAMED if renamed is None else renamed
            what = f"No connection to {server.url} can be made: {error}"
            fail(names.get(cause, cause), f"{what}.{told}")
        yield Talk(server, sock, renamed)


def as_curl(request: bytes) -> str:
    """The options by which curl sends a request like this one; empty if there are none."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return ""
    method, path, version = words
    options = {"GET": "-v", "HEAD": "-v -I"}.get(method, f"-v -X {method}")
    if body and method == "GET":  # with a body, curl takes POST to be meant
        options = "-v -X GET"
    if version == "HTTP/1.0":
        options += " --http1.0"
    for header in headers:
        if not header.startswith("Host:"):
            options += f" -H {shlex.quote(header)}"
    if body:
        options += f" -d {shlex.quote(body.decode('latin-1'))}"
    return f"{options} {shlex.quote(f'http://127.0.0.1:PORT{path}')}"
