"""The laws say what the chapters say, and the cup says what fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streamlab.errors import CapacityError
from streamlab.files import GiB, KiB, MiB
from streamlab.lesson import capacity
from streamlab.process import proc

# Laws


@pytest.mark.parametrize(
    ("needed", "size"),
    [
        (capacity.load_all(200, 1 * GiB), 200 * GiB),
        (capacity.load_all(10, 64 * MiB, copies=11 / 3), 10 * 64 * MiB * 11 / 3),
        (capacity.joined(1, 64 * MiB), 128 * MiB),
        (capacity.chunked(200, 64 * KiB), 25 * MiB),
        (capacity.chunked(200, 64 * KiB, chunks=1, beside=64 * KiB), 25 * MiB),
        (capacity.stacks(220, 1 * MiB), 220 * MiB),
        (capacity.event_loop(1000, 160 * KiB), 1000 * 160 * KiB),
        (capacity.stalled(1000, 128 * KiB), 125 * MiB),
        (capacity.stalled(1000, 128 * KiB, 256 * KiB), 375 * MiB),
        (capacity.gateway(100, 400 * KiB), 100 * 400 * KiB),
        (capacity.gateway(100, 400 * KiB, 1 * MiB, 3 * MiB), 100 * (4 * MiB + 400 * KiB)),
        (capacity.mixed(50, 20_000, 20, 90 * KiB), 1_000_000 + 20 * 90 * KiB),
        (capacity.mixed(50, 20_000, 20, 90 * KiB, 30_000), 2_500_000 + 20 * 90 * KiB),
        (capacity.descriptors(1000, idle=7), 2007),
        (capacity.descriptors(1000, each=3), 3000),
    ],
)
def test_law(needed: float, size: float) -> None:
    assert needed == size


@pytest.mark.parametrize(
    ("memory", "each", "idle", "most"),
    [
        (256 * MiB, 44 * MiB, 10 * MiB, 5),  # chapter 01, where client 6 crashed the server
        (256 * MiB, 51 * MiB, 10 * MiB, 4),
        (256 * MiB, 51 * MiB, 0, 5),
        (1024, 2, 7, 508),  # descriptors: chapter 06
        (10 * MiB, 1 * MiB, 12 * MiB, 0),
        (3 * MiB, 1 * MiB, 0, 3),
    ],
)
def test_most_users(memory: float, each: float, idle: float, most: int) -> None:
    assert capacity.most_users(memory, each, idle) == most


def test_the_law_and_its_inverse_agree() -> None:
    """As many users as fit do fit, and one more does not."""
    for chunk in (1 * KiB, 64 * KiB, 4 * MiB):
        each = capacity.chunked(1, chunk, beside=30_000)
        most = capacity.most_users(2 * GiB, each, idle=11 * MiB)
        needed = [
            11 * MiB + capacity.chunked(users, chunk, beside=30_000) for users in (most, most + 1)
        ]
        assert needed[0] <= 2 * GiB < needed[1]


# The cup


def told(memory: float, users: int = 200) -> list[str]:
    """The lines of the table for users of 10 MiB each, and an idle server of 8 MiB."""
    shown = capacity.cup(users, memory, {"files": users * 10 * MiB}, idle=8 * MiB)
    return shown.table._text().splitlines()


def test_what_fits() -> None:
    """At the rim itself all users fit; a byte less, and one does not."""
    assert told(2008 * MiB) == [
        "each user        by the law",
        "needed in all    fits into 1.96 GiB",
        "users that fit   at least 200",
    ]
    assert told(2008 * MiB - 1) == [
        "each user        by the law",
        "needed in all    more than 1.96 GiB",
        "users that fit   fewer than 200",
    ]
    assert told(4 * MiB, users=1000)[2] == "users that fit   fewer than 1,000"


def test_figures_stand_in_live_cells() -> None:
    """What is computed from measurements is not compared, and can be told in the prose."""
    shown = capacity.cup(200, 1 * GiB, {"a": 150 * MiB, "b": 50 * MiB}, idle=24 * MiB)
    html, figures = shown.table._repr_mimebundle_()
    assert figures["streamlab"] == {
        "each user": "1 MiB",
        "needed in all": "224 MiB",
        "users that fit": "1,000",
    }
    assert html["text/html"].count('<td class="live"') == 3


def test_the_cup_is_shown_after_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that ends in it shows both, and the words of the picture say what fits."""
    import IPython.display

    seen: list[object] = []
    monkeypatch.setattr(IPython.display, "display", lambda *shown: seen.extend(shown))
    shown = capacity.cup(2, 1 * GiB, {"files": 2 * MiB})
    shown._ipython_display_()
    assert seen == [shown.table, shown.chart]
    assert repr(shown.chart) == (
        "Chart: 2 users, and a cup of 1 GiB. each user: by the law; "
        "needed in all: fits into 1 GiB; users that fit: at least 2."
    )
    assert repr(shown) == f"{shown.table!r}\n{shown.chart!r}"


def test_more_rows() -> None:
    """A chapter adds rows, such as on descriptors."""
    few, enough = (capacity.descriptor_row(100, limit, idle=7) for limit in (206, 207))
    assert few.verdict.text == "fewer than 100" and few.verdict.live == "99"
    assert enough.verdict.text == "at least 100" and enough.verdict.live == "100"
    shown = capacity.cup(100, 1 * GiB, {"files": 1 * MiB}, more=[few, enough])
    assert shown.table.rows[-2:] == [few, enough]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: capacity.cup(0, GiB, {"a": MiB}), "0 users"),
        (lambda: capacity.cup(1, 0, {"a": MiB}), "0 bytes of memory"),
        (lambda: capacity.cup(1, GiB, {"a": 0}), "costs nothing"),
        (lambda: capacity.cup(1, GiB, {}), "costs nothing"),
        (lambda: capacity.cup(1, GiB, {"a": MiB, "b": -1}), "b: less than nothing"),
        (lambda: capacity.cup(1, GiB, {"a": MiB}, idle=-1), "idle: less than nothing"),
        (lambda: capacity.most_users(GiB, 0), "costs nothing"),
    ],
)
def test_impossible_numbers(wrong: Callable[[], object], says: str) -> None:
    with pytest.raises(CapacityError, match=says):
        wrong()


# What the kernel allows


def kernel_with(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """Let `/proc` be a folder with these settings."""
    home = folder / "sys" / "net" / "ipv4"
    home.mkdir(parents=True)
    for name, text in settings.items():
        (home / name).write_text(text)
    monkeypatch.setattr(proc, "PROC", folder)


def test_the_largest_buffers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_with(
        tmp_path,
        monkeypatch,
        tcp_wmem="4096\t16384\t4194304\n",
        tcp_rmem="4096\t131072\t6291456\n",
    )
    assert proc.tcp_buffers() == (4 * MiB, 6 * MiB)
    assert proc.socket_room() == 10 * MiB
    assert capacity.kernel_row().verdict.live == "4 MiB and 6 MiB"


def test_a_kernel_that_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row's verdict stays the same, so a chapter goes on."""
    here = capacity.kernel_row().verdict.text
    kernel_with(tmp_path, monkeypatch, tcp_wmem="4096 16384 4194304")
    assert proc.tcp_buffers() is None
    assert proc.socket_room() == 10 * MiB
    row = capacity.kernel_row()
    assert (row.verdict.text, row.verdict.live) == (here, "not shown here")
