"""A film in a real browser: Chromium without a window, looking at a `<video>` element.

    seen = watch(server.url + film.url, seek=50)
    seen.seekable, seen.position, seen.picture

The browser runs in a process of its own (`python -m streamlab.lesson.browser`), under the
supervisor: the kernel of a notebook has an event loop that Playwright would not share, and nothing
of a browser may be left over, even when the kernel is killed.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from streamlab.errors import ToolError
from streamlab.executables import tool
from streamlab.process.program import run_program

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",  # should this machine have a proxy, it is not for us
]
STEP = 20.0
"""Seconds that the browser gets to be ready, on a busy machine."""


@cache
def driver_problem() -> str:
    """Why the program that drives the browser does not start here; empty if it does.

    Playwright brings it along, built for this system, but not all libraries that it needs.
    """
    from playwright._impl._driver import compute_driver_executable

    command = [*compute_driver_executable(), "--version"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"Playwright's driver does not start: {error}"
    if ran.returncode == 0:
        return ""
    words = ran.stderr.strip().splitlines() or [f"status {ran.returncode}"]
    missing = re.search(r"lib[^ :]+\.so[.0-9]*", words[-1])
    advice = f"the library {missing[0]} is missing" if missing else words[-1][:200]
    hint = " (package libatomic1)" if missing and "atomic" in missing[0] else ""
    return f"Playwright's driver does not start: {advice}{hint}"


@dataclass(frozen=True)
class Viewing:
    """What became of a film in a browser. Times are in seconds of the film."""

    duration: float = 0.0
    """How long the browser takes the film to be; 0 if it never learned that."""
    seekable: float = 0.0
    """How far one may jump: `video.seekable.end(0)`, 0 if nowhere."""
    position: float = 0.0
    """Where it stood at last: `video.currentTime`."""
    shown: bool = False
    """Whether there was a picture."""
    problem: str = ""
    """What went wrong, in a line; empty if nothing did."""
    png: bytes = b""
    """How the page looked at last."""

    @property
    def picture(self) -> Screenshot:
        """The page as it looked at last; end a cell with it."""
        return Screenshot(self.png, self.words)

    @property
    def words(self) -> str:
        """What there is to be seen, in a sentence."""
        if not self.png:
            return f"No picture: {self.problem or 'the browser showed none'}."
        if not self.shown:
            return f"A video player in Chromium that shows nothing: {self.problem or 'no picture'}."
        return f"A video player in Chromium, at {self.position:.0f} of {self.duration:.0f} seconds."


class Screenshot:
    """A picture of a page (PNG), and in words what is to be seen on it."""

    def __init__(self, png: bytes, says: str) -> None:
        self.png = png
        self.says = says

    def _repr_mimebundle_(self, **options: object) -> dict[str, str]:
        shown = {"image/png": base64.b64encode(self.png).decode()} if self.png else {}
        return {"text/plain": self.says, **shown}

    def __repr__(self) -> str:
        return self.says


def watch(
    url: str, seek: float | None = None, *, patience: float = 10.0, caption: str = ""
) -> Viewing:
    """Open a page with the film at `url`, wait for its first picture, and jump to `seek` (seconds).

    Each of the two steps gets `patience` seconds; a film that has shown no picture by then is not
    waited for any longer. Where Chromium is missing, or can't play the film, the `problem` of what
    is returned says so, and nothing is raised. Nothing of the browser is left running.
    """
    try:
        browser = tool("chromium")
    except ToolError as error:
        return Viewing(problem=str(error))
    if problem := driver_problem():
        return Viewing(problem=problem)
    with tempfile.TemporaryDirectory(prefix="streamlab-browser-") as folder:
        order = {
            "url": url,
            "seek": seek,
            "patience": patience,
            "caption": caption,
            "browser": browser,
        }
        program = [
            sys.executable,
            "-P",
            "-m",
            "streamlab.lesson.browser",
            folder,
            json.dumps(order),
        ]
        ran = run_program(program, timeout=2 * patience + 3 * STEP)
        answer, shot = Path(folder) / "viewing.json", Path(folder) / "page.png"
        if ran.status != 0 or not answer.is_file():
            why = ran.output.strip().splitlines()[-1:] or ["it does not say why"]
            return Viewing(problem=f"the browser did not come to its end: {why[0]}")
        found = Viewing(**json.loads(answer.read_text()))
        return replace(found, png=shot.read_bytes() if shot.is_file() else b"")


# In the browser's own process

_PLAYER = Path(__file__).with_name("player")
"""The page, with the film's URL and a caption to be filled in, and what is done in it."""


def _look(order: dict[str, Any], folder: Path) -> None:
    """Open the page, do what is ordered, and leave what was seen in the folder."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=order["browser"], args=ARGUMENTS, timeout=1000 * STEP
        )
        page = browser.new_page(viewport={"width": 640, "height": 400})
        words = {name: html.escape(order[name]) for name in ("url", "caption")}
        text = Template((_PLAYER / "page.html").read_text(encoding="utf-8")).substitute(words)
        page.set_content(text, wait_until="commit")
        watch_film = (_PLAYER / "watch.js").read_text(encoding="utf-8")
        found = page.evaluate(watch_film, [order["seek"], order["patience"]])
        page.screenshot(path=folder / "page.png")
        (folder / "viewing.json").write_text(json.dumps(found))
        browser.close()


def main(arguments: list[str] | None = None) -> None:
    """What `watch` runs: look at a film, and write down what was seen."""
    parser = argparse.ArgumentParser(
        prog="python -m streamlab.lesson.browser", description=main.__doc__
    )
    parser.add_argument("folder", type=Path, help="where the answer goes")
    parser.add_argument("order", help="what to look at, as JSON")
    options = parser.parse_args(arguments)
    _look(json.loads(options.order), options.folder)


if __name__ == "__main__":
    main()
