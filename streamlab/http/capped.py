"""Python's own HTTP client, and that of requests, with a limit on what they take in.

Both believe what an answer says of its size: a chunk of -1 bytes is read up to the end of the
connection, for one of 2**60 bytes they ask for so much memory at once, and requests keeps what a
few KiB of gzip become. Where a check tries them on a program, no answer takes more than its limit.

Sizes are in bytes.
"""

from __future__ import annotations

import http.client
import io
import socket
from typing import TYPE_CHECKING, Any

from streamlab.process.patience import PatientConnection

if TYPE_CHECKING:
    import requests


class TooMuch(http.client.HTTPException):
    """More came than the limit allows, or a size that can't be."""


class _CappedSocket(io.RawIOBase):
    """What comes over a socket, up to `most` bytes."""

    def __init__(self, sock: socket.socket, most: int) -> None:
        self._raw = sock.makefile("rb", buffering=0)
        self._left = self._most = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        came = self._raw.readinto(buffer)
        self._left -= came or 0
        if self._left < 0:
            raise TooMuch(f"more than {self._most} bytes came")
        return came

    def close(self) -> None:
        self._raw.close()
        super().close()


class _CappedReader(io.BufferedReader):
    """A reader that gives out no more than `at_once` bytes in one piece, whatever it is asked."""

    def __init__(self, sock: socket.socket, most: int, at_once: int) -> None:
        super().__init__(_CappedSocket(sock, most))
        self._at_once = at_once

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self._at_once:
            size = self._at_once + 1
        data = super().read(size)
        if len(data) > self._at_once:
            raise TooMuch(f"a piece has more than {self._at_once} bytes")
        return data


def _capped(most: int, at_once: int) -> type[http.client.HTTPResponse]:
    """The class of answers that take at most so many bytes, their heads and framing included."""

    class Capped(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
            super().__init__(sock, *arguments, **named)
            self.fp.close()
            self.fp = _CappedReader(sock, most, at_once)

    return Capped


def capped_connection(port: int, patience: float, most: int, at_once: int) -> PatientConnection:
    """http.client to a port of this machine; each answer has at most `most` bytes.

    No single read takes more than `at_once`.
    """
    connection = PatientConnection(port, patience)
    connection.response_class = _capped(most, at_once)
    return connection


def capped_session(most: int) -> requests.Session:
    """A session of requests to this machine; each answer has at most so many bytes."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool

    class Connection(HTTPConnection):
        response_class = _capped(most, most)

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    adapter = HTTPAdapter()
    adapter.poolmanager.pool_classes_by_scheme = {"http": Pool}
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", adapter)
    return session


def content_of(response: requests.Response, most: int) -> bytes:
    """The body of an answer that was asked for with `stream=True`; raises `TooMuch` beyond `most`.

    It is decoded in small pieces: a piece of gzip becomes a thousand times as much at the most.
    """
    body = bytearray()
    for piece in response.iter_content(4096):
        body += piece
        if len(body) > most:
            raise TooMuch(f"more than {most} bytes came, decoded")
    return bytes(body)
