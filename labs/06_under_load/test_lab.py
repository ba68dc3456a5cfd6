"""What lab 06 asks of a file server, from outside: the points are in lab.toml."""

from streamlab.checks.file_server import transfers
from streamlab.checks.under_load import crowd, descriptors, requests, slow


def test_bytes(launch, workspace, rng):
    """Files of any content arrive byte for byte."""
    transfers.files_arrive(launch, workspace.root, rng)


def test_huge(launch, rng):
    """Files larger than the server's memory pour through it."""
    transfers.larger_than_memory(launch, rng, whole=False)


def test_crowd(launch, rng):
    """A thousand clients wait: few threads, one process, 256 KiB for each at most, no work."""
    crowd.thousand_wait(launch(), rng)


def test_live(launch, rng):
    """While a thousand clients wait, new ones are answered."""
    crowd.newcomers_are_answered(launch(), rng)


def test_stall(launch, rng):
    """Reading and answering stop with the client, and go on with it up to 10 seconds later."""
    slow.who_stops_and_goes_on(launch, rng)


def test_drop(launch, rng):
    """When half of a thousand clients vanish, what they had is free again."""
    crowd.half_of_them_leave(launch(), rng)


def test_full(launch, lab, rng):
    """When there are no descriptors left, the server goes on, and takes clients in later."""
    descriptors.descriptors_run_out(launch, lab.limits, rng)


def test_wire(launch, rng):
    """Answers are HTTP to the letter, for HEAD too; connections keep their word."""
    requests.check_http_syntax(launch, rng)
