"""What chapters measure of uploads: how a server grows, where the bytes are, when a handler begins.

Each measurement begins with a fresh process of the server and a small upload on the route under
test, as with downloads (`streamlab.lesson.experiment`). All sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import astuple
from typing import Literal

from streamlab.errors import MeterError, UploadError
from streamlab.files import KiB, MiB, SampleFile, folder_on, random_file, size_text
from streamlab.http.upload import Upload, curl_upload
from streamlab.lesson.charts import INK, LOAD_ALL, RIVER, SAND, Chart, canvas
from streamlab.lesson.experiment import at_rest
from streamlab.lesson.verdicts import Verdicts
from streamlab.process.memory import Kept, high_water, kept_by, memory_of, reset_high_water
from streamlab.process.server import Server

WARMUP = 4 * KiB
"""Bytes of the small upload before the baseline."""
STEP = 4 * MiB
"""Bytes that a client sends before it looks again whether a handler has begun."""


def upload_peak(
    server: Server, path: str, file: SampleFile, *options: str, fresh: bool = True
) -> int:
    """How much a server grows at its worst while curl uploads `file` to `path` (Linux).

    That is the high-water mark of RSS above the RSS after a small upload. `options` are curl's. The
    status does not matter. With `fresh` the server is restarted first: memory that it has freed and
    kept would not count again. Raises `MeterError` off Linux or if the server dies.
    """
    if fresh:
        server.restart()
    small = random_file(WARMUP, "warmup.bin")
    curl_upload(server.url + path, small, *options)
    before = memory_of(server.pid).resident
    reset_high_water(server.pid)
    curl_upload(server.url + path, file, *options)
    mark = high_water(server.pid)
    if mark is None:
        raise MeterError("the peak of a process is known on Linux alone")
    return max(0, mark - before)


def kept_of_uploads(
    server: Server, path: str, file: SampleFile, clients: int = 1, *, form: str = ""
) -> Kept:
    """Where a fresh server has the bytes of `file` when all but the last one have come (Linux).

    `clients` send it to `path` at once, each all but its last byte. What the server keeps after a
    small upload is taken off. With `form` the file is that field of a form (see `Upload`).
    """
    server.restart()
    small = random_file(WARMUP, "warmup.bin")
    with Upload(server, path, small, form=form) as warm:
        _expect_success(path, warm.end())
    at_rest(server.pid)
    before = kept_by(server.pid)
    with ExitStack() as stack:
        for _ in range(clients):
            client = stack.enter_context(Upload(server, path, file, form=form))
            client.send(client.size - 1)
            client.settle()
        at_rest(server.pid)
        after = kept_by(server.pid)
    grown = [max(0, now - then) for now, then in zip(astuple(after), astuple(before), strict=True)]
    return Kept(*grown)


def sent_before(server: Server, path: str, file: SampleFile, words: str, *, form: str = "") -> int:
    """How many bytes of a body had been sent when the server's log had `words`.

    The client sends a few MiB, waits until the server has read them and rests, and looks. So the
    result is a multiple of `STEP`, or the size of the whole body; less if the server reads no more
    and the kernel takes no more. Raises `UploadError` if the words do not come.
    """
    server.mark()
    with Upload(server, path, file, form=form) as client:
        client.settle()
        while words not in server.recent_log():
            if not client.left:
                client.answer()
                break
            before = client.sent
            if client.fill(before + STEP) == before:
                break
    found = words in server.recent_log()
    at_rest(server.pid)  # what it still writes of this client must not count for the next one
    if not found:
        raise UploadError(
            f"{path}: {client.sent} of {client.size} bytes were sent, and the server's log has no "
            f"{words!r}"
        )
    return client.sent


def temporary_on(kind: Literal["tmpfs", "disk"], room: int) -> dict[str, str]:
    """The environment of a server whose temporary files lie on a tmpfs, or on a disk.

    Where there is no such folder with `room` bytes, it says so in a line, and the environment is
    empty: the files lie where they usually do.
    """
    folder = folder_on(kind, room)
    if folder is None:
        print(f"No {kind} here with {size_text(room)} of room: temporary files lie as usual.")
        return {}
    return {"TMPDIR": str(folder)}


def _expect_success(path: str, status: int) -> None:
    if status >= 300:
        raise UploadError(f"{path}: the small upload was answered with status {status}")


PLACES = {"memory of the process": LOAD_ALL, "tmpfs, which is memory": SAND, "disk": RIVER}


def places_chart(kept: Mapping[str, Kept], title: str, shows: Verdicts) -> Chart:
    """A bar for each way to take an upload: how much of it is in which place."""
    with canvas(height=1.5 + 0.55 * len(kept)) as (figure, [axes]):
        names = [*kept][::-1]  # the first one on top
        most = max(sum(astuple(each)) for each in kept.values()) or 1
        starts = [0.0] * len(names)
        for place, (label, colour) in enumerate(PLACES.items()):
            sizes = [astuple(kept[name])[place] for name in names]
            widths = [size / MiB for size in sizes]
            axes.barh(names, widths, left=starts, height=0.6, color=colour, label=label)
            for row, (start, size) in enumerate(zip(starts, sizes, strict=True)):
                if size > 0.15 * most:
                    ink = INK if colour == SAND else "white"
                    middle = start + size / MiB / 2
                    text = size_text(size)
                    axes.text(middle, row, text, ha="center", va="center", color=ink, weight="bold")
            starts = [start + width for start, width in zip(starts, widths, strict=True)]
        axes.set(title=title, xlabel="MiB above the idle server")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside lower center", ncols=len(PLACES))
        return Chart(figure, title, shows)
