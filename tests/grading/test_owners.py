"""Whose a file is, by the names that platforms give; what they leave open is nobody's.

The forms of the names are those of the platforms' own code: see `streamlab.grading.platforms`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.grading.names import Names
from streamlab.grading.owners import Owners, Person
from streamlab.grading.records import Student

CLASS = [
    Student("ann", "Ann Lee"),
    Student("ann.lee", "Anna Lee"),
    Student("s1234", "Jane Doe"),
    Student("s12345", "Bob Builder"),
    Student("zoe", "Zoë de la Cruz"),
    Student("dup1", "John Smith"),
    Student("dup2", "John Smith"),
    Student("sogee", "Sean O'Gee"),
    Student("tef", "Tom Ef-Gh"),
    Student("bdh", "Bo de Haa"),
    Student("ng", "Kim Poe"),
    Student("k1", "Lu Ng"),
    Student("m1", "María del Carmen López García"),
    Student("soe", "Søren Łukasz Weiß"),
    Student("xm", "王 小明"),
]


def whose(
    name: str, roster: Sequence[Student] = CLASS, **facts: object
) -> tuple[list[str], list[str]]:
    """The ids of those who get a file, and of those whose it may be."""
    owner = Owners(roster, **facts).of(name)  # type: ignore[arg-type]
    assert owner.why
    return [each.student for each in owner.students], sorted(
        {each.student for each in owner.may_be}
    )


@pytest.mark.parametrize(
    ("name", "student"),
    [
        # A person named it, by the id or the name
        ("ann", "ann"),
        ("ann.zip", "ann"),
        ("ann.tar.gz", "ann"),
        ("ann (1).zip", "ann"),
        ("ann.lee", "ann.lee"),
        ("s1234", "s1234"),
        ("S1234.ZIP", "s1234"),
        ("s12345-lab02.zip", "s12345"),
        ("lab02_s12345.zip", "s12345"),
        ("annlee", "ann"),
        ("Lee, Ann", "ann"),
        ("Lee Ann - lab 02.zip", "ann"),
        ("lab 02 (Jane Doe).zip", "s1234"),
        ("02_chunked_loop-ann.zip", "ann"),
        ("ann_server_final_v2.py", "ann"),
        ("doejane final.zip", "s1234"),
        ("Tom Ef-Gh, lab 2.zip", "tef"),
        ("sean_ogee_server.py", "sogee"),
        ("soren lukasz weiss", "soe"),
        ("王小明.zip", "xm"),
        # Canvas
        ("doejane_123_456_server-2.py", "s1234"),
        ("doejane_LATE_123_456_server.py", "s1234"),
        ("DoeJane_LATE_123_456_server.py", "s1234"),
        ("doejane_123_456_lab_02_s12345.zip", "s1234"),
        ("doejane_123_text.html", "s1234"),
        ("doejane_LATE_123_link.html", "s1234"),
        ("delacruzzoë_1_2_server.py", "zoe"),
        ("cruzzoëdela_1_2_server.py", "zoe"),
        ("ogeesean_1_2_server.py", "sogee"),
        ("efghtom_1_2_server.py", "tef"),
        ("dehaabo_1_2_server.py", "bdh"),
        ("haabode_1_2_server.py", "bdh"),
        ("lópezgarcíamaríadelcarmen_1_2_server.py", "m1"),
        ("王小明_1_2_server.py", "xm"),
        # Moodle: a folder, as it was before 4.1, without folders, text typed in
        ("Bob Builder_4711_assignsubmission_file", "s12345"),
        ("Bob Builder_4711_assignsubmission_file_", "s12345"),
        ("Bob Builder_4711_assignsubmission_file_server.py", "s12345"),
        ("Bob Builder_4711_assignsubmission_onlinetext_", "s12345"),
        ("Builder Bob_4711_assignsubmission_file_", "s12345"),
        ("Zoë de la Cruz_12_assignsubmission_file_", "zoe"),
        ("Sean OGee_12_assignsubmission_file_", "sogee"),
        ("Tom Ef-Gh_12_assignsubmission_file_", "tef"),
        ("Lu Ng_12_assignsubmission_file_", "k1"),
        ("John Smith_5_dup2_assignsubmission_file_", "dup2"),
        # Blackboard
        ("Lab 02_s1234_attempt_2026-10-02-21-00-44_server.py", "s1234"),
        ("Lab_02_ann.lee_attempt_2026-10-02-21-00-44.txt", "ann.lee"),
        # nbgrader's exchange
        ("ng+02_chunked_loop+2026-10-02 21:00:44.123456 UTC+c2VjcmV0", "ng"),
        ("ng+02_chunked_loop+2026-10-02 21:00:44 UTC", "ng"),
    ],
)
def test_a_name_belongs_to_whom_it_names(name: str, student: str) -> None:
    """However a system writes its letters: macOS takes ë apart."""
    for form in ("NFC", "NFD"):
        assert whose(unicodedata.normalize(form, name)) == ([student], [])


@pytest.mark.parametrize(
    ("name", "may_be"),
    [
        ("John Smith_5_assignsubmission_file_", ["dup1", "dup2"]),
        ("smithjohn_5_6_server.py", ["dup1", "dup2"]),
        ("John Smith.zip", ["dup1", "dup2"]),
        ("ng.zip", ["k1", "ng"]),  # an id of one, a name of another
        ("ng_server.py", ["k1", "ng"]),
        ("ann_s1234.zip", ["ann", "s1234"]),
        ("Jane Doe and Bob Builder.zip", ["s1234", "s12345"]),
        ("doejanemarie_1_2_server.py", ["s1234"]),
        ("Jane Marie Doe_5_assignsubmission_file_", ["s1234"]),
        ("ann baker.zip", ["ann"]),  # a login, and no name of hers
        ("lab02_ann_baker.zip", ["ann"]),
        ("Jane Doe Baker.zip", ["s1234"]),
        ("María López_5_assignsubmission_file_", ["m1"]),
        ("Jane Do_5_assignsubmission_file_", ["s1234"]),
        ("s1234_1_2_server.py", ["s1234"]),  # as Canvas writes a name, which it is not
        ("annabel", []),
        ("s123456", []),
        ("nobody.zip", []),
        ("1_server.py", []),
        ("...", []),
        ("anon_x7Yz1_456_server.py", []),
        ("LATE_anon_x7Yz1_456_server.py", []),
        ("submission_12345", []),
        ("Lab 02_stranger_attempt_2026-10-02-21-00-44_server.py", []),
    ],
)
def test_what_a_name_leaves_open_is_nobodys(name: str, may_be: list[str]) -> None:
    assert whose(name) == ([], may_be)


@pytest.mark.parametrize(
    "name",
    [
        "Ann Lee_4_assignsubmission_file_Bob Builder_5_assignsubmission_file_server.py",
        "leeann_1_2_builderbob_3_4_server.py",
        "Lab_ann_attempt_2026-10-02-21-00-44_Lab_s12345_attempt_2026-10-02-21-00-45_server.py",
        "Lab_ann_attempt_2026-10-02-21-00-44_x_s12345_attempt_2026-10-02-21-00-45.txt",
        "Ann Lee_4_assignsubmission_file_s12345_assignsubmission_file_.py",
        "leeann_501_9001_Lab_s12345_attempt_2026-10-02-21-00-44_server.py",
        "leeann_501_9001_Lab_s12345_attempt_2026-10-02-21-00-44.txt",
        "leeann_501_9001_s12345_assignsubmission_file_server.py",
        "Lab_ann_attempt_2026-10-02-21-00-44_builderbob_1_2_server.py",
    ],
)
def test_a_students_own_file_name_changes_nothing(name: str) -> None:
    """It stands behind what the platform wrote, and may look like that."""
    assert whose(name) == (["ann"], [])


def test_short_numbers_are_ids_alone(numbered: list[Student]) -> None:
    """Among other words, they are those of an attempt, of a copy or of a lab."""
    assert whose("3", numbered) == (["3"], [])
    assert whose("3.zip", numbered) == (["3"], [])
    for name in ("3_server.py", "server-3.py", "lab 3.zip", "server_2.py"):
        assert whose(name, numbered)[0] == []
    assert whose("roecy_1_2_server-1.py", numbered) == (["3"], [])
    assert whose("Cy Roe_1_assignsubmission_file_", numbered) == (["3"], [])


@pytest.fixture
def numbered() -> list[Student]:
    return [Student("1", "Ann Lee"), Student("2", "Bo Ng"), Student("3", "Cy Roe")]


# Numbers of platforms, as their own rosters have them


def canvas(number: str, name: str, login: str) -> Student:
    columns = {"Student": name, "ID": number, "SIS Login ID": login, "Section": "A"}
    return Student(login, name, columns)


def test_canvas_own_numbers_tell_people_of_one_name_apart() -> None:
    class_ = [canvas("501", "Smith, John", "js1"), canvas("502", "Smith, John", "js2")]
    assert whose("smithjohn_502_77_server.py", class_) == (["js2"], [])
    assert whose("smithjohn_503_77_server.py", class_) == ([], ["js1", "js2"])


def test_a_number_and_a_name_that_contradict_each_other() -> None:
    """A group's name has the number of one of its members; a stranger may have a student's name."""
    class_ = [canvas("501", "Lee, Ann", "ann"), canvas("502", "Ng, Bo", "bo")]
    assert whose("leeann_501_77_server.py", class_) == (["ann"], [])
    assert whose("leeann_502_77_server.py", class_) == ([], ["ann", "bo"])
    assert whose("leeann_999_77_server.py", class_) == ([], ["ann"])
    assert whose("group3_501_77_server.py", class_) == ([], ["ann"])


def test_moodles_numbers_are_those_of_its_worksheet() -> None:
    """Where it hides the names, too."""
    class_ = [
        Student(
            f"s{number}", "John Smith", {"Identifier": f"Participant {number}", "Full name": "x"}
        )
        for number in (71, 72)
    ]
    assert whose("John Smith_72_assignsubmission_file_", class_) == (["s72"], [])
    assert whose("Participant_71_assignsubmission_file_", class_) == (["s71"], [])
    assert whose("John Smith_73_assignsubmission_file_", class_) == ([], ["s71", "s72"])


def test_an_id_of_the_roster_is_no_number_of_canvas() -> None:
    """A column that is called ID alone may be anything."""
    class_ = [Student("1", "Ann Lee", {"ID": "1"}), Student("2", "Bo Ng", {"ID": "2"})]
    assert whose("leeann_2_1_server.py", class_) == (["1"], [])


# GitHub Classroom


def github(login: str, name: str = "", **columns: str) -> Student:
    facts = {"identifier": f"id-{login}", "github_username": login, **columns}
    return Student(f"id-{login}", name, facts)


def test_a_repository_ends_in_the_login() -> None:
    class_ = [github("ann"), github("ann-smith"), github("smith"), github("Bo-NG")]
    entries = ["lab-02-ann", "lab-02-ann-smith", "lab-02-smith", "lab-02-bo-ng"]
    owners = Owners(class_, entries)
    found = [[each.student for each in owners.of(entry).students] for entry in entries]
    assert found == [["id-ann"], ["id-ann-smith"], ["id-smith"], ["id-Bo-NG"]]


def test_a_repository_of_somebody_else() -> None:
    """Its login ends like that of a student."""
    class_ = [github("ann"), github("smith"), github("bo")]
    owners = Owners(class_, ["lab-02-ann", "lab-02-bo", "lab-02-jo-smith"])
    owner = owners.of("lab-02-jo-smith")
    assert not owner.students and [each.student for each in owner.may_be] == ["id-smith"]
    assert "begin with lab-02-" in owner.why


def test_a_repository_is_named_by_the_grades_of_its_assignment() -> None:
    class_ = [github("ann", student_repository_name="lab-02-ann-1"), github("bo")]
    assert whose("lab-02-ann-1", class_) == (["id-ann"], [])


def test_a_file_of_canvas_is_none_of_github() -> None:
    class_ = [github("ann"), github("doe", "Jane Doe")]
    assert whose("doejane_1_2_server-ann.py", class_) == (["id-doe"], [])


# What platforms write beside


def test_gradescope_says_whose_a_folder_is() -> None:
    people = {
        "submission_1": [Person("Jane Doe", ("s1234", "jane@uni.example"))],
        "submission_2": [Person("Bob Builder"), Person("Zoe de la Cruz", ("99",))],
        "submission_3": [Person("Jane Doe", ("s12345",))],
        "submission_4": [Person("John Smith")],
        "submission_5": [Person("Guest Student", ("77", "guest@uni.example"))],
        "submission_6": [Person("Bob Builder"), Person("Guest Student")],
    }
    assert whose("submission_1", people=people) == (["s1234"], [])
    assert whose("submission_2", people=people) == (["s12345", "zoe"], [])
    assert whose("submission_3", people=people) == ([], ["s1234", "s12345"])
    assert whose("submission_4", people=people) == ([], ["dup1", "dup2"])
    assert whose("submission_5", people=people) == ([], [])
    assert "not on the roster: Guest Student" in Owners(CLASS, people=people).of("submission_6").why


def test_blackboards_text_says_which_words_are_the_login() -> None:
    class_ = [Student("b", "Ann Lee"), Student("a_b", "Bo Ng")]
    moment = "2026-10-02-21-00-44"
    name = f"Lab_a_b_attempt_{moment}_server.py"
    assert whose(name, class_) == ([], ["a_b", "b"])
    people = {f"Lab_a_b_attempt_{moment}": [Person("Ann Lee", ("b",))]}
    assert whose(name, class_, people=people) == (["b"], [])


def test_folders_that_are_all_ids_are_ids() -> None:
    """As nbgrader and `streamlab collect` lay them, though an id is a name of somebody else."""
    assert whose("ng", entries=["ann", "ng", "s1234"]) == (["ng"], [])
    assert whose("ng", entries=["ann", "ng", "Jane Doe.zip"]) == ([], ["k1", "ng"])
    odd = [Student("Ann/Lee@uni", "Ann"), Student("bo", "Ann Ng")]
    assert whose("Ann-Lee-uni~2a8bc2c4e6bb", odd)[0] == []  # another hash
    from streamlab.grading.text import file_name

    assert whose(file_name("Ann/Lee@uni"), odd, entries=["bo", file_name("Ann/Lee@uni")])[0] == [
        "Ann/Lee@uni"
    ]


# Names


def test_accents_may_be_missing_unless_they_tell_two_apart() -> None:
    one = Names([Student("1", "Zoë Lee")])
    assert [each.student for each in one.find("leezoe")] == ["1"]
    two = Names([Student("1", "Zoë Lee"), Student("2", "Zoe Lee")])
    assert [each.student for each in two.find("Zoë Lee")] == ["1"]
    assert [each.student for each in two.find("Zoe Lee")] == ["1", "2"]


def test_a_name_of_very_many_words_is_no_load() -> None:
    name = " ".join(f"w{number}" for number in range(40))
    names = Names([Student("1", name)])
    assert names.find(name) and names.find(name.partition(" ")[2] + " w0")
    assert not names.within("x_" * 50_000)
    assert not names.like("x" * 100_000)


# Any name at all

PARTS = st.sampled_from(
    [
        *("_", "-", " ", ".", "1", "77", "ann", "s12345", "Lee", "builderbob", "server.py", ".zip"),
        *("LATE", "_assignsubmission_file_", "_attempt_2026-10-02-21-00-44", "+", "submission_"),
        *("anon_", "x", ",", "(1)", "\u0301", "\u00eb", "\u202e", "\x1b", "'"),
    ]
)


@given(st.lists(PARTS, min_size=1, max_size=12).map("".join) | st.text(min_size=1, max_size=60))
def test_any_name_is_somebodys_or_a_doubt(name: str) -> None:
    """With a reason, and nobody of whom nothing stands in it."""
    students, may_be = whose(name)
    assert len(students) <= 1 and not (students and may_be)


@given(st.lists(PARTS, max_size=12).map("".join))
def test_what_a_student_calls_a_file_never_changes_whose_it_is(own: str) -> None:
    """Behind the names of every platform that gives the file's own."""
    for begins in (
        "leeann_LATE_501_9001_",
        "Ann Lee_71_assignsubmission_file_",
        "Lab 02_ann_attempt_2026-10-02-21-00-44_",
    ):
        assert whose(f"{begins}{own}x") == (["ann"], [])
