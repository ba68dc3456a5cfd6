"""The archive for students: what is in it, what is not, and that equal contents are equal."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from links import dead_links, pages_in, relative_links

from streamlab.grading.release import TOP, release
from streamlab.grading.task import GradingError
from streamlab.handout.guesses import HandoutError
from streamlab.handout.workspace import lay_out
from streamlab.labs import manifest

COURSE = Path(__file__).resolve().parents[2]

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
    stub = COURSE / "labs" / "02_chunked_loop" / manifest.STUBS / "server.py"
    assert inside["labs/02_chunked_loop/server.py"] == stub.read_bytes()
    assert {"Makefile", "README.md", "tools/make_environment.py"} <= set(inside)
    assert b"make test" not in inside["README.md"] + inside["Makefile"]
    private = ("solutions/", "tests/", "docs/instructors.md", "streamlab/dev/template/")
    assert not [name for name in inside if name.startswith(private)]
    assert "apt-test.txt" not in inside
    solution = COURSE / "solutions" / "02_chunked_loop" / "server.py"
    assert solution.read_bytes() not in inside.values()


@pytest.mark.parametrize("given", [[], ["2"]], ids=["all labs", "one lab"])
def test_no_link_leads_nowhere(tmp_path: Path, given: list[str]) -> None:
    course = unpacked(tmp_path, given)
    assert len(relative_links(course)) > 10
    assert dead_links(course) == []
    later = "Lab 03 · The join trap (not handed out yet)"
    chapter = course / "notebooks" / "03_join_trap.ipynb"
    assert (later in pages_in(course)[chapter]) == bool(given)


def unpacked(folder: Path, given: list[str]) -> Path:
    """A release, unpacked as students do it."""
    release(COURSE, folder / "week.zip", given)
    with zipfile.ZipFile(folder / "week.zip") as archive:
        archive.extractall(folder)
    return folder / TOP


def test_it_is_the_tree_of_the_workspace(tmp_path: Path) -> None:
    """A release has all that makes the environment, and makes that workspace again."""
    course = unpacked(tmp_path, [])
    lay_out(COURSE, tmp_path / "here")
    lay_out(course, tmp_path / "there")
    here, there, released = (
        {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }
        for folder in (tmp_path / "here", tmp_path / "there", course)
    )
    assert here == there and len(here) > 70
    del here[manifest.LAID]
    assert {name: released.pop(name) for name in here} == here
    library = [name for name in released if name.startswith("streamlab/")]
    assert "streamlab/handout/workspace.py" in library
    assert sorted(set(released) - set(library)) == [
        ".gitignore",
        "Makefile",
        "apt.txt",
        "environment.yml",
        "postBuild",
        "pyproject.toml",
        "requirements.txt",
        "tools/install_system_packages.sh",
        "tools/make_environment.py",
    ]


def test_a_later_release_brings_its_labs_to_the_workspace(tmp_path: Path) -> None:
    """Unpacked over the first one, it leaves what the student has written."""
    course = unpacked(tmp_path, ["2"])
    lay_out(course, course / "workspace")
    program = course / "workspace" / "labs" / "02_chunked_loop" / "server.py"
    program.write_text("print('my own')")
    assert unpacked(tmp_path, ["2", "3"]) == course
    assert program.read_text() == "print('my own')"
    said = lay_out(course, course / "workspace")
    assert program.read_text() == "print('my own')"
    assert (course / "workspace" / "labs" / "03_join_trap" / "client.py").is_file()
    assert len(said) == 1 and said[0].startswith("workspace/: new versions of")


def test_equal_contents_give_an_equal_archive(tmp_path: Path) -> None:
    release(COURSE, tmp_path / "a.zip", ["02"])
    release(COURSE, tmp_path / "b.zip", ["2", "02"])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_what_can_not_be_released_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HandoutError, match="no lab 77"):
        release(COURSE, tmp_path / "week.zip", ["77"])
    with pytest.raises(GradingError, match="can't be written"):
        release(COURSE, tmp_path / "nowhere" / "week.zip", ["02"])
    with pytest.raises(GradingError, match="no git checkout"):
        release(tmp_path, tmp_path / "week.zip")
