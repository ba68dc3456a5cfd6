"""What the checks of lab 03's client are made of: disks, answers in turn, what was left before."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamlab.checks.downloader import body
from streamlab.checks.downloader.runner import in_turn, parts_of, with_ranges
from streamlab.origin import Answer, Exchange


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The notes of a check about parts that it left out."""
    said: list[str] = []
    monkeypatch.setattr(body, "note", said.append)
    return said


def workspace(outputs: Path, sandbox: object = None) -> Any:
    """The parts of a workspace that this test needs."""
    return SimpleNamespace(outputs=outputs, sandbox=sandbox)


@pytest.mark.needs("linux")
def test_a_folder_on_another_disk_goes_with_the_check(tmp_path: Path, notes: list[str]) -> None:
    with body._another_disk(workspace(tmp_path)) as folder:
        if folder:  # /dev/shm may be the same disk, or have no room
            assert os.stat(folder).st_dev != os.stat(tmp_path).st_dev
            Path(folder, "part").touch()
    assert not folder or not Path(folder).exists()
    assert bool(notes) is not bool(folder)


def test_a_folder_on_the_same_disk_is_none(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "SHARED_MEMORY", tmp_path)
    with body._another_disk(workspace(tmp_path)) as folder:
        assert folder == ""
    monkeypatch.setattr(body, "SHARED_MEMORY", tmp_path / "missing")
    with body._another_disk(workspace(tmp_path)) as folder:
        assert folder == ""
    assert len(notes) == 2 and all("another disk" in each for each in notes)


@pytest.mark.needs("linux")
def test_a_disk_without_room_is_left_out(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small /dev/shm, as in a container, would make a right client fail."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64 * 1024))
    with body._another_disk(workspace(tmp_path)) as folder:
        assert folder == ""
    assert len(notes) == 1


def test_a_sandbox_has_its_own_shared_memory(tmp_path: Path, notes: list[str]) -> None:
    with body._another_disk(workspace(tmp_path, sandbox=object())) as folder:
        assert folder == "/dev/shm"
    assert notes == []


def asked(method: str = "GET", **headers: str) -> Exchange:
    """A request with these headers."""
    return Exchange(method, "/a", [(name.replace("_", "-"), headers[name]) for name in headers])


def test_answers_come_in_turn() -> None:
    order = in_turn(Answer(b"one"), Answer(b"two"))
    assert not isinstance(order, Answer)
    bodies = [order(asked(method)).body for method in ("HEAD", "GET", "GET", "GET")]
    assert bodies == [b"one", b"one", b"two", b"two"]


@pytest.mark.parametrize(
    ("headers", "status", "sent"),
    [
        ({}, 200, b"0123456789"),
        ({"range": "bytes=6-"}, 206, b"6789"),
        ({"range": "bytes=10-"}, 416, b""),
        ({"range": "bytes=6-", "if_range": '"a"'}, 200, b"0123456789"),
    ],
)
def test_the_rest_of_a_file_can_be_asked_for(
    headers: dict[str, str], status: int, sent: bytes
) -> None:
    order = with_ranges(b"0123456789")
    assert not isinstance(order, Answer)
    answer = order(asked(**headers))
    assert (answer.status, answer.body) == (status, sent)
    if status == 206:
        assert dict(answer.headers)["Content-Range"] == "bytes 6-9/10"


def test_parts_lie_beside_the_output_and_in_the_folder_for_temporary_files(tmp_path: Path) -> None:
    parts = parts_of(tmp_path / "a.bin")
    assert tmp_path / "a.bin" not in parts and len(set(parts)) == len(parts)
    assert {part.parent for part in parts} == {tmp_path, tmp_path / "tmp"}
    assert {"a.bin.part", ".a.bin.part", "a.part"} <= {part.name for part in parts}
