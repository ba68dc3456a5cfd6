"""The pytest side of the labs' checks: the `launch` fixture, and one `CheckResult` for each test.

A lab's `test_lab.py` has a function `test_ID` for each check of its `lab.toml`. It starts the
student's program with `launch`, and says what is wrong with `fail(cause, evidence)`. This plugin
is loaded by pytest wherever streamlab is installed, and does nothing for other tests.
"""

from __future__ import annotations

import errno
import functools
import gc
import hashlib
import importlib
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from streamlab import environment
from streamlab.checks.outcome import LISTENERS, NOTES, PROBED, CheckFailed, CouldNotRun
from streamlab.checks.workspace import Folders, LabWorkspace, Launch
from streamlab.errors import DownloadError, NotListening
from streamlab.files import MiB
from streamlab.labs import failures, runner
from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult, Outcome, Step
from streamlab.process import ahead

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
        "--lab-at-once", type=int, default=1, help="how many checks run beside each other"
    )
    group.addoption(
        "--lab-program",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="check the file at PATH in place of the lab's program NAME",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--lab-sandbox"):
        _limit_this_process()
    config.stash[_SEED] = config.getoption("--lab-seed") or runner.new_seed()
    config.stash[_BROKEN] = {}


MEMORY = 1024 * MiB
"""What the checks of a program that nobody trusts may hold themselves, in bytes."""
STACK = MiB
"""What a thread of theirs gets for its stack. It counts, so that memory bounds threads too."""


def _limit_this_process() -> None:
    """What a program makes the checks hold, past all their caps, ends a check, not the machine.

    The limit is soft: the programs have limits of their own (`RLIMIT_DATA`, setrlimit(2)). It is
    not one on addresses, because threads reserve many that they never use.
    """
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.stack_size(STACK)


def pytest_report_header(config: pytest.Config) -> str | None:
    if any("lab" in str(argument) for argument in config.args):
        return f"seed: {config.stash[_SEED]} (give it again with --lab-seed)"
    return None


_SEED = pytest.StashKey[int]()
_BROKEN = pytest.StashKey[dict[str, tuple[str, bool]]]()
_FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The lab whose test file this is."""
    return Lab(request.path.parent)


@pytest.fixture
def workspace(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabWorkspace]:
    """A place to run the student's programs in; all of it is gone after the check."""
    environment.prepare()
    pairs = (each.partition("=") for each in request.config.getoption("--lab-program"))
    replaced = {name: Path(path) for name, _, path in pairs}
    places = (request.config.getoption(each) for each in ("--lab-sandbox", "--lab-cgroup"))
    shut_in, group = (Path(place) if place else None for place in places)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        # On a busy machine it may only have been late: a student's own check tries it every time,
        # and a grader runs the checks once more, alone.
        broken = request.config.stash[_BROKEN] if shut_in else None
        root = None
        if request.config.getoption("--lab-keep"):
            root = failures.kept_files(lab, request.node.name.removeprefix("test_"))
            shutil.rmtree(root.parent, ignore_errors=True)
            failures.kept_environment(root).unlink(missing_ok=True)
            root.mkdir(parents=True)
        folders = Folders(Path(scratch), shut_in, group, root)
        workspace = LabWorkspace(lab, replaced, folders, broken)
        try:
            yield workspace
        finally:
            workspace.close()
            if root is not None and not request.node.stash.get(_FAILED, False):
                shutil.rmtree(root.parent, ignore_errors=True)
                failures.kept_environment(root).unlink(missing_ok=True)


@pytest.fixture
def launch(workspace: LabWorkspace, lab: Lab) -> Launch:
    """Start the lab's first program as a server: `launch()`; options as for `Server`.

    Those that lab.toml has in `[launch]` need not be given.
    """
    return functools.partial(workspace.launch, lab.programs[0], **lab.manifest.get("launch", {}))


@pytest.fixture
def rng(request: pytest.FixtureRequest, lab: Lab) -> random.Random:
    """Where a check draws its sizes, names and bytes from: the run's seed, the lab, the check."""
    text = f"{request.config.stash[_SEED]}/{lab.name}/{request.node.name}"
    return random.Random(hashlib.sha256(text.encode()).digest())


# Checks beside each other

LONG = (
    *("TIME", "STALL", "DROP", "REPORT", "HUGE", "GZIP", "CLEAN", "HOLD", "CROWD", "LIVE"),
    *("READERS", "HEADS", "DEPLOY", "WHOLE"),
)
"""The kinds of check that take the longest: they begin first, and the others fill the rest."""

_HELPERS = ("streamlab.process.supervise", "streamlab.process.seccomp", "streamlab.http.clients")
"""What the helpers of a check run: see `streamlab.process.ahead`."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the checks of a lab in processes forked from this one, some at a time.

    Each one has a process of its own, so that it sees only its own programs below itself. It is
    forked before this process has a second thread. One check alone runs in this process, and so do
    all off Linux.
    """
    config = session.config
    if not config.getoption("--lab-results") or not all(map(_is_check, session.items)):
        return None
    at_once = config.getoption("--lab-at-once")
    alone = len(session.items) < 2 or at_once < 2
    if alone or sys.platform != "linux" or threading.active_count() > 1:
        ahead.prepare(*_HELPERS)
        return None
    for module in _HELPERS:
        importlib.import_module(module)
    running: set[int] = set()
    for item in sorted(session.items, key=_turn):
        if len(running) >= at_once:
            running.discard(os.wait()[0])
        running.add(_forked(item))
    while running:
        running.discard(os.wait()[0])
    return True


def _turn(item: pytest.Item) -> int:
    """Where a check stands in the order in which checks begin."""
    kind = Lab(item.path.parent).check(item.name.removeprefix("test_")).kind
    return LONG.index(kind) if kind in LONG else len(LONG)


def _forked(item: pytest.Item) -> int:
    """Run a check in a copy of this process; the copy's number."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    gc.freeze()  # a collection writes into each object, and so copies each page
    if pid := os.fork():
        return pid
    try:
        ahead.prepare()
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        ahead.release()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(0)


# One result for each check

BUSY = "This machine was too busy for the check"


LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS)
"""What the system says when the machine lacks something, which others may have taken."""
_LACKED = re.compile(
    r"\[Errno (?:11|23|24|28)\]|Too many open files|No space left on device"
    r"|Resource temporarily unavailable|can't start new thread",
)


def lacked(words: str) -> bool:
    """Whether a program says that the machine lacks what others may have taken.

    Those are the words of the system, and of Python, for such errors: of descriptors, instances of
    inotify, room, processes and threads. A program may have taken them itself, or lie: it is tried
    again alone then, and that is all.
    """
    return _LACKED.search(words) is not None


def came_late(error: BaseException) -> bool:
    """Whether what a check raised says only that something had not come to its end in time.

    On a machine that lacks CPU time, or anything else that programs share, that is no
    mistake of the program.
    """
    match error:
        case TimeoutError() | subprocess.TimeoutExpired() | threading.BrokenBarrierError():
            return True
        case NotListening():
            return True
        case OSError():
            return error.errno in LACKING
        case RuntimeError():
            return str(error) == "can't start new thread"
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
    for kept in (NOTES, PROBED, LISTENERS):
        kept.clear()
    if not _is_check(item):
        return
    if results := item.config.getoption("--lab-results"):
        LISTENERS.append(_Steps(item.name.removeprefix("test_"), Path(results)))
        LISTENERS[0]("", "")
    if item.config.getoption("--lab-program"):
        return
    lab = Lab(item.path.parent)
    programs = lab.programs_of(item.name.removeprefix("test_"))
    if not any(lab.attempted(lab.folder / name) for name in programs):
        pytest.skip("not attempted yet: the program is still the stub")


class _Steps:
    """Writes what a check does beside the results, a line whenever that changes."""

    def __init__(self, check: str, file: Path) -> None:
        self.check, self.file = check, file
        self.last: Step | None = None

    def __call__(self, promise_id: str, waits: str) -> None:
        step = Step(self.check, promise_id, waits)
        if step != self.last:
            self.last = step
            _add_line(str(self.file), step.to_json())


def _without_places(item: pytest.Item, text: str) -> str:
    """A text without the folders of this machine that a program ran in, and Python's own."""
    workspace = getattr(item, "funcargs", {}).get("workspace")
    for place in (workspace.folder, workspace.root) if workspace is not None else ():
        text = text.replace(f"{place}/", "")
    return text.replace(f"{sysconfig.get_path('stdlib')}/", "")


def _forget(error: BaseException | None) -> None:
    """Let go what the frames of an error hold, which pytest keeps: whole bodies, often."""
    known: set[int] = set()
    while error is not None and id(error) not in known:
        known.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    if known:
        gc.collect()  # readers and their generators hold each other


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
    late = False
    match error:
        case None:
            outcome, evidence = "passed", " ".join(NOTES)
        case pytest.skip.Exception():
            outcome, evidence = "not_attempted", str(error)
        case CheckFailed():
            outcome, cause, evidence, curl = "failed", error.cause, error.evidence, error.curl
            broken = error.promise
        case CouldNotRun():
            outcome, cause, evidence = "could_not_run", error.cause, str(error)
            late = error.late
        case _ if error is not None and came_late(error):
            outcome, evidence, late = "grader_fault", f"{BUSY}: {error}", True
        case MemoryError():
            outcome = "grader_fault"
            evidence = f"The check would have held more than {MEMORY // MiB} MiB itself."
        case _:
            outcome, evidence = "grader_fault", str(report.longreprtext)[-4000:]
    workspace = getattr(item, "funcargs", {}).get("workspace")
    if outcome in ("failed", "could_not_run") and workspace is not None:
        late = late or lacked(evidence) or any(lacked(log) for log in workspace.logs())
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
        probed=tuple(PROBED),
        late=late,
    )
    item.stash[_FAILED] = outcome == "failed"
    _forget(error)
    if outcome in ("failed", "could_not_run"):
        report.longrepr = failures.as_text(lab, result)
    if results := item.config.getoption("--lab-results"):
        _add_line(results, result.to_json())
    return report


def _add_line(file: str, line: str) -> None:
    """Write a line at the end of a file by one call, because other checks may write beside it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)
