"""Submissions as nobody would wish them: read, never unpacked or run."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from streamlab.grading.collect import Submission, collect
from streamlab.grading.contents import LARGEST, LARGEST_ZIP, MOST_FILES
from streamlab.grading.records import Key, Student, from_lines, to_line
from streamlab.grading.task import GradingError
from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult

ROOT = Path(__file__).parents[2]
LAB = Lab(ROOT / "solutions" / "02_chunked_loop")
CLIENTS = Lab(ROOT / "solutions" / "03_join_trap")

GOOD = b"print('a program')\n"
OTHER = b"print('another program')\n"

Member = tuple[str | zipfile.ZipInfo, bytes]


# What a submission is


@pytest.fixture
def handed_in(tmp_path: Path) -> Path:
    """The folder of all submissions."""
    folder = tmp_path / "handed in"
    folder.mkdir()
    return folder


@pytest.fixture
def found(handed_in: Path) -> Callable[..., Submission]:
    """What is found of Ann's submission."""

    def look(lab: Lab = LAB) -> Submission:
        return collect(handed_in, lab, [Student("ann", "Ann Lee")]).submissions["ann"]

    return look


def zipped(members: Sequence[Member], **options: int) -> bytes:
    """A zip file's bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content, **options)
    return packed.getvalue()


def member(name: str, mode: int = 0) -> zipfile.ZipInfo:
    """A member that says it is of some kind of file."""
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def flagged(content: bytes, flag: int) -> bytes:
    """A zip file whose members all have a flag set, in both of their headers."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(signature)
        while at >= 0:
            changed[at + offset] |= flag
            at = changed.find(signature, at + 4)
    return bytes(changed)


@pytest.mark.parametrize(
    "name",
    [
        "server.py",
        "Server.py",
        "server (1).py",
        "server-2.py",
        "server copy.py",
        "my_server.py",
        "server.py.txt",
        "doejane_123_456_server-2.py",
        "02_chunked_loop/server.py",
        "labs/02_chunked_loop/server.py",
        "a/b/c/d/e/f/server.py",
        "whatever.py",
        "../../server.py",
        "/etc/server.py",
        "D:\\homework\\ann\\server.py",
        "a\u202eb/server.py",
    ],
)
@pytest.mark.parametrize("way", ["folder", "zip", "zip in folder", "zip in zip"])
def test_the_program_is_found(
    handed_in: Path, found: Callable[..., Submission], name: str, way: str
) -> None:
    """Whatever it is called and wherever it lies; one that leads out is a name like any other."""
    inside = name.lstrip("/.").replace("\\", "/").replace("C:", "C")
    packed = zipped([(name, GOOD), ("read me.md", b"x"), ("__MACOSX/._server.py", b"\0")])
    files = {
        "folder": {f"ann/{inside}": GOOD, "ann/__pycache__/server.py": OTHER},
        "zip": {"ann.zip": packed},
        "zip in folder": {"ann/work.ZIP": packed},
        "zip in zip": {"ann.zip": zipped([("deeper/work.zip", packed)])},
    }[way]
    for path, content in files.items():
        (handed_in / path).parent.mkdir(parents=True, exist_ok=True)
        (handed_in / path).write_bytes(content)
    before = sorted(handed_in.parent.rglob("*"))
    submission = found()
    assert (submission.programs, submission.problem) == ({"server.py": GOOD}, "")
    assert sorted(handed_in.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("server.py", "server (2).py"),
        ("server (2).py", "server (1).py"),
        ("server-10.py", "server-9.py"),
        ("02_chunked_loop/server.py", "server.py"),
        ("server.py", "old/server.py"),
        ("server.py", "04_headers_and_framing/server.py"),
        ("02_chunked_loop/server.py", "02_chunked_loop/.stub/server.py"),
        ("server.py", "venv/lib/server.py"),
        ("server (7).py", "server (" + "9" * 5000 + ").py"),
    ],
)
def test_of_several_the_best_is_taken(
    handed_in: Path, found: Callable[..., Submission], better: str, worse: str
) -> None:
    (handed_in / "ann.zip").write_bytes(zipped([(worse, OTHER), (better, GOOD)]))
    assert found().programs == {"server.py": GOOD}


def test_two_of_equal_claim_are_for_a_person_to_tell(
    handed_in: Path, found: Callable[..., Submission]
) -> None:
    """Unless they are the same."""
    for name, content in (("a", GOOD), ("b", GOOD)):
        (handed_in / "ann" / name).mkdir(parents=True)
        (handed_in / "ann" / name / "server.py").write_bytes(content)
    assert found().programs == {"server.py": GOOD}
    (handed_in / "ann" / "b" / "server.py").write_bytes(OTHER)
    assert found().problem == "there are two of server.py: ann/a/server.py and ann/b/server.py"


def test_every_program_of_a_lab_is_found(handed_in: Path, found: Callable[..., Submission]) -> None:
    (handed_in / "ann").mkdir()
    for name in CLIENTS.programs:
        (handed_in / "ann" / name).write_bytes(name.encode())
    assert found(CLIENTS).programs == {name: name.encode() for name in CLIENTS.programs}


LINK = 0o120777
BOMB = b"\0" * (LARGEST + 1)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([], "nothing in it, no server.py"),
        ([("server.py/", b"")], "nothing in it, no server.py"),
        ([("server.js", GOOD), ("notes.txt", GOOD)], "notes.txt, server.js, no server.py"),
        ([("server.py", BOMB)], "larger than 512 KiB"),
        ([(member("server.py", LINK), b"/etc/passwd")], "a symbolic link (server.py), no"),
        ([("a.zip", zipped([("b.zip", zipped([("server.py", GOOD)]))]))], "too deep in others"),
        ([("a.zip", b"PK\x03\x04 no zip file")], "no readable zip file"),
        ([("server.py", GOOD), ("server.py", OTHER)], "there are two of server.py"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_file_without_a_program(
    handed_in: Path, found: Callable[..., Submission], members: list[Member], problem: str
) -> None:
    (handed_in / "ann.zip").write_bytes(zipped(members))
    submission = found()
    assert not submission.programs
    assert problem in submission.problem


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("method", ["stored", "deflated", "bzip2", "lzma"])
@pytest.mark.parametrize("how", ["torn", "damaged", "encrypted", "unknown method", "bad name"])
def test_a_broken_zip_file_is_told(
    handed_in: Path, found: Callable[..., Submission], inner: bool, method: str, how: str
) -> None:
    """In whatever way it is broken: nothing but a word of it reaches the run."""
    kind = {"stored": 0, "deflated": 8, "bzip2": 12, "lzma": 14}[method]
    name = "work.zip" if inner else "server.py"
    content = zipped([("server.py", os.urandom(3000))]) if inner else os.urandom(3000)
    packed = zipped([(name, content)], compress_type=kind)
    data = 30 + len(name)
    if how == "torn":
        packed = packed[: len(packed) // 2]
    elif how == "damaged":
        packed = packed[: data + 4] + b"\xff" * 400 + packed[data + 404 :]
    elif how == "encrypted":
        packed = flagged(packed, 1)
    elif how == "bad name":  # the member's own header says otherwise than the list, and no UTF-8
        packed = packed[:7] + b"\x08" + packed[8:30] + b"\xff\xfe" + packed[32:]
    else:
        packed = packed.replace(bytes([kind, 0]), bytes([99, 0]))
    (handed_in / "ann.zip").write_bytes(packed)
    submission = found()
    assert not submission.programs
    assert submission.problem


def test_zip_files_in_a_zip_file_have_no_room_to_grow(
    handed_in: Path, found: Callable[..., Submission]
) -> None:
    """Each within its limit, all together not."""
    inner = zipped([("x", b"\0" * (LARGEST_ZIP // 3))], compress_type=0)
    members: list[Member] = [(f"{number}.zip", inner) for number in range(4)]
    (handed_in / "ann.zip").write_bytes(zipped(members))
    assert found().problem == "the archives in ann.zip are larger than any program"


def test_a_list_of_millions_is_not_read(
    handed_in: Path, found: Callable[..., Submission], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the archive says of its length is enough to refuse it."""
    packed = bytearray(zipped([("server.py", GOOD)]))
    at = packed.rfind(b"PK\x05\x06")
    packed[at + 12 : at + 16] = (2**26).to_bytes(4, "little")
    (handed_in / "ann.zip").write_bytes(packed)
    monkeypatch.setattr(zipfile, "ZipFile", lambda file: pytest.fail("it was read"))
    assert found().problem == f"ann.zip has more than {MOST_FILES} files"


def test_a_zip_file_of_very_many(handed_in: Path, found: Callable[..., Submission]) -> None:
    (handed_in / "ann.zip").write_bytes(zipped([(str(n), b"") for n in range(MOST_FILES + 1)]))
    assert found().problem == f"it has more than {MOST_FILES} files"


def test_ten_thousand_files_are_no_obstacle(
    handed_in: Path, found: Callable[..., Submission]
) -> None:
    (handed_in / "ann").mkdir()
    for number in range(10_000):
        (handed_in / "ann" / f"{number}.dat").touch()
    (handed_in / "ann" / "server.py").write_bytes(GOOD)
    assert found().programs == {"server.py": GOOD}


def test_more_files_than_anybody_looks_at(
    handed_in: Path, found: Callable[..., Submission], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamlab.grading.contents.MOST_FILES", 20)
    (handed_in / "ann").mkdir()
    for number in range(30):
        (handed_in / "ann" / f"{number}.dat").touch()
    assert "has more than 20 files" in found().problem


@pytest.mark.needs("linux")
def test_folders_deeper_than_a_path(handed_in: Path, found: Callable[..., Submission]) -> None:
    (handed_in / "ann").mkdir()
    (handed_in / "ann" / "server.py").write_bytes(GOOD)
    folders = [os.open(handed_in / "ann", os.O_RDONLY)]
    try:
        for _ in range(2200):
            os.mkdir("aa", dir_fd=folders[-1])
            folders.append(os.open("aa", os.O_RDONLY, dir_fd=folders[-1]))
            if len(folders) > 2:
                os.close(folders.pop(-2))
        assert found().programs == {"server.py": GOOD}
    finally:
        for folder in folders:
            os.close(folder)
        remove_chain(handed_in / "ann", "aa")


def remove_chain(top: Path, name: str) -> None:
    """Remove a folder that holds one of its own name, and so on: deeper than a path can say."""
    while (top / name).exists():
        inner = top / name / name
        if inner.exists():
            os.rename(inner, top / "next")
            os.rmdir(top / name)
            os.rename(top / "next", top / name)
        else:
            os.rmdir(top / name)


@pytest.mark.needs("linux")
def test_no_link_is_followed_and_no_pipe_is_waited_for(
    handed_in: Path, tmp_path: Path, found: Callable[..., Submission]
) -> None:
    """Not to another's work, in any of its forms; and it is told."""
    solution = tmp_path / "solution"
    solution.mkdir()
    (solution / "server.py").write_bytes(GOOD)
    (solution / "work.zip").write_bytes(zipped([("server.py", GOOD)]))
    ann = handed_in / "ann"
    ann.mkdir()
    (ann / "server.py").symlink_to(solution / "server.py")
    (ann / "work.zip").symlink_to(solution / "work.zip")
    (ann / "folder").symlink_to(solution)
    (ann / "loop").symlink_to(ann)
    (ann / "more").mkdir()
    os.mkfifo(ann / "more" / "server.py")
    assert found().problem == "ann/more/server.py can't be read: it is no plain file"
    (ann / "more" / "server.py").unlink()
    submission = found()
    assert submission.problem.startswith("a symbolic link (")
    assert len(submission.notes) == 4
    os.mkfifo(ann / "pipe.zip")
    assert found().problem == "ann/pipe.zip is no plain file"


@pytest.mark.needs("linux")
@pytest.mark.parametrize("name", ["ann", "ann.zip", "ann_server.py"])
def test_a_submission_that_is_a_link(
    handed_in: Path, tmp_path: Path, found: Callable[..., Submission], name: str
) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(zipped([("server.py", GOOD)]) if name == "ann.zip" else GOOD)
    (handed_in / name).symlink_to(target)
    submission = found()
    assert submission.problem == f"a symbolic link ({name}), no server.py"
    assert "symbolic link" in submission.notes[0]


def test_what_belongs_to_nobody_is_told(handed_in: Path) -> None:
    """Names are made fit for a terminal; hidden files are nobody's submission."""
    for name in ("ann", "stranger", "bad\x1b[2Jname", ".DS_Store"):
        (handed_in / name).mkdir()
    if os.name == "posix":
        os.mkdir(os.fsencode(handed_in) + b"/torn\xff")
    unmatched = collect(handed_in, LAB, [Student("ann")]).unmatched
    nobody = "nobody on the roster is called so"
    assert unmatched[:2] == [f"bad?[2Jname: {nobody}", f"stranger: {nobody}"]
    assert all(name.isprintable() and name.encode() for name in unmatched)
    with pytest.raises(GradingError, match="can't be read"):
        collect(handed_in / "nothing", LAB, [])


def test_several_of_one_student_are_one_submission(
    handed_in: Path, found: Callable[..., Submission]
) -> None:
    """As Moodle hands out what was uploaded twice; the hash tells any change."""
    (handed_in / "ann").mkdir()
    (handed_in / "ann" / "read me.txt").write_bytes(b"x")
    (handed_in / "Ann Lee_1_assignsubmission_file_").mkdir()
    file = handed_in / "Ann Lee_1_assignsubmission_file_" / "server.py"
    file.write_bytes(GOOD)
    first = found()
    assert first.programs == {"server.py": GOOD}
    file.write_bytes(OTHER)
    assert found().sha256 != first.sha256


def test_a_stored_result_may_hold_any_text() -> None:
    """Line ends of other kinds than the file's own are in what programs wrote."""
    words = "a\u2028b\x85c"
    result = CheckResult("02_chunked_loop", "bytes", "BYTES", 0, 3, "failed", evidence=words)
    key = Key("ann", "", "")
    assert from_lines((to_line(key, result) + "\n").split("\n"))[key].results["bytes"] == result
