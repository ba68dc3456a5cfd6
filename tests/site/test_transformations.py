"""What becomes of notebooks and pages before Sphinx gets them: folds, links, tables, diagrams."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path

import mermaid
import myths
import nbformat
import page_links
import pages
import pytest
from diagrams import drawn
from folds import CLOSES, OPENS, FoldError, folded, parts_by_heading
from nbformat import NotebookNode, v4
from saved_html import mend, with_scopes, without_opacity

from streamlab.handout.guesses import is_guess

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


# Folds


def text(name: str, source: str) -> NotebookNode:
    cell: NotebookNode = v4.new_markdown_cell(source, id=name)
    return cell


def code(name: str, source: str = "1", shown: str = "", guess: bool = False) -> NotebookNode:
    outputs = [v4.new_output("stream", text=shown)] if shown else []
    metadata = {"streamlab": {"guess": True}} if guess else {}
    cell: NotebookNode = v4.new_code_cell(source, id=name, outputs=outputs, metadata=metadata)
    return cell


def guess(name: str) -> NotebookNode:
    return code(f"{name}-prediction", "mine = 1", guess=True)


def shape(cells: list[NotebookNode]) -> list[str]:
    """The cells by their ids; `(` and `)` are the borders of a fold, and `!` has an output."""
    borders = {OPENS: "(", CLOSES: ")"}
    return [borders.get(each.source, each.id + "!" * bool(each.get("outputs"))) for each in cells]


def test_the_answer_is_folded_and_its_code_is_not() -> None:
    """What is run in between stays in sight, also the start of a server and what it says."""
    cells = [
        text("ask", "## A\n**How much?**"),
        guess("a"),
        code("server", "%%server x", "x runs"),
        code("a-run"),
        code("a-verdict", shown="1 x file"),
        text("a-reconcile", "It is one."),
        text("next", "## B"),
    ]
    before = copy.deepcopy(cells)
    assert shape(folded(cells)) == [
        *("ask", "a-prediction", "server!", "a-run", "a-verdict"),
        *("(", "a-verdict-shown!", "a-reconcile", ")", "next"),
    ]
    assert cells == before, "the cells given stay as they are"
    shown = folded(cells)[6]
    assert shown.metadata.tags == ["remove-input"]


def test_a_fold_ends_before_a_heading_inside_of_a_cell() -> None:
    cells = [
        guess("a"),
        code("a-run", shown="1"),
        text("a-reconcile", "It is.\n\n```\n# no heading\n```\n\n### More\n\nOther things."),
    ]
    found = folded(cells)
    assert shape(found)[-4:] == ["a-run-shown!", "a-reconcile", ")", "a-reconcile-2"]
    assert found[-1].source == "### More\n\nOther things."
    assert "# no heading" in found[-3].source


def test_a_fold_ends_before_the_next_question_and_what_leads_to_it() -> None:
    """The next experiment's server stays in sight; a chart of the last one does not."""
    cells = [
        guess("a"),
        code("a-run", shown="1"),
        text("a-reconcile", "It is."),
        code("chart", shown="a chart"),
        text("b", "Now another server:"),
        code("b-server", "%%server b", "b runs"),
        text("b-predict", "**And how much now?**"),
        guess("b"),
        code("b-run", shown="2"),
    ]
    assert shape(folded(cells)) == [
        *("a-prediction", "a-run", "(", "a-run-shown!", "a-reconcile", "chart!", ")"),
        *("b", "b-server!", "b-predict", "b-prediction", "b-run", "(", "b-run-shown!", ")"),
    ]


def test_a_guess_without_an_answer_is_a_fault() -> None:
    with pytest.raises(FoldError, match="a-prediction"):
        folded([guess("a"), code("a-run"), text("b", "## B"), code("b-run", shown="1")])


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem[:2])
def test_each_chapter_folds_each_guess(path: Path) -> None:
    """No output that can tell the answer stands between a guess and its fold; no heading in it."""
    chapter = nbformat.read(path, as_version=4)
    found = folded(chapter.cells)
    assert sum(is_guess(each) for each in found) == shape(found).count("(") > 0
    inside, waits = False, False
    for cell, mark in zip(found, shape(found), strict=True):
        if mark in "()":
            assert inside == (mark == ")"), "folds don't lie in each other"
            inside, waits = mark == "(", False
        elif is_guess(cell):
            assert not waits and not inside
            waits = True
        else:
            assert not (waits and cell.get("outputs") and not cell.source.startswith("%%server"))
            assert not (inside and re.match("#+ ", cell.source) and cell.cell_type == "markdown")
    assert not waits and not inside
    shown = [each for cell in found for each in cell.get("outputs", [])]
    assert shown == [each for cell in chapter.cells for each in cell.get("outputs", [])]


def test_lines_of_code_are_no_headings() -> None:
    assert parts_by_heading("# A\nx\n\n```\n# no\n```\n## B\ny") == [
        "# A\nx\n\n```\n# no\n```",
        "## B\ny",
    ]


# Pages


def test_a_chapter_says_once_where_its_figures_come_from() -> None:
    cells = pages.chapter("x", [text("title", "# T\n\nText"), code("run", shown="1")])
    sources = "\n".join(cell.source for cell in cells)
    assert sources.count("The figures are those of the saved run") == 1
    assert cells[0].source.startswith("# T\n\n:::{note}")
    assert cells[0].source.endswith(":::\n\nText")
    with pytest.raises(pages.PageError):
        pages.chapter("x", [text("title", "No title")])


def test_the_promises_of_a_lab_become_a_table(tmp_path: Path) -> None:
    (tmp_path / "contract.toml").write_text('[a]\ntext = "a `x|y`\\n of it"\ncheck = "wire"\n')
    (tmp_path / "lab.toml").write_text('[checks.wire]\ntitle = "To the letter"\n')
    cell = pages.promises(tmp_path)
    assert "\n| `a` | a `x\\|y` of it | `wire`: To the letter |" in cell.source


def test_the_start_page_is_the_readme_with_its_map_first() -> None:
    readme = "# T\n\nHello\n\n## Two\n\nx\n\n## The chapters and their labs\n\nmap\n"
    start = pages.start_page(
        readme, ["notebooks/00_a.ipynb"], ["labs/01/lab.ipynb"], ["SECURITY.md"]
    )
    places = [start.index(each) for each in ("# T", "Hello", "map", "## More pages", "## Two")]
    assert places == sorted(places)
    for name in ("\nnotebooks/00_a\n", "\nlabs/01/lab\n", "\nSecurity <SECURITY>\n"):
        assert name in start
    with pytest.raises(pages.PageError):
        pages.start_page("# T\n\nNo map\n", [], [], [])


# Links


@pytest.mark.parametrize(
    ("given", "address", "wanted"),
    [
        ("[a](../labs/a/lab.ipynb#b)", "", "[a](../labs/a/lab.ipynb#b)"),
        ("[a](../README.md)", "", "[a](../index.md)"),
        ("see [a `b]`](../Makefile) now", "", "see a `b]` now"),
        ("[a](../Makefile#b)", "https://e.org/x", "[a](https://e.org/x/blob/main/Makefile#b)"),
        ("[a](https://e.org/)", "", "[a](https://e.org/)"),
        ("[a](#b)", "", "[a](#b)"),
        ("`[a](../Makefile)`", "", "`[a](../Makefile)`"),
        ("![a](../gone.png)", "", "![a](../gone.png)"),
    ],
)
def test_links(given: str, address: str, wanted: str) -> None:
    """To a page they stay; to a file they lead to the repository, or become text."""
    assert page_links.led(given, "docs/x.md", ["labs/a/lab.ipynb"], address) == wanted


def test_the_address_of_the_repository_stands_in_one_place(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert page_links.repository(tmp_path) == ""
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://e.org/x/"\n')
    assert page_links.repository(tmp_path) == "https://e.org/x"


def test_comments_go_and_code_stays() -> None:
    given = "51 times<!-- run: row --> as long, `<!-- a -->`\n```\n<!-- b -->\n```"
    wanted = "51 times as long, `<!-- a -->`\n```\n<!-- b -->\n```"
    assert page_links.without_comments(given) == wanted


# Saved HTML


def test_heads_of_tables_get_a_scope() -> None:
    given = '<tr><th style="a"></th><th class="head"><p></p></th><th>b</th><th scope="row">c</th>'
    wanted = (
        '<tr><td style="a"></td><td class="head"></td><th scope="col">b</th><th scope="row">c</th>'
    )
    assert with_scopes(given) == wanted
    assert with_scopes(wanted) == wanted and with_scopes("<thead>") == "<thead>"


def test_what_is_pale_gets_the_full_colour() -> None:
    given = '<td style="padding:1px;opacity:.65;font-weight:600"><p style="opacity:0.75">x'
    assert without_opacity(given) == '<td style="padding:1px;font-weight:600"><p style="">x'


def test_a_chart_gets_its_words_as_alternative_text() -> None:
    output = v4.new_output("display_data", {"image/png": "x", "text/plain": "Chart: a\nb."})
    cell = v4.new_code_cell(outputs=[output])
    mend(cell)
    assert cell.metadata.mystnb.image.alt == "Chart: a b."


# Diagrams

DIAGRAM = "a\n\n```mermaid\nflowchart LR\n    accTitle: T & U\n\n    a --> b\n```\n\nb"


def test_a_diagram_is_drawn_with_its_source_folded() -> None:
    html = drawn(DIAGRAM, can_draw=True)
    assert '<div class="mermaid" role="img" aria-label="T &amp; U" hidden>' in html
    assert html.count("a --&gt; b") == 2
    assert "\n\n" not in html.removeprefix("a\n\n").removesuffix("\n\nb"), "one block of HTML"


def test_without_mermaid_a_diagram_is_text() -> None:
    assert 'class="mermaid"' not in drawn(DIAGRAM, can_draw=False)
    assert "The diagram as text: T &amp; U" in drawn(DIAGRAM, can_draw=False)


CORE = "v.version;let e=n=(await Promise.all([i.e(1),i.e(2)]).then(i.bind(i,77))).default"
MAIN = (
    'x={2:["88"]},y={88:{shareScope:"default",shareKey:"m",fallback:()=>'
    "__webpack_require__.e(3).then(()=>()=>__webpack_require__(99)),eager:!1}}"
)


def jupyterlab(folder: Path, core: str = CORE, main: str = MAIN) -> Path:
    """Static files that look like those of JupyterLab: chunk 1 wants chunk 4, and 2 is shared."""
    files = {"jlab_core.aa": core, "main.bb": main, "1.ab": "n.e(4)", "3.cd": "", "4.ef": ""}
    for name, content in files.items():
        (folder / f"{name}.js").write_text(content)
    return folder


def test_the_pieces_of_mermaid_are_found(tmp_path: Path) -> None:
    found = mermaid.find(jupyterlab(tmp_path))
    assert found is not None
    assert sorted(found.files) == ["1", "3", "4"]
    assert (found.chunks, found.module) == (["1", "2"], "77")
    assert found.shared == {"88": ("2", ["3"], "99")}
    found.copy(tmp_path / "out")
    told = (tmp_path / "out" / "pieces.js").read_text().removeprefix("window.mermaidPieces = ")
    assert json.loads(told.rstrip(";\n"))["files"]["1"] == "1.ab.js"
    assert (tmp_path / "out" / "1.ab.js").is_file()


@pytest.mark.parametrize(("core", "main"), [("", MAIN), (CORE, ""), (CORE, "x={2:['88']}")])
def test_another_jupyterlab_has_no_mermaid_for_us(tmp_path: Path, core: str, main: str) -> None:
    """What does not look as expected is left alone: the site then shows text."""
    assert mermaid.find(jupyterlab(tmp_path, core, main)) is None


# The court of myths


def test_each_figure_of_the_court_was_measured() -> None:
    page = myths.PAGE.read_text("utf-8")
    assert myths.faults(page) == []
    assert myths.filled(page) == page, "python tools/website/myths.py fills the figures"
    rows = myths.claims(page)
    assert len(rows) >= 8
    assert all(row.startswith('| "') for row, _ in rows), "it begins with what people say"


@pytest.mark.parametrize(
    ("measured", "fault"),
    [
        ("It took 51 times<!-- run: load-all: waits -->.", ""),
        ("It took 52 times<!-- run: load-all: waits -->.", "the saved run has 51 times"),
        ("It took 51 times<!-- run: another row -->.", "no row with a figure"),
        ("It took 9 times as long.", "nobody measured 9 times"),
    ],
)
def test_a_figure_of_the_court_that_nobody_measured_is_found(measured: str, fault: str) -> None:
    metadata = {"streamlab": {"load-all: waits": "51.3 x"}}
    output = v4.new_output("execute_result", {"text/plain": ""}, metadata=metadata)
    chapter = v4.new_notebook(cells=[v4.new_code_cell("", id="run", outputs=[output])])
    head = "| what people say | what was measured | chapter |\n|---|---|---|\n"
    page = head + f'| "It is fast." | {measured} | [01](../notebooks/01_x.ipynb) |\n'
    found = myths.faults(page, lambda name: chapter)
    assert [fault in each for each in found] == ([True] if fault else [])


def test_a_claim_without_a_chapter_is_found() -> None:
    page = '| what | measured | chapter |\n|---|---|---|\n| "x" | y | z |\n'
    assert myths.faults(page) == ['it links to no chapter: | "x" | y | z |']


# Packages


def test_the_pins_for_the_site_agree_with_the_others() -> None:
    """`make site` adds packages to the environment, and changes none of those that are there."""

    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text().splitlines()
        found = [line.split(" ")[0].split("==") for line in lines if re.match(r"[a-z].*==", line)]
        return {package: version for package, version in found if package}

    course, site = pins("requirements.txt"), pins("requirements-site.txt")
    assert [each for each in site if course.get(each, site[each]) != site[each]] == []
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split("[<>=]", each)[0] for each in extra["optional-dependencies"]["site"]}
    assert wanted <= set(site)
