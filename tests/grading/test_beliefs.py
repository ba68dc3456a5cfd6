"""Guesses travel with a submission, never stand in its way, and are counted without a name."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from streamlab.grading import contents
from streamlab.grading.beliefs import FEWEST, Belief, beliefs_of
from streamlab.grading.collect import Collection, collect, lay_out
from streamlab.grading.records import Student
from streamlab.labs.manifest import Lab
from streamlab.labs.shared_guesses import FILE, LARGEST, SharedGuess, SharedGuesses

LAB = Lab(Path(__file__).parents[2] / "solutions" / "02_chunked_loop")
CLASS = [Student("ann", "Ann Lee"), Student("bo", "Bo Ng"), Student("cy", "Cy Roe")]
PROGRAM = "print('a program')\n"


def guess(said: str, outcome: str = "off", measured: str = "640 MiB", **where: str) -> SharedGuess:
    return SharedGuess(
        where.get("chapter", "01"), where.get("row", "10 clients"), said, measured, outcome
    )


def of(number: int, *guesses: SharedGuess) -> SharedGuesses:
    """What one student shares."""
    return SharedGuesses(f"{number:032x}", guesses)


def only(*said: str, measured: str = "640 MiB") -> Belief:
    """What a class that said this to one question believes."""
    [found] = beliefs_of(
        of(number, guess(each, measured=measured)) for number, each in enumerate(said)
    ).beliefs
    return found


# Counted


def test_hits_and_misses_are_counted_by_question() -> None:
    shared = [
        of(1, guess("64 MiB"), guess("1 x", "hit", row="ratio")),
        of(2, guess("640 MiB", "hit"), guess("2 x", "near", row="ratio")),
        of(3, guess("400 MiB", "near"), guess("2 x", "near", row="ratio")),
        of(4, guess("64 MiB"), guess("9 x", "off", chapter="02", row="ratio")),
    ]
    found = beliefs_of(shared, {("01", "10 clients"): "By how many MiB does it grow?"})
    assert (found.shared, found.rare) == (4, 1)
    assert [(each.row, each.hit, each.near, each.off) for each in found.beliefs] == [
        ("10 clients", 1, 1, 2),
        ("ratio", 1, 2, 0),
    ]
    assert found.beliefs[0].answers == 4
    assert [each.question for each in found.beliefs] == ["By how many MiB does it grow?", ""]


def test_what_most_have_missed_stands_first() -> None:
    """Those that are far off count before those that are near."""
    kinds = {"a": ("near", "near", "near"), "b": ("off", "hit", "hit"), "c": ("off", "off", "hit")}
    kinds["d"] = ("off", "near", "hit")
    shared = [
        of(who, *(guess("1", each[who], row=row) for row, each in kinds.items()))
        for who in range(3)
    ]
    assert [each.row for each in beliefs_of(shared).beliefs] == ["c", "d", "b", "a"]


@pytest.mark.parametrize("count", range(FEWEST))
def test_of_few_students_nothing_is_told(count: int) -> None:
    found = beliefs_of([of(number, guess("64 MiB")) for number in range(count)])
    assert (found.shared, found.beliefs, found.rare) == (count, [], 0)


def test_a_file_of_a_group_counts_once() -> None:
    """Copies of one file have one id; equal guesses in files of their own are no copies."""
    assert beliefs_of([of(1, guess("64 MiB"))] * 3).shared == 1
    assert beliefs_of([of(number, guess("64 MiB")) for number in (1, 2, 3)]).shared == 3


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (("64 MiB", "128 MiB", "32 MiB"), "median 64 MiB, half from 48 to 96"),
        (("64 MiB",) * 3, "median 64 MiB, said by half"),
        (("1 chunk", "8 chunks", "2 chunks"), "median 2 chunks, half from 1.5 to 5"),
        (("1 1/3 x", "1 x", "2 x"), "median 1.33 x, half from 1.17 to 1.67"),
        (
            ("1,048,576 bytes", "0 bytes", "-3 bytes"),
            "median 0 bytes, half from -1.5 to 524,288",
        ),
        (("second 50", "second 0", "second 9"), "median second 9, half from 4.5 to 29.5"),
        (("20 of 38 bytes",) * 3, "median 20 of 38 bytes, said by half"),
        (("201", "9", "57"), "median 57, half from 33 to 129"),
        (
            ("64 MiB", "1 MiB", "2 MiB", "much"),
            "median 2 MiB, half from 1.5 to 33; 1 in another form",
        ),
        (("64 MiB", "64 MiB", "much", "more"), "64 MiB (2 of 4)"),
        (("200 MiB", "404 MiB", "500 MiB"), "median 404 MiB, half from 302 to 452"),
        (("200", "500", "500"), "500 (2 of 3)"),
        (("404", "404", "200"), "404 (2 of 3)"),
        (("the server", "The  Server", "the kernel"), "the server (2 of 3)"),
        (("a", "b", "c"), "no two the same"),
        (("1 MiB", "1 KiB", "1 GiB"), "no two the same"),
        (
            ("{x.__class__} 1", "{x.__class__} 3", "{x.__class__} 2"),
            "median {x.__class__} 2, half from 1.5 to 2.5",
        ),
        (("1" * 200, "9" * 200, "1/0"), None),
        (("1 1/0 x", "2 1/0 x", "1 1/0 x"), "1 1/0 x (2 of 3)"),
        (("9" * 309, "8" * 309, "7" * 309), "no two the same"),
        (("\u0661", "\u0662", "\u0663"), "no two the same"),
    ],
)
def test_a_class_is_told_in_a_few_words(said: tuple[str, ...], told: str | None) -> None:
    """Of numbers the median and the middle half, of choices the most common; none is a format."""
    found = only(*said).said
    assert found == told or (told is None and len(found) < 300)


def test_what_was_measured_is_told() -> None:
    assert only("1 MiB", "2 MiB", "3 MiB", measured="641 MiB").measured == "641 MiB"
    assert only("a", "b", "c", measured="the kernel").measured == "the kernel"


# Taken along


def shared(number: int = 1, said: str = "64 MiB") -> str:
    return of(number, guess(said)).to_json()


def lay(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def zipped(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
    return packed.getvalue()


def said(collection: Collection) -> list[str]:
    return [each.guess for file in collection.shared for each in file.guesses]


@pytest.mark.parametrize(
    "name",
    [
        FILE,
        "02_chunked_loop/guesses.json",
        "workspace/guesses.json",
        "Guesses (1).json",
        "guesses-2.json",
        "labs/05_hybrid_server/guesses.json",
    ],
)
def test_guesses_are_taken_along(tmp_path: Path, name: str) -> None:
    """Beside the program, in folders and archives; the marks know nothing of them."""
    files = {"server.py": PROGRAM, name: shared()}
    lay(tmp_path / "ann", files)
    (tmp_path / "bo.zip").write_bytes(zipped(files))
    (tmp_path / "cy.tar.gz").write_bytes(tarred(files))
    found = collect(tmp_path, LAB, CLASS)
    assert said(found) == ["64 MiB"] * 3
    for each in found.submissions.values():
        assert (each.problem, each.notes) == ("", ())
    (tmp_path / "ann" / name).unlink()
    without = collect(tmp_path, LAB, CLASS)
    assert said(without) == ["64 MiB"] * 2
    assert without.submissions["ann"].sha256 == found.submissions["ann"].sha256
    assert name in next(row.program for row in found.rows if row.student == "ann")


def test_guesses_that_nobody_shared_are_not_taken(tmp_path: Path) -> None:
    """What the workspace remembers for `streamlab progress` stays the student's."""
    files = {"server.py": PROGRAM, ".streamlab/guesses.json": shared()}
    lay(tmp_path / "ann", files)
    (tmp_path / "bo.zip").write_bytes(zipped(files))
    (tmp_path / "cy.tar.gz").write_bytes(tarred(files))
    assert said(collect(tmp_path, LAB, CLASS)) == []


@pytest.mark.parametrize(
    "prefix",
    [
        "leeann_4712_88123_",
        "leeann_LATE_4712_88124_",
        "Ann Lee_4711_assignsubmission_file_",
        "ann-",
    ],
)
def test_a_platforms_name_stands_in_front(tmp_path: Path, prefix: str) -> None:
    lay(tmp_path, {f"{prefix}server.py": PROGRAM, f"{prefix}guesses.json": shared()})
    found = collect(tmp_path, LAB, CLASS)
    assert said(found) == ["64 MiB"]
    assert found.submissions["ann"].problem == "" and found.unmatched == []


def test_nobodys_guesses_are_nobodys_problem(tmp_path: Path) -> None:
    """A file of guesses that has no owner is left out; nothing is in doubt for it."""
    names = ("guesses.json", "dora-guesses.json", "zoezebra_1_2_guesses.json")
    lay(tmp_path, {"ann/server.py": PROGRAM, **dict.fromkeys(names, shared())})
    found = collect(tmp_path, LAB, CLASS)
    assert found.unmatched == [] and said(found) == []
    states = {row.file: (row.state, row.why) for row in found.rows if row.file}
    assert {states[name] for name in names} == {("left out", "guesses, and it is open whose")}


def test_of_several_the_nearest_is_taken_and_of_copies_the_last(tmp_path: Path) -> None:
    files = {
        "ann/02_chunked_loop/guesses.json": shared(said="in the lab"),
        "ann/guesses.json": shared(said="above it"),
        "ann/05_hybrid_server/guesses.json": shared(said="in another"),
        "bo/05_hybrid_server/guesses.json": shared(said="in another"),
        "bo/guesses.json": shared(said="the first"),
        "bo/guesses (10).json": shared(said="the last"),
        "bo/guesses (1).json": shared(said="one between"),
        "cy/05_hybrid_server/guesses.json": shared(said="in another"),
        "cy/my/own/guesses.json": shared(said="in none"),
    }
    lay(
        tmp_path,
        dict.fromkeys((f"{who}/server.py" for who in ("ann", "bo", "cy")), PROGRAM) | files,
    )
    assert said(collect(tmp_path, LAB, CLASS)) == ["in the lab", "the last", "in none"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "it is no JSON"),
        ("[" * 300_000, "it is nested too deeply"),
        (" " * (LARGEST + 1), "it is larger than 512 KiB"),
        (" " * (3 * LARGEST), "it is larger than 512 KiB"),
        ('{"01": {"asked": 1, "guesses": []}}', "it is no file of streamlab progress"),
        (shared().replace('"64 MiB"', "NaN"), "it has the number NaN"),
        (shared().replace('"64 MiB"', "64"), "guess 1: guess is no text"),
    ],
)
def test_broken_guesses_cost_nothing_but_themselves(tmp_path: Path, content: str, why: str) -> None:
    """One line says it, and the program is graded as it would be without them."""
    files = {"server.py": PROGRAM, FILE: content}
    lay(tmp_path / "ann", files)
    (tmp_path / "bo.zip").write_bytes(zipped(files))
    (tmp_path / "cy.tar.gz").write_bytes(tarred(files))
    found = collect(tmp_path, LAB, CLASS)
    assert said(found) == [] and found.unmatched == []
    for each in found.submissions.values():
        [note] = each.notes
        assert note.startswith(f"the guesses in guesses.json were left out: {why}")
        assert each.programs == {"server.py": PROGRAM.encode()} and each.problem == ""


def test_what_can_not_be_read_costs_nothing_either(tmp_path: Path) -> None:
    """A pipe, a folder of that name, an encrypted member, and one with a wrong checksum."""
    lay(tmp_path, {"ann/server.py": PROGRAM, "bo/server.py": PROGRAM, "bo/guesses.json/x": "x"})
    os.mkfifo(tmp_path / "ann" / FILE)
    damaged = bytearray(zipped({"server.py": PROGRAM, FILE: shared()}))
    at = damaged.rfind(b"64 MiB")
    damaged[at : at + 2] = b"65"
    (tmp_path / "cy.zip").write_bytes(damaged)
    found = collect(tmp_path, LAB, CLASS)
    assert said(found) == []
    assert {each.problem for each in found.submissions.values()} == {""}
    assert "were left out: guesses.json can't be read" not in found.submissions["bo"].notes
    for who in ("ann", "cy"):
        [note] = found.submissions[who].notes
        assert note.startswith("the guesses in guesses.json were left out: ")
        assert "can't be read" in note


def test_very_many_files_of_guesses_are_not_read(tmp_path: Path) -> None:
    """They have no room to fill that a program may need."""
    many = {f"{number}/guesses.json": " " * LARGEST for number in range(200)}
    (tmp_path / "ann.tar.gz").write_bytes(tarred({**many, "server.py": PROGRAM}))
    found = collect(tmp_path, LAB, CLASS)
    assert found.submissions["ann"].problem == ""
    assert found.submissions["ann"].programs == {"server.py": PROGRAM.encode()}
    assert LARGEST <= contents.LARGEST  # so that a member that is too large is seen to be


def test_guesses_alone_are_no_program(tmp_path: Path) -> None:
    lay(tmp_path, {"ann/guesses.json": shared()})
    found = collect(tmp_path, LAB, CLASS)
    assert found.submissions["ann"].problem == "guesses.json, no server.py"
    assert said(found) == []


def test_guesses_lie_in_the_class_folder(tmp_path: Path) -> None:
    """As they were handed in; what was left out stays out, and is said again."""
    lay(tmp_path / "in", {"ann/server.py": PROGRAM, "ann/guesses.json": shared()})
    lay(tmp_path / "in", {"bo/server.py": PROGRAM, "bo/guesses.json": "{"})
    first = collect(tmp_path / "in", LAB, CLASS)
    assert lay_out(first, LAB, tmp_path / "class") == 2
    laid = tmp_path / "class" / "ann" / LAB.name / FILE
    assert json.loads(laid.read_text()) == json.loads(shared())
    assert not (tmp_path / "class" / "bo" / LAB.name / FILE).exists()
    again = collect(tmp_path / "class", LAB, CLASS)
    assert said(again) == ["64 MiB"]
    assert again.submissions["bo"].notes == first.submissions["bo"].notes != ()
    assert again.submissions["ann"].sha256 == first.submissions["ann"].sha256
