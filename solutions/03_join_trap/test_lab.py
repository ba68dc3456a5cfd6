"""What lab 03 asks of a downloader and of a leaky server, from outside: points are in lab.toml."""

from streamlab.checks import leaky_server
from streamlab.checks.downloader import body, failures


def test_bytes(workspace, rng):
    """Bodies of any size and content arrive byte for byte, however they are framed."""
    body.bytes_arrive(workspace, rng)


def test_huge(workspace, rng):
    """A body larger than the client's memory pours through it."""
    body.huge_bodies(workspace, rng)


def test_gzip(workspace, rng):
    """A body in gzip is treated alike whether it is small or larger than memory."""
    body.inflates_little(workspace, rng)


def test_stall(workspace, rng):
    """When the disk is slow, the client stops receiving."""
    body.receiving_stops(workspace, rng)


def test_truncated(workspace, rng):
    """A body that ends too early is a failure."""
    failures.truncation_is_told(workspace, rng)


def test_hash(workspace, rng):
    """With --sha256, another body is a failure."""
    failures.hash_is_checked(workspace, rng)


def test_status(workspace, rng):
    """Errors of HTTP and of the connection are status 1, a wrong call is status 2."""
    failures.statuses_are_told(workspace, rng)


def test_clean(workspace, rng):
    """A download that failed leaves nothing, and destroys nothing."""
    failures.leaves_nothing(workspace, rng)


def test_digest(workspace, rng):
    """The leaky server sends a file larger than memory with its digest."""
    leaky_server.digest_in_chunks(workspace, rng)


def test_lines(workspace, rng):
    """The leaky server sends a text larger than memory that is one line."""
    leaky_server.texts_in_chunks(workspace, rng)


def test_length(workspace, rng):
    """The leaky server sends a file larger than memory in base64."""
    leaky_server.base64_in_chunks(workspace, rng)


def test_features(workspace, rng):
    """What the leaky server could do before, it can do still."""
    leaky_server.features_stay(workspace, rng)


def test_hold(workspace, rng):
    """While clients wait, the leaky server holds at most 4 MiB for each."""
    leaky_server.routes_hold_little(workspace, rng)
