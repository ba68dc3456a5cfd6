"""What lab 05 asks of a hybrid file server, from outside: the points are in lab.toml."""

from streamlab import checks, hybrid_checks
from streamlab.testing import note, promise


def test_bytes(launch, draw, tmp_path):
    """Files on both sides of the threshold arrive byte for byte."""
    hybrid_checks.both_sides(launch, draw, tmp_path)


def test_headers(launch, workshop, draw):
    """Small and large files have the same five headers."""
    language = workshop.german()
    hybrid_checks.same_headers(launch, draw, language)
    if not language:
        note("Left out: dates on a system that writes them in German (localedef is missing).")


def test_head(launch, draw):
    """HEAD has the headers of GET and no body, whatever the size."""
    hybrid_checks.head_is_like_get(launch(), draw)


def test_errors(launch, draw):
    """No file, a way out of the root, a file that can't be opened: a whole answer says so."""
    hybrid_checks.real_errors(launch(), draw)


def test_huge(launch, draw):
    """A file larger than the server's memory pours through it."""
    with promise("cup"):
        checks.huge_files(launch(), draw)


def test_hold(launch, draw):
    """What is larger than a mebibyte is never held whole; of small files few are kept."""
    hybrid_checks.holds_little(launch(), draw)


def test_race(launch, draw):
    """A file may change at any moment: what arrives is never a mixture."""
    hybrid_checks.survives_changes(launch(), draw)


def test_mixed(launch, draw):
    """A hundred users at once get their pages, scripts and documents."""
    hybrid_checks.serves_a_mixed_crowd(launch(), draw)


def test_drop(launch, draw):
    """Clients that have their answer, or leave halfway, leave nothing behind, on neither path."""
    hybrid_checks.survives_departures(launch(), draw)
