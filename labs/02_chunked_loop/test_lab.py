"""What lab 02 asks of a file server, from outside: the points are in lab.toml."""

from streamlab import loop_checks


def test_bytes(launch, workshop, draw):
    """Files of any content arrive byte for byte."""
    loop_checks.files_arrive(launch, workshop.root, draw)


def test_huge(launch, draw):
    """Files larger than the server's memory pour through it."""
    loop_checks.larger_than_memory(launch, draw)


def test_hold(launch, draw):
    """With 32 clients waiting, the server holds at most 4 MiB for each."""
    loop_checks.waiting_clients_cost_little(launch(), draw)


def test_stall(launch, draw):
    """When a client stops reading, the server stops reading the file."""
    loop_checks.reading_stops_with_the_client(launch(), draw)


def test_live(launch, draw):
    """While other clients stall, one more is answered."""
    loop_checks.no_client_waits_for_another(launch(), draw)


def test_drop(launch, draw):
    """Clients that leave, before the answer or during it, leave nothing behind."""
    loop_checks.departures_cost_nothing(launch(), draw)


def test_wire(launch, draw):
    """Answers are HTTP to the letter, and nothing outside the root is given out."""
    loop_checks.to_the_letter(launch, draw)


def test_split(launch, draw):
    """A request may come in pieces, and its head may be long."""
    loop_checks.heads_are_read(launch(), draw)


def test_short(launch, draw, tmp_path):
    """On sockets that take or give little at a time, files still arrive whole."""
    loop_checks.short_transfers_are_whole(launch, draw, tmp_path)
