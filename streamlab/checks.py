"""What labs check a server for, from outside its process, over real HTTP.

Each function is one kind of check. It takes a running server (or what starts one) and a source of
random draws, and ends in `fail(cause, evidence)` when the server does not do what is asked. It
never looks at the source, at chunk sizes or at milliseconds, and never at RSS, which counts the
pages of mapped files. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import re
import shlex
import socket
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil

from streamlab.clients import Crowd, Download, Job, Pace, download
from streamlab.errors import DownloadError, Failure, MeterError
from streamlab.files import GiB, KiB, MiB, SampleFile, TiB, random_file, size_text, sparse_file
from streamlab.memory import at_work as group_at_work
from streamlab.memory import (
    bytes_read,
    bytes_written,
    descriptors,
    group_members,
    memory_of,
    positions,
    threads_of,
)
from streamlab.patience import Deadline, connect
from streamlab.server import Server, out_of_memory
from streamlab.testing import fail

CHUNK = 64 * KiB
PATIENCE = 15.0
"""Seconds that a download may take before it counts as hanging."""
POURING = 30.0
"""The same for hundreds of MiB."""
PROMPT = 7.0
"""Seconds in which one who need not wait for anybody must have an answer."""
LONGEST = 64 * MiB
"""Bytes of an answer after which nobody waits for its end any more."""
BUSY = 0.12
"""CPU seconds in a second that nobody who waits needs, and who spins gets on a crowded machine."""


def name_of(draw: Random, ending: str = ".bin") -> str:
    """A file name that tells nothing: eight random letters."""
    return "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=8)) + ending


def curl(server: Server, path: str, options: str = "-o /dev/null") -> str:
    """A command by which a student can ask for the same path of a server started by hand."""
    return f"curl -sS {options} {shlex.quote(f'http://127.0.0.1:PORT{path}')}"


def by_hand(pieces: Sequence[bytes], pause: float = 0, *, leaves: bool = False) -> str:
    """A command that sends what curl can't: these bytes, piece by piece, `pause` seconds apart.

    It is a line of Python, which prints what comes back until the connection ends, or `leaves`.
    """
    if len(pieces) > 3 and all(len(piece) == 1 for piece in pieces):
        said = f"[bytes([b]) for b in {literal(b''.join(pieces))}]"
    else:
        said = f"[{', '.join(map(literal, pieces))}]"
    each = f"(s.sendall(p), time.sleep({pause:g}))" if pause else "s.sendall(p)"
    program = (
        "import socket, time; "
        's = socket.create_connection(("127.0.0.1", PORT), 5); '
        f"[{each} for p in {said}]; "
        + ("s.close()" if leaves else '[print(p) for p in iter(lambda: s.recv(65536), b"")]')
    )
    return f"python3 -c {shlex.quote(program)}"


def literal(data: bytes) -> str:
    """Bytes as Python writes them, a long repetition of one byte as a product."""
    parts, at = [], 0
    for run in re.finditer(rb"(.)\1{39,}", data, re.DOTALL):
        parts += [repr(data[at : run.start()])] * (run.start() > at)
        parts.append(f"{run[1]!r} * {len(run[0])}")
        at = run.end()
    parts += [repr(data[at:])] * (at < len(data) or not parts)
    return " + ".join(parts)


def log_of(server: Server) -> str:
    """The last lines that a server wrote since the request that failed, for evidence.

    Its first line is left out. When it has ended, they are its last ones, whenever it wrote them.
    """
    text = server.recent_log()
    lines = [line for line in text.splitlines() if not line.startswith("listening on ")]
    if not lines:
        return ""
    text = textwrap.indent("\n".join(map(_legible, lines[-12:])), "    ")
    return f"\n\nThe server wrote:\n\n{text}"


def _legible(line: str) -> str:
    """A line of a log, shortened, with what can't be printed escaped; of binary data a piece."""
    shown = "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in line[:200])
    escapes = shown.count("\\x") + shown.count("\\u")
    most = 60 if escapes > 5 else 200
    return shown[:most] + (f" ... ({len(line)} characters)" if len(shown) > most else "")


def state_of(server: Server) -> str:
    """Whether a server still runs and where, and its last words, for evidence."""
    time.sleep(0.1)  # the news of its end may be on its way
    if limit := server.output_limit:
        told = (
            f" It has written {size_text(limit)} to its log, or to another file. That is the limit "
            "for one file (fsize_mib in lab.toml), and the system takes no more."
        )
    elif not server.running:
        told = f" It has ended, with status {server.exit_status}."
    else:
        told = _elsewhere(server)
    return told + log_of(server)


def _elsewhere(server: Server) -> str:
    """Where a server listens, if that is not where its first line says."""
    places = server.listens_on()
    if not places or server.url.rpartition(":")[2] in {str(port) for _, port in places}:
        return ""
    names = " and ".join(f"{host}:{port}" for host, port in places)
    return f" It runs, and listens on {names}; its first line names {server.url}."


# BYTES


AWKWARD = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK)
"""Sizes at which a loop of chunks goes wrong."""


def bytes_arrive(server: Server, draw: Random, awkward: Sequence[int] = AWKWARD) -> None:
    """Files of awkward sizes and contents arrive as they are."""
    sizes = [*awkward, 24 * MiB + draw.randrange(1, 9999)]
    files = [
        random_file(size, name_of(draw), server.root, seed=draw.randrange(2**32)) for size in sizes
    ]
    spaces = server.root / name_of(draw, ".txt")
    spaces.write_bytes(b"begin" + b" \r\n\t" * (CHUNK // 2) + b"\0end\x80\xff")
    files.append(SampleFile(spaces, spaces.stat().st_size))
    for file in draw.sample(files, len(files)):
        what = "white space" if file.path == spaces else "random bytes"
        expect_download(server, file, f"a file of {file.size} bytes ({what})")
    _rest_arrives(server, files[len(awkward)])


def _rest_arrives(server: Server, file: SampleFile) -> None:
    """One who waits until the sockets are full gets the rest too: a send took a part only."""
    path = server.path_of(file)
    with crowd(server, file, 1, "slow", CHUNK) as one:
        one.arrive()
        comes_to_rest(server)
        [result] = one.finish()
    if result.error is not None:
        fail(
            cause_of(result.failure, server),
            f"A client took {size_text(CHUNK)} of {path} ({size_text(file.size)}), waited a "
            f"moment, and took the rest: {result.error}.{state_of(server)}",
            curl(server, path, "--limit-rate 20M -o got"),
        )


def expect_download(server: Server, file: SampleFile, what: str) -> Download:
    """One client gets a file whole and right; else the check fails with the likeliest cause."""
    path = server.path_of(file)
    server.mark()
    try:
        return download(server.url + path, file.path, timeout=PATIENCE)
    except DownloadError as error:
        reason = str(error).partition(": ")[2]
        fail(
            cause_of(error.failure, server),
            f"GET {path}, {what}: {reason}.{state_of(server)}",
            curl(server, path, "-o got"),
        )


def right_alone(server: Server, file: SampleFile, first: int, path: str = "") -> None:
    """One client, with no other there, gets the first bytes of a file right: `first` of them.

    A check that asks for more than that asks this first. What is wrong here is the cause, and the
    question of the check stays open.
    """
    path = path or server.path_of(file)
    server.mark()
    try:
        download(server.url + path, file.path, timeout=PATIENCE, first=min(first, file.size))
    except DownloadError as error:
        fail(
            cause_of(error.failure, server),
            f"With no other client there, GET {path} ({size_text(file.size)}) already goes wrong: "
            f"{str(error).partition(': ')[2]}.{state_of(server)}",
            curl(server, path, "-o got"),
        )


def cause_of(failure: Failure | None, server: Server) -> str:
    """The misconception that a failed download points to."""
    if server.output_limit is not None:
        return "too_much_output"
    if out_of_memory(server.log()):
        return "whole_file"
    if failure == "refused" and server.running:
        return "elsewhere"
    return _CAUSES[failure or "other"]


_CAUSES: dict[Failure, str] = {
    "refused": "died",
    "no_answer": "no_answer",
    "malformed": "malformed",
    "status": "wrong_status",
    "wrong_bytes": "wrong_bytes",
    "too_many": "wrong_bytes",
    "cut_short": "cut_short",
    "broken": "cut_short",
    "unfinished": "no_end",
    "overdue": "no_answer",
    "other": "no_answer",
}


# HUGE


def huge_files(server: Server, draw: Random) -> None:
    """Files larger than the server's memory pour through it: one whole, a huge one in part."""
    whole = sparse_file(
        draw.randrange(320 * MiB, 400 * MiB), name_of(draw), server.root, 6, draw.randrange(2**32)
    )
    # Too large to be gone through beforehand, even where it is nothing but holes.
    sizes = [70 * GiB, 300 * GiB, TiB]
    part = sparse_file(
        draw.choice(sizes) + draw.randrange(MiB), name_of(draw), server.root, 6, draw.randrange(99)
    )
    orders: list[tuple[SampleFile, Pace, int]] = [
        (whole, "fast", whole.size),
        (part, "stalled", 270 * MiB),
    ]
    for file, pace, first in draw.sample(orders, 2):
        _pour(server, file, pace, first)


def _pour(server: Server, file: SampleFile, pace: Pace, first: int) -> None:
    path = server.path_of(file)
    with traced(server) as trace, crowd(server, file, 1, pace, first, POURING) as clients:
        clients.arrive()
        [result] = clients.finish()
    if result.error is not None:
        fail(
            cause_of(result.failure, server),
            f"GET {path}, {size_text(file.size)}, in {server.cup}: {result.error}, after "
            f"{size_text(result.size)} that were right.\n{trace.line}{state_of(server)}",
            curl(server, path),
        )


# HOLD


def hold(
    server: Server,
    file: SampleFile,
    clients: int,
    pace: Pace,
    first: int,
    baseline: int,
    allowed: int,
    path: str = "",
) -> None:
    """Let clients take `first` bytes and wait; then `allowed` more than `baseline` may be held.

    With `path` they ask for that, and `file` has what they must get, or the beginning of it.
    """
    size = "" if path else f" ({size_text(file.size)})"
    path = path or server.path_of(file)
    with traced(server) as trace, crowd(server, file, clients, pace, first, path=path) as many:
        arrived = many.arrive()
        failed = [each for each in arrived if each.failure]
        held = 0 if failed else most_held(server, baseline + allowed)
        if pace == "slow" and not failed and held <= baseline + allowed:
            failed = [each for each in many.finish() if each.failure]
            held = least_held(server, baseline + allowed)
    who = f"{clients} clients" if clients > 1 else "A client"
    asked = f"{who} of {path}{size} took {size_text(first)} and waited"
    line = curl(server, path, "--limit-rate 1M -o /dev/null")
    if failed:
        cause = cause_of(failed[0].failure, server)
        if cause == "no_end" and clients > 1:
            cause = "one_at_a_time"
        story = f"{len(failed)} of them failed" if clients > 1 else "then took the rest"
        fail(cause, f"{asked}; {story}: {failed[0].error}.\n{trace.line}{state_of(server)}", line)
    if held > baseline + allowed:
        fail(
            "holds_much",
            f"{asked}. The server and its children held {size_text(held - baseline)} more than "
            f"when idle; {size_text(allowed)} are allowed.\n{trace.line}{log_of(server)}",
            line,
        )


def most_held(server: Server, enough: int) -> int:
    """The most memory that a server holds until it rests, and holds no more than 0.5 s before."""
    deadline, quiet = Deadline(5), Deadline(0.5)
    most = held_by(server)
    while most <= enough and not deadline.passed:
        if quiet.passed and not at_work(server):
            break
        time.sleep(0.1)
        if (held := held_by(server)) > most + MiB:
            quiet = Deadline(0.5)
        most = max(most, held)
    return most


def least_held(server: Server, enough: int) -> int:
    """The memory that a server holds once it is no more than `enough`, or after two seconds."""
    time.sleep(0.3)  # what is kept for the next client is taken in a moment after the answer
    comes_to_rest(server)
    deadline = Deadline(2)
    while (held := held_by(server)) > enough and not deadline.passed:
        time.sleep(0.1)
    return held


def dense_file(size: int, name: str, folder: Path, draw: Random) -> SampleFile:
    """A file without a hole, without a repetition that one could find, and quickly written."""
    block = draw.randbytes(MiB)
    with (folder / name).open("wb") as file:
        for turn in range(0, size, MiB):
            cut = turn // MiB * 4099  # no chunk of one block is a chunk of another
            file.write((block[cut:] + block[:cut])[: size - turn])
    return SampleFile(folder / name, size)


def warm_up(server: Server, draw: Random) -> None:
    """One small request, after which a baseline is honest."""
    small = random_file(4 * KiB, name_of(draw), server.root, seed=draw.randrange(2**32))
    expect_download(server, small, "a small file")
    comes_to_rest(server)


def held_by(server: Server) -> int:
    """The private memory of all of a server's processes and their keeper; 0 when it has ended."""
    with suppress(MeterError):
        if server.running:
            return memory_of(server.keeper).private
    return 0


# STALL


def reading_stops(server: Server, draw: Random, allowed: int = 48 * MiB) -> None:
    """When a client stops reading, the server stops reading the file, and rests."""
    warm_up(server, draw)
    start = _moved(server)
    file = sparse_file(
        draw.randrange(700 * MiB, 900 * MiB), name_of(draw), server.root, 6, draw.randrange(99)
    )
    path = server.path_of(file)
    with traced(server) as trace, crowd(server, file, 1, "stalled", MiB) as one:
        [result] = one.arrive()
        deadline, quiet = Deadline(5), Deadline(1)
        moved = _moved(server, file) - start
        while moved <= allowed and not deadline.passed:
            if quiet.passed and not at_work(server):
                break
            time.sleep(0.1)
            if (now := _moved(server, file) - start) > moved:
                moved, quiet = now, Deadline(1)
        stopped = moved <= allowed and quiet.passed
        busy = busy_at_rest(server, 0.8) if stopped else ""
    line = curl(server, path, "--limit-rate 100k -o /dev/null")
    asked = f"A client took 1 MiB of {path} ({size_text(file.size)}) and stopped."
    if result.error is not None:
        fail(
            cause_of(result.failure, server),
            f"GET {path}: {result.error}.{state_of(server)}",
        )
    if moved > allowed:
        fail(
            "no_backpressure",
            f"{asked} The server went on and read {size_text(moved)} of the file; the sockets' "
            f"buffers take a few MiB.\n{trace.line}{log_of(server)}",
            line,
        )
    if busy:
        fail(
            "busy_loop",
            f"{asked} While it waited, and nothing moved, the server {busy}.{log_of(server)}",
            line,
        )


def _moved(server: Server, file: SampleFile | None = None) -> int:
    """How much a server has read by any way that can be seen, or written elsewhere."""
    # Not what its keeper reads, who may watch it all the time.
    read = bytes_read(server.keeper, itself=False) or 0
    written = bytes_written(server.keeper, itself=False) or 0
    furthest = 0
    if file is not None:
        # Of a map or a splice there is only the position, if that. At the end stands who has asked
        # for the size by going there: a read so far is seen otherwise.
        seen = positions(server.keeper, file.path)
        furthest = max((each for each in seen if each < file.size), default=0)
    return max(read, written, furthest)


# LIVE


def others_are_served(server: Server, draw: Random, stalled: int = 8, asking: int = 1) -> None:
    """While clients stall, and others have sent half a request, one more is answered."""
    file = sparse_file(
        draw.randrange(200 * MiB, 300 * MiB), name_of(draw), server.root, 4, draw.randrange(99)
    )
    small = random_file(CHUNK, name_of(draw), server.root, seed=draw.randrange(2**32))
    right_alone(server, file, MiB)
    right_alone(server, small, small.size)
    with ExitStack() as held:
        if stalled:
            # They stay for longer than the last one waits: what they let go of would be free.
            many = held.enter_context(crowd(server, file, stalled, "stalled", MiB, 2 * PROMPT))
            _all_served(server, file, many.arrive())
        for _ in range(asking):
            half = held.enter_context(connected(server))
            half.sendall(request_for(server.path_of(small))[:20])
        _served_besides(server, small, stalled, asking, file)


def _all_served(server: Server, file: SampleFile, arrived: Sequence[Download]) -> None:
    """All of a crowd have their first bytes."""
    failed = [each for each in arrived if each.error is not None]
    if failed:
        fail(
            _cause_beside_others(failed[0].failure, server),
            f"{len(arrived)} clients asked for {server.path_of(file)} at the same time, to take "
            f"1 MiB each and stop. {len(failed)} of them failed: {failed[0].error}. A client that "
            f"was alone got the right bytes.{state_of(server)}",
            curl(server, server.path_of(file), "--limit-rate 1k -o /dev/null")
            + f" &  # {len(arrived)} times",
        )


def _served_besides(
    server: Server, small: SampleFile, stalled: int, asking: int, file: SampleFile
) -> None:
    """One more client gets a small file at once."""
    path = server.path_of(small)
    server.mark()
    try:
        download(server.url + path, small.path, timeout=PROMPT)
    except DownloadError as error:
        others = [
            f"{stalled} had taken 1 MiB of {server.path_of(file)} and stopped" * (stalled > 0),
            f"{asking} had sent half a request" * (asking > 0),
        ]
        fail(
            _cause_beside_others(error.failure, server),
            f"Of the clients that were there {', and '.join(filter(None, others))}. Then GET {path}"
            f", {size_text(small.size)}: {str(error).partition(': ')[2]}. Without the others the "
            f"same request was answered right.{state_of(server)}",
            curl(server, server.path_of(file), "--limit-rate 1k -o /dev/null")
            + f" &  # {stalled} times, then {curl(server, path)}"
            if stalled
            else "",
        )


def _cause_beside_others(failure: Failure | None, server: Server) -> str:
    """The cause of a failure among others, where a client alone is served right."""
    cause = cause_of(failure, server)
    return "one_at_a_time" if failure in ("unfinished", "overdue") else cause


# DROP


@dataclass(frozen=True)
class Belongings:
    """What a server has, counted."""

    descriptors: int
    handles: int
    children: int
    threads: int

    def exceeds(self, before: Belongings) -> bool:
        """Whether there is more than before; three more are nobody's leak."""
        return (
            self.descriptors > before.descriptors + 3
            or self.handles > before.handles + 3
            or self.children > before.children + 3
        )


def survives_departures(
    server: Server,
    draw: Random,
    clients: int = 50,
    also: Sequence[int] = (),
    besides: Callable[[], None] | None = None,
    pace: Pace = "leaving",
    watch: float = 1.0,
) -> None:
    """Clients that vanish in the middle leave nothing behind: descriptors, handles, processes.

    They vanish from a large file, and from files of the sizes in `also`: one after the other, or,
    with `pace="stalled"`, all at once. `besides` lets clients leave in other ways, first in each
    round. `watch` is as for `leave_nothing`.
    """
    small = random_file(256 * KiB, name_of(draw), server.root, seed=draw.randrange(2**32))
    large = sparse_file(
        draw.randrange(200 * MiB, 300 * MiB), name_of(draw), server.root, 4, draw.randrange(99)
    )
    others = [random_file(size, name_of(draw), server.root) for size in also]

    def visit() -> None:
        if besides is not None:
            besides()
        for file in (*others, large):
            _visit(server, file, clients, pace)

    _visit(server, small, clients, "fast")
    leave_nothing(
        server,
        visit,
        small,
        large,
        f"{clients} clients took the first bytes of {server.path_of(large)} and closed the "
        f"connection{', and others left in other ways' * bool(besides)}",
        curl(server, server.path_of(large), "--max-time 0.1 -o /dev/null"),
        clients,
        watch,
    )


def leave_nothing(
    server: Server,
    visit: Callable[[], None],
    small: SampleFile,
    large: SampleFile,
    story: str,
    curl_line: str,
    clients: int,
    watch: float = 1.0,
) -> None:
    """Three times `visit` brings clients who leave: 5 s later nothing of them is left each time.

    `small` is a file to ask for at the end, and handles of `large` are counted. `story` says what
    the clients do, and `clients` how many they are. At the end it is looked for `watch` seconds
    whether the server rests.
    """
    before = settled_belongings(server, large, None)
    threads = []
    for _ in range(3):
        visit()
        if not server.running:
            fail(
                "whole_file" if out_of_memory(server.log()) else "dies_on_drop",
                f"{story}.{state_of(server)}",
                curl_line,
            )
        after = settled_belongings(server, large, before)
        if after.exceeds(before):
            table = "\n".join(
                f"    {what:<24} {old:>5} {new:>5}"
                for what, old, new in [
                    ("descriptors", before.descriptors, after.descriptors),
                    ("handles on the file", before.handles, after.handles),
                    ("child processes", before.children, after.children),
                ]
            )
            told = f"{story}. Before, and 5 s after that:\n{table}"
            if busy := busy_at_rest(server, watch):  # who goes round and round puts nothing away
                fail("busy_loop", f"{told}\nThe server {busy}.{log_of(server)}", curl_line)
            fail("leaks", f"{told}{log_of(server)}", curl_line)
        threads.append(after.threads)
    # A pool grows to what was busy at once, and no further.
    if threads[2] > threads[0] + max(clients, 40):
        fail(
            "leaks_threads",
            f"{story}. Each time the server got more threads: {', '.join(map(str, threads))}."
            f"{log_of(server)}",
            curl_line,
        )
    if busy := busy_at_rest(server, watch):
        fail("busy_loop", f"{story}. With all clients gone, the server {busy}.", curl_line)
    expect_download(server, small, "after all the others had left")


def _visit(server: Server, file: SampleFile, clients: int, pace: Pace) -> None:
    with crowd(server, file, clients, pace, CHUNK, POURING) as many:
        if pace == "stalled":
            results = many.arrive()
        else:
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


def belongings(server: Server, file: SampleFile) -> Belongings:
    targets = descriptors(server.keeper)
    return Belongings(
        descriptors=len(targets),
        handles=sum(target.endswith(file.name) for target in targets),
        children=len(group_members(server.keeper)) - 2,
        threads=threads_of(server.keeper),
    )


def settled_belongings(
    server: Server, file: SampleFile, before: Belongings | None, patience: float = 5.0
) -> Belongings:
    """What a server has once it is back at `before`, or had time to put things away."""
    deadline = Deadline(patience)
    last = belongings(server, file)
    while not deadline.passed:
        time.sleep(0.1)
        now = belongings(server, file)
        if before is None and now == last:
            break
        if before is not None and not now.exceeds(before):
            return now
        last = now
    return last


def cpu_seconds(server: Server) -> float:
    """CPU seconds that a server's processes have used so far; not its keeper, who watches it."""
    total = 0.0
    for member in group_members(server.keeper):
        if member == server.keeper:
            continue
        with suppress(psutil.Error):
            times = psutil.Process(member).cpu_times()
            total += times.user + times.system
    return total


def at_work(server: Server) -> bool:
    """Whether a thread of a server's processes runs, or waits for nothing but a CPU or a disk."""
    return group_at_work(server.keeper, itself=False)


def comes_to_rest(server: Server, patience: float = 5.0) -> None:
    """Wait until a server has done what it has to, however late that is on a busy machine.

    One that always has something to do is not waited for any longer than `patience`.
    """
    deadline = Deadline(patience)
    looks = 0  # in one alone, who has just been woken by another one may be missing
    while looks < 2 and not deadline.passed:
        looks = 0 if at_work(server) else looks + 1
        time.sleep(0.01)


def busy_at_rest(server: Server, seconds: float) -> str:
    """How much a server works when it has done all that it had to do; nothing if it rests.

    One that goes round and round is at work each time one looks, however small its share of a
    crowded machine is; but it has one, unlike one that wakes up now and then and has to wait.
    """
    comes_to_rest(server)
    began, spent = time.monotonic(), cpu_seconds(server)
    ready = looks = 0
    while time.monotonic() < began + seconds or looks < 10:
        ready += at_work(server)
        looks += 1
        time.sleep(0.03)
    share = (cpu_seconds(server) - spent) / (time.monotonic() - began)
    if share > BUSY or (ready > 0.9 * looks and share > BUSY / 6):
        return f"used {share:.0%} of a CPU, and was at work in {ready} of {looks} looks"
    return ""


# WIRE and SPLIT


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came over the wire."""

    raw: bytes
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    problem: str
    """What is wrong with its form, by RFC 9112; empty if nothing is."""
    ended: bool
    """Whether its end could be told: by length, by the last chunk, or by a closed connection."""
    fault: Failure | None = None
    """What is wrong in one word, where `problem` says it in a sentence."""

    def header(self, name: str) -> str | None:
        """The value of a header, its name in lower case; None if it is not there."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@contextmanager
def connected(server: Server, patience: float = 5) -> Iterator[socket.socket]:
    """A connection to a server, its small pieces sent at once; its timeout is a `Deadline`."""
    port = int(server.url.rpartition(":")[2])
    server.mark()
    with connect(port, patience) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def ask(
    server: Server,
    pieces: Iterable[bytes],
    pause: float = 0,
    patience: float = 5,
    lingers: float = 0.2,
    head: bool = False,
) -> RawAnswer:
    """Send raw bytes, a piece at a time with `pause` seconds between, and read one answer."""
    with suppress(OSError), connected(server, patience) as sock:
        return ask_over(sock, pieces, pause, patience, lingers, head)
    return read_answer(b"", closed=True)


def ask_over(
    sock: socket.socket,
    pieces: Iterable[bytes],
    pause: float = 0,
    patience: float = 5,
    lingers: float = 0.2,
    head: bool = False,
) -> RawAnswer:
    """The same over a connection.

    What comes within `lingers` seconds of a whole answer counts as its part. The answer to HEAD is
    whole when its head is: then `head` says so.
    """
    raw, closed = b"", False
    with suppress(ConnectionError):  # it may answer and close before all has been sent
        for piece in pieces:
            sock.sendall(piece)
            time.sleep(pause)
    deadline = Deadline(patience)
    while not deadline.passed and len(raw) <= LONGEST:
        complete = b"\r\n\r\n" in raw if head else _complete(raw)
        if complete and not lingers:
            break
        sock.settimeout(lingers if complete else patience)
        try:
            more = sock.recv(256 * KiB)
        except TimeoutError:
            break
        except ConnectionError:
            more = b""
        if not more:
            closed = True
            break
        raw += more
    return read_answer(raw, closed)


def _complete(raw: bytes) -> bool:
    answer = read_answer(raw, closed=False)
    return answer.ended and not answer.problem


_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])( [^\r\n]*)?")
_HEADER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[^\r\n]*")
HEAD_SO_FAR = re.compile(
    rb"(?:H|HT|HTT|HTTP|HTTP/|HTTP/1|HTTP/1\.|HTTP/1\.[01][^\r\n]*"
    rb"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n]*)*(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]*)?\r?)"
)
"""The beginning of a head that is right so far, however early it breaks off."""


def read_answer(raw: bytes, closed: bool) -> RawAnswer:
    """Take the bytes of an answer apart, strictly (RFC 9112, sections 3 to 7)."""
    head, blank, rest = raw.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    found = _STATUS_LINE.fullmatch(lines[0])
    status = int(found[1]) if found else 0

    def answer(
        problem: str, body: bytes = rest, ended: bool = False, fault: Failure = "malformed"
    ) -> RawAnswer:
        pairs = [line.partition(b":") for line in lines[1:]]
        headers = [(k.decode("latin-1"), v.strip().decode("latin-1")) for k, _, v in pairs]
        return RawAnswer(raw, status, headers, body, problem, ended, fault if problem else None)

    if not raw:
        return answer("nothing came back", fault="no_answer")
    if not blank and HEAD_SO_FAR.fullmatch(raw):
        fault: Failure = "cut_short" if closed else "unfinished"
        return answer("no empty line (CR LF CR LF) ends the headers", fault=fault)
    if not found:
        return answer(f"the answer begins with {lines[0][:60]!r}, not with a status line")
    if not blank:
        return answer("no empty line (CR LF CR LF) ends the headers")
    for line in lines[1:]:
        if not _HEADER_LINE.fullmatch(line):
            return answer(f"{line[:60]!r} is no header line")
    plain = answer("")
    length, coding = plain.header("content-length"), plain.header("transfer-encoding")
    if length is not None and coding is not None:
        return answer("it has both Content-Length and Transfer-Encoding")
    if coding is not None:
        body, ended, problem = _read_chunks(rest)
        if closed and not ended and not problem:
            return answer("it was closed before the last chunk", body, fault="cut_short")
        return answer(problem, body, ended)
    if length is not None:
        if not re.fullmatch("[0-9]{1,30}", length):
            return answer(f"Content-Length is {length[:40]!r}, not a number")
        missing = int(length) - len(rest)
        if missing < 0:
            told = f"{-missing} bytes follow the body that Content-Length tells of"
            return answer(told, fault="too_many")
        if missing > 0 and closed:
            told = f"Content-Length is {length}, but only {len(rest)} bytes came"
            return answer(told, fault="cut_short")
        return answer("", rest, missing == 0)
    return answer("", rest, closed)


def _read_chunks(rest: bytes) -> tuple[bytes, bool, str]:
    """The data of a chunked body so far, whether its last chunk has come, and what is wrong."""
    body = bytearray()
    at = 0  # each byte is looked at once: there may be a million chunks
    while (end := rest.find(b"\r\n", at)) >= 0:
        line = rest[at:end]
        size_part = line.partition(b";")[0]
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,30}", size_part):
            return bytes(body), False, f"{line[:40]!r} is no chunk size"
        size, at = int(size_part, 16), end + 2
        if size == 0:
            after = rest[at:]
            if after.startswith(b"\r\n"):
                extra = len(after) - 2
                told = f"{extra} bytes follow the last chunk" if extra else ""
                return bytes(body), True, told
            return bytes(body), b"\r\n\r\n" in after, ""
        if len(rest) < at + size + 2:
            return bytes(body + rest[at : at + size]), False, ""
        if rest[at + size : at + size + 2] != b"\r\n":
            return bytes(body), False, "a chunk does not end with CR LF"
        body += rest[at : at + size]
        at += size + 2
    return bytes(body), False, ""


def request_for(path: str, *headers: str) -> bytes:
    """A GET request that asks the server to close afterwards."""
    named = ["Host: 127.0.0.1", "User-Agent: curl/8.5.0", *headers, "Connection: close"]
    lines = [f"GET {path} HTTP/1.1", *named, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def shown(raw: bytes, most: int = 300) -> str:
    """Bytes of the wire as one reads them, shortened."""
    text = repr(raw[:most])[2:-1].replace("\\r\\n", "\\r\\n\n    ")
    return f"    {text}" + (f" ... ({len(raw)} bytes in all)" if len(raw) > most else "")


def well_formed(server: Server, draw: Random) -> None:
    """Answers are HTTP to the letter; no file, a folder, a way out of the root are refused."""
    content = b"line\r\n\r\n\0\xff" + draw.randbytes(draw.randrange(2000, 3000))
    name = name_of(draw, "-2.tar.gz")
    (server.root / name).write_bytes(content)
    (server.root / "folder").mkdir(exist_ok=True)
    (server.root / "folder" / "inside.txt").write_bytes(b"in a folder")

    expect_answer(server, server.path_of(name), 200, content)
    expect_answer(server, server.path_of("folder/inside.txt"), 200, b"in a folder")
    for gone in (name_of(draw), "folder", "folder/"):
        expect_answer(server, server.path_of(gone), 404)
    stays_inside(server, draw)
    stays_in_step(server, name, content, ["folder"])
    expect_answer(server, server.path_of(name), 200, content)


def stays_inside(server: Server, draw: Random) -> None:
    """What leads out of the root is refused."""
    root = server.root
    secret = root.parent / name_of(draw, ".secret")
    beside = root.parent / f"{root.name}-{name_of(draw, '')}" / name_of(draw, ".secret")
    beside.parent.mkdir()
    for file in (secret, beside):
        file.write_bytes(b"not for clients")
    for name in (
        f"../{secret.name}",
        f"%2e%2e/{secret.name}",
        f"..%2f{secret.name}",
        f"folder/../../{secret.name}",
        f"{secret}",
        f"../{root.name}/../{secret.name}",
        f"../{beside.parent.name}/{beside.name}",
    ):
        stays_below_root(server, name)


def stays_below_root(server: Server, target: str) -> None:
    """No target gives out the file beside the root, and each has an answer: it is no file below."""
    path = server.path_of(target)
    answer = ask(server, [request_for(path)])
    if b"not for clients" in answer.raw:
        fail(
            "traversal",
            f"GET {path} gave out a file outside the root:\n\n{shown(answer.raw)}",
            curl(server, path, "--path-as-is -i"),
        )
    expect_answer(server, path, 404)


def stays_in_step(server: Server, name: str, content: bytes, others: Sequence[str]) -> None:
    """After an answer the server closes the connection, or answers the next request as well.

    `name` is a file with that content; the first answer is also one for each of `others`.
    """
    again = server.path_of(name)
    for path in (again, *map(server.path_of, others)):
        with suppress(OSError), connected(server) as sock:
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
            first = ask_over(sock, [request])
            second = ask_over(sock, [request_for(again)])
            wrong, cause = first.problem, cause_of(first.fault, server)
            if not wrong and not first.ended:
                cause = "no_end"
                wrong = "After 5 s the first answer had no end, and the connection stays open"
            if not wrong and second.raw:
                cause = "out_of_step"
                wrong = second.problem
                if not wrong and (second.status, second.body) != (200, content):
                    wrong = "the second answer is not the file"
            if wrong:
                fail(
                    cause,
                    f"Sent GET {path} and, when all of the answer was there, GET {again} over the "
                    f"same connection. First came\n\n{shown(first.raw, 200)}\n\nand then\n\n"
                    f"{shown(second.raw)}\n\n{wrong}."
                    f"{state_of(server)}",
                    by_hand([request, request_for(again)], 0.5),
                )


def expect_answer(server: Server, path: str, status: int, body: bytes | None = None) -> RawAnswer:
    """One raw request gets a well-formed answer with a status (404: any refusal, 400 to 499)."""
    answer = ask(server, [request_for(path)])
    story = f"Sent GET {path}. Came back:\n\n{shown(answer.raw)}\n\n"
    line = curl(server, path, "--path-as-is -i")
    if answer.problem:
        surplus = answer.fault == "too_many" and server.running
        cause = "out_of_step" if surplus else cause_of(answer.fault, server)
        fail(cause, f"{story}{answer.problem}.{state_of(server)}", line)
    if not answer.ended:
        fail(
            "no_end",
            f"{story}After 5 s the answer had no end: no Content-Length that was reached, no last "
            f"chunk, and the connection stays open.{state_of(server)}",
            line,
        )
    refused = status == 404 and 400 <= answer.status < 500
    if answer.status != status and not refused:
        wanted = "404, or another one from 400 to 499" if status == 404 else status
        fail("wrong_status", f"{story}The status should be {wanted}.{state_of(server)}", line)
    if body is not None and answer.body != body:
        fail("wrong_bytes", f"{story}The body is not the file's {len(body)} bytes.", line)
    return answer


def split_requests(server: Server, draw: Random, *, long_heads: bool = True) -> None:
    """A request may come in one piece, a byte at a time, or in three pieces with pauses.

    With `long_heads` its head may also have 15 KB.
    """
    content = draw.randbytes(5000)
    name = name_of(draw)
    (server.root / name).write_bytes(content)
    path = server.path_of(name)
    expect_answer(server, path, 200, content)
    request = request_for(path)
    slow = [bytes([byte]) for byte in request]
    three = [request[:9], request[9:-2], request[-2:]]
    padded = request_for(path, *(f"X-Padding-{number}: {'x' * 400}" for number in range(36)))
    ways: list[tuple[Iterable[bytes], list[bytes], float, str]] = [
        (slow, slow, 0.002, "a byte at a time"),
        (_one_by_one(server, three), three, 0, "in three pieces, with a pause after each"),
    ]
    if long_heads:
        ways.append(([padded], [padded], 0, "with 15 KB of headers"))
    for pieces, shown_pieces, pause, how in ways:
        answer = ask(server, pieces, pause)
        if answer.status != 200 or answer.body != content or answer.problem:
            fail(
                "one_recv",
                f"A request for {path} in one piece was answered right. Then it was sent {how}. "
                f"Came back:\n\n{shown(answer.raw)}\n\n"
                f"{answer.problem or 'It should be status 200 and the file'}.{state_of(server)}",
                by_hand(shown_pieces, pause or 0.3),
            )


def _one_by_one(server: Server, pieces: Sequence[bytes]) -> Iterator[bytes]:
    """Pieces of a request, each one when the server has done what it can with those before."""
    for piece in pieces[:-1]:
        yield piece
        comes_to_rest(server)
        time.sleep(0.2)  # one that does not wait for the rest any longer has something to do now
        comes_to_rest(server)
    yield pieces[-1]


# SHORT

SHIMS = {
    "recv": '''\
"""Let sockets give little at a time, as POSIX allows them to (recv(2))."""
import socket

_recv, _recv_into = socket.socket.recv, socket.socket.recv_into


def recv(self, size, *flags):
    return _recv(self, min(size, 100), *flags)


def recv_into(self, buffer, nbytes=0, flags=0):
    size = nbytes or memoryview(buffer).nbytes
    return _recv_into(self, buffer, min(size, 100), flags)


socket.socket.recv, socket.socket.recv_into = recv, recv_into
''',
    "send": '''\
"""Let sockets take little at a time, as POSIX allows them to (send(2), write(2))."""
import os
import socket
import stat

_send, _sendmsg = socket.socket.send, socket.socket.sendmsg
_sendfile, _write = getattr(os, "sendfile", None), os.write


def send(self, data, *flags):
    return _send(self, memoryview(data).cast("B")[:4096], *flags)


def sendmsg(self, buffers, *more):
    return _sendmsg(self, [b"".join(buffers)[:4096]], *more)


def write(descriptor, data):
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        data = memoryview(data).cast("B")[:4096]
    return _write(descriptor, data)


socket.socket.send, socket.socket.sendmsg, os.write = send, sendmsg, write
if _sendfile:
    os.sendfile = lambda out, file, offset, count: _sendfile(out, file, offset, min(count, 4096))
''',
}
"""What is put before a program's own code, so that calls on sockets transfer little."""


def short_transfers(
    launch: Callable[..., Server], draw: Random, scratch: Path, more: Sequence[int] = ()
) -> None:
    """On sockets that give little at a time, or take little, files still arrive whole.

    The same files are asked for three times: on plain sockets, where a failure has nothing to do
    with short transfers; where a `recv` gives at most 100 bytes; where a `send` takes at most 4096.
    """
    plain = launch()
    files = [
        random_file(size, name_of(draw), plain.root, seed=draw.randrange(2**32))
        for size in (300_000 + draw.randrange(9999), 0, 5 * CHUNK, *more)
    ]
    for file in files:
        expect_download(plain, file, f"a file of {file.size} bytes, on plain sockets")
    plain.stop()
    for call, what, cause in (
        ("recv", "give at most 100 bytes to each call of recv", "one_recv"),
        ("send", "take at most 4096 bytes from each call of send", "ignores_send"),
    ):
        shim = scratch / call
        shim.mkdir()
        (shim / "sitecustomize.py").write_text(SHIMS[call])
        server = launch(environment={"PYTHONPATH": str(shim)})
        for file in files:
            path = server.path_of(file)
            server.mark()
            try:
                download(server.url + path, file.path, timeout=PATIENCE)
            except DownloadError as error:
                fail(
                    cause,
                    f"On sockets that {what}, GET {path} ({file.size} bytes): "
                    f"{str(error).partition(': ')[2]}. On plain sockets the same file arrived "
                    f"right.{state_of(server)}",
                )
        server.stop()


# Shared


@contextmanager
def crowd(
    server: Server,
    file: SampleFile,
    clients: int,
    pace: Pace,
    first: int,
    timeout: float = PATIENCE,
    path: str = "",
) -> Iterator[Crowd]:
    """Clients for a file of a server, or for `path`, of which the file has the first bytes."""
    path = path or server.path_of(file)
    port = int(server.url.rpartition(":")[2])
    server.mark()
    job = Job(port, path, clients, pace, str(file.path), first=first, timeout=timeout)
    try:
        with Crowd(job) as many:
            yield many
    except DownloadError as error:
        if error.failure != "overdue":
            raise
        fail(
            "no_answer",
            f"{clients} clients of {path} ({size_text(file.size)}) were answered so slowly "
            f"that their time was up: {error}.{state_of(server)}",
            curl(server, path),
        )


class Trace:
    """A server's private memory over time, drawn in one line of text."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    @property
    def line(self) -> str:
        """The curve, at most 40 signs wide, with its largest value."""
        if not self.sizes:
            return "Memory: not measured, the server had ended."
        step = max(1, -(-len(self.sizes) // 40))
        # A process that ends gives back more than its baseline: not less than nothing.
        sizes = [max(0, size) for size in self.sizes]
        tops = [max(sizes[i : i + step]) for i in range(0, len(sizes), step)]
        most = max(max(tops), 1)
        signs = "".join("▁▂▃▄▅▆▇█"[min(7, 8 * top // (most + 1))] for top in tops)
        return f"Memory: {signs}  at most {size_text(most)}."


@contextmanager
def traced(server: Server) -> Iterator[Trace]:
    """Trace a server's memory in a thread, ten times a second."""
    trace, end = Trace(), threading.Event()
    keeper = 0
    with suppress(MeterError):
        keeper = memory_of(server.keeper).private - memory_of(server.pid).private

    def run() -> None:
        while not end.is_set():
            if held := held_by(server):
                trace.sizes.append(held - keeper)
            end.wait(0.1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield trace
    finally:
        end.set()
        thread.join()
