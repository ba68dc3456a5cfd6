"""The measured share of a body that the kernel takes holds for servers and other kernels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from notebook_rules import ROOT

from conftest import Launch
from streamlab import KiB, MiB, connection_buffer, measure, random_file

PROGRAM = """
import json
from streamlab.http.buffers import connection_buffer
print(json.dumps([connection_buffer(20), connection_buffer(20, send_buffer=65536)]))
"""


def taken_by(kernel: str) -> list[int]:
    """What a connection takes with the settings of a kernel, and with `SO_SNDBUF` set, in bytes."""
    tool = [sys.executable, str(ROOT / "tools" / "kernels.py"), f"--kernel={kernel}", "--"]
    command = [*tool, sys.executable, "-c", PROGRAM]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if ended.returncode != 0 and not os.environ.get("CI"):
        pytest.skip(ended.stderr.strip())
    assert ended.returncode == 0, ended.stderr
    found: list[int] = json.loads(ended.stdout)
    return found


@pytest.mark.needs("linux")
def test_it_follows_the_settings_of_the_kernel() -> None:
    small, debian = taken_by("small"), taken_by("debian")
    assert 256 * KiB < small[0] < 1.6 * MiB  # 0.5 MiB to send, and 0.5 MiB received
    assert debian[0] > 2 * small[0]
    assert debian[1] < 1 * MiB
    assert abs(debian[1] - small[1]) < 256 * KiB  # SO_SNDBUF replaces the kernel's settings


@pytest.mark.needs("linux")
def test_a_server_is_held_up_where_it_says(launch: Launch, tmp_path: Path) -> None:
    server = launch("streaming")
    river = random_file(64 * MiB, "river.bin", tmp_path)
    found = measure(server, river.url, 20, "stalled")
    assert found.read is not None
    ahead = found.read / 20 - 64 * KiB
    assert connection_buffer(20) / 2 < ahead < 2 * connection_buffer(20)


def test_it_is_bounded_and_kept() -> None:
    first = connection_buffer(4, send_buffer=64 * KiB, window=64 * KiB)
    assert 0 < first < 4 * MiB
    assert connection_buffer(4, send_buffer=64 * KiB, window=64 * KiB) is first


@pytest.mark.needs("linux")
def test_small_segments_and_small_windows_make_it_less() -> None:
    usual = connection_buffer(4)
    assert connection_buffer(4, segment=1448, window=8 * KiB, first=16 * KiB) < usual / 4
