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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil

from streamlab.clients import OVERDUE, Crowd, Download, Job, Pace, download
from streamlab.errors import DownloadError, MeterError
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
from streamlab.server import Server
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


def log_of(server: Server) -> str:
    """The last lines that a server wrote, for evidence; its first line is left out."""
    lines = [line for line in server.log().splitlines() if not line.startswith("listening on ")]
    if not lines:
        return ""
    text = textwrap.indent("\n".join(line[:200] for line in lines[-12:]), "    ")
    return f"\n\nThe server wrote:\n\n{text}"


def state_of(server: Server) -> str:
    """Whether a server still runs, and its last words, for evidence."""
    time.sleep(0.1)  # the news of its end may be on its way
    ended = "" if server.running else f" It has ended, with status {server.exit_status}."
    return ended + log_of(server)


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
            cause_of(result.error, server),
            f"A client took {size_text(CHUNK)} of {path} ({size_text(file.size)}), waited a "
            f"moment, and took the rest: {result.error}.{state_of(server)}",
            curl(server, path, "--limit-rate 20M -o got"),
        )


def expect_download(server: Server, file: SampleFile, what: str) -> Download:
    """One client gets a file whole and right; else the check fails with the likeliest cause."""
    path = server.path_of(file)
    try:
        return download(server.url + path, file.path, timeout=PATIENCE)
    except DownloadError as error:
        reason = str(error).partition(": ")[2]
        fail(
            cause_of(reason, server),
            f"GET {path}, {what}: {reason}.{state_of(server)}",
            curl(server, path, "-o got"),
        )


def cause_of(reason: str, server: Server) -> str:
    """The misconception that a failed download points to."""
    if "MemoryError" in server.log() or "Cannot allocate memory" in server.log():
        return "whole_file"
    known = {
        "CR LF": "malformed",
        "not as in the file": "wrong_bytes",
        "too many": "wrong_bytes",
        "not finished after": "no_end",
        "cut short": "cut_short",
        "before any answer": "no_answer",
        "broke the connection": "cut_short",
        "no server listens": "died",
        "the answer begins with": "malformed",
        "is no number": "malformed",
        "longer than its size": "malformed",
        "status": "wrong_status",
    }
    return next((cause for words, cause in known.items() if words in reason), "wrong_bytes")


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
            cause_of(result.error, server),
            f"GET {path}, {size_text(file.size)}, in {server.cup}: {result.error}, after "
            f"{size_text(result.size)} that were right.\n{trace.line}{state_of(server)}",
            curl(server, path),
        )


# HOLD


def holds_little(server: Server, draw: Random, clients: int = 32, each: int = 4 * MiB) -> None:
    """While many clients have their first bytes and wait, the server holds a few MiB for each."""
    warm_up(server, draw)
    baseline = held_by(server)  # before there are any files that it could have taken in
    medium = dense_file(draw.randrange(48 * MiB, 80 * MiB), name_of(draw), server.root, draw)
    large = sparse_file(
        draw.randrange(1300 * MiB, 1500 * MiB), name_of(draw), server.root, 6, draw.randrange(99)
    )
    # A process more, and what Python needs for it, is nothing of the file.
    somewhere = draw.randrange(medium.size // 4, medium.size // 2)
    hold(server, medium, 1, "slow", somewhere, baseline, each + 20 * MiB)
    hold(server, medium, clients, "stalled", 4 * MiB, baseline, clients * each)
    hold(server, large, clients, "stalled", 4 * MiB, baseline, clients * each)


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
        failed = [each.error for each in arrived if each.error]
        held = 0 if failed else most_held(server, baseline + allowed)
        if pace == "slow" and not failed and held <= baseline + allowed:
            failed = [each.error for each in many.finish() if each.error]
            held = least_held(server, baseline + allowed)
    who = f"{clients} clients" if clients > 1 else "A client"
    asked = f"{who} of {path}{size} took {size_text(first)} and waited"
    line = curl(server, path, "--limit-rate 1M -o /dev/null")
    if failed:
        cause = cause_of(failed[0], server)
        if cause == "no_end" and clients > 1:
            cause = "one_at_a_time"
        story = f"{len(failed)} of them failed" if clients > 1 else "then took the rest"
        fail(cause, f"{asked}; {story}: {failed[0]}.\n{trace.line}{state_of(server)}", line)
    if held > baseline + allowed:
        fail(
            "holds_much",
            f"{asked}. The server and its children held {size_text(held - baseline)} more than "
            f"when idle; {size_text(allowed)} are allowed.\n{trace.line}{log_of(server)}",
            line,
        )


def most_held(server: Server, enough: int) -> int:
    """The most memory that a server holds until it rests, and holds no more than 0.5 s before."""
    most, since = held_by(server), time.monotonic()
    deadline = since + 5
    while most <= enough and time.monotonic() < deadline:
        if time.monotonic() > since + 0.5 and not at_work(server):
            break
        time.sleep(0.1)
        if (held := held_by(server)) > most + MiB:
            since = time.monotonic()
        most = max(most, held)
    return most


def least_held(server: Server, enough: int) -> int:
    """The memory that a server holds once it is no more than `enough`, or after two seconds."""
    time.sleep(0.3)  # what is kept for the next client is taken in a moment after the answer
    comes_to_rest(server)
    deadline = time.monotonic() + 2
    while (held := held_by(server)) > enough and time.monotonic() < deadline:
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
        moved, since = _moved(server, file) - start, time.monotonic()
        deadline = since + 5
        while moved <= allowed and time.monotonic() < deadline:
            if time.monotonic() > since + 1 and not at_work(server):
                break
            time.sleep(0.1)
            if (now := _moved(server, file) - start) > moved:
                moved, since = now, time.monotonic()
        stopped = moved <= allowed and time.monotonic() > since + 1
        busy = busy_at_rest(server, 0.8) if stopped else ""
    line = curl(server, path, "--limit-rate 100k -o /dev/null")
    asked = f"A client took 1 MiB of {path} ({size_text(file.size)}) and stopped."
    if result.error is not None:
        fail(
            cause_of(result.error, server),
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


def others_are_served(server: Server, draw: Random, stalled: int = 8) -> None:
    """While clients stall, or are slow to ask, another one is answered."""
    file = sparse_file(
        draw.randrange(200 * MiB, 300 * MiB), name_of(draw), server.root, 4, draw.randrange(99)
    )
    small = random_file(CHUNK, name_of(draw), server.root, seed=draw.randrange(2**32))
    path = server.path_of(small)
    # They stay for longer than the other one waits: what they let go of would be free for it.
    with crowd(server, file, stalled, "stalled", MiB, 2 * PROMPT) as many:
        arrived = many.arrive()
        waiting = sum(each.error is not None for each in arrived)
        if not waiting:
            with suppress(DownloadError, OSError), connected(server) as slow:
                slow.sendall(request_for(path)[:20])
                download(server.url + path, small.path, timeout=PROMPT)
                return
    fail(
        "whole_file" if "MemoryError" in server.log() else "one_at_a_time",
        f"{stalled} clients took 1 MiB of {server.path_of(file)} each and stopped reading"
        + (
            f"; {waiting} of them were not even served so far."
            if waiting
            else ", and one had sent half a request. "
            f"Then GET {path}, {size_text(small.size)}, had no full answer within {PROMPT:g} s."
        )
        + state_of(server),
        curl(server, server.path_of(file), "--limit-rate 1k -o /dev/null")
        + " &  # eight times, then once more",
    )


# DROP


@dataclass(frozen=True)
class _Belongings:
    """What a server has, counted."""

    descriptors: int
    handles: int
    children: int
    threads: int

    def exceeds(self, before: _Belongings) -> bool:
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
) -> None:
    """Clients that vanish in the middle leave nothing behind: descriptors, handles, processes.

    They vanish from a large file, and from files of the sizes in `also`: one after the other, or,
    with `pace="stalled"`, all at once. `besides` lets clients leave in other ways, first in each
    round.
    """
    small = random_file(256 * KiB, name_of(draw), server.root, seed=draw.randrange(2**32))
    large = sparse_file(
        draw.randrange(200 * MiB, 300 * MiB), name_of(draw), server.root, 4, draw.randrange(99)
    )
    others = [random_file(size, name_of(draw), server.root) for size in also]
    curl_line = curl(server, server.path_of(large), "--max-time 0.1 -o /dev/null")
    _visit(server, small, clients, "fast")
    before = _settled_belongings(server, small, None)
    threads = []
    for _ in range(3):
        if besides is not None:
            besides()
        for file in (*others, large):
            _visit(server, file, clients, pace)
        if not server.running:
            fail(
                "whole_file" if "MemoryError" in server.log() else "dies_on_drop",
                f"{clients} clients took the first bytes of {server.path_of(large)} and closed the "
                f"connection.{state_of(server)}",
                curl_line,
            )
        after = _settled_belongings(server, large, before)
        if after.exceeds(before):
            table = "\n".join(
                f"    {what:<24} {old:>5} {new:>5}"
                for what, old, new in [
                    ("descriptors", before.descriptors, after.descriptors),
                    ("handles on the file", before.handles, after.handles),
                    ("child processes", before.children, after.children),
                ]
            )
            fail(
                "leaks",
                f"After {clients} complete downloads, and 5 s after {clients} clients had left "
                f"halfway{', and others in other ways' * bool(besides)}:"
                f"\n{table}{log_of(server)}",
                curl_line,
            )
        threads.append(after.threads)
    # A pool grows to what was busy at once, and no further.
    if threads[2] > threads[0] + max(clients, 40):
        fail(
            "leaks_threads",
            f"With each {clients} clients that left halfway the server got more threads: "
            f"{', '.join(map(str, threads))}.{log_of(server)}",
            curl_line,
        )
    if busy := busy_at_rest(server, 1.0):
        fail("busy_loop", f"With all clients gone, the server {busy}.", curl_line)
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
    errors = [each.error for each in results if each.error]
    if errors and server.running:
        fail(
            cause_of(errors[0], server),
            f"{clients} clients asked for {server.path_of(file)}, {size_text(file.size)}; "
            f"{len(errors)} failed: {errors[0]}.{state_of(server)}",
        )


def _belongings(server: Server, file: SampleFile) -> _Belongings:
    targets = descriptors(server.keeper)
    return _Belongings(
        descriptors=len(targets),
        handles=sum(target.endswith(file.name) for target in targets),
        children=len(group_members(server.keeper)) - 2,
        threads=threads_of(server.keeper),
    )


def _settled_belongings(
    server: Server, file: SampleFile, before: _Belongings | None, patience: float = 5.0
) -> _Belongings:
    """What a server has once it is back at `before`, or had time to put things away."""
    deadline = time.monotonic() + patience
    last = _belongings(server, file)
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = _belongings(server, file)
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
    deadline = time.monotonic() + patience
    looks = 0  # in one alone, who has just been woken by another one may be missing
    while looks < 2 and time.monotonic() < deadline:
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

    def header(self, name: str) -> str | None:
        """The value of a header, its name in lower case; None if it is not there."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@contextmanager
def connected(server: Server, patience: float = 5) -> Iterator[socket.socket]:
    """A connection to a server, its small pieces sent at once."""
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def ask(
    server: Server, pieces: Iterable[bytes], pause: float = 0, patience: float = 5
) -> RawAnswer:
    """Send raw bytes, a piece at a time with `pause` seconds between, and read one answer."""
    with suppress(OSError), connected(server, patience) as sock:
        return ask_over(sock, pieces, pause, patience)
    return read_answer(b"", closed=True)


def ask_over(
    sock: socket.socket, pieces: Iterable[bytes], pause: float = 0, patience: float = 5
) -> RawAnswer:
    """The same over a connection; what comes within 0.2 s of a whole answer counts as its part."""
    raw, closed = b"", False
    with suppress(ConnectionError):  # it may answer and close before all has been sent
        for piece in pieces:
            sock.sendall(piece)
            time.sleep(pause)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and len(raw) <= LONGEST:
        complete = _complete(raw)
        sock.settimeout(0.2 if complete else patience)
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


def read_answer(raw: bytes, closed: bool) -> RawAnswer:
    """Take the bytes of an answer apart, strictly (RFC 9112, sections 3 to 7)."""
    head, blank, rest = raw.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    found = _STATUS_LINE.fullmatch(lines[0])
    status = int(found[1]) if found else 0

    def answer(problem: str, body: bytes = rest, ended: bool = False) -> RawAnswer:
        pairs = [line.partition(b":") for line in lines[1:]]
        headers = [(k.decode("latin-1"), v.strip().decode("latin-1")) for k, _, v in pairs]
        return RawAnswer(raw, status, headers, body, problem, ended)

    if not raw:
        return answer("nothing came back")
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
        return answer(problem, body, ended)
    if length is not None:
        if not re.fullmatch("[0-9]{1,30}", length):
            return answer(f"Content-Length is {length[:40]!r}, not a number")
        missing = int(length) - len(rest)
        if missing < 0:
            return answer(f"{-missing} bytes follow the body that Content-Length tells of")
        if missing > 0 and closed:
            return answer(f"Content-Length is {length}, but only {len(rest)} bytes came")
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
    stays_in_step(server, name, content)
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
        path = server.path_of(name)
        answer = ask(server, [request_for(path)])
        if b"not for clients" in answer.raw:
            fail(
                "traversal",
                f"GET {path} gave out a file outside the root:\n\n{shown(answer.raw)}",
                curl(server, path, "--path-as-is -i"),
            )
        expect_answer(server, path, 404)


def stays_in_step(server: Server, name: str, content: bytes) -> None:
    """After an answer the server closes the connection, or answers the next request as well."""
    again = server.path_of(name)
    for path in (again, server.path_of("folder")):
        with suppress(OSError), connected(server) as sock:
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
            first = ask_over(sock, [request])
            second = ask_over(sock, [request_for(again)])
            wrong = first.problem or (second.problem if second.raw else "")
            if second.raw and not wrong and (second.status, second.body) != (200, content):
                wrong = "the second answer is not the file"
            if wrong:
                fail(
                    "malformed",
                    f"Sent GET {path} and, when all of the answer was there, GET {again} over the "
                    f"same connection. First came\n\n{shown(first.raw, 200)}\n\nand then\n\n"
                    f"{shown(second.raw)}\n\n{wrong}."
                    f"{state_of(server)}",
                    curl(server, path, "-i"),
                )


def expect_answer(server: Server, path: str, status: int, body: bytes | None = None) -> RawAnswer:
    """One raw request gets a well-formed answer with a status (404: any refusal, 400 to 499)."""
    answer = ask(server, [request_for(path)])
    story = f"Sent GET {path}. Came back:\n\n{shown(answer.raw)}\n\n"
    line = curl(server, path, "--path-as-is -i")
    if answer.problem:
        fail("malformed", f"{story}{answer.problem}.{state_of(server)}", line)
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


def split_requests(server: Server, draw: Random) -> None:
    """A request may come a byte at a time, in three pieces, or with 15 KB of headers."""
    content = draw.randbytes(5000)
    name = name_of(draw)
    (server.root / name).write_bytes(content)
    path = server.path_of(name)
    request = request_for(path)
    slow = [bytes([byte]) for byte in request]
    padding = [f"X-Padding-{number}: {'x' * 400}" for number in range(36)]
    three = [request[:9], request[9:-2], request[-2:]]
    ways: list[tuple[Iterable[bytes], float, str]] = [
        (slow, 0.002, "a byte at a time"),
        ([request_for(path, *padding)], 0, "with 15 KB of headers"),
        (_one_by_one(server, three), 0, "in three pieces"),
    ]
    for pieces, pause, how in ways:
        answer = ask(server, pieces, pause)
        if answer.status != 200 or answer.body != content or answer.problem:
            fail(
                "one_recv",
                f"A request for {path} was sent {how}. Came back:\n\n{shown(answer.raw)}\n\n"
                f"{answer.problem or 'It should be status 200 and the file'}.{state_of(server)}",
                curl(server, path, "-i"),
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

SHORT_SHIM = '''\
"""Let sockets transfer little at a time, as POSIX allows them to."""
import os
import socket
import stat

_send, _recv, _recv_into = socket.socket.send, socket.socket.recv, socket.socket.recv_into
_sendmsg, _sendfile, _write = socket.socket.sendmsg, getattr(os, "sendfile", None), os.write


def send(self, data, *flags):
    return _send(self, memoryview(data).cast("B")[:4096], *flags)


def sendmsg(self, buffers, *more):
    return _sendmsg(self, [b"".join(buffers)[:4096]], *more)


def write(descriptor, data):
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        data = memoryview(data).cast("B")[:4096]
    return _write(descriptor, data)


def recv(self, size, *flags):
    return _recv(self, min(size, 100), *flags)


def recv_into(self, buffer, nbytes=0, flags=0):
    size = nbytes or memoryview(buffer).nbytes
    return _recv_into(self, buffer, min(size, 100), flags)


socket.socket.send, socket.socket.recv, socket.socket.recv_into = send, recv, recv_into
socket.socket.sendmsg, os.write = sendmsg, write
if _sendfile:
    os.sendfile = lambda out, file, offset, count: _sendfile(out, file, offset, min(count, 4096))
'''


def short_transfers(
    launch: Callable[..., Server], draw: Random, scratch: Path, more: Sequence[int] = ()
) -> None:
    """With sockets that take and give little at a time, files still arrive whole."""
    shim = scratch / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(SHORT_SHIM)
    server = launch(environment={"PYTHONPATH": str(shim)})
    for size in (300_000 + draw.randrange(9999), 0, 5 * CHUNK, *more):
        file = random_file(size, name_of(draw), server.root, seed=draw.randrange(2**32))
        path = server.path_of(file)
        try:
            download(server.url + path, file.path, timeout=PATIENCE)
        except DownloadError as error:
            fail(
                "ignores_send",
                f"On sockets that send at most 4096 bytes a call, and receive 100, GET {path} "
                f"({file.size} bytes): {str(error).partition(': ')[2]}.{state_of(server)}",
            )


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
    job = Job(port, path, clients, pace, str(file.path), first=first, timeout=timeout)
    try:
        with Crowd(job) as many:
            yield many
    except DownloadError as error:
        if OVERDUE not in str(error):
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
        return f"Memory: {signs}  at most {size_text(most)}"


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
