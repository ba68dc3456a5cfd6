"""When work was handed in, from every place that says it, and what late days cost."""

from __future__ import annotations

import csv
import os
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from packing import tarred

from streamlab.grading.adjust import Adjustments
from streamlab.grading.collect import Collection, Submission, collect, lay_out
from streamlab.grading.collected import COLLECTED
from streamlab.grading.export.gradescope import to_gradescope
from streamlab.grading.export.job import Job
from streamlab.grading.records import Mark, Student, marks_as_json, marks_from_json
from streamlab.grading.reports import write_class_page, write_feedback, write_gradebook
from streamlab.grading.roster import read_roster
from streamlab.grading.run import ClassWork, grade_class
from streamlab.grading.task import GradingError
from streamlab.grading.times import (
    ARCHIVE_TIME,
    FILE_TIME,
    Deadline,
    HandedIn,
    deadline,
    file_time,
    read_time,
    shown,
    times_of_roster,
    times_of_table,
)
from streamlab.labs.manifest import Lab
from streamlab.process import sandbox

LAB = Lab(Path(__file__).parents[2] / "labs" / "02_chunked_loop")
STUB = (LAB.folder / "server.py").read_text()
CLASS = [Student("ann", "Ann Lee"), Student("bo", "Bo Ng")]
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine stands in Berlin, with its summer time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", BERLIN)
        time.tzset()
        yield
    time.tzset()


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


# Forms


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        # Gradescope: submission_metadata.yml, as YAML reads it; its grades as a CSV file
        ("2026-10-02 21:00:44+00:00", utc(2026, 10, 2, 21, 0, 44)),
        ("2022-06-25 13:16:26 -0600", utc(2022, 6, 25, 19, 16, 26)),
        # Moodle's grading worksheet, in England and in the USA, and with hours up to 24
        ("Wednesday, 10 June 2026, 2:14 PM", utc(2026, 6, 10, 12, 14)),
        ("Wednesday, September 23, 2020, 9:00 PM", utc(2020, 9, 23, 19, 0)),
        ("Tuesday, 10 November 2026, 14:14", utc(2026, 11, 10, 13, 14)),
        # Blackboard: the file's name, and its text on an attempt in the USA and in England
        ("2026-10-02-21-00-44", utc(2026, 10, 2, 19, 0, 44)),
        ("Monday, October 5, 2026 9:31:04 AM EDT", utc(2026, 10, 5, 13, 31, 4)),
        ("Monday, 5 October 2026 09:31:04 o'clock CEST", utc(2026, 10, 5, 7, 31, 4)),
        # nbgrader: the folder in the exchange
        ("2026-10-02 21:00:44.123456 UTC", utc(2026, 10, 2, 21, 0, 44)),
        ("2015-02-02 15:58:23.948203 PST", utc(2015, 2, 2, 23, 58, 23)),
        # GitHub Classroom's grades, Canvas' interface
        ("2026-09-12 14:05:33 UTC", utc(2026, 9, 12, 14, 5, 33)),
        ("2026-09-12T14:05:33Z", utc(2026, 9, 12, 14, 5, 33)),
        # a person, and this gradebook
        ("2026-11-20T23:59", utc(2026, 11, 20, 22, 59)),
        ("2026-11-20 23:59:00 +05:30", utc(2026, 11, 20, 18, 29)),
    ],
)
def test_a_time_is_read_in_the_forms_that_platforms_write(text: str, moment: datetime) -> None:
    assert read_time(text) == moment
    assert read_time(shown(read_time(text))) == moment


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("03/04/2026 10:00", "write it like"),
        ("2026-11-20", "no hour"),
        ("soon", "no hour"),
        ("", "no time"),
        ("2026-11-20T23:59 XYZ", "XYZ is not known"),
        ("2026-13-20T23:59", "write it like"),
        ("2026-11-20T23:59" + "9" * 100, "no time"),
        ("Mittwoch, 10. Juni 2026, 14:14", "write it like"),
    ],
)
def test_a_time_that_may_mean_two_things_is_none(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_time(text)


def test_letters_mean_the_zone_of_the_machine_that_calls_itself_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match="IST is not known"):
        read_time("2026-10-05 09:31 IST")
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    assert read_time("2026-10-05 09:31 IST") == utc(2026, 10, 5, 4, 1)


def test_the_time_of_a_file_that_nobody_can_have_meant_is_none() -> None:
    assert file_time(1_790_000_000.9) == utc(2026, 9, 21, 14, 13, 20)
    for odd in (0, 1e30, float("nan"), -1e30, datetime(1980, 1, 1), datetime(2900, 1, 1), None):
        assert file_time(odd) is None


# What being late costs


def days(due: str, at: datetime, **options: float) -> int:
    return deadline(due, **options).days(at)


def test_each_day_that_has_begun_counts() -> None:
    due = "2026-11-20T12:00Z"
    assert days(due, utc(2026, 11, 20, 12, 0, 59)) == 0  # the minute counts to its end
    assert days("2026-11-20T12:00:00Z", utc(2026, 11, 20, 12, 0, 59)) == 1
    assert days(due, utc(2026, 11, 20, 12, 1)) == 1
    assert days(due, utc(2026, 11, 21, 12, 0)) == 1
    assert days(due, utc(2026, 11, 21, 12, 1)) == 2
    assert days(due, utc(2027, 11, 20, 12, 1)) == 366
    assert days(due, utc(2020, 1, 1)) == 0


def test_a_day_without_an_hour_is_its_end() -> None:
    assert days("2026-11-20", utc(2026, 11, 20, 22, 59)) == 0  # 23:59 in Berlin
    assert days("2026-11-20", utc(2026, 11, 20, 23, 0)) == 1


def test_grace_forgives_and_moves_nothing() -> None:
    due = "2026-11-20T12:00Z"
    assert days(due, utc(2026, 11, 20, 12, 15), grace=15) == 0
    assert days(due, utc(2026, 11, 20, 12, 16), grace=15) == 1
    assert days(due, utc(2026, 11, 21, 12, 10), grace=15) == 2


def test_a_day_is_one_of_the_clock_on_the_wall() -> None:
    """In the night to 25 October clocks go back: that day has 25 hours."""
    assert days("2026-10-24T23:59", utc(2026, 10, 25, 22, 59)) == 1
    assert days("2026-10-24T23:59", utc(2026, 10, 25, 23, 0)) == 2
    assert days("2026-10-24T23:59+02:00", utc(2026, 10, 25, 22, 59)) == 2  # this has no summer time


def test_the_deadline_says_its_zone_and_whose_it_is() -> None:
    own = " (this machine's zone, CET)"
    assert deadline("2026-11-20T23:59").shown == f"2026-11-20 23:59:59 +01:00{own}"
    assert deadline("2026-11-20T23:59:00-05:00").shown == "2026-11-20 23:59:00 -05:00"


@pytest.mark.parametrize(
    ("late", "penalty", "most", "off"),
    [(1, 10, 100, 0.9), (3, 10, 100, 2.7), (3, 10, 20, 1.8), (30, 10, 100, 9), (1, 0, 100, 0)],
)
def test_points_are_taken_off(late: int, penalty: float, most: float, off: float) -> None:
    at = HandedIn(utc(2026, 11, 20 + late if late < 10 else 30, 11), "x")
    rule = deadline("2026-11-20T12:00Z" if late < 10 else "2026-11-01T12:00Z", penalty, 0, most)
    found = rule.lateness(at, 9)
    assert (found.penalty, found.points_before) == (off, 9)
    assert found.days == (late if late < 10 else 29)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"due": "tomorrow"}, "--due tomorrow: write it like"),
        ({"due": "20.11.2026"}, "write it like"),
        ({"penalty": -1}, "--late-penalty -1: it is a number from 0 to 100"),
        ({"penalty": float("nan")}, "--late-penalty"),
        ({"most": 101}, "--late-most 101"),
        ({"grace": -5}, "--grace -5"),
        ({"grace": float("inf")}, "--grace"),
    ],
)
def test_a_deadline_that_makes_no_sense_is_one_line(
    options: dict[str, float | str], words: str
) -> None:
    with pytest.raises(GradingError, match=words):
        deadline(**{"due": "2026-11-20", **options})  # type: ignore[arg-type]


# Where it comes from


def lay(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def handed_in(folder: Path, who: str = "ann") -> HandedIn:
    return collect(folder, LAB, CLASS).submissions[who].handed_in


def test_gradescope_says_when_in_its_own_file(tmp_path: Path) -> None:
    one = "submission_1:\n  :submitters:\n  - :name: Ann Lee\n    :sid: ann\n"
    lay(
        tmp_path,
        {
            "submission_metadata.yml": one + "  :created_at: 2026-10-02 21:00:44.5 -07:00\n"
            "submission_2:\n  :submitters:\n  - :sid: bo\n  :created_at: [nonsense]\n",
            "submission_1/server.py": "x",
            "submission_2/server.py": "y",
        },
    )
    found = handed_in(tmp_path)
    assert found == HandedIn(utc(2026, 10, 3, 4, 0, 44), "Gradescope: its own file")
    assert handed_in(tmp_path, "bo").source == FILE_TIME


def test_blackboard_says_when_in_names_and_texts(tmp_path: Path) -> None:
    """What the student wrote below counts for nothing."""
    begins = "Lab 02_{}_attempt_2026-10-02-21-00-44"
    text = "Name: Ann Lee (ann)\nAssignment: Lab\nDate Submitted: Friday, October 2, 2026 3:00:44 "
    forged = "Submission Field:\nDate Submitted: Friday, May 1, 2026 3:00:00 PM UTC\n"
    lay(
        tmp_path,
        {
            f"{begins.format('ann')}_server.py": "x",
            f"{begins.format('ann')}.txt": f"{text}PM EDT\n\n{forged}",
            f"{begins.format('bo')}_server.py": "y",
            f"{begins.format('bo')}.txt": f"Name: Bo Ng (bo)\n\n{forged}",
        },
    )
    expected = HandedIn(utc(2026, 10, 2, 19, 0, 44), "Blackboard: its own text on it")
    assert handed_in(tmp_path) == expected
    assert handed_in(tmp_path, "bo") == HandedIn(expected.at, "Blackboard: its name")


def test_of_several_attempts_the_last_says_when(tmp_path: Path) -> None:
    names = [f"Lab_ann_attempt_2026-10-0{day}-12-00-00_server.py" for day in (2, 5, 3)]
    lay(tmp_path, dict.fromkeys(names, "x"))
    assert handed_in(tmp_path).at == utc(2026, 10, 5, 10)


def test_nbgrader_says_when_in_the_name_of_the_folder(tmp_path: Path) -> None:
    """And not in timestamp.txt, which lies in the student's own folder."""
    name = "ann+lab+2026-10-02 21:00:44.123456 UTC+cmFuZG9t"
    lay(
        tmp_path,
        {
            f"{name}/server.py": "x",
            f"{name}/timestamp.txt": "2000-01-01 00:00:00 UTC",
            "bo/server.py": "y",
            "bo/timestamp.txt": "2000-01-01 00:00:00 UTC",
        },
    )
    assert handed_in(tmp_path) == HandedIn(utc(2026, 10, 2, 21, 0, 44), "nbgrader: its name")
    assert handed_in(tmp_path, "bo").source == FILE_TIME


def test_canvas_says_only_that_it_is_late(tmp_path: Path) -> None:
    lay(tmp_path, {"leeann_LATE_4712_88123_server.py": "x", "ngbo_4713_88124_server.py": "y"})
    os.utime(tmp_path / "leeann_LATE_4712_88123_server.py", (1_790_000_000, 1_790_000_000))
    found = handed_in(tmp_path)
    assert (found.said_late, found.source, found.is_sure) == ("Canvas", FILE_TIME, False)
    assert not handed_in(tmp_path, "bo").said_late
    after = deadline("2026-09-19", 10).lateness(found, 10)
    assert (after.days, after.penalty, after.unknown) == (2, 2, "")
    before = deadline("2026-09-30", 10).lateness(found, 10)  # the file is older than that
    assert (before.days, before.penalty) == (None, 0)
    assert before.unknown == "Canvas says that it is late, and not when it came"


@pytest.mark.parametrize("way", ["zip", "tar", "folder"])
def test_the_time_of_the_program_that_was_taken(tmp_path: Path, way: str) -> None:
    """A zip file has the clock on the wall, a tar file seconds; other files do not count."""
    moment = utc(2026, 9, 21, 14, 13, 20)
    if way == "zip":
        with zipfile.ZipFile(tmp_path / "ann.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo("server.py", (2026, 9, 21, 16, 13, 20)), "x")
            archive.writestr(zipfile.ZipInfo("notes.txt", (2026, 12, 1, 0, 0, 0)), "x")
    elif way == "tar":
        packed = tarred({"server.py": b"x"})
        old = b"%011o\0" % 0
        assert packed.count(old) == 1
        header = bytearray(packed[:512].replace(old, b"%011o\0" % 1_790_000_000))
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        (tmp_path / "ann.tar").write_bytes(bytes(header) + packed[512:])
    else:
        lay(tmp_path, {"ann/server.py": "x", "ann/notes.txt": "x"})
        os.utime(tmp_path / "ann/server.py", (1_790_000_000, 1_790_000_000))
    found = handed_in(tmp_path)
    assert found == HandedIn(moment, FILE_TIME if way == "folder" else ARCHIVE_TIME)


def test_a_class_that_was_laid_out_keeps_its_times(tmp_path: Path) -> None:
    files = {
        "Lab_ann_attempt_2026-10-02-21-00-44_server.py": "x",
        "ngbo_LATE_4713_88124_server.py": "y",
    }
    first = collect(lay(tmp_path / "in", files), LAB, CLASS)
    lay_out(first, LAB, tmp_path / "class")
    again = collect(tmp_path / "class", LAB, CLASS)
    assert again.submissions == first.submissions
    assert again.submissions["ann"].handed_in.is_sure
    assert again.submissions["bo"].handed_in.said_late == "Canvas"
    table = (tmp_path / "class" / COLLECTED).read_text("utf-8-sig")
    (tmp_path / "class" / COLLECTED).write_text(table.replace("2026-10-02 21", "soon"))
    with pytest.raises(GradingError, match=r"collected\.csv, ann: 'soon:00:44.*is no time"):
        collect(tmp_path / "class", LAB, CLASS)


def test_a_submission_can_not_write_its_own_time(tmp_path: Path) -> None:
    """Not by a table in its folder, in the only folder there is, or beside the programs."""
    table = "state,file,student,handed_in,handed_in_from\ntaken,ann,ann,2020-01-01 00:00 +00:00,x\n"
    times = "student,handed_in\nann,2020-01-01T00:00Z\n"
    inside = {"server.py": "x", COLLECTED: table, "times.csv": times, "by_hand.csv": times}
    inside["submission_metadata.yml"] = "ann:\n  :created_at: 2020-01-01 00:00:00 Z\n"
    lay(tmp_path / "one", {f"ann/{name}": text for name, text in inside.items()})
    lay(tmp_path / "two", {f"project/ann/{name}": text for name, text in inside.items()})
    lay(tmp_path / "two/project", {COLLECTED: table})
    for folder in ("one", "two"):
        found = handed_in(tmp_path / folder)
        assert found.source == FILE_TIME and found.at is not None and found.at > utc(2021, 1, 1)


def test_the_roster_says_when(tmp_path: Path) -> None:
    """In a column of your own, or in those of Moodle's worksheet; a dash says nothing."""
    moodle = tmp_path / "worksheet.csv"
    moodle.write_text(
        "Identifier,Full name,Email address,Status,Grade,Last modified (submission)\n"
        'Participant 71,Ann Lee,ann@x.example,late,,"Wednesday, 10 June 2026, 2:14 PM"\n'
        "Participant 72,Bo Ng,bo@x.example,No submission,,-\n"
    )
    found = times_of_roster(read_roster(moodle), moodle)
    assert found == {"ann@x.example": HandedIn(utc(2026, 6, 10, 12, 14), "the roster")}
    own = tmp_path / "roster.csv"
    own.write_text("student,name,handed_in\nann,Ann Lee,2026-06-10T14:14\nbo,Bo Ng,\n")
    assert times_of_roster(read_roster(own), own)["ann"].at == utc(2026, 6, 10, 12, 14)
    own.write_text("student,name,handed_in\nann,Ann Lee,yesterday\n")
    with pytest.raises(GradingError, match=r"roster\.csv, ann: 'yesterday' is no time"):
        times_of_roster(read_roster(own), own)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("who,when\nann,x\n", "needs the headings student and handed_in"),
        ("student,handed_in\nann,2026-06-10\n", "line 2: '2026-06-10' is no time: it has no hour"),
        ("student,handed_in\n\nzoe,2026-06-10T10:00\n", "line 3: zoe is no id of the roster"),
        ("student,handed_in\nann\n", "line 2: '' is no time"),
        ("student,handed_in\nann,2026-06-10T10:00\nann,2026-06-10T11:00\n", "line 3: ann stands"),
        ("", "needs the headings"),
    ],
)
def test_a_table_of_times_that_makes_no_sense_is_one_line(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "times.csv").write_text(text)
    with pytest.raises(GradingError, match=f"times.csv.*{words}"):
        times_of_table(tmp_path / "times.csv", CLASS)
    with pytest.raises(GradingError, match="the times can't be read"):
        times_of_table(tmp_path / "none.csv", CLASS)


# A class


def graded(tmp_path: Path, **options: object) -> dict[str, dict[str, str]]:
    """The gradebook of a class whose programs are all still the stub: no check runs."""
    out = tmp_path / "out"
    work = ClassWork(tmp_path / "in", LAB, tmp_path / "roster.csv", out, unsafe=True, **options)  # type: ignore[arg-type]
    grade_class(work)
    with (out / "gradebook.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def test_platform_then_times_then_roster_then_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "unavailable_reason", lambda: "")
    (tmp_path / "roster.csv").write_text(
        "student,handed_in\nann,2026-11-21T10:00Z\nbo,2026-11-22T10:00Z\n"
        "cy,2026-11-23T10:00Z\ndee,\neve,2026-11-23T10:00Z\n"
    )
    lay(
        tmp_path / "in",
        {
            "Lab_ann_attempt_2026-11-19-10-00-00_server.py": STUB,
            **{f"{who}/server.py": STUB for who in ("bo", "cy", "dee")},
        },
    )
    os.utime(tmp_path / "in/dee/server.py", (1_790_000_000, 1_790_000_000))
    (tmp_path / "times.csv").write_text("student,handed_in\nbo,2026-11-20T10:00Z\n")
    plain = graded(tmp_path)
    assert list(plain["ann"]) == list(reports_columns())
    rows = graded(
        tmp_path, deadline=deadline("2026-11-20T09:00Z", 10), times=tmp_path / "times.csv"
    )
    told = {who: (row["handed_in_from"], row["days_late"]) for who, row in rows.items()}
    assert told == {
        "ann": ("Blackboard: its name", "0"),
        "bo": ("times.csv", "1"),
        "cy": ("the roster", "4"),
        "dee": (FILE_TIME, "0"),
        "eve": ("", ""),
    }
    assert {key: plain["cy"][key] for key in plain["cy"]} == {
        key: rows["cy"][key] for key in plain["cy"]
    }
    assert graded(tmp_path) == plain  # without a deadline nothing is left of it


def reports_columns() -> tuple[str, ...]:
    return ("student", "name", "lab", "points", "max_points", "outcome", "detail")


def late_mark(rule: Deadline, handed_in: HandedIn, points: float = 18) -> Mark:
    there = collect_of(handed_in)
    sha256 = there.submissions["ann"].sha256
    mark = Mark("ann", "Ann Lee", LAB.name, points, LAB.points, "graded", submission=sha256)
    (late,) = Adjustments(LAB, (), rule).adjusted([mark], there)
    return late


def collect_of(handed_in: HandedIn) -> Collection:
    return Collection({"ann": Submission({"server.py": b"x"}, handed_in=handed_in)}, [])


def test_gradebook_and_pages_show_it(tmp_path: Path) -> None:
    at = HandedIn(utc(2026, 11, 22, 10), "Blackboard: its name")
    mark = late_mark(deadline("2026-11-20T23:59", 10, 15, 50), at)
    assert mark.points == 14.4
    write_gradebook([mark], tmp_path / "g.csv", late=True)
    with (tmp_path / "g.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["points"] == "14.4" and row["points_before_penalty"] == "18"
    assert (row["penalty"], row["days_late"]) == ("3.6", "2")
    assert row["due"] == "2026-11-20 23:59:59 +01:00 (this machine's zone, CET)"
    assert row["handed_in"] == "2026-11-22 10:00:00 +00:00"
    page = write_feedback(LAB, mark, tmp_path).read_text()
    for words in ("2 days late: 3.6 of 18 points are taken off", "by Blackboard: its name"):
        assert words in page
    assert "10 % of the points for each day that has begun, at most 50 %" in page
    write_class_page(LAB, [mark], tmp_path / "class.html")
    page = (tmp_path / "class.html").read_text()
    assert "Due 2026-11-20 23:59:59 +01:00" in page and 'id="late"' in page
    assert 'id="undated"' not in page
    write_class_page(LAB, [late_mark(deadline("2026-11-20"), HandedIn())], tmp_path / "class.html")
    page = (tmp_path / "class.html").read_text()
    assert "nothing says when it was handed in" in page and 'id="undated"' in page
    assert marks_from_json(marks_as_json([mark], CLASS))[0] == [mark]


def test_an_export_brings_what_is_left_and_says_why(tmp_path: Path) -> None:
    at = HandedIn(utc(2026, 11, 22, 10), "times.csv")
    mark = late_mark(deadline("2026-11-20T23:59", 10), at)
    to_gradescope(Job(LAB, [mark], tmp_path))
    text = (tmp_path / "ann" / "results.json").read_text()
    assert '"score": 14.4' in text
    assert "2 days late: 3.6 of 18 points are taken off." in text
