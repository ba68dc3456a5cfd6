"""Equal and nearly equal programs of a class are named, and what anybody would write is not."""

from __future__ import annotations

import re
import time
from itertools import combinations
from pathlib import Path

import pytest

from streamlab.grading.collect import Collection, Submission, collect
from streamlab.grading.likeness import LEAST, Likeness, fold, likenesses
from streamlab.grading.records import Mark, Student
from streamlab.grading.reports import Beside, write_class_page
from streamlab.labs.grammar import SHORT
from streamlab.labs.manifest import Lab

ROOT = Path(__file__).parents[2]
LAB = Lab(ROOT / "labs" / "02_chunked_loop")
RIGHT = ROOT / "tests" / "corpora" / "02_chunked_loop" / "right"
STUB = (LAB.folder / "server.py").read_text()


def answer(name: str) -> str:
    return (RIGHT / f"server__{name}.py").read_text()


def class_of(**programs: str | bytes) -> Collection:
    made = {
        who: Submission({"server.py": text if isinstance(text, bytes) else text.encode()})
        for who, text in programs.items()
    }
    return Collection(made, [])


def named(**programs: str | bytes) -> list[tuple[tuple[str, ...], bool]]:
    """Who is named together, and whether as the very same."""
    return [(each.students, each.share == 1) for each in likenesses(LAB, class_of(**programs))]


def disguised(text: str) -> str:
    """The same program with other names, comments, blank lines and docstrings."""
    for name in set(re.findall(r"^def (\w+)|(\w+) = ", text, re.MULTILINE)):
        for each in filter(None, name):
            text = re.sub(rf"(?<![\w.\"-]){each}\b(?!=)", f"my_{each}", text)
    lines = [f"{line}  # of mine" if line.endswith(":") else line for line in text.split("\n")]
    return "\n\n".join(["# my own work", *lines])


def test_names_comments_and_blank_lines_do_not_count() -> None:
    text = answer("mmap_slices")
    other = disguised(text)
    compile(other, "server.py", "exec")
    assert other.count("my_") > 10 and text != other
    assert named(ann=text, bo=other, cy=answer("asyncio_drain")) == [(("ann", "bo"), True)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x: int = f(1)\n", "y = f(1)\n"),
        ('def a(b: str) -> int:\n    """Doc."""\n    return b\n', "def c(d):\n    return d\n"),
        ("import socket as s\ns.socket()\n", "import socket\nsocket.socket()\n"),
        ("class A:\n    def f(self): self.x = 1\n", "class B:\n    def g(it): it.y = 1\n"),
        ("try: f()\nexcept OSError as e: g(e)\n", "try: f()\nexcept OSError as x: g(x)\n"),
    ],
)
def test_what_is_folded_away(one: str, other: str) -> None:
    a, b = fold(one.encode()), fold(other.encode())
    assert a is not None and b is not None
    assert a.sha256 == b.sha256


@pytest.mark.parametrize(
    ("one", "other"),
    [("open(x)\n", "print(x)\n"), ("a.recv(1)\n", "a.send(1)\n"), ("f(1)\n", "f(2)\n")],
)
def test_what_a_program_does_is_not_folded_away(one: str, other: str) -> None:
    a, b = fold(one.encode()), fold(other.encode())
    assert a is not None and b is not None and a.sha256 != b.sha256


def test_a_program_with_a_line_more_is_nearly_the_same() -> None:
    text = answer("mmap_slices")
    more = disguised(text).replace("import argparse", "import argparse\nDEBUG = 1 > 2\n", 1)
    (found,) = likenesses(LAB, class_of(ann=text, bo=more))
    assert found.students == ("ann", "bo") and 0.8 <= found.share < 1


def test_different_answers_are_not_named() -> None:
    """They are by one author, who copied the frame: classes differ more."""
    names = ("asyncio_drain", "cat_to_socket", "mmap_slices", "queue_of_eight", "fork_per_client")
    assert named(**{name: answer(name) for name in names}) == []
    runs = [fold(answer(name).encode()) for name in names]
    assert all(a and b and a.sha256 != b.sha256 for a, b in combinations(runs, 2))


def test_the_stub_and_what_is_small_are_left_out() -> None:
    """Two lines that anybody would write are equal by themselves."""
    small = STUB.replace('print("asked:", request)', "pass")
    assert small != STUB
    assert named(ann=STUB, bo=STUB, cy=small, dee=small) == []
    own = fold(answer("mmap_slices").encode())
    assert own is not None and len(own.runs) > LEAST


def test_who_handed_in_one_file_together_is_not_named(tmp_path: Path) -> None:
    text = answer("mmap_slices")
    (tmp_path / "submission_metadata.yml").write_text(
        "submission_1:\n  :submitters:\n  - :sid: ann\n  - :sid: bo\n"
        "submission_2:\n  :submitters:\n  - :sid: cy\n"
    )
    for number in (1, 2):
        (tmp_path / f"submission_{number}").mkdir()
        (tmp_path / f"submission_{number}" / "server.py").write_text(text)
    class_ = [Student("ann"), Student("bo"), Student("cy")]
    found = likenesses(LAB, collect(tmp_path, LAB, class_))
    assert [each.students for each in found] == [("ann", "bo", "cy")]
    assert likenesses(LAB, collect(tmp_path, LAB, class_[:2])) == []


@pytest.mark.parametrize(
    "text",
    [
        b"(" * 16_000,
        b"-" * 16_000 + b"1",
        b"f'" + b"{x}" * 5000 + b"'",
        b"x = " + b"[" * 80 + b"]" * 80,
        b"a." * 8000 + b"b",
        b"if 1:\n" + b"".join(b" " * n + b"if 1:\n" for n in range(1, 95)) + b" " * 95 + b"x",
        b"\xff\x00",
        b"x" * (SHORT + 1),
        b"'\\ud800'\n" * 100,
    ],
)
def test_a_program_made_to_be_hard_costs_little(text: bytes) -> None:
    """It is compared byte by byte, or folded, in a moment."""
    began = time.process_time()
    assert named(ann=text, bo=text) in ([(("ann", "bo"), True)], [])
    assert time.process_time() - began < 5


def test_a_long_program_is_not_read() -> None:
    assert fold(b"x = 1\n" * (SHORT // 6)) is not None
    assert fold(b"x = 1\n" * (SHORT // 6 + 1)) is None


def test_the_page_says_the_same_program_and_no_more(tmp_path: Path) -> None:
    marks = [
        Mark(who, name, LAB.name, 1, 20, "graded")
        for who, name in (("ann", "Ann <b>Lee"), ("bo", "Bo Ng"), ("cy", ""))
    ]
    alike = [
        Likeness("server.py", ("bo", "ann", "cy")),
        Likeness("server.py", ("ann", "cy"), 0.934),
    ]
    write_class_page(LAB, marks, tmp_path / "class.html", Beside(alike=alike))
    page = (tmp_path / "class.html").read_text()
    text = " ".join(re.sub(r"<[^>]*>", "", page).split())
    assert "Bo Ng the same program as Ann &lt;b&gt;Lee, cy server.py" in text
    assert "Ann &lt;b&gt;Lee nearly the same program as cy server.py, 93 % alike" in text
    assert not re.search("cheat|plagiar|copied", page, re.IGNORECASE)
    write_class_page(LAB, marks, tmp_path / "class.html")
    assert 'id="alike"' not in (tmp_path / "class.html").read_text()
