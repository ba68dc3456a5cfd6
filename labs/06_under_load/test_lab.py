"""What lab 06 asks of a file server, from outside: the points are in lab.toml."""

from streamlab import load_checks, loop_checks


def test_bytes(launch, workshop, draw):
    """Files of any content arrive byte for byte."""
    loop_checks.files_arrive(launch, workshop.root, draw)


def test_huge(launch, draw):
    """Files larger than the server's memory pour through it."""
    loop_checks.larger_than_memory(launch, draw, whole=False)


def test_crowd(launch, draw):
    """A thousand clients wait: few threads, one process, 256 KiB for each at most, no work."""
    load_checks.thousand_wait(launch(), draw)


def test_live(launch, draw):
    """While a thousand clients wait, new ones are answered."""
    load_checks.newcomers_are_answered(launch(), draw)


def test_stall(launch, draw):
    """Reading and answering stop with the client, and go on with it up to 10 seconds later."""
    load_checks.who_stops_and_goes_on(launch, draw)


def test_drop(launch, draw):
    """When half of a thousand clients vanish, what they had is free again."""
    load_checks.half_of_them_leave(launch(), draw)


def test_full(launch, lab, draw):
    """When there are no descriptors left, the server goes on, and takes clients in later."""
    load_checks.descriptors_run_out(launch, lab.limits, draw)


def test_wire(launch, draw):
    """Answers are HTTP to the letter, for HEAD too; connections keep their word."""
    load_checks.to_the_letter(launch, draw)
