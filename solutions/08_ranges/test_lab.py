"""What lab 08 asks of a video server, from outside: the points are in lab.toml."""

from streamlab.checks.ranges import clients, conditions, huge, several, single, strict


def test_single(launch, rng):
    """One range of bytes, wherever it begins and ends, comes as 206, and HEAD ignores it."""
    single.single_ranges(launch(), rng)


def test_strict(launch, rng):
    """What lies past the end is refused with 416; what is no range is ignored."""
    strict.strict_ranges(launch(), rng)


def test_several(launch, rng):
    """Several ranges come in parts that a program can take apart; too many do not."""
    several.several_ranges(launch(), rng)


def test_conditions(launch, rng):
    """A part is given of the version that the client knows, and nothing of one it has."""
    conditions.conditions(launch, rng)


def test_huge(launch, rng):
    """A part of a file larger than memory costs as little as one of a small file."""
    huge.huge_ranges(launch(), rng)


def test_hold(launch, rng):
    """Clients that wait in the middle of a part cost little, and nothing when they have left."""
    huge.held_ranges(launch(), rng)


def test_clients(launch, rng, tmp_path):
    """curl and wget resume a broken download; aria2c makes one over four connections."""
    clients.clients_resume(launch(), rng, tmp_path)
