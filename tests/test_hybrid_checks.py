"""What the checks of lab 05 are made of: reading dates, holding up who opens a file, EMFILE."""

from __future__ import annotations

import socket
import threading
from email.utils import formatdate
from pathlib import Path
from random import Random

import pytest

from streamlab.checks import comes_to_rest, connected, read_answer, request_for
from streamlab.files import MiB, random_file
from streamlab.hybrid_checks import (
    Lease,
    date_problem,
    directives,
    head_of,
    no_descriptors,
    same_length,
    waiting_client,
)
from streamlab.server import Server
from streamlab.testing import CheckFailed

SOLUTION = Path(__file__).parent.parent / "solutions" / "05_hybrid_server" / "server.py"
NOW = 784887151.0
"""Tue, 15 Nov 1994 08:12:31 GMT"""

pytestmark = pytest.mark.needs("linux")


@pytest.mark.parametrize("late", [0, 2, -2])
def test_a_date_of_now_is_right(late: int) -> None:
    """It may be a little older or newer than our clock."""
    assert date_problem(formatdate(NOW - late, usegmt=True), NOW) == ""


@pytest.mark.parametrize(
    ("date", "problem"),
    [
        ("", "not written like"),
        ("now", "not written like"),
        ("Tue, 15 Nov 1994 08:12:31 UTC", "not written like"),
        ("Tue, 15 Nov 1994 08:12:31 +0000", "not written like"),
        ("Tue, 15 Nov 1994 08:12:31", "not written like"),
        ("Mon, 15 Nov 1994 08:12:31 GMT", "not written like"),
        ("Tue, 15 Nov 94 08:12:31 GMT", "not written like"),
        ("Tuesday, 15-Nov-94 08:12:31 GMT", "not written like"),
        ("Tue Nov 15 08:12:31 1994", "not written like"),
        ("Tue, 15 Nov 1994 13:42:31 GMT", "19800 s ahead"),
        ("Tue, 15 Nov 1994 08:12:01 GMT", "30 s behind"),
    ],
)
def test_a_wrong_date_is_told(date: str, problem: str) -> None:
    """Every other form of a date, another zone, another time."""
    assert problem in date_problem(date, NOW)


@pytest.mark.parametrize("value", ["public, max-age=3600", "MAX-AGE=3600 ,Public"])
def test_directives_are_a_set(value: str) -> None:
    """Their order, their case and the space between them mean nothing."""
    raw = f"HTTP/1.1 200 OK\r\nCache-Control: {value}\r\nContent-Length: 0\r\n\r\n"
    assert directives(read_answer(raw.encode(), closed=True)) == {"public", "max-age=3600"}


@pytest.mark.parametrize("at", [0, 1, 4999, 9999])
def test_where_two_bodies_part(at: int) -> None:
    """The first byte that differs, wherever it is."""
    body = bytearray(Random(at).randbytes(10_000))
    other = bytes(body)
    body[at] ^= 1
    assert same_length(body, other) == at
    assert same_length(other[:at], other) == at
    assert same_length(other, other) == len(other)


def test_a_lease_holds_up_who_opens(tmp_path: Path) -> None:
    """Not who looks; what is opened afterwards is the new content."""
    file = tmp_path / "file"
    file.write_bytes(b"old")
    here, there = socket.socketpair()
    read: list[bytes] = []
    with here, there, Lease(file) as lease:
        assert file.stat().st_size == 3
        opener = threading.Thread(target=lambda: read.append(file.read_bytes()))
        opener.start()
        assert lease.awaited(here, 5)
        assert not read
        lease.rewrite(b"all new")
        lease.let_go()
        opener.join()
    assert read == [b"all new"]


def test_a_lease_waits_no_longer_than_for_an_answer(tmp_path: Path) -> None:
    """Who answers without opening the file is not waited for."""
    file = tmp_path / "file"
    file.write_bytes(b"old")
    here, there = socket.socketpair()
    with here, there, Lease(file) as lease:
        assert not lease.awaited(here, 0.01)
        there.send(b"HTTP/1.1 ...")
        assert not lease.awaited(here, 60)


def test_without_descriptors_nothing_opens(tmp_path: Path) -> None:
    """A server that has none left answers 500 to whom it has taken; then all is as before."""
    random_file(100, "page.html", tmp_path)
    with Server(SOLUTION, tmp_path) as server:
        with connected(server) as sock:
            sock.sendall(b"GET /page.html HTTP/1.1\r\n\r\n")
            assert sock.recv(10_000).startswith(b"HTTP/1.1 200")
            comes_to_rest(server)  # it waits in accept again, which else would fail at once
            with no_descriptors(server):
                sock.sendall(request_for("/page.html"))
                assert sock.recv(10_000).startswith(b"HTTP/1.1 500")
        assert head_of(server, "/page.html").status == 200
        server.stop()
        with no_descriptors(server):  # of a server that has ended: nothing to take, no error
            pass


def test_who_waits_has_a_part_only(tmp_path: Path) -> None:
    """A client that waits has begun to read; one that gets too little fails the check."""
    random_file(8 * MiB, "large.pdf", tmp_path)
    random_file(100, "page.html", tmp_path)
    with Server(SOLUTION, tmp_path) as server:
        with waiting_client(server, "/large.pdf") as (_, came):
            assert MiB // 2 < len(came) < 4 * MiB
        with pytest.raises(CheckFailed, match="no more came"), waiting_client(server, "/page.html"):
            pass
