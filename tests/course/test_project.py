"""The repository keeps its own rules: one pinned list, one version, imports that point one way."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import streamlab

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "streamlab"
LONGEST = 500
"""The most lines of a module."""
MOST = 6
"""The most parameters of a function, `self` and `cls` not counted."""
MORE = {
    "streamlab.grading.command.grade": "each parameter is an option of the command",
    "streamlab.lesson.experiment.fill": "notebooks write its keywords; it makes a `Load` of them",
    "streamlab.lesson.experiment.measure": "as `fill`",
    "streamlab.lesson.experiment.waiting": "as `fill`",
    "streamlab.probe.command.probe": "each parameter is an option of the command",
    "streamlab.process.server.Server.__init__": "notebooks write its keywords; it makes "
    "`Conditions` of those that go on to the supervisor",
}
"""Functions that have more, each with the reason."""
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

REGISTRIES = re.compile(
    r"py[p]i\.(?:org|python)|pythonhoste[d]\.org|anacond[a]\.(?:org|com)|npmj[s]\.(?:org|com)"
    r"|crate[s]\.io|prox[y]\.golang|deb\.debia[n]\.org|index-ur[l]|index_ur[l]"
)
MACHINE_PATHS = re.compile(r"/roo[t]/|/hom[e]/|/User[s]/|/wor[k]/|[A-Z]:\\\\?User[s]")


EXAMPLES = ROOT / "tests" / "course" / "test_notebooks.py"
"""A file that has such paths on purpose, because it tests the rule against them."""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command at the root of the repository."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@cache
def tracked() -> list[Path]:
    """The files that git knows and that are there."""
    if find_git() is None:
        pytest.skip("not a git checkout")
    listed = run("git", "ls-files", "-z").stdout.split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def find_git() -> str | None:
    """The top of the git checkout that this is, if it is one."""
    try:
        ran = run("git", "rev-parse", "--show-toplevel")
    except FileNotFoundError:
        return None
    return ran.stdout.strip() or None


@cache
def pins(file: str = "requirements.txt") -> dict[str, list[Requirement]]:
    """The lines of a file of pins by the names of packages."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / file).read_text().splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            pin = Requirement(line)
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


# Dependencies


def test_conda_and_binder_use_the_one_list() -> None:
    """environment.yml has Python, pip, and in its pip section the pinned list and this library."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    sections = [each for each in environment["dependencies"] if isinstance(each, dict)]
    assert sections == [{"pip": ["-r requirements.txt", "-e ."]}]
    names = [Requirement(each).name for each in environment["dependencies"] if type(each) is str]
    assert names == ["python", "pip"]


FOR_THE_SITE = "requirements-site.txt"


@pytest.mark.parametrize("file", ["requirements.txt", FOR_THE_SITE])
def test_every_line_is_a_pin(file: str) -> None:
    """A file of pins has exact versions, markers where needed, comments, and no option at all."""
    for line in (ROOT / file).read_text().splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!+_-]*( ; [^;]+)?", line), line


def test_no_package_is_pinned_twice_for_one_machine() -> None:
    """Several pins of a package have markers that exclude each other."""
    machines = [
        {"python_version": version, "python_full_version": f"{version}.7"}
        for version in ("3.11", "3.12", "3.13", "3.14")
    ]
    for name, lines in pins().items():
        for machine in machines:
            fitting = [pin for pin in lines if pin.marker is None or pin.marker.evaluate(machine)]
            assert len(fitting) <= 1, f"{name} on {machine}"


UNPINNED = {"nbgrader"}
"""Extras outside the one list: nbgrader would add its extensions to every student's JupyterLab."""


@pytest.mark.parametrize(
    ("wanted", "file"),
    [
        *((each, "requirements.txt") for each in PROJECT["project"]["dependencies"]),
        *(
            (each, FOR_THE_SITE if name == "site" else "requirements.txt")
            for name, group in PROJECT["project"]["optional-dependencies"].items()
            for each in group
            if name not in UNPINNED
        ),
    ],
)
def test_every_dependency_is_pinned_within_its_range(wanted: str, file: str) -> None:
    """Each dependency, of the library or of an extra, has a pin that its range allows."""
    requirement = Requirement(wanted)
    lines = pins(file).get(canonicalize_name(requirement.name), [])
    assert lines, f"{wanted} is not pinned in {file}"
    for pin in lines:
        (version,) = pin.specifier
        assert requirement.specifier.contains(version.version, prereleases=True), f"{pin}"


def test_markers_can_be_read() -> None:
    """A marker that pip could not evaluate would stop every installation."""
    for lines in pins().values():
        for pin in lines:
            if pin.marker is not None:
                assert Marker(str(pin.marker)).evaluate() in (True, False)


def test_the_range_of_python_is_one() -> None:
    """environment.yml, both Makefiles and the READMEs have the range that pyproject.toml has."""
    project = PROJECT["project"]
    pythons = [each.rpartition(" ")[2] for each in project["classifiers"]]
    minors = [int(each.removeprefix("3.")) for each in pythons]
    oldest, newest = pythons[0], pythons[-1]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert project["requires-python"] == f">={oldest}"
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"][0] == f"python>={oldest},<3.{minors[-1] + 1}"
    for folder in (ROOT, ROOT / "tools" / "student"):
        text = (folder / "Makefile").read_text()
        assert f"for p in python3 {' '.join(f'python{each}' for each in pythons[::-1])} " in text
        assert f"not (3, {minors[0]}) <= sys.version_info < (3, {minors[-1] + 1})" in text
        assert f"Python {oldest} to {newest} is needed" in text
        assert f"With Python {oldest} to {newest}" in (folder / "README.md").read_text()


# The version


def test_the_version_has_one_home() -> None:
    """The package's version is read from the library, and nowhere written again."""
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    dynamic = PROJECT["tool"]["setuptools"]["dynamic"]
    assert dynamic["version"] == {"attr": "streamlab.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", streamlab.__version__)


# The public surface


@pytest.mark.parametrize("name", streamlab.__all__)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    """Each name can be imported from the package, and has a docstring if it can."""
    thing = getattr(streamlab, name)
    if inspect.isfunction(thing) or inspect.isclass(thing):
        assert thing.__doc__ and thing.__doc__.strip()
        assert not thing.__doc__.startswith(f"{name}("), "a docstring that dataclass made"


@pytest.mark.parametrize("name", streamlab.__all__)
def test_every_public_name_is_tested(name: str) -> None:
    """The tests mention each public name."""
    if name == "__version__":
        return
    word = re.compile(rf"\b{name}\b")
    assert any(word.search(path.read_text()) for path in (ROOT / "tests").glob("**/test_*.py"))


def test_the_surface_is_listed() -> None:
    """The list has no name twice, and `dir` shows it."""
    assert len(set(streamlab.__all__)) == len(streamlab.__all__)
    assert dir(streamlab) == sorted(streamlab.__all__)


def test_an_unknown_name() -> None:
    """A name that is not there is the usual error."""
    with pytest.raises(AttributeError, match="module 'streamlab' has no attribute 'nothing'"):
        _ = streamlab.nothing


def test_the_surface_loads_on_use() -> None:
    """Importing the library loads none of its modules."""
    ran = run(
        sys.executable,
        "-c",
        "import sys, streamlab; print([m for m in sys.modules if m.startswith('streamlab.')])",
    )
    assert ran.stdout == "[]\n", ran.stderr


# The rooms of the library


def modules() -> list[str]:
    """The library's modules, with dots."""
    files = [path.relative_to(ROOT).with_suffix("") for path in LIBRARY.rglob("*.py")]
    return sorted(".".join(file.parts) for file in files if file.name != "__init__")


def imported_at_the_top(source: Path) -> set[str]:
    """The packages that a file imports outside functions and classes."""
    found: set[str] = set()
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name.split(".")[0] for name in found}


def test_imports_point_down() -> None:
    """A module imports only from layers below its own, as listed in pyproject.toml."""
    ran = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_an_import_that_points_up_is_found(tmp_path: Path) -> None:
    """lint-imports fails for an import from a higher layer."""
    copy = tmp_path / "streamlab"
    shutil.copytree(LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (copy / "files.py").open("a") as file:
        file.write("import streamlab.grading.run  # noqa\n")
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    ran = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "streamlab.files is not allowed to import streamlab.grading" in ran.stdout


@pytest.mark.parametrize("module", modules())
def test_no_module_is_too_long_to_be_read(module: str) -> None:
    """A module has at most 500 lines."""
    file = ROOT / (module.replace(".", "/") + ".py")
    assert len(file.read_text().splitlines()) <= LONGEST


def long_lists(tree: ast.AST, place: str) -> Iterator[str]:
    """The functions below `place` that have more than `MOST` parameters, by their full names.

    What `*` and `**` collect is not counted, as in ruff's rule PLR0913.
    """
    for node in ast.iter_child_nodes(tree):
        name = place
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{place}.{node.name}"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            if len([each for each in given if each.arg not in ("self", "cls")]) > MOST:
                yield name
        yield from long_lists(node, name)


def test_what_travels_together_is_one_parameter() -> None:
    """No function has more than `MOST` parameters, except those that are listed in `MORE`."""
    found: list[str] = []
    for module in modules():
        source = ROOT / (module.replace(".", "/") + ".py")
        found += long_lists(ast.parse(source.read_text()), module)
    assert sorted(found) == sorted(MORE)


def test_a_long_list_of_parameters_is_found() -> None:
    """Also one of keywords, of a method, and of a function inside of another one."""
    tree = ast.parse(
        "class A:\n"
        "    def six(self, a, b, c, d, e, f): ...\n"
        "    async def seven(self, a, b, c, d, e, f, g): ...\n"
        "def outer(a, /, b, *c, d, e, f, g, **h):\n"
        "    def inner(a, b, c, *, d, e, f, g): ...\n"
    )
    assert list(long_lists(tree, "m")) == ["m.A.seven", "m.outer.inner"]


@pytest.mark.parametrize("module", ["process/supervise", "serve"])
def test_what_runs_beside_a_server_is_small(module: str) -> None:
    """These two modules import only the standard library at their top."""
    names = imported_at_the_top(LIBRARY / f"{module}.py")
    assert names <= sys.stdlib_module_names


def test_proc_is_read_in_two_modules() -> None:
    """Only `process/proc.py` and `process/memory.py` read `/proc`."""
    word = "/" + "proc"
    users = {path.name for path in LIBRARY.rglob("*.py") if word in path.read_text()}
    assert users == {"memory.py", "proc.py"}


@pytest.mark.parametrize("module", modules())
def test_every_module_imports(module: str) -> None:
    """Each module can be imported by itself, and has a docstring."""
    assert importlib.import_module(module).__doc__


# Tools


def code() -> list[str]:
    """The Python files that git knows, but for what students edit in place."""
    files = [path for path in tracked() if path.suffix == ".py"]
    return [str(path) for path in files if path.relative_to(ROOT).parts[0] != "labs"]


def test_ruff_check() -> None:
    """The linter finds nothing."""
    ran = run(sys.executable, "-m", "ruff", "check", *code())
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_ruff_format() -> None:
    """Every file is formatted."""
    ran = run(sys.executable, "-m", "ruff", "format", "--check", *code())
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_mypy() -> None:
    """The types of the library, the tests and the tools hold, strictly."""
    ran = run(sys.executable, "-m", "mypy")
    assert ran.returncode == 0, ran.stdout + ran.stderr


# What no file may hold


@pytest.mark.parametrize("pattern", [REGISTRIES, MACHINE_PATHS], ids=["registry", "machine"])
def test_no_address_of_a_registry_or_a_machine(pattern: re.Pattern[str]) -> None:
    """No tracked file holds the host of a package registry or a path of somebody's machine."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in tracked()
        if path != EXAMPLES
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if (match := pattern.search(line))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (REGISTRIES, "https://py" + "pi.org/simple"),
        (REGISTRIES, "--index-" + "url https://example.org"),
        (MACHINE_PATHS, "/ro" + "ot/.cache"),
        (MACHINE_PATHS, "/ho" + "me/ada/course"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str], text: str) -> None:
    """Each pattern finds such a text, in the middle of a line."""
    assert pattern.search(f"see {text} for more")


# What a reader finds


def dead_links(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    own = (link for link in links if "://" not in link)
    return [link for link in own if not (page.parent / link).exists()]


PAGES = pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda p: p.name
)


@PAGES
def test_links_lead_somewhere(page: Path) -> None:
    assert not dead_links(page)


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[it](page.md), [web](https://example.org/x), [gone](gone.md#part)")
    assert dead_links(page) == ["gone.md"]


def dead_names(page: Path) -> list[str]:
    """The paths, headings and targets of make that a page names and that are not there.

    A path begins with a folder of the repository; one with a placeholder, as `labs/NN_name/`, is
    none.
    """
    text = page.read_text()
    tops = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
    paths = re.findall(rf"(?<![\w./-])((?:{tops})/[\w./-]*\w/?)", text)
    dead = [path for path in paths if "NN" not in path and not (ROOT / path).exists()]
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    dead += [f"make {each}" for each in re.findall(r"`make ([a-z]+)", text) if each not in known]
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
    return dead + [f"#{each}" for each in re.findall(r"\]\(#(.*?)\)", text) if each not in anchors]


@PAGES
def test_pages_name_what_is_there(page: Path) -> None:
    assert not dead_names(page)


def test_a_dead_name_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n`streamlab/old.py`, `streamlab/cli.py`, `tests/NN/x.py`, `make labs`, "
        "`make old`, http://example.org/streamlab/x, [here](#a-page), [there](#no-page)"
    )
    assert dead_names(page) == ["streamlab/old.py", "make old", "#no-page"]


def missing_in_the_map(readme: str, notebooks: list[str], labs: list[str]) -> list[str]:
    """The chapters and labs that have no place in the table of their number's row."""
    rows = {row[2:4]: row for row in readme.splitlines() if re.match(r"\| \d\d \|", row)}
    places = [(each[:2], f"(notebooks/{each}.ipynb)") for each in notebooks]
    places += [(each[:2], f"(labs/{each}/lab.ipynb)") for each in labs]
    return [place for number, place in places if place not in rows.get(number, "")]


def test_the_map_is_complete() -> None:
    """Every chapter and every lab has its link in the README, in the row of its number."""
    notebooks = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    labs = sorted(path.name for path in (ROOT / "solutions").iterdir() if path.is_dir())
    assert [each[:2] for each in notebooks] == [f"{number:02}" for number in range(len(notebooks))]
    assert labs == notebooks[1:]
    readme = (ROOT / "README.md").read_text()
    assert not missing_in_the_map(readme, notebooks, labs)
    assert missing_in_the_map(readme, ["42_more"], ["42_more"]) != []
