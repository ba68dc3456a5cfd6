"""What lab 06 asks of a file server, from outside: the points are in lab.toml."""

from streamlab import checks, load_checks


def test_bytes(launch, draw):
    """Files of any size and content arrive byte for byte."""
    checks.bytes_arrive(launch(), draw)


def test_huge(launch, draw):
    """A file larger than the server's memory pours through it."""
    checks.huge_files(launch(), draw)


def test_crowd(launch, draw):
    """A thousand clients wait: few threads, one process, 256 KiB for each at most, no work."""
    load_checks.thousand_wait(launch(), draw)


def test_live(launch, draw):
    """While a thousand clients wait, new ones are answered."""
    load_checks.newcomers_are_answered(launch(), draw)


def test_stall(launch, draw):
    """When a client stops reading, the server stops reading the file, and taking requests."""
    load_checks.sources_stop(launch(), draw)


def test_slow(launch, draw):
    """Clients who stop for a while still get everything."""
    load_checks.slow_ones_get_all(launch(), draw)


def test_drop(launch, draw):
    """When half of a thousand clients vanish, what they had is free again."""
    load_checks.half_of_them_leave(launch(), draw)


def test_full(launch, lab, draw):
    """When there are no descriptors left, the server goes on, and takes clients in later."""
    load_checks.descriptors_run_out(launch, lab.limits, draw)


def test_wire(launch, draw):
    """Answers are HTTP to the letter, for HEAD too; requests may come in pieces."""
    load_checks.to_the_letter(launch(), draw)
