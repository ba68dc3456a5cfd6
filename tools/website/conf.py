"""How Sphinx builds the site. `build_site.py` copies this file beside the pages, and starts it."""

from pathlib import Path
from typing import Any

from saved_html import with_scopes

HERE = Path(__file__).parent

project = "Pour the River Through a Cup"
author = "The maintainers of Pour the River Through a Cup"
copyright = "the maintainers of the course. Text and pictures: CC BY 4.0. Code: BSD 3-Clause"
language = "en"

extensions = ["myst_nb"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
nitpicky = True
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# The notebooks stand as they were saved: none is run, and none brings a script from elsewhere.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, Any] = {}

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
templates_path = ["_templates"]
html_sidebars = {"**": ["start.html", "search-button-field.html", "sbt-sidebar-nav.html"]}
html_context = {"default_mode": "auto"}
html_css_files = ["course.css"]
html_js_files: list[str | tuple[str, dict[str, str]]] = ["course.js"]
html_favicon = "_static/cup.svg"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search stands in the sidebar
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
if (HERE / "_static" / "mermaid").is_dir():
    html_js_files += ["mermaid/pieces.js", ("diagrams.js", {"defer": "defer"})]


def setup(app: Any) -> None:
    """Give every head of a table its scope, on every page."""
    app.connect("html-page-context", _mend_tables)


def _mend_tables(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    if "body" in context:
        context["body"] = with_scopes(context["body"])
