"""The archive for students: what is in it, what is not, and that equal contents are equal."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import nbformat
import pytest

from streamlab import labs
from streamlab.grading.release import TOP, release
from streamlab.grading.task import GradingError

COURSE = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(
    not (COURSE / ".git").exists() or shutil.which("git") is None,
    reason="an archive is made from a git checkout",
)


def test_students_get_the_stubs_of_the_labs_that_are_given_out(tmp_path: Path) -> None:
    target = tmp_path / "week.zip"
    assert release(COURSE, target, ["2"]) == ["02_chunked_loop"]
    with zipfile.ZipFile(target) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert all(name.startswith(f"{TOP}/") for name in content)
    inside = {name.removeprefix(f"{TOP}/"): each for name, each in content.items()}
    given = {name.split("/")[1] for name in inside if name.startswith("labs/")}
    assert given == {"02_chunked_loop"}
    stub = COURSE / "labs" / "02_chunked_loop" / labs.STUBS / "server.py"
    assert inside["labs/02_chunked_loop/server.py"] == stub.read_bytes()
    assert {"Makefile", "README.md", "tools/make_environment.py"} <= set(inside)
    assert b"make test" not in inside["README.md"] + inside["Makefile"]
    private = ("solutions/", "tests/", "docs/instructors.md")
    assert not [name for name in inside if name.startswith(private)]
    solution = COURSE / "solutions" / "02_chunked_loop" / "server.py"
    assert solution.read_bytes() not in inside.values()


LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("given", [[], ["2"]], ids=["all labs", "one lab"])
def test_no_link_leads_nowhere(tmp_path: Path, given: list[str]) -> None:
    release(COURSE, tmp_path / "week.zip", given)
    with zipfile.ZipFile(tmp_path / "week.zip") as archive:
        archive.extractall(tmp_path)
    course = tmp_path / TOP
    pages = {page: page.read_text("utf-8") for page in course.rglob("*.md")}
    for notebook in course.rglob("*.ipynb"):
        cells = nbformat.read(notebook, as_version=4).cells
        pages[notebook] = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    links = [
        (page, link.partition("#")[0])
        for page, text in pages.items()
        for link in LINK.findall(re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL))
        if not re.match(r"[a-z]+:|#", link)
    ]
    assert len(links) > 10
    assert [f"{page}: {link}" for page, link in links if not (page.parent / link).exists()] == []
    later = "Lab 03 · The join trap (not handed out yet)"
    assert (later in pages[course / "notebooks" / "03_join_trap.ipynb"]) == bool(given)


def test_equal_contents_give_an_equal_archive(tmp_path: Path) -> None:
    release(COURSE, tmp_path / "a.zip", ["02"])
    release(COURSE, tmp_path / "b.zip", ["2", "02"])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_what_can_not_be_released_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(GradingError, match="no lab 77"):
        release(COURSE, tmp_path / "week.zip", ["77"])
    with pytest.raises(GradingError, match="can't be written"):
        release(COURSE, tmp_path / "nowhere" / "week.zip", ["02"])
    with pytest.raises(GradingError, match="no git checkout"):
        release(tmp_path, tmp_path / "week.zip")
