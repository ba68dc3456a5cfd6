"""What lab 07 asks of an app, from outside: the points are in lab.toml."""

from streamlab.checks.frameworks import departures, log, report, requests, videos, waiting


def test_video(launch, rng):
    """Videos of any size and content arrive byte for byte, as video/mp4, with their length."""
    videos.videos_arrive(launch(), rng)


def test_wire(launch, rng):
    """What is not there is a real 404, and HEAD is answered without reading the file."""
    requests.check_http_syntax(launch(), rng)


def test_hold(launch, rng):
    """Clients that wait cost a few chunks each, though the video be of a tebibyte."""
    videos.videos_are_not_held(launch(), rng)


def test_live(launch, rng, tmp_path):
    """Downloads that are stalled, fast, or waiting for the disk keep nobody waiting."""
    waiting.nobody_waits(launch, rng, tmp_path)


def test_drop(launch, rng):
    """Clients that leave leave nothing behind, whichever route they were on."""
    departures.departures_are_noticed(launch(), rng)


def test_report(launch, rng):
    """A report of any number of rows: the first come at once, and nothing is kept."""
    report.report_is_made_on_the_fly(launch(), rng)


def test_log(launch, rng):
    """Each line of the log arrives when it is written."""
    log.log_is_live(launch(), rng)
