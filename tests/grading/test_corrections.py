"""Points and comments by hand: they survive every grading, and say why they are there."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streamlab.grading.adjust import Adjustments
from streamlab.grading.collect import Collection, Submission
from streamlab.grading.corrections import BY_HAND, HEADINGS, read_by_hand, with_checks, with_whole
from streamlab.grading.export.gradescope import to_gradescope
from streamlab.grading.export.job import Job
from streamlab.grading.records import (
    Comment,
    Correction,
    Mark,
    Student,
    marks_as_json,
    marks_from_json,
)
from streamlab.grading.reports import write_class_page, write_feedback, write_gradebook
from streamlab.grading.run import ClassWork, grade_class
from streamlab.grading.task import GradingError
from streamlab.grading.text import points_of
from streamlab.grading.times import HandedIn, deadline
from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult, Outcome

LAB = Lab(Path(__file__).parents[2] / "labs" / "02_chunked_loop")
STUB = (LAB.folder / "server.py").read_text()
CLASS = [Student("ann", "Ann Lee"), Student("bo", "Bo Ng")]
CAUSE = next(iter(LAB.manifest["causes"]))
HEAD = "student,cause,lab,check,points,comment,reason\n"


def result(check: str, outcome: Outcome = "passed", cause: str = "") -> CheckResult:
    known = LAB.check(check)
    points = known.points if outcome == "passed" else 0
    return CheckResult(LAB.name, check, known.kind, points, known.points, outcome, cause, "seen")


def mark_of(**outcomes: Outcome) -> Mark:
    """Ann's mark: the checks that are not named are passed."""
    results = tuple(
        result(check.id, outcomes.get(check.id, "passed"), CAUSE if check.id in outcomes else "")
        for check in LAB.checks
    )
    points = sum(each.points for each in results)
    return Mark("ann", "Ann Lee", LAB.name, points, LAB.points, "graded", "", results)


def read(tmp_path: Path, text: str) -> list[Any]:
    (tmp_path / BY_HAND).write_text(text)
    return read_by_hand(tmp_path / BY_HAND, LAB, CLASS)


def marked(tmp_path: Path, mark: Mark, rows: str) -> Mark:
    (adjusted,) = Adjustments(LAB, read(tmp_path, HEAD + rows)).adjusted([mark], Collection({}, []))
    return adjusted


# The file


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("ann,,,live,1,,why", "it names no lab: write 02"),
        (",,02,live,1,,why", "name a student or a cause, and not both"),
        (f"ann,{CAUSE},02,,,hello,", "name a student or a cause, and not both"),
        ("zoe,,02,,1,,why", "zoe is no id of the roster"),
        (",no_such,02,,,hello,", "no_such is no cause of lab 02: take its name from the class"),
        ("ann,,02,lively,1,,why", "has no check lively: write one of .*live.*the whole lab"),
        ("ann,,02,live,3,,why", "3 is no number of points: write 0 to 2, or nothing"),
        ("ann,,02,,21,,why", "write 0 to 20"),
        ("ann,,02,,-1,,why", "write 0 to 20"),
        ("ann,,02,,nan,,why", "write 0 to 20"),
        ("ann,,02,,many,,why", "many is no number"),
        ("ann,,02,live,,,why", "it has no points and no comment"),
        (f",{CAUSE},02,,1,,why", "a cause takes a comment alone"),
        ("ann,,02,live,1,,", "points by hand need a reason"),
    ],
)
def test_a_bad_row_is_one_line_with_what_to_do(tmp_path: Path, row: str, words: str) -> None:
    good = "bo,,02,,1,,why\n"
    with pytest.raises(GradingError, match=rf"by_hand\.csv, row 4: .*{words}") as raised:
        read(tmp_path, f"{HEAD}{good}\n{row}\n")
    assert "\n" not in str(raised.value)


def test_points_for_the_same_thing_twice(tmp_path: Path) -> None:
    with pytest.raises(GradingError, match="row 3: ann has points for live in row 2, too"):
        read(tmp_path, f"{HEAD}ann,,02,live,1,,a\nann,,2,live,2,,b\n")
    assert len(read(tmp_path, f"{HEAD}ann,,02,live,1,,a\nann,,02,,2,,b\nbo,,02,live,2,,b\n")) == 3


def test_a_file_that_is_none(tmp_path: Path) -> None:
    assert read_by_hand(tmp_path / BY_HAND, LAB, CLASS) == []
    for text in ("", "student,points\nann,1\n", "lab,check,points,comment,reason\n"):
        with pytest.raises(GradingError, match=rf"row 1: it needs the headings {HEADINGS[0]},"):
            read(tmp_path, text)
    (tmp_path / BY_HAND).write_bytes(b"student,lab\n\xff\n")
    with pytest.raises(GradingError, match="not UTF-8"):
        read_by_hand(tmp_path / BY_HAND, LAB, CLASS)


def test_rows_of_other_labs_and_a_spreadsheets_form(tmp_path: Path) -> None:
    """Semicolons and a decimal comma; a lab by its number or its name."""
    rows = "zoe;04;x;99;;\nann;2;live;0,5;;ok\nann;02_chunked_loop;;;hi;\n"
    lines = read(tmp_path, f"\ufeffStudent;Lab;Check;Points;Comment;Reason\n{rows}")
    assert [(each.check, each.points, each.comment) for each in lines] == [
        ("live", 0.5, ""),
        ("", None, "hi"),
    ]


# What it does


def test_a_check_gets_points_and_the_sum_follows(tmp_path: Path) -> None:
    before = mark_of(live="failed", drop="failed")
    mark = marked(tmp_path, before, "ann,,02,live,2,,it was the machine\nann,,02,drop,1,,nearly\n")
    assert mark.points == before.points + 3
    outcomes = {each.check: (each.outcome, each.cause) for each in mark.results}
    assert outcomes["live"] == ("passed", "") and outcomes["drop"] == ("failed", CAUSE)
    assert Correction("live", 0, 2, "it was the machine") in mark.by_hand
    assert marked(tmp_path, mark_of(live="failed"), "bo,,02,live,2,,x\n").by_hand == ()


def test_a_check_that_broke_is_settled_by_hand(tmp_path: Path) -> None:
    broken = mark_of(live="grader_fault", drop="grader_fault")
    broken = Mark(**{**vars(broken), "outcome": "grader_fault"})
    rows = "ann,,02,live,1,,seen by hand\n"
    assert points_of(marked(tmp_path, broken, rows)) is None  # the other one is open
    mark = marked(tmp_path, broken, rows + "ann,,02,drop,3,,seen by hand\n")
    assert mark.outcome == "graded" and points_of(mark) == broken.points + 4
    assert not any(each.evidence for each in mark.results if each.check == "live")


def test_points_for_the_whole_lab_are_final(tmp_path: Path) -> None:
    """Whatever happened, and however late it came."""
    missing = Mark("ann", "Ann Lee", LAB.name, 0, LAB.points, "missing", "nothing was handed in")
    mark = marked(tmp_path, missing, "ann,,02,,12.5,,shown in class\n")
    assert points_of(mark) == 12.5 and mark.by_hand[0].before is None
    at = HandedIn(datetime(2026, 11, 22, tzinfo=UTC), "x")
    there = Collection({"ann": Submission({"server.py": b""}, handed_in=at)}, [])
    rule = deadline("2026-11-20T00:00Z", 10)
    graded = replace(mark_of(), submission=there.submissions["ann"].sha256)
    (late,) = Adjustments(LAB, (), rule).adjusted([graded], there)
    assert late.points == 16
    lines = read(tmp_path, f"{HEAD}ann,,02,,19,,ill\n")
    (mark,) = Adjustments(LAB, lines, rule).adjusted([graded], there)
    assert mark.late is not None
    assert (mark.points, mark.late.penalty, mark.late.days) == (19, 0, 2)
    assert mark.by_hand == (Correction("", 16, 19, "ill"),)


def test_who_handed_in_nothing_can_get_points_for_a_check(tmp_path: Path) -> None:
    missing = Mark("ann", "Ann Lee", LAB.name, 0, LAB.points, "missing")
    mark = marked(tmp_path, missing, "ann,,02,live,2,,shown in class\n")
    assert points_of(mark) == 2 and mark.outcome == "graded"
    assert {each.outcome for each in mark.results} == {"passed", "not_attempted"}


def test_one_comment_reaches_all_who_have_the_cause(tmp_path: Path) -> None:
    rows = f",{CAUSE},02,,,see chapter 2,\n,{CAUSE},02,drop,,of drop,\nbo,,02,,,only for Bo,\n"
    comments = marked(tmp_path, mark_of(live="failed"), rows).comments
    assert comments == (Comment("see chapter 2", "", CAUSE),)
    both = marked(tmp_path, mark_of(drop="failed"), rows).comments
    assert [each.text for each in both] == ["see chapter 2", "of drop"]
    corrected = rows + "ann,,02,live,2,,it was right,\n"
    assert marked(tmp_path, mark_of(live="failed"), corrected).comments == ()


# Where it is shown


def test_gradebook_pages_and_exports_show_it_as_by_hand(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    rows = f"ann,,02,live,2,=1+1,{attack}\n"
    mark = marked(tmp_path, mark_of(live="failed"), rows)
    write_gradebook([mark], tmp_path / "g.csv")
    with (tmp_path / "g.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["by_hand"] == f"live: 2 points by hand, not 0: {attack}"
    assert row["comment"] == "'=1+1" and row["points"] == "20"
    page = write_feedback(LAB, mark, tmp_path).read_text()
    assert "2 points by hand, not 0: &lt;script&gt;" in page and "passed, by hand" in page
    assert "From your instructor" in page and "=1+1" in page
    write_class_page(LAB, [mark], tmp_path / "class.html")
    page = (tmp_path / "class.html").read_text()
    assert 'id="by-hand"' in page and "<script>" not in page
    to_gradescope(Job(LAB, [mark], tmp_path))
    output = json.loads((tmp_path / "ann" / "results.json").read_text())["output"]
    assert "Nobody waits for the slow: 2 points by hand, not 0" in output
    assert marks_from_json(marks_as_json([mark], CLASS))[0] == [mark]
    write_gradebook([mark_of()], tmp_path / "g.csv")
    assert "by_hand" not in (tmp_path / "g.csv").read_text()


def test_every_grading_reads_it(tmp_path: Path) -> None:
    """And nothing in a submission does: what lies there under its name counts for nothing."""
    (tmp_path / "roster.csv").write_text("student,name\nann,Ann Lee\nbo,Bo Ng\n")
    for who in ("ann", "bo"):
        folder = tmp_path / "in" / who
        folder.mkdir(parents=True)
        (folder / "server.py").write_text(STUB)
        (folder / BY_HAND).write_text(f"{HEAD}{who},,02,,20,,me\n")
    (tmp_path / "in" / BY_HAND).write_text(f"{HEAD}bo,,02,,20,,me\n")
    out = tmp_path / "out"

    def points() -> dict[str, float]:
        grade_class(ClassWork(tmp_path / "in", LAB, tmp_path / "roster.csv", out, unsafe=True))
        return {m.student: m.points for m in marks_from_json((out / "marks.json").read_text())[0]}

    assert points() == {"ann": 0, "bo": 0}
    (out / BY_HAND).write_text(f"{HEAD}ann,,02,,7,,by word of mouth\n")
    assert points() == points() == {"ann": 7, "bo": 0}
    (out / BY_HAND).write_text(f"{HEAD}ann,,02,,700,,x\n")
    with pytest.raises(GradingError, match=r"by_hand\.csv, row 2"):
        points()
    (out / BY_HAND).unlink()
    assert points() == {"ann": 0, "bo": 0}


def test_lines_are_for_their_students_alone(tmp_path: Path) -> None:
    lines = read(tmp_path, f"{HEAD}bo,,02,live,0,,x\n")
    assert with_checks(mark_of(), LAB, lines) == mark_of()
    assert with_whole(mark_of(), lines) == mark_of()
