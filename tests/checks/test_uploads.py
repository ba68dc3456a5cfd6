"""Parts of lab 11's checks: a disk that holds some writes, what a folder has, commands by hand."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from streamlab.checks.connection import open_connection
from streamlab.checks.outcome import CheckFailed
from streamlab.checks.shims import held_writes_in
from streamlab.checks.uploads import bodies, common, crowd, names, tus
from streamlab.checks.uploads.common import Framed
from streamlab.checks.workspace import Folders, LabWorkspace
from streamlab.http.answer import RawAnswer
from streamlab.labs.manifest import Lab
from streamlab.process.server import Server

SOLUTIONS = Path(__file__).parents[2] / "solutions"
SOLUTION = SOLUTIONS / "11_uploads" / "app.py"

WRITERS = {
    "open": "file = open(name, 'wb'); file.write(data); file.flush()",
    "unbuffered": "open(name, 'wb', buffering=0).write(data)",
    "append": "file = open(name, 'ab'); file.write(data); file.flush()",
    "both": "open(name, 'w+b', buffering=0).write(data)",
    "pathlib": "pathlib.Path(name).write_bytes(data)",
    "temporary": "tempfile.NamedTemporaryFile(buffering=0).write(data)",
    "descriptor": "os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT), 'wb', 0).write(data)",
    "os": "os.write(os.open(name, os.O_WRONLY | os.O_CREAT), data)",
    "view": "os.write(os.open(name, os.O_WRONLY | os.O_CREAT), memoryview(data))",
    "pwrite": "os.pwrite(os.open(name, os.O_WRONLY | os.O_CREAT), data, 0)",
    "writev": "os.writev(os.open(name, os.O_WRONLY | os.O_CREAT), [b'', data])",
}


def writes(folder: Path, code: str, data: bytes, patience: float) -> bool:
    """Whether a program that writes these bytes in this way ends in time."""
    program = f"import os, pathlib, tempfile\nname, data = {str(folder / 'file')!r}, {data!r}\n"
    command = [sys.executable, "-c", program + code]
    environment = {**os.environ, "PYTHONPATH": str(folder / "shim")}
    try:
        subprocess.run(command, env=environment, timeout=patience, check=True)
    except subprocess.TimeoutExpired:
        return False
    return True


@pytest.mark.needs("linux")
@pytest.mark.parametrize("code", WRITERS.values(), ids=WRITERS)
def test_a_disk_holds_writes_of_marked_data(tmp_path: Path, code: str) -> None:
    """In each way to write, marked data wait until the gate is open, and others do not."""
    environment, gate = held_writes_in(tmp_path / "shim", b"mark")
    assert environment == {"PYTHONPATH": str(tmp_path / "shim")}
    assert writes(tmp_path, code, b"other data", 20)
    assert not writes(tmp_path, code, b"data with a mark in them", 1)
    gate.touch()
    assert writes(tmp_path, code, b"data with a mark in them", 20)


@pytest.mark.needs("linux")
def test_a_pipe_is_no_disk(tmp_path: Path) -> None:
    held_writes_in(tmp_path / "shim", b"mark")
    assert writes(tmp_path, "r, w = os.pipe(); os.write(w, data)", b"a mark", 20)


# What a folder has


def test_a_file_differs_by_what_it_lacks_or_has_besides(tmp_path: Path) -> None:
    file = tmp_path / "a"
    assert common.difference(file, b"river") == "no file 'a'"
    file.write_bytes(b"river")
    assert common.difference(file, b"river") == ""
    assert common.difference(file, b"rivers") == "half a file 'a', the first 5 of 6 bytes"
    assert common.difference(file, b"rival").startswith("another file 'a': 5 bytes, of which")


@pytest.mark.needs("linux")
def test_a_link_is_no_file_of_an_upload(tmp_path: Path) -> None:
    """What a program has made is read as somebody else's: a link may lead anywhere."""
    (tmp_path / "secret").write_bytes(b"river")
    (tmp_path / "link").symlink_to("secret")
    assert common.content(tmp_path / "link") is None
    assert set(common.stored_below(tmp_path)) == {"secret"}


def test_what_is_left_is_told_until_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"river")
    before = common.stored_below(tmp_path)
    (tmp_path / ".parts").mkdir()
    (tmp_path / ".parts" / "new").write_bytes(b"half")
    assert common.leftovers(tmp_path, before, 0.1) == "    '.parts/new', 4 bytes"
    assert common.visible(tmp_path) == {"old"}
    (tmp_path / ".parts" / "new").unlink()
    assert common.leftovers(tmp_path, before) == ""


def test_data_without_end_are_the_same_each_time() -> None:
    """The pieces of a source are a cut of one row of bytes, wherever they begin."""
    source = crowd.Source(Random(4))
    whole = b"".join(source.pieces(0, 700_000))
    assert len(whole) == 700_000
    assert b"".join(source.pieces(300_001, 600_002)) == whole[300_001:600_002]
    assert source.digest(650_000) == hashlib.sha256(whole[:650_000]).hexdigest()


def test_an_upload_on_the_wire() -> None:
    data = b"0123456789"
    plain, chunked = Framed(data), Framed(data, chunked=True)
    assert (plain.part(2, 5), plain.end, plain.length) == (b"234", b"", 10)
    assert (chunked.part(2, 5), chunked.end) == (b"3\r\n234\r\n", b"0\r\n\r\n")
    assert chunked.length is None
    assert chunked.part(5, 5) == b"", "an empty chunk would be the last one"
    wire = bodies.Pieces(chunks=4).wire("/files/a", data)
    assert wire.endswith(b"\r\n\r\n4\r\n0123\r\n4\r\n4567\r\n2\r\n89\r\n0\r\n\r\n")


def test_names_that_the_text_allows() -> None:
    assert names.is_allowed("a film.mp4") and names.is_allowed("%2e%2e%2fevil")
    for name in (".", ".hidden", "two\nlines", "n" * 201):
        assert not names.is_allowed(name)
    assert all(len(name.encode()) == 255 for name in names.LONGEST)


@pytest.mark.parametrize(
    ("value", "number"),
    [("0", 0), ("15", 15), ("-1", None), ("+5", None), ("1_0", None), ("\u00b2", None), ("", None)],
)
def test_a_number_in_a_header(value: str, number: int | None) -> None:
    answer = RawAnswer(b"", 200, [("Upload-Offset", value)], b"", "", True)
    assert common.number_in(answer, "upload-offset") == number
    assert common.number_in(answer, "upload-length") is None


# Where programs write


@pytest.mark.parametrize(("lab", "writes_there"), [("11_uploads", True), ("07_frameworks", False)])
def test_a_sandbox_lets_a_program_write_where_its_lab_says(
    tmp_path: Path, lab: str, writes_there: bool
) -> None:
    """In a sandbox, a lab's programs write into the folder of the files, or beside it."""
    scratch, shut_in = tmp_path / "scratch", tmp_path / "shut-in"
    scratch.mkdir()
    shut_in.mkdir()
    workspace = LabWorkspace(Lab(SOLUTIONS / lab), {}, Folders(scratch, shut_in))
    try:
        assert workspace.sandbox is not None
        there = workspace.root if writes_there else workspace.outputs
        assert workspace.sandbox.writable == (str(there),)
        assert there.is_relative_to(shut_in)
    finally:
        workspace.close()


# A server of this lab


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The solution, in an empty folder."""
    (tmp_path / "root").mkdir()
    with Server(SOLUTION, tmp_path / "root", app="app", path="/files/{}", ready=20) as started:
        yield started


@pytest.mark.needs("linux")
def test_a_killed_server_leaves_no_process(server: Server) -> None:
    pid = server.pid
    assert server.running
    common.kill(server)
    assert not server.running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.needs("linux")
def test_the_first_fault_is_the_cause(server: Server) -> None:
    """A status, a hash and a file that are wrong each have their cause."""
    with open_connection(server) as connection:
        connection.send(common.put_head("/files/a", 5) + b"river")
        answer = connection.receive("PUT")
        common.expect_stored(connection, server, "a", b"river", answer, "")
        common.expect_tag(connection, answer, b"river")
        attempts: list[tuple[Callable[[], None], str]] = [
            (lambda: common.expect_status(connection, answer, (413,), "too_much", "x"), "too_much"),
            (lambda: common.expect_tag(connection, answer, b"rivers"), "wrong_tag"),
            (
                lambda: common.expect_stored(connection, server, "b", b"river", answer, ""),
                "no_file",
            ),
            (
                lambda: common.expect_stored(connection, server, "a", b"rival", answer, ""),
                "wrong_bytes",
            ),
            (lambda: common.expect_as_before(server, "a", None, "x"), "half_file"),
            (lambda: common.expect_as_before(server, "a", b"lake", "x"), "old_lost"),
        ]
        for attempt, cause in attempts:
            with pytest.raises(CheckFailed) as failed:
                attempt()
            assert failed.value.cause == cause


def by_hand(server: Server, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that a failed check shows, as a student would."""
    port = server.url.rpartition(":")[2]
    command = command.replace("PORT", port).replace("ROOT", str(server.root))
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.mark.needs("linux", "curl")
@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_by_hand(server: Server, tmp_path: Path, chunked: bool) -> None:
    command = common.put_by_hand(common.path_of("a b"), 3000, chunked=chunked, name="a b")
    ran = by_hand(server, command, tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "201 Created" in ran.stdout
    assert (server.root / "a b").stat().st_size == 3000


@pytest.mark.needs("linux", "curl")
def test_half_an_upload_by_hand(server: Server, tmp_path: Path) -> None:
    ran = by_hand(server, common.half_by_hand("/files/a", Framed(bytes(900), True)), tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ".parts" in ran.stdout
    assert common.visible(server.root) == set()


@pytest.mark.needs("linux", "curl")
def test_a_resumed_upload_by_hand(server: Server, tmp_path: Path) -> None:
    """The URL in the answer to POST is that of the requests that follow."""
    command = tus.resume_by_hand(900, "0 300", "HEAD", "300 600", "HEAD")
    ran = by_hand(server, command, tmp_path)
    assert ran.stdout.lower().count("upload-offset: 300") == 2, ran.stdout
    assert ran.stdout.lower().count("upload-offset: 900") == 2, ran.stdout
    assert (server.root / "r").stat().st_size == 900


@pytest.mark.needs("linux", "curl")
def test_an_upload_that_breaks_off_by_hand(server: Server, tmp_path: Path) -> None:
    """A client that announces more than it sends leaves after two seconds."""
    ran = by_hand(server, tus.resume_by_hand(5000, "0 3000<", "HEAD"), tmp_path)
    assert "upload-offset: 3000" in ran.stdout.lower(), ran.stdout + ran.stderr
    assert common.visible(server.root) == set()
