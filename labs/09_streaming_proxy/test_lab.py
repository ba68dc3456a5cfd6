"""What lab 09 asks of a gateway, from outside: the points are in lab.toml."""

from streamlab.checks.proxy import breaks, departures, log, memory, passthrough, routes, silence


def test_bytes(launch, rng):
    """What comes through the gateway is what the upstream sent."""
    passthrough.check_passthrough(launch, rng)


def test_wire(launch, rng):
    """Headers go on that must, both ways, and those end that must; ranges, gzip."""
    passthrough.passed_on(launch, rng)


def test_route(launch, rng):
    """The provider behind a name is asked, streamed or not as it allows, and nobody else."""
    routes.finds_its_way(launch, rng)


def test_flat(launch, rng, tmp_path):
    """Clients that wait cost little, their upstream waits, and what is huge pours through."""
    memory.stays_flat(launch, rng, tmp_path)


def test_drop(launch, rng, tmp_path):
    """When clients leave, the upstream is left at once, and nothing of them remains."""
    departures.leaves_with_clients(launch, rng, tmp_path)


def test_cut(launch, rng):
    """An upstream that breaks is an error before the headers, and a broken connection later."""
    breaks.breaks_are_told(launch, rng)


def test_time(launch, rng, tmp_path):
    """Silence has its limit, slowness has none, and nobody waits for others."""
    silence.waits_as_told(launch, rng, tmp_path)


def test_log(launch, rng, tmp_path):
    """Each download has one line in the log, and it is true."""
    log.check_log(launch, rng, tmp_path)
