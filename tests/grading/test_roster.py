"""Rosters as learning platforms export them, as spreadsheets save them, and without sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamlab.grading.records import Student
from streamlab.grading.roster import read_roster
from streamlab.grading.task import GradingError


def roster(tmp_path: Path, text: str | bytes) -> list[Student]:
    """The students of a roster of that text."""
    file = tmp_path / "roster.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_roster(file)


@pytest.mark.parametrize(
    "text",
    [
        "student,name\nann,Ann Lee\nbob,Bob\n",
        "\ufeffstudent,name\r\nann,Ann Lee\r\nbob,Bob\r\n",  # a spreadsheet's UTF-8
        "name;student\nAnn Lee;ann\nBob;bob",
        "Student\tName\nann\tAnn Lee\nbob\tBob\n",
        'student,name\n\n"ann","Ann Lee"\n,\nbob, Bob \n',
        "Full Name,Group,Username\nAnn Lee,1,ann\nBob,2,bob\n",
        "SIS Login ID,Student Name\nann,Ann Lee\nbob,Bob\n",
    ],
)
def test_a_roster_is_read_as_it_is_exported(tmp_path: Path, text: str) -> None:
    students = roster(tmp_path, text)
    assert [(each.student, each.name) for each in students] == [("ann", "Ann Lee"), ("bob", "Bob")]


def test_the_gradebook_of_canvas_is_a_roster(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(
        "Student,ID,SIS Login ID,Section,Lab 02 (77)\n"
        "    Points Possible,,,,20\n"
        '"Lee, Ann",101,ann,A,\n'
        '"Student, Test",102,,A,\n'
    )
    (only,) = read_roster(tmp_path / "r.csv")
    assert (only.student, only.name) == ("ann", "Lee, Ann")


def test_names_are_kept_as_they_are(tmp_path: Path) -> None:
    """Quoted commas, quotes, other scripts, and what a spreadsheet would take for a formula."""
    text = 'student,name,e-mail\nann,"Lee, Ann ""Annie""",a@b\nünal,=1+1,@x\n'
    ann, second = roster(tmp_path, text)
    assert (ann.name, ann.columns["e-mail"]) == ('Lee, Ann "Annie"', "a@b")
    assert (second.student, second.name) == ("ünal", "=1+1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("student,name\nann,Ann\nbob,Bob\nann,Again\n", "line 4: ann stands in the roster twice"),
        ("student,name\n,Ann\n", "line 2: there is no id in it"),
        ("name,group\nAnn,A\n", "has no column 'student'"),
        ("", "has no column 'student'"),
        ("student,name\n".encode("utf-16-le"), "not UTF-8"),
        ("student,name\n", "has no students"),
        ("student,name\nann,J\xf6rg\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_roster_that_makes_no_sense_is_refused(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    with pytest.raises(GradingError, match=words):
        roster(tmp_path, text)


def test_a_roster_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(GradingError, match="the roster can't be read"):
        read_roster(tmp_path / "nothing.csv")


# As platforms export them

EXPORTS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "Canvas": (
        "Student,ID,SIS User ID,SIS Login ID,Integration ID,Section,Lab 02 (881),"
        "Labs Current Score\n"
        ",,,,,,Manual Posting,\n"
        "    Points Possible,,,,,,20.00,(read only)\n"
        '"Ebadi, Nour",3301,900311,nebadi,,"Wed, 9:00",18.00,90.0\n'
        '"O\'Gee, Sean",3302,900312,sogee,,"Wed, 9:00",,\n'
        '"Late, Added",3303,,,,"Wed, 9:00",,\n'
        '"Student, Test",3399,,4f1a9c,,"Wed, 9:00",,\n',
        [("nebadi", "Ebadi, Nour"), ("sogee", "O'Gee, Sean"), ("3303", "Late, Added")],
    ),
    "Canvas without SIS columns": (
        "\ufeffStudent,ID,Section,Lab 02 (881)\n"
        "    Points Possible,,,20\n"
        '"Ebadi, Nour",3301,A,18\n'
        '"Student, Test",3399,A,\n',
        [("3301", "Ebadi, Nour")],
    ),
    "Canvas with two columns of names": (
        "LastName,FirstName,ID,SIS Login ID,Section,Lab 02 (881)\r\n"
        "    Points Possible,,,,,20\r\n"
        "de Haa,Bo,3301,bdehaa,A,\r\n",
        [("bdehaa", "Bo de Haa")],
    ),
    "Moodle's grades": (
        '"First name","Last name","ID number",Institution,Department,"Email address",'
        '"Assignment: Lab 02 (Real)","Last downloaded from this course"\n'
        "Nour,Ebadi,,,,nour@uni.example,18.00,1790000000\n"
        'Bo,"de Haa",,,,bo@uni.example,-,1790000000\n',
        [("nour@uni.example", "Nour Ebadi"), ("bo@uni.example", "Bo de Haa")],
    ),
    "Moodle's grades with ID numbers": (
        "First name,Surname,ID number,Institution,Department,Email address\n"
        "Nour,Ebadi,900311,,,nour@uni.example\n",
        [("900311", "Nour Ebadi")],
    ),
    "Moodle's participants": (
        '"First name","Last name","Email address",Roles,Groups\n'
        'Nour,Ebadi,nour@uni.example,Student,"Group A"\n'
        'Tess,Ter,tess@uni.example,"Non-editing teacher",\n',
        [("nour@uni.example", "Nour Ebadi")],
    ),
    "Moodle's participants in German": (
        "Vorname;Nachname;ID-Nummer;E-Mail-Adresse\nNour;Ebadi;900311;nour@uni.example\n",
        [("900311", "Nour Ebadi")],
    ),
    "Moodle's grading worksheet": (
        "Identifier,Full name,Email address,Status,Grade\n"
        "Participant 71,Nour Ebadi,nour@uni.example,Submitted,\n",
        [("nour@uni.example", "Nour Ebadi")],
    ),
    "Gradescope": (
        "First Name,Last Name,SID,Email,Role,Sections\n"
        "Nour,Ebadi,900311,nour@uni.example,Student,A\n"
        "Bo,de Haa,900312,bo@uni.example,Student,A\n"
        "Tess,Ter,,tess@uni.example,Instructor,\n"
        "Tom,Ter,,tom@uni.example,TA,\n",
        [("900311", "Nour Ebadi"), ("900312", "Bo de Haa")],
    ),
    "Gradescope without SIDs": (
        "Name,SID,Email,Role\nNour Ebadi,,nour@uni.example,Student\n",
        [("nour@uni.example", "Nour Ebadi")],
    ),
    "Gradescope with few SIDs": (
        "Name,SID,Email,Role\n"
        "Nour Ebadi,900311,nour@uni.example,Student\n"
        "Bo de Haa,,bo@uni.example,Student\n"
        "Sean O'Gee,,sean@uni.example,Student\n",
        [
            ("nour@uni.example", "Nour Ebadi"),
            ("bo@uni.example", "Bo de Haa"),
            ("sean@uni.example", "Sean O'Gee"),
        ],
    ),
    "GitHub Classroom": (
        '"identifier","github_username","github_id","name"\n'
        '"nebadi","nour-e","5550001",""\n'
        '"de Haa, Bo","bodh","5550002",""\n'
        '"sogee","","","Sean O\'Gee"\n',
        [("nebadi", ""), ("de Haa, Bo", "de Haa, Bo"), ("sogee", "Sean O'Gee")],
    ),
    "GitHub Classroom's grades": (
        '"assignment_name","assignment_url","starter_code_url","github_username",'
        '"roster_identifier","student_repository_name","student_repository_url",'
        '"submission_timestamp","points_awarded","points_available"\n'
        '"lab-02","https://classroom.example/a","","nour-e","nebadi","lab-02-nour-e","","","0","0"\n',
        [("nebadi", "")],
    ),
    "nbgrader's students": (
        "id,first_name,last_name,email,lms_user_id\nnebadi,Nour,Ebadi,nour@uni.example,\n",
        [("nebadi", "Nour Ebadi")],
    ),
    "nbgrader's grades": (
        "assignment,duedate,timestamp,student_id,last_name,first_name,email,raw_score,"
        "late_submission_penalty,score,max_score\n"
        "01_load_all_bug,,,nebadi,Ebadi,Nour,,0,0,0,10\n"
        "02_chunked_loop,,,nebadi,Ebadi,Nour,,0,0,0,20\n",
        [("nebadi", "Nour Ebadi")],
    ),
    "Blackboard": (
        '"Last Name"\t"First Name"\t"Username"\t"Student ID"\t"Last Access"\t"Availability"\t'
        '"Lab 02 [Total Pts: 20 Score] |664617"\n'
        '"Ebadi"\t"Nour"\t"nebadi"\t"900311"\t"2026-10-02 09:00:00"\t"Yes"\t""\n'
        '"de Haa"\t"Bo"\t"bdehaa"\t""\t""\t"Yes"\t""\n'
        '"Ter_PreviewUser"\t"Tess"\t"tter_previewuser"\t""\t""\t"Yes"\t""\n',
        [("nebadi", "Nour Ebadi"), ("bdehaa", "Bo de Haa")],
    ),
    "Excel, with the line that tells it the delimiter": (
        "sep=;\r\nstudent;name\r\nnebadi;Nour Ebadi\r\n",
        [("nebadi", "Nour Ebadi")],
    ),
    "pandas, with its index": (
        ",student_id,name\n0,nebadi,Nour Ebadi\n1,bdehaa,Bo de Haa\n",
        [("nebadi", "Nour Ebadi"), ("bdehaa", "Bo de Haa")],
    ),
    "pandas, saved twice": (
        "Unnamed: 0,Unnamed: 0.1,username,name\n0,0,nebadi,Nour Ebadi\n",
        [("nebadi", "Nour Ebadi")],
    ),
    "pandas, of Canvas' export": (
        ',Student,ID,SIS Login ID,Section\n0,    Points Possible,,,\n1,"Ebadi, Nour",3301,ne,A\n',
        [("ne", "Ebadi, Nour")],
    ),
    "names under Student": (
        "Student,Matrikelnummer\nNour Ebadi,900311\nBo de Haa,900312\n",
        [("900311", "Nour Ebadi"), ("900312", "Bo de Haa")],
    ),
    "a comma in a heading between semicolons": (
        'student;"name, first and last";group\nnebadi;Nour Ebadi;A\n',
        [("nebadi", "")],
    ),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_platforms_export_is_a_roster(tmp_path: Path, kind: str) -> None:
    text, expected = EXPORTS[kind]
    encoding = "utf-16" if kind == "Blackboard" else "utf-8"  # its .xls is tabs in UTF-16
    students = roster(tmp_path, text.encode(encoding))
    assert [(each.student, each.name) for each in students] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("username,name\nann,Ann\n,Bob\n", "line 3: there is no id in it"),
        ("sep=;\nstudent;name\nann;Ann\nann;Ann\n", "line 4: ann stands in the roster twice"),
        ("Student,ID,Section\n    Points Possible,,\n", "has no students"),
        (",,\n0,ann,Ann\n", "has no column 'student'"),
    ],
)
def test_an_export_that_names_nobody(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(GradingError, match=words):
        roster(tmp_path, text)


def test_all_columns_are_kept_for_an_export(tmp_path: Path) -> None:
    """But for those without a heading."""
    text = ",Unnamed: 0,student,E-Mail,Group,Group\n7,7,ann,ann@uni.example,A,B\n"
    (ann,) = roster(tmp_path, text)
    assert ann.columns == {"student": "ann", "E-Mail": "ann@uni.example", "Group": "A"}
