"""What lab 08 asks of a video server, from outside: the points are in lab.toml."""

from streamlab import range_checks


def test_single(launch, draw):
    """One range of bytes, wherever it begins and ends, comes as 206, and HEAD ignores it."""
    range_checks.single_ranges(launch(), draw)


def test_strict(launch, draw):
    """What lies past the end is refused with 416; what is no range is ignored."""
    range_checks.strict_ranges(launch(), draw)


def test_several(launch, draw):
    """Several ranges come in parts that a program can take apart; too many do not."""
    range_checks.several_ranges(launch(), draw)


def test_conditions(launch, draw):
    """A part is given of the version that the client knows, and nothing of one it has."""
    range_checks.conditions(launch, draw)


def test_huge(launch, draw):
    """A part of a file larger than memory costs as little as one of a small file."""
    range_checks.huge_ranges(launch(), draw)


def test_hold(launch, draw):
    """Clients that wait in the middle of a part cost little, and nothing when they have left."""
    range_checks.held_ranges(launch(), draw)


def test_clients(launch, draw, tmp_path):
    """curl and wget resume a broken download; aria2c makes one over four connections."""
    range_checks.clients_resume(launch(), draw, tmp_path)
