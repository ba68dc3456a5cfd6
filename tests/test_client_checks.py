"""What the checks of lab 03's client are made of: another disk for its temporary files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamlab import client_checks


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a check says that it left out."""
    said: list[str] = []
    monkeypatch.setattr(client_checks, "note", said.append)
    return said


def workshop(outputs: Path, sandbox: object = None) -> Any:
    """As much of a workshop as is asked here."""
    return SimpleNamespace(outputs=outputs, sandbox=sandbox)


@pytest.mark.needs("linux")
def test_a_folder_on_another_disk_goes_with_the_check(tmp_path: Path, notes: list[str]) -> None:
    with client_checks._another_disk(workshop(tmp_path)) as folder:
        if folder:  # /dev/shm may be the same disk, or have no room
            assert os.stat(folder).st_dev != os.stat(tmp_path).st_dev
            Path(folder, "part").touch()
    assert not folder or not Path(folder).exists()
    assert bool(notes) is not bool(folder)


def test_a_folder_on_the_same_disk_is_none(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_checks, "SHARED_MEMORY", tmp_path)
    with client_checks._another_disk(workshop(tmp_path)) as folder:
        assert folder == ""
    monkeypatch.setattr(client_checks, "SHARED_MEMORY", tmp_path / "missing")
    with client_checks._another_disk(workshop(tmp_path)) as folder:
        assert folder == ""
    assert len(notes) == 2 and all("another disk" in each for each in notes)


@pytest.mark.needs("linux")
def test_a_disk_without_room_is_left_out(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container with a small /dev/shm: there a right client would fail."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64 * 1024))
    with client_checks._another_disk(workshop(tmp_path)) as folder:
        assert folder == ""
    assert len(notes) == 1


def test_a_sandbox_has_its_own_shared_memory(tmp_path: Path, notes: list[str]) -> None:
    with client_checks._another_disk(workshop(tmp_path, sandbox=object())) as folder:
        assert folder == "/dev/shm"
    assert notes == []
