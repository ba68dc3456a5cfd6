"""Memory control groups: what they count, whom the kernel kills, and where none can be made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamlab import MiB, forget, random_file, remember
from streamlab.errors import IsolationError
from streamlab.process import groups
from streamlab.process.groups import GroupTimeline, MemoryGroup, joining, unavailable_reason

READ = "import sys\nwith open(sys.argv[1], 'rb') as file:\n    while file.read(65536): pass\n"
HOLD = "import sys\nheld = open(sys.argv[1], 'rb').read()\n"


def run(group: MemoryGroup, program: str, file: Path) -> int:
    """The exit status of a Python program in a group."""
    command = joining(group.folder, [sys.executable, "-c", program, str(file)])
    return subprocess.run(command, check=False, timeout=60).returncode


@pytest.mark.needs("cgroup")
def test_page_cache_fills_a_group_and_kills_nobody(tmp_path: Path) -> None:
    """A program that reads a file larger than the limit, piece by piece, comes to its end."""
    file = random_file(128 * MiB, folder=tmp_path)
    forget(file)
    with MemoryGroup(48 * MiB) as group, GroupTimeline(group) as line:
        assert run(group, READ, file.path) == 0
        found = group.reading()
        assert group.kills == 0
        assert 40 * MiB < found.held <= 48 * MiB
        assert found.anonymous < 8 * MiB < 32 * MiB < found.cached
        assert found.working_set <= found.held - found.inactive + 1
    assert line.most.held >= 40 * MiB
    assert line.times == sorted(line.times)


@pytest.mark.needs("cgroup")
def test_a_program_that_holds_too_much_is_killed(tmp_path: Path) -> None:
    """The same file read whole: the kernel sends SIGKILL, and counts it."""
    file = random_file(128 * MiB, folder=tmp_path)
    remember(file)
    with MemoryGroup(48 * MiB) as group:
        assert run(group, HOLD, file.path) == -9
        assert group.peak > 44 * MiB
        assert group.kills == 1


@pytest.mark.needs("cgroup")
def test_a_group_is_removed() -> None:
    """Nothing is left of a group at its end."""
    with MemoryGroup(48 * MiB) as group:
        assert group.folder.is_dir()
    assert not group.folder.exists()


def test_both_versions_are_read(tmp_path: Path) -> None:
    """The figures of version 2, and those of version 1, by the names that the kernel documents."""
    v2, v1 = MemoryGroup(1), MemoryGroup(1)
    v2.folder, v1.folder = tmp_path / "v2", tmp_path / "v1"
    v1._version = groups._V1
    files = {
        "v2/memory.current": "100\n",
        "v2/memory.peak": "300\n",
        "v2/memory.stat": "anon 30\nfile 70\ninactive_file 60\nactive_file 10\n",
        "v2/memory.events": "low 0\noom 3\noom_kill 2\n",
        "v1/memory.usage_in_bytes": "100\n",
        "v1/memory.max_usage_in_bytes": "300\n",
        "v1/memory.stat": "rss 1\ntotal_rss 30\ntotal_cache 70\ntotal_inactive_file 60\n",
        "v1/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for group in (v1, v2):
        found = group.reading()
        assert (found.held, found.anonymous, found.cached, found.working_set) == (100, 30, 70, 40)
        assert group.kills == 2
        assert group.peak == 300
    (tmp_path / "v2" / "memory.peak").unlink()  # as before Linux 5.19
    assert v2.peak == 100


def test_where_groups_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In version 2 it is the nearest group above that passes memory on; in version 1 its top."""
    monkeypatch.setattr(groups, "GROUPS", tmp_path)
    own = tmp_path / "a.slice" / "b.scope"
    own.mkdir(parents=True)
    monkeypatch.setattr(groups, "own_group", lambda: own)
    (own / "cgroup.subtree_control").write_text("")
    (own.parent / "cgroup.subtree_control").write_text("cpu pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    assert groups._place() == (tmp_path, groups._V2)
    (own.parent / "cgroup.subtree_control").write_text("memory\n")
    assert groups._place() == (own.parent, groups._V2)
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("0")
    assert groups._place() == (tmp_path / "memory", groups._V1)


def test_no_group_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is one line: without control groups, and without the rights."""
    monkeypatch.setattr(groups, "GROUPS", tmp_path)
    monkeypatch.setattr(groups, "own_group", lambda: None)
    with pytest.raises(IsolationError), MemoryGroup(MiB):
        pass
    assert unavailable_reason().startswith("no memory cgroup can be made here")
    assert "\n" not in unavailable_reason()


@pytest.mark.needs("linux")
def test_joining_keeps_the_process_number(tmp_path: Path) -> None:
    """What joins a group is the process that the command becomes."""
    command = joining(tmp_path, [sys.executable, "-c", "import os; print(os.getpid())"])
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "cgroup.procs").read_text() == found.stdout
    assert int(found.stdout) != os.getpid()
