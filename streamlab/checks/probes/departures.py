"""Probes that labs share: clients that leave leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from streamlab.checks.evidence import cause_of, curl, log_of, state_of
from streamlab.checks.observe import busy_at_rest, settled_resource_counts
from streamlab.checks.outcome import fail
from streamlab.checks.probes.common import CHUNK, crowd, expect_download, name_of
from streamlab.checks.waits import LARGE_TRANSFER
from streamlab.files import KiB, MiB, SampleFile, random_file, size_text, sparse_file
from streamlab.http.clients import Load, Pace
from streamlab.process.server import Server, out_of_memory


@dataclass(frozen=True)
class Visit:
    """How clients come to a server and leave it."""

    run: Callable[[], None]
    """Lets them come and leave, once."""
    clients: int
    """How many they are."""
    summary: str
    """What they do, as a sentence without its end."""
    curl_line: str
    """A command that does the same as one of them."""


def survives_departures(
    server: Server,
    rng: Random,
    clients: int = 50,
    also: Sequence[int] = (),
    besides: Callable[[], None] | None = None,
    watch: float = 1.0,
) -> None:
    """Clients that vanish in the middle leave nothing behind: descriptors, handles, processes.

    They vanish from a large file, and from files of the sizes in `also` (bytes), one after the
    other. `besides` lets clients leave in other ways, first in each round. `watch` is as for
    `leave_nothing`.
    """
    small = random_file(256 * KiB, name_of(rng), server.root, seed=rng.randrange(2**32))
    large = sparse_file(
        rng.randrange(200 * MiB, 300 * MiB), name_of(rng), server.root, 4, rng.randrange(99)
    )
    others = [random_file(size, name_of(rng), server.root) for size in also]

    def run() -> None:
        if besides is not None:
            besides()
        for file in (*others, large):
            _let_come(server, file, clients, "leaving")

    _let_come(server, small, clients, "fast")
    visit = Visit(
        run,
        clients,
        f"{clients} clients took the first bytes of {server.path_of(large)} and closed the "
        f"connection{', and others left in other ways' * bool(besides)}",
        curl(server, server.path_of(large), "--max-time 0.1 -o /dev/null"),
    )
    leave_nothing(server, visit, small, large, watch)


def leave_nothing(
    server: Server, visit: Visit, small: SampleFile, large: SampleFile, watch: float = 1.0
) -> None:
    """Let clients come and leave three times: 5 s after each nothing of them is left.

    `small` is a file to ask for at the end, and handles of `large` are counted. At the end the
    check looks for `watch` seconds whether the server rests.
    """
    summary, curl_line = visit.summary, visit.curl_line
    before = settled_resource_counts(server, large, None)
    threads = []
    for _ in range(3):
        visit.run()
        if not server.running:
            fail(
                "whole_file" if out_of_memory(server.log()) else "dies_on_drop",
                f"{summary}.{state_of(server)}",
                curl_line,
            )
        after = settled_resource_counts(server, large, before)
        if after.exceeds(before):
            table = "\n".join(
                f"    {what:<24} {old:>5} {new:>5}"
                for what, old, new in [
                    ("descriptors", before.descriptors, after.descriptors),
                    ("handles on the file", before.handles, after.handles),
                    ("child processes", before.children, after.children),
                ]
            )
            told = f"{summary}. Before, and 5 s after that:\n{table}"
            if busy := busy_at_rest(server, watch):  # a loop that spins never cleans up
                fail("busy_loop", f"{told}\nThe server {busy}.{log_of(server)}", curl_line)
            fail("leaks", f"{told}{log_of(server)}", curl_line)
        threads.append(after.threads)
    # A pool grows to what was busy at once, and no further.
    if threads[2] > threads[0] + max(visit.clients, 40):
        fail(
            "leaks_threads",
            f"{summary}. Each time the server got more threads: {', '.join(map(str, threads))}."
            f"{log_of(server)}",
            curl_line,
        )
    if busy := busy_at_rest(server, watch):
        fail("busy_loop", f"{summary}. With all clients gone, the server {busy}.", curl_line)
    expect_download(server, small, "after all the others had left")


def answers_leave_nothing(
    server: Server,
    asked: Sequence[tuple[str, str]],
    file: SampleFile,
    ask: Callable[[str, str], object],
) -> None:
    """Nothing is left 5 s after eight answers to each method and path that are `asked`.

    `ask` sends a request, takes all of the answer and leaves. Handles of `file` are counted.
    """

    def exceeds(some: Sequence[tuple[str, str]]) -> str:
        """What is left of eight answers of each, in words; empty if nothing is."""
        before = settled_resource_counts(server, file, None)
        for method, path in some:
            for _ in range(8):
                ask(method, path)
        after = settled_resource_counts(server, file, before)
        return (
            ""
            if not after.exceeds(before)
            else (
                f"the server had {after.descriptors} descriptors and {after.children} child "
                f"processes; before it had {before.descriptors} and {before.children}"
            )
        )

    for method, path in asked:  # what is made once, such as a pool, exists from now on
        ask(method, path)
    if not exceeds(asked):
        return
    for method, path in asked:
        if told := exceeds([(method, path)]):
            fail(
                "leaks_always",
                f"{method} {path} was sent eight times, each answer taken to its end. 5 s later "
                f"{told}.{log_of(server)}",
                curl(server, path, f"--path-as-is {'-I' if method == 'HEAD' else '-o /dev/null'}"),
            )


def _let_come(server: Server, file: SampleFile, clients: int, pace: Pace) -> None:
    """Let clients come, one after the other, and end as their pace says; all are to be served."""
    load = Load(server.path_of(file), clients, pace, CHUNK)
    with crowd(server, file, load, LARGE_TRANSFER) as many:
        for _ in range(clients):  # not at once: that would test the length of the accept queue
            if many.arrive_one().error:
                break
        results = many.finish()
    errors = [each for each in results if each.failure]
    if errors and server.running:
        fail(
            cause_of(errors[0].failure, server),
            f"{clients} clients asked for {server.path_of(file)}, {size_text(file.size)}; "
            f"{len(errors)} failed: {errors[0].error}.{state_of(server)}",
        )
