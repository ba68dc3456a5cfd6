"""A class of sixty with every oddity: each file goes to its student, to nobody, or to a person.

Every file says whose it is, so that no work can go to another without being seen. No program runs:
marks are made up.
"""

from __future__ import annotations

import csv
import gzip
import io
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from packing import tarred, zipped

from streamlab.grading import contents
from streamlab.grading.collect import Collection, collect, lay_out
from streamlab.grading.collected import COLLECTED, unclaimed, write_table
from streamlab.grading.export.formats import export
from streamlab.grading.export.job import Job
from streamlab.grading.records import Mark, Student
from streamlab.grading.roster import read_roster
from streamlab.grading.text import points_of
from streamlab.labs.manifest import Lab

ROOT = Path(__file__).parents[2]
LAB = Lab(ROOT / "solutions" / "02_chunked_loop")
MOODLE = "assignsubmission_file_"
MOMENT = "2026-10-02-21-00-44"


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


TAKEN: dict[str, tuple[str, str]] = {
    # Canvas
    "1": ("Ada Abt", "abtada_501_9001_server.py"),
    "2": ("Ben Bor", "borben_LATE_502_9002_server.py"),
    "3": ("Cy Roe", "roecy_503_9003_server-1.py"),
    "s04": ("Dee Dov", "dovdee_504_9004_server-2.py"),
    "s05": ("Sean O'Gee", "ogeesean_505_9005_server.py"),
    "s06": ("Tom Ef-Gh", "efghtom_506_9006_my_server.py"),
    "s07": ("Bo de Haa", "dehaabo_507_9007_server.py"),
    "s08": ("Zoë de la Cruz", "delacruzzoë_508_9008_server.py"),
    "s09": ("Ines Núñez Paz", nfd("núñezpazines_509_9009_server.py")),
    "s10": ("王 小明", "王小明_510_9010_server.py"),
    "s11": ("Jo King Jr.", "kingjojr_511_9011_server (3).py"),
    "s12": ("Ed Lab", "labed_512_9012_server_final.py"),
    # Moodle
    "s13": ("Ann Lee", f"Ann Lee_71_{MOODLE}/server.py"),
    "lee": ("Bo Ng", f"Bo Ng_72_{MOODLE}/server.py"),
    "s15": ("Kim Ng", f"Kim Ng_73_{MOODLE}server.py"),
    "s16": ("Sara O'Dor", f"Sara ODor_74_{MOODLE}/hw/server.py"),
    "s17": ("Leo van der Aa", "Leo van der Aa_75_assignsubmission_file/server.py"),
    "s18": ("Mia Öst", nfd(f"Mia Öst_76_{MOODLE}/server.py")),
    "s19": ("Noa Pi", f"Pi Noa_77_{MOODLE}/server copy.py"),
    "s20": ("Ole Qu", f"Ole Qu_78_{MOODLE}/server.py.txt"),
    # Blackboard, nbgrader's exchange
    "s21": ("Pat Ray", f"Lab 02_s21_attempt_{MOMENT}_server.py"),
    "s22": ("Quy San", f"Lab_02_s22_attempt_{MOMENT}_server_v2.py"),
    "s23": ("Ria Tan", "s23+02_chunked_loop+2026-10-02 21:00:44.123456 UTC+cmFuZG9t/server.py"),
    # By hand, by e-mail
    "s24": ("Sam Ulm", "s24/server.py"),
    "s25": ("Tia Vos", "s25-lab02/02_chunked_loop/server.py"),
    "s26": ("Uma Wit", "Uma Wit/server.py"),
    "s27": ("Vic Xu", "Xu, Vic/Server.py"),
    "s28": ("Wes Yan", "wes.yan@uni.example/server.py"),
    "s29": ("Xia Zed", "xia.zed/server.py"),
    "s30": ("Søren Łuk", "soren luk/server.py"),
    "s31": ("Ali Bay", "lab02_s31.py"),
    "s32": ("Bea Coy", "bea_coy_lab02.py"),
    # GitHub Classroom: the roster has the logins
    "s33": ("Cal Dun", "lab-02-caldun/server.py"),
    "s34": ("Dot Eve", "lab-02-dot-eve/labs/02_chunked_loop/server.py"),
    "s35": ("Eli Fox", "lab-02-eve/server.py"),
}
"""By id: a student's name, and the one file that was handed in."""

GITHUB = {"s33": "caldun", "s34": "dot-eve", "s35": "eve"}
STUB = b"the stub"
ENVIRONMENT = 200
"""How many files lie in the environment of an archive."""


def own(who: str) -> bytes:
    return f"# of {who}\n".encode()


PACKED: dict[str, tuple[str, dict[str, bytes]]] = {
    "s36": ("Fay Gil", {"gilfay_536_9036_lab.zip": zipped({"lab/server.py": own("s36")})}),
    "s37": (
        "Gus Hay",
        {f"Gus Hay_80_{MOODLE}/work.tar.gz": gzip.compress(tarred({"server.py": own("s37")}))},
    ),
    "s38": (
        "Hal Ito",
        {"itohal_538_9038_a.zip": zipped({"b.zip": zipped({"server.py": own("s38")})})},
    ),
    "s39": (
        "Ivy Jon",
        {
            "ivy jon.zip": zipped(
                {f"river/.venv/lib/{n}.py": b"" for n in range(ENVIRONMENT)}
                | {
                    "river/labs/02_chunked_loop/server.py": STUB,
                    "river/labs/04_headers_and_framing/server.py": b"of lab 04",
                    "river/workspace/labs/02_chunked_loop/server.py": own("s39"),
                }
            )
        },
    ),
    "s40": (
        "Jan Kay",
        {
            "kayjan_540_9040_test_server.py": b"a test",
            "kayjan_540_9041_server_final.py": own("s40"),
            "kayjan_540_9042_notes.pdf": b"%PDF",
        },
    ),
    "s41": (
        "Kai Low",
        {
            f"Lab 02_s41_attempt_{MOMENT}_server.py": b"# an earlier attempt\n",
            f"Lab 02_s41_attempt_{MOMENT}.txt": b"Name: Kai Low (s41)\n",
            "Lab 02_s41_attempt_2026-10-03-08-00-00_server.py": own("s41"),
        },
    ),
}
"""By id: those whose program is taken out of several files or an archive."""

PROBLEMS: dict[str, tuple[str, dict[str, bytes], str]] = {
    "s42": (
        "Lea Mur",
        {"murlea_542_9043_lab.ipynb": b"{}"},
        "a notebook (lab.ipynb), no server.py",
    ),
    "s43": (
        "Moe Nye",
        {f"Moe Nye_81_{MOODLE}/labs/04_headers_and_framing/server.py": b"of lab 04"},
        "04_headers_and_framing/server.py, of another lab, no server.py",
    ),
    "s44": ("Nia Orr", {"orrnia_544_9044_work.rar": b"Rar!"}, "ask for a zip file (work.rar), no"),
    "s45": ("Oda Poe", {"s45/test_server.py": b"a test"}, "test_server.py, no server.py"),
    "s46": ("Pia Rex", {"s46.zip": b"PK\3\4 torn"}, "no readable zip file"),
    "s47": (
        "Roy Sol",
        {"s47/a.zip": zipped({"server.py": b"1"}), "s47/b.zip": zipped({"server.py": b"2"})},
        "there are two of server.py: s47/a.zip/server.py and s47/b.zip/server.py",
    ),
    "s48": (
        "Sue Tor",
        {"s48.tar.gz": gzip.compress(b"\0" * 100)},
        "s48.tar.gz is no readable tar file",
    ),
    "s49": (
        "Ted Ude",
        {"udeted_549_text.html": b"<p>ill</p>"},
        "a web page (text.html), no server",
    ),
    "s50": ("Ute Val", {"s50/server.js": b"", "s50/a.md": b""}, "a.md, server.js, no server.py"),
    "s51": ("Val Woo", {f"Val Woo_82_{MOODLE}/x.7z": b"7z"}, "ask for a zip file (x.7z), no"),
}
"""By id: those whose work can't be taken, and why."""

DOUBTS: dict[str, dict[str, bytes]] = {
    "John Smith_83_assignsubmission_file_/server.py": {"s52": b"", "s53": b""},
    "joe_server.py": {"joe": b"", "s55": b""},
    "Mary Ann Ellen Low_84_assignsubmission_file_/server.py": {"s56": b""},
}
"""What may be of several, or of somebody who is not on the roster: by the ids of those."""

OTHERS = {
    "s52": "John Smith",
    "s53": "John Smith",
    "joe": "Ann Zorn",
    "s55": "Sue Joe",
    "s56": "Mary Low",
    "s57": "Gone Fishing",
    "s58": "Ill Patient",
    "s59": "Late Tomorrow",
    "s60": "Not Yet",
}
NOTHING = ("s57", "s58", "s59", "s60")
NOBODYS = {"project.zip": zipped({"server.py": b"of whom"}), "lab-02-stranger/server.py": b"x"}


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("handed-in")
    files: dict[str, bytes] = {path: own(who) for who, (_, path) in TAKEN.items()}
    for _, several in PACKED.values():
        files |= several
    for _, several, _ in PROBLEMS.values():
        files |= several
    files |= dict.fromkeys(DOUBTS, b"of whom") | NOBODYS
    files |= {"roster.csv": b"", ".DS_Store": b"", "__MACOSX/._server.py": b""}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def names() -> dict[str, str]:
    """The class: names by ids."""
    found = {who: name for who, (name, _) in TAKEN.items()}
    found |= {who: name for who, (name, _) in PACKED.items()}
    found |= {who: name for who, (name, _, _) in PROBLEMS.items()}
    return found | OTHERS


def roster_text(delimiter: str = ",", begins: str = "") -> str:
    text = io.StringIO()
    table = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    table.writerow(["", "student", "name", "email", "github_username"])
    for number, (who, name) in enumerate(names().items()):
        mail = f"{'.'.join(name.casefold().split())}@uni.example" if who in ("s28", "s29") else ""
        table.writerow([number, who, name, mail, GITHUB.get(who, "")])
    return begins + text.getvalue()


ROSTERS = {
    "pandas": roster_text().encode(),
    "Excel": roster_text(";", "\ufeffsep=;\r\n").encode(),
    "UTF-16": roster_text("\t").encode("utf-16"),
}


def read(folder: Path, roster: str) -> list[Student]:
    (folder / "roster.csv").write_bytes(ROSTERS[roster])
    return read_roster(folder / "roster.csv")


@pytest.fixture
def class_(tmp_path: Path) -> list[Student]:
    return read(tmp_path, "pandas")


@pytest.fixture(autouse=True)
def few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the environment in an archive has are too many, if they are counted."""
    monkeypatch.setattr(contents, "MOST_FILES", ENVIRONMENT - 1)


def test_a_roster_of_sixty_is_the_same_in_every_form(tmp_path: Path) -> None:
    forms = [read(tmp_path, each) for each in ROSTERS]
    assert [len(form) for form in forms] == [60, 60, 60] and forms[0] == forms[1] == forms[2]


def test_each_file_goes_where_it_belongs(handed_in: Path, class_: list[Student]) -> None:
    collection = collect(handed_in, LAB, class_)
    found = collection.submissions
    right = {who: {"server.py": own(who)} for who in (*TAKEN, *PACKED)}
    assert {who: each.programs for who, each in found.items() if each.programs} == right
    for who, (_, _, words) in PROBLEMS.items():
        assert words in found[who].problem, who
    for path, whose in DOUBTS.items():
        for who in whose:
            problem = found[who].problem
            assert problem.startswith(f"{path.partition('/')[0]} may be theirs, and was not taken")
            assert not any(
                f"{other} (" in problem for other in {*whose} - {who}
            )  # a student reads it
    assert {each.student for each in class_} - set(found) == set(NOTHING)
    states = Counter(row.state for row in collection.rows)
    assert states["in doubt"] == len(DOUBTS) + len(NOBODYS) and states["nothing"] == len(NOTHING)
    there = {entry.name for entry in handed_in.iterdir()} - {".DS_Store", "__MACOSX"}
    assert {row.file for row in collection.rows} - {""} == there  # nothing is lost


def test_it_is_the_same_twice_and_when_laid(
    handed_in: Path, class_: list[Student], tmp_path: Path
) -> None:
    first = collect(handed_in, LAB, class_)
    assert collect(handed_in, LAB, class_) == first
    assert lay_out(first, LAB, tmp_path / "class") == len(TAKEN) + len(PACKED)
    again = collect(tmp_path / "class", LAB, class_)
    assert again.submissions == first.submissions and again.unmatched == first.unmatched


def test_a_person_settles_what_is_open(
    handed_in: Path, class_: list[Student], tmp_path: Path
) -> None:
    said = {
        "John Smith_83_assignsubmission_file_": "s53",
        "joe_server.py": "joe",
        "Mary Ann*": "s56",
        "project.zip": "s57",
        "lab-02-stranger": "-",
    }
    (tmp_path / "mapping.csv").write_text(
        "file,student\n" + "".join(f"{file},{who}\n" for file, who in said.items())
    )
    settled = collect(handed_in, LAB, class_, tmp_path / "mapping.csv")
    assert not settled.unmatched
    taken = {who for who, each in settled.submissions.items() if each.programs}
    assert taken == {*TAKEN, *PACKED, "s53", "joe", "s56", "s57"}
    assert "s52" not in settled.submissions  # who has handed in nothing


def marks_of(collection: Collection, class_: list[Student]) -> list[Mark]:
    """What grading would say, with 20 points for each program."""
    marks = []
    for student in class_:
        mark = Mark(student.student, student.name, LAB.name, 0, LAB.points, "missing")
        submission = collection.submissions.get(student.student)
        if submission is not None and submission.problem:
            mark = replace(mark, outcome="could_not_run", detail=submission.problem)
        elif submission is not None:
            mark = replace(mark, outcome="graded", points=LAB.points)
        marks.append(mark)
    return marks


def test_nobody_gets_a_zero_whose_work_may_lie_there(
    handed_in: Path, class_: list[Student], tmp_path: Path
) -> None:
    """Until a person has said whose it is."""
    collection = collect(handed_in, LAB, class_)
    write_table(collection.rows, tmp_path / COLLECTED)
    marks = marks_of(collection, class_)
    assert sum(points_of(mark) is not None for mark in marks) == len(TAKEN) + len(PACKED)

    def zeros() -> set[str]:
        target = tmp_path / "moodle.csv"
        job = Job(LAB, marks, target, zero_for_missing=True, unclaimed=unclaimed(tmp_path))
        export("moodle-gradebook", job)
        with target.open(encoding="utf-8", newline="") as file:
            return {row[0] for row in csv.reader(file) if row[-1] == "0"}

    mary = "Mary Ann Ellen Low_84_assignsubmission_file_"  # like Mary Low, or anybody
    assert sorted(unclaimed(tmp_path)) == [mary, "lab-02-stranger", "project.zip"]
    assert zeros() == set()
    (tmp_path / "mapping.csv").write_text(
        "file,student\nproject.zip,-\nlab-02-stranger,-\nMary*,s56\n"
    )
    collection = collect(handed_in, LAB, class_, tmp_path / "mapping.csv")
    write_table(collection.rows, tmp_path / COLLECTED)
    assert zeros() == set(NOTHING)
