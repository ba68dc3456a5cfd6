"""What lab 05 checks a hybrid file server for: the same answers on both sides of its threshold.

Each function is one kind of check, as in `streamlab.checks`. Which path a file takes can't be seen
from outside, and is not judged; what a client gets, and what the server holds, is. Sizes are in
bytes, times in seconds.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import stat
import string
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import NoReturn

import psutil
from hypothesis import strategies as st

from streamlab import checks, loop_checks
from streamlab.buffers import connection_buffer
from streamlab.checks import (
    RawAnswer,
    ask,
    ask_over,
    by_hand,
    cause_of,
    comes_to_rest,
    connected,
    curl,
    dense_file,
    expect_answer,
    held_by,
    hold,
    least_held,
    log_of,
    name_of,
    read_answer,
    request_for,
    right_alone,
    shown,
    state_of,
    stays_in_step,
    stays_inside,
    traced,
    warm_up,
)
from streamlab.errors import Failure
from streamlab.examples import for_all, texts
from streamlab.files import GiB, KiB, MiB, SampleFile, TiB, random_file, size_text, sparse_file
from streamlab.memory import descriptors, group_members
from streamlab.patience import Deadline, PatientSocket
from streamlab.server import Server, out_of_memory
from streamlab.talk import Wanted, talking
from streamlab.testing import CheckFailed, fail, promise

THRESHOLD = MiB
CACHED = 64 * MiB
"""What a server may keep from one request for the next, in all."""
SLACK = 32 * MiB
"""What the allocator may keep besides: some for each thread."""
PATIENCE = 4.0
"""Seconds without a byte after which an answer counts as hanging."""
TOGETHER = 10.0
"""The same where a hundred clients wait for each other."""
QUIET = 0.3
"""Seconds after an answer in which what does not belong to it would have come."""
OLDEST = 2.0
"""Seconds between what a Date says and the answer that has it, at most."""

JAVASCRIPT = {"text/javascript", "application/javascript"}
OTHER = {"application/octet-stream"}
TYPES = {
    ".html": {"text/html"},
    ".css": {"text/css"},
    ".js": JAVASCRIPT,
    ".json": {"application/json"},
    ".txt": {"text/plain"},
    ".png": {"image/png"},
    ".jpg": {"image/jpeg"},
    ".pdf": {"application/pdf"},
    ".mp3": {"audio/mpeg"},
    ".mp4": {"video/mp4"},
    ".zip": {"application/zip"},
}
"""The content types that are right for an ending in small letters."""
READABLE = re.compile(r"text/[\w.+-]+|application/([\w.+-]+\+)?(json|xml)")
"""The types of an error's body, which a person reads."""
FIELDS = ("Content-Type", "Content-Length", "Cache-Control", "Date", "Server")
"""The headers of a file's answer."""


# BYTES


def both_sides(launch: Callable[..., Server], draw: Random, scratch: Path) -> None:
    """Files at the threshold arrive as they are, also through sockets that take little."""
    sizes = (0, 1, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1, 2 * THRESHOLD)
    server = launch()
    with promise("first-line"), talking(server):
        pass
    with promise("file"):
        checks.bytes_arrive(server, draw, sizes)
    names_are_found(server, draw)
    with promise("part-sent", one_recv="part-received"):
        more = [THRESHOLD + draw.randrange(1, 9999)]
        checks.short_transfers(launch, draw, scratch, more)


PLAIN = string.ascii_letters + string.digits + "-._~" + "!$&'()*+,;=" + ":@"
"""What may stand as it is between two slashes of a target (RFC 3986, section 3.3)."""
LONGEST_NAME = 255
"""The bytes of the longest name that a file can have (`NAME_MAX`, pathconf(3))."""


AWKWARD = (
    *("a b.txt", "c++.html", "100%.txt", "a%20b.txt", "%41.txt", "what?.html", "#1.html"),
    *("a&b=c.txt", "caf\u00e9.pdf", "cafe\u0301.pdf", "\u6587\u4ef6.zip", "\U0001f600.png"),
    *("...", "..a", "a..b", "a.", "-rf", "~", "a;b", "C:\\x.txt", "'a'", "[1]", "a,b", " a "),
    *(".hidden", ".a", "X", "XX.txt", "$HOME", "`id`", "{a}", "a|b", "^", '"a"', "<b>", "a:b", "@"),
    "n" * LONGEST_NAME,
    "\u00e9" * (LONGEST_NAME // 2),
)
"""Names in which a part of a target's syntax stands, or what a careless filter takes for it."""


def segments() -> st.SearchStrategy[str]:
    """Names of files and folders, of any letters and signs; awkward ones often."""
    letters = PLAIN + ' "#%<>?[\\]^`{|}' + "\u00e9\u00df\u0416\u6587\U0001f600"
    return st.one_of(st.sampled_from(AWKWARD), texts(letters, 1, 12)).filter(
        lambda name: name not in (".", "..")
    )


def target_of(path: str) -> str:
    """A path in a target, its bytes as they are wherever that is allowed (RFC 3986)."""
    return "".join(
        chr(byte) if chr(byte) in PLAIN + "/" else f"%{byte:02X}" for byte in path.encode()
    )


@st.composite
def encoded(pick: st.DrawFn, path: str) -> str:
    """A way to write a path in a target: any byte but a slash may stand as `%` and two digits."""
    raw = path.encode()
    ways = pick(st.lists(st.sampled_from("===xX"), min_size=len(raw), max_size=len(raw)))
    return "".join(
        target_of(chr(byte)) if byte < 128 and (how == "=" or byte == ord("/")) else _hex(byte, how)
        for byte, how in zip(raw, ways, strict=True)
    )


def _hex(byte: int, how: str) -> str:
    return f"%{byte:02x}" if how == "x" else f"%{byte:02X}"


def names_are_found(server: Server, draw: Random) -> None:
    """Files of all names are found, in folders too, in each way to write them in a target."""
    paths = st.lists(segments(), min_size=1, max_size=3).map("/".join)

    def found(path: str, target: str) -> None:
        content = b"this is " + path.encode()
        file = server.root / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except OSError:
            return  # an earlier example made a file where this one needs a folder, or a folder
        with talking(server, {}) as talk:
            talk.note(f"there is a file {path!r} below DIR")
            talk.ask(Wanted(f"/{target}", content), "Connection: close")

    with promise("names"):
        for name in draw.sample(AWKWARD, len(AWKWARD)):
            found(name, target_of(name))
        for_all(paths, draw, lambda path: found(path, target_of(path)), examples=40)
    with promise("encoded"):
        both = paths.flatmap(lambda path: st.tuples(st.just(path), encoded(path)))
        for_all(both, draw, lambda pair: found(*pair), examples=40)


# HEADERS


@dataclass(frozen=True)
class Problem:
    """What is wrong with a head: the cause's name, and the same in words."""

    cause: str
    what: str


def same_headers(
    launch: Callable[..., Server], draw: Random, language: Mapping[str, str] | None = None
) -> None:
    """Small and large files have the same five headers, and they say what is so.

    `language` are variables of the environment that make a system write dates in another language.
    """
    # Half a day's work away from Greenwich.
    server = launch(environment={"TZ": "XST-5:30", **(language or {})})
    page = random_file(1000, name_of(draw, ".html"), server.root)
    film = sparse_file(THRESHOLD + draw.randrange(1, MiB), name_of(draw, ".mp4"), server.root, 1)

    def same(name: str) -> None:
        sizes = (draw.randrange(200, 9000), THRESHOLD + draw.randrange(1, 2 * MiB))
        _same_for(server, name, *(_file_named(server, draw, name, size) for size in sizes))

    _same_for(server, "page.html", page, page)  # else the clock has nothing to read
    with ThreadPoolExecutor(1) as pool, ExitStack() as at_end:
        stop = threading.Event()
        at_end.callback(stop.set)
        asking = [("GET", page.url), ("HEAD", page.url), ("GET", film.url)]
        clock = pool.submit(_clock_goes, server, stop, [*asking, ("GET", f"/{name_of(draw)}")])
        known = [name_of(draw, ending) for ending in TYPES]
        for name in draw.sample([*known, *ENDINGS], len(known) + len(ENDINGS)):
            same(name)
        for_all(typed_names(), draw, same, examples=25)
        clock.result()


ENDINGS = (
    "a.PDF",
    "a.b.Css",
    "html",
    "a",
    "a.html.gz",
    "a.html~",
    "a.",
    "v1.html/a",
    "v1.html/a.b",
)
"""Names whose type is easily got wrong."""


def typed_names() -> st.SearchStrategy[str]:
    """Names with several dots, endings in any letters, unknown ones, and none, in folders too."""
    endings = st.sampled_from(
        [*TYPES, *map(str.upper, TYPES), ".Html", ".jPg", "", "", ".qqxyzz", ".gz", ".", ".html~"]
    )
    stems = ["a", "a.b", "html", "pdf", "a.html", "b.css", "1.txt", "x.pdf", "v2.0", "a b"]
    folders = st.sampled_from(["", "", "v1.html/", "docs.css/"])
    return st.builds("{}{}{}".format, folders, st.sampled_from(stems), endings)


def types_of(name: str) -> set[str]:
    """The content types that are right for a name: they go by what follows the last dot."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return TYPES.get(f".{ending.lower()}", OTHER) if stem and dot else OTHER


def _file_named(server: Server, draw: Random, name: str, size: int) -> SampleFile:
    """A file of that name in a folder of its own, its bytes mostly zeros."""
    place = server.root / name_of(draw, "") / name
    place.parent.mkdir(parents=True)
    return sparse_file(size, place.name, place.parent, 1)


def _path_of(server: Server, file: SampleFile) -> str:
    return "/" + target_of(str(file.path.relative_to(server.root)))


def _same_for(server: Server, name: str, small: SampleFile, large: SampleFile) -> None:
    """A small and a large file of the same name."""
    other = types_of(name) is OTHER
    with promise(
        "five-headers",
        wrong_status="file",
        no_server="server",
        wrong_length="length",
        no_length="length",
        wrong_type="type-other" if other else "type",
        wrong_cache="cache",
        wrong_date="date-form",
        wrong_zone="date-zone",
        wrong_time="date-now",
    ):
        heads, problems = {}, {}
        for file in (small, large):
            sent = time.time()
            heads[file] = head = head_of(server, _path_of(server, file))
            if problem := problem_of(head, file, name, sent):
                problems[file] = problem
        story = "\n\n".join(
            f"Sent GET {_path_of(server, file)} ({size_text(file.size)}). Came back:\n\n"
            f"{shown(head.raw, 500)}"
            for file, head in heads.items()
        )
        if problems:
            file, problem = next(iter(problems.items()))
            alone = len(heads) == 2 and len(problems) == 1
            which = "the large" if file is large else "the small"
            where = f"In the answer for {which} file alone: " if alone else ""
            line = _curl_head(server, file)
            cause = "paths_differ" if alone and problem.cause in _OF_ONE_PATH else problem.cause
            fail(cause, f"{story}\n\n{where}{problem.what}.", line)
        for header in ("Content-Type", "Server"):
            told = [head.header(header.lower()) for head in heads.values()]
            if len(set(told)) > 1:
                what = f"{header} is {told[0]} for the small file, {told[1]} for the large one"
                fail("paths_differ", f"{story}\n\n{what}.", _curl_head(server, large))


_OF_ONE_PATH = {"header_missing", "no_date", "no_server", "wrong_cache", "wrong_type"}
"""What is wrong with one of two heads and right with the other: then that is the cause."""


def _curl_head(server: Server, file: SampleFile) -> str:
    return curl(server, _path_of(server, file), "-o /dev/null -D -")


def _clock_goes(server: Server, stop: threading.Event, asking: Sequence[tuple[str, str]]) -> None:
    """Whatever is asked for again and again, in each answer Date is the time of that answer."""
    seen: dict[tuple[str, str], tuple[str, float]] = {}
    deadline, passed = Deadline(OLDEST + 1.1), False
    while not passed and not stop.is_set():
        passed = deadline.passed  # before the last answers, which have so seen all of that time
        for method, path in asking:
            sent = time.time()
            head = head_of(server, path, method)
            date = head.header("date") or ""
            first, since = seen.setdefault((method, path), (date, sent))
            story = f"Sent {method} {path} several times. Came back:\n\n{shown(head.raw, 500)}"
            line = curl(server, path, "-I" if method == "HEAD" else "-o /dev/null -D -")
            with promise(
                "date-now", no_date="five-headers", wrong_date="date-form", wrong_zone="date-zone"
            ):
                if not date:
                    cause = "no_date"
                    fail(cause, f"{story}\n\nThere is no Date.", line)
                if not (problem := date_problem(date, sent, time.time())):
                    continue
                if problem.cause == "wrong_time" and date == first and sent - since > OLDEST:
                    told = f"{sent - since:.1f} s ago the same request had the same Date"
                    fail("stopped_clock", f"{story}\n\n{problem.what}; {told}.", line)
                fail(problem.cause, f"{story}\n\n{problem.what}.", line)
        stop.wait(0.25)


def head_of(server: Server, path: str, method: str = "GET") -> RawAnswer:
    """The head of an answer; of the body nothing is awaited. The check fails if none comes."""
    raw, closed = b"", True
    with suppress(OSError), connected(server, PATIENCE) as sock:
        sock.sendall(request_for(path).replace(b"GET", method.encode(), 1))
        raw, closed = _head_from(sock)
    answer = _only_head(raw, closed)
    if answer.problem:
        _no_answer(server, f"Sent {method} {path}.", answer, curl(server, path, "-i"))
    return answer


def _head_from(sock: socket.socket) -> tuple[bytes, bool]:
    """Bytes up to the empty line at least, or fewer if no more come; and whether it was closed."""
    raw = b""
    try:
        while b"\r\n\r\n" not in raw:
            piece = sock.recv(16 * KiB)
            if not piece:
                return raw, True
            raw += piece
    except OSError as error:
        return raw, not isinstance(error, TimeoutError)
    return raw, False


def _only_head(raw: bytes, closed: bool) -> RawAnswer:
    """An answer's head, taken apart; of what follows it nothing."""
    top, blank, _ = raw.partition(b"\r\n\r\n")
    return read_answer(top + blank, closed and not blank)


def _no_answer(server: Server, story: str, answer: RawAnswer, line: str) -> NoReturn:
    """End the check: what came back is no whole answer, for a reason that can be seen."""
    came = f"Came back:\n\n{shown(answer.raw)}\n\n" if answer.raw else ""
    problem = answer.problem[:1].upper() + answer.problem[1:]
    state = state_of(server)  # which takes a moment, in which an end becomes known
    fail(_cause_of(answer, server), f"{story} {came}{problem}.{state}", line)


def _cause_of(answer: RawAnswer, server: Server) -> str:
    """Why an answer is none: that the server has ended, or does not listen, comes first."""
    cause = cause_of(answer.fault, server)
    if cause in ("too_much_output", "whole_file"):
        return cause
    if not server.running:
        return "died"
    if not answer.raw:
        try:
            with connected(server):
                pass
        except OSError:
            return "elsewhere"
    return cause


def values_of(head: RawAnswer, name: str) -> list[str]:
    """The values of all lines of a header."""
    return [value for key, value in head.headers if key.lower() == name.lower()]


def problem_of(head: RawAnswer, file: SampleFile, name: str, sent: float) -> Problem | None:
    """What is wrong with the headers of a file of that name, asked for at `sent`; or None."""
    if head.status != 200:
        return Problem("wrong_status", f"the status is {head.status}, not 200")
    if not values_of(head, "Content-Length"):
        return Problem("no_length", "Content-Length is missing")
    if problem := _once(head, FIELDS):
        return problem
    if head.header("content-length") != str(file.size):
        return Problem("wrong_length", "Content-Length is not the size of the file")
    kind = (head.header("content-type") or "").partition(";")[0].strip().lower()
    if kind not in types_of(name):
        right = " or ".join(sorted(types_of(name)))
        return Problem("wrong_type", f"Content-Type should be {right}, for a name like {name}")
    if directives(head) != {"public", "max-age=3600"}:
        return Problem("wrong_cache", "Cache-Control should be public, max-age=3600")
    return date_problem(head.header("date") or "", sent, time.time())


def _once(head: RawAnswer, names: Sequence[str]) -> Problem | None:
    """Which of these headers does not stand there once, with a value."""
    for name in names:
        values = values_of(head, name)
        if len(values) > 1:
            return Problem("header_twice", f"{name} stands there {len(values)} times")
        if not values or not values[0]:
            causes = {"Server": "no_server", "Date": "no_date"}
            what = "is empty" if values else "is missing"
            return Problem(causes.get(name, "header_missing"), f"{name} {what}")
    return None


def directives(answer: RawAnswer) -> set[str]:
    """What all lines of `Cache-Control` say (RFC 9111, section 5.2), in lower case."""
    together = ",".join(values_of(answer, "Cache-Control"))
    return {each.strip().lower() for each in together.split(",")} - {""}


def date_problem(date: str, sent: float, came: float) -> Problem | None:
    """What is wrong with the `Date` of an answer to a request of `sent`, which had come by `came`.

    It is an IMF-fixdate, in GMT (RFC 9110, sections 5.6.7 and 6.6.1). Both times are in seconds
    since the epoch. What a Date says is a whole second, so one more is nobody's mistake.
    """
    with suppress(ValueError):  # no date at all, or one in another zone
        told = parsedate_to_datetime(date)
        if format_datetime(told, usegmt=True) == date:
            ahead = told.timestamp() - came
            behind = sent - told.timestamp()
            if ahead <= 1 and behind <= OLDEST + 1:
                return None
            side = "ahead" if ahead > 0 else "behind"
            off = max(ahead, behind)
            hours = round(off / 1800)  # zones are half hours and whole ones apart
            if hours and abs(off - hours * 1800) < 60:
                zone = "the server ran with the time zone UTC+5:30"
                return Problem("wrong_zone", f"Date is {off:.0f} s {side} ({zone})")
            return Problem("wrong_time", f"Date is {off:.1f} s {side}")
    return Problem("wrong_date", "Date is not written like Tue, 15 Nov 1994 08:12:31 GMT")


# HEAD


def head_is_like_get(server: Server, draw: Random) -> None:
    """HEAD has the status and the headers of GET, and nothing after them."""
    small = random_file(draw.randrange(2000, 9000), name_of(draw, ".html"), server.root)
    sizes = (0, THRESHOLD, THRESHOLD + 1, THRESHOLD + draw.randrange(2, MiB))
    files = [random_file(size, name_of(draw, ".pdf"), server.root) for size in sizes]
    huge = sparse_file(300 * GiB + draw.randrange(MiB), name_of(draw, ".mp4"), server.root, 1)
    (server.root / "folder").mkdir()
    gone = [f"/{name_of(draw)}", "/folder", "/%2e%2e/secret", f"/{300 * 'n'}"]
    paths = [file.url for file in (small, *files)]
    with ThreadPoolExecutor(len(paths) + len(gone)) as pool:
        jobs = [pool.submit(_head_of_path, server, path, small, True) for path in paths]
        jobs += [pool.submit(_head_of_path, server, path, small, False) for path in gone]
        for job in jobs:
            job.result()
    with promise("head-cheap"):
        try:
            _head_of_path(server, huge.url, small, True, "head-cheap")
        except CheckFailed as failure:
            failure.evidence += (
                f"\n\nThis file has 300 GiB. HEAD of files up to {size_text(2 * MiB)} was right."
            )
            if failure.cause in ("no_answer", "no_end"):
                failure.cause = "head_reads"
            raise


def _head_of_path(
    server: Server, path: str, next_one: SampleFile, is_file: bool, name: str = "head-fields"
) -> None:
    """HEAD for a path is like GET for it, and over the same connection the next one comes right."""
    get, line = head_of(server, path), curl(server, path, "--path-as-is -I")
    if is_file and get.status != 200:
        story = f"Sent GET {path}. Came back:\n\n{shown(get.raw)}"
        fail("wrong_status", f"{story}\n\nThe status should be 200.{state_of(server)}", line)
    story, raw, closed = f"Sent HEAD {path}.", b"", True
    with (
        promise(name, head_body="head-no-body", out_of_step="head-no-body"),
        suppress(OSError),
        connected(server, PATIENCE) as sock,
    ):
        request = f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        sock.sendall(request)
        raw, closed = _head_from(sock)
        head, extra = _only_head(raw, closed), raw.partition(b"\r\n\r\n")[2]
        if head.problem:
            _no_answer(server, story, head, line)
        with suppress(OSError):
            sock.settimeout(QUIET)
            extra = extra or sock.recv(KiB)
        story = f"{story} Came back:\n\n{shown(head.raw + extra, 500)}"
        if extra:
            what = "After the headers came more: HEAD is answered without a body"
            fail("head_body", f"{story}\n\n{what}.", by_hand([request]))
        _expect_like(get, head, f"{story}\n\nFor GET came\n\n{shown(get.raw, 500)}", line)
        _expect_in_step(server, sock, next_one, story, request)
    if not raw:
        _no_answer(server, story, read_answer(b"", closed=True), line)


def _expect_like(get: RawAnswer, head: RawAnswer, story: str, line: str) -> None:
    if head.status != get.status:
        fail("head_differs", f"{story}\n\nThe status should be {get.status}.", line)
    for name in FIELDS:
        told, wanted = values_of(head, name), values_of(get, name)
        # A length of an error need not be told (RFC 9110, section 8.6).
        if name == "Content-Length" and get.status != 200 and not told:
            continue
        if name == "Date":  # the two may have been answered in two different seconds
            told, wanted = [each[25:] for each in told], [each[25:] for each in wanted]
        if told != wanted:
            fail("head_differs", f"{story}\n\n{name} is not the same.", line)


def _expect_in_step(
    server: Server, sock: socket.socket, file: SampleFile, story: str, request: bytes
) -> None:
    """What is asked for next over the same connection comes right, unless it has been closed."""
    second = ask_over(sock, [request_for(file.url)])
    right = (second.status, second.body) == (200, file.path.read_bytes())
    if second.raw and (second.problem or not right):
        fail(
            "out_of_step" if second.fault in (None, "malformed") else _cause_of(second, server),
            f"{story}\n\nThen sent GET {file.url} over the same connection. Came back:\n\n"
            f"{shown(second.raw)}\n\n{second.problem or 'That is not the file'}.{state_of(server)}",
            by_hand([request, request_for(file.url)], 0.5),
        )


# ERRORS


def real_errors(server: Server, draw: Random) -> None:
    """What can't be served is refused in a whole answer that nobody keeps for an hour."""
    content = draw.randbytes(draw.randrange(2000, 3000))
    name = name_of(draw, ".html")
    (server.root / name).write_bytes(content)
    large = random_file(THRESHOLD + draw.randrange(1, MiB), name_of(draw, ".pdf"), server.root)
    (server.root / "folder" / "inner.html").mkdir(parents=True)
    os.mkfifo(server.root / (pipe := name_of(draw)))
    os.mknod(server.root / (plug := name_of(draw, ".html")), 0o600 | stat.S_IFSOCK)
    with promise("file"):
        expect_answer(server, f"/{name}", 200, content)

    no_file, refused, some_error = range(404, 405), range(400, 500), range(400, 600)
    for gone in (name_of(draw, ".html"), f"folder/{name_of(draw)}", f"{name}/{name_of(draw)}"):
        expect_error(server, "no-file", f"/{gone}", no_file, "there is no such file")
    for path, what in (
        ("/folder", "that is a folder"),
        ("/folder/", "that is a folder"),
        ("/folder/inner.html", "that is a folder"),
        ("/", "that is a folder"),
        (f"/{pipe}", "that is a named pipe (made with mkfifo), not a file"),
        (f"/{plug}", "that is a socket, not a file"),
    ):
        expect_error(server, "not-regular", path, refused, what)
    for path, what in (
        (f"/{300 * 'n'}", "no file can have so long a name"),
        (f"/folder/{300 * 'n'}/page.html", "no folder can have so long a name"),
        ("/null%00.html", "no file's name can have a NUL in it"),
        (f"/{name}%00", "no file's name can have a NUL in it"),
        ("/caf%e9.html", "that name is not UTF-8"),
    ):
        expect_error(server, "impossible-name", path, some_error, what)
    _leads_out(server, draw)
    empty = random_file(0, name_of(draw, ".html"), server.root)
    with promise("next-request"):
        stays_in_step(server, name, content, [empty.name, "folder", name_of(draw)])
    small = SampleFile(server.root / name, len(content))
    for file, method in draw.sample([(small, "GET"), (large, "GET"), (large, "HEAD")], 3):
        _cannot_be_opened(server, file, method)
        with promise("serves-on"):
            try:
                expect_answer(server, f"/{name}", 200, content)
                expect_answer(server, large.url, 200, large.path.read_bytes())
            except CheckFailed as failure:
                failure.evidence = f"After errors that were answered right:\n\n{failure.evidence}"
                raise


def _leads_out(server: Server, draw: Random) -> None:
    """What leads out of the root is refused, however its dots and slashes are written."""
    folder = name_of(draw, "")
    (server.root / folder).mkdir()
    secret = server.root.parent / name_of(draw, ".secret")
    secret.write_bytes(b"not for clients")

    def refused(target: str) -> None:
        path, why = f"/{target}", "that leads out of the root"
        answer = ask(server, [request_for(path)], patience=PATIENCE)
        line = curl(server, path, "--path-as-is -i")
        if b"not for clients" in answer.raw:
            story = f"GET {path} gave out a file outside the root:\n\n{shown(answer.raw)}"
            fail("traversal", story, line)
        _is_error(server, answer, f"Sent GET {path}", range(400, 500), why, line)

    with promise("outside", **_OF_ALL_ERRORS):
        stays_inside(server, draw)
        ways = loop_checks.ways_out(folder, server.root.name, secret.name)
        for_all(ways, draw, refused, examples=30)


_OF_ALL_ERRORS = {
    "bare_error": "error-whole",
    "unreadable": "error-whole",
    "header_missing": "error-whole",
    "header_twice": "error-whole",
    "no_date": "error-whole",
    "no_server": "error-whole",
    "wrong_date": "error-whole",
    "wrong_zone": "error-whole",
    "wrong_time": "error-whole",
    "no_end": "error-whole",
    "cut_short": "error-whole",
    "malformed": "error-whole",
    "too_long": "error-whole",
    "kept_error": "error-not-kept",
}
"""Which promise is broken where an error has the right status, and is wrong in another way."""


def expect_error(server: Server, name: str, path: str, statuses: range, why: str) -> None:
    """A path is refused in a whole answer with one of these statuses, as promise `name` says."""
    shortened = path if len(path) < 80 else f"{path[:20]}... ({len(path)} letters)"
    with promise(name, **_OF_ALL_ERRORS):
        answer = ask(server, [request_for(path)], patience=PATIENCE)
        line = curl(server, path, "--path-as-is -i")
        try:
            _is_error(server, answer, f"Sent GET {shortened}", statuses, why, line)
        except CheckFailed as failure:
            if name == "not-regular" and failure.cause == "no_answer" and server.running:
                failure.cause = "not_at_once"
            raise


def _is_error(
    server: Server, answer: RawAnswer, sent: str, statuses: range, why: str, line: str
) -> None:
    came = time.time()
    story = f"{sent}: {why}. Came back:\n\n{shown(answer.raw, 500)}\n\n"
    if not answer.raw:
        _no_answer(server, f"{sent}: {why}.", answer, line)

    def problem() -> Problem | None:
        if answer.status and answer.status not in statuses:
            some = f"from {statuses[0]} to {statuses[-1]}" if len(statuses) > 1 else "404"
            return Problem("wrong_status", f"The status should be {some}")
        if answer.problem:
            surplus = answer.fault == "too_many"
            cause = "too_long" if surplus else _cause_of(answer, server)
            return Problem(cause, answer.problem)
        if not answer.ended:
            return Problem("no_end", f"After {PATIENCE:g} s the answer had no end")
        if not answer.body:
            return Problem("bare_error", "There is no body: a person would see an empty page")
        if found := _once(answer, [name for name in FIELDS if name != "Cache-Control"]):
            return found
        kind = (answer.header("content-type") or "").partition(";")[0].strip().lower()
        if not READABLE.fullmatch(kind):
            what = f"{kind!r} is neither text nor JSON: a browser would not show the body"
            return Problem("unreadable", what)
        if bad := date_problem(answer.header("date") or "", came - PATIENCE, came):
            return bad
        if "max-age=3600" in directives(answer):
            what = "Cache-Control lets everybody keep this answer for an hour"
            return Problem("kept_error", what)
        return None

    if found := problem():
        fail(found.cause, f"{story}{found.what}.{state_of(server)}", line)


def _cannot_be_opened(server: Server, file: SampleFile, method: str = "GET") -> None:
    """A file that is there but can't be opened, for want of descriptors, is a server's error."""
    comes_to_rest(server)  # the connection of the last one has been put away
    before = len(descriptors(server.keeper))
    sent = (
        f"Left the server without a free descriptor, so that open fails. Sent {method} {file.url}"
    )
    with (
        promise("cannot-open", head_body="head-no-body", **_OF_ALL_ERRORS),
        suppress(OSError),
        connected(server, PATIENCE) as sock,
    ):
        deadline = Deadline(PATIENCE)
        while len(descriptors(server.keeper)) <= before and not deadline.passed:
            time.sleep(0.01)
        comes_to_rest(server)  # it has done with the connection what it does at first
        request = request_for(file.url).replace(b"GET", method.encode(), 1)
        with no_descriptors(server):
            if method == "HEAD":
                _refused_without_a_body(server, sock, request, sent)
                return
            answer = ask_over(sock, [request], patience=PATIENCE)
        if answer.status == 200 and answer.body == file.path.read_bytes():
            return  # it did not need one, which is no mistake
        why = "the file is there, and the server fails to open it"
        if answer.status == 200:
            story = f"{sent}: {why}. Came back:\n\n{shown(answer.raw, 500)}\n\n"
            fail("head_first", f"{story}{answer.problem or 'And then nothing'}.{state_of(server)}")
        _is_error(server, answer, sent, range(500, 600), why, "")
        return
    with promise("cannot-open"):
        _no_answer(server, f"{sent}.", read_answer(b"", closed=True), "")


def _refused_without_a_body(server: Server, sock: socket.socket, request: bytes, sent: str) -> None:
    """The answer to HEAD, if it is an error, is one of the server's, and ends after its head."""
    sock.sendall(request)
    raw, closed = _head_from(sock)
    head, extra = _only_head(raw, closed), raw.partition(b"\r\n\r\n")[2]
    if head.problem:
        _no_answer(server, f"{sent}.", head, "")
    with suppress(OSError):
        sock.settimeout(QUIET)
        extra = extra or sock.recv(KiB)
    story = f"{sent}. Came back:\n\n{shown(head.raw + extra, 500)}\n\n"
    if extra:
        fail("head_body", f"{story}After the headers came more.{state_of(server)}")
    if head.status != 200 and head.status not in range(500, 600):
        fail("wrong_status", f"{story}The status should be from 500 to 599.{state_of(server)}")


@contextmanager
def no_descriptors(server: Server) -> Iterator[None]:
    """For a while no process of a server can open anything (prlimit(2), `RLIMIT_NOFILE`).

    What is open stays open, and can be used.
    """
    try:
        limits = psutil.Process(server.pid).rlimit(psutil.RLIMIT_NOFILE)
    except psutil.Error:  # it has ended, and will be found so
        yield
        return
    _limit_descriptors(server, (3, limits[1]))  # one below it could not be polled (poll(2), EINVAL)
    try:
        yield
    finally:
        _limit_descriptors(server, limits)


def _limit_descriptors(server: Server, limits: tuple[int, int]) -> None:
    for member in group_members(server.keeper):
        if member != server.keeper:
            with suppress(psutil.Error):
                psutil.Process(member).rlimit(psutil.RLIMIT_NOFILE, limits)


# HOLD


def holds_little(server: Server, draw: Random, clients: int = 32, each: int = 4 * MiB) -> None:
    """Large begins at a megabyte: what is larger is held in part only, and nothing is hoarded."""
    with promise("file"):
        warm_up(server, draw)
    baseline = held_by(server)
    # None of them is small, though a few of the first would fit into memory.
    for size in (too_large_for_buffers(draw, clients), draw.randrange(24 * MiB, 200 * MiB), TiB):
        file = sparse_file(size, name_of(draw), server.root, 2, draw.randrange(99))
        with promise("file", whole_file="cup"):
            right_alone(server, file, MiB)
        with promise("memory-waiting"):
            hold(server, file, clients, "stalled", MiB, baseline, clients * each)
    with promise("kept"):
        _keeps_little(server, draw, baseline)


def too_large_for_buffers(draw: Random, clients: int) -> int:
    """A size, in bytes, of files of which clients take 1 MiB and stop, and which stay in memory.

    The kernel takes a part of a file off the server's hands. Of one that is no larger than this
    part and what the clients took, nothing would be held, however the server reads it.
    """
    taken = MiB + 2 * connection_buffer(clients)
    return max(8 * MiB, taken) + draw.randrange(MiB // 4)


def _keeps_little(server: Server, draw: Random, baseline: int) -> None:
    """Many files are asked for, one after the other, each once: who keeps them all, hoards."""
    folder = server.root / name_of(draw, "")
    folder.mkdir()
    # Enough of either to be seen where the others are not kept.
    smalls = [draw.randrange(950 * KiB, MiB) for _ in range(150)]
    sizes = [*smalls, *(draw.randrange(7 * MiB, 9 * MiB) for _ in range(18))]
    asked, number, failed = 0, 0, RawAnswer(b"", 0, [], b"", "", ended=True)
    # All of them lie there before the first is asked for: a careful server keeps no new file, since
    # that may change again without looking different.
    files = [
        sparse_file(size, f"{number}.png", folder, 1, draw.randrange(2**32))
        for number, size in enumerate(draw.sample(sizes, len(sizes)))
    ]
    with traced(server) as trace:
        for file in files:
            size, number, asked = file.size, number + 1, asked + file.size
            failed = _take(server, f"/{folder.name}/{file.name}", size)
            if failed.problem:
                break
        held = least_held(server, baseline + CACHED + SLACK)
    story = f"Asked for {number} files of 1 to 9 MiB ({size_text(asked)} in all), each once"
    if held > baseline + CACHED + SLACK or out_of_memory(server.log()):
        more = f"{story}. Then the server held {size_text(held - baseline)} more than before"
        kept = f"{size_text(CACHED)} may be kept between requests"
        fail("hoards", f"{more}; {kept}.\n{trace.line}{log_of(server)}")
    if failed.problem:
        story = f"{story}. Of the last one {failed.problem}.\n{trace.line}{state_of(server)}"
        cause = "wrong_status" if failed.status not in (0, 200) else _cause_of(failed, server)
        fail(cause, story, curl(server, f"/{folder.name}/{file.name}"))


def _take(server: Server, path: str, size: int) -> RawAnswer:
    """Download a file and look at its status and its length alone; the answer's head."""
    raw, closed, left, buffer = b"", True, size, bytearray(256 * KiB)
    try:
        with connected(server, PATIENCE) as sock:
            sock.sendall(request_for(path))
            raw, closed = _head_from(sock)
            left -= len(raw.partition(b"\r\n\r\n")[2])
            while left > 0 and (count := sock.recv_into(buffer)):
                left -= count
    except OSError as error:
        closed = not isinstance(error, TimeoutError)
    head = _only_head(raw, closed)
    if head.problem:
        return head
    if head.status != 200:
        return replace(head, problem=f"the status was {head.status}")
    if left > 0:
        fault: Failure = "cut_short" if closed else "unfinished"
        return replace(head, problem=f"{size_text(left)} did not come", fault=fault)
    return head


# RACE


def survives_changes(server: Server, draw: Random) -> None:
    """A file may change between two requests, while it is sent, and before it is opened."""
    flights = draw.sample(list(_CHANGED), len(_CHANGED))
    small, large = 300 * KiB, 3 * MiB
    lengths = [(9 * KiB, small), (small, large), (large, small), (large, 2 * MiB), (small, 700)]
    with promise("file"):
        warm_up(server, draw)
        alone = dense_file(3 * MiB, name_of(draw, ".zip"), server.root, draw)
        right_alone(server, alone, alone.size)
    for change in flights:  # one after the other: which of them ended the server is the question
        _changed_in_flight(server, draw, change)
    with ThreadPoolExecutor(len(lengths)) as pool:
        jobs = [
            pool.submit(_changed_before_open, server, Random(draw.random()), each)
            for each in lengths
        ]
        for job in jobs:
            job.result()
    _changed_between(server, draw)
    with promise("lives-on"):
        warm_up(server, draw)


def _changed_between(server: Server, draw: Random) -> None:
    """The second of two requests gets the file as it is then, or learns that there is none."""
    file = server.root / name_of(draw, ".css")
    first, second, third = (draw.randbytes(5000) for _ in range(3))
    steps: list[tuple[str, bytes | None]] = [
        ("there is", first),
        ("was replaced by another one of the same length", second),
        ("was replaced by one of the same length, which is an hour older", third),
        ("was rewritten in its place, and is longer", draw.randbytes(6000)),
        ("was replaced by a large one", draw.randbytes(THRESHOLD + draw.randrange(1, 9999))),
        ("was removed", None),
        ("is there again", first),
    ]
    seen: list[bytes] = []
    for what, content in steps:
        if content is None:
            file.unlink()
        elif "in its place" in what:
            file.write_bytes(content)
        else:
            other = server.root / f"new-{file.name}"
            other.write_bytes(content)
            if "older" in what:
                os.utime(other, (time.time() - 3600,) * 2)
            other.replace(file)
        with promise("changed-between"):
            for _ in range(2):
                _as_it_is(server, file, content, what, seen)
        seen += [content] if content is not None else []
        time.sleep(0.05)  # a change that no clock of a file system sees is nobody's fault


def _as_it_is(
    server: Server, file: Path, content: bytes | None, what: str, seen: Sequence[bytes]
) -> None:
    """A file that was asked for before is asked for again."""
    path = f"/{file.name}"
    answer = ask(server, [request_for(path)])
    story = f"Asked for {path} again and again. Then the file {what}. Sent GET {path}. Came back:"
    story = f"{story}\n\n{shown(answer.raw)}\n\n"
    kept = answer.status == 200 and answer.body in seen and answer.body != content
    if kept or (seen and content is not None and answer.status == 404):
        old = "The old content came" if kept else "There is such a file now"
        fail("stale", f"{story}{old}.{state_of(server)}", curl(server, path))
    if content is not None:
        expect_answer(server, path, 200, content)
        length = head_of(server, path, "HEAD").header("content-length")
        if length != str(len(content)):
            told = f"For HEAD came Content-Length: {length}, and the file has {len(content)} bytes"
            fail("stale", f"{story}{told}.", curl(server, path, "-I"))
    elif answer.status != 404:
        fail("wrong_status", f"{story}The status should be 404.", curl(server, path, "-i"))


_CHANGED = {
    "shrinks": "shrank to 16 MiB",
    "is emptied": "was emptied",
    "grows": "grew by 3 MiB",
    "is replaced": "was replaced by another one",
}


def _changed_in_flight(server: Server, draw: Random, change: str) -> None:
    """A client takes a part of a large file and waits; the file changes; the client goes on."""
    with promise(
        {"is replaced": "replaced", "is emptied": "shrinks"}.get(change, change),
        dies_on_change="lives-on",
        died="lives-on",
    ):
        _changes_in_flight(server, draw, change)


def _changes_in_flight(server: Server, draw: Random, change: str) -> None:
    old = draw.randbytes(MiB) * 24 + draw.randbytes(draw.randrange(99, 9999))
    file = server.root / name_of(draw, ".zip")
    file.write_bytes(old)
    line = curl(server, f"/{file.name}", "--limit-rate 1M -o got")
    with waiting_client(server, f"/{file.name}") as (sock, came):
        if change == "shrinks":
            # By whole pages: what sendfile has given to the socket is the page itself.
            os.truncate(file, 16 * MiB)
        elif change == "is emptied":
            os.truncate(file, 0)
        elif change == "grows":
            with file.open("ab") as appended:
                appended.write(draw.randbytes(3 * MiB))
        else:
            other = server.root / name_of(draw)
            other.write_bytes(draw.randbytes(MiB) * 24)
            other.replace(file)
        body, ended = _rest_of(sock, came, len(old))
    story = (
        f"A client took 1 MiB of /{file.name} ({len(old)} bytes) and waited; then the file "
        f"{_CHANGED[change]}, and the client took the rest. "
        f"It got {len(body)} bytes of body"
    )
    time.sleep(0.1)  # its end would be known by then
    if not server.running:
        fail("dies_on_change", f"{story}.{state_of(server)}", line)
    same = same_length(body, old)
    if same < min(len(body), len(old)):
        cause = "mixed_versions" if change == "is replaced" else "padded"
        what = f"; from byte {same} on they were never in the file that the answer began with"
        fail(cause, f"{story}{what}.{state_of(server)}", line)
    if len(body) > len(old):
        fail("past_length", f"{story}: more than Content-Length says.{state_of(server)}", line)
    if len(body) < len(old) and change not in ("shrinks", "is emptied"):
        what = "and no more" if ended else f"and for {PATIENCE:g} s no more"
        cause = "cut_short" if ended else "no_end"
        fail(cause, f"{story}, {what}.{state_of(server)}", line)
    # Of a map the kernel drops some bytes before the page that is gone (send(2), EFAULT).
    if change == "shrinks" and len(body) < 15 * MiB:
        what = f"; the file still has {16 * MiB} bytes"
        fail("gives_up", f"{story}{what}.{state_of(server)}", line)
    if len(body) < len(old) and not ended:
        what = f"; for {PATIENCE:g} s no more came, and the connection stayed open"
        fail("left_waiting", f"{story}{what}.{state_of(server)}", line)


def same_length(body: bytes | bytearray, wanted: bytes) -> int:
    """How many bytes at the beginning are the same."""
    if wanted.startswith(body) or body.startswith(wanted):
        return min(len(body), len(wanted))
    low, high = 0, min(len(body), len(wanted))
    while high - low > 1:  # the beginnings of length `low` are the same, those of `high` are not
        middle = (low + high) // 2
        low, high = (middle, high) if body[:middle] == wanted[:middle] else (low, middle)
    return low


@contextmanager
def waiting_client(server: Server, path: str) -> Iterator[tuple[socket.socket, bytes]]:
    """A client that took 1 MiB of an answer's body and has not closed; with what it took."""
    with PatientSocket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KiB)
        sock.settimeout(PATIENCE)
        raw, closed = b"", False
        try:
            sock.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            while len(raw) < MiB and not closed:
                piece = sock.recv(64 * KiB)
                raw, closed = raw + piece, not piece
        except OSError as error:
            closed = not isinstance(error, TimeoutError)
        answer = read_answer(raw, closed)
        if answer.problem or len(answer.body) < MiB // 2:
            if not answer.problem:
                problem = f"No more came within {PATIENCE:g} s"
                answer = replace(answer, problem=problem, fault="unfinished")
            _no_answer(server, f"Sent GET {path}.", answer, curl(server, path))
        yield sock, answer.body


def _rest_of(sock: socket.socket, came: bytes, wanted: int) -> tuple[bytes, bool]:
    """The body, and what comes within QUIET s after `wanted` bytes; whether the server closed."""
    body, ended = bytearray(came), False
    with suppress(TimeoutError):
        while not ended and len(body) < 2 * wanted:
            sock.settimeout(PATIENCE if len(body) < wanted else QUIET)
            try:
                piece = sock.recv(256 * KiB)
            except ConnectionError:
                piece = b""
            body += piece
            ended = not piece
    return bytes(body), ended


def _changed_before_open(server: Server, draw: Random, lengths: tuple[int, int]) -> None:
    """A file is rewritten when the server may have looked at it, and is about to open it."""
    with promise("changed-before-open"):
        _changes_before_open(server, draw, *lengths)


def _changes_before_open(server: Server, draw: Random, before: int, after: int) -> None:
    file = random_file(before + draw.randrange(99), name_of(draw, ".js"), server.root)
    new = draw.randbytes(after + draw.randrange(99))
    answer, broken_off = read_answer(b"", closed=True), False
    with Lease(file.path) as lease, suppress(OSError), connected(server, PATIENCE) as sock:
        sock.sendall(f"GET {file.url} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        if not lease.awaited(sock, PATIENCE):
            return  # it does not open the file, or nobody can hold it up here
        lease.rewrite(new)
        lease.let_go()
        deadline = Deadline(PATIENCE)
        answer = ask_over(sock, [], patience=PATIENCE)
        broken_off = not answer.raw and not deadline.passed
    story = (
        f"Sent GET {file.url} ({file.size} bytes). When the server was about to open the file, "
        f"it was rewritten; it has {len(new)} bytes now"
    )
    line = curl(server, file.url, "-i")
    if not answer.raw:
        if broken_off and server.running:
            return  # it has seen the change
        _no_answer(server, f"{story}.", answer, line)
    story = f"{story}. Came back:\n\n{shown(answer.raw, 400)}\n\n"
    told, body = answer.header("content-length") or "", answer.body
    short = told.isdecimal() and int(told) > len(body)
    if 500 <= answer.status < 600 and answer.ended:
        return
    if answer.status != 200 or not told.isdecimal():
        fail("wrong_status", f"{story}It should be the file, or an error of the server's.", line)
    if not new.startswith(body):
        at = same_length(body, new)
        many = f"{len(body) - at} bytes" if at == len(new) else f"what begins at byte {at}"
        cause = "past_length" if len(body) > int(told) else "padded"
        fail(cause, f"{story}Of the {len(body)} bytes of body, {many} are not the file's.", line)
    if len(body) > int(told):
        fail("past_length", f"{story}{answer.problem}.", line)
    if short and "only" not in answer.problem:
        fail("left_waiting", f"{story}{int(told) - len(body)} bytes never come.", line)
    if not short and len(body) < len(new):
        what = f"The first {len(body)} of {len(new)} bytes came, and pass for the whole file"
        fail("stale_length", f"{story}{what}.", line)


class Lease:
    """Holds up whoever opens a file, until it is let go (fcntl(2), `F_SETLEASE`; Linux).

    A look at the file, with stat(2), is not held up. Without leases nobody is.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR)

    def __enter__(self) -> Lease:
        import fcntl

        with suppress(OSError):  # not every file system has them
            # The kernel tells the holder by a signal. This one is ignored by default.
            fcntl.fcntl(self._descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        return self

    def __exit__(self, *exc: object) -> None:
        self.let_go()
        os.close(self._descriptor)

    def awaited(self, sock: socket.socket, timeout: float) -> bool:
        """Whether somebody is held up before `timeout` seconds and before `sock` has an answer."""
        import fcntl

        deadline = Deadline(timeout)
        if fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) == fcntl.F_UNLCK:
            return False
        while not deadline.passed:
            if fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) != fcntl.F_WRLCK:
                return True
            if select.select([sock], [], [], 0.002)[0]:
                return False
        return False

    def rewrite(self, content: bytes) -> None:
        """Give the file another content, in place."""
        os.ftruncate(self._descriptor, len(content))
        os.pwrite(self._descriptor, content, 0)

    def let_go(self) -> None:
        """Let the held up go on; harmless when nobody is."""
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


# MIXED


CROWD = (
    (".html", 20_000, 50),
    (".css", 100_000, 15),
    (".js", 100_000, 15),
    (".pdf", 5_000_000, 20),
)
"""Endings, sizes in bytes, and how many users ask for such a file."""


def serves_a_mixed_crowd(server: Server, draw: Random) -> None:
    """A hundred users at once, of pages, styles, scripts and documents, get what they asked for.

    A head that is wrong for one who comes alone is not judged here; other bytes are.
    """
    with promise("hundred"):
        _crowd_is_served(server, draw)


def _crowd_is_served(server: Server, draw: Random) -> None:
    users: list[_User] = []
    together = threading.Barrier(sum(count for _, _, count in CROWD))
    for ending, size, count in CROWD:
        for turn in range(4):
            file = random_file(size + turn, name_of(draw, ending), server.root, turn)
            with promise("file"):
                right_alone(server, file, file.size)
            alone = problem_of(head_of(server, file.url), file, file.path.name, time.time() - 1)
            users += [_User(file, alone is None, together) for _ in range(turn, count, 4)]
    with traced(server) as trace, ThreadPoolExecutor(len(users)) as pool:
        visits = []
        for user in draw.sample(users, len(users)):
            visits.append(pool.submit(user.visit, server))
            time.sleep(0.002)  # not all at once: that would test the length of the accept queue
        deadline = Deadline(2 * TOGETHER)
        while wait(visits, deadline.turn).not_done:
            if deadline.passed:  # the one who is missing makes the others leave
                together.abort()
    failed = [user for user in users if user.cause]
    if not failed:
        return
    first = next((user for user in failed if user.story), failed[0])
    cause, state = first.cause, state_of(server)
    if out_of_memory(server.log()):
        cause = "whole_file"
    elif not server.running:
        cause = "died"
    fail(
        cause,
        "Each of the files arrived right when a client was alone. Then a hundred clients came at "
        "once: 50 for pages of 20 KB, 30 for styles and scripts of 100 KB, 20 for documents of "
        "5 MB. Each waited with its first bytes until all had theirs. "
        f"GET {first.file.url}: {first.story or 'it waited in vain.'}\n{trace.line}{state}",
        curl(server, first.file.url, "-D - -o got"),
    )


@dataclass
class _User:
    """One of a crowd, who takes the first bytes, waits for all the others, and takes the rest."""

    file: SampleFile
    looks_at_head: bool
    together: threading.Barrier
    began: bool = False
    """Whether a byte of the answer has come."""
    cause: str = ""
    """Why the visit failed; empty if it did not."""
    story: str = ""
    """What happened; empty for one who only waited for others that failed."""

    def visit(self, server: Server) -> None:
        """Ask for the file, and find out what becomes of it."""
        try:
            with connected(server, TOGETHER) as sock:
                self.together.wait()  # so that all ask in the same moment
                self._take(sock)
        except threading.BrokenBarrierError:
            self.cause = "one_at_a_time"
        except TimeoutError:
            if self.began:
                self._fail("no_end", f"after its first bytes nothing came for {TOGETHER:g} s.")
            else:
                self._fail("one_at_a_time", f"nothing came for {TOGETHER:g} s.")
        except OSError as error:
            cause = "cut_short" if self.began else "no_answer"
            self._fail(cause, f"the connection broke ({type(error).__name__}).")

    def _take(self, sock: socket.socket) -> None:
        sent, raw = time.time(), b""
        sock.sendall(request_for(self.file.url))
        while b"\r\n\r\n" not in raw and (piece := sock.recv(16 * KiB)):
            self.began, raw = True, raw + piece
        head = _only_head(raw, closed=True)
        body = bytearray(raw.partition(b"\r\n\r\n")[2])
        if head.problem:
            cause = "cut_short" if head.fault == "cut_short" else "malformed"
            self._fail(cause if raw else "no_answer", f"{head.problem}.")
            return
        if self.looks_at_head:
            problem = problem_of(head, self.file, self.file.path.name, sent)
            if problem:
                self._fail("mixed_up", f"{problem.what}. Came:\n\n{shown(head.raw, 500)}\n")
                return
        self.together.wait()
        wanted = self.file.path.read_bytes()
        while len(body) < len(wanted) and (piece := sock.recv(256 * KiB)):
            body += piece
        if (same := same_length(body, wanted)) < len(body):
            self._fail("mixed_up", f"byte {same} of the body is not the file's.")
        elif same < len(wanted):
            self._fail("cut_short", f"{same} of {len(wanted)} bytes came.")

    def _fail(self, cause: str, story: str) -> None:
        self.cause, self.story = cause, story
        self.together.abort()


# DROP


def survives_departures(server: Server, draw: Random) -> None:
    """Clients that have their answer, or leave before they have it, leave nothing behind."""
    small = random_file(KiB, name_of(draw), server.root)
    medium = random_file(THRESHOLD, name_of(draw), server.root)
    large = random_file(2 * THRESHOLD, name_of(draw), server.root)
    begun = b"GET /begun.html HT"
    with promise("file"):
        for file in (small, medium, large):
            right_alone(server, file, file.size)
    with promise("has-its-answer"):
        _answers_leave_nothing(server, [small, medium, large], f"/{name_of(draw)}")
    with promise("leaves-request"):
        checks.leave_nothing(
            server,
            lambda: loop_checks.leave_while_asking(server, (b"", begun), each=6),
            small,
            large,
            "24 clients connected and left, some without a word and some in the first line of "
            "their request, by closing the connection or with a reset",
            by_hand([begun], leaves=True),
            24,
            watch=0.5,
        )
    with promise("leaves-answer"):
        checks.survives_departures(server, draw, clients=40, also=[THRESHOLD], watch=0.5)


def _answers_leave_nothing(server: Server, files: Sequence[SampleFile], gone: str) -> None:
    """What a complete answer took is put away: of GET and HEAD, of small and large, of errors."""
    asked = [(method, path) for path in (*(f.url for f in files), gone) for method in _METHODS]

    def exceeds(some: Sequence[tuple[str, str]]) -> str:
        """What is left of eight answers of each; empty if nothing is."""
        before = checks.settled_belongings(server, files[-1], None)
        for method, path in some:
            for _ in range(8):
                _ask_and_close(server, method, path)
        after = checks.settled_belongings(server, files[-1], before)
        return (
            ""
            if not after.exceeds(before)
            else (
                f"the server had {after.descriptors} descriptors and {after.children} child "
                f"processes; before it had {before.descriptors} and {before.children}"
            )
        )

    for method, path in asked:  # what is made once, such as a pool, is there from now on
        _ask_and_close(server, method, path)
    if not exceeds(asked):
        return
    for method, path in asked:
        if told := exceeds([(method, path)]):
            fail(
                "leaks_always",
                f"{method} {path} was sent eight times, each answer taken to its end. 5 s later "
                f"{told}.{log_of(server)}",
                curl(server, path, "-I" if method == "HEAD" else "-o /dev/null"),
            )


_METHODS = ("GET", "HEAD")


def _ask_and_close(server: Server, method: str, path: str) -> None:
    """One request, its answer taken to its end, whatever it says."""
    with suppress(OSError), connected(server, PATIENCE) as sock:
        sock.sendall(request_for(path).replace(b"GET", method.encode(), 1))
        raw, closed = _head_from(sock)
        length = _only_head(raw, closed).header("content-length") or ""
        left = int(length) - len(raw.partition(b"\r\n\r\n")[2]) if length.isdecimal() else 0
        while method == "GET" and left > 0 and (piece := sock.recv(256 * KiB)):
            left -= len(piece)
