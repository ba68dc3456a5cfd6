"""What a server sends: one whole answer, how it is framed, and what HEAD says of it.

Sizes are in bytes, times in seconds. The rules are those of RFC 9112 and RFC 9110, section 9.3.2.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from streamlab.errors import AnswerError, BadStatusLine, NoAnswer, ProbeError
from streamlab.files import KiB
from streamlab.http.parts import Data, Fields, Head
from streamlab.probe.client import Budget, Client, field_of, stays_open, told
from streamlab.probe.target import Target

KEPT = 4 * KiB
"""Bytes that are kept of the beginning, the middle and the end of the body, to compare ranges."""

CHANGING = {"date", "connection", "keep-alive", "age", "expires", "set-cookie"}
"""Fields that may differ between two answers about the same file."""
ENDS = {"content-length", "transfer-encoding"}
"""Fields that an answer to HEAD may leave out (RFC 9110, section 9.3.2)."""


class Samples:
    """A few places of a body that passes by: its beginning, its middle, its end."""

    def __init__(self, length: int | None) -> None:
        self.middle = length // 2 if length and length > 4 * KEPT else 0
        self.size = 0
        self._places: dict[int, bytearray] = {0: bytearray()}
        if self.middle:
            self._places[self.middle] = bytearray()
        self._tail = b""

    def take(self, data: bytes) -> None:
        """Let the next piece of the body pass."""
        for place, kept in self._places.items():
            wanted = place + len(kept)
            if len(kept) < KEPT and self.size <= wanted < self.size + len(data):
                at = wanted - self.size
                kept += data[at : at + KEPT - len(kept)]
        self.size += len(data)
        self._tail = (self._tail + data[-KEPT:])[-KEPT:]

    def at(self, first: int, last: int) -> bytes | None:
        """The bytes from `first` to `last`, both included; None if they were not kept."""
        for place, kept in (*self._places.items(), (self.size - len(self._tail), self._tail)):
            if place <= first and last < place + len(kept):
                return bytes(kept[first - place : last + 1 - place])
        return None


@dataclass
class Whole:
    """A whole answer to GET, and what came after it on the same connection."""

    head: Head
    samples: Samples
    first_byte: float | None = None
    """Seconds from the request to the first byte of the body, None if it has none: of the second
    download, where there is one, because the first one may wait for the disk."""
    seconds: float = 0.0
    """Seconds of the whole download."""
    problem: str = ""
    """What is wrong with how it ends; empty if nothing is."""
    again: Fields = field(default_factory=list)
    """The head of a second answer."""
    stays: bool = True
    """Whether it said that the connection stays open."""

    @property
    def size(self) -> int:
        """Bytes of the body that came."""
        return self.samples.size

    def header(self, name: str) -> str:
        """A field by its name in lower case; empty if it is missing."""
        return field_of(self.head.headers, name)

    @property
    def how(self) -> str:
        """How its end is told."""
        if self.head.chunked:
            return "chunked"
        return "Content-Length" if self.head.length is not None else "closing"


def whole(target: Target, budget: Budget) -> Whole:
    """Download the file, then ask again over the same connection if that stays open.

    Raises `ProbeError` if what comes is no answer with a file.
    """
    with Client(target, budget) as client:
        began = time.perf_counter()
        client.ask()
        found = Whole(head := _first_head(client), Samples(None))
        found.samples = Samples(head.length)
        found.stays = stays_open(head) and found.how != "closing"
        try:
            _pour(client, found, began)
            _what_follows(client, found)
        except (AnswerError, OSError) as error:
            found.problem = found.problem or told(error)
    if not found.problem:
        found.problem = _closes_when_asked(target, budget, found)
    return found


def _first_head(client: Client) -> Head:
    place = client.target.place
    try:
        head = client.head()
    except NoAnswer as error:
        raise ProbeError(
            f"the server at {place} closes the connection without an answer: does it speak TLS? "
            "Then give the http:// address behind it"
        ) from error
    except TimeoutError as error:
        raise ProbeError(
            f"the server at {place} has not answered in {client.budget.patience:g} s: give a URL "
            "that answers sooner, or raise --patience"
        ) from error
    except BadStatusLine as error:
        came = bytes(error.after[:40]) or error.before
        raise ProbeError(
            f"what listens at {place} does not speak HTTP/1: its answer begins with {came!r}. "
            "Correct the port"
        ) from error
    except AnswerError as error:
        raise ProbeError(
            f"the head of the answer from {place} is wrong: {error.what}. Mend that first"
        ) from error
    if 300 <= head.status < 400 and (where := field_of(head.headers, "location")):
        raise ProbeError(f"{client.target.url} leads elsewhere: give the URL {where!r}")
    if head.status != 200:
        raise ProbeError(
            f"{client.target.url} is answered with {head.status}, not 200: give the URL of a file "
            "that a GET without a password brings"
        )
    return head


def _pour(client: Client, found: Whole, began: float) -> None:
    try:
        for part in client.parts():
            if isinstance(part, Data):
                if found.first_byte is None:
                    found.first_byte = time.perf_counter() - began
                found.samples.take(part.data)
    except TimeoutError:
        if found.head.length is not None:
            found.problem = (
                f"Content-Length is {found.head.length}, and {found.size} bytes came: a client "
                "waits for the rest for ever"
            )
        else:
            found.problem = f"after {found.size} bytes nothing more came, not even the end"
        raise
    finally:
        found.seconds = time.perf_counter() - began


def _what_follows(client: Client, found: Whole) -> None:
    """A second answer over the same connection, or its end."""
    if not found.stays:
        try:
            more = client.closes()
        except TimeoutError:
            found.problem = "it says that it closes the connection, and leaves it open"
            return
        found.problem = _surplus(found, more)
        return
    client.ask()
    try:
        head = client.head()
    except NoAnswer:
        found.problem = "it says that the connection stays open, and closes it"
        return
    except AnswerError as error:
        came = client.reader.rest
        found.problem = _surplus(found, came) or f"the second answer is wrong: {error.what}"
        return
    found.again = head.headers
    wanted = found.samples.at(0, min(KEPT, found.size) - 1) if found.size else b""
    data = client.body(len(wanted or b""), 16 * KiB)
    if head.status != 200 or not data.startswith(wanted or b""):
        found.problem = "the second answer over the same connection is not like the first one"


def _surplus(found: Whole, more: bytes) -> str:
    if not more:
        return ""
    ends = "Content-Length tells" if found.head.length is not None else "the last chunk"
    return f"more bytes come than {ends}: a client takes them for the next answer"


def _closes_when_asked(target: Target, budget: Budget, found: Whole) -> str:
    """What is wrong with an answer to a request that asks to close; it is read whole, too."""
    with Client(target, budget) as client:
        try:
            began, first, size = time.perf_counter(), 0.0, 0
            client.ask(last=True)
            for part in client.parts():
                if isinstance(part, Data):
                    first = first or time.perf_counter() - began
                    size += len(part.data)
            found.first_byte, found.seconds = first or None, time.perf_counter() - began
            more = client.closes()
        except TimeoutError:
            ended = client.reader.stage == "end"
            open_ = "the client asks to close the connection, and it stays open"
            return open_ if ended else "with Connection: close, the answer does not end"
        except (AnswerError, OSError) as error:
            return f"with Connection: close, {told(error)}"
    if size != found.size:
        return f"the first answer has {found.size} bytes, and a second one {size}"
    return _surplus(found, more)


@dataclass
class Headed:
    """What HEAD brought."""

    status: int = 0
    differences: list[str] = field(default_factory=list)
    """Fields that are not as for GET, each in a few words."""
    body: bool = False
    """Whether bytes followed the head."""
    problem: str = ""


def headed(target: Target, budget: Budget, like: Whole) -> Headed:
    """Ask with HEAD, compare with GET, and see that nothing follows the head.

    A second request over the same connection shows what follows: its answer, or a body.
    """
    found = Headed()
    with Client(target, budget) as client:
        try:
            client.ask("HEAD")
            head = client.head()
            found.status = head.status
            found.differences = _differences(head, like)
            client.body(1)
            if not stays_open(head):
                found.body = bool(client.closes())
                return found
            client.ask("HEAD")
            client.head()
        except NoAnswer:
            if not found.status:
                found.problem = "the connection closes without an answer"
        except AnswerError as error:
            found.body = bool(found.status)
            found.problem = "" if found.status else told(error)
        except OSError as error:
            found.problem = told(error)
    return found


def _differences(head: Head, like: Whole) -> list[str]:
    if head.status != like.head.status:
        return []
    names = [name.lower() for name, _ in like.head.headers]
    found = []
    for name in dict.fromkeys(names):
        get, come = like.header(name), field_of(head.headers, name)
        changes = like.again and field_of(like.again, name) != get
        if name in CHANGING or changes or get == come or (name in ENDS and not come):
            continue
        found.append(f"{name} is {come or 'missing'}, for GET {get}")
    return found
