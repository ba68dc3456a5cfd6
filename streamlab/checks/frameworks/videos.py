"""Lab 07: videos arrive byte for byte, and the server does not hold them."""

from __future__ import annotations

from random import Random
from urllib.parse import quote

from hypothesis import strategies as st

from streamlab.checks import request_forms
from streamlab.checks.connection import Connection, Wanted, open_connection
from streamlab.checks.examples import for_all
from streamlab.checks.frameworks.common import EACH, GZIP, SLACK, expect_video_head
from streamlab.checks.observe import held_by
from streamlab.checks.outcome import promise
from streamlab.checks.probes.common import CHUNK, dense_file, name_of, right_alone, warm_up
from streamlab.checks.probes.files import bytes_arrive
from streamlab.checks.probes.requests import expect_answer
from streamlab.checks.probes.waiting import hold
from streamlab.files import GiB, MiB, TiB, random_file, sparse_file
from streamlab.http.clients import Load
from streamlab.process.server import Server

# BYTES


def videos_arrive(server: Server, rng: Random) -> None:
    """Files of any name arrive unchanged, with their type and their length."""
    with promise("video-bytes", wrong_status="run"):
        first = random_file(rng.randrange(3000, 5000), name_of(rng, ".mp4"), server.root)
        expect_answer(server, server.path_of(first), 200)
    with promise("video-bytes"):
        bytes_arrive(server, rng)
        sizes = [0, CHUNK, rng.randrange(3000, 5000), rng.randrange(3000, 5000), 1]
        endings = [".mp4", ".bin", ".MP4.gz", "", ".html"]
        with open_connection(server) as connection:
            for size, ending in zip(sizes, rng.sample(endings, 5), strict=True):
                file = random_file(size, name_of(rng, ending), server.root, rng.randrange(2**32))
                for asks in ([], [GZIP]):
                    _expect_video(connection, server.path_of(file), file.path.read_bytes(), *asks)
    with promise("video-name"):
        _any_name_is_served(server, rng)


def _expect_video(connection: Connection, path: str, content: bytes, *headers: str) -> None:
    """A video comes over a connection unchanged, with its two headers."""
    connection.send(Wanted(path, None).request(*headers))
    answer = connection.receive()
    coding = answer.header("content-encoding") or "identity"
    if answer.status != 200:
        connection.fault("wrong_status", "The status should be 200", answer.raw)
    with promise("not-compressed"):
        if coding != "identity":
            connection.fault("compressed", "A video must not be compressed again", answer.raw)
    expect_video_head(connection, answer, len(content))
    if answer.body != content:
        what = f"The body is not the file's {len(content)} bytes"
        connection.fault("wrong_bytes", what, answer.raw)


def _any_name_is_served(server: Server, rng: Random) -> None:
    """A file of any name comes, in each encoding of the name in a target."""

    def attempt(drawn: tuple[str, str]) -> None:
        name, encoded = drawn
        file = server.root / name
        content = f"the film {name!r}\n".encode()
        try:
            file.write_bytes(content)
        except OSError:
            return  # this file system does not take such a name
        try:
            with open_connection(server) as connection:
                connection.note(f"A file is named {name!r}. An ordinary name was served before")
                connection.send(Wanted(server.path_of(encoded), None).request())
                answer = connection.receive()
                if answer.status != 200:
                    what = f"The status should be 200, and {answer.status} came"
                    connection.fault("odd_name", what, answer.raw)
                expect_video_head(connection, answer, len(content))
                if answer.body != content:
                    connection.fault("wrong_bytes", "The body is not this file", answer.raw)
        finally:
            file.unlink()

    names = [name for name in request_forms.AWKWARD_NAMES if "\n" not in name]
    awkward = [(name, quote(name, safe="")) for name in names]
    for each in rng.sample(awkward, len(awkward)):
        attempt(each)
    one_line = request_forms.file_names().filter(lambda name: "\n" not in name)
    drawn = one_line.flatmap(
        lambda name: st.tuples(st.just(name), request_forms.percent_encoded(name))
    )
    for_all(drawn, rng, attempt)


# HOLD


def videos_are_not_held(server: Server, rng: Random) -> None:
    """Each client that waits costs a few MiB, whatever the size of the video."""
    warm_up(server, rng)
    baseline = held_by(server)
    size = rng.choice([70 * GiB, 300 * GiB, TiB]) + rng.randrange(MiB)
    dense = dense_file(rng.randrange(48 * MiB, 80 * MiB), name_of(rng), server.root, rng)
    huge = sparse_file(size, name_of(rng), server.root, 6, rng.randrange(99))
    # Many clients share the MiB that are allowed besides.
    for name, video, clients in (("cup", dense, 8), ("large", huge, 24)):
        with promise(name, holds_much="each-client"):
            right_alone(server, video, 2 * MiB)
            load = Load(server.path_of(video), clients, "stalled", 2 * MiB)
            hold(server, video, load, baseline=baseline, allowed=SLACK + clients * EACH)
    with promise("large"), open_connection(server) as connection:
        connection.send(Wanted(server.path_of(huge), None).request())
        answer = connection.receive_head()
        if answer.header("content-length") != str(huge.size):
            what = f"Content-Length should be {huge.size}"
            connection.fault("no_length", what, answer.raw)
