"""The site as a reader has it: built once, then looked at, in files and in Chromium.

The build takes a minute, so `make site-test` and `make soak` run it, and `make test` does not.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab_browser import PATIENCE, chromium
from playwright.sync_api import Browser, Page

from streamlab.handout.guesses import is_guess

ROOT = Path(__file__).parents[2]
SLOW = PATIENCE * 2 * 1000
"""Milliseconds that a page may take on a busy machine."""

lacking = [
    name
    for name in ("axe_playwright_python", "myst_nb", "sphinx_book_theme")
    if importlib.util.find_spec(name) is None
]
built_once = [
    pytest.mark.soak,
    pytest.mark.needs("chromium"),
    pytest.mark.skipif(bool(lacking), reason="make site-test installs what builds the site"),
]

LOOKED_AT = [
    "index.html",
    "notebooks/01_load_all_bug.html",
    "notebooks/07_frameworks.html",
    "labs/02_chunked_loop/lab.html",
    "docs/glossary.html",
    "docs/myths.html",
]


# What a file holds


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attributes}))


_LOADED = {"script", "link", "img", "iframe", "source", "video", "audio", "embed", "object"}
_NOT_LOADED = {"canonical", "author", "license", "next", "prev", "search", "index"}
_ELSEWHERE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
_IN_STYLE = re.compile(
    r"url\(\s*[\"']?(?:https?:)?//[^)]*\)|@import\s+[\"'](?:https?:)?//[^;]*", re.IGNORECASE
)


def from_elsewhere(html: str) -> list[str]:
    """What a page loads from another host: scripts, styles, pictures, frames."""
    found = []
    for tag, given in Tags(html).found:
        if tag in _LOADED and given.get("rel") not in _NOT_LOADED:
            values = [given.get(name, "") for name in ("src", "href", "srcset", "data", "poster")]
            found += [f"<{tag}> {value}" for value in values if _ELSEWHERE.match(value)]
    return found + _IN_STYLE.findall(html)


def faults_of_a_page(html: str) -> list[str]:
    """What is wrong with a page that no browser is needed for."""
    tags = Tags(html).found
    names = [tag for tag, _ in tags]
    found = from_elsewhere(html)
    if names.count("h1") != 1:
        found.append(f"{names.count('h1')} h1")
    found += [
        f"no alt: {given.get('src')}"
        for tag, given in tags
        if tag == "img" and not given.get("alt")
    ]
    found += [f"no scope: {given}" for tag, given in tags if tag == "th" and "scope" not in given]
    return found


RIGHT = '<h1>A</h1><img src="a.png" alt="b"><th scope="col">c</th><a href="https://e.org/">d</a>'


@pytest.mark.parametrize(
    "wrong",
    [
        '<script src="https://cdn.example.org/mathjax.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/a.css">',
        '<img src="http://example.org/a.png" alt="a">',
        "<style>@import 'https://fonts.example.org/a.css';</style>",
        "<style>@font-face { src: url(https://fonts.example.org/a.woff2) }</style>",
        "<h1>another</h1>",
        '<img src="a.png">',
        "<th>x</th>",
    ],
)
def test_a_fault_of_a_page_is_found(wrong: str) -> None:
    assert faults_of_a_page(RIGHT) == []
    assert len(faults_of_a_page(RIGHT + wrong)) == 1


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` builds it: any warning fails."""
    folder = tmp_path_factory.mktemp("site") / "built"
    command = [sys.executable, str(ROOT / "tools" / "website" / "build_site.py"), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == "", "no warning, and Mermaid was found"
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Look:
    """A page in a browser, and what went wrong in it."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.address = address
        self.faults: list[str] = []
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(SLOW)
        self.page.on("console", self._told)
        self.page.on("request", self._asked)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _told(self, message: Any) -> None:
        if message.type == "error":
            self.faults.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.faults.append(f"it asks for {request.url}")

    def open(self, name: str) -> Page:
        """A page of the site, with its diagrams drawn."""
        self.page.goto(self.address + name)
        self.page.wait_for_function(
            "[...document.querySelectorAll('.mermaid')].every(each => each.dataset.drawn)"
        )
        return self.page


@pytest.fixture
def look(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Look]:
    """Looks at the site; the parameter has options of the browser, such as its colours."""
    looking = Look(browser, address, **getattr(request, "param", {}))
    yield looking
    looking.context.close()
    assert looking.faults == []


class TestBuilt:
    """What needs the built site."""

    pytestmark = built_once

    def test_every_page_is_whole_and_loads_nothing_from_elsewhere(self, site: Path) -> None:
        pages = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]
        assert len(pages) > 25
        assert [
            f"{page}: {each}" for page in pages for each in faults_of_a_page(page.read_text())
        ] == []
        for style in site.rglob("*.css"):
            assert not _IN_STYLE.findall(style.read_text()), style

    @pytest.mark.parametrize("number", [f"{number:02}" for number in range(10)])
    def test_a_chapter_has_a_fold_for_each_guess(self, site: Path, number: str) -> None:
        (source,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        guesses = [each for each in nbformat.read(source, as_version=4).cells if is_guess(each)]
        html = (site / "notebooks" / f"{source.stem}.html").read_text()
        assert html.count('<details class="answer">') == len(guesses) > 0
        assert html.count("<details") == html.count("</details>")
        assert html.count("The figures are those of the saved run") == 1
        assert "<!-- " not in html.partition("<article")[2].partition("</article>")[0]

    def test_a_lab_lists_its_promises(self, site: Path) -> None:
        html = (site / "labs" / "02_chunked_loop" / "lab.html").read_text()
        assert "The promises, one by one" in html
        contract = (ROOT / "labs" / "02_chunked_loop" / "contract.toml").read_text()
        rows = html.partition("The promises, one by one</h2>")[2] or html
        for name in re.findall(r"^\[([a-z0-9-]+)\]$", contract, re.MULTILINE):
            assert f">{name}<" in rows, name

    @pytest.mark.parametrize("name", LOOKED_AT)
    @pytest.mark.parametrize(
        "look", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=str
    )
    def test_axe_finds_nothing(self, look: Look, name: str) -> None:
        """With every fold open: contrast, names, landmarks, order of headings."""
        page = look.open(name)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert violations(page) == []

    def test_axe_finds_what_is_wrong(self, look: Look) -> None:
        page = look.open("docs/glossary.html")
        page.evaluate(
            "document.querySelector('article').innerHTML += "
            '\'<p style="color:#999;background:#fff">pale</p><img src="../favicon.ico">\''
        )
        look.faults.clear()  # that picture may be missing
        assert {each.partition(":")[0] for each in violations(page)} >= {
            "color-contrast",
            "image-alt",
        }
        look.faults.clear()

    @pytest.mark.parametrize("name", LOOKED_AT)
    @pytest.mark.parametrize("look", [{"viewport": {"width": 390, "height": 800}}], indirect=True)
    def test_a_narrow_screen_shows_a_page_without_scrolling_sideways(
        self, look: Look, name: str
    ) -> None:
        page = look.open(name)
        page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

    def test_the_keyboard_opens_an_answer(self, look: Look) -> None:
        page = look.open("notebooks/01_load_all_bug.html")
        fold = page.locator("details.answer").first
        table = fold.locator("table").first
        assert not table.is_visible()
        fold.locator("summary").first.focus()
        page.keyboard.press("Enter")
        table.wait_for(state="visible")

    def test_paper_shows_what_is_folded(self, look: Look) -> None:
        page = look.open("notebooks/01_load_all_bug.html")
        closed = "document.querySelectorAll('main details:not([open])').length"
        before = page.evaluate(closed)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(closed) == 0 < before
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate(closed) == before

    def test_a_diagram_follows_the_colours(self, look: Look) -> None:
        page = look.open("notebooks/01_load_all_bug.html")
        for theme in ("dark", "light"):
            page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            page.locator(f".mermaid[data-drawn='{theme}'] svg").wait_for()

    def test_the_search_finds_a_word(self, look: Look) -> None:
        page = look.open("search.html?q=backpressure")
        page.locator("#search-results li a").first.wait_for()
        assert "backpressure" in page.locator("#search-results").inner_text().lower()


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with a page, each with the first element that it found."""
    spec = importlib.util.find_spec("axe_playwright_python")
    assert spec is not None and spec.submodule_search_locations
    page.evaluate((Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false})")[
        "violations"
    ]
    return [f"{each['id']}: {each['nodes'][0]['failureSummary']}" for each in found]
