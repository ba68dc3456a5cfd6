"""What is measured of uploads, on servers of which it is known where the bytes are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Launch
from streamlab.errors import UploadError
from streamlab.files import KiB, MiB, SampleFile, random_file
from streamlab.lesson import upload_meters
from streamlab.lesson.upload_meters import (
    STEP,
    kept_of_uploads,
    places_chart,
    sent_before,
    temporary_on,
    upload_peak,
)
from streamlab.lesson.verdicts import Verdict, row, verdicts
from streamlab.process.memory import Kept
from streamlab.process.server import Server

pytestmark = pytest.mark.needs("linux")


@pytest.fixture
def server(launch: Launch) -> Iterator[Server]:
    """A server that takes uploads."""
    with launch("receiving", app="app") as running:
        yield running


@pytest.fixture
def river(tmp_path: Path) -> SampleFile:
    """A file that is large enough for its growth to be measured."""
    return random_file(36 * MiB, "river.bin", tmp_path)


@pytest.mark.needs("curl")
def test_the_peak_of_a_whole_body_and_of_a_stream(server: Server, river: SampleFile) -> None:
    assert 1.9 < upload_peak(server, "/whole", river) / river.size < 2.2
    assert upload_peak(server, "/file", river, fresh=False) < 8 * MiB  # not the mark of the first


def test_where_the_bytes_are(server: Server, river: SampleFile) -> None:
    in_memory = kept_of_uploads(server, "/whole", river, clients=2)
    assert 1.9 < in_memory.private / river.size < 2.1
    assert in_memory.disk + in_memory.tmpfs < 1 * MiB
    in_a_file = kept_of_uploads(server, "/file", river)
    assert in_a_file.private < 8 * MiB
    assert in_a_file.disk + in_a_file.tmpfs == pytest.approx(river.size - 1, abs=4 * KiB)


def test_a_small_upload_that_fails_is_an_error(server: Server, river: SampleFile) -> None:
    with pytest.raises(UploadError, match="status 413"):
        kept_of_uploads(server, "/refuse", river)


def test_when_a_handler_begins(server: Server, river: SampleFile) -> None:
    assert sent_before(server, "/file", river, "begins") == 0
    assert sent_before(server, "/file", river, "ends") == river.size
    assert sent_before(server, "/whole", river, "has", form="file") > river.size
    assert 0 < sent_before(server, "/hang", river, "has") <= STEP
    with pytest.raises(UploadError, match="log has no 'never'"):
        sent_before(server, "/whole", river, "never")
    with pytest.raises(UploadError, match=f"of {river.size} bytes were sent"):
        sent_before(server, "/hang", river, "never")


def test_temporary_files_lie_where_there_is_room(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(upload_meters, "folder_on", lambda kind, room: tmp_path / kind)
    assert temporary_on("disk", 10) == {"TMPDIR": str(tmp_path / "disk")}
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(upload_meters, "folder_on", lambda kind, room: None)
    assert temporary_on("tmpfs", 48 * MiB) == {}
    told = capsys.readouterr().out
    assert told == "No tmpfs here with 48 MiB of room: temporary files lie as usual.\n"


def test_a_chart_of_places() -> None:
    table = verdicts(row("one", Verdict("right", "1")))
    kept = {"a": Kept(48 * MiB, 0, 0), "b": Kept(1 * MiB, 47 * MiB, 0)}
    chart = places_chart(kept, "Where they are", table)
    assert chart.says == "Chart: Where they are. one: right."
    assert chart.png.startswith(b"\x89PNG")
    other = places_chart({**kept, "b": Kept(1 * MiB, 0, 47 * MiB)}, "Where they are", table)
    assert other.png != chart.png  # another place has another colour
