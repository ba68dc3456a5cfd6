"""What lab 10 asks of a download service, from outside: the points are in lab.toml."""

from streamlab.checks.production import deploys, heads, offload, places, readers


def test_heads(launch, rng):
    """A request's head has a few seconds in all, whoever sends it and however it comes."""
    heads.heads_have_a_limit(launch(), rng)


def test_readers(launch, rng):
    """Clients that have stopped reading are given up, and slow ones get their whole file."""
    readers.stalled_ones_are_given_up(launch(), rng)


def test_places(launch, rng):
    """There are a hundred places. Whoever finds none is told so at once."""
    places.places_are_limited(launch(), rng)


def test_deploy(launch, rng):
    """After SIGTERM the program finishes what is under way, and ends in time."""
    deploys.downloads_survive(launch, rng)


def test_offload(launch, rng, tmp_path):
    """With the setting, nginx sends the file, and the app only says which."""
    offload.nginx_sends(launch, rng, tmp_path)
