"""The pytest side of the labs' checks: the `launch` fixture, and one `CheckResult` for each test.

A lab's `test_lab.py` has a function `test_ID` for each check of its `lab.toml`. It starts the
student's program with `launch`, and says what is wrong with `fail(cause, evidence)`. This plugin
is loaded by pytest wherever streamlab is installed, and does nothing for other tests.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from streamlab import environment, labs
from streamlab.errors import DownloadError, ServerError
from streamlab.files import KiB
from streamlab.labs import Lab
from streamlab.results import CheckResult, Outcome
from streamlab.sandbox import Sandbox, make_group
from streamlab.server import NOT_LISTENING, Finished, Server, run_program

LONGEST = 512 * KiB
"""What a student's program may be long, in bytes."""
OVERHEAD = 512
"""What a control group allows beyond the program's own memory, in MiB: it counts page cache too."""
PROCESSES = 128
"""How many processes and threads a sandboxed program may have where lab.toml does not say."""


class CheckFailed(Exception):
    """A program does not do what a check asks for."""

    def __init__(self, cause: str, evidence: str, curl: str = "", promise: str = "") -> None:
        super().__init__(evidence)
        self.cause = cause
        self.evidence = evidence
        self.curl = curl
        self.promise = promise


class CouldNotRun(Exception):
    """A program did not start, or is no program at all."""


def fail(cause: str, evidence: str, curl: str = "") -> NoReturn:
    """End a check: `cause` is the misconception's name in lab.toml, `evidence` plain text."""
    raise CheckFailed(cause, evidence, curl)


@contextmanager
def promise(name: str, **others: str) -> Iterator[None]:
    """Put one promise of the lab's text to the test: a failure inside says that it was broken.

    `name` is the promise's id in the lab's contract.toml. Of nested promises the inner one counts.
    A shared check may ask for two things at once: `others` are the promises that are broken, in
    place of `name`, by failures of these causes: `promise("reading-stops", busy_loop="rests")`.
    """
    for each in (name, *others.values()):
        if each not in _PROBED:
            _PROBED.append(each)
    try:
        yield
    except CheckFailed as failure:
        # The failure carries its promise, so checks may run in several threads at once.
        failure.promise = failure.promise or others.get(failure.cause, name)
        raise


_PROBED: list[str] = []
"""All that this check has put to the test so far."""


_NOTES: list[str] = []


def note(text: str) -> None:
    """Tell something about a check that passes, in a sentence: a part of it that was left out."""
    _NOTES.append(text)


Launch = Callable[..., Server]


class Workshop:
    """A copy of a lab's folder to run programs in, so that nothing they do to it is lost work.

    `folder` is that copy, `root` where the files to serve lie (what is beside it they can read, and
    should not), `outputs` where programs may write, and `private` what they have no business with.
    In a sandbox that is enforced; `broken` are programs known not to listen in time, and why.
    `root` is given where the files are to be kept.
    """

    def __init__(
        self,
        lab: Lab,
        replaced: dict[str, Path],
        scratch: Path,
        shut_in: Path | None = None,
        within: Path | None = None,
        broken: dict[str, str] | None = None,
        root: Path | None = None,
    ) -> None:
        self.lab = lab
        self.folder = scratch / "desk"
        shutil.copytree(
            lab.folder,
            self.folder,
            ignore=shutil.ignore_patterns(labs.MEMORY, labs.STUBS, "test_lab.py", "__pycache__"),
        )
        for name, path in replaced.items():
            shutil.copy2(path, self.folder / name)
        self.root = root or Path(tempfile.mkdtemp(dir=tempfile.mkdtemp(dir=scratch)))
        self.private = Path(tempfile.mkdtemp(dir=scratch))
        self.outputs = Path(tempfile.mkdtemp(dir=shut_in or scratch))
        self.sandbox: Sandbox | None = None
        self._group: Path | None = None
        if shut_in is not None:
            if within is not None:
                name = f"check-{uuid.uuid4().hex}"
                self._group = make_group(within, name, Sandbox.memory_mib + OVERHEAD, 2 * PROCESSES)
            self.sandbox = Sandbox(
                readable=(str(self.folder), str(self.root.parent)),
                writable=(str(self.outputs),),
                nproc=lab.limits.nproc or PROCESSES,
                cgroup=str(self._group or ""),
            )
        self._broken = {} if broken is None else broken
        self._servers: list[Server] = []

    def program(self, name: str) -> Path:
        """The program to run; raises `CouldNotRun` for one that is missing or no Python."""
        file = self.folder / name
        if not file.is_file():
            raise CouldNotRun(f"there is no {name} in the lab's folder")
        if file.stat().st_size > LONGEST:
            raise CouldNotRun(f"{name} is larger than {LONGEST >> 10} KiB: it is no program")
        try:
            # No further than the grammar: to compile "x" * 10**9 takes the memory of this process.
            compile(file.read_bytes(), name, "exec", ast.PyCF_ONLY_AST)
        except (MemoryError, RecursionError) as error:
            raise CouldNotRun(f"{name} is nested too deeply for Python to read") from error
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
        server = Server(file, self.root, **{"probe": False, **self._options(options)})
        self._servers.append(server)
        try:
            return server.start()
        except ServerError as error:
            words = str(error).replace(str(self.folder) + "/", "")
            if server.exit_status is None and NOT_LISTENING not in words:
                raise  # what runs the program has failed, and not the program
            self._broken[name] = words
            raise CouldNotRun(words) from error

    def run(self, name: str, *arguments: str, timeout: float = 30.0, **options: Any) -> Finished:
        """Run a program to its end, in the lab's cup; options as for `run_program`."""
        command = [sys.executable, str(self.program(name)), *arguments]
        return run_program(command, timeout=timeout, **self._options(options))

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a program: those given, and what the lab and the sandbox add to them."""
        # A limit on processes counts all those of this user, so it only makes sense in a sandbox.
        cup = options.get("cup", replace(self.lab.limits, nproc=None))
        sandbox = self.sandbox
        if sandbox is not None:
            cup = replace(
                cup,
                nofile=cup.nofile or 1024,
                cpu_s=cup.cpu_s or 60,
                fsize_mib=cup.fsize_mib or 512,
            )
            imported = options.get("environment", {}).get("PYTHONPATH", "")
            readable = (*sandbox.readable, *filter(None, imported.split(os.pathsep)))
            # Several programs may run at once, and the checker writes beside them: each one may
            # change the folder that it runs in, and could else put a link where another one is due.
            writable = (str(options["cwd"]),) if "cwd" in options else sandbox.writable
            sandbox = replace(sandbox, readable=readable, writable=writable)
        return {"cwd": self.folder, **options, "cup": cup, "sandbox": sandbox}

    def call(self, name: str, function: str, *numbers: float) -> object:
        """What a function of a program returns, called in a process of its own.

        Arguments and result travel as JSON; what the program prints on the way is not the result.
        Raises `CheckFailed` when it raises, returns nothing that JSON can say, or takes too long.
        """
        self.program(name)
        caller = self.folder / f"call-{uuid.uuid4().hex}.py"
        answer = self.outputs / uuid.uuid4().hex
        module = name.removesuffix(".py")
        caller.write_text(
            f"import json, {module}\n"
            f"result = {module}.{function}(*{json.dumps(numbers)})\n"
            f"open({str(answer)!r}, 'w').write(json.dumps(result))\n"
        )
        asked = f"Called {function}({', '.join(f'{number:_}' for number in numbers)})."
        finished = self.run(caller.name, timeout=10)
        told = read_untrusted(answer, 4096)
        if told is None:
            words = finished.output.strip().splitlines()
            how = words[-1][:200] if words else f"it ended with status {finished.status}"
            how = "it had not returned after 10 s" if finished.status is None else how
            fail("raises", f"{asked} It returned nothing: {how}")
        try:
            result = json.loads(told)
            float(result if isinstance(result, int) else 0)  # none that has no place in a float
            if result not in (float("inf"), float("-inf")) and result == result:
                return result
        except (ValueError, RecursionError, OverflowError):
            pass
        fail("raises", f"{asked} What it returned is no number: {told[:100]!r}")

    def german(self) -> dict[str, str]:
        """Variables of the environment that make dates of this system German; none if it can't."""
        return german_dates(Path(tempfile.mkdtemp(dir=self.root.parent)))

    def close(self) -> None:
        """End all servers."""
        for server in self._servers:
            server.stop()
        if self.sandbox is not None:
            with suppress(RecursionError):  # folders in folders in folders
                shutil.rmtree(self.outputs, ignore_errors=True)
        if self._group is not None:
            with suppress(OSError):  # the kernel takes a moment to empty it; it costs nothing
                self._group.rmdir()


def german_dates(folder: Path) -> dict[str, str]:
    """Make a locale with German dates in a folder: the variables that choose it; none if it can't.

    A program notices when it asks for the system's language: `locale.setlocale`. Nothing but
    localedef is needed, no package with other locales. Source of both files' form: locale(5) and
    charmap(5).
    """
    (folder / "source").write_text(_GERMAN)
    (folder / "letters").write_text(_ASCII)
    command = ["localedef", "-c", "--no-archive", "-i", "source", "-f", "./letters"]
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run([*command, "./de_XX"], cwd=folder, capture_output=True, timeout=20)
    # It ends with status 1 for a mere warning: what counts is what it made.
    made = (folder / "de_XX" / "LC_TIME").is_file()
    return {"LOCPATH": str(folder), "LC_TIME": "de_XX"} if made else {}


_ASCII = "".join(
    (
        "<code_set_name> ANSI_X3.4-1968\n<escape_char> /\nCHARMAP\n",
        *(f"<U{number:04X}> /x{number:02x}\n" for number in range(128)),
        "END CHARMAP\n",
    )
)
"""The characters of ASCII, as localedef reads them."""

_GERMAN = """LC_TIME
abday "So";"Mo";"Di";"Mi";"Do";"Fr";"Sa"
day "Sonntag";"Montag";"Dienstag";"Mittwoch";"Donnerstag";"Freitag";"Samstag"
abmon "Jan";"Feb";"Mrz";"Apr";"Mai";"Jun";"Jul";"Aug";"Sep";"Okt";"Nov";"Dez"
mon "Januar";"Februar";"Maerz";"April";"Mai";"Juni";\
"Juli";"August";"September";"Oktober";"November";"Dezember"
d_t_fmt "%a %d %b %Y %T"
d_fmt "%d.%m.%Y"
t_fmt "%T"
am_pm "";""
t_fmt_ampm ""
week 7;19971130;4
END LC_TIME
"""
"""The dates of Germany, in ASCII; localedef warns that everything else is missing."""


def files_below(folder: Path, most: int = 10_000) -> list[Path]:
    """What a program left in a folder, files and folders; of very much, the first `most`.

    No link is followed, and what lies too deep for a path is left out.
    """
    found: list[Path] = []
    waiting = [folder]
    while waiting and len(found) < most:
        with suppress(OSError):  # removed since it was listed, or too deep
            here = waiting.pop()
            for entry in os.scandir(here):
                found.append(here / entry.name)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(found[-1])
    return found[:most]


def read_untrusted(file: Path, most: int) -> str | None:
    """The text of a file that a program wrote; None unless it is a plain file of `most` bytes.

    It may be a link to somewhere else, a pipe that never ends, or larger than any memory.
    """
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            return None
        return os.read(handle, most).decode(errors="replace")
    finally:
        os.close(handle)


# Options and fixtures


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("streamlab", "checks of the labs")
    group.addoption("--lab-seed", type=int, help="draw the same sizes, names and bytes again")
    group.addoption(
        "--lab-sandbox",
        metavar="FOLDER",
        help="shut the programs in, and let them write into FOLDER alone",
    )
    group.addoption(
        "--lab-cgroup", metavar="FOLDER", help="control group to make one in for each check"
    )
    group.addoption("--lab-keep", action="store_true", help="keep the files of a check that fails")
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
    config.stash[_BROKEN] = {}


def pytest_report_header(config: pytest.Config) -> str | None:
    if any("lab" in str(argument) for argument in config.args):
        return f"seed: {config.stash[_SEED]} (give it again with --lab-seed)"
    return None


_SEED = pytest.StashKey[int]()
_BROKEN = pytest.StashKey[dict[str, str]]()
_FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The lab whose test file this is."""
    return Lab(request.path.parent)


@pytest.fixture
def workshop(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Workshop]:
    """A place to run the student's programs in; all of it is gone after the check."""
    environment.prepare()
    pairs = (each.partition("=") for each in request.config.getoption("--lab-program"))
    replaced = {name: Path(path) for name, _, path in pairs}
    places = (request.config.getoption(each) for each in ("--lab-sandbox", "--lab-cgroup"))
    shut_in, within = (Path(place) if place else None for place in places)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        # On a busy machine it may only have been late: a student's own check tries it every time,
        # and a grader runs the checks once more, alone.
        broken = request.config.stash[_BROKEN] if shut_in else None
        root = None
        if request.config.getoption("--lab-keep"):
            root = labs.kept_files(lab, request.node.name.removeprefix("test_"))
            shutil.rmtree(root.parent, ignore_errors=True)
            root.mkdir(parents=True)
        workshop = Workshop(lab, replaced, Path(scratch), shut_in, within, broken, root)
        try:
            yield workshop
        finally:
            workshop.close()
            if root is not None and not request.node.stash.get(_FAILED, False):
                shutil.rmtree(root.parent, ignore_errors=True)


@pytest.fixture
def launch(workshop: Workshop, lab: Lab) -> Launch:
    """Start the lab's first program as a server: `launch()`; options as for `Server`.

    Those that lab.toml has in `[launch]` need not be given.
    """
    return functools.partial(workshop.launch, lab.programs[0], **lab.manifest.get("launch", {}))


@pytest.fixture
def draw(request: pytest.FixtureRequest, lab: Lab) -> random.Random:
    """Where a check draws its sizes, names and bytes from: the run's seed, the lab, the check."""
    text = f"{request.config.stash[_SEED]}/{lab.name}/{request.node.name}"
    return random.Random(hashlib.sha256(text.encode()).digest())


# One result for each check


def came_late(error: BaseException) -> bool:
    """Whether what a check raised says only that something had not come to its end in time.

    On a machine where nobody has a CPU for long enough, that is nobody's mistake.
    """
    match error:
        case TimeoutError() | subprocess.TimeoutExpired() | threading.BrokenBarrierError():
            return True
        case ServerError():
            return NOT_LISTENING in str(error)
        case DownloadError():
            return error.failure in ("unfinished", "overdue")
    return False


def _printable(text: str) -> str:
    """Text that a file can hold: a file's name, as Python has it, may be no text."""
    return text.encode("utf-8", "replace").decode()


def _is_check(item: pytest.Item) -> bool:
    return item.path.name == "test_lab.py" and (item.path.parent / "lab.toml").is_file()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for kept in (_NOTES, _PROBED):
        kept.clear()
    if not _is_check(item) or item.config.getoption("--lab-program"):
        return
    lab = Lab(item.path.parent)
    programs = lab.programs_of(item.name.removeprefix("test_"))
    if not any(lab.attempted(lab.folder / name) for name in programs):
        pytest.skip("not attempted yet: the program is still the stub")


def _without_places(item: pytest.Item, text: str) -> str:
    """A text without the folders of this machine that a program ran in, and Python's own."""
    workshop = getattr(item, "funcargs", {}).get("workshop")
    for place in (workshop.folder, workshop.root) if workshop is not None else ():
        text = text.replace(f"{place}/", "")
    return text.replace(f"{sysconfig.get_path('stdlib')}/", "")


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
    cause = evidence = curl = broken = ""
    match error:
        case None:
            outcome, evidence = "passed", " ".join(_NOTES)
        case pytest.skip.Exception():
            outcome, evidence = "not_attempted", str(error)
        case CheckFailed():
            outcome, cause, evidence, curl = "failed", error.cause, error.evidence, error.curl
            broken = error.promise
        case CouldNotRun():
            outcome, cause, evidence = "could_not_run", "could_not_run", str(error)
        case _ if error is not None and came_late(error):
            outcome, evidence = "grader_fault", f"{labs.BUSY}: {error}"
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
        promise=broken,
        evidence=_printable(_without_places(item, evidence)),
        curl=_printable(curl),
        seed=item.config.stash[_SEED],
        seconds=round(call.duration, 3),
        probed=tuple(_PROBED),
    )
    item.stash[_FAILED] = outcome == "failed"
    if outcome in ("failed", "could_not_run"):
        report.longrepr = labs.as_text(lab, result)
    if results := item.config.getoption("--lab-results"):
        with Path(results).open("a", encoding="utf-8") as file:
            file.write(result.to_json() + "\n")
    return report
