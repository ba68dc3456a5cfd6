"""What lab 11 asks for, from outside: the points are in lab.toml."""

from streamlab import random_file
from streamlab.checks.outcome import promise
from streamlab.checks.probes.common import CHUNK, expect_download, name_of


def test_bytes(launch, rng):
    """A file arrives byte for byte, its last and short chunk too."""
    server = launch()
    size = rng.randrange(1, 64) * CHUNK + rng.randrange(1, CHUNK)
    file = random_file(size, name_of(rng), server.root, seed=rng.randrange(2**32))
    with promise("file"):
        expect_download(server, file, f"a file of {size} bytes")
