"""What lies in archives and folders, which file of it is the program, and what it may cost."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packing import Files, tarred, zipped

from streamlab.files import MiB
from streamlab.grading import contents
from streamlab.grading.collect import Submission, collect
from streamlab.grading.records import Student
from streamlab.labs.manifest import Lab

ROOT = Path(__file__).parents[2]
LAB = Lab(ROOT / "solutions" / "02_chunked_loop")
CLIENTS = Lab(ROOT / "solutions" / "03_join_trap")
OWN = b"of Ann"


def found(folder: Path, files: Files, lab: Lab = LAB) -> Submission:
    """What is found of Ann's, who has handed in those files."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return collect(folder, lab, [Student("ann", "Ann Lee")]).submissions["ann"]


# Archives


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("ann.tar", tarred),
        ("ann.tar.gz", lambda files: gzip.compress(tarred(files))),
        ("ann.TGZ", lambda files: gzip.compress(tarred(files))),
        ("ann.tar.bz2", lambda files: bz2.compress(tarred(files))),
        ("ann.tar.gz", tarred),  # a browser may have unpacked it
        ("ann.zip", lambda files: zipped({"inner.tar.gz": gzip.compress(tarred(files))})),
        ("ann.tar", lambda files: tarred({"inner.zip": zipped(files)})),
        ("ann/work.zip", lambda files: zipped({"inner.zip": zipped(files)})),
    ],
)
def test_an_archive_is_read(tmp_path: Path, name: str, pack: object) -> None:
    files = {
        "river/.venv/lib/python3/site-packages/server.py": b"of the environment",
        "river/env/pyvenv.cfg": b"",
        "river/notes.md": b"x" * 2000,
        "river/02_chunked_loop/server.py": OWN,
        "river/04_headers_and_framing/server.py": b"of another lab",
    }
    submission = found(tmp_path, {name: pack(files)})  # type: ignore[operator]
    assert (submission.programs, submission.problem) == ({"server.py": OWN}, "")


def test_an_environment_of_any_name_is_passed_over(tmp_path: Path) -> None:
    """In folders and zip files, by the file that Python puts there."""
    files = {"myenv/pyvenv.cfg": b"", "myenv/server.py": b"of the environment", "mine.py": OWN}
    folder = {f"ann/{name}": each for name, each in files.items()}
    assert found(tmp_path / "folder", folder).programs == {"server.py": OWN}
    assert found(tmp_path / "zip", {"ann.zip": zipped(files)}).programs == {"server.py": OWN}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no tar file at all" * 100,
        gzip.compress(b"no tar file"),
        gzip.compress(tarred({"server.py": OWN * 1000}))[:-30],
        tarred({"server.py": OWN * 200})[:700],
        b"\x1f\x8b\x08 torn",
        b"BZh9 torn",
    ],
    ids=["empty", "words", "packed words", "cut gzip", "cut tar", "torn gzip", "torn bzip2"],
)
def test_a_broken_tar_file_is_told(tmp_path: Path, content: bytes) -> None:
    problem = found(tmp_path, {"ann.tar.gz": content}).problem
    assert problem.startswith("ann.tar.gz is no readable tar file") and "\n" not in problem


def test_a_link_in_a_tar_file_is_not_followed(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("server.py")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    submission = found(tmp_path, {"ann.tar": packed.getvalue()})
    assert not submission.programs and len(submission.notes) == 3


# Bombs: each is refused with a reason


def cheaply(folder: Path, files: Files) -> Submission:
    """What is found, without much memory or time."""
    tracemalloc.start()
    began = time.process_time()
    try:
        submission = found(folder, files)
        assert tracemalloc.get_traced_memory()[1] < 3 * contents.LARGEST_ZIP
        assert time.process_time() - began < 60
    finally:
        tracemalloc.stop()
    return submission


def test_a_tar_file_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "LARGEST_TAR", 64 * MiB)
    head = tarred({"a.bin": b""})[:512]
    size = f"{2**32:011o}".encode()
    header = bytearray(head)
    header[124:135] = size
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    bomb = gzip.compress(bytes(header) + b"\0" * (80 * MiB))
    assert len(bomb) < MiB
    problem = cheaply(tmp_path, {"ann.tar.gz": bomb}).problem
    assert problem == "ann.tar.gz has more than 64 MiB unpacked: ask for the program alone"


def test_a_header_that_is_larger_than_memory(tmp_path: Path) -> None:
    """tarfile would read a long name whole."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 2**33
    header = member.tobuf(tarfile.GNU_FORMAT)
    problem = cheaply(tmp_path, {"ann.tar": header + b"\0" * 1024}).problem
    assert problem.startswith("ann.tar is no readable tar file")


def test_very_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST_MEMBERS", 500)
    files = {f".venv/{number}.py": b"" for number in range(600)}
    problem = cheaply(tmp_path, {"ann.tar": tarred(files)}).problem
    assert problem == "ann.tar has more than 500 files"


def test_programs_that_are_no_programs(tmp_path: Path) -> None:
    """Each within its limit, all together larger than any archive may hold."""
    most = contents.LARGEST_ZIP // contents.LARGEST + 2
    files = {f"{number}.py": b"\0" * contents.LARGEST for number in range(most)}
    problem = cheaply(tmp_path, {"ann.tar.gz": gzip.compress(tarred(files), 1)}).problem
    assert "larger than any program" in problem


def test_zip_in_zip_in_zip(tmp_path: Path) -> None:
    """A bomb in the third archive is not even looked at."""
    bomb = zipped({"server.py": b"\0" * (100 * MiB)})
    deep = zipped({"c.zip": zipped({"b.zip": bomb})})
    assert "too deep in others (b.zip)" in cheaply(tmp_path, {"ann.zip": deep}).problem


def test_a_zip_that_holds_a_large_zip(tmp_path: Path) -> None:
    large = zipped({"inner.zip": b"\0" * (contents.LARGEST_ZIP + 1)})
    assert "larger than any program" in cheaply(tmp_path, {"ann.zip": large}).problem


def test_thousands_of_one_name(tmp_path: Path) -> None:
    """They are not all compared."""
    files = {f"{number}/server.py": b"\0" * 100_000 for number in range(2000)}
    problem = cheaply(tmp_path, {"ann.zip": zipped(files)}).problem
    assert problem.startswith("there are 2000 of server.py: ann.zip/0/server.py and others")


# Which of the files


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("workspace/labs/02_chunked_loop/server.py", "labs/02_chunked_loop/server.py"),
        ("02_chunked_loop (1)/server.py", "server.py"),
        ("02_chunked_loop-main/server.py", "04_headers_and_framing/server.py"),
        ("server_final.py", "test_server.py"),
        ("my_server.py", "server_test.py"),
        ("my_server.py", "tests/server_tests.py"),
        ("mine.py", "conftest.py"),
        ("server (2).py", "server_final.py"),
        ("server_final.py", "leaky_server.py"),  # lab 03's
        ("mine.py", "notes.txt"),
    ],
)
@pytest.mark.parametrize("turn", [1, -1])
def test_of_two_the_better_is_taken(tmp_path: Path, better: str, worse: str, turn: int) -> None:
    files = dict([(f"ann/{better}", OWN), (f"ann/{worse}", b"the other")][::turn])
    assert found(tmp_path, files).programs == {"server.py": OWN}


def test_what_is_still_the_stub_goes_behind(tmp_path: Path) -> None:
    """A student may have worked in the course's own copy of the lab."""
    lab = Lab(ROOT / "labs" / "02_chunked_loop")
    stub = (lab.folder / ".stub" / "server.py").read_bytes()
    files = {
        "ann/workspace/labs/02_chunked_loop/server.py": stub,
        "ann/labs/02_chunked_loop/server.py": OWN,
    }
    submission = found(tmp_path, files, lab)
    assert submission.programs == {"server.py": OWN}
    assert submission.notes == ("ann/workspace/labs/02_chunked_loop/server.py is still the stub",)
    only = found(tmp_path / "only", {"ann/server.py": stub}, lab)
    assert only.programs == {"server.py": stub} and not only.notes


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (["server_v1.py", "server_v2.py"], "there are two of server.py"),
        (
            ["lab.ipynb", "notes.txt", "a.pdf"],
            "a notebook (lab.ipynb), notes.txt, a PDF (a.pdf), no",
        ),
        (["server.rar"], "an archive that is not read here, ask for a zip file (server.rar), no"),
        (["a.js", "b.js", "c.js", "d.js", "e.js"], "a.js, b.js, c.js and 2 other files, no server"),
        (["one.py", "two.py"], "one.py, two.py, no server.py"),
        (["test_server.py", "conftest.py"], "conftest.py, test_server.py, no server.py"),
        (["client.py"], "ann/client.py, of another lab, no server.py"),
        (["04_headers_and_framing/server.py"], "ann/04_headers_and_framing/server.py, of another"),
        (["05_hybrid_server.zip"], "ann/05_hybrid_server.zip/server.py, of another lab, no"),
        ([], "nothing in it, no server.py"),
    ],
)
def test_a_reason_says_what_is_there(tmp_path: Path, files: list[str], problem: str) -> None:
    (tmp_path / "ann").mkdir()
    packed = zipped({"server.py": OWN})
    handed_in = {f"ann/{name}": packed if ".zip" in name else name.encode() for name in files}
    assert problem in found(tmp_path, handed_in).problem


def test_a_lab_of_two_programs_gets_what_is_there(tmp_path: Path) -> None:
    submission = found(tmp_path, {"ann/leaky_server (1).py": OWN}, CLIENTS)
    assert submission.programs == {"leaky_server.py": OWN}
    assert submission.notes == (
        "leaky_server (1).py was taken for leaky_server.py",
        "client.py is missing",
    )
    problem = found(tmp_path / "other", {"ann/mine.py": OWN}, CLIENTS).problem
    assert problem == "mine.py, no client.py or leaky_server.py"


def test_two_of_one_name_in_an_archive(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("server.py", OWN)
        archive.writestr("server.py", b"the other")
    problem = found(tmp_path, {"ann.zip": packed.getvalue()}).problem
    one = "ann.zip/server.py"
    assert (
        problem
        == f"there are two of server.py: {one}, the first and {one}, another one of that name"
    )


NAMES = st.text("ab_/\\.-: \u202e\u00eb", min_size=1, max_size=12) | st.sampled_from(
    [
        "server.py",
        ".",
        "..",
        "/",
        "..zip",
        ".tar.gz",
        "a/..zip",
        "a.zip/",
        "server.py/",
        "..py",
        ".txt",
    ]
)


@given(st.lists(st.tuples(NAMES, st.booleans()), max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_names_in_archives_are_names(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bool]]
) -> None:
    """Whatever they are: something is found, or there is a reason."""
    files = {
        name: zipped({"..zip": OWN, name or "x": OWN}) if deep else OWN for name, deep in members
    }
    for name, pack in (("ann.zip", zipped), ("ann.tar", tarred)):
        submission = found(tmp_path_factory.mktemp("any"), {name: pack(files)})
        assert bool(submission.programs) != bool(submission.problem)
