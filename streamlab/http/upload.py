"""Uploads as clients make them: at any pace, with a length or without, to the end or not.

An `Upload` sends what it is told to send and no more, so a lesson can look at the server in the
middle. `Curl` is the real client, and what it says of an upload. Sizes are in bytes.
"""

from __future__ import annotations

import re
import select
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from streamlab.errors import UploadError
from streamlab.executables import command
from streamlab.files import KiB, SampleFile
from streamlab.http.answer import AnswerSoFar
from streamlab.http.buffers import QUIET
from streamlab.http.parts import Limits
from streamlab.process.patience import Deadline, PatientSocket
from streamlab.process.proc import at_work, connection_queues
from streamlab.process.server import Server

PIECE = 64 * KiB
"""Bytes that a client hands to the kernel at a time, and of a chunk in chunked coding."""
PATIENCE = 20.0
"""Seconds without progress after which an upload fails (a `Deadline`)."""
BOUNDARY = "the-boundary-of-an-upload"
"""What separates the parts of a form (RFC 2046, section 5.1.1)."""

_ANSWER = Limits(head=64 * KiB, line=8 * KiB, trailer=8 * KiB, body=64 * KiB)


class Upload:
    """A request with a body, of which only the head has been sent when it begins.

    The body is that of the file `source`, or `size` zeros. It has a Content-Length; with `chunked`
    it goes in chunked coding instead, and has no length (RFC 9112, section 7.1). With `form` the
    file is the part of that name in a `multipart/form-data` body (RFC 7578), sent by POST, and what
    stands around the file counts as body. Used as a context manager, it leaves at the end. Raises
    `UploadError` where the server does not listen, does not go on, or breaks the connection.
    """

    def __init__(
        self,
        server: Server,
        path: str,
        source: SampleFile | Path | int,
        *,
        chunked: bool = False,
        form: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.server = server
        self.path = path
        self.chunked = chunked
        self.sent = 0
        """Bytes of body that the kernel has taken from this client, the framing not counted."""
        self._file = None if isinstance(source, int) else _path_of(source).open("rb")
        size = source if isinstance(source, int) else _path_of(source).stat().st_size
        self._parts = (_begin_of_form(form), size, _end_of_form(form))
        self.size = len(self._parts[0]) + size + len(self._parts[2])
        """Bytes of the whole body."""
        self._fields = [*headers, *([("Content-Type", _FORM_TYPE)] if form else [])]
        self._method = "POST" if form else "PUT"
        self._socket = PatientSocket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)
        self._rest = b""
        """What of a piece the kernel has not taken."""

    def __enter__(self) -> Self:
        address = urlsplit(self.server.url)
        framing = ("Transfer-Encoding", "chunked")
        if not self.chunked:
            framing = ("Content-Length", str(self.size))
        fields = [("Host", address.netloc), framing, *self._fields]
        head = f"{self._method} {self.path} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields)
        try:
            self._socket.connect((address.hostname, address.port))
            self._socket.sendall(f"{head}\r\n".encode())
        except OSError as error:
            self.leave()
            raise self._failed(error) from error
        self._ends = (self._socket.getsockname()[:2], self._socket.getpeername()[:2])
        return self

    def __exit__(self, *exc: object) -> None:
        self.leave()

    @property
    def left(self) -> int:
        """Bytes of body that have not been sent."""
        return self.size - self.sent

    @property
    def on_the_way(self) -> int:
        """Bytes that the kernel has from this client and the server has not read; 0 off Linux."""
        client, server = self._ends
        return sum(connection_queues(server, client) or ())  # towards the server

    def send(self, count: int | None = None) -> int:
        """Send the next `count` bytes of the body (all that is left); returns `sent`."""
        end = self.size if count is None else min(self.size, self.sent + count)
        try:
            while self.sent < end:
                piece = self._body(self.sent, min(PIECE, end - self.sent))
                self._socket.sendall(self._framed(piece))
                self.sent += len(piece)
        except OSError as error:
            raise self._failed(error) from error
        return self.sent

    def fill(self, most: int | None = None) -> int:
        """Send until the connection takes no more, or `most` bytes of body are sent.

        That is: for a quarter of a second it takes nothing, and the server does nothing. At the
        end it settles. Returns `sent`. What is left of a piece goes out with the next `fill`; after
        it there is no `send`.
        """
        end = self.size if most is None else min(self.size, most)
        rest = Deadline(QUIET)
        self._socket.setblocking(False)
        try:
            while self._rest or self.sent < end:
                if self._push(end):
                    rest = Deadline(QUIET)
                elif rest.passed and not at_work(self.server.pid):
                    break
                else:
                    select.select([], [self._socket], [], rest.turn)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._socket.settimeout(PATIENCE)
        self.settle()
        return self.sent

    def settle(self) -> int:
        """Wait until the server has read what was sent, or reads no more; returns `on_the_way`."""
        deadline, rest = Deadline(PATIENCE), Deadline(QUIET)
        before = self.on_the_way
        while not deadline.passed:
            deadline.pause(0.005)
            now, working = self.on_the_way, at_work(self.server.pid)
            if now == 0 and not working:
                break
            if now != before or working:
                before, rest = now, Deadline(QUIET)
            elif rest.passed:
                break
        return self.on_the_way

    def answer(self) -> int:
        """The status of the server's answer, once all of it has come. What is left is not sent."""
        so_far = AnswerSoFar(_ANSWER)
        try:
            while so_far.goes_on:
                so_far.take(self._socket.recv(PIECE))
        except OSError as error:
            raise self._failed(error) from error
        if so_far.status == 0:
            raise UploadError(f"{self.path}: the server closed the connection without an answer")
        return so_far.status

    def end(self) -> int:
        """Send what is left, the last chunk too; returns the status of the answer."""
        self.send()
        if self.chunked:
            with suppress(OSError):  # it has answered already, and the answer says why
                self._socket.sendall(b"0\r\n\r\n")
        return self.answer()

    def leave(self) -> None:
        """Close the connection, as the kernel does it for a client that dies."""
        self._socket.close()
        if self._file is not None:
            self._file.close()

    def _push(self, end: int) -> bool:
        """Hand one more piece to the kernel; whether it took any of it."""
        if not self._rest:
            self._rest = self._framed(self._body(self.sent, min(PIECE, end - self.sent)))
            self._piece = min(PIECE, end - self.sent)
        try:
            taken = self._socket.send(self._rest)
        except BlockingIOError:
            return False
        self._rest = self._rest[taken:]
        if not self._rest:
            self.sent += self._piece
        return True

    def _framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece

    def _body(self, start: int, count: int) -> bytes:
        """Bytes `start` to `start + count` of the body; each call goes on where the last ended."""
        before, size, after = self._parts
        piece = before[start : start + count]
        at, wanted = max(0, start - len(before)), count - len(piece)
        if wanted and at < size:
            if self._file is None:
                piece += bytes(min(wanted, size - at))
            else:
                piece += self._file.read(min(wanted, size - at))
        at = max(0, start - len(before) - size)
        return piece + after[at : at + count - len(piece)]

    def _failed(self, error: OSError) -> UploadError:
        log = self.server.log().strip()
        words = f" The server wrote:\n\n{log[-2000:]}" if log else ""
        reason = "the server takes no more" if isinstance(error, TimeoutError) else str(error)
        return UploadError(f"{self.path}, {self.sent} bytes sent: {reason}.{words}")


_FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def _begin_of_form(name: str) -> bytes:
    """What stands before a file in a form; nothing where there is no form."""
    if not name:
        return b""
    told = f'Content-Disposition: form-data; name="{name}"; filename="upload.bin"'
    return f"--{BOUNDARY}\r\n{told}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()


def _end_of_form(name: str) -> bytes:
    return f"\r\n--{BOUNDARY}--\r\n".encode() if name else b""


def _path_of(source: SampleFile | Path) -> Path:
    return source.path if isinstance(source, SampleFile) else source


@dataclass(frozen=True)
class Curl:
    """What curl says of an upload."""

    status: int
    """Of the last answer; 0 if none came."""
    sent: int
    """Bytes of body that it sent, a form's own lines and the framing of chunks included."""
    exit: int
    """Its exit status (curl(1)); 0 also where the answer was an error."""


def curl_upload(url: str, file: SampleFile | Path, *options: str, timeout: float = 60.0) -> Curl:
    """Upload a file with curl, by PUT, or as a form if `options` have a `-F`.

    `options` are more of curl's, such as `"-H", "Expect:"`. The file is on curl's standard input,
    too: `"-T", "-"` is a body without a length. Raises `ToolError` if there is no curl, and
    `UploadError` if the time is up.
    """
    path = _path_of(file)
    how = () if {"-T", "-F"} & set(options) else ("-T", str(path))
    told = ("-w", "\n%{http_code} %{size_upload}", "--silent", "--max-time", f"{timeout:g}")
    with path.open("rb") as body:
        ended = subprocess.run(
            command("curl", *told, *how, *options, url),
            stdin=body,
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"^(\d+) (\d+)$", ended.stdout, re.MULTILINE)
    if found is None or ended.returncode == 28:
        raise UploadError(f"curl did not finish: status {ended.returncode}. {ended.stderr.strip()}")
    return Curl(int(found[1]), int(found[2]), ended.returncode)
