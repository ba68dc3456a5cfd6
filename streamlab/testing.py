"""The pytest side of the labs' checks: the `launch` fixture, and one `CheckResult` for each test.

A lab's `test_lab.py` has a function `test_ID` for each check of its `lab.toml`. It starts the
student's program with `launch`, and says what is wrong with `fail(cause, evidence)`. This plugin
is loaded by pytest wherever streamlab is installed, and does nothing for other tests.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from streamlab import labs
from streamlab.errors import ServerError
from streamlab.labs import Lab
from streamlab.results import CheckResult, Outcome
from streamlab.server import Finished, Server, run_program

RESULT = pytest.StashKey[CheckResult]()


class CheckFailed(Exception):
    """A program does not do what a check asks for."""

    def __init__(self, cause: str, evidence: str, curl: str = "") -> None:
        super().__init__(evidence)
        self.cause = cause
        self.evidence = evidence
        self.curl = curl


class CouldNotRun(Exception):
    """A program did not start, or is no program at all."""


def fail(cause: str, evidence: str, curl: str = "") -> NoReturn:
    """End a check: `cause` is the misconception's name in lab.toml, `evidence` plain text."""
    raise CheckFailed(cause, evidence, curl)


Launch = Callable[..., Server]


class Workshop:
    """A copy of a lab's folder to run programs in, so that nothing they do to it is lost work."""

    def __init__(self, lab: Lab, replaced: dict[str, Path], scratch: Path) -> None:
        self.lab = lab
        self.folder = scratch / "desk"
        shutil.copytree(
            lab.folder,
            self.folder,
            ignore=shutil.ignore_patterns(labs.MEMORY, labs.STUBS, "test_lab.py", "__pycache__"),
        )
        for name, path in replaced.items():
            shutil.copy2(path, self.folder / name)
        self.root = Path(tempfile.mkdtemp(dir=scratch))
        self._broken: dict[str, str] = {}
        self._servers: list[Server] = []

    def program(self, name: str) -> Path:
        """The program to run; raises `CouldNotRun` for one that is missing or no Python."""
        file = self.folder / name
        if not file.is_file():
            raise CouldNotRun(f"there is no {name} in the lab's folder")
        try:
            compile(file.read_text(encoding="utf-8"), name, "exec")
        except SyntaxError as error:
            if error.lineno is None:
                raise CouldNotRun(f"{name} is no Python text: {error.msg}") from error
            raise CouldNotRun(
                f"{name}, line {error.lineno}: {error.msg}. Mend that line, then check again."
            ) from error
        except ValueError as error:  # not UTF-8, or with NUL bytes
            raise CouldNotRun(f"{name} is no Python text: {error}") from error
        return file

    def launch(self, name: str, **options: Any) -> Server:
        """Start a program as a server, in the lab's cup; raises `CouldNotRun` if that fails."""
        if name in self._broken:
            raise CouldNotRun(self._broken[name])
        file = self.program(name)
        # A limit on processes counts all those of this user, so it only makes sense in a sandbox.
        cup = replace(self.lab.limits, nproc=None)
        server = Server(
            file, self.root, **{"cup": cup, "cwd": self.folder, "probe": False, **options}
        )
        self._servers.append(server)
        try:
            return server.start()
        except ServerError as error:
            self._broken[name] = str(error).replace(str(self.folder) + "/", "")
            raise CouldNotRun(self._broken[name]) from error

    def run(self, name: str, *arguments: str, timeout: float = 30.0, **options: Any) -> Finished:
        """Run a program to its end, in the lab's cup; options as for `run_program`."""
        command = [sys.executable, str(self.program(name)), *arguments]
        cup = replace(self.lab.limits, nproc=None)
        return run_program(command, timeout=timeout, **{"cup": cup, "cwd": self.folder, **options})

    def call(self, name: str, function: str, *numbers: float) -> object:
        """What a function of a program returns, called in a process of its own.

        Arguments and result travel as JSON; what the program prints on the way is not the result.
        Raises `CheckFailed` when it raises, returns nothing that JSON can say, or takes too long.
        """
        self.program(name)
        caller = self.folder / f"call-{uuid.uuid4().hex}.py"
        answer = self.root / uuid.uuid4().hex
        module = name.removesuffix(".py")
        caller.write_text(
            f"import json, {module}\n"
            f"result = {module}.{function}(*{json.dumps(numbers)})\n"
            f"open({str(answer)!r}, 'w').write(json.dumps(result))\n"
        )
        asked = f"Called {function}({', '.join(f'{number:_}' for number in numbers)})."
        finished = self.run(caller.name, timeout=10)
        if not answer.is_file():
            words = finished.output.strip().splitlines()
            how = words[-1] if words else f"it ended with status {finished.status}"
            how = "it had not returned after 10 s" if finished.status is None else how
            fail("raises", f"{asked} It returned nothing: {how}")
        return json.loads(answer.read_text())

    def close(self) -> None:
        """End all servers."""
        for server in self._servers:
            server.stop()


# Options and fixtures


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("streamlab", "checks of the labs")
    group.addoption("--lab-seed", type=int, help="draw the same sizes, names and bytes again")
    group.addoption("--lab-results", help="file to write one JSON line a check to")
    group.addoption(
        "--lab-program",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="check the file at PATH in place of the lab's program NAME",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SEED] = config.getoption("--lab-seed") or labs.new_seed()


def pytest_report_header(config: pytest.Config) -> str | None:
    if any("lab" in str(argument) for argument in config.args):
        return f"seed: {config.stash[_SEED]} (give it again with --lab-seed)"
    return None


_SEED = pytest.StashKey[int]()


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The lab whose test file this is."""
    return Lab(request.path.parent)


@pytest.fixture
def workshop(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Workshop]:
    """A place to run the student's programs in; all of it is gone after the check."""
    pairs = (each.partition("=") for each in request.config.getoption("--lab-program"))
    replaced = {name: Path(path) for name, _, path in pairs}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        workshop = Workshop(lab, replaced, Path(scratch))
        try:
            yield workshop
        finally:
            workshop.close()


@pytest.fixture
def launch(workshop: Workshop, lab: Lab) -> Launch:
    """Start the lab's first program as a server: `launch()`; options as for `Server`."""
    return functools.partial(workshop.launch, lab.programs[0])


@pytest.fixture
def draw(request: pytest.FixtureRequest, lab: Lab) -> random.Random:
    """Where a check draws its sizes, names and bytes from: the run's seed, the lab, the check."""
    text = f"{request.config.stash[_SEED]}/{lab.name}/{request.node.name}"
    return random.Random(hashlib.sha256(text.encode()).digest())


# One result for each check


def _is_check(item: pytest.Item) -> bool:
    return item.path.name == "test_lab.py" and (item.path.parent / "lab.toml").is_file()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if not _is_check(item) or item.config.getoption("--lab-program"):
        return
    lab = Lab(item.path.parent)
    if not any(lab.attempted(lab.folder / name) for name in _programs_of(lab, item)):
        pytest.skip("not attempted yet: the program is still the stub")


def _programs_of(lab: Lab, item: pytest.Item) -> list[str]:
    """The programs that a check is about: all, unless lab.toml says which."""
    name = item.name.removeprefix("test_")
    return list(lab.manifest["checks"].get(name, {}).get("programs", lab.programs))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not _is_check(item) or (call.when != "call" and report.outcome == "passed"):
        return report
    lab = Lab(item.path.parent)
    check = lab.check(item.name.removeprefix("test_"))
    error = call.excinfo.value if call.excinfo else None
    outcome: Outcome
    cause = evidence = curl = ""
    match error:
        case None:
            outcome = "passed"
        case pytest.skip.Exception():
            outcome, evidence = "not_attempted", str(error)
        case CheckFailed():
            outcome, cause, evidence, curl = "failed", error.cause, error.evidence, error.curl
        case CouldNotRun():
            outcome, cause, evidence = "could_not_run", "could_not_run", str(error)
        case _:
            outcome, evidence = "grader_fault", str(report.longreprtext)[-4000:]
    result = CheckResult(
        lab=lab.name,
        check=check.id,
        kind=check.kind,
        points=check.points if outcome == "passed" else 0,
        max_points=check.points,
        outcome=outcome,
        cause=cause,
        evidence=evidence,
        curl=curl,
        seed=item.config.stash[_SEED],
        seconds=round(call.duration, 3),
    )
    if outcome in ("failed", "could_not_run"):
        report.longrepr = labs.as_text(lab, result)
    if results := item.config.getoption("--lab-results"):
        with Path(results).open("a", encoding="utf-8") as file:
            file.write(result.to_json() + "\n")
    return report
