"""What lab 01 asks of predictions: that they come true. The points are in lab.toml."""

import pytest

from streamlab import MiB, Server, measure, random_file, size_text
from streamlab.checks.outcome import fail, note, promise
from streamlab.checks.pytest_plugin import came_late
from streamlab.errors import StreamlabError

PROMISES = {"load_all": "load-all", "load_all_text": "load-all-text", "streaming": "streaming"}
LAWS = {
    "load_all": lambda clients, file, chunk: clients * file,
    "load_all_text": lambda clients, file, chunk: clients * 3 * file,
    "streaming": lambda clients, file, chunk: clients * min(chunk, file),
}
"""What the measured cases follow: chapter 01 has measured it, and chapter 02."""
BY_LAW = "By the law that the measured cases follow, it would grow by"


@pytest.fixture
def expect(workspace):
    """Compare a prediction with a growth in bytes: within 15 % or 2 MiB is right."""

    def compare(function, numbers, growth, how):
        said = workspace.call("predict.py", function, *numbers)
        clients, file, chunk = numbers
        summary = f"Called {function}(clients={clients:_}, file={file:_}, chunk={chunk:_}). "
        if isinstance(said, bool) or not isinstance(said, int | float):
            fail("no_number", f"{summary}Returned {said!r}, which is no number.")
        allowed = max(0.15 * growth, 2 * MiB)
        if abs(said - growth) > allowed:
            fail(
                _cause(function, said, growth, clients, file),
                f"{summary}Returned {said:_.0f}, which is {size_text(said)}. {how} "
                f"{size_text(growth)}; the difference may be {size_text(allowed)}.",
            )

    def compare_as_promised(function, numbers, growth, how, name=""):
        name = name or PROMISES[function]
        with promise(name, no_number="number", raises="number", too_far="near"):
            compare(function, numbers, growth, how)

    return compare_as_promised


def _cause(function, said, growth, clients, file):
    """The misconception that a wrong number points to."""

    def near(number):
        return abs(number - growth) < 0.15 * growth

    if function == "load_all_text" and near(1.5 * said):
        return "missing_copy"
    if clients > 1 and near(said * clients):
        return "one_buffer" if function == "streaming" else "one_client"
    if abs(said - clients * file) < 0.15 * clients * file:
        return "one_copy" if growth > said else "whole_file"
    if any(near(said * unit) for unit in (2**10, 2**20, 2**30, 10**3, 10**6, 10**9)):
        return "wrong_unit"
    if abs(said - growth) < max(0.3 * growth, 4 * MiB):
        return "too_far"
    return "wrong_law"


def live(server, rng, expect, workspace, function, clients, chunk):
    """Measure one of the lab's servers, and compare."""
    file = random_file(rng.randrange(40, 60) * MiB, folder=workspace.root)
    numbers = (clients, file.size, chunk)
    program = workspace.folder / "servers" / server
    growth, how = LAWS[function](*numbers), BY_LAW
    try:
        with Server(program, workspace.root, environment={"CHUNK": str(chunk)}) as running:
            growth, how = measure(running, file.url, clients).growth, "The server grew by"
    except (StreamlabError, TimeoutError) as error:
        if not came_late(error):
            raise
        note(f"Not measured: {server} with {clients} clients, since this machine was too busy.")
    expect(function, numbers, growth, how)


def test_load_all(rng, expect, workspace):
    """The growth of the load-all server."""
    for clients in rng.sample([1, 2, 3, 4, 5], 2):
        live("load_all.py", rng, expect, workspace, "load_all", clients, 65536)


def test_load_all_text(rng, expect, workspace):
    """The growth of the load-all server that makes text of the file."""
    for clients in rng.sample([1, 2], 2):  # with 3, two mistakes give the same number
        live("load_all_text.py", rng, expect, workspace, "load_all_text", clients, 65536)


def test_streaming(rng, expect, workspace):
    """The growth of the streaming server."""
    for clients in rng.sample([8, 12, 16, 20], 2):
        chunk = rng.choice([1, 2, 3]) * MiB
        live("streaming.py", rng, expect, workspace, "streaming", clients, chunk)


def test_scale(rng, expect):
    """What nobody can measure here: hundreds of clients and gigabytes."""
    gigabyte, megabyte = 10**9, 10**6
    cases = [
        (200, 3 * gigabyte, MiB),
        (1000, 500 * megabyte, MiB),
        (rng.randrange(6, 1000), rng.randrange(34 * MiB, gigabyte), rng.randrange(4, 33) * MiB),
        (1, rng.randrange(gigabyte, 90 * gigabyte), rng.randrange(1, 65536)),
    ]
    for numbers in cases:
        for function, law in LAWS.items():
            expect(function, numbers, law(*numbers), BY_LAW, "thousand")
