"""The repository keeps its own rules: one pinned list, one version, imports that point one way."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import streamlab

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "streamlab"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

LAYERS = [
    {"cli"},
    {"grading"},
    {"magics"},
    {"display", "conversation"},
    {"leaky_checks"},
    {"client_checks"},
    {"hybrid_checks", "load_checks"},
    {"app_checks", "loop_checks", "proxy_checks"},
    {"framing_checks", "range_checks", "proxy_clients", "proxy_forms"},
    {"range_answers"},
    {"talk"},
    {"checks", "origin"},
    {"request_forms"},
    {"examples"},
    {"testing"},
    {"labs"},
    {"buffers", "experiment"},
    {"browser", "clients"},
    {"server"},
    {"patience", "sandbox", "supervise", "serve"},
    {"memory", "seccomp"},
    {"archives", "files", "results"},
    {"environment", "tools"},
    {"errors"},
]
"""The rooms of the library, from top to bottom; a module imports only from rooms below its own."""

BESIDE = {"doctor": "cli"}
"""A module that stands beside another one: it imports what that may, and that may import it."""

REGISTRIES = re.compile(
    r"py[p]i\.(?:org|python)|pythonhoste[d]\.org|anacond[a]\.(?:org|com)|npmj[s]\.(?:org|com)"
    r"|crate[s]\.io|prox[y]\.golang|deb\.debia[n]\.org|index-ur[l]|index_ur[l]"
)
MACHINE_PATHS = re.compile(r"/roo[t]/|/hom[e]/|/User[s]/|/wor[k]/|[A-Z]:\\\\?User[s]")


EXAMPLES = ROOT / "tests" / "test_notebooks.py"
"""Holds such paths on purpose: it tests the rule that keeps them out of notebooks."""


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
def pins() -> dict[str, list[Requirement]]:
    """The lines of requirements.txt by the names of packages."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
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


def test_every_line_is_a_pin() -> None:
    """requirements.txt has exact versions, markers where needed, comments, and no option at all."""
    for line in (ROOT / "requirements.txt").read_text().splitlines():
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
    "wanted",
    [
        *PROJECT["project"]["dependencies"],
        *(
            each
            for name, group in PROJECT["project"]["optional-dependencies"].items()
            for each in group
            if name not in UNPINNED
        ),
    ],
)
def test_every_dependency_is_pinned_within_its_range(wanted: str) -> None:
    """Each dependency, of the library or of its development, has a pin that its range allows."""
    requirement = Requirement(wanted)
    lines = pins().get(canonicalize_name(requirement.name), [])
    assert lines, f"{wanted} is not pinned in requirements.txt"
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
    """It can be imported from the top, and says what it is if it can."""
    thing = getattr(streamlab, name)
    if inspect.isfunction(thing) or inspect.isclass(thing):
        assert thing.__doc__ and thing.__doc__.strip()
        assert not thing.__doc__.startswith(f"{name}("), "a docstring that dataclass made"


@pytest.mark.parametrize("name", streamlab.__all__)
def test_every_public_name_is_tested(name: str) -> None:
    """It is spoken of in the tests."""
    if name == "__version__":
        return
    word = re.compile(rf"\b{name}\b")
    assert any(word.search(path.read_text()) for path in (ROOT / "tests").glob("test_*.py"))


def test_the_surface_is_listed() -> None:
    """The list has no name twice, and `dir` shows it."""
    assert len(set(streamlab.__all__)) == len(streamlab.__all__)
    assert dir(streamlab) == sorted(streamlab.__all__)


def test_an_unknown_name() -> None:
    """A name that is not there is the usual error."""
    with pytest.raises(AttributeError, match="module 'streamlab' has no attribute 'nothing'"):
        _ = streamlab.nothing


def test_the_surface_loads_on_use() -> None:
    """To import the library loads none of its modules."""
    ran = run(
        sys.executable,
        "-c",
        "import sys, streamlab; print([m for m in sys.modules if m.startswith('streamlab.')])",
    )
    assert ran.stdout == "[]\n", ran.stderr


# The rooms of the library


def modules() -> list[str]:
    """The library's modules, those in folders by the folder's name."""
    files = [path.relative_to(LIBRARY).with_suffix("") for path in LIBRARY.rglob("*.py")]
    return sorted({file.parts[0] for file in files} - {"__init__"})


def sources(module: str) -> list[Path]:
    """The files of a module, or of a folder of modules."""
    return [LIBRARY / f"{module}.py", *(LIBRARY / module).rglob("*.py")]


def imports(source: Path, *, top: bool = False) -> set[str]:
    """The dotted names that a file imports; with `top`, only outside functions and classes."""
    tree = ast.parse(source.read_text()) if source.is_file() else ast.Module([], [])
    found: set[str] = set()
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rank(module: str) -> int:
    """How far down a module stands."""
    module = BESIDE.get(module, module)
    return next(number for number, layer in enumerate(LAYERS) if module in layer)


@pytest.mark.parametrize("module", modules())
def test_every_module_has_its_place(module: str) -> None:
    """A new module gets a room in the order above."""
    assert module in BESIDE or any(module in layer for layer in LAYERS)


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str) -> None:
    """A module imports from rooms below its own, wherever in it the import stands."""
    names = set().union(*(imports(source) for source in sources(module)))
    used = {name.split(".")[1] for name in names if name.startswith("streamlab.")}
    for other in used & set(modules()) - {module}:
        beside = BESIDE.get(other) == module
        assert beside or rank(other) > rank(module), f"{module} imports {other}"


@pytest.mark.parametrize("module", ["supervise", "serve"])
def test_what_runs_beside_a_server_is_small(module: str) -> None:
    """At their top these two import the standard library alone."""
    names = {name.split(".")[0] for name in imports(LIBRARY / f"{module}.py", top=True)}
    assert names <= sys.stdlib_module_names


def test_proc_is_read_in_one_module() -> None:
    """Where processes are read from is the business of `memory.py` alone."""
    word = "/" + "proc"
    users = {path.name for path in LIBRARY.rglob("*.py") if word in path.read_text()}
    assert users == {"memory.py"}


@pytest.mark.parametrize("module", modules())
def test_every_module_imports(module: str) -> None:
    """Each can be imported by itself, and says what it is for."""
    assert importlib.import_module(f"streamlab.{module}").__doc__


# Tools


def code() -> list[str]:
    """The Python files that git knows, but for what students edit in place."""
    files = [path for path in tracked() if path.suffix == ".py"]
    return [str(path) for path in files if path.relative_to(ROOT).parts[0] != "labs"]


def test_ruff_check() -> None:
    """The linter has nothing to say."""
    ran = run(sys.executable, "-m", "ruff", "check", *code())
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_ruff_format() -> None:
    """Every file is formatted."""
    ran = run(sys.executable, "-m", "ruff", "format", "--check", *code())
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_mypy() -> None:
    """The library's types hold, strictly."""
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


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda p: p.name
)
def test_links_lead_somewhere(page: Path) -> None:
    assert not dead_links(page)


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[it](page.md), [web](https://example.org/x), [gone](gone.md#part)")
    assert dead_links(page) == ["gone.md"]


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
