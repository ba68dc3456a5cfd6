"""What lab 09 asks of a gateway, from outside: the points are in lab.toml."""

from streamlab import proxy_checks


def test_bytes(launch, draw):
    """What comes through the gateway is what the upstream sent."""
    proxy_checks.as_direct(launch, draw)


def test_wire(launch, draw):
    """Headers go on that must, both ways, and those end that must; ranges, gzip."""
    proxy_checks.passed_on(launch, draw)


def test_route(launch, draw):
    """The provider behind a name is asked, streamed or not as it allows, and nobody else."""
    proxy_checks.finds_its_way(launch, draw)


def test_flat(launch, draw, tmp_path):
    """Clients who wait cost little, their upstream waits, and what is huge pours through."""
    proxy_checks.stays_flat(launch, draw, tmp_path)


def test_drop(launch, draw, tmp_path):
    """When clients leave, the upstream is left at once, and nothing of them remains."""
    proxy_checks.leaves_with_clients(launch, draw, tmp_path)


def test_cut(launch, draw):
    """An upstream that breaks is an error before the headers, and a broken connection later."""
    proxy_checks.breaks_are_told(launch, draw)


def test_time(launch, draw, tmp_path):
    """Silence has its limit, slowness has none, and nobody waits for others."""
    proxy_checks.waits_as_told(launch, draw, tmp_path)


def test_log(launch, draw, tmp_path):
    """Each download has one line in the log, and it is true."""
    proxy_checks.tells_the_truth(launch, draw, tmp_path)
