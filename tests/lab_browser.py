"""JupyterLab as a reader has it: a server process of its own, and Chromium to look at it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
from notebook_rules import TableRow, read
from playwright.sync_api import Browser, Page, sync_playwright

from streamlab.executables import find_tool

TOKEN = "of-the-tests"
PATIENCE = 60.0
"""Seconds that a single step may take on a busy machine."""
RUN_ALL = 150.0
"""Seconds that all cells of a notebook may take."""

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # all cells are drawn
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}


# The server


@dataclass(frozen=True)
class Lab:
    """A JupyterLab server that runs."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path

    def page_of(self, path: str) -> str:
        """The address at which a notebook is open in the lab, nothing remembered."""
        return f"{self.url}lab/tree/{path}?reset&token={TOKEN}"


def options(port: int = 0) -> list[str]:
    """What a server of the tests is told, on any free port from `port` on."""
    told = [
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port or 18888 + os.getpid() % 20000}",
        "--ServerApp.port_retries=200",
        f"--IdentityProvider.token={TOKEN}",
    ]
    return told + (["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else [])


def environment(home: Path) -> dict[str, str]:
    """An environment in which Jupyter finds and keeps all its settings in one folder."""
    folders = {
        "HOME": home,
        "IPYTHONDIR": home / "ipython",
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
    }
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    for name, values in SETTINGS.items():
        file = home / "settings" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    inherited = {name: value for name, value in os.environ.items() if "JUPYTER" not in name}
    return {**inherited, **{name: str(folder) for name, folder in folders.items()}}


def copy_of_lessons(folder: Path, lessons: Path) -> Path:
    """A fresh clone's notebooks, in a folder of their own."""
    folder.mkdir(parents=True)
    for path in lessons.glob("*.ipynb"):
        shutil.copy(path, folder)
    return folder


@contextmanager
def running_lab(command: list[str], folder: Path, home: Path) -> Iterator[Lab]:
    """Start a JupyterLab server in `folder`; with it end its kernels and all that they started."""
    log = home / "lab.log"
    settings = environment(home)
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Lab(process, _url(process, home / "runtime", log), folder)
    finally:
        left = end(process)
    assert not left, f"they outlived the lab: {left}"


def _url(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> str:
    """The server's address, once it has written it and listens."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                url = str(json.loads(file.read_text())["url"])
                if requests.get(f"{url}api", timeout=5).ok:
                    return url
            except (ValueError, requests.RequestException):  # half written, not listening yet
                pass
        time.sleep(0.1)
    raise TimeoutError(f"JupyterLab does not answer:\n{log.read_text()[-3000:]}")


def end(process: subprocess.Popen[bytes]) -> list[str]:
    """End a process and all that it started; returns what did not end by itself."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
    _, alive = psutil.wait_procs(family, timeout=20)
    names = [" ".join(_command(each)) for each in alive]
    for each in alive:
        each.kill()
    return names


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


# The browser


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_tool("chromium"), headless=True, args=CHROMIUM
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def notebook_page(browser: Browser, lab: Lab, name: str, script: str = "") -> Iterator[Page]:
    """A notebook, opened, with its kernel ready and nothing run yet.

    `script` runs in the page before those of JupyterLab.
    """
    context = browser.new_context(viewport={"width": 1200, "height": 1600})
    context.add_init_script(script)
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    try:
        page.goto(lab.page_of(name))
        last = len(read(lab.folder / name).node.cells) - 1
        page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{last}"]').wait_for()
        page.locator("#jupyterlab-splash").wait_for(state="detached")
        wait_for_kernel(page)
        dialogs = page.locator(".jp-Dialog").all_text_contents()
        assert not dialogs, f"JupyterLab asks: {dialogs}"
        yield page
    finally:
        context.close()


def wait_for_kernel(page: Page) -> None:
    """Wait until the kernel is there and has nothing to do.

    The status bar tells both. The notebook's own sign says "idle" also when there is no kernel
    yet, and cells that are run then do nothing.
    """
    text = re.compile(r" \| Idle$")
    page.locator("#jp-main-statusbar .jp-StatusBar-Item", has_text=text).first.wait_for()


def choose(page: Page, menu: str, entry: str) -> None:
    """Choose an entry of a menu by its text, as a reader does."""
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{menu}$")).click()
    text = re.compile(rf"^{re.escape(entry)}\u2026?$")
    page.locator(".lm-Menu-itemLabel", has_text=text).first.click()


@dataclass(frozen=True)
class Seen:
    """The content of a notebook's page."""

    prompts: list[str]
    """The text in the brackets before each code cell: a number, a star, or nothing."""
    errors: list[str]
    charts: int
    broken_charts: int
    tables: int
    rows: list[TableRow]
    unstyled: int
    """How many table cells have no style of their own."""
    columns_apart: bool
    """Whether every table's cells have room between them, as their style says."""

    @property
    def finished(self) -> bool:
        """Whether every code cell has a number."""
        return all(prompt.isdigit() for prompt in self.prompts)


_LOOK = """() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const notebook = document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook');
  const outputs = all('.jp-OutputArea-output', notebook);
  const images = all('.jp-RenderedImage img', notebook);
  const drawn = images.filter((image) => image.complete && image.naturalWidth > 50
    && image.naturalHeight > 50 && image.getBoundingClientRect().width > 50);
  const tables = all('.jp-OutputArea-output table', notebook)
    .filter((table) => table.querySelector('td.live'));
  const cells = tables.flatMap((table) => all('td, th', table));
  const rows = tables.flatMap((table) => all('tr', table))
    .filter((row) => all('td', row).findIndex((cell) => cell.className === 'live') === 2)
    .map((row) => all('td', row).slice(0, 3).map((cell) => cell.textContent.trim()));
  return {
    prompts: all('.jp-CodeCell .jp-InputPrompt', notebook)
      .map((prompt) => prompt.textContent.replace(/[\\[\\]:\\s]/g, '')),
    errors: outputs.filter((output) => output.dataset.mimeType?.includes('stderr')
      || output.querySelector('[data-mime-type$="stderr"], [data-mime-type$=".error"]'))
      .map((output) => output.textContent.trim().slice(0, 300)),
    charts: drawn.length,
    broken_charts: images.length - drawn.length,
    tables: tables.length,
    rows: rows,
    unstyled: cells.filter((cell) => !cell.getAttribute('style')).length,
    columns_apart: cells.every((cell) =>
      parseFloat(getComputedStyle(cell).paddingRight) >= 10),
  };
}"""


def look(page: Page) -> Seen:
    """Read the content of the page now."""
    found: dict[str, Any] = page.evaluate(_LOOK)
    rows = [TableRow(*row) for row in found.pop("rows")]
    return Seen(rows=rows, **found)


def look_at_rest(page: Page) -> Seen:
    """Read the content of the page once it no longer changes and every picture is drawn."""
    deadline = time.monotonic() + PATIENCE
    seen, before = look(page), None
    while (seen != before or seen.broken_charts) and time.monotonic() < deadline:
        page.wait_for_timeout(500)
        seen, before = look(page), seen
    return seen


def run_all(page: Page, timeout: float = RUN_ALL) -> Seen:
    """Clear what was saved, run all cells, and look when the kernel has nothing more to do.

    Waits until each code cell has a number, or an error has ended the run.
    """
    choose(page, "Edit", "Clear Outputs of All Cells")
    deadline = time.monotonic() + PATIENCE
    while (shown := look(page)) and any([*shown.prompts, *shown.rows, shown.charts]):
        assert time.monotonic() < deadline, "outputs were not cleared"
        page.wait_for_timeout(50)
    choose(page, "Run", "Run All Cells")
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        page.wait_for_timeout(250)
        seen = look(page)
        if (seen.finished or seen.errors) and "*" not in seen.prompts:
            wait_for_kernel(page)
            return look_at_rest(page)
    raise TimeoutError(f"not done after {timeout:.0f} s: {look(page)}")


_TALL = """(element) => {
  const last = [...element.querySelectorAll('.jp-Cell')].at(-1).getBoundingClientRect();
  return last.bottom - element.getBoundingClientRect().top + element.scrollTop;
}"""
"""How tall a notebook is, without the room below its last cell."""


def screenshots(page: Page, folder: Path, name: str, tall: int = 8000) -> list[Path]:
    """Pictures of the whole notebook from top to bottom, each at most so tall."""
    folder.mkdir(parents=True, exist_ok=True)
    scroller = page.locator(".jp-NotebookPanel .jp-WindowedPanel-outer").first
    height = int(scroller.evaluate(_TALL))
    page.set_viewport_size({"width": 1200, "height": min(height + 160, tall)})
    page.wait_for_timeout(500)
    step = int(scroller.evaluate("(element) => element.clientHeight"))
    taken = []
    try:
        for number, top in enumerate(range(0, height, step)):
            scroller.evaluate("(element, top) => { element.scrollTop = top; }", top)
            page.wait_for_timeout(200)
            taken.append(folder / f"{name}-{number}.png")
            page.screenshot(path=taken[-1])
    finally:
        page.set_viewport_size({"width": 1200, "height": 1600})
    return taken


def lab_command() -> list[str]:
    """How the tests start JupyterLab: that of this Python."""
    return [sys.executable, "-m", "jupyterlab", *options()]


def trusted(page: Page) -> bool:
    """Whether JupyterLab trusts the notebook: its own outputs, not those of a fresh clone."""
    title = page.locator(".jp-StatusItem-trust").first.get_attribute("title")
    return title is not None and "not trusted" not in title.lower()
