"""What lab 02 asks of a file server on bare sockets, promise by promise (see its contract.toml).

Where inputs form a space (the targets of requests, and their heads), they are drawn from it, and a
model that is written from RFC 3986 and RFC 9112 says which answer is right. Sizes are in bytes.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random

from hypothesis import strategies as st

from streamlab.checks import (
    POURING,
    ask,
    ask_over,
    at_work,
    by_hand,
    bytes_arrive,
    cause_of,
    connected,
    curl,
    dense_file,
    expect_answer,
    expect_download,
    held_by,
    hold,
    huge_files,
    leave_nothing,
    name_of,
    others_are_served,
    read_answer,
    reading_stops,
    request_for,
    right_alone,
    short_transfers,
    shown,
    split_requests,
    state_of,
    stays_below_root,
    stays_in_step,
    stays_inside,
    survives_departures,
    warm_up,
)
from streamlab.clients import Crowd, Job
from streamlab.examples import for_all, texts
from streamlab.files import GiB, KiB, MiB, random_file, size_text, sparse_file
from streamlab.patience import Deadline
from streamlab.server import Server
from streamlab.testing import CheckFailed, CouldNotRun, fail, note, promise

Launch = Callable[..., Server]

AT_ONCE = 40
"""How many clients the lab promises to serve at the same time."""
HEAD = 16 * KiB
"""The longest head of a request that has to be answered."""
PAUSE = 8.0
"""For how many seconds a client may stop reading, and still gets the rest of its file."""
LINES = 80
"""The most lines that such a head has, without the empty one."""


# BYTES and HUGE


def files_arrive(launch: Launch, root: Path, draw: Random) -> None:
    """Files arrive byte for byte: one that was there at the start, and those that come later."""
    first = random_file(3000 + draw.randrange(999), name_of(draw), root, draw.randrange(2**32))
    server = launch()
    with promise("file"):
        expect_download(server, first, "a file that was there before the server")
    with promise("files-later"):
        size, name = 3000 + draw.randrange(999), name_of(draw)
        expect_answer(server, server.path_of(name), 404)  # not to be kept in mind
        later = random_file(size, name, root, draw.randrange(2**32))
        expect_download(server, later, "a file that was put there after its start")
    with promise("file"):
        bytes_arrive(server, draw)


def larger_than_memory(launch: Launch, draw: Random, *, whole: bool = True) -> None:
    """Files of any size pour through the cup, also if they were there when the server starts.

    With `whole` one of more than 2 GiB is read to its end. That shows who takes one call of
    sendfile(2) to be enough; on sockets that do not block, no call sends that much.
    """
    server = launch()
    with promise("any-size"):
        _length_beyond_four_gib(server, draw)
    with promise("cup"):
        huge_files(server, draw)
    if whole:
        with promise("any-size"):
            _beyond_two_gib(server, draw)
    server.stop()
    with promise("files-before"):
        try:
            again = launch()
        except CouldNotRun as error:
            fail(
                "reads_at_start",
                "With files in its folder that are larger than its memory, the server did not get "
                f"to the line that says where it listens: {error}",
            )
        small = random_file(4 * KiB, name_of(draw), again.root, seed=draw.randrange(2**32))
        expect_download(again, small, "a small file beside them")


def _beyond_two_gib(server: Server, draw: Random) -> None:
    """The end of a file of more than 2 GiB arrives: that is as far as sendfile(2) goes at once.

    What comes before is thrown away in the kernel (`MSG_TRUNC`, tcp(7)): other probes look at it.
    """
    size = 2 * GiB + MiB + 1000 + draw.randrange(999)
    file = sparse_file(size, name_of(draw), server.root, 3, draw.randrange(99))
    path = server.path_of(file)
    end = file.islands[-1].data[-16:]
    buffer = bytearray(MiB // 4)
    received, tail = 0, b""
    with suppress(OSError), connected(server, POURING) as sock:
        sock.sendall(request_for(path))
        while received < size - MiB // 2:
            took = sock.recv_into(buffer, len(buffer), socket.MSG_TRUNC)
            if not took:
                break
            received += took
        while end not in tail and (piece := sock.recv(MiB // 4)):
            received += len(piece)
            tail = (tail + piece)[-2 * MiB :]
    if end not in tail:
        fail(
            "cut_short",
            f"GET {path}, a file of {size} bytes ({size_text(size)}): {received} bytes came, head "
            f"and all, and the last ones of the file were not among them.{state_of(server)}",
            curl(server, path),
        )


def _length_beyond_four_gib(server: Server, draw: Random) -> None:
    """Where an answer has a length, it is the file's, beyond what 32 bits count, too."""
    size = 4 * GiB + draw.randrange(MiB)
    file = sparse_file(size, name_of(draw), server.root, 3, draw.randrange(99))
    path = server.path_of(file)
    head = b""
    with suppress(OSError), connected(server) as sock:
        sock.sendall(request_for(path))
        while b"\r\n\r\n" not in head and (piece := sock.recv(4 * KiB)):
            head += piece
    head = head.partition(b"\r\n\r\n")[0]
    length = read_answer(head + b"\r\n\r\n", closed=False).header("content-length")
    if length is not None and length != str(file.size):
        fail(
            "wrong_length",
            f"GET {path}, a file of {file.size} bytes ({size_text(file.size)}). Came back:\n\n"
            f"{shown(head)}\n\nContent-Length is not the file's size.{state_of(server)}",
            curl(server, path, "-i --max-time 1 -o got"),
        )


# HOLD, STALL and LIVE


def waiting_clients_cost_little(
    server: Server, draw: Random, clients: int = 32, each: int = 4 * MiB
) -> None:
    """While clients have their first bytes and wait, the server holds no more than is promised."""
    with promise("memory-one"):
        warm_up(server, draw)
        baseline = held_by(server)  # before there are any files that it could have taken in
        medium = dense_file(draw.randrange(48 * MiB, 80 * MiB), name_of(draw), server.root, draw)
        large = sparse_file(
            draw.randrange(1300 * MiB, 1500 * MiB), name_of(draw), server.root, 6, draw.randrange(9)
        )
        # A process more, and what Python needs for it, is nothing of the file.
        somewhere = draw.randrange(medium.size // 8, medium.size // 4)
        hold(server, medium, 1, "slow", somewhere, baseline, each + 20 * MiB)
        right_alone(server, large, 4 * MiB)
    with promise("memory-many"):
        hold(server, medium, clients, "stalled", 4 * MiB, baseline, clients * each)
        hold(server, large, clients, "stalled", 4 * MiB, baseline, clients * each)


def reading_stops_with_the_client(server: Server, draw: Random) -> None:
    """When a client stops reading, the server stops reading the file, and rests."""
    with promise("reading-stops", busy_loop="rests"):
        reading_stops(server, draw)


def no_client_waits_for_another(server: Server, draw: Random) -> None:
    """One more client is answered while others are slow to ask, slow to read, or simply many."""
    with promise("slow-asker"):
        others_are_served(server, draw, stalled=0, asking=1)
    with promise("slow-reader"):
        others_are_served(server, draw, stalled=8, asking=0)
    with promise("many"):
        others_are_served(server, draw, stalled=AT_ONCE - 2, asking=1)


# DROP


def departures_cost_nothing(server: Server, draw: Random) -> None:
    """Clients that leave, before their request is whole or during the answer, leave nothing."""
    with promise("pauses"):
        reads_on_later(server, draw, partial(leave_in_the_middle, server, draw))


def leave_in_the_middle(server: Server, draw: Random) -> None:
    """Clients leave during their request, then others during the answer."""
    small = random_file(256 * KiB, name_of(draw), server.root, seed=draw.randrange(2**32))
    large = sparse_file(
        draw.randrange(200 * MiB, 300 * MiB), name_of(draw), server.root, 4, draw.randrange(99)
    )
    with promise("leaves-request"):
        expect_download(server, small, "with no other client there")
        request = request_for(server.path_of(large))
        leave_nothing(
            server,
            lambda: leave_while_asking(server, (b"", request[:10]), each=6),
            small,
            large,
            "24 clients connected and left, some without a word and some in the first line of "
            "their request, by closing the connection or with a reset",
            by_hand([request[:10]], leaves=True),
            24,
        )
    with promise("leaves-answer"):
        besides = partial(leave_while_asking, server, (request,), each=6)
        survives_departures(server, draw, besides=besides)


def reads_on_later(server: Server, draw: Random, meanwhile: Callable[[], None]) -> None:
    """A client takes its first bytes, stops reading for some seconds, and gets the rest after that.

    While it waits `meanwhile` is called. Where that took longer than the client may pause, because
    the machine is busy, a failure says nothing about the server, so another client pauses.
    """
    file = sparse_file(
        draw.randrange(100 * MiB, 120 * MiB), name_of(draw), server.root, 4, draw.randrange(99)
    )
    path, wait = server.path_of(file), PAUSE - 1.5
    port = int(server.url.rpartition(":")[2])
    job = Job(port, path, 1, "slow", str(file.path), first=MiB, watched=server.keeper)
    line = curl(server, path, "-o got") + (
        f" & sleep 1; kill -STOP $!; sleep {wait:g}; kill -CONT $!; wait $!"
    )
    story = f"A client took 1 MiB of {path} ({size_text(file.size)})"
    for doing in (meanwhile, lambda: None):
        with Crowd(job) as crowd:
            [came] = crowd.arrive()
            if came.error:
                fail("cut_short", f"{story}: {came.error}.{state_of(server)}", line)
            began = time.monotonic()
            doing()
            time.sleep(max(0.0, began + wait - time.monotonic()))
            paused = time.monotonic() - began
            [ended] = crowd.finish()
        if not ended.error:
            return
        if paused <= PAUSE:
            fail(
                "gives_up",
                f"{story}, and stopped reading for {paused:.1f} s. Then it read on: {ended.error}."
                f"{state_of(server)}",
                line,
            )
    note(f"Left out: a client that read on after {paused:.0f} s, on a busy machine.")


def leave_while_asking(server: Server, sent: Sequence[bytes], each: int) -> None:
    """Clients who leave when they have sent so much: `each` by closing, and as many by a reset."""
    for words in sent:
        for reset in (False, True):
            with ExitStack() as stack, suppress(OSError):
                for _ in range(each):
                    sock = stack.enter_context(connected(server))
                    sock.sendall(words)
                    if reset:  # closing sends RST (socket(7), SO_LINGER)
                        linger = struct.pack("ii", 1, 0)
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                _has_taken_up(server)


def _has_taken_up(server: Server) -> None:
    """Wait until a server has taken what its clients sent so far."""
    deadline = Deadline(1)
    while at_work(server) and not deadline.passed:
        deadline.pause()


# WIRE


def to_the_letter(launch: Launch, draw: Random) -> None:
    """Answers are HTTP; names are found however they are written; nothing outside is given out."""
    server = launch()
    content = b"line\r\n\r\n\0\xff" + draw.randbytes(draw.randrange(2000, 3000))
    name = name_of(draw, "-2.tar.gz")
    (server.root / name).write_bytes(content)
    (server.root / "folder").mkdir(exist_ok=True)
    (server.root / "folder" / "inside.txt").write_bytes(b"in a folder")
    with promise("first-line"):
        _listens(server)
    with promise("head", no_end="end", cut_short="end"):
        expect_answer(server, server.path_of(name), 200, content)
    with promise("folders"):
        expect_answer(server, server.path_of("folder/inside.txt"), 200, b"in a folder")
    with promise("no-file"):
        expect_answer(server, server.path_of(name_of(draw)), 404)
        expect_answer(server, f"{server.path_of(name)}/{name_of(draw)}", 404)
    for folder in ("folder", "folder/"):
        with promise("folder"):
            expect_answer(server, server.path_of(folder), 404)
    with promise("outside"):
        stays_inside(server, draw)
    empty = random_file(0, name_of(draw), server.root)
    with promise("next-request", no_end="end"):
        stays_in_step(server, name, content, [empty.name, "folder", name_of(draw)])
    names_are_found(server, draw)
    with promise("no-file"):
        expect_answer(server, server.path_of(name), 200, content)
    server.stop()
    with promise("run"):
        _takes_the_port(launch)


def _listens(server: Server) -> None:
    """A connection comes about, directly after the first line."""
    try:
        with connected(server):
            pass
    except OSError as error:
        fail(
            cause_of("refused", server),
            f"Its first line said {server.url}. A connection to that port, directly after the "
            f"line, failed: {error}.{state_of(server)}",
        )


def _takes_the_port(launch: Launch) -> None:
    """`--port` names the port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = launch(port=port)
    if server.url != f"http://127.0.0.1:{port}":
        fail(
            "wrong_port",
            f"Started with --port {port}, the server's first line names {server.url}."
            f"{state_of(server)}",
        )
    server.stop()


LETTERS = "abcXYZ019"
AWKWARD = (
    *("...", "..a", "a..b", "a.", ".hidden", "-", "--", "-a", "0", "A", "a.tar.gz", "b-2.0.bin"),
)
"""Names that a careless filter takes for something else."""


def segments() -> st.SearchStrategy[str]:
    """Names of files and folders: letters, digits, dots and dashes, awkward ones often."""
    return st.one_of(
        st.sampled_from(AWKWARD),
        texts(LETTERS + ".-", 1, 12).filter(lambda name: name not in (".", "..")),
        st.integers(100, 250).map(lambda length: "n" * length),
    )


@st.composite
def encoded(pick: st.DrawFn, text: str) -> str:
    """A way to write a text in a target: any byte but a slash may stand as `%` and two digits."""
    written = pick(st.lists(st.sampled_from("====xX"), min_size=len(text), max_size=len(text)))
    return "".join(
        letter if how == "=" or letter == "/" else f"%{ord(letter):02{how}}"
        for letter, how in zip(text, written, strict=True)
    )


def names_are_found(server: Server, draw: Random) -> None:
    """Files of all names that the lab allows are found, in folders too, plain and encoded."""
    folder = server.root / name_of(draw, "")
    folder.mkdir()
    paths = st.lists(segments(), min_size=1, max_size=4).map("/".join)

    def found(path: str, target: str) -> None:
        file = folder / path
        content = b"this is " + path.encode()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():
                return  # an earlier example made a folder of that name
            file.write_bytes(content)
        except (FileExistsError, NotADirectoryError):
            return  # an earlier example made a file where this one needs a folder
        answer = expect_answer(server, server.path_of(f"{folder.name}/{target}"), 200, content)
        assert answer.status == 200

    with promise("names"):
        for name in AWKWARD:  # directly below DIR, where nothing stands before them
            content = b"this is " + name.encode()
            (server.root / name).write_bytes(content)
            expect_answer(server, server.path_of(name), 200, content)
        for_all(paths, draw, lambda path: found(path, path), examples=30)
    with promise("encoded"):
        both = paths.flatmap(lambda path: st.tuples(st.just(path), encoded(path)))
        for_all(both, draw, lambda pair: found(*pair), examples=30)
    with promise("outside"):
        secret = server.root.parent / name_of(draw, ".secret")
        secret.write_bytes(b"not for clients")
        out = ways_out(folder.name, server.root.name, secret.name)
        for_all(out, draw, lambda target: stays_below_root(server, target), examples=50)


@st.composite
def ways_out(pick: st.DrawFn, folder: str, root: str, secret: str) -> str:
    """Targets that lead to a file beside the root, by all ways to write dots and slashes."""
    inside = pick(st.lists(st.sampled_from([".", "", f"{folder}/.."]), max_size=3))
    deep = pick(st.booleans())
    steps = [*inside, *[folder] * deep, *[".."] * (1 + deep)]
    if pick(st.booleans()):
        steps += [root, ".."]
    dot = pick(st.sampled_from([".", "%2e", "%2E", "%252e"]))
    slash = pick(st.sampled_from(["/", "%2f", "%252F"]))
    return "/".join([*steps, secret]).replace("/", slash).replace(".", dot)


# SPLIT and SHORT


@dataclass(frozen=True)
class Head:
    """The head of a request, as lines: the first one asks for a file, others are drawn."""

    lines: tuple[bytes, ...]
    padding: int
    """The length of one more header's value; it fills the head up to the limit at most."""
    cuts: tuple[int, ...]
    """Where it is cut into pieces, as shares of 1000."""

    def pieces(self, path: str) -> list[bytes]:
        """The bytes to send for a path: never more than `HEAD` bytes in all."""
        first = [f"GET {path} HTTP/1.1".encode(), b"Host: 127.0.0.1", b"Connection: close"]
        lines = [*first, *self.lines]
        room = HEAD - sum(len(line) + 2 for line in lines) - len(b"X-Fill: \r\n\r\n")
        if self.padding and room > 0:
            lines.append(b"X-Fill: " + b"x" * min(self.padding, room))
        head = b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        edges = [0, *sorted(len(head) * cut // 1000 for cut in self.cuts), len(head)]
        return [head[a:b] for a, b in pairwise(edges) if b > a]


def heads(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[Head]:
    """Heads of up to `LINES` lines and `HEAD` bytes; full ones often. `values` are of headers."""
    names = st.sampled_from([b"Accept", b"Cookie", b"X-A", b"x-odd_name.2", b"User-Agent", b"DNT"])
    spaces = st.sampled_from([b" ", b"", b"  ", b"\t"])
    lines = st.builds(lambda name, space, value: name + b":" + space + value, names, spaces, values)
    most = LINES - 4  # those of `first`, and the padding
    return st.builds(
        Head,
        st.one_of(
            st.lists(lines, max_size=5),
            st.lists(lines, min_size=most, max_size=most),
            st.lists(lines, max_size=most),
        ).map(tuple),
        st.one_of(
            st.just(0), st.just(HEAD), st.sampled_from([4000, 8192, 9000]), st.integers(1, HEAD)
        ),
        st.lists(st.integers(0, 1000), max_size=3).map(tuple),
    )


ASCII = st.one_of(
    st.just(b""), texts('ab =;,"/:1', most=30).map(lambda text: text.strip().encode())
)
LATIN = st.one_of(st.sampled_from([b"caf\xe9", b"\xff", b"\xc3\xa9", b"\x80x"]), ASCII)
"""Values with `obs-text`, the bytes from 0x80 on (RFC 9110, section 5.5)."""


def heads_are_read(server: Server, draw: Random) -> None:
    """Heads up to the promised size, with any headers, are read; a longer one does no harm."""
    content = draw.randbytes(5000)
    name = name_of(draw)
    (server.root / name).write_bytes(content)
    path = server.path_of(name)

    def answered(head: Head) -> None:
        pieces = head.pieces(path)
        answer = ask(server, pieces)
        if answer.problem or (answer.status, answer.body) != (200, content):
            size, lines = sum(map(len, pieces)), len(b"".join(pieces).split(b"\r\n")) - 2
            longest = max(map(len, b"".join(pieces).split(b"\r\n")))
            fail(
                "head_refused",
                f"The head of a request for {path} had {size} bytes in {lines} lines, the longest "
                f"of {longest} bytes:\n\n{shown(b''.join(pieces))}\n\nCame back:\n\n"
                f"{shown(answer.raw)}\n\n{answer.problem or 'It should be status 200 and the file'}"
                f". A head of 4 short lines was answered right.{state_of(server)}",
                by_hand(pieces),
            )

    with promise("pieces"):
        # First, because the heads below come in pieces too.
        split_requests(server, draw, long_heads=False)
    with promise("head-size"):
        for_all(heads(ASCII), draw, answered, examples=30)
    with promise("any-header"):
        for_all(heads(LATIN), draw, answered, examples=15)
    with promise("longer-head"):
        with suppress(OSError), connected(server, 2) as sock:
            ask_over(sock, [request_for(path, f"X-Long: {'x' * 200_000}")], patience=2)
        try:
            expect_answer(server, path, 200, content)
        except CheckFailed as failure:
            failure.evidence = (
                "After a request whose head had 200 KB, which may be refused, a request like the "
                f"one that was answered right before:\n\n{failure.evidence}"
            )
            raise


def short_transfers_are_whole(launch: Launch, draw: Random, scratch: Path) -> None:
    """On sockets that take or give little at a time, files still arrive whole."""
    with promise("part-sent", one_recv="pieces"):
        short_transfers(launch, draw, scratch)
