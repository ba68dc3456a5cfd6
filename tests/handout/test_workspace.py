"""The workspace: what lies in it, and that a later version takes nothing from the student."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from links import dead_links, relative_links
from typer.testing import CliRunner

from streamlab import cli
from streamlab.handout.guesses import HandoutError, is_guess
from streamlab.handout.tree import known_files
from streamlab.handout.workspace import lay_out
from streamlab.labs import manifest, runner

COURSE = Path(__file__).resolve().parents[2]
CHAPTER = "notebooks/01_flood.ipynb"
PROGRAM = "labs/01_flood/server.py"
BESIDE = "notebooks/01_flood.new.ipynb"


def notebook(text: str, guess: str = "my_size = 64  # MiB") -> str:
    """A chapter as it lies in the course, with its outputs."""
    cells = [
        nbformat.v4.new_markdown_cell(f"{text} [lab](../labs/01_flood/lab.ipynb)", id="text"),
        nbformat.v4.new_code_cell(guess, id="size-prediction", execution_count=1),
        nbformat.v4.new_code_cell(
            "1 + 1",
            id="sum",
            execution_count=2,
            outputs=[nbformat.v4.new_output("execute_result", {"text/plain": "2"})],
        ),
    ]
    cells[1].metadata["streamlab"] = {"guess": True}
    return str(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))


def write(folder: Path, files: dict[str, str]) -> None:
    """Write files below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course of one chapter and one lab, whose program in labs/ contains a solution."""
    folder = tmp_path / "course"
    files = {
        CHAPTER: notebook("The first version."),
        "labs/01_flood/lab.toml": 'programs = ["server.py"]\n',
        "labs/01_flood/lab.ipynb": notebook("A lab."),
        "labs/01_flood/.stub/server.py": "# write it\n",
        PROGRAM: "print('somebody has solved it')\n",
        "labs/01_flood/.streamlab/results.jsonl": "{}\n",
        "labs/01_flood/__pycache__/server.pyc": "",
        "tools/student/README.md": "# For students: [licence](LICENSE), [guide](docs/guide.md)\n",
        "README.md": "# For everybody\n",
        "LICENSE": "Take it.\n",
        "docs/guide.md": "For teachers.\n",
        "apt-test.txt": "nginx-light\n",
    }
    write(folder, files)
    return folder


@pytest.fixture
def workspace(course: Path) -> Path:
    """A workspace, laid for the first time."""
    folder = course / manifest.WORKSPACE
    assert lay_out(course, folder) == ["workspace/ is yours: chapters and labs to work in."]
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for what the workspace remembers."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file != folder / manifest.LAID
    }


def test_students_get_chapters_without_answers_and_stubs(workspace: Path) -> None:
    assert sorted(files_in(workspace)) == [
        "LICENSE",
        "README.md",
        "labs/01_flood/.stub/server.py",
        "labs/01_flood/lab.ipynb",
        "labs/01_flood/lab.toml",
        "labs/01_flood/server.py",
        CHAPTER,
    ]
    assert (workspace / PROGRAM).read_text() == "# write it\n"
    readme = (workspace / "README.md").read_text()
    assert readme == "# For students: [licence](LICENSE), guide (not handed out yet)\n"
    for name in (CHAPTER, "labs/01_flood/lab.ipynb"):
        cells = nbformat.read(workspace / name, as_version=4).cells
        assert [cell.source for cell in cells[1:]] == ["my_size = ...  # MiB", "1 + 1"]
        assert all(cell.execution_count is None and cell.outputs == [] for cell in cells[1:])
        assert [cell.id for cell in cells] == ["text", "size-prediction", "sum"]
    assert is_guess(cells[1])


def test_nothing_new_says_nothing(course: Path, workspace: Path) -> None:
    before = files_in(workspace)
    assert lay_out(course, workspace) == []
    assert files_in(workspace) == before


def test_new_versions_come_to_what_is_untouched(course: Path, workspace: Path) -> None:
    write(course, {CHAPTER: notebook("The second."), "labs/01_flood/.stub/server.py": "# 2\n"})
    write(course, {"notebooks/02_cup.ipynb": notebook("A new chapter.")})
    said = ["workspace/: new versions of what you had not changed: 3 files."]
    assert lay_out(course, workspace) == said
    assert "The second." in (workspace / CHAPTER).read_text()
    assert (workspace / PROGRAM).read_text() == "# 2\n"
    assert "A new chapter." in (workspace / "notebooks/02_cup.ipynb").read_text()
    assert not [name for name in files_in(workspace) if ".new" in name]
    assert lay_out(course, workspace) == []


def set_guess(file: Path) -> None:
    """Edit a chapter as a reader does that sets a guess."""
    file.write_text(file.read_text().replace("my_size = ...", "my_size = 7"))


def run(file: Path) -> None:
    """Edit a chapter as JupyterLab does when a cell is run."""
    saved = json.loads(file.read_text())
    output = {"output_type": "stream", "name": "stdout", "text": ["hello"]}
    saved["cells"][2].update(outputs=[output], execution_count=1)
    file.write_text(json.dumps(saved))


@pytest.mark.parametrize("touch", [set_guess, run], ids=lambda each: each.__name__)
def test_a_new_version_lies_beside_what_was_changed(
    course: Path, workspace: Path, touch: Callable[[Path], None]
) -> None:
    touch(workspace / CHAPTER)
    theirs = (workspace / CHAPTER).read_bytes()
    assert lay_out(course, workspace) == [], "without a new version there is nothing to lay"
    write(course, {CHAPTER: notebook("The second.")})
    assert lay_out(course, workspace) == [
        f"{CHAPTER}: you have changed it, and it stays. "
        "The new version lies beside it: 01_flood.new.ipynb"
    ]
    assert (workspace / CHAPTER).read_bytes() == theirs
    assert "The second." in (workspace / BESIDE).read_text()
    assert lay_out(course, workspace) == [], "it is said once"
    write(course, {CHAPTER: notebook("The third.")})
    assert len(lay_out(course, workspace)) == 1
    assert "The third." in (workspace / BESIDE).read_text()
    assert (workspace / CHAPTER).read_bytes() == theirs


def test_a_program_gets_its_new_stub_beside_it(course: Path, workspace: Path) -> None:
    (workspace / PROGRAM).write_text("print('my own')\n")
    write(course, {"labs/01_flood/.stub/server.py": "# write it better\n"})
    said = lay_out(course, workspace)
    assert said[0] == "workspace/: new versions of what you had not changed: 1 file."
    assert said[1].startswith(f"{PROGRAM}: you have changed it")
    assert (workspace / PROGRAM).read_text() == "print('my own')\n"
    assert (workspace / f"{PROGRAM}.new").read_text() == "# write it better\n"


def test_what_lies_beside_is_theirs_once_they_work_in_it(course: Path, workspace: Path) -> None:
    set_guess(workspace / CHAPTER)
    write(course, {CHAPTER: notebook("The second.")})
    lay_out(course, workspace)
    set_guess(workspace / BESIDE)
    theirs = (workspace / BESIDE).read_bytes()
    write(course, {CHAPTER: notebook("The third.")})
    assert lay_out(course, workspace)[0].endswith("beside it: 01_flood.new2.ipynb")
    assert (workspace / BESIDE).read_bytes() == theirs
    assert "The third." in (workspace / "notebooks/01_flood.new2.ipynb").read_text()


def test_who_takes_the_new_version_gets_the_next_one(course: Path, workspace: Path) -> None:
    set_guess(workspace / CHAPTER)
    write(course, {CHAPTER: notebook("The second.")})
    lay_out(course, workspace)
    (workspace / BESIDE).replace(workspace / CHAPTER)
    write(course, {CHAPTER: notebook("The third.")})
    assert lay_out(course, workspace)[0].startswith("workspace/: new versions")
    assert "The third." in (workspace / CHAPTER).read_text()


def test_opening_a_notebook_does_not_change_it(course: Path, workspace: Path) -> None:
    """JupyterLab saves its own metadata then."""
    opened = json.loads((workspace / CHAPTER).read_text())
    opened["metadata"]["language_info"] = {"name": "python", "version": "3.11.7"}
    (workspace / CHAPTER).write_text(json.dumps(opened, indent=2))
    write(course, {CHAPTER: notebook("The second.")})
    assert len(lay_out(course, workspace)) == 1
    assert "The second." in (workspace / CHAPTER).read_text()


def test_a_file_that_was_deleted_comes_again(course: Path, workspace: Path) -> None:
    (workspace / CHAPTER).unlink()
    assert lay_out(course, workspace) == []
    assert (workspace / CHAPTER).is_file()


def test_files_of_their_own_stay(course: Path, workspace: Path) -> None:
    """Files of the student's own stay, also one with the name of a later chapter."""
    write(workspace, {"notebooks/02_cup.ipynb": "mine", "labs/01_flood/notes.txt": "mine"})
    write(course, {"notebooks/02_cup.ipynb": notebook("A new chapter.")})
    (course / CHAPTER).unlink()
    assert lay_out(course, workspace)[0].endswith("02_cup.new.ipynb")
    assert (workspace / "notebooks/02_cup.ipynb").read_text() == "mine"
    assert (workspace / "labs/01_flood/notes.txt").read_text() == "mine"
    assert (workspace / CHAPTER).is_file()


@pytest.mark.parametrize("memory", [None, "", "{", "[]", '{"files": 3}'])
def test_a_lost_memory_takes_nothing(course: Path, workspace: Path, memory: str | None) -> None:
    set_guess(workspace / CHAPTER)
    theirs = (workspace / CHAPTER).read_bytes()
    (workspace / manifest.LAID).unlink()
    if memory is not None:
        (workspace / manifest.LAID).write_text(memory)
    assert len(lay_out(course, workspace)) == 1
    assert (workspace / CHAPTER).read_bytes() == theirs
    assert (workspace / BESIDE).is_file()
    assert lay_out(course, workspace) == []


def test_a_folder_in_the_way_stays(course: Path, workspace: Path) -> None:
    (workspace / CHAPTER).unlink()
    (workspace / CHAPTER).mkdir()
    write(course, {CHAPTER: notebook("The second.")})
    assert "beside it" in lay_out(course, workspace)[0]
    assert (workspace / CHAPTER).is_dir() and (workspace / BESIDE).is_file()


def test_what_can_not_be_written_is_one_line(course: Path) -> None:
    (course / manifest.WORKSPACE).write_text("a file")
    with pytest.raises(HandoutError, match="workspace can't be written"):
        lay_out(course, course / manifest.WORKSPACE)


def test_no_course(tmp_path: Path) -> None:
    (tmp_path / "labs").mkdir()
    with pytest.raises(HandoutError, match="no chapters"):
        lay_out(tmp_path, tmp_path / manifest.WORKSPACE)


def test_in_a_checkout_only_what_git_knows(course: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("missing here: git: not installed")
    write(course, {"pyproject.toml": "", "solutions/01_flood/lab.toml": ""})
    assert "notebooks/left_lying.ipynb" not in known_files(course)
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", "-C", str(course), *command], check=True)
    write(course, {"notebooks/left_lying.ipynb": notebook("Somebody's own.")})
    known = known_files(course)
    assert CHAPTER in known and "notebooks/left_lying.ipynb" not in known
    shutil.rmtree(course / "solutions")
    assert "notebooks/left_lying.ipynb" in known_files(course), "a release has no git of its own"


def test_binder_makes_the_workspace() -> None:
    """It runs `postBuild` when the environment is there."""
    script = COURSE / "postBuild"
    assert script.read_text().splitlines()[-1] == "exec streamlab workspace"
    assert os.name == "nt" or os.access(script, os.X_OK)
    assert "lab/tree/workspace/notebooks/00_start_here.ipynb" in (COURSE / "README.md").read_text()


# Where the commands look for labs


def test_the_command_lays_the_workspace(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(course / "notebooks")
    for _ in range(2):
        assert CliRunner().invoke(cli.app, ["workspace"]).exit_code == 0
        monkeypatch.chdir(course / "workspace" / "notebooks")  # from there the second time
    assert (course / "workspace" / CHAPTER).is_file()
    assert not (course / "workspace" / "workspace").exists()


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        ("workspace", "workspace"),
        ("workspace/notebooks", "workspace"),
        ("workspace/labs", "workspace"),
        ("workspace/labs/01_flood", "workspace"),
        (".", "workspace"),
        ("notebooks", "workspace"),
        ("tools/student", "workspace"),
        ("labs", "."),
        ("labs/01_flood", "."),
        ("solutions/01_flood", "."),
    ],
)
def test_the_lab_that_a_student_works_on(
    course: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, here: str, expected: str
) -> None:
    write(course, {"solutions/01_flood/server.py": ""})
    monkeypatch.chdir(course / here)
    wanted = course / expected / "labs" / "01_flood"
    assert os.path.samefile(manifest.find_lab("1").folder, wanted)
    assert [lab.folder.resolve() for lab in manifest.all_labs()] == [wanted.resolve()]
    grading = manifest.find_lab("01", of_course=True)
    assert os.path.samefile(grading.folder, course / "labs" / "01_flood")
    assert os.path.samefile(manifest.course_folder(), course)


def test_a_check_says_which_lab_when_it_is_elsewhere(
    course: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workspace, {"labs/01_flood/lab.toml": "programs = []\n[checks]\n"})
    monkeypatch.setattr(runner, "run_checks", lambda lab, programs, **options: [])
    for here, said in ((course, True), (workspace / "notebooks", False)):
        monkeypatch.chdir(here)
        ran = CliRunner().invoke(cli.app, ["check", "01"])
        assert ran.exit_code == 0, ran.output
        told = f"lab 01: {Path('workspace', 'labs', '01_flood')}\n"
        assert (told in ran.stderr) == said


def test_without_a_workspace_the_labs_are_those_of_the_course(
    course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(course)
    assert os.path.samefile(manifest.find_lab("01").folder, course / "labs" / "01_flood")
    monkeypatch.chdir(course.parent)
    for find in (manifest.course_folder, manifest.work_folder):
        with pytest.raises(manifest.LabError, match="no labs folder"):
            find()


# The workspace of this course


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace that this repository gives."""
    folder = tmp_path_factory.mktemp("course") / manifest.WORKSPACE
    lay_out(COURSE, folder)
    return folder


def test_no_chapter_has_an_answer(real: Path) -> None:
    """No output, no number of execution, and no guess."""
    chapters = sorted((real / "notebooks").glob("*.ipynb"))
    notebooks = [*chapters, *real.glob("labs/*/lab.ipynb")]
    assert len(chapters) >= 10 and len(notebooks) >= 19
    for path in notebooks:
        cells = nbformat.read(path, as_version=4).cells
        code = [c for c in cells if c.cell_type == "code"]
        assert not [c.id for c in code if c.outputs or c.execution_count is not None], path.name
        prose = "".join(c.source for c in cells if c.cell_type == "markdown")
        assert "<!--" not in prose, f"{path.name}: a comment names the row of a figure"
        guesses = [cell.source for cell in code if is_guess(cell)]
        assert bool(guesses) == (path in chapters)
        assert all(" = ..." in text or ": ..." in text for text in guesses), path.name


def test_programs_are_stubs_and_nothing_private_is_there(real: Path) -> None:
    for lab in manifest.labs_in(real):
        assert not any(lab.attempted(lab.folder / name) for name in lab.programs)
    names = sorted(files_in(real))
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"LICENSE", "LICENSE-TEXT", "README.md", "docs", "labs", "notebooks"}
    assert [name for name in names if name.startswith("docs/")] == [
        "docs/bench-proxies.png",
        "docs/bench.md",
        "docs/bench.png",
        "docs/glossary.md",
    ]
    assert "make test" not in (real / "README.md").read_text()


def test_no_link_of_the_workspace_leads_nowhere(real: Path) -> None:
    assert len(relative_links(real)) > 20
    assert dead_links(real) == []


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    write(tmp_path, {"in/a.md": "[b](b.md#x), `[c](c.md)`, ![d](d.png), [e](https://e.org)"})
    write(tmp_path, {"in/b.md": "[up](../out.md), [a](a.md), [here](#top)", "out.md": ""})
    assert sorted(dead_links(tmp_path / "in")) == ["a.md: d.png", "b.md: ../out.md"]
