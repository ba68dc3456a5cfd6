"""The drawn forms of requests, compared with h11, which follows the same RFC."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.checks import request_forms

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
FEW = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def read(lines: Sequence[str], body: bytes = b"") -> tuple[bytes, bytes]:
    """A request's body as h11 reads it, and the bytes after it."""
    head = "\r\n".join(["POST / HTTP/1.1", "Host: a", *lines, "", ""]).encode("latin-1")
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head + body + HIDDEN)
    content = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert not isinstance(event, type), event
        content += bytes(event.data) if isinstance(event, h11.Data) else b""
    return content, bytes(connection.trailing_data[0])


@FEW
@given(request_forms.counted(HIDDEN))
def test_a_counted_body_ends_where_its_length_says(body: request_forms.Body) -> None:
    assert read(body.fields, body.raw) == (body.raw, HIDDEN)


@FEW
@given(request_forms.chunked(HIDDEN))
def test_a_body_in_chunks_ends_after_its_trailer(body: request_forms.Body) -> None:
    """Whatever the body looks like, the bytes after it are the next request."""
    assert read(body.fields, body.raw)[1] == HIDDEN


def test_awkward_bodies_are_drawn() -> None:
    """Bodies that look like the last chunk, and trailers, are likely."""
    drawn: list[bytes] = []

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(request_forms.chunks(HIDDEN))
    def draws(raw: bytes) -> None:
        drawn.append(raw)

    draws()
    assert any(b"0\r\n\r\n" in raw[:-5] for raw in drawn)
    assert any(b"X-Done: yes\r\n\r\n" in raw for raw in drawn)


@FEW
@given(request_forms.unclear(HIDDEN))
def test_what_is_unclear_has_another_coding_or_a_length(body: request_forms.Body) -> None:
    names = {line.partition(":")[0].lower() for line in body.fields}
    if "content-length" not in names:
        with pytest.raises(h11.RemoteProtocolError):
            read(body.fields, body.raw)
    assert "transfer-encoding" in names


@FEW
@given(request_forms.bad_lengths())
def test_a_bad_length_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        read([f"Content-Length: {value}" for value in values], b"hello")


@pytest.mark.parametrize(
    ("values", "length"),
    [
        (["5"], 5),
        ([" 05\t"], 5),
        (["5", "5"], 5),
        (["5, 5"], 5),
        (["5", "6"], None),
        (["5,"], None),
        ([""], None),
        (["+5"], None),
        (["0_5"], None),
        (["\xa05"], None),
        (["\xb2"], None),
    ],
)
def test_a_length_is_digits(values: list[str], length: int | None) -> None:
    assert request_forms.length_of(values) == length


@FEW
@given(request_forms.bad_fields())
def test_a_bad_header_line_is_refused(line: str) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        read([line])


@pytest.mark.parametrize("line", request_forms.bad_request_lines("/a.txt"))
def test_a_bad_request_line_is_refused(line: str) -> None:
    """Bad request lines are refused. h11 accepts any version, so the version is compared here."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(f"{line}\r\nHost: a\r\n\r\n".encode())
    with pytest.raises(h11.RemoteProtocolError):
        connection.next_event()


@FEW
@given(request_forms.connections())
def test_options_are_whole_words_of_all_lines(fields: tuple[str, ...]) -> None:
    words = {
        word.strip(" \t").lower() for line in fields for word in line.split(":", 1)[1].split(",")
    }
    assert request_forms.options_in(fields) == words - {""}


@FEW
@given(st.binary(max_size=50), request_forms.cuts())
def test_pieces_are_the_whole(raw: bytes, places: list[float]) -> None:
    pieces = request_forms.cut(raw, places)
    assert b"".join(pieces) == raw
    assert b"" not in pieces


@FEW
@given(st.integers(1, 64), st.integers(1000, 16384))
def test_padding_has_its_size(lines: int, size: int) -> None:
    fields = request_forms.padding(size, lines)
    assert len(fields) == lines
    assert sum(len(line) + 2 for line in fields) == size


@FEW
@given(st.data())
def test_a_name_comes_back_from_its_path(data: st.DataObject) -> None:
    """Each encoding decodes to the name, and has allowed characters only (RFC 3986, 3.3)."""
    name = data.draw(request_forms.file_names())
    segment = data.draw(request_forms.percent_encoded(name))
    assert unquote_to_bytes(segment) == name.encode()
    assert re.fullmatch(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+", segment)
    assert segment not in (".", "..")
    assert 0 < len(name.encode()) <= request_forms.LONGEST_NAME
    assert not set(name) & set("/\0")


def test_awkward_names_are_names() -> None:
    """Each awkward name is a file name, and the longest has the greatest length."""
    sizes = [len(name.encode()) for name in request_forms.AWKWARD_NAMES]
    assert max(sizes) == request_forms.LONGEST_NAME
    assert len(set(request_forms.AWKWARD_NAMES)) == len(sizes)
