"""Parts of lab 05's checks: reading dates, stopping processes that open a file, EMFILE."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.checks.exchange import connected, request_for
from streamlab.checks.hybrid.changes import Lease, waiting_client
from streamlab.checks.hybrid.common import (
    date_problem,
    directives,
    head_of,
    target_of,
    types_of,
)
from streamlab.checks.hybrid.errors import no_descriptors
from streamlab.checks.hybrid.load import serves_a_mixed_crowd
from streamlab.checks.hybrid.names import encoded, segments
from streamlab.checks.observe import wait_until_idle
from streamlab.checks.outcome import CheckFailed
from streamlab.checks.probes.transfers import short_transfers
from streamlab.files import MiB, random_file
from streamlab.http.answer import read_answer
from streamlab.process.proc import group_members
from streamlab.process.server import Server

TOOLS = Path(__file__).parents[2] / "tools"
SOLUTION = Path(__file__).parents[2] / "solutions" / "05_hybrid_server" / "server.py"
NOW = 784887151.0
"""Tue, 15 Nov 1994 08:12:31 GMT"""

pytestmark = pytest.mark.needs("linux")


@pytest.mark.parametrize("late", [0, 1, 2, 3, -1])
def test_a_date_of_now_is_right(late: int) -> None:
    """A date may be two seconds older than the answer, and counts whole seconds."""
    assert date_problem(formatdate(NOW - late, usegmt=True), NOW, NOW) is None


@pytest.mark.parametrize(
    ("date", "cause", "problem"),
    [
        ("", "wrong_date", "not written like"),
        ("now", "wrong_date", "not written like"),
        ("Tue, 15 Nov 1994 08:12:31 UTC", "wrong_date", "not written like"),
        ("Tue, 15 Nov 1994 08:12:31 +0000", "wrong_date", "not written like"),
        ("Tue, 15 Nov 1994 08:12:31", "wrong_date", "not written like"),
        ("Mon, 15 Nov 1994 08:12:31 GMT", "wrong_date", "not written like"),
        ("Tue, 15 Nov 94 08:12:31 GMT", "wrong_date", "not written like"),
        ("Di, 15 Nov 1994 08:12:31 GMT", "wrong_date", "not written like"),
        ("Tuesday, 15-Nov-94 08:12:31 GMT", "wrong_date", "not written like"),
        ("Tue Nov 15 08:12:31 1994", "wrong_date", "not written like"),
        ("Tue, 15 Nov 1994 13:42:31 GMT", "wrong_zone", "19800 s ahead"),
        ("Tue, 15 Nov 1994 07:12:30 GMT", "wrong_zone", "3601 s behind"),
        ("Tue, 15 Nov 1994 08:12:01 GMT", "wrong_time", "30.0 s behind"),
        ("Tue, 15 Nov 1994 08:12:27 GMT", "wrong_time", "4.0 s behind"),
        ("Tue, 15 Nov 1994 08:12:33 GMT", "wrong_time", "2.0 s ahead"),
    ],
)
def test_a_wrong_date_is_told(date: str, cause: str, problem: str) -> None:
    """Another form of a date, another zone and another time are wrong."""
    found = date_problem(date, NOW, NOW)
    assert found is not None
    assert found.cause == cause
    assert problem in found.what


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html"),
        ("a.b.PDF", "application/pdf"),
        ("v1.html/a.Css", "text/css"),
        ("v1.html/a", "application/octet-stream"),
        ("a.html.gz", "application/octet-stream"),
        ("html", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("a.html~", "application/octet-stream"),
    ],
)
def test_a_type_goes_by_the_last_ending(name: str, kind: str) -> None:
    assert kind in types_of(name)


@given(segments().flatmap(lambda name: st.tuples(st.just(name), encoded(name))))
def test_a_name_can_be_read_from_each_way_to_write_it(pair: tuple[str, str]) -> None:
    """Each drawn target is ASCII, and decodes to a name that a file can have."""
    name, written = pair
    assert unquote(written) == unquote(target_of(name)) == name
    assert re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@%-]+", written)
    assert len(name.encode()) <= 255 and "/" not in name


# Causes


def changed(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """Writes the lab's solution with some words replaced, as a program of its own."""
    text = SOLUTION.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    program = tmp_path / "program.py"
    program.write_text(text)
    return program


BACKWARDS = ("body = file.read(size)", "body = file.read(size)[::-1]")


def test_what_is_wrong_alone_is_not_mixed_up(tmp_path: Path) -> None:
    """If one client alone gets wrong bytes, the question of the crowd stays open."""
    (root := tmp_path / "root").mkdir()
    program = changed(tmp_path, BACKWARDS)
    with Server(program, root) as server, pytest.raises(CheckFailed) as failed:
        serves_a_mixed_crowd(server, Random(1))
    assert (failed.value.cause, failed.value.promise) == ("wrong_bytes", "file")


def test_other_bytes_are_no_short_transfer(tmp_path: Path) -> None:
    """Wrong bytes on plain sockets are not blamed on short calls of send."""
    (root := tmp_path / "root").mkdir()
    with ExitStack() as servers:

        def launch(**options: Any) -> Server:
            return servers.enter_context(Server(changed(tmp_path, BACKWARDS), root, **options))

        with pytest.raises(CheckFailed) as failed:
            short_transfers(launch, Random(1), tmp_path)
    assert failed.value.cause == "wrong_bytes"


@pytest.mark.parametrize(
    ("sent", "cause"),
    [
        ('b"HTTP/1.1 200 OK\\r\\nContent-Le"', "cut_short"),
        ('b"HTTP/1.1 200"', "cut_short"),
        ('b""', "no_answer"),
        ('b"200 OK\\r\\n\\r\\n"', "malformed"),
    ],
)
def test_half_a_head_is_cut_short(tmp_path: Path, sent: str, cause: str) -> None:
    """Half a head is cut short, and not malformed."""
    (root := tmp_path / "root").mkdir()
    program = changed(
        tmp_path,
        (
            "    words = head.split",
            f"    connection.sendall({sent}); return False\n    words = head.split",
        ),
    )
    with Server(program, root, probe=False) as server, pytest.raises(CheckFailed) as failed:
        head_of(server, "/page.html")
    assert failed.value.cause == cause


def test_a_server_elsewhere_is_told(tmp_path: Path) -> None:
    """The server runs, and nothing listens at the address in its first line."""
    (root := tmp_path / "root").mkdir()
    program = changed(tmp_path, ("{listener.getsockname()[1]}", "9"))
    with Server(program, root, probe=False) as server, pytest.raises(CheckFailed) as failed:
        head_of(server, "/page.html")
    assert failed.value.cause == "elsewhere"


@pytest.mark.parametrize(
    "value",
    ["public, max-age=3600", "MAX-AGE=3600 ,Public", "public\r\nCache-Control: max-age=3600"],
)
def test_directives_are_a_set(value: str) -> None:
    """The order, case, lines and spaces of directives have no meaning."""
    raw = f"HTTP/1.1 200 OK\r\nCache-Control: {value}\r\nContent-Length: 0\r\n\r\n"
    assert directives(read_answer(raw.encode(), closed=True)) == {"public", "max-age=3600"}


def test_a_lease_holds_up_who_opens(tmp_path: Path) -> None:
    """A lease stops `open` and not `stat`; the file that is opened then has the new content."""
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
    """A server that answers without opening the file ends the wait."""
    file = tmp_path / "file"
    file.write_bytes(b"old")
    here, there = socket.socketpair()
    with here, there, Lease(file) as lease:
        assert not lease.awaited(here, 0.01)
        there.send(b"HTTP/1.1 ...")
        assert not lease.awaited(here, 60)


def test_without_descriptors_nothing_opens(tmp_path: Path) -> None:
    """A server without descriptors answers 500 to accepted clients; then all is as before."""
    random_file(100, "page.html", tmp_path)
    with Server(SOLUTION, tmp_path) as server:
        with connected(server) as sock:
            sock.sendall(b"GET /page.html HTTP/1.1\r\n\r\n")
            assert sock.recv(10_000).startswith(b"HTTP/1.1 200")
            wait_until_idle(server)  # it waits in accept again, which would fail at once otherwise
            with no_descriptors(server):
                sock.sendall(request_for("/page.html"))
                assert sock.recv(10_000).startswith(b"HTTP/1.1 500")
        assert head_of(server, "/page.html").status == 200
        server.stop()
        with no_descriptors(server):  # an ended server has nothing to limit
            pass


def test_a_server_that_is_stopped_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes keep their limits, even if the server ends meanwhile."""
    limited: list[int] = []

    def rlimit(process: psutil.Process, *_: object) -> tuple[int, int]:
        limited.append(process.pid)
        return (64, 64)

    monkeypatch.setattr(psutil.Process, "rlimit", rlimit)
    with Server(SOLUTION, tmp_path) as server:
        own = set(group_members(server.supervisor_pid)) - {server.supervisor_pid}
        with no_descriptors(server):
            server.stop()
    assert own and set(limited) == own


def test_who_waits_has_a_part_only(tmp_path: Path) -> None:
    """A waiting client has begun to read; if it gets too little, the check fails."""
    random_file(8 * MiB, "large.pdf", tmp_path)
    random_file(100, "page.html", tmp_path)
    with Server(SOLUTION, tmp_path) as server:
        with waiting_client(server, "/large.pdf") as (_, came):
            assert MiB // 2 < len(came) < 4 * MiB
        with pytest.raises(CheckFailed, match="No more came"), waiting_client(server, "/page.html"):
            pass


@pytest.mark.parametrize("kernel", ["small", "debian", "large"])
def test_a_file_to_be_held_is_more_than_a_kernel_takes(kernel: str) -> None:
    """With 64 MiB buffers a kernel takes 7 MiB of a fast client: files of 8 MiB leave nothing."""
    program = (
        "from random import Random\n"
        "from streamlab.http.buffers import connection_buffer\n"
        "from streamlab.checks.hybrid.load import too_large_for_buffers\n"
        "sizes = [too_large_for_buffers(Random(seed), 32) for seed in range(50)]\n"
        "taken = (1 << 20) + connection_buffer(32, first=1 << 20)\n"
        "print(min(sizes) - taken, max(sizes))\n"
    )
    tool = [sys.executable, str(TOOLS / "kernels.py"), f"--kernel={kernel}", "--"]
    ended = subprocess.run(
        [*tool, sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    if ended.stderr.startswith("kernels.py: ") and not os.environ.get("CI"):
        pytest.skip(ended.stderr.strip())
    left, largest = map(int, ended.stdout.split())
    assert left > 0.5 * MiB, f"a file read whole would not be held with the settings {kernel}"
    assert largest < 10 * 1024 * 1024, "a threshold ten times too large must still be seen"
