"""A folder of submissions becomes a class's folder: the table, the mapping, the doubts."""

from __future__ import annotations

import csv
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from streamlab.grading.collect import Collection, collect, lay_out
from streamlab.grading.collected import COLLECTED, Row, check_report, read_table, write_table
from streamlab.grading.metadata import LARGEST
from streamlab.grading.records import Mark, Student, marks_as_json
from streamlab.grading.task import GradingError
from streamlab.grading.text import file_name
from streamlab.labs.manifest import Lab

ROOT = Path(__file__).parents[2]
LAB = Lab(ROOT / "solutions" / "02_chunked_loop")
CLASS = [Student("ann", "Ann Lee"), Student("bo", "Bo Ng"), Student("cy", "Cy Roe")]

Files = dict[str, str]


def lay(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def taken(collection: Collection) -> dict[str, str]:
    """Who got which program."""
    found = collection.submissions.items()
    return {
        who: "".join(map(bytes.decode, each.programs.values()))
        for who, each in found
        if each.programs
    }


def states(collection: Collection) -> dict[str, list[str]]:
    """The state of each file, and those who got it."""
    found: dict[str, list[str]] = {}
    for row in collection.rows:
        found.setdefault(row.file, [row.state]).append(row.student)
    return found


# What platforms hand out


@pytest.mark.parametrize("around", ["", "assignment_77_export/", "a/assignment_77_export/"])
def test_gradescopes_export(tmp_path: Path, around: str) -> None:
    """In the folder that it unpacks into, or without it; a group gets its work twice."""
    metadata = """\
submission_1:
  :submitters:
  - :name: Ann Lee
    :sid: ann
    :email: ann@uni.example
  :created_at: 2026-10-02 21:00:44.000000000 Z
  :score: 0.0
submission_2:
  :submitters:
  - :name: Bo Ng
    :sid: bo
  - :name: Cy Roe
    :sid: cy
"""
    files = {f"{around}submission_{number}/server.py": f"of {number}" for number in (1, 2, 3)}
    lay(tmp_path, {f"{around}submission_metadata.yml": metadata, **files})
    collection = collect(tmp_path, LAB, CLASS)
    assert taken(collection) == {"ann": "of 1", "bo": "of 2", "cy": "of 2"}
    assert states(collection)["submission_3"] == ["in doubt", ""]


@pytest.mark.parametrize(
    "text", ["a: [", "- 1\n- 2\n", "a: !!python/object:os.system {}\n", "&a [*a"]
)
def test_a_file_of_gradescope_that_makes_no_sense(tmp_path: Path, text: str) -> None:
    """It is told, or says nothing of the folders; nothing in it is run."""
    lay(tmp_path, {"submission_metadata.yml": text, "submission_1/server.py": "x"})
    try:
        assert states(collect(tmp_path, LAB, CLASS))["submission_1"] == ["in doubt", ""]
    except GradingError as error:
        assert "submission_metadata.yml can't be read" in str(error) and "\n" not in str(error)
    with (tmp_path / "submission_metadata.yml").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(GradingError, match="larger than any"):
        collect(tmp_path, LAB, CLASS)


def test_blackboards_attempts(tmp_path: Path) -> None:
    """Of several the last one counts; Blackboard's own text is no program of a student."""
    begins = "Lab 02_ann_attempt_2026-10-0"
    about = "Name: Ann Lee (ann)\nAssignment: Lab 02\nDate Submitted: Friday\n\nFiles:\n"
    lay(
        tmp_path,
        {
            f"{begins}2-21-00-44_server.py": "the first",
            f"{begins}2-21-00-44.txt": about,
            f"{begins}3-08-00-00_server.py": "the last",
            f"{begins}3-08-00-00.txt": about,
            "Lab 02_bo_attempt_2026-10-02-21-00-44.txt": about.replace(
                "Ann Lee (ann)", "Bo Ng (bo)"
            ),
        },
    )
    collection = collect(tmp_path, LAB, CLASS)
    assert taken(collection) == {"ann": "the last"}
    assert states(collection)[f"{begins}2-21-00-44_server.py"] == ["left out", "ann"]
    assert collection.submissions["bo"].problem == "Blackboard's own text on it, no server.py"


def test_nbgraders_folders(tmp_path: Path) -> None:
    """Submitted work by student and assignment, and the exchange with every attempt."""
    submitted = lay(tmp_path / "course", {"submitted/ann/02_chunked_loop/server.py": "of Ann"})
    (submitted / "submitted/ann/02_chunked_loop/timestamp.txt").write_text(
        "2026-10-02 21:00:44 UTC"
    )
    assert taken(collect(submitted, LAB, CLASS)) == {"ann": "of Ann"}
    inbound = lay(
        tmp_path / "inbound",
        {
            "ann+02_chunked_loop+2026-10-02 21:00:44.123456 UTC+c2Vj/server.py": "the first",
            "ann+02_chunked_loop+2026-10-02 22:00:44.123456 UTC+cmV0/server.py": "the last",
        },
    )
    assert taken(collect(inbound, LAB, CLASS)) == {"ann": "the last"}


def test_what_was_typed_into_a_platform(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {
            "leeann_501_text.html": "<p>I could not do it</p>",
            "Bo Ng_72_assignsubmission_onlinetext_/onlinetext.html": "<p>see the mail</p>",
        },
    )
    found = collect(tmp_path, LAB, CLASS).submissions
    assert found["ann"].problem == "a web page (text.html), no server.py"
    assert found["bo"].problem == "a web page (onlinetext.html), no server.py"


def test_two_numbers_of_one_name_are_two_people(tmp_path: Path) -> None:
    """The roster has one of them: nobody can tell which."""
    names = ("leeann_501_1_server.py", "leeann_777_2_server.py", "ngbo_502_3_server.py")
    collection = collect(lay(tmp_path, dict.fromkeys(names, "x")), LAB, CLASS)
    assert taken(collection) == {"bo": "x"}
    assert [states(collection)[name][0] for name in names] == ["in doubt", "in doubt", "taken"]
    assert "leeann_777_2_server.py may be theirs" in collection.submissions["ann"].problem
    assert "two of this name, by the numbers 501 and 777" in collection.unmatched[0]
    several = dict.fromkeys(("leeann_501_1_server.py", "leeann_501_2_notes.txt"), "x")
    assert taken(collect(lay(tmp_path / "one", several), LAB, CLASS)) == {"ann": "x"}


def test_a_folder_around_everything_is_looked_into(tmp_path: Path) -> None:
    """Where what is in it is somebody's; else it is what it is."""
    lay(tmp_path / "a", {"submissions/leeann_501_1_server.py": "of Ann"})
    assert taken(collect(tmp_path / "a", LAB, CLASS)) == {"ann": "of Ann"}
    lay(tmp_path / "b", {"stranger/server.py": "x"})
    assert states(collect(tmp_path / "b", LAB, CLASS))["stranger"] == ["in doubt", ""]
    with pytest.raises(GradingError, match=r"submissions\.zip is a file: unpack it"):
        collect(lay(tmp_path, {"submissions.zip": ""}) / "submissions.zip", LAB, CLASS)


def test_what_lies_beside_is_no_submission(tmp_path: Path) -> None:
    """A roster, a log, hidden files: no student's work is looked for in them."""
    lay(tmp_path, {"ann/server.py": "x", "roster.csv": "x", "unzip.log": "x", "Thumbs.db": "x"})
    collection = collect(tmp_path, LAB, CLASS)
    assert not collection.unmatched and states(collection)["roster.csv"][0] == "left out"
    (tmp_path / "bo.csv").write_text("x")
    assert collect(tmp_path, LAB, CLASS).submissions["bo"].problem == "bo.csv, no server.py"


# The mapping


def mapped(tmp_path: Path, text: str, files: Sequence[str] = ("x.zip.py", "y.py")) -> Collection:
    lay(tmp_path / "in", {name: f"of {name}" for name in files})
    (tmp_path / "mapping.csv").write_text(text, encoding="utf-8")
    return collect(tmp_path / "in", LAB, CLASS, tmp_path / "mapping.csv")


def test_a_person_says_whose_a_file_is(tmp_path: Path) -> None:
    """Before every rule; nobody's is left out."""
    text = "\ufefffile;student;why\r\nx.zip.py;ann;she told me\r\ny.py;-;\r\nbo.py;cy;\r\n"
    collection = mapped(tmp_path, text, ("x.zip.py", "y.py", "bo.py"))
    assert taken(collection) == {"ann": "of x.zip.py", "cy": "of bo.py"}
    assert states(collection)["y.py"] == ["left out", ""] and not collection.unmatched


def test_a_mapping_may_speak_of_many_files(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "smithzoë_777_")
    files = [f"{name}1_server.py", f"{name}2_notes [1].txt"]
    text = unicodedata.normalize("NFC", f"file,student\n{name}*,ann\n")
    assert taken(mapped(tmp_path, text, files)) == {"ann": f"of {files[0]}"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x.zip.py,ann\n", "needs the headings file and student"),
        ("", "needs the headings file and student"),
        ("file,student\nx.zip.py,dan\n", "line 2: dan is no id of the roster"),
        ("file,student\nx.zip.py,\n", "line 2: it needs a file, and an id or -"),
        ("file,student\nx.zip.py,ann\nx.zip.py,bo\n", "line 3: x.zip.py stands in it twice"),
        ("file,student\nz.py,ann\n", "speaks of z.py, and no such file lies there"),
        ("file,student\nz*,ann\n", r"speaks of z\*, and no such file lies there"),
        ("file,student\nx*,ann\n*py,bo\n", "several lines for x.zip.py"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(GradingError, match=words):
        mapped(tmp_path, text)
    with pytest.raises(GradingError, match="the mapping can't be read"):
        collect(tmp_path / "in", LAB, CLASS, tmp_path / "none.csv")


# The class's folder

ODD = [Student("Ann/Lee@uni", "Ann Lee"), *CLASS[1:], Student("dan", "Dan Day")]


def test_a_class_that_was_laid_is_found_again(tmp_path: Path) -> None:
    """With every mark, reason and doubt as before: grading reads the same."""
    handed_in = lay(
        tmp_path / "in",
        {
            "Ann Lee.py": "of Ann",
            "bo/lab.ipynb": "{}",
            "project.zip": "x",
            "Cy Roe/server_final.py": "of Cy",
            "Dan Daya.py": "x",
        },
    )
    first = collect(handed_in, LAB, ODD)
    assert lay_out(first, LAB, tmp_path / "class") == 2
    again = collect(tmp_path / "class", LAB, ODD)
    assert again.submissions["cy"].notes == ("server_final.py was taken for server.py",)
    assert again.submissions == first.submissions
    assert again.unmatched == first.unmatched and COLLECTED not in states(again)
    assert (tmp_path / "class" / file_name("Ann/Lee@uni") / LAB.name / "server.py").is_file()
    other = Lab(ROOT / "solutions" / "04_headers_and_framing")
    assert "of another lab" in collect(tmp_path / "class", other, ODD).submissions["cy"].problem


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    collection = collect(lay(tmp_path / "in", {"ann.py": "x"}), LAB, CLASS)
    lay(tmp_path / "class", {"old": "work"})
    with pytest.raises(GradingError, match="is not empty: name a new folder"):
        lay_out(collection, LAB, tmp_path / "class")
    with pytest.raises(GradingError, match="can't be written"):
        lay_out(collection, LAB, tmp_path / "class" / "old" / "deeper")


def test_the_table_reads_back_and_is_safe_in_a_spreadsheet(tmp_path: Path) -> None:
    rows = [
        Row("taken", "=1+1.py", "ann", "Lee, Ann", "a/b.py", 'the "name"', "a; b"),
        Row("in doubt", "x\x1b[31m.zip", why="two", may_be="=ann\nbo"),
    ]
    write_table(rows, tmp_path / COLLECTED)
    data = (tmp_path / COLLECTED).read_bytes()
    assert data.startswith("\ufeffstate,file,".encode())
    assert b"taken,'=1+1.py" in data and b"\"'=ann\n" in data
    one, two = read_table(tmp_path / COLLECTED)
    assert (one.file, one.name, two.file, two.may_be) == (
        "=1+1.py",
        "Lee, Ann",
        "x.zip",
        "=ann\nbo",
    )
    (tmp_path / COLLECTED).write_text("state,file\nlost,x\n")
    with pytest.raises(GradingError, match="no table that streamlab collect wrote"):
        read_table(tmp_path / COLLECTED)
    (tmp_path / COLLECTED).write_text("a,b\n1,2\n")
    with pytest.raises(GradingError, match="can't be read"):
        read_table(tmp_path / COLLECTED)


def test_without_a_lab_it_is_told_whose_each_file_is(tmp_path: Path) -> None:
    collection = collect(lay(tmp_path, {"ann/anything.txt": "x", "who.zip": "x"}), None, CLASS)
    assert states(collection)["ann"] == ["taken", "ann"] and len(collection.unmatched) == 1


# A report


def test_a_roster_of_one_does_not_replace_a_class(tmp_path: Path) -> None:
    marks = [Mark(each.student, each.name, LAB.name, 1, 20, "graded") for each in CLASS]
    (tmp_path / "marks.json").write_text(marks_as_json(marks, CLASS))
    with pytest.raises(GradingError, match="has marks of bo, cy, whom the roster has not"):
        check_report(tmp_path, CLASS[:1])
    check_report(tmp_path, [*CLASS, Student("new")])
    check_report(tmp_path / "nothing", CLASS[:1])
    (tmp_path / "marks.json").write_text("torn")
    with pytest.raises(GradingError, match="can't be read: name another folder"):
        check_report(tmp_path, CLASS)


# The command


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from streamlab.cli import main; main()", "collect"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=ROOT
    )


def test_the_command_shows_and_lays(tmp_path: Path) -> None:
    """It shows all, and writes nothing; it ends in 1 while something is in doubt."""
    handed_in = lay(tmp_path / "in", {"ann.py": "of Ann", "who.py": "x", "bo/a.ipynb": "{}"})
    (tmp_path / "roster.csv").write_text("student,name\nann,Ann Lee\nbo,Bo Ng\ncy,Cy Roe\n")
    roster = ("--roster", tmp_path / "roster.csv")
    before = sorted(tmp_path.rglob("*"))
    shown = run(handed_in, *roster, "--lab", "02", "--dry-run")
    assert shown.returncode == 1 and sorted(tmp_path.rglob("*")) == before
    text = " ".join(shown.stdout.split())
    assert "taken ann (Ann Lee) ann.py for server.py the id" in text
    assert "in doubt who.py nobody on the roster is called so" in text
    assert "a notebook (a.ipynb), no server.py" in text
    assert "nothing cy (Cy Roe) nothing was found" in text
    assert run(handed_in, *roster, "--dry-run").returncode == 1

    (tmp_path / "mapping.csv").write_text("file,student\nwho.py,cy\n")
    mapping = ("--mapping", tmp_path / "mapping.csv", "--lab", "02", "--out", tmp_path / "class")
    laid = run(handed_in, *roster, *mapping)
    assert laid.returncode == 0 and "programs of 2 of 3 students" in laid.stdout
    with (tmp_path / "class" / COLLECTED).open(encoding="utf-8-sig", newline="") as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["taken", "no program", "taken"]
    for wrong in ((), ("--lab", "02"), ("--out", tmp_path / "x")):
        refused = run(handed_in, *roster, *wrong)
        assert refused.returncode == 2 and refused.stderr.startswith("streamlab: say what to do")
