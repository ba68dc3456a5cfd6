"""Strict nbval compares what it should: it catches a server that breaks its lesson's law.

A tiny lesson is saved with the course's own tool and copied with one change each. nbval runs all
copies at once, with the settings of this repository.
"""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import notebook_rules as rules
import pytest
from nbformat import NotebookNode, v4
from nbval import kernel
from notebook_rules import ROOT, Saved

pytestmark = pytest.mark.needs("linux")

STREAMING = """%%server stream
from streamlab.serve import serve_files


def send(path, response):
    response.start(path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(65536):
            response.write(chunk)


serve_files(send)
"""

SECRETS = {
    "join": """
    with path.open("rb") as file:
        response.write(b"".join(iter(lambda: file.read(65536), b"")))
""",
    "read": """
    with path.open("rb") as file:
        data = memoryview(file.read())
    for start in range(0, len(data), 65536):
        response.write(data[start : start + 65536])
""",
    "list": """
    with path.open("rb") as file:
        for chunk in list(iter(lambda: file.read(65536), b"")):
            response.write(chunk)
""",
}
"""Ways to hold the whole file that look like streaming from outside."""

MEASURING = """verdicts(
    row("streaming", below(measure(stream, river.url, clients=1).growth, 1 * MiB), "1 MiB"),
)"""

CELLS = {
    "setup": "%load_ext streamlab\n"
    "from streamlab import MiB, below, measure, random_file, row, verdicts\n\n"
    "river = random_file(33 * MiB)",
    "stream": STREAMING.strip(),
    "measure-stream": MEASURING,
}


def secretly(secret: str) -> str:
    """The streaming server's source, with a hidden fault in place of its loop."""
    head, _, _ = STREAMING.partition('    with path.open("rb")')
    return f"{head.rstrip()}{SECRETS[secret]}\n\nserve_files(send)"


BAD = ("failure", "error")


@dataclass(frozen=True)
class Report:
    """The results of nbval for a notebook's code cells, by their numbers from 0."""

    outcomes: dict[int, str]
    words: str

    @property
    def failed(self) -> set[int]:
        """The cells that failed."""
        return {number for number, outcome in self.outcomes.items() if outcome in BAD}


def nbval(*notebooks: Path, ci: bool = False) -> dict[str, Report]:
    """Run notebooks in any folder as `make test` does; returns the report of each, by its name."""
    folder = notebooks[0].parent
    told = folder / "report.xml"
    settings = ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}"]
    plugins = ["-p", "conftest", "-p", "no:cacheprovider"]  # the repository's conftest.py
    command = [sys.executable, "-m", "pytest", "--nbval", *settings, *plugins]
    command += ["-q", "--color=no", f"--junitxml={told}"]
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    if ci:
        environment["CI"] = "1"
    result = subprocess.run(
        [*command, *map(str, notebooks)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    reports = {path.stem: _report(told, path) for path in notebooks}
    assert (result.returncode == 1) == any(report.failed for report in reports.values())
    return reports


def _report(told: Path, path: Path) -> Report:
    outcomes, words = {}, []
    for case in ElementTree.parse(told).iter("testcase"):
        if case.attrib["classname"] != path.name:
            continue
        number = int(case.attrib["name"].removeprefix("Cell "))
        children = [child for child in case if child.tag in ("failure", "error", "skipped")]
        outcomes[number] = children[0].tag if children else "passed"
        words += [f"{child.attrib.get('message', '')}\n{child.text or ''}" for child in children]
    assert outcomes, f"nbval said nothing about {path.name}"
    return Report(outcomes, "\n".join(words))


def write(path: Path, node: NotebookNode) -> Path:
    """Write a notebook; returns its path."""
    path.write_text(v4.writes(node) + "\n", encoding="utf-8")
    return path


def save(path: Path) -> None:
    """Run a notebook and save it with its outputs, as `make notebooks` does."""
    rules.save_notebooks().save(path)


def cell(node: NotebookNode, name: str) -> Any:
    """The cell with an id."""
    return next(each for each in node.cells if each.id == name)


def another_server(source: str) -> Callable[[NotebookNode], None]:
    """Change the server and leave what was saved as it is."""
    return lambda node: cell(node, "stream").update(source=source)


def another_text(kind: str, old: str, new: str) -> Callable[[NotebookNode], None]:
    """Change what was saved of the measurement; `old` has to be there."""

    def change(node: NotebookNode) -> None:
        data = cell(node, "measure-stream").outputs[0].data
        assert old in data[kind]
        data[kind] = data[kind].replace(old, new)

    return change


def another_figure(node: NotebookNode) -> None:
    """Change the live figure alone."""
    output = cell(node, "measure-stream").outputs[0]
    [shown] = rules.rows(output)
    another_text("text/html", f">{shown.live}<", ">987 B<")(node)


def no_number(node: NotebookNode) -> None:
    """Sabotage the server, and take number and output from the cell that would tell."""
    another_server(secretly("read"))(node)
    cell(node, "measure-stream").update(execution_count=None, outputs=[])


def needs_more(node: NotebookNode) -> None:
    """Need something that no machine has."""
    node.metadata["streamlab"] = {"needs": ["linux", "no-such-tool"]}


def nothing(node: NotebookNode) -> None:
    """Change nothing."""


CHANGES: dict[str, Callable[[NotebookNode], None]] = {
    "untouched": nothing,
    **{f"secret_{name}": another_server(secretly(name)) for name in SECRETS},
    "other_figure": another_figure,
    "other_verdict": another_text("text/plain", "below 1 MiB", "below 2 MiB"),
    "other_verdict_html": another_text("text/html", "below 1 MiB", "below 2 MiB"),
    "other_prediction": another_text("text/html", ">1 MiB<", ">9 MiB<"),
    "no_number": no_number,
    "needy": needs_more,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny lesson, saved, and its changed copies."""
    folder = tmp_path_factory.mktemp("nbval")
    cells = [v4.new_code_cell(source, id=name) for name, source in CELLS.items()]
    save(write(folder / "saved.ipynb", v4.new_notebook(cells=cells)))
    node = rules.read(folder / "saved.ipynb").node
    for name, change in CHANGES.items():
        changed = copy.deepcopy(node)
        change(changed)
        write(folder / f"{name}.ipynb", changed)
    return folder


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[str, Report]:
    """What nbval says of each copy."""
    return nbval(*(folder / f"{name}.ipynb" for name in CHANGES))


def test_the_saved_lesson_holds(folder: Path) -> None:
    """The saved lesson keeps all rules but one: its guess is in the cell that shows it."""
    saved = rules.read(folder / "saved.ipynb")
    applied = [rule for rule in rules.FOR_ALL if rule is not rules.guesses_are_marked]
    assert [rule(saved) for rule in applied] == [[]] * len(applied)
    assert rules.verdicts_hold(saved) == []


def test_an_untouched_lesson_passes(reports: dict[str, Report]) -> None:
    assert reports["untouched"].outcomes == {0: "passed", 1: "passed", 2: "passed"}


@pytest.mark.parametrize("secret", SECRETS)
def test_a_server_that_secretly_loads_all_fails(reports: dict[str, Report], secret: str) -> None:
    report = reports[f"secret_{secret}"]
    assert report.failed == {2}
    assert "Cell outputs differ" in report.words
    assert "(not below 1 MiB)" in report.words


def test_another_live_figure_passes(reports: dict[str, Report]) -> None:
    assert reports["other_figure"].failed == set()


@pytest.mark.parametrize("name", ["other_verdict", "other_verdict_html", "other_prediction"])
def test_another_text_fails(reports: dict[str, Report], name: str) -> None:
    assert reports[name].failed == {2}
    assert "Cell outputs differ" in reports[name].words


def test_a_cell_without_a_number_escapes_nbval_and_not_the_rules(
    reports: dict[str, Report], folder: Path
) -> None:
    assert reports["no_number"].failed == set()
    saved = rules.read(folder / "no_number.ipynb")
    assert rules.every_cell_ran_in_order(saved) == ["measure-stream: number None, but it is cell 3"]


def test_a_notebook_that_lacks_something_is_skipped_whole(reports: dict[str, Report]) -> None:
    report = reports["needy"]
    assert report.outcomes == {0: "skipped", 1: "skipped", 2: "skipped"}
    assert "missing here: no-such-tool: not installed" in report.words


def test_a_notebook_that_lacks_something_fails_under_ci(folder: Path) -> None:
    report = nbval(folder / "needy.ipynb", ci=True)["needy"]
    assert report.failed == {0, 1, 2}
    assert "CI may skip nothing" in report.words and "no-such-tool" in report.words


def test_chapter_00_fails_when_its_streaming_server_loads_all(tmp_path: Path) -> None:
    node = rules.read(ROOT / "notebooks" / "00_start_here.ipynb").node
    ids = [each.id for each in node.cells]
    del node.cells[ids.index("timeline") + 1 :]
    source = cell(node, "stream").source
    assert "file.read(65536)" in source
    cell(node, "stream").source = source.replace("file.read(65536)", "file.read()")
    report = nbval(write(tmp_path / "00_start_here.ipynb", node))["00_start_here"]
    code = [each.id for each in Saved(tmp_path, node).code]
    assert {code[number] for number in report.failed} == {"measure-stream", "timeline"}
    assert "Cell outputs differ" in report.words
    assert "64 MiB (not below 1 MiB)" in report.words


def test_its_kernels_are_spoken_with_by_files() -> None:
    """Each kernel has a folder for its sockets, and no port that another program could get."""
    managers = [kernel.KernelManager() for _ in range(2)]
    folders = [Path(each.connection_file).parent for each in managers]
    assert {each.transport for each in managers} == {"ipc"}
    assert folders[0] != folders[1] and all(folder.is_dir() for folder in folders)
    managers.clear()
    gc.collect()
    assert not any(folder.exists() for folder in folders)
