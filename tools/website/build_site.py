"""Build the course's site from the saved notebooks and the other pages: what `make site` does.

    python tools/website/build_site.py [FOLDER]     (default: site/)

No notebook is run, and no network is used. Any warning of Sphinx, such as a dead link, is an error:
then the status is not 0. The folder is made anew each time, whole or not at all.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import mermaid
from folds import FoldError
from pages import COURSE, HERE, PageError, lay_out


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site; 0 if it was built without a warning."""
    parser = argparse.ArgumentParser(prog="build_site.py")
    parser.add_argument("folder", type=Path, nargs="?", default=COURSE / "site")
    folder: Path = parser.parse_args(arguments).folder.resolve()
    began = time.monotonic()
    if folder.exists() and any(folder.iterdir()) and not (folder / "objects.inv").is_file():
        print(f"{folder} is not empty and no site: it stays as it is.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="streamlab-site-") as scratch:
        try:
            pages = build(Path(scratch))
        except (PageError, FoldError) as error:
            print(f"The site can't be built: {error}", file=sys.stderr)
            return 1
        if not pages:
            return 1
        if folder.exists():
            shutil.rmtree(folder)
        shutil.move(Path(scratch) / "html", folder)
    seconds = time.monotonic() - began
    print(f"{pages} pages in {seconds:.0f} s. Open {folder / 'index.html'} in a browser.")
    return 0


def build(scratch: Path) -> int:
    """Build the site in `html` of a folder; the number of its pages, 0 if Sphinx warned.

    Raises `PageError` or `FoldError` if a page can't be made.
    """
    source = scratch / "source"
    source.mkdir()
    drawing = mermaid.find()
    pages = lay_out(COURSE, source, can_draw=drawing is not None)
    shutil.copy(HERE / "conf.py", source)
    shutil.copytree(HERE / "static", source / "_static")
    shutil.copytree(HERE / "templates", source / "_templates")
    if drawing is None:
        print("JupyterLab's Mermaid was not found: diagrams are shown as text.", file=sys.stderr)
    else:
        drawing.copy(source / "_static" / "mermaid")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going"]
    command += ["-d", str(scratch / "doctrees"), str(source), str(scratch / "html")]
    path = [str(HERE), str(COURSE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    status = subprocess.run(command, env=environment, check=False).returncode
    return len(pages) if status == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
