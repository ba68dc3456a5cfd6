"""Helpers that are forked from a process that was forked ahead: as a new Python, but quicker."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from streamlab.process import ahead

pytestmark = pytest.mark.needs("linux")

BEGINNING = """
import json, os, signal, sys, threading, time
import psutil
from streamlab.process import ahead

def told(helper):
    return json.loads(helper.stdout.readline())

"""


def script(text: str, folder: Path, *, helpers: str = "") -> Any:
    """What a program of its own prints as JSON; `helpers` is a module of that name beside it."""
    (folder / "helpers.py").write_text(textwrap.dedent(helpers))
    (folder / "program.py").write_text(BEGINNING + textwrap.dedent(text))
    ran = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


TELLS = """
import json, os, sys

def main(arguments):
    print(json.dumps({
        "arguments": arguments,
        "input": sys.stdin.read(),
        "folder": os.getcwd(),
        "variables": sorted(name for name in os.environ if name != "LC_CTYPE"),
        "leads": os.getpid() == os.getsid(0) == os.getpgrp(),
        "pid": os.getpid(),
        "open": len(os.listdir("/proc/self/fd")),
        "signals": str([__import__("signal").getsignal(number) for number in (2, 15, 17)]),
    }), flush=True)
"""


def test_a_helper_has_what_a_new_process_would_have(tmp_path: Path) -> None:
    """Its arguments, input, folder, variables and session, and nothing that others have open."""
    found = script(
        """
        assert ahead.prepare("helpers")
        others = [ahead.start("helpers:main", ["other"]) for _ in range(3)]
        os.mkdir("elsewhere")
        helper = ahead.start("helpers:main", ["a", "ü"], {"SEEN": "1"}, "elsewhere")
        helper.stdin.write("all of it")
        helper.stdin.close()
        said = told(helper)
        above = [each.pid for each in psutil.Process(os.getpid()).children(recursive=True)]
        said["below"] = helper.pid == said["pid"] and above.count(helper.pid) <= 1
        helper.wait()
        print(json.dumps(said))
        """,
        tmp_path,
        helpers=TELLS,
    )
    assert found["arguments"] == ["a", "ü"]
    assert found["input"] == "all of it"
    assert found["folder"] == str(tmp_path / "elsewhere")
    assert found["variables"] == ["SEEN"]
    assert found["leads"] and found["below"]
    assert found["open"] == 4, "three streams, and the folder that is listed"
    assert "default_int_handler" in found["signals"]


def test_a_helper_can_be_killed_and_descends_from_the_one_who_asked(tmp_path: Path) -> None:
    found = script(
        """
        ahead.prepare("helpers")
        helper = ahead.start("helpers:main")
        below = helper.pid in {each.pid for each in psutil.Process().children(recursive=True)}
        helper.kill()
        helper.wait()
        print(json.dumps([below, helper.stdout.read()]))
        """,
        tmp_path,
        helpers="import time\ndef main(): time.sleep(600)\n",
    )
    assert found == [True, ""]


def test_the_errors_of_a_helper_are_told(tmp_path: Path) -> None:
    """Where it was told to, and its exit status is 1 as that of a new Python."""
    found = script(
        """
        import tempfile
        ahead.prepare("helpers")
        with tempfile.TemporaryFile("w+") as errors:
            helper = ahead.start("helpers:main", errors=errors)
            helper.wait()
            errors.seek(0)
            print(json.dumps(errors.read().splitlines()[-1]))
        """,
        tmp_path,
        helpers="def main(): raise RuntimeError('not today')\n",
    )
    assert found == "RuntimeError: not today"


def test_no_module_comes_from_the_folder_of_a_helper(tmp_path: Path) -> None:
    """A student's program may have the name of a module that is not loaded yet."""
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk" / "wave.py").write_text("raise SystemExit('a file of the student')\n")
    found = script(
        """
        sys.path.insert(0, "")  # as after `python -m`
        ahead.prepare("helpers")
        print(json.dumps(told(ahead.start("helpers:main", cwd="desk"))))
        """,
        tmp_path,
        helpers="def main():\n    import wave\n    print(len(wave.__name__), flush=True)\n",
    )
    assert found == 4


def test_nothing_is_copied_while_there_are_threads(tmp_path: Path) -> None:
    """Another thread might hold a lock in that moment: a new Python has to be started then."""
    found = script(
        """
        thread = threading.Thread(target=time.sleep, args=(1,))
        thread.start()
        before = ahead.prepare("helpers"), ahead.start("helpers:main") is None
        thread.join()
        print(json.dumps([*before, ahead.prepare("helpers")]))
        """,
        tmp_path,
    )
    assert found == [False, True, True]


def test_without_a_copy_there_is_no_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_copy", None)
    assert ahead.start("streamlab.http.clients:main") is None


def test_what_can_not_be_ordered_is_left_to_a_new_process(tmp_path: Path) -> None:
    """An order that is too long; a copy that has been killed; a process that was forked since."""
    found = script(
        """
        ahead.prepare("helpers")
        long = ahead.start("helpers:main", ["x" * 2**22]) is None
        if (pid := os.fork()) == 0:
            os._exit(ahead.start("helpers:main") is not None)
        forked = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        works = told(ahead.start("helpers:main"))
        os.kill(ahead._copy.pid, signal.SIGKILL)
        os.waitpid(ahead._copy.pid, 0)
        print(json.dumps([long, forked, works, ahead.start("helpers:main") is None]))
        """,
        tmp_path,
        helpers="def main(): print(7, flush=True)\n",
    )
    assert found == [True, True, 7, True]


def test_the_copy_ends_with_its_owner(tmp_path: Path, becomes: Any, alive: Any) -> None:
    """Also when that is killed; and a supervisor that was forked ends its program then."""
    (tmp_path / "program.py").write_text(
        BEGINNING
        + textwrap.dedent(
            """
            ahead.prepare("streamlab.process.supervise")
            command = ["--log", "log", "--", sys.executable, "-c", "import time; time.sleep(600)"]
            helper = ahead.start("streamlab.process.supervise:main", command)
            print(json.dumps([ahead._copy.pid, helper.pid, told(helper)["pid"]]), flush=True)
            time.sleep(600)
            """
        )
    )
    with subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pids = json.loads(owner.stdout.readline())
        assert all(map(alive, pids))
        owner.kill()
    assert becomes(lambda: not any(map(alive, pids)))
