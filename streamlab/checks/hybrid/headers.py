"""Lab 05: the same headers on both sides of the threshold, and for HEAD."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from random import Random

from hypothesis import strategies as st

from streamlab.checks.evidence import by_hand, curl, shown, state_of
from streamlab.checks.examples import for_all
from streamlab.checks.exchange import ask_over, connected, head_over, request_for
from streamlab.checks.hybrid.common import (
    FIELDS,
    OLDEST,
    QUIET,
    THRESHOLD,
    cause_of_no_answer,
    date_problem,
    fail_without_answer,
    head_of,
    problem_of,
    target_of,
    types_of,
    values_of,
)
from streamlab.checks.media_types import OTHER, TYPES
from streamlab.checks.outcome import CheckFailed, fail, promise
from streamlab.checks.probes.common import folder_in, name_of
from streamlab.checks.waits import SHORT_ANSWER
from streamlab.files import GiB, KiB, MiB, SampleFile, random_file, size_text, sparse_file
from streamlab.http.answer import RawAnswer, read_answer
from streamlab.process.patience import Deadline
from streamlab.process.server import Server


def same_headers(
    launch: Callable[..., Server], rng: Random, language: Mapping[str, str] | None = None
) -> None:
    """Small and large files have the same five headers, with right values.

    `language` has the environment variables that make a system write dates in another language.
    """
    # Five and a half hours from GMT.
    server = launch(environment={"TZ": "XST-5:30", **(language or {})})
    page = random_file(1000, name_of(rng, ".html"), server.root)
    film = sparse_file(THRESHOLD + rng.randrange(1, MiB), name_of(rng, ".mp4"), server.root, 1)

    def same(name: str, write: Callable[[str], str] = target_of) -> None:
        sizes = (rng.randrange(200, 9000), THRESHOLD + rng.randrange(1, 2 * MiB))
        small, large = (_file_named(server, rng, name, size) for size in sizes)
        _same_for(server, name, small, large, write)

    _same_for(server, "page.html", page, page)  # the clock tests below need a right Date
    with ThreadPoolExecutor(2) as pool, ExitStack() as at_end:
        stop = threading.Event()
        at_end.callback(stop.set)
        asking = [("GET", page.url), ("HEAD", page.url), ("GET", film.url)]
        kept = pool.submit(_clock_goes_on_one_connection, server, page, stop)
        clock = pool.submit(_clock_goes, server, stop, [*asking, ("GET", f"/{name_of(rng)}")])
        known = [name_of(rng, ending) for ending in TYPES]
        for name in rng.sample([*known, *ENDINGS], len(known) + len(ENDINGS)):
            same(name)
        for ending in rng.sample(list(TYPES), 3):
            same(name_of(rng, ending), _with_encoded_ending)
        for_all(typed_names(), rng, same, examples=25)
        clock.result()
        kept.result()


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
"""Names of which programs often get the type wrong."""


def typed_names() -> st.SearchStrategy[str]:
    """Names with several dots, endings in any case, unknown ones, and none, in folders too."""
    endings = st.sampled_from(
        [*TYPES, *map(str.upper, TYPES), ".Html", ".jPg", "", "", ".qqxyzz", ".gz", ".", ".html~"]
    )
    stems = ["a", "a.b", "html", "pdf", "a.html", "b.css", "1.txt", "x.pdf", "v2.0", "a b"]
    folders = st.sampled_from(["", "", "v1.html/", "docs.css/"])
    return st.builds("{}{}{}".format, folders, st.sampled_from(stems), endings)


def _file_named(server: Server, rng: Random, name: str, size: int) -> SampleFile:
    """A file of that name, mostly zeros, in a folder of its own."""
    place = server.root / name_of(rng, "") / name
    place.parent.mkdir(parents=True)
    return sparse_file(size, place.name, place.parent, 1)


def _with_encoded_ending(path: str) -> str:
    """A path as a target, with each byte of its last ending as `%` and two hex digits."""
    stem, dot, ending = path.rpartition(".")
    return target_of(stem) + "".join(f"%{byte:02X}" for byte in f"{dot}{ending}".encode())


def _path_of(server: Server, file: SampleFile, write: Callable[[str], str] = target_of) -> str:
    return "/" + write(str(file.path.relative_to(server.root)))


def _same_for(
    server: Server,
    name: str,
    small: SampleFile,
    large: SampleFile,
    write: Callable[[str], str] = target_of,
) -> None:
    """A small and a large file of the same name have the same headers.

    `write` makes a target of a path.
    """
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
            heads[file] = head = head_of(server, _path_of(server, file, write))
            if problem := problem_of(head, file, name, sent):
                problems[file] = problem
        summary = "\n\n".join(
            f"Sent GET {_path_of(server, file, write)} ({size_text(file.size)}). Came back:\n\n"
            f"{shown(head.raw, 500)}"
            for file, head in heads.items()
        )
        if problems:
            file, problem = next(iter(problems.items()))
            alone = len(heads) == 2 and len(problems) == 1
            which = "the large" if file is large else "the small"
            where = f"In the answer for {which} file alone: " if alone else ""
            line = _curl_head(server, file, write)
            cause = "paths_differ" if alone and problem.cause in _OF_ONE_PATH else problem.cause
            fail(cause, f"{summary}\n\n{where}{problem.what}.", line)
        for header in ("Content-Type", "Server"):
            told = [head.header(header.lower()) for head in heads.values()]
            if len(set(told)) > 1:
                what = f"{header} is {told[0]} for the small file, {told[1]} for the large one"
                fail("paths_differ", f"{summary}\n\n{what}.", _curl_head(server, large))


_OF_ONE_PATH = {"header_missing", "no_date", "no_server", "wrong_cache", "wrong_type"}
"""Causes that explain a difference, if one of the two heads has them and the other has not."""


def _curl_head(server: Server, file: SampleFile, write: Callable[[str], str] = target_of) -> str:
    return curl(server, _path_of(server, file, write), "-o /dev/null -D -")


def _clock_goes_on_one_connection(server: Server, file: SampleFile, stop: threading.Event) -> None:
    """On one connection, each Date is the time of its answer, and not that of the connection."""
    path = _path_of(server, file)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with suppress(OSError), connected(server, SHORT_ANSWER) as sock:
        first = ask_over(sock, [request])
        if stop.wait(OLDEST + 1.1):
            return
        sent = time.time()
        second = ask_over(sock, [request])  # empty if the server has closed, as it may
        date = second.header("date") or ""
        if date and (problem := date_problem(date, sent, time.time())):
            what = f"GET {path} was sent twice over one connection, {OLDEST + 1.1:.1f} s apart."
            came = f"{shown(first.raw[:400])}\n\nand\n\n{shown(second.raw[:400])}"
            with promise("date-now"):
                fail("stopped_clock", f"{what} Came back:\n\n{came}\n\n{problem.what}.")


def _clock_goes(server: Server, stop: threading.Event, asking: Sequence[tuple[str, str]]) -> None:
    """If a path is asked for again and again, each Date is the time of its answer."""
    seen: dict[tuple[str, str], tuple[str, float]] = {}
    deadline, passed = Deadline(OLDEST + 1.1), False
    while not passed and not stop.is_set():
        passed = deadline.passed  # before the last answers, so these come after all of that time
        for method, path in asking:
            sent = time.time()
            head = head_of(server, path, method)
            date = head.header("date") or ""
            first, since = seen.setdefault((method, path), (date, sent))
            summary = f"Sent {method} {path} several times. Came back:\n\n{shown(head.raw, 500)}"
            line = curl(server, path, "-I" if method == "HEAD" else "-o /dev/null -D -")
            with promise(
                "date-now", no_date="five-headers", wrong_date="date-form", wrong_zone="date-zone"
            ):
                if not date:
                    cause = "no_date"
                    fail(cause, f"{summary}\n\nThere is no Date.", line)
                if not (problem := date_problem(date, sent, time.time())):
                    continue
                if problem.cause == "wrong_time" and date == first and sent - since > OLDEST:
                    told = f"{sent - since:.1f} s ago the same request had the same Date"
                    fail("stopped_clock", f"{summary}\n\n{problem.what}; {told}.", line)
                fail(problem.cause, f"{summary}\n\n{problem.what}.", line)
        stop.wait(0.25)


# HEAD


def head_is_like_get(server: Server, rng: Random) -> None:
    """HEAD has the status and the headers of GET, and nothing after them."""
    small = random_file(rng.randrange(2000, 9000), name_of(rng, ".html"), server.root)
    sizes = (0, THRESHOLD, THRESHOLD + 1, THRESHOLD + rng.randrange(2, MiB))
    files = [random_file(size, name_of(rng, ".pdf"), server.root) for size in sizes]
    huge = sparse_file(300 * GiB + rng.randrange(MiB), name_of(rng, ".mp4"), server.root, 1)
    folder_in(server.root)
    gone = [f"/{name_of(rng)}", "/folder", "/%2e%2e/secret", f"/{300 * 'n'}"]
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
    """HEAD for a path is like GET for it, and the next answer on the connection is right."""
    get, line = head_of(server, path), curl(server, path, "--path-as-is -I")
    if is_file and get.status != 200:
        summary = f"Sent GET {path}. Came back:\n\n{shown(get.raw)}"
        fail("wrong_status", f"{summary}\n\nThe status should be 200.{state_of(server)}", line)
    summary, head = f"Sent HEAD {path}.", read_answer(b"", closed=True)
    with (
        promise(name, head_body="head-no-body", out_of_step="head-no-body"),
        suppress(OSError),
        connected(server, SHORT_ANSWER) as sock,
    ):
        request = f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        sock.sendall(request)
        head, extra = head_over(sock)
        if head.problem:
            fail_without_answer(server, summary, head, line)
        with suppress(OSError):
            sock.settimeout(QUIET)
            extra = extra or sock.recv(KiB)
        summary = f"{summary} Came back:\n\n{shown(head.raw + extra, 500)}"
        if extra:
            what = "More came after the headers: the answer to HEAD has no body"
            fail("head_body", f"{summary}\n\n{what}.", by_hand([request]))
        _expect_like(get, head, f"{summary}\n\nFor GET came\n\n{shown(get.raw, 500)}", line)
        _expect_in_step(server, sock, next_one, summary, request)
    if not head.raw:
        fail_without_answer(server, summary, head, line)


def _expect_like(get: RawAnswer, head: RawAnswer, summary: str, line: str) -> None:
    if head.status != get.status:
        fail("head_differs", f"{summary}\n\nThe status should be {get.status}.", line)
    for name in FIELDS:
        told, wanted = values_of(head, name), values_of(get, name)
        # An error need not have a length (RFC 9110, section 8.6).
        if name == "Content-Length" and get.status != 200 and not told:
            continue
        if name == "Date":  # the two answers may be from two different seconds
            told, wanted = [each[25:] for each in told], [each[25:] for each in wanted]
        if told != wanted:
            fail("head_differs", f"{summary}\n\n{name} is not the same.", line)


def _expect_in_step(
    server: Server, sock: socket.socket, file: SampleFile, summary: str, request: bytes
) -> None:
    """The next request over the connection gets its file, unless the server has closed."""
    second = ask_over(sock, [request_for(file.url)])
    right = (second.status, second.body) == (200, file.path.read_bytes())
    if second.raw and (second.problem or not right):
        fail(
            "out_of_step"
            if second.fault in (None, "malformed")
            else cause_of_no_answer(second, server),
            f"{summary}\n\nThen sent GET {file.url} over the same connection. Came back:\n\n"
            f"{shown(second.raw)}\n\n{second.problem or 'That is not the file'}.{state_of(server)}",
            by_hand([request, request_for(file.url)], 0.5),
        )
