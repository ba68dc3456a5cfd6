"""What lab 03 asks of a downloader and of a leaky server, from outside: points are in lab.toml."""

from streamlab import client_checks, leaky_checks


def test_bytes(workshop, draw):
    """Bodies of any size and content arrive byte for byte, however they are framed."""
    client_checks.bytes_arrive(workshop, draw)


def test_huge(workshop, draw):
    """A body larger than the client's memory pours through it."""
    client_checks.huge_bodies(workshop, draw)


def test_gzip(workshop, draw):
    """A body in gzip is treated alike whether it is small or larger than memory."""
    client_checks.inflates_little(workshop, draw)


def test_stall(workshop, draw):
    """When the disk is slow, the client stops receiving."""
    client_checks.receiving_stops(workshop, draw)


def test_truncated(workshop, draw):
    """A body that ends too early is a failure."""
    client_checks.truncation_is_told(workshop, draw)


def test_hash(workshop, draw):
    """With --sha256, another body is a failure."""
    client_checks.hash_is_checked(workshop, draw)


def test_status(workshop, draw):
    """Errors of HTTP and of the connection are status 1, a wrong call is status 2."""
    client_checks.statuses_are_told(workshop, draw)


def test_clean(workshop, draw):
    """A download that failed leaves nothing, and destroys nothing."""
    client_checks.leaves_nothing(workshop, draw)


def test_digest(workshop, draw):
    """The leaky server sends a file larger than memory with its digest."""
    leaky_checks.digest_in_chunks(workshop, draw)


def test_lines(workshop, draw):
    """The leaky server sends a text larger than memory that is one line."""
    leaky_checks.texts_in_chunks(workshop, draw)


def test_length(workshop, draw):
    """The leaky server sends a file larger than memory in base64."""
    leaky_checks.base64_in_chunks(workshop, draw)


def test_features(workshop, draw):
    """What the leaky server could do before, it can do still."""
    leaky_checks.features_stay(workshop, draw)


def test_hold(workshop, draw):
    """While clients wait, the leaky server holds at most 4 MiB for each."""
    leaky_checks.routes_hold_little(workshop, draw)
