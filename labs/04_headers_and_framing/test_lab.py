"""What lab 04 asks of a file server, from outside: the points are in lab.toml."""

from streamlab.checks.framing import answers, connections, errors, reports, sequence
from streamlab.checks.outcome import note, promise
from streamlab.checks.probes import files


def test_headers(launch, workspace, rng):
    """A file's answer says how long it is, what it is, and when it was made."""
    language = workspace.german()
    answers.headers_are_right(launch, rng, language)
    if not language:
        note("Left out: dates on a system that writes them in German (localedef is missing).")


def test_step(launch, rng):
    """One connection serves many requests, and each answer ends where it says."""
    sequence.stays_in_step(launch(), rng)


def test_pieces(launch, rng):
    """Requests may come in pieces, many at once, or without an end."""
    sequence.requests_in_pieces(launch(), rng)


def test_head(launch, rng):
    """HEAD is answered like GET, without a body."""
    answers.head_is_get_without_body(launch(), rng)


def test_errors(launch, rng):
    """What is refused is refused in step, and no body is taken for a request."""
    errors.errors_keep_in_step(launch(), rng)


def test_close(launch, rng):
    """The connection is closed when the client asks, and for HTTP/1.0 clients."""
    connections.closes_when_asked(launch(), rng)


def test_chunked(launch, rng):
    """A report comes in chunks while it is made."""
    reports.reports_are_chunked(launch(), rng)


def test_broken(launch, rng):
    """An answer that can't be finished is broken off, and one that could grow is not."""
    reports.what_breaks_is_broken_off(launch(), rng)


def test_huge(launch, rng):
    """A file larger than the server's memory still pours through it."""
    with promise("cup"):
        files.huge_files(launch(), rng)


def test_live(launch, rng):
    """While 32 connections rest, others are answered."""
    connections.idle_clients_cost_nothing(launch(), rng)


def test_drop(launch, rng):
    """Clients that leave, wherever they are, leave nothing behind."""
    connections.departures_leave_nothing(launch(), rng)
