"""What lab 01 asks of predictions: that they come true. The points are in lab.toml."""

import pytest

from streamlab import MiB, Server, measure, random_file, size_text
from streamlab.testing import fail


@pytest.fixture
def expect(workshop):
    """Compare a prediction with a growth in bytes: within 15 % or 2 MiB is right."""

    def compare(function, numbers, growth, how):
        said = workshop.call("predict.py", function, *numbers)
        clients, file, chunk = numbers
        story = f"Called {function}(clients={clients:_}, file={file:_}, chunk={chunk:_}). "
        if isinstance(said, bool) or not isinstance(said, int | float):
            fail("no_number", f"{story}Returned {said!r}, which is no number.")
        if abs(said - growth) > max(0.15 * growth, 2 * MiB):
            fail(
                _cause(function, said, growth, clients, file),
                f"{story}Returned {said:_.0f}, which is {size_text(said)}. "
                f"{how} {size_text(growth)}.",
            )

    return compare


def _cause(function, said, growth, clients, file):
    """The misconception that a wrong number points to."""
    if function == "load_all_text" and abs(1.5 * said - growth) < 0.15 * growth:
        return "missing_copy"
    if clients > 1 and abs(said * clients - growth) < 0.15 * growth:
        return "one_buffer" if function == "streaming" else "one_client"
    if abs(said - clients * file) < 0.15 * clients * file:
        return "one_copy" if growth > said else "whole_file"
    return "wrong_law"


def live(server, draw, expect, workshop, function, clients, chunk):
    """Measure one of the lab's servers, and compare."""
    file = random_file(draw.randrange(40, 60) * MiB, folder=workshop.root)
    program = workshop.folder / "servers" / server
    with Server(program, workshop.root, environment={"CHUNK": str(chunk)}) as running:
        growth = measure(running, file.url, clients).growth
    expect(function, (clients, file.size, chunk), growth, "The server was measured: it grew by")


def test_load_all(draw, expect, workshop):
    """The growth of the load-all server."""
    for clients in draw.sample([1, 2, 3, 4, 5], 2):
        live("load_all.py", draw, expect, workshop, "load_all", clients, 65536)


def test_load_all_text(draw, expect, workshop):
    """The growth of the load-all server that makes text of the file."""
    for clients in draw.sample([1, 2], 2):  # with 3, two mistakes give the same number
        live("load_all_text.py", draw, expect, workshop, "load_all_text", clients, 65536)


def test_streaming(draw, expect, workshop):
    """The growth of the streaming server."""
    for clients in draw.sample([8, 12, 16, 20], 2):
        chunk = draw.choice([1, 2, 3]) * MiB
        live("streaming.py", draw, expect, workshop, "streaming", clients, chunk)


def test_scale(expect):
    """What nobody can measure here: hundreds of clients and gigabytes."""
    how = "By the law that the smaller cases follow, it would grow by"
    gigabyte, megabyte, chunk = 10**9, 10**6, 1 * MiB
    for clients, file in [(200, gigabyte), (1000, 500 * megabyte)]:
        numbers = (clients, file, chunk)
        expect("load_all", numbers, clients * file, how)
        expect("load_all_text", numbers, 3 * clients * file, how)
        expect("streaming", numbers, clients * chunk, how)
