"""What lab 07 asks of an app, from outside: the points are in lab.toml."""

from streamlab import app_checks


def test_video(launch, draw):
    """Videos of any size and content arrive byte for byte, as video/mp4, with their length."""
    app_checks.videos_arrive(launch(), draw)


def test_wire(launch, draw):
    """What is not there is a real 404, and HEAD is answered without reading the file."""
    app_checks.to_the_letter(launch(), draw)


def test_hold(launch, draw):
    """Clients that wait cost a few chunks each, though the video be of a tebibyte."""
    app_checks.videos_are_not_held(launch(), draw)


def test_live(launch, draw, tmp_path):
    """Downloads that are stalled, fast, or waiting for the disk keep nobody waiting."""
    app_checks.nobody_waits(launch, draw, tmp_path)


def test_drop(launch, draw):
    """Clients that leave leave nothing behind, whichever route they were on."""
    app_checks.departures_are_noticed(launch(), draw)


def test_report(launch, draw):
    """A report of any number of rows: the first come at once, and nothing is kept."""
    app_checks.report_is_made_on_the_fly(launch(), draw)


def test_log(launch, draw):
    """Each line of the log arrives when it is written."""
    app_checks.log_is_live(launch(), draw)
