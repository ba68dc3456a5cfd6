"""What once went to the wrong student, or was lost, without a word."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest

from streamlab.grading.collect import Submission, collect
from streamlab.grading.export.formats import export
from streamlab.grading.export.job import Job
from streamlab.grading.records import Mark, Student
from streamlab.grading.reports import write_gradebook
from streamlab.grading.roster import read_roster
from streamlab.labs.manifest import Lab

ROOT = Path(__file__).parents[2]
LAB = Lab(ROOT / "solutions" / "02_chunked_loop")
CLIENTS = Lab(ROOT / "solutions" / "03_join_trap")


def lay(folder: Path, files: dict[str, str]) -> Path:
    """A folder of submissions: files by their paths."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def taken(folder: Path, lab: Lab, students: list[Student]) -> dict[str, dict[str, str]]:
    """Who got which programs; a student without any is missing in it."""
    found = collect(folder, lab, students).submissions
    return {
        who: {name: content.decode() for name, content in each.programs.items()}
        for who, each in found.items()
        if each.programs
    }


def only(folder: Path, lab: Lab = LAB) -> Submission:
    """What is found of a class of one, Ann."""
    return collect(folder, lab, [Student("ann", "Ann Lee")]).submissions["ann"]


def roster(tmp_path: Path, text: str) -> list[tuple[str, str]]:
    (tmp_path / "roster.csv").write_text(text)
    return [(each.student, each.name) for each in read_roster(tmp_path / "roster.csv")]


def test_the_number_of_an_attempt_is_no_id(tmp_path: Path) -> None:
    """Canvas ends a file's name in -1 when it is handed in again; the class has the ids 1, 2, 3."""
    class_ = [Student("1", "Ann Lee"), Student("2", "Bo Ng"), Student("3", "Cy Roe")]
    lay(tmp_path, {"roecy_33_44_server-1.py": "of Cy", "ngbo_34_45_server-2.py": "of Bo"})
    assert taken(tmp_path, LAB, class_) == {
        "3": {"server.py": "of Cy"},
        "2": {"server.py": "of Bo"},
    }


def test_a_login_that_is_the_surname_of_another(tmp_path: Path) -> None:
    class_ = [Student("lee", "Bo Ng"), Student("x1", "Ann Lee")]
    lay(tmp_path, {"Ann Lee_4711_assignsubmission_file_/server.py": "of Ann"})
    assert taken(tmp_path, LAB, class_) == {"x1": {"server.py": "of Ann"}}


def test_the_program_of_another_lab_is_not_graded(tmp_path: Path) -> None:
    lay(tmp_path, {"ann/labs/04_headers_and_framing/server.py": "of lab 04"})
    submission = only(tmp_path)
    assert not submission.programs
    assert "labs/04_headers_and_framing/server.py, of another lab" in submission.problem


def test_one_program_is_not_taken_for_two(tmp_path: Path) -> None:
    lay(tmp_path, {"ann/client.py": "of Ann"})
    assert only(tmp_path, CLIENTS).programs == {"client.py": b"of Ann"}


@pytest.mark.parametrize("test", ["test_server.py", "server_test.py", "tests/test_server.py"])
def test_a_test_is_not_preferred_to_a_program(tmp_path: Path, test: str) -> None:
    lay(tmp_path, {f"ann/{test}": "a test", "ann/server_final.py": "of Ann"})
    assert only(tmp_path).programs == {"server.py": b"of Ann"}


def test_a_test_alone_is_no_program(tmp_path: Path) -> None:
    lay(tmp_path, {"ann/test_server.py": "a test"})
    assert only(tmp_path).problem == "test_server.py, no server.py"


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nstudent;name\nann;Ann Lee\nbob;Bob Ng\n",
        ",student_id,name\n0,ann,Ann Lee\n1,bob,Bob Ng\n",
        "Student,ID,Section,Lab 02 (77)\n    Points Possible,,,20\nAnn Lee,ann,A,\nBob Ng,bob,A,\n",
    ],
)
def test_a_roster_has_the_ids_of_students_alone(tmp_path: Path, text: str) -> None:
    assert roster(tmp_path, text) == [("ann", "Ann Lee"), ("bob", "Bob Ng")]


def test_nobody_of_a_canvas_roster_is_dropped(tmp_path: Path) -> None:
    """A student without a login there is a student."""
    text = 'Student,ID,SIS Login ID,Section\n"Lee, Ann",501,ann,A\n"Ng, Bob",502,,A\n'
    assert [who for who, _ in roster(tmp_path, text)] == ["ann", "502"]


def test_a_reason_says_what_is_there(tmp_path: Path) -> None:
    lay(tmp_path, {"ann/lab.ipynb": "{}"})
    assert only(tmp_path).problem == "a notebook (lab.ipynb), no server.py"


def test_two_files_of_a_name_are_two_names(tmp_path: Path) -> None:
    for place, content in (("ann.zip", "one"), ("ann_2.zip", "other")):
        with zipfile.ZipFile(tmp_path / place, "w") as archive:
            archive.writestr("server.py", content)
    problem = only(tmp_path).problem
    assert problem == "there are two of server.py: ann.zip/server.py and ann_2.zip/server.py"


def test_a_whole_course_with_its_environment(tmp_path: Path) -> None:
    """What the environment has is not counted, and the workspace goes before the course's copy."""
    members = {f"river/.venv/lib/{number}.py": "" for number in range(20_500)}
    members["river/labs/02_chunked_loop/server.py"] = "the stub"
    members["river/workspace/labs/02_chunked_loop/server.py"] = "of Ann"
    with zipfile.ZipFile(tmp_path / "ann.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert only(tmp_path).programs == {"server.py": b"of Ann"}


def test_a_tar_file_is_read(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "ann.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("lab/server.py")
        member.size = 6
        archive.addfile(member, io.BytesIO(b"of Ann"))
    assert only(tmp_path).programs == {"server.py": b"of Ann"}


def test_two_people_of_one_name_are_a_doubt(tmp_path: Path) -> None:
    """And neither of them has handed in nothing."""
    class_ = [Student("s1", "John Smith"), Student("s2", "John Smith")]
    lay(tmp_path, {"John Smith_5_assignsubmission_file_/server.py": "of one of them"})
    found = collect(tmp_path, LAB, class_).submissions
    assert all("may be theirs" in found[who].problem for who in ("s1", "s2"))


def test_the_gradebook_is_opened_as_utf_8(tmp_path: Path) -> None:
    """Excel takes a CSV file without a byte order mark for one in the system's old encoding."""
    write_gradebook(
        [Mark("ann", "Zo\u00eb", LAB.name, 1, 20, "graded")], tmp_path / "gradebook.csv"
    )
    assert (tmp_path / "gradebook.csv").read_bytes().startswith("\ufeffstudent,".encode())


def test_no_zero_while_work_lies_there_that_may_be_theirs(tmp_path: Path) -> None:
    marks = [
        Mark("ann", "Ann Lee", LAB.name, 20, 20, "graded"),
        Mark("bob", "Bob Ng", LAB.name, 0, 20, "missing"),
    ]
    target = tmp_path / "out.csv"
    job = Job(LAB, marks, target, zero_for_missing=True, unclaimed=["project.zip"])
    exported = export("moodle-gradebook", job)
    with target.open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["Student", "ann"]
    assert any("project.zip" in each and "bob" in each for each in exported.messages)
