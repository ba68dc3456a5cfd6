"""A chapter in a real JupyterLab, in a browser: what a reader sees before and after running it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import lab_browser
import notebook_rules as rules
import psutil
import pytest
import requests
from lab_browser import Lab, Seen
from nbformat import v4
from notebook_rules import ROOT
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.needs("linux", "chromium")

CHAPTER = "01_load_all_bug.ipynb"

BROKEN = {
    "fine": "%load_ext streamlab\nfrom streamlab import MiB, below, row, verdicts",
    "failing": 'verdicts(row("streaming", below(5 * MiB, 1 * MiB)))',
    "raising": 'raise KeyError("on purpose")',
    "never-run": "print('too late')",
}

LATE_KERNEL = """{
  const fetch = window.fetch;
  window.fetch = async (request, ...more) => {
    if ((request.url ?? `${request}`).includes('/api/sessions')) {
      await new Promise((done) => setTimeout(done, 2000));
    }
    return fetch(request, ...more);
  };
}"""
"""For a page: all that JupyterLab asks of sessions, and so of kernels, is asked 2 s later."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab in a fresh copy of the lessons, and two notebooks with an error beside them."""
    folder = lab_browser.copy_of_lessons(
        tmp_path_factory.mktemp("lab") / "notebooks", ROOT / "notebooks"
    )
    cells = [v4.new_code_cell(source, id=name) for name, source in BROKEN.items()]
    metadata = rules.read(folder / CHAPTER).node.metadata
    broken = v4.new_notebook(cells=cells, metadata=metadata)
    for name in ("broken.ipynb", "late.ipynb"):  # two, because each has a kernel that stays
        (folder / name).write_text(v4.writes(broken))
    home = tmp_path_factory.mktemp("home")
    with lab_browser.running_lab(lab_browser.lab_command(), folder, home) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    with lab_browser.chromium() as running:
        yield running


def keep(page: Page, folder: Path, name: str) -> None:
    """Keep pictures of a page for people to look at, also where STREAMLAB_SCREENSHOTS says."""
    for picture in lab_browser.screenshots(page, folder, name):
        assert picture.stat().st_size > 10_000
        if wanted := os.environ.get("STREAMLAB_SCREENSHOTS"):
            Path(wanted).mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, wanted)


def wrong_with(seen: Seen, saved: rules.Saved) -> list[str]:
    """What is wrong on the page of a notebook that was saved like this, a line each."""
    outputs = [output for _, output in rules.outputs(saved)]
    charts = sum("image/png" in output.get("data", {}) for output in outputs)
    expected = [row for output in outputs for row in rules.rows(output)]
    complaints = [f"an error: {error}" for error in seen.errors]
    if seen.prompts != [str(number + 1) for number in range(len(saved.code))]:
        complaints.append(f"the cells are numbered {seen.prompts}")
    if seen.charts != charts or seen.broken_charts:
        complaints.append(f"{seen.charts} charts of {charts}, {seen.broken_charts} broken")
    if [(row.label, row.verdict) for row in seen.rows] != [
        (row.label, row.verdict) for row in expected
    ]:
        complaints.append(f"the verdicts are {seen.rows}, and saved is {expected}")
    complaints += [f"{row.label}: {row.verdict}" for row in seen.rows if not row.holds]
    complaints += [f"{row.label}: no live figure" for row in seen.rows if not row.live]
    if seen.unstyled or not seen.columns_apart:
        complaints.append(f"{seen.unstyled} cells of tables lost their style")
    return complaints


def test_a_fresh_clone_shows_what_was_saved(lab: Lab, browser: Browser, tmp_path: Path) -> None:
    saved = rules.read(lab.folder / CHAPTER)
    with lab_browser.notebook_page(browser, lab, CHAPTER) as page:
        assert not lab_browser.trusted(page)
        seen = lab_browser.look_at_rest(page)
        keep(page, tmp_path, "01-saved")
    assert seen.tables >= 3 and seen.charts >= 1
    assert wrong_with(seen, saved) == []


def test_a_chapter_runs_from_top_to_bottom(lab: Lab, browser: Browser, tmp_path: Path) -> None:
    saved = rules.read(lab.folder / CHAPTER)
    with lab_browser.notebook_page(browser, lab, CHAPTER) as page:
        seen = lab_browser.run_all(page)
        keep(page, tmp_path, "01-run")
    assert wrong_with(seen, saved) == []
    assert (lab.folder / ".streamlab" / "load_all.py").is_file()


def test_an_error_is_seen(lab: Lab, browser: Browser) -> None:
    saved = rules.read(lab.folder / "broken.ipynb")
    with lab_browser.notebook_page(browser, lab, "broken.ipynb") as page:
        seen = lab_browser.run_all(page)
    assert not seen.finished
    complaints = "\n".join(wrong_with(seen, saved))
    assert "an error:" in complaints and "on purpose" in complaints
    assert "numbered ['1', '2', '3', '']" in complaints
    assert "streaming: \u2717 5 MiB (not below 1 MiB)" in complaints


def test_a_kernel_that_comes_late_is_waited_for(lab: Lab, browser: Browser) -> None:
    with lab_browser.notebook_page(browser, lab, "late.ipynb", LATE_KERNEL) as page:
        seen = lab_browser.run_all(page)
    assert seen.prompts == ["1", "2", "3", ""]


def test_make_lab_opens_chapter_00_of_the_workspace(tmp_path: Path) -> None:
    """Runs in a copy of the repository that shares this environment, so none is made."""
    copy = tmp_path / "course"
    lab_browser.copy_of_lessons(copy / "notebooks", ROOT / "notebooks")
    for name in ("tools", "labs"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("Makefile", "README.md", "apt.txt", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, copy)
    (copy / ".venv").mkdir()
    (copy / ".venv" / "bin").symlink_to(Path(sys.prefix) / "bin")
    (copy / ".venv" / "streamlab.stamp").write_text(fingerprint(copy))
    home = tmp_path / "home"
    options = " ".join(lab_browser.options())
    settings = [f"PYTHON={sys.executable}", "SYSTEM=no", f"LAB_OPTIONS={options}"]
    command = ["make", "lab", *settings]
    with lab_browser.running_lab(command, copy, home) as lab:
        told = (home / "lab.log").read_text()
        family = psutil.Process(lab.process.pid).children(recursive=True)
        token = {"token": lab_browser.TOKEN}
        path = "notebooks/00_start_here.ipynb"
        answer = requests.get(f"{lab.url}lab/tree/{path}", token, timeout=30)
        notebook = requests.get(f"{lab.url}api/contents/{path}", token, timeout=30).json()
        top = requests.get(f"{lab.url}api/contents", token, timeout=30).json()
        stranger = requests.get(f"{lab.url}api/contents/{path}", timeout=30)
    assert "Preparing .venv" not in told
    assert "workspace/ is yours: chapters and labs to work in.\n" in told
    assert f"/lab/tree/{path}?token=" in told, "the address that it opens"
    assert answer.status_code == 200 and "JupyterLab" in answer.text
    assert not any(cell.get("outputs") for cell in notebook["content"]["cells"])
    assert {"README.md", "labs", "notebooks"} <= {each["name"] for each in top["content"]}
    assert stranger.status_code == 403
    assert family and not any(each.is_running() for each in family)
    made = (copy / "workspace" / path).read_text()
    assert "my_remainder = ..." in made
    assert (copy / path).read_bytes() == (ROOT / path).read_bytes()


def fingerprint(copy: Path) -> str:
    """The right stamp of the environment, for a copy of the repository."""
    spec = importlib.util.spec_from_file_location("made", copy / "tools" / "make_environment.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stamp: str = module.fingerprint()
    return stamp
