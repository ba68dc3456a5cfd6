"""Requests and answers over one connection, byte for byte.

A `Connection` sends requests as they are given. It reads one answer after the other, each up to the
end that its framing tells (RFC 9112, section 6), so a byte too many or too few shows in the next
answer. Every fault ends the check by `fail`, with all bytes that were sent and received as
evidence. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import re
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, NoReturn

from streamlab.checks.evidence import by_hand, shown, state_of
from streamlab.checks.exchange import connected
from streamlab.checks.outcome import fail
from streamlab.checks.waits import ANSWER
from streamlab.errors import AnswerError, CutShort, TooLarge
from streamlab.files import KiB, MiB
from streamlab.http.answer import RawAnswer
from streamlab.http.parts import Data, End, Head, Limits, Part
from streamlab.http.reader import AnswerReader, begins_chunk
from streamlab.process.server import Server, out_of_memory

CLOSING = 4.0
"""Seconds within which a connection must be closed, where it has to be."""
RENAMED = {"not_found": "wrong_status"}
"""Causes for which a lab has another name: this module's name, and the lab's."""
LIMITS = Limits(head=1 * MiB, line=8 * KiB, trailer=64 * KiB, body=96 * MiB)
"""The limits of each answer. The whole body is kept, because it is compared."""
LONGEST_COMMAND = 4000
"""The most characters of a command to try by hand: a terminal does not take a longer one."""
Stop = Literal["closed", "silent"]
"""Why nothing more comes: the server closed the connection, or sent nothing for `patience`
seconds."""


@dataclass(frozen=True)
class Wanted:
    """A path, and the right answer to a request for it."""

    path: str
    body: bytes | None
    """The body that must come; None if any may, as with an error."""
    status: int = 200

    def request(self, *headers: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
        """The request's bytes, with these header lines after `Host`."""
        lines = [f"{method} {self.path} {version}", "Host: 127.0.0.1", *headers, "", ""]
        return "\r\n".join(lines).encode("latin-1")


class Connection:
    """A conversation over one connection. It keeps what was sent and received, as evidence."""

    def __init__(
        self, server: Server, sock: socket.socket, renamed: Mapping[str, str] | None = None
    ) -> None:
        self.server = server
        self.sock = sock
        self._renamed = RENAMED if renamed is None else renamed
        server.mark()
        self.patience = ANSWER
        self.answers = 0
        """How many answers were received in full."""
        self.timed_out = False
        """Whether the last attempt to receive ended because `patience` seconds had passed."""
        self._exchange: list[str] = []
        self._heard: bytes | None = None
        """The last answer that was received in full."""
        self._commands: list[str] | None = []
        """The requests as options of curl; None if curl can't send one of them."""
        self._came = b""
        self._said: tuple[Sequence[bytes], float] | None = None
        """The pieces that were sent last, and the seconds after each."""

    # Saying

    def send(self, *pieces: bytes, pause: float = 0, how: str = "") -> None:
        """Send pieces with `pause` seconds after each. It is no error if the server has closed."""
        raw = b"".join(pieces)
        command = "" if how else as_curl(raw)
        self._commands = (
            [*self._commands, command] if command and self._commands is not None else None
        )
        self._said = pieces, pause
        self._exchange.append(f"sent{how and ' ' + how}\n\n{shown(raw, 400).rstrip()}")
        with suppress(OSError):
            for piece in pieces:
                self.sock.sendall(piece)
                time.sleep(pause)

    def send_again(self, raw: bytes, times: int) -> None:
        """Send a request `times` times at once, which is one line of the evidence."""
        self._commands, self._said = None, ([raw] * min(times, 3), 0.0)
        self._exchange.append(f"sent {times} times, at once\n\n{shown(raw, 400).rstrip()}")
        with suppress(OSError):
            self.sock.sendall(raw * times)

    def note(self, what: str) -> None:
        """Add a line to the evidence."""
        self._exchange.append(what)

    # Hearing

    def receive(self, method: str = "GET", cause: str = "") -> RawAnswer:
        """Receive the next answer, and no byte after it. The check fails if it breaks RFC 9112.

        `cause` takes the place of the likeliest cause in that failure.
        """
        heard = bytearray()
        reader = AnswerReader(LIMITS, method)
        head = self._head(reader, heard, cause)
        body = self._body(reader, heard, cause)
        self._came = reader.rest + self._came
        self.answers += 1
        answer = RawAnswer(head.raw + body, head.status, head.headers, body, "", True)
        says = ", ".join(
            f"{name}: {answer.header(name.lower())}"
            for name in ("Content-Length", "Transfer-Encoding", "Connection")
            if answer.header(name.lower()) is not None
        )
        told = f"{len(body)} bytes of body" if body or method != "HEAD" else "no body"
        self._exchange.append(f"came {answer.status} ({says}), {told}")
        self._heard = answer.raw
        return answer

    def receive_head(self, cause: str = "") -> RawAnswer:
        """Receive the head of the next answer, and leave its body to be received."""
        reader = AnswerReader(LIMITS)
        head = self._head(reader, bytearray(), cause)
        self._came = reader.rest + self._came
        return RawAnswer(head.raw, head.status, head.headers, b"", "", False)

    def expect(self, wanted: Wanted, method: str = "GET", cause: str = "") -> RawAnswer:
        """Receive the next answer; the check fails if it is not the wanted one."""
        answer = self.receive(method, cause)
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
            if answer.header("content-length") not in (None, str(len(wanted.body))):
                likely = "wrong_length"
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
        """Send the request and receive the wanted answer."""
        self.send(wanted.request(*headers, method=method))
        return self.expect(wanted, method, cause)

    def peek(self, cause: str = "") -> None:
        """Wait until the head of the next answer has come, and leave it to be received."""
        heard = bytearray()
        self._head(AnswerReader(LIMITS), heard, cause)
        self._came = bytes(heard) + self._came

    def take(self, size: int, cause: str = "") -> bytes:
        """Receive `size` bytes; `cause` takes the place of the likeliest cause."""
        came, stop = self.everything(size)
        if stop:
            self.fault(
                cause or _no_more(stop),
                f"{size - len(came)} of {size} bytes of the body are missing: "
                f"{self.why_no_more(stop)}",
                came[:100],
            )
        self._came = came[size:]
        return came[:size]

    def everything(self, most: int, end: bytes = b"") -> tuple[bytes, Stop | None]:
        """All bytes that come, up to `most` of them or up to `end`, and why nothing more comes."""
        pieces, came, stop = [self._came], len(self._came), None
        while came < most and not stop and not (end and pieces[-1].endswith(end)):
            self._came = b""
            stop = self._more()
            pieces.append(self._came)
            came += len(self._came)
        self._came = b""
        return b"".join(pieces), stop

    def why_no_more(self, stop: Stop) -> str:
        """Why nothing more comes, in words."""
        if stop == "closed":
            return "the server closed the connection"
        return f"nothing more came for {self.patience:g} s, and the connection stays open"

    def more_chunks(self) -> bool:
        """Whether more chunks follow the last chunk: then an empty chunk was sent in the middle."""
        if not self._came:
            self.sock.settimeout(0.5)
            with suppress(OSError):
                self._came = self.sock.recv(KiB)
        return begins_chunk(self._came)

    def ends(self, cause: str, why: str, extra_cause: str = "out_of_step") -> None:
        """The check fails unless the server closes the connection and sends nothing more.

        `why` says in words why it has to close.
        """
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
        """Whether another request may follow: an error may say `Connection: close`."""
        if "close" not in options_of(answer):
            return True
        if answer.status < 400:
            what = "The answer says Connection: close, and the client had not asked for that"
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
        summary = self._exchange
        if raw is not None:
            if raw is self._heard:  # it is shown in full below
                summary = summary[:-1]
            summary = [*summary, f"came\n\n{shown(raw).rstrip()}" if raw else "came nothing"]
        if left_out := max(0, len(summary) - 5):
            summary = [f"({left_out} steps, all of them right)", *summary[left_out:]]
        text = "Over one connection:\n\n" + "\n\n".join(f"- {step}" for step in summary)
        command = "curl -sS " + " --next ".join(self._commands[-2:]) if self._commands else ""
        if re.search(r"-H 'Range: [^']*,", command):  # of the parts, which are binary, their heads
            command += " | grep -a -i content-range"
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

    def _more(self) -> Stop | None:
        """Receive more bytes; returns why none came, or None."""
        self.sock.settimeout(self.patience)
        self.timed_out = False
        try:
            piece = self.sock.recv(256 * KiB)
        except TimeoutError:
            self.timed_out = True
            return "silent"
        except OSError:
            piece = b""
        self._came += piece
        return None if piece else "closed"

    def _next(self, reader: AnswerReader, heard: bytearray) -> Part:
        """The next part of an answer. `heard` collects the bytes that belong to it, up to the
        limits.

        Raises an `AnswerError`, or `TimeoutError` when nothing comes.
        """
        while not (part := reader.next()):
            if not self._came and (stop := self._more()):
                if stop == "silent":
                    raise TimeoutError
                reader.close()
            if reader.head is None or len(heard) < KiB:
                heard += self._came
            reader.feed(self._came)
            self._came = b""
        return part

    def _head(self, reader: AnswerReader, heard: bytearray, cause: str) -> Head:
        try:
            while reader.head is None:
                self._next(reader, heard)
            return reader.head
        except (TimeoutError, CutShort) as error:
            stop: Stop = "closed" if isinstance(error, CutShort) else "silent"
            if not heard:
                likely = cause or "no_answer"
                if self.answers and stop == "closed" and cause != "lost_request":
                    likely = "closes"
                which = "the next" if self.answers else "an"
                self.fault(likely, f"Instead of {which} answer, {self.why_no_more(stop)}", b"")
            what = f"No empty line ends the head: {self.why_no_more(stop)}"
            self.fault(cause or _no_more(stop), what, bytes(heard))
        except AnswerError as error:
            self.fault(cause or self._slipped, str(error), bytes(heard))

    def _body(self, reader: AnswerReader, heard: bytearray, cause: str) -> bytes:
        body = bytearray()
        try:
            while not isinstance(part := self._next(reader, heard), End):
                if isinstance(part, Data):
                    body += part.data
            return bytes(body)
        except (TimeoutError, CutShort) as error:
            stop: Stop = "closed" if isinstance(error, CutShort) else "silent"
            missing = {
                "close": "There is no Content-Length and no chunked coding, and",
                "length": f"{reader.missing} bytes of the body are missing:",
                "chunk": f"{reader.missing} bytes of a chunk are missing:",
            }
            otherwise = "The last chunk, which is empty, has not come:"
            what = f"{missing.get(reader.stage, otherwise)} {self.why_no_more(stop)}"
            self.fault(cause or _no_more(stop), what, _beginning(heard))
        except TooLarge as error:
            likely = "wrong_bytes" if error.part in ("body", "chunk") else "bad_chunks"
            self.fault(cause or likely, str(error), _beginning(heard))
        except AnswerError as error:
            self.fault(cause or "bad_chunks", str(error), _beginning(heard))


def _no_more(stop: Stop) -> str:
    """The cause when an answer stops that was right so far."""
    return "no_end" if stop == "silent" else "cut_short"


def _beginning(heard: bytearray) -> bytes:
    """The beginning of an answer that went wrong later."""
    return bytes(heard[:280]) + (b" ..." if len(heard) > 280 else b"")


def options_of(answer: RawAnswer) -> set[str]:
    """What an answer says in `Connection`, in lower case (RFC 9110, section 7.6.1)."""
    return {each.strip().lower() for each in (answer.header("connection") or "").split(",")}


@contextmanager
def open_connection(
    server: Server, renamed: Mapping[str, str] | None = None
) -> Iterator[Connection]:
    """A new connection, which is closed at the end.

    `renamed` has this lab's names for the causes that a conversation finds (default: `RENAMED`).
    """
    with ExitStack() as stack:
        try:
            sock = stack.enter_context(connected(server, ANSWER))
        except OSError as error:
            told = state_of(server)
            cause = "elsewhere" if server.running else "died"
            names = RENAMED if renamed is None else renamed
            what = f"No connection to {server.url} can be made: {error}"
            fail(names.get(cause, cause), f"{what}.{told}")
        yield Connection(server, sock, renamed)


def as_curl(request: bytes) -> str:
    """The options with which curl sends this request; empty if it needs none."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or words[0] == "HEAD":
        return ""  # after HEAD, curl shows no body that comes
    method, path, version = words
    options = "-v" if method == "GET" else f"-v -X {method}"
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
