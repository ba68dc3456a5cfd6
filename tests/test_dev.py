"""Each gap in a lab is named, with what to do; a new lab has none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamlab import cli
from streamlab.dev import complete
from streamlab.dev.complete import ALL, Finding, examine, listed
from streamlab.dev.draft import Draft, clone, drafts
from streamlab.dev.new_lab import FILES, new_lab
from streamlab.labs.generate import generate
from streamlab.labs.manifest import LabError
from streamlab.labs.runner import run_checks

ROOT = Path(__file__).parents[1]
LAB = "10_new_one"


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a course with one lab, a new one, and us in its top folder."""
    for folder in ("solutions", "tests/corpora"):
        (tmp_path / folder).mkdir(parents=True)
    new_lab(tmp_path, "10", "new_one")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def draft(course: Path) -> Draft:
    """Its lab."""
    return Draft(course, LAB)


def told(findings: list[Finding]) -> dict[str, str]:
    """What is missing, by point."""
    return {each.point.name: " ".join(each.defects) for each in findings if each.defects}


Edit = Callable[[Draft], None]


def replaced(file: str, old: str, new: str) -> Edit:
    """An edit of one of the lab's files, after which labs/ is generated again, if it can be."""

    def edit(draft: Draft) -> None:
        path = draft.course / FILES[file].format(lab=draft.name)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        with suppress(LabError):
            generate(draft.lab.folder, draft.course / "labs" / draft.name)

    return edit


def removed(file: str) -> Edit:
    """An edit that removes one of the lab's files, after which labs/ is generated again."""

    def edit(draft: Draft) -> None:
        (draft.course / FILES[file].format(lab=draft.name)).unlink()
        with suppress(LabError):
            generate(draft.lab.folder, draft.course / "labs" / draft.name)

    return edit


def stays_behind(file: str) -> Edit:
    """An edit of a file in labs/, which is generated and should not be edited."""

    def edit(draft: Draft) -> None:
        with (draft.course / "labs" / draft.name / file).open("a") as lines:
            lines.write("# by hand\n")

    return edit


def without_labs(draft: Draft) -> None:
    """labs/ was never generated."""
    shutil.rmtree(draft.course / "labs" / draft.name)


PAGE = "| `GET /NAME` | the file NAME below DIR, status 200, byte for byte |\\n"
NO_HINT = 'malformed = [\n    "Compare'

IN_THE_FILES: list[tuple[str, Edit, str]] = [
    ("manifest", replaced("lab.toml", "points = 10", "points = 9"), "add up to 9. Change"),
    ("manifest", replaced("lab.toml", "points = 10", "points = 21"), "add up to 21. Change"),
    ("manifest", replaced("lab.toml", "points = 10", "points = '10'"), "[checks.bytes]"),
    ("manifest", replaced("lab.toml", 'kind = "BYTES"', ""), "a kind in capitals"),
    ("manifest", replaced("lab.toml", "[checks.bytes]", "[check]"), "Write [checks.ID]"),
    ("manifest", replaced("lab.toml", "[checks.bytes]", "[[checks]]"), "Write [checks.ID]"),
    ("manifest", replaced("lab.toml", 'title = "New', 'name = "New'), "Write title"),
    ("manifest", replaced("lab.toml", "minutes = 60", "minutes = 0"), "Write minutes"),
    ("manifest", replaced("lab.toml", '["server.py"]', "[]"), "Write programs"),
    ("manifest", replaced("lab.toml", "nproc", "npork"), "npork"),
    ("manifest", removed("server.py"), f"solutions/{LAB}/ lacks server.py. Write"),
    ("manifest", removed("lab.toml"), "lab.toml"),
    ("checks", removed("test_lab.py"), "test_lab.py can't be read"),
    ("checks", replaced("test_lab.py", "def test_bytes", "def _bytes"), "def test_bytes()"),
    ("checks", replaced("lab.ipynb", "`bytes`", "bytes"), "Write `bytes` into it"),
    ("checks", replaced("test_lab.py", "def", "def test_x(): ...\n\n\ndef"), "[checks.x]"),
    ("contract", replaced("contract.toml", "byte for byte", "bit by bit"), "promises file. Quote"),
    ("contract", replaced("contract.toml", '"bytes"', '"bits"'), "the id of one of its checks"),
    ("contract", replaced("lab.ipynb", PAGE, f"{PAGE[:-2]}\\n| a folder | 404 |\\n"), "| a folder"),
    ("contract", replaced("lab.ipynb", PAGE, PAGE.replace("|", "")), "Write one, a row for each"),
    ("corpora", removed("right.py"), f"Write tests/corpora/{LAB}/right/server__"),
    ("corpora", replaced("right.py", "# one buffer is", "one = '#'  #"), "server__one_buffer.py"),
    ("corpora", replaced("wrong.py", "# BYTES file:", "# BITES file:"), "KIND one of BYTES"),
    ("broken", replaced("wrong.py", "# BYTES file:", "# BYTES:"), "is # BYTES file: the mistake"),
    ("causes", replaced("hints.toml", NO_HINT, f"x{NO_HINT}"), "for the causes malformed."),
    ("causes", replaced("hints.toml", "\nbytes", "\nbites"), "No hints for the checks bytes."),
    ("causes", replaced("hints.toml", "[checks]", 'odd = ["Why?"]\n[checks]'), "know: odd. Say"),
    ("causes", replaced("lab.toml", '"What comes back is not HTTP."', '""'), "No text for the"),
    ("causes", replaced("lab.toml", '["no_end"', '["no_ned"'), "Mend the name"),
    ("passed", replaced("hints.toml", "[passed]", "[past]"), "under [passed]"),
    ("passed", replaced("hints.toml", "__one_buffer", "__two_buffers"), "Name one of tests/"),
    ("todo", replaced("server.py", "# # TODO: send the file", "# # send"), "has no TODO. Write"),
    ("labs", stays_behind("server.py"), "server.py: differs. Run make labs"),
    ("labs", without_labs, f"There is no labs/{LAB}/. Run make labs"),
    ("labs", replaced("server.py", "# END STUB", "# END STOP"), "SOLUTION without its BEGIN"),
]  # fmt: skip


@pytest.mark.parametrize(("point", "edit", "words"), IN_THE_FILES)
def test_what_is_missing_is_named(draft: Draft, point: str, edit: Edit, words: str) -> None:
    """The one thing that is missing is named, with what to do."""
    edit(draft)
    found = told(list(examine(Draft(draft.course, LAB), fast=True)))
    assert list(found) == [point], found
    assert words in found[point]


@pytest.mark.parametrize(
    ("edit", "points", "words"),
    [
        (
            replaced("contract.toml", 'check = "bytes"', ""),
            ["contract", "corpora", "broken"],
            "[file] in contract.toml lacks its text or its check",
        ),
        (
            replaced("wrong.py", "# BYTES file:", "# BYTES food:"),
            ["corpora", "broken"],
            "server__last_chunk_lost.py. Write the id of one into the first line",
        ),
    ],
)
def test_what_spoils_several_points_is_named_at_the_first(
    draft: Draft, edit: Edit, points: list[str], words: str
) -> None:
    edit(draft)
    found = told(list(examine(draft, fast=True)))
    assert list(found) == points
    assert words in found[points[0]]


def test_an_answer_may_break_one_of_several_promises(draft: Draft) -> None:
    """Random inputs decide which promise breaks first, so each has another answer of its own."""
    with (draft.lab.folder / "contract.toml").open("a") as file:
        file.write('\n[any-size]\ntext = "files of any size"\ncheck = "bytes"\n')
    replaced("wrong.py", "file:", "file or any-size:")(draft)
    found = told(list(examine(draft, fast=True)))
    assert list(found) == ["broken"]
    assert "No wrong answer breaks file, any-size." in found["broken"]


def test_an_answer_that_is_missing_breaks_nothing(draft: Draft) -> None:
    """Without wrong answers, their folder is empty, and no promise is broken."""
    removed("wrong.py")(draft)
    found = told(list(examine(draft, fast=True)))
    assert list(found) == ["corpora", "broken"]
    assert f"Write one into tests/corpora/{LAB}/wrong/ whose first line is" in found["broken"]


def test_a_contract_that_is_missing(draft: Draft) -> None:
    """Without a contract, its answer breaks an unknown promise."""
    removed("contract.toml")(draft)
    found = told(list(examine(draft, fast=True)))
    assert list(found) == ["contract", "corpora"]
    assert "Write one for each sentence" in found["contract"]


def test_a_line_that_is_given_away(draft: Draft) -> None:
    """A line of the solution in another program of the lab is found."""
    helper = draft.lab.folder / "helper.py"
    helper.write_text("def send(path, response):\n    response.start(path.stat().st_size)\n")
    generate(draft.lab.folder, draft.course / "labs" / LAB)
    found = told(list(examine(draft, fast=True)))
    assert list(found) == ["labs"]
    assert f"labs/{LAB}/helper.py gives a line of the solution away" in found["labs"]


def test_without_a_manifest_nothing_else_is_said(draft: Draft) -> None:
    removed("lab.toml")(draft)
    first, *others = examine(draft)
    assert first.line.startswith("no  manifest")
    assert len(others) == len(ALL) - 1
    assert {each.line[:2] for each in others} == {"--"}
    assert {each.left_out for each in others} == {"it needs the manifest"}


def test_a_finding_is_one_line(draft: Draft) -> None:
    replaced("hints.toml", "\nbytes", "\nbites")(draft)
    lines = [finding.line for finding in examine(draft, fast=True)]
    assert len(lines) == len(ALL) and not any("\n" in line for line in lines)
    assert lines[0] == "ok  manifest  lab.toml can be read, and its points add up to 10 to 20"
    assert lines[5].startswith("no  causes    No hints for the checks bytes. Write them under")
    assert lines[-1] == "--  probed    left out, because it starts servers"


def test_many_names_are_counted() -> None:
    assert listed("abc") == "a, b, c"
    assert listed("abcde") == "a, b, c and 2 more"


# With servers


@pytest.mark.needs("linux")
def test_a_new_lab_is_complete(draft: Draft) -> None:
    """A new lab is complete, and its checks tell its answers apart."""
    findings = list(examine(draft))
    assert told(findings) == {}
    assert [each.left_out for each in findings] == [""] * len(ALL)
    [wrong], [right] = draft.wrong, draft.right
    [result] = run_checks(draft.lab, {"server.py": wrong})
    assert (result.outcome, result.promise) == ("failed", "file"), result
    [result] = run_checks(draft.lab, {"server.py": right})
    assert result.outcome == "passed", result


SENDS = (
    "    # response.start(path.stat().st_size)\n    # response.write(path.read_bytes())\n"
    "    # END STUB\n"
)


@pytest.mark.needs("linux")
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            replaced("server.py", "CHUNK = ", "# BEGIN SOLUTION\n# BEGIN STUB\n# raise SystemExit"
                     "(3)\n# END STUB\n# END SOLUTION\nCHUNK = "),
            "The stub could not run",
        ),
        (replaced("server.py", "    # response.start(0)\n    # END STUB\n", SENDS), "passes bytes"),
        (replaced("lab.toml", "minutes", 'stub_passes = ["bytes"]\nminutes'), "out of stub_passes"),
        (replaced("test_lab.py", "expect_d", "1 / 0; expect_d"), "because a check broke"),
        (
            replaced("test_lab.py", "        expect", '        fail("odd", "x")\n        expect'),
            "causes without a text: odd",
        ),
    ],
)  # fmt: skip
def test_what_a_stub_does_wrong_is_named(draft: Draft, edit: Edit, words: str) -> None:
    replaced("test_lab.py", "import promise", "import fail, promise")(draft)
    edit(draft)
    [defect] = complete.stub(Draft(draft.course, LAB))
    assert words in defect


@pytest.mark.needs("linux")
def test_what_a_solution_does_wrong_is_named(draft: Draft) -> None:
    """The line has the command that shows the whole failure."""
    replaced("server.py", "response.start(path.stat().st_size)", "response.start(1)")(draft)
    [defect] = complete.solution(Draft(draft.course, LAB))
    assert defect.startswith("The solution does not pass: bytes. The first one said: GET /")
    command = re.search(r"streamlab (check solutions/\S+ --only bytes --seed \d+)\.$", defect)
    assert command
    shown = CliRunner().invoke(cli.app, command[1].split())
    assert shown.exit_code == 1 and "Every byte arrives (BYTES): 0 of 10 points" in shown.output


@pytest.mark.needs("linux")
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (replaced("test_lab.py", 'with promise("file")', "if launch"), "with promise('file'):"),
        (replaced("test_lab.py", 'promise("file")', 'promise("file", a="b")'), "promise: b. Write"),
    ],
)
def test_what_is_not_probed_is_named(draft: Draft, edit: Edit, words: str) -> None:
    edit(draft)
    [defect] = complete.probed(Draft(draft.course, LAB))
    assert words in defect


@pytest.mark.needs("linux")
def test_a_probe_may_need_another_answer_than_the_solution(draft: Draft) -> None:
    """Some probes need an answer that does what the text leaves to the student."""
    replaced("test_lab.py", 'with promise("file")', "if unusual(launch)")(draft)
    replaced(
        "test_lab.py",
        "\n\ndef test",
        "\n\ndef unusual(launch):\n    text = launch().file.read_text()\n"
        '    if "memoryview" in text:\n        with promise("file"):\n            return True\n'
        "    return True\n\n\ndef test",
    )(draft)
    assert list(complete.probed(Draft(draft.course, LAB))) == []


# Beginning a lab


def test_a_new_lab_overwrites_nothing(course: Path) -> None:
    """It overwrites no lab of that number and no file of a lab, and then writes nothing."""
    before = sorted(course.rglob("*"))
    for number, name, words in (
        ("10", "new_one", f"solutions/{LAB} is there already"),
        ("10", "other", f"solutions/{LAB} is there already"),
        ("100", "other", "no number of a lab"),
        ("1a", "other", "no number of a lab"),
        ("11", "../other", "no name of a lab"),
        ("11", "Other", "no name of a lab"),
    ):
        with pytest.raises(LabError, match=re.escape(words)):
            new_lab(course, number, name)
    shutil.rmtree(course / "solutions" / LAB)
    with pytest.raises(LabError, match=f"labs/{LAB} is there already"):
        new_lab(course, "10", "new_one")
    shutil.rmtree(course / "labs" / LAB)
    with pytest.raises(LabError, match=f"hints/{LAB}.toml is there already: remove it first"):
        new_lab(course, "10", "new_one")
    after = sorted(course.rglob("*"))
    assert [path for path in after if path not in before] == []


def test_a_number_of_one_digit(course: Path) -> None:
    assert Path("labs/07_zip") in new_lab(course, "7", "zip")
    assert [draft.name for draft in drafts("7")] == ["07_zip"]


def test_what_is_begun_is_tidy(draft: Draft) -> None:
    """Its Python files are as ruff wants them, and every template is used."""
    written = [draft.course / place.format(lab=LAB) for place in FILES.values()]
    programs = [str(path) for path in written if path.suffix == ".py"]
    assert len(programs) == 4
    settings = f"--config={ROOT / 'pyproject.toml'}"
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", settings, *programs]
        ran = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    assert not any("{{" in path.read_text() for path in written)
    templates = {path.name for path in (ROOT / "streamlab/dev/template").iterdir()}
    assert templates == {f"{name}.jinja" for name in FILES}
    notebook = json.loads((draft.lab.folder / "lab.ipynb").read_text())
    assert notebook["cells"][0]["source"][0] == "# Lab 10 · New one\n"


# The command line


def streamlab(*arguments: str) -> tuple[int, list[str], str]:
    """The exit status of the command, its lines, and what it wrote to standard error."""
    command = [sys.executable, "-c", "from streamlab.cli import main; main()", "dev", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return ran.returncode, ran.stdout.splitlines(), ran.stderr


def test_a_new_lab_passes_the_fast_check_at_once(course: Path) -> None:
    status, lines, errors = streamlab("new-lab", "11", "more")
    assert (status, errors) == (0, "")
    assert all((course / line).exists() for line in lines[:-1]) and len(lines) == len(FILES) + 2
    status, lines, errors = streamlab("check", "11", "--fast")
    assert (status, errors) == (0, "")
    assert lines[0] == "solutions/11_more" and len(lines) == len(ALL) + 1
    status, lines, errors = streamlab("new-lab", "11", "more")
    assert (status, lines) == (2, [])
    assert errors == "streamlab: solutions/11_more is there already: take another number\n"


def test_the_fast_check_fails_where_something_is_missing(course: Path) -> None:
    """Without a name it checks all labs, and fails."""
    new_lab(course, "11", "more")
    removed("right.py")(Draft(course, LAB))
    status, lines, errors = streamlab("check", "--fast")
    assert (status, errors) == (1, "")
    assert [line for line in lines if line.startswith("solutions/")] == [
        f"solutions/{LAB}",
        "solutions/11_more",
    ]
    assert sum(line.startswith("no ") for line in lines) == 1


def test_where_there_is_no_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["check"], ["new-lab", "10", "new"]):
        status, lines, errors = streamlab(*command)
        assert (status, lines) == (2, [])
        assert errors == (
            "streamlab: there are no solutions here or above: run it in a clone of the course\n"
        )


def test_the_lab_that_one_stands_in(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder in solutions/, in labs/ or in tests/corpora/; elsewhere it is all labs."""
    new_lab(course, "11", "more")
    for folder in (f"solutions/{LAB}", f"labs/{LAB}", f"tests/corpora/{LAB}/wrong"):
        monkeypatch.chdir(course / folder)
        assert [draft.name for draft in drafts()] == [LAB]
        assert clone() == course
    for folder in (".", "solutions"):
        monkeypatch.chdir(course / folder)
        assert [draft.name for draft in drafts()] == [LAB, "11_more"]
    for known in ("11", "11_more"):
        assert drafts(known) == [Draft(course, "11_more")]
    with pytest.raises(LabError, match="there is no lab 12 in solutions/: there are 10, 11"):
        drafts("12")
