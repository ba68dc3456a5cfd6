"""What lab 02 asks of a file server, from outside: the points are in lab.toml."""

from streamlab import checks


def test_bytes(launch, draw):
    """Files of any size and content arrive byte for byte."""
    checks.bytes_arrive(launch(), draw)


def test_huge(launch, draw):
    """A file larger than the server's memory pours through it."""
    checks.huge_files(launch(), draw)


def test_hold(launch, draw):
    """With 32 clients waiting, the server holds at most 4 MiB for each."""
    checks.holds_little(launch(), draw)


def test_stall(launch, draw):
    """When a client stops reading, the server stops reading the file."""
    checks.reading_stops(launch(), draw)


def test_live(launch, draw):
    """While eight clients stall, a ninth is answered."""
    checks.others_are_served(launch(), draw)


def test_drop(launch, draw):
    """Clients that leave halfway leave nothing behind."""
    checks.survives_departures(launch(), draw)


def test_wire(launch, draw):
    """Answers are HTTP to the letter, and nothing outside the root is given out."""
    checks.well_formed(launch(), draw)


def test_split(launch, draw):
    """A request may come in pieces, or with many headers."""
    checks.split_requests(launch(), draw)


def test_short(launch, draw, tmp_path):
    """On sockets that take little at a time, files still arrive whole."""
    checks.short_transfers(launch, draw, tmp_path)
