"""Submissions that attack the grader: each gets its due mark, and harms no other.

`tests/hostile/` has attacks on lab 02. The first line of each says its right outcome: `# EXPECT:
OUTCOME CHECK[: words]`. The evidence must have these words, or others after a `|`. An attack that
must pass is followed by an honest server: it ends itself if the attack has achieved anything, and
so passes only if it has not. Each attack also limits itself in time, memory and disk space, in case
the tested isolation fails.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil
import pytest

from streamlab import Server, random_file
from streamlab.checks.downloader import failures
from streamlab.checks.file_server import transfers
from streamlab.checks.outcome import CheckFailed
from streamlab.checks.probes import common, files, requests
from streamlab.checks.workspace import Folders, LabWorkspace
from streamlab.errors import DownloadError
from streamlab.grading.run import ClassWork, grade_class
from streamlab.http.answer import read_answer
from streamlab.http.clients import Crowd, Load
from streamlab.labs.manifest import Lab
from streamlab.labs.results import CheckResult
from streamlab.labs.runner import RunOptions, run_checks
from streamlab.process.patience import Deadline
from streamlab.process.sandbox import Sandbox

pytestmark = pytest.mark.needs("linux", "bwrap")

TESTS = Path(__file__).parents[1]
LAB = Lab(TESTS.parent / "solutions" / "02_chunked_loop")
HONEST = (LAB.folder / "server.py").read_text()
CORPUS = TESTS / "corpora" / "02_chunked_loop"
AT_ONCE = 4

FIRST_LINE = re.compile(r"# EXPECT: (\w+) (\w+)(?:: (.+))?")

BUILT = {
    "syntax_error": b"# EXPECT: could_not_run bytes: server.py, line 2\ndef serve(:\n",
    "empty": b"",
    "nul_bytes": b"# EXPECT: could_not_run bytes: is no Python text|null bytes\nx = 1\0\n",
    "no_text": b"# EXPECT: could_not_run bytes: server.py, line 2|no Python text\nx = '\xff\xfe'\n",
    "deep_brackets": b"# EXPECT: could_not_run bytes: too many nested\n" + b"(" * 90_000,
    "deep_signs": b"# EXPECT: could_not_run bytes: nested too deeply\nx = " + b"-" * 200_000 + b"1",
    "deep_calls": b"# EXPECT: could_not_run bytes: nested too deeply\nx" + b"()" * 100_000,
    # The compiler joins its parts: 4 KiB, 8 KiB, 12 KiB ... 1.6 GiB in all.
    "large_constant": b"# EXPECT: could_not_run bytes: ended at its start\nx = "
    + b"'x' * 4096 + " * 900
    + b"''\n",
    # Quadratic for Python: a minute, at the least.
    "f_string": b"# EXPECT: could_not_run bytes: takes Python more than 5 s\nx = f'"
    + b"{a}" * 170_000
    + b"'\n",
    "too_long": b"# EXPECT: could_not_run bytes: larger than 512 KiB\n" + b"#" * (600 << 10),
}
"""Attacks that are not readable text."""


@dataclass(frozen=True)
class Arena:
    """What an attack might reach, and how the test notices."""

    folder: Path
    marker: str = field(default_factory=lambda: f"marker-{uuid.uuid4().hex}")
    word: str = field(default_factory=lambda: f"word-{uuid.uuid4().hex}")
    loopback: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    abstract: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX))

    def __post_init__(self) -> None:
        self.abstract.bind(f"\0{self.marker}")
        self.abstract.listen()
        for listener in (self.loopback, self.abstract):
            listener.setblocking(False)
        for name in ("other/server.py", "roster.csv", "report/gradebook.csv", "report/run.json",
                     "report/results.jsonl", "home/.netrc"):  # fmt: skip
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(self.word)

    @property
    def secrets(self) -> list[str]:
        """Files and folders that no submission may read."""
        files = [str(path) for path in self.folder.rglob("*") if path.is_file()]
        return [*files, str(TESTS), str(LAB.folder.parent), str(TESTS.parent / "labs")]

    def armed(self, text: str) -> str:
        """The text of an attack, with the facts about this arena that it needs."""
        known: dict[str, object] = {
            "@SECRETS@": self.secrets,
            "@WORD@": self.word,
            "@MARKER@": self.marker,
            "@PORT@": self.loopback.getsockname()[1],
            "@ABSTRACT@": self.marker,
        }
        for name, value in known.items():
            text = text.replace(f'"{name}"', repr(value))
        return text

    def attack(self, name: str) -> bytes:
        """The whole program of an attack."""
        if name in BUILT:
            return BUILT[name]
        text = self.armed((TESTS / "hostile" / f"{name}.py").read_text())
        return (text + (HONEST if expected(name).outcome == "passed" else "")).encode()

    def left_running(self) -> list[int]:
        """Processes with this arena's marker, without this one."""
        found = []
        for process in psutil.process_iter():
            try:
                if any(self.marker in part for part in process.cmdline()):
                    found.append(process.pid)
            except psutil.Error:
                pass
        return found

    def close(self) -> None:
        self.loopback.close()
        self.abstract.close()


@dataclass(frozen=True)
class Expected:
    """What must come of an attack."""

    outcome: str
    check: str
    words: list[str]


def expected(name: str) -> Expected:
    """What the first line of an attack says."""
    if name == "empty":
        return Expected("could_not_run", "bytes", ["ended at its start with status 0"])
    text = (
        BUILT[name].partition(b"\n")[0].decode()
        if name in BUILT
        else (TESTS / "hostile" / f"{name}.py").read_text().partition("\n")[0]
    )
    found = FIRST_LINE.fullmatch(text)
    assert found, f"{name}: {text}"
    return Expected(found[1], found[2], found[3].split("|") if found[3] else [""])


ATTACKS = sorted([path.stem for path in (TESTS / "hostile").glob("*.py")] + list(BUILT))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder for all temporary files of this module, so that the test sees what stays."""
    folder = tmp_path_factory.mktemp("scratch")
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    yield folder
    tempfile.tempdir = before


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("arena"))
    os.environ["STREAMLAB_TEST_SECRET"] = arena.word
    yield arena
    del os.environ["STREAMLAB_TEST_SECRET"]
    arena.close()


ResultOf = Callable[[str], list[CheckResult]]


@pytest.fixture(scope="module")
def result_of(request: pytest.FixtureRequest, arena: Arena, scratch: Path) -> Iterator[ResultOf]:
    """The results of an attack; several run at once, beside each other."""
    wanted = [
        item.callspec.params["attack"]
        for item in request.session.items
        if "result_of" in getattr(item, "fixturenames", ()) and hasattr(item, "callspec")
    ]
    programs = arena.folder / "programs"
    programs.mkdir()

    def run(name: str) -> list[CheckResult]:
        program = programs / f"{name}.py"
        program.write_bytes(arena.attack(name))
        only = {expected(name).check}
        return run_checks(LAB, {"server.py": program}, only=only, options=RunOptions(isolated=True))

    def became(name: str) -> list[CheckResult]:
        """As the grader does it: a failure that slowness may cause is tried again, alone."""
        results = runs[name].result()
        if expected(name).words != ["did not listen"] and any(map(LAB.depends_on_time, results)):
            wait(runs.values())
            results = run(name)
        return results

    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs: dict[str, Future[list[CheckResult]]] = {n: pool.submit(run, n) for n in wanted}
        yield became
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_gets_what_it_deserves(attack: str, result_of: ResultOf) -> None:
    [result] = result_of(attack)
    wanted = expected(attack)
    assert result.outcome == wanted.outcome, result.evidence
    assert any(words in result.evidence for words in wanted.words), result.evidence
    assert len(result.evidence) < 20_000


def test_nothing_was_reached_and_nothing_is_left(
    arena: Arena, scratch: Path, becomes: Callable[[Callable[[], bool]], bool]
) -> None:
    """After all attacks there is no connection, change, process or file of theirs."""
    for listener in (arena.loopback, arena.abstract):
        with pytest.raises(BlockingIOError):
            listener.accept()
    for path in arena.folder.rglob("*"):
        if path.is_file() and path.parent.name != "programs":
            assert path.read_text() == arena.word
    assert becomes(lambda: not arena.left_running())
    assert becomes(lambda: not list(scratch.iterdir())), list(scratch.iterdir())


def test_the_attacks_are_real(arena: Arena) -> None:
    """Without a sandbox, or with half of it, the attacks succeed."""
    alone = ["bwrap", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--"]
    half = Sandbox(readable=(str(arena.folder),)).wrap(
        [], {}, None
    )  # no limits, no filter of calls
    reached = {}
    for name, how in (
        ("reads_secrets", alone),
        ("leaves_the_network", alone),
        ("opens_doors", half),
        ("takes_inotify", half),
    ):
        program = arena.folder / f"loose-{name}.py"
        program.write_text(arena.armed((TESTS / "hostile" / f"{name}.py").read_text()))
        command = [*how, sys.executable, str(program), "--root=/nowhere"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        program.unlink()
        reached[name] = ran.stderr
    for name, what in (
        ("reads_secrets", str(arena.folder / "roster.csv")),
        ("reads_secrets", "environment"),
        ("leaves_the_network", "127.0.0.1"),
        ("leaves_the_network", "abstract"),
        ("opens_doors", "memory file"),
        ("opens_doors", "shared memory"),
        ("opens_doors", "no limit of DATA"),
        ("takes_inotify", "instances of inotify"),
    ):
        assert what in reached[name]
    for listener in (arena.loopback, arena.abstract):
        listener.accept()[0].close()


# Answers made to confuse the checks

ANSWERING = """
import socket, sys, threading

def serve(connection):
    with connection:
        connection.recv(65536)
        try:
            connection.sendall(ANSWER)
            while AGAIN:
                connection.sendall(AGAIN)
        except OSError:
            pass

listener = socket.create_server(("127.0.0.1", 0))
print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"""
OK = b"HTTP/1.1 200 OK\r\n"
LINES = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "length of 5000 digits": (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx", b""),
    "length that is none": (OK + b"Content-Length: \xb2\r\n\r\nx", b""),
    "status of 5000 digits": (b"HTTP/1.1 " + b"2" * 5000 + b" OK\r\n\r\n", b""),
    "bytes for a status": (b"HTTP/1.1 \xff\xfe \x00\x1b\r\n\r\n", b""),
    "chunk of 5000 digits": (LINES + b"f" * 5000 + b"\r\n", b""),
    "chunk size without an end": (LINES, b"0" * 65536),
    "head without an end": (OK, b"X: y\r\n" * 9999),
    "body without an end": (OK + b"\r\n", b"x" * 65536),
    "odd headers": (OK + b": \x00\r\n \r\n\xff:\x9b31m\r\n\r\n", b""),
    "nothing": (b"", b""),
}


def try_answer(how: str, folder: Path) -> list[str]:
    """The evidence of each check that a server with such an answer is given."""
    first, again = ANSWERS[how]
    folder.mkdir()
    program = folder / "server.py"
    program.write_text(f"ANSWER = {first!r}\nAGAIN = {again!r}\n{ANSWERING}")
    told = []
    with Server(program, folder / "root") as server:
        waiting = transfers.waiting_clients_cost_little
        for check in (files.bytes_arrive, waiting, requests.well_formed):
            with pytest.raises(CheckFailed) as caught:
                check(server, Random(1))
            told.append(caught.value.evidence)
    return told


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[str]]]:
    """The result of each answer; they run at once, because most of a check is waiting."""
    folder = tmp_path_factory.mktemp("answers")
    with ThreadPoolExecutor(len(ANSWERS)) as pool:
        tries = {how: pool.submit(try_answer, how, folder / how) for how in ANSWERS}
        yield lambda how: tries[how].result()


@pytest.mark.parametrize("how", ANSWERS)
def test_no_answer_breaks_a_check(how: str, tried: Callable[[str], list[str]]) -> None:
    """The answer fails the program instead, and soon."""
    deadline = Deadline(100)
    assert all(len(evidence) < 20_000 for evidence in tried(how))
    assert not deadline.passed


def test_a_million_chunks_are_soon_read() -> None:
    """Each byte is looked at once."""
    began = time.thread_time()
    answer = read_answer(LINES + b"1\r\nx\r\n" * 500_000, closed=False)
    assert len(answer.body) == 500_000
    assert time.thread_time() - began < 20


def test_clients_whose_time_is_up_fail_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a server is so slow that all clients have to be ended, the grader is not at fault."""

    def hear(self: object, expected: str) -> None:
        raise DownloadError("no answer in 3 s", "overdue")

    with Server(TESTS / "servers" / "streaming.py", tmp_path) as server:
        file = random_file(1000, folder=tmp_path)
        monkeypatch.setattr(Crowd, "_hear", hear)
        load = Load(file.url, 1, "fast", 1)
        with pytest.raises(CheckFailed) as caught, common.crowd(server, file, load):
            pass
    assert caught.value.cause == "no_answer"


# The programs of other labs

PREDICTING = """
import os, sys
path = sys.argv[-1]

def say(text):
    with open(path, "w") as file:
        file.write(text)
    os._exit(0)

def load_all(*numbers):
    {}
"""


@pytest.mark.parametrize(
    "action",
    [
        "return float('nan')",
        "return float('-inf')",
        "return 10**400",
        "return 10**4200",
        "say('[' * 4000)",
        "say('x' * 10**7)",
        "say('')",
        "say(chr(0xDC80).encode('utf-8', 'surrogateescape').decode('latin-1'))",
        "os.symlink('/etc/passwd', path); os._exit(0)",
        "os.symlink('/dev/zero', path); os._exit(0)",
        "os.mkfifo(path); os._exit(0)",
        "os.mkdir(path); os._exit(0)",
        "os.kill(0, 9)",
    ],
)
def test_a_prediction_that_is_none(action: str, tmp_path: Path) -> None:
    """A wrong text in place of the number is read with care, or not at all."""
    program, outputs = tmp_path / "predict.py", tmp_path / "outputs"
    program.write_text(PREDICTING.format(action))
    outputs.mkdir()
    lab = Lab(LAB.folder.parent / "01_load_all_bug")
    workspace = LabWorkspace(lab, {"predict.py": program}, Folders(tmp_path, outputs))
    with pytest.raises(CheckFailed) as caught:
        workspace.call("predict.py", "load_all", 2, 10**6, 65536)
    assert caught.value.cause == "raises" and len(caught.value.evidence) < 1000
    workspace.close()
    assert not list(outputs.iterdir())


DOWNLOADING = """
import os, sys
output, here = sys.argv[2], os.getcwd()

def leave(what, *arguments):
    try:
        what(*arguments)
    except OSError:
        pass

{}
"""


@pytest.mark.parametrize(
    "action",
    [
        "leave(os.symlink, '/etc/passwd', output)",
        "leave(os.symlink, '/dev/zero', output)",
        "leave(os.symlink, output, output)",
        "leave(os.mkfifo, output)",
        "leave(os.mkdir, output)",
        "for number in range(10_000): open(f'{number}', 'w')",
        "open(b'\\xff\\x1b[2J', 'w')",
        "for _ in range(2000): os.mkdir('deep' * 9); os.chdir('deep' * 9)",
        "base = os.path.dirname(here); leave(os.rename, base, base + '-old'); "
        "leave(os.symlink, '@CANARY@', base); leave(os.rename, here, here + '-old'); "
        "leave(os.symlink, '@CANARY@', here); [leave(os.symlink, '@CANARY@/' + name, base + '/' + "
        "name + '/' + name[4:]) for name in os.listdir(base) if name != os.path.basename(here)]",
    ],
)
def test_a_download_that_is_none(action: str, tmp_path: Path) -> None:
    """Links that a client leaves are not followed, and can't mislead the checker."""
    program, outputs, canary = (tmp_path / each for each in ("client.py", "outputs", "canary"))
    program.write_text(DOWNLOADING.format(action.replace("@CANARY@", str(canary))))
    outputs.mkdir()
    canary.mkdir()
    lab = Lab(LAB.folder.parent / "03_join_trap")
    workspace = LabWorkspace(lab, {"client.py": program}, Folders(tmp_path, outputs))
    with pytest.raises(CheckFailed) as caught:
        failures.leaves_nothing(workspace, Random(1))
    assert len(caught.value.evidence) < 20_000
    assert not list(canary.iterdir())
    workspace.close()
    # In an enclosure they end with its tmpfs; here they are too deep for Python to remove.
    subprocess.run(["rm", "-rf", str(outputs)], check=True)


def test_a_name_that_is_no_text_is_no_fault_of_the_grader(tmp_path: Path) -> None:
    program = tmp_path / "client.py"
    lab = Lab(LAB.folder.parent / "03_join_trap")
    honest = (lab.folder / "client.py").read_text()
    program.write_text(honest.replace("\nimport ", "\nopen(b'\\xff\\x1b', 'w')\nimport ", 1))
    [result] = run_checks(
        lab, {"client.py": program}, only={"clean"}, options=RunOptions(isolated=True)
    )
    assert (result.outcome, result.cause) == ("failed", "leaves_part")


# A class


def packed(program: bytes, encrypted: bool = False) -> bytes:
    """A zip file of a program; encrypted, as far as it says so itself."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("server.py", program)
    content = bytearray(file.getvalue())
    if encrypted:
        content[6] |= 1
        content[content.rfind(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def write_class(folder: Path, submissions: dict[str, bytes]) -> tuple[Path, Path]:
    """The folder of submissions, named by who handed them in, and the roster."""
    handed_in, roster = folder / "handed-in", folder / "roster.csv"
    handed_in.mkdir()
    for name, content in submissions.items():
        (handed_in / name).write_bytes(content)
    ids = [name.partition(".")[0] for name in submissions]
    roster.write_text("student,name\n" + "".join(f"{each},{each}\n" for each in [*ids, "zoe"]))
    return handed_in, roster


def test_a_class_with_attackers_is_graded_to_its_end(
    arena: Arena, tmp_path: Path, becomes: Callable[[Callable[[], bool]], bool]
) -> None:
    """With the command, honest students get their usual marks, and only the report is left."""
    wrong = (CORPUS / "wrong" / "server__traversal_plain.py").read_bytes()
    submissions = {
        "ann.py": HONEST.encode(),
        "bob.py": wrong,
        "cay.zip": packed(arena.attack("stays_behind")),
        "dan.py": arena.attack("fork_bomb"),
        "eve.py": arena.attack("memory_of_many"),
        "fay.py": arena.attack("forges_verdicts"),
        "gus.zip": packed(HONEST.encode(), encrypted=True),
    }
    handed_in, roster = write_class(tmp_path, submissions)
    scratch, report = tmp_path / "scratch", tmp_path / "report"
    scratch.mkdir()
    before = sorted(tmp_path.rglob("*"))
    ran = subprocess.run(
        [sys.executable, "-c", "from streamlab.cli import main; main()", "grade", str(handed_in),
         *("--lab", str(LAB.folder), "--roster", str(roster), "--out", str(report), "-j", "3")],
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    with (report / "gradebook.csv").open(newline="", encoding="utf-8-sig") as file:
        marks = {row["student"]: (row["outcome"], row["points"]) for row in csv.DictReader(file)}
    assert marks == {
        "ann": ("graded", "20"),
        "bob": ("graded", "17"),
        "cay": ("graded", "20"),
        "dan": ("could_not_run", "0"),
        "eve": ("could_not_run", "0"),
        "fay": ("graded", "0"),
        "gus": ("could_not_run", ""),
        "zoe": ("missing", ""),
    }
    lines = (report / "results.jsonl").read_text().split("\n")
    assert {json.loads(line)["student"] for line in lines if line} == {*marks} - {"gus", "zoe"}
    assert becomes(lambda: not arena.left_running())
    assert becomes(lambda: not list(scratch.iterdir()))
    others = [path for path in tmp_path.rglob("*") if not path.is_relative_to(report)]
    assert sorted(others) == before


@pytest.mark.soak
def test_a_large_class_gets_the_same_marks_twice(arena: Arena, tmp_path: Path) -> None:
    """Right, wrong and hostile answers, more than forty, graded beside each other."""
    answers = (
        sorted((CORPUS / "right").glob("*.py"))[::5] + sorted((CORPUS / "wrong").glob("*.py"))[::9]
    )
    submissions = {f"a{number}.py": file.read_bytes() for number, file in enumerate(answers)}
    submissions |= {f"h{number}.py": arena.attack(name) for number, name in enumerate(ATTACKS)}
    handed_in, roster = write_class(tmp_path, submissions)
    works = [
        ClassWork(handed_in, LAB, roster, tmp_path / f"report-{number}", seed=4711)
        for number in range(2)
    ]
    runs = [grade_class(work, jobs=2) for work in works]
    first, second = (
        {mark.student: (mark.outcome, mark.points) for mark in run.marks} for run in runs
    )
    assert first == second
    assert len(first) > 40
    for number, file in enumerate(answers):
        outcome, points = first[f"a{number}"]
        assert outcome == "graded", file
        assert (points == LAB.points) == (file.parent.name == "right"), file
    assert "grader_fault" not in {outcome for outcome, _ in first.values()}
