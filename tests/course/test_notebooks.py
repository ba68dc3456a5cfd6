"""Every saved notebook keeps the rules, and each rule has a case that breaks it."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import notebook_rules as rules
import pytest
from nbformat import NotebookNode, v4
from notebook_rules import FOR_ALL, FOR_LESSONS, ROOT, Rule, Saved

from streamlab.files import MiB
from streamlab.lesson.verdicts import below, multiple_of, row, verdicts

LESSONS = rules.lessons()
LABS = rules.lab_notebooks()


def name_of(saved: Saved) -> str:
    """A notebook's name in the report of the tests."""
    return saved.path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("rule", FOR_ALL, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("saved", [*LESSONS, *LABS], ids=name_of)
def test_notebook_keeps(saved: Saved, rule: Rule) -> None:
    assert rule(saved) == []


@pytest.mark.parametrize("rule", FOR_LESSONS, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("saved", LESSONS, ids=name_of)
def test_lesson_keeps(saved: Saved, rule: Rule) -> None:
    assert rule(saved) == []


def test_there_are_lessons_and_one_shows_a_failing_verdict() -> None:
    ids = [cell.id for saved in LESSONS for cell in saved.code]
    assert [saved.path.name[:2] for saved in LESSONS[:3]] == ["00", "01", "02"]
    assert ids.count(rules.FAILING_ON_PURPOSE) == 1


# The settings of nbval


def test_the_sanitizer_blanks_nothing_but_the_live_figure() -> None:
    lines = (ROOT / "nbval.cfg").read_text().splitlines()
    [pattern] = [line.removeprefix("regex: ") for line in lines if line.startswith("regex: ")]
    table = verdicts(row("one", below(5, MiB)), row("two", multiple_of(3, 2)))
    shown = table._repr_mimebundle_()[0]["text/html"]
    blanked = re.sub(pattern, "", shown)
    assert len(re.findall(pattern, shown)) == 2
    assert "5 B" in shown and "5 B" not in blanked
    assert "below 1 MiB" in blanked and "1.50 x file (no whole multiple)" in blanked


def test_nbval_is_strict_in_the_settings() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    options = settings["ini_options"]["addopts"]
    runner = (ROOT / "tools" / "run_tests.py").read_text()
    assert "--nbval-sanitize-with=nbval.cfg" in options
    assert "--nbval-current-env" in options
    assert '"--nbval"' in runner
    assert "lax" not in runner + " ".join(options)


# Rules seen to fail


def picture(blank: bool = False) -> str:
    """A small PNG, encoded."""
    from matplotlib.figure import Figure

    figure, buffer = Figure(figsize=(1, 1)), io.BytesIO()
    if not blank:
        figure.subplots().plot([1, 2], [1, 4])
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def table(size: float) -> dict[str, str]:
    """What a cell shows that measured `size` and expected less than 1 MiB."""
    return verdicts(row("streaming", below(size, MiB)))._repr_mimebundle_()[0]


def guessed(*names: str) -> dict[str, str]:
    """What a cell shows that compares guesses of 1 KiB, in rows of these names."""
    rows = [row(name, below(5, MiB), 1, "{} KiB") for name in names]
    return verdicts(*rows)._repr_mimebundle_()[0]


TITLE = """# 07 · A test

*About 5 minutes.*

**Questions**

- Does it work?

**Objectives.** After this chapter you can

- see it work,
- go on.
"""
QUIZ = """## Quiz

**1.** Does it work?

<details><summary>Answer</summary>

Yes.

</details>
"""


def small_lesson(folder: Path) -> Saved:
    """A lesson that keeps every rule."""
    (folder / "08_next.ipynb").touch()
    prose = {
        "title": TITLE,
        "key-points": "## Key points\n\n- It works.",
        "quiz": QUIZ,
        "next": "## Next\n\nSee [the next chapter](08_next.ipynb#start), or [the web](https://example.org).",
    }
    code: dict[str, tuple[str, dict[str, str] | str]] = {
        "setup": ("%load_ext streamlab\nfrom streamlab import below", ""),
        "stream": ('%%server stream\nprint("hello")', "stream runs.\n"),
        "measure-stream": ("below(1, 2)", table(5)),
        "chart": ("below(2, 3)", {"text/plain": "Chart: it is flat.", "image/png": picture()}),
        "honest": ("below(3, 2)", table(5 * MiB)),
        "prediction": ("my_size = 1  # MiB\nmine = {1 * KiB: 1}", ""),
        "predicted": (
            "row(1, below(1, 2), my_size)\n[row(2, 3, mine[key]) for key in mine]",
            guessed("one", "two"),
        ),
        "score": (
            'from streamlab import score\n\nscore("07")',
            {"text/plain": "Chapter 07: 2 of 2 guesses made"},
        ),
    }
    cells = [v4.new_markdown_cell(source, id=name) for name, source in prose.items()]
    for number, (name, (source, shown)) in enumerate(code.items(), start=1):
        outputs = []
        if isinstance(shown, dict):
            outputs = [v4.new_output("execute_result", shown, execution_count=number)]
        elif shown:
            outputs = [v4.new_output("stream", name="stdout", text=shown)]
        cell = v4.new_code_cell(source, id=name, execution_count=number, outputs=outputs)
        if name == "prediction":
            cell.metadata = NotebookNode(streamlab={"guess": True})
        for output in outputs if name == "predicted" else ():
            output.metadata = {"streamlab": {"one": "51.3 x", "two": "4.06 MiB", "none": "yes"}}
        cells.insert(number, cell)
    question = v4.new_markdown_cell("**How large is it?** A guess: small.", id="question")
    cells.insert([cell.id for cell in cells].index("prediction"), question)
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {
        "kernelspec": kernel,
        "language_info": {"name": "python"},
        "streamlab": {"needs": ["linux"]},
    }
    return Saved(folder / "07_test.ipynb", v4.new_notebook(cells=cells, metadata=metadata))


@pytest.mark.parametrize("rule", [*FOR_ALL, *FOR_LESSONS], ids=lambda rule: rule.__name__)
def test_rule_accepts_a_good_lesson(rule: Rule, tmp_path: Path) -> None:
    assert rule(small_lesson(tmp_path)) == []


Break = Callable[[Any], Any]


def cell(node: Any, name: str) -> Any:
    """The cell with an id."""
    return next(each for each in node.cells if each.id == name)


def source(name: str, old: str, new: str) -> Break:
    """Break a lesson by other words in a cell; `old` has to be there."""

    def change(node: Any) -> None:
        assert old in cell(node, name).source
        cell(node, name).source = cell(node, name).source.replace(old, new)

    return change


def attribute(name: str, key: str, value: Any) -> Break:
    """Break a lesson by another value of a cell."""
    return lambda node: cell(node, name).update({key: value})


def data(name: str, **kinds: str | None) -> Break:
    """Break a lesson by other data in a cell's output; None takes a kind away."""

    def change(node: Any) -> None:
        shown = cell(node, name).outputs[0].data
        for kind, value in kinds.items():
            shown[kind.replace("_", "/")] = value
            if value is None:
                del shown[kind.replace("_", "/")]

    return change


def adds_output(cell_id: str, kind: str, **values: Any) -> Break:
    """Break a lesson by one more output of a cell."""
    return lambda node: cell(node, cell_id).outputs.append(v4.new_output(kind, **values))


def without(name: str) -> Break:
    """Break a lesson by taking a cell out."""
    return lambda node: node.cells.remove(cell(node, name))


def shows(name: str, size: float) -> Break:
    """Break a lesson by another measurement."""
    return lambda node: cell(node, name).outputs[0].update(data=table(size))


def outputs_of(name: str, shown: dict[str, str]) -> Break:
    """Break a lesson by what a cell shows."""
    return lambda node: cell(node, name).outputs[0].update(data=shown)


def no_live_figure(node: Any) -> None:
    """Break a lesson by tables that show no figure just measured."""
    for name in ("measure-stream", "honest", "predicted"):
        shown = cell(node, name).outputs[0].data
        shown["text/html"] = shown["text/html"].replace('class="live"', "")


ALL_LIVE = '<table><tr><td>a</td><td></td><td class="live">5 MiB</td></tr></table>'

BREAKS: dict[Rule, list[tuple[str, Break]]] = {
    rules.every_cell_ran_in_order: [
        ("stream: number None", attribute("stream", "execution_count", None)),
        ("stream: number 7", attribute("stream", "execution_count", 7)),
        ("chart", lambda node: cell(node, "chart").outputs[0].update(execution_count=9)),
    ],
    rules.no_cell_escapes_comparison: [
        ("nbval", attribute("stream", "metadata", {"tags": ["nbval-ignore-output"]})),
        ("nbval", attribute("stream", "metadata", {"tags": ["nbval-skip"]})),
        ("raises-exc", attribute("stream", "metadata", {"tags": ["raises-exception"]})),
        ("nbval", attribute("stream", "metadata", {"tags": ["nbval-raises-exception"]})),
        ("NBVAL", source("stream", "print", "# NBVAL_IGNORE_OUTPUT\nprint")),
        ("NBVAL", source("measure-stream", "below", "# NBVAL_SKIP\nbelow")),
        ("NBVAL", source("measure-stream", "below", "  ## NBVAL_RAISES_EXCEPTION\nbelow")),
        ("PYTEST", source("stream", "print", "# PYTEST_VALIDATE_IGNORE_OUTPUT\nprint")),
        ("nbval", lambda node: node.metadata.update(nbval={"skip": True})),
    ],
    rules.no_error_output: [
        ("KeyError", adds_output("chart", "error", ename="KeyError", evalue="", traceback=[])),
        ("stderr", adds_output("chart", "stream", name="stderr", text="a warning")),
    ],
    rules.nothing_of_this_machine: [
        ("/root/x", adds_output("chart", "stream", name="stdout", text="in /root/x")),
        ("/work/main", adds_output("chart", "stream", name="stdout", text='"/work/main/a"')),
        ("/Users/me", adds_output("chart", "stream", name="stdout", text="/Users/me/a.py")),
        (r"C:\\Users", adds_output("chart", "stream", name="stdout", text=r"C:\\Users\\me")),
        (r"C:\Users", adds_output("chart", "stream", name="stdout", text=r"C:\Users\me")),
        (":8123", adds_output("chart", "stream", name="stdout", text="http://127.0.0.1:8123/")),
        ("0x7f", data("chart", text_plain="the chart <Axes at 0x7f12deadbeef>")),
        (
            "/tmp/x",
            adds_output("chart", "error", ename="E", evalue="", traceback=["File /tmp/x.py"]),
        ),
    ],
    rules.normalised: [
        ("version", lambda node: node.metadata.language_info.update(version="3.11.7")),
        ("kernelspec", lambda node: node.metadata.kernelspec.update(name="my-venv")),
        ("widgets", lambda node: node.metadata.update(widgets={})),
        ("execution", attribute("stream", "metadata", {"execution": {"iopub": "2026"}})),
        ("twice", attribute("chart", "id", "stream")),
        ("no slug", attribute("chart", "id", "3f2a77b1-0c")),
        ("no slug", attribute("chart", "id", "The_Chart")),
        ("metadata", attribute("prediction", "metadata", {"streamlab": {"guess": 1, "x": 2}})),
        ("attachments", attribute("quiz", "attachments", {"a.png": {"image/png": ""}})),
        ("not valid", attribute("chart", "outputs", [{"output_type": "strange"}])),
    ],
    rules.needs_are_known: [
        ("curll", lambda node: node.metadata.streamlab.update(needs=["curll"])),
    ],
    rules.cells_fit_on_a_screen: [
        ("41 lines", attribute("chart", "source", "\n".join(["x = 1"] * 41))),
    ],
    rules.charts_are_pictures_with_words: [
        ("without words", data("chart", text_plain=None)),
        ("without words", data("chart", text_plain="<Figure size 640x480 with 1 Axes>")),
        ("no picture", data("chart", image_png=None)),
        ("blank", data("chart", image_png=picture(blank=True))),
        ("no PNG", data("chart", image_png="aGVsbG8=")),
        (
            "has to be",
            lambda node: cell(node, "chart").outputs[0].data.update({"image/svg+xml": ""}),
        ),
    ],
    rules.links_lead_somewhere: [
        ("09_gone.ipynb", source("next", "08_next", "09_gone")),
        ("gone.png", source("quiz", "Yes.", "![flat](gone.png)")),
        ("gone.html", source("quiz", "Yes.", '<a href="gone.html">there</a>')),
        ("/etc", source("quiz", "Yes.", "[there](/etc)")),
    ],
    rules.code_is_tidy: [
        ("F401", source("stream", "print", "import os\n\nprint")),
        ("stream.py", source("stream", '"hello"', "'hello'")),
        ("F841", source("chart", "below(2, 3)", "def f():\n    x = 1")),
        ("cells.ipynb", source("chart", "2, 3", "2,3")),
    ],
    rules.guesses_are_marked: [
        ("sets my_size, and is not marked", attribute("prediction", "metadata", {})),
        ("shows my_size as a guess, which", attribute("prediction", "metadata", {})),
        ("more than set", source("prediction", "# MiB", "\nprint(my_size)")),
        ("more than set", source("prediction", "my_size = 1", "my_size, my_other = 1")),
        ("more than set", source("prediction", "{1 * KiB", "{**mine, 1 * KiB")),
        ("CUP is no name", source("prediction", "mine", "CUP")),
        ("shows f'{my_size} MiB' as", source("predicted", "my_size", 'f"{my_size} MiB"')),
        ("shows 5 as a guess", source("predicted", "my_size", "5")),
        ("shows my_other as", source("predicted", "my_size", "predicted=my_other")),
        ("shows my_size / 2 as", source("predicted", "my_size", "my_size / 2")),
        (
            "shows my_other as",
            source("predicted", "row(1", "growth_chart(predicted={1: my_other})#"),
        ),
        (
            "computes with my_size",
            source("predicted", "row(1", "growth_chart(my_size * MiB)\nrow(1"),
        ),
        ("computes with mine", source("predicted", "row(1", "sum(mine.values())\nrow(1")),
    ],
    rules.guesses_are_few_and_shown_once: [
        ("more than one guess in a line", source("prediction", "my_size = 1", "my_a, my_b = 1, 2")),
        ("asks for 11 guesses", source("prediction", "= {1", f"= {{{'1: 1, ' * 9}1")),
        ("asks for 3 guesses, and shows 2", source("prediction", "1 * KiB: 1", "1: 1, 2: 2")),
        ("asks for 2 guesses, and shows 1", outputs_of("predicted", guessed("one"))),
        ("asks for 2 guesses, and shows 0", without("predicted")),
        ("two rows are called one", outputs_of("chart", guessed("one", "two"))),
    ],
    rules.questions_lead_to_guesses: [
        ("quiz: it asks, and no guess cell", source("quiz", "Yes.", "**And that, does it?**")),
        ("question: it asks, and no guess cell", without("prediction")),
        ("prediction: no question in bold", source("question", "**How", "*How")),
        ("prediction: no question in bold", without("question")),
    ],
    rules.ends_with_the_score: [
        ("predicted: the last code cell", without("score")),
        ("does not show the score of 07", source("score", "07", "08")),
        (
            "it shows ['Chapter 07: 1 of 2",
            data("score", text_plain="Chapter 07: 1 of 2 guesses made"),
        ),
    ],
    rules.figures_were_measured: [
        ("quiz: nobody measured 51 times", source("quiz", "Yes.", "It took 51 times as long.")),
        (
            "51 times as long: the saved run has 52 times",
            lambda node: (
                source("quiz", "Yes.", "51 times as long<!-- predicted: one -->")(node),
                cell(node, "predicted").outputs[0].metadata["streamlab"].update(one="52.1 x"),
            ),
        ),
        ("no row with a figure", source("quiz", "Yes.", "51 times<!-- predicted: three -->")),
        ("no row with a figure", source("quiz", "Yes.", "51 times<!-- predicted: none -->")),
        ("no row with a figure", source("quiz", "Yes.", "51 times<!-- chart: one -->")),
        ("no figure stands before", source("quiz", "Yes.", "often<!-- predicted: one -->")),
    ],
    rules.some_guess_is_asked_for: [
        ("no cell", attribute("prediction", "metadata", {})),
    ],
    rules.no_word_of_a_saved_guess: [
        (
            "key-points: it speaks of 'saved numbers'",
            source("key-points", "It", "The saved numbers"),
        ),
        ("'number in the cell'", source("key-points", "It", "The number in the cell")),
    ],
    rules.verdicts_hold: [
        ("measure-stream: streaming   5 MiB", shows("measure-stream", 5 * MiB)),
        ("no straight line", data("chart", text_plain="Chart: no straight line (7% off).")),
        (
            "measure-stream: streaming   below",
            lambda node: (
                cell(node, "measure-stream")
                .outputs[0]
                .data.update({"text/html": table(5 * MiB)["text/html"]})
            ),
        ),
        ("none fails", shows("honest", 5)),
        ("on purpose", source("honest", "below(", "measure(")),
    ],
    rules.shows_a_live_figure: [
        ("no output", no_live_figure),
        ("without a verdict", data("honest", text_html=ALL_LIVE)),
    ],
    rules.starts_a_server: [
        ("no cell", source("stream", "%%server stream", "")),
        ("load_ext", source("setup", "%load_ext streamlab\n", "")),
    ],
    rules.cells_rest_on_what_is_there: [
        ("it uses below", source("setup", "%load_ext streamlab", "%needs nginx")),
    ],
    rules.opens_as_a_lesson: [
        ("number of the file", source("title", "07", "08")),
        ("minutes", source("title", "About 5 minutes", "Soon")),
        ("questions", source("title", "it work?", "it work.")),
        ("objectives", source("title", "**Objectives.**", "Aims")),
        ("no title", without("title")),
    ],
    rules.closes_as_a_lesson: [
        ("its last cells", without("key-points")),
        ("its last cells", without("quiz")),
        ("its last cells", without("next")),
        ("no key points", source("key-points", "- ", "")),
        ("folded", source("quiz", "details", "div")),
        ("folded", source("quiz", "</details>", "")),
        ("folded", source("quiz", "</summary>\n", "</summary>")),
        ("numbered", source("quiz", "**1.**", "**2.**")),
        ("question", source("quiz", "**1.**", "One:")),
        ("comes next", attribute("next", "source", "## Next\n")),
    ],
}


@pytest.mark.parametrize(
    ("rule", "complaint", "break_it"),
    [(rule, *each) for rule, breaks in BREAKS.items() for each in breaks],
    ids=lambda value: getattr(value, "__name__", "").replace("change", "") or None,
)
def test_rule_complains(rule: Rule, complaint: str, break_it: Break, tmp_path: Path) -> None:
    saved = small_lesson(tmp_path)
    break_it(saved.node)
    complaints = rule(saved)
    assert complaint in "\n".join(complaints)


def test_each_rule_is_seen_to_complain() -> None:
    assert set(BREAKS) == {*FOR_ALL, *FOR_LESSONS}


# Which notebooks are looked at


def test_lessons_are_all_notebooks_but_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    shutil.copy(LESSONS[0].path, folder / "00_a.ipynb")
    shutil.copy(LESSONS[0].path, folder / ".ipynb_checkpoints" / "00_a-checkpoint.ipynb")
    assert [saved.path.name for saved in rules.lessons(tmp_path)] == ["00_a.ipynb"]


def test_labs_are_read_as_committed_and_solutions_as_they_lie(tmp_path: Path) -> None:
    text = LESSONS[0].path.read_text()
    for folder in ("labs/02_loop", "labs/02_loop/.ipynb_checkpoints", "solutions/02_loop"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "lab.ipynb").write_text(text)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "labs"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    for folder in ("labs", "solutions"):
        (tmp_path / folder / "02_loop" / "lab.ipynb").write_text(text.replace("cup", "mug"))
    found = {
        saved.path.relative_to(tmp_path).as_posix(): saved
        for saved in rules.lab_notebooks(tmp_path)
    }
    assert set(found) == {"labs/02_loop/lab.ipynb", "solutions/02_loop/lab.ipynb"}
    assert "mug" not in str(found["labs/02_loop/lab.ipynb"].node)
    assert "mug" in str(found["solutions/02_loop/lab.ipynb"].node)


def test_labs_are_read_as_they_lie_where_there_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "labs" / "02_loop").mkdir(parents=True)
    shutil.copy(LESSONS[0].path, tmp_path / "labs" / "02_loop" / "lab.ipynb")
    [found] = rules.lab_notebooks(tmp_path)
    assert found.node == LESSONS[0].node
