"""A film is watched in a real browser; what goes wrong is said, and nothing is left running."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from streamlab import Server, doctor
from streamlab.files import KiB, SampleFile, random_file, sample_video
from streamlab.lesson import browser
from streamlab.lesson.browser import Viewing, watch

NEEDED = ("linux", "chromium", "ffmpeg")
SECONDS = 12
PATIENCE = 30.0
"""Seconds that a film gets to be seen, or its server to listen, on a busy machine."""

Becomes = Callable[[Callable[[], bool]], bool]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> SampleFile:
    """A short film, and beside it a file that is none."""
    folder = tmp_path_factory.mktemp("films")
    random_file(100 * KiB, "noise.mp4", folder)
    return sample_video(SECONDS, folder=folder)


@pytest.fixture(scope="module")
def films(film: SampleFile) -> Iterator[Server]:
    """A server of films, with ranges and without."""
    file = Path(__file__).parents[1] / "servers" / "films.py"
    with Server(file, film.path.parent, app="app", ready=PATIENCE) as server:
        yield server


def family() -> set[psutil.Process]:
    """All processes below this one."""
    return set(psutil.Process().children(recursive=True))


@pytest.mark.needs(*NEEDED)
def test_with_ranges_the_film_jumps(films: Server, film: SampleFile) -> None:
    """The film knows its length, can be jumped about in, and stands where it was sent.

    All of that in a running event loop, such as the kernel of a notebook has.
    """

    async def cell() -> Viewing:
        url = f"{films.url}/ranges{film.url}"
        return watch(url, seek=9, patience=PATIENCE, caption="<b>a & b")

    before = family()
    seen = asyncio.run(cell())
    assert seen.problem == ""
    assert seen.shown
    assert seen.duration == pytest.approx(SECONDS, abs=0.2)
    assert seen.seekable == pytest.approx(SECONDS, abs=0.2)
    assert seen.position == pytest.approx(9, abs=0.1)
    assert seen.png.startswith(b"\x89PNG")
    assert seen.picture._repr_mimebundle_()["text/plain"] == seen.words
    assert seen.words == "A video player in Chromium, at 9 of 12 seconds."
    assert family() == before


@pytest.mark.needs(*NEEDED)
def test_without_ranges_it_does_not(films: Server, film: SampleFile) -> None:
    """A film from a server without ranges stays at its beginning."""
    seen = watch(f"{films.url}/plain{film.url}", seek=9, patience=PATIENCE)
    assert (seen.shown, seen.seekable, seen.position) == (True, 0, 0)


@pytest.mark.needs(*NEEDED)
def test_what_is_no_film(films: Server) -> None:
    """A file that can't be played is a problem in words, not an exception."""
    seen = watch(f"{films.url}/ranges/noise.mp4", seek=1, patience=PATIENCE)
    assert not seen.shown
    assert "can't play the film" in seen.problem
    assert seen.picture.says.startswith("A video player in Chromium that shows nothing: it can't")


@pytest.mark.needs(*NEEDED)
def test_a_film_that_does_not_come() -> None:
    """A server that says nothing is waited for as long as patience lasts."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        seen = watch(f"http://127.0.0.1:{silent.getsockname()[1]}/film.mp4", patience=0.5)
    assert (seen.shown, seen.problem) == (False, "no picture came in time")


def test_no_chromium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Chromium a lesson goes on, and says so in a line."""
    monkeypatch.setenv("PATH", str(tmp_path))
    seen = watch("http://127.0.0.1:9/film.mp4")
    assert seen == Viewing(problem="chromium is not installed here (package chromium)")
    bundle = seen.picture._repr_mimebundle_()
    assert bundle == {
        "text/plain": "No picture: chromium is not installed here (package chromium)."
    }
    assert repr(seen.picture) == bundle["text/plain"]


@pytest.mark.needs("linux", "chromium")
def test_a_browser_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that can't start is a problem in a line."""
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    seen = watch("http://127.0.0.1:9/film.mp4")
    assert seen.problem.startswith("the browser did not come to its end: ")
    assert "\n" not in seen.problem


@pytest.mark.needs(*NEEDED)
def test_nothing_is_left_when_the_watcher_is_killed(
    becomes: Becomes, alive: Callable[[int], bool]
) -> None:
    """A kernel that is killed takes its browser with it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/film.mp4"
        program = f"from streamlab import watch; watch({url!r}, patience=60)"
        watcher = subprocess.Popen([sys.executable, "-c", program])
        try:
            silent.settimeout(60)
            connection, _ = silent.accept()  # by the browser: it is there
            running = psutil.Process(watcher.pid).children(recursive=True)
            assert any("chrom" in each.name() for each in running)
        finally:
            watcher.kill()
            watcher.wait()
        with connection:
            assert becomes(lambda: not any(alive(each.pid) for each in running))


def test_a_driver_that_lacks_a_library_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is one line, and a notebook that needs the browser is skipped with it."""
    node = tmp_path / "node"
    words = "node: error while loading shared libraries: libatomic.so.1: cannot open shared object"
    node.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 127\n")
    node.chmod(0o755)
    driver = "playwright._impl._driver.compute_driver_executable"
    browser.driver_problem.cache_clear()
    monkeypatch.setattr(driver, lambda: (str(node), "cli.js"))
    try:
        problem = browser.driver_problem()
        assert problem.endswith("the library libatomic.so.1 is missing (package libatomic1)")
        monkeypatch.setattr(doctor, "find_tool", lambda _: "/usr/bin/chromium")
        assert doctor.missing(["chromium"]) == [f"chromium: {problem}"]
    finally:
        browser.driver_problem.cache_clear()
    node.write_text("#!/bin/sh\necho 1.0\n")
    assert browser.driver_problem() == ""
    browser.driver_problem.cache_clear()
