"""Drawn input of a proxy, compared with h11 and with patterns."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

import h11
import pytest
from hypothesis import given, settings

from streamlab.checks.proxy import forms

FEW = settings(max_examples=60, deadline=None, database=None, derandomize=True)
FILE_ID = re.compile(rb"[A-Za-z0-9_-]{1,100}")


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ([], None),
        (["a"], "a"),
        (["a", "b"], "a, b"),
        (["a , b", "c"], "a, b, c"),
        (["a,b,c"], "a, b, c"),
        ([""], ""),
    ],
)
def test_lines_of_one_name_are_a_list(lines: list[str], value: str | None) -> None:
    pairs = [("X-A", line) for line in lines] + [("X-B", "other")]
    assert forms.combined(pairs, "x-a") == value


def test_a_line_is_lost_where_some_have_come() -> None:
    assert forms.lines_lost("a, b", "b")
    for found in (None, "a, b", "c", "a, c", "b, c, d"):
        assert not forms.lines_lost("a, b", found)


def test_connection_names_headers_in_any_form() -> None:
    pairs = [("connection", "X-Hop ,\tb"), ("A", "c"), ("Connection", ",close")]
    assert forms.named_by_connection(pairs) == {"x-hop", "b", "close"}


@FEW
@given(forms.good_ids())
def test_a_good_id_is_one(name: str) -> None:
    assert FILE_ID.fullmatch(name.encode())


@FEW
@given(forms.bad_ids())
def test_a_bad_id_is_none(name: str) -> None:
    """A bad ID is no ID, and no other existing path with a slash in it."""
    plain = unquote_to_bytes(name)
    assert not FILE_ID.fullmatch(plain)
    assert re.fullmatch("[!-~]*", name)
    assert not plain.endswith((b"/", b"/content"))


@FEW
@given(forms.broken_answers())
def test_a_broken_answer_has_no_end(drawn: tuple[bytes, bytes]) -> None:
    """h11 also finds it broken, and has read the beginning of the body."""
    body, wire = drawn
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(wire)
    client.receive_data(b"")
    came = b""
    with pytest.raises(h11.RemoteProtocolError):
        while True:
            event = client.next_event()
            assert not isinstance(event, h11.EndOfMessage)
            came += bytes(event.data) if isinstance(event, h11.Data) else b""
    assert body.startswith(came)


@FEW
@given(forms.given_answers())
def test_header_lines_go_on_or_end_and_never_both(given_answer: forms.Given) -> None:
    on = {name.lower() for name, _ in given_answer.on}
    off = {name.lower() for name, _ in given_answer.off}
    assert not on & off
    assert not on & forms.named_by_connection(given_answer.off)
    for name, value in (*given_answer.on, *given_answer.off):
        assert re.fullmatch("[!-~]+", name) and "\r" not in value
        assert value.encode("latin-1").strip() == value.encode("latin-1")


@FEW
@given(forms.asked("tag"))
def test_what_is_the_clients_own_can_be_told(asked: forms.Asked) -> None:
    assert "tag" not in repr(asked.on)
    assert not {name.lower() for name, _ in asked.on} & {name.lower() for name, _ in asked.off}


@FEW
@given(forms.unknown_providers())
def test_an_unknown_provider_is_none(name: str) -> None:
    assert name.lower() not in ("river", "fast", "lake", "cheap", "")
    assert name == name.strip()
