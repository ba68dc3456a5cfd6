"""What lab 02 asks of a file server, from outside: the points are in lab.toml."""

from streamlab.checks.file_server import departures, requests, transfers


def test_bytes(launch, workspace, rng):
    """Files of any content arrive byte for byte."""
    transfers.files_arrive(launch, workspace.root, rng)


def test_huge(launch, rng):
    """Files larger than the server's memory pour through it."""
    transfers.larger_than_memory(launch, rng)


def test_hold(launch, rng):
    """With 32 clients waiting, the server holds at most 4 MiB for each."""
    transfers.waiting_clients_cost_little(launch(), rng)


def test_stall(launch, rng):
    """When a client stops reading, the server stops reading the file."""
    transfers.reading_stops_with_the_client(launch(), rng)


def test_live(launch, rng):
    """While other clients stall, one more is answered."""
    transfers.no_client_waits_for_another(launch(), rng)


def test_drop(launch, rng):
    """Clients that leave, before the answer or during it, leave nothing behind."""
    departures.departures_cost_nothing(launch(), rng)


def test_wire(launch, rng):
    """Answers are HTTP to the letter, and nothing outside the root is given out."""
    requests.check_http_syntax(launch, rng)


def test_split(launch, rng):
    """A request may come in pieces, and its head may be long."""
    requests.heads_are_read(launch(), rng)


def test_short(launch, rng, tmp_path):
    """On sockets that take or give little at a time, files still arrive whole."""
    transfers.short_transfers_are_whole(launch, rng, tmp_path)
