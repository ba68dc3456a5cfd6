"""What lab 04 asks of a file server, from outside: the points are in lab.toml."""

from streamlab import checks, framing_checks
from streamlab.testing import note, promise


def test_headers(launch, workshop, draw):
    """A file's answer says how long it is, what it is, and when it was made."""
    language = workshop.german()
    framing_checks.headers_are_right(launch, draw, language)
    if not language:
        note("Left out: dates on a system that writes them in German (localedef is missing).")


def test_step(launch, draw):
    """One connection serves many requests, and each answer ends where it says."""
    framing_checks.stays_in_step(launch(), draw)


def test_pieces(launch, draw):
    """Requests may come in pieces, many at once, or without an end."""
    framing_checks.requests_in_pieces(launch(), draw)


def test_head(launch, draw):
    """HEAD is answered like GET, without a body."""
    framing_checks.head_is_get_without_body(launch(), draw)


def test_errors(launch, draw):
    """What is refused is refused in step, and no body is taken for a request."""
    framing_checks.errors_keep_in_step(launch(), draw)


def test_close(launch, draw):
    """The connection is closed when the client asks, and for HTTP/1.0 clients."""
    framing_checks.closes_when_asked(launch(), draw)


def test_chunked(launch, draw):
    """A report comes in chunks while it is made."""
    framing_checks.reports_are_chunked(launch(), draw)


def test_broken(launch, draw):
    """An answer that can't be finished is broken off, and one that could grow is not."""
    framing_checks.what_breaks_is_broken_off(launch(), draw)


def test_huge(launch, draw):
    """A file larger than the server's memory still pours through it."""
    with promise("cup"):
        checks.huge_files(launch(), draw)


def test_live(launch, draw):
    """While 32 connections rest, others are answered."""
    framing_checks.idle_clients_cost_nothing(launch(), draw)


def test_drop(launch, draw):
    """Clients that leave, wherever they are, leave nothing behind."""
    framing_checks.departures_leave_nothing(launch(), draw)
