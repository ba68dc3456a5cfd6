"""The course in difficult environments: proxies, odd folders, old terminals, full disks.

One small lesson uses what the lessons use: a server, each client, a chart. It runs in strict nbval
in each of these environments; `make soak` runs all lessons there.
"""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import pytest
from notebook_rules import ROOT

from streamlab import cli, environment
from streamlab.executables import TOOLS
from streamlab.origin import Answer, Origin

ODD = 'Übung "1" it\'s $HERE'
"""The name of a folder with characters that have a meaning for a shell."""

PROXY = "http://127.0.0.1:9"
"""The address of a proxy that is not there: 9 is the port of the service `discard`."""

SERVER = """%%server plain
from streamlab.serve import serve_files


def send(path, response):
    response.start(path.stat().st_size)
    print("sent “it”", flush=True)  # no ASCII
    response.write(path.read_bytes())


serve_files(send)"""

CLIENTS = """import subprocess
import urllib.request

import httpx2
import requests

from streamlab.executables import command, find_tool

url, body, saved = plain.url + creek.url, creek.path.read_bytes(), {}
saved["requests"] = requests.get(url).content
saved["httpx2"] = httpx2.get(url).content
saved["urllib"] = urllib.request.urlopen(url).read()
for name, option in {"curl": "-o", "wget": "-O", "aria2c": "-o"}.items():
    if find_tool(name):
        asked = command(name, option, f"{name}.got", url)
        subprocess.run(asked, check=True, timeout=60, capture_output=True)
        saved[name] = open(f"{name}.got", "rb").read()
print("wrong:", [name for name in saved if saved[name] != body])
print("the log has", plain.log().count("sent “it”") == len(saved))"""

CHART = """import matplotlib.pyplot as plt

plt.close(plt.figure())
print("drawn")"""

CELLS = {
    "setup": (
        "%load_ext streamlab\nfrom streamlab import KiB, random_file\n\n"
        "creek = random_file(40 * KiB)",
        "",
    ),
    "server": (
        SERVER,
        "plain runs. The same in a terminal:\n"
        "  python .streamlab/plain.py --root=.streamlab/files --port=0\n",
    ),
    "clients": (CLIENTS, "wrong: []\nthe log has True\n"),
    "chart": (CHART, "drawn\n"),
}
"""Each cell of the small lesson, and what it prints."""


@dataclass(frozen=True)
class Hard:
    """An environment for a command: how it differs from the usual one."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables to set; {here} is the test's own folder."""
    without: tuple[str, ...] = ()
    """Variables to remove."""
    shell: str = ""
    """What a shell does before it becomes the command."""
    namespaces: tuple[str, ...] = ()
    """The options of unshare(1)."""


SETTINGS = {
    ".curlrc": 'include\nhttp1.0\noutput = "elsewhere"\n',
    ".wgetrc": "output_document = elsewhere\ntries = 1\nserver_response = on\nspider = on\n",
    ".config/aria2/aria2.conf": "dry-run=true\n",
    ".netrc": "default login me password secret\n",
}
"""A user's own settings, by their files in the home folder; each would break a download."""

LONG = "/".join(["{here}", *["long" * 12] * 3])

HARD = {
    "a dead proxy": Hard(
        {
            "HTTP_PROXY": PROXY,
            "http_proxy": PROXY,
            "HTTPS_PROXY": PROXY,
            "https_proxy": PROXY,
            "ALL_PROXY": PROXY,
            "all_proxy": PROXY,
        },
        without=("NO_PROXY", "no_proxy"),
    ),
    "settings of curl, wget and aria2c": Hard({"HOME": "{here}/settings"}),
    "folders with odd names": Hard({"HOME": f"{{here}}/{ODD}", "TMPDIR": f"{{here}}/{ODD}"}),
    "ASCII": Hard({"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}),
    "Latin-1": Hard({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}),
    "a home that can't be made": Hard({"HOME": "{here}/a-file/home"}),
    "no HOME": Hard(without=("HOME",)),
    "a long TMPDIR": Hard({"TMPDIR": LONG}),
    "umask 077": Hard(shell="umask 077"),
    "no IPv6": Hard(
        shell="ip link set lo up && echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
        namespaces=("--net",),
    ),
    "a small /dev/shm": Hard(
        shell="mount -t tmpfs -o size=64k none /dev/shm", namespaces=("--mount",)
    ),
    "no /proc/sys": Hard(shell="mount -t tmpfs none /proc/sys", namespaces=("--mount",)),
}


def prepared(hard: Hard, here: Path) -> dict[str, str]:
    """The environment of a command, with the folders and files that it names."""
    for name, text in SETTINGS.items():
        file = here / "settings" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
    (here / "a-file").write_text("no folder\n", encoding="utf-8")
    variables = {name: value.format(here=here) for name, value in hard.environment.items()}
    for name in ("HOME", "TMPDIR"):
        if "a-file" not in variables.get(name, "a-file"):
            Path(variables[name]).mkdir(parents=True, exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if k not in ("NETRC", "no_proxy", "NO_PROXY")}
    return {k: v for k, v in (kept | variables).items() if k not in hard.without}


def within(hard: Hard, command: Sequence[str]) -> list[str]:
    """The command that runs `command` there; skips the test if that is not possible."""
    inside = ["sh", "-c", f'{hard.shell or ":"} && exec "$@"', "sh", *command]
    if not hard.namespaces:
        return inside
    first = ["unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), *hard.namespaces]
    trial = (
        subprocess.run(
            [*first, "sh", "-c", f"{hard.shell} && :"], capture_output=True, text=True, check=False
        )
        if shutil.which("unshare")
        else None
    )
    if trial is None or trial.returncode != 0:
        why = trial.stderr.strip() if trial else "unshare is not installed"
        if os.environ.get("CI"):
            pytest.fail(f"CI may skip nothing, but there is no namespace: {why}", pytrace=False)
        pytest.skip(f"no namespace of our own here: {why}")
    return [*first, *inside]


def run(
    hard: Hard, here: Path, *command: str, cwd: Path = ROOT, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a command in hard times."""
    return subprocess.run(
        within(hard, command),
        cwd=cwd,
        env=prepared(hard, here),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
    )


def nbval(hard: Hard, here: Path, *notebooks: Path, timeout: float = 300) -> str:
    """Run notebooks in strict nbval in this environment; returns what failed, or an empty text."""
    settings = ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={notebooks[0].parent}"]
    settings += ["-p", "conftest", "-p", "no:cacheprovider", "-q", "--color=no"]
    command = [sys.executable, "-m", "pytest", "--nbval", *settings, *map(str, notebooks)]
    ran = run(hard, here, *command, timeout=timeout)
    return "" if ran.returncode == 0 else f"{ran.stdout[-6000:]}\n{ran.stderr[-3000:]}"


def lesson(folder: Path) -> Path:
    """The small lesson, in a folder."""
    cells = []
    for number, (name, (source, printed)) in enumerate(CELLS.items(), start=1):
        cell = nbformat.v4.new_code_cell(source, id=name, execution_count=number)
        if printed:
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=printed)]
        cells.append(cell)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lesson.ipynb"
    path.write_text(nbformat.writes(nbformat.v4.new_notebook(cells=cells)) + "\n", "utf-8")
    return path


TOGETHER = {
    "variables": ["a dead proxy", "settings of curl, wget and aria2c", "ASCII", "umask 077"],
    "folders": ["folders with odd names", "a long TMPDIR", "no HOME"],
    "home": ["a home that can't be made", "Latin-1"],
    "namespaces": ["no IPv6", "a small /dev/shm", "no /proc/sys"],
}
"""Environments that can be combined; `make soak` takes them one by one."""


def together(names: Sequence[str]) -> Hard:
    """Several environments at once; if two set a variable, the later value counts."""
    each = [HARD[name] for name in names]
    return Hard(
        {key: value for hard in each for key, value in hard.environment.items()},
        tuple(name for hard in each for name in hard.without),
        " && ".join(hard.shell for hard in each if hard.shell),
        tuple(dict.fromkeys(flag for hard in each for flag in hard.namespaces)),
    )


def test_all_surroundings_are_tried() -> None:
    """The short form leaves no environment out."""
    assert sorted(HARD) == sorted(name for names in TOGETHER.values() for name in names)


@pytest.mark.needs("linux")
@pytest.mark.parametrize("names", TOGETHER.values(), ids=TOGETHER)
def test_a_lesson_in_hard_times(tmp_path: Path, names: list[str]) -> None:
    """The lesson prints what it prints everywhere, and nothing more."""
    problem = nbval(together(names), tmp_path, lesson(tmp_path / ODD))
    assert not problem, problem


@pytest.mark.soak
@pytest.mark.needs("linux", *TOOLS)
@pytest.mark.parametrize("name", HARD)
def test_all_lessons_in_hard_times(tmp_path: Path, name: str) -> None:
    """Each lesson says there what it says everywhere."""
    course = tmp_path / (ODD if "odd" in name else "course")
    shutil.copytree(ROOT / "notebooks", course, ignore=shutil.ignore_patterns(".*"))
    notebooks = [lesson(tmp_path / "small"), *sorted(course.glob("*.ipynb"))]
    problem = nbval(HARD[name], tmp_path, *notebooks, timeout=3600)
    assert not problem, problem


# Proxies and settings


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, ["127.0.0.1,localhost,::1"] * 2),
        ({"no_proxy": "a.b"}, ["a.b,127.0.0.1,localhost,::1"] * 2),
        ({"NO_PROXY": "a.b, localhost"}, ["a.b,localhost,127.0.0.1,::1"] * 2),
        (
            {"no_proxy": ".lan", "NO_PROXY": "10.0.0.0/8 .org"},
            [".lan,127.0.0.1,localhost,::1", "10.0.0.0/8,.org,127.0.0.1,localhost,::1"],
        ),
        ({"no_proxy": "*"}, ["*", "*"]),
        ({"NO_PROXY": ""}, ["127.0.0.1,localhost,::1"] * 2),
    ],
)
def test_no_proxy_keeps_what_it_had(before: dict[str, str], after: list[str]) -> None:
    """This machine's names come after the user's own; adding them twice changes nothing."""
    variables = dict(before)
    for _ in range(2):
        environment.go_direct(variables)
        assert [variables["no_proxy"], variables["NO_PROXY"]] == after


def test_a_variable_that_goes_meanwhile_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable may go while the environment is copied: pytest removes one in another thread."""

    class Fleeting(dict[str, str]):
        def __iter__(self) -> Iterator[str]:
            yield from (*super().__iter__(), "GONE")

    with monkeypatch.context() as patched:
        patched.setattr(os, "environ", Fleeting(KEPT="yes", PYTEST_CURRENT_TEST="this one"))
        names = set(environment.inherited())
    assert names == {"KEPT", "NETRC", "NO_PROXY", "no_proxy"}


def test_no_login_goes_to_this_machine(tmp_path: Path) -> None:
    """A ~/.netrc with a login for every host is not read, as it would be without the course."""
    asking = "import sys, requests; requests.get(sys.argv[1])"
    with Origin() as origin:
        url = origin.put("/", Answer(b"hello"))
        for first in ("", "from streamlab import environment; environment.prepare(); "):
            ran = run(
                HARD["settings of curl, wget and aria2c"],
                tmp_path,
                *(sys.executable, "-c", first + asking, url),
            )
            assert ran.returncode == 0, ran.stderr
        sent = ["authorization" in str(exchange).lower() for exchange in origin.exchanges]
    assert sent == [True, False]


UNCONFIGURED = {"curl": "-q", "wget": "--no-config", "aria2c": "--no-conf"}


def starts(source: str) -> Iterator[str]:
    """The places in a source where curl, wget or aria2c is started with a user's settings."""
    tree = ast.parse(source)
    # A line for the reader to type has no such option.
    by_hand = {
        id(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "shlex.join"
    }
    for node in (each for each in ast.walk(tree) if isinstance(each, ast.expr)):
        parts: Sequence[ast.expr] = ()
        if isinstance(node, ast.List) and id(node) not in by_hand:
            parts = node.elts
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in STARTERS:
            first = node.args[0] if node.args else None
            parts = first.elts if isinstance(first, ast.Tuple) else node.args
        words = [part.value if isinstance(part, ast.Constant) else None for part in parts[:2]]
        # Two names of programs are not a command.
        if len(words) == 2 and words[0] in UNCONFIGURED and words[1] not in NAMES:
            if words[1] != UNCONFIGURED[str(words[0])]:
                yield f"line {node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.JoinedStr) and re.match(
            r"f.curl (?!-q ).*\| ", ast.unparse(node)
        ):
            yield f"line {node.lineno}: {ast.unparse(node)}"


NAMES = (*TOOLS, "http.client")
STARTERS = ("run", "Popen", "check_output", "check_call", "create_subprocess_exec")


@pytest.mark.parametrize(
    "source",
    [
        'run(["curl", "-s", url])',
        'command = ["curl", *options, url]',
        'run("wget", "-q", url)',
        'subprocess.run(("aria2c", "-d", folder))',
        'f(f"curl -s {url} | wc -l")',
        '["curl", "-s", "-q"]',
    ],
)
def test_a_program_with_settings_is_seen(source: str) -> None:
    """The rule finds each start of a program that does not leave out the user's settings."""
    assert len(list(starts(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        'run(["curl", "-q", "-s", url])',
        'run(command("curl", "-s", url))',
        'needs("linux", "curl")',
        'for name in ("curl", "wget", "aria2c"): pass',
        'for name, use in (("curl", by_curl), ("wget", by_wget)): pass',
        'find_tool("curl")',
        'f(f"curl -q -s {url} | wc -l")',
    ],
)
def test_what_starts_none_is_let_be(source: str) -> None:
    """Names alone, and commands with the option, are allowed."""
    assert list(starts(source)) == []


def test_no_program_is_started_with_a_users_settings() -> None:
    """The library, the tests, the tools and the code of all notebooks."""
    found = []
    for folder in ("streamlab", "tests", "tools"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if ROOT / "tests" / "corpora" not in file.parents and file != Path(__file__):
                found += [f"{file}: {each}" for each in starts(file.read_text("utf-8"))]
    for file in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("solutions/*/*.ipynb")]:
        for cell in json.loads(file.read_text("utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and not source.startswith("%%"):
                lines = [line for line in source.splitlines() if line[:1] not in ("%", "!")]
                found += [f"{file}: {each}" for each in starts("\n".join(lines))]
    assert found == []


# The command line


def course_with(folder: Path, program: str) -> Path:
    """A course of one lab, its program replaced; returns the course's folder."""
    lab = folder / "labs" / "02_chunked_loop"
    shutil.copytree(ROOT / "labs" / "02_chunked_loop", lab, ignore=shutil.ignore_patterns(".*"))
    (lab / "server.py").write_text(program, encoding="utf-8")
    return folder


STREAMLAB = (sys.executable, "-c", "from streamlab.cli import main; main()")


@pytest.mark.needs("linux")
@pytest.mark.parametrize("name", ["ASCII", "Latin-1"])
def test_the_command_writes_on_every_terminal(tmp_path: Path, name: str) -> None:
    """What an old terminal can't show is replaced: no command ends in a traceback."""
    course = course_with(tmp_path / ODD, "ü = “no Python”\n")
    said = {}
    for command, status in {"check 02": 1, "progress": 0, "hint 02": 0, "doctor": 0}.items():
        ran = run(HARD[name], tmp_path, *STREAMLAB, *command.split(), cwd=course)
        assert ran.returncode == status, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr
        said[command] = ran.stdout
    assert "server.py, line 1" in said["check 02"]
    assert "------------" in said["progress"]
    bad = run(HARD[name], tmp_path, *STREAMLAB, "check", "ü", cwd=course)
    assert bad.returncode == 2
    assert bad.stderr.startswith("streamlab: there is no lab ")


def test_the_doctor_names_a_proxy(tmp_path: Path) -> None:
    """The doctor says that the course does not use the proxy."""
    ran = run(HARD["a dead proxy"], tmp_path, *STREAMLAB, "doctor", "--json")
    found = {each["name"]: each["detail"] for each in json.loads(ran.stdout)}
    assert found["proxy"].endswith("are set: the course goes around it for 127.0.0.1")
    quiet = Hard(without=tuple(HARD["a dead proxy"].environment))
    ran = run(quiet, tmp_path, *STREAMLAB, "doctor", "--json")
    assert {"name": "proxy", "ok": True, "detail": "none is set", "vital": False} in json.loads(
        ran.stdout
    )


# Ports and disks


@pytest.mark.parametrize(
    "program",
    [
        ["-m", "streamlab.origin"],
        ["-m", "streamlab.serve", str(ROOT / "tests" / "servers" / "app.py") + ":app"],
        [str(ROOT / "tests" / "servers" / "streaming.py")],
        ["-c", "from streamlab.serve import serve_files_async as s; s(None)"],
    ],
    ids=["origin", "app", "threads", "event loop"],
)
def test_a_busy_port(tmp_path: Path, program: list[str]) -> None:
    """If the port is taken, one line says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        served = Hard({"STREAMLAB_ROOT": "{here}"})
        ran = run(served, tmp_path, sys.executable, *program, f"--port={port}", timeout=60)
    assert ran.returncode == 1
    assert ran.stderr == (
        f"port {port} is taken by another program (Address already in use): "
        "choose another one, or --port 0 for any free one\n"
    )


def on_a_small_disk(folder: Path, options: str, then: str) -> Hard:
    """A tiny file system at a folder, with all its room taken or read-only."""
    folder.mkdir()
    mount = f"mount -t tmpfs -o size=64k none {shlex.quote(str(folder))}"
    return Hard(shell=f"{mount} && {options} && {then}", namespaces=("--mount",))


@pytest.mark.needs("linux")
@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("head -c 1M /dev/zero > fill 2>/dev/null || :", "the disk is full"),
        ("mount -o remount,ro .", "the disk is read-only: copy the course"),
    ],
    ids=["full", "read-only"],
)
def test_a_folder_that_takes_no_files(tmp_path: Path, then: str, words: str) -> None:
    """A notebook's server and a sample file: an error in one line that says what to do."""
    hard = on_a_small_disk(tmp_path / "disk", f"cd {shlex.quote(str(tmp_path / 'disk'))}", then)
    program = (
        "from IPython.core.interactiveshell import InteractiveShell as Shell\n"
        "shell = Shell.instance()\n"
        "shell.run_line_magic('load_ext', 'streamlab')\n"
        "from streamlab import StreamlabError, random_file\n"
        "for make in (lambda: random_file(10**6),\n"
        "             lambda: shell.run_cell_magic('server', 'a', '#' * 10**6)):\n"
        "    try: make()\n"
        "    except StreamlabError as error: print(error)\n"
    )
    ran = run(hard, tmp_path, sys.executable, "-c", program)
    lines = ran.stdout.splitlines()
    assert len(lines) == 2, ran.stdout + ran.stderr
    assert all(words in line and line.startswith("could not ") for line in lines)


@pytest.mark.needs("linux")
def test_a_full_disk_loses_no_results(tmp_path: Path) -> None:
    """Earlier results stay if the next ones find no room, and a message says so."""
    disk = tmp_path / "disk"
    program = (
        "import errno, os\n"
        "from pathlib import Path\n"
        "from streamlab.labs.manifest import Lab\n"
        "from streamlab.labs.progress import last_results, remember\n"
        "from streamlab.labs.results import CheckResult\n"
        "result = CheckResult('lab', 'a', 'X', 1, 1, 'passed')\n"
        "lab = Lab(Path('lab'))\n"
        "remember(lab, [result])\n"
        "try: Path('fill').write_bytes(bytes(10**6))\n"
        "except OSError as error: assert error.errno == errno.ENOSPC\n"
        "remember(lab, [result] * 1000)\n"
        "print(last_results(lab) == [result], sorted(os.listdir('lab/.streamlab')))\n"
    )
    hard = on_a_small_disk(disk, f"cd {shlex.quote(str(disk))}", "mkdir lab && touch lab/lab.toml")
    ran = run(hard, tmp_path, sys.executable, "-c", program)
    assert ran.stdout == "True ['latest.jsonl', 'results.jsonl']\n", ran.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "r02"),
            "can't write r02: the disk is full",
        ),
        (OSError(errno.EROFS, "Read-only", "r02"), "can't write r02: the disk is read-only"),
        (
            FileNotFoundError(2, "No usable temporary directory found in ['a']"),
            "can't write a file",
        ),
    ],
)
def test_the_command_says_that_it_cannot_write(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: OSError,
    words: str,
) -> None:
    """The error is one line, wherever it happens; any other error keeps its traceback."""

    def app() -> None:
        raise error

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    said = capsys.readouterr().err
    assert said.startswith(f"streamlab: {words}") and said.count("\n") == 1
    error.errno, error.strerror = errno.ECONNREFUSED, "refused"
    with pytest.raises(OSError, match="refused"):
        cli.main()
