"""The rules that every saved notebook of the course keeps.

A rule takes a saved notebook and returns its complaints, each a sentence; none means: all is well.
"""

from __future__ import annotations

import ast
import base64
import importlib.util
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

from nbformat import NotebookNode, v4
from nbformat.validator import iter_validate

from streamlab.dev.figures import faults
from streamlab.executables import TOOLS
from streamlab.handout.guesses import HandoutError, emptied, guessed_names, is_guess
from streamlab.lesson.verdicts import CROSS

ROOT = Path(__file__).resolve().parent.parent

MOST_LINES = 40
"""How long a code cell may be: what fits on a screen together with its output."""

FAILING_ON_PURPOSE = "honest"
"""The id of a cell that shows what a verdict looks like when its law does not hold."""


@cache
def save_notebooks() -> ModuleType:
    """The tool that saves notebooks, which knows what has to be the same in all of them."""
    spec = importlib.util.spec_from_file_location(
        "save_notebooks", ROOT / "tools" / "save_notebooks.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Saved:
    """A notebook as it lies in the repository."""

    path: Path
    node: NotebookNode

    @property
    def code(self) -> list[NotebookNode]:
        """The code cells, in order."""
        return [cell for cell in self.node.cells if cell.cell_type == "code"]

    @property
    def prose(self) -> list[NotebookNode]:
        """The Markdown cells, in order."""
        return [cell for cell in self.node.cells if cell.cell_type == "markdown"]


Rule = Callable[[Saved], list[str]]


def read(path: Path) -> Saved:
    """A notebook on disk."""
    return Saved(path, v4.reads(path.read_text(encoding="utf-8")))


def lessons(root: Path = ROOT) -> list[Saved]:
    """The chapters of the course, in order."""
    return [read(path) for path in sorted((root / "notebooks").glob("*.ipynb"))]


def lab_notebooks(root: Path = ROOT) -> list[Saved]:
    """The notebooks of solutions as they lie on disk, those of labs as committed.

    A student works in labs/, and a student's work is no fault of the course. Without a repository
    those of labs are read from disk, too.
    """
    solutions = [read(path) for path in sorted(root.glob("solutions/*/lab.ipynb"))]
    command = ["git", "ls-tree", "-r", "--name-only", "HEAD", "labs"]
    listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        return solutions + [read(path) for path in sorted(root.glob("labs/*/lab.ipynb"))]
    names = [name for name in listing.stdout.splitlines() if _LAB.fullmatch(name)]
    return solutions + [Saved(root / name, _committed(root, name)) for name in names]


_LAB = re.compile(r"labs/[^/]+/lab\.ipynb")


def _committed(root: Path, name: str) -> NotebookNode:
    command = ["git", "show", f"HEAD:{name}"]
    text = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout.decode()
    saved: NotebookNode = v4.reads(text)
    return saved


def outputs(saved: Saved) -> Iterator[tuple[str, NotebookNode]]:
    """Every output, with the id of its cell."""
    for cell in saved.code:
        for output in cell.outputs:
            yield cell.id, output


def texts(output: NotebookNode) -> dict[str, str]:
    """The texts of an output by MIME type; a stream is `text/plain`, a picture is no text."""
    if output.output_type == "stream":
        return {"text/plain": output.text}
    if output.output_type == "error":
        return {"text/plain": "\n".join([output.ename, output.evalue, *output.traceback])}
    return {
        kind: data if isinstance(data, str) else json.dumps(data)
        for kind, data in output.data.items()
        if not kind.startswith("image/")
    }


# Strict comparison


def every_cell_ran_in_order(saved: Saved) -> list[str]:
    """Code cells are numbered 1 to n: one without a number is run by nbval and not compared."""
    complaints = []
    for number, cell in enumerate(saved.code, start=1):
        shown = {output.execution_count for output in cell.outputs if "execution_count" in output}
        if {cell.execution_count, *shown} != {number}:
            complaints.append(f"{cell.id}: number {cell.execution_count}, but it is cell {number}")
    return complaints


_ESCAPES = re.compile(r"nbval|raises[-_]exception|pytest[-_]validate", re.IGNORECASE)


def no_cell_escapes_comparison(saved: Saved) -> list[str]:
    """No tag, metadata or comment speaks to nbval, whatever it says."""
    complaints = []
    for cell in saved.node.cells:
        if found := _ESCAPES.search(json.dumps(cell.metadata)):
            complaints.append(f"{cell.id}: its metadata says {found[0]}")
        comments = [line for line in cell.source.splitlines() if line.lstrip().startswith("#")]
        if cell.cell_type == "code" and (found := _ESCAPES.search("\n".join(comments))):
            complaints.append(f"{cell.id}: a comment says {found[0]}")
    if found := _ESCAPES.search(json.dumps(saved.node.metadata)):
        complaints.append(f"the notebook's metadata says {found[0]}")
    return complaints


def no_error_output(saved: Saved) -> list[str]:
    """No cell raised, and none wrote to stderr."""
    complaints = []
    for cell_id, output in outputs(saved):
        if output.output_type == "error":
            complaints.append(f"{cell_id}: an error, {output.ename}")
        elif output.output_type == "stream" and output.name == "stderr":
            complaints.append(f"{cell_id}: it wrote to stderr: {output.text[:80]!r}")
    return complaints


def nothing_of_this_machine(saved: Saved) -> list[str]:
    """No output names a path, a port or an address of the machine on which it was saved."""
    complaints = []
    for cell_id, output in outputs(saved):
        everything = "\n".join([*texts(output).values(), json.dumps(output.get("metadata", {}))])
        for found in save_notebooks().OF_A_MACHINE.finditer(everything):
            complaints.append(f"{cell_id}: its output names {found[0]}")
    return complaints


# Shape

GUESS = {"streamlab": {"guess": True}}
"""The metadata of a cell in which the reader sets a guess, the one kind that a cell may have."""
_SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def normalised(saved: Saved) -> list[str]:
    """Nothing is stored that differs from machine to machine; ids are slugs, each used once."""
    node = saved.node
    complaints = [f"not valid: {error}" for error in iter_validate(node)]
    known = {"kernelspec": save_notebooks().KERNEL, "language_info": {"name": "python"}}
    for key in node.metadata.keys() | known:
        if key != "streamlab" and node.metadata.get(key) != known.get(key):
            complaints.append(f"the notebook's metadata: {key} is {node.metadata.get(key)}")
    ids = [cell.get("id", "") for cell in node.cells]
    complaints += [f"the id {each} is used twice" for each in {i for i in ids if ids.count(i) > 1}]
    complaints += [f"the id {each!r} is no slug" for each in ids if not _SLUG.fullmatch(each)]
    for cell in node.cells:
        if cell.metadata and cell.metadata != GUESS:
            complaints.append(f"{cell.id}: metadata {dict(cell.metadata)}")
        if cell.get("attachments"):
            complaints.append(f"{cell.id}: attachments")
    return complaints


def needs_are_known(saved: Saved) -> list[str]:
    """What a notebook says it needs is something that the doctor knows how to look for."""
    own = saved.node.metadata.get("streamlab", {})
    unknown = set(own.get("needs", [])) - {"linux", "descriptors", "cgroup", *TOOLS}
    return [f"needs {each}, which the doctor does not know" for each in sorted(unknown)]


def cells_fit_on_a_screen(saved: Saved) -> list[str]:
    """No code cell is longer than `MOST_LINES`."""
    lengths = {cell.id: len(cell.source.splitlines()) for cell in saved.code}
    return [f"{name}: {count} lines" for name, count in lengths.items() if count > MOST_LINES]


def charts_are_pictures_with_words(saved: Saved) -> list[str]:
    """A chart is a PNG on which something is drawn, and a sentence that says what it shows."""
    complaints = []
    for cell_id, output in outputs(saved):
        data = output.get("data", {})
        words = data.get("text/plain", "")
        if "image/svg+xml" in data or "image/jpeg" in data:
            complaints.append(f"{cell_id}: a chart has to be a PNG")
        if "image/png" in data:
            if len(words.split()) < 3 or words.startswith("<"):
                complaints.append(f"{cell_id}: a picture without words: {words!r}")
            if fault := _fault_of_png(data["image/png"]):
                complaints.append(f"{cell_id}: {fault}")
        elif words.startswith("Chart:"):
            complaints.append(f"{cell_id}: the words of a chart, and no picture")
    return complaints


def _fault_of_png(encoded: str) -> str | None:
    """What is wrong with a picture, if anything is."""
    from matplotlib.image import imread

    try:
        pixels = imread(io.BytesIO(base64.b64decode(encoded)), format="png")
    except (ValueError, SyntaxError, OSError):
        return "the picture is no PNG"
    return None if float(pixels.std()) > 0.01 else "the picture is blank"


_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|(?:href|src)=[\"']([^\"']+)[\"']")
_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


def links_lead_somewhere(saved: Saved) -> list[str]:
    """Each link to a file is relative, and the file is there."""
    complaints = []
    for cell in saved.prose:
        for found in _LINK.finditer(_CODE.sub("", cell.source)):
            target = (found[1] or found[2]).partition("#")[0]
            if not target or re.match(r"(https?|mailto):", target):
                continue
            if target.startswith("/") or not (saved.path.parent / target).exists():
                complaints.append(f"{cell.id}: it links to {target}, which is not there")
    return complaints


def code_is_tidy(saved: Saved) -> list[str]:
    """Ruff, with this repository's settings, has nothing to say: cells, and servers in cells."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cells.ipynb").write_text(v4.writes(saved.node), encoding="utf-8")
        for cell in saved.code:
            first, _, body = cell.source.partition("\n")
            if first.startswith(("%%server", "%%writefile")):
                (Path(folder) / f"{cell.id}.py").write_text(f"{body}\n", encoding="utf-8")
        return [
            line.removeprefix(f"{Path(folder).resolve()}/").removeprefix(f"{folder}/")
            for arguments in (["check"], ["format", "--check"])
            for line in _ruff(*arguments, folder)
        ]


def _ruff(*arguments: str) -> list[str]:
    """What ruff complains about, a line each."""
    settings = ["--no-cache", "--output-format=concise", f"--config={ROOT / 'pyproject.toml'}"]
    command = [sys.executable, "-m", "ruff", *arguments, *settings]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return []
    return [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]


# Lessons

_TOLD_SO = re.compile(r"\(not |\(no whole multiple\)|no straight line|none missed")


def _lines(output: NotebookNode) -> list[str]:
    return texts(output).get("text/plain", "").splitlines()


def verdicts_hold(saved: Saved) -> list[str]:
    """Every verdict holds as saved, except where a cell shows one failing on purpose."""
    complaints = []
    for cell in saved.code:
        said = [line for output in cell.outputs for line in _lines(output)]
        told = [line for line in said if _TOLD_SO.search(line)]
        marked = any(not row.holds for output in cell.outputs for row in rows(output))
        failing = marked or bool(told)
        if failing and cell.id != FAILING_ON_PURPOSE:
            complaints.append(f"{cell.id}: {'; '.join(told or said) or 'marked as failing'}")
        if cell.id == FAILING_ON_PURPOSE:
            if not failing:
                complaints.append(f"{cell.id}: it is to show a failing verdict, and none fails")
            if "measure(" in cell.source:
                complaints.append(f"{cell.id}: what fails on purpose must not be a measurement")
    return complaints


def shows_a_live_figure(saved: Saved) -> list[str]:
    """At least one output has a figure just measured, and none of those figures is a verdict."""
    found = [row for _, output in outputs(saved) for row in rows(output)]
    if not any(row.live for row in found):
        return ["no output has a figure in <td class=live>"]
    return [f"{row.label}: a row without a verdict" for row in found if not row.verdict]


def starts_a_server(saved: Saved) -> list[str]:
    """At least one cell is a server, and the first cell loads what makes it one."""
    complaints = []
    if not any(cell.source.startswith("%%server ") for cell in saved.code):
        complaints.append("no cell starts a server")
    if not (saved.code and saved.code[0].source.startswith("%load_ext streamlab\n")):
        complaints.append("the first code cell does not begin with %load_ext streamlab")
    return complaints


def opens_as_a_lesson(saved: Saved) -> list[str]:
    """First the number and title, the minutes, the questions and the objectives."""
    first = saved.node.cells[0]
    if first.cell_type != "markdown":
        return ["the first cell is no title"]
    number = re.escape(saved.path.name.partition("_")[0])
    wanted = {
        "the title, with the number of the file": rf"\A# {number} · \S",
        "the minutes": r"^\*About \d+ minutes\b",
        "questions": r"^\*\*Questions\*\*\n\n(- .*\?$\n?)+",
        "objectives": r"^\*\*Objectives\.\*\* .*\n\n(- \S.*\n?){2,}",
    }
    return [
        f"{first.id}: it lacks {what}"
        for what, pattern in wanted.items()
        if not re.search(pattern, first.source, re.MULTILINE)
    ]


_ANSWER = re.compile(r"<details[^>]*><summary>Answer</summary>\n\n.+?\n\n</details>", re.DOTALL)


def closes_as_a_lesson(saved: Saved) -> list[str]:
    """Last the key points, a quiz whose answers are folded, and what comes next."""
    endings = [cell.source for cell in saved.node.cells[-3:]]
    headings = [source.partition("\n")[0] for source in endings]
    if headings != ["## Key points", "## Quiz", "## Next"]:
        return [f"its last cells are {headings}"]
    points, quiz, after = (source.partition("\n")[2].strip() for source in endings)
    complaints = []
    if not re.search(r"^- \S", points, re.MULTILINE):
        complaints.append("there are no key points")
    questions = re.split(r"^\*\*(\d+)\.\*\* ", quiz, flags=re.MULTILINE)
    if questions[0].strip() or not questions[1:]:
        complaints.append("the quiz does not begin with a question")
    numbers = [int(number) for number in questions[1::2]]
    if numbers != list(range(1, len(numbers) + 1)):
        complaints.append(f"the questions are numbered {numbers}")
    for number, question in zip(numbers, questions[2::2], strict=True):
        if len(_ANSWER.findall(question)) != 1 or question.count("<details") != 1:
            complaints.append(f"question {number} has no answer folded under it")
    if len(after) < 20:
        complaints.append("it does not say what comes next")
    return complaints


_NAME_OF_GUESS = re.compile(r"mine|my_[a-z0-9_]+")


def guesses_are_marked(saved: Saved) -> list[str]:
    """What a table or chart shows as the reader's guess was set in a cell marked as a guess.

    Such a cell sets names that say so, and nothing else. Other cells show a guess, or go through
    its names, and never compute with it: in the workspace it may still be `...`.
    """
    complaints = []
    known: set[str] = set()
    for cell in saved.code:
        if cell.source.startswith("%%"):
            continue
        module = ast.parse(re.sub(r"^[%!].*$", "", cell.source, flags=re.MULTILINE))
        names = [node for node in ast.walk(module) if isinstance(node, ast.Name)]
        stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        if is_guess(cell):
            try:
                known |= guessed_names(cell.source)
            except HandoutError as error:
                complaints.append(f"{cell.id}: {error}")
            badly = sorted(name for name in stored if not _NAME_OF_GUESS.fullmatch(name))
            complaints += [f"{cell.id}: {name} is no name of a guess" for name in badly]
            continue
        unmarked = sorted(name for name in stored if _NAME_OF_GUESS.fullmatch(name))
        complaints += [f"{cell.id}: it sets {name}, and is not marked" for name in unmarked]
        shown = _shown_guesses(module)
        complaints += [
            f"{cell.id}: it shows {ast.unparse(each)} as a guess, which no guess cell sets"
            for each in shown
            if not (isinstance(whole := _whole(each), ast.Name) and whole.id in known)
        ]
        gone_through = _gone_through(module)
        right = {id(_whole(each)) for each in [*shown, *gone_through]}
        complaints += [
            f"{cell.id}: it computes with {node.id}, which may be no guess yet"
            for node in names
            if node.id in known and isinstance(node.ctx, ast.Load) and id(node) not in right
        ]
    return complaints


def _shown_guesses(module: ast.Module) -> list[ast.expr]:
    """What the calls of `row` and `growth_chart` in a cell show as guesses."""
    found: list[ast.expr] = []
    for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
        named = {each.arg: each.value for each in call.keywords}
        function = call.func.id if isinstance(call.func, ast.Name) else ""
        if function == "row":
            found += [*call.args[2:3], *([named["predicted"]] if "predicted" in named else [])]
        elif function == "growth_chart" and isinstance(each := named.get("predicted"), ast.Dict):
            found += each.values
    return found


def _gone_through(module: ast.Module) -> list[ast.expr]:
    """What a cell takes the names of: `for name in mine`, `zip(mine, ...)`."""
    nodes = [*ast.walk(module)]
    sources = [node.iter for node in nodes if isinstance(node, ast.comprehension | ast.For)]
    zipped = [node.args for node in nodes if isinstance(node, ast.Call) and _called(node) == "zip"]
    return sources + [argument for arguments in zipped for argument in arguments]


def _called(node: ast.expr) -> str:
    """The name of the function that an expression calls, empty where it is no such call."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id
    return ""


def _whole(node: ast.expr) -> ast.expr:
    """What an expression takes an item of, or the expression itself."""
    return node.value if isinstance(node, ast.Subscript) else node


_OF_A_SAVED_GUESS = re.compile(
    r"saved (?:number|answer|guess|value)s?\b"
    r"|\b(?:number|answer|guess|value)s? in the (?:next )?cell\b"
)


def no_word_of_a_saved_guess(saved: Saved) -> list[str]:
    """The text does not speak of the guess in the cell: a reader finds the cell empty."""
    return [
        f"{cell.id}: it speaks of {found[0]!r}, and in the workspace there is none"
        for cell in saved.prose
        for found in _OF_A_SAVED_GUESS.finditer(cell.source)
    ]


def _emptied_tree(cell: NotebookNode) -> list[ast.AST]:
    """What a guess cell consists of where no guess was set."""
    return [*ast.walk(ast.parse(emptied(cell.source)))]


def _guesses_asked_for(saved: Saved) -> int:
    """How many guesses a chapter asks for."""
    return sum(
        isinstance(each, ast.Constant) and each.value is ...
        for cell in saved.code
        if is_guess(cell)
        for each in _emptied_tree(cell)
    )


MOST_GUESSES = 10
"""How many guesses a chapter may ask for."""


def guesses_are_few_and_shown_once(saved: Saved) -> list[str]:
    """At most `MOST_GUESSES`, one to a line, and each is shown in one row of a table.

    The score counts rows by their names and by those of the table, so no two may be the same.
    """
    complaints = [
        f"{cell.id}: it sets more than one guess in a line"
        for cell in saved.code
        if is_guess(cell) and any(isinstance(each, ast.Tuple) for each in _emptied_tree(cell))
    ]
    asked = _guesses_asked_for(saved)
    tables = [_lines(output) for _, output in outputs(saved)]
    names = [
        (*(line.partition("   ")[0] for line in lines), line.partition("   ")[0])
        for lines in tables
        for line in lines
        if "   you said: " in line
    ]
    twice = {name[-1] for name in names if names.count(name) > 1}
    complaints += [f"two rows are called {name}" for name in sorted(twice)]
    if asked > MOST_GUESSES:
        complaints.append(f"it asks for {asked} guesses")
    if asked != len(names):
        complaints.append(f"it asks for {asked} guesses, and shows {len(names)}")
    return complaints


NEAR = 3
"""So many cells may lie between a question and the cell for its guess, that one included."""


def questions_lead_to_guesses(saved: Saved) -> list[str]:
    """A question in bold letters has a guess cell behind it, and a guess cell such a question."""
    cells = saved.node.cells
    asking = [cell.cell_type == "markdown" and _asks(cell.source) for cell in cells]
    guesses = [is_guess(cell) for cell in cells]
    complaints = []
    for place, cell in enumerate(cells):
        if asking[place] and not any(guesses[place : place + NEAR + 1]):
            complaints.append(f"{cell.id}: it asks, and no guess cell follows")
        if guesses[place] and not any(asking[max(0, place - NEAR) : place]):
            complaints.append(f"{cell.id}: no question in bold letters stands before it")
    return complaints


def _asks(text: str) -> bool:
    """Whether a question stands in bold letters; those of the quiz and of the title do not."""
    return any("?" in bold for bold in _CODE.sub("", text).split("**")[1::2])


def ends_with_the_score(saved: Saved) -> list[str]:
    """The last code cell shows the score of this chapter, of all of its guesses."""
    number = saved.path.name.partition("_")[0]
    last = saved.code[-1]
    if last.source != f'from streamlab import score\n\nscore("{number}")':
        return [f"{last.id}: the last code cell does not show the score of {number}"]
    asked = _guesses_asked_for(saved)
    wanted = f"Chapter {number}: {asked} of {asked} guesses made"
    said = [line for output in last.outputs for line in _lines(output)]
    return [] if said == [wanted] else [f"{last.id}: it shows {said}, not {wanted!r}"]


def figures_were_measured(saved: Saved) -> list[str]:
    """Each figure in the prose is given, compared, or filled from the saved run."""
    return faults(saved.node)


def some_guess_is_asked_for(saved: Saved) -> list[str]:
    """At least one cell asks for a guess."""
    return [] if any(is_guess(cell) for cell in saved.code) else ["no cell is marked as a guess"]


def cells_rest_on_what_is_there(saved: Saved) -> list[str]:
    """A cell uses no name that only a cell defines which needs more than it does.

    Where that need is missing, the other cell is left out (`%needs`), and the lesson goes on.
    """
    defined: dict[str, list[set[str]]] = {}
    used: list[tuple[str, set[str], set[str]]] = []
    for cell in saved.code:
        first = cell.source.partition("\n")[0]
        needs = set(first.split()[1:]) if first.startswith("%needs ") else set()
        if first.startswith("%%"):
            defined.setdefault(first.split()[1], []).append(needs)
            continue
        module = ast.parse(re.sub(r"^[%!].*$", "", cell.source, flags=re.MULTILINE))
        for name in _names_of(module.body):
            defined.setdefault(name, []).append(needs)
        loaded = (node for node in ast.walk(module) if isinstance(node, ast.Name))
        used.append((cell.id, needs, {each.id for each in loaded if each.id}))
    return [
        f"{cell}: it uses {name}, which only a cell defines that needs more"
        for cell, needs, names in used
        for name in sorted(names & defined.keys())
        if not any(others <= needs for others in defined[name])
    ]


def _names_of(body: list[ast.stmt]) -> set[str]:
    """The names that statements define for those that come later, without those in functions."""
    names: set[str] = set()
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {(each.asname or each.name).partition(".")[0] for each in statement.names}
        else:
            nodes = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
            names |= {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    return names


FOR_ALL: tuple[Rule, ...] = (
    every_cell_ran_in_order,
    no_cell_escapes_comparison,
    no_error_output,
    nothing_of_this_machine,
    normalised,
    needs_are_known,
    cells_fit_on_a_screen,
    charts_are_pictures_with_words,
    links_lead_somewhere,
    code_is_tidy,
    guesses_are_marked,
)

FOR_LESSONS: tuple[Rule, ...] = (
    verdicts_hold,
    shows_a_live_figure,
    starts_a_server,
    some_guess_is_asked_for,
    guesses_are_few_and_shown_once,
    questions_lead_to_guesses,
    ends_with_the_score,
    figures_were_measured,
    no_word_of_a_saved_guess,
    cells_rest_on_what_is_there,
    opens_as_a_lesson,
    closes_as_a_lesson,
)


# Verdict tables


@dataclass(frozen=True)
class TableRow:
    """A line of a verdict table as a reader sees it."""

    label: str
    verdict: str
    live: str

    @property
    def holds(self) -> bool:
        """Whether the verdict is not marked as one that failed."""
        return not self.verdict.startswith(CROSS.strip())


def rows(output: NotebookNode) -> list[TableRow]:
    """The rows of the verdict tables in an output."""
    parser = _Tables()
    parser.feed(output.get("data", {}).get("text/html", ""))
    return parser.rows


class _Tables(HTMLParser):
    """Collects the rows whose third cell is their first live one."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[TableRow] = []
        self._cells: list[str] | None = None
        self._live: int | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, Any]]) -> None:
        if tag == "tr":
            self._cells, self._live = [], None
        elif tag == "td" and self._cells is not None:
            if dict(attributes).get("class") == "live" and self._live is None:
                self._live = len(self._cells)
            self._cells.append("")

    def handle_data(self, data: str) -> None:
        if self._cells:
            self._cells[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr" and self._cells is not None:
            if self._live == 2:
                label, verdict, live = (each.strip() for each in self._cells[:3])
                self.rows.append(TableRow(label, verdict, live))
            self._cells = None
